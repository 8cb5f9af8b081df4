"""Attack 40: yesterday's copy is put back, or two copies of one device run. Nothing is signed twice, nothing of others
is lost, and the member goes on under a fresh key that everybody is told of.
"""

from __future__ import annotations

import pytest

from cocoon_core.errors import ChainAheadError, UsageError
from cocoon_core.sync import replacing
from cocoon_core.sync.replica import Replica
from tests.support.world import SCHEMA, Seat, World, alarms, make_world, roster_of, state_of  # noqa: F401  a fixture


async def restored(world: World) -> tuple[Seat, Seat, Seat]:
    """Ana's profile as of yesterday, not running; Ana wrote more since, is gone, and Ben has it."""
    ana, ben = await world.group("ana", "ben")
    await ana.group.feed.post("yesterday")
    async with ana.group.document("list", SCHEMA).change() as doc:
        doc["items"]["milk"] = 1
    await world.level()
    await ana.stop()
    copy = await world.copy(ana, "copy")
    await ana.start()
    await ana.group.feed.post("today")
    await ben.group.feed.post("of ben")
    await world.level([ana, ben])
    await ana.stop()
    return ana, ben, copy


async def test_attack_40_yesterdays_copy_goes_on_under_a_fresh_key(world: World) -> None:
    _, ben, copy = await restored(world)
    await copy.start()
    old, member = copy.device, copy.group.me
    await copy.sync()
    assert copy.device != old
    assert copy.group.me == member
    assert alarms(copy, "replaced-here")
    await copy.group.feed.post("from the copy")
    await world.level([copy, ben])
    for seat in (copy, ben):
        assert sorted(await seat.texts()) == ["from the copy", "of ben", "today", "yesterday"]
        assert seat.replica.log.forks() == {}
        assert old not in seat.replica.members.roster.devices
        assert seat.replica.members.roster.former_devices[old].pin is not None
    assert any("goes on as a new one" in message for message in alarms(ben, "replaced"))
    assert await state_of(copy) == await state_of(ben)
    await copy.restart()
    await copy.group.feed.post("after a restart")
    await world.level([copy, ben])
    assert "after a restart" in await ben.texts()
    assert await state_of(copy) == await state_of(ben)


async def test_attack_40_what_the_copy_wrote_before_it_knew_is_made_again(world: World) -> None:
    _, ben, copy = await restored(world)
    await copy.start()
    post = await copy.group.feed.post("offline")
    reply = await copy.group.feed.reply(post.id, "to myself")
    async with copy.group.document("list", SCHEMA).change() as doc:
        doc["items"]["eggs"] = 2
        doc["lines"].append("one")
        doc["note"].append("note")
    async with copy.group.document("diary").change() as doc:
        doc["mood"] = "old"
    await copy.sync()
    await world.level([copy, ben])
    for seat in (copy, ben):
        assert sorted(await seat.texts()) == ["of ben", "offline", "today", "yesterday"]
        assert (await seat.group.feed.get(post.id)).text == "offline"
        assert (await seat.group.feed.get(reply.id)).parent == post.id
        assert seat.shared() == {"items": {"milk": 1, "eggs": 2}, "lines": ["one"], "note": "note"}
        assert seat.replica.log.forks() == {}
    assert copy.replica.log.pending_count() == 0
    assert alarms(copy, "edits-left") == []
    assert await state_of(copy) == await state_of(ben)


