"""The encrypted database: transactions, errors, settings and damage."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from cocoon_core.errors import (
    CocoonError,
    LocalStateError,
    ProfileDamagedError,
    ProfileLockedError,
    StorageFullError,
    UsageError,
)
from cocoon_core.protocol.ids import GroupId
from cocoon_core.protocol.primitives import Secret
from cocoon_core.storage import database as module
from cocoon_core.storage.database import Database, convert_error
from tests.support.watched_disk import WatchedDisk

KEY = Secret(bytes(range(32)))
OTHER_KEY = Secret(bytes(32))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    target = tmp_path / "profile.db"
    target.touch(0o600)
    return target


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    opened = Database.open(path, KEY)
    opened.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, x UNIQUE)")
    yield opened
    opened.close()


def values(database: Database) -> list[object]:
    return [x for (x,) in database.query("SELECT x FROM t ORDER BY id")]


def test_rows_come_back_as_they_went_in(database: Database) -> None:
    stored = [None, 0, -(2**63), 2**63 - 1, 1.5, "tëxt\0", b"", b"\0bytes", GroupId(bytes(range(32)))]
    database.executemany("INSERT INTO t (x) VALUES (?)", [(value,) for value in stored])
    assert values(database) == stored
    assert database.query_one("SELECT x FROM t WHERE id = ?", (5,)) == (1.5,)
    assert database.query_one("SELECT x FROM t WHERE id = :id", {"id": 5}) == (1.5,)
    assert database.query_one("SELECT x FROM t WHERE id = 99") is None
    assert database.query_value("SELECT count(*) FROM t") == len(stored)
    assert database.query_value("SELECT x FROM t WHERE id = 99") is None
    assert list(database.query_each("SELECT id FROM t WHERE id > ? ORDER BY id", (7,))) == [(8,), (9,)]


def test_writers_say_how_many_rows_they_changed(database: Database) -> None:
    assert database.executemany("INSERT OR IGNORE INTO t (x) VALUES (?)", [(1,), (2,), (2,)]) == 2
    assert database.execute("INSERT OR IGNORE INTO t (x) VALUES (2)") == 0
    assert database.execute("INSERT INTO t (id, x) VALUES (40, 3)") == 1
    assert database.last_insert_rowid() == 40
    assert database.execute("UPDATE t SET x = -x") == 3
    assert database.execute("DELETE FROM t WHERE x < -1") == 2


class Stop(BaseException):
    pass


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, Stop, UsageError])
def test_any_exception_rolls_all_of_it_back(database: Database, error: type[BaseException]) -> None:
    database.execute("INSERT INTO t (x) VALUES (1)")
    with pytest.raises(error), database.transaction():
        database.execute("INSERT INTO t (x) VALUES (2)")
        database.executemany("INSERT INTO t (x) VALUES (?)", [(3,), (4,)])
        raise error
    assert values(database) == [1]
    states = [database.in_transaction]
    with database.transaction():
        states.append(database.in_transaction)
        database.execute("INSERT INTO t (x) VALUES (5)")
    assert [*states, database.in_transaction] == [False, True, False]
    assert values(database) == [1, 5]


def test_a_failing_statement_that_is_not_caught_rolls_back(database: Database) -> None:
    with pytest.raises(LocalStateError), database.transaction():
        database.execute("INSERT INTO t (x) VALUES (1)")
        database.execute("INSERT INTO t (x) VALUES (1)")
    assert values(database) == []


def test_executemany_outside_a_transaction_is_all_or_nothing(database: Database) -> None:
    with pytest.raises(LocalStateError):
        database.executemany("INSERT INTO t (x) VALUES (?)", [(1,), (2,), (1,)])
    assert values(database) == []


def test_transactions_do_not_nest(database: Database) -> None:
    with database.transaction():
        database.execute("INSERT INTO t (x) VALUES (1)")
        with pytest.raises(UsageError), database.transaction():
            pass
        with pytest.raises(UsageError):
            database.move_log()
        database.execute("INSERT INTO t (x) VALUES (2)")
    assert values(database) == [1, 2]


def test_nothing_is_written_after_sqlite_itself_rolled_back(database: Database) -> None:
    with pytest.raises(LocalStateError, match="rolled back"), database.transaction():
        database.execute("INSERT INTO t (x) VALUES (1)")
        with pytest.raises(LocalStateError):
            database.execute("INSERT OR ROLLBACK INTO t (x) VALUES (1)")
        for go_on in (database.query, database.query_one, database.execute):
            with pytest.raises(LocalStateError, match="rolled back"):
                go_on("INSERT INTO t (x) VALUES (2)")
        with pytest.raises(LocalStateError, match="rolled back"):
            database.executemany("INSERT INTO t (x) VALUES (?)", [(3,)])
    assert values(database) == []


def test_a_reader_that_stopped_half_way_does_not_hinder_a_writer(database: Database) -> None:
    database.executemany("INSERT INTO t (x) VALUES (?)", [(number,) for number in range(100)])
    assert database.query_one("SELECT x FROM t") == (0,)
    half = database.query_each("SELECT x FROM t")
    assert next(half) == (0,)
    with pytest.raises(ValueError), database.transaction():
        database.execute("DELETE FROM t")
        raise ValueError
    assert len(values(database)) == 100


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (apsw.FullError, StorageFullError),
        (apsw.IOError, StorageFullError),
        (apsw.ReadOnlyError, StorageFullError),
        (apsw.CorruptError, ProfileDamagedError),
        (apsw.NotADBError, ProfileDamagedError),
        (apsw.BusyError, ProfileLockedError),
        (apsw.LockedError, ProfileLockedError),
        (apsw.CantOpenError, LocalStateError),
        (apsw.ConstraintError, LocalStateError),
        (apsw.NoMemError, LocalStateError),
        (apsw.SQLError, LocalStateError),
        (apsw.ConnectionClosedError, LocalStateError),
    ],
)
def test_errors_of_sqlite_become_ours(error: type[apsw.Error], expected: type[CocoonError]) -> None:
    converted = convert_error(error("quoting a secret"))
    assert type(converted) is expected
    assert "secret" not in str(converted)


def test_messages_do_not_quote_what_was_stored_or_sought(database: Database) -> None:
    database.execute("CREATE VIRTUAL TABLE found USING fts5 (text)")
    with pytest.raises(LocalStateError) as caught:
        database.query("SELECT * FROM found WHERE found MATCH ?", ('hunter2"',))
    assert "hunter2" not in str(caught.value)


def test_the_settings_that_durability_and_secrecy_rest_on(database: Database) -> None:
    expected = {
        "journal_mode": "wal",
        "synchronous": 2,
        "temp_store": 2,
        "locking_mode": "exclusive",
        "foreign_keys": 1,
        "secure_delete": 1,
        "trusted_schema": 0,
        "mmap_size": 0,
        "page_size": 4096,
        "cipher": "chacha20",
    }
    assert {name: database.query_value(f"PRAGMA {name}") for name in expected} == expected


def test_foreign_keys_are_kept(database: Database) -> None:
    database.execute("CREATE TABLE child (t INTEGER NOT NULL REFERENCES t (id))")
    with pytest.raises(LocalStateError):
        database.execute("INSERT INTO child VALUES (7)")


def test_full_text_search_is_there(database: Database) -> None:
    database.execute("CREATE VIRTUAL TABLE found USING fts5 (text)")
    database.execute("INSERT INTO found VALUES ('a small cocoon')")
    assert database.query("SELECT text FROM found WHERE found MATCH 'cocoon'") == [("a small cocoon",)]


def test_another_key_or_none_does_not_open(database: Database, path: Path) -> None:
    database.close()
    with pytest.raises(ProfileDamagedError):
        Database.open(path, OTHER_KEY)
    with pytest.raises(sqlite3.DatabaseError), sqlite3.connect(path) as plain:
        plain.execute("SELECT * FROM sqlite_schema")
    plain.close()
    Database.open(path, KEY).close()


def test_a_missing_file_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(LocalStateError):
        Database.open(tmp_path / "none.db", KEY)
    assert list(tmp_path.iterdir()) == []


def test_a_database_is_open_once(database: Database, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BUSY_MS", 1)
    database.execute("INSERT INTO t (x) VALUES (1)")
    with pytest.raises(ProfileLockedError):
        Database.open(path, KEY)
    assert not path.with_name("profile.db-shm").exists()


def test_a_closed_database_says_so(database: Database) -> None:
    database.close()
    database.close()
    with pytest.raises(LocalStateError, match="closed"):
        database.query("SELECT 1")
    with pytest.raises(LocalStateError, match="closed"), database.transaction():
        pass


def test_plain_apsw_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(apsw, "mc_version")
    with pytest.raises(LocalStateError, match="apsw-sqlite3mc"):
        Database.open(path, KEY)
    assert path.stat().st_size == 0


def fill(database: Database) -> None:
    database.executemany("INSERT INTO t (x) VALUES (?)", [(bytes([number]) * 3000,) for number in range(60)])


def read_all(path: Path) -> int:
    """Open, read everything twice, by table and by index; the number of rows."""
    with contextlib.closing(Database.open(path, KEY)) as database:
        return len(database.query("SELECT * FROM t")) + len(database.query("SELECT x FROM t ORDER BY x"))


def test_a_changed_byte_anywhere_is_found_and_never_read_as_data(database: Database, path: Path) -> None:
    fill(database)
    database.close()
    whole = path.read_bytes()
    for place in [*range(0, 40, 3), *range(50, len(whole), 4093)]:
        damaged = bytearray(whole)
        damaged[place] ^= 0x10
        path.write_bytes(damaged)
        with pytest.raises(ProfileDamagedError):
            read_all(path)
    path.write_bytes(whole)
    assert read_all(path) == 120


def test_pages_that_changed_places_are_found(database: Database, path: Path) -> None:
    fill(database)
    database.close()
    whole = path.read_bytes()
    pages = [whole[at : at + 4096] for at in range(0, len(whole), 4096)]
    pages[10], pages[11] = pages[11], pages[10]
    path.write_bytes(b"".join(pages))
    reopened = Database.open(path, KEY)
    with pytest.raises(ProfileDamagedError):
        reopened.query("SELECT * FROM t")
    reopened.close()


def test_a_forked_process_draws_other_nonces(tmp_path: Path) -> None:
    code = """
