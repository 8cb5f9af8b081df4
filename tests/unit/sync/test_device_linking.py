"""Linking whole profiles over relays in memory: groups and their history arrive, or nothing is left of the attempt."""

from __future__ import annotations

from typing import Any

import pytest

from cocoon_core import device_linking
from cocoon_core.errors import LinkingError, RelayUnavailable, UsageError
from cocoon_core.group import Group
from cocoon_core.protocol.device_code import read_code
from cocoon_core.protocol.envelope import envelope_hash
from tests.support.linking import Screens, link
from tests.support.world import Seat, World, alarms, make_world  # noqa: F401  a fixture


async def test_one_linking_brings_every_group_with_its_history(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    await ana.group.feed.post("before")
    await ben.group.feed.post("by ben")
    await world.level()
    band = await ana.running.create_group("Band", member_name="Ana", relays=[*world.relays])
    await band.feed.post("only here")
    await band.sync()
    phone = await world.seat("phone")
    groups, report, screens = await link(ana, phone)
    assert screens.words["new"] == screens.words["old"]
    assert len(screens.words["new"]) == 4
    assert {group.name for group in groups} == {"Family", "Band"} == {group.name for group in report.added}
    family = phone.running.group("Family")
    assert {post.text for post in await family.feed.list()} == {"before", "by ben"}
    assert [post.text for post in await phone.running.group("Band").feed.list()] == ["only here"]
    assert family.me == ana.running.group("Family").me


async def test_a_relay_that_lost_the_group_does_not_spoil_the_linking(world: World) -> None:
    lost, good = world.add_relay(), world.add_relay()
    (ana,) = await world.group("ana")
    await ana.group.feed.post("before")
    await world.level()
    lost.logs.clear()
    phone = await world.seat("phone")
    await link(ana, phone, relays=[good.url])
    assert await phone.texts() == ["before"]


async def test_a_device_linked_while_others_went_on_comes_in_though_it_cannot_place_their_rotation(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ben ends the epoch and knows nothing of Ana's phone, which is enrolled in the next one alone. What the old topic
    holds names an operation that it never shows.
    """
    ana, ben = await world.group("ana", "ben")
    await ana.group.set_role("ben", "admin")
    await world.level()
    phone = await world.seat("phone")

    async def out_of_reach(*_: Any, **__: Any) -> None:
        raise RelayUnavailable("out of reach")

    with monkeypatch.context() as patched:
        patched.setattr(Group, "sync", out_of_reach)
        await link(ana, phone)
    await ben.group.set_policy(epoch_days=20)
    with monkeypatch.context() as patched:
        patched.setattr(ben.replica.log, "queued_operations", lambda device: [])  # it goes into the new topic alone
        await ben.group.rotate()
    await ben.group.feed.post("on we go")
    for seat in (ben, ana, phone):
        await seat.sync()
    assert phone.group.me is None
    assert phone.replica.log.parked()
    for _ in range(4):
        world.now_ms += 120_000
        for seat in (phone, ana, ben):
            await seat.sync()
    await phone.sync()
    assert phone.group.me == ana.group.me
    assert await phone.texts() == ["on we go"]
    assert {seat.replica.epoch.topic for seat in (ana, ben, phone)} == {ana.replica.epoch.topic}
    assert not phone.replica.log.parked()
    assert alarms(phone, "excluded")


async def test_both_devices_write_as_one_member_and_all_see_it(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    phone = await world.seat("phone")
    await link(ana, phone)
    await phone.group.feed.post("from the phone")
    await ana.group.feed.post("from the desk")
    await world.level([ana, ben, phone])
    for seat in (ana, ben, phone):
        posts = await seat.group.feed.list()
        assert {(post.text, post.author_id) for post in posts} == {
            ("from the phone", ana.group.me),
            ("from the desk", ana.group.me),
        }
    assert [len(member.devices) for member in ben.replica.members.roster.members.values()] == [2, 1]


async def test_keys_of_the_new_device_are_fresh_in_every_group(world: World) -> None:
    (ana,) = await world.group("ana")
    await ana.running.create_group("Band", member_name="Ana", relays=[*world.relays])
    phone = await world.seat("phone")
    groups, _, _ = await link(ana, phone)
    keys = [group.replica.keys for group in groups]
    assert len({one.id for one in keys}) == len({one.hpke_public for one in keys}) == 2


async def test_the_history_of_before_a_rotation_arrives_too(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    await ana.group.feed.post("first epoch")
    await ben.group.feed.post("by ben")
    await world.level()
    await ana.group.rotate()
    await ana.sync()
    await ben.sync()
    await ben.group.feed.post("second epoch")
    await world.level()
    phone = await world.seat("phone")
    await link(ana, phone)
    assert {post.text for post in await phone.group.feed.list()} == {"first epoch", "by ben", "second epoch"}
    await phone.group.feed.post("from the phone")
    await phone.sync()
    await ben.sync()
    assert "from the phone" in {post.text for post in await ben.group.feed.list()}


async def test_a_rotation_between_offer_and_enrolment_is_followed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana, ben = await world.group("ana", "ben")
    await ana.group.feed.post("first epoch")
    await world.level()
    enrol = device_linking._OldSide._enrol

    async def rotate_first(self: Any, enrolments: Any) -> Any:
        await ben.group.rotate()
        await ben.sync()
        await ben.group.feed.post("second epoch")
        await ben.sync()
        return await enrol(self, enrolments)

    monkeypatch.setattr(device_linking._OldSide, "_enrol", rotate_first)
    phone = await world.seat("phone")
    await link(ana, phone)
    for _ in range(2):
        for seat in (phone, ana, ben):
            await seat.sync()
    assert {post.text for post in await phone.group.feed.list()} == {"first epoch", "second epoch"}
    assert phone.replica.epoch.topic == ana.replica.epoch.topic == ben.replica.epoch.topic


async def test_a_device_that_another_one_rotated_past_comes_in_with_the_next_rotation(world: World) -> None:
    """Ben, who has not heard of the phone, rotates at the same time as Ana enrols it."""
    ana, ben = await world.group("ana", "ben")
    phone = await world.seat("phone")
    await ana.group.feed.post("first epoch")
    await world.level([ana, ben])
    await ben.group.rotate()
    await ben.group.feed.post("second epoch")
    await link(ana, phone)  # what Ben wrote is not at the relay yet
    await ben.sync()
    for _ in range(4):
        for seat in (ben, ana, phone):
            await seat.sync()
    assert {post.text for post in await phone.group.feed.list()} == {"first epoch", "second epoch"}
    assert phone.replica.epoch.topic == ana.replica.epoch.topic == ben.replica.epoch.topic


async def test_only_chosen_groups_pass(world: World) -> None:
    (ana,) = await world.group("ana")
    band = await ana.running.create_group("Band", member_name="Ana", relays=[*world.relays])
    phone = await world.seat("phone")
    groups, _, _ = await link(ana, phone, groups=[band])
    assert [group.name for group in groups] == ["Band"]
    again, report, _ = await link(ana, phone)
    assert [group.name for group in again] == ["Family"]
    assert [group.name for group in report.left_out] == ["Band"]


async def test_a_linked_device_links_the_next_and_can_be_removed(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    phone, tablet = await world.seat("phone"), await world.seat("tablet")
    await link(ana, phone)
    await link(phone, tablet)
    await world.level([ana, ben, phone, tablet])
    assert len([device for device in ben.group.devices() if device.member == ana.group.me]) == 3
    await tablet.group.remove_device(phone.device.hex())
    await tablet.sync()
    await world.level([ana, ben, tablet])
    assert len([device for device in ben.group.devices() if device.member == ana.group.me]) == 2
    assert phone.device not in ben.replica.members.roster.devices


async def test_a_no_leaves_nothing_on_either_side(world: World) -> None:
    (ana,) = await world.group("ana")
    before = ana.replica.members.roster.heads
    for says in ({"new": False}, {"old": False}):
        phone = await world.seat(f"phone{len(world.seats)}")
        with pytest.raises(LinkingError, match="words differ"):
            await link(ana, phone, screens=Screens(**says))
        assert phone.running.groups() == []
        assert not phone.running._table.all()
    assert ana.replica.members.roster.heads == before


async def test_attack_06_a_code_is_taken_once_by_the_same_device_too(world: World) -> None:
    (ana,) = await world.group("ana")
    phone = await world.seat("phone")
    _, _, screens = await link(ana, phone)
    with pytest.raises(LinkingError, match="answered before"):
        await ana.running.accept_device(screens.code.result(), confirm=screens.confirm_old)


async def test_a_code_that_nobody_waits_at_says_so(world: World) -> None:
    (ana,) = await world.group("ana")
    phone = await world.seat("phone")
    screens = Screens()
    url = next(iter(world.relays))
    with pytest.raises(LinkingError, match="no other device answered"):
        await phone.running.link_device([url], show_code=screens.show_code, confirm=screens.confirm_new, patience=0)
    code = screens.code.result()
    with pytest.raises(LinkingError, match="other device stopped"):
        await ana.running.accept_device(code, confirm=screens.confirm_old)
    del world.relays[url].logs[read_code(code).mailbox().topic]
    with pytest.raises(LinkingError, match="no device waits"):
        await ana.running.accept_device(code, confirm=screens.confirm_old)


async def test_without_a_relay_nothing_begins(world: World) -> None:
    phone = await world.seat("phone")
    relay = world.add_relay()
    relay.switch_off()
    screens = Screens()
    with pytest.raises(RelayUnavailable):
        await phone.running.link_device([relay.url], show_code=screens.show_code, confirm=screens.confirm_new)
    with pytest.raises(UsageError, match="at which relay"):
        await phone.running.link_device(show_code=screens.show_code, confirm=screens.confirm_new)
    assert not screens.code.done()


async def test_a_linking_cut_off_after_the_answer_is_finished_later(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old device enrols and then is gone: its last letter never comes."""
    (ana,) = await world.group("ana")
    await ana.group.feed.post("hello")
    await world.level()
    phone = await world.seat("phone")
    from cocoon_core.protocol.device_link import LinkSession

    monkeypatch.setattr(LinkSession, "enrolled", lambda self, enrolled: _crash())
    with pytest.raises((LinkingError, RuntimeError)):
        await link(ana, phone)
    assert phone.running.groups() == []
    await phone.restart()
    assert phone.running.groups() == []
    (group,) = await phone.running.finish_linking()
    assert group.me == ana.group.me
    assert [post.text for post in await group.feed.list()] == ["hello"]
    assert await phone.running.finish_linking() == []


def _crash() -> list[object]:
    raise RuntimeError("the old device was cut off")


async def test_a_linking_that_never_came_about_is_forgotten_after_a_day(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    (ana,) = await world.group("ana")
    phone = await world.seat("phone")

    async def crash(*_: object) -> list[object]:
        raise RuntimeError("the old device was cut off")

    monkeypatch.setattr(device_linking._OldSide, "_enrol", crash)
    with pytest.raises((LinkingError, RuntimeError)):
        await link(ana, phone)
    assert await phone.running.finish_linking() == []
    assert len(phone.running._table.all()) == 1
    world.now_ms += 25 * 3_600_000
    assert await phone.running.finish_linking() == []
    assert phone.running._table.all() == []


async def test_a_relay_cannot_join_the_mailbox_and_a_group_by_anything_that_it_holds(world: World) -> None:
    (ana,) = await world.group("ana")
    phone = await world.seat("phone")
    _, _, screens = await link(ana, phone)
    relay = next(iter(world.relays.values()))
    mailbox = read_code(screens.code.result()).mailbox().topic
    letters = relay.logs[mailbox].envelopes
    others = [envelope for topic, log in relay.logs.items() if topic != mailbox for envelope in log.envelopes]
    assert len(letters) == 7
    assert not {envelope_hash(one) for one in letters} & {envelope_hash(one) for one in others}
    raw = b"".join(letters)
    for known in (ana.group.id, ana.device, phone.device, ana.replica.epoch.topic, b"Family"):
        assert bytes(known) not in raw
