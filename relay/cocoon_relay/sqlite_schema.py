"""The relay's tables, as numbered migrations, and how a connection to them is opened.

An envelope's row number is `topic number << 32 | seq`, so a topic's log is one run of rows, and the cost of a put does
not depend on how much other topics hold. What `gc` has condemned is out of sight at once and is removed in small steps.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from cocoon_core.errors import ProfileDamagedError
from cocoon_relay.puts import SEQ_BITS

DATABASE_NAME: Final = "relay.sqlite3"
_BUSY_MS: Final = 5_000
_INCREMENTAL: Final = 2

MIGRATIONS: Final = (
    """
    CREATE TABLE topics (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        topic BLOB NOT NULL UNIQUE,
        incarnation BLOB NOT NULL,
        first INTEGER NOT NULL DEFAULT 1,
        last INTEGER NOT NULL DEFAULT 0,
        bytes INTEGER NOT NULL DEFAULT 0,
        blob_bytes INTEGER NOT NULL DEFAULT 0,
        sealed INTEGER NOT NULL DEFAULT 0,
        touched INTEGER NOT NULL
    );
    CREATE INDEX topics_touched ON topics (touched);
    CREATE TABLE entries (place INTEGER PRIMARY KEY, envelope BLOB NOT NULL);
    CREATE TABLE hashes (
        topic INTEGER NOT NULL, hash BLOB NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (topic, hash)
    ) WITHOUT ROWID;
    CREATE TABLE condemned (low INTEGER PRIMARY KEY, high INTEGER NOT NULL);
    CREATE TABLE blobs (hash BLOB PRIMARY KEY, size INTEGER NOT NULL, touched INTEGER NOT NULL) WITHOUT ROWID;
    CREATE INDEX blobs_touched ON blobs (touched);
    CREATE TABLE totals (
        topics INTEGER NOT NULL, entries INTEGER NOT NULL, bytes INTEGER NOT NULL,
        blobs INTEGER NOT NULL, blob_bytes INTEGER NOT NULL
    );
    INSERT INTO totals VALUES (0, 0, 0, 0, 0);
    """,
    # The file of a blob has a name of its own; where it is null, the file is named by the hash alone.
    """
    ALTER TABLE blobs ADD COLUMN place TEXT;
    CREATE INDEX blobs_place ON blobs (place);
    CREATE TABLE condemned_blobs (place TEXT PRIMARY KEY) WITHOUT ROWID;
    """,
    # The table of hashes goes up to here; those after it are computed from the envelopes.
    """
    ALTER TABLE topics ADD COLUMN indexed INTEGER NOT NULL DEFAULT 0;
    UPDATE topics SET indexed = last;
    """,
)


def place_of(number: int, seq: int) -> int:
    """The row number of one envelope."""
    return number << SEQ_BITS | seq


def connect_writer(path: Path) -> sqlite3.Connection:
    """Open for writing, with every commit on the disk before it returns."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=_BUSY_MS / 1000)
    try:
        if connection.execute("PRAGMA auto_vacuum").fetchone() != (_INCREMENTAL,):  # to set it again is a commit
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA wal_autocheckpoint = 4000")
        connection.execute("PRAGMA cache_size = -65536")
        connection.execute("PRAGMA temp_store = MEMORY")
    except BaseException:
        connection.close()
        raise
    return connection


def connect_reader(path: Path) -> sqlite3.Connection:
    """Open for reading only; a writer may go on beside it."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
    )
    try:
        connection.execute("PRAGMA query_only = ON")
        connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
    except BaseException:
        connection.close()
        raise
    return connection


def empty_log(connection: sqlite3.Connection) -> None:
    """Write what the log holds into the database, sync it, and begin the log anew.

    A process whose sync failed may have left bytes in the log that the system still shows and no disk holds; it does
    not write them again at a later sync. What is committed behind such bytes goes with them when the power does.

    Raises:
        sqlite3.Error: the disk does not take it. That a reader is in its way is no error: then it is left as it is.
    """
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the tables to the newest form, each step in a transaction of its own.

    What a step begins from is read inside its transaction, so of two processes that start at once one waits for the
    other, at most 5 seconds, and finds its steps done.

    Raises:
        ProfileDamagedError: a newer relay made them.
    """
    while _read_version(connection) < len(MIGRATIONS):
        connection.execute("BEGIN IMMEDIATE")
        try:
            version = _read_version(connection)
            if version < len(MIGRATIONS):
                for statement in MIGRATIONS[version].split(";"):  # `executescript` would commit first
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {version + 1}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _read_version(connection: sqlite3.Connection) -> int:
    version: int
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(MIGRATIONS):
        raise ProfileDamagedError(
            f"a newer relay made this data directory: it has form {version}, and this relay knows {len(MIGRATIONS)} at"
            " most; start the newer one, or restore a backup that this one made"
        )
    return version
