"""The mark that comparing safety numbers leaves: it holds while the devices are the same, and goes loudly."""

from __future__ import annotations

import pytest

from cocoon_core.errors import UnknownMemberError, UsageError
from cocoon_core.protocol.ids import MemberId
from cocoon_core.protocol.safety_number import SafetyNumber
from cocoon_core.sync.events import AlarmRaised, GroupEvent
from cocoon_core.verification import ALARM
from tests.support.linking import link
from tests.support.world import Seat, World, make_world  # noqa: F401  a fixture


def alarms_of(seat: Seat) -> list[str]:
    rows = seat.replica.groups.alarms(seat.replica.record.number)
    return [message for kind, _, message, _ in rows if kind == ALARM]


def own(seat: Seat) -> MemberId:
    me = seat.group.me
    assert me is not None
    return me


async def verified(world: World) -> tuple[Seat, Seat]:
    ana, ben = await world.group("ana", "ben")
    await ana.group.confirm_safety_number("Ben", ben.group.safety_number("Ana").digits)
    return ana, ben


async def test_both_see_the_same_number_in_every_form(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    hers, his = ana.group.safety_number("Ben"), ben.group.safety_number("Ana")
    assert (hers.words, hers.digits) == (his.words, his.digits)
    assert (hers.mark, hers.since, hers.change) == ("none", None, "")
    assert (await ana.group.confirm_safety_number("Ben", " ".join(his.words))).mark == "verified"
    assert (await ana.group.confirm_safety_number("Ben", his.digits)).since is not None


async def test_another_number_sets_no_mark(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    wrong = ben.group.safety_number("Ana").digits.replace("1", "2")
    with pytest.raises(UsageError, match="somebody is in between"):
        await ana.group.confirm_safety_number("Ben", wrong)
    assert ana.group.safety_number("Ben").mark == "none"


async def test_a_device_more_clears_the_mark_loudly(world: World) -> None:
    ana, ben = await verified(world)
    assert [member.verified for member in ana.group.members()] == [False, True]
    events: list[GroupEvent] = []
    ana.replica.listen(events.append)
    phone = await world.seat("phone")
    await link(ben, phone)
    await ana.sync()
    assert [(member.verified, member.keys_changed) for member in ana.group.members()] == [(False, False), (False, True)]
    info = ana.group.safety_number("Ben")
    assert (info.mark, info.change) == ("changed", f"new: {phone.device.hex()[:8]}")
    assert [event.kind for event in events if isinstance(event, AlarmRaised)] == [ALARM]
    assert "Ben" in alarms_of(ana)[0]
    assert phone.device.hex()[:8] in alarms_of(ana)[0]


async def test_a_removed_device_clears_it_too_and_it_does_not_come_back_by_itself(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    phone = await world.seat("phone")
    await link(ben, phone)
    await world.level([ana, ben, phone])
    await ana.group.confirm_safety_number("Ben")
    await ben.group.remove_device(phone.device.hex())
    await ben.sync()
    await world.level([ana, ben])
    assert ana.group.safety_number("Ben").mark == "changed"
    assert ana.group.safety_number("Ben").change == f"gone: {phone.device.hex()[:8]}"
    await ana.restart()
    assert ana.group.safety_number("Ben").mark == "changed"


async def test_an_own_device_more_clears_the_others_mark_and_not_ones_own(world: World) -> None:
    ana, ben = await verified(world)
    await ben.group.confirm_safety_number("Ana")
    before = ana.group.safety_number("Ben").digits
    phone = await world.seat("phone")
    await link(ana, phone)
    await world.level([ana, ben, phone])
    assert ana.group.safety_number("Ben").digits != before
    assert ana.group.safety_number("Ben").mark == "verified"
    assert ben.group.safety_number("Ana").mark == "changed"


async def test_comparing_again_ends_the_alarm_and_a_later_change_raises_it_anew(world: World) -> None:
    ana, ben = await verified(world)
    for name in ("phone", "tablet"):
        seat = await world.seat(name)
        await link(ben, seat)
        await ana.sync()
        assert len(alarms_of(ana)) == 1
        await ana.group.confirm_safety_number("Ben")
        assert alarms_of(ana) == []
        assert ana.group.safety_number("Ben").mark == "verified"


async def test_a_change_that_was_not_looked_at_before_a_crash_is_told_at_the_next_opening(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana, ben = await verified(world)
    phone = await world.seat("phone")
    await link(ben, phone)
    with monkeypatch.context() as patch:
        patch.setattr("cocoon_core.verification.Verification.check_marks", lambda self: None)
        await ana.sync()
        assert alarms_of(ana) == []
        await ana.stop()
    await ana.start()
    assert ana.group.safety_number("Ben").mark == "changed"
    assert len(alarms_of(ana)) == 1


async def test_a_mark_can_be_taken_back(world: World) -> None:
    ana, _ = await verified(world)
    await ana.group.forget_verification("Ben")
    assert ana.group.safety_number("Ben").mark == "none"


async def test_it_is_for_another_member_of_the_group(world: World) -> None:
    (ana,) = await world.group("ana")
    with pytest.raises(UsageError, match="somebody else"):
        ana.group.safety_number("Ana")
    with pytest.raises(UnknownMemberError):
        ana.group.safety_number(MemberId(bytes(32)))


async def test_attack_14_a_member_in_place_of_the_meant_one_has_another_safety_number(world: World) -> None:
    """Mal intercepts the link and joins as "Ben": the real Ben's device never shows that number."""
    ana, mal = await world.group("ana", "mal")
    link_for_ben = await ana.group.invite()
    await ana.sync()
    thief = await world.seat("thief")
    await thief.running.join(link_for_ben, member_name="Ben")
    await world.level([ana, mal, thief])
    real = await world.seat("ben")
    second = await ana.group.invite()
    await ana.sync()
    await real.running.join(second, member_name="Benjamin")
    await world.level([ana, mal, thief, real])
    shown_by_ben = real.group.safety_number(own(ana)).digits
    with pytest.raises(UsageError, match="somebody is in between"):
        await ana.group.confirm_safety_number(own(thief), shown_by_ben)
    assert (await ana.group.confirm_safety_number(own(real), shown_by_ben)).mark == "verified"


async def test_attack_14_succeeds_where_the_number_does_not_cover_the_devices(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    blind = SafetyNumber(bytes(60))
    monkeypatch.setattr("cocoon_core.verification.make_safety_number", lambda *_: blind)
    ana, mal = await world.group("ana", "mal")
    invite = await ana.group.invite()
    await ana.sync()
    real = await world.seat("ben")
    await real.running.join(invite, member_name="Benjamin")
    await world.level([ana, mal, real])
    shown_by_ben = real.group.safety_number(own(ana)).digits
    assert (await ana.group.confirm_safety_number(own(mal), shown_by_ben)).mark == "verified"
