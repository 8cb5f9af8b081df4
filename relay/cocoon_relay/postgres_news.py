"""What one node tells the others: that topics have gone on, and casts. By NOTIFY, which may be lost.

A notification is a hint. It is sent after the commit, in a transaction of its own, since PostgreSQL lets only one
transaction with a notification commit at a time. A node that is told of a topic which someone has open there reads what
is new from the store, once, and hands it on as a commit of its own. What was not told, because a connection broke or a
node died between commit and hint, is found by asking for the ends of all topics that are open, every few seconds and
whenever the connection is made anew. Casts that are lost are lost, as everywhere.
"""

from __future__ import annotations

import asyncio
import logging
from base64 import b64decode, b64encode
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from secrets import token_hex
from typing import Any, Final

import asyncpg

from cocoon_core.protocol.ids import TopicId
from cocoon_relay.limits import KIB
from cocoon_relay.postgres_schema import CHANNEL, FAULTS, Connection, connect, describe_error, handle_of, number_of
from cocoon_relay.store import Batch, CastListener, CommitListener, Committed, TopicInfo, tell

_HINTS_KEPT: Final = 10_000  # of topics that nobody has open here, for who opens one just now
_HINTS_AT_ONCE: Final = 200  # topics in one notification, which holds 8,000 bytes at most
_CASTS_WAITING: Final = 256  # beyond, casts are dropped
_TOPICS_A_READ: Final = 32
_ENTRIES_A_READ: Final = 512  # of one topic
_BYTES_A_READ: Final = 128 * KIB  # of one topic, if one envelope alone is not more
_RECONNECT_SECONDS: Final = 1.0
_log = logging.getLogger("cocoon_relay")

_FIND_BEHIND: Final = (
    "SELECT topics.number FROM unnest($1::bigint[], $2::bigint[]) AS here (number, last)"
    " JOIN topics ON topics.number = here.number WHERE topics.last > here.last"
)
_READ_NEW: Final = """
    SELECT here.number, topics.topic, topics.last, topics.sealed, new.seq, new.envelope
    FROM unnest($1::bigint[], $2::bigint[]) AS here (number, last)
    JOIN topics ON topics.number = here.number
    CROSS JOIN LATERAL (
        SELECT seq, envelope FROM (
            SELECT seq, envelope, sum(octet_length(envelope)) OVER (ORDER BY seq) - octet_length(envelope) AS before
            FROM (
                SELECT seq, envelope FROM entries
                WHERE entries.topic = here.number AND seq > here.last ORDER BY seq LIMIT $3
            ) AS next
        ) AS sized
        WHERE before = 0 OR before + octet_length(envelope) <= $4
    ) AS new
    ORDER BY here.number, new.seq
"""


