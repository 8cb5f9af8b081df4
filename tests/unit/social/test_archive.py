"""An archive: all that the feed and the documents show, whole or not there, and nothing in it that could run."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from cocoon_core.archiving import ArchiveReport
from cocoon_core.errors import StorageFullError, UsageError
from cocoon_core.social import archive as archive_module
from cocoon_core.social.archive import plain
from cocoon_core.social.archive_files import month_title, slug
from tests.support.world import SCHEMA, Seat, World, make_world  # noqa: F401  a fixture

TAGS = {
    *("html", "head", "meta", "title", "style", "body", "header", "main", "footer", "nav", "h1", "h2", "p", "a", "b"),
    *("table", "tr", "td", "th", "span", "section", "article", "div", "time", "ul", "li", "details", "summary", "pre"),
}
ATTRIBUTES = {
    *("lang", "charset", "http-equiv", "content", "name", "class", "href", "dir", "id", "datetime", "aria-hidden"),
}
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</p></article></style><style>*{background:url(http://127.0.0.1/x)}</style>",
    "<!--", "]]>", "<a href=javascript:alert(1)>x</a>", "&lt;b&gt; &amp;", "\u202eevil", "\x1b[2J", "{{7*7}}",
    "<iframe srcdoc='<script>alert(1)</script>'>", "<svg/onload=alert(1)>", "<meta http-equiv=refresh content=0>",
]  # fmt: skip


class Page(HTMLParser):
    """What a browser would see: tags with their attributes, and text."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def pages(folder: Path) -> Iterator[tuple[Path, Page]]:
    for path in sorted(folder.rglob("*.html")):
        yield path, Page(path.read_text("utf-8"))


def read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def find_faults(folder: Path) -> list[str]:
    """All in the pages that an archive may not have."""
    faults: list[str] = []
    for path, page in pages(folder):
        for tag, attributes in page.tags:
            if tag not in TAGS or not attributes.keys() <= ATTRIBUTES:
                faults.append(f"{path.name}: {tag} {sorted(attributes)}")
            href = attributes.get("href")
            if href is not None and not re.fullmatch(r"(\.\./)?[a-z0-9-]+(/[a-z0-9-]+)?\.(html|json)", href):
                faults.append(f"{path.name}: a link to {href!r}")
            if href is not None and not (path.parent / href).exists():
                faults.append(f"{path.name}: {href!r} is not there")
        policies = [attributes for tag, attributes in page.tags if attributes.get("http-equiv")]
        (style,) = re.findall(r"<style>(.*?)</style>", path.read_text("utf-8"), re.DOTALL) or [""]
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        wanted = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
        if [policy.get("content") for policy in policies] != [wanted]:
            faults.append(f"{path.name}: the policy is {policies}")
    return faults


async def write(seat: Seat, target: Path, **options: Any) -> ArchiveReport:
    return await seat.running.export(target, seat.running.groups(), **options)


def folder_of(target: Path) -> Path:
    (group,) = read(target / "archive.json")["groups"]
    return target / str(group["folder"])


async def test_an_erased_post_is_said_to_be_erased(world: World) -> None:
    (ana,) = await world.group("ana")
    post = await ana.group.feed.post("a slip of the tongue")
    await ana.group.feed.erase(post.id)
    await write(ana, world.folder / "out")
    folder = folder_of(world.folder / "out")
    (month,) = read(folder / "group.json")["months"]
    ((shown,),) = [thread["posts"] for thread in read(folder / month["file"])["threads"]]
    assert (shown["id"], shown["text"], shown["erased"]) == (post.id, "", True)
    text = "".join(page.text for _, page in pages(world.folder / "out"))
    assert "erased by its author" in text
    assert "slip" not in text


