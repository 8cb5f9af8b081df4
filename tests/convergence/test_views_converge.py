"""Every table that is computed from documents says the same in whatever order changes come, and computed anew.

One member writes whatever a document can hold under the keys that the views read, in documents of several generations;
others get it one by one, in lots, out of a manifest, and after a restart. A failure names its seed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from cocoon_core.documents import Text
from cocoon_core.documents.proxies import MapEdit
from cocoon_core.protocol.descriptor import Descriptor, DocumentKind
from cocoon_core.protocol.retire import GONE_PREFIX
from cocoon_core.social.circle_view import CIRCLE
from cocoon_core.social.event_view import event_id
from cocoon_core.social.item_view import item_id
from cocoon_core.social.list_view import ListsView
from cocoon_core.social.note_view import NotesView
from cocoon_core.social.post_view import post_id
from tests.support.key_ring import use_key_ring
from tests.support.world import Seat, World, forget_caches, rebuild_everything, state_of, world_in

SEEDS = range(1, 3)
SOAK_SEEDS = range(100, 200)
STEPS = 90
MONTHS = ("2026-08", "2026-09", "odd")
OWNED: dict[str, tuple[str, list[str]]] = {  # by what begins the name: what begins the keys, and what stands in a map
    "feed/": (
        "post:",
        ["at", "text", "re", "files", "edited", "quote", "mentions", "ask", "until", "answer", "solved"],
    ),
    "vault/": ("item:", ["at", "kind", "url", "name", "caption", "album", "about", "thumb", "width", "digest"]),
    "event/": ("event:", ["at", "begins", "ends", "days", "name", "place", "about", "edited", "cancelled"]),
    "reply/": ("reply:", ["at", "event", "says", "words"]),
    "seen/": ("seen:", []),
}
PROFILE = ["about", "picture", "quiet", "seen"]
DIGITS = "0123456789abcdef"


class Mischief:
    """What somebody hostile writes, by a seed."""

    def __init__(self, seat: Seat, seed: int) -> None:
        self.seat, self.chance = seat, Random(seed)
        self.member = seat.group.me
        assert self.member is not None

    # --- values

    def time(self) -> Any:
        return self.chance.choice([0, 1, -1, 1_790_000_000_000, 253_402_300_799_001, 2**63 - 1, -(2**63)])

    def text(self) -> Any:
        odd = ["", " ", "milk", "\x1b[2J\x00", "\u202eabc", "é\u0301\u0316" * 40, "x" * 3_000, "a\n\n\n\nb", "\ufdfa"]
        text = self.chance.choice(odd)
        return Text(text) if self.chance.random() < 0.1 else text

    def id(self) -> bytes:
        """Mostly of something that may stand somewhere."""
        kind, make = self.chance.choice([("feed/", post_id), ("vault/", item_id), ("event/", event_id)])
        document = self.owned(kind).at(0).document_id(self.seat.replica.group)
        return make(document, self.key(OWNED[kind][0]))

    def value(self, name: str = "") -> Any:
        """Mostly what that key wants."""
        if self.chance.random() < 0.9:
            if name in ("at", "edited", "until", "begins", "ends", "cancelled", "gone", "done"):
                return self.time()
            if name in ("re", "quote", "event", "picture"):
                return self.id()
            if name in ("files", "mentions", "solved"):
                return b"".join(self.id() for _ in range(self.chance.choice([1, 2, 2, 40])))
            if name in ("text", "name", "about", "caption", "album", "place", "words"):
                return self.text()
            if name == "kind":
                return "link"
            if name == "url":
                return self.chance.choice(["https://example.org/", "ftp://example.org/", "https://a@b/"])
            if name in ("ask", "answer", "says", "days"):
                return self.chance.choice([1, 2, 3, 4_000])
            if name in ("quiet", "seen"):
                return True
        odd: list[Any] = [
            None,
            True,
            False,
            0,
            1.5,
            -1,
            2**63 - 1,
            b"",
            b"x" * 15,
            b"x" * 16,
            b"x" * 296,
            b"x" * 4_672,
            [],
            {},
        ]
        return self.chance.choice([*odd, [1, {"at": 1}], {"at": {"at": 1}}, self.text()])

    def map(self, names: list[str]) -> Any:
        if self.chance.random() < 0.1:
            return self.value()
        kept = [name for name in names if self.chance.random() < 0.9]
        return {name: self.value(name) for name in kept}

    # --- places

    def owned(self, prefix: str) -> Descriptor:
        descriptor = Descriptor(DocumentKind.OWNED, prefix + self.chance.choice(MONTHS), self.member)
        return descriptor.at(self.chance.choice([0, 0, 1, 2]))

    def key(self, prefix: str) -> str:
        return f"{prefix}{self.chance.randrange(3)}"

    # --- acts

    def write(self) -> None:
        """Change one document once."""
        act = self.chance.choice([*[self.in_owned] * 8, self.in_profile, self.in_list, self.in_note, self.in_circle])
        descriptor, edit = act()
        with self.seat.replica.change(descriptor) as root:
            edit(root)

    def in_owned(self) -> tuple[Descriptor, Callable[[Any], None]]:
        prefix, (keys, names) = self.chance.choice(list(OWNED.items()))
        key = self.key(keys)
        if self.chance.random() < 0.3:
            key = GONE_PREFIX + key
            names = ["at", "re", "deleted"]

        def edit(root: Any) -> None:
            if key in root and self.chance.random() < 0.3:
                del root[key]
            elif isinstance(root.get(key), MapEdit) and names and self.chance.random() < 0.6:
                self.change_map(root[key], names)
            else:
                root.pop(key, None)
                root[key] = self.map(names) if names else self.value()

        return self.owned(prefix), edit

    def change_map(self, value: MapEdit, names: list[str]) -> None:
        name = self.chance.choice(names)
        if name in value and self.chance.random() < 0.3:
            del value[name]
        else:
            value.pop(name, None)
            value[name] = self.value(name)

    def in_profile(self) -> tuple[Descriptor, Callable[[Any], None]]:
        descriptor = Descriptor(DocumentKind.OWNED, "profile", self.member).at(self.chance.choice([0, 1, 2]))
        return descriptor, lambda root: self.change_map(root, PROFILE)

    def in_list(self) -> tuple[Descriptor, Callable[[Any], None]]:
        def edit(root: Any) -> None:
            if self.chance.random() < 0.4:
                self.change_map(root["about"], ["name", "at", "gone"])
                return
            items, key = root["items"], self.chance.choice(["00" * 8, "ff" * 8, "FF" * 8, "0"])
            if isinstance(items.get(key), MapEdit) and self.chance.random() < 0.5:
                self.change_map(items[key], ["text", "at", "place", "done"])
            elif key in items and self.chance.random() < 0.5:
                del items[key]
            else:
                items.pop(key, None)
                items[key] = self.map(["text", "at", "place", "done"])

        name = f"list/{self.chance.choice(DIGITS[:2])}"
        return Descriptor(DocumentKind.SHARED, name, schema=ListsView.schema), edit

    def in_note(self) -> tuple[Descriptor, Callable[[Any], None]]:
        def edit(root: Any) -> None:
            if self.chance.random() < 0.5:
                self.change_map(root["about"], ["name", "at", "gone", "edited"])
            elif len(root["text"]) and self.chance.random() < 0.5:
                root["text"].delete(0, 1)
            else:
                root["text"].insert(0, "\x1b\u202ea")

        return Descriptor(DocumentKind.SHARED, "note/0", schema=NotesView.schema), edit

    def in_circle(self) -> tuple[Descriptor, Callable[[Any], None]]:
        def edit(root: Any) -> None:
            marks = root[self.chance.choice(["hidden", "pins", "about"])]
            name = self.chance.choice([self.id().hex(), self.id().hex().upper(), "no id"])
            if len(marks) and self.chance.random() < 0.4:
                del marks[self.chance.choice(list(marks))]
            else:
                marks.pop(name, None)
                marks[name] = self.value("at")

        return CIRCLE, edit


async def shown_by(seat: Seat) -> Any:
    """All tables of what everybody sees alike, what everybody may ask, and what it was computed from."""
    group = seat.group
    lists = [await group.lists.get(one.id) for one in await group.lists.all(removed=True)]
    asked = await group.feed.asked(limit=1_000, everything=True)
    found = sorted((one.id, one.kind, one.text) for one in await group.search("milk", limit=1_000))
    state = await state_of(seat)
    calendar = list(group.calendar.everything())
    return state, lists, await group.notes.all(removed=True), calendar, asked, await group.feed.pinned(), found


def require_equal(one: Any, other: Any, what: str) -> None:
    """Equal, or say shortly in what."""
    if one == other:
        return
    faults = [name for name in one[0] if one[0][name] != other[0][name]]
    places = [place for place in range(1, len(one)) if one[place] != other[place]]
    raise AssertionError(f"{what}: not equal in {faults} {places}")


async def tell(folder: Path, seed: int) -> None:
    async with world_in(folder) as world:
        mal, ana, ben = await world.group("mal", "ana", "ben")
        mischief = Mischief(mal, seed)
        chance = Random(seed)
        for _ in range(STEPS):
            mischief.write()
            if chance.random() < 0.4:
                await mal.sync()
                await ana.sync()
        await world.level()
        reference = await shown_by(mal)
        for seat in (ana, ben):
            require_equal(await shown_by(seat), reference, f"seed {seed}, {seat.name}")
        await require_same_anew(world, (mal, ana, ben), reference, seed)


async def require_same_anew(world: World, seats: tuple[Seat, ...], reference: Any, seed: int) -> None:
    """Computed anew from the log, without caches, after a restart, and out of a manifest: the same."""
    mal, ana, ben = seats
    rebuild_everything(mal)
    require_equal(await shown_by(mal), reference, f"seed {seed}, computed anew")
    forget_caches(ana)
    require_equal(await shown_by(ana), reference, f"seed {seed}, without caches")
    await ben.restart()
    require_equal(await shown_by(ben), reference, f"seed {seed}, after a restart")
    await mal.group.rotate()
    await world.level()
    chi = await world.seat("chi")
    link = await mal.group.invite()
    await mal.sync()
    await chi.running.join(link, member_name="Chi")
    await world.level()
    reference = await shown_by(mal)
    require_equal(await shown_by(chi), reference, f"seed {seed}, a newcomer")
    for order in ("asc", "desc"):
        records = sorted(chi.replica.documents.all(), key=lambda record: record.number, reverse=order == "desc")
        with chi.replica.transaction():
            for record in records:
                chi.replica.shelf.rebuild(record)
        require_equal(await shown_by(chi), reference, f"seed {seed}, a newcomer, anew, {order}")
    assert reference[0]["posts"] or reference[0]["events"], "there is something to compare"


@pytest.mark.parametrize("seed", SEEDS)
async def test_views_say_the_same_whatever_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    use_key_ring(monkeypatch)
    await tell(tmp_path, seed)


@pytest.mark.soak
@pytest.mark.parametrize("seed", SOAK_SEEDS)
async def test_views_say_the_same_for_many_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    use_key_ring(monkeypatch)
    await tell(tmp_path, seed)
