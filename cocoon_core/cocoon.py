"""A profile and its groups: where an embedder begins. A profile may hold many groups; nothing crosses between them."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from cocoon_core.archiving import Archiving
from cocoon_core.backing_up import BackingUp
from cocoon_core.cocoon_part import now_ms
from cocoon_core.device_linking import DeviceLinking
from cocoon_core.errors import (
    LocalStateError,
    MalformedError,
    NotYetError,
    UnknownGroupError,
    UntrustedInputError,
    UsageError,
)
from cocoon_core.group import Group
from cocoon_core.importing import Importing
from cocoon_core.integrity import Integrity
from cocoon_core.joining import Joining, new_keys
from cocoon_core.local_network import LocalNetwork
from cocoon_core.policy import default_vouches, merge_tokens
from cocoon_core.protocol.constants import DEFAULT_MAX_MEMBERS
from cocoon_core.protocol.epoch import Epoch
from cocoon_core.protocol.frames import normalize_origin
from cocoon_core.protocol.ids import GroupId
from cocoon_core.protocol.invite import require_relays
from cocoon_core.protocol.operation_forms import Policy
from cocoon_core.protocol.operations import Create
from cocoon_core.protocol.primitives import Secret
from cocoon_core.quieting import Quieting
from cocoon_core.recovery import ProfileRecovery
from cocoon_core.storage.groups import ACTIVE, JOINING
from cocoon_core.storage.local_proof import LocalProof
from cocoon_core.storage.paths import resolve_home
from cocoon_core.storage.profile import Profile
from cocoon_core.sync.access import RelayAccess


class Cocoon(
    Joining, DeviceLinking, ProfileRecovery, Importing, BackingUp, Archiving, LocalNetwork, Integrity, Quieting
):
    """An open profile. One process at a time holds it.

    async with await Cocoon.open(home) as cocoon: ...
    """

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
        clock: Callable[[], int] = now_ms,
        access: RelayAccess | None = None,
    ) -> Self:
        """Open a profile.

        Args:
            access: other ways to relays than the network, for tests.

        Raises:
            NoProfileError, WrongPassphraseError, ProfileLockedError, ProfileDamagedError: it cannot be opened.
        """
        return cls(Profile.open(home, passphrase), clock, access)

    # --- what a second process of this user needs to ask the one that has the profile open (specs/local-socket.md)

    @staticmethod
    def find_home(home: str | os.PathLike[str] | None = None) -> Path:
        """The folder that `open` would use."""
        return resolve_home(home)

    @staticmethod
    def derive_proof(home: str | os.PathLike[str] | None = None, passphrase: str | None = None) -> LocalProof:
        """What shows that this process could open the profile. Raises as `open` does, whoever has it open."""
        return Profile.derive_proof(home, passphrase)

    # --- what opens the profile (specs/storage.md §2)

    def change_passphrase(self, passphrase: str | None) -> bool:
        """Seal the key of this profile under another passphrase or, with None, keep it in the key ring.

        Whatever opened it before opens it no more; copies of `profile.key` that were made before still do.

        Returns:
            False where the key ring that it was in did not give it up.

        Raises:
            UsageError: an empty passphrase.
            NoKeyRingError: no passphrase, and no safe key ring.
            StorageFullError: the disk is full; the old way still opens the profile.
        """
        return self._profile.change_passphrase(passphrase)

    @staticmethod
    def renew_key(
        home: str | os.PathLike[str] | None, passphrase: str | None, new_passphrase: str | None = None
    ) -> bool:
        """As `change_passphrase`, and write the database of a profile that nobody has open anew under a fresh key: old
        copies of `profile.key` open nothing that is written from then on. Needs room for a second database meanwhile.

        Raises:
            NoProfileError, WrongPassphraseError, ProfileLockedError, ProfileDamagedError: it cannot be opened.
            UsageError, NoKeyRingError, StorageFullError: as `change_passphrase`.
        """
        return Profile.open(home, passphrase).renew_key(new_passphrase)

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
        self,
        name: str,
        *,
        member_name: str,
        relays: Sequence[str],
        max_members: int | None = None,
        vouches: int | None = None,
        tokens: Mapping[str, str] | None = None,
    ) -> Group:
        """Make a group with this device as its first member and admin. Needs no relay to be reachable.

        Args:
            max_members: members plus open uses of invites.
            vouches: how many members must want a newcomer. If not given: 0, a link lets in; 1 in groups for more than
                50.
            tokens: access tokens by relay, for relays that ask for one. Every member gets to know them.

        Raises:
            UsageError: a name or a relay's address cannot be used.
        """
        try:
            urls = require_relays([normalize_origin(url) for url in relays])
            keys = new_keys()
            epoch = Epoch(Secret(secrets.token_bytes(32)))
            most = DEFAULT_MAX_MEMBERS if max_members is None else max_members
            policy = Policy(
                most,
                relays=urls,
                tokens=merge_tokens((), urls, tokens or {}),
                vouches=default_vouches(most) if vouches is None else vouches,
            )
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

    def forget_group(self, reference: str) -> None:
        """Delete a group from this profile that this device is no longer in, with all that it held of it.

        Raises:
            UnknownGroupError: there is no such group.
            UsageError: this device is still in it.
        """
        group = self.group(reference)
        if group.me is not None:
            raise UsageError(f"you are still in {group.name}; leave it first")
        self._forget(group.replica.record)


def _list_groups(groups: Sequence[Group]) -> str:
    """Names, each with as much of its id as tells those apart that are called alike."""
    return ", ".join(f"“{group.name}” ({group.id.hex()[:8]})" for group in groups)
