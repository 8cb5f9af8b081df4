"""Files become contents and contents files, over crashes, changed sources, lies about sameness and damaged disks."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from cocoon_core.errors import (
    DecryptionError,
    FileChangedError,
    LocalStateError,
    MalformedError,
    StorageFullError,
    UsageError,
)
from cocoon_core.protocol.constants import CHUNK_BYTES
from cocoon_core.protocol.ids import BlobHash, GroupId
from cocoon_core.protocol.primitives import Secret
from cocoon_core.protocol.vault_file import FileRef, make_ref
from cocoon_core.vault.content import ContentFile
from cocoon_core.vault.opening import DamagedError, Opener, chunks_between
from cocoon_core.vault.places import NameRow, count_places, length_at, length_of_all
from cocoon_core.vault.progress import Meter, Progress
from cocoon_core.vault.sealing import KnownFile, seal_file
from cocoon_core.vault.sources import BytesSource, FileSource, digest_source
from tests.support.flips import flip
from tests.support.vault import (
    CANARY,
    Shelf,
    shelf_fixture,  # noqa: F401
    some_bytes,
)

MIB = CHUNK_BYTES


class Dying(BytesSource):
    """A source that can be gone on from, and fails at a chunk for as long as it is told."""

    def __init__(self, data: bytes, fails_at: int) -> None:
        super().__init__(data)
        self.fails_at: int | None = fails_at
        self.read_places: list[int] = []

    @property
    def identity(self) -> bytes:
        return b"dying"

    def read(self, start: int, length: int) -> bytes:
        self.read_places.append(start // MIB)
        if self.fails_at is not None and start // MIB >= self.fails_at:
            raise StorageFullError("the disk stopped")
        return super().read(start, length)


@pytest.mark.parametrize("size", [0, 1, 255, MIB - 1, MIB, MIB + 1, 5 * MIB + 77, 34 * MIB + 9])
async def test_a_file_comes_back_as_it_was(shelf: Shelf, tmp_path: Path, size: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(data := some_bytes(size))
    ref = await shelf.seal(path)
    assert (ref.size, ref.is_listed) == (size, size > 33 * MIB)
    assert await shelf.read(ref) == data
    record = shelf.table.find(ref.id())
    assert record is not None
    assert record.held == length_of_all(size)
    raw = (shelf.store.folder / record.place).read_bytes()
    assert CANARY not in raw
    assert stat.S_IMODE((shelf.store.folder / record.place).stat().st_mode) == 0o600
    assert NameRow.of_ref(ref).is_whole is not ref.is_listed


async def test_two_files_with_the_same_bytes_have_nothing_in_common(shelf: Shelf) -> None:
    one, two = await shelf.seal(b"same"), await shelf.seal(b"same")
    assert not set(one.names) & set(two.names)
    assert one.key != two.key
    source = BytesSource(b"same")
    groups = GroupId(bytes(32)), GroupId(b"\x01" * 32)
    assert digest_source(groups[0], source) != digest_source(groups[1], source)


async def test_the_same_file_under_a_known_key_is_the_same_blobs(shelf: Shelf) -> None:
    data = some_bytes(34 * MIB)
    ref = await shelf.seal(data)
    known = KnownFile(ref, shelf.names(ref))
    assert await shelf.seal(data, known) == ref
    record = shelf.table.find(ref.id())
    assert record is not None
    shelf.store.remove(record.number, record.place)
    assert await shelf.seal(data, known) == ref
    assert shelf.names(ref).is_whole
    assert await shelf.read(ref) == data


@pytest.mark.parametrize("differs_at", [0, 3 * MIB + 5])
async def test_who_lied_about_a_digest_gets_no_chunk_under_their_key(shelf: Shelf, differs_at: int) -> None:
    """Not even on this disk: a second content in one place under one key would undo the cipher."""
    data = some_bytes(4 * MIB)
    other = flip(data, differs_at)
    ref = await shelf.seal(data)
    known = KnownFile(ref, shelf.names(ref))
    record = shelf.table.find(ref.id())
    assert record is not None
    shelf.store.remove(record.number, record.place)
    fresh = await shelf.seal(other, known)
    assert fresh.key != ref.key
    assert await shelf.read(fresh) == other
    left = shelf.table.find(ref.id())
    assert left is not None
    assert all(name == known.names[place] for place, name in shelf.table.blobs(left.number))
    raw = (shelf.store.folder / left.place).read_bytes() if (shelf.store.folder / left.place).exists() else b""
    place = differs_at // MIB
    assert not any(raw[place * (MIB + 16) : (place + 1) * (MIB + 16)])


async def test_what_was_sealed_before_a_crash_is_not_sealed_again(shelf: Shelf) -> None:
    data = some_bytes(80 * MIB)
    source = Dying(data, fails_at=70)
    with pytest.raises(StorageFullError):
        await shelf.seal(source)
    shelf.reopen()
    source.fails_at, source.read_places = None, []
    ref = await shelf.seal(source)
    assert min(source.read_places) == 64
    assert await shelf.read(ref) == data
    assert len(shelf.places()) == 1


async def test_a_source_that_changed_between_is_sealed_anew_under_another_key(shelf: Shelf, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(some_bytes(3 * MIB))
    before = FileSource(path).identity
    path.write_bytes(some_bytes(3 * MIB, seed=1))
    assert FileSource(path).identity != before
    path.write_bytes(some_bytes(3 * MIB))
    assert FileSource(path).identity != before, "its time tells"


async def test_a_file_that_changes_while_it_is_read_is_noticed(shelf: Shelf, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(3 * MIB))

    class Touched(FileSource):
        def read_into(self, start: int, into: memoryview) -> None:
            super().read_into(start, into)
            if start == MIB:
                with path.open("r+b") as file:
                    file.write(b"x")
                os.utime(path, ns=(1, 1))

    with pytest.raises(FileChangedError):
        await shelf.seal(Touched(path))
    assert shelf.places() == set()
    shorter = FileSource(path)
    path.write_bytes(b"short")
    with pytest.raises(FileChangedError):
        await shelf.seal(shorter)
    assert shelf.table.finished() == []


def test_only_files_are_sealed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "none"):
        with pytest.raises(UsageError):
            FileSource(path)


async def test_a_file_appears_whole_or_not_at_all(shelf: Shelf, tmp_path: Path) -> None:
    ref = await shelf.seal(some_bytes(3 * MIB))
    folder = tmp_path / "target"
    folder.mkdir()
    target = folder / "file"
    target.write_bytes(b"mine")
    with pytest.raises(UsageError):
        await shelf.write_to(ref, target)
    with pytest.raises(UsageError):
        await shelf.write_to(ref, folder)
    assert target.read_bytes() == b"mine"
    await shelf.write_to(ref, target, replace=True)
    assert target.read_bytes() == some_bytes(3 * MIB)
    record = shelf.table.find(ref.id())
    assert record is not None
    with (shelf.store.folder / record.place).open("r+b") as file:
        file.seek(2 * MIB)
        file.write(b"damaged")
    with pytest.raises(DamagedError) as raised:
        await shelf.write_to(ref, folder / "other")
    assert raised.value.places == [1]
    assert [one.name for one in folder.iterdir()] == ["file"], "nothing is left of what failed"


async def test_without_nameless_files_it_is_the_same(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cocoon_core.vault.opening._TEMPORARY", 0)
    await test_a_file_appears_whole_or_not_at_all(shelf, tmp_path)


async def test_where_files_have_one_name_only_it_is_the_same(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a stick with FAT: no file without a name, no second name for one."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "no links here")

    monkeypatch.setattr("cocoon_core.vault.opening._TEMPORARY", 0)
    monkeypatch.setattr(os, "link", refuse)
    await test_a_file_appears_whole_or_not_at_all(shelf, tmp_path)
    ref = await shelf.seal(some_bytes(3 * MIB))
    await shelf.write_to(ref, tmp_path / "new")
    assert (tmp_path / "new").read_bytes() == some_bytes(3 * MIB)
    with pytest.raises(UsageError):
        await shelf.write_to(ref, tmp_path / "new")
    assert not list(tmp_path.glob(".*.cocoon-part"))


async def test_a_fault_of_the_disk_between_two_lots_ends_it(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a system says once of pages that it could not write is not lost, though a later sync succeeds."""
    monkeypatch.setattr("cocoon_core.vault.opening.LOT", 1)
    ref = await shelf.seal(some_bytes(4 * MIB))
    faults = iter([OSError(errno.EIO, "input/output error")])
    real = os.fsync

    def fail_once(descriptor: int) -> None:
        for fault in faults:
            raise fault
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fail_once)
    folder = tmp_path / "target"
    folder.mkdir()
    with pytest.raises(LocalStateError):
        await shelf.write_to(ref, folder / "file")
    assert not list(folder.iterdir())
    await shelf.write_to(ref, folder / "file")
    assert (folder / "file").read_bytes() == some_bytes(4 * MIB)


