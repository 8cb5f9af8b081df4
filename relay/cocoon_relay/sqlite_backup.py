"""Copies of a data directory: made beside a relay that serves it, and brought back as another life of every topic.

A backup is one reading of the database, then the files of the blobs that it names; what was put later is not in it, and
a blob whose lease ran out between the two is left out with its row. Each blob is checked against its name while it is
copied, in both directions. What is restored gives every topic a new incarnation: members' devices then compare what
stands there with what they hold and fill it up; an old log under the old one would look like a relay that withholds.
All leases begin anew. Both make a directory that was not there, under another name until it is whole. Implements
specs/relay.md §5.5.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from secrets import token_bytes
from typing import Any, Final

from cocoon_core.errors import BackupDamagedError, UsageError
from cocoon_core.protocol.ids import Incarnation
from cocoon_relay import __version__
from cocoon_relay.limits import MIB
from cocoon_relay.sqlite_schema import DATABASE_NAME, connect_reader, connect_writer, migrate, place_of
from cocoon_relay.store import hash_envelope, round_to_hour
from cocoon_relay.tokens import TOKENS_NAME
from cocoon_relay.uploads import sync_path

DESCRIPTION_NAME: Final = "backup.json"
_FORM: Final = 1
_PIECE: Final = 1 * MIB


@dataclass(frozen=True, slots=True)
class Copied:
    """What a backup holds, or a restore brought back; `left_out` are blobs that were gone or damaged."""

    topics: int
    entries: int
    bytes: int
    blobs: int
    blob_bytes: int
    left_out: int


def back_up(data: Path, target: Path) -> Copied:
    """Copy a data directory, which a relay may be serving, to a new directory. Blocks.

    Raises:
        UsageError: there is something at the target.
        OSError, sqlite3.Error: it cannot be read or written.
    """
    with _making(target.resolve()) as draft:
        database = draft / DATABASE_NAME
        with closing(connect_reader(data / DATABASE_NAME)) as source, closing(sqlite3.connect(database)) as copy:
            source.backup(copy)  # in one step, so nothing that is put meanwhile makes it begin again
            copy.execute("PRAGMA journal_mode = DELETE").fetchall()
            migrate(copy)  # a relay that has not been started since an update has the tables of before
        copied = _copy_blobs(data, draft)
        if (data / TOKENS_NAME).exists():
            _copy_file(data / TOKENS_NAME, draft / TOKENS_NAME)
        description = {
            "form": _FORM, "version": __version__, "database": _hash_file(database), **asdict(copied),
        }  # fmt: skip
        (draft / DESCRIPTION_NAME).write_text(json.dumps(description, indent=1) + "\n")
        _sync_tree(draft)
    return copied


def restore(source: Path, data: Path) -> Copied:
    """Make a new data directory from a backup, as other lives of its topics. Blocks.

    Raises:
        UsageError: there is something in the data directory, or the source is no backup.
        BackupDamagedError: the database of the backup is not what was written.
        OSError, sqlite3.Error: it cannot be read or written.
    """
    description = _read_description(source)
    with _making(data.resolve()) as draft:  # of a systemd unit it is a link, which stays one
        database = draft / DATABASE_NAME
        _copy_file(source / DATABASE_NAME, database)
        if _hash_file(database) != description["database"]:
            raise BackupDamagedError(f"{source / DATABASE_NAME} is not what was backed up; use another backup")
        with closing(connect_writer(database)) as db:
            migrate(db)
            _check(db, source)
            _begin_new_lives(db)
        copied = _copy_blobs(source, draft)
        if (source / TOKENS_NAME).exists():
            _copy_file(source / TOKENS_NAME, draft / TOKENS_NAME)
        _sync_tree(draft)
    return copied


def _read_description(source: Path) -> dict[str, Any]:
    try:
        tree = json.loads((source / DESCRIPTION_NAME).read_bytes())
        if tree["form"] != _FORM:
            raise ValueError("another form")
        return {"database": str(tree["database"])}
    except FileNotFoundError as error:
        raise UsageError(f"{source} is not a backup of a relay, or not a whole one") from error
    except (ValueError, TypeError, KeyError) as error:
        raise BackupDamagedError(f"{source / DESCRIPTION_NAME} is damaged, or of a newer relay") from error


def _check(db: sqlite3.Connection, source: Path) -> None:
    """Whether the tables are sound and each envelope is the one that its hash names."""
    problems = db.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if problems != "ok":
        raise BackupDamagedError(f"the database in {source} is damaged: {problems}")
    for topic, name, seq in db.execute("SELECT topic, hash, seq FROM hashes"):
        row = db.execute("SELECT envelope FROM entries WHERE place = ?", (place_of(topic, seq),)).fetchone()
        if row is None or hash_envelope(row[0]) != name:
            raise BackupDamagedError(f"the database in {source} is damaged: an envelope is not the one that was put")


def _begin_new_lives(db: sqlite3.Connection) -> None:
    hour = round_to_hour(time.time())
    db.execute("BEGIN IMMEDIATE")
    numbers = [number for (number,) in db.execute("SELECT number FROM topics")]
    db.executemany(
        "UPDATE topics SET incarnation = ?, touched = ? WHERE number = ?",
        ((token_bytes(Incarnation.LENGTH), hour, number) for number in numbers),
    )
    db.execute("UPDATE blobs SET touched = ?", (hour,))
    db.execute("COMMIT")


def _copy_blobs(source: Path, draft: Path) -> Copied:
    """Copy the blobs that the copied database names; those that are gone or not what they are named lose their row."""
    (draft / "blobs").mkdir(mode=0o700)
    with closing(connect_writer(draft / DATABASE_NAME)) as db:
        db.execute("PRAGMA journal_mode = DELETE").fetchall()
        lost = []
        for name, size, place in db.execute("SELECT hash, size, coalesce(place, lower(hex(hash))) FROM blobs"):
            target = draft / "blobs" / place[:2] / place
            target.parent.mkdir(mode=0o700, exist_ok=True)
            if not _copy_blob(source / "blobs" / place[:2] / place, target, bytes(name)):
                lost.append((name, size))
        db.execute("BEGIN IMMEDIATE")
        for name, size in lost:
            db.execute("DELETE FROM blobs WHERE hash = ?", (name,))
            db.execute("UPDATE totals SET blobs = blobs - 1, blob_bytes = blob_bytes - ?", (size,))
        row = db.execute("SELECT topics, entries, bytes, blobs, blob_bytes FROM totals").fetchone()
        topics, entries, size, blobs, blob_bytes = row
        db.execute("COMMIT")
    return Copied(topics, entries, size, blobs, blob_bytes, len(lost))


def _copy_blob(source: Path, target: Path, name: bytes) -> bool:
    found = hashlib.sha256()
    try:
        with source.open("rb") as reader, target.open("xb") as writer:
            while piece := reader.read(_PIECE):
                found.update(piece)
                writer.write(piece)
            writer.flush()
            os.fsync(writer.fileno())
    except FileNotFoundError:
        return False
    if found.digest() != name:
        target.unlink()
        return False
    return True


def _copy_file(source: Path, target: Path) -> None:
    with (
        source.open("rb") as reader,
        open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as writer,
    ):
        shutil.copyfileobj(reader, writer, _PIECE)
        writer.flush()
        os.fsync(writer.fileno())


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _making(target: Path) -> Iterator[Path]:
    """A directory to fill, which becomes the target when the block ends well, and is removed when it does not."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"there is something at {target}; name a directory that is not there yet")
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = target.with_name(target.name + ".part")
    try:
        draft.mkdir(mode=0o700)
    except FileExistsError as error:
        raise UsageError(f"{draft} is in the way: another run, or one that was broken off; remove it") from error
    try:
        yield draft
        draft.replace(target)  # an empty directory gives way
        sync_path(target.parent)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def _sync_tree(folder: Path) -> None:
    for path, _, names in os.walk(folder):
        for name in names:
            sync_path(Path(path, name))
        sync_path(Path(path))
