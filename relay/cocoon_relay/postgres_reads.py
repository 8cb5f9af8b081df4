"""What is read of a topic on PostgreSQL. A read is bounded in rows and in bytes, and the database does the bounding: no
more is sent to this process than goes on to a reader.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cocoon_core.protocol.frames import ErrorCode, name_envelope
from cocoon_relay.postgres_schema import Connection, number_of
from cocoon_relay.refusal import Refusal
from cocoon_relay.store import MOST_NAMED_BYTES, Batch, Names, TopicInfo

# `before` is the bytes of what comes before a row: the first is always given. The length of an envelope is known
# without reading it.
_READ: Final = """
    SELECT seq, envelope FROM (
        SELECT seq, envelope, sum(octet_length(envelope)) OVER (ORDER BY seq) - octet_length(envelope) AS before
        FROM (
            SELECT seq, envelope FROM entries WHERE topic = $1 AND seq > $2 ORDER BY seq LIMIT $3
        ) AS next
    ) AS sized
    WHERE before = 0 OR before + octet_length(envelope) <= $4 ORDER BY seq
"""
_PLACES: Final = """
    SELECT envelope FROM (
        SELECT wanted.position, entries.envelope,
            sum(coalesce(octet_length(entries.envelope), 0)) OVER (ORDER BY wanted.position) AS total
        FROM unnest($2::bigint[]) WITH ORDINALITY AS wanted (seq, position)
        LEFT JOIN entries ON entries.topic = $1 AND entries.seq = wanted.seq
    ) AS sized
    WHERE position = 1 OR total <= $3 ORDER BY position
"""


async def read_batch(db: Connection, handle: int, after: int, max_entries: int, max_bytes: int) -> Batch:
    rows = await db.fetch(_READ, number_of(handle), after, max_entries, max_bytes)
    return Batch(rows[0]["seq"] if rows else after + 1, tuple(row["envelope"] for row in rows))


async def list_names(db: Connection, info: TopicInfo, after: int, most: int, salt: bytes) -> Names:
    first, last = await _bounds(db, info)
    start = max(min(after, last) + 1, first)
    batch = await read_batch(db, info.handle, start - 1, most, MOST_NAMED_BYTES)
    # What another node has put since the bounds were read is named by the next `list`.
    return Names(
        batch.first, tuple(name_envelope(salt, one) for one in batch.envelopes[: max(0, last + 1 - batch.first)])
    )


async def read_places(
    db: Connection, info: TopicInfo, places: Sequence[int], max_bytes: int
) -> tuple[bytes | None, ...]:
    await _bounds(db, info)
    rows = await db.fetch(_PLACES, number_of(info.handle), list(places), max_bytes)
    return tuple(row["envelope"] for row in rows)


async def _bounds(db: Connection, info: TopicInfo) -> tuple[int, int]:
    row = await db.fetchrow("SELECT first, last FROM topics WHERE number = $1", number_of(info.handle))
    if row is None:
        raise Refusal(ErrorCode.NOT_OPEN, "the topic has expired; open it again")
    return row["first"], row["last"]
