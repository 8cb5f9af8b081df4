"""How an operator writes a number, and how it is shown again: sizes, times, rates and counts, each with its unit.

`parse_…` takes what a configuration file gives (a number or text) or a command line and the environment (text), and
raises ValueError with what the value must be. What is shown can be read back. Implements relay/README.md.
"""

from __future__ import annotations

import re
from math import isfinite
from typing import Final

_SIZES: Final = {
    "b": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40,
    "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
}  # fmt: skip
_SHOWN_SIZES: Final = (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10))
_TIMES: Final = {
    "s": 1, "second": 1, "seconds": 1, "min": 60, "minute": 60, "minutes": 60, "h": 3600, "hour": 3600,
    "hours": 3600, "d": 86400, "day": 86400, "days": 86400,
}  # fmt: skip
_SHOWN_TIMES: Final = (("days", 86400), ("h", 3600), ("min", 60))
_NUMBER: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(.*)", re.ASCII)


def parse_count(value: object) -> int:
    """A whole number."""
    number, unit = _split(value)
    if unit or number != int(number):
        raise ValueError("is a whole number")
    return int(number)


def parse_size(value: object) -> int:
    """Bytes: `512 MiB`, or a number of bytes."""
    number, unit = _split(value)
    factor = _SIZES.get(unit.lower() or "b")
    if factor is None:
        raise ValueError("is a size such as 512 MiB, or a number of bytes")
    return round(number * factor)


def parse_time(value: object) -> float:
    """Seconds: `90 days`, `20 s`, or a number of seconds."""
    number, unit = _split(value)
    factor = _TIMES.get(unit.lower() or "s")
    if factor is None:
        raise ValueError("is a time such as 90 days, 2 h or 30 s, or a number of seconds")
    return number * factor


def parse_rate(value: object) -> float:
    """How many a second: `20/s`, `1000/day`, or a number."""
    number, unit = _split(value)
    per = _parse_per(unit)
    if per is None:
        raise ValueError("is a rate such as 20/s or 1000/day")
    return number / per


def parse_size_rate(value: object) -> float:
    """Bytes a second: `16 MiB/s`, `50 GiB/day`, or a number."""
    number, unit = _split(value)
    size, slash, rest = unit.partition("/")
    factor, per = _SIZES.get(size.strip().lower() or "b"), _parse_per(slash + rest)
    if factor is None or per is None:
        raise ValueError("is a rate such as 16 MiB/s or 50 GiB/day")
    return number * factor / per


def show_count(value: float) -> str:
    return str(int(value))


def show_size(value: float) -> str:
    """The largest unit that makes it a whole number."""
    for name, factor in _SHOWN_SIZES:
        if value and value % factor == 0:
            return f"{int(value // factor)} {name}"
    return f"{int(value)} B"


def show_time(value: float) -> str:
    if value == 86400:
        return "1 day"
    for name, factor in _SHOWN_TIMES:
        if value and value % factor == 0:
            return f"{int(value // factor)} {name}"
    return f"{_plain(value)} s"


def show_rate(value: float) -> str:
    a_day = value * 86400
    if value < 1 and abs(a_day - round(a_day)) < 1e-6:
        return f"{round(a_day)}/day"
    return f"{_plain(value)}/s"


def show_size_rate(value: float) -> str:
    a_day = round(value * 86400)
    if value % 1024 and a_day % 1024 == 0:
        return f"{show_size(a_day)}/day"
    return f"{show_size(value)}/s" if value == int(value) else f"{_plain(value)} B/s"


def _split(value: object) -> tuple[float, str]:
    """A number and its unit."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("is a number")
    if not isinstance(value, str):
        if not isfinite(value) or value < 0:
            raise ValueError("is a number, and not negative")
        return value, ""
    found = _NUMBER.fullmatch(value.strip().replace("_", ""))
    if found is None:
        raise ValueError("begins with a number, and is not negative")
    return float(found[1]) if "." in found[1] else int(found[1]), found[2].strip()


def _plain(value: float) -> str:
    """Digits without an exponent."""
    return f"{value:.9f}".rstrip("0").rstrip(".")


def _parse_per(text: str) -> int | None:
    if not text:
        return 1
    return _TIMES.get(text[1:].strip().lower()) if text.startswith("/") else None
