"""Attacks 19, 38 and 42 by files: what a maker wrote into them, bombs, and small pictures that are not small."""

from __future__ import annotations

import contextlib
import io
import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from cocoon_core.errors import MalformedError, MetadataError
from cocoon_core.vault import boxes, chunked_images, images, jpeg, sound
from cocoon_core.vault.images import make_preview, require_thumbnail
from cocoon_core.vault.preparing import prepare
from tests.support.media_files import (
    CANARY,
    FILMS,
    PHOTOS,
    SOUNDS,
    film,
    heic,
    kind_of,
    photo,
    require_no_canary,
    strip,
)

MIB = 1 << 20


def measured(act: Callable[[], object]) -> tuple[float, int]:
    """Seconds of this process, and the most bytes that Python held on the way."""
    tracemalloc.start()
    begin = time.process_time()
    try:
        act()
    finally:
        seconds, peak = time.process_time() - begin, tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return seconds, peak


def refused(raw: bytes, name: str = "") -> Callable[[], object]:
    def act() -> None:
        with pytest.raises(MetadataError):
            strip(raw, name)

    return act


def png_chunk(name: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + name + payload + struct.pack(">I", zlib.crc32(name + payload))


def nested(depth: int) -> bytes:
    inner = b""
    for _ in range(depth):
        inner = struct.pack(">I4s", 8 + len(inner), b"traf") + inner
    return struct.pack(">I4s", 8 + len(inner), b"moof") + inner


@pytest.mark.parametrize("name", [*PHOTOS, *FILMS, *SOUNDS, "phone.heic"])
def test_attack_19_nothing_that_cameras_and_programs_wrote_is_added(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{name}"
    path.write_bytes(heic() if name == "phone.heic" else photo(name) if name in PHOTOS else film(name))
    assert CANARY.encode() in path.read_bytes()
    ready = prepare(path)
    with ready.open() as file:
        require_no_canary(file.read())
    require_no_canary(ready.thumb or b"")


def test_attack_38_no_copy_of_a_file_is_written_while_it_is_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    for name, raw in (("a.jpg", photo("jpg")), ("a.mp4", film("mp4"))):
        (tmp_path / name).write_bytes(raw)
        with prepare(tmp_path / name).open() as file:
            file.read(100)
            assert [path.name for path in tmp_path.iterdir() if path.name != "tmp"] == [name]
            assert not list((tmp_path / "tmp").iterdir())
        (tmp_path / name).unlink()


def huge_png(side: int) -> bytes:
    """A picture of that many pixels a side, in a few KB for each thousand of them."""
    rows = zlib.compressobj(9)
    data = b"".join(rows.compress(bytes(1 + side)) for _ in range(side)) + rows.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", data) + png_chunk(b"IEND", b"")


def test_attack_42_a_picture_of_too_many_pixels_is_never_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = huge_png(7_000)
    assert len(raw) < 100_000
    stripped = strip(raw, "")[1]
    assert (stripped.width, stripped.height) == (7_000, 7_000)

    def act() -> None:
        with pytest.raises(MalformedError, match="more pixels"):
            make_preview(io.BytesIO(raw), kind_of(raw, ""), stripped)

    seconds, peak = measured(act)
    assert seconds < 0.5
    assert peak < MIB

    # Seen to matter: without the bound it is decoded.
    monkeypatch.setattr(images, "MAX_PIXELS", 10**9)
    assert make_preview(io.BytesIO(raw), kind_of(raw, ""), stripped) is not None


def test_attack_42_a_jpeg_that_is_not_in_rows_has_the_lower_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Progressive pictures are held whole by the decoder, whatever size is asked for."""
    monkeypatch.setattr(images, "MAX_PIXELS", 1000)
    for name, decoded in (("jpg", True), ("progressive.jpg", False)):
        raw = photo(name)
        try:
            made = make_preview(io.BytesIO(raw), kind_of(raw, ""), strip(raw, "")[1]) is not None
        except MalformedError:
            made = False
        assert made == decoded


def test_attack_42_a_colour_profile_that_inflates_is_cut() -> None:
    bomb = png_chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(200 * MIB), 9))
    raw = photo("png")
    seconds, peak = measured(lambda: strip(raw[:33] + bomb + raw[33:], ""))
    assert seconds < 1
    assert peak < 12 * MIB


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("a.jpg", b"\xff\xd8" + b"\xff" * (4 * MIB)),
        ("a.jpg", photo("jpg")[:-2] + b"\xff" * (4 * MIB)),
        ("a.jpg", photo("jpg")[:-2] + b"\xff\x00" * (2 * MIB)),
        ("a.mp3", b"ID3\4\0\0\0\0\0\0" + bytes(4 * MIB)),
        ("a.gif", photo("gif")[:-1] + b"!\xfe" + b"\xff" + bytes(255) + b"\1\0" * (MIB // 8)),
        ("a.ogg", film("opus") + b"OggS\0" * MIB),
        ("a.webm", film("live.webm") + b"\xa3\x81\0" * (MIB // 16)),
    ],
)
def test_attack_42_runs_of_one_byte_are_passed_in_a_moment(name: str, raw: bytes) -> None:
    def act() -> None:
        with contextlib.suppress(MetadataError):
            strip(raw, name)

    seconds, peak = measured(act)
    assert seconds < 8  # tracing takes most of it
    assert peak < 40 * MIB


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("a.mp4", b"\0\0\0\x10ftypisom\0\0\0\0" + b"\0\0\0\x08free" * 3_000),
        ("a.mp4", b"\0\0\0\x10ftypisom\0\0\0\0" + nested(60_000)),
        ("a.mp4", b"\0\0\0\x10ftypisom\0\0\0\0" + b"\0\0\0\1moov" + b"\xff" * 8),
        ("a.heic", b"\0\0\0\x10ftypheic\0\0\0\0" + b"\xff\xff\xff\xffmeta"),
        ("a.flac", b"fLaC" + b"\4\0\0\0" * 3_000),
        ("a.wav", b"RIFF\0\0\0\0WAVE" + b"junk\0\0\0\0" * 3_000),
        ("a.gif", photo("gif")[:-1] + b"!\xfe\0" * 3_000),
    ],
)
def test_attack_42_files_of_nothing_but_parts_are_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, raw: bytes
) -> None:
    monkeypatch.setattr(boxes, "MOST_BOXES", 2_000)
    monkeypatch.setattr(chunked_images, "_MOST_CHUNKS", 2_000)
    monkeypatch.setattr(sound, "_MOST_CHUNKS", 2_000)
    seconds, peak = measured(refused(raw, name))
    assert seconds < 2
    assert peak < 4 * MIB


def test_attack_42_a_small_picture_that_unfolds_is_not_shown() -> None:
    raw = io.BytesIO()
    Image.new("RGB", (5_000, 5_000)).save(raw, "WEBP", lossless=True, method=0)
    assert len(raw.getvalue()) < images.MAX_THUMB_BYTES
    with pytest.raises(MalformedError, match="not small"):
        require_thumbnail(raw.getvalue())
    for other in (photo("gif"), photo("png"), photo("animated.webp"), b"<svg/>", b"", bytes(60_000), photo("jpg")[:99]):
        with pytest.raises(MalformedError):
            require_thumbnail(other)
    assert require_thumbnail(photo("jpg")).mime == "image/jpeg"


def test_attack_42_a_jpeg_of_many_scans_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = photo("progressive.jpg")
    scan = raw[raw.index(b"\xff\xda") : raw.index(b"\xff\xda") + 14]
    with pytest.raises(MetadataError, match="segments"):
        strip(raw[:-2] + scan * jpeg._MOST_SEGMENTS, "")
