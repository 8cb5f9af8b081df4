"""The encrypted SQLite database of a profile. Implements specs/storage.md §7.

Decides the cipher, the settings that make a commit durable, and what each failure of SQLite means to us. Tables are
left to the modules that own them, which speak to `Database` and never to apsw. One thread at a time uses a `Database`.

Whatever fails inside `transaction()` rolls all of it back. A statement outside one is a transaction by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import apsw

from cocoon_core.errors import (
    LocalStateError,
    ProfileDamagedError,
    ProfileLockedError,
    StorageFullError,
    UsageError,
)
from cocoon_core.protocol.primitives import Secret

Value = None | int | float | str | bytes
Row = tuple[Any, ...]
Parameters = Sequence[Value] | Mapping[str, Value]

CIPHER: Final = "chacha20"  # ChaCha20-Poly1305 on every page, with a random nonce each time it is written
PAGE_BYTES: Final = 4096
CACHE_KIB: Final = 8 * 1024
WAL_KEPT_BYTES: Final = 8 * 1024 * 1024  # the log is cut to this after it was moved into the database
BUSY_MS: Final = 2_000
STATEMENTS_KEPT: Final = 200
COPIED_PAGES: Final = 1024  # at a time


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema: SQL, a function, or both in this order. It runs once, in one transaction."""

    name: str
    sql: str = ""
    run: Callable[[Database], None] | None = None


class Database:
    """An open, unlocked database. Rows are tuples; every error is a LocalStateError or a UsageError."""

    __slots__ = ("_connection", "_in_transaction")

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._in_transaction = False

    @classmethod
    def open(cls, path: Path, key: Secret, *, vfs: str | None = None) -> Database:
        """Open the database file, which must be there; an empty one becomes a new database under this key.

        `vfs` names another SQLite file layer to stand under the encryption; tests use it to see and fail every write.

        Raises:
            ProfileDamagedError: the file is no database, or not one under this key.
            ProfileLockedError: another program has it open.
            StorageFullError: the disk cannot be read or written.
        """
        _require_encryption()
        try:
            connection = apsw.Connection(
                str(path),
                flags=apsw.SQLITE_OPEN_READWRITE,
                vfs=None if vfs is None else f"multipleciphers-{vfs}",
                statementcachesize=STATEMENTS_KEPT,
            )
        except apsw.Error as error:
            raise convert_error(error) from error
        try:
            _set_key(connection, key)
            _configure(connection)
        except BaseException as error:
            _close(connection)
            if isinstance(error, apsw.Error):
                raise convert_error(error) from error
            raise
        return cls(connection)

    @property
    def folder(self) -> Path:
        """Where the database file is."""
        return Path(self._connection.filename).parent

    @property
    def in_transaction(self) -> bool:
        return self._in_transaction

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of the block's writes, durably, or none of them: any exception rolls back and goes on.

        Raises:
            UsageError: a transaction is open already. They do not nest, so that the outermost block is plain to see.
            LocalStateError: it could not begin or commit, and nothing was changed.
        """
        if self._in_transaction:
            raise UsageError("a transaction is open already")
        self._run("BEGIN IMMEDIATE")
        self._in_transaction = True
        try:
            yield
            self._run("COMMIT")
        except BaseException:
            self._roll_back()
            raise
        finally:
            self._in_transaction = False

    def execute(self, sql: str, parameters: Parameters = ()) -> int:
        """Run one statement (several, if none has parameters); the number of rows that the last INSERT, UPDATE or
        DELETE changed.
        """
        self._run(sql, parameters)
        return self._connection.changes()

    def executemany(self, sql: str, rows: Iterable[Parameters]) -> int:
        """Run one INSERT, UPDATE or DELETE for every row, all or nothing; the number of rows changed."""
        if not self._in_transaction:
            with self.transaction():
                return self.executemany(sql, rows)
        self._require_usable()
        before = self._connection.total_changes()
        try:
            self._connection.executemany(sql, rows)
        except apsw.Error as error:
            raise convert_error(error) from error
        return self._connection.total_changes() - before

    def last_insert_rowid(self) -> int:
        """The rowid that the last successful INSERT gave."""
        return self._connection.last_insert_rowid()

    def query(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        """All rows of a SELECT."""
        self._require_usable()
        try:
            return self._connection.execute(sql, parameters).fetchall()
        except apsw.Error as error:
            raise convert_error(error) from error

    def query_one(self, sql: str, parameters: Parameters = ()) -> Row | None:
        """The first row of a SELECT, or None."""
        self._require_usable()
        try:
            cursor = self._connection.execute(sql, parameters)
            row: Row | None = cursor.fetchone()
            cursor.close()
        except apsw.Error as error:
            raise convert_error(error) from error
        return row

    def query_value(self, sql: str, parameters: Parameters = ()) -> Any:
        """The first column of the first row of a SELECT, or None."""
        row = self.query_one(sql, parameters)
        return None if row is None else row[0]

    def query_each(self, sql: str, parameters: Parameters = ()) -> Iterator[Row]:
        """The rows of a SELECT one by one, for what is too much to hold. Write nothing that it reads meanwhile."""
        self._require_usable()
        try:
            yield from self._connection.execute(sql, parameters)
        except apsw.Error as error:
            raise convert_error(error) from error

    def move_log(self) -> None:
        """Move the write-ahead log into the database and empty it: what was deleted is then in neither file."""
        if self._in_transaction:
            raise UsageError("the log cannot be moved inside a transaction")
        self._run("PRAGMA wal_checkpoint(TRUNCATE)")

    def copy_to(self, path: Path, key: Secret) -> None:
        """Write all that is committed into an empty file, as a database under another key; closed and durable after.

        Pages are decrypted and encrypted in memory: nothing is ever written in the clear.

        Raises:
            UsageError: a transaction is open.
            StorageFullError: the disk cannot be read or written.
        """
        if self._in_transaction:
            raise UsageError("a database cannot be copied inside a transaction")
        target = Database.open(path, key)
        try:
            with target._connection.backup("main", self._connection, "main") as backup:
                while not backup.done:
                    backup.step(COPIED_PAGES)
            target.move_log()
        except apsw.Error as error:
            raise convert_error(error) from error
        finally:
            target.close()

    def close(self) -> None:
        """Move the log into the database and close. A second call does nothing.

        Everything committed is durable already, so a disk that fails here loses nothing and raises nothing.
        """
        _close(self._connection)

    def _run(self, sql: str, parameters: Parameters = ()) -> None:
        self._require_usable()
        try:
            self._connection.execute(sql, parameters)
        except apsw.Error as error:
            raise convert_error(error) from error

    def _require_usable(self) -> None:
        # SQLite itself rolls back when the disk is full. A caller that goes on regardless would then write outside of
        # the transaction that it believes to be in.
        if self._in_transaction and not self._connection.in_transaction:
            raise LocalStateError("this transaction was rolled back; nothing more can be done in it")

    def _roll_back(self) -> None:
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except apsw.Error:
            # What state this connection is in is not known: better none than one that might commit half.
            _close(self._connection)


def convert_error(error: apsw.Error) -> LocalStateError:
    """Our error for one of SQLite. It carries SQLite's result code, never its text, which may quote what was stored."""
    result = f"{type(error).__name__} {getattr(error, 'extendedresult', 0)}"
    match error:
        case apsw.FullError() | apsw.IOError() | apsw.ReadOnlyError():
            return StorageFullError(f"the disk is read-only or full, or cannot be read ({result}); nothing was changed")
        case apsw.CorruptError() | apsw.NotADBError():
            return ProfileDamagedError(f"profile.db is damaged, or is not under the key of this profile ({result})")
        case apsw.BusyError() | apsw.LockedError():
            return ProfileLockedError(f"another program has profile.db open ({result})")
        case apsw.CantOpenError():
            return LocalStateError(f"the files of the database cannot be opened ({result})")
        case apsw.ConnectionClosedError():
            return LocalStateError("the database is closed")
    return LocalStateError(f"the database refuses this ({result})")


