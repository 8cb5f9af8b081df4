"""Pages of snapshots: which are kept, shared and made again, and what a newcomer reads of them in which order."""

from __future__ import annotations

import asyncio
import bz2
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cocoon_core.errors import DocumentUnavailableError, StorageFullError
from cocoon_core.protocol.descriptor import Descriptor, DocumentKind
from cocoon_core.protocol.ids import BlobHash
from cocoon_core.protocol.manifest import DocumentState
from cocoon_core.protocol.part import Part, pack_parts
from cocoon_core.sync import driver, following, manifest_blobs, paging, receiving
from cocoon_core.sync.events import AlarmRaised
from cocoon_core.sync.following import Following
from cocoon_core.sync.owed import Debts, Lot
from cocoon_core.sync.paging import Pager, states_before
from cocoon_core.sync.replica import Replica
from cocoon_core.sync.session import Deliver
from cocoon_core.sync.shelf import Shelf
from tests.support.dying import dies_after
from tests.support.memory_relay import MemoryRelay
from tests.support.part_tables import encode_table, parse_table
from tests.support.reading import stop_reading
from tests.support.world import Seat, World, alarms, make_world, state_of  # noqa: F401  a fixture

MONTHS = ("2026-03", "2026-04", "2026-05", "2026-06", "2026-07")  # all closed in the September of the world


def named(seat: Seat, name: str) -> Descriptor:
    assert seat.group.me is not None
    return Descriptor(DocumentKind.OWNED, name, seat.group.me)


def write(seat: Seat, name: str, text: str) -> Descriptor:
    """A post in a document of the seat's own."""
    descriptor = named(seat, name)
    with seat.replica.change(descriptor) as root:
        at = seat.clock()
        root[f"post:{at:016x}"] = {"at": at, "text": text}
    return descriptor


def write_months(seat: Seat, months: Iterable[str] = MONTHS) -> None:
    for month in months:
        write(seat, f"feed/{month}", f"{seat.name} in {month}")


def states_of(seat: Seat) -> dict[str, DocumentState]:
    """What the followed manifest says of documents; by name, each name being used once."""
    return {state.descriptor.name: state for state in states_before(seat.replica).values()}


def pages_in(seat: Seat) -> dict[str, tuple[BlobHash, ...]]:
    """The pages of each document, by owner and name."""
    return {
        f"{state.descriptor.member!r} {state.descriptor.name}": tuple(page.name for page in state.snapshot.pages)
        for state in states_before(seat.replica).values()
        if state.snapshot
    }


def relay_of(world: World) -> MemoryRelay:
    (relay,) = world.relays.values()
    return relay


async def rotate(world: World, seat: Seat, *seats: Seat) -> set[BlobHash]:
    """Let a seat rotate and all follow; the blobs that are new at the relay."""
    before = set(relay_of(world).blobs.kept)
    await seat.group.rotate()
    await world.level([seat, *seats])
    return set(relay_of(world).blobs.kept) - before


async def join(world: World, seat: Seat, name: str) -> Seat:
    """A newcomer after the current epoch began: the invite goes on, so nobody has to rotate."""
    link = await seat.group.invite(uses=3, expires_in=timedelta(days=1))
    await seat.sync()
    newcomer = await world.seat(name)
    await newcomer.running.join(link, member_name=name)
    await newcomer.sync()
    return newcomer


# --- what is kept


