"""Group commit on PostgreSQL: what waits together is committed together, and acknowledged after the commit alone.

One task and one connection a node. The rows of the topics are locked in the order of their numbers, so two nodes that
put at once never wait for each other in a ring, and each sees what the other left. A transaction whose connection broke
is done again on a fresh one: its puts are known by their hashes, so what was committed after all is found to be stored.

Mostly one node alone puts into a topic, so it knows how the topic stands. Then one statement does it all, and is a
transaction by itself: it locks the topics, sees that they stand as this node believes and hold none of these hashes,
and writes. If not it writes nothing, and the puts are planned anew in a transaction that looks first. Implements
specs/relay.md §5.2 and §5.3.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from cocoon_core.protocol.frames import ErrorCode
from cocoon_relay.limits import MIB, Limits
from cocoon_relay.postgres_schema import FAULTS, Connection, Patience, connect, handle_of, number_of, refuse_database
from cocoon_relay.puts import PutJob, TopicLog, list_commits, plan_job
from cocoon_relay.refusal import Refusal
from cocoon_relay.store import CommitListener, Committed, round_to_hour, tell

_MAX_BATCH_BYTES: Final = 16 * MIB  # bytes of envelopes in one transaction
_MAX_BATCH_JOBS: Final = 4_096
_STORED_SECONDS: Final = 1.0
_TOPICS_BELIEVED: Final = 10_000

_LOCK_TOPICS: Final = (
    "SELECT number, first, last, bytes, sealed FROM topics WHERE number = ANY($1::bigint[]) ORDER BY number FOR UPDATE"
)
_FIND_HASHES: Final = (
    "SELECT wanted.topic, wanted.hash, entries.seq FROM unnest($1::bigint[], $2::bytea[]) AS wanted (topic, hash)"
    " JOIN entries ON entries.topic = wanted.topic AND entries.hash = wanted.hash"
)
_WRITE: Final = """
    WITH changed AS (
        UPDATE topics SET last = new.last, bytes = new.bytes, sealed = new.sealed, touched = greatest(touched, $5)
        FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::boolean[]) AS new (number, last, bytes, sealed)
        WHERE topics.number = new.number
    ), counted AS (
        UPDATE totals SET entries = entries + $7, bytes = bytes + $8 WHERE slot = $6
    )
    INSERT INTO entries (topic, seq, hash, envelope)
    SELECT * FROM unnest($9::bigint[], $10::bigint[], $11::bytea[], $12::bytea[])
"""
_WRITE_IF_UNCHANGED: Final = """
    WITH locked AS MATERIALIZED (
        SELECT topics.number FROM unnest($1::bigint[], $13::bigint[]) AS believed (number, last)
        JOIN topics ON topics.number = believed.number
        WHERE topics.last = believed.last AND NOT topics.sealed ORDER BY topics.number FOR UPDATE OF topics
    ), held AS MATERIALIZED (
        SELECT FROM unnest($9::bigint[], $11::bytea[]) AS new (topic, hash)
        JOIN entries ON entries.topic = new.topic AND entries.hash = new.hash LIMIT 1
    ), good AS MATERIALIZED (
        SELECT WHERE (SELECT count(*) FROM locked) = cardinality($1::bigint[]) AND NOT EXISTS (SELECT FROM held)
    ), changed AS (
        UPDATE topics SET last = new.last, bytes = new.bytes, sealed = new.sealed, touched = greatest(touched, $5)
        FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::boolean[]) AS new (number, last, bytes, sealed), good
        WHERE topics.number = new.number
    ), counted AS (
        UPDATE totals SET entries = entries + $7, bytes = bytes + $8 FROM good WHERE slot = $6
    ), added AS (
        INSERT INTO entries (topic, seq, hash, envelope)
        SELECT new.* FROM good, unnest($9::bigint[], $10::bigint[], $11::bytea[], $12::bytea[])
            AS new (topic, seq, hash, envelope)
    )
    SELECT count(*) FROM good
