"""Reading and writing at a place, with the system's calls and without."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cocoon_core.storage import positioned
from cocoon_core.storage.positioned import open_descriptor, read_at, write_at

PIECE = 4_096


@pytest.fixture(params=["at once", "seeking"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "seeking":
        monkeypatch.setattr(positioned, "_read", positioned._seek_and_read)
        monkeypatch.setattr(positioned, "_write", positioned._seek_and_write)


@pytest.mark.usefixtures("way")
def test_threads_do_not_disturb_each_other(tmp_path: Path) -> None:
    pieces = {place: os.urandom(PIECE) for place in range(200)}
    descriptor = open_descriptor(tmp_path / "file", os.O_RDWR | os.O_CREAT)

    def read(place: int) -> bytes:
        room = bytearray(PIECE)
        assert read_at(descriptor, memoryview(room), place * PIECE) == PIECE
        return bytes(room)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda place: write_at(descriptor, pieces[place], place * PIECE), reversed(pieces)))
        assert dict(zip(pieces, pool.map(read, pieces), strict=True)) == pieces
    os.close(descriptor)


@pytest.mark.usefixtures("way")
def test_the_end_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345\r\n\x1a89")
    descriptor = open_descriptor(tmp_path / "file", os.O_RDONLY)
    room = bytearray(20)
    assert read_at(descriptor, memoryview(room), 3) == 7
    assert room[:7] == b"45\r\n\x1a89"
    assert read_at(descriptor, memoryview(room), 10) == read_at(descriptor, memoryview(room), 500) == 0
    os.close(descriptor)


def test_no_child_inherits_a_file(tmp_path: Path) -> None:
    descriptor = open_descriptor(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    assert not os.get_inheritable(descriptor)
    os.close(descriptor)
