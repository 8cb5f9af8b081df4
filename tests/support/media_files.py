"""Photos, films and sounds with metadata in every place that their formats have for it, made by Pillow and FFmpeg."""

from __future__ import annotations

import io
import struct
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import av
import pillow_heif
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from cocoon_core.vault.file_types import FileType, type_of
from cocoon_core.vault.splicing import SplicedFile
from cocoon_core.vault.stripped import Stripped
from cocoon_core.vault.stripping import strip_metadata

CANARY = "CANARYbird"
FILMS = ("mp4", "faststart.mp4", "fragmented.mp4", "mov", "webm", "live.webm", "mkv", "3gp")
SOUNDS = ("m4a", "mp3", "flac", "opus", "flac.ogg", "wav")
PHOTOS = (
    "jpg",
    "progressive.jpg",
    "png",
    "animated.png",
    "webp",
    "lossless.webp",
    "animated.webp",
    "gif",
    "avif",
    "heic",
)

_VIDEO = {"mov": "mpeg4", "webm": "libvpx", "live.webm": "libvpx"}
_AUDIO = {"mov": "pcm_s16le", "webm": "libopus", "live.webm": "libopus", "mp3": "libmp3lame", "flac": "flac",
          "opus": "libopus", "flac.ogg": "flac", "wav": "pcm_s16le"}  # fmt: skip
_PHOTO_FORMATS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "gif": "GIF", "avif": "AVIF", "heic": "HEIF"}
_FORMATS = {"mkv": "matroska", "live.webm": "webm", "m4a": "ipod", "opus": "ogg", "flac.ogg": "ogg"}
_OPTIONS = {
    "mp4": {"movflags": "use_metadata_tags"},
    "faststart.mp4": {"movflags": "faststart"},
    "fragmented.mp4": {"movflags": "frag_keyframe+empty_moov"},
    "live.webm": {"live": "1"},
}
_TAGS = {
    **dict.fromkeys(("title", "artist", "comment", "encoder"), CANARY),
    "location": "+47.1+008.5/",
    "creation_time": "2024-05-06T07:08:09Z",
}


