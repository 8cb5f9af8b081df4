"""What runs in a process of its own in the tests of device storage, until it is killed."""

from __future__ import annotations

import contextlib
import itertools
import os
from multiprocessing.connection import Connection
from pathlib import Path

from cocoon_core.storage.database import Database
from cocoon_core.storage.profile import Profile

PASSPHRASE = "correct horse"


def commit_until_killed(home: Path, first: int, acknowledged: Connection) -> None:
    """Commit numbers from `first` up, each in two tables in one transaction, and report each once it is durable."""
    with Profile.open(home, PASSPHRASE) as profile:
        database = profile.database
        database.execute("PRAGMA wal_autocheckpoint = 15")
        for number in itertools.count(first):
            with database.transaction():
                database.execute("INSERT INTO left_half VALUES (?, ?)", (number, os.urandom(number * 37 % 9_000)))
                database.execute("INSERT INTO right_half VALUES (?)", (number,))
            acknowledged.send(number)


def hold_profile(home: Path, ready: Connection) -> None:
    """Open the profile and keep it until killed."""
    with Profile.open(home, PASSPHRASE):
        ready.send(os.getpid())
        ready.recv()


def plant_until_killed(home: Path, canaries: list[str], ready: Connection) -> None:
    """Write the canaries in every way that the tables know, and keep everything open until killed."""
    with Profile.open(home, PASSPHRASE) as profile:
        plant(profile.database, canaries)
        ready.send(os.getpid())
        ready.recv()


def plant(database: Database, canaries: list[str]) -> None:
    """Tables, an index, a full-text index, a big sort, deleted rows, a rolled-back transaction that spills."""
    database.execute("CREATE TABLE planted (id INTEGER PRIMARY KEY, author TEXT, text TEXT, raw BLOB)")
    database.execute("CREATE INDEX planted_by_text ON planted (text)")
    database.execute("CREATE VIRTUAL TABLE planted_words USING fts5 (text)")
    rows = [(canary, f"{canary} says {number}", canary.encode() * 20) for number in range(400) for canary in canaries]
    with database.transaction():
        database.executemany("INSERT INTO planted (author, text, raw) VALUES (?, ?, ?)", rows)
        database.executemany("INSERT INTO planted_words (text) VALUES (?)", [(text,) for _, text, _ in rows])
        database.execute(f'CREATE TABLE "{canaries[0]}" (x)')
    database.query("SELECT a.text, b.text FROM planted a JOIN planted b USING (author) ORDER BY a.raw, b.text LIMIT 9")
    database.query("SELECT text FROM planted_words WHERE planted_words MATCH 'says' ORDER BY text")
    database.execute("DELETE FROM planted WHERE id % 3 = 0")
    database.execute("PRAGMA cache_size = 10")
    with contextlib.suppress(ValueError), database.transaction():
        database.executemany("INSERT INTO planted (author, text, raw) VALUES (?, ?, ?)", rows)
        raise ValueError
    database.execute("UPDATE planted SET raw = raw || raw")
