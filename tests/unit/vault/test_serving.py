"""`vault open`: who gets a file that is served on this device, which part, and what a browser may do with it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from cocoon_cli.vault_serving import FileServer, parse_range, serve_file
from tests.support.media_files import photo
from tests.support.world import Seat, World, make_world

__all__ = ["make_world"]

SIZE = 3 * 1024 * 1024 + 11


@pytest.fixture
async def ana(world: World) -> Seat:
    (seat,) = await world.group("ana")
    return seat


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.mark.parametrize(("header", "answer"),
                         [(None, (0, 100, 200)), ("bytes=0-", (0, 100, 206)), ("bytes=10-19", (10, 20, 206)),
                          ("bytes=-5", (95, 100, 206)), ("bytes=-500", (0, 100, 206)), ("bytes=99-400", (99, 100, 206)),
                          ("bytes=100-", (0, 0, 416)), ("bytes=20-10", (0, 0, 416)), ("bytes=-0", (0, 0, 416)),
                          ("bytes=-", (0, 100, 200)), ("bytes=1-2,5-6", (0, 100, 200)), ("lines=1-2", (0, 100, 200)),
                          ("bytes=" + "9" * 40 + "-", (0, 100, 200)), ("bytes=１-２", (0, 100, 200))],
                         ids=ascii)  # fmt: skip
def test_ranges(header: str | None, answer: tuple[int, int, int]) -> None:
    assert parse_range(header, 100) == answer


async def test_who_knows_the_address_reads_any_part(ana: Seat, tmp_path: Path, http: aiohttp.ClientSession) -> None:
    content = os.urandom(SIZE)
    (tmp_path / "film ü.bin").write_bytes(content)
    item = await ana.group.vault.add(tmp_path / "film ü.bin")
    async with serve_file(await ana.group.vault.open(item.id)) as server:
        assert server.url().startswith("http://127.0.0.1:")
        async with http.get(server.url()) as answer:
            assert (answer.status, await answer.read()) == (200, content)
            assert answer.headers["Cache-Control"] == "no-store"
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Content-Disposition"].startswith("attachment;")
            policy = answer.headers["Content-Security-Policy"]
            assert policy.startswith("default-src 'none';")
            # Seen in Chromium: with `sandbox` alone, no film plays.
            assert policy.endswith("; sandbox allow-same-origin")
        async with http.get(server.url(), headers={"Range": f"bytes=1048570-{SIZE - 2}"}) as answer:
            assert (answer.status, await answer.read()) == (206, content[1048570 : SIZE - 1])
            assert answer.headers["Content-Range"] == f"bytes 1048570-{SIZE - 2}/{SIZE}"
        async with http.get(server.url(), headers={"Range": f"bytes={SIZE}-"}) as answer:
            assert (answer.status, answer.headers["Content-Range"]) == (416, f"bytes */{SIZE}")
        async with http.head(server.url()) as answer:
            assert (answer.status, answer.content_length, await answer.read()) == (200, SIZE, b"")


async def test_what_is_shown_in_a_page_is_told_by_its_bytes(
    ana: Seat, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    (tmp_path / "a.html").write_bytes(photo("jpg"))
    (tmp_path / "b.jpg").write_bytes(b"<!doctype html><script>alert(1)</script>")
    for name, mime, how in (("a.html", "image/jpeg", "inline"), ("b.jpg", "text/html", "attachment")):
        item = await ana.group.vault.add(tmp_path / name, keep_metadata=True)
        async with serve_file(await ana.group.vault.open(item.id)) as server, http.get(server.url()) as answer:
            assert answer.content_type == mime
            assert answer.headers["Content-Disposition"].startswith(f"{how};")


async def test_attack_21_nobody_else_gets_it_and_no_page_with_a_name_of_its_own(
    ana: Seat, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    (tmp_path / "a.txt").write_bytes(b"words")
    item = await ana.group.vault.add(tmp_path / "a.txt")
    opened = await ana.group.vault.open(item.id)
    async with serve_file(opened) as server:
        host, token, name = server.url().removeprefix("http://").split("/")
        assert len(token) >= 43  # 256 bits
        wrong = token[:-1] + ("A" if token[-1] != "A" else "B")
        for path in ("/", f"/{wrong}/{name}", f"/{name}", f"/{token}", f"//{token}/{name}", f"/{token}x/{name}"):
            async with http.get(f"http://{host}{path}") as answer:
                assert (answer.status, b"words" in await answer.read()) == (404, False), path
        for other in ("evil.example", host.replace("127.0.0.1", "localhost"), "127.0.0.1", ""):
            async with http.get(server.url(), headers={"Host": other}) as answer:
                assert (answer.status, b"words" in await answer.read()) in ((403, False), (400, False)), other
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            async with http.request(method, server.url()) as answer:
                assert answer.status == 405
    with pytest.raises(aiohttp.ClientError):
        await http.get(server.url())


async def test_it_ends_when_nobody_asks_any_more(ana: Seat, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"words")
    item = await ana.group.vault.add(tmp_path / "a.txt")
    now = [0.0]
    server = FileServer(await ana.group.vault.open(item.id), clock=lambda: now[0])
    now[0] = 100.0
    await server.wait_until_idle(99.0)
