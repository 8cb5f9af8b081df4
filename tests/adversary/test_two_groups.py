"""Nothing joins two groups of one person: no key, id, name or blob hash is in both, on a device or at a relay.

What is compared is everything: each byte string and text in a row of one group with all bytes in rows of the other.
What the person wrote and showed in both is of course in both; it is named here, and nothing else may be.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import cycle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cocoon_core import joining
from cocoon_core.errors import UsageError
from cocoon_core.group import Group
from cocoon_core.protocol.descriptor import Descriptor, DocumentKind
from cocoon_core.protocol.encoding import encode
from cocoon_core.protocol.ids import TopicId
from cocoon_core.social.circle_view import CIRCLE
from cocoon_core.storage.database import Database
from cocoon_core.vault import sealing
from tests.support.linking import link
from tests.support.media_files import photo
from tests.support.memory_relay import MemoryRelay
from tests.support.world import Seat, World, make_world

__all__ = ["make_world"]

SHORTEST = 8  # bytes of a value that is compared; shorter ones are numbers, lengths and words
WORDS = "the same words in both groups, which are the person's own business"
SAID = "a line that Ana says of herself in both"
NAMED = "a name that Ana gives to a list, a note, an event and a document of both"
PAGE = "https://example.org/the-same-page"
FILES = 3  # that Ana seals in each group
# What a person wrote or showed in both groups, what all groups of a relay share, and what is of the device alone.
ALIKE = {
    ("vault_items", "blur"): "drawn from what the photo shows",
    ("vault_items", "sought"): "its name, caption and address, in small letters",
    ("vault_contents", "source"): "where the file was on this device; it goes nowhere",
    ("notices", "kind"): "a word of this version",
}
EMPTY = {  # in one of the groups at least: what waits, what was taken back or went wrong, what only others' acts fill
    *("alarms", "answers", "beacon_news", "called", "carried", "document_pages", "forks", "guests", "hpke_seeds"),
    *("letters", "loose_runs", "lost", "lost_requests", "missed", "missing_ends", "notice_readers", "outbox", "owed"),
    *("parked", "pending", "pending_joins", "pending_links", "promised", "recovering", "refused", "rekeys", "repairs"),
    *("requests", "restock", "restored", "search_todo", "seen_requests", "set_aside", "side_runs", "signposts"),
    *("stale_views", "untold", "uploads", "vault_uploads", "verifications", "waiting"),
}
OF_THE_PROFILE = {
    *("meta", "relay_tokens", "answered_codes", "recovery", "recovery_indexes", "recovery_hints"),
    "search_state",  # numbers alone
}
WORDS_ALIKE = {
    *(WORDS, SAID, PAGE, "example.org", "Ana", "same.jpg", "picture.webp", "image/jpeg", "image/webp"),
    *("seen told", "turns forgotten"),  # what is due
    *(NAMED, f"{WORDS}, edited"),
}


# The descriptor of a document that all groups have, and of one that is called alike in both: neither names a group.
BYTES_ALIKE = {
    encode(CIRCLE.to_value()),
    encode(Descriptor(DocumentKind.SHARED, NAMED, schema=(("words", "map"),)).to_value()),
}


@dataclass
class Rows:
    """What a device keeps of one group, by table and column."""

    values: dict[tuple[str, str], set[bytes]] = field(default_factory=dict)
    texts: dict[tuple[str, str], set[str]] = field(default_factory=dict)

    def all_bytes(self) -> bytes:
        return b"\0".join(value for values in self.values.values() for value in sorted(values))


def tables_of(database: Database) -> Iterator[tuple[str, str]]:
    """Every table, and what selects the rows of one group in it: all that hangs on `groups`, however far down."""
    names = [name for (name,) in database.query("SELECT name FROM sqlite_schema WHERE type='table'")]
    wheres = {"groups": "id=:group"}
    while True:
        known = len(wheres)
        for table in names:
            if table in wheres or table.startswith("sqlite_"):
                continue
            columns = [row[1] for row in database.query(f"PRAGMA table_info({table})")]
            if "group_no" in columns:
                wheres[table] = "group_no=:group"
                continue
            if "group_id" in columns:
                wheres[table] = "group_id=(SELECT group_id FROM groups WHERE id=:group)"
                continue
            for row in database.query(f"PRAGMA foreign_key_list({table})"):
                parent, column, key = row[2], row[3], row[4]
                if parent in wheres:
                    wheres[table] = f"{column} IN (SELECT {key or 'id'} FROM {parent} WHERE {wheres[parent]})"
        if len(wheres) == known:
            yield from wheres.items()
            return


def rows_of(group: Group) -> Rows:
    """All that this device keeps of a group, but for what a relay is called."""
    database, found = group.replica.database, Rows()
    relays = set(group.relays)
    for table, where in tables_of(database):
        columns = [row[1] for row in database.query(f"PRAGMA table_info({table})")]
        for row in database.query(f"SELECT * FROM {table} WHERE {where}", {"group": group.replica.record.number}):
            for column, value in zip(columns, row, strict=True):
                if isinstance(value, bytes) and len(value) >= SHORTEST and value not in BYTES_ALIKE:
                    found.values.setdefault((table, column), set()).add(value)
                elif isinstance(value, str) and len(value) >= SHORTEST and value not in relays:
                    found.texts.setdefault((table, column), set()).add(value)
    return found


def ids_of(group: Group) -> set[bytes]:
    """Keys and ids as they are made: of members, devices, epochs, documents, invites."""
    replica = group.replica
    roster = replica.members.roster
    found: set[bytes] = {bytes(group.id), replica.keys.signing_seed.reveal(), replica.keys.hpke_seed.reveal()}
    found |= {bytes(member) for member in roster.members} | {bytes(invite) for invite in roster.invites}
    for device in roster.devices.values():
        found |= {bytes(device.id), bytes(device.hpke)}
    for topic, stored in replica.epochs.held.items():
        found |= {bytes(topic), stored.epoch.secret.reveal(), stored.epoch.cast_key.reveal()}
    for record in replica.documents.all():
        found.add(bytes(record.document))
    return found


def find_common(one: Group, other: Group) -> list[str]:
    """What is in both groups and should not be; empty if nothing joins them."""
    faults: list[str] = []
    left, right = rows_of(one), rows_of(other)
    shared_ids = ids_of(one) & ids_of(other)
    faults += [f"an id or key: {value.hex()[:16]}" for value in shared_ids]
    where = {value: place for place, values in right.values.items() for value in values}
    for place, values in left.values.items():
        if place not in ALIKE:
            faults += [f"{place} is {where[v]} too: {v.hex()[:32]}" for v in values if v in where]
    said = {value: place for place, values in right.texts.items() for value in values}
    for place, texts in left.texts.items():
        if place not in ALIKE:
            faults += [f"{place} is {said[t]} too: {t}" for t in texts if t in said and t not in WORDS_ALIKE]
    everything = right.all_bytes()
    needles = {v for place, vs in left.values.items() if place not in ALIKE for v in vs if 16 <= len(v) <= 64}
    faults += [f"{v.hex()[:32]} stands inside a value of the other" for v in needles | ids_of(one) if v in everything]
    return faults


def shown_to_relay(relay: MemoryRelay, group: Group) -> dict[str, set[bytes]]:
    """What a relay has of a group, as far as a member can tell which is of it."""
    topics = {topic for topic in map(bytes, group.replica.epochs.held) if TopicId(topic) in relay.logs}
    kept = rows_of(group).all_bytes()
    return {
        "topics": topics,
        "envelopes": {one for topic in topics for one in relay.logs[TopicId(topic)].envelopes},
        "blobs": {name for name in map(bytes, relay.blobs.kept) if name in kept},
    }


async def two_groups(world: World) -> tuple[Group, Group, MemoryRelay]:
    """Ana in two groups, of which nobody else is in both: she says, shows, writes and does the same in each."""
    relay = world.add_relay()
    ana, ben, chi, second = [await world.seat(name) for name in ("ana", "ben", "chi", "ana2")]
    await ana.running.new_recovery_phrase()
    picture = world.folder / "same.jpg"
    picture.write_bytes(photo("jpg"))
    groups = []
    for name, friend in (("Family", ben), ("Band", chi)):
        group = await ana.running.create_group(name, member_name="Ana", relays=[relay.url])
        await group.sync()
        await friend.running.join(await invite(group), member_name=friend.name.title())
        groups.append(group)
    await level(ana, ben, chi)
    await link(ana, second)
    for group in groups:
        await do_the_same(group, picture)
    for friend in (ben, chi):
        await friend.group.profile.set(tells_seen=True)
        await friend.group.feed.post(WORDS)
    await level(ana, ben, chi, second)
    for group in [*groups, ben.group, chi.group]:
        await group.seen.mark(*[post.id for post in await group.feed.list()])
    await level(ana, ben, chi, second)
    for group in groups:
        await group.rotate()
    await level(ana, ben, chi, second)
    world.now_ms += 86_400_000  # beacons are due
    await level(ana, ben, chi, second)
    for group in groups:
        assert await group.search("same words")
    return groups[0], groups[1], relay


async def invite(group: Group) -> str:
    link_text = await group.invite()
    await group.sync()
    return link_text


async def do_the_same(group: Group, picture: Path) -> None:
    await group.profile.set(about=SAID, picture=picture, tells_seen=True)
    item = await group.vault.add(picture, caption=WORDS)
    await group.vault.add_link(PAGE, note=WORDS)
    feed = group.feed
    post = await feed.post(WORDS, [item])
    reply = await feed.reply(post.id, WORDS, quote=post.id)
    await feed.edit(reply.id, f"{WORDS}, edited")
    await feed.call(WORDS, datetime(2027, 1, 1, tzinfo=UTC))
    await feed.delete((await feed.reply(post.id, WORDS)).id)
    await feed.erase((await feed.reply(post.id, WORDS)).id)
    await feed.pin(post.id)
    await feed.hide(reply.id)
    await feed.drafts.save(WORDS, reply_to=post.id)
    await feed.note_here()
    await group.notices.mute(thread=post.id)
    await group.lists.new(NAMED, [WORDS])
    await group.notes.new(NAMED, WORDS)
    event = await group.calendar.new(NAMED, datetime(2027, 1, 1, tzinfo=UTC), place=WORDS)
    await group.calendar.reply(event.id, "yes", WORDS)
    async with group.document(NAMED, schema={"words": dict}).change() as root:
        root["words"][WORDS] = WORDS


async def level(*seats: Seat) -> None:
    for _ in range(3):
        for seat in seats:
            for group in seat.running.groups():
                await group.sync()


async def test_attack_19_nothing_is_equal_in_two_groups_of_one_person(world: World) -> None:
    family, band, relay = await two_groups(world)
    assert find_common(family, band) == []
    assert find_common(band, family) == []
    first, second = shown_to_relay(relay, family), shown_to_relay(relay, band)
    for what, values in first.items():
        assert values, f"no {what} to compare"
        assert second[what], f"no {what} to compare"
        assert not values & second[what], f"{what} that a relay has are of both groups"
    held = b"\0".join(
        [*first["envelopes"], *(relay.blobs.kept[name] for name in relay.blobs.kept if name in first["blobs"])]
    )
    assert not [one for one in ids_of(band) if one in held]


async def test_what_is_of_one_group_is_nothing_in_another(world: World) -> None:
    """Ids, items, tokens and events that an app takes from one group and gives to the other by mistake."""
    family, band, _ = await two_groups(world)
    post, item = (await family.feed.list())[0], (await family.vault.items())[0]
    listed, note, event = (
        (await family.lists.all())[0],
        (await family.notes.all())[0],
        (await family.calendar.list())[0],
    )
    before = len(await band.feed.list(limit=1_000)), await band.feed.drafts.list()
    assert band.me is not None
    mistakes: list[Callable[[], Awaitable[Any]]] = [
        lambda: band.feed.post("x", [item]),
        lambda: band.feed.post("x", quote=post.id),
        lambda: band.feed.post("x", mentions=[family.members()[-1].id]),
        lambda: band.feed.reply(post.id, "x"),
        lambda: band.feed.edit(post.id, "x"),
        lambda: band.feed.erase(post.id),
        lambda: band.feed.hide(post.id),
        lambda: band.feed.note_here([post.id]),
        lambda: band.feed.drafts.save("x", reply_to=post.id),
        lambda: band.seen.mark(post.id),
        lambda: band.seen.by(post.id),
        lambda: band.notices.mute(thread=post.id),
        lambda: band.vault.remove(item.id),
        lambda: band.profile.picture(family.me),
        lambda: band.lists.add(listed.id, "x"),
        lambda: band.notes.write(note.id, "x"),
        lambda: band.calendar.reply(event.id, "yes"),
        lambda: band.remove_member(family.members()[-1].id),
    ]
    for number, mistake in enumerate(mistakes):
        with pytest.raises(UsageError):  # UnknownItemError and UnknownMemberError are such
            await mistake()
            raise AssertionError(f"mistake {number} was taken")
    assert (len(await band.feed.list(limit=1_000)), await band.feed.drafts.list()) == before
    page = await band.notices.after(family.notices.newest)
    assert page.missed, "a token of another group is of another stream"
    assert await band.search(WORDS, author=family.me) == []


@pytest.mark.parametrize(
    "weakness", ["a device has the same keys in all groups", "a file has the same key in all groups"]
)
async def test_a_build_that_joins_groups_is_found(world: World, monkeypatch: pytest.MonkeyPatch, weakness: str) -> None:
    if weakness.startswith("a device"):
        keys: dict[str, Any] = {}
        fresh = joining.new_keys
        monkeypatch.setattr("cocoon_core.cocoon.new_keys", lambda: keys.setdefault("ana", fresh()))
    else:
        numbers = cycle(range(FILES))  # the first of one group is as the first of the other, and so on
        monkeypatch.setattr(sealing, "secrets", SimpleNamespace(token_bytes=lambda size: bytes([next(numbers)] * size)))
    family, band, _ = await two_groups(world)
    assert find_common(family, band) != []


async def test_every_table_of_a_group_is_compared(world: World) -> None:
    """A table that hangs on no group is compared with nothing: each such is known, and of the whole profile."""
    (ana,) = await world.group("ana")
    database = ana.replica.database
    rows = database.query("SELECT name, sql FROM sqlite_schema WHERE type='table' AND name NOT LIKE 'sqlite_%'")
    sought_in = tuple(
        name for name, sql in rows if sql.startswith("CREATE VIRTUAL")
    )  # and what these keep their words in
    names = {name for name, _ in rows if not sought_in or not name.startswith(sought_in)}
    assert names - {table for table, _ in tables_of(database)} == OF_THE_PROFILE


async def test_nearly_every_table_has_something_to_compare(world: World) -> None:
    """What is empty in one of the groups is compared with nothing: each such table is known."""
    family, band, _ = await two_groups(world)
    database = family.replica.database
    empty = {
        table
        for table, where in tables_of(database)
        for group in (family, band)
        if not database.query_value(
            f"SELECT count(*) FROM {table} WHERE {where}", {"group": group.replica.record.number}
        )
    }
    assert empty <= EMPTY