import os, sys
from pathlib import Path
from cocoon_core.protocol.primitives import Secret
from cocoon_core.storage.database import Database
def write(name):
    Path(name).touch()
    database = Database.open(Path(name), Secret(bytes(32)))
    database.execute("CREATE TABLE t (x)")
    database.close()
write("before")
child = os.fork()
write("parent" if child else "child")
if child:
    os.waitpid(child, 0)
"""
    environment = {"PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
    nonces = []
    for name in ("before", "parent", "child"):
        data = (tmp_path / name).read_bytes()
        nonces += [data[end - 32 : end - 16] for end in range(4096, len(data) + 1, 4096)]
    assert len(nonces) == 6
    assert len(set(nonces)) == 6


def test_moving_the_log_empties_it(database: Database, path: Path) -> None:
    fill(database)
    log = path.with_name("profile.db-wal")
    assert log.stat().st_size > 0
    database.move_log()
    assert log.stat().st_size == 0
    assert len(values(database)) == 60


def test_a_deleted_row_leaves_no_cell_behind(database: Database) -> None:
    database.executemany("INSERT INTO t (x) VALUES (?)", [(b"SECRET-OF-AN-EPOCH %d" % row,) for row in range(200)])
    assert b"SECRET-OF" in database._connection.serialize("main")
    database.execute("DELETE FROM t")
    assert b"SECRET-OF" not in database._connection.serialize("main")


def test_the_log_does_not_grow_without_bound(path: Path) -> None:
    disk = WatchedDisk()
    database = Database.open(path, KEY, vfs=disk.vfs_name)
    database.execute("CREATE TABLE t (x)")
    for _ in range(2):
        database.executemany("INSERT INTO t VALUES (zeroblob(?))", [(4_000_000,) for _ in range(3)])
        database.execute("DELETE FROM t")
    database.execute("INSERT INTO t VALUES (1)")
    assert path.with_name("profile.db-wal").stat().st_size <= module.WAL_KEPT_BYTES
    database.close()