async def test_a_rotation_uploads_what_changed_alone_whoever_rotates(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    for number in range(50):
        write(ana, f"notes {number}", "one")
        write(ben, f"notes {number}", "one")
    await world.level()
    first = await rotate(world, ana, ben)
    assert len(first) == 100
    pages = pages_in(ana)
    for number in (3, 30):
        write(ana, f"notes {number}", "two")
    write(ben, "notes 7", "two")
    await world.level()
    assert len(await rotate(world, ana, ben)) == 3
    write(ana, "notes 3", "three")
    write(ben, "notes 3", "three")
    await world.level()
    assert len(await rotate(world, ben, ana)) == 2, "Ben packed none of the others and knows that they are good"
    assert await rotate(world, ben, ana) == set()
    now = pages_in(ben)
    assert sum(now[name] != pages[name] for name in pages) == 4
    newcomer = await join(world, ben, "cleo")
    await world.level()
    assert len(await newcomer.texts()) == 0, "these are no feeds"
    assert states_before(newcomer.replica) == states_before(ben.replica)
    assert len((await state_of(newcomer))["documents"]) == 100
    assert await state_of(newcomer) == await state_of(ben)


async def test_closed_months_share_pages_and_keep_them(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    write_months(ana)
    write_months(ben)
    write(ana, "feed/2026-09", "now")
    await world.level()
    assert len(await rotate(world, ana, ben)) == 2, "one for the closed months, one for the current"
    shared = {names for name, names in pages_in(ana).items() if not name.endswith("-09")}
    assert len(shared) == 1
    for number in range(3):
        write(ben if number % 2 else ana, "feed/2026-09", f"then {number}")
        await world.level()
        assert len(await rotate(world, (ana, ben)[number % 2], ben, ana)) == 1
        assert {names for name, names in pages_in(ana).items() if not name.endswith("-09")} == shared


async def test_a_month_that_somebody_still_writes_to_leaves_the_page_of_the_others(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    write_months(ana)
    for month in MONTHS:
        for number in range(4):
            write(ben, f"feed/{month}", f"{number}")
    await world.level()
    await rotate(world, ana, ben)
    before = pages_in(ana)
    write(ana, "feed/2026-03", "late")
    await world.level()
    assert len(await rotate(world, ben, ana)) == 1
    changed = [name for name, names in pages_in(ben).items() if names != before[name]]
    assert [name.endswith("2026-03") for name in changed] == [True]


async def test_a_page_of_which_too_little_is_of_use_is_packed_anew(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    write_months(ana)
    await world.level()
    (old,) = await rotate(world, ana, ben)
    write(ana, "feed/2026-03", "late")
    await world.level()
    assert len(await rotate(world, ana, ben)) == 2, "the month that changed, and the four that lay beside it"
    assert all(old not in names for names in pages_in(ana).values())


async def test_few_documents_of_closed_months_are_joined(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    for month in MONTHS[:4]:
        write(ana, f"feed/{month}", month)
        await world.level()
        await rotate(world, ana, ben)
    assert len(set(pages_in(ana).values())) == 4
    assert len(await rotate(world, ana, ben)) == 1
    assert len(set(pages_in(ana).values())) == 1
    newcomer = await join(world, ana, "cleo")
    assert await newcomer.texts() == list(MONTHS[:4])


async def test_a_device_that_never_read_a_page_carries_it_on(world: World) -> None:
    """Cleo came after the page was made, and Dan after her: both have it from the manifest alone."""
    ana, ben = await world.group("ana", "ben")
    write_months(ana)
    await world.level()
    (page,) = await rotate(world, ana, ben)
    cleo = await join(world, ben, "cleo")
    for seat in (cleo, ben, ana):
        await world.level()
        assert page not in await rotate(world, seat, ana, ben, cleo)
        assert {names for names in pages_in(seat).values()} == {(page,)}
    await cleo.restart()
    assert await rotate(world, cleo, ana, ben) == set()
    assert len(await (await join(world, cleo, "dan")).texts()) == 5


async def test_a_page_whose_packer_lied_is_not_carried_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ana seals something else than she says; Ben, who has what belongs there, packs it anew."""
    ana, ben = await world.group("ana", "ben")
    write_months(ana)
    write(ana, "notes", "alone")
    await world.level()
    honest = pack_parts

    def lie(documents: Any) -> list[Part]:
        parts = []
        for part in honest(documents):
            sections = parse_table(bz2.decompress(part.data))
            spoiled = [replace(one, entries=(one.entries[0] + 1, *one.entries[1:])) for one in sections.values()]
            parts.append(part._replace(data=bz2.compress(encode_table(*spoiled))))
        return parts

    with monkeypatch.context() as patched:
        patched.setattr("cocoon_core.sync.paging.pack_parts", lie)
        await ana.group.rotate()
    await world.level()
    lies = set(pages_in(ben).values())
    new = await rotate(world, ben, ana)
    assert len(new) == len(lies) == 2
    assert not lies & set(pages_in(ben).values())
    assert len(await (await join(world, ben, "cleo")).texts()) == 5


async def test_weakened_if_what_a_page_holds_is_not_compared_a_lie_is_carried_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana, ben = await world.group("ana", "ben")
    write_months(ana)
    await world.level()
    honest = pack_parts
    with monkeypatch.context() as patched:
        patched.setattr(
            "cocoon_core.sync.paging.pack_parts",
            lambda documents: [honest([(d, c[:1]) for d, c in documents])[0]._replace(data=b"x")],
        )
        await ana.group.rotate()
    await world.level()
    lies = set(pages_in(ben).values())
    monkeypatch.setattr(Pager, "_is_same_page", lambda *_: 1)
    await rotate(world, ben, ana)
    assert set(pages_in(ben).values()) == lies


# --- what a newcomer reads


async def test_a_newcomer_reads_the_newest_month_first(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pager, "_is_shared", lambda *_: False)
    monkeypatch.setattr(following, "FETCHED_TOGETHER", 1)
    ana, ben = await world.group("ana", "ben")
    write_months(ana)
    write(ana, "notes", "of no month")
    await world.level()
    await rotate(world, ana, ben)
    read: list[str] = []
    pay = Debts.pay

    def noted(self: Debts, lot: Lot, blobs: Any) -> None:
        read.extend(debt.record.descriptor.name for debt in lot.debts)
        pay(self, lot, blobs)

    monkeypatch.setattr(Debts, "pay", noted)
    await join(world, ana, "cleo")
    assert read == ["notes", *(f"feed/{month}" for month in reversed(MONTHS))]


async def test_no_more_than_a_few_pages_are_in_memory(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ana, ben = await world.group("ana", "ben")
    for number in range(40):
        write(ana, f"notes {number}", "one")
    await world.level()
    assert len(await rotate(world, ana, ben)) == 40
    most = 0
    read_owed = Following._read_owed

    def watched(self: Following) -> Any:
        nonlocal most
        most = max(most, len(self._fetched))
        return read_owed(self)

    monkeypatch.setattr(Following, "_read_owed", watched)
    newcomer = await join(world, ana, "cleo")
    assert 0 < most <= following.FETCHED_TOGETHER
    await world.level()
    assert await state_of(newcomer) == await state_of(ana)


async def with_owing_newcomer(world: World, monkeypatch: pytest.MonkeyPatch) -> tuple[Seat, Seat, Seat]:
    """Cleo has followed a manifest, and read none of its documents."""
    ana, ben = await world.group("ana", "ben")
    write_months(ana)
    write(ben, "notes", "of ben")
    with ben.replica.change(SHOPPING) as root:
        root["items"]["milk"] = 1
    await world.level()
    await rotate(world, ana, ben)
    with monkeypatch.context() as patched:
        stop_reading(patched)
        cleo = await join(world, ana, "cleo")
        await world.level([ana, ben])
    assert len(list(cleo.replica.debts.all())) == 7
    return ana, ben, cleo


SHOPPING = Descriptor(DocumentKind.SHARED, "shopping", schema=(("items", "map"),))


async def test_a_sync_says_of_how_many_documents_no_relay_has_the_pages(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, cleo = await with_owing_newcomer(world, monkeypatch)
    relay_of(world).blobs.kept.clear()
    assert (await cleo.sync()).unread == 7


async def test_pages_that_a_relay_lost_are_put_again_for_who_waits_for_them(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana, ben, cleo = await with_owing_newcomer(world, monkeypatch)
    relay_of(world).blobs.kept.clear()
    topic = cleo.replica.epoch.topic
    await world.level()
    assert cleo.replica.epoch.topic == topic
    world.now_ms += 4_000_000
    for _ in range(3):
        await cleo.sync()
        world.now_ms += 180_000
    assert cleo.replica.epoch.topic != topic
    await world.level([ana, ben])
    assert (await cleo.sync()).unread == 0
    await world.level()
    assert await state_of(cleo) == await state_of(ana) == await state_of(ben)
    topic = cleo.replica.epoch.topic
    world.now_ms += 4_000_000
    await world.level()
    assert cleo.replica.epoch.topic == topic


async def test_a_document_that_fails_here_keeps_no_other_from_being_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana, _, cleo = await with_owing_newcomer(world, monkeypatch)
    adopt = Shelf.adopt_snapshot

    def failing(self: Shelf, descriptor: Descriptor, *rest: Any) -> bool:
        if descriptor.period == MONTHS[0]:
            raise DocumentUnavailableError("automerge failed")
        return adopt(self, descriptor, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(Shelf, "adopt_snapshot", failing)
        await asyncio.wait_for(cleo.sync(), 60)
    assert [debt.record.descriptor.period for debt in cleo.replica.debts.all()] == [MONTHS[0]]
    assert alarms(cleo, "document")
    await cleo.restart()
    await cleo.sync()
    assert not cleo.replica.debts
    assert await state_of(cleo) == await state_of(ana)


async def test_owed_documents_survive_a_restart(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ana, _, cleo = await with_owing_newcomer(world, monkeypatch)
    before = sorted(debt.record.document for debt in cleo.replica.debts.all())
    await cleo.restart()
    assert sorted(debt.record.document for debt in cleo.replica.debts.all()) == before
    assert await cleo.texts() == []
    await cleo.sync()
    assert not cleo.replica.debts
    await world.level()
    assert await state_of(cleo) == await state_of(ana)


async def test_what_is_not_read_yet_is_not_written_to(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ana, _, cleo = await with_owing_newcomer(world, monkeypatch)
    with pytest.raises(DocumentUnavailableError, match="not read here yet; sync"), cleo.replica.change(SHOPPING):
        pass
    write(cleo, "own", "of what is nobody else's, she can write")
    await cleo.sync()
    with cleo.replica.change(SHOPPING) as root:
        root["items"]["bread"] = 2
    await world.level()
    assert ana.shared(SHOPPING) == cleo.shared(SHOPPING) == {"items": {"milk": 1, "bread": 2}}


async def test_live_edits_of_an_owed_document_wait_and_then_show(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ana, ben, cleo = await with_owing_newcomer(world, monkeypatch)
    write(ana, "feed/2026-07", "later")
    with ben.replica.change(SHOPPING) as root:
        root["items"]["eggs"] = 3
    await world.level([ana, ben])
    with monkeypatch.context() as patched:
        stop_reading(patched)
        await cleo.sync()
    assert await cleo.texts() == []
    await cleo.restart()
    await cleo.sync()
    assert (await cleo.texts())[-1] == "later"
    assert cleo.shared(SHOPPING) == {"items": {"milk": 1, "eggs": 3}}
    await world.level()
    assert await state_of(cleo) == await state_of(ana) == await state_of(ben)


async def test_a_newcomer_who_dies_after_any_transaction_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(Pager, "_is_shared", lambda *_: False)
    monkeypatch.setattr(following, "FETCHED_TOGETHER", 1)
    ana, _, cleo = await with_owing_newcomer(world, monkeypatch)
    asked = relay_of(world).blobs.requests
    asked.clear()
    deaths, owed = 0, [7]
    while await dies_after(monkeypatch, cleo, 2 + deaths % 3, cleo.sync, tmp_path / f"after {deaths}"):
        deaths += 1
        owed.append(len(list(cleo.replica.debts.all())))
        assert deaths < 40
    assert owed == sorted(owed, reverse=True)
    assert len(set(owed)) > 2, "some were read between two deaths"
    assert not cleo.replica.debts
    got = [path for method, path in asked if method == "GET" and path.startswith("/v1/blobs/")]
    assert len(set(got)) == 7
    assert len(got) <= 7 + deaths, "what was read is not fetched again"
    await world.level()
    assert await cleo.texts() == await ana.texts()
    assert await state_of(cleo) == await state_of(ana)


async def test_pages_that_came_together_are_read_in_one_transaction_and_a_full_disk_undoes_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pager, "_is_shared", lambda *_: False)
    monkeypatch.setattr(following, "FETCHED_TOGETHER", 3)
    ana, _, cleo = await with_owing_newcomer(world, monkeypatch)
    pay = Debts.pay
    paid: list[int] = []  # of each lot how many were read before it, as the database has it committed

    def counted(self: Debts, lot: Lot, blobs: Any) -> None:
        if len(paid) == 5:
            raise StorageFullError("the disk is full")
        paid.append(committed[0])
        pay(self, lot, blobs)

    committed = [0]
    transaction = Replica.transaction

    @contextmanager
    def noted(self: Replica) -> Iterator[None]:
        with transaction(self):
            yield
        committed[0] = 7 - len(list(self.debts.all()))

    with monkeypatch.context() as patched:
        patched.setattr(Debts, "pay", counted)
        patched.setattr(Replica, "transaction", noted)
        with pytest.raises(StorageFullError):
            await cleo.sync()
    assert paid == [0, 0, 0, 3, 3]
    assert len(list(cleo.replica.debts.all())) == 4
    await world.level()
    assert await state_of(cleo) == await state_of(ana)


@pytest.mark.parametrize("live", [False, True], ids=["nothing new", "new edits of owed documents"])
async def test_who_owes_documents_can_rotate_and_the_next_newcomer_has_everything(
    world: World, monkeypatch: pytest.MonkeyPatch, live: bool
) -> None:
    ana, ben, cleo = await with_owing_newcomer(world, monkeypatch)
    await ana.group.set_role("cleo", "admin")
    if live:
        write(ana, "feed/2026-07", "later")
        write(ana, "feed/2026-09", "now")
    await world.level([ana, ben])
    with monkeypatch.context() as patched:
        stop_reading(patched)
        await cleo.sync()
        await cleo.group.remove_member(cleo.group.find_member("ben"))
        await cleo.sync()
        await cleo.sync()
    assert len(list(cleo.replica.debts.all())) == 7
    dan = await join(world, cleo, "dan")
    await world.level([ana, cleo, dan])
    assert not cleo.replica.debts
    assert len(await dan.texts()) == (7 if live else 5)
    assert await state_of(ana) == await state_of(cleo) == await state_of(dan)


# --- what was lost or spoiled


async def test_pages_that_a_relay_lost_are_put_again_by_who_can_make_them(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    write_months(ana)
    write(ben, "notes", "of ben")
    await world.level()
    pages = await rotate(world, ana, ben)
    relay_of(world).blobs.kept.clear()
    await rotate(world, ben, ana)  # who packed none of them
    assert pages <= set(relay_of(world).blobs.kept), "the same bytes under the same names"
    newcomer = await join(world, ben, "cleo")
    await world.level()
    assert await state_of(newcomer) == await state_of(ana)


async def test_a_lost_page_that_holds_more_than_is_said_is_packed_anew(world: World) -> None:
    """One of its documents changed since: whoever never stored the page cannot make it again."""
    ana, ben = await world.group("ana", "ben")
    write_months(ana)
    for month in MONTHS:
        for number in range(4):
            write(ben, f"feed/{month}", f"{number}")
    await world.level()
    (old,) = await rotate(world, ana, ben)
    write(ana, "feed/2026-03", "late")
    await world.level()
    await rotate(world, ben, ana)
    assert any(old in names for names in pages_in(ben).values())
    relay_of(world).blobs.kept.clear()
    for _ in range(4):
        world.now_ms += 2 * 86_400_000
        await ben.group.rotate()
        await world.level()
    assert all(set(names) <= set(relay_of(world).blobs.kept) for names in pages_in(ben).values())
    newcomer = await join(world, ben, "cleo")
    await world.level()
    assert await state_of(newcomer) == await state_of(ana)


async def test_who_follows_puts_what_the_relay_lacks_though_who_rotated_cannot(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cleo owes all of it, and rotates while the relay has lost it: the others can make it."""
    ana, _, cleo = await with_owing_newcomer(world, monkeypatch)
    pages = {name for names in pages_in(ana).values() for name in names}
    await ana.group.set_role("cleo", "admin")
    await ana.sync()
    with monkeypatch.context() as patched:
        stop_reading(patched)
        await cleo.sync()
        relay_of(world).blobs.kept.clear()
        await cleo.group.remove_member(cleo.group.find_member("ben"))
        await cleo.sync()
    assert not pages & set(relay_of(world).blobs.kept)
    topic = cleo.replica.epoch.topic
    await ana.sync()
    assert pages <= set(relay_of(world).blobs.kept)
    dan = await join(world, ana, "dan")
    await world.level([ana, cleo, dan])
    assert ana.replica.epoch.topic == topic, "no reason to rotate"
    assert await state_of(dan) == await state_of(ana) == await state_of(cleo)


async def test_pages_that_nobody_can_make_again_end_the_epoch(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ana, ben = await world.group("ana", "ben")
    write_months(ana)
    await world.level()
    (page,) = await rotate(world, ana, ben)
    relay_of(world).blobs.kept.clear()
    with monkeypatch.context() as patched:
        patched.setattr(manifest_blobs, "_page_again", lambda *_: None)
        await ben.group.rotate()
        bad = ben.replica.epoch.topic
        patched.setattr(Pager, "_is_same_page", lambda *_: None)  # nor does what is here give it
        await ben.sync()
        for _ in range(3):
            await ana.sync()
            await ben.sync()
            world.now_ms += 120_000
    await world.level()
    assert ana.replica.epoch.topic == ben.replica.epoch.topic != bad
    assert (page,) not in pages_in(ana).values()
    dan = await join(world, ana, "dan")
    await world.level()
    assert len(await dan.texts()) == 5
    assert await state_of(dan) == await state_of(ana)


async def test_attack_36_a_page_for_a_document_without_a_change_stops_no_rotation(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is to be put out says that a document in which nothing counts has a page: others rotate all the same."""
    ana, ben = await world.group("ana", "ben")
    write_months(ana)
    await world.level()
    take = Pager._pack_anew
    taken: list[str] = []

    def nothing(self: Pager, record: Any, state: DocumentState) -> None:
        taken.append(record.descriptor.name)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(
                Pager, "_read", lambda self, record, heads: (paging._ToPack(record, heads, tuple(heads), []), 0)
            )
            take(self, record, state)

    await rotate(world, ana, ben)
    monkeypatch.setattr(Pager, "_pack_anew", nothing)
    monkeypatch.setattr(Pager, "_is_good", lambda *_: False)
    await ben.group.rotate()
    assert len(taken) == 5
    assert all(state.snapshot is None for state in states_of(ben).values())


async def test_one_spoiled_snapshot_leaves_the_others_of_its_page(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana, ben = await world.group("ana", "ben")
    write_months(ana)
    await world.level()
    honest = pack_parts
    spoiled = named(ana, "feed/2026-04").document_id(ana.replica.group)

    def spoil(documents: Any) -> list[Part]:
        (part,) = honest(documents)
        sections = parse_table(bz2.decompress(part.data))
        one = sections[spoiled]
        sections[spoiled] = replace(one, rest=one.rest.replace(b"ana in", b"ben in"))
        assert sections[spoiled] != one
        return [part._replace(data=bz2.compress(encode_table(*sections.values())))]

    with monkeypatch.context() as patched:
        patched.setattr("cocoon_core.sync.paging.pack_parts", spoil)
        await ana.group.rotate()
    await ana.sync()
    told: list[AlarmRaised] = []
    tell = Replica.tell

    def noted(self: Any, event: Any) -> None:
        if isinstance(event, AlarmRaised):
            told.append(event)
        tell(self, event)

    monkeypatch.setattr(Replica, "tell", noted)
    cleo = await join(world, ana, "cleo")
    assert await cleo.texts() == [f"ana in {month}" for month in MONTHS if month != "2026-04"]
    assert [debt.record.document for debt in cleo.replica.debts.all()] == [spoiled]
    assert any("feed/2026-04" in alarm.message for alarm in told)
    await world.level()
    await rotate(world, ben, ana, cleo)
    assert len(await cleo.texts()) == 5, "who has it packed it anew"
    assert await state_of(cleo) == await state_of(ana)


# --- topics that have ended


async def test_a_newcomer_with_an_old_link_reads_only_the_ends_of_the_topics_before(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    (ana,) = await world.group("ana")
    link = await ana.group.invite(uses=3, expires_in=timedelta(days=30))
    await ana.sync()
    for _ in range(2):
        for number in range(40):
            await ana.group.feed.post(f"post {number}")
            await ana.sync()
        await ana.group.rotate()
        await ana.sync()
    served = 0
    take = receiving.receive

    def count(replica: Replica, relay: str, delivery: Deliver) -> receiving.Received:
        nonlocal served
        served += len(delivery.envelopes)
        return take(replica, relay, delivery)

    monkeypatch.setattr(driver, "receive", count)
    newcomer = await world.seat("cleo")
    await newcomer.running.join(link, member_name="Cleo")
    assert len(await newcomer.texts()) == 80
    assert served < 10, "two rotations, a manifest, and what came after it"
    await world.level()
    assert await state_of(newcomer) == await state_of(ana)


async def test_a_newcomer_reads_a_topic_whole_where_its_end_leads_nowhere(world: World) -> None:
    """Somebody who can read the topic ends it with nothing that leads on."""
    (ana,) = await world.group("ana")
    link = await ana.group.invite(uses=3, expires_in=timedelta(days=30))
    for number in range(40):
        await ana.group.feed.post(f"post {number}")
        await ana.sync()
    relay_of(world).logs[ana.replica.epoch.topic].sealed = True
    newcomer = await world.seat("cleo")
    await newcomer.running.join(link, member_name="Cleo")
    assert len(await newcomer.texts()) == 40
