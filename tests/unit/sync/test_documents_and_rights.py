"""Documents over the whole way in: what counts, is withdrawn and comes back, what waits, is put away, or fails."""

from __future__ import annotations

from itertools import permutations
from random import Random
from typing import Any

import pytest

from cocoon_core.documents.adapter import Replica as Adapter
from cocoon_core.errors import DocumentUnavailableError, UsageError
from cocoon_core.protocol import encoding
from cocoon_core.protocol.operation_forms import Pin, Role
from cocoon_core.protocol.operations import SetRole
from cocoon_core.sync import shelf
from cocoon_core.sync.events import DocumentChanged
from tests.support.hostile import Forger, inject, put_item, topic_log
from tests.support.world import (
    ADMIN,
    ADMIN_SCHEMA,
    SCHEMA,
    SHARED,
    Seat,
    World,
    documents_of,
    forget_caches,
    make_world,  # noqa: F401  a fixture
    rebuild_everything,
    roster_of,
    state_of,
)


async def rule(seat: Seat, key: str, value: Any) -> None:
    async with seat.group.document("rules", ADMIN_SCHEMA, admin=True).change() as doc:
        doc["rules"][key] = value


def rules(seat: Seat) -> Any:
    return seat.shared(ADMIN)["rules"]


async def admins(world: World) -> list[Seat]:
    """Four members, the first three of them admins."""
    seats = await world.group("ana", "ben", "chi", "dee")
    await seats[0].group.set_role("Ben", "admin")
    await seats[0].group.set_role("Chi", "admin")
    await world.level()
    return seats


def held_back(world: World, seat: Seat, count: int) -> list[bytes]:
    """Take the newest envelopes off the relay."""
    log = topic_log(next(iter(world.relays.values())), seat.replica.epoch)
    taken = log.envelopes[-count:]
    del log.envelopes[-count:]
    return taken


def put_back(world: World, seat: Seat, *envelopes: bytes) -> None:
    inject(next(iter(world.relays.values())), seat.replica.epoch, *envelopes)


# --- withdrawn and back


async def test_entries_beyond_the_pin_of_a_demotion_are_withdrawn_and_told(world: World) -> None:
    ana, ben, chi, dee = await admins(world)
    await rule(chi, "known", 1)
    await world.level()
    await rule(chi, "unknown", 2)  # chi is offline while the demotion is written
    await ana.group.set_role("Chi", "member")
    await ana.sync()
    await dee.sync()
    await chi.sync()  # its entry comes after the demotion that did not know it
    events: list[Any] = []
    dee.replica.listen(events.append)
    await world.level()
    for seat in (ana, ben, chi, dee):
        assert rules(seat) == {"known": 1}
    with pytest.raises(UsageError, match="only an admin"):
        await rule(chi, "more", 3)
    await ana.group.set_role("Chi", "admin")
    await world.level()
    for seat in (ana, ben, chi, dee):
        assert rules(seat) == {"known": 1, "unknown": 2}
    assert any(isinstance(event, DocumentChanged) and event.name == "rules" for event in events)
    await rule(chi, "more", 3)
    await world.level()
    assert await state_of(ana) == await state_of(chi) == await state_of(dee)


async def test_an_own_edit_that_was_not_sent_is_withdrawn_with_the_right(world: World) -> None:
    ana, ben, chi, _ = await admins(world)
    await ana.group.set_role("Chi", "member")
    await ana.sync()
    await rule(chi, "pending", 1)
    events: list[Any] = []
    chi.replica.listen(events.append)
    await chi.sync()
    assert rules(chi) == {}
    assert any(isinstance(event, DocumentChanged) and event.name == "rules" for event in events)
    await world.level()
    await chi.restart()
    assert rules(chi) == {} == rules(ben)


@pytest.mark.parametrize("order", list(permutations(range(2))), ids=str)
async def test_of_two_demotions_at_once_the_higher_pin_holds_in_any_order(world: World, order: tuple[int, ...]) -> None:
    """Between the two nothing changes for the newest entry of the demoted, and yet older ones come to count."""
    ana, ben, chi, dee = await admins(world)
    pins = []
    for number in range(4):
        await rule(chi, f"rule {number}", number)
        end = chi.replica.chains[chi.device]
        pins.append(Pin(chi.device, end.last_seq, end.last_id))
    await world.level()
    target = chi.group.me
    assert target is not None
    for seat, pin in ((ana, pins[0]), (ben, pins[2])):
        seat.replica.write_operation(SetRole(target, Role.MEMBER, (pin,)))
        await seat.sync() if seat is ana else None
    (first,) = held_back(world, ana, 1)
    await ben.sync()
    (second,) = held_back(world, ana, 1)
    for place in order:
        put_back(world, ana, (first, second)[place])
        await dee.sync()
    put_back(world, ana, first, second)
    await world.level()
    for seat in (ana, ben, chi, dee):
        assert rules(seat) == {"rule 0": 0, "rule 1": 1, "rule 2": 2}, seat.name
    assert roster_of(ana) == roster_of(dee)


