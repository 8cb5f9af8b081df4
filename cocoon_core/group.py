"""One group, as an embedder sees it: members, invites, feed, documents, sync. Every key stays inside.

Every edit is durable when its call returns and needs no relay; `sync` or `watch` sends it. Not for several threads at
once.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cocoon_core.documents import MapView, normalise_schema
from cocoon_core.errors import (
    LocalStateError,
    MalformedError,
    RelayError,
    RelayUnavailable,
    UnknownItemError,
    UnknownMemberError,
    UsageError,
)
from cocoon_core.protocol.constants import MAX_INVITE_USES
from cocoon_core.protocol.descriptor import Descriptor, DocumentKind
from cocoon_core.protocol.ids import GroupId, InviteId, MemberId
from cocoon_core.protocol.invite import InviteKeys, Link, Welcome, mailbox_keys, wrap_welcome, write_link
from cocoon_core.protocol.operations import Create, Invite, Pin, RevokeInvite, Role, SetRole, decode_operation
from cocoon_core.protocol.primitives import Secret
from cocoon_core.protocol.roster import InviteState
from cocoon_core.social.feed import Feed
from cocoon_core.sync.driver import Progress, RelayDriver
from cocoon_core.sync.events import GroupEvent
from cocoon_core.sync.reading import read_topic
from cocoon_core.sync.replica import Replica
from cocoon_core.sync.transport import Dial

HOUR_MS = 3_600_000
MOST_EVENTS = 10_000  # events kept for one listener that does not read


@dataclass(frozen=True, slots=True)
class MemberInfo:
    """A member. `last_seen` is the hour of their newest entry that is here, in UTC."""

    id: MemberId
    name: str
    role: str
    devices: int
    last_seen: datetime | None
    me: bool


@dataclass(frozen=True, slots=True)
class InviteInfo:
    """An invite. `used` counts those who joined by it."""

    id: InviteId
    uses: int
    used: int
    expires: datetime
    open: bool


@dataclass(frozen=True, slots=True)
class RelayReport:
    """What a sync did at one relay: entries sent and received; `error` is a sentence where it could not."""

    url: str
    ok: bool
    error: str | None
    sent: int
    received: int


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What a sync did at all relays."""

    sent: int
    received: int
    relays: tuple[RelayReport, ...]


