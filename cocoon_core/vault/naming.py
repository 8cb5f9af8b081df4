"""Names and texts that come from hostile members, pages and file systems, made safe to show and to save.

A name is cleaned twice by the same function: when a member adds a file, and again by whoever reads the item, because
the writer may be hostile. The outcome is one plain file name for every system: what is shown is what is saved. What a
file is, by its content, is left to `file_types`. Spec: specs/media.md §1.
"""

from __future__ import annotations

import errno
import os
import re
import unicodedata
from pathlib import Path
from typing import BinaryIO, Final

from cocoon_core.errors import LocalStateError, UsageError
from cocoon_core.protocol.marks import bound_marks
from cocoon_core.protocol.names import is_hidden
from cocoon_core.storage.paths import convert_os_error
from cocoon_core.storage.positioned import open_descriptor

MAX_FILE_NAME_BYTES: Final = 200  # of UTF-8; file systems take 255, and a number or `.part` may follow
MAX_SUFFIX_BYTES: Final = 24  # of UTF-8 of an extension that is kept where a name is cut, its dot included
MAX_SAME_NAMES: Final = 10_000  # files of one name in one directory
NAMELESS: Final = "file"

_JOINERS: Final = "\u200c\u200d"  # families of emoji, Persian and Indic scripts are written with them
_MARKS_IN_A_ROW: Final = 4  # accents over one letter; more of them paint over the lines around
_LONGEST_READ: Final = 4096  # characters of a name that are looked at

# What separates paths or means something to a shell or a file system, on any of the systems people save to, and the
# characters that look like a separator.
_UNSAFE: Final = re.compile('[/\\\\<>:"|?*\u2044\u2215\u2216\u29f5\u29f8\u29f9\ufe68\uff0f\uff3c\uff1a\ua789\ufffd]')
_RESERVED: Final = re.compile(
    r"(?:CON|PRN|AUX|NUL|CLOCK\$|CONIN\$|CONOUT\$|(?:COM|LPT)[0-9\u00b9\u00b2\u00b3])\Z", re.I
)
# Names that a file manager acts upon by merely showing the folder they stand in: icons are fetched, programs named.
_ACTS_WHEN_SEEN: Final = re.compile(
    r"(?:desktop\.ini|autorun\.inf|folder\.htt|thumbs\.db"
    r"|.*\.(?:lnk|url|scf|desktop|directory|website|webloc|library-ms|search-ms|searchconnector-ms|theme|themepack))\Z",
    re.I | re.S,
)


def clean_file_name(name: str) -> str:
    """One plain, visible file name, whatever was given; cleaning it again changes nothing.

    1 to MAX_FILE_NAME_BYTES bytes of UTF-8 in NFC: no separator of any system, no control, bidirectional or invisible
    character, no leading dot or hyphen, no dot or space at the end, none of the names that Windows keeps for itself or
    that a file manager acts upon. A path gives its last part only if the caller took it; here `a/b` is `a_b`. The
    extension is kept where the name has to be cut.
    """
    shown = _trim(_UNSAFE.sub("_", _show(name[:_LONGEST_READ])))
    if not shown.strip("_. -"):
        return NAMELESS
    if _RESERVED.match(shown.split(".", 1)[0].rstrip(" ")):
        shown = "_" + shown
    if _ACTS_WHEN_SEEN.match(shown):
        shown += "_"
    if len(shown.encode()) > MAX_FILE_NAME_BYTES:
        stem, suffix = _split(shown)
        shown = _trim(_cut(stem, MAX_FILE_NAME_BYTES - len(suffix.encode())) + suffix)
    return shown