"""


class PostgresWriter:
    """Owns the connection that puts go through. Make it inside the event loop."""

    def __init__(self, url: str, slot: int, shard: int, clock: Callable[[], float]) -> None:
        self._url = url
        self._slot = slot
        self._shard = shard
        self._clock = clock
        self._jobs: deque[PutJob] = deque()
        self._arrived = asyncio.Event()
        self._listeners: list[CommitListener] = []
        self._connection: Connection | None = None
        self._believed: OrderedDict[int, TopicLog] = OrderedDict()  # by handle: topics as this node left them
        self._stored_checked = -_STORED_SECONDS
        self._stored = 0  # bytes of envelopes and blobs kept
        self._closing = False
        self.backlog_bytes = 0
        self.commits = 0
        self._task = asyncio.create_task(self._work())

    def listen(self, listener: CommitListener) -> None:
        self._listeners.append(listener)

    def submit(self, job: PutJob) -> None:
        """Queue a put; its future is set once it is durable."""
        if self._closing:
            raise Refusal(ErrorCode.SHUTTING_DOWN, "the relay is shutting down", retry_after_ms=1_000)
        self.backlog_bytes += job.size
        self._jobs.append(job)
        self._arrived.set()

    async def close(self) -> None:
        """Do what is queued, then let go of the connection."""
        self._closing = True
        self._arrived.set()
        await self._task
        await self._drop_connection()

    # --- the task

    async def _work(self) -> None:
        while True:
            await self._arrived.wait()
            jobs, size = self._take()
            if jobs:
                await self._commit(jobs)
                self.backlog_bytes -= size
            elif self._closing:
                return
            else:
                self._arrived.clear()

    def _take(self) -> tuple[list[PutJob], int]:
        jobs: list[PutJob] = []
        size = 0
        while self._jobs and len(jobs) < _MAX_BATCH_JOBS and size < _MAX_BATCH_BYTES:
            jobs.append(self._jobs.popleft())
            size += jobs[-1].size
        return jobs, size

    async def _commit(self, jobs: Sequence[PutJob]) -> None:
        """Do all jobs in one transaction, again and again while what fails is passing."""
        patience = Patience()
        while True:
            try:
                outcomes, committed = await self._try(jobs)
                break
            except Exception as error:
                await self._drop_connection()
                if not await patience.waits_out(error):
                    answer = refuse_database(error) if isinstance(error, FAULTS) else error
                    outcomes, committed = [answer] * len(jobs), []
                    break
        self.commits += 1
        tell(self._listeners, committed, zip([job.future for job in jobs], outcomes, strict=True))

    async def _try(self, jobs: Sequence[PutJob]) -> tuple[list[Sequence[int | Refusal] | Exception], list[Committed]]:
        if self._connection is None or self._connection.is_closed():
            self._connection = await connect(self._url, "writer")
        db = self._connection
        await self._look_at_totals(db, jobs)
        return await self._try_at_once(db, jobs) or await self._try_looking_first(db, jobs)

    async def _try_at_once(
        self, db: Connection, jobs: Sequence[PutJob]
    ) -> tuple[list[Sequence[int | Refusal] | Exception], list[Committed]] | None:
        """In one statement, if the topics stand as this node believes; None if they do not, and nothing was written."""
        logs: dict[int, TopicLog] = {}
        for job in jobs:
            handle = job.info.handle
            if handle not in logs:
                believed = self._believed.get(handle)
                if believed is None:
                    return None
                logs[handle] = replace(believed, known={}, added=[], added_hashes=[], added_size=0, changed=False)
        before = {handle: log.last for handle, log in logs.items()}
        try:
            outcomes: list[Sequence[int | Refusal] | Exception] = [
                self._plan(logs[job.info.handle], job) for job in jobs
            ]
        except Refusal:
            return None  # what this node believes may be out of date
        if any(isinstance(one, Refusal) for outcome in outcomes if isinstance(outcome, list) for one in outcome):
            return None
        changed = list(logs.values())
        parameters = self._parameters(changed)
        if not await db.fetchval(_WRITE_IF_UNCHANGED, *parameters, [before[log.info.handle] for log in changed]):
            return None
        self._believe(logs)
        return outcomes, list_commits(changed)

    async def _try_looking_first(
        self, db: Connection, jobs: Sequence[PutJob]
    ) -> tuple[list[Sequence[int | Refusal] | Exception], list[Committed]]:
        for job in jobs:
            self._believed.pop(job.info.handle, None)
        outcomes: list[Sequence[int | Refusal] | Exception] = []
        async with db.transaction():
            logs = await self._load_logs(db, jobs)
            for job in jobs:
                try:
                    outcomes.append(self._plan(logs.get(job.info.handle), job))
                except Refusal as refusal:
                    outcomes.append(refusal)
            changed = [log for log in logs.values() if log.changed]
            if changed:
                await db.execute(_WRITE, *self._parameters(changed))
        self._believe(logs)
        return outcomes, list_commits(changed)

    async def _load_logs(self, db: Connection, jobs: Sequence[PutJob]) -> dict[int, TopicLog]:
        """The topics of these puts, locked, by handle."""
        infos = {number_of(job.info.handle): job.info for job in jobs}
        logs: dict[int, TopicLog] = {}
        for number, first, last, size, sealed in await db.fetch(_LOCK_TOPICS, list(infos)):
            logs[handle_of(number, self._shard)] = TopicLog(infos[number], first, last, size, sealed)
        wanted = [(number_of(job.info.handle), name) for job in jobs if job.info.handle in logs for name in job.hashes]
        if wanted:
            # A statement of its own, after the lock: it sees what another node committed while this one waited.
            numbers, names = zip(*wanted, strict=True)
            for number, name, seq in await db.fetch(_FIND_HASHES, numbers, names):
                logs[handle_of(number, self._shard)].known[name] = seq
        return logs

    def _plan(self, log: TopicLog | None, job: PutJob) -> Sequence[int | Refusal]:
        return plan_job(log, job, self._is_full)

    def _parameters(self, logs: Sequence[TopicLog]) -> list[Any]:
        """What both forms of the write take."""
        entries = [
            (number_of(log.info.handle), log.first_added + index, name, item)
            for log in logs
            for index, (name, item) in enumerate(zip(log.added_hashes, log.added, strict=True))
        ]
        return [
            [number_of(log.info.handle) for log in logs],
            [log.last for log in logs],
            [log.size for log in logs],
            [log.sealed for log in logs],
            round_to_hour(self._clock()),
            self._slot,
            len(entries),
            sum(log.added_size for log in logs),
            *(map(list, zip(*entries, strict=True)) if entries else ([], [], [], [])),
        ]

    def _believe(self, logs: dict[int, TopicLog]) -> None:
        """Keep in mind how these topics stand now that the transaction is through."""
        for handle, log in logs.items():
            self._believed[handle] = replace(log, known={}, added=[], added_hashes=[], added_size=0)
            self._believed.move_to_end(handle)
        while len(self._believed) > _TOPICS_BELIEVED:
            self._believed.popitem(last=False)

    async def _look_at_totals(self, db: Connection, jobs: Sequence[PutJob]) -> None:
        """How much is stored in all, where someone's limits ask for it; a second old at most."""
        now = time.monotonic()
        if now - self._stored_checked >= _STORED_SECONDS and any(job.limits.stored_bytes for job in jobs):
            self._stored = await db.fetchval("SELECT sum(bytes + blob_bytes)::bigint FROM totals")
            self._stored_checked = now

    def _is_full(self, limits: Limits) -> bool:
        return 0 < limits.stored_bytes <= self._stored

    async def _drop_connection(self) -> None:
        self._believed.clear()
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(*FAULTS):
                await connection.close(timeout=2.0)