def picture(width: int = 48, height: int = 32) -> Image.Image:
    """A picture whose corners tell which way up it is."""
    image = Image.linear_gradient("L").resize((width, height)).convert("RGB")
    image.paste((255, 0, 0), (0, 0, width // 3, height // 2))
    image.paste((0, 0, 255), (width - width // 4, height - height // 4, width, height))
    return image


def profile() -> bytes:
    """A colour profile that says who made it."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes().replace(b"lcms", b"CNRY")


def exif(orientation: int = 6) -> bytes:
    fields = Image.Exif()
    fields[0x0112] = orientation
    fields[0x010F] = fields[0x013B] = CANARY
    fields[0x927C] = CANARY.encode()
    places = fields.get_ifd(0x8825)
    places[1], places[2], places[29] = "N", (47.0, 1.0, 2.0), CANARY
    return fields.tobytes()


@cache
def photo(name: str, orientation: int = 6) -> bytes:
    """A photo by the end of its name, of PHOTOS."""
    fmt = _PHOTO_FORMATS[name.rpartition(".")[2]]
    extra: dict[str, Any] = {"exif": exif(orientation), "icc_profile": profile()}
    xmp = f"<x:xmpmeta xmlns:x='adobe:ns:meta/'><a>{CANARY}</a></x:xmpmeta>".encode()
    if fmt == "JPEG":
        extra |= {"comment": CANARY.encode(), "progressive": name.startswith("progressive"), "xmp": xmp}
    elif fmt == "PNG":
        texts = PngImagePlugin.PngInfo()
        texts.add_text("Author", CANARY)
        texts.add_text("Comment", CANARY, zip=True)
        texts.add_itxt("XML:com.adobe.xmp", xmp.decode())
        texts.add(b"tIME", b"\x07\xe8\5\6\7\x08\x09")
        extra["pnginfo"] = texts
    elif fmt == "GIF":
        extra = {"comment": CANARY.encode()}
    else:
        extra |= {"xmp": xmp}
    if "lossless" in name:
        extra["lossless"] = True
    if "animated" in name or fmt == "GIF":
        extra |= {"save_all": True, "append_images": [picture().rotate(90), picture().rotate(180)], "loop": 0}
    raw = io.BytesIO()
    picture().save(raw, fmt, **extra)
    return raw.getvalue()


@cache
def film(name: str, pictures: int = 12) -> bytes:
    """A film of FILMS or a sound of SOUNDS, with tags in the whole and in every track."""
    if name == "3gp":
        return film("mp4", pictures).replace(b"ftypisom", b"ftyp3gp5", 1)
    form = _FORMATS.get(name, name.rpartition(".")[2])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film"
        _write_film(path, name, form, pictures)
        return path.read_bytes()


def _write_film(path: Path, name: str, form: str, pictures: int) -> None:
    with av.open(str(path), "w", format=form, options=_OPTIONS.get(name, {})) as container:
        container.metadata.update(_TAGS)
        streams: list[Any] = []
        if name in FILMS:
            video: Any = container.add_stream(_VIDEO.get(name, "mpeg4"), rate=25)
            video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
            streams.append(video)
        sound = container.add_stream(_AUDIO.get(name, "aac"), rate=48000)
        streams.append(sound)
        for stream in streams:
            stream.metadata.update({"title": CANARY, "handler_name": CANARY, "creation_time": _TAGS["creation_time"]})
        for number in range(pictures):
            for stream in streams:
                container.mux(stream.encode(_part(stream, number)))
        for stream in streams:
            container.mux(stream.encode(None))


pillow_heif.register_heif_opener()
_frame: Any = av.VideoFrame.from_image


def _part(stream: Any, number: int) -> Any:
    if stream.type == "video":
        part: Any = _frame(Image.new("RGB", (64, 48), (number * 20 % 256, 50, 90)))
        part.pts = number
        return part
    packed = stream.codec_context.name in ("pcm_s16le", "flac")
    part = av.AudioFrame(format="s16" if packed else "fltp", layout="stereo", samples=1920)
    for plane in part.planes:
        plane.update(bytes(at * 7 % 120 if packed else 0 for at in range(plane.buffer_size)))
    part.sample_rate, part.pts = 48000, number * 1920
    return part


def with_data_track(raw: bytes) -> bytes:
    """An MP4 whose track of sound says that it is one of places: its samples lie among those of the film."""
    assert raw.count(b"\0\0\0\0soun") == 1
    return raw.replace(b"\0\0\0\0soun", b"\0\0\0\0camm")


def packets(raw: bytes, kinds: tuple[str, ...] = ("video", "audio")) -> dict[int, list[tuple[Any, Any, bytes]]]:
    """What FFmpeg reads of each track: times and bytes of every packet."""
    found: dict[int, list[tuple[Any, Any, bytes]]] = {}
    with av.open(io.BytesIO(raw), "r") as container:
        for packet in container.demux():
            if packet.stream.type in kinds and packet.size:
                found.setdefault(packet.stream.index, []).append((packet.pts, packet.dts, bytes(packet)))
    return found


def tags(raw: bytes) -> list[dict[str, str]]:
    """What FFmpeg reads of metadata, of the whole and of every track."""
    with av.open(io.BytesIO(raw)) as container:
        return [dict(container.metadata), *(dict(stream.metadata) for stream in container.streams)]


def strip(raw: bytes, name: str, **options: bool) -> tuple[bytes, Stripped]:
    """The bytes without metadata, and what was found."""
    stripped = strip_metadata(io.BytesIO(raw), kind_of(raw, name), **options)
    out = SplicedFile(io.BytesIO(raw), stripped.pieces).read()
    assert len(out) == stripped.size
    return out, stripped


def kind_of(raw: bytes, name: str) -> FileType:
    return type_of(raw, name)


def heic(payload: bytes = b"", *, turned: bool = True) -> bytes:
    """A file in the form that phones write: items of a picture, EXIF and XMP, with their places."""
    place = b"Exif\0\0" + exif()[6:]
    xmp = f"<x>{CANARY}</x>".encode().ljust(300)
    picture_bytes = payload or b"\x01picture" * 9

    def box(name: bytes, *parts: bytes) -> bytes:
        whole = b"".join(parts)
        return struct.pack(">I4s", 8 + len(whole), name) + whole

    def item(number: int, kind: bytes, rest: bytes = b"") -> bytes:
        return box(b"infe", struct.pack(">BxxxHH4s", 2, number, 0, kind), b"\0", rest)

    items = box(b"iinf", struct.pack(">IH", 0, 3), item(1, b"hvc1"), item(2, b"Exif"),
                item(3, b"mime", b"application/rdf+xml\0"))  # fmt: skip
    properties = box(b"iprp", box(b"ipco", box(b"ispe", struct.pack(">III", 0, 4032, 3024)),
                                  box(b"irot", bytes((int(turned),)))),
                     box(b"ipma", struct.pack(">IIHBBB", 0, 1, 1, 2, 0x81, 0x82)))  # fmt: skip
    primary = box(b"pitm", struct.pack(">IH", 0, 1))
    head = box(b"ftyp", b"heic\0\0\0\0mif1heic")
    parts = [picture_bytes, struct.pack(">I", 6) + place, xmp]

    def meta(start: int) -> bytes:
        places, at = [], start
        for number, part in enumerate(parts, 1):
            places.append(struct.pack(">HHHII", number, 0, 1, at, len(part)))
            at += len(part)
        iloc = box(b"iloc", struct.pack(">IBBH", 0, 0x44, 0, len(parts)), *places)
        handler = box(b"hdlr", struct.pack(">II4s12x", 0, 0, b"pict"), CANARY.encode() + b"\0")
        return box(b"meta", bytes(4), handler, primary, items, properties, iloc)

    start = len(head) + len(meta(0)) + 8
    return head + meta(start) + box(b"mdat", *parts) + box(b"mpvd", CANARY.encode())


def require_no_canary(raw: bytes) -> None:
    for form in (CANARY.encode(), CANARY.encode("utf-16-le"), CANARY.encode("utf-16-be"), b"47.1"):
        if form in raw:
            pytest.fail(f"{form!r} is left in it")
