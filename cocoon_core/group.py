"""One group, as an embedder sees it: members, invites, feed, documents, sync. Every key stays inside.

Every edit is durable when its call returns and needs no relay; `sync` or `watch` sends it. Not for several threads at
once. Each subject is a part of its own: membership (members, roles, going), people, verification, devices, policy,
relays, invites, admission, document_handle, syncing, months, carrying, auditing, searching.
"""

from __future__ import annotations

from contextlib import suppress

from cocoon_core.admission import Admission
from cocoon_core.auditing import Auditing, AuditReport, RelayAudit
from cocoon_core.carrying import Carrying
from cocoon_core.circle import Circle
from cocoon_core.devices import Devices
from cocoon_core.document_handle import DocumentHandle, Documents
from cocoon_core.errors import LocalStateError, UsageError
from cocoon_core.invites import InviteInfo, Invites
from cocoon_core.membership import MemberInfo
from cocoon_core.months import Months
from cocoon_core.people import People, Person
from cocoon_core.profiles import Profiles
from cocoon_core.protocol.ids import GroupId
from cocoon_core.relays import RelayInfo, Relays
from cocoon_core.searching import Searching
from cocoon_core.social.calendar import Calendar
from cocoon_core.social.feed import Feed
from cocoon_core.social.lists import Lists
from cocoon_core.social.notes import Notes
from cocoon_core.social.notices import Notices
from cocoon_core.social.noticing import Noticing
from cocoon_core.social.seen import Seen
from cocoon_core.social.stale import CatchesUp
from cocoon_core.sync.access import RelayAccess
from cocoon_core.sync.replica import Replica
from cocoon_core.syncing import RelayReport, SyncReport, WithheldInfo
from cocoon_core.vault.content import ContentStore
from cocoon_core.vaulting import Vault
from cocoon_core.verification import Verification

__all__ = [
    "AuditReport",
    "DocumentHandle",
    "Group",
    "InviteInfo",
    "MemberInfo",
    "Person",
    "RelayAudit",
    "RelayInfo",
    "RelayReport",
    "SyncReport",
    "WithheldInfo",
]


class Group(
    Verification, People, Devices, Relays, Invites, Admission, Circle, Documents, Months, Carrying, Auditing, Searching
):
    """A group on this device. Get it from `Cocoon`, do not make it."""

    def __init__(self, replica: Replica, dial: RelayAccess, store: ContentStore) -> None:
        super().__init__(replica, dial, store)
        self.vault = Vault(replica, self._transfers)
        self.feed = Feed(replica, self.vault.index, self.vault.attach)
        self.lists, self.notes, self.calendar = Lists(replica), Notes(replica), Calendar(replica)
        self.profile = Profiles(replica, self.vault)
        self.seen = Seen(replica, self.feed)
        self.notices = Notices(replica, self.feed, Noticing(replica))
        together = (self.lists.view, self.notes.view, self.calendar.view, self.calendar.reply_view)
        views: tuple[CatchesUp, ...] = (
            *(self.vault.index.view, self.feed.view, self.feed.marks),
            *(*together, self.profile.view),
        )
        for view in views:
            with suppress(LocalStateError):  # what cannot be computed now is shown as it was
                view.catch_up()
        self.check_marks()

    def close(self) -> None:
        """Save what makes the next opening fast. Called by `Cocoon.close`."""
        with suppress(LocalStateError, UsageError), self._replica.transaction():
            self._replica.shelf.save_caches()
        with suppress(LocalStateError, UsageError):
            self._search.let_go()

    @property
    def id(self) -> GroupId:
        return self._replica.group

    @property
    def name(self) -> str:
        return self._create().group_name
