"""What a file is: by its first bytes, then, within what these allow, by its name's extension. From a fixed table.

What a member claims (the `type` of an item) is looked up in the same table, and decides what a list shows and no more.
What a device does with a file (show it in a page, hand it to the system's viewer) follows from the bytes it holds.
Spec: specs/media.md §2.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from cocoon_core.vault.naming import clean_file_name

SNIFFED_BYTES: Final = 4096  # of a file's beginning; more says nothing further


class Kind(StrEnum):
    """What an item is listed as."""

    FILE = "file"
    PHOTO = "photo"
    VIDEO = "video"
    AUDIO = "audio"


class Handling(StrEnum):
    """The most that a device does with bytes of a type for its user. Nothing is ever run."""

    INLINE = "inline"  # a browser may show it in a page: it holds no script
    OPEN = "open"  # the system's viewer for it may be started
    SAVE = "save"  # it is saved where the user says, no more


@dataclass(frozen=True, slots=True)
class FileType:
    """One row of the table. The first extension is the one that a file of this type is given."""

    mime: str
    kind: Kind
    handling: Handling
    extensions: tuple[str, ...]


_ROWS: Final = """
image/jpeg photo inline jpg jpeg jpe jfif
image/png photo inline png
image/webp photo inline webp
image/gif photo inline gif
image/avif photo inline avif
image/heic photo open heic heif hif
image/tiff photo open tif tiff
image/bmp photo open bmp
video/mp4 video inline mp4 m4v
video/webm video inline webm
video/quicktime video open mov qt
video/x-matroska video open mkv
video/3gpp video open 3gp 3g2
video/x-msvideo video open avi
video/mpeg video open mpg mpeg
video/mp2t video open ts mts m2ts
audio/mpeg audio inline mp3
audio/mp4 audio inline m4a m4b
audio/ogg audio inline ogg oga opus
audio/flac audio inline flac
audio/wav audio inline wav
audio/aac audio inline aac
audio/aiff audio open aif aiff
audio/amr audio open amr
audio/midi audio open mid midi
text/plain file open txt text log
text/markdown file open md markdown
text/csv file open csv tsv
text/calendar file open ics
text/vcard file open vcf
application/json file open json
application/gpx+xml file open gpx
application/pdf file open pdf
application/epub+zip file open epub
application/rtf file open rtf
application/vnd.openxmlformats-officedocument.wordprocessingml.document file open docx
application/vnd.openxmlformats-officedocument.spreadsheetml.sheet file open xlsx
application/vnd.openxmlformats-officedocument.presentationml.presentation file open pptx
application/vnd.oasis.opendocument.text file open odt
application/vnd.oasis.opendocument.spreadsheet file open ods
application/vnd.oasis.opendocument.presentation file open odp
application/msword file save doc
application/vnd.ms-excel file save xls
application/vnd.ms-powerpoint file save ppt
application/zip file open zip
application/gzip file open gz tgz
application/x-tar file open tar
application/x-7z-compressed file open 7z
application/vnd.rar file open rar
text/html file save html htm xhtml
image/svg+xml file save svg
application/xml file save xml
application/octet-stream file save bin
"""


def _read_rows() -> dict[str, FileType]:
    rows = [line.split() for line in _ROWS.strip().splitlines()]
    return {mime: FileType(mime, Kind(kind), Handling(how), tuple(ext)) for mime, kind, how, *ext in rows}


TYPES: Final = _read_rows()
UNKNOWN: Final = TYPES["application/octet-stream"]
_BY_EXTENSION: Final = {extension: row for row in TYPES.values() for extension in row.extensions}

# (offset, bytes, mime), the first that fits decides.
_MAGIC: Final = (
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"GIF87a", "image/gif"),
    (0, b"GIF89a", "image/gif"),
    (0, b"II*\0", "image/tiff"),
    (0, b"MM\0*", "image/tiff"),
    (0, b"OggS", "audio/ogg"),
    (0, b"fLaC", "audio/flac"),
    (0, b"ID3", "audio/mpeg"),
    (0, b"#!AMR", "audio/amr"),
    (0, b"MThd", "audio/midi"),
    (0, b"\0\0\1\xba", "video/mpeg"),
    (0, b"\0\0\1\xb3", "video/mpeg"),
    (0, b"%PDF-", "application/pdf"),
    (0, b"{\\rtf", "application/rtf"),
    (0, b"PK\3\4", "application/zip"),
    (0, b"PK\5\6", "application/zip"),
    (0, b"\x1f\x8b", "application/gzip"),
    (0, b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (0, b"Rar!\x1a\7", "application/vnd.rar"),
    (257, b"ustar", "application/x-tar"),
)
_RIFF: Final = {b"WEBP": "image/webp", b"WAVE": "audio/wav", b"AVI ": "video/x-msvideo"}
_BRANDS: Final = {
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "image/heic"),
    **dict.fromkeys((b"avif", b"avis"), "image/avif"),
    **dict.fromkeys((b"M4A ", b"M4B ", b"M4P "), "audio/mp4"),
    **dict.fromkeys((b"3gp4", b"3gp5", b"3gp6", b"3gp7", b"3g2a", b"3ge6", b"3gg6"), "video/3gpp"),
    b"qt  ": "video/quicktime",
}
# What the bytes leave open, the extension may decide, among these.
_REFINED: Final = {
    "application/zip": frozenset(("epub", "docx", "xlsx", "pptx", "odt", "ods", "odp")),
    "text/plain": frozenset(("md", "markdown", "csv", "tsv", "ics", "vcf", "json")),
    "application/xml": frozenset(("gpx",)),
}
_OLE: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_OLE_EXTENSIONS: Final = frozenset(("doc", "xls", "ppt"))
_MARKUP: Final = re.compile(
    rb"<(?:!--|!doctype\s+html|html|head|body|script|iframe|meta|style|title|table|a\s|img|div|p>|br|h1|link|object|embed)",
    re.I,
)
_SVG: Final = re.compile(rb"<(?:svg[\s>:]|!doctype\s+svg)", re.I)


def type_of(head: bytes, name: str) -> FileType:
    """The type of a file by its first SNIFFED_BYTES, or all that there is, and its name.

    An extension refines what the bytes allow (a ZIP that is called .docx) and alone says nothing: rubbish called .jpg
    is of no known type. Text that a browser would take for a page is a page, whatever its name.
    """
    head = head[:SNIFFED_BYTES]
    mime = _by_bytes(head)
    extension = extension_of(name)
    if mime is None and head.startswith(_OLE):
        return _BY_EXTENSION[extension] if extension in _OLE_EXTENSIONS else UNKNOWN
    if mime is None:
        return UNKNOWN
    if extension in _REFINED.get(mime, ()):
        return _BY_EXTENSION[extension]
    return TYPES[mime]


def claimed_type(mime: object) -> FileType:
    """The row of a type that a member claims; the unknown type for whatever is not in the table, exactly."""
    return TYPES.get(mime, UNKNOWN) if isinstance(mime, str) else UNKNOWN


def extension_of(name: str) -> str:
    """A name's extension in lower case without its dot; empty if it has none."""
    return name.rpartition(".")[2].lower() if "." in name[1:] else ""


