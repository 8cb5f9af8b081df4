"""Times as the tables hold them, in ms since 1970, and as people and documents name them: in UTC."""

from __future__ import annotations

from datetime import UTC, datetime


def time_of(time_ms: int) -> datetime:
    """A time of a table."""
    return datetime.fromtimestamp(time_ms / 1000, UTC)


def month_of(time_ms: int) -> str:
    """The month that it lies in, as YYYY-MM."""
    return time_of(time_ms).strftime("%Y-%m")
