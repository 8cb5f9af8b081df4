"""Comparing safety numbers with another member, and the mark that it leaves. A part of `Group`.

It stands on membership, which shows the marks. A mark is this profile's own, is told to nobody, and names the devices
that were compared. As soon as the roster gives the member other ones, it no longer holds, and an alarm says so.
Spec: specs/verification.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from cocoon_core.errors import UnknownMemberError, UsageError
from cocoon_core.membership import Membership
from cocoon_core.protocol.ids import DeviceId, MemberId
from cocoon_core.protocol.safety_number import SafetyNumber, make_safety_number
from cocoon_core.storage.verifications import VerificationTable
from cocoon_core.sync.access import RelayAccess
from cocoon_core.sync.events import GroupEvent, RosterChanged
from cocoon_core.sync.replica import Replica
from cocoon_core.vault.content import ContentStore

ALARM = "verification"


class Mark(StrEnum):
    """What is known of another member's keys."""

    NONE = "none"
    VERIFIED = "verified"
    CHANGED = "changed"  # verified once, and the devices are others now


@dataclass(frozen=True, slots=True)
class SafetyInfo:
    """The safety number with one member, in words and digits, and the mark.

    Attributes:
        since: when the mark was set; None where there is none.
        change: which devices came and went since then, as a sentence's part; empty while the mark holds.
    """

    member: MemberId
    name: str
    words: tuple[str, ...]
    digits: str
    mark: str
    since: datetime | None
    change: str


class Verification(Membership):
    """The part of a group that is about being sure of each other's keys."""

    def __init__(self, replica: Replica, dial: RelayAccess, store: ContentStore) -> None:
        super().__init__(replica, dial, store)
        self._marks = VerificationTable(replica.database, replica.record.number)
        replica.listen(self._heard)

    def _heard(self, event: GroupEvent) -> None:
        if isinstance(event, RosterChanged):
            self.check_marks()

    def check_marks(self) -> None:
        """Clear, with an alarm, every mark of a member whose devices are not those that were compared.

        Called when a group is opened and whenever its roster changed.
        """
        roster = self._roster if self._replica.members.has_begun else None
        for mark in self._marks.all().values():
            member = None if roster is None else roster.members.get(mark.member)
            if member is None or mark.changed_ms is not None or frozenset(member.devices) == mark.devices:
                continue
            what = describe_change(mark.devices, member.devices)
            message = (
                f"the devices of {member.shown_name} are not those that you verified: {what}; "
                f"compare safety numbers again (`cocoon verify`)"
            )
            with self._replica.transaction():
                self._marks.note_changed(mark.member, self._replica.clock())
                self._replica.alarm(ALARM, mark.member.hex(), message)

    def mark_of(self, member: MemberId) -> Mark:
        """What is known of a member's keys."""
        found = self._marks.all().get(member)
        if found is None:
            return Mark.NONE
        current = self._roster.members.get(member)
        holds = found.changed_ms is None and current is not None and frozenset(current.devices) == found.devices
        return Mark.VERIFIED if holds else Mark.CHANGED

    def _has_other_keys(self, member: MemberId) -> bool:
        return self.mark_of(member) is Mark.CHANGED

    def _is_verified(self, member: MemberId) -> bool:
        return self.mark_of(member) is Mark.VERIFIED

    def safety_number(self, member: str | MemberId) -> SafetyInfo:
        """The number to be compared with what the member's own device shows for oneself.

        Raises:
            UnknownMemberError: there is no such member.
            UsageError: it is oneself, or somebody without a device.
        """
        target, number = self._number(member)
        current, found = self._roster.members[target], self._marks.all().get(target)
        return SafetyInfo(
            target,
            current.shown_name,
            number.words,
            number.digits,
            str(self.mark_of(target)),
            None if found is None else datetime.fromtimestamp(found.since_ms / 1000, UTC),
            "" if found is None else describe_change(found.devices, current.devices),
        )

    async def confirm_safety_number(self, member: str | MemberId, given: str | None = None) -> SafetyInfo:
        """Keep that the numbers were compared and are equal.

        Args:
            given: the number as the other side shows it, in digits or words; if given, it must be this one.

        Raises:
            UnknownMemberError, UsageError: as `safety_number`.
            UsageError: the given number is another one; no mark is set.
        """
        target, number = self._number(member)
        current = self._roster.members[target]
        if given is not None and not number.matches(given):
            raise UsageError(
                f"this is not the number that this device has for {current.shown_name}: one of you sees other devices, "
                f"or has not synced yet; if it stays so after a sync of both, somebody is in between"
            )
        with self._replica.transaction():
            self._marks.set(target, current.devices, self._replica.clock())
            self._end_alarm(target)
        return self.safety_number(target)

    async def forget_verification(self, member: str | MemberId) -> None:
        """Take a mark back."""
        target = member if isinstance(member, MemberId) else self.find_member(member)
        with self._replica.transaction():
            self._marks.forget(target)
            self._end_alarm(target)

    def _end_alarm(self, member: MemberId) -> None:
        self._replica.groups.end_alarm(self._replica.record.number, ALARM, member.hex())

    def _number(self, member: str | MemberId) -> tuple[MemberId, SafetyNumber]:
        me = self._require_me()
        target = member if isinstance(member, MemberId) else self.find_member(member)
        members = self._roster.members
        if target not in members:
            raise UnknownMemberError
        if target == me:
            raise UsageError("a safety number is for somebody else and you; name another member")
        if not members[target].devices:
            raise UsageError(f"{members[target].shown_name} has no device now, so there is nothing to compare")
        own, theirs = (me, members[me].devices), (target, members[target].devices)
        return target, make_safety_number(self._replica.group, own, theirs)


def describe_change(before: Iterable[DeviceId], after: Iterable[DeviceId]) -> str:
    """Which devices came and went, for people."""
    came, went = sorted({*after} - {*before}), sorted({*before} - {*after})
    named = (("new", came), ("gone", went))
    return "; ".join(f"{word}: {', '.join(device.hex()[:8] for device in some)}" for word, some in named if some)
