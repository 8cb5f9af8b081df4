"""What the parts of the façade of a group share: the replica, the way to relays, and who this device is.

`Group` is made of the parts in membership, policy, invites, admission, document_handle and syncing. Each is one
subject; what one does to another goes through the roster.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from cocoon_core.errors import UsageError
from cocoon_core.protocol.ids import DeviceId, MemberId
from cocoon_core.protocol.operations import Create
from cocoon_core.protocol.roster import Roster
from cocoon_core.storage.member_profiles import MemberProfileTable
from cocoon_core.sync.access import RelayAccess
from cocoon_core.sync.replica import Replica
from cocoon_core.vault.content import ContentStore
from cocoon_core.vault.transfers import Transfers

HOUR_MS = 3_600_000


class GroupPart:
    """One subject of a group's façade."""

    def __init__(self, replica: Replica, dial: RelayAccess, store: ContentStore) -> None:
        self._replica, self._dial = replica, dial
        self._transfers = Transfers(replica, dial, store)
        self._given_tokens: dict[str, tuple[str, str]] = {}  # by relay: a token, and the policy's that it stands for

    @property
    def replica(self) -> Replica:
        """For the modules of this package: not part of the public face."""
        return self._replica

    @property
    def relays(self) -> list[str]:
        return self._replica.groups.relays(self._replica.record.number)

    @property
    def me(self) -> MemberId | None:
        """The own member's id; None as long as the own join does not count, and once this device is out."""
        return self._replica.members.member_of(self._replica.keys.id)

    @property
    def _roster(self) -> Roster:
        return self._replica.members.roster

    def _create(self) -> Create:
        return self._replica.record.create

    def _require_me(self) -> MemberId:
        """The own member's id.

        Raises:
            UsageError: this device is not, or no longer, a member's.
        """
        if self.me is None:
            raise UsageError("this device is not a member of the group")
        return self.me

    def _require_admin(self, what: str) -> MemberId:
        """The own member's id, an admin's.

        Args:
            what: what only an admin can do, as in "only an admin can change roles".

        Raises:
            UsageError: this device is no admin's.
        """
        me = self._require_me()
        if not self._roster.is_admin(me):
            raise UsageError(f"only an admin can {what}; you are a member")
        return me

    def _quiet(self) -> frozenset[MemberId]:
        """Members who want nobody to be told when they were here."""
        return MemberProfileTable(self._replica.database, self._replica.record.number).quiet()

    def _last_seen(self, devices: Iterable[DeviceId]) -> datetime | None:
        """The hour of the newest entry of these devices that is here; None where there is none."""
        times = [self._replica.chains[device].last_time_ms for device in devices if device in self._replica.chains]
        if not times:
            return None
        hour = min(max(times), self._replica.clock()) // HOUR_MS * HOUR_MS
        return datetime.fromtimestamp(hour / 1000, UTC)