def _close(connection: apsw.Connection) -> None:
    """Close, whatever the disk says: what was committed is in the log, and the next opening moves it."""
    with suppress(apsw.Error):
        connection.close(True)


def _require_encryption() -> None:
    """Refuse plain apsw: it is the same module, and would take the key in silence and write everything in the clear."""
    if not hasattr(apsw, "mc_version"):
        raise LocalStateError("plain apsw is installed over apsw-sqlite3mc: remove both and install apsw-sqlite3mc")


def _set_key(connection: apsw.Connection, key: Secret) -> None:
    if connection.pragma("cipher", CIPHER) != CIPHER:
        raise LocalStateError(f"this SQLite has no cipher {CIPHER}")
    # `raw:` takes the bytes as the key itself. Connection.pragma keeps no statement, so no copy of the key either.
    if connection.pragma("hexkey", (b"raw:" + key.reveal()).hex()) != "ok":
        raise LocalStateError("this SQLite takes no key")


def _configure(connection: apsw.Connection) -> None:
    """Settle how this connection works. The order matters: locking before the log, and both after the key."""
    connection.set_busy_timeout(BUSY_MS)
    settings: tuple[tuple[str, str | int], ...] = (
        ("page_size", PAGE_BYTES),
        ("temp_store", "memory"),  # the cipher does not reach temporary files
        ("locking_mode", "exclusive"),  # the index of the log stays in memory: no third file, and 15 % less a commit
        ("journal_mode", "wal"),
        ("synchronous", "full"),  # each commit waits for the disk
        ("fullfsync", 1),  # on macOS, for the disk itself and not its cache
        ("checkpoint_fullfsync", 1),
        ("journal_size_limit", WAL_KEPT_BYTES),
        ("secure_delete", 1),
        ("foreign_keys", 1),
        ("trusted_schema", 0),
        ("cell_size_check", 1),
        ("cache_size", -CACHE_KIB),
        ("mmap_size", 0),
    )
    for name, value in settings:
        connection.pragma(name, value)
    connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
    for name, wanted in (("journal_mode", "wal"), ("synchronous", 2), ("temp_store", 2)):
        if connection.pragma(name) != wanted:
            raise LocalStateError(f"this SQLite does not take the setting {name}")
