"""Coming back by one's guardians: request, words, vouching, notice, delay, objection, admission."""

from __future__ import annotations

from datetime import timedelta

import pytest

from cocoon_core.errors import InvalidLinkError, NotYetError, UsageError
from cocoon_core.group import Group
from cocoon_core.protocol.circle import read_circle_code
from cocoon_core.protocol.ids import MemberId
from cocoon_core.recovery import LostRequestInfo
from cocoon_core.sync.turns import RANK_WAIT_MS
from tests.support.world import Seat, World, make_world  # noqa: F401  a fixture

HOUR_MS = 3_600_000
DELAY_MS = 72 * HOUR_MS + 4 * RANK_WAIT_MS


def member(group: Group, name: str) -> MemberId:
    return next(info.id for info in group.members() if info.name == name)


def names(group: Group) -> dict[str, int]:
    return {info.name: info.devices for info in group.members()}


async def circle(world: World, threshold: int = 2) -> list[Seat]:
    """Ana, Ben, Chi, Dee; Dee's guardians are the others."""
    seats = await world.group("ana", "ben", "chi", "dee")
    dee = seats[3]
    await dee.group.feed.post("from Dee's lost device")
    await dee.group.set_guardians([member(dee.group, name) for name in ("Ana", "Ben", "Chi")], threshold)
    await world.level(seats)
    return seats


async def ask(world: World, helper: Seat, name: str = "dee2", lost: str = "Dee") -> tuple[Seat, LostRequestInfo]:
    seat = await world.seat(name)
    return seat, await seat.running.ask_guardians(helper.group.write_help_code(member(helper.group, lost)))


async def test_two_of_three_guardians_bring_a_member_back_after_the_delay(world: World) -> None:
    ana, ben, chi, dee = await circle(world)
    me, old = dee.group.me, dee.device
    await dee.stop()
    again, asked = await ask(world, ben)
    info = await ben.group.vouch_for_lost(asked.code, asked.words)
    assert (info.name, info.vouchers, info.wanted, info.granted) == ("Dee", ("Ben",), 2, False)
    await world.level([ana, ben, chi])
    await chi.group.vouch_for_lost(asked.code, asked.words)
    await world.level([ana, ben, chi])
    assert await again.running.finish_lost_requests() == []
    world.now_ms += DELAY_MS
    await world.level([ana, ben, chi])
    (group,) = await again.running.finish_lost_requests()
    assert group.me == me
    assert await again.texts() == ["from Dee's lost device"]
    assert old not in again.replica.members.roster.devices
    assert names(group) == {"Ana": 1, "Ben": 1, "Chi": 1, "Dee": 1}
    await group.feed.post("back")
    await world.level([again, ana, ben, chi])
    assert await ana.texts() == ["from Dee's lost device", "back"]
    assert again.running.lost_requests() == []
    assert len({seat.replica.epoch.topic for seat in (again, ana, ben, chi)}) == 1
    await dee.start()
    await dee.sync()
    assert dee.group.me is None
    assert dee.replica.epoch.topic != ana.replica.epoch.topic


async def test_before_the_delay_has_passed_nobody_is_admitted(world: World) -> None:
    ana, ben, chi, dee = await circle(world)
    await dee.stop()
    again, asked = await ask(world, ben)
    for seat in (ben, chi):
        await seat.group.vouch_for_lost(asked.code, asked.words)
        await world.level([ana, ben, chi])
    world.now_ms += 72 * HOUR_MS - 60_000
    await world.level([ana, ben, chi])
    assert await again.running.finish_lost_requests() == []
    assert not any(request.granted for request in ana.group.recovery_requests())


async def test_one_of_two_is_not_enough_however_long_it_waits(world: World) -> None:
    ana, ben, chi, dee = await circle(world)
    await dee.stop()
    again, asked = await ask(world, ben)
    await ben.group.vouch_for_lost(asked.code, asked.words)
    for _ in range(3):
        world.now_ms += DELAY_MS
        await world.level([ana, ben, chi])
    assert await again.running.finish_lost_requests() == []
    assert [request.granted for request in chi.group.recovery_requests()] == [False]


async def test_the_delay_is_each_device_s_own(world: World) -> None:
    ana, ben, chi, dee = await circle(world, threshold=1)
    await dee.stop()
    again, asked = await ask(world, ben)
    info = await ben.group.vouch_for_lost(asked.code, asked.words, timedelta(hours=1))
    assert info.at is not None
    await world.level([ana, ben, chi])
    world.now_ms += HOUR_MS
    await world.level([ana, ben, chi])
    (group,) = await again.running.finish_lost_requests()
    assert names(group)["Dee"] == 1


