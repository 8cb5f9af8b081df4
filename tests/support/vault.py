"""A profile with one group and a content store, for tests of the vault without relays or replicas."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from cocoon_core.protocol.constants import ARGON2_MIN_MEMORY_KIB, ARGON2_MIN_OPS
from cocoon_core.protocol.vault_file import FileRef
from cocoon_core.storage.database import Database
from cocoon_core.storage.passphrase import Cost
from cocoon_core.storage.profile import Profile
from cocoon_core.storage.vault_contents import ContentTable
from cocoon_core.vault.content import ContentStore
from cocoon_core.vault.opening import Opener
from cocoon_core.vault.places import NameRow, count_places
from cocoon_core.vault.sealing import KnownFile, seal_file
from cocoon_core.vault.sources import BytesSource, FileSource, Source

CANARY = b"a canary that sings in plaintext"


@dataclass(slots=True)
class Shelf:
    """One group's contents in a profile of its own."""

    home: Path
    profile: Profile
    store: ContentStore
    table: ContentTable
    now_ms: int = 1_790_000_000_000

    @property
    def database(self) -> Database:
        return self.profile.database

    def clock(self) -> int:
        self.now_ms += 1
        return self.now_ms

    async def seal(self, source: Source | Path | bytes, known: KnownFile | None = None) -> FileRef:
        match source:
            case Path():
                source = FileSource(source)
            case bytes():
                source = BytesSource(source)
        try:
            return await seal_file(self.store, self.table, source, self.clock, known)
        finally:
            source.close()

    def names(self, ref: FileRef) -> NameRow:
        record = self.table.find(ref.id())
        assert record is not None
        return NameRow(count_places(ref.size), self.table.blobs(record.number))

    async def write_to(self, ref: FileRef, target: Path, *, replace: bool = False) -> None:
        record = self.table.find(ref.id())
        assert record is not None
        file = self.store.open(record.place)
        try:
            await Opener(ref, self.names(ref), file).write_to(target, replace=replace)
        finally:
            file.close()

    async def read(self, ref: FileRef) -> bytes:
        target = self.home.parent / f"out-{os.urandom(4).hex()}"
        await self.write_to(ref, target)
        return target.read_bytes()

    def reopen(self) -> None:
        """As after the process died: what is in memory is gone."""
        self.profile.close()
        self.profile = Profile.open(self.home, "x")
        self.store = ContentStore(self.database, self.store.limit)
        self.store.prepare()
        self.table = ContentTable(self.database, 1)

    def places(self) -> set[str]:
        """The files of the content store."""
        return {one.name for one in self.store.folder.iterdir()}


def make_shelf(home: Path) -> Shelf:
    profile = Profile.create(home, "x", cost=Cost(ARGON2_MIN_OPS, ARGON2_MIN_MEMORY_KIB))
    profile.database.execute(
        "INSERT INTO groups (id, group_id, state, signing_seed, hpke_seed, create_body, member_name, created_ms) "
        "VALUES (1, x'00', 'active', x'00', x'00', x'00', 'Ana', 0)"
    )
    store = ContentStore(profile.database)
    store.prepare()
    return Shelf(home, profile, store, ContentTable(profile.database, 1))


@pytest.fixture(name="shelf")
def shelf_fixture(tmp_path: Path) -> Iterator[Shelf]:
    shelf = make_shelf(tmp_path / "home")
    yield shelf
    shelf.profile.close()


def some_bytes(size: int, seed: int = 0) -> bytes:
    """Bytes that do not repeat, with the canary at their start and end where there is room."""
    data = Random(seed).randbytes(size)
    if size < 2 * len(CANARY):
        return data
    return CANARY + data[len(CANARY) : -len(CANARY)] + CANARY
