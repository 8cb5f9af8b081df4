"""What the relay acknowledged is there after the power went, and after any call to the disk failed, at any moment.

The store is the real one on the real `sqlite3`; the disk under it is `RelayDisk`. Kills of a real process are in
tests/adversary/test_relay_crash_loops.py.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import pytest

from cocoon_core.protocol.frames import ErrorCode
from cocoon_core.protocol.ids import BlobHash
from cocoon_relay import blobs, relay_store, sqlite_schema, sqlite_store, sqlite_writer, uploads
from cocoon_relay.puts import PutJob
from cocoon_relay.refusal import Refusal
from cocoon_relay.sqlite_schema import DATABASE_NAME, connect_reader
from tests.support.relay_disk import DiskImage, Event, Fault, RelayDisk
from tests.support.relay_use import Ledger, PutAcked, StoreUser, check_store

SEED = 44_05
SYNCS = ("sync", "syncdir")
CHANGES = (*SYNCS, "create", "mkdir", "write", "truncate", "rename", "delete")
FAULTS = {
    "EIO": Fault(errno.EIO),
    "ENOSPC": Fault(errno.ENOSPC),
    "short write": Fault(errno.ENOSPC, keeps=0.5),
}


class Use:
    """A store in use on a disk that is watched, from nothing to its end."""

    def __init__(self, folder: Path, seed: int = SEED) -> None:
        self.folder = folder
        self.root = folder / "disk"
        self.root.mkdir(parents=True)
        self.disk = RelayDisk(self.root)
        self.ledger = Ledger(acknowledged=self.disk.mark)
        self.user = StoreUser(self.root / "data", self.ledger, seed)

    def run(self) -> None:
        with self.disk.watched():
            asyncio.run(self.user.use())

    def check(self, files: Path, acknowledged: int) -> None:
        """Check what a disk holds, without waiting for a real one."""
        with RelayDisk(files).watched():
            asyncio.run(check_store(files / "data", self.ledger, acknowledged, self.user.now))

    def cut_power(self, chance: Random, at: set[int]) -> None:
        """Let the power go after each of these events in turn, and check what may be left."""
        for number, image, acknowledged in replay(self.disk.events, chance):
            if number in at:
                files = self.folder / f"cut{number}"
                image.cut_power(files)
                try:
                    self.check(files, acknowledged)
                except (AssertionError, sqlite3.Error, OSError) as error:
                    raise Lost(f"the power went after event {number}: {error}") from error
                shutil.rmtree(files)


class Lost(AssertionError):
    """Something acknowledged is not there, or the store does not open."""


def replay(events: list[Event], chance: Random) -> Iterator[tuple[int, DiskImage, int]]:
    """The disk after each event, and how much was acknowledged by then."""
    image = DiskImage(chance)
    acknowledged = 0
    for number, event in enumerate(events):
        image.feed(event)
        if event.kind == "mark":
            acknowledged = event.offset
        yield number, image, acknowledged


# --- the power goes


def every(length: int, step: int, seed: int = SEED) -> set[int]:
    return set(range(Random(seed).randrange(step), length, step))


def test_every_acknowledged_put_and_blob_survives_a_power_cut(tmp_path: Path) -> None:
    print(f"seed {SEED}")
    use = Use(tmp_path)
    use.run()
    kinds = [event.kind for event in use.disk.events]
    assert kinds.count("sync") > 50
    assert sum(event.name.endswith(".sqlite3") and event.kind == "write" for event in use.disk.events) > 60
    assert use.ledger.refused == 0
    assert len(use.ledger.acked) == 19
    use.cut_power(Random(SEED), every(len(kinds), 3) | {len(kinds) - 1})


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(20))
def test_every_acknowledged_put_and_blob_survives_a_power_cut_at_any_moment(tmp_path: Path, seed: int) -> None:
    use = Use(tmp_path, seed)
    use.run()
    use.cut_power(Random(seed), set(range(len(use.disk.events))))


def _never(*_: object) -> None:
    """A call that was taken out."""


def _write_unsynced(real: Any) -> Any:
    def connect(path: Path) -> sqlite3.Connection:
        connection: sqlite3.Connection = real(path)
        connection.execute("PRAGMA synchronous = NORMAL")
        return connection

    return connect


async def _record_row_first(self: Any, info: Any, blob: BlobHash, upload: uploads.Upload) -> bool:
    place = f"{blob.hex()}.first"
    new: bool = await self.log.record_blob(info, blob, upload.size, place)
    await asyncio.to_thread(self.blobs._install, blob, upload, self.blobs._path_of(place))
    return new


WEAKENED: dict[str, list[tuple[Any, str, Any]]] = {
    "the database does not wait for the disk": [
        (sqlite_writer, "connect_writer", _write_unsynced(sqlite_schema.connect_writer))
    ],
    "the bytes of a blob are not synced": [
        (uploads.Incoming, "begin", lambda self: uploads.Upload(self.folder / os.urandom(8).hex(), synced=False))
    ],
    "the name of a blob is not synced": [(blobs, "sync_path", _never)],
    "the row of a blob comes before its bytes": [(relay_store.RelayStore, "commit_blob", _record_row_first)],
    "the folder of the relay is not synced": [(uploads, "sync_path", _never)],
}


@pytest.mark.parametrize("weakness", WEAKENED)
def test_a_power_cut_is_seen_to_lose_something_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weakness: str
) -> None:
    for target, name, weak in WEAKENED[weakness]:
        monkeypatch.setattr(target, name, weak)
    use = Use(tmp_path)
    use.run()
    after_acks = {number + 1 for number, event in enumerate(use.disk.events[:-1]) if event.kind == "mark"}
    after_rows = {
        number + step
        for number, event in enumerate(use.disk.events[:-60])
        if event.kind == "write" and "incoming" in event.name
        for step in range(2, 60, 3)
    }
    with pytest.raises(Lost):
        use.cut_power(Random(SEED), after_acks | after_rows)


# --- calls fail


def fail_one_call(folder: Path, number: int, fault: Fault, chance: Random) -> tuple[Use, str]:
    """Let one call of a whole use fail; everything is done in the end, and survives a power cut later on."""
    use = Use(folder)
    failed: list[tuple[int, str]] = []

    def fail(_: int, kind: str) -> Fault | None:
        if kind in CHANGES:
            seen[0] += 1
            if seen[0] == number + 1:
                failed.append((len(use.disk.events), kind))
                return fault if kind == "write" else Fault(fault.number)
        return None

    seen = [0]
    use.disk.fail = fail
    use.run()
    assert len(use.ledger.acked) == 19, "one fault stops no client for good"
    if not failed:
        return use, ""
    (at, kind) = failed[0]
    last = len(use.disk.events) - 1
    use.check(use.root, len(use.ledger.acked))
    use.cut_power(chance, {last, *(chance.randint(min(at, last), last) for _ in range(2))})
    return use, kind


def changing_calls(folder: Path) -> list[str]:
    """Kinds of the calls that change the disk, in their order, where none fails."""
    use = Use(folder)
    use.run()
    return [kind for kind in use.disk.calls if kind in CHANGES]


def test_calls_fail_one_after_the_other_and_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    """Every second sync and every twentieth of all other calls; `make soak` fails them all."""
    print(f"seed {SEED}")
    chance = Random(SEED)
    kinds = changing_calls(tmp_path / "whole")
    syncs = [number for number, kind in enumerate(kinds) if kind in SYNCS]
    others = [number for number, kind in enumerate(kinds) if kind not in SYNCS]
    numbers = syncs[chance.randrange(2) :: 2] + others[chance.randrange(20) :: 20]
    refused = 0
    for place, number in enumerate(numbers):
        fault = list(FAULTS.values())[place % len(FAULTS)]
        refused += fail_one_call(tmp_path / str(number), number, fault, chance)[0].ledger.refused
        shutil.rmtree(tmp_path / str(number))
    assert refused > len(numbers) / 3


@pytest.mark.soak
@pytest.mark.parametrize("name", FAULTS)
def test_every_call_fails_and_nothing_acknowledged_is_lost(tmp_path: Path, name: str) -> None:
    chance = Random(SEED)
    for number in range(len(changing_calls(tmp_path / "whole"))):
        fail_one_call(tmp_path / str(number), number, FAULTS[name], chance)
        shutil.rmtree(tmp_path / str(number))


def test_a_put_that_is_acknowledged_though_its_sync_failed_is_seen_to_be_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build that takes a commit whose sync failed for done when SQLite, asked again, says that all is well."""
    real_commit = sqlite_writer.SqliteWriter._commit

    def trusting(self: Any, jobs: Any) -> Any:
        outcomes, committed = real_commit(self, jobs)
        lost = [future for future, outcome in outcomes if isinstance(outcome, Refusal)]
        puts = {id(job.future): job for job in jobs if isinstance(job, PutJob)}
        if lost and all(id(future) in puts for future in lost):
            outcomes = [(future, tuple(range(1, 1 + len(puts[id(future)].envelopes)))) for future in lost]
        return outcomes, committed

    monkeypatch.setattr(sqlite_writer.SqliteWriter, "_commit", trusting)
    syncs = [number for number, kind in enumerate(changing_calls(tmp_path / "whole")) if kind == "sync"]
    with pytest.raises(AssertionError):
        for number in syncs:
            fail_one_call(tmp_path / str(number), number, FAULTS["EIO"], Random(SEED))


