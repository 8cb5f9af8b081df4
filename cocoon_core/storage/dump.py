"""All rows of a profile's database as a row of records, and back: what a backup holds. Implements specs/backup.md §4.

Rows travel, not pages: a reader needs the schema and nothing of SQLite, a damaged page or index does not come along,
and the steps of the schema that a newer version adds run on what was restored as on any other profile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from cocoon_core.errors import BackupDamagedError, LocalStateError, MalformedError, UpdateNeededError
from cocoon_core.protocol import encoding
from cocoon_core.protocol.constants import MAX_BACKUP_RECORD_BYTES
from cocoon_core.storage.database import Database
from cocoon_core.storage.migrations import MIGRATIONS, migrate, read_version

HEAD: Final = 0  # [0, schema version, time in ms]
TABLE: Final = 1  # [1, table, columns]
ROW: Final = 2  # [2, values of those columns]
END: Final = 3  # [3, number of rows]
_LENGTH_BYTES: Final = 4
_ROWS_A_TRANSACTION: Final = 2_000
_MADE_ANEW: Final = "search_"  # how tables begin that follow others by their rowids, which are given anew
_SEQUENCES: Final = "sqlite_sequence"  # the highest numbers that AUTOINCREMENT gave: they never come again

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class DumpHead:
    """What a dump says of itself first."""

    schema: int
    time_ms: int


def dump(database: Database, time_ms: int, progress: Progress | None = None) -> Iterator[bytes]:
    """The records of everything in the database, each with its length. In one transaction, without a pause: what it
    gives is one state. Memory stays bounded by the largest row.

    Raises:
        LocalStateError: a row is larger than a record may be, or cannot be read.
    """
    tables = _tables(database)
    total = sum(int(database.query_value(f'SELECT count(*) FROM "{table}"')) for table in tables)
    count = 0
    yield _frame([HEAD, read_version(database), time_ms])
    for table in tables:
        columns = _columns(database, table)
        yield _frame([TABLE, table, columns])
        names = ", ".join(f'"{column}"' for column in columns)
        for row in database.query_each(f'SELECT {names} FROM "{table}" ORDER BY {_order(database, table)}'):
            yield _frame([ROW, list(row)])
            count += 1
            if progress is not None and count % 1024 == 0:
                progress(count, total)
    yield _frame([END, count])


def read_records(chunks: Iterable[bytes]) -> Iterator[Any]:
    """The values of records that arrive in pieces.

    Raises:
        BackupDamagedError: they are no records.
    """
    buffer = bytearray()
    for chunk in chunks:
        buffer += chunk
        at = 0
        while len(buffer) - at >= _LENGTH_BYTES:
            length = int.from_bytes(buffer[at : at + _LENGTH_BYTES], "big")
            if length > MAX_BACKUP_RECORD_BYTES:
                raise BackupDamagedError("a record of this backup is too long")
            if len(buffer) - at < _LENGTH_BYTES + length:
                break
            at += _LENGTH_BYTES
            yield _decode(bytes(buffer[at : at + length]))
            at += length
        del buffer[:at]
    if buffer:
        raise BackupDamagedError("the last record of this backup is cut off")


def read_head(records: Iterator[Any]) -> DumpHead:
    """The first record.

    Raises:
        UpdateNeededError: a newer Cocoon wrote it.
        BackupDamagedError: it is none.
    """
    match next(records, None):
        case [0, int(schema), int(time_ms)]:
            if schema > len(MIGRATIONS):
                raise UpdateNeededError(
                    f"this backup has schema {schema}, and this version knows {len(MIGRATIONS)}; install a newer Cocoon"
                )
            if schema >= 1:
                return DumpHead(schema, time_ms)
    raise BackupDamagedError("this backup does not begin as one")


def load(database: Database, records: Iterator[Any], progress: Progress | None = None) -> DumpHead:
    """Fill an empty database, at the schema that the dump had, and take that to the one of today.

    Raises:
        UpdateNeededError: a newer Cocoon wrote it.
        BackupDamagedError: the records are not those of a profile.
    """
    head = read_head(records)
    migrate(database, MIGRATIONS[: head.schema])
    known = {table: _columns(database, table) for table in _tables(database)}
    database.execute("PRAGMA foreign_keys = OFF")  # a row may stand before the one that it names
    with database.transaction():
        for table in known:
            database.execute(f'DELETE FROM "{table}"')  # what steps of the schema put there
    count = 0
    sql: str | None = None
    ended = False
    while batch := list(islice(records, _ROWS_A_TRANSACTION)):
        with database.transaction():
            for record in batch:
                match record:
                    case [2, list(values)] if sql is not None and not ended:
                        _insert(database, sql, values)
                        count += 1
                    case [1, str(table), list(columns)] if known.get(table) == columns and not ended:
                        sql = _insertion(table, columns)
                        if table == _SEQUENCES:  # the rows before began to count anew
                            database.execute(f'DELETE FROM "{table}"')
                    case [3, int(total)] if total == count and not ended:
                        ended = True
                    case _:
                        raise BackupDamagedError("a record of this backup is not one of a profile")
        if progress is not None:
            progress(count, count)
    if not ended or database.query("PRAGMA foreign_key_check"):
        raise BackupDamagedError("this backup does not hold together")
    database.execute("PRAGMA foreign_keys = ON")
    migrate(database)
    return head


def _tables(database: Database) -> list[str]:
    """The tables of what a profile holds: nothing that an index keeps for itself or search has made, and none of
    SQLite's own but the numbers that it gave.
    """
    rows = database.query("SELECT name FROM pragma_table_list WHERE schema='main' AND type='table' ORDER BY name")
    names = [name for (name,) in rows if not name.startswith(("sqlite_", _MADE_ANEW))]
    has_sequences = database.query_value("SELECT count(*) FROM sqlite_schema WHERE name=?", (_SEQUENCES,))
    return [*names, _SEQUENCES] if has_sequences else names


def _columns(database: Database, table: str) -> list[str]:
    return [name for (name,) in database.query("SELECT name FROM pragma_table_info(?) ORDER BY cid", (table,))]


def _order(database: Database, table: str) -> str:
    """As the rows stand: where nothing else orders them, their order says which came first."""
    without_rowid = database.query_value("SELECT wr FROM pragma_table_list WHERE schema='main' AND name=?", (table,))
    if not without_rowid:
        return "rowid"
    keys = database.query("SELECT name FROM pragma_table_info(?) WHERE pk > 0 ORDER BY pk", (table,))
    return ", ".join(f'"{name}"' for (name,) in keys)


def _insertion(table: str, columns: list[str]) -> str:
    names = ", ".join(f'"{column}"' for column in columns)
    return f'INSERT INTO "{table}" ({names}) VALUES ({", ".join("?" * len(columns))})'


def _insert(database: Database, sql: str, values: list[Any]) -> None:
    try:
        database.execute(sql, values)
    except LocalStateError as error:
        if type(error) is not LocalStateError:  # the disk's, not the row's
            raise
        raise BackupDamagedError(f"a row of this backup does not fit: {error}") from error


def _frame(record: list[Any]) -> bytes:
    raw = encoding.encode(record)
    if len(raw) > MAX_BACKUP_RECORD_BYTES:
        raise LocalStateError(f"a row of {len(raw)} bytes is more than a backup can hold")
    return len(raw).to_bytes(_LENGTH_BYTES, "big") + raw


def _decode(raw: bytes) -> Any:
    try:
        return encoding.decode(raw, max_bytes=len(raw))
    except MalformedError as error:
        raise BackupDamagedError(f"a record of this backup cannot be read: {error}") from error
