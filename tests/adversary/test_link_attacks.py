"""Attacks 21, 42 and their kin by links: pages that lead to this machine or its network, unfold, drip, or never end.

The server is real. Where a test must reach it, it says so by `here_too`, which production has no counterpart of.
"""

from __future__ import annotations

import asyncio
import gzip
import inspect
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from cocoon_core.errors import PageError
from cocoon_core.vault import links
from cocoon_core.vault.addresses import is_public
from cocoon_core.vault.links import LinkFetcher, fetch_preview
from cocoon_core.vault.pages import MAX_PAGE_BYTES, read_head
from tests.support.media_files import photo
from tests.support.web_site import Site, here_too, serve_site

NEAR = [
    *("127.0.0.1", "127.255.0.1", "0.0.0.0", "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255"),
    *("192.168.1.1", "169.254.169.254", "100.64.0.1", "192.0.0.8", "198.18.0.1", "192.0.2.1", "224.0.0.251"),
    *("239.255.255.250", "255.255.255.255", "240.0.0.1", "203.0.113.9"),
    *("::1", "::", "fe80::1", "fe80::1%1", "fec0::1", "fc00::1", "fd12:3456::1", "ff02::fb", "2001:db8::1"),
    *("::ffff:127.0.0.1", "::ffff:8.8.8.8", "::127.0.0.1", "2002:7f00:1::", "2001:0:7f00:1::", "64:ff9b::7f00:1"),
    *("64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "3fff::1", "5f00::1", "100::1", "2606:4700::1%1"),
]
FAR = ["8.8.8.8", "1.1.1.1", "172.32.0.1", "192.169.0.1", "100.128.0.1", "2606:4700::1111", "64:ff9b::808:808"]


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with serve_site() as served:
        served.page("/", "<title>secret of this machine</title>")
        yield served


def test_attack_21_no_address_near_the_device_counts_as_public() -> None:
    assert [address for address in NEAR if is_public(address)] == []
    assert [address for address in FAR if not is_public(address)] == []
    assert not any(map(is_public, ("", "localhost", "127.1", "2130706433", "0x7f.1", "1.2.3.4.5", "x")))


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "10.0.0.1", "[fe80::1]", "169.254.169.254"]
)
async def test_attack_21_a_link_to_this_machine_or_its_network_is_not_asked(site: Site, host: str) -> None:
    with pytest.raises(PageError, match="not public"):
        await fetch_preview(site.url("/", host))
    assert site.asked == []


@pytest.mark.parametrize(
    "host",
    [
        "2130706433",
        "0x7f000001",
        "017700000001",
        "127.1",
        "0177.0.0.1",
        "0x7f.1",
        "localhost",
        "127.0.0.1.",
        "①②⑦.⓪.⓪.①",
    ],
)
async def test_attack_21_other_spellings_of_this_machine_are_not_asked(site: Site, host: str) -> None:
    with pytest.raises(PageError):
        await fetch_preview(site.url("/", host))
    assert site.asked == []


@pytest.mark.parametrize(
    "where", ["http://127.0.0.2:{port}/", "http://[::1]:{port}/", "//10.0.0.1/", "http://2130706433/"]
)
async def test_attack_21_a_redirect_to_this_machine_is_not_followed(site: Site, where: str) -> None:
    site.moved("/out", where.format(port=site.port))
    with pytest.raises(PageError):
        await here_too().fetch(site.url("/out"))  # it may reach 127.0.0.1, and nothing else
    assert [request.path for request in site.asked] == ["/out"]


async def test_attack_21_the_picture_of_a_page_is_judged_as_the_page_is(site: Site) -> None:
    site.page("/a", f'<title>T</title><meta property="og:image" content="http://127.0.0.2:{site.port}/x.png">')
    assert (await here_too().fetch(site.url("/a"))).picture is None
    assert [request.path for request in site.asked] == ["/a"]


def rebinding(monkeypatch: pytest.MonkeyPatch, *answers: str) -> list[str]:
    """`page.example` has another address each time it is asked for, as a hostile name server can have it."""
    asked: list[str] = []
    honest = socket.getaddrinfo

    def lie(host: Any, port: Any, *args: Any, **named: Any) -> Any:
        if host != "page.example":
            return honest(host, port, *args, **named)
        address = answers[min(len(asked), len(answers) - 1)]
        asked.append(address)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", lie)
    return asked