async def test_what_was_edited_deleted_hidden_pinned_and_quoted_is_said(world: World) -> None:
    (ana,) = await world.group("ana")
    feed = ana.group.feed
    edited, hidden, root = await feed.post("edited"), await feed.post("hidden words"), await feed.post("deleted words")
    alone = await feed.post("deleted alone")
    await feed.edit(edited.id, "edited @Ana")
    reply = await feed.reply(root.id, "a reply", quote=hidden.id)
    await feed.hide(hidden.id)
    await feed.pin(edited.id)
    await feed.delete(root.id, alone.id)
    await write(ana, world.folder / "out")
    folder = folder_of(world.folder / "out")
    (month,) = read(folder / "group.json")["months"]
    threads = read(folder / month["file"])["threads"]
    posts = {post["id"]: post for thread in threads for post in thread["posts"]}
    assert posts.keys() == {edited.id, hidden.id, root.id, reply.id}
    shown = posts[edited.id]
    assert (shown["text"], shown["edited"], shown["pinned"]) == ("edited @Ana", True, True)
    assert (shown["mentions"], shown["edited_at"] > shown["time"]) == ([str(ana.group.me)], True)
    assert (posts[hidden.id]["text"], posts[hidden.id]["hidden"]) == ("hidden words", True)
    assert (posts[root.id]["text"], posts[root.id]["deleted"]) == ("", True)
    assert (posts[reply.id]["quote"], posts[reply.id]["parent"]) == (hidden.id, root.id)
    text = "".join(page.text for _, page in pages(world.folder / "out"))
    for mark in ("pinned", "hidden by an admin", "deleted by its author", "Quotes a post that is not shown"):
        assert mark in text
    assert "deleted words" not in text
    assert text.count("hidden words") == 1
    assert find_faults(world.folder / "out") == []


