"""An event as a member sees it, and when it is: what callers give as moments or days, and what documents hold.

Spec: specs/together.md §6.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from cocoon_core.errors import UsageError
from cocoon_core.protocol.constants import MAX_EVENT_DAYS
from cocoon_core.protocol.ids import MemberId
from cocoon_core.social.owned_view import LAST_MS

When = datetime | date  # a moment, with its time zone; or a whole day


@dataclass(frozen=True, slots=True)
class EventReply:
    """What a member replied last. `is_older`: before the event was changed."""

    member: str
    member_id: MemberId
    answer: str
    words: str
    time: datetime
    is_older: bool


@dataclass(frozen=True, slots=True)
class CalendarEvent:
    """An event.

    Attributes:
        begins, ends: in UTC. Of an event of whole days, midnight of the first day and of the one after the last,
            whatever the time zone: a day is a day. `ends` is None where nobody said.
        days: how many whole days, or 0.
        time: when it was written; `edited` when it was last changed, or None.
        replies: the newest of each member who is still one, by name.
    """

    id: str
    author: str
    author_id: MemberId
    name: str
    begins: datetime
    ends: datetime | None
    days: int
    place: str
    about: str
    cancelled: bool
    time: datetime
    edited: datetime | None
    replies: tuple[EventReply, ...]

    @property
    def last_day(self) -> date:
        """Of an event of whole days the last one; the calendar ends with the year 9999, whatever its maker wrote."""
        return (self.begins if self.ends is None else self.ends - timedelta(milliseconds=1)).date()


def span(begins: When, ends: When | None) -> dict[str, int]:
    """The keys of specs/together.md §6 that say when.

    Raises:
        UsageError: a day stands beside a moment, or it ends before it begins.
    """
    if not isinstance(begins, datetime):
        last = begins if ends is None else ends
        if isinstance(last, datetime):
            raise UsageError("an event that begins with a day ends with one")
        days = (last - begins).days + 1
        if not 1 <= days <= MAX_EVENT_DAYS:
            raise UsageError(f"the last day is the first or a later one, at most {MAX_EVENT_DAYS:,} days in all")
        return {"begins": to_ms(datetime(begins.year, begins.month, begins.day, tzinfo=UTC)), "days": days}
    first = to_ms(begins)
    if ends is None:
        return {"begins": first}
    if not isinstance(ends, datetime):
        raise UsageError("an event that begins at a time of day ends at one")
    end = to_ms(ends)
    if end <= first:
        raise UsageError("an event ends after it begins")
    return {"begins": first, "ends": end}


def moved_span(stood: CalendarEvent, begins: When | None, ends: When | None) -> dict[str, int]:
    """The same for an event that changes: what is not given stays, and an event that is moved keeps its length."""
    is_day = stood.days > 0
    if begins is None:
        return span(stood.begins.date() if is_day else stood.begins, ends)
    is_same = is_day is not isinstance(begins, datetime)
    if ends is None and stood.ends is not None and is_same:
        length = stood.ends - stood.begins
        try:
            ends = begins + (length - timedelta(days=1) if is_day else length)
        except OverflowError:
            raise UsageError("a time lies between 1970 and 9999") from None
    return span(begins, ends)


def to_ms(time: datetime) -> int:
    """A moment as documents hold it.

    Raises:
        UsageError: it has no time zone, or cannot be shown.
    """
    if time.tzinfo is None:
        raise UsageError("a time needs its time zone")
    ms = int(time.timestamp() * 1000)
    if not 0 <= ms <= LAST_MS:
        raise UsageError("a time lies between 1970 and 9999")
    return ms
