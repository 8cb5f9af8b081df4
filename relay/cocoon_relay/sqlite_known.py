"""What the writer knows of topics: how each stands, and the hashes of the envelopes that it holds, so that a put which
is repeated is known.

A row for each hash in a sorted table would be most of what a put writes: hashes are spread evenly, so each row is a
page of its own in the log of the database. So the hashes of a topic's newest envelopes, its tail, are kept in memory
alone, and are computed again from the envelopes after a restart. When a tail has grown, all of it goes into the table
at once, in the table's order. Implements specs/relay.md §5.2.
"""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from cocoon_relay.limits import MIB
from cocoon_relay.puts import PutJob, TopicLog
from cocoon_relay.sqlite_schema import place_of
from cocoon_relay.store import hash_envelope

_TAIL_NAMES: Final = 16_384  # hashes of one topic in memory
_TAIL_BYTES: Final = 4 * MIB  # of their envelopes: what is read after a restart
_KNOWN: Final = 131_072  # topics and hashes in memory in all: about 25 MB
_WORTH_WRITING: Final = 64  # hashes; fewer are computed again when they are needed
# Rows of one statement, or up to the last of these. Few forms, so that their plans stay cached; and few statements,
# since each lets go of the interpreter and waits for it again.
_ROWS_AT_ONCE: Final = (1024, 256, 64, 16)

SELECT_TOPIC: Final = "SELECT first, last, bytes, sealed, indexed, touched FROM topics WHERE number = ?"
SELECT_TAIL: Final = "SELECT place, envelope FROM entries WHERE place BETWEEN ? AND ? ORDER BY place"
SELECT_HASHES: Final = (
    "WITH wanted (topic, hash) AS (VALUES {}) SELECT hashes.topic, hashes.hash, hashes.seq"
    " FROM wanted CROSS JOIN hashes ON hashes.topic = wanted.topic AND hashes.hash = wanted.hash"
)
_INSERT_HASHES: Final = "INSERT INTO hashes (topic, hash, seq) VALUES {}"
_UPDATE_INDEXED: Final = "UPDATE topics SET indexed = ? WHERE number = ? AND indexed = ? AND last = ?"


@dataclass(slots=True)
class _Known:
    """One topic. `names` are those of the envelopes after `indexed` up to `last`, some before `first` perhaps."""

    seen: int  # the state of the database in which its row was read or written
    first: int
    last: int
    size: int  # bytes of envelopes
    sealed: bool
    indexed: int  # up to which the table has hashes
    tail_size: int  # bytes of the envelopes after `indexed`
    names: dict[bytes, int]
    touched: int  # the hour in which it is known to have been touched


