"""A readable archive of groups: pages and JSON in a folder, for people who keep or leave. A part of `Cocoon`.

It is whole or not there: everything is written beside the folder under a name that begins with a dot, and renamed.
Spec: specs/archive.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cocoon_core.cocoon_part import CocoonPart
from cocoon_core.errors import LocalStateError, UsageError
from cocoon_core.group import Group
from cocoon_core.social.archive import GroupArchive, GroupFacts, GroupWriter, slug, stamp, write_text
from cocoon_core.social.archive_pages import WARNING, index_page
from cocoon_core.storage.paths import convert_os_error, sync_descriptor

FORMAT: Final = "cocoon-archive"
VERSION: Final = 1
_THREADS_A_TURN: Final = 64  # written before others get a turn

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class ArchiveReport:
    """An archive that was written."""

    path: Path
    groups: int
    posts: int
    files: int
    bytes: int


class Archiving(CocoonPart):
    """The part of a profile's façade that writes archives."""

    async def export(
        self,
        folder: str | os.PathLike[str],
        groups: Sequence[Group],
        *,
        replace: bool = False,
        progress: Progress | None = None,
    ) -> ArchiveReport:
        """Write groups as a folder of pages and JSON that everybody who gets it can read.

        After a crash the folder is as before or whole; a beginning may lie beside it under a name that begins with a
        dot, and where it happens between the two renames by which one is replaced, both. Others may write to the groups
        meanwhile: every thread is as it was when it was written.

        Args:
            replace: an archive that stands there already. Nothing else is ever replaced.
            progress: called with (posts written, posts there are).

        Raises:
            UsageError: the folder holds something, or its parent is not there.
            StorageFullError, LocalStateError: it cannot be written there.
        """
        target = Path(folder).absolute()
        _require_place(target, replace)
        fresh = target.with_name(f".{target.name}.{secrets.token_hex(4)}.new")
        exported = datetime.fromtimestamp(self._clock() / 1000, UTC)
        total = sum(group.replica.database.query_value(_COUNT, (group.replica.record.number,)) for group in groups)
        try:
            with _converting(target):
                fresh.mkdir(mode=0o700)
                written = [await self._write_group(fresh, group, exported, total, progress) for group in groups]
                _write_index(fresh, groups, written, exported)
                files, size = _sync_tree(fresh)
                _put_in_place(fresh, target)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
        return ArchiveReport(target, len(groups), sum(one.posts for one in written), files, size)

    async def _write_group(
        self, fresh: Path, group: Group, exported: datetime, total: int, progress: Progress | None
    ) -> GroupArchive:
        folder = fresh / f"{slug(group.name)}-{group.id.hex()[:8]}"
        folder.mkdir(mode=0o700)
        writer = GroupWriter(folder, _facts(group), group.replica, group.feed, exported)
        for number, done in enumerate(writer.write()):
            if number % _THREADS_A_TURN == 0:
                if progress is not None:
                    progress(done, max(total, done))
                await asyncio.sleep(0)
        return writer.written


_COUNT: Final = "SELECT count(*) FROM posts WHERE group_no=?"


def _facts(group: Group) -> GroupFacts:
    members = [
        {
            "id": str(member.id),
            "name": member.name,
            "role": member.role,
            "devices": member.devices,
            "last_seen": stamp(member.last_seen) if member.last_seen else None,
            "me": member.me,
        }
        for member in group.members()
    ]
    former = [{"id": str(one.id), "name": one.name, "left": one.left} for one in group.former_members()]
    return GroupFacts(str(group.id), group.name, members, former, group.alarms())


def _write_index(fresh: Path, groups: Sequence[Group], written: Sequence[GroupArchive], exported: datetime) -> None:
    listed: list[dict[str, Any]] = [
        {"id": str(group.id), "name": group.name, "folder": one.folder, "posts": one.posts, "files": sorted(one.files)}
        for group, one in zip(groups, written, strict=True)
    ]
    shown = [{"name": one["name"], "folder": one["folder"], "posts": str(one["posts"])} for one in listed]
    write_text(fresh / "index.html", index_page(shown, exported))
    value = {"format": FORMAT, "version": VERSION, "exported": stamp(exported), "note": WARNING, "groups": listed}
    write_text(fresh / "archive.json", json.dumps(value, indent=1) + "\n")


# --- the folder


def _require_place(target: Path, replace: bool) -> None:
    with _converting(target):
        if not target.parent.is_dir():
            raise UsageError(f"there is no folder {target.parent}")
        if not target.exists():
            return
        if not target.is_dir():
            raise UsageError(f"{target} is a file; give the name of a folder")
        if not any(target.iterdir()):
            return
        if not replace:
            raise UsageError(f"{target} holds something already; take a new folder, or --force to replace an archive")
        if not _is_archive(target):
            raise UsageError(
                f"{target} holds something else than an archive, which is never replaced; take a new folder"
            )


def _is_archive(target: Path) -> bool:
    try:
        with (target / "archive.json").open("rb") as file:
            return b'"format": "cocoon-archive"' in file.read(256)
    except FileNotFoundError:
        return False


def _sync_tree(fresh: Path) -> tuple[int, int]:
    """Have the disk keep all of it before it gets its name; how many files and bytes that is."""
    files = size = 0
    for parent, _, names in os.walk(fresh):
        for name in names:
            with open(Path(parent) / name, "rb") as file:
                sync_descriptor(file.fileno())
                size += os.fstat(file.fileno()).st_size
            files += 1
        _sync_folder(Path(parent))
    return files, size


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":
        return  # a directory has no handle to flush there
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        sync_descriptor(descriptor)
    finally:
        os.close(descriptor)


def _put_in_place(fresh: Path, target: Path) -> None:
    old: Path | None = None
    if target.exists():
        if any(target.iterdir()):
            old = target.with_name(fresh.name.removesuffix(".new") + ".old")
            target.rename(old)
        else:
            target.rmdir()
    try:
        fresh.rename(target)
    except BaseException:
        if old is not None:
            old.rename(target)
        raise
    _sync_folder(target.parent)
    if old is not None:
        shutil.rmtree(old)


@contextlib.contextmanager
def _converting(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _convert(error, target) from error


def _convert(error: OSError, target: Path) -> LocalStateError:
    return convert_os_error(error, os.fspath(target))
