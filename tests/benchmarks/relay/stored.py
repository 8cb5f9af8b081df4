"""Databases that hold much already, written at once: for what a put costs when a relay has been in use for long."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from cocoon_relay.sqlite_schema import DATABASE_NAME, connect_writer, migrate, place_of
from tests.benchmarks.relay.speaking import ENTRY_BYTES, key_of

_PORTION: Final = 20_000


def write_store(folder: Path, *, topics: int, entries: int, active: list[int]) -> None:
    """`topics` topics with `entries` entries in all, evenly. Those of the load are spread among them.

    The entries are not hashed: their names are random, as those of real ones are to a relay. All of them stand in the
    table, as after long use: so each put has to be looked up there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    chance = random.Random(topics * 31 + entries)
    spread = dict(zip(chance.sample(range(1, topics + 1), len(active)), active, strict=True))
    each = max(1, entries // topics)
    hour = int(time.time()) // 3600 * 3600
    with closing(connect_writer(folder / DATABASE_NAME)) as db:
        migrate(db)
        db.execute("PRAGMA synchronous = OFF")

        def topic_rows() -> Iterator[tuple[int, bytes, bytes, int, int, int, int]]:
            for number in range(1, topics + 1):
                name = key_of(spread[number]).public if number in spread else chance.randbytes(32)
                yield number, name, chance.randbytes(16), each, each * ENTRY_BYTES, hour, each

        _insert(db, "topics (number, topic, incarnation, last, bytes, touched, indexed)", topic_rows())
        _insert(
            db,
            "entries (place, envelope)",
            (
                (place_of(number, seq), chance.randbytes(ENTRY_BYTES))
                for number in range(1, topics + 1)
                for seq in range(1, each + 1)
            ),
        )
        _insert(
            db,
            "hashes (topic, hash, seq)",
            (
                (number, name, seq)
                for number in range(1, topics + 1)
                for seq, name in enumerate(sorted(chance.randbytes(32) for _ in range(each)), start=1)
            ),
        )
        stored = topics * each
        db.execute("UPDATE totals SET topics = ?, entries = ?, bytes = ?", (topics, stored, stored * ENTRY_BYTES))


def _insert(db: sqlite3.Connection, table: str, rows: Iterator[tuple[object, ...]]) -> None:
    marks = ",".join("?" * (table.count(",") + 1))
    portion: list[tuple[object, ...]] = []

    def write() -> None:
        db.execute("BEGIN")
        db.executemany(f"INSERT INTO {table} VALUES ({marks})", portion)
        db.execute("COMMIT")
        portion.clear()

    for row in rows:
        portion.append(row)
        if len(portion) == _PORTION:
            write()
    write()
