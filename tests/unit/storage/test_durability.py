"""What was acknowledged is there after kill -9 and after the power went, at any moment."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from cocoon_core.protocol.primitives import Secret
from cocoon_core.storage.database import Database
from cocoon_core.storage.passphrase import COST_FLOOR
from cocoon_core.storage.profile import Profile
from tests.support.forks import a_child, make_forks
from tests.support.storage_children import PASSPHRASE, commit_until_killed
from tests.support.torn_writes import DiskEvent
from tests.support.watched_disk import WatchedDisk, after_power_loss

KEY = Secret(bytes(range(32)))
KILLS = 60
SEED = 38_44


def test_every_acknowledged_commit_survives_kill_9(tmp_path: Path) -> None:
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    with Profile.create(tmp_path, PASSPHRASE, cost=COST_FLOOR) as profile:
        profile.database.execute("CREATE TABLE left_half (number INTEGER PRIMARY KEY, raw BLOB)")
        profile.database.execute("CREATE TABLE right_half (number INTEGER PRIMARY KEY)")
    forks = make_forks()
    acknowledged: list[int] = []
    first = 0
    for _ in range(KILLS):
        with a_child(forks, commit_until_killed, tmp_path, first) as (child, told):
            acknowledged += [told.recv() for _ in range(chance.randint(1, 40))]
            child.kill()
            try:
                while True:
                    acknowledged.append(told.recv())
            except EOFError:
                pass
        # A commit that was done and not yet reported when the child died may stand: the next child goes on after it.
        first = acknowledged[-1] + 2
    with Profile.open(tmp_path, PASSPHRASE) as profile:
        database = profile.database
        entries = {number for (number,) in database.query("SELECT number FROM left_half")}
        chain = {number for (number,) in database.query("SELECT number FROM right_half")}
        assert database.query_value("PRAGMA integrity_check") == "ok"
    assert set(acknowledged) <= entries
    assert entries == chain
    assert len(entries) <= len(acknowledged) + KILLS
    assert len(acknowledged) > KILLS


def make_database(path: Path) -> dict[str, bytes]:
    """A closed database, as a profile has it from the moment it exists; its file."""
    path.touch()
    database = Database.open(path, KEY)
    database.execute("CREATE TABLE left_half (number INTEGER PRIMARY KEY, raw BLOB)")
    database.execute("CREATE TABLE right_half (number INTEGER PRIMARY KEY)")
    database.close()
    return {path.name: path.read_bytes()}


def commit_rows(path: Path, synchronous: str | None = None) -> list[DiskEvent]:
    """Commit 40 pairs of rows on a watched disk, with the log moved now and then; each commit is marked."""
    disk = WatchedDisk()
    database = Database.open(path, KEY, vfs=disk.vfs_name)
    database.execute("PRAGMA wal_autocheckpoint = 20")
    if synchronous is not None:
        database.execute(f"PRAGMA synchronous = {synchronous}")
    for number in range(40):
        with database.transaction():
            database.execute("INSERT INTO left_half VALUES (?, ?)", (number, bytes([number]) * (number * 331 % 9_000)))
            database.execute("INSERT INTO right_half VALUES (?)", (number,))
        disk.mark(str(number).encode())
    database.close()
    return disk.events


def lost_after_power_cut(
    before: dict[str, bytes], events: list[DiskEvent], folder: Path, chance: random.Random
) -> set[int]:
    """Rebuild the disk as it may stand if the power goes after these events; the acknowledged commits that are gone."""
    folder.mkdir()
    for name, content in after_power_loss(before, events, chance).items():
        (folder / name).write_bytes(content)
    acknowledged = {int(event.data) for event in events if event.kind == "mark"}
    database = Database.open(folder / "profile.db", KEY)
    try:
        entries = {number for (number,) in database.query("SELECT number FROM left_half")}
        assert entries == {number for (number,) in database.query("SELECT number FROM right_half")}
        assert database.query_value("PRAGMA integrity_check") == "ok"
        return acknowledged - entries
    finally:
        database.close()


def test_every_acknowledged_commit_survives_a_power_cut(tmp_path: Path) -> None:
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    before = make_database(tmp_path / "profile.db")
    events = commit_rows(tmp_path / "profile.db")
    assert sum(event.kind == "sync" for event in events) > 40
    for at in range(len(events) + 1):
        assert lost_after_power_cut(before, events[:at], tmp_path / str(at), chance) == set(), at


@pytest.mark.parametrize("synchronous", ["NORMAL", "OFF"])
def test_a_build_that_does_not_wait_for_the_disk_is_seen_to_lose_commits(tmp_path: Path, synchronous: str) -> None:
    chance = random.Random(SEED)
    before = make_database(tmp_path / "profile.db")
    events = commit_rows(tmp_path / "profile.db", synchronous)
    marks = [place for place, event in enumerate(events) if event.kind == "mark"][:5]
    lost = [lost_after_power_cut(before, events[: at + 1], tmp_path / str(at), chance) for at in marks]
    assert any(lost)