def test_while_the_disk_takes_nothing_readers_get_what_was_there(tmp_path: Path) -> None:
    use = Use(tmp_path)
    user = use.user
    broken = [False]
    use.disk.fail = lambda _, kind: Fault(errno.EIO) if broken[0] and kind in CHANGES else None

    async def go() -> None:
        async with user.opened() as store:
            info = await user.open_topic(store, user.topics[0])
            await user.put(store, info, 5)
            broken[0] = True
            for count in (1, 3):
                with pytest.raises(Refusal) as caught:
                    await user.put(store, info, count)
                assert caught.value.code is ErrorCode.FULL
            batch = await store.log.read(info.handle, 0, 10, 2**20)
            (acked,) = use.ledger.acked
            assert isinstance(acked, PutAcked)
            assert batch.envelopes == acked.put.envelopes
            broken[0] = False
            await user.put(store, info, 2)

    with use.disk.watched():
        asyncio.run(go())
    use.check(use.root, 2)
    use.cut_power(Random(SEED), {len(use.disk.events) - 1})


# --- the page cache after a sync that failed


def die_at_a_failed_sync(use: Use, number: int) -> None:
    """Put until the n-th sync from the first put on fails; there the process dies, before it can do anything more."""
    user = use.user
    user.checkpoint_pages = 4_000
    calls = [0]
    armed = [False]
    died_after: list[int] = []

    def fail(_: int, kind: str) -> Fault | None:
        if calls[0] == number and not died_after:
            # What a kill leaves: the files as all processes see them now, and no orderly end.
            died_after.append(len(use.disk.events))
            shutil.copytree(use.root, use.folder / "next")
        if armed[0] and kind == "sync":
            calls[0] += 1
            return Fault(errno.EIO) if calls[0] == number else None
        return None

    use.disk.fail = fail

    async def go() -> None:
        async with user.opened() as store:
            info = await user.open_topic(store, user.topics[0])
            armed[0] = True
            for _ in range(number + 1):
                await user.put(store, info, 1)

    with use.disk.watched():
        asyncio.run(go())
    del use.disk.events[died_after[0] :]
    marks = [event.offset for event in use.disk.events if event.kind == "mark"]
    use.ledger.acked = use.ledger.acked[: max(marks, default=0)]


