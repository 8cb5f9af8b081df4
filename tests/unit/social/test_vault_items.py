"""Items of the vault as documents hold them: ids, what is read of hostile ones, lists, pages, albums, removal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cocoon_core.errors import UnknownItemError, UsageError
from cocoon_core.protocol.descriptor import Descriptor, DocumentKind
from cocoon_core.protocol.ids import BlobHash
from cocoon_core.protocol.primitives import Secret
from cocoon_core.protocol.vault_file import FileRef
from cocoon_core.social.item import Item
from cocoon_core.social.item_view import item_id, pack_ref, read_url
from cocoon_core.social.vault_items import VaultItems
from tests.support.hostile import Forger, inject
from tests.support.world import Seat, World, make_world, rebuild_everything, state_of
from tests.unit.sync.test_pages import rotate

__all__ = ["make_world"]

REF = FileRef(Secret(b"k" * 32), 5, (BlobHash(b"n" * 32),))


def items_of(seat: Seat) -> VaultItems:
    return seat.group.vault.index


def add(seat: Seat, name: str, **more: Any) -> Item:
    """Write an item whose file is nowhere."""
    with seat.replica.transaction():
        (item,) = items_of(seat).write(
            [{"kind": "photo", "name": name, "type": "image/jpeg", **REF.to_value(), **more}]
        )
    return items_of(seat).of(item)


def names(items: list[Item]) -> list[str]:
    return [item.name for item in items]


async def test_everybody_lists_the_same_items_newest_first_and_pages_meet(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    for number in range(12):
        add(ben if number % 3 == 0 else ana, f"{number}.jpg")
    await world.level()
    wanted = [f"{number}.jpg" for number in reversed(range(12))]
    for seat in (ana, ben):
        index = items_of(seat)
        assert names(index.select()) == wanted
        paged: list[Item] = []
        while page := index.select(5, paged[-1].id if paged else None):
            assert len(page) <= 5
            paged += page
        assert names(paged) == wanted
        assert {item.author for item in paged} == {"Ana", "Ben"}
        rebuild_everything(seat)
        assert names(index.select()) == wanted
    assert index.count() == (12, 60)


async def test_items_are_found_by_kind_album_member_and_words(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    add(ana, "Straße am Meer.jpg", album="Sommer", caption="mit Øyvind")
    add(ana, "clip.mp4", kind="video", type="video/mp4", album="Sommer")
    add(ben, "strand.jpg", album="Winter")
    add(ben, "Café", kind="link", url="https://example.org/straße".replace("ß", "ss"))
    await world.level()
    index = items_of(ana)
    assert names(index.select(kind="video")) == ["clip.mp4"]
    assert names(index.select(album="Sommer")) == ["clip.mp4", "Straße am Meer.jpg"]
    assert names(index.select(member=ben.group.me)) == ["Café", "strand.jpg"]
    assert names(index.select(text="STRASSE")) == ["Café", "Straße am Meer.jpg"]
    assert names(index.select(text="øyvind meer")) == ["Straße am Meer.jpg"]
    assert names(index.select(text="%")) == []
    assert [(album.name, album.items) for album in index.albums()] == [("Winter", 1), ("Sommer", 2)]
    with pytest.raises(UsageError, match="kinds"):
        index.select(kind="picture")


async def test_captions_and_albums_are_changed_by_who_added_alone(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    item = bytes.fromhex(add(ana, "a.jpg", caption="old", album="One").id)
    await world.level()
    items_of(ana).set(item, {"caption": "new", "album": None})
    await world.level()
    assert [(i.caption, i.album) for i in items_of(ben).select()] == [("new", None)]
    with pytest.raises(UsageError, match="who added"):
        items_of(ben).set(item, {"caption": "his"})
    with pytest.raises(UsageError, match="who added"):
        items_of(ben).remove([item])


async def test_what_is_removed_is_nowhere_and_comes_back_never(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    one, two = add(ana, "one.jpg"), add(ana, "two.jpg")
    await world.level()
    items_of(ana).remove([bytes.fromhex(one.id)])
    await world.level()
    for seat in (ana, ben):
        assert names(items_of(seat).select()) == ["two.jpg"]
        with pytest.raises(UnknownItemError):
            items_of(seat).get(one.id)
        rebuild_everything(seat)
        await seat.restart()
        assert items_of(seat).select() == [two]


async def test_what_is_erased_leaves_the_document_with_its_key_and_the_rest_keeps_its_ids(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    gone, kept = add(ana, "gone.jpg", caption="secret"), add(ana, "kept.jpg")
    await world.level()
    items_of(ana).erase([bytes.fromhex(gone.id)])
    await world.level()
    for seat in (ana, ben):
        assert items_of(seat).select() == [kept]
        held = [
            seat.replica.shelf.get(record.descriptor).read().to_python()
            for record in seat.replica.documents.all()
            if record.descriptor.name.startswith("vault/") and not seat.replica.members.is_retired(record.descriptor)
        ]
        assert "secret" not in str(held)
        assert str(REF.key.reveal()) in str(held)  # that of the one that stays
        rebuild_everything(seat)
        assert items_of(seat).select() == [kept]
    later = add(ana, "later.jpg")
    await world.level()
    assert items_of(ben).select() == [later, kept]
    assert await state_of(ana) == await state_of(ben)


# --- what hostile members write


def forge(world: World, mal: Seat, at: Seat, write: Callable[[Any], None]) -> bytes:
    """Have mal write into its document of the month; the id of `item:0` in it."""
    forger = Forger(mal)
    descriptor = Descriptor(DocumentKind.OWNED, "vault/2026-09", forger.member)
    inject(
        next(iter(world.relays.values())),
        at.replica.epoch,
        forger.write((descriptor, forger.change(descriptor, write))),
    )
    return item_id(descriptor.document_id(forger.group), "item:0")


SOUND: dict[str, Any] = {"at": 5, "kind": "file", "name": "a.bin", **REF.to_value()}


@pytest.mark.parametrize(
    "value",
    [
        5,
        "text",
        {**SOUND, "at": "5"},
        {**SOUND, "at": None},
        {**SOUND, "kind": 3},
        {**SOUND, "key": b"short"},
        {**SOUND, "size": -1},
        {**SOUND, "size": 2**41},
        {**SOUND, "chunks": b"n" * 31},
        {**SOUND, "chunks": b"n" * 64},
        {**SOUND, "chunks": "n" * 32},
        {**SOUND, "list": b"n" * 32},
        {"at": 5, "kind": "link", "name": "no address"},
        {"at": 5, "kind": "link", "url": "javascript:alert(1)"},
        {"at": 5, "kind": "link", "url": "https://user:pass@example.org/"},
        {"at": 5, "kind": "link", "url": "https://\u202eexample.org/"},
        {"at": 5, "kind": "link", "url": "file:///etc/passwd"},
        {"at": 5, "kind": "link", "url": "https://" + "a" * 2048},
    ],
    ids=ascii,
)
async def test_what_is_no_item_is_not_shown_and_harms_nothing(world: World, value: Any) -> None:
    ana, mal = await world.group("ana", "mal")

    def write(root: Any) -> None:
        root["item:0"] = value
        root["item:1"] = {**SOUND, "name": "sound.bin"}
        root["other:2"] = SOUND

    forge(world, mal, ana, write)
    await ana.sync()
    assert names(items_of(ana).select()) == ["sound.bin"]


async def test_attack_21_names_and_types_of_a_hostile_member_are_shown_harmless(world: World) -> None:
    ana, mal = await world.group("ana", "mal")
    item = forge(
        world,
        mal,
        ana,
        lambda root: root.__setitem__(
            "item:0",
            {
                **SOUND,
                "at": 2**62,
                "kind": "program",
                "name": "../../.ssh/\u202egpj.exe\x1b[2J\n",
                "type": "text/html; charset=<script>",
                "caption": "line\x1b]0;title\x07\r\nnext\u2066",
                "album": "\u202ealbum" + "x" * 500,
                "width": -4,
                "height": 10**12,
                "duration": "long",
                "blur": b"b" * 65,
                "digest": b"d" * 31,
                "thumb": b"\xff" * 40,
                "unknown": {"a": [1, 2]},
            },
        ),
    )
    await ana.sync()
    (shown,) = items_of(ana).select()
    assert shown.id == item.hex()
    assert shown.kind == "file"
    assert shown.mime == "application/octet-stream"
    assert shown.time.year == 9999
    assert (shown.width, shown.height, shown.duration, shown.blur, shown.has_thumb) == (None, None, None, None, False)
    for text in (shown.name, shown.caption.replace("\n", ""), shown.album or ""):
        assert text.isprintable()
        assert "\u202e" not in text
    assert "/" not in shown.name
    assert not shown.name.startswith(".")
    assert len((shown.album or "").encode()) <= 128


async def test_a_thumbnail_is_a_reference_of_its_own(world: World) -> None:
    (ana,) = await world.group("ana")
    thumb = FileRef(Secret(b"t" * 32), 9, (BlobHash(b"m" * 32),))
    item = add(ana, "a.jpg", thumb=pack_ref(thumb), digest=b"d" * 32, blur=b"b" * 20, width=3, height=4)
    assert (item.has_thumb, item.blur, item.width) == (True, b"b" * 20, 3)
    stored = items_of(ana).stored(bytes.fromhex(item.id))
    assert (stored.file, stored.thumb, stored.is_own) == (REF, thumb, True)
    assert list(items_of(ana).with_digest(b"d" * 32)) == [stored] == list(items_of(ana).all_stored())


async def test_an_item_is_named_by_a_unique_beginning_of_its_id(world: World) -> None:
    (ana,) = await world.group("ana")
    item = add(ana, "a.jpg")
    for reference in (item.id, item.id[:5], item.id.upper()):
        assert items_of(ana).get(reference) == item
    for wrong in ("", "abc", "zzzz", "0" * 33, "🎞🎞🎞🎞"):
        with pytest.raises(UnknownItemError):
            items_of(ana).get(wrong)


@pytest.mark.parametrize(("value", "is_good"),
                         [("https://example.org/a?b=c#d", True), ("http://[::1]:8080/", True),
                          ("HTTPS://EXAMPLE.ORG", True), ("ftp://example.org", False),
                          ("https:///path", False), ("https://a b", False),
                          ("https://[::1", False), ("https://a:99999/", False), ("", False), (None, False)],
                         ids=ascii)  # fmt: skip
def test_an_address_is_one_of_the_web(value: Any, is_good: bool) -> None:
    assert (read_url(value) is not None) == is_good


async def test_a_profile_of_before_the_vault_computes_its_views_when_it_is_opened(world: World) -> None:
    (ana,) = await world.group("ana")
    add(ana, "a.jpg")
    await ana.group.feed.post("text")
    database = ana.replica.database
    database.execute("DELETE FROM vault_items")
    database.execute("DELETE FROM posts")
    for view in ("vault_items", "posts"):
        database.execute("INSERT INTO stale_views VALUES (?, ?)", (ana.replica.record.number, view))
    await ana.restart()
    assert names(items_of(ana).select()) == ["a.jpg"]
    assert await ana.texts() == ["text"]
    assert ana.replica.database.query("SELECT * FROM stale_views") == []


# --- the table is a cache


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE vault_items SET name='forged' WHERE rowid=1",
        "UPDATE vault_items SET file=zeroblob(20)",
        "UPDATE vault_items SET member=zeroblob(32) WHERE rowid=1",
        "UPDATE vault_items SET document_no=(SELECT min(id) FROM documents WHERE id<>document_no) WHERE rowid=1",
        "DELETE FROM vault_items",
    ],
    ids=["a name", "references", "a member", "a document", "all"],
)
async def test_what_is_wrong_in_the_table_is_found_and_computed_anew(world: World, sql: str) -> None:
    ana, _ = await world.group("ana", "ben")
    await ana.group.feed.post("a document beside it")
    add(ana, "a.jpg", album="One")
    add(ana, "b.jpg")
    before = await state_of(ana)
    ana.replica.database.execute(sql)
    told = await ana.running.check(repair=False)
    assert {finding.what for finding in told.findings} == {"view"}
    assert (await ana.running.check()).sound
    assert (await ana.running.check()).findings == ()
    assert await state_of(ana) == before


async def test_items_of_months_that_are_not_kept_stay_listed_and_are_put_right_when_they_come_back(
    world: World,
) -> None:
    ana, ben = await world.group("ana", "ben")
    old, gone = add(ana, "old.jpg", caption="first"), add(ana, "gone.jpg")
    await ana.group.feed.post("old")
    await world.level()
    world.now_ms += 100 * 86_400_000
    new = add(ana, "new.jpg")
    await world.level()
    await rotate(world, ana, ben)
    assert await ben.group.keep_months(1) == 2
    assert items_of(ben).select() == [new, gone, old]
    assert await ben.texts() == []
    assert [stored.id.hex() for stored in items_of(ben).all_stored()] == sorted([old.id, gone.id, new.id])
    rebuild_everything(ben)
    assert (await ben.running.check()).findings == ()
    assert items_of(ben).select() == [new, gone, old]
    items_of(ana).set(bytes.fromhex(old.id), {"caption": "second"})
    items_of(ana).remove([bytes.fromhex(gone.id)])
    await world.level()
    await ben.group.fetch_months(["2026-09"])
    await world.level()
    assert items_of(ben).select() == items_of(ana).select()
    assert [item.caption for item in items_of(ben).select()] == ["", "second"]
