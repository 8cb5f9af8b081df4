"""Entering a group by a link, step by step: welcome, catching up, join; or request, waiting, being let in.

A part of `Cocoon`. What can be interrupted is durable: a join that has begun, and a request that waits for an answer.
Formats and order: specs/invite.md §5 and §6.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from cocoon_core.cocoon_part import CocoonPart
from cocoon_core.errors import (
    AwaitingAdmissionError,
    InvalidLinkError,
    MalformedError,
    NotYetError,
    RelayError,
    RelayUnavailable,
    UnknownGroupError,
    UsageError,
)
from cocoon_core.group import Group
from cocoon_core.protocol.device import DeviceKeys
from cocoon_core.protocol.frames import normalize_origin
from cocoon_core.protocol.ids import GroupId
from cocoon_core.protocol.invite import InviteKeys, Link, Welcome, mailbox_keys, open_welcome, read_link
from cocoon_core.protocol.names import require_good_name
from cocoon_core.protocol.operations import Create, Join
from cocoon_core.protocol.primitives import Secret
from cocoon_core.storage.groups import ACTIVE, JOINING, GroupRecord, GroupTable
from cocoon_core.storage.joins import PendingJoin, PendingJoinTable
from cocoon_core.sync.access import RelayAccess
from cocoon_core.sync.admission import ask, make_request
from cocoon_core.sync.driver import Progress
from cocoon_core.sync.passes import sync_relays
from cocoon_core.sync.relay_list import try_relay, usable
from cocoon_core.sync.replica import Replica
from cocoon_core.sync.transport import Dial
from cocoon_core.sync.welcomes import fetch_welcomes

NOT_THERE = "the relay does not have this invite yet; whoever made the link must `cocoon sync` first"


@dataclass(frozen=True, slots=True)
class PendingJoinInfo:
    """A group that this profile asked to be let into."""

    group: GroupId
    group_name: str
    member_name: str
    since: datetime


def pending_info(pending: PendingJoin) -> PendingJoinInfo:
    since = datetime.fromtimestamp(pending.since_ms / 1000, UTC)
    return PendingJoinInfo(pending.group, pending.group_name, pending.member_name, since)


def new_keys() -> DeviceKeys:
    return DeviceKeys(Secret(secrets.token_bytes(32)), Secret(secrets.token_bytes(32)))


async def welcomes_of(dial: Dial, link: Link) -> list[Welcome]:
    """The welcomes that the invite's mailbox holds, at every relay of the link, those with an epoch first.

    Raises:
        RelayUnavailable: no relay could be reached.
        UpdateNeededError: the group was made by a later version.
        NotYetError: there is none.
    """
    keys = InviteKeys(link.secret)
    found = await fetch_welcomes(
        dial, link.relays, mailbox_keys(keys.mailbox_secret), lambda value: open_welcome(value, keys, link.group)
    )
    if not found:
        raise NotYetError(NOT_THERE)
    return found


def require_member_name(name: str) -> str:
    """Raises:
    UsageError: nobody can have that name.
    """
    try:
        require_good_name(name.strip())
    except MalformedError as error:
        raise UsageError(str(error)) from error
    return name.strip()


def store_request(
    table: PendingJoinTable, link: Link, create: Create, name: str, clock: Callable[[], int]
) -> PendingJoin:
    """Make the keys of a device that asks to be let in, and keep them. The caller holds the transaction.

    Raises:
        UsageError: nobody can have that name.
    """
    pending = PendingJoin(link.group, link.secret, new_keys(), create.group_name, name, link.relays, clock())
    try:
        make_request(pending)
    except MalformedError as error:
        raise UsageError(str(error)) from error
    table.add(pending)
    return pending


def require_own_epoch(replica: Replica) -> None:
    """The epoch that was come to is the group's: the one that `create` names, or one that a counted rotation began.

    Any member can seal another welcome to a link. What such an epoch holds could be the group's true history, but for
    what came last, and only its maker would read what is written there.

    Raises:
        NotYetError: nothing that the relay shows says so.
    """
    topic = replica.epoch.topic
    if topic == replica.record.create.topic:
        return
    rotations = replica.members.roster.rotations if replica.members.has_begun else ()
    if all(topic != rotation.body.topic for rotation in rotations):
        raise NotYetError(NOT_THERE)


def _shows_group(replica: Replica) -> bool:
    """Whether what was read leads into the group."""
    with suppress(NotYetError):
        require_own_epoch(replica)
        return replica.members.has_begun
    return False


def write_join(replica: Replica, table: GroupTable, keys: InviteKeys, member_name: str) -> None:
    """Write the join, if the invite is there, open and not used up.

    Raises:
        NotYetError: the invite is not there.
        InvalidLinkError: it is closed, used up or expired.
    """
    invite = replica.members.roster.invites.get(keys.id) if replica.chains else None
    if invite is None:
        raise NotYetError(NOT_THERE)
    if not invite.is_open:
        raise InvalidLinkError("this link was closed or used up; ask for a new one")
    if 0 < invite.expires_ms <= replica.clock():
        raise InvalidLinkError("this link has expired; ask for a new one")
    try:
        join = Join.make(keys.signing, replica.group, replica.keys.id, replica.keys.hpke_public, member_name)
    except MalformedError as error:
        raise UsageError(str(error)) from error
    with replica.transaction():
        replica.write_operation(join, inside=True)
        table.set_state(replica.record.number, ACTIVE)  # the link's secret stays until a rotation wraps for this device


async def sync_any(replica: Replica, dial: RelayAccess, progress: Progress | None, *, reads_all: bool = True) -> None:
    """Catch up from every relay that can be reached: one alone may have lost what another has.

    Args:
        reads_all: else documents are read as far as it takes to show the newest months.

    Raises:
        RelayUnavailable: none.
    """
    passes = await sync_relays(replica, dial, progress, joining=True, reads_all=reads_all)
    if all(done.error is not None for done in passes if not done.on_trial):
        raise RelayUnavailable("; ".join(str(done.error) for done in passes if done.error is not None))


def asked(pending: PendingJoin) -> AwaitingAdmissionError:
    """What is said as long as nobody let them in."""
    return AwaitingAdmissionError(
        f"asked to be admitted to {pending.group_name}; once a member has let you in, `cocoon sync` brings the group",
        pending.group,
    )


class Joining(CocoonPart):
    """The part of a profile that is about entering groups by links."""

    async def join(
        self, link: str, *, member_name: str, progress: Progress | None = None, reads_all: bool = True
    ) -> Group:
        """Join a group by its link. Needs one of its relays.

        A join that was interrupted goes on where it stopped when it is called again with the same link. Where members
        admit newcomers, it asks to be let in; calling it again, or `finish_joins`, looks for the answer.

        Args:
            reads_all: return once all that was ever written is here; else as soon as the newest months can be shown:
                the next sync brings what is older.

        Raises:
            AwaitingAdmissionError: it asked, and nobody has let this device in yet.
            InvalidLinkError: the link is not whole, or was closed or used up.
            NotYetError: the relay does not have the invite yet.
            RelayUnavailable: no relay of the link could be reached.
            UsageError: this profile is in the group already, or the name cannot be used.
        """
        parsed = read_link(link)
        name = require_member_name(member_name)
        pending = self._pending(parsed.group)
        with self._profile.database.transaction():
            for url, token in parsed.tokens:
                self._tokens.set(normalize_origin(url), token)
        if pending is not None:
            return await self._finish_join(pending, progress)
        record = self._find(parsed.group)
        if record is not None:
            if record.state != JOINING:
                out = "" if self._group(record).me is not None else "; you are no longer in it: `cocoon group forget`"
                raise UsageError(f"this profile has that group already{out}")
            return await self._join(record, name, progress, reads_all)
        failure: NotYetError | None = None
        for welcome in await welcomes_of(self._dial, parsed):
            if welcome.epoch is None:
                with self._profile.database.transaction():
                    pending = store_request(self._pending_joins, parsed, welcome.create, name, self._clock)
                return await self._finish_join(pending, progress)
            record = self._add(  # the link's relays, not the welcome's: any member could have sealed another welcome
                welcome.create, new_keys(), welcome.epoch, JOINING, name, parsed.relays, parsed.secret
            )
            try:
                return await self._join(record, name, progress, reads_all, welcome.relays)
            except NotYetError as error:
                failure = failure or error
        assert failure is not None, "there was a welcome"
        raise failure

    async def _join(
        self,
        record: GroupRecord,
        name: str,
        progress: Progress | None,
        reads_all: bool,
        elsewhere: Sequence[str] = (),
    ) -> Group:
        """Catch up and write the join. Where it cannot be written, nothing is kept.

        Args:
            elsewhere: where the welcome says that the group is: looked at if the link's relays do not show it.
        """
        replica = self._replica(record)
        assert record.link_secret is not None, "kept until the join is written"
        try:
            await sync_any(replica, self._dial, progress, reads_all=False)
            if not _shows_group(replica):
                tried = [try_relay(replica, url) for url in usable(elsewhere)]
                if any(tried):
                    await sync_any(replica, self._dial, progress)
            require_own_epoch(replica)
            write_join(replica, self._table, InviteKeys(record.link_secret), name)
        except (InvalidLinkError, UsageError, NotYetError):
            self._forget(record)
            raise
        group = self._group(self._record(record.number))
        with suppress(RelayError):  # the join is durable: the next sync sends it
            await group.sync(progress, reads_all=reads_all)
        return group

    def pending_joins(self) -> list[PendingJoinInfo]:
        """The groups that this profile asked to be let into, and is not in yet. The oldest first."""
        return [pending_info(pending) for pending in self._pending_joins.all()]

    async def finish_joins(self, progress: Progress | None = None) -> list[Group]:
        """Look whether members let this profile into groups that it asked for, and fetch those that did.

        What cannot be reached or was not answered waits on.
        """
        entered = []
        for pending in self._pending_joins.all():
            with suppress(AwaitingAdmissionError, RelayError):
                entered.append(await self._finish_join(pending, progress))
        return entered

    def withdraw_join(self, group: GroupId) -> None:
        """Ask no longer. A request that reached a relay is not deleted there; who grants it lets nobody in.

        Raises:
            UnknownGroupError: nothing was asked of that group.
        """
        pending = self._pending(group)
        if pending is None:
            raise UnknownGroupError("this profile did not ask to be let into that group")
        with self._profile.database.transaction():
            self._pending_joins.remove(group)

    async def _finish_join(self, pending: PendingJoin, progress: Progress | None) -> Group:
        """Enter the group if a member let this device in; else see to it that the request is there."""
        record = self._find(pending.group)
        if record is not None:
            return await self._enter_admitted(record, pending, progress)
        welcomes, relays = await ask(self._dial, pending)
        if relays != pending.relays:
            pending = replace(pending, relays=relays)
            with self._profile.database.transaction():
                self._pending_joins.set_relays(pending.group, relays)
        for welcome in welcomes:
            assert welcome.epoch is not None, "`ask` gives no others"
            record = self._add(
                welcome.create, pending.keys, welcome.epoch, JOINING, pending.member_name, pending.relays, None
            )
            with suppress(AwaitingAdmissionError):
                return await self._enter_admitted(record, pending, progress)
        raise asked(pending)

    async def _enter_admitted(self, record: GroupRecord, pending: PendingJoin, progress: Progress | None) -> Group:
        """Catch up, and be in if the roster says so. Where it does not, the welcome led nowhere and is not kept."""
        replica = self._replica(record)
        await sync_any(replica, self._dial, progress)
        try:
            require_own_epoch(replica)
        except NotYetError:
            self._forget(record)
            raise asked(pending) from None
        if replica.members.member_of(replica.keys.id) is None:
            self._forget(record)
            raise asked(pending)
        with replica.transaction():
            self._table.set_state(record.number, ACTIVE)
            self._pending_joins.remove(pending.group)
        return self._group(self._record(record.number))

    def _pending(self, group: GroupId) -> PendingJoin | None:
        return next((pending for pending in self._pending_joins.all() if pending.group == group), None)
