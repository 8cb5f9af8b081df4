"""Leases on PostgreSQL: what outlived its own goes, one short transaction each, however many nodes do it at once.

A row is locked before it is judged, and one that another transaction holds is passed over: whoever holds it renews the
lease, or collects it. So a lease that was renewed a moment before is seen, and two nodes never remove the same thing
twice. Implements specs/relay.md §5.4.
"""

from __future__ import annotations

from typing import Any, Final

from cocoon_relay.limits import Limits
from cocoon_relay.postgres_schema import Connection
from cocoon_relay.store import Collected

_BLOBS_A_STEP: Final = 256

_EXPIRED_TOPIC: Final = """
    SELECT number, first, last, bytes FROM topics
    WHERE (NOT sealed AND touched < $1) OR (last = 0 AND touched < $2) OR touched < $3
    LIMIT 1 FOR UPDATE SKIP LOCKED
"""
_ENDED_TOPIC: Final = """
    SELECT number, first, last, bytes FROM topics WHERE sealed AND first < last AND touched < $1
    LIMIT 1 FOR UPDATE SKIP LOCKED
"""
_CONDEMN_BLOBS: Final = f"""
    WITH due AS (
        SELECT hash FROM blobs WHERE touched < $1 LIMIT {_BLOBS_A_STEP} FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM blobs USING due WHERE blobs.hash = due.hash RETURNING blobs.place, blobs.size
    ), named AS (
        INSERT INTO condemned_blobs SELECT place FROM gone ON CONFLICT DO NOTHING
    ), counted AS (
        UPDATE totals SET blobs = blobs - (SELECT count(*) FROM gone),
            blob_bytes = blob_bytes - (SELECT coalesce(sum(size), 0) FROM gone)
        WHERE slot = $2
    )
    SELECT count(*) FROM gone
"""


async def collect_step(db: Connection, limits: Limits, now: int, slot: int) -> Collected | None:
    """Do a little of what is due; None when nothing is."""
    leases = (now - limits.topic_lease, now - limits.empty_topic_lease, now - limits.last_envelope_lease)
    async with db.transaction():
        topic = await db.fetchrow(_EXPIRED_TOPIC, *leases)
        if topic is not None:
            await remove_topic(db, topic, slot)
            return Collected(topics=1, entries=topic["last"] - topic["first"] + 1)
    async with db.transaction():
        topic = await db.fetchrow(_ENDED_TOPIC, leases[0])
        if topic is not None:
            return Collected(entries=await _trim(db, topic, slot))
    blobs = await db.fetchval(_CONDEMN_BLOBS, now - limits.blob_lease, slot)
    return Collected(blobs=blobs) if blobs else None


async def remove_topic(db: Connection, topic: Any, slot: int) -> None:
    """Remove a topic whose row is locked; `topic` is number, first, last and bytes of it."""
    number, first, last, size = topic
    await db.execute("DELETE FROM entries WHERE topic = $1", number)
    await db.execute("DELETE FROM topics WHERE number = $1", number)
    await _subtract(db, slot, 1, last - first + 1, size)


async def _trim(db: Connection, topic: Any, slot: int) -> int:
    """Keep the last envelope of a sealed topic, which leads to the next epoch."""
    number, first, last, size = topic
    kept = await db.fetchval("SELECT octet_length(envelope) FROM entries WHERE topic = $1 AND seq = $2", number, last)
    await db.execute("DELETE FROM entries WHERE topic = $1 AND seq < $2", number, last)
    await db.execute("UPDATE topics SET first = last, bytes = $2 WHERE number = $1", number, kept)
    await _subtract(db, slot, 0, last - first, size - kept)
    return int(last - first)


async def _subtract(db: Connection, slot: int, topics: int, entries: int, size: int) -> None:
    await db.execute(
        "UPDATE totals SET topics = topics - $2, entries = entries - $3, bytes = bytes - $4 WHERE slot = $1",
        slot, topics, entries, size,
    )  # fmt: skip
