"""The schema grows by numbered steps, each whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cocoon_core.errors import LocalStateError, UpdateNeededError
from cocoon_core.protocol.primitives import Secret
from cocoon_core.storage.database import Database, Migration
from cocoon_core.storage.meta import read_meta, write_meta
from cocoon_core.storage.migrations import MIGRATIONS, migrate, read_version

KEY = Secret(bytes(range(32)))
ONE = Migration("one", "CREATE TABLE one (x); CREATE TABLE other (y);")


def insert_two(database: Database) -> None:
    database.execute("INSERT INTO one VALUES (2)")


TWO = Migration("two", run=insert_two)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    (tmp_path / "profile.db").touch()
    opened = Database.open(tmp_path / "profile.db", KEY)
    yield opened
    opened.close()


def test_all_steps_give_a_schema_that_is_whole(database: Database) -> None:
    migrate(database)
    assert read_version(database) == len(MIGRATIONS)
    assert database.query("PRAGMA foreign_key_check") == []
    assert database.query_value("PRAGMA integrity_check") == "ok"
    assert len({migration.name for migration in MIGRATIONS}) == len(MIGRATIONS)


def test_each_step_is_done_once(database: Database) -> None:
    migrate(database, (ONE,))
    migrate(database, (ONE,))
    assert read_version(database) == 1
    migrate(database, (ONE, TWO))
    migrate(database, (ONE, TWO))
    assert database.query("SELECT x FROM one") == [(2,)]
    assert read_version(database) == 2


def test_a_step_that_fails_leaves_the_one_before(database: Database) -> None:
    broken = Migration("broken", "CREATE TABLE three (x); CREATE TABLE one (x);")
    with pytest.raises(LocalStateError):
        migrate(database, (ONE, TWO, broken))
    assert read_version(database) == 2
    assert database.query("SELECT name FROM sqlite_schema WHERE name = 'three'") == []

    def stop(database: Database) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        migrate(database, (ONE, TWO, Migration("stopped", "CREATE TABLE four (x)", stop)))
    assert database.query("SELECT name FROM sqlite_schema WHERE name = 'four'") == []
    assert read_version(database) == 2


def test_a_database_of_a_newer_version_is_left_alone(database: Database) -> None:
    migrate(database, (ONE, TWO))
    with pytest.raises(UpdateNeededError, match="schema 2, and this version knows 1"):
        migrate(database, (ONE,))
    assert read_version(database) == 2


def test_meta_keeps_single_values(database: Database) -> None:
    migrate(database)
    assert read_meta(database, "a") is None
    write_meta(database, "a", b"1")
    write_meta(database, "a", b"2")
    write_meta(database, "b", b"")
    assert (read_meta(database, "a"), read_meta(database, "b")) == (b"2", b"")