@dataclass(frozen=True, slots=True)
class RelayAudit:
    """What one relay holds and shows of this group: (topic id in hex, envelopes, bytes) and the number of blobs."""

    url: str
    topics: tuple[tuple[str, int, int], ...]
    blobs: int


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What every relay holds of this group."""

    relays: tuple[RelayAudit, ...]


class Group:
    """A group on this device. Get it from `Cocoon`, do not make it."""

    def __init__(self, replica: Replica, dial: Dial) -> None:
        self._replica, self._dial = replica, dial
        self.feed = Feed(replica)

    def close(self) -> None:
        """Save what makes the next opening fast. Called by `Cocoon.close`."""
        with suppress(LocalStateError, UsageError), self._replica.transaction():
            self._replica.shelf.save_caches()

    @property
    def replica(self) -> Replica:
        """For the modules of this package: not part of the public face."""
        return self._replica

    # --- who and where

    @property
    def id(self) -> GroupId:
        return self._replica.group

    @property
    def name(self) -> str:
        return self._create().group_name

    @property
    def relays(self) -> list[str]:
        return self._replica.groups.relays(self._replica.record.number)

    @property
    def me(self) -> MemberId | None:
        """The own member's id; None as long as the own join does not count."""
        return self._replica.members.member_of(self._replica.keys.id)

    def members(self) -> list[MemberInfo]:
        """All members, the senior first."""
        roster = self._replica.members.roster
        me = self.me
        return [
            MemberInfo(
                member.id,
                member.shown_name,
                str(member.role),
                len(member.devices),
                self._last_seen(member.devices),
                member.id == me,
            )
            for member in sorted(roster.members.values(), key=lambda member: member.seniority)
        ]

    def _last_seen(self, devices: tuple[Any, ...]) -> datetime | None:
        times = [self._replica.chains[device].last_time_ms for device in devices if device in self._replica.chains]
        if not times:
            return None
        hour = min(max(times), self._replica.clock()) // HOUR_MS * HOUR_MS
        return datetime.fromtimestamp(hour / 1000, UTC)

    def find_member(self, reference: str) -> MemberId:
        """The member that an id, a unique beginning of one (4 characters at least) or a unique name means.

        Raises:
            UnknownMemberError: nobody, or more than one.
        """
        members = self.members()
        named = [m for m in members if m.name.casefold() == reference.strip().casefold()]
        by_id = [m for m in members if len(reference) >= 4 and m.id.hex().startswith(reference.strip().lower())]
        found = named or by_id
        if len(found) == 1:
            return found[0].id
        names = ", ".join(member.name for member in members)
        if not found:
            raise UnknownMemberError(f"no member is called {reference!r}; there are: {names}")
        raise UnknownMemberError(f"{reference!r} means more than one member; give the beginning of an id")

    async def set_role(self, member: str | MemberId, role: str) -> MemberInfo:
        """Make a member an admin or a plain member again. Only admins can. Gives the member as it is then.

        Raises:
            UnknownMemberError: there is no such member.
            UsageError: not a role, this member may not, or it would leave the group without an admin.
        """
        if role not in (Role.ADMIN, Role.MEMBER):
            raise UsageError(f"a role is admin or member, not {role!r}")
        target = member if isinstance(member, MemberId) else self.find_member(member)
        roster = self._replica.members.roster
        current = roster.members.get(target)
        if current is None:
            raise UnknownMemberError
        if self.me is None or not roster.is_admin(self.me):
            raise UsageError("only an admin can change roles; you are a member")
        if current.role == role:
            return self._member(target)
        if role == Role.MEMBER and sum(other.role == Role.ADMIN for other in roster.members.values()) == 1:
            raise UsageError(f"{current.shown_name} is the only admin; make somebody else an admin first")
        pins = []
        if role == Role.MEMBER:
            for device in sorted(current.devices):
                end = self._replica.chains.get(device)
                if end is not None:
                    pins.append(Pin(device, end.last_seq, end.last_id))
        self._replica.write_operation(SetRole(target, Role(role), tuple(pins)))
        changed = self._member(target)
        if changed.role != role:
            raise UsageError(f"the rules of the group leave {changed.name} as {changed.role}")
        return changed

    def _member(self, member: MemberId) -> MemberInfo:
        return next(info for info in self.members() if info.id == member)

    # --- invites

    async def invite(self, uses: int = 1, expires_in: timedelta = timedelta(days=7)) -> str:
        """Make a link that lets up to `uses` people join.

        Whoever has the link can read the group, and goes on doing so in this version even after it was used or closed
        (specs/threat-model.md). The link works once this device has synced.

        Raises:
            UsageError: too many uses for the group's size, or this member may not invite.
        """
        if not 1 <= uses <= MAX_INVITE_USES or expires_in <= timedelta(0):
            raise UsageError(f"a link has 1 to {MAX_INVITE_USES} uses and expires later than now")
        replica = self._replica
        secret = Secret(secrets.token_bytes(32))
        keys = InviteKeys(secret)
        hpke = keys.hpke().public
        expires_ms = replica.clock() + int(expires_in.total_seconds() * 1000)
        operation = Invite.make(
            keys.signing, hpke, keys.mailbox_secret, replica.group, replica.keys.id, uses=uses, expires_ms=expires_ms
        )
        relays = tuple(self.relays)
        welcome = Welcome(replica.group, self._create(), replica.epoch, relays)
        with replica.transaction():
            replica.write_operation(operation, inside=True)
            value = wrap_welcome(welcome, keys.id, hpke)
            replica.groups.add_letters(replica.record.number, relays, keys.mailbox_secret, value)
        return write_link(Link(replica.group, secret, relays))

    def invites(self) -> list[InviteInfo]:
        """All invites that count, the newest last."""
        return [
            InviteInfo(
                invite.id,
                invite.uses,
                len(invite.joins),
                datetime.fromtimestamp(min(invite.expires_ms, 253_402_300_799_000) / 1000, UTC),
                invite.is_open,
            )
            for invite in self._replica.members.roster.invites.values()
        ]

    async def revoke_invite(self, reference: str) -> None:
        """Close an invite, named by a unique beginning of its id. Those who joined by it stay.

        Raises:
            UnknownItemError: there is no such invite.
        """
        found = [i for i in self._replica.members.roster.invites.values() if i.id.hex().startswith(reference.lower())]
        if len(found) != 1:
            raise UnknownItemError(f"{'no' if not found else 'more than one'} invite begins with {reference!r}")
        self._revoke(found[0])

    def _revoke(self, invite: InviteState) -> None:
        if not invite.revoked:
            self._replica.write_operation(RevokeInvite(invite.id, tuple(sorted(invite.joins))))

    # --- documents

    def document(
        self,
        name: str,
        schema: Mapping[str, Any] | None = None,
        *,
        admin: bool = False,
        owner: MemberId | None = None,
    ) -> DocumentHandle:
        """A document by name: with a schema shared by all members (or admins only), without one a member's own.

        Args:
            schema: root keys and what stands under them: dict, list or str (text that is edited together).
            admin: only admins may change it.
            owner: whose, where there is no schema; this member's own if not given. Others' can be read, not changed.

        Raises:
            UsageError: the name or schema cannot be used.
        """
        if name.startswith(("feed/", "vault/")):
            raise UsageError("documents that begin with feed/ or vault/ are written by the feed and the vault")
        if schema is None:
            kind, member = DocumentKind.OWNED, owner or self.me
            if member is None:
                raise UsageError("this device is not a member of the group")
        else:
            kind, member = DocumentKind.ADMIN if admin else DocumentKind.SHARED, None
        try:
            descriptor = Descriptor(kind, name, member, () if schema is None else normalise_schema(schema))
        except MalformedError as error:
            raise UsageError(str(error)) from error
        return DocumentHandle(self._replica, descriptor)

    # --- sync

    async def sync(self, progress: Progress | None = None) -> SyncReport:
        """Pull from and push to every relay once.

        Args:
            progress: called with (envelopes read, envelopes there) while catching up.

        Raises:
            RelayUnavailable: no relay could be used; each one's reason is in the message.
            LocalStateError: this device cannot go on.
        """
        relays: list[RelayReport] = []
        for url in self.relays:
            try:
                done = await RelayDriver(self._replica, url, self._dial, progress).sync_once()
                relays.append(RelayReport(url, True, None, done.sent, done.received))
            except RelayError as error:
                relays.append(RelayReport(url, False, str(error), 0, 0))
        if all(relay.ok for relay in relays):
            self._replica.report_withheld()
        if not any(relay.ok for relay in relays):
            raise RelayUnavailable("; ".join(relay.error or "" for relay in relays))
        return SyncReport(sum(r.sent for r in relays), sum(r.received for r in relays), tuple(relays))

    @asynccontextmanager
    async def watch(self, on_state: Callable[[str, RelayError | None], None] | None = None) -> AsyncIterator[None]:
        """Stay connected to every relay inside the block: what others write arrives, what is written here is sent.

        Args:
            on_state: called with a relay's address, and None when it is level, or the error each time it is lost or
                cannot be reached.

        Raises:
            LocalStateError: this device cannot go on.
        """

        def follow(url: str) -> Callable[[RelayError | None], None] | None:
            return None if on_state is None else lambda error: on_state(url, error)

        tasks = [
            asyncio.create_task(RelayDriver(self._replica, url, self._dial).watch(follow(url)), name=f"watch {url}")
            for url in self.relays
        ]
        owner = asyncio.current_task()
        failures: list[BaseException] = []

        def ended(task: asyncio.Task[None]) -> None:
            error = None if task.cancelled() else task.exception()
            if error is not None:
                failures.append(error)
                if owner is not None:
                    owner.cancel()

        for task in tasks:
            task.add_done_callback(ended)
        try:
            yield
        except asyncio.CancelledError:
            if failures:
                raise failures[0] from None
            raise
        finally:
            for task in tasks:
                task.remove_done_callback(ended)
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def events(self) -> AsyncIterator[GroupEvent]:
        """What happens in this group from now on, by this device or others, each after it was made durable."""
        queue: asyncio.Queue[GroupEvent] = asyncio.Queue(MOST_EVENTS)

        def take(event: GroupEvent) -> None:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(event)

        unlisten = self._replica.listen(take)
        try:
            while True:
                yield await queue.get()
        finally:
            unlisten()

    def unsent(self) -> int:
        """Entries and runs that some relay has not acknowledged yet."""
        log = self._replica.log
        return log.pending_count() + max((log.unsent_count(url) for url in self.relays), default=0)

    def alarms(self) -> list[str]:
        """What a member should know: refused input, forks, lost or withheld entries. Oldest first."""
        return [message for _, _, message, _ in self._replica.groups.alarms(self._replica.record.number)]

    async def audit(self) -> AuditReport:
        """Ask every relay for all that it holds of this group, and count it.

        Raises:
            RelayUnavailable: no relay could be reached.
        """
        audits: list[RelayAudit] = []
        errors: list[RelayError] = []
        for url in self.relays:
            try:
                audits.append(await self._audit_relay(url))
            except RelayError as error:
                errors.append(error)
        if not audits:
            raise RelayUnavailable("; ".join(map(str, errors)))
        return AuditReport(tuple(audits))

    async def _audit_relay(self, url: str) -> RelayAudit:
        invites = self._replica.members.roster.invites.values()
        keys = [*self._replica.epochs.values(), *(mailbox_keys(invite.mailbox_secret) for invite in invites)]
        topics = []
        for topic in keys:
            envelopes = await read_topic(self._dial, url, topic)
            if envelopes:
                topics.append((topic.topic.hex(), len(envelopes), sum(map(len, envelopes))))
        return RelayAudit(url, tuple(topics), 0)

    def _create(self) -> Create:
        operation = decode_operation(self._replica.record.create_body)
        assert isinstance(operation, Create), "checked before it was stored"
        return operation


class DocumentHandle:
    """A document of a group, dict-like to read and to edit."""

    def __init__(self, replica: Replica, descriptor: Descriptor) -> None:
        self._replica, self._descriptor = replica, descriptor

    @property
    def name(self) -> str:
        return self._descriptor.name

    def read(self) -> MapView:
        """The document's root map, to be read before the next await: plain copies come from `.to_python()`."""
        return self._replica.shelf.get(self._descriptor).read()

    @asynccontextmanager
    async def change(self) -> AsyncIterator[Any]:
        """Edit inside the block; durable when it ends, undone when it raises.

        Raises:
            UsageError: this member may not change this document, or a value that a document cannot hold.
        """
        with self._changing() as root:
            yield root

    @contextmanager
    def _changing(self) -> Iterator[Any]:
        with self._replica.change(self._descriptor) as root:
            yield root
