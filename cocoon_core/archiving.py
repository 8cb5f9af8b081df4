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
from cocoon_core.errors import CocoonError, LocalStateError, RelayUnavailable, StorageFullError, UsageError
from cocoon_core.group import Group
from cocoon_core.social.archive import GroupArchive, GroupFacts, GroupWriter
from cocoon_core.social.archive_files import slug, stamp, write_text
from cocoon_core.social.archive_pages import WARNING, index_page
from cocoon_core.social.archive_together import write_together
from cocoon_core.social.archive_vault import FILES, VaultWriter, file_of
from cocoon_core.social.item import Item
from cocoon_core.social.item_view import LINK
from cocoon_core.storage.paths import convert_os_error, sync_descriptor

FORMAT: Final = "cocoon-archive"
VERSION: Final = 1
_THREADS_A_TURN: Final = 64  # written before others get a turn

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class ArchiveReport:
    """An archive that was written. `absent` counts items of which the file could not be had."""

    path: Path
    groups: int
    posts: int
    files: int
    bytes: int
    items: int = 0
    absent: int = 0


class Archiving(CocoonPart):
    """The part of a profile's façade that writes archives."""

    async def export(
        self,
        folder: str | os.PathLike[str],
        groups: Sequence[Group],
        *,
        replace: bool = False,
        files: bool = True,
        progress: Progress | None = None,
    ) -> ArchiveReport:
        """Write groups as a folder of pages and JSON that everybody who gets it can read.

        After a crash the folder is as before or whole; a beginning may lie beside it under a name that begins with a
        dot, and where it happens between the two renames by which one is replaced, both. Others may write to the groups
        meanwhile: every thread is as it was when it was written.

        Args:
            replace: an archive that stands there already. Nothing else is ever replaced.
            files: with the files of the vault; those that are not on this device are fetched. One that cannot be had is
                named as such, and keeps no archive from being written.
            progress: called with (posts and items written, posts and items there are).

        Raises:
            UsageError: the folder holds something, or its parent is not there.
            StorageFullError, LocalStateError: it cannot be written there.
        """
        target = Path(folder).absolute()
        _require_place(target, replace)
        fresh = target.with_name(f".{target.name}.{secrets.token_hex(4)}.new")
        exported = datetime.fromtimestamp(self._clock() / 1000, UTC)
        total = sum(_count(group) for group in groups)
        told = _Told(total, progress)
        try:
            with _converting(target):
                fresh.mkdir(mode=0o700)
                written = [await self._write_group(fresh, group, exported, files, told) for group in groups]
                _write_index(fresh, groups, written, exported)
                count, size = _sync_tree(fresh)
                _put_in_place(fresh, target)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
        posts, items = sum(one.posts for one in written), sum(one.items for one in written)
        absent = sum(one.absent for one in written)
        return ArchiveReport(target, len(groups), posts, count, size, items, absent)

    async def _write_group(
        self, fresh: Path, group: Group, exported: datetime, files: bool, told: _Told
    ) -> GroupArchive:
        folder = fresh / f"{slug(group.name)}-{group.id.hex()[:8]}"
        folder.mkdir(mode=0o700)
        vault, names = await _write_vault(folder, group, exported, files, told)
        together = await write_together(folder, group.name, group.lists, group.notes, group.calendar, exported)
        writer = GroupWriter(folder, _facts(group), group.replica, group.feed, exported, vault, together)
        before = told.done
        for number, done in enumerate(writer.write()):
            if number % _THREADS_A_TURN == 0:
                told.tell(before + done)
                await asyncio.sleep(0)
        told.tell(before + writer.written.posts)
        writer.written.files += [*names, *together]
        return writer.written


class _Told:
    """How far all of it is."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._total, self._progress = total, progress
        self.done = 0

    def tell(self, done: int) -> None:
        self.done = done
        if self._progress is not None:
            self._progress(done, max(self._total, done))


async def _write_vault(
    folder: Path, group: Group, exported: datetime, files: bool, told: _Told
) -> tuple[VaultWriter, list[str]]:
    """The items of a group and their files; the names of all that was written."""
    writer, names = VaultWriter(folder, group.name, exported), []
    reached = True
    try:
        for item in group.vault.index.oldest_first():
            problem = None
            if item.kind != LINK:
                problem = "files were left out"
                if files:
                    problem, reached = await _write_file(folder, group, item, fetch=reached)
                if problem is None:
                    names.append(file_of(item))
            writer.add(item, problem)
            told.tell(told.done + 1)
            await asyncio.sleep(0)
        return writer, [*writer.end(), *names]
    finally:
        writer.close()


async def _write_file(folder: Path, group: Group, item: Item, *, fetch: bool) -> tuple[str | None, bool]:
    """Write the file of an item; why that could not be done, and whether the relays could be reached."""
    (folder / FILES).mkdir(mode=0o700, exist_ok=True)
    target = folder / file_of(item)
    try:
        await group.vault.get(item.id, target, fetch=fetch)
        target.chmod(0o600)
    except StorageFullError:
        raise
    except RelayUnavailable as error:
        return str(error), False
    except CocoonError as error:
        return str(error), fetch
    return None, fetch


def _count(group: Group) -> int:
    sql = "SELECT (SELECT count(*) FROM posts WHERE group_no=?1) + (SELECT count(*) FROM vault_items WHERE group_no=?1)"
    return int(group.replica.database.query_value(sql, (group.replica.record.number,)))


def _facts(group: Group) -> GroupFacts:
    people = {person.id: person for person in group.people()}
    members = [
        {
            "id": str(member.id),
            "name": member.name,
            "role": member.role,
            "devices": member.devices,
            "last_seen": stamp(member.last_seen) if member.last_seen else None,
            "me": member.me,
            "about": people[member.id].about,
            "picture": people[member.id].picture,
        }
        for member in group.members()
    ]
    former = [{"id": str(one.id), "name": one.name, "left": one.left} for one in group.former_members()]
    return GroupFacts(str(group.id), group.name, members, former, group.alarms())


def _write_index(fresh: Path, groups: Sequence[Group], written: Sequence[GroupArchive], exported: datetime) -> None:
    listed: list[dict[str, Any]] = [
        {
            "id": str(group.id),
            "name": group.name,
            "folder": one.folder,
            "posts": one.posts,
            "items": one.items,
            "files": sorted(one.files),
        }
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
            with open(Path(parent) / name, "r+b") as file:  # on Windows, only who may write may have it kept
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
