"""Strings for people: what members wrote made harmless for a terminal, widths of columns, ages of things.

Members write names and texts, and a member may be hostile: escape sequences could retitle or repaint a terminal, bidi
controls could make words read backwards, a line break in a name could forge a line of output. Nothing from a member is
printed without `neutralise`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

_CONTROL_PICTURES = 0x2400  # U+2400 pictures the control character 0, and so on
_KEEP = {"\u200c", "\u200d"}  # the joiners that emoji, Persian and Indic scripts are written with
_INVISIBLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # controls, formats (bidi among them), lone surrogates, line separators
_AHEAD = timedelta(hours=1)  # clocks differ a little; more than this is shown


def neutralise(text: str) -> str:
    """The same words on one line with every character that could move, hide or reorder others made visible.

    C0 controls become their pictures (`␛`), all else that prints nothing becomes `<U+202E>`.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_neutralise_character(c) for c in text)


def _neutralise_character(c: str) -> str:
    if c in _KEEP or unicodedata.category(c) not in _INVISIBLE:
        return c
    if c < " ":
        return chr(_CONTROL_PICTURES + ord(c))
    return f"<U+{ord(c):04X}>"


def neutralise_lines(text: str) -> list[str]:
    """The lines of a text, each made harmless; tabs become spaces."""
    return [neutralise(line) for line in text.expandtabs(4).replace("\r\n", "\n").split("\n")]


def as_sentence(text: str) -> str:
    """An error's message with a capital, where it begins with a word, and a full stop."""
    first = text.split(" ", 1)[0]
    if first.isalpha() and first.islower():
        text = text[0].upper() + text[1:]
    return text if text.endswith((".", "?", "!", "…")) else f"{text}."


def shorten_id(identifier: str) -> str:
    """As much of an id as people need to name a thing: commands take any unique beginning."""
    return identifier[:8]


def wrap_words(text: str, width: int) -> list[str]:
    """A line as lines of at most so many columns, cut between words; a word that is longer stands whole."""
    if len(text) <= width // 2:
        return [text]
    from rich.cells import cell_len

    lines: list[str] = []
    room = 0
    for word in text.split(" "):
        taken = cell_len(word)
        if lines and taken < room:
            lines[-1] += f" {word}"
            room -= taken + 1
        else:
            lines.append(word)
            room = width - taken
    return lines


def display_width(text: str) -> int:
    """The columns that a text takes, wide characters counted as two."""
    from rich.cells import cell_len

    return cell_len(text)


def shorten(words: str, most: int) -> str:
    """The beginning of a text, where it is longer."""
    return words if len(words) <= most else f"{words[: most - 1]}…"


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as aligned lines, wide characters counted as two, with nothing after the last column."""
    from rich.cells import cell_len

    safe = [[neutralise(cell) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(*safe, strict=True)]
    return [
        "  ".join(cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in safe
    ]


def age(then: datetime, now: datetime) -> str:
    """How long ago, in the coarsest words that still help; a date beyond a week; a badge on what is in the future."""
    past = now - then
    if past < -_AHEAD:
        return f"{_date(then)} (in the future)"
    minutes = int(past.total_seconds() // 60)
    if minutes < 1:
        return "just now"
    if minutes < 60:
        return f"{minutes} min ago"
    if minutes < 24 * 60:
        return f"{minutes // 60} h ago"
    if past.days < 7:
        return f"{past.days} day{'s' if past.days > 1 else ''} ago"
    return _date(then)


def moment(then: datetime) -> str:
    """A time to be met, to the minute: `3 Dec 2026, 18:00`, in the time zone of this machine."""
    there = local_time(then)
    return f"{_date(there)}, {there:%H:%M}"


def local_time(then: datetime) -> datetime:
    """A time in the time zone of this machine; at the ends of the calendar, where that cannot be said, as it is."""
    try:
        return then.astimezone()
    except (OverflowError, OSError):
        return then


def hour_age(then: datetime, now: datetime) -> str:
    """How long ago, of what is known to the hour only: nothing finer is said."""
    return "this hour" if timedelta(0) <= now - then < timedelta(hours=1) else age(then, now)


def _date(then: datetime) -> str:
    return f"{then.day} {then:%b %Y}"


def timestamp(then: datetime) -> str:
    """The one form of a time in JSON: RFC 3339 in UTC with milliseconds."""
    return then.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def count(number: int, noun: str) -> str:
    """`1 post`, `2 posts`, `3 replies`, `4 days`."""
    if number == 1:
        return f"1 {noun}"
    return f"{number} {noun[:-1] + 'ies' if noun.endswith('ly') else noun + 's'}"


def size(number: int) -> str:
    """Bytes in the unit that keeps the figure short."""
    if number < 1024:
        return f"{number} B"
    if number < 1024 * 1024:
        return f"{number / 1024:.1f} KiB"
    if number < 1024**3:
        return f"{number / 1024 / 1024:.1f} MiB"
    return f"{number / 1024**3:.1f} GiB"


def duration_words(length: timedelta) -> str:
    """How long something plays: `0:07`, `12:30`, `1:02:03`."""
    seconds = int(length.total_seconds())
    hours, minutes = seconds // 3600, seconds // 60 % 60
    return f"{hours}:{minutes:02}:{seconds % 60:02}" if hours else f"{minutes}:{seconds % 60:02}"
