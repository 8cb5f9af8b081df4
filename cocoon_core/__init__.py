"""Cocoon: an end-to-end encrypted, local-first sync engine for small private groups.

    async with await Cocoon.open(home) as cocoon:
        group = await cocoon.create_group("Family", member_name="Ana", relays=["ws://127.0.0.1:8787"])

The names below are the public ones. They are imported when first used, so a relay, which needs only the frames, loads
neither automerge nor a key ring.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cocoon_core import errors
    from cocoon_core.admission import RequestInfo
    from cocoon_core.archiving import ArchiveReport
    from cocoon_core.auditing import AppendProbe, AuditReport
    from cocoon_core.backing_up import BackupReport, RestoreReport
    from cocoon_core.circle import RecoveryInfo, RecoveryRequestInfo
    from cocoon_core.cocoon import Cocoon
    from cocoon_core.device_linking import AcceptReport
    from cocoon_core.devices import DeviceInfo
    from cocoon_core.group import Group
    from cocoon_core.importing import ImportReport
    from cocoon_core.integrity import CheckReport, GroupFinding
    from cocoon_core.invites import InviteInfo
    from cocoon_core.joining import PendingJoinInfo
    from cocoon_core.local_network import LanReport
    from cocoon_core.membership import FormerMemberInfo, MemberInfo
    from cocoon_core.people import Person
    from cocoon_core.profiles import Profiles
    from cocoon_core.protocol.operation_forms import Policy
    from cocoon_core.recovery import LostRequestInfo, NewPhrase, RecoveredGroup
    from cocoon_core.relays import RelayInfo
    from cocoon_core.social.calendar import Calendar
    from cocoon_core.social.drafts import Draft
    from cocoon_core.social.event import CalendarEvent, EventReply
    from cocoon_core.social.feed import Feed
    from cocoon_core.social.feed_asking import CallAnswer, CallAnswers
    from cocoon_core.social.feed_changing import PostVersion
    from cocoon_core.social.item import Album
    from cocoon_core.social.item import Item as VaultItem
    from cocoon_core.social.lists import ListInfo, ListItem, Lists, SharedList
    from cocoon_core.social.mutes import Mute, QuietHours
    from cocoon_core.social.notes import Note, Notes
    from cocoon_core.social.notice_kinds import NoticeKind
    from cocoon_core.social.notices import Notice, NoticePage, Notices
    from cocoon_core.social.post import FeedPage, Post, Quoted
    from cocoon_core.social.search_result import SearchResult
    from cocoon_core.social.seen import Seen
    from cocoon_core.storage.local_proof import LocalProof
    from cocoon_core.storage.member_profiles import MemberProfile
    from cocoon_core.sync.bundling import Exported, Imported
    from cocoon_core.sync.events import (
        AlarmRaised,
        DocumentChanged,
        EntriesWithdrawn,
        GroupEvent,
        NoticesAdded,
        PostsMarked,
        PresenceChanged,
        RequestMade,
        RosterChanged,
    )
    from cocoon_core.syncing import RelayReport, SyncReport, WithheldInfo
    from cocoon_core.vault.progress import Progress as ByteProgress
    from cocoon_core.vault.reports import CheckStep, Transfer, VaultCheck
    from cocoon_core.vault_adding import AddedFile, AddProgress, AddReport, SkippedFile
    from cocoon_core.vault_fetching import OpenedFile
    from cocoon_core.vaulting import Vault, VaultStatus
    from cocoon_core.verification import SafetyInfo

__all__ = [
    "AcceptReport",
    "AddProgress",
    "AddReport",
    "AddedFile",
    "AlarmRaised",
    "Album",
    "AppendProbe",
    "ArchiveReport",
    "AuditReport",
    "BackupReport",
    "ByteProgress",
    "Calendar",
    "CalendarEvent",
    "CallAnswer",
    "CallAnswers",
    "CheckReport",
    "CheckStep",
    "Cocoon",
    "DeviceInfo",
    "DocumentChanged",
    "Draft",
    "EntriesWithdrawn",
    "EventReply",
    "Exported",
    "Feed",
    "FeedPage",
    "FormerMemberInfo",
    "Group",
    "GroupEvent",
    "GroupFinding",
    "ImportReport",
    "Imported",
    "InviteInfo",
    "LanReport",
    "ListInfo",
    "ListItem",
    "Lists",
    "LocalProof",
    "LostRequestInfo",
    "MemberInfo",
    "MemberProfile",
    "Mute",
    "NewPhrase",
    "Note",
    "Notes",
    "Notice",
    "NoticeKind",
    "NoticePage",
    "Notices",
    "NoticesAdded",
    "OpenedFile",
    "PendingJoinInfo",
    "Person",
    "Policy",
    "Post",
    "PostVersion",
    "PostsMarked",
    "PresenceChanged",
    "Profiles",
    "QuietHours",
    "Quoted",
    "RecoveredGroup",
    "RecoveryInfo",
    "RecoveryRequestInfo",
    "RelayInfo",
    "RelayReport",
    "RequestInfo",
    "RequestMade",
    "RestoreReport",
    "RosterChanged",
    "SafetyInfo",
    "SearchResult",
    "Seen",
    "SharedList",
    "SkippedFile",
    "SyncReport",
    "Transfer",
    "Vault",
    "VaultCheck",
    "VaultItem",
    "VaultStatus",
    "WithheldInfo",
    "errors",
]

_HOMES = {
    "AddProgress": "cocoon_core.vault_adding",
    "AddReport": "cocoon_core.vault_adding",
    "AddedFile": "cocoon_core.vault_adding",
    "Album": "cocoon_core.social.item",
    "ByteProgress": "cocoon_core.vault.progress",
    "OpenedFile": "cocoon_core.vault_fetching",
    "SkippedFile": "cocoon_core.vault_adding",
    "Transfer": "cocoon_core.vault.reports",
    "Vault": "cocoon_core.vaulting",
    "CheckStep": "cocoon_core.vault.reports",
    "VaultCheck": "cocoon_core.vault.reports",
    "VaultItem": "cocoon_core.social.item",
    "VaultStatus": "cocoon_core.vaulting",
    "Calendar": "cocoon_core.social.calendar",
    "CalendarEvent": "cocoon_core.social.event",
    "CallAnswer": "cocoon_core.social.feed_asking",
    "CallAnswers": "cocoon_core.social.feed_asking",
    "EventReply": "cocoon_core.social.event",
    "ListInfo": "cocoon_core.social.lists",
    "ListItem": "cocoon_core.social.lists",
    "Lists": "cocoon_core.social.lists",
    "Note": "cocoon_core.social.notes",
    "Notes": "cocoon_core.social.notes",
    "SharedList": "cocoon_core.social.lists",
    "AcceptReport": "cocoon_core.device_linking",
    "AlarmRaised": "cocoon_core.sync.events",
    "AppendProbe": "cocoon_core.auditing",
    "ArchiveReport": "cocoon_core.archiving",
    "AuditReport": "cocoon_core.auditing",
    "BackupReport": "cocoon_core.backing_up",
    "CheckReport": "cocoon_core.integrity",
    "Cocoon": "cocoon_core.cocoon",
    "DeviceInfo": "cocoon_core.devices",
    "DocumentChanged": "cocoon_core.sync.events",
    "Draft": "cocoon_core.social.drafts",
    "EntriesWithdrawn": "cocoon_core.sync.events",
    "Exported": "cocoon_core.sync.bundling",
    "Feed": "cocoon_core.social.feed",
    "FeedPage": "cocoon_core.social.post",
    "FormerMemberInfo": "cocoon_core.membership",
    "Group": "cocoon_core.group",
    "GroupEvent": "cocoon_core.sync.events",
    "GroupFinding": "cocoon_core.integrity",
    "ImportReport": "cocoon_core.importing",
    "Imported": "cocoon_core.sync.bundling",
    "InviteInfo": "cocoon_core.invites",
    "LanReport": "cocoon_core.local_network",
    "LocalProof": "cocoon_core.storage.local_proof",
    "LostRequestInfo": "cocoon_core.recovery",
    "MemberInfo": "cocoon_core.membership",
    "MemberProfile": "cocoon_core.storage.member_profiles",
    "Mute": "cocoon_core.social.mutes",
    "NewPhrase": "cocoon_core.recovery",
    "Notice": "cocoon_core.social.notices",
    "NoticeKind": "cocoon_core.social.notice_kinds",
    "NoticePage": "cocoon_core.social.notices",
    "Notices": "cocoon_core.social.notices",
    "NoticesAdded": "cocoon_core.sync.events",
    "PendingJoinInfo": "cocoon_core.joining",
    "Person": "cocoon_core.people",
    "Policy": "cocoon_core.protocol.operation_forms",
    "Post": "cocoon_core.social.post",
    "PostVersion": "cocoon_core.social.feed_changing",
    "Quoted": "cocoon_core.social.post",
    "PostsMarked": "cocoon_core.sync.events",
    "PresenceChanged": "cocoon_core.sync.events",
    "Profiles": "cocoon_core.profiles",
    "QuietHours": "cocoon_core.social.mutes",
    "RecoveredGroup": "cocoon_core.recovery",
    "RecoveryInfo": "cocoon_core.circle",
    "RecoveryRequestInfo": "cocoon_core.circle",
    "RelayInfo": "cocoon_core.relays",
    "RelayReport": "cocoon_core.syncing",
    "RequestInfo": "cocoon_core.admission",
    "RequestMade": "cocoon_core.sync.events",
    "RestoreReport": "cocoon_core.backing_up",
    "RosterChanged": "cocoon_core.sync.events",
    "SafetyInfo": "cocoon_core.verification",
    "Seen": "cocoon_core.social.seen",
    "SearchResult": "cocoon_core.social.search_result",
    "SyncReport": "cocoon_core.syncing",
    "WithheldInfo": "cocoon_core.syncing",
}

_RENAMED = {"VaultItem": "Item", "ByteProgress": "Progress"}  # short where they are made, clear where they are used


def __getattr__(name: str) -> Any:
    if name == "errors":
        return import_module("cocoon_core.errors")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), _RENAMED.get(name, name))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
