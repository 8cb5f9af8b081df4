"""Small pictures of photos: a thumbnail, and a blur that stands in its place until it has come.

The one importer of Pillow, when it is first needed. It decodes photos of this device's own member while they are
added, bounded in pixels and by format, and nothing that others sent: `require_thumbnail` looks at headers alone, so
that what a client shows is known to be small. Spec: specs/media.md §6.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

from cocoon_core.errors import MalformedError, MetadataError, MissingLibraryError
from cocoon_core.vault.exif import read_orientation
from cocoon_core.vault.file_types import FileType, type_of
from cocoon_core.vault.jpeg import is_in_one_scan
from cocoon_core.vault.splicing import Source
from cocoon_core.vault.stripped import Stripped
from cocoon_core.vault.stripping import strip_metadata

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS: Final = 40_000_000  # of a picture that is decoded whole; 160 MB as it is decoded
MAX_ROWED_PIXELS: Final = 400_000_000  # of a JPEG that comes row by row, and is decoded at an eighth of its size
MAX_IMAGE_BYTES: Final = 256 * 1024 * 1024  # of a file that a small picture is made of
MAX_THUMB_SIDE: Final = 512  # pixels
MAX_THUMB_BYTES: Final = 48 * 1024
MAX_BLUR_BYTES: Final = 64
_QUALITIES: Final = (75, 55, 35)
# Columns and rows of a blur by the proportion of the picture, at most 21 fields of 3 bytes.
_GRIDS: Final = ((3, 7), (4, 5), (4, 4), (5, 4), (7, 3))
_TURNS: Final = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}  # orientation of EXIF to Pillow's Transpose
_DECODED: Final = frozenset(f"image/{name}" for name in ("jpeg", "png", "webp", "gif", "avif", "heic"))
_SHOWN_TYPES: Final = frozenset(("image/webp", "image/jpeg"))


@dataclass(frozen=True, slots=True)
class Preview:
    """A WebP of at most MAX_THUMB_SIDE pixels a side and MAX_THUMB_BYTES, its size as shown, and the blur."""

    thumb: bytes
    width: int
    height: int
    blur: bytes


def make_preview(file: BinaryIO, file_type: FileType, stripped: Stripped) -> Preview | None:
    """Decode a photo of one's own, and make it small. None for types that nothing here decodes (TIFF, BMP).

    `file` is the photo, and `stripped` what `strip_metadata` found of it. An animation gives its first picture.

    Raises:
        MissingLibraryError: Pillow is not installed, or for HEIC pillow-heif, which Cocoon does not bring.
        MalformedError: it cannot be decoded, or has more pixels than are decoded.
    """
    if file_type.mime not in _DECODED:
        return None
    require_pillow()
    source = Source(file)
    pixels = (stripped.width or 0) * (stripped.height or 0)
    try:
        rowed = file_type.mime == "image/jpeg" and is_in_one_scan(source)
    except MetadataError as error:
        raise MalformedError("this picture cannot be decoded") from error
    if not pixels:
        raise MalformedError("this picture does not say how large it is")
    if pixels > (MAX_ROWED_PIXELS if rowed else MAX_PIXELS) or source.size > MAX_IMAGE_BYTES:
        raise MalformedError(f"this picture has more pixels than are decoded ({pixels:,})")
    try:
        file.seek(0)
        with _open_image(file, file_type) as image:
            if image.width * image.height > pixels:
                raise MalformedError("this picture says two different sizes")
            # Of AVIF the turn is a property of the picture, which Pillow tells as if it were EXIF.
            turned = file_type.mime == "image/avif"
            return shrink(image, read_orientation(image.info.get("exif", b"")) if turned else stripped.orientation)
    except (MalformedError, MissingLibraryError):
        raise
    except Exception as error:  # Pillow's decoders raise what they like; MemoryError is one of them
        raise MalformedError(f"this picture cannot be decoded ({type(error).__name__})") from error


def shrink(image: Image.Image, orientation: int) -> Preview:
    """The small picture of a decoded one, upright and in sRGB."""
    from PIL import Image

    image.draft("RGB", (2 * MAX_THUMB_SIDE, 2 * MAX_THUMB_SIDE))
    profile = image.info.get("icc_profile")
    small = image if image.mode in ("RGB", "RGBA", "L", "CMYK") else image.convert(_plain_mode(image))
    small.thumbnail((MAX_THUMB_SIDE, MAX_THUMB_SIDE), Image.Resampling.LANCZOS, reducing_gap=2.0)
    small = _to_srgb(small, profile)
    if orientation in _TURNS:
        small = small.transpose(Image.Transpose(_TURNS[orientation]))
    return Preview(_encode(small), small.width, small.height, make_blur(small))


def make_blur(image: Image.Image) -> bytes:
    """At most MAX_BLUR_BYTES: columns and rows in one byte, then red, green and blue of each field, row by row."""
    from PIL import Image

    ratio = image.width / image.height
    columns, rows = min(_GRIDS, key=lambda grid: abs(grid[0] / grid[1] - ratio))
    plain = Image.new("RGB", image.size, (255, 255, 255))
    plain.paste(image, mask=image.getchannel("A") if image.mode == "RGBA" else None)
    return bytes((columns << 4 | rows,)) + plain.resize((columns, rows), Image.Resampling.BOX).tobytes()


def read_blur(raw: bytes) -> tuple[int, int, tuple[tuple[int, int, int], ...]]:
    """Columns, rows and colours of a blur that a member sent.

    Raises:
        MalformedError: it is not one.
    """
    columns, rows = (raw[0] >> 4, raw[0] & 15) if raw else (0, 0)
    if not columns or not rows or len(raw) > MAX_BLUR_BYTES or len(raw) != 1 + 3 * columns * rows:
        raise MalformedError(f"{len(raw)} bytes are no blur")
    return columns, rows, tuple((raw[at], raw[at + 1], raw[at + 2]) for at in range(1, len(raw), 3))


def require_thumbnail(raw: bytes) -> FileType:
    """The type of a small picture that a member sent, which may be shown: a WebP or JPEG that is small, and still.

    Only headers are read; nothing is decoded. A client shows what passes, and nothing else, without being asked.

    Raises:
        MalformedError: it is of another type, has too many bytes or pixels, moves, or is damaged.
    """
    if len(raw) > MAX_THUMB_BYTES:
        raise MalformedError(f"a small picture of {len(raw):,} bytes is none")
    file_type = type_of(raw, "")
    if file_type.mime not in _SHOWN_TYPES:
        raise MalformedError("a small picture is a WebP or JPEG")
    try:
        size = strip_metadata(io.BytesIO(raw), file_type)
    except MetadataError as error:
        raise MalformedError("a small picture is damaged") from error
    if not 0 < (size.width or 0) <= MAX_THUMB_SIDE or not 0 < (size.height or 0) <= MAX_THUMB_SIDE or b"ANMF" in raw:
        raise MalformedError("a small picture is not small, or moves")
    return file_type


def require_pillow() -> None:
    """Raises MissingLibraryError: it is not installed."""
    try:
        import PIL.Image  # noqa: F401
    except ImportError as error:
        raise MissingLibraryError("small pictures need Pillow: install `cocoon-sync[media]`") from error


def _open_image(file: BinaryIO, file_type: FileType) -> Image.Image:
    """By Pillow's class for the type: no format is guessed, and no other decoder is loaded."""
    if file_type.mime == "image/heic":
        return _open_heic(file)
    from PIL import AvifImagePlugin, GifImagePlugin, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

    by_type: dict[str, Callable[[BinaryIO], Image.Image]] = {
        "image/jpeg": JpegImagePlugin.JpegImageFile,
        "image/png": PngImagePlugin.PngImageFile,
        "image/webp": WebPImagePlugin.WebPImageFile,
        "image/gif": GifImagePlugin.GifImageFile,
        "image/avif": AvifImagePlugin.AvifImageFile,
    }
    return by_type[file_type.mime](file)


