"""What the head of a page says of it: title, description and picture, read from hostile HTML in bounded time.

It reads tags one after another, and looks at few. The parser of the standard library is not used: in the Pythons that
Cocoon runs on its time grows with the square of the input, measured as 32 s for 48 KB of `<a <a <a …`.
Spec: specs/media.md §7.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from typing import Final

from cocoon_core.vault.naming import clean_text

MAX_TITLE_BYTES: Final = 300
MAX_DESCRIPTION_BYTES: Final = 600
MAX_PAGE_BYTES: Final = 512 * 1024  # of a page, from its beginning
_MOST_TAGS: Final = 4_000
_LONGEST_TAG: Final = 4096  # characters

_TAG: Final = re.compile(r"""<(/?)([a-z][a-z0-9]*)((?:[\s/](?:[^>"']|"[^"]*"|'[^']*')*+)?)>""", re.I)
_ATTRIBUTE: Final = re.compile(r"""([^\s=/"'<>]+)(?:\s*=\s*("[^"]*"|'[^']*'|[^\s"'>]+))?""")
_RAW: Final = frozenset(("script", "style", "textarea", "noscript", "template", "svg", "iframe", "xmp"))
_CHARSET: Final = re.compile(rb"""<meta[^>]{0,200}?charset\s{0,9}=\s{0,9}["']?([a-z0-9_.:-]{1,40})""", re.I)
# Decoders that take a page; others of Python's are no alphabets, and some are slow.
_CHARSETS: Final = frozenset(
    (
        *("utf-8", "utf8", "us-ascii", "ascii", "utf-16", "utf-16le", "utf-16be", "latin1", "koi8-r", "koi8-u", "big5"),
        *(f"iso-8859-{number}" for number in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 14, 15, 16)),
        *(f"windows-{number}" for number in (874, *range(1250, 1259))),
        *("shift_jis", "euc-jp", "euc-kr", "gb2312", "gbk", "gb18030"),
    )
)
_TITLES: Final = ("og:title", "twitter:title", "title")
_DESCRIPTIONS: Final = ("og:description", "twitter:description", "description")
_PICTURES: Final = ("og:image:secure_url", "og:image", "og:image:url", "twitter:image", "twitter:image:src")


@dataclass(frozen=True, slots=True)
class PageHead:
    """Clean text; the picture is an address as the page wrote it, relative perhaps. Each may be empty."""

    title: str
    description: str
    picture: str


def decode_page(raw: bytes, named: str | None) -> str:
    """A page's text by the encoding that its answer or itself names; UTF-8 where that is none of the usual ones."""
    said = _CHARSET.search(raw[:2048])
    for name in (named, said[1].decode() if said else None):
        if name and name.strip().lower() in _CHARSETS:
            return raw.decode(name.strip().lower(), errors="replace")
    return raw.decode(errors="replace")


def read_head(page: str) -> PageHead:
    """What the head says. Never raises, whatever the page."""
    said: dict[str, str] = {}
    at = 0
    for _ in range(_MOST_TAGS):
        at = page.find("<", at)
        if at < 0:
            break
        if page.startswith("<!--", at):
            at = page.find("-->", at + 4)
            if at < 0:
                break
            continue
        match = _TAG.match(page, at, at + _LONGEST_TAG)
        if match is None:
            at += 1
            continue
        at, name = match.end(), match[2].lower()
        if name == "body" or (match[1] and name == "head"):
            break
        if match[1]:
            continue
        if name == "meta":
            _read_meta(match[3], said)
        elif name == "title" or name in _RAW:
            end = _end_of_raw(page, at, name)
            if name == "title":
                said.setdefault("title", page[at : min(end, at + _LONGEST_TAG)])
            at = end
    return PageHead(
        clean_text(_first(said, _TITLES), MAX_TITLE_BYTES),
        clean_text(_first(said, _DESCRIPTIONS), MAX_DESCRIPTION_BYTES),
        _first(said, _PICTURES).strip(),
    )


def _read_meta(attributes: str, said: dict[str, str]) -> None:
    found: dict[str, str] = {}
    for name, value in _ATTRIBUTE.findall(attributes):
        found.setdefault(name.lower(), value[1:-1] if value[:1] in ("'", '"') else value)
    key = (found.get("property") or found.get("name") or "").lower()
    if key in (*_TITLES[:2], *_DESCRIPTIONS, *_PICTURES) and found.get("content"):
        said.setdefault(key, found["content"])


def _end_of_raw(page: str, at: int, name: str) -> int:
    """Where the text of an element ends that holds no tags; the end of the page, if it never does."""
    end = re.compile(rf"</{name}[\s/>]", re.I).search(page, at)
    return end.start() if end else len(page)


def _first(said: dict[str, str], keys: tuple[str, ...]) -> str:
    return next((text for key in keys if (text := html.unescape(said.get(key, "")).strip())), "")