async def test_a_part_is_read_without_the_rest(shelf: Shelf) -> None:
    data = some_bytes(3 * MIB + 5)
    ref = await shelf.seal(data)
    record = shelf.table.find(ref.id())
    assert record is not None
    file = shelf.store.open(record.place)
    opener = Opener(ref, shelf.names(ref), file)
    for start, stop in ((0, 1), (MIB - 1, MIB + 1), (2 * MIB, 9 * MIB), (0, len(data)), (7, 7), (4 * MIB, 5 * MIB)):
        assert b"".join([part async for part in opener.read(start, stop)]) == data[start:stop]
    assert chunks_between(ref.size, MIB - 1, MIB + 1) == range(2)
    assert chunks_between(ref.size, 4 * MIB, 5 * MIB) == chunks_between(ref.size, 5, 5) == range(0)
    file.close()


async def test_a_file_that_its_maker_broke_is_told_from_a_damaged_disk(shelf: Shelf, tmp_path: Path) -> None:
    """The names hold, and nothing opens: another key, or blobs that stand in each other's places."""
    ref = await shelf.seal(some_bytes(3 * MIB))
    names, record = shelf.names(ref), shelf.table.find(ref.id())
    assert record is not None
    file = shelf.store.open(record.place)
    bad = FileRef(Secret(bytes(32)), ref.size, ref.names)
    with pytest.raises(DecryptionError):
        await Opener(bad, names, file).write_to(tmp_path / "none")
    one, two = file.read(0, MIB + 16), file.read(1, MIB + 16)
    file.write(0, two)
    file.write(1, one)
    swapped = NameRow(len(names), [(0, names[1]), (1, names[0]), *((place, names[place]) for place in range(2, 4))])
    with pytest.raises(DecryptionError):
        await Opener(ref, swapped, file).write_to(tmp_path / "none")
    longer, _ = make_ref(ref.key, 4 * MIB + 3, [*names, BlobHash(bytes(32))][:5])
    with pytest.raises((DamagedError, MalformedError, DecryptionError)):
        await Opener(longer, longer.names, file).write_to(tmp_path / "none")
    assert not (tmp_path / "none").exists()
    file.close()


