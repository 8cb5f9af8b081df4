"""Events as an iCalendar file (RFC 5545), for the calendars that people use elsewhere. Implements specs/together.md §7.

What members wrote is escaped, so no text of theirs can end its line and begin another. Who comes stays here: the file
names nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Final

from cocoon_core.social.event import CalendarEvent

_LINE_BYTES: Final = 75  # of one line without its end; what is longer goes on in the next, behind a space
_HEAD: Final = ("BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//Cocoon//Cocoon//EN", "CALSCALE:GREGORIAN")


def write_calendar(events: Iterable[CalendarEvent]) -> str:
    """The whole file; every line ends in CRLF, as the format wants it."""
    return "".join(calendar_pieces(events))


def calendar_pieces(events: Iterable[CalendarEvent]) -> Iterator[str]:
    """The same, a line after the other."""
    yield from map(_fold, _HEAD)
    for event in events:
        yield from map(_fold, _event(event))
    yield _fold("END:VCALENDAR")


def _event(event: CalendarEvent) -> list[str]:
    lines = [
        "BEGIN:VEVENT",
        f"UID:{event.id}",
        f"DTSTAMP:{_moment(event.edited or event.time)}",
        f"DTSTART{_when(event.begins, event.days)}",
    ]
    if event.ends is not None:
        lines.append(f"DTEND{_when(event.ends, event.days)}")
    for name, text in (("SUMMARY", event.name), ("LOCATION", event.place), ("DESCRIPTION", event.about)):
        if text:
            lines.append(f"{name}:{_escape(text)}")
    return [*lines, f"STATUS:{'CANCELLED' if event.cancelled else 'CONFIRMED'}", "END:VEVENT"]


def _when(time: datetime, days: int) -> str:
    """A day, or a moment in UTC."""
    return f";VALUE=DATE:{time:%Y%m%d}" if days else f":{_moment(time)}"


def _moment(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y%m%dT%H%M%S}Z"


def _escape(text: str) -> str:
    for sign in "\\;,":
        text = text.replace(sign, f"\\{sign}")
    return "".join("\\n" if letter == "\n" else letter for letter in text if letter == "\n" or letter >= " ")


def _fold(line: str) -> str:
    """A line in pieces of at most 75 bytes, cut between characters."""
    pieces: list[str] = []
    piece, size = "", 0
    for letter in line:
        extent = len(letter.encode())
        if size + extent > _LINE_BYTES:
            pieces.append(piece)
            piece, size = " ", 1
        piece += letter
        size += extent
    return "\r\n".join([*pieces, piece]) + "\r\n"
