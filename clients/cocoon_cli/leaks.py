"""Search files for words in every form in which a program might have stored them.

What it cannot see is what was compressed or encrypted: so a search that finds nothing is worth something only beside
one that finds what must be there.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

PIECE = 12  # characters
CHUNK = 1024 * 1024 + 16  # bytes of a file that holds one chunk of a file of the vault
SHORTEST = 8  # bytes; a shorter needle turns up in random bytes by chance


@dataclass(frozen=True, slots=True)
class Hit:
    """A needle, and where and in which form it was found."""

    needle: str
    form: str
    path: Path


@dataclass(frozen=True, slots=True)
class Search:
    """What was searched, and what was found."""

    files: int
    bytes: int
    hits: tuple[Hit, ...]


def forms(raw: bytes) -> dict[str, bytes]:
    """The byte strings in which these bytes may stand in a file.

    Base64 is given for each of its three alignments, without the characters that the neighbours decide.
    """
    found = {"plain": raw, "hex": raw.hex().encode(), "HEX": raw.hex().upper().encode()}
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + raw)
        first, last = -(-shift * 8 // 6), (shift + len(raw)) * 8 // 6
        found[f"base64+{shift}"] = encoded[first:last]
        found[f"base64url+{shift}"] = encoded[first:last].translate(bytes.maketrans(b"+/", b"-_"))
    return found


def text_forms(text: str) -> dict[str, bytes]:
    """The byte strings in which a text may stand in a file, the usual encodings and escapes included."""
    found = {"escaped": text.encode("ascii", "backslashreplace"), "utf-16-le": text.encode("utf-16-le")}
    found["utf-16-be"] = text.encode("utf-16-be")
    return found | forms(text.encode("utf-8"))


def id_forms(identifier: str) -> dict[str, bytes]:
    """The byte strings in which an id, given in hex, may stand in a file: as its bytes, and as that text."""
    binary = {f"binary {form}": shape for form, shape in forms(bytes.fromhex(identifier)).items()}
    return binary | text_forms(identifier)


def needles_of(texts: Iterable[str]) -> dict[str, dict[str, bytes]]:
    """Every text, and a piece of it from the beginning of each word: a store may have cut a text in two."""
    found: dict[str, dict[str, bytes]] = {}
    for text in texts:
        for part in (text, *(text[word.start() :][:PIECE] for word in re.finditer(r"\S+", text))):
            if len(part.encode("utf-8")) >= SHORTEST:
                found[part] = text_forms(part)
    return found


def short_forms(text: str) -> dict[str, bytes]:
    """The byte strings in which a text most likely stands in a file."""
    found = {name: form for name, form in forms(text.encode("utf-8")).items() if name[:4] not in ("HEX", "base")}
    return found | {"utf-16-le": text.encode("utf-16-le"), "base64": base64.b64encode(text.encode("utf-8"))[:-4]}


def search_tree(
    root: Path, needles: Mapping[str, Mapping[str, bytes]], of_chunks: Mapping[str, Mapping[str, bytes]] | None = None
) -> Search:
    """Search the names and the raw bytes of all files below a folder.

    Args:
        of_chunks: what is looked for in files of CHUNK bytes, in place of the needles: hundreds of megabytes
            take long.
    """
    hits: list[Hit] = []
    files = total = 0
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        contents = str(path.relative_to(root)).encode("utf-8") + b"\n" + path.read_bytes()
        files, total = files + 1, total + path.stat().st_size
        sought = of_chunks if of_chunks is not None and path.stat().st_size == CHUNK else needles
        hits += [
            Hit(needle, form, path)
            for needle, shapes in sought.items()
            for form, shape in shapes.items()
            if shape in contents
        ]
    return Search(files, total, tuple(hits))
