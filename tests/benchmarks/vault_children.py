"""What line 13 measures in processes of their own: sealing, opening, sending, fetching, and the same with nothing
around it. `python -m tests.benchmarks.vault_children NAME ARGUMENT…` prints one JSON object.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
from aiohttp import web

from cocoon_core import Cocoon
from cocoon_core.group import Group
from cocoon_core.protocol.primitives import Secret, open_bulk, seal_bulk
from cocoon_core.storage.vault_contents import decode_ref, encode_ref
from cocoon_core.vault.sources import FileSource
from tests.benchmarks.children import _forget_peak, _peak, _report, _resident
from tests.benchmarks.world import PASSPHRASE

CHUNK: Final = 1 << 20
SEALED: Final = CHUNK + 16
IN_FLIGHT: Final = 8


@contextmanager
def measured(size: int) -> Iterator[None]:
    """Report MB a second of the block, and by how much memory grew under it."""
    gc.collect()
    before = _resident()
    _forget_peak()
    began, used = time.perf_counter(), time.process_time()
    yield
    seconds = time.perf_counter() - began
    _report(rate=size / 1e6 / seconds, grown=(_peak() - before) / 1e6, processor=time.process_time() - used)


# --- nothing around it: one core


def bare_seal(source: str, target: str) -> None:
    key = Secret(os.urandom(32))
    with measured(os.path.getsize(source)), open(source, "rb", 0) as file, open(target, "wb", 0) as out:
        number = 0
        while data := file.read(CHUNK):
            blob = seal_bulk(key, number.to_bytes(12), data, b"")
            hashlib.sha256(blob).digest()
            out.write(blob)
            number += 1
        os.fsync(out.fileno())
    Path(f"{target}.key").write_bytes(key.reveal())


def bare_open(source: str, target: str) -> None:
    key = Secret(Path(f"{source}.key").read_bytes())
    with measured(os.path.getsize(source)), open(source, "rb", 0) as file, open(target, "wb", 0) as out:
        number = 0
        while blob := file.read(SEALED):
            hashlib.sha256(blob).digest()
            out.write(open_bulk(key, number.to_bytes(12), blob, b""))
            number += 1
        os.fsync(out.fileno())


# --- as it is


async def _with_group(home: str, work: Callable[[Group], Any]) -> None:
    async with await Cocoon.open(home, PASSPHRASE) as cocoon:
        await work(cocoon.groups()[0])


async def seal(home: str, source: str) -> None:
    async def work(group: Group) -> None:
        file = FileSource(Path(source))
        with measured(file.size):
            ref = await group._transfers.seal(file)
        file.close()
        with group.replica.database.transaction():
            group._transfers.send(ref)
        Path(f"{source}.ref").write_bytes(encode_ref(ref))

    await _with_group(home, work)


async def open_again(home: str, source: str, target: str) -> None:
    ref = decode_ref(Path(f"{source}.ref").read_bytes())

    async def work(group: Group) -> None:
        with measured(ref.size):
            await group._transfers.write_to(ref, Path(target), replace=True)

    await _with_group(home, work)


async def send(home: str, source: str) -> None:
    """The transfers of a sync alone: the group is level before."""
    size = os.path.getsize(source)

    async def work(group: Group) -> None:
        await group.sync(files=False)
        with measured(size):
            report = await group._transfers.run(group.relays)
        if report.sent != 1:
            raise RuntimeError(f"the file was not sent: {report.errors}")

    await _with_group(home, work)


async def fetch(home: str, source: str) -> None:
    ref = decode_ref(Path(f"{source}.ref").read_bytes())

    async def work(group: Group) -> None:
        await group.sync(files=False)
        with measured(ref.size):
            await group._transfers.fetch(ref)

    await _with_group(home, work)


# --- a bare PUT: a server that hashes, writes, syncs and names each body, and a client that sends files' parts


async def bare_server(folder: str) -> None:
    place = Path(folder)

    def keep(target: Path, body: bytes) -> None:
        with target.open("wb", 0) as out:
            out.write(body)
            os.fsync(out.fileno())

    async def put(request: web.Request) -> web.Response:
        body = await request.read()
        name = (await asyncio.to_thread(hashlib.sha256, body)).hexdigest()
        await asyncio.to_thread(keep, place / name, body)
        return web.Response(status=201)

    app = web.Application(client_max_size=4 * CHUNK)
    app.router.add_put("/{name}", put)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    _report(port=runner.addresses[0][1])
    await asyncio.Event().wait()


async def bare_put(source: str, port: str) -> None:
    size = os.path.getsize(source)
    starts = iter(range(0, size, SEALED))
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(None)) as http:
        with open(source, "rb", 0) as file, measured(size):

            async def put_some() -> None:
                for start in starts:
                    body = await asyncio.to_thread(os.pread, file.fileno(), SEALED, start)
                    async with http.put(f"http://127.0.0.1:{port}/{start}", data=memoryview(body)) as answer:
                        if answer.status != 201:
                            raise RuntimeError(f"the bare server answered {answer.status}")

            await asyncio.gather(*(put_some() for _ in range(IN_FLIGHT)))


WORK: Final[dict[str, Callable[..., Any]]] = {
    "bare-seal": bare_seal, "bare-open": bare_open, "seal": seal, "open": open_again, "send": send, "fetch": fetch,
    "bare-server": bare_server, "bare-put": bare_put,
}  # fmt: skip


def main(arguments: list[str]) -> None:
    name, *rest = arguments
    made = WORK[name](*rest)
    if made is not None:
        asyncio.run(made)


def command_of(name: str, *arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "tests.benchmarks.vault_children", name, *map(str, arguments)]


def read_report(line: str) -> dict[str, float]:
    found: dict[str, float] = json.loads(line)
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