@pytest.mark.parametrize("rebuilt", [False, True])
async def test_an_honest_change_keeps_the_past_that_it_was_made_on(world: World, rebuilt: bool) -> None:
    """Ben edits what Chi wrote; Ana demotes Chi without having seen that. Chi's entry counts because Ben's does."""
    ana, ben, chi, dee = await admins(world)
    await rule(chi, "of chi", 1)
    await rule(chi, "of chi too", 2)
    await chi.sync()
    await ben.sync()
    await rule(ben, "of ben", 3)
    await rule(chi, "after ben's", 4)
    await ana.group.set_role("Chi", "member")
    await ana.sync()
    await ben.sync()  # ben's change was pending when the demotion came
    await world.level()
    if rebuilt:
        for seat in (ana, ben, chi, dee):
            rebuild_everything(seat)
            await seat.restart()
    for seat in (ana, ben, chi, dee):
        assert rules(seat) == {"of chi": 1, "of chi too": 2, "of ben": 3}, seat.name
        record = seat.replica.documents.find(ADMIN.document_id(seat.replica.group))
        assert record is not None
        assert not seat.replica.documents.waiting_changes(record.number)
    assert documents_of(ana) == documents_of(chi) == documents_of(dee)


@pytest.mark.parametrize("seed", range(8))
async def test_what_counts_does_not_depend_on_the_order_of_arrival(world: World, seed: int) -> None:
    """Edits of admins on top of each other, demotions in between, read in another order by somebody new."""
    print(f"seed {seed}")
    chance = Random(seed)
    seats = await admins(world)
    names = ["Ana", "Ben", "Chi", "Dee"]
    for _ in range(40):
        seat = chance.choice(seats)
        try:
            match chance.randrange(4):
                case 0 | 1:
                    await rule(seat, str(chance.randrange(6)), seat.name)
                case 2:
                    await seat.group.set_role(chance.choice(names[1:]), chance.choice(["admin", "member"]))
                case 3:
                    await seat.sync()
        except UsageError:
            continue
    link = await seats[0].group.invite(uses=3)
    await world.level()
    log = topic_log(next(iter(world.relays.values())), seats[0].replica.epoch)
    for number in range(2):
        chance.shuffle(log.envelopes)
        late = await world.seat(f"late{number}")
        await late.running.join(link, member_name=f"Late{number}")
        seats.append(late)
    await world.level()
    reference = documents_of(seats[0])
    for seat in seats:
        assert documents_of(seat) == reference, seat.name
        rebuild_everything(seat)
        assert documents_of(seat) == reference, f"{seat.name} rebuilt"


# --- what waits


@pytest.mark.parametrize("order", [p for p in permutations(range(4)) if p != (0, 1, 2, 3)], ids=str)
async def test_changes_wait_for_their_past_in_any_order(world: World, order: tuple[int, ...]) -> None:
    """Four devices edit one after another; a fifth receives their entries in this order."""
    seats = await world.group("ana", "ben", "chi", "dee", "eve")
    *writers, reader = seats
    for seat in writers:
        async with seat.group.document("list", SCHEMA).change() as doc:
            doc["lines"].append(seat.name)
        await seat.sync()
        for other in writers:
            await other.sync()
    envelopes = held_back(world, reader, 4)
    for place in order:
        put_back(world, reader, envelopes[place])
        await reader.sync()
        if place == 2:
            await reader.restart()
    assert reader.shared()["lines"] == ["ana", "ben", "chi", "dee"]
    assert reader.replica.documents.waiting_count() == 0


# --- memory and caches


async def test_documents_that_were_put_away_come_back_as_they_were(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelf, "OPEN_DOCUMENTS", 2)
    monkeypatch.setattr(shelf, "OPEN_CHANGES", 0)
    chance = Random(5)
    ana, ben = await world.group("ana", "ben")
    for number in range(60):
        seat = chance.choice([ana, ben])
        async with seat.group.document(f"list {chance.randrange(6)}", SCHEMA).change() as doc:
            doc["items"][str(chance.randrange(9))] = number
            doc["lines"].append(number)
        assert len(seat.replica.shelf._open) <= 2
        if chance.random() < 0.3:
            await world.level()
        if chance.random() < 0.3:
            with seat.replica.transaction():
                seat.replica.shelf.save_caches(at_least=2)
        if chance.random() < 0.1:
            await seat.restart()
    await world.level()
    assert documents_of(ana) == documents_of(ben)
    for seat in (ana, ben):
        forget_caches(seat)
    assert documents_of(ana) == documents_of(ben)


async def test_many_small_documents_stay_in_memory_and_large_ones_do_not(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelf, "OPEN_DOCUMENTS", 2)
    monkeypatch.setattr(shelf, "OPEN_SMALL", 6)
    monkeypatch.setattr(shelf, "OPEN_CHANGES", 10)
    (ana,) = await world.group("ana")

    async def open_after(changes: int) -> int:
        for number in range(8):
            for _ in range(changes):
                async with ana.group.document(f"list {number}", SCHEMA).change() as doc:
                    doc["lines"].append(number)
        return len(ana.replica.shelf._open)

    assert await open_after(1) == 6
    assert await open_after(6) == 2
    assert len(documents_of(ana)) == 8


