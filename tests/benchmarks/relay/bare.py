"""The bare loop: aiohttp, one commit for all that waits, one joined write for each subscriber, and nothing else.

`python -m tests.benchmarks.relay.bare FOLDER` prints its port. No frames, proofs, quotas, names, metrics or limits:
what is left is the least that a durable relay on aiohttp and SQLite can do.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import sys
import threading
from pathlib import Path

from aiohttp import WSMsgType, web

_Job = tuple[int, bytes, asyncio.Transport]
_READ = 1_024


def frame(body: bytes) -> bytes:
    size = len(body)
    return bytes((0x82, size)) + body if size < 126 else b"\x82\x7e" + size.to_bytes(2) + body


class Bare:
    def __init__(self, folder: Path) -> None:
        self.loop = asyncio.get_running_loop()
        self.readers: dict[int, list[asyncio.Transport]] = {}
        self.jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self.path = folder / "bare.sqlite3"
        self.open().execute("CREATE TABLE IF NOT EXISTS log (place INTEGER PRIMARY KEY, topic INTEGER, entry BLOB)")
        self.open().execute("CREATE INDEX IF NOT EXISTS by_topic ON log (topic, place)")
        threading.Thread(target=self.work, daemon=True).start()

    def open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA wal_autocheckpoint = 4000")
        return db

    def work(self) -> None:
        db = self.open()
        while True:
            jobs = [self.jobs.get()]
            while len(jobs) < 4_096:
                try:
                    jobs.append(self.jobs.get_nowait())
                except queue.Empty:
                    break
            db.execute("BEGIN IMMEDIATE")
            db.executemany("INSERT INTO log (topic, entry) VALUES (?, ?)", [job[:2] for job in jobs])
            db.execute("COMMIT")
            self.loop.call_soon_threadsafe(self.deliver, jobs)

    def deliver(self, jobs: list[_Job]) -> None:
        acks: dict[asyncio.Transport, int] = {}
        topics: dict[int, list[bytes]] = {}
        for topic, entry, writer in jobs:
            acks[writer] = acks.get(writer, 0) + 1
            topics.setdefault(topic, []).append(entry)
        for topic, entries in topics.items():
            readers = self.readers.get(topic)
            if readers:
                joined = b"".join(map(frame, entries))
                for reader in readers:
                    reader.write(joined)
        for writer, number in acks.items():
            writer.write(b"\x82\x00" * number)

    async def write(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        transport = request.transport
        assert isinstance(transport, asyncio.Transport)
        topic = int(request.match_info["topic"])
        async for message in socket:
            if message.type is WSMsgType.BINARY:
                self.jobs.put((topic, message.data, transport))
        return socket

    async def read(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        transport = request.transport
        assert isinstance(transport, asyncio.Transport)
        topic, after = int(request.match_info["topic"]), int(request.match_info["after"])
        self.readers.setdefault(topic, []).append(transport)
        db = self.open()
        while rows := await asyncio.to_thread(self.fetch, db, topic, after):
            transport.write(b"".join(frame(entry) for _, entry in rows))
            after = rows[-1][0]
        db.close()
        async for _ in socket:
            pass
        self.readers[topic].remove(transport)
        return socket

    @staticmethod
    def fetch(db: sqlite3.Connection, topic: int, after: int) -> list[tuple[int, bytes]]:
        statement = "SELECT place, entry FROM log WHERE topic = ? AND place > ? ORDER BY place LIMIT ?"
        return db.execute(statement, (topic, after, _READ)).fetchall()


async def main(folder: Path) -> None:
    bare = Bare(folder)
    app = web.Application()
    app.router.add_get("/write/{topic}", bare.write)
    app.router.add_get("/read/{topic}/{after}", bare.read)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1024)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
