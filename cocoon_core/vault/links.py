"""A preview of a link: fetched only when a member asks for it, by this device alone, from pages that may be hostile.

Other members get what was read, in the item; none of their devices ever fetches a link. The page's host learns this
device's address and what it asks for, and nothing else: no cookie, no referrer, nothing of the group. Every hop, of
redirects too, is judged anew, and the address that a socket connects to is the one that was judged.
Spec: specs/media.md §7.
"""

from __future__ import annotations

import asyncio
import io
import socket
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import aiohttp
from yarl import URL

from cocoon_core.errors import CocoonError, PageError
from cocoon_core.vault.addresses import is_public, read_address
from cocoon_core.vault.file_types import Kind, type_of
from cocoon_core.vault.images import Preview, make_preview
from cocoon_core.vault.pages import MAX_PAGE_BYTES, decode_page, read_head
from cocoon_core.vault.stripping import strip_metadata

SECONDS: Final = 15.0  # for page and picture together, redirects included
MOST_HOPS: Final = 5
MAX_PICTURE_BYTES: Final = 5 * 1024 * 1024
MAX_PICTURE_PIXELS: Final = 16_000_000
_PAGES: Final = frozenset(("text/html", "application/xhtml+xml"))
_MOVED: Final = frozenset((301, 302, 303, 307, 308))
_HEADERS: Final = {
    "User-Agent": "Mozilla/5.0 (compatible; link preview)",
    "Accept": "text/html,application/xhtml+xml,image/webp,image/png,image/jpeg;q=0.9,*/*;q=0.5",
    "Accept-Encoding": "identity",
}


@dataclass(frozen=True, slots=True)
class LinkPreview:
    """What a page says of itself: clean text, each of which may be empty, and its picture made small.

    `url` is the address that was asked, in the form to be kept; `host` is the one whose page it was in the end.
    """

    url: str
    host: str
    title: str
    description: str
    picture: Preview | None


async def fetch_preview(typed: str) -> LinkPreview:
    """Ask a page what it says of itself.

    Raises:
        PageError: the address is none of the public web, or the page cannot be read; it says why.
    """
    return await LinkFetcher(is_public).fetch(typed)


class _NotPublic(OSError):
    """A socket was about to connect to an address that is not public."""


class LinkFetcher:
    """Fetches previews from addresses that `may_connect` allows: it is given each before a socket connects to it."""

    def __init__(self, may_connect: Callable[[str], bool]) -> None:
        self._may_connect = may_connect

    async def fetch(self, typed: str) -> LinkPreview:
        """As `fetch_preview`."""
        url = read_address(typed)
        connector = aiohttp.TCPConnector(
            resolver=aiohttp.ThreadedResolver(),
            use_dns_cache=False,
            force_close=True,
            socket_factory=self._open_socket,
        )
        try:
            async with (
                asyncio.timeout(SECONDS),
                aiohttp.ClientSession(
                    connector=connector,
                    cookie_jar=aiohttp.DummyCookieJar(),
                    auto_decompress=False,
                    headers=_HEADERS,
                    trust_env=False,
                ) as session,
            ):
                return await self._preview(session, url)
        except TimeoutError as error:
            raise PageError(f"{url.raw_host} does not answer within {SECONDS:.0f} seconds") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            if _was_refused(error):
                raise PageError(f"{url.raw_host} leads to an address that is not public; it is not asked") from error
            raise PageError(f"{url.raw_host} cannot be read ({type(error).__name__})") from error

    async def _preview(self, session: aiohttp.ClientSession, url: URL) -> LinkPreview:
        page = await _get(session, url, MAX_PAGE_BYTES, whole=False)
        if page.type not in _PAGES:
            raise PageError(f"{page.url.raw_host} answers with something that is no page")
        head = await asyncio.to_thread(lambda: read_head(decode_page(page.body, page.charset)))
        picture = None
        if head.picture:
            try:
                where = read_address(str(page.url.join(URL(head.picture))))
                raw = await _get(session, where, MAX_PICTURE_BYTES, whole=True)
                picture = await asyncio.to_thread(_small, raw.body)
            except (CocoonError, aiohttp.ClientError, OSError, ValueError):
                picture = None  # a preview without a picture is one
        return LinkPreview(str(url), page.url.raw_host or "", head.title, head.description, picture)

    def _open_socket(
        self, address: tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int]]
    ) -> socket.socket:
        """The last word before a connection: nothing is resolved between this and it."""
        family, kind, protocol, _, where = address
        if not self._may_connect(where[0]) or (len(where) == 4 and where[3]):
            raise _NotPublic
        return socket.socket(family, kind, protocol)


