"""The one thread that writes: what waits together is committed together, and is acknowledged after the commit alone.

A transaction takes all jobs that wait, and those that usually come with them (inbox.py, company.py). Puts are checked
one after the other against the state that those before them leave; a refused one leaves nothing. If the disk fails, the
whole transaction is rolled back and every job in it is refused. Implements specs/relay.md §5.2.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shutil import disk_usage
from threading import Thread
from typing import Any, Final

from cocoon_core.protocol.frames import ErrorCode
from cocoon_relay.bell import Bell
from cocoon_relay.inbox import Inbox
from cocoon_relay.limits import MIB, Limits
from cocoon_relay.puts import PutJob, TopicLog, list_commits, plan_job
from cocoon_relay.refusal import Refusal
from cocoon_relay.sqlite_known import KnownTopics, portions
from cocoon_relay.sqlite_schema import connect_writer, place_of
from cocoon_relay.store import Answer, CommitListener, Committed, round_to_hour, tell
from cocoon_relay.uploads import refuse_disk

_MAX_BATCH_BYTES: Final = 16 * MIB  # bytes of envelopes in one transaction
_MAX_BATCH_JOBS: Final = 4_096
_FREE_SPACE_SECONDS: Final = 1.0

_UPDATE_TOPIC: Final = "UPDATE topics SET last = ?, bytes = ?, sealed = ?, indexed = ? WHERE number = ?"
# Apart, since to name a column is to write its index again, whatever is put into it.
_TOUCH_TOPIC: Final = "UPDATE topics SET touched = ? WHERE number = ? AND touched < ?"
_INSERT_ENTRIES: Final = "INSERT INTO entries (place, envelope) VALUES {}"

Outcome = tuple["Answer | asyncio.Future[Any]", Any]  # a result, or the exception to raise


@dataclass(slots=True, eq=False)
class CallJob:
    run: Callable[[sqlite3.Connection], Any]
    future: asyncio.Future[Any]
    number: int = 1
    size: int = 0


_Job = PutJob | CallJob


class SqliteWriter:
    """Owns the writing connection and its thread."""

    def __init__(self, path: Path, limits: Limits, clock: Callable[[], float]) -> None:
        self._path = path
        self._limits = limits
        self._clock = clock
        self._inbox: Inbox[_Job] = Inbox()
        self._listeners: list[CommitListener] = []
        self._db = connect_writer(path)  # which may fail, and the next is given back by `close` alone
        self._bell = Bell()
        self._known = KnownTopics()
        self._free_checked = -_FREE_SPACE_SECONDS
        self._free = self._stored = 0  # bytes of the disk left, bytes of envelopes and blobs kept
        self._written = 0  # bytes of envelopes since these two were looked at
        self._closing = False
        self.backlog_bytes = 0
        self.commits = 0
        self._thread = Thread(target=self._work, name="relay-writer", daemon=True)
        self._thread.start()

    def listen(self, listener: CommitListener) -> None:
        self._listeners.append(listener)

    def submit(self, job: _Job) -> None:
        """Queue a job; its future is set in the event loop."""
        if self._closing:
            raise Refusal(ErrorCode.SHUTTING_DOWN, "the relay is shutting down", retry_after_ms=1_000)
        self.backlog_bytes += job.size
        self._inbox.put(job)

    async def close(self) -> None:
        """Do what is queued, then end the thread."""
        if not self._closing:
            self._closing = True
            self._inbox.close()
        await asyncio.to_thread(self._thread.join)
        self._bell.close()
        with suppress(sqlite3.Error):
            self._db.close()

    # --- in the thread

    def _work(self) -> None:
        while jobs := self._inbox.take(_MAX_BATCH_JOBS, _MAX_BATCH_BYTES):
            outcomes, committed = self._commit(jobs)
            self._inbox.rest()
            size = sum(job.size for job in jobs)
            self._bell.ring(partial(self._deliver, outcomes, committed, size))

    def _commit(self, jobs: Sequence[_Job]) -> tuple[list[Outcome], list[Committed]]:
        """Do all jobs in one transaction."""
        outcomes: list[Outcome] = []
        try:
            self._db.execute("BEGIN IMMEDIATE")
            for job in jobs:
                if isinstance(job, CallJob):
                    try:
                        outcomes.append((job.future, job.run(self._db)))
                    except Refusal as refusal:
                        outcomes.append((job.future, refusal))
                    except OSError as error:
                        outcomes.append((job.future, refuse_disk(error)))
            puts = [job for job in jobs if isinstance(job, PutJob)]
            self._known.begin(self._db, touched=len(puts) < len(jobs))
            committed = self._append(puts, outcomes)
            self._db.execute("COMMIT")
        except Exception as error:
            self._known.clear()
            self._abandon(error)
            refusal_or_error = _refuse_database(error)
            return [(job.future, refusal_or_error) for job in jobs], []
        self._known.settle()
        return outcomes, committed

    def _append(self, jobs: Sequence[PutJob], outcomes: list[Outcome]) -> list[Committed]:
        """Plan every put in turn, then write what they add in as few statements as possible."""
        if not jobs:
            return []
        logs = self._known.load(self._db, jobs)
        for job in jobs:
            try:
                outcomes.append((job.future, self._plan(logs.get(job.info.handle), job)))
            except Refusal as refusal:
                outcomes.append((job.future, refusal))
        return self._write_logs([log for log in logs.values() if log.changed])

    def _plan(self, log: TopicLog | None, job: PutJob) -> Sequence[int | Refusal]:
        return plan_job(log, job, self._is_disk_low)

    def _is_disk_low(self, limits: Limits) -> bool:
        """Whether the reserve of these limits is reached; the disk is looked at once a second at most.

        What was written since counts twice: it goes into the log, and from there into the database.
        """
        now = time.monotonic()
        if now - self._free_checked >= _FREE_SPACE_SECONDS:
            self._free_checked = now
            self._free = disk_usage(self._path.parent).free
            (self._stored,) = self._db.execute("SELECT bytes + blob_bytes FROM totals").fetchone()
            self._written = 0
        is_low = self._free - 2 * self._written < limits.free_bytes
        return is_low or 0 < limits.stored_bytes <= self._stored + self._written

    def _write_logs(self, logs: Sequence[TopicLog]) -> list[Committed]:
        topics: list[tuple[int, ...]] = []
        touched: list[tuple[int, ...]] = []
        entries: list[Any] = []
        hour = round_to_hour(self._clock())
        for log in logs:
            number = log.info.handle
            for place, item in enumerate(log.added, place_of(number, log.first_added)):
                entries += place, item
            indexed, is_touched = self._known.add(self._db, log, hour)
            topics.append((log.last, log.size, log.sealed, indexed, number))
            if not is_touched:
                touched.append((hour, number, hour))
        size = sum(log.added_size for log in logs)
        self._written += size
        self._db.executemany(_UPDATE_TOPIC, topics)
        if touched:
            self._db.executemany(_TOUCH_TOPIC, touched)
        for statement, rows in portions(_INSERT_ENTRIES, entries, 2):
            self._db.execute(statement, rows)
        self._db.execute("UPDATE totals SET entries = entries + ?, bytes = bytes + ?", (len(entries) // 2, size))
        self._known.shrink(self._db)
        return list_commits(logs)

    def _abandon(self, error: Exception) -> None:
        """Roll back; after an error of the disk start from a fresh connection, which reads back what is durable."""
        with suppress(sqlite3.Error):
            self._db.execute("ROLLBACK")
        if isinstance(error, sqlite3.OperationalError):
            try:
                fresh = connect_writer(self._path)
            except sqlite3.Error:
                return  # the old connection may work again once the disk does
            with suppress(sqlite3.Error):
                self._db.close()
            self._db = fresh

    # --- in the event loop

    def _deliver(self, outcomes: list[Outcome], committed: list[Committed], size: int) -> None:
        self.backlog_bytes -= size
        self.commits += 1
        tell(self._listeners, committed, outcomes)
        self._inbox.look()


def _refuse_database(error: Exception) -> Exception:
    if isinstance(error, sqlite3.OperationalError):
        code = error.sqlite_errorcode & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return Refusal(ErrorCode.BUSY, "the relay's store is busy", retry_after_ms=1_000)
        if code == sqlite3.SQLITE_FULL:
            return Refusal(ErrorCode.FULL, "the relay's disk is full", retry_after_ms=60_000)
        return Refusal(ErrorCode.FULL, "the relay's disk cannot be written", retry_after_ms=60_000)
    return error