async def test_an_archive_has_all_posts_once_as_the_feed_shows_them(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    roots = []
    for number in range(4):
        post = await ana.group.feed.post(f"post {number}")
        roots.append(post.id)
        answer = await ben.group.feed.post(f"other {number}")
        await world.level()
        await ben.group.feed.reply(post.id, "first")
        await ben.group.feed.reply(answer.id, "second\nwith\tlines")
        world.now_ms += 9 * 86_400_000
    await world.level()
    report = await write(ana, world.folder / "out")
    assert (report.groups, report.posts) == (1, 16)
    folder = folder_of(world.folder / "out")
    group = read(folder / "group.json")
    assert [(m["name"], m["role"], m["me"]) for m in group["members"]] == [
        ("Ana", "admin", True),
        ("Ben", "member", False),
    ]
    found = []
    for month in group["months"]:
        content = read(folder / month["file"])
        assert content["month"] == month["month"]
        assert sum(len(thread["posts"]) for thread in content["threads"]) == month["posts"]
        for thread in content["threads"]:
            shown = await ana.group.feed.thread(thread["root"])
            assert [post["id"] for post in thread["posts"]] == [post.id for post in shown]
            assert thread["posts"][0]["time"].startswith(month["month"])
            found.append(thread["root"])
    assert found == [post.id for post in reversed(await ana.group.feed.list(limit=100))]
    assert len(group["months"]) >= 2
    assert find_faults(world.folder / "out") == []
    text = "".join(page.text for _, page in pages(world.folder / "out"))
    assert all(f"post {number}" in text for number in range(4))
    assert "second\nwith\tlines" in text
    listed = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert set(read(world.folder / "out" / "archive.json")["groups"][0]["files"]) == listed


async def test_replies_whose_parent_is_not_here_and_circles_are_in_it(world: World) -> None:
    (ana,) = await world.group("ana")
    lost = await ana.group.feed.post("deleted later")
    below = await ana.group.feed.reply(lost.id, "answers what is gone")
    await ana.group.feed.reply(below.id, "below it")
    ring = [await ana.group.feed.reply(below.id, f"ring {number}") for number in range(3)]
    database = ana.replica.database
    database.execute("DELETE FROM posts WHERE post=?", (bytes.fromhex(lost.id),))
    for place, post in enumerate(ring):  # only malice makes a circle
        parent = bytes.fromhex(ring[place - 1].id)
        database.execute("UPDATE posts SET parent=? WHERE post=?", (parent, bytes.fromhex(post.id)))
    report = await write(ana, world.folder / "out")
    assert report.posts == 5
    folder = folder_of(world.folder / "out")
    (month,) = read(folder / "group.json")["months"]
    threads = read(folder / month["file"])["threads"]
    assert sorted(len(thread["posts"]) for thread in threads) == [2, 3]
    assert "answers a post that is not here" in (folder / month["pages"][0]).read_text("utf-8")


async def test_attack_21_no_text_and_no_name_runs_or_fetches_anything(world: World) -> None:
    ana = await world.seat("ana")
    url = world.add_relay().url
    await ana.running.create_group("<b onclick=x>&", member_name="Ana <i>", relays=[url])
    for text in HOSTILE:
        post = await ana.group.feed.post(text)
        await ana.group.feed.reply(post.id, text, quote=post.id)
        hidden = await ana.group.feed.post(text)
        await ana.group.feed.hide(hidden.id)
    async with ana.group.document("</title><script>x</script>", SCHEMA).change() as doc:
        for text in HOSTILE:
            doc["items"][text] = text
    with ana.replica.transaction():
        ana.replica.alarm("test", "x", "<script>alert(1)</script>")
    await write(ana, world.folder / "out")
    assert find_faults(world.folder / "out") == []
    text = "".join(page.text for _, page in pages(world.folder / "out"))
    assert "<script>alert(1)</script>" in text  # shown, as the words that it is
    assert "<U+202E>evil" in text
    assert not any(mark in text for mark in ("\u202e", "\x1b"))
    for path in (world.folder / "out").rglob("*.json"):
        assert path.read_text("utf-8").isascii()
    assert read(folder_of(world.folder / "out") / "group.json")["name"] == "<b onclick=x>&"


async def test_attack_21_succeeds_where_nothing_is_escaped(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    (ana,) = await world.group("ana")
    await ana.group.feed.post("<script>alert(1)</script>")
    monkeypatch.setattr("html.escape", lambda text, quote=True: text)
    await write(ana, world.folder / "out")
    assert any("script" in fault for fault in find_faults(world.folder / "out"))


async def test_documents_are_in_it_and_a_long_month_has_pages(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_module, "PAGE_POSTS", 3)
    (ana,) = await world.group("ana")
    async with ana.group.document("list", SCHEMA).change() as doc:
        doc["items"]["milk"] = 2
        doc["lines"].append("one")
    async with ana.group.document("diary").change() as doc:
        doc["mood"] = b"\xff"
    for number in range(10):
        await ana.group.feed.post(f"post {number}")
    await write(ana, world.folder / "out")
    folder = folder_of(world.folder / "out")
    group = read(folder / "group.json")
    documents = {one["name"]: one for one in group["documents"]}
    assert read(folder / documents["list"]["file"]) == {"items": {"milk": 2}, "lines": ["one"], "note": ""}
    assert read(folder / documents["diary"]["file"]) == {"mood": {"base64": "/w=="}}
    assert (documents["list"]["kind"], documents["diary"]["kind"], documents["diary"]["owner"]) == (
        "shared",
        "owned",
        "Ana",
    )
    (month,) = group["months"]
    assert len(month["pages"]) == 4
    assert find_faults(world.folder / "out") == []
    for name, number in zip(month["pages"], (3, 3, 3, 1), strict=True):
        page = Page((folder / name).read_text("utf-8"))
        assert sum(tag == "article" for tag, _ in page.tags) == number


async def test_it_goes_into_a_new_or_empty_folder_and_replaces_an_archive_alone(world: World) -> None:
    (ana,) = await world.group("ana")
    out = world.folder / "out"
    out.mkdir()
    await write(ana, out)
    with pytest.raises(UsageError, match="--force"):
        await write(ana, out)
    await ana.group.feed.post("since")
    assert (await write(ana, out, replace=True)).posts == 1
    photos = world.folder / "photos"
    photos.mkdir()
    (photos / "dear.jpg").write_bytes(b"x")
    for replace in (False, True):
        with pytest.raises(UsageError):
            await write(ana, photos, replace=replace)
    (world.folder / "file").touch()
    for target in (world.folder / "file", world.folder / "no" / "such"):
        with pytest.raises(UsageError):
            await write(ana, target)
    assert [path.name for path in photos.iterdir()] == ["dear.jpg"]
    assert not [path.name for path in world.folder.iterdir() if path.name.startswith(".")]
    for path in out.rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600)
    assert out.stat().st_mode & 0o777 == 0o700


async def test_a_crash_or_a_full_disk_leaves_the_archive_before(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    (ana,) = await world.group("ana")
    for number in range(3):
        await ana.group.feed.post(f"post {number}")
    out = world.folder / "out"
    await write(ana, out)
    before = {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    real = os.fsync
    for fails_at in (0, 2, 5):
        calls = 0

        def full(descriptor: int, fails_at: int = fails_at) -> None:
            nonlocal calls
            calls += 1
            if calls > fails_at:
                raise OSError(28, "full")
            real(descriptor)

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(StorageFullError):
            await write(ana, out, replace=True)
        monkeypatch.undo()
        assert {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    moved = Path.rename

    def rename(path: Path, target: Path) -> Path:
        if path.name.endswith(".new"):
            raise OSError(28, "full")
        return moved(path, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(StorageFullError):
        await write(ana, out, replace=True)
    monkeypatch.undo()
    assert {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert not [path.name for path in world.folder.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("The Family", "the-family"),
        ("../../etc", "etc"),
        ("☕", "unnamed"),
        ("a" * 90, "a" * 40),
        ("CON", "con"),
        ("", "unnamed"),
    ],
)
def test_names_of_files_are_harmless(name: str, expected: str) -> None:
    assert slug(name) == expected


def test_values_become_json() -> None:
    assert plain({"a": [1, True, None, 1.5, float("nan")], "b": b"x"}) == {
        "a": [1, True, None, 1.5, "nan"],
        "b": {"base64": "eA=="},
    }
    assert month_title("2026-09") == "September 2026"


async def test_a_time_at_the_end_of_all_times_has_a_month(world: World) -> None:
    (ana,) = await world.group("ana")
    await ana.group.feed.post("from the future")
    ana.replica.database.execute("UPDATE posts SET time_ms=253402300799000")
    await ana.group.feed.post("now")
    ana.replica.database.execute("UPDATE posts SET time_ms=0 WHERE text='now'")
    assert ana.group.feed.months() == ["1970-01", "9999-12"]
    assert (await write(ana, world.folder / "out")).posts == 2


async def test_the_files_of_the_vault_are_in_it_and_their_keys_are_not(world: World, tmp_path: Path) -> None:
    ana, ben = await world.group("ana", "ben")
    made = tmp_path / "made"
    made.mkdir()
    for name, content in (("plan.pdf", b"%PDF-1.7 plan"), ("it's <b> & co #1?.txt", b"words")):
        (made / name).write_bytes(content)
    items = [await ana.group.vault.add(path, album="Garden", caption="<i>see</i>") for path in sorted(made.iterdir())]
    link = await ana.group.vault.add_link("https://example.org/", title="\u202eevil")
    post = await ana.group.feed.post("look", [items[0], link])
    lost = await ana.group.vault.add_link("https://example.net/")
    await world.level()
    stored = [ben.group.vault.index.stored(bytes.fromhex(item.id)) for item in items]
    report = await ben.running.export(tmp_path / "out", ben.running.groups())
    assert (report.items, report.absent) == (4, 0)
    (folder,) = [path for path in (tmp_path / "out").iterdir() if path.is_dir()]
    told = json.loads((folder / "vault.json").read_text())["items"]
    assert [item["id"] for item in told] == [item.id for item in (*items, link, lost)]
    for item, path in zip(told, sorted(made.iterdir()), strict=False):
        assert (folder / item["file"]).read_bytes() == path.read_bytes()
        assert (folder / item["file"]).stat().st_mode & 0o777 == 0o600
    everything = b"".join(path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())
    for one in stored:
        assert one.file is not None
        key = one.file.key.reveal()
        assert key.hex().encode() not in everything
        assert base64.b64encode(key) not in everything
    (month,) = folder.glob("2*.html")
    vault = Page((folder / "vault.html").read_text("utf-8"))
    for page in (Page(month.read_text("utf-8")), vault):
        assert {tag for tag, _ in page.tags} <= TAGS
        hrefs = [attributes["href"] or "" for tag, attributes in page.tags if tag == "a"]
        there = [folder / unquote(href) for href in hrefs if href.startswith("files/")]
        assert there
        assert all(path.is_file() for path in there)
    assert "<i>see</i>" in vault.text
    assert post.id in month.read_text("utf-8")


async def test_a_file_that_cannot_be_had_is_named_and_keeps_no_archive_from_being_written(
    world: World, tmp_path: Path
) -> None:
    ana, ben = await world.group("ana", "ben")
    (tmp_path / "a.txt").write_bytes(b"words")
    item = await ana.group.vault.add(tmp_path / "a.txt")
    await ana.group.feed.post("look", [item])
    await world.level()
    for relay in world.relays.values():
        relay.reachable = False
    report = await ben.running.export(tmp_path / "out", ben.running.groups())
    assert (report.posts, report.items, report.absent) == (1, 1, 1)
    (told,) = json.loads(next((tmp_path / "out").glob("*/vault.json")).read_text())["items"]
    assert told["file"] is None
    assert told["problem"]
    assert 'href="files' not in next((tmp_path / "out").glob("*/2*.html")).read_text()
    without = await ana.running.export(tmp_path / "bare", ana.running.groups(), files=False)
    assert without.absent == 1
    assert not list((tmp_path / "bare").glob("*/files"))
