"""What a photo says of its maker goes; the picture itself stays byte for byte, and the right way up."""

from __future__ import annotations

import io
import struct
import zlib

import pytest
from PIL import Image, ImageCms

from cocoon_core.errors import MetadataError
from cocoon_core.vault.exif import minimal_exif, read_orientation
from cocoon_core.vault.icc import clean_profile
from cocoon_core.vault.splicing import Source, Span
from cocoon_core.vault.stripping import strip_metadata
from tests.support.media_files import (
    CANARY,
    PHOTOS,
    exif,
    heic,
    kind_of,
    photo,
    picture,
    profile,
    require_no_canary,
    strip,
)


def pixels(raw: bytes) -> list[bytes]:
    """Of every picture in the file."""
    with Image.open(io.BytesIO(raw)) as image:
        shown = []
        for number in range(getattr(image, "n_frames", 1)):
            image.seek(number)
            shown.append(image.convert("RGBA").tobytes())
        return shown


@pytest.mark.parametrize("name", PHOTOS)
def test_a_photo_keeps_its_pixels_and_way_up_and_loses_all_else(name: str) -> None:
    raw = photo(name)
    assert CANARY.encode() in raw
    out, stripped = strip(raw, name)
    require_no_canary(out)
    assert pixels(out) == pixels(raw)
    with Image.open(io.BytesIO(out)) as image:
        fields = dict(image.getexif())
        assert set(fields) <= {0x0112}
        assert image.getexif().get_ifd(0x8825) == {}
        assert not set(image.info) & {"comment", "Author", "XML:com.adobe.xmp"}
        if name not in ("gif", "avif", "heic"):
            assert image.info["icc_profile"] == clean_profile(profile())
        assert b"CNRY" not in image.info.get("icc_profile", b"")
        assert image.size == ((32, 48) if name == "heic" else (48, 32))  # which libheif turns, and Pillow does not
        assert fields.get(0x0112) == (None if name in ("gif", "heic") else 6)
    assert (stripped.width, stripped.height) == ((48, 32) if name == "gif" else (32, 48))
    assert stripped.removed
    assert strip(out, name)[0] == out  # what is clean stays as it is


@pytest.mark.parametrize("name", ["jpg", "progressive.jpg", "png", "animated.png", "webp", "animated.webp", "gif"])
def test_a_photo_is_not_encoded_again(name: str) -> None:
    """But for a few bytes of header, what comes out is what stood in the file, in its order."""
    raw = photo(name)
    pieces = strip_metadata(io.BytesIO(raw), kind_of(raw, name)).pieces
    new = b"".join(piece for piece in pieces if isinstance(piece, bytes))
    spans = [piece for piece in pieces if isinstance(piece, Span)]
    assert spans == sorted(spans, key=lambda span: span.start)
    assert len(new) < 700  # the profile, and no picture


@pytest.mark.parametrize("orientation", range(1, 9))
def test_each_way_up_is_kept(orientation: int) -> None:
    for name in ("jpg", "png", "webp"):
        out, stripped = strip(photo(name, orientation), name)
        assert stripped.orientation == orientation
        with Image.open(io.BytesIO(out)) as image:
            assert image.getexif().get(0x0112, 1) == orientation
            if orientation == 1:
                assert "exif" not in image.info


def test_orientation_is_read_of_exif_in_either_order_and_1_where_it_is_nonsense() -> None:
    assert [read_orientation(minimal_exif(n)) for n in range(1, 9)] == list(range(1, 9))
    big = struct.pack(">2sHIHHHIHHI", b"MM", 42, 8, 1, 0x0112, 3, 1, 8, 0, 0)
    assert read_orientation(b"Exif\0\0" + big) == 8
    for raw in (b"", b"II*\0", minimal_exif(9), minimal_exif(0), minimal_exif(6)[:-8], b"II*\0" + b"\xff" * 40):
        assert read_orientation(raw) == 1


def test_the_profile_keeps_its_colours_and_nothing_of_its_maker() -> None:
    raw = profile()
    clean = clean_profile(raw)
    assert clean is not None
    srgb = ImageCms.createProfile("sRGB")
    one, two = (
        ImageCms.profileToProfile(picture(), ImageCms.ImageCmsProfile(io.BytesIO(p)), srgb) for p in (raw, clean)
    )
    assert one is not None
    assert two is not None
    assert one.tobytes() == two.tobytes()
    assert ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(clean))).strip() == "colours"
    assert b"CNRY" in raw
    assert b"CNRY" not in clean
    assert clean[24:36] == struct.pack(">6H", 2000, 1, 1, 0, 0, 0)
    assert clean_profile(clean) == clean
    for broken in (b"", raw[:100], raw[:300], raw.replace(b"acsp", b"xxxx"), raw[:128] + b"\xff" * 400):
        assert clean_profile(broken) is None


def test_what_stands_between_the_scans_and_behind_the_picture_goes() -> None:
    raw = photo("progressive.jpg")
    second = raw.index(b"\xff\xda", raw.index(b"\xff\xda") + 2)
    comment = b"\xff\xfe" + struct.pack(">H", 2 + len(CANARY)) + CANARY.encode()
    behind = photo("jpg") + CANARY.encode() + b"\0\0\0\x18ftypmp42"
    out, stripped = strip(raw[:second] + comment + raw[second:] + behind, "a.jpg")
    assert out == strip(raw, "a.jpg")[0]
    assert "what follows the picture" in stripped.removed
    for name in ("png", "webp", "gif"):
        assert strip(photo(name) + CANARY.encode(), name)[0] == strip(photo(name), name)[0]


