"""Relays that crash tests kill. They come from a fork server that has imported everything."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from cocoon_relay import sqlite_writer
from cocoon_relay.blobs import FileBlobs  # noqa: F401  imported before the fork, as all here
from cocoon_relay.puts import PutJob
from cocoon_relay.sqlite_store import SqliteStore
from tests.support.relay_process import serve_relay

_CHECKPOINT_PAGES = 60


def serve_until_killed(data: Path, tell: Connection) -> None:
    """Serve a data directory as `cocoon-relay serve` does; tell the URL."""
    asyncio.run(_serve(data, tell))


def serve_hastily(data: Path, tell: Connection) -> None:
    """The same by a build that acknowledges puts before it commits them."""
    honest = sqlite_writer.SqliteWriter._commit
    last = 0

    def commit(self: Any, jobs: Sequence[PutJob | sqlite_writer.CallJob]) -> Any:
        nonlocal last
        puts = [job for job in jobs if isinstance(job, PutJob)]
        if not puts:
            return honest(self, jobs)
        outcomes = []
        for job in puts:
            outcomes.append((job.future, tuple(range(last + 1, last + 1 + len(job.envelopes)))))
            last += len(job.envelopes)
        self._bell.ring(partial(self._deliver, outcomes, [], 0))
        time.sleep(0.2)
        return honest(self, jobs)

    sqlite_writer.SqliteWriter._commit = commit  # type: ignore[method-assign]
    asyncio.run(_serve(data, tell))


async def _serve(data: Path, tell: Connection) -> None:
    async with serve_relay(data) as relay:
        log = relay._store.log
        assert isinstance(log, SqliteStore)
        # So that the log is moved into the database while puts go on.
        await log._write(lambda db: db.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}").fetchall())
        tell.send(relay.url)
        await asyncio.Event().wait()