def name_for_opening(name: str, file_type: FileType) -> str:
    """A clean name with an extension of the type that the bytes have, so that the system starts that type's viewer.

    `holiday.jpg.exe` that is a JPEG becomes `holiday.jpg.exe.jpg`.
    """
    clean = clean_file_name(name)
    if extension_of(clean) in file_type.extensions:
        return clean
    return clean_file_name(f"{clean}.{file_type.extensions[0]}")


def _by_bytes(head: bytes) -> str | None:
    for offset, magic, mime in _MAGIC:
        if head.startswith(magic, offset):
            return mime
    if head[:4] == b"RIFF":
        return _RIFF.get(head[8:12])
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return "audio/aiff"
    if head[:4] == b"\x1aE\xdf\xa3":
        return "video/webm" if b"webm" in head[:64] else "video/x-matroska"
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12], "video/mp4")
    if head[4:8] in (b"moov", b"mdat", b"wide", b"skip", b"free"):
        return "video/quicktime"  # as it was before there were brands
    if head[:1] == b"\x47" and head[188:189] == b"\x47" and head[376:377] == b"\x47":
        return "video/mp2t"
    if len(head) > 2 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:
        return _by_frame(head)
    if head[:2] == b"BM" and head[6:10] == b"\0\0\0\0" and len(head) > 26:
        return "image/bmp"
    return _by_text(head)


def _by_frame(head: bytes) -> str | None:
    """MPEG audio without a tag begins with its first frame: 11 set bits, then fields that may not take every value."""
    if head[1] & 0xF6 == 0xF0:
        return "audio/aac"
    version, layer, rate = head[1] >> 3 & 3, head[1] >> 1 & 3, head[2] >> 4
    return "audio/mpeg" if version != 1 and layer == 1 and rate not in (0, 15) and head[2] & 0x0C != 0x0C else None


def _by_text(head: bytes) -> str | None:
    """UTF-8 without controls is text; text with the tags of a page is a page."""
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return None  # UTF-16 is read as a page by some browsers and as text by others
    bare = head.removeprefix(b"\xef\xbb\xbf")
    try:
        bare[: len(bare) - 3 if len(head) == SNIFFED_BYTES else None].decode()
    except UnicodeDecodeError as error:
        if len(head) < SNIFFED_BYTES or error.start < len(bare) - 6:
            return None
    if re.search(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]", bare):
        return None
    begin = bare.lstrip()
    if not begin.startswith(b"<"):
        return "text/plain"
    if _SVG.search(begin):
        return "image/svg+xml"
    if _MARKUP.search(begin):
        return "text/html"
    return "application/xml" if begin.startswith(b"<?xml") else "text/plain"