def clean_text(text: str, max_bytes: int, *, lines: bool = False) -> str:
    """A caption or title as it may be shown: NFC, nothing that steers or hides, at most `max_bytes` of UTF-8.

    Runs of white space are one space; with `lines`, line breaks stay, at most two together. What is cut ends in an
    ellipsis. It may be empty.
    """
    part = text[: max(_LONGEST_READ, 4 * max_bytes)]
    if lines:
        rows = [_show(row) for row in part.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
        shown = re.sub(r"\n{3,}", "\n\n", "\n".join(rows)).strip("\n ")
    else:
        shown = _show(part)
    if len(shown.encode()) <= max_bytes:
        return shown
    return _cut(shown, max_bytes - len("…".encode())).rstrip() + "…" if max_bytes > 3 else ""


def local_file_name(path: str | os.PathLike[str]) -> str:
    """The clean name of a file of this device: the last part of its path, undecodable bytes made visible."""
    return clean_file_name(Path(path).name)


def create_new(directory: Path, name: str) -> tuple[Path, BinaryIO]:
    """Make a new, empty file under a clean form of `name` in `directory`, and open it for writing.

    Never takes the place of anything: where the name is taken, by a link, in other letters' case or in another Unicode
    form too, the next of `name (2).txt`, `name (3).txt` … is made. It lies directly in `directory`, whatever the name.

    Raises:
        UsageError: the directory is none or may not be written, or has MAX_SAME_NAMES files of this name.
        StorageFullError, LocalStateError: the system refuses.
    """
    stem, suffix = _split(clean_file_name(name))
    for number in range(1, MAX_SAME_NAMES + 1):
        path = directory / (f"{stem} ({number}){suffix}" if number > 1 else stem + suffix)
        try:
            descriptor = open_descriptor(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            continue
        except OSError as error:
            raise _converted(error, directory) from error
        return path, os.fdopen(descriptor, "r+b")
    raise UsageError(f"{directory} has {MAX_SAME_NAMES:,} files of this name already; take another folder")


def _converted(error: OSError, directory: Path) -> UsageError | LocalStateError:
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return UsageError(f"{directory} is no folder")
    if error.errno in (errno.EACCES, errno.EPERM):
        return UsageError(f"{directory} may not be written to")
    return convert_os_error(error, str(directory))


def _show(text: str) -> str:
    """NFC on one line, with everything dropped that steers, hides or shows nothing."""
    letters: list[str] = []
    marks = 0
    for raw in unicodedata.normalize("NFC", bound_marks(text)):
        letter = _plain(raw)
        if not letter or (letter in _JOINERS and (not letters or letters[-1] < "\u0300" or letters[-1] in _JOINERS)):
            continue
        marks = marks + 1 if unicodedata.combining(letter) or unicodedata.category(letter) == "Me" else 0
        if marks <= _MARKS_IN_A_ROW:
            letters.append(letter)
    return unicodedata.normalize("NFC", " ".join("".join(letters).split())).strip(_JOINERS + " ")


def _plain(letter: str) -> str:
    """The letter itself, a space, a `_` for what is no text on other systems, or nothing for what does not show."""
    if letter in _JOINERS:
        return letter
    if letter.isspace() or letter == "\0":
        return " "
    if "\ud800" <= letter <= "\uf8ff":
        return "_"  # bytes of a file system that are no text, and signs that only one system knows
    return "" if is_hidden(ord(letter)) else letter


def _trim(name: str) -> str:
    """No dots, spaces or hyphens in front, no dots or spaces at the end."""
    return name.lstrip(". -" + _JOINERS).rstrip(". " + _JOINERS)


def _split(name: str) -> tuple[str, str]:
    """The stem and the extension with its dot; none where it would be long or holds a space."""
    stem, dot, suffix = name.rpartition(".")
    if not stem or not suffix or " " in suffix or len(suffix.encode()) >= MAX_SUFFIX_BYTES:
        return name, ""
    return stem, dot + suffix


def _cut(text: str, max_bytes: int) -> str:
    """At most that many bytes of UTF-8, cut between two letters: no accent or joiner is left without its own."""
    kept = text.encode()[: max(0, max_bytes)].decode(errors="ignore")
    if len(kept) < len(text) and (unicodedata.combining(text[len(kept)]) or text[len(kept)] in _JOINERS):
        kept = kept.rstrip("".join(c for c in set(kept) if unicodedata.combining(c)))[:-1]
    return kept.rstrip(_JOINERS)
