"""A profile and its groups: where an embedder begins. A profile may hold many groups; nothing crosses between them."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from cocoon_core.errors import (
    InvalidLinkError,
    LocalStateError,
    MalformedError,
    NotYetError,
    RelayError,
    RelayUnavailable,
    UnknownGroupError,
    UntrustedInputError,
    UpdateNeededError,
    UsageError,
)
from cocoon_core.group import Group
from cocoon_core.protocol.device import DeviceKeys
from cocoon_core.protocol.envelope import open_envelope
from cocoon_core.protocol.epoch import Epoch
from cocoon_core.protocol.frames import normalize_origin
from cocoon_core.protocol.ids import GroupId
from cocoon_core.protocol.invite import InviteKeys, Link, Welcome, mailbox_keys, open_welcome, read_link, require_relays
from cocoon_core.protocol.names import require_good_name
from cocoon_core.protocol.operations import Create, Join, Policy
from cocoon_core.protocol.primitives import Secret
from cocoon_core.storage.groups import ACTIVE, JOINING, GroupRecord, GroupTable
from cocoon_core.storage.local_proof import LocalProof
from cocoon_core.storage.paths import resolve_home
from cocoon_core.storage.profile import Profile
from cocoon_core.sync.driver import Progress, RelayDriver
from cocoon_core.sync.reading import read_topic
from cocoon_core.sync.replica import Replica
from cocoon_core.sync.transport import Dial, dial_websocket


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class Cocoon:
    """An open profile. One process at a time holds it.

    async with await Cocoon.open(home) as cocoon: ...
    """

    def __init__(self, profile: Profile, clock: Callable[[], int] = _now_ms, dial: Dial = dial_websocket) -> None:
        self._profile, self._clock, self._dial = profile, clock, dial
        self._table = GroupTable(profile.database)
        self._groups: dict[int, Group] = {}

    # --- opening

    @staticmethod
    def init(home: str | os.PathLike[str] | None = None, passphrase: str | None = None) -> None:
        """Make a profile: its database key goes into the OS key ring, or is sealed under the passphrase.

        Raises:
            UsageError: there is one already.
            NoKeyRingError: no passphrase was given and there is no safe key ring.
        """
        Profile.create(home, passphrase).close()

    @classmethod
    async def open(
        cls,
        home: str | os.PathLike[str] | None = None,
        passphrase: str | None = None,
        *,
        clock: Callable[[], int] = _now_ms,
        dial: Dial = dial_websocket,
    ) -> Self:
        """Open a profile.

        Raises:
            NoProfileError, WrongPassphraseError, ProfileLockedError, ProfileDamagedError: it cannot be opened.
        """
        return cls(Profile.open(home, passphrase), clock, dial)

    # --- what a second process of this user needs to ask the one that has the profile open (specs/local-socket.md)

    @staticmethod
    def find_home(home: str | os.PathLike[str] | None = None) -> Path:
        """The folder that `open` would use."""
        return resolve_home(home)

    @staticmethod
    def derive_proof(home: str | os.PathLike[str] | None = None, passphrase: str | None = None) -> LocalProof:
        """What shows that this process could open the profile. Raises as `open` does, whoever has it open."""
        return Profile.derive_proof(home, passphrase)

    @property
    def home(self) -> Path:
        """The folder of this profile."""
        return self._profile.paths.home

    @property
    def proof(self) -> LocalProof:
        """What those who ask are compared with."""
        return self._profile.proof

    async def close(self) -> None:
        try:
            for group in self._groups.values():
                group.close()
        finally:
            self._groups.clear()
            self._profile.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # --- groups

    def groups(self) -> list[Group]:
        """All groups of this profile, oldest first; those whose join was never finished are not among them, nor those
        that cannot be opened.
        """
        return self._open_groups()[0]

    def damaged_groups(self) -> dict[GroupId, str]:
        """The groups that cannot be opened, and why."""
        return self._open_groups()[1]

    def _open_groups(self) -> tuple[list[Group], dict[GroupId, str]]:
        """One group whose part of the profile is damaged takes no other with it."""
        groups: list[Group] = []
        damaged: dict[GroupId, str] = {}
        for record in self._table.all():
            if record.state == JOINING:
                continue
            try:
                groups.append(self._group(record))
            except (LocalStateError, NotYetError, UntrustedInputError) as error:
                damaged[record.group] = str(error)
        return groups, damaged

    def group(self, reference: str) -> Group:
        """The group of that name or id, or a unique beginning of an id (4 characters at least).

        Raises:
            UnknownGroupError: none, or more than one.
        """
        groups, damaged = self._open_groups()
        wanted = reference.strip()
        found = [g for g in groups if g.name.casefold() == wanted.casefold()]
        found = found or [g for g in groups if len(wanted) >= 4 and g.id.hex().startswith(wanted.lower())]
        if len(found) == 1:
            return found[0]
        if found:
            raise UnknownGroupError(
                f"more than one group is called {reference!r}; give the beginning of an id: {_list_groups(found)}"
            )
        names = _list_groups(groups) or "none yet"
        broken = "".join(f"; group {group.hex()[:12]} cannot be opened: {why}" for group, why in damaged.items())
        raise UnknownGroupError(f"there is no group {reference!r} in this profile; there are: {names}{broken}")

    async def create_group(
        self, name: str, *, member_name: str, relays: Sequence[str], max_members: int | None = None
    ) -> Group:
        """Make a group with this device as its first member and admin. Needs no relay to be reachable.

        Raises:
            UsageError: a name or a relay's address cannot be used.
        """
        try:
            urls = require_relays([normalize_origin(url) for url in relays])
            keys = _new_keys()
            epoch = Epoch(Secret(secrets.token_bytes(32)))
            policy = Policy(relays=urls) if max_members is None else Policy(max_members, relays=urls)
            create = Create(
                secrets.token_bytes(32),
                keys.id,
                keys.hpke_public,
                epoch.topic,
                name.strip(),
                member_name.strip(),
                policy,
            )
        except MalformedError as error:
            raise UsageError(str(error)) from error
        record = self._add(create, keys, epoch, ACTIVE, member_name.strip(), urls, None)
        group = self._group(record)
        try:
            self._replica(record).write_operation(create)
        except BaseException:
            self._forget(record)
            raise
        return group

    async def join(self, link: str, *, member_name: str, progress: Progress | None = None) -> Group:
        """Join a group by its link. Needs one of its relays.

        A join that was interrupted goes on where it stopped when it is called again with the same link.

        Raises:
            InvalidLinkError: the link is not whole, or was closed or used up.
            NotYetError: the relay does not have the invite yet.
            RelayUnavailable: no relay of the link could be reached.
            UsageError: this profile is in the group already, or the name cannot be used.
        """
        parsed = read_link(link)
        try:
            require_good_name(member_name.strip())
        except MalformedError as error:
            raise UsageError(str(error)) from error
        keys = InviteKeys(parsed.secret)
        record = self._find(parsed)
        if record is None:
            welcome = await self._fetch_welcome(parsed, keys)
            epoch = welcome.epoch
            record = self._add(  # the link's relays, not the welcome's: any member could have sealed another welcome
                welcome.create, _new_keys(), epoch, JOINING, member_name.strip(), parsed.relays, parsed.secret
            )
        elif record.state != JOINING:
            raise UsageError("this profile is in that group already")
        replica = self._replica(record)
        try:
            await _sync_any(replica, self._dial, progress)
            self._write_join(replica, keys, member_name.strip())
        except (InvalidLinkError, UsageError):
            self._forget(record)
            raise
        group = self._group(self._record(record.number))
        with suppress(RelayError):  # the join is durable: the next sync sends it
            await group.sync(progress)
        return group

    # --- joining, step by step

    async def _fetch_welcome(self, link: Link, keys: InviteKeys) -> Welcome:
        """Read the invite's mailbox at every relay of the link until one has a welcome that opens."""
        mailbox = mailbox_keys(keys.mailbox_secret)
        failures: list[str] = []
        newer: UpdateNeededError | None = None
        reached = False
        for url in link.relays:
            try:
                envelopes = await read_topic(self._dial, url, mailbox)
            except RelayError as error:
                failures.append(str(error))
                continue
            reached = True
            for envelope in reversed(envelopes):
                try:
                    welcome = open_welcome(open_envelope(envelope, mailbox), keys, link.group)
                except UntrustedInputError:
                    continue
                except UpdateNeededError as error:
                    newer = error
                    continue
                if welcome.epoch.topic == welcome.create.topic:
                    return welcome
        if not reached:
            raise RelayUnavailable("; ".join(failures))
        if newer is not None:
            raise newer
        raise NotYetError("the relay does not have this invite yet; whoever made the link must `cocoon sync` first")

    def _write_join(self, replica: Replica, keys: InviteKeys, member_name: str) -> None:
        """Write the join, if the invite is there, open and not used up."""
        invite = replica.members.roster.invites.get(keys.id) if replica.chains else None
        if invite is None:
            raise NotYetError("the relay does not have this invite yet; whoever made the link must `cocoon sync` first")
        if not invite.is_open:
            raise InvalidLinkError("this link was closed or used up; ask for a new one")
        if 0 < invite.expires_ms <= self._clock():
            raise InvalidLinkError("this link has expired; ask for a new one")
        try:
            join = Join.make(keys.signing, replica.group, replica.keys.id, replica.keys.hpke_public, member_name)
        except MalformedError as error:
            raise UsageError(str(error)) from error
        with replica.transaction():
            replica.write_operation(join, inside=True)
            self._table.set_state(replica.record.number, ACTIVE)
            self._table.forget_link(replica.record.number)

    # --- records

    def _add(
        self,
        create: Create,
        keys: DeviceKeys,
        epoch: Epoch,
        state: str,
        member_name: str,
        relays: Sequence[str],
        link_secret: Secret | None,
    ) -> GroupRecord:
        with self._profile.database.transaction():
            number = self._table.add(
                create.group_id(), state, keys, create.encode_body(), member_name, relays, self._clock(), link_secret
            )
            self._table.add_epoch(number, epoch)
        return self._record(number)

    def _record(self, number: int) -> GroupRecord:
        return next(record for record in self._table.all() if record.number == number)

    def _find(self, link: Link) -> GroupRecord | None:
        return next((record for record in self._table.all() if record.group == link.group), None)

    def _forget(self, record: GroupRecord) -> None:
        self._groups.pop(record.number, None)
        self._table.remove(record.number)

    def _group(self, record: GroupRecord) -> Group:
        group = self._groups.get(record.number)
        if group is None:
            group = self._groups[record.number] = Group(
                Replica(self._profile.database, record, self._clock), self._dial
            )
        return group

    def _replica(self, record: GroupRecord) -> Replica:
        return self._group(record).replica


def _list_groups(groups: Sequence[Group]) -> str:
    """Names, each with as much of its id as tells those apart that are called alike."""
    return ", ".join(f"“{group.name}” ({group.id.hex()[:8]})" for group in groups)


async def _sync_any(replica: Replica, dial: Dial, progress: Progress | None) -> None:
    """Catch up from whichever relay can be reached.

    Raises:
        RelayUnavailable: none.
    """
    failures: list[str] = []
    for url in replica.groups.relays(replica.record.number):
        try:
            await RelayDriver(replica, url, dial, progress).sync_once()
            return
        except RelayError as error:
            failures.append(str(error))
    raise RelayUnavailable("; ".join(failures))


def _new_keys() -> DeviceKeys:
    return DeviceKeys(Secret(secrets.token_bytes(32)), Secret(secrets.token_bytes(32)))
