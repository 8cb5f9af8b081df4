"""Who is here and who is typing, as far as their devices said so lately; and whether this one says so.

Kept in memory alone, for one group: nothing of it is ever stored. What a device says holds for seconds, and is said
anew as long as it is true. Members who are quiet are not shown, and their devices say nothing. Implements
specs/people.md §4.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cocoon_core.protocol.cast import PresenceCast
from cocoon_core.protocol.constants import (
    HERE_LASTS,
    MAX_CAST_MEMBERS,
    PRESENCE_SKEW_SECONDS,
    TYPING_LASTS,
    TYPING_SECONDS,
)
from cocoon_core.protocol.ids import DeviceId, MemberId
from cocoon_core.storage.member_profiles import MemberProfileTable
from cocoon_core.sync.events import PresenceChanged, SyncWanted

if TYPE_CHECKING:
    from cocoon_core.sync.replica import Replica

NEVER = float("-inf")


@dataclass(slots=True)
class _Heard:
    """What a device said last. `time_ms` is by its clock, the others by this process's."""

    time_ms: int
    here_until: float = NEVER
    typing_until: float = NEVER
    place: bytes = b""


class Presence:
    """The presence of one group's members.

    Args:
        now: seconds, of any beginning.

    Attributes:
        connections: relays where this device watches now. Without one, nobody can be heard.
        is_told: this device says that its member is here. Off where it watches for nobody, in the background.
        times_typed: rises when it is to be said once more that the own member is typing.
        newcomers: rises when a device was heard that was not here before, and so does not know who is.
    """

    def __init__(self, replica: Replica, now: Callable[[], float] = time.monotonic) -> None:
        self._replica, self.now = replica, now
        self._heard: dict[DeviceId, _Heard] = {}
        self._shown: dict[MemberId, bytes | None] = {}  # as listeners were told last
        self._typing: tuple[bytes, float] | None = None
        self._typed_at = NEVER
        self.times_typed = self.newcomers = 0
        self._profiles = MemberProfileTable(replica.database, replica.record.number)
        self.connections: set[str] = set()
        self.is_told = True

    # --- what others say

    def heard(self, cast: PresenceCast) -> None:
        """A device said that its member is here, or typing. Said twice, or long ago, it is not heeded."""
        replica = self._replica
        member = replica.members.member_of(cast.device)
        if member is None or cast.device == replica.keys.id or not self._is_small():
            return
        known = self._heard.get(cast.device)
        if known is not None and cast.time_ms <= known.time_ms:
            return
        if abs(cast.time_ms - replica.clock()) > PRESENCE_SKEW_SECONDS * 1000:
            return
        now = self.now()
        if known is None:
            known = self._heard[cast.device] = _Heard(cast.time_ms)
        if known.here_until <= now:
            self.newcomers += 1
        known.time_ms, known.here_until = cast.time_ms, now + HERE_LASTS
        if cast.typing is not None:
            known.typing_until, known.place = now + TYPING_LASTS, cast.typing
        self.tell()

    def here(self) -> Mapping[MemberId, bytes | None]:
        """The members who are here, each with where they are typing: a post's id, or nothing for the feed; None where
        they are not. Of two devices of one member, the one that types is shown.
        """
        now, quiet = self.now(), self._profiles.quiet()
        found: dict[MemberId, bytes | None] = {}
        for device, heard in list(self._heard.items()):
            member = self._replica.members.member_of(device)
            if heard.here_until <= now or member is None:
                continue
            place = heard.place if heard.typing_until > now else None
            if member not in quiet and (place is not None or member not in found):
                found[member] = place
        return found

    def tell(self) -> None:
        """Tell listeners whose presence is another one than they were told last. To be called every now and then too,
        since what was said ends by itself.
        """
        shown = dict(self.here())
        before, self._shown = self._shown, shown
        for member in {*before, *shown}:
            if (member in before, before.get(member)) != (member in shown, shown.get(member)):
                self._replica.announce(PresenceChanged(member, member in shown, _place_of(shown.get(member))))
        self._forget_old()

    def _forget_old(self) -> None:
        """Keep of each device of the group what it said last, so that it is not heeded again, and of nobody else."""
        for device in [device for device in self._heard if self._replica.members.member_of(device) is None]:
            del self._heard[device]

    # --- what this device says

    def is_said(self) -> bool:
        """Whether this device says that its member is here."""
        members = self._replica.members
        me = members.member_of(self._replica.keys.id)
        return self.is_told and me is not None and self._is_small() and not self._profiles.get(me).quiet

    def typing(self, place: bytes) -> None:
        """The own member typed a letter just now: in the thread of a post, or in the feed."""
        now, is_new = self.now(), self.place() != place
        self._typing = place, now + TYPING_SECONDS
        if is_new or now - self._typed_at >= TYPING_SECONDS:
            self._typed_at = now
            self.times_typed += 1
            self._replica.announce(SyncWanted())

    def place(self) -> bytes | None:
        """Where the own member is typing; None where not."""
        return self._typing[0] if self._typing is not None and self._typing[1] > self.now() else None

    def _is_small(self) -> bool:
        members = self._replica.members
        return members.has_begun and len(members.roster.members) <= MAX_CAST_MEMBERS


def _place_of(place: bytes | None) -> str | None:
    return None if place is None else place.hex()
