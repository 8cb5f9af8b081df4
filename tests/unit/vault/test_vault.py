"""The vault as an embedder uses it: what is added, what everybody has of it, and what goes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cocoon_core import AddProgress, ByteProgress, CheckStep
from cocoon_core.errors import NotYetError, RelayUnavailable, UnknownItemError, UsageError
from tests.support.media_files import CANARY, photo
from tests.support.world import Seat, World, make_world, state_of

__all__ = ["make_world"]

MIB = 1024 * 1024


def make_file(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


async def read(seat: Seat, item: str, start: int = 0, stop: int | None = None) -> bytes:
    opened = await seat.group.vault.open(item)
    return b"".join([part async for part in opened.read(start, stop)])


async def test_a_file_is_added_with_no_relay_and_is_here_byte_for_byte(world: World, tmp_path: Path) -> None:
    (ana,) = await world.group("ana")
    content = os.urandom(3 * 1024 * 1024 + 17)
    path = make_file(tmp_path, "notes.bin", content)
    told: list[ByteProgress] = []
    item = await ana.group.vault.add(path, caption="what it is", album="Papers", progress=told.append)
    assert (item.name, item.size, item.kind, item.mime) == (
        "notes.bin",
        len(content),
        "file",
        "application/octet-stream",
    )
    assert (item.caption, item.album, item.author, item.author_id) == ("what it is", "Papers", "Ana", ana.group.me)
    assert told[-1].done == told[-1].total == len(content)
    saved = await ana.group.vault.get(item.id[:6], tmp_path / "out.bin")
    assert saved.read_bytes() == content == path.read_bytes()
    assert await read(ana, item.id, 1024 * 1024 - 3, 1024 * 1024 + 5) == content[1024 * 1024 - 3 : 1024 * 1024 + 5]
    assert await read(ana, item.id, len(content) - 1) == content[-1:]
    status = ana.group.vault.status()
    assert (status.items, status.bytes) == (1, len(content))
    assert (status.waiting_files, status.waiting_bytes) == (1, len(content))


async def test_a_photo_says_nothing_of_place_and_device_and_has_a_small_picture(world: World, tmp_path: Path) -> None:
    (ana,) = await world.group("ana")
    path = make_file(tmp_path, "pier.jpg", photo("jpg"))
    report = await ana.group.vault.add_all([path])
    (added,) = report.added
    assert added.removed
    item = added.item
    assert (item.kind, item.mime, item.has_thumb) == ("photo", "image/jpeg", True)
    assert item.width
    assert item.blur
    assert CANARY.encode() in path.read_bytes()
    assert CANARY.encode() not in await read(ana, item.id)
    assert (await ana.group.vault.thumbnail(item.id))[:4] == b"RIFF"
    kept = await ana.group.vault.add(path, keep_metadata=True)
    assert await read(ana, kept.id) == path.read_bytes()


async def test_the_small_pictures_of_a_page_come_together(world: World, tmp_path: Path) -> None:
    relay = world.add_relay()
    ana, ben = await world.group("ana", "ben")
    paths = [make_file(tmp_path, name, photo(name[-3:])) for name in ("pier.jpg", "boat.png")]
    made = [await ana.group.vault.add(path) for path in (*paths, make_file(tmp_path, "notes.bin", b"no picture"))]
    await world.level()
    with pytest.raises(UnknownItemError):
        await ben.group.vault.thumbnails(made[0].id, "ff" * 16)
    lost = ana.group.vault.index.stored(bytes.fromhex(made[1].id)).thumb
    assert lost is not None
    for name in lost.names:
        del relay.blobs.kept[name]
    pictures = await ben.group.vault.thumbnails(*(item.id for item in made))
    assert pictures == {made[0].id: await ana.group.vault.thumbnail(made[0].id)}


async def test_folders_come_whole_and_one_file_that_cannot_be_added_keeps_no_other(
    world: World, tmp_path: Path
) -> None:
    (ana,) = await world.group("ana")
    folder = tmp_path / "Summer"
    for name in ("b/2.txt", "a.txt", "b/1.txt", ".hidden", ".git/config", "b/Thumbs.db"):
        make_file(folder, name, name.encode())
    make_file(folder, "broken.jpg", photo("jpg")[:200])
    (folder / "link.txt").symlink_to(folder / "a.txt")
    (folder / "loop").symlink_to(folder)
    seen: list[AddProgress] = []
    report = await ana.group.vault.add_all([folder, make_file(tmp_path, "alone.txt", b"alone")], progress=seen.append)
    assert [(one.item.name, one.item.album) for one in report.added] == [
        ("a.txt", "Summer"),
        ("1.txt", "Summer"),
        ("2.txt", "Summer"),
        ("alone.txt", None),
    ]
    assert [one.path.name for one in report.skipped] == ["broken.jpg"]
    assert (seen[-1].number, seen[-1].of) == (5, 5)
    assert seen[-1].progress.done == seen[-1].progress.total
    again = await ana.group.vault.add_all([folder])
    assert all(one.existed for one in again.added)
    assert len(await ana.group.vault.items()) == 4


async def test_the_same_file_is_stored_once_whoever_adds_it(world: World, tmp_path: Path) -> None:
    ana, ben = await world.group("ana", "ben")
    path = make_file(tmp_path, "a.bin", os.urandom(100_000))
    first = await ana.group.vault.add(path)
    await world.level()
    second = await ben.group.vault.add(path, caption="found it too")
    assert first.id != second.id
    refs = [ben.group.vault.index.stored(bytes.fromhex(item.id)).file for item in (first, second)]
    assert refs[0] == refs[1]


async def test_what_is_removed_leaves_this_device_and_is_sent_nowhere(world: World, tmp_path: Path) -> None:
    ana, ben = await world.group("ana", "ben")
    path = make_file(tmp_path, "a.bin", os.urandom(5000))
    one = await ana.group.vault.add(path)
    two = await ana.group.vault.add(path, album="Other")
    assert await ana.group.vault.remove(one.id) == [one.id]
    assert ana.group.vault.status().waiting_files == 1  # the other one names the same file
    assert await read(ana, two.id) == path.read_bytes()
    await ana.group.vault.remove(two.id, erase=True)
    status = ana.group.vault.status()
    assert (status.items, status.here, status.waiting_files) == (0, 0, 0)
    assert list((ana.home / "vault").iterdir()) == []
    with pytest.raises(UnknownItemError):
        await ana.group.vault.open(two.id)
    await world.level()
    assert await ben.group.vault.items() == []
    assert await state_of(ana) == await state_of(ben)


async def test_a_link_is_an_item_and_nothing_is_fetched(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    item = await ana.group.vault.add_link("https://example.org/cake", title="Plum cake", note="try it", album="Recipes")
    bare = await ana.group.vault.add_link("http://example.net:8080/")
    await world.level()
    assert [one.name for one in await ben.group.vault.items()] == ["example.net", "Plum cake"]
    assert (await ben.group.vault.item(item.id)).caption == "try it"
    assert bare.url == "http://example.net:8080/"
    assert (
        await ana.group.vault.add_link("bücher.example/größe")
    ).url == "https://xn--bcher-kva.example/gr%C3%B6%C3%9Fe"
    assert all(not relay.blobs.kept for relay in world.relays.values())
    with pytest.raises(UsageError, match="link"):
        await ben.group.vault.open(item.id)
    for wrong in ("javascript:alert(1)", "a b", "file:///etc/passwd", "https://", "https://a b/"):
        with pytest.raises(UsageError):
            await ana.group.vault.add_link(wrong)


async def test_posts_attach_files_and_items_and_all_see_them(world: World, tmp_path: Path) -> None:
    ana, ben = await world.group("ana", "ben")
    linked = await ana.group.vault.add_link("https://example.org/")
    post = await ana.group.feed.post("look", [make_file(tmp_path, "a.txt", b"words"), linked])
    assert [item.name for item in post.attachments] == ["a.txt", "example.org"]
    silent = await ana.group.feed.post("", [post.attachments[0]])
    await world.level()
    seen = {one.id: one for one in await ben.group.feed.list()}
    assert [item.id for item in seen[post.id].attachments] == [item.id for item in post.attachments]
    assert seen[silent.id].text == ""
    await ana.group.vault.remove(post.attachments[0].id)
    await world.level()
    for seat in (ana, ben):
        shown = await seat.group.feed.get(post.id)
        assert ([item.id for item in shown.attachments], shown.missing) == ([linked.id], 1)
    assert await state_of(ana) == await state_of(ben)


async def test_a_post_that_cannot_have_its_attachment_is_not_written_and_adds_nothing(
    world: World, tmp_path: Path
) -> None:
    (ana,) = await world.group("ana")
    good = make_file(tmp_path, "a.txt", b"words")
    for things in ([good, tmp_path / "nothing.txt"], [good] * 33, [tmp_path]):
        with pytest.raises(UsageError):
            await ana.group.feed.post("look", things)
    with pytest.raises(UsageError):
        await ana.group.feed.post("  ")
    assert await ana.group.feed.list() == []
    assert await ana.group.vault.items() == []


async def test_the_limit_is_kept_over_restarts_and_what_no_relay_has_stays(world: World, tmp_path: Path) -> None:
    (ana,) = await world.group("ana")
    item = await ana.group.vault.add(make_file(tmp_path, "a.bin", os.urandom(3_000_000)))
    await ana.group.vault.set_limit(1_000_000)
    await ana.restart()
    status = ana.group.vault.status()
    assert (status.limit, status.waiting_files) == (1_000_000, 1)
    assert len(await read(ana, item.id)) == 3_000_000


# --- from one to the other, over a relay


async def shared(world: World, tmp_path: Path, content: bytes, name: str = "a.bin") -> tuple[Seat, Seat, str]:
    """Ana added a file, and Ben has heard of it."""
    ana, ben = await world.group("ana", "ben")
    item = await ana.group.vault.add(make_file(tmp_path, name, content))
    await world.level()
    return ana, ben, item.id


async def test_what_one_adds_another_saves_byte_for_byte(world: World, tmp_path: Path) -> None:
    content = os.urandom(40 * 1024 * 1024 + 1)  # the names of its chunks stand in a list
    ana, ben, item = await shared(world, tmp_path, content)
    assert ana.group.vault.status().waiting_files == 0
    (audit,) = (await ben.group.audit()).relays
    assert audit.blobs == 41 + 1  # the list is a blob too
    assert ben.group.vault.status().here == 0
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.bin").write_bytes(b"mine")
    saved = await ben.group.vault.get(item, tmp_path / "out")
    assert (saved.name, saved.read_bytes() == content) == ("a (2).bin", True)
    assert (tmp_path / "out" / "a.bin").read_bytes() == b"mine"
    with pytest.raises(UsageError):
        await ben.group.vault.get(item, tmp_path / "out" / "a.bin")
    await ben.group.vault.get(item, tmp_path / "out" / "a.bin", replace=True)
    assert (tmp_path / "out" / "a.bin").read_bytes() == content


async def test_the_same_large_file_is_found_again_by_another_member_and_not_sent_twice(
    world: World, tmp_path: Path
) -> None:
    content = os.urandom(36 * 1024 * 1024)
    _, ben, item = await shared(world, tmp_path, content)
    (relay,) = world.relays.values()
    before = set(relay.blobs.kept)
    second = await ben.group.vault.add(tmp_path / "a.bin", album="Also")
    await world.level()
    index = ben.group.vault.index
    assert index.stored(bytes.fromhex(item)).file == index.stored(bytes.fromhex(second.id)).file
    assert set(relay.blobs.kept) == before


async def test_a_part_of_a_file_fetches_no_more_than_its_chunks(world: World, tmp_path: Path) -> None:
    content = os.urandom(12 * 1024 * 1024)
    _, ben, item = await shared(world, tmp_path, content)
    (relay,) = world.relays.values()
    relay.blobs.requests.clear()
    opened = await ben.group.vault.open(item)
    parts = [part async for part in opened.read(7 * MIB - 2, 7 * MIB + 2)]
    assert b"".join(parts) == content[7 * MIB - 2 : 7 * MIB + 2]
    fetched = [path for method, path in relay.blobs.requests if method == "GET" and "/blobs/" in path]
    assert len(fetched) == 3  # the first, which tells what it is, and two
    assert ben.group.vault.status().here < 4 * MIB


async def test_what_is_pinned_is_kept_and_what_is_not_goes_when_there_is_no_room(world: World, tmp_path: Path) -> None:
    ana, ben = await world.group("ana", "ben")
    items = [
        await ana.group.vault.add(make_file(tmp_path, f"{number}.bin", os.urandom(2 * MIB))) for number in range(4)
    ]
    await world.level()
    await ben.group.vault.set_limit(5 * MIB)
    await ben.group.vault.pin(items[0].id)
    for item in items[1:]:
        await ben.group.vault.get(item.id, tmp_path / f"out-{item.name}")
    status = ben.group.vault.status()
    assert status.here <= 5 * MIB
    assert status.pinned > 2 * MIB
    for relay in world.relays.values():
        relay.reachable = False
    assert len(await read(ben, items[0].id)) == 2 * MIB
    with pytest.raises(RelayUnavailable):
        await read(ben, items[1].id)
    await ben.group.vault.unpin(items[0].id)
    assert ben.group.vault.status().pinned == 0


async def test_check_puts_again_what_a_relay_lost(world: World, tmp_path: Path) -> None:
    ana, ben, item = await shared(world, tmp_path, os.urandom(3 * MIB))
    (relay,) = world.relays.values()
    relay.blobs.kept.clear()
    with pytest.raises(NotYetError):
        await read(ben, item)
    (at,) = (await ben.group.vault.check()).relays
    assert (at.files, at.lacking, at.still_lacking) == (1, 1, 1)
    (at,) = (await ana.group.vault.check()).relays
    assert (at.files, at.lacking, at.still_lacking) == (1, 1, 0)
    assert len(await read(ben, item)) == 3 * MIB


async def test_check_reads_what_is_pinned_too_and_tells_how_far_it_is(world: World, tmp_path: Path) -> None:
    ana, _, item = await shared(world, tmp_path, os.urandom(3 * MIB))
    await ana.group.vault.pin(item)
    (path,) = ana.group.vault._files.holding.store.folder.iterdir()
    damaged = bytearray(path.read_bytes())
    damaged[MIB + 100] ^= 1
    path.write_bytes(damaged)
    steps: list[CheckStep] = []
    report = await ana.group.vault.check(on_step=steps.append)
    assert report.damaged == 1
    reading = [step for step in steps if not step.relay]
    assert reading[-1].done == reading[-1].total >= 3 * MIB
    (url,) = ana.group.relays
    assert [step for step in steps if step.relay] == [CheckStep(url, 1, 1)]
    assert len(await read(ana, item)) == 3 * MIB


async def test_what_another_member_removed_leaves_this_device_too(world: World, tmp_path: Path) -> None:
    ana, ben, item = await shared(world, tmp_path, os.urandom(MIB))
    await read(ben, item)
    await ana.group.vault.remove(item)
    await world.level()
    world.now_ms += 2 * 86_400_000
    await ben.sync()
    assert ben.group.vault.status().here == 0


async def test_attack_21_what_a_file_is_is_told_by_its_bytes_and_not_by_who_sent_it(
    world: World, tmp_path: Path
) -> None:
    ana, ben = await world.group("ana", "ben")
    page = b"<!doctype html><script>alert(1)</script>"
    item = await ana.group.vault.add(make_file(tmp_path, "page.html", page))
    stored = ana.group.vault.index.stored(bytes.fromhex(item.id))
    assert stored.file is not None
    lie = {"kind": "photo", "name": "photo.jpg", "type": "image/jpeg", **stored.file.to_value()}
    with ana.replica.transaction():
        (lying,) = ana.group.vault.index.write([lie])
    await world.level()
    opened = await ben.group.vault.open(lying.hex())
    assert (opened.mime, opened.inline) == ("text/html", False)
    assert opened.name.endswith(".html")
