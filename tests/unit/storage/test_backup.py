"""A backup file: whole or not there, the state of one moment, bounded memory; what a crash in a restore leaves."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cocoon_core import Cocoon
from cocoon_core.errors import (
    BackupDamagedError,
    CocoonError,
    LocalStateError,
    NoProfileError,
    StorageFullError,
    UpdateNeededError,
    UsageError,
)
from cocoon_core.storage import dump as dump_module
from cocoon_core.storage import paths
from cocoon_core.storage.backup import OpenBackup, write_backup
from cocoon_core.storage.database import Database, Migration
from cocoon_core.storage.dump import dump, load, read_records
from cocoon_core.storage.migrations import MIGRATIONS, migrate, read_version
from cocoon_core.storage.passphrase import COST_FLOOR
from cocoon_core.storage.profile import Profile
from tests.support.storage_children import PASSPHRASE
from tests.unit.storage.test_profile import snapshots_of

WORDS = "of the backup"


def make_profile(home: Path, rows: int = 3) -> Profile:
    """A profile with a group and rows of many kinds, no two tables alike."""
    profile = Profile.create(home, PASSPHRASE, cost=COST_FLOOR)
    database = profile.database
    with database.transaction():
        for group in (2, 1):
            database.execute(
                "INSERT INTO groups (id, group_id, state, signing_seed, hpke_seed, create_body, member_name, "
                "created_ms) VALUES (?,?,'active',?,?,x'80','Ana ☕',1)",
                (group, bytes([group]) * 32, bytes([group]) * 32, bytes([group + 8]) * 32),
            )
            for number in range(rows):
                database.execute(
                    "INSERT INTO runs (group_no, device, last_seq, last_id, operation, wire) VALUES (?,?,?,?,?,?)",
                    (group, b"d" * 32, number, number.to_bytes(32, "big"), 0, os.urandom(200)),
                )
                database.execute(
                    "INSERT INTO alarms (group_no, kind, subject, message, since_ms) VALUES (?,?,?,?,?)",
                    (group, "k", str(-number), "a\nb", -(2**63)),
                )
        database.execute("DELETE FROM runs WHERE id=(SELECT max(id) FROM runs)")
    return profile


def rows_of(database: Database) -> dict[str, list[Any]]:
    """Every row of every table, in the order that matters; without what names the profile."""
    tables = [name for (name,) in database.query("SELECT name FROM sqlite_schema WHERE type='table' ORDER BY name")]
    found = {table: database.query(f'SELECT * FROM "{table}"') for table in tables}
    found["meta"] = [row for row in found["meta"] if row[0] != "profile_id"]
    found["sqlite_sequence"] = sorted(row for row in found["sqlite_sequence"])
    return found


def write(profile: Profile, path: Path, **options: Any) -> None:
    write_backup(profile.database, path, WORDS, 1_790_000_000_000, cost=COST_FLOOR, **options)


def restored(path: Path, home: Path, words: str = WORDS) -> dict[str, list[Any]]:
    with OpenBackup(path, words) as backup:
        backup.verify()
        with Profile.create(home, PASSPHRASE, cost=COST_FLOOR, fill=lambda database: _drop(backup.load(database))):
            pass
    with Profile.open(home, PASSPHRASE) as profile:
        assert profile.database.query_value("PRAGMA integrity_check") == "ok"
        assert profile.database.query("PRAGMA foreign_key_check") == []
        assert profile.database.query_value("PRAGMA foreign_keys") == 1
        return rows_of(profile.database)


def _drop(_: object) -> None:
    return None


def test_what_is_restored_is_what_was_there(tmp_path: Path) -> None:
    with make_profile(tmp_path / "home") as profile:
        before = rows_of(profile.database)
        write(profile, tmp_path / "file")
        profile_id = profile.profile_id
    assert restored(tmp_path / "file", tmp_path / "new") == before
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "home", "new"]
    with Profile.open(tmp_path / "new", PASSPHRASE) as profile:
        assert profile.profile_id != profile_id
        profile.database.execute(
            "INSERT INTO runs (group_no, device, last_seq, last_id, operation, wire) VALUES (1,x'00',0,x'00',0,x'00')"
        )
        (number,) = profile.database.query_one("SELECT max(id) FROM runs") or (0,)
        assert number == 7  # that of the run which was deleted never comes again


def test_a_file_that_is_there_is_kept_unless_it_is_to_be_replaced(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("dear to somebody")
    with make_profile(tmp_path / "home") as profile:
        for path in (tmp_path / "file", tmp_path, tmp_path / "no" / "such"):
            with pytest.raises(UsageError):
                write(profile, path)
        assert (tmp_path / "file").read_text() == "dear to somebody"
        write(profile, tmp_path / "file", replace=True)
        before = profile.paths.key.read_bytes()
        for path in (profile.paths.database, profile.paths.key, tmp_path / "home" / ".." / "home" / "Profile.key"):
            with pytest.raises(UsageError, match="itself"):
                write(profile, path, replace=True)
        assert profile.paths.key.read_bytes() == before
    assert restored(tmp_path / "file", tmp_path / "new")["groups"]


def test_a_backup_that_cannot_be_read_back_does_not_take_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk says that it wrote, and holds something else."""
    real = paths.sync_descriptor

    def lose(descriptor: int) -> None:
        real(descriptor)
        os.pwrite(descriptor, b"\0", os.fstat(descriptor).st_size // 2)

    with make_profile(tmp_path / "home") as profile:
        (tmp_path / "file").write_text("the one before")
        monkeypatch.setattr(paths, "sync_descriptor", lose)
        with pytest.raises(LocalStateError):
            write(profile, tmp_path / "file", replace=True)
        monkeypatch.undo()
    assert (tmp_path / "file").read_text() == "the one before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "home"]


def test_a_full_disk_leaves_the_file_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "full")

    with make_profile(tmp_path / "home") as profile:
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(StorageFullError):
            write(profile, tmp_path / "file")
        monkeypatch.undo()
        assert profile.database.query_value("SELECT count(*) FROM groups") == 2
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_memory_does_not_grow_with_the_profile(tmp_path: Path) -> None:
    """What is held at a time: a record, a chunk, and rows of one transaction."""
    with make_profile(tmp_path / "home", rows=3_000) as profile:
        most = 0
        for piece in dump(profile.database, 0):
            most = max(most, len(piece))
        assert most < 2_000
        write(profile, tmp_path / "file")
    assert (tmp_path / "file").stat().st_size > 1_000_000
    assert len(restored(tmp_path / "file", tmp_path / "new")["runs"]) == 5_999


