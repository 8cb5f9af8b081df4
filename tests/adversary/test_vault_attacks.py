"""Attacks on files of the vault: what leaks from a relay or from the own disk, and what a hostile reference costs."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from cocoon_core import Cocoon
from cocoon_core.errors import DecryptionError, MalformedError, NotYetError
from cocoon_core.protocol.constants import CHUNK_BYTES, MAX_FILE_BYTES
from cocoon_core.protocol.ids import BlobHash
from cocoon_core.protocol.primitives import Secret, sha256
from cocoon_core.protocol.vault_file import FileRef, make_ref
from cocoon_core.sync.blobs import each
from cocoon_core.vault.sources import FileSource
from cocoon_core.vault.transfers import Transfers
from tests.adversary.test_crash_loops import make_pair
from tests.support.relay_process import RelayProcess
from tests.support.storage_children import PASSPHRASE
from tests.support.vault import CANARY, some_bytes
from tests.support.world import Seat, World, make_world  # noqa: F401  a fixture

MIB = CHUNK_BYTES
NAME = "a canary by the name of this file.jpeg"


def transfers(seat: Seat) -> Transfers:
    return seat.group._transfers


def find_in(folder: Path, *canaries: bytes) -> list[str]:
    """The files below a folder in which any of these stands."""
    return [
        str(path)
        for path in folder.rglob("*")
        if path.is_file() and (raw := path.read_bytes()) and any(canary in raw for canary in canaries)
    ]


def secrets_of(ref: FileRef) -> tuple[bytes, ...]:
    return CANARY, CANARY[:12], NAME.encode(), ref.key.reveal(), ref.key.reveal().hex().encode()


async def test_attack_19_38_no_canary_of_a_file_at_the_relay_or_on_the_own_disk(tmp_path: Path) -> None:
    """The bytes of a file, its name, path and key: while it goes up and down, and after."""
    path = tmp_path / NAME
    path.write_bytes(data := some_bytes(2 * MIB + 100))
    with RelayProcess(tmp_path / "relay") as relay:
        home, ben, other = await make_pair(tmp_path, relay.url)
        async with await Cocoon.open(home, PASSPHRASE) as ana:
            (group,) = ana.groups()
            source = FileSource(path)
            ref = await group._transfers.seal(source)
            source.close()
            with group.replica.database.transaction():
                group._transfers.send(ref)
            assert not find_in(home, *secrets_of(ref))
            await group.sync()
            await other.sync()
            target = tmp_path / "target" / "out"
            target.parent.mkdir()
            seen: list[list[str]] = []

            def look(_: object) -> None:
                seen.append(find_in(tmp_path / "ben", *secrets_of(ref)) + os.listdir(target.parent))

            await other._transfers.write_to(ref, target, tell=look)
            assert target.read_bytes() == data
            assert b"".join([part async for part in other._transfers.read(ref, 5, 50)]) == data[5:50]
            assert seen
            assert not any(seen), "no plaintext stands anywhere before the file is whole"
            for folder in (home, tmp_path / "ben", tmp_path / "relay"):
                assert not find_in(folder, *secrets_of(ref)), folder
            assert find_in(tmp_path / "target", CANARY), "the search finds what is there"
        assert not find_in(home, *secrets_of(ref))
        await ben.close()
    assert not find_in(tmp_path / "relay", *secrets_of(ref))
    assert CANARY.decode() not in relay.errors


async def test_attack_42_one_blob_that_is_named_a_million_times_fills_no_disk(world: World) -> None:
    """Nor do lists that name what is not there, or blobs that reach into the next one's place."""
    relay = world.add_relay()
    ana, ben = await world.group("ana", "ben")
    key = Secret(os.urandom(32))
    honest = await transfers(ana).seal(source := _source(ana, some_bytes(MIB)))
    source.close()
    with ana.replica.database.transaction():
        transfers(ana).send(honest)
    await ana.sync()
    repeated, lists = make_ref(honest.key, 32_768 * MIB - MIB, [honest.names[0]] * 32_768)
    missing, more = make_ref(key, 40 * MIB, [BlobHash(os.urandom(32)) for _ in range(41)])
    store = relay.dial_blobs()
    long = os.urandom(MIB + 17)
    named = [(BlobHash(sha256(blob)), blob) for blob in (*lists, *more, long)]
    await store.put_each(ana.replica.epoch, each(named).__aiter__())
    await store.close()
    await ben.sync()
    before, peak = len(relay.blobs.requests), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DecryptionError):
        await transfers(ben).fetch(repeated)
    with pytest.raises(NotYetError):
        await transfers(ben).fetch(missing)
    with pytest.raises(NotYetError):
        await transfers(ben).fetch(FileRef(key, MAX_FILE_BYTES, tuple(BlobHash(os.urandom(32)) for _ in range(33))))
    with pytest.raises(MalformedError):
        await transfers(ben).fetch(FileRef(key, MIB, (named[-1][0], BlobHash(bytes(32)))))
    assert len(relay.blobs.requests) - before < 120
    held = sum(path.stat().st_blocks * 512 for path in transfers(ben).holding.store.folder.iterdir())
    assert held < 16 * MIB
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 160 * 1024
    report = await ben.sync()
    assert report.files.fetched == 0


def _source(seat: Seat, data: bytes) -> FileSource:
    path = seat.home.parent / "source"
    path.write_bytes(data)
    return FileSource(path)