async def test_leftovers_of_a_crash_go_and_lost_files_are_known(shelf: Shelf) -> None:
    kept, lost = await shelf.seal(b"kept"), await shelf.seal(b"lost")
    record = shelf.table.find(lost.id())
    assert record is not None
    (shelf.store.folder / record.place).unlink()
    (shelf.store.folder / "leftover").write_bytes(b"x")
    shelf.reopen()
    assert await shelf.read(kept) == b"kept"
    assert shelf.names(lost).count() == 0
    assert "leftover" not in shelf.places()


async def test_what_was_not_used_for_longest_goes_first(shelf: Shelf) -> None:
    refs = [await shelf.seal(some_bytes(100_000, seed)) for seed in range(5)]
    numbers = [record.number for ref in refs if (record := shelf.table.find(ref.id())) is not None]
    shelf.table.set_pinned(numbers[0], True)
    shelf.table.set_wanted(numbers[1], True)
    shelf.database.execute(
        "INSERT INTO vault_uploads (group_no, relay, file, ref, queued_ms) VALUES (1, 'r', ?, x'00', 0)",
        (refs[2].id(),),
    )
    shelf.store.limit = 3 * length_of_all(100_000)
    shelf.table.touch(numbers[3], shelf.clock())
    shelf.store.make_room()
    assert [shelf.table.find(ref.id()) is not None for ref in refs] == [True, True, True, False, False]
    assert len(shelf.places()) == 3
    shelf.store.limit = 0
    shelf.store.make_room()
    assert len(shelf.places()) == 3, "what is pinned, wanted or on its way stays"


async def test_a_full_disk_refuses_and_what_was_sealed_stays(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attack 44: at a write, and at the sync."""
    for name in ("write", "sync"):
        source = Dying(some_bytes(2 * MIB), fails_at=99)
        with monkeypatch.context() as patched:

            def full(*_: object) -> None:
                raise StorageFullError

            patched.setattr(ContentFile, name, full)
            with pytest.raises(StorageFullError):
                await shelf.seal(source)
    source.fails_at = None
    ref = await shelf.seal(source)
    assert await shelf.read(ref) == some_bytes(2 * MIB)
    assert len(shelf.places()) == 1


async def test_progress_is_told_to_the_end(shelf: Shelf) -> None:
    told: list[Progress] = []
    data = some_bytes(70 * MIB)
    await seal_file(shelf.store, shelf.table, BytesSource(data), shelf.clock, tell=told.append)
    assert told[-1].done == told[-1].total == len(data)
    assert told[-1].remaining == 0.0
    now = 0.0
    meter = Meter(100, told.append, done=20, clock=lambda: now)
    now = 2.0
    meter.add(40)
    assert (told[-1].rate, told[-1].remaining) == (20.0, 2.0)
    meter.add(1)
    assert told[-1].done == 60, "not told more than ten times a second"


def test_places_of_a_file_with_a_list() -> None:
    size = 40 * MIB
    assert count_places(size) == 42
    assert sum(length_at(size, place) for place in range(42)) == length_of_all(size)
    row = NameRow(3, [(1, BlobHash(b"\x01" * 32))])
    assert (list(row.missing()), row.count(), row.has(1), row.is_whole) == ([0, 2], 1, True, False)
    row.take(1)
    assert row.count() == 0
    with pytest.raises(IndexError):
        row[1]