class PostgresNews:
    """The hints of one node, out and in. Make it inside the event loop."""

    def __init__(self, url: str, pool: asyncpg.Pool, shard: int, *, poll_seconds: float) -> None:
        self._url = url
        self._pool = pool
        self._shard = shard
        self._poll_seconds = poll_seconds
        self._node = token_hex(4)
        self._listeners: list[CommitListener] = []
        self._cast_listeners: list[CastListener] = []
        self._followed: dict[int, int] = {}  # by handle: up to where this node's readers were offered
        self._hinted: OrderedDict[int, int] = OrderedDict()  # by handle: the last that another node told
        self._behind: set[int] = set()  # handles with something new to read
        self._to_tell: dict[int, int] = {}
        self._casts: deque[str] = deque(maxlen=_CASTS_WAITING)
        self._stale = asyncio.Event()
        self._told = asyncio.Event()
        self._deaf = asyncio.Event()
        self.heard = 0  # notifications of other nodes
        self._tasks = [asyncio.create_task(work()) for work in (self._keep_listening, self._tell, self._read_new)]

    def listen(self, listener: CommitListener) -> None:
        self._listeners.append(listener)

    def listen_casts(self, listener: CastListener) -> None:
        self._cast_listeners.append(listener)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- what this node's readers have open

    def follow(self, info: TopicInfo) -> None:
        known = self._followed.get(info.handle)
        self._followed[info.handle] = info.last if known is None else min(known, info.last)
        if self._hinted.pop(info.handle, 0) > info.last:
            self._mark(info.handle)

    def unfollow(self, handle: int) -> None:
        self._followed.pop(handle, None)
        self._behind.discard(handle)

    # --- out

    def committed(self, commits: Sequence[Committed]) -> None:
        """This node has committed: its own readers know, the other nodes are to be told."""
        for commit in commits:
            if commit.handle in self._followed:
                self._followed[commit.handle] = max(self._followed[commit.handle], commit.batch.last)
            self._to_tell[commit.handle] = commit.batch.last
        self._told.set()

    def cast(self, handle: int, payload: bytes) -> None:
        self._casts.append(f"{self._node} c {number_of(handle)} {b64encode(payload).decode()}")
        self._told.set()

    async def _tell(self) -> None:
        while True:
            await self._told.wait()
            self._told.clear()
            messages = [*self._take_hints(), *self._casts]
            self._casts.clear()
            try:
                await self._pool.execute(f"SELECT pg_notify('{CHANNEL}', one) FROM unnest($1::text[]) AS one", messages)
            except FAULTS as error:
                _log.warning("other nodes could not be told: %s", describe_error(error))  # they will ask

    def _take_hints(self) -> Iterable[str]:
        hints = [f"{number_of(handle)}:{last}" for handle, last in self._to_tell.items()]
        self._to_tell.clear()
        for at in range(0, len(hints), _HINTS_AT_ONCE):
            yield f"{self._node} p {','.join(hints[at : at + _HINTS_AT_ONCE])}"

    # --- in

    async def _keep_listening(self) -> None:
        """Hold a connection that listens, and ask every few seconds for what nobody told."""
        connection: Connection | None = None
        try:
            while True:
                try:
                    self._deaf.clear()
                    if connection is None or connection.is_closed():
                        connection = await connect(self._url, "listener")
                        await connection.add_listener(CHANNEL, self._notified)
                        connection.add_termination_listener(self._cut_off)
                    await self._ask(connection)
                    with suppress(TimeoutError):
                        async with asyncio.timeout(self._poll_seconds):
                            await self._deaf.wait()
                except FAULTS as error:
                    _log.warning("the database is not heard: %s", describe_error(error))
                    if connection is not None:
                        connection.terminate()
                    await asyncio.sleep(min(_RECONNECT_SECONDS, self._poll_seconds))
        finally:
            if connection is not None:
                with suppress(*FAULTS):
                    await connection.close(timeout=1.0)

    def _cut_off(self, _connection: Any) -> None:
        self._deaf.set()

    async def _ask(self, connection: Connection) -> None:
        if self._followed:
            numbers = [number_of(handle) for handle in self._followed]
            rows = await connection.fetch(_FIND_BEHIND, numbers, list(self._followed.values()))
            for row in rows:
                self._mark(handle_of(row["number"], self._shard))

    def _notified(self, _connection: Any, _pid: int, _channel: str, payload: object) -> None:
        node, kind, *rest = str(payload).split(" ")
        if node == self._node:
            return
        self.heard += 1
        try:
            if kind == "p":
                for hint in rest[0].split(","):
                    number, _, last = hint.partition(":")
                    self._hint(handle_of(int(number), self._shard), int(last))
            elif kind == "c":
                handle = handle_of(int(rest[0]), self._shard)
                if handle in self._followed:
                    for listener in self._cast_listeners:
                        listener(handle, b64decode(rest[1], validate=True))
        except (ValueError, IndexError):
            return  # not of a relay that this one understands

    def _hint(self, handle: int, last: int) -> None:
        known = self._followed.get(handle)
        if known is None:
            self._hinted[handle] = max(last, self._hinted.pop(handle, 0))
            if len(self._hinted) > _HINTS_KEPT:
                self._hinted.popitem(last=False)
        elif last > known:
            self._mark(handle)

    def _mark(self, handle: int) -> None:
        self._behind.add(handle)
        self._stale.set()

    async def _read_new(self) -> None:
        """Read what other nodes have put into the topics that are open here."""
        while True:
            await self._stale.wait()
            handles = [self._behind.pop() for _ in range(min(len(self._behind), _TOPICS_A_READ))]
            if not handles:
                self._stale.clear()
                continue
            known = {handle: self._followed[handle] for handle in handles if handle in self._followed}
            try:
                rows = await self._pool.fetch(
                    _READ_NEW,
                    [number_of(handle) for handle in known],
                    list(known.values()),
                    _ENTRIES_A_READ,
                    _BYTES_A_READ,
                )
            except FAULTS as error:
                self._behind.update(known)
                _log.warning("what other nodes put could not be read: %s", describe_error(error))
                await asyncio.sleep(min(_RECONNECT_SECONDS, self._poll_seconds))
                continue
            self._hand_on(rows)

    def _hand_on(self, rows: Sequence[Any]) -> None:
        found: dict[int, list[Any]] = {}
        for row in rows:
            found.setdefault(handle_of(row["number"], self._shard), []).append(row)
        commits = []
        for handle, news in found.items():
            known = self._followed.get(handle)
            if known is None:
                continue
            batch = Batch(news[0]["seq"], tuple(row["envelope"] for row in news))
            self._followed[handle] = max(known, batch.last)
            if batch.last < news[0]["last"]:
                self._mark(handle)
            if batch.last > known:
                commits.append(Committed(handle, TopicId(news[0]["topic"]), batch, news[0]["sealed"]))
        if commits:
            tell(self._listeners, commits)
