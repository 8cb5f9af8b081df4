"""Attack 28 on the roster: a member signs two histories and shows one to some, the other to the rest.

Honest members build on the branch that they saw first. None of them may be cut off from another by that.
"""

from __future__ import annotations

import pytest

from cocoon_core.protocol.operations import RevokeInvite
from cocoon_core.sync import receiving
from tests.support.hostile import Forger, inject, tampered_signature
from tests.support.memory_relay import MemoryRelay
from tests.support.world import Seat, World, make_world, roster_of  # noqa: F401  a fixture


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


async def test_attack_28_changes_of_the_branch_that_does_not_stand_stay_out(world: World) -> None:
    ana, ben = await show_one_each(world, long=True)
    await talk(ana, ben)
    assert "a second history" in await ben.texts()
    assert "a second history" not in await ana.texts()


async def test_attack_28_cuts_members_apart_where_one_branch_is_left_out_of_the_roster(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiving._Reception, "_add_side_operation", lambda *_: None)
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