def _open_heic(file: BinaryIO) -> Image.Image:
    """By libheif, where somebody has installed it; it turns the picture upright by itself."""
    try:
        from pillow_heif.as_plugin import HeifImageFile
    except ImportError as error:
        raise MissingLibraryError("small pictures of HEIC need pillow-heif: install `cocoon-sync[codecs]`") from error
    opener: Callable[[BinaryIO], Image.Image] = HeifImageFile
    return opener(file)


def _plain_mode(image: Image.Image) -> str:
    return "RGBA" if "A" in image.mode or "transparency" in image.info else "RGB"


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """The colours as the profile means them; as they are where there is none, or none that fits."""
    if profile and image.mode in ("RGB", "CMYK", "L"):
        from PIL import ImageCms

        try:
            meant = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            turned = ImageCms.profileToProfile(image, meant, ImageCms.createProfile("sRGB"), outputMode="RGB")
        except (ImageCms.PyCMSError, OSError):
            turned = None
        image = turned or image
    return image if image.mode == "RGBA" else image.convert("RGB")


def _encode(image: Image.Image) -> bytes:
    """A WebP within MAX_THUMB_BYTES: of less quality, then of half the size, until it fits."""
    while True:
        for quality in _QUALITIES:
            raw = io.BytesIO()
            image.save(raw, "WEBP", quality=quality, method=4, icc_profile=b"", exif=b"", xmp=b"")
            if raw.tell() <= MAX_THUMB_BYTES:
                return raw.getvalue()
        image = image.reduce(2)