async def test_everybody_is_told_once_and_the_member_how_to_object(world: World) -> None:
    ana, ben, chi, dee = await circle(world)
    _, asked = await ask(world, ben)
    await ben.group.vouch_for_lost(asked.code, asked.words)
    await world.level()
    for seat in (ana, chi):
        told = [alarm for alarm in seat.group.alarms() if "lost all devices" in alarm]
        assert told == ["Ben vouched that Dee lost all devices: a new one is to take their place"]
    (own,) = [alarm for alarm in dee.group.alarms() if "vouched" in alarm]
    assert "If you did not ask for that, `cocoon recovery object` stops it" in own
    await chi.group.vouch_for_lost(asked.code, asked.words)
    await world.level()
    assert len([alarm for alarm in ana.group.alarms() if "lost all devices" in alarm]) == 1


async def test_a_living_device_objects_and_nobody_is_admitted(world: World) -> None:
    ana, ben, chi, dee = await circle(world)
    thief, asked = await ask(world, ben, "thief")
    for seat in (ben, chi):
        await seat.group.vouch_for_lost(asked.code, asked.words)
    await world.level()
    info = await dee.group.object_to_recovery()
    assert info.guardians == ()
    await world.level()
    world.now_ms += DELAY_MS
    await world.level()
    assert await thief.running.finish_lost_requests() == []
    assert dee.group.me is not None
    assert names(ana.group)["Dee"] == 1


async def test_objecting_without_the_phrase_drops_it_until_its_device_names_it_again(world: World) -> None:
    *_, dee = await circle(world)
    phrase = (await dee.running.new_recovery_phrase()).phrase
    await world.level()
    urls = [*world.relays]
    second = await world.seat("dee2")
    await second.running.use_recovery_phrase(phrase, urls)
    await world.level()
    table = second.replica.database
    table.execute("DELETE FROM recovery")  # as if it had been linked, and knew no phrase
    table.execute("DELETE FROM recovery_seeds")
    await second.group.object_to_recovery()
    assert not second.group.recovery().phrase
    await world.level()
    world.now_ms += HOUR_MS
    await world.level()
    assert dee.group.recovery().phrase
    assert dee.group.recovery().guardians == ()
    third = await world.seat("dee3")
    assert [one.error for one in await third.running.use_recovery_phrase(phrase, urls)] == [None]


async def test_attack_06_an_exchanged_code_shows_other_words(world: World) -> None:
    """Whoever carries the code puts a request of their own in its place; the guardian types what Dee says."""
    _, ben, _, dee = await circle(world)
    await dee.stop()
    _, asked = await ask(world, ben)
    _, forged = await ask(world, ben, "carrier")
    assert forged.words != asked.words
    with pytest.raises(UsageError, match="not the words of this request"):
        await ben.group.vouch_for_lost(forged.code, asked.words)
    assert ben.group.recovery_requests() == []
    await ben.group.vouch_for_lost(asked.code, asked.words.upper().replace(" ", "\n  "))


async def test_who_is_no_guardian_does_not_vouch(world: World) -> None:
    seats = await world.group("ana", "ben", "chi")
    ana, ben, chi = seats
    await ben.group.set_guardians([member(ben.group, "Ana")], 1)
    await world.level(seats)
    _, asked = await ask(world, ana, "ben2", "Ben")
    with pytest.raises(UsageError, match="not one of the guardians"):
        await chi.group.vouch_for_lost(asked.code, asked.words)
    with pytest.raises(UsageError, match="chose no guardians"):
        ana.group.write_help_code(member(ana.group, "Chi"))