def go_on_after_the_kill(use: Use) -> None:
    """The next process, which starts while somebody looks at the statistics, puts more; then the power goes."""
    again = RelayDisk(use.folder / "next")
    again.events = use.disk.events
    use.disk = again
    (again.root / "data" / f"{DATABASE_NAME}-shm").unlink(missing_ok=True)
    use.ledger.acknowledged = again.mark
    user = StoreUser(again.root / "data", use.ledger, SEED + 1)
    user.topics = use.user.topics
    user.checkpoint_pages = 4_000

    async def go() -> None:
        async with user.opened() as store:
            info = await user.open_topic(store, user.topics[0])
            for _ in range(2):
                await user.put(store, info, 1)

    with again.watched(), closing(connect_reader(again.root / "data" / DATABASE_NAME)) as reader:
        reader.execute("SELECT * FROM totals").fetchall()
        asyncio.run(go())
    marks = [number for number, event in enumerate(again.events) if event.kind == "mark"]
    for chance in range(6):
        use.cut_power(Random(chance), {marks[-1], marks[-2]})


@pytest.mark.parametrize("number", [1, 2, 3])
def test_bytes_that_only_the_cache_holds_are_not_built_upon(tmp_path: Path, number: int) -> None:
    """A sync fails, the process dies, and the next one reads back what is on no disk and would call it committed."""
    use = Use(tmp_path)
    die_at_a_failed_sync(use, number)
    go_on_after_the_kill(use)


def test_a_build_that_goes_on_in_the_log_it_finds_is_seen_to_lose_what_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_store, "empty_log", _never)
    use = Use(tmp_path)
    die_at_a_failed_sync(use, 2)
    with pytest.raises(Lost):
        go_on_after_the_kill(use)