def test_a_thumbnail_in_the_first_segment_goes() -> None:
    raw = photo("jpg")
    small = b"JFIF\0\1\1\0\0\1\0\1\2\2" + b"abc" * 4
    length = struct.unpack(">H", raw[4:6])[0]
    out, stripped = strip(raw[:2] + b"\xff\xe0" + struct.pack(">H", 2 + len(small)) + small + raw[4 + length :], "")
    assert b"abcabc" not in out
    assert "thumbnail" in stripped.removed


def test_chunks_that_nobody_knows_go_also_within_a_picture_of_an_animation() -> None:
    raw = photo("png")
    chunk = struct.pack(">I", len(CANARY)) + b"caNv" + CANARY.encode()
    chunk += struct.pack(">I", zlib.crc32(chunk[4:]))
    out, stripped = strip(raw[:33] + chunk + raw[33:], "")
    assert out == strip(raw, "")[0]
    assert "data of programs and cameras" in stripped.removed
    raw = photo("animated.webp")
    at = raw.index(b"ANMF")
    (length,) = struct.unpack_from("<I", raw, at + 4)
    chunk = b"caNv" + struct.pack("<I", 10) + CANARY.encode()
    hidden = raw[: at + 4] + struct.pack("<I", length + 18) + raw[at + 8 : at + 8 + length] + chunk
    hidden += raw[at + 8 + length :]
    hidden = b"RIFF" + struct.pack("<I", len(hidden) - 8) + hidden[8:]
    assert strip(hidden, "")[0] == strip(raw, "")[0]


def test_a_photo_for_print_keeps_how_its_colours_are_meant() -> None:
    raw = io.BytesIO()
    picture().convert("CMYK").save(raw, "JPEG", comment=CANARY)
    out, _ = strip(raw.getvalue(), "a.jpg")
    assert b"Adobe" in out
    assert pixels(out) == pixels(raw.getvalue())
    require_no_canary(out)


def test_a_webp_says_of_its_parts_what_it_has() -> None:
    for orientation, flags in ((6, 0x28), (1, 0x20)):
        assert strip(photo("lossless.webp", orientation), "")[0][20] == flags


def test_a_heic_keeps_its_places_and_its_picture_and_says_nothing_more() -> None:
    raw = heic()
    assert raw.count(CANARY.encode()) > 3
    out, stripped = strip(raw, "IMG_1.HEIC")
    require_no_canary(out)
    assert len(out) == len(raw)
    assert out.count(b"\x01picture" * 9) == 1
    assert out.index(b"\x01picture") == raw.index(b"\x01picture")
    assert stripped.removed == ("EXIF", "XMP", "data of programs and cameras")
    assert (stripped.width, stripped.height, stripped.orientation) == (3024, 4032, 1)
    assert strip(heic(turned=False), "")[1].width == 4032
    assert strip(out, "")[0] == out


def test_metadata_stays_where_the_member_says_so() -> None:
    raw = photo("jpg") + b"behind"
    out, stripped = strip(raw, "a.jpg", keep=True)
    assert out == raw
    assert (stripped.width, stripped.height, stripped.clean, stripped.removed) == (32, 48, False, ())
    out, stripped = strip(raw[:200], "a.jpg", keep=True)  # what nobody can look into is added as it is
    assert (out, stripped.width) == (raw[:200], None)


@pytest.mark.parametrize("name", PHOTOS)
def test_a_photo_that_was_cut_is_refused_or_is_clean(name: str) -> None:
    raw = photo(name)
    refused = 0
    for length in range(12, len(raw), 7):
        if kind_of(raw[:length], "").mime != kind_of(raw, "").mime:
            continue
        try:
            require_no_canary(strip(raw[:length], name)[0])
        except MetadataError:
            refused += 1
    assert refused > 3


def test_a_photo_of_many_segments_is_refused() -> None:
    with pytest.raises(MetadataError, match="segments"):
        strip(b"\xff\xd8" + b"\xff\xfe\0\2" * 30_000, "")
    with pytest.raises(MetadataError, match="chunks"):
        strip(photo("png")[:33] + b"\0\0\0\0tEXt\0\0\0\0" * 110_000, "")


def test_a_file_of_no_known_form_is_added_as_it_is_and_that_is_said() -> None:
    for raw, name, left in (
        (b"II*\0" + exif(), "a.tif", True),
        (b"%PDF-1.7 author", "a.pdf", True),
        (b"words", "a.txt", False),
        (b"", "a.txt", False),
    ):
        out, stripped = strip(raw, name)
        assert out == raw
        assert (stripped.clean, bool(stripped.left)) == (False, left)


def test_a_part_that_lies_outside_of_the_file_is_not_read() -> None:
    source = Source(io.BytesIO(b"0123"))
    assert source.up_to(10, 4) == b""
    for start, length in ((2, 3), (9, 1), (-1, 2), (0, 1 << 40)):
        with pytest.raises(MetadataError):
            source.at(start, length)