# --- what is refused, and writes nothing


def spoil(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


def refuse(path: Path, home: Path) -> CocoonError:
    with pytest.raises(CocoonError) as caught:
        Cocoon.restore(path, WORDS, home, PASSPHRASE)
    assert not home.exists()
    return caught.value


def test_a_backup_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    """Attack 7 on a backup: at every boundary, and between."""
    with make_profile(tmp_path / "home", rows=600) as profile:
        write(profile, tmp_path / "file")
    raw = (tmp_path / "file").read_bytes()
    sealed, start = 64 * 1024 + 16, len(raw) % (64 * 1024 + 16)
    bounds = {0, 1, 17, 18, 40, 70, 100, *range(start, len(raw), sealed)}
    places = {place + more for place in bounds for more in (-1, 0, 1)} | {len(raw) - 1}
    for place in sorted(place for place in places if 0 <= place < len(raw)):
        (tmp_path / "file").write_bytes(raw[:place])
        assert isinstance(refuse(tmp_path / "file", tmp_path / "new"), BackupDamagedError), place


def test_a_byte_changed_anywhere_is_refused(tmp_path: Path) -> None:
    with make_profile(tmp_path / "home") as profile:
        write(profile, tmp_path / "file")
    raw = (tmp_path / "file").read_bytes()
    choose = random.Random(7)
    for place in [*range(0, 110, 9), *choose.sample(range(110, len(raw)), 12)]:
        (tmp_path / "file").write_bytes(raw[:place] + bytes((raw[place] ^ 4,)) + raw[place + 1 :])
        error = refuse(tmp_path / "file", tmp_path / "new")
        assert error.code in ("backup_damaged", "wrong_passphrase", "update_needed"), (place, error)


def test_what_is_no_backup_and_what_is_newer_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"holiday photo" * 100)
    assert "no backup" in str(refuse(tmp_path / "file", tmp_path / "new"))
    assert "no file" in str(refuse(tmp_path / "missing", tmp_path / "new"))
    with make_profile(tmp_path / "home") as profile:
        monkeypatch.setattr(dump_module, "read_version", lambda _: len(MIGRATIONS) + 1)
        write(profile, tmp_path / "newer")
        monkeypatch.undo()
    assert isinstance(refuse(tmp_path / "newer", tmp_path / "new"), UpdateNeededError)


