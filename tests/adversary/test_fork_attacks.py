"""Attack 28: a member signs two histories and shows one to some, the other to the rest; or uses one number twice.

Honest members build on the branch that they saw first. None of them may be cut off from another by that, all end with
the same, and nothing that they wrote is lost.
"""

from __future__ import annotations

import pytest

from cocoon_core.protocol.operations import RevokeInvite
from cocoon_core.protocol.operations_devices import Suspend
from cocoon_core.sync import maintenance, receiving
from cocoon_core.sync.equivocation import Forks
from cocoon_core.sync.turns import RANK_WAIT_MS
from tests.support.hostile import Forger, inject, put_item, tampered_signature
from tests.support.memory_relay import MemoryRelay
from tests.support.world import SCHEMA, SHARED, Seat, World, make_world, roster_of, state_of  # noqa: F401  a fixture


def revoke_of(seat: Seat) -> RevokeInvite:
    """An operation that any member may write."""
    invite = next(iter(seat.replica.members.roster.invites.values()))
    return RevokeInvite(invite.id, tuple(sorted(invite.joins)))


async def show_one_each(world: World, long: bool = False) -> tuple[Seat, Seat]:
    """Ana reads the first history, Ben the second, before both relays can be reached again.

    Args:
        long: the second history goes on, with a change and another operation.
    """
    one, two = world.add_relay(), world.add_relay()
    ana, ben, mal = await world.group("ana", "ben", "mal")
    first = Forger(mal)
    second = first.copy()
    second.time_ms += 1
    epoch = ana.replica.epoch
    inject(one, epoch, first.operate(revoke_of(ana)))
    inject(two, epoch, second.operate(revoke_of(ana)))
    if long:
        inject(two, epoch, second.write((second.feed(), second.post("a second history"))))
        inject(two, epoch, second.operate(revoke_of(ana)))
    await mal.stop()
    await sync_at(ana, one, two)
    await sync_at(ben, two, one)
    return ana, ben


async def sync_at(seat: Seat, near: MemoryRelay, far: MemoryRelay) -> None:
    far.reachable = False
    await seat.sync()
    far.reachable = True


async def talk(ana: Seat, ben: Seat) -> None:
    await ana.group.feed.post("honest ana")
    await ben.group.feed.post("honest ben")
    for _ in range(3):
        for seat in (ana, ben):
            await seat.sync()


@pytest.mark.parametrize("long", [False, True])
async def test_attack_28_two_branches_of_the_roster_cut_no_honest_members_apart(world: World, long: bool) -> None:
    ana, ben = await show_one_each(world, long)
    await talk(ana, ben)
    for seat in (ana, ben):
        assert {"honest ana", "honest ben"} <= set(await seat.texts())
        assert any("signed two histories" in alarm for alarm in seat.group.alarms())
    assert roster_of(ana) == roster_of(ben)
    before = roster_of(ana)
    for seat in (ana, ben):
        await seat.restart()
        assert roster_of(seat) == before
    await ben.group.feed.post("after a restart")
    await ben.sync()
    await ana.sync()
    assert "after a restart" in await ana.texts()


async def test_attack_28_whoever_sees_both_branches_shows_the_same_one(world: World) -> None:
    ana, ben = await show_one_each(world, long=True)
    await talk(ana, ben)
    assert await state_of(ana) == await state_of(ben)
    for seat in (ana, ben):
        await seat.restart()
    assert await state_of(ana) == await state_of(ben)


async def test_attack_28_succeeds_where_the_first_branch_to_arrive_stands(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Forks, "settle", lambda *_, **__: None)
    ana, ben = await show_one_each(world, long=True)
    await talk(ana, ben)
    assert ("a second history" in await ana.texts()) != ("a second history" in await ben.texts())


async def test_attack_28_cuts_members_apart_where_one_branch_is_left_out_of_the_roster(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiving._Reception, "_add_side_operation", lambda *_: None)
    monkeypatch.setattr(Forks, "_take_operation", lambda *_: None)
    ana, ben = await show_one_each(world)
    await talk(ana, ben)
    assert await ana.texts() == ["honest ana"]
    assert await ben.texts() == ["honest ben"]


async def test_attack_28_a_second_history_that_its_device_did_not_sign_is_no_fork(world: World) -> None:
    relay = world.add_relay()
    ana, ben, mal = await world.group("ana", "ben", "mal")
    first = Forger(mal)
    second = first.copy()
    second.time_ms += 1
    forged = second.run(second.operation(revoke_of(ana)))
    inject(relay, ana.replica.epoch, first.operate(revoke_of(ana)), second.seal(tampered_signature(forged)))
    await mal.stop()
    await ana.sync()
    assert not ana.replica.members.knows((forged.last_id,))
    assert ana.replica.log.side_runs() == []
    assert ana.replica.log.forks() == {}
    await ben.sync()
    assert roster_of(ana) == roster_of(ben)


# --- changes