async def test_guardians_are_other_members_and_as_many_as_it_takes(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    me, other = member(ana.group, "Ana"), member(ana.group, "Ben")
    for guardians, threshold in (([me], 1), ([other], 0), ([other], 2), ([], 1), ([MemberId(bytes(32))], 1)):
        with pytest.raises(UsageError):
            await ana.group.set_guardians(guardians, threshold)
    info = await ana.group.set_guardians([other, other], 1)
    assert (info.guardians, info.threshold, info.phrase) == (("Ben",), 1, False)
    with pytest.raises(UsageError, match="no guardians"):
        await ben.group.object_to_recovery()
    await ana.group.set_guardians([], 0)
    assert ana.group.recovery().guardians == ()


async def test_phrase_and_guardians_stand_beside_each_other(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    await ana.group.set_guardians([member(ana.group, "Ben")], 1)
    phrase = (await ana.running.new_recovery_phrase()).phrase
    assert ana.group.recovery().guardians == ("Ben",)
    await ana.group.set_guardians([], 0)
    assert ana.group.recovery().phrase
    await world.level()
    await ana.stop()
    again = await world.seat("ana2")
    (found,) = await again.running.use_recovery_phrase(phrase, [*world.relays])
    assert found.error is None
    await again.group.set_guardians([member(again.group, "Ben")], 1)  # by fresh keys, since the old proof is another's
    await world.level([again, ben])
    third = await world.seat("ana3")
    assert [one.error for one in await third.running.use_recovery_phrase(phrase, [*world.relays])] == [None]


async def test_a_device_without_the_phrase_does_not_drop_it_by_choosing_guardians(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    phrase = (await ana.running.new_recovery_phrase()).phrase
    await ana.sync()
    again = await world.seat("ana2")
    await again.running.use_recovery_phrase(phrase, [*world.relays])
    await again.running.new_recovery_phrase()
    await world.level([again, ana, ben])
    with pytest.raises(UsageError, match="another of your devices holds") as refused:
        database = ana.replica.database
        database.execute("DELETE FROM recovery")
        await ana.group.set_guardians([member(ana.group, "Ben")], 1)
    assert refused.type is UsageError


async def test_the_same_request_is_asked_again_and_a_code_of_another_group_is_refused(world: World) -> None:
    _, ben, _, dee = await circle(world)
    await dee.stop()
    again, asked = await ask(world, ben)
    await again.restart()
    repeated = await again.running.ask_guardians(ben.group.write_help_code(member(ben.group, "Dee")))
    assert (repeated.code, repeated.words) == (asked.code, asked.words)
    assert [lost.code for lost in again.running.lost_requests()] == [asked.code]
    band = await ben.running.create_group("Band", member_name="Ben", relays=[*world.relays])
    with pytest.raises(UsageError, match="another group"):
        await band.vouch_for_lost(asked.code, asked.words)
    with pytest.raises(InvalidLinkError):
        await band.vouch_for_lost(asked.code[:-1], asked.words)
    with pytest.raises(UsageError, match="has that group already"):
        await ben.running.ask_guardians(
            next(seat for seat in world.seats if seat.name == "ana").group.write_help_code(
                member_of_world(world, "Dee")
            )
        )


def member_of_world(world: World, name: str) -> MemberId:
    return member(world.seats[0].group, name)


async def test_a_request_that_no_relay_shows_waits(world: World) -> None:
    _, ben, _, dee = await circle(world)
    await dee.stop()
    _, asked = await ask(world, ben)
    for relay in world.relays.values():
        relay.expire(read_circle_code(asked.code).mailbox().topic)
    with pytest.raises(NotYetError, match="no relay of this group has that request"):
        await ben.group.vouch_for_lost(asked.code, asked.words)


async def test_the_only_admin_comes_back_by_guardians_and_is_an_admin(world: World) -> None:
    ana, ben, chi = await world.group("ana", "ben", "chi")
    await ana.group.set_guardians([member(ana.group, "Ben"), member(ana.group, "Chi")], 2)
    await world.level()
    await ana.stop()
    with pytest.raises(UsageError):
        await ben.group.remove_member("Chi")
    again, asked = await ask(world, ben, "ana2", "Ana")
    for seat in (ben, chi):
        await seat.group.vouch_for_lost(asked.code, asked.words)
        await world.level([ben, chi])
    world.now_ms += DELAY_MS
    await world.level([ben, chi])
    (group,) = await again.running.finish_lost_requests()
    assert [info.role for info in group.members() if info.me] == ["admin"]
    await group.set_role("Ben", "admin")


async def test_guardians_devices_share_the_work_by_rank(world: World) -> None:
    """The first by rank admits at once; the others find it done."""
    ana, ben, chi, dee = await circle(world, threshold=3)
    await dee.stop()
    again, asked = await ask(world, ben)
    for seat in (ana, ben, chi):
        await seat.group.vouch_for_lost(asked.code, asked.words)
        await world.level([ana, ben, chi])
    at = [request.at for seat in (ana, ben, chi) for request in seat.group.recovery_requests()]
    assert len(set(at)) == 3
    world.now_ms += DELAY_MS
    await world.level([ana, ben, chi])
    admits = [o for o in ana.replica.members.graph.operations() if type(o.body).__name__ == "Admit"]
    assert len(admits) == 1
    assert len(await again.running.finish_lost_requests()) == 1