class KnownTopics:
    """Used by the writer's thread alone. What it knows is as the database is after a commit, or is read again."""

    def __init__(self) -> None:
        self._known: OrderedDict[int, _Known] = OrderedDict()
        self._weight = 0
        self._state = 0
        self._version: int | None = None
        self._grown: list[tuple[int, _Known]] = []  # topics as this transaction leaves them

    def begin(self, db: sqlite3.Connection, *, touched: bool) -> None:
        """Note in a transaction whether another process wrote, or this one something else than puts (`touched`)."""
        (version,) = db.execute("PRAGMA data_version").fetchone()
        if touched or version != self._version:
            self._state += 1
            self._version = version

    def load(self, db: sqlite3.Connection, jobs: Sequence[PutJob]) -> dict[int, TopicLog]:
        """The topics of these puts by handle, each with those of the envelopes to be put that it holds."""
        logs: dict[int, TopicLog] = {}
        wanted: list[Any] = []
        for job in jobs:
            handle = job.info.handle
            known = self._known.get(handle)
            if known is None or known.seen != self._state:
                known = self._look(db, handle, known)
                if known is None:
                    continue
            log = logs.get(handle)
            if log is None:
                log = logs[handle] = TopicLog(job.info, known.first, known.last, known.size, known.sealed)
            for name in job.hashes:
                seq = known.names.get(name)
                if seq is not None and seq >= known.first:
                    log.known[name] = seq
                elif known.indexed >= known.first:
                    wanted += handle, name
        for statement, rows in portions(SELECT_HASHES, wanted, 2):
            for handle, name, seq in db.execute(statement, rows):
                logs[handle].known[name] = seq
        return logs

    def add(self, db: sqlite3.Connection, log: TopicLog, hour: int) -> tuple[int, bool]:
        """Take in what a transaction of this hour makes of a topic; up to where the table has its hashes then, and
        whether the topic is known to have been touched in this hour.
        """
        number = log.info.handle
        known = self._known[number]
        size = known.tail_size + log.added_size
        names = dict(zip(log.added_hashes, range(log.first_added, log.last + 1), strict=True))
        indexed = known.indexed
        if len(known.names) + len(names) > _TAIL_NAMES or size > _TAIL_BYTES:
            _write(db, number, known.names | names)
            indexed, size, names = log.last, 0, {}
        grown = _Known(self._state, log.first, log.last, log.size, log.sealed, indexed, size, names, hour)
        self._grown.append((number, grown))
        return indexed, known.touched >= hour

    def shrink(self, db: sqlite3.Connection) -> None:
        """Let go of what was not used for the longest time, as a part of the transaction."""
        if self._weight <= _KNOWN:
            return
        kept = {number for number, _ in self._grown}
        for number in [number for number in self._known if number not in kept]:
            if self._weight <= _KNOWN:
                break
            known = self._known[number]
            self._forget(number)
            if len(known.names) >= _WORTH_WRITING:
                values = (known.last, number, known.indexed, known.last)
                if db.execute(_UPDATE_INDEXED, values).rowcount:
                    _write(db, number, known.names)

    def settle(self) -> None:
        """The transaction is through: what it added is known from now on."""
        for number, grown in self._grown:
            before = self._known[number]
            self._weight += len(grown.names)
            if grown.indexed == before.indexed:
                before.names.update(grown.names)
                grown.names = before.names
            else:
                self._weight -= len(before.names)
            self._known[number] = grown
            self._known.move_to_end(number)
        self._grown.clear()

    def clear(self) -> None:
        """The transaction was undone, and with it perhaps what was read in it."""
        self._grown.clear()
        self._known.clear()
        self._weight = 0
        self._version = None

    def _forget(self, number: int) -> None:
        known = self._known.pop(number, None)
        if known is not None:
            self._weight -= 1 + len(known.names)

    def _look(self, db: sqlite3.Connection, number: int, before: _Known | None) -> _Known | None:
        """Read how a topic stands, and the hashes of its tail if they are not known."""
        row = db.execute(SELECT_TOPIC, (number,)).fetchone()
        if row is not None and before is not None and (before.last, before.indexed) == (row[1], row[4]):
            before.seen, before.first, before.size, before.sealed = self._state, row[0], row[2], bool(row[3])
            before.touched = row[5]
            return before
        self._forget(number)
        if row is None:
            return None
        first, last, size, sealed, indexed, touched = row
        names: dict[bytes, int] = {}
        tail_size = 0
        places = (place_of(number, max(indexed + 1, first)), place_of(number, last))
        for place, envelope in db.execute(SELECT_TAIL, places):
            names[hash_envelope(envelope)] = place - place_of(number, 0)
            tail_size += len(envelope)
        known = _Known(self._state, first, last, size, bool(sealed), indexed, tail_size, names, touched)
        self._known[number] = known
        self._weight += 1 + len(names)
        return known


def _write(db: sqlite3.Connection, number: int, names: dict[bytes, int]) -> None:
    values = [value for name, seq in sorted(names.items()) for value in (number, name, seq)]
    for statement, rows in portions(_INSERT_HASHES, values, 3):
        db.execute(statement, rows)


def portions(statement: str, values: Sequence[Any], columns: int) -> Iterator[tuple[str, Sequence[Any]]]:
    """Cut the values of rows, one after another, into the few lengths of _ROWS_AT_ONCE, each with its statement."""
    at, end = 0, len(values)
    for length in _ROWS_AT_ONCE:
        step = length * columns
        while end - at >= step:
            yield fill_in(statement, columns, length), values[at : at + step]
            at += step
    if at < end:
        yield fill_in(statement, columns, (end - at) // columns), values[at:]


@cache
def fill_in(statement: str, columns: int, rows: int) -> str:
    """The statement with the placeholders of so many rows in the place of {}."""
    row = "(" + ",".join("?" * columns) + ")"
    return statement.format(",".join([row] * rows))