async def forked_posts(world: World) -> tuple[Seat, Seat, Forger, Forger]:
    """Mal signs two posts at one place, and both lie in the topic."""
    relay = world.add_relay()
    ana, ben, mal = await world.group("ana", "ben", "mal")
    one = Forger(mal)
    two = one.copy()
    first = one.write((one.feed(), one.post("one history")))
    second = two.write((two.feed(), two.post("another history", key="post:01")))
    await mal.stop()
    inject(relay, ana.replica.epoch, first, second)
    return ana, ben, one, two


async def test_attack_28_a_fork_is_proved_and_told_and_harms_nobody_else(world: World) -> None:
    ana, ben, one, two = await forked_posts(world)
    await ana.group.feed.post("ana goes on")
    await ben.group.feed.post("ben goes on")
    for seat in (ana, ben, ana):
        await seat.sync()
    assert one.prev is not None
    decides = "one history" if one.prev < two.prev else "another history"
    assert sorted(await ana.texts()) == sorted(["ana goes on", "ben goes on", decides])
    assert await state_of(ana) == await state_of(ben)
    for seat in (ana, ben):
        assert any("signed two histories" in alarm for alarm in seat.group.alarms())
        ((device, proof),) = seat.replica.log.forks().items()
        assert device == one.keys.id
        assert len(set(proof)) == 2
        assert all(proof)
    await ben.restart()
    assert await state_of(ana) == await state_of(ben)


async def test_attack_28_the_device_is_put_out_by_whoever_comes_first_and_once(world: World) -> None:
    ana, ben, one, _ = await forked_posts(world)
    for seat in (ana, ben):
        await seat.sync()
        assert one.keys.id in seat.replica.members.roster.devices  # its owner may be restored, and replace it
    shown = await ana.texts()
    for _ in range(4):
        world.now_ms += RANK_WAIT_MS
        await world.level([ana, ben])
    assert await state_of(ana) == await state_of(ben)
    for seat in (ana, ben):
        roster = seat.replica.members.roster
        assert one.keys.id not in roster.devices
        assert roster.former_devices[one.keys.id].pin is not None
        assert await seat.texts() == shown
        assert any("put out, by the proof" in alarm for alarm in seat.group.alarms())
    bodies = [operation.body for operation in ana.replica.members.graph.operations()]
    assert sum(isinstance(body, Suspend) for body in bodies) == 1


async def test_attack_28_one_number_used_twice_in_a_document(world: World) -> None:
    """The chain is straight, but two of its changes have one (actor, seq): the second is refused."""
    relay = world.add_relay()
    ana, ben, mal = await world.group("ana", "ben", "mal")
    forger = Forger(mal)
    raws = [forger.change(SHARED, put_item(f"mal {n}", n)) for n in range(2)]
    inject(relay, ana.replica.epoch, *(forger.write((SHARED, raw)) for raw in raws))
    await mal.stop()
    for seat in (ana, ben):
        await seat.sync()
        async with seat.group.document("list", SCHEMA).change() as doc:
            doc["items"][seat.name] = 1
    for seat in (ana, ben, ana):
        await seat.sync()
    assert await state_of(ana) == await state_of(ben)
    assert ana.shared()["items"] == {"mal 0": 0, "ana": 1, "ben": 1}


async def test_attack_28_honest_edits_on_either_branch_are_all_there_in_the_end(world: World) -> None:
    """Ana and Ben each edit on top of another history of Mal, with the same numbers, before they talk."""
    one, two = world.add_relay(), world.add_relay()
    ana, ben, mal = await world.group("ana", "ben", "mal")
    first = Forger(mal)
    second = first.copy()
    second.time_ms += 1
    epoch = ana.replica.epoch
    inject(one, epoch, first.write((SHARED, first.change(SHARED, put_item("of mal", 1)))))
    inject(two, epoch, second.write((SHARED, second.change(SHARED, put_item("of mal", 2)))))
    await mal.stop()
    for seat, near, far in ((ana, one, two), (ben, two, one)):
        await sync_at(seat, near, far)
        async with seat.group.document("list", SCHEMA).change() as doc:
            doc["items"][seat.name] = doc["items"]["of mal"]
        await sync_at(seat, near, far)
    for _ in range(4):
        for seat in (ana, ben):
            await seat.sync()
    assert ana.shared() == ben.shared()
    assert ana.shared()["items"].keys() == {"of mal", "ana", "ben"}
    assert await state_of(ana) == await state_of(ben)
    async with ben.group.document("list", SCHEMA).change() as doc:
        doc["items"]["after"] = 1
    await world.level([ana, ben])
    assert ana.shared()["items"]["after"] == 1
    assert await state_of(ana) == await state_of(ben)


async def test_attack_28_loses_honest_edits_where_nobody_makes_them_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "reissue_lost", lambda replica: None)
    with pytest.raises(AssertionError):
        await test_attack_28_honest_edits_on_either_branch_are_all_there_in_the_end(world)


async def test_attack_28_succeeds_where_forks_are_not_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiving._Reception, "_keep_fork", lambda *_: None)
    ana, _, _, _ = await forked_posts(world)
    await ana.sync()
    assert ana.group.alarms() == []