async def test_attack_40_what_was_changed_since_is_not_changed_back(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    async with ana.group.document("diary").change() as doc:
        doc["mood"] = "first"
    await world.level()
    await ana.stop()
    copy = await world.copy(ana, "copy")
    await ana.start()
    async with ana.group.document("diary").change() as doc:
        doc["mood"] = "newer"
    await world.level([ana, ben])
    await ana.stop()
    await copy.start()
    async with copy.group.document("diary").change() as doc:
        doc["mood"] = "offline"
    await copy.sync()
    assert copy.group.document("diary").read()["mood"] == "newer"
    assert alarms(copy, "edits-left")


async def test_attack_40_two_running_copies_sign_nothing_twice_and_one_goes_on(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    await ana.group.feed.post("before")
    await world.level()
    await ana.stop()
    copy = await world.copy(ana, "copy")
    await ana.start()
    await copy.start()
    await ana.group.feed.post("of the first")
    await ana.sync()
    await copy.group.feed.post("of the copy")  # it cannot know yet
    await copy.sync()  # it reads before it signs, and replaces itself
    await ben.sync()
    assert ben.replica.log.forks() == {}
    assert sorted(await ben.texts()) == ["before", "of the copy", "of the first"]
    await ana.group.feed.post("too late")
    await ana.sync()  # this copy learns that it was replaced
    with pytest.raises(UsageError):
        await ana.group.feed.post("more")
    await ben.sync()
    assert "too late" not in await ben.texts()
    assert ben.replica.log.forks() == {}
    assert len(ben.replica.members.roster.devices) == 2


async def two_relays(world: World) -> tuple[Seat, Seat, Seat]:
    """Two copies of Ana wrote at once, each seen by another relay; both are closed."""
    one, two = world.add_relay(), world.add_relay()
    ana, ben = await world.group("ana", "ben")
    await ana.stop()
    copy = await world.copy(ana, "copy")
    await ana.start()
    await copy.start()
    two.reachable = False
    await ana.group.feed.post("of the first")
    await ana.sync()
    one.reachable, two.reachable = False, True
    await copy.group.feed.post("of the copy")
    await copy.sync()
    one.reachable = True
    await ana.stop()
    await copy.stop()
    return ana, ben, copy


async def test_attack_40_two_copies_on_two_relays_leave_a_proof_and_one_history(world: World) -> None:
    """Where the copies could not see each other, both signed one seq: the same one decides for all."""
    ana, ben, copy = await two_relays(world)
    old = None
    await ben.sync()
    assert any("two histories" in message for message in alarms(ben, "fork"))
    shown = await ben.texts()
    assert len(shown) == 1
    winner, loser = (ana, copy) if shown == ["of the first"] else (copy, ana)
    await winner.start()
    old = winner.device
    await winner.sync()
    assert winner.device != old
    await loser.start()
    await loser.sync()
    assert loser.device == old
    assert loser.group.me is None
    assert alarms(loser, "replaced-here") or not loser.replica.is_writable
    await winner.group.feed.post("goes on")
    await world.level([winner, ben])
    await world.level([winner, ben])
    assert set(await ben.texts()) == {shown[0], "goes on"}
    assert await state_of(winner) == await state_of(ben)


async def test_attack_40_the_copy_that_does_not_decide_waits_for_the_other(world: World) -> None:
    ana, ben, copy = await two_relays(world)
    await ben.sync()
    loser = copy if await ben.texts() == ["of the first"] else ana
    await loser.start()
    old = loser.device
    await loser.sync()
    assert loser.device == old
    with pytest.raises(ChainAheadError):
        await loser.group.feed.post("not yet")
    world.now_ms += replacing.REPLACE_WAIT_MS
    await loser.sync()
    assert loser.device != old
    await world.level([loser, ben])
    assert sorted(await ben.texts()) == ["of the copy", "of the first"]  # its own edit was made again
    assert await state_of(loser) == await state_of(ben)


async def test_attack_40_two_replacements_at_once_void_both(world: World) -> None:
    one, two = world.add_relay(), world.add_relay()
    ana, ben = await world.group("ana", "ben")
    await ana.stop()
    first, second = await world.copy(ana, "first"), await world.copy(ana, "second")
    await ana.start()
    await ana.group.feed.post("ahead")
    await ana.sync()
    await ana.stop()
    for seat, far in ((first, two), (second, one)):
        far.reachable = False
        await seat.start()
        await seat.sync()
        far.reachable = True
    for _ in range(3):
        for seat in (ben, first, second):
            await seat.sync()
    for seat in (ben, first, second):
        assert set(seat.replica.members.roster.devices) == {ben.device}, seat.name
    assert await ben.texts() == ["ahead"]
    await ben.group.feed.post("goes on")
    assert all(relay.ok for relay in (await ben.sync()).relays)


async def test_attack_40_succeeds_where_a_device_does_not_know_its_own(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, ben, copy = await restored(world)
    await copy.start()
    await copy.group.feed.post("twice")
    monkeypatch.setattr(Replica, "stop", lambda *_: None)
    await copy.sync()
    await ben.sync()
    assert ben.replica.log.forks() != {}


async def test_attack_40_loses_edits_where_they_are_not_made_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replacing, "reissue_lost", lambda replica: None)
    monkeypatch.setattr("cocoon_core.sync.maintenance.reissue_lost", lambda replica: None)
    _, ben, copy = await restored(world)
    await copy.start()
    await copy.group.feed.post("offline")
    await copy.sync()
    await ben.sync()
    assert "offline" not in await ben.texts()
    assert roster_of(copy)["members"] == roster_of(ben)["members"]