async def test_a_document_under_an_edit_is_not_put_away(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf, "OPEN_DOCUMENTS", 2)
    monkeypatch.setattr(shelf, "OPEN_CHANGES", 0)
    (ana,) = await world.group("ana")
    async with ana.group.document("first", SCHEMA).change() as doc:
        doc["items"]["a"] = 1
        for number in range(5):
            assert ana.group.document(f"other {number}", SCHEMA).read().to_python()["items"] == {}
        doc["items"]["b"] = 2
    assert ana.group.document("first", SCHEMA).read().to_python()["items"] == {"a": 1, "b": 2}
    await ana.restart()
    assert ana.group.document("first", SCHEMA).read().to_python()["items"] == {"a": 1, "b": 2}


def save_cache(seat: Seat) -> tuple[bytes | None, int]:
    """Have the shared document cached as it is."""
    replica = seat.replica
    record = replica.documents.find(SHARED.document_id(replica.group))
    assert record is not None
    with replica.transaction():
        replica.shelf.save_caches(at_least=1)
    return replica.documents.cache(record.number)


@pytest.mark.parametrize("damage", ["cut", "rubbish", "cut inside", "heads of another", "older than it says"])
async def test_a_damaged_cache_is_thrown_away(world: World, damage: str) -> None:
    ana, _ = await world.group("ana", "ben")
    async with ana.group.document("list", SCHEMA).change() as doc:
        doc["items"]["a"] = 1
    await world.level()
    old, _ = save_cache(ana)
    async with ana.group.document("list", SCHEMA).change() as doc:
        doc["items"]["b"] = 2
    await world.level()
    record = ana.replica.documents.find(SHARED.document_id(ana.replica.group))
    assert record is not None
    cache, run = save_cache(ana)
    assert cache is not None
    assert old is not None
    data, heads = encoding.decode(cache)
    damaged = {
        "cut": cache[:-9],
        "rubbish": b"\x00" * 90,
        "cut inside": encoding.encode([data[:-9], heads]),
        "heads of another": encoding.encode([data, [b"\x01" * 32]]),
        "older than it says": encoding.encode([encoding.decode(old)[0], heads]),
    }
    ana.replica.documents.set_cache(record.number, damaged[damage], run)
    ana.replica.load()
    assert ana.shared()["items"] == {"a": 1, "b": 2}


async def test_closing_saves_caches_that_the_next_opening_uses(world: World) -> None:
    (ana,) = await world.group("ana")
    for number in range(300):
        async with ana.group.document("list", SCHEMA).change() as doc:
            doc["items"][str(number % 7)] = number
    await ana.sync()
    await ana.restart()
    record = ana.replica.documents.find(SHARED.document_id(ana.replica.group))
    assert record is not None
    assert ana.replica.documents.cache(record.number)[0] is not None
    assert ana.shared()["items"] == {str(n % 7): n for n in range(300)}


# --- what fails here alone


async def test_a_document_that_fails_here_stops_nothing_else_and_is_whole_after_a_restart(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana, ben = await world.group("ana", "ben")
    async with ana.group.document("list", SCHEMA).change() as doc:
        doc["items"]["before"] = 1
    await world.level()
    async with ana.group.document("list", SCHEMA).change() as doc:
        doc["items"]["failing"] = 2
    await ana.group.feed.post("goes on")
    await ana.sync()
    apply = Adapter.apply
    actor = ben.replica.shelf.get(SHARED).actor

    def fail(self: Adapter, raws: Any) -> None:
        if self._actor == actor:
            raise DocumentUnavailableError("out of memory")
        apply(self, raws)

    with monkeypatch.context() as failing:
        failing.setattr(Adapter, "apply", fail)
        await ben.sync()
        assert await ben.texts() == ["goes on"]
        assert any("cannot be shown on this device" in alarm for alarm in ben.group.alarms())
        with pytest.raises(DocumentUnavailableError):
            ben.shared()
        await ana.group.feed.post("and on")
        await ana.sync()
        await ben.sync()
        assert await ben.texts() == ["goes on", "and on"]
    await ben.restart()
    assert ben.shared()["items"] == {"before": 1, "failing": 2}
    assert await state_of(ana) == await state_of(ben)


async def test_a_foreign_change_that_was_never_judged_is_not_taken_from_the_log_unasked(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A document failed while poison arrived: when it is built again, the gate is asked first."""
    ana, ben, mal = await world.group("ana", "ben", "mal")
    async with ana.group.document("list", SCHEMA).change() as doc:
        doc["items"]["sound"] = 1
    await world.level()
    assert save_cache(ben)[0] is not None
    forger = Forger(mal)
    twice = [forger.change(SHARED, put_item(f"{n}", n)) for n in range(2)]
    put_back(world, ana, *(forger.write((SHARED, raw)) for raw in twice))
    with monkeypatch.context() as failing:
        failing.setattr(Adapter, "apply", lambda *_: (_ for _ in ()).throw(DocumentUnavailableError("no memory")))
        await ben.sync()
    await ben.restart()
    await ana.sync()
    assert ben.shared()["items"] == {"sound": 1, "0": 0} == ana.shared()["items"]
