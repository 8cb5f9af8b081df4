"""Wraps stand beside rotations: they go with them wherever these lead somebody on, and no manifest carries them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from cocoon_core.protocol.constants import WRAP_BYTES
from cocoon_core.protocol.envelope import open_envelope, seal_envelope
from cocoon_core.protocol.ids import EntryId, TopicId
from cocoon_core.protocol.rotation_value import add_wraps, split_wraps
from cocoon_core.sync import epochs, rotating
from cocoon_core.sync.rotating import find_recipients, write_rotation
from tests.support.hostile import inject
from tests.support.world import Seat, World, alarms, make_world, state_of  # noqa: F401  a fixture

DAY_MS = 86_400_000


def current(*seats: Seat) -> set[bytes]:
    return {bytes(seat.replica.epoch.topic) for seat in seats}


def content(seat: Seat) -> int:
    """Bytes of the manifest that opens the current topic."""
    said = seat.replica.epochs.table.content(seat.replica.epoch.topic)
    return len(said or b"")


def rotations(seat: Seat) -> list[EntryId]:
    """Of the chosen path, the newest first."""
    choice = seat.replica.epochs.choice
    assert choice is not None
    return [node.id for node in choice.path if node.rotation is not None]


async def test_a_manifest_grows_by_half_a_kilobyte_a_rotation(world: World) -> None:
    ana, ben, cleo = await world.group("ana", "ben", "cleo")
    sizes = []
    for _ in range(6):
        await ana.group.rotate()
        await world.level()
        sizes.append(content(ana))
    assert current(ana) == current(ben, cleo)
    assert all(0 < after - before < 500 for before, after in pairwise(sizes)), sizes
    assert content(ben) == sizes[-1]


async def test_who_slept_for_a_year_goes_on_by_the_last_envelopes_alone(world: World) -> None:
    ana, ben, cleo = await world.group("ana", "ben", "cleo")
    relay = next(iter(world.relays.values()))
    await world.level()
    await cleo.stop()
    for month in range(12):
        relay.age(30)
        world.now_ms += 30 * DAY_MS
        await ana.group.feed.post(f"month {month}")
        await ana.group.rotate()
        await world.level([ana, ben])
    assert len(relay.logs[cleo_topic(cleo, ana)].envelopes) == 1
    await cleo.start()
    relay.blobs.requests.clear()
    await cleo.sync()
    assert current(cleo) == current(ana)
    assert sorted(await cleo.texts()) == sorted(await ana.texts())
    assert not alarms(cleo, "excluded")
    for seat in (ana, ben):  # and nothing is kept for longer than it may be of use
        assert len(seat.replica.epochs.table.with_wraps()) <= len(seat.replica.epochs.held) + 1


def cleo_topic(cleo: Seat, ana: Seat) -> TopicId:
    """The topic at which a device fell asleep: of the first epoch after the joins."""
    body = ana.replica.members.graph.operation(rotations(ana)[-1]).body
    return TopicId(body.topic)  # type: ignore[union-attr]


async def test_who_was_given_the_secret_otherwise_ends_no_topic_until_it_has_the_wraps(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rotation without its wraps as a topic's last envelope would lead no sleeper on."""
    one, two = world.add_relay(), world.add_relay()
    ana, ben, cleo = await world.group("ana", "ben", "cleo")
    await world.level()
    old = cleo.replica.epoch.topic
    victim = cleo.device

    def spoil(replica: Any, reason: Any) -> Any:
        with monkeypatch.context() as patched:
            patched.setattr(
                rotating, "find_recipients", lambda r: tuple(it for it in find_recipients(r) if it.id != victim)
            )
            return write_rotation(replica, reason)

    two.reachable = False
    monkeypatch.setattr(epochs, "write_rotation", spoil)
    await ben.group.rotate()
    monkeypatch.setattr(epochs, "write_rotation", write_rotation)
    for _ in range(4):
        for seat in (ben, cleo, ana):
            await seat.sync()
        world.now_ms += 120_000
    assert current(ana, ben, cleo) == current(ben)
    cleo.replica.epochs.table.drop_wraps([rotations(ben)[0]])  # as if she had learned of it by a manifest
    one.reachable, two.reachable = False, True
    assert cleo.replica.epochs.handover_from(old) == []
    await cleo.sync()
    assert not two.logs[old].sealed
    await ben.sync()
    assert two.logs[old].sealed
    await cleo.sync()
    assert cleo.replica.epochs.handover_from(old), "it came with its wraps, and she leads others on by it from now on"


async def test_attack_23_a_rotation_whose_wraps_were_left_off_ends_nothing(world: World) -> None:
    """Ben was put out. He takes the rotation from one relay to another, without its wraps, and seals the topic."""
    one, two = world.add_relay(), world.add_relay()
    ana, ben, cleo = await world.group("ana", "ben", "cleo")
    await world.level()
    epoch = ben.replica.epoch
    two.reachable = False
    await ana.group.remove_member("ben")
    await ana.group.feed.post("without ben")
    await ana.sync()
    put = one.logs[epoch.topic].envelopes[-2:]
    removal, rotation = (open_envelope(envelope, epoch) for envelope in put)
    split = split_wraps(rotation, ana.replica.group)
    assert split is not None
    inject(two, epoch, *(seal_envelope(wire, epoch) for wire in (removal, split[0].wire)))
    two.logs[epoch.topic].sealed = True
    two.reachable = True
    await ana.sync()
    one.reachable = False
    await cleo.sync()  # she complains of nothing, and needs nobody who is awake
    assert current(cleo) == current(ana)
    one.reachable = True
    await world.level([ana, cleo])
    assert await cleo.texts() == ["without ben"]
    assert await state_of(ana) == await state_of(cleo)


async def test_wraps_of_rotations_that_nobody_knows_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    (ana,) = await world.group("ana")
    await ana.group.rotate()
    await world.level()
    (known,) = rotations(ana)
    table, records = ana.replica.epochs.table, bytes(32 + WRAP_BYTES)
    monkeypatch.setattr(epochs, "PARK_TOTAL_BYTES", 3 * len(records))
    table.drop_wraps([known])
    with ana.replica.transaction():
        for number in range(9):
            ana.replica.epochs.note_wraps({EntryId(bytes([number]) * 32): records})
        assert len(table.with_wraps()) == 3
        ana.replica.epochs.note_wraps({known: records})
        assert table.has_wraps(known)
        ana.replica.epochs.drop_wraps()
    assert [one for one, _ in table.with_wraps()] == [known], "of no run that waits, and of an epoch that is held"


async def test_the_newest_rotation_leads_on_with_its_wraps_and_earlier_ones_as_far_as_they_fit(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana, ben = await world.group("ana", "ben")
    await world.level()
    old = ben.replica.epoch.topic
    for _ in range(3):
        await ana.group.rotate()
    table, log = ana.replica.epochs.table, ana.replica.log
    whole = []
    for operation in reversed(rotations(ana)[:3]):
        wire, records = log.operation_wire(operation), table.wraps(operation)
        assert wire is not None
        assert records is not None
        whole.append(add_wraps(wire, records))
    wires = ana.replica.epochs.handover_from(old)
    sizes = [len(value) for value in whole]
    for fits in (3, 2, 1, 0):
        monkeypatch.setattr(epochs, "CARRIED_BYTES", sum(sizes[3 - fits :]) if fits else 1)
        values = ana.replica.epochs.carry_all(wires)
        assert len(values) == len(wires)
        carried = [value for value in values if value in whole]
        assert carried == whole[3 - max(fits, 1) :]
    await world.level()
    assert current(ben) == current(ana)