async def test_attack_21_a_name_that_leads_here_is_not_asked_however_often_it_changes(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = rebinding(monkeypatch, "127.0.0.1")
    with pytest.raises(PageError, match="not public"):
        await fetch_preview(site.url("/", "page.example"))
    assert asked == ["127.0.0.1"]
    assert site.asked == []


async def test_attack_21_the_address_that_was_judged_is_the_one_that_is_connected_to(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name is asked for once each connection, and the judge is given the very address of the socket."""
    judged: list[str] = []

    def judge(address: str) -> bool:
        judged.append(address)
        return address == "127.0.0.1"

    site.moved("/", "/again")
    asked = rebinding(monkeypatch, "127.0.0.1", "127.0.0.2")
    with pytest.raises(PageError, match="not public"):
        await LinkFetcher(judge).fetch(site.url("/", "page.example"))
    assert judged == asked == ["127.0.0.1", "127.0.0.2"]
    assert [request.path for request in site.asked] == ["/"]


async def test_attack_21_succeeds_where_the_address_of_the_socket_is_not_judged(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    rebinding(monkeypatch, "127.0.0.1")
    found = await LinkFetcher(lambda _: True).fetch(site.url("/", "page.example"))
    assert found.title == "secret of this machine"


def test_attack_21_production_has_one_judge_and_no_way_around_it() -> None:
    assert "LinkFetcher(is_public)" in inspect.getsource(fetch_preview)
    assert list(inspect.signature(fetch_preview).parameters) == ["typed"]


async def test_attack_21_settings_of_the_system_for_proxies_and_passwords_are_not_used(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login canary password canary")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    await here_too().fetch(site.url("/"))
    assert "Authorization" not in site.asked[0].headers


async def test_attack_42_a_page_that_unfolds_or_never_ends_is_cut(site: Site) -> None:
    site.page("/bomb", gzip.compress(b"<title>T</title>" + bytes(100 << 20)), **{"Content-Encoding": "gzip"})
    begin = time.process_time()
    assert (await here_too().fetch(site.url("/bomb"))).title == "T"
    assert time.process_time() - begin < 1
    site.page("/long", b"<title>T</title>" + b" " * (4 * MAX_PAGE_BYTES))
    assert (await here_too().fetch(site.url("/long"))).title == "T"


async def test_attack_42_a_picture_that_is_too_long_or_too_large_is_left_out(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.page("/a", '<title>T</title><meta property="og:image" content="/p">')
    site.page("/p", photo("png"), "image/png")
    assert (await here_too().fetch(site.url("/a"))).picture is not None
    for name, value in (("MAX_PICTURE_BYTES", 300), ("MAX_PICTURE_PIXELS", 1000)):
        with monkeypatch.context() as bounded:
            bounded.setattr(links, name, value)
            assert (await here_too().fetch(site.url("/a"))).picture is None


async def test_attack_08_a_server_that_drips_is_given_up(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "SECONDS", 0.3)

    async def drip(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "text/html"})
        await answer.prepare(request)
        with pytest.raises((ConnectionError, asyncio.CancelledError)):
            while True:
                await answer.write(b" ")
                await asyncio.sleep(0.01)
        return answer

    site.pages["/drip"] = drip
    with pytest.raises(PageError, match="does not answer within"):
        await here_too().fetch(site.url("/drip"))


@pytest.mark.parametrize(
    "part",
    ["<a ", "<!--", "<a b='", "</", "<", "&#", "<title ", "<script>", "<meta a=", "<a\t" + " " * 4000, "<!", '<a b="'],
)
def test_attack_42_no_page_takes_longer_than_a_moment(part: str) -> None:
    page = (part * (MAX_PAGE_BYTES // len(part)))[:MAX_PAGE_BYTES]
    begin = time.process_time()
    read_head(page)
    read_head("<meta content='" + page[:4000] + "'>")
    assert time.process_time() - begin < 2


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n" + b"X: y\r\n" * 100_000,
        b"HTTP/1.1 302 Found\r\nLocation: http://" + b"a" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/9.9 xx\r\n\r\n",
        b"\0" * 1000,
        b"HTTP/1.1 302 Found\r\nLocation: \xff\xfe://[::\r\n\r\n",
        b"",
    ],
)
async def test_attack_41_answers_that_are_no_http_are_refused_by_name(answer: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        with pytest.raises(PageError):
            await here_too().fetch(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