@dataclass(frozen=True, slots=True)
class _Answer:
    url: URL
    type: str
    charset: str | None
    body: bytes


async def _get(session: aiohttp.ClientSession, url: URL, max_bytes: int, *, whole: bool) -> _Answer:
    """Follow redirects, each judged as the first address was, never from HTTPS to HTTP; then read what is needed."""
    for _ in range(MOST_HOPS + 1):
        async with session.get(url, allow_redirects=False) as answer:
            if answer.status in _MOVED:
                url = read_onward(url, answer.headers.get("Location", ""))
                continue
            if answer.status != 200:
                raise PageError(f"{url.raw_host} answers with {answer.status}")
            body = await _read(answer, max_bytes, whole=whole)
            return _Answer(url, answer.content_type.lower(), answer.charset, body)
    raise PageError(f"{url.raw_host} leads on more than {MOST_HOPS} times")


def read_onward(url: URL, location: str) -> URL:
    """Where a redirect leads.

    Raises:
        PageError: to what is no address of the web, or from HTTPS to HTTP.
        ValueError: to what is no address at all.
    """
    onward = read_address(str(url.join(URL(location))))
    if url.scheme == "https" and onward.scheme != "https":
        raise PageError(f"{url.raw_host} leads from HTTPS to HTTP; it is not followed")
    return onward


async def _read(answer: aiohttp.ClientResponse, max_bytes: int, *, whole: bool) -> bytes:
    """At most so many bytes, unpacked; of a page what stands before the end of its head suffices.

    Raises:
        PageError: it is longer, and all of it is needed, or it is packed in a way that was not asked for.
    """
    packing = answer.headers.get("Content-Encoding", "identity").strip().lower()
    if packing not in ("identity", "", "gzip"):
        raise PageError(f"{answer.url.raw_host} answers in a form that was not asked for")
    inflater = zlib.decompressobj(wbits=31) if packing == "gzip" else None
    body = bytearray()
    async for part in answer.content.iter_chunked(1 << 14):
        room = max_bytes + 1 - len(body)
        try:
            body += inflater.decompress(part, room) if inflater else part[:room]
        except zlib.error as error:
            raise PageError(f"{answer.url.raw_host} answers with damaged bytes") from error
        if len(body) > max_bytes:
            if whole:
                raise PageError(f"{answer.url.raw_host} answers with more than {max_bytes:,} bytes")
            break
        if not whole and b"</head" in body[-len(part) - 8 :].lower():
            break
    return bytes(body[:max_bytes])


def _small(raw: bytes) -> Preview | None:
    """The picture of a page, made small; the one place where a stranger's picture is decoded, since its user asked."""
    file_type = type_of(raw, "")
    if file_type.kind is not Kind.PHOTO:
        return None
    stripped = strip_metadata(io.BytesIO(raw), file_type)
    if (stripped.width or 0) * (stripped.height or 0) > MAX_PICTURE_PIXELS:
        return None
    return make_preview(io.BytesIO(raw), file_type, stripped)


def _was_refused(error: BaseException | None) -> bool:
    """Whether the refusal of an address is among what an error came of."""
    seen = 0
    while error is not None and seen < 10:
        parts = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
        if isinstance(error, _NotPublic) or any(map(_was_refused, parts)):
            return True
        error, seen = getattr(error, "os_error", None) or error.__cause__ or error.__context__, seen + 1
    return False