def test_records_that_are_not_those_of_a_profile_are_refused(tmp_path: Path) -> None:
    with make_profile(tmp_path / "home") as profile:
        good = list(read_records(dump(profile.database, 0)))
    version = len(MIGRATIONS)
    bad: list[list[Any]] = [
        [],
        [[0, version, 0]],
        good[:-1],
        [*good[:-1], [3, 0]],
        [*good, good[-1]],
        [good[0], [1, "groups", ["id"]], [2, [1]], [3, 1]],
        [good[0], [1, "no_such", ["id"]], [3, 0]],
        [good[0], [2, [1]], [3, 1]],
        [good[0], [1, "meta", ["key", "value"]], [2, ["k"]], [3, 1]],
        [good[0], [1, "meta", ["key", "value"]], [2, ["k", None]], [3, 1]],
        [good[0], [1, "relay_tokens", ["url", "token"]], [2, ["k", b"x"]], [3, 1]],
        [good[0], [9], [3, 0]],
        [[1], *good[1:]],
        [record for record in good if record[:2] != [1, "groups"]],
        [[0, 0, 0], [3, 0]],
    ]
    for records in bad:
        path = tmp_path / "fresh"
        path.touch()
        database = Database.open(path, profile._key)
        with pytest.raises(BackupDamagedError):
            load(database, iter(records))
        database.close()
        path.unlink()


def test_a_row_whose_group_is_not_there_is_refused(tmp_path: Path) -> None:
    with make_profile(tmp_path / "home") as profile:
        good = list(read_records(dump(profile.database, 0)))
    number = next(place for place, record in enumerate(good) if record[:2] == [1, "groups"])
    records = [*good[: number + 1], *good[number + 2 : -1], [3, good[-1][1] - 1]]
    (tmp_path / "fresh").touch()
    database = Database.open(tmp_path / "fresh", profile._key)
    with pytest.raises(BackupDamagedError, match="hold together"):
        load(database, iter(records))
    database.close()


def test_a_backup_of_an_older_schema_takes_the_steps_since(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with make_profile(tmp_path / "home") as profile:
        write(profile, tmp_path / "file")
    step = Migration("next", "ALTER TABLE alarms ADD COLUMN loud INTEGER NOT NULL DEFAULT 7;")
    newer = (*MIGRATIONS, step)
    monkeypatch.setattr(dump_module, "MIGRATIONS", newer)
    monkeypatch.setattr(dump_module, "migrate", lambda database, steps=newer: migrate(database, steps))
    (tmp_path / "fresh").touch()
    database = Database.open(tmp_path / "fresh", profile._key)
    with OpenBackup(tmp_path / "file", WORDS) as backup:
        backup.load(database)
    assert read_version(database) == len(newer)
    assert set(database.query("SELECT loud FROM alarms")) == {(7,)}
    database.close()


# --- a crash in the middle of a restore


def test_a_crash_at_any_line_of_a_restore_leaves_no_profile_or_a_whole_one(tmp_path: Path) -> None:
    with make_profile(tmp_path / "home") as profile:
        write(profile, tmp_path / "file")
        wanted = len(rows_of(profile.database)["runs"])
    home = tmp_path / "new"
    copies = snapshots_of(lambda: Cocoon.restore(tmp_path / "file", WORDS, home, PASSPHRASE), home, tmp_path / "copies")
    found = {"none": 0, "whole": 0}
    for copy in copies:
        try:
            Profile.open(copy, PASSPHRASE).close()
            found["whole"] += 1
        except NoProfileError:
            found["none"] += 1
            Cocoon.restore(tmp_path / "file", WORDS, copy, PASSPHRASE)
        with Profile.open(copy, PASSPHRASE) as profile:
            assert len(rows_of(profile.database)["runs"]) == wanted
            assert profile.database.query_value("SELECT count(*) FROM restored") == 2
            assert profile.database.query_value("PRAGMA integrity_check") == "ok"
        assert not (copy / "profile.db.new").exists()
    assert found["none"] >= 10, found
    assert found["whole"] >= 3, found
