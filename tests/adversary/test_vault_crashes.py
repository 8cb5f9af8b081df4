"""A device that dies at any step of sending or fetching a file: nothing is lost, nothing is there twice.

At each call to the disk, the database or a relay in turn (before it, and after it, and in the midst of a write): 104
deaths at least. And by kill -9 at any moment, against a real relay.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing.context import ForkServerContext
from pathlib import Path
from random import Random
from typing import Any

import pytest

from cocoon_core.protocol.vault_file import FileRef
from cocoon_core.storage.database import Database
from cocoon_core.vault.content import ContentFile
from cocoon_core.vault.opening import _Output
from cocoon_core.vault.sources import FileSource
from cocoon_core.vault.transfers import Transfers
from tests.adversary.test_crash_loops import make_pair
from tests.support.crash_children import fetch_file, send_file
from tests.support.dying import Died, rise_again
from tests.support.forks import a_child, make_forks
from tests.support.memory_blobs import MemoryExchange
from tests.support.memory_relay import MemoryRelay
from tests.support.relay_process import RelayProcess
from tests.support.vault import some_bytes
from tests.support.world import Seat, World, make_world  # noqa: F401  a fixture

SIZES = (700, 2 * 1024 * 1024 + 5)
MOST_STEPS = 200
KILLS = 12  # of each kind, beside those at every step
SEED = 6_08


def transfers(seat: Seat) -> Transfers:
    return seat.group._transfers


class Steps:
    """Counts steps, and dies at one; from then on nothing happens any more."""

    def __init__(self, dies_at: int) -> None:
        self.left = dies_at
        self.is_dead = False

    def step(self) -> bool:
        """True at the step at which it dies."""
        if self.is_dead:
            raise Died
        self.left -= 1
        self.is_dead = self.left < 0
        return self.is_dead

    @contextmanager
    def patched(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        transaction, write, sync = Database.transaction, ContentFile.write, ContentFile.sync
        ask, finish = MemoryExchange.ask, _Output.finish

        @contextmanager
        def dying_transaction(database: Database) -> Iterator[None]:
            if self.step():
                raise Died
            with transaction(database):
                yield
            if self.step():
                raise Died

        def dying_write(file: ContentFile, place: int, blob: bytes) -> None:
            if self.step():
                write(file, place, blob[: len(blob) // 2])  # torn
                raise Died
            write(file, place, blob)

        def dying_sync(file: ContentFile) -> None:
            if self.step():
                raise Died
            sync(file)

        async def dying_ask(exchange: MemoryExchange, *rest: Any) -> Any:
            if self.step():
                raise Died
            answer = await ask(exchange, *rest)
            if self.step():
                raise Died
            return answer

        def dying_finish(output: _Output) -> None:
            if self.step():
                raise Died
            finish(output)
            if self.step():
                raise Died

        with monkeypatch.context() as patched:
            patched.setattr(Database, "transaction", dying_transaction)
            patched.setattr(ContentFile, "write", dying_write)
            patched.setattr(ContentFile, "sync", dying_sync)
            patched.setattr(MemoryExchange, "ask", dying_ask)
            patched.setattr(_Output, "finish", dying_finish)
            yield


async def dies(
    monkeypatch: pytest.MonkeyPatch, seat: Seat, at: int, act: Callable[[], Awaitable[object]], to: Path
) -> bool:
    """Whether it came to die; then it runs again from what its disk held."""
    steps = Steps(at)
    with steps.patched(monkeypatch), suppress(Died):
        await act()
    if steps.is_dead:
        await rise_again(seat, to)
    return steps.is_dead


async def add_and_sync(seat: Seat, path: Path) -> FileRef:
    """What a member does, and does again after a crash."""
    source = FileSource(path)
    try:
        ref = await transfers(seat).seal(source)
    finally:
        source.close()
    with seat.replica.database.transaction():
        transfers(seat).send(ref)
    await seat.sync()
    return ref


def put_twice(relay: MemoryRelay) -> list[str]:
    paths = [path for method, path in relay.blobs.requests if method == "PUT"]
    return [path for path in set(paths) if paths.count(path) > 1]


def files_beside_rows(seat: Seat) -> tuple[int, int]:
    """Files of the content store, and contents that have a row."""
    holding = transfers(seat).holding
    rows = seat.replica.database.query_value("SELECT count(*) FROM vault_contents")
    return len(list(holding.store.folder.iterdir())), int(rows)


@pytest.mark.parametrize(("size", "relays"), [(SIZES[0], 1), (SIZES[1], 2)])
async def test_attack_44_dying_at_any_step_of_an_upload(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, size: int, relays: int
) -> None:
    all_relays = [world.add_relay() for _ in range(relays)]
    ana, ben = await world.group("ana", "ben")
    kills = 0
    for at in range(MOST_STEPS):
        path = tmp_path / f"file{at}"
        path.write_bytes(data := some_bytes(size, seed=at))
        died = await dies(monkeypatch, ana, at, partial(add_and_sync, ana, path), tmp_path / f"ana{at}")
        kills += died
        ref = await add_and_sync(ana, path)
        assert transfers(ana).state(ref).waits_for == ()
        for relay in all_relays:
            assert set(ref.names) <= relay.blobs.kept.keys()
            assert not put_twice(relay)
        assert files_beside_rows(ana) == (1, 1), "one file is here, once"
        transfers(ana).let_go(ref)
        if at % 7 == 0 or not died:
            await ben.sync()
            target = tmp_path / f"out{at}"
            await transfers(ben).write_to(ref, target)
            assert target.read_bytes() == data
        if not died:
            break
    print(f"{kills} deaths")
    assert kills >= 23 * relays


@pytest.mark.parametrize(("size", "least"), [(SIZES[0], 15), (SIZES[1], 20)])
async def test_attack_44_dying_at_any_step_of_a_download(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, size: int, least: int
) -> None:
    relay = world.add_relay()
    ana, ben = await world.group("ana", "ben")
    path = tmp_path / "file"
    path.write_bytes(data := some_bytes(size))
    ref = await add_and_sync(ana, path)
    await ben.sync()
    folder = tmp_path / "target"
    folder.mkdir()
    target = folder / "out"
    kills = 0
    for at in range(MOST_STEPS):
        target.unlink(missing_ok=True)
        relay.blobs.requests.clear()
        died = await dies(
            monkeypatch, ben, at, lambda: transfers(ben).write_to(ref, target, replace=True), tmp_path / f"ben{at}"
        )
        kills += died
        held = transfers(ben).state(ref).held
        if target.exists():
            assert target.read_bytes() == data, "whole or not at all"
        before = len(relay.blobs.requests)
        await transfers(ben).write_to(ref, target, replace=True)
        assert target.read_bytes() == data
        if held == transfers(ben).state(ref).total:
            assert len(relay.blobs.requests) == before, "what is here is not fetched again"
        assert list(folder.iterdir()) == [target], "nothing else is left in the member's folder"
        assert files_beside_rows(ben) == (1, 1)
        transfers(ben).let_go(ref)
        if not died:
            break
    print(f"{kills} deaths")
    assert kills >= least


# --- kill -9


@pytest.fixture(scope="module")
def forks() -> ForkServerContext:
    return make_forks()


def killed(forks: ForkServerContext, work: Callable[..., None], seconds: float, *given: object) -> bool:
    """Whether a child was killed before it was done."""
    with a_child(forks, work, *given) as (child, pipe):
        pipe.recv()
        if not pipe.poll(seconds):
            child.kill()
            child.join()
            return True
        return bool(pipe.recv() != "done")


def test_attack_08_kill_at_any_moment_of_an_upload_or_a_download(tmp_path: Path, forks: ForkServerContext) -> None:
    print(f"seed {SEED}")
    chance = Random(SEED)
    data = some_bytes(24 * 1024 * 1024 + 7)
    path, target = tmp_path / "film", tmp_path / "out"
    path.write_bytes(data)
    with RelayProcess(tmp_path / "relay") as relay:
        ana, ben = asyncio.run(closed_pair(tmp_path, relay.url))
        for work, given in ((send_file, (ana, path)), (fetch_file, (ben, path, target))):
            kills, seconds = 0, 0.02
            while killed(forks, work, seconds * chance.random(), *given):
                kills += 1
                seconds = min(seconds * 1.4, 20.0) if kills > KILLS else seconds + 0.04
            assert kills >= 3, "it was killed before it was done"
            print(f"{work.__name__}: {kills} kills")
        assert target.read_bytes() == data
        files = [one for one in (tmp_path / "relay").rglob("*") if one.is_file()]
        stored = [one for one in files if one.stat().st_size == 1024 * 1024 + 16]
        assert len(stored) == 24, "every chunk is there once"


async def closed_pair(folder: Path, url: str) -> tuple[Path, Path]:
    home, ben, _ = await make_pair(folder, url)
    await ben.close()
    return home, folder / "ben"
