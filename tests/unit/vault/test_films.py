"""What a film or a sound says of its maker goes; FFmpeg reads the same packets at the same times from what is left."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import pytest

from cocoon_core.errors import MetadataError
from cocoon_core.vault.file_types import SNIFFED_BYTES
from cocoon_core.vault.splicing import Span, SplicedFile, Zeros, patch
from cocoon_core.vault.stripping import strip_metadata
from tests.support.media_files import (
    CANARY,
    FILMS,
    SOUNDS,
    film,
    kind_of,
    packets,
    require_no_canary,
    strip,
    tags,
    with_data_track,
)

HARMLESS = {"major_brand", "minor_version", "compatible_brands", "language", "vendor_id", "encoder", "DURATION"}


@pytest.mark.parametrize("name", [*FILMS, *SOUNDS])
def test_a_film_or_sound_plays_as_before_and_says_nothing_more(name: str) -> None:
    raw = film(name)
    assert CANARY.encode() in raw
    out, stripped = strip(raw, name)
    require_no_canary(out)
    assert packets(out) == packets(raw)
    for said in tags(out):
        assert set(said) <= HARMLESS
        assert "Lav" not in said.get("encoder", "").replace("Lavf", "", name == "mp3")
    assert stripped.removed
    assert stripped.clean
    if name not in ("fragmented.mp4", "live.webm", "flac.ogg"):
        assert stripped.duration_ms is not None
        assert 450 <= stripped.duration_ms <= 560
    assert (stripped.width, stripped.height) == ((64, 48) if name in FILMS else (None, None))
    assert strip(out, name)[0] == out


@pytest.mark.parametrize("name", ["mp4", "faststart.mp4", "fragmented.mp4", "mov", "webm", "mkv", "m4a", "opus"])
def test_nothing_in_a_film_moves(name: str) -> None:
    raw = film(name)
    stripped = strip_metadata(io.BytesIO(raw), kind_of(raw, name))
    at = 0
    for piece in stripped.pieces:
        if isinstance(piece, Span):
            assert piece.start == at
        at += len(piece) if isinstance(piece, bytes) else piece.length
    assert at == len(raw)


def test_times_of_recording_go() -> None:
    raw = film("mp4")
    recorded = struct.pack(">I", 1714979289 + 2082844800)
    assert raw.count(recorded) >= 6
    assert recorded not in strip(raw, "a.mp4")[0]


def test_a_track_of_places_goes_with_its_samples_and_the_film_stays() -> None:
    raw = with_data_track(film("mp4"))
    sounds = [part for _, _, part in packets(film("mp4"))[1] if len(part) > 8]
    pictures = packets(raw, ("video",))
    assert all(part in raw for part in sounds)
    out, stripped = strip(raw, "a.mp4")
    assert packets(out) == pictures
    assert not [part for part in sounds if part in out]
    assert "tracks of places, sensors and timecodes" in stripped.removed
    out, stripped = strip(with_data_track(film("fragmented.mp4")), "a.mp4")
    assert any("fragments" in word for word in stripped.left)


def test_a_track_of_places_cannot_take_the_film_with_it() -> None:
    """Its table of chunks names bytes of the film itself, or none of the media at all."""
    raw = with_data_track(film("mp4"))
    first, second = raw.index(b"stco"), raw.rindex(b"stco")
    for place in (raw[first + 12 : first + 16], struct.pack(">I", 4), struct.pack(">I", 2**31)):
        with pytest.raises(MetadataError, match="damaged"):
            strip(raw[: second + 12] + place + raw[second + 16 :], "a.mp4")


def test_the_turn_of_a_phone_changes_width_and_height() -> None:
    raw = film("mp4")
    at = raw.index(b"tkhd") + 4 + 40
    turned = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    _, stripped = strip(raw[:at] + turned + raw[at + 36 :], "a.mp4")
    assert (stripped.width, stripped.height) == (48, 64)


def test_a_film_that_plays_another_file_is_refused() -> None:
    with pytest.raises(MetadataError, match="another file"):
        strip(_with_path(film("mp4")), "a.mp4")


def test_a_path_in_a_film_that_plays_itself_goes_and_so_does_the_name_of_its_encoder() -> None:
    raw = bytearray(_with_path(film("mp4"), is_itself=True))
    at = raw.index(b"mp4v", raw.index(b"stsd")) - 4
    raw[at + 50 : at + 82] = b"\x0d" + CANARY.encode().ljust(31)
    raw[at + 20 : at + 24] = b"cnry"
    out, _ = strip(bytes(raw), "a.mp4")
    require_no_canary(out)
    assert b"/home/x" in raw
    assert b"/home/x" not in out
    assert b"cnry" not in out
    assert packets(out) == packets(bytes(raw))


def _with_path(raw: bytes, *, is_itself: bool = False) -> bytes:
    """The reference of the first track names a path; the boxes around it grow by its length."""
    path = b"file:///home/x/film"
    at = raw.index(b"url \0\0\0\1")
    out = bytearray(raw[: at + 7] + bytes((is_itself,)) + path + raw[at + 8 :])
    for name in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref", b"url "):
        place = out.index(name) - 4
        out[place : place + 4] = struct.pack(">I", struct.unpack_from(">I", out, place)[0] + len(path))
    return bytes(out)


def test_free_space_and_boxes_that_nobody_knows_are_blanked() -> None:
    raw = film("mp4")
    for name in (b"free", b"skip", b"uuid", b"XMP_", b"thum"):
        out, _ = strip(raw + struct.pack(">I4s", 8 + len(CANARY), name) + CANARY.encode(), "a.mp4")
        require_no_canary(out)


def test_what_is_void_in_a_webm_is_blanked() -> None:
    raw = bytearray(film("webm"))
    at = raw.index(b"\xec\x01\0\0")
    length = int.from_bytes(raw[at + 2 : at + 9])
    assert length > len(CANARY)
    raw[at + 9 : at + 9 + len(CANARY)] = CANARY.encode()
    require_no_canary(strip(bytes(raw), "a.webm")[0])


def test_a_film_of_any_size_is_a_few_pieces_and_is_read_in_place(tmp_path: Path) -> None:
    """3 GiB of film that take no room: the media is a hole in the file."""
    raw = film("mp4")
    at = raw.index(b"mdat")
    large = 3 << 30
    path = tmp_path / "long.mp4"
    with path.open("w+b") as file:
        file.write(raw[: at - 4])
        file.write(struct.pack(">I4sQ", 1, b"mdat", 16 + large))
        file.seek(large, 1)
        tail = file.tell()
        (length,) = struct.unpack_from(">I", raw, at - 4)
        file.write(raw[at - 4 + length :])
        file.seek(0)
        stripped = strip_metadata(file, kind_of(file.read(SNIFFED_BYTES), "a.mp4"))
        out = SplicedFile(file, stripped.pieces)
        assert len(stripped.pieces) < 100
        assert stripped.size == out.size == path.stat().st_size
        out.seek(tail)
        require_no_canary(out.read())


@pytest.mark.parametrize("name", [*FILMS, *SOUNDS])
def test_a_film_that_was_cut_is_refused_or_is_clean(name: str) -> None:
    raw = film(name, 4)
    for length in range(40, len(raw), max(13, len(raw) // 150)):
        try:
            require_no_canary(strip(raw[:length], name)[0])
        except MetadataError:
            continue


def test_tags_before_and_behind_a_sound_go_and_flac_behind_them_is_seen() -> None:
    raw = strip(film("mp3"), "a.mp3")[0]
    apart = struct.pack("<8sIIII8x", b"APETAGEX", 2000, 32 + len(CANARY), 1, 0)
    v1 = b"TAG" + CANARY.encode().ljust(125, b"\0")
    lyrics = b"LYRICSBEGIN" + CANARY.encode()
    plus = b"TAG+" + CANARY.encode().ljust(223, b"\0")
    behind = CANARY.encode() + apart + lyrics + b"%06dLYRICS200" % len(lyrics) + plus + v1
    id3 = b"ID3\4\0\0\0\0\0" + bytes((len(CANARY) + 4,)) + CANARY.encode() + bytes(4)
    assert strip(id3 + raw + behind, "a.mp3")[0] == raw
    flac = film("flac")
    assert strip(id3 + flac + v1, "a.flac")[0] == strip(flac, "a.flac")[0]
    with pytest.raises(MetadataError, match="no sound"):
        strip(id3, "a.mp3")


def test_pieces_are_read_from_any_place() -> None:
    source = bytes(range(200))
    file = SplicedFile(io.BytesIO(source), [Span(10, 5), b"abc", Zeros(4), Span(0, 3)])
    whole = source[10:15] + b"abc" + bytes(4) + source[:3]
    assert file.read() == whole
    for at in range(len(whole) + 2):
        file.seek(at)
        assert file.read(6) == whole[at : at + 6]
        assert file.seek(-at, 2) == max(0, len(whole) - at)
    short = SplicedFile(io.BytesIO(source[:12]), [Span(10, 5)])
    with pytest.raises(OSError, match="changed"):
        short.read()


def test_patches_that_overlap_or_lie_outside_are_refused() -> None:
    assert patch(10, [(4, b"xy"), (2, Zeros(2)), (9, b"z")]).pieces == [Span(0, 2), Zeros(2), b"xy", Span(6, 3), b"z"]
    for patches in ([(2, b"abc"), (4, b"x")], [(9, b"ab")], [(3, Zeros(2)), (3, Zeros(2))]):
        with pytest.raises(MetadataError, match="overlap"):
            patch(10, patches)


def test_the_judge_sees_what_is_left_in() -> None:
    assert any(CANARY in said.values() for said in tags(film("mp4")))
    assert packets(film("mp4")) != packets(film("mp4", 13))
