"""Previews of links: what a page says, read by this device alone, from a real server."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from hypothesis import example, given
from hypothesis import strategies as st

from cocoon_core.errors import PageError
from cocoon_core.vault import links
from cocoon_core.vault.addresses import read_address
from cocoon_core.vault.images import require_thumbnail
from cocoon_core.vault.links import read_onward
from cocoon_core.vault.pages import MAX_PAGE_BYTES, PageHead, decode_page, read_head
from tests.support.media_files import photo, require_no_canary
from tests.support.web_site import Site, here_too, never, serve_site

PAGE = """<!DOCTYPE html><html><head><meta charset="utf-8"><title> A &amp; B\n größer </title>
<meta name=description content='What it is &lt;about&gt;'><meta property="og:image" content="/small.jpg">
</head><body><title>no</title>"""


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with serve_site() as served:
        yield served


async def test_a_preview_says_what_the_page_says_with_its_picture_made_small(site: Site) -> None:
    site.page("/a", PAGE)
    site.page("/small.jpg", photo("jpg"), "image/jpeg")
    found = await here_too().fetch(site.url("/a?x=1#y"))
    assert (found.title, found.description) == ("A & B größer", "What it is <about>")
    assert (found.url, found.host) == (site.url("/a?x=1#y"), "127.0.0.1")
    assert found.picture is not None
    require_thumbnail(found.picture.thumb)
    require_no_canary(found.picture.thumb)
    assert [request.path for request in site.asked] == ["/a", "/small.jpg"]


async def test_a_request_says_nothing_of_who_asks_and_takes_no_cookie(site: Site) -> None:
    site.moved("/a", "/b")
    site.page("/b", PAGE, **{"Set-Cookie": "canary=2; Path=/"})
    site.page("/small.jpg", photo("jpg"), "image/jpeg")
    await here_too().fetch(site.url("/a"))
    assert len(site.asked) == 3
    for request in site.asked:
        assert set(request.headers) == {"Host", "User-Agent", "Accept", "Accept-Encoding", "Connection"}
        assert "Cocoon" not in request.headers["User-Agent"]


@pytest.mark.parametrize("broken", ["", "http://[", "/none", "/text", "javascript:alert(1)", "file:///etc/passwd"])
async def test_a_preview_without_its_picture_is_one(site: Site, broken: str) -> None:
    site.page("/a", f'<title>T</title><meta property="og:image" content="{broken}">')
    site.page("/text", "no picture", "image/jpeg")
    found = await here_too().fetch(site.url("/a"))
    assert (found.title, found.picture) == ("T", None)


async def test_a_page_may_be_packed_as_servers_do_that_do_not_listen(site: Site) -> None:
    site.page("/a", gzip.compress(PAGE.encode()), **{"Content-Encoding": "gzip"})
    assert (await here_too().fetch(site.url("/a"))).title == "A & B größer"
    for raw, packing in ((b"xx", "gzip"), (PAGE.encode(), "br")):
        site.page("/b", raw, **{"Content-Encoding": packing})
        with pytest.raises(PageError):
            await here_too().fetch(site.url("/b"))


def test_a_redirect_leads_to_pages_of_the_web_alone_and_never_from_https_to_http() -> None:
    url = read_address("https://a.example/x/y?z")
    for location, onward in (("/b", "https://a.example/b"), ("c?d", "https://a.example/x/c?d"), ("//b.example", None)):
        assert str(read_onward(url, location)) == (onward or "https://b.example")
    assert str(read_onward(read_address("http://a.example"), "https://a.example/")) == "https://a.example/"
    for location in (
        *(
            "http://a.example/",
            "javascript:alert(1)",
            "file:///etc/passwd",
            "https://u:p@a.example/",
            "ftp://a.example/",
        ),
        *("https://a.example:22/", "https://localhost/", "https://0x7f.1/", "data:text/html,x"),
    ):
        with pytest.raises(PageError):
            read_onward(url, location)


async def test_redirects_are_followed_a_few_times(site: Site) -> None:
    site.page("/0", PAGE)
    for number in range(1, 8):
        site.moved(f"/{number}", f"/{number - 1}", 301 + number % 3)
    assert (await here_too().fetch(site.url("/5"))).title == "A & B größer"
    with pytest.raises(PageError, match="more than 5 times"):
        await here_too().fetch(site.url("/6"))
    site.moved("/loop", "")
    with pytest.raises(PageError, match="more than 5 times"):
        await here_too().fetch(site.url("/loop"))


@pytest.mark.parametrize(
    ("kind", "status", "error"),
    [("application/pdf", 200, "no page"), ("text/plain", 200, "no page"), ("text/html", 404, "404"), ("x", 204, "204")],
)
async def test_what_is_no_page_has_no_preview(site: Site, kind: str, status: int, error: str) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, body=b"" if status == 204 else b"x", headers={"Content-Type": kind})

    site.pages["/a"] = answer
    with pytest.raises(PageError, match=error):
        await here_too().fetch(site.url("/a"))


async def test_a_server_that_is_gone_or_silent_is_said(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "SECONDS", 0.2)
    site.pages["/a"] = never
    with pytest.raises(PageError, match="does not answer within"):
        await here_too().fetch(site.url("/a"))
    with pytest.raises(PageError, match="cannot be read"):
        await here_too().fetch("http://127.0.0.1:1025/")


@pytest.mark.parametrize(
    ("typed", "address"),
    [
        ("example.com", "https://example.com"),
        (" example.com:8443/a?b ", "https://example.com:8443/a?b"),
        ("//example.com/x", "https://example.com/x"),
        ("http://EXAMPLE.com/ä b".replace(" ", ""), "http://example.com/%C3%A4b"),
        ("https://bücher.example/", "https://xn--bcher-kva.example/"),
        ("https://example.com/a#b", "https://example.com/a#b"),
    ],
)
def test_addresses_are_kept_in_one_form(typed: str, address: str) -> None:
    assert str(read_address(typed)) == address
    assert str(read_address(address)) == address


@pytest.mark.parametrize(
    "typed",
    [
        *("", "x", "localhost", "http://localhost:8787/", "http://router/", "http:///x", "https://", "http:x.com"),
        *("javascript:alert(1)", "file:///etc/passwd", "ftp://example.com/", "data:text/html,x", "cocoon:abc.de"),
        *("https://user@example.com/", "https://u:p@example.com/", "https://example.com\\@evil.example/"),
        *("http://example.com:22/", "http://example.com:25", "http://example.com:0/", "http://example.com:99999/"),
        *("http://2130706433/", "http://0x7f000001/", "http://0177.0.0.1/", "http://127.1/", "http://0x7f.0.0.1/"),
        *(
            "http://1.2.3.08/",
            "http://example.0x1/",
            "http://a..example.com/x y",
            "http://example.com/\u202e",
            "http://[::1",
        ),
        "https://example.com/" + "x" * 2048,
    ],
)
def test_what_is_no_address_of_the_web_is_refused(typed: str) -> None:
    with pytest.raises(PageError):
        read_address(typed)


@example("[]@")
@given(st.text(st.characters(), max_size=80) | st.from_regex(r"(https?://)?[a-z0-9.\[\]:@/\\%-]{0,40}", fullmatch=True))
def test_whatever_is_typed_is_an_address_or_refused(typed: str) -> None:
    try:
        url = read_address(typed)
    except PageError:
        return
    assert str(url).isascii()
    assert url.scheme in ("http", "https")
    assert read_address(str(url)) == url


@pytest.mark.parametrize(
    ("page", "head"),
    [
        ("", PageHead("", "", "")),
        ("<TITLE>a</TITLE>", PageHead("a", "", "")),
        ("<title>a", PageHead("a", "", "")),
        ("<!-- <title>no</title> --><title>a</title>", PageHead("a", "", "")),
        ("<script>'<title>no</title>'</script><title>a</title>", PageHead("a", "", "")),
        ("<title>a</title></head><title>b</title>", PageHead("a", "", "")),
        ("<title>a</title><meta property='og:title' content='b'>", PageHead("b", "", "")),
        ('<meta content="x > y" name="Description"/>', PageHead("", "x > y", "")),
        ("<meta name=twitter:image content=//a.b/c.png>", PageHead("", "", "//a.b/c.png")),
        ("<title>a\u202eb\x1b[2J</title>", PageHead("ab[2J", "", "")),
        ("<title>&#x202e;&#27;&amp;lt;</title>", PageHead("&lt;", "", "")),
        ("<b <title>a</title>", PageHead("", "", "")),
        ("<meta name='description' content='a' content='b'>", PageHead("", "a", "")),
    ],
)
def test_a_head_is_read_as_browsers_do_or_as_empty(page: str, head: PageHead) -> None:
    assert read_head(page) == head


@given(st.lists(st.sampled_from(["<", ">", "'", '"', "=", " ", "<title", "<meta ", "content", "-->", "<!--", "a"])))
def test_whatever_the_page_its_head_is_read(parts: list[str]) -> None:
    head = read_head("".join(parts))
    assert len(head.title.encode()) <= 300


def test_a_page_is_decoded_as_it_or_its_answer_says_and_never_by_a_decoder_that_is_no_alphabet() -> None:
    word = "größer"
    assert decode_page(word.encode("latin1"), "ISO-8859-1") == word
    assert decode_page(b"<meta charset=windows-1252>" + word.encode("cp1252"), None).endswith(word)
    assert decode_page(word.encode(), "unicode_escape") == decode_page(word.encode(), "punycode") == word
    assert decode_page(word.encode(), "zlib") == decode_page(word.encode(), None) == word


async def test_a_page_is_read_up_to_the_end_of_its_head(site: Site) -> None:
    """The rest of an endless page is never asked for."""
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        answer = web.StreamResponse(headers={"Content-Type": "text/html"})
        await answer.prepare(request)
        await answer.write(PAGE.replace("/small.jpg", "").encode())
        with pytest.raises((ConnectionError, asyncio.CancelledError)):
            while True:
                await answer.write(b"x" * 65536)
                sent += 65536
        return answer

    site.pages["/a"] = endless
    assert (await here_too().fetch(site.url("/a"))).title == "A & B größer"
    assert sent < 64 * MAX_PAGE_BYTES
