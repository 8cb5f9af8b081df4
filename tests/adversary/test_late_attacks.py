"""Attack 26: a removed member backdates entries, with the relay's help and then with a member's."""

from __future__ import annotations

from typing import Any

import pytest

from cocoon_core.documents import Document
from cocoon_core.protocol.descriptor import actor_of
from cocoon_core.protocol.operations_devices import RemoveMember
from cocoon_core.protocol.run import Run
from cocoon_core.sync.arrivals import hash_of
from cocoon_core.sync.events import AlarmRaised, EntriesWithdrawn
from cocoon_core.sync.members import ALL, Members, Standing
from cocoon_core.sync.pins import pin_devices
from tests.support.hostile import Forger, inject, put_item
from tests.support.world import SCHEMA, SHARED, Seat, World, alarms, make_world, state_of  # noqa: F401  a fixture


async def removed(world: World) -> tuple[list[Seat], Forger]:
    """Ana, Ben and Eve; Mal was removed, and has a pen that still names what was known before."""
    ana, ben, eve, mal = await world.group("ana", "ben", "eve", "mal")
    await mal.group.feed.post("in time")
    async with mal.group.document("list", SCHEMA).change() as doc:
        doc["items"]["in time"] = 1
    await world.level()
    forger = Forger(mal)
    assert mal.group.me is not None
    ana.replica.write_operation(RemoveMember(mal.group.me, pin_devices(ana.replica, [mal.device])))
    await world.level([ana, ben, eve])  # and mal does not hear of it
    return [ana, ben, eve], forger


def put_by_relay(world: World, seat: Seat, forger: Forger, run: Run) -> None:
    """Whoever has the epoch now seals the run again; the relay takes it from anybody."""
    forger.epoch = seat.replica.epoch
    inject(next(iter(world.relays.values())), forger.epoch, forger.seal(run))


async def sync_all(*seats: Seat) -> None:
    for _ in range(2):
        for seat in seats:
            await seat.sync()


async def test_attack_26_backdated_entries_of_a_removed_member_do_not_count(world: World) -> None:
    (ana, ben, eve), forger = await removed(world)
    late = forger.change(SHARED, put_item("backdated", 1))
    for run in (
        forger.run(forger.entry((forger.feed(), forger.post("backdated")))),
        forger.run(forger.entry((SHARED, late))),
    ):
        put_by_relay(world, ana, forger, run)
    await sync_all(ana, ben, eve)
    await ana.group.feed.post("goes on")
    await sync_all(ana, ben, eve)
    for seat in (ana, ben, eve):
        assert await seat.texts() == ["in time", "goes on"]
        assert seat.shared()["items"] == {"in time": 1}
        assert alarms(seat, "late") == []
        assert alarms(seat, "withheld") == []
        await seat.restart()
        assert seat.shared()["items"] == {"in time": 1}
    assert await state_of(ana) == await state_of(ben) == await state_of(eve)


async def build_on(world: World, colluder: Seat, raw: bytes) -> None:
    """The colluding member makes a change on top of the removed one's, as if it had known it."""
    replica = colluder.replica
    record = replica.documents.find(SHARED.document_id(replica.group))
    assert record is not None
    stored = [*replica.shelf.admitted_changes(record, 0), raw]
    document = Document(SHARED, record.document, actor_of(colluder.device, record.document), lambda: iter(stored))
    editing = document.change()
    with editing as root:
        root["items"]["of eve"] = 2
    assert editing.change is not None
    forger = Forger(colluder)
    inject(next(iter(world.relays.values())), forger.epoch, forger.write((SHARED, editing.change.raw)))
    await colluder.stop()


async def test_attack_26_with_a_colluding_member_they_are_shown_as_late(world: World) -> None:
    (ana, ben, eve), forger = await removed(world)
    raw = forger.change(SHARED, put_item("backdated", 1))
    other = forger.change(SHARED, put_item("not built on", 1))
    for change in (raw, other):
        put_by_relay(world, ana, forger, forger.run(forger.entry((SHARED, change))))
    events: list[Any] = []
    ana.replica.listen(events.append)
    await build_on(world, eve, raw)
    await sync_all(ana, ben)
    for seat in (ana, ben):
        assert seat.shared()["items"] == {"in time": 1, "backdated": 1, "of eve": 2}
        record = seat.replica.documents.find(SHARED.document_id(seat.replica.group))
        assert record is not None
        assert seat.replica.shelf.late_changes(record) == [(forger.keys.id, hash_of(raw))]
        (late,) = alarms(seat, "late")
        assert "Mal" in late
    assert any(isinstance(event, AlarmRaised) and event.kind == "late" for event in events)
    assert await state_of(ana) == await state_of(ben)


async def test_attack_26_what_is_shown_as_late_is_shown_to_whoever_comes_anew_whoever_packed_it(world: World) -> None:
    """Its run travels with the manifest, also with that of a device which has it from a manifest alone."""
    (ana, ben, eve), forger = await removed(world)
    raw = forger.change(SHARED, put_item("backdated", 1))
    put_by_relay(world, ana, forger, forger.run(forger.entry((SHARED, raw))))
    await build_on(world, eve, raw)
    await sync_all(ana, ben)
    packer = ana
    for name in ("dora", "emil", "fay"):
        await packer.group.rotate()
        link = await packer.group.invite(uses=3)
        await sync_all(packer, ana, ben)
        newcomer = await world.seat(name)
        await newcomer.running.join(link, member_name=name)
        await newcomer.sync()
        assert newcomer.shared()["items"] == {"in time": 1, "backdated": 1, "of eve": 2}
        assert alarms(newcomer, "snapshot") == []
        await sync_all(ana, ben)
        packer = newcomer
    await world.level([ana, ben, packer])
    assert await state_of(packer) == await state_of(ana) == await state_of(ben)


async def test_attack_26_entries_that_the_remover_did_not_know_are_taken_away_and_told(world: World) -> None:
    ana, ben, mal = await world.group("ana", "ben", "mal")
    await mal.group.feed.post("known")
    await world.level()
    relay = next(iter(world.relays.values()))
    forger = Forger(mal)
    inject(relay, forger.epoch, forger.write((forger.feed(), forger.post("unknown to ana", key="post:99"))))
    await ben.sync()
    assert await ben.texts() == ["known", "unknown to ana"]
    events: list[Any] = []
    ben.replica.listen(events.append)
    assert mal.group.me is not None
    ana.replica.write_operation(RemoveMember(mal.group.me, pin_devices(ana.replica, [mal.device])))
    await mal.stop()
    await sync_all(ana, ben)
    assert await ben.texts() == await ana.texts() == ["known"]
    (withdrawn,) = [event for event in events if isinstance(event, EntriesWithdrawn)]
    assert (withdrawn.device, withdrawn.entries) == (forger.keys.id, 1)
    assert alarms(ben, "withdrawn")
    assert await state_of(ana) == await state_of(ben)


async def test_attack_26_succeeds_where_a_pin_is_not_asked(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    (ana, ben, _), forger = await removed(world)
    monkeypatch.setattr(Members, "standing", lambda self, device: Standing(self.member_ever(device), ALL, ALL))
    put_by_relay(world, ana, forger, forger.run(forger.entry((forger.feed(), forger.post("backdated")))))
    await sync_all(ana, ben)
    assert "backdated" in await ben.texts()
