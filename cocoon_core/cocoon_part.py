"""What the parts of the façade of a profile share: its tables, its open groups, and how a group enters it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from cocoon_core.group import Group
from cocoon_core.protocol.device import DeviceKeys
from cocoon_core.protocol.epoch import Epoch
from cocoon_core.protocol.frames import normalize_origin
from cocoon_core.protocol.ids import GroupId
from cocoon_core.protocol.operations import Create
from cocoon_core.protocol.primitives import Secret
from cocoon_core.storage.epochs import EpochTable
from cocoon_core.storage.groups import GroupRecord, GroupTable
from cocoon_core.storage.joins import PendingJoinTable, TokenTable
from cocoon_core.storage.profile import Profile
from cocoon_core.sync.access import RelayAccess, real_access
from cocoon_core.sync.guests import forget_guests
from cocoon_core.sync.replica import Replica
from cocoon_core.vault.content import ContentStore
from cocoon_core.vaulting import read_limit


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class CocoonPart:
    """One subject of a profile's façade.

    Args:
        access: the ways to relays; over the network, if not given.
    """

    def __init__(self, profile: Profile, clock: Callable[[], int] = now_ms, access: RelayAccess | None = None) -> None:
        self._profile, self._clock = profile, clock
        self._dial = real_access(self._find_token) if access is None else access
        self._tokens = TokenTable(profile.database)
        self._table = GroupTable(profile.database)
        self._pending_joins = PendingJoinTable(profile.database)
        self._store = ContentStore(profile.database, read_limit(profile.database))
        self._groups: dict[int, Group] = {}

    def _find_token(self, url: str) -> str | None:
        """The access token for a relay: of a group that uses it, else from a link."""
        origin = normalize_origin(url)
        for group in self._groups.values():
            if group.replica.members.has_begun:
                token = group.find_token(origin)
                if token is not None:
                    return token
        return self._tokens.find(origin)

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
            number = self._insert(create, keys, epoch, state, member_name, relays, link_secret)
        return self._record(number)

    def _insert(
        self,
        create: Create,
        keys: DeviceKeys,
        epoch: Epoch,
        state: str,
        member_name: str,
        relays: Sequence[str],
        link_secret: Secret | None,
    ) -> int:
        """Store a new group and give its number. The caller holds the transaction."""
        number = self._table.add(
            create.group_id(), state, keys, create.encode_body(), member_name, relays, self._clock(), link_secret
        )
        EpochTable(self._profile.database, number).add(epoch, self._clock())
        return number

    def _record(self, number: int) -> GroupRecord:
        return next(record for record in self._table.all() if record.number == number)

    def _find(self, group: GroupId) -> GroupRecord | None:
        return next((record for record in self._table.all() if record.group == group), None)

    def _forget(self, record: GroupRecord) -> None:
        self._groups.pop(record.number, None)
        self._table.remove(record.number)

    def _group(self, record: GroupRecord) -> Group:
        group = self._groups.get(record.number)
        if group is None:
            replica = Replica(self._profile.database, record, self._clock)
            forget_guests(replica)
            group = self._groups[record.number] = Group(replica, self._dial, self._store)
        return group

    def _replica(self, record: GroupRecord) -> Replica:
        return self._group(record).replica
