"""Leases: what outlived its own is condemned in one transaction and removed in small ones.

Each step runs in the writer's transaction, so no put waits long for it. Implements specs/relay.md §5.4.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from typing import Final

from cocoon_core.protocol.ids import TopicId
from cocoon_relay.limits import Limits
from cocoon_relay.sqlite_schema import place_of
from cocoon_relay.store import Collected

_ROWS_A_STEP: Final = 2_000
_BLOBS_A_STEP: Final = 256


def collect_step(db: sqlite3.Connection, limits: Limits, now: int) -> Collected | None:
    """Do a little of what is due; None when nothing is."""
    return (
        _purge_condemned(db)
        or _condemn_topic(db, limits, now)
        or _trim_sealed(db, limits, now)
        or _condemn_blobs(db, limits, now)
    )


def _purge_condemned(db: sqlite3.Connection) -> Collected | None:
    row = db.execute("SELECT low, high FROM condemned LIMIT 1").fetchone()
    if row is None:
        return None
    removed = db.execute(
        "DELETE FROM entries WHERE place IN (SELECT place FROM entries WHERE place BETWEEN ? AND ? LIMIT ?)",
        (*row, _ROWS_A_STEP),
    ).rowcount
    if removed < _ROWS_A_STEP:
        db.execute("DELETE FROM condemned WHERE low = ?", (row[0],))
        db.execute("PRAGMA incremental_vacuum(1000)").fetchall()
    return Collected(entries=removed)


def _condemn_topic(db: sqlite3.Connection, limits: Limits, now: int) -> Collected | None:
    """Take one expired topic out of sight, whole."""
    row = db.execute(
        "SELECT number, first, last, bytes FROM topics WHERE (NOT sealed AND touched < ?)"
        " OR (last = 0 AND touched < ?) OR touched < ? LIMIT 1",
        (now - limits.topic_lease, now - limits.empty_topic_lease, now - limits.last_envelope_lease),
    ).fetchone()
    if row is None:
        return None
    return _condemn(db, *row)


def condemn_topics(db: sqlite3.Connection, topics: Collection[TopicId] | None) -> Collected:
    """Take topics out of sight now, whatever their lease: these, or all that are sealed. Others change nothing."""
    rows = db.execute("SELECT number, first, last, bytes, topic, sealed FROM topics").fetchall()
    wanted = [row[:4] for row in rows if (row[5] if topics is None else TopicId(row[4]) in topics)]
    for row in wanted:
        _condemn(db, *row)
    return Collected(topics=len(wanted))


def _condemn(db: sqlite3.Connection, number: int, first: int, last: int, size: int) -> Collected:
    db.execute("DELETE FROM hashes WHERE topic = ?", (number,))
    db.execute("DELETE FROM topics WHERE number = ?", (number,))
    db.execute("INSERT INTO condemned VALUES (?, ?)", (place_of(number, 0), place_of(number, last)))
    _subtract(db, topics=1, entries=last - first + 1, size=size)
    return Collected(topics=1)


def _trim_sealed(db: sqlite3.Connection, limits: Limits, now: int) -> Collected | None:
    """Keep the last envelope of one sealed topic, which leads to the next epoch."""
    row = db.execute(
        "SELECT number, first, last, bytes FROM topics WHERE sealed AND first < last AND touched < ? LIMIT 1",
        (now - limits.topic_lease,),
    ).fetchone()
    if row is None:
        return None
    number, first, last, size = row
    (kept,) = db.execute("SELECT length(envelope) FROM entries WHERE place = ?", (place_of(number, last),)).fetchone()
    db.execute("DELETE FROM hashes WHERE topic = ? AND seq < ?", (number, last))
    db.execute("UPDATE topics SET first = last, bytes = ? WHERE number = ?", (kept, number))
    db.execute("INSERT INTO condemned VALUES (?, ?)", (place_of(number, 0), place_of(number, last - 1)))
    _subtract(db, topics=0, entries=last - first, size=size - kept)
    return Collected()


def _condemn_blobs(db: sqlite3.Connection, limits: Limits, now: int) -> Collected | None:
    """Take expired blobs out of sight; their bytes are removed afterwards."""
    rows = db.execute(
        "SELECT hash, size, place FROM blobs WHERE touched < ? LIMIT ?", (now - limits.blob_lease, _BLOBS_A_STEP)
    ).fetchall()
    if not rows:
        return None
    for name, size, place in rows:
        remove_blob(db, name, size)
        db.execute("INSERT OR IGNORE INTO condemned_blobs VALUES (?)", (place or name.hex(),))
    return Collected(blobs=len(rows))


def remove_blob(db: sqlite3.Connection, name: bytes, size: int) -> None:
    """Strike one blob from the ledger."""
    db.execute("DELETE FROM blobs WHERE hash = ?", (name,))
    db.execute("UPDATE totals SET blobs = blobs - 1, blob_bytes = blob_bytes - ?", (size,))


def _subtract(db: sqlite3.Connection, *, topics: int, entries: int, size: int) -> None:
    db.execute(
        "UPDATE totals SET topics = topics - ?, entries = entries - ?, bytes = bytes - ?", (topics, entries, size)
    )
