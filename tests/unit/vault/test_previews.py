"""Small pictures: bounded, upright, without metadata; and a file made ready to be added."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from cocoon_core.errors import MalformedError, MetadataError, UsageError
from cocoon_core.vault import images, posters
from cocoon_core.vault.images import (
    MAX_BLUR_BYTES,
    MAX_THUMB_BYTES,
    MAX_THUMB_SIDE,
    make_blur,
    make_preview,
    read_blur,
    require_thumbnail,
)
from cocoon_core.vault.preparing import prepare
from tests.support.media_files import FILMS, film, heic, kind_of, photo, picture, profile, require_no_canary, strip


def corners(image: Image.Image) -> str:
    """Where the red and the blue corner are: a letter for each of the four, by rows."""
    small = image.convert("RGB")
    found = ""
    for x, y in ((0.05, 0.05), (0.95, 0.05), (0.05, 0.95), (0.95, 0.95)):
        pixel = small.getpixel((int(x * small.width), int(y * small.height)))
        assert isinstance(pixel, tuple)
        red, _, blue = pixel
        found += "r" if red > blue + 90 else "b" if blue > red + 90 else "."
    return found


@pytest.mark.parametrize(
    ("orientation", "shown"),
    [(1, "r..b"), (2, ".rb."), (3, "b..r"), (4, ".br."), (5, "r..b"), (6, ".rb."), (7, "b..r"), (8, ".br.")],
)
def test_a_small_picture_is_upright(orientation: int, shown: str) -> None:
    for name in ("jpg", "png", "webp", "avif", "heic"):
        raw = photo(name, orientation)
        preview = make_preview(io.BytesIO(raw), kind_of(raw, ""), strip(raw, "")[1])
        assert preview is not None
        with Image.open(io.BytesIO(preview.thumb)) as image:
            assert corners(image) == shown
            assert image.size == (preview.width, preview.height) == ((32, 48) if orientation > 4 else (48, 32))
            assert not set(image.info) & {"exif", "xmp", "icc_profile"}
        require_no_canary(preview.thumb)
        assert require_thumbnail(preview.thumb).mime == "image/webp"
        columns, rows, colours = read_blur(preview.blur)
        assert (columns > rows) == (orientation < 5)
        assert len(colours) == columns * rows


@pytest.mark.parametrize("size", [(4000, 3000), (1, 3000), (3000, 1), (700, 700), (16000, 20)])
def test_a_small_picture_is_small_whatever_the_photo(size: tuple[int, int]) -> None:
    raw = io.BytesIO()
    Image.effect_noise(size, 100).convert("RGB").save(raw, "JPEG")
    preview = make_preview(raw, kind_of(raw.getvalue(), ""), strip(raw.getvalue(), "")[1])
    assert preview is not None
    assert max(preview.width, preview.height) <= MAX_THUMB_SIDE
    assert len(preview.thumb) <= MAX_THUMB_BYTES
    assert len(preview.blur) <= MAX_BLUR_BYTES
    require_thumbnail(preview.thumb)


def test_a_small_picture_of_noise_is_made_worse_until_it_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_THUMB_BYTES", 1500)
    raw = io.BytesIO()
    Image.effect_noise((900, 900), 100).convert("RGB").save(raw, "PNG")
    preview = make_preview(raw, kind_of(raw.getvalue(), ""), strip(raw.getvalue(), "")[1])
    assert preview is not None
    assert len(preview.thumb) <= 1500


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "YCbCr"])
def test_pictures_of_every_kind_of_pixel_are_made_small(mode: str) -> None:
    fmt = "JPEG" if mode in ("CMYK", "YCbCr") else "PNG"
    plain = picture().convert("L") if mode == "I;16" else picture()
    raw = io.BytesIO()
    plain.convert(mode).save(raw, fmt)
    preview = make_preview(raw, kind_of(raw.getvalue(), ""), strip(raw.getvalue(), "")[1])
    assert preview is not None
    assert (preview.width, preview.height) == (48, 32)


def test_colours_are_shown_as_the_profile_means_them() -> None:
    """A profile in which red and blue have changed places."""
    swapped = bytearray(profile())
    red, blue = (swapped.index(name, 128) for name in (b"rXYZ", b"bXYZ"))
    swapped[red : red + 4], swapped[blue : blue + 4] = b"bXYZ", b"rXYZ"
    for given, shown in ((profile(), (255, 0, 0)), (bytes(swapped), (0, 0, 255))):
        raw = io.BytesIO()
        Image.new("RGB", (32, 32), (255, 0, 0)).save(raw, "PNG", icc_profile=given)
        preview = make_preview(raw, kind_of(raw.getvalue(), ""), strip(raw.getvalue(), "")[1])
        assert preview is not None
        with Image.open(io.BytesIO(preview.thumb)) as image:
            pixel = image.convert("RGB").getpixel((16, 16))
        assert isinstance(pixel, tuple)
        assert max(abs(one - two) for one, two in zip(pixel, shown, strict=True)) < 40


def test_a_photo_that_says_two_sizes_has_no_small_picture() -> None:
    raw = photo("jpg")
    with pytest.raises(MalformedError, match="two different sizes"):
        make_preview(io.BytesIO(raw), kind_of(raw, ""), replace(strip(raw, "")[1], width=10, height=10))


def test_blurs_that_are_none_are_refused() -> None:
    blur = make_blur(picture())
    assert read_blur(blur)[:2] == (5, 4)
    for raw in (b"", b"\0", b"\x11", blur[:-1], blur + b"\0", b"\x55" + bytes(75), bytes((0x10,)) + bytes(3)):
        with pytest.raises(MalformedError):
            read_blur(raw)


def test_a_prepared_photo_is_what_others_get(tmp_path: Path) -> None:
    path = tmp_path / "IMG 1.jpg"
    path.write_bytes(photo("jpg"))
    ready = prepare(path)
    assert (ready.name, ready.type.mime, ready.note) == ("IMG 1.jpg", "image/jpeg", None)
    with ready.open() as file:
        first = file.read()
        file.seek(0)
        assert (first, len(first)) == (file.read(), ready.content.size)
    assert first == strip(photo("jpg"), "")[0]
    assert ready.thumb_size == (32, 48)
    assert ready.thumb is not None
    assert ready.blur is not None
    with prepare(path, keep_metadata=True).open() as file:
        assert file.read() == path.read_bytes()
    assert [entry.name for entry in tmp_path.iterdir()] == ["IMG 1.jpg"]


def test_films_and_photos_that_nothing_decodes_are_added_without_a_small_picture(tmp_path: Path) -> None:
    for name, raw, note in (
        ("a.m4a", film("m4a"), None),
        ("a.heic", heic(), "decoded"),
        ("a.tif", b"II*\0" + bytes(99), "of this type"),
    ):
        path = tmp_path / name
        path.write_bytes(raw)
        ready = prepare(path)
        assert (ready.thumb, ready.blur) == (None, None)
        assert (note or "") in (ready.note or "")
    path = tmp_path / "half.jpg"
    raw = photo("jpg")
    path.write_bytes(raw[: raw.index(b"\xff\xda") + 16])  # the headers are whole, the picture is not
    assert "cannot be decoded" in (prepare(path).note or "")


def test_a_file_that_changes_while_it_is_added_is_not_added_half(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(photo("jpg"))
    ready = prepare(path)
    path.write_bytes(photo("jpg") + b"x")
    with pytest.raises(UsageError, match="changed while"):
        ready.open()
    path.unlink()
    with pytest.raises(UsageError, match="no file"):
        ready.open()


def test_what_is_no_plain_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "none", Path("/dev/zero"), "a\0b"):
        with pytest.raises(UsageError):
            prepare(path)
    damaged = tmp_path / "x.png"
    damaged.write_bytes(photo("png")[:60])
    with pytest.raises(MetadataError):
        prepare(damaged)
    assert prepare(damaged, keep_metadata=True).content.size == 60


@pytest.mark.parametrize(
    ("name", "lacking", "said"),
    [
        ("jpg", "PIL", "32 None small pictures need Pillow: install `cocoon-sync[media]`"),
        ("heic", "pillow_heif", "32 None small pictures of HEIC need pillow-heif: install `cocoon-sync[codecs]`"),
        ("mp4", "av", "64 None None"),
        ("mp4", "PIL", "64 None small pictures need Pillow: install `cocoon-sync[media]`"),
    ],
)
def test_files_are_added_without_the_libraries_for_small_pictures(
    tmp_path: Path, name: str, lacking: str, said: str
) -> None:
    """A fresh interpreter in which one cannot be imported; nothing of the vault has loaded it before."""
    path = tmp_path / f"a.{name}"
    path.write_bytes(film(name) if name == "mp4" else photo(name))
    code = (
        f"import sys; sys.modules[{lacking!r}] = None\n"
        "from cocoon_core.vault.preparing import prepare\n"
        f"ready = prepare({str(path)!r}); print(ready.content.width, ready.thumb, ready.note)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == said


def test_nothing_of_the_vault_loads_a_decoder_before_a_small_picture_is_made() -> None:
    code = "import cocoon_core.vault.preparing, sys; print({'PIL', 'av', 'pillow_heif', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("name", FILMS)
def test_a_film_has_its_first_picture(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(film(name))
    ready = prepare(path)
    assert (ready.thumb_size, ready.note) == ((64, 48), None)
    assert ready.thumb is not None
    require_thumbnail(ready.thumb)
    with Image.open(io.BytesIO(ready.thumb)) as image:
        first = image.convert("RGB").getpixel((32, 24))
    assert isinstance(first, tuple)
    assert max(abs(one - two) for one, two in zip(first, (0, 50, 90), strict=True)) < 20


def test_a_film_of_a_phone_that_was_held_upright_is_shown_upright(tmp_path: Path) -> None:
    raw = film("mp4")
    at = raw.index(b"tkhd") + 4 + 40
    turned = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    (tmp_path / "a.mp4").write_bytes(raw[:at] + turned + raw[at + 36 :])
    ready = prepare(tmp_path / "a.mp4")
    assert (ready.thumb_size, ready.content.width, ready.content.height) == ((48, 64), 48, 64)


def test_a_film_that_cannot_be_decoded_is_added_without_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = bytearray(film("faststart.mp4"))
    at = raw.index(b"mdat") + 4
    raw[at:] = bytes(len(raw) - at)
    (tmp_path / "a.mp4").write_bytes(raw)
    assert "film" in (prepare(tmp_path / "a.mp4").note or "")
    monkeypatch.setattr(posters, "MAX_PIXELS", 1000)
    (tmp_path / "b.mp4").write_bytes(film("mp4"))
    assert "larger than is decoded" in (prepare(tmp_path / "b.mp4").note or "")
