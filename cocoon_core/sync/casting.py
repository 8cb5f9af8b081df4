"""What devices that watch tell each other at once: whether they have the same, what they have, and who is here.

Nothing that is heard of entries is believed. It says where to look: what somebody has and this device lacks is read
again from the relay, once in a while; what the relay did not show is put there. Who is here is presence.py's.
Implements specs/beacon.md §5.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable
from typing import Final

from cocoon_core.errors import UntrustedInputError
from cocoon_core.protocol.beacon import Ends
from cocoon_core.protocol.cast import CastValue, DigestCast, EndsCast, PresenceCast, open_cast, seal_cast, sign_presence
from cocoon_core.protocol.constants import (
    CAST_ENDS_SECONDS,
    CAST_SECONDS,
    HERE_SECONDS,
    MAX_CAST_ENDS,
    MAX_CAST_MEMBERS,
    NONCE_BYTES,
)
from cocoon_core.protocol.ids import DeviceId, FrontierDigest, TopicId
from cocoon_core.sync.replica import Replica
from cocoon_core.sync.session import Effect, Session

KNOWN_DIGESTS: Final = 16  # own frontiers of late: who tells one of these is behind, and will come after
HEARD_AT_ONCE: Final = 64  # casts that are read
HEARD_A_SECOND: Final = 20.0  # casts that are read, sustained: 50 members who are here say so twice a second


class Casting:
    """The casts of one connection that is watched.

    Args:
        now: seconds, of any beginning.
    """

    def __init__(self, replica: Replica, url: str, session: Session, now: Callable[[], float]) -> None:
        self._replica, self._url, self._session, self._now = replica, url, session, now
        self._told: FrontierDigest | None = None
        self._told_at = self._ends_at = self._heeded_at = self._here_at = float("-inf")
        self._times_typed = self._newcomers = 0
        self._differs = False
        self._room, self._room_at = float(HEARD_AT_ONCE), now()
        self._recent: deque[FrontierDigest] = deque(maxlen=KNOWN_DIGESTS)

    def is_due(self) -> bool:
        """There may be something to cast."""
        now, members = self._now(), self._replica.members
        if not members.has_begun or len(members.roster.members) > MAX_CAST_MEMBERS:
            return False
        if self._differs and now - self._ends_at >= CAST_ENDS_SECONDS:
            return True
        if now - self._here_at >= HERE_SECONDS:
            return True
        return now - self._told_at >= CAST_SECONDS and self._told != self._replica.beacons.digest()

    def advance(self) -> list[Effect]:
        """The casts that are due. To be called when level, and every now and then."""
        replica, now = self._replica, self._now()
        members = replica.members
        if members.member_of(replica.keys.id) is None or len(members.roster.members) > MAX_CAST_MEMBERS:
            return []
        if not replica.epochs.may_seal() or not self._session.is_live(replica.epoch.topic):
            return []
        effects: list[Effect] = []
        if now - self._told_at >= CAST_SECONDS and (digest := self._digest()) != self._told:
            self._told, self._told_at = digest, now
            effects += self._cast(DigestCast(digest))
        if self._differs and now - self._ends_at >= CAST_ENDS_SECONDS:
            self._differs, self._ends_at = False, now
            effects += self._cast(EndsCast(self._newest_ends()))
        return effects + self._say_presence(now)

    def _say_presence(self, now: float) -> list[Effect]:
        """That the own member is here, or typing, as far as that is due."""
        presence = self._replica.presence
        place = presence.place() if presence.times_typed != self._times_typed else None
        if place is None and now - self._here_at < HERE_SECONDS and presence.newcomers == self._newcomers:
            return []
        self._here_at, self._times_typed, self._newcomers = now, presence.times_typed, presence.newcomers
        if not presence.is_said():
            return []
        replica = self._replica
        return self._cast(sign_presence(replica.keys.signing, replica.epoch, replica.clock(), place))

    def heard(self, topic: TopicId, payload: bytes) -> bool:
        """A cast came. Whatever it is, nothing follows but a look.

        Returns:
            Whether something is to be put, or read again, because of it.
        """
        replica = self._replica
        if topic != replica.epoch.topic or not self._may_hear():
            return False
        try:
            value = open_cast(payload, replica.epoch)
        except UntrustedInputError:
            return False
        match value:
            case DigestCast(digest):
                self._differs = self._differs or (digest != self._digest() and digest not in self._recent)
            case EndsCast(ends):
                return self._heed(ends)
            case PresenceCast():
                replica.presence.heard(value)
        return False

    def _may_hear(self) -> bool:
        """A flood of casts is not read: each is of no matter."""
        now = self._now()
        self._room = min(HEARD_AT_ONCE, self._room + (now - self._room_at) * HEARD_A_SECOND)
        self._room_at = now
        if self._room < 1:
            return False
        self._room -= 1
        return True

    def _heed(self, ends: Ends) -> bool:
        """Read again what somebody says that there is, and put what the relay did not show; not too often."""
        replica, now = self._replica, self._now()
        if now - self._heeded_at < CAST_ENDS_SECONDS:
            return False
        devices = replica.members.roster.devices
        known = {device: end for device, end in ends.items() if device in devices}
        lacks = any(not replica.beacons.holds(device, seq, entry) for device, (seq, entry) in known.items())
        behind = [device for device, (seq, _) in known.items() if self._has_unshown(device, seq)]
        if not lacks and not behind:
            return False
        self._heeded_at = now
        with replica.transaction():
            if behind:
                replica.beacons.put_again(self._url, behind)
            if lacks:
                replica.log.note_missed(self._url, replica.epoch.topic, 1)
        if lacks:
            replica.epochs.to_reread.add(self._url)
        self._differs = self._differs or bool(behind)
        return True

    def _has_unshown(self, device: DeviceId, seq: int) -> bool:
        """There is more here than somebody has, and this relay did not show it."""
        end = self._replica.chains.get(device)
        return end is not None and max(seq, self._replica.beacons.shown_end(self._url, device)) < end.last_seq

    def _cast(self, value: CastValue) -> list[Effect]:
        epoch = self._replica.epoch
        return self._session.cast(epoch.topic, seal_cast(value, epoch, secrets.token_bytes(NONCE_BYTES)))

    def _digest(self) -> FrontierDigest:
        digest = self._replica.beacons.digest()
        if digest not in self._recent:
            self._recent.append(digest)
        return digest

    def _newest_ends(self) -> Ends:
        chains, ends = self._replica.chains, self._replica.beacons.ends()
        newest = sorted(ends, key=lambda device: (-chains[device].last_time_ms, device))[:MAX_CAST_ENDS]
        return {device: ends[device] for device in newest}
