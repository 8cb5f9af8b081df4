"""Going, roles and rules, through the façade: what each device shows, and what is refused with which words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cocoon_core import Cocoon
from cocoon_core.errors import NotYetError, RelayUnavailable, UnknownGroupError, UnknownMemberError, UsageError
from cocoon_core.protocol.envelope import open_envelope
from cocoon_core.protocol.invite import read_link
from cocoon_core.sync.pins import pin_devices
from cocoon_relay.tokens import TOKENS_NAME, add_token
from tests.support.hostile import topic_log
from tests.support.linking import link
from tests.support.relay_process import RelayProcess
from tests.support.world import SCHEMA, Seat, World, make_world  # noqa: F401  a fixture


def names_of(seat: Seat) -> list[str]:
    return [member.name for member in seat.group.members()]


# --- removal


async def test_who_is_removed_while_offline_and_writing_changes_nothing_and_reads_nothing(world: World) -> None:
    ana, ben, chi = await world.group("ana", "ben", "chi")
    relay = next(iter(world.relays.values()))
    await ben.group.feed.post("in time")
    await world.level()
    await ben.group.feed.post("too late")
    gone = await ana.group.remove_member("Ben")
    assert (gone.name, gone.left) == ("Ben", False)
    await ana.group.feed.post("for those who stay")
    await world.level([ana, chi])
    await ben.group.sync()
    await world.level([ana, chi])
    for seat in (ana, chi):
        assert await seat.texts() == ["in time", "for those who stay"]
        assert names_of(seat) == ["Ana", "Chi"]
        assert [former.name for former in seat.group.former_members()] == ["Ben"]
    assert await ben.texts() == ["in time"]
    assert ben.group.me is None
    assert any("put out" in alarm for alarm in ben.group.alarms())
    for act in (ben.group.feed.post("again"), ben.group.invite(), ben.group.leave(), ben.group.rotate()):
        with pytest.raises(UsageError, match="not a member"):
            await act

    now = topic_log(relay, ana.replica.epoch)
    assert now.envelopes
    for stored in ben.replica.epochs.held.values():
        for envelope in now.envelopes:
            with pytest.raises(Exception, match=r"does not open|open"):
                open_envelope(envelope, stored.epoch)
    probes = await ben.group.probe_ended()
    assert probes
    assert all(probe.refused and "sealed" in probe.reason for probe in probes)
    assert [probe.refused for probe in await ana.group.probe_ended()] == [True] * len(probes)


async def test_a_removal_is_an_admins_and_of_somebody_else(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    with pytest.raises(UsageError, match="only an admin can remove"):
        await ben.group.remove_member("Ana")
    with pytest.raises(UsageError, match="that is you"):
        await ana.group.remove_member("Ana")
    with pytest.raises(UnknownMemberError):
        await ana.group.remove_member("Zoe")
    assert names_of(ana) == ["Ana", "Ben"]
    await ana.group.remove_member("Ben")
    with pytest.raises(UnknownMemberError):
        await ana.group.remove_member("Ben")


async def test_the_removed_come_back_as_somebody_new(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    before = ben.group.me
    await ana.group.remove_member("Ben")
    link = await ana.group.invite()
    await world.level([ana])
    await ben.sync()
    with pytest.raises(UsageError, match="group forget"):
        await ben.running.join(link, member_name="Ben")
    ben.running.forget_group("Family")
    assert ben.running.groups() == []
    with pytest.raises(UnknownGroupError):
        ben.running.forget_group("Family")
    group = await ben.running.join(link, member_name="Ben")
    await world.level()
    assert group.me not in (None, before)
    assert names_of(ana) == ["Ana", "Ben"]


async def test_the_open_invites_of_the_removed_are_closed(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    link = await ben.group.invite()
    await world.level()
    await ana.group.remove_member("Ben")
    await world.level([ana])
    seat = await world.seat("eve")
    with pytest.raises((UsageError, NotYetError)):
        await seat.running.join(link, member_name="Eve")
    await world.level([ana])
    assert names_of(ana) == ["Ana"]


async def test_pins_name_what_this_device_knows_of_devices_that_count(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    await ben.group.feed.post("known")
    await world.level()
    known = ana.replica.chains[ben.device]
    await ben.group.feed.post("unknown")
    (pin,) = pin_devices(ana.replica, [ben.device])
    assert (pin.seq, pin.entry) == (known.last_seq, known.last_id)
    pins = pin_devices(ana.replica, [ben.device, ana.device, ben.device])
    assert [one.device for one in pins] == sorted([ana.device, ben.device])
    await ana.group.remove_member("Ben")
    assert pin_devices(ana.replica, [ben.device]) == ()


# --- leaving


async def test_who_leaves_is_out_everywhere_and_what_they_wrote_stays(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    with pytest.raises(UsageError, match="still in Family"):
        ben.running.forget_group("Family")
    await ben.group.feed.post("farewell")
    gone = await ben.group.leave()
    assert (gone.name, gone.left) == ("Ben", True)
    await ben.group.sync()
    before = ana.replica.epoch.topic
    await world.level([ana])
    assert names_of(ana) == ["Ana"]
    assert [(former.name, former.left) for former in ana.group.former_members()] == [("Ben", True)]
    assert await ana.texts() == ["farewell"]
    await ana.group.feed.post("alone")
    await world.level([ana])
    assert ana.replica.epoch.topic != before
    assert ana.replica.epoch.topic not in ben.replica.epochs.held
    with pytest.raises(UsageError, match="not a member"):
        await ben.group.feed.post("one more thing")


async def test_who_leaves_is_heard_though_a_phrase_of_theirs_was_given_the_secret(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    await ben.running.new_recovery_phrase()
    await world.level()
    await ana.group.rotate()
    await world.level()
    await ben.group.leave()
    await ben.sync()
    await world.level([ana])
    assert names_of(ana) == ["Ana"]


async def test_who_leaves_is_heard_though_another_device_of_theirs_linked_one_meanwhile(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    second, third = await world.seat("second"), await world.seat("third")
    await link(ben, second)
    await world.level()
    await ben.group.leave()
    await link(second, third)
    await world.level([ana, second, third])
    await ana.group.rotate()
    await world.level([ana, second, third])
    for _ in range(3):
        await ben.sync()
        await ana.sync()
    await world.level([ana])
    assert names_of(ana) == ["Ana"]
    assert not ben.group.unsent()


async def test_when_the_only_admin_leaves_the_senior_member_is_one(world: World) -> None:
    ana, ben, chi = await world.group("ana", "ben", "chi")
    await ana.group.leave()
    await ana.group.sync()
    await world.level([ben, chi])
    for seat in (ben, chi):
        assert sorted((m.name, m.role) for m in seat.group.members()) == [
            ("Ben", "admin"),
            ("Chi", "member"),
        ] or sorted((m.name, m.role) for m in seat.group.members()) == [("Ben", "member"), ("Chi", "admin")]


# --- rotation and confirmation


async def test_a_rotation_on_request_changes_the_key_and_nothing_else(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    await ana.group.feed.post("before")
    await world.level()
    before = ana.replica.epoch.topic
    await ben.group.rotate()
    await world.level()
    assert ana.replica.epoch.topic == ben.replica.epoch.topic != before
    await ana.group.feed.post("after")
    await world.level()
    assert await ben.texts() == ["before", "after"]


async def test_a_join_is_not_confirmed_until_a_manifest_holds_it(world: World) -> None:
    ana, ben = await world.group("ana", "ben", uses=3)  # the link stays open, so nothing rotates

    def confirmed(seat: Seat) -> dict[str, bool]:
        return {member.name: member.confirmed for member in seat.group.members()}

    assert confirmed(ana)["Ben"] is False
    assert confirmed(ben)["Ben"] is False
    await ana.group.rotate()
    await world.level()
    assert confirmed(ana) == confirmed(ben) == {"Ana": True, "Ben": True}


async def test_the_audit_counts_topics_and_blobs_of_all_epochs(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    await ana.group.feed.post("one document")
    await world.level()
    before = (await ana.group.audit()).relays[0]
    await ben.group.rotate()
    await world.level()
    after = (await ana.group.audit()).relays[0]
    assert len(after.topics) == len(before.topics) + 1
    assert after.blobs == before.blobs + 1  # the snapshot of the one document
    assert (await ben.group.audit()).relays[0] == after


# --- rules


async def test_rules_are_an_admins_and_hold_for_all(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    with pytest.raises(UsageError, match="only an admin can change the rules"):
        await ben.group.set_policy(max_members=3)
    changed = await ana.group.set_policy(max_members=3, inviters="admin", epoch_days=7)
    assert (changed.max_members, changed.inviters, changed.epoch_days, changed.vouches) == (3, "admin", 7, 0)
    assert (await ana.group.set_policy(max_members=3)) == changed
    await world.level()
    assert ben.group.policy == changed
    with pytest.raises(UsageError):
        await ben.group.invite()
    with pytest.raises(UsageError):
        await ana.group.invite(uses=2)
    assert await ana.group.invite()
    wrongs: list[dict[str, Any]] = [
        {"max_members": 0},
        {"max_members": 10**6},
        {"inviters": "king"},
        {"vouches": -1},
        {"vouches": 99},
        {"epoch_days": 0},
        {"relays": []},
        {"relays": ["relay.test"]},
        {"tokens": {"ws://elsewhere.test": "x"}},
        {"tokens": {ana.group.relays[0]: "two words"}},
    ]
    for wrong in wrongs:
        with pytest.raises(UsageError):
            await ana.group.set_policy(**wrong)
    assert ana.group.policy == changed


async def test_a_group_moves_to_another_relay(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    old = next(iter(world.relays.values()))
    new = world.add_relay()
    await ana.group.feed.post("at the old one")
    await world.level()
    await ana.group.set_policy(relays=[new.url])
    assert ana.group.relays == [old.url, new.url]
    await world.level()
    assert ana.group.relays == ben.group.relays == [new.url]
    old.reachable = False
    await ana.group.feed.post("at the new one")
    async with ben.group.document("list", SCHEMA).change() as doc:
        doc["items"]["moved"] = True
    await world.level()
    assert await ben.texts() == ["at the old one", "at the new one"]
    assert ana.shared()["items"] == {"moved": True}
    link = await ana.group.invite()
    await world.level()
    assert read_link(link).relays == (new.url,)
    seat = await world.seat("chi")
    await seat.running.join(link, member_name="Chi")
    assert await seat.texts() == ["at the old one", "at the new one"]


async def test_a_relay_that_is_named_no_more_is_left_only_when_level(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    old = next(iter(world.relays.values()))
    new = world.add_relay()
    await ben.group.feed.post("only here yet")
    await ana.group.set_policy(relays=[new.url])
    await world.level([ana])
    assert ana.group.relays == [new.url]
    await ben.group.sync()  # hears of the move at the old relay, and brings what it has to the new one
    assert ben.group.relays == [new.url]
    old.reachable = False
    await world.level()
    assert await ana.texts() == ["only here yet"]


async def test_a_relay_that_asks_for_a_token_gets_it_from_policy_and_link(tmp_path: Path) -> None:
    (tmp_path / "relay").mkdir()
    add_token(tmp_path / "relay" / TOKENS_NAME, "others")
    _, token = add_token(tmp_path / "relay" / TOKENS_NAME, "ours")
    for name in ("ana", "ben", "eve"):
        Cocoon.init(tmp_path / name, "secret")
    with RelayProcess(tmp_path / "relay", "--access", "token") as relay:
        async with (
            await Cocoon.open(tmp_path / "ana", "secret") as ana,
            await Cocoon.open(tmp_path / "ben", "secret") as ben,
        ):
            closed = await ana.create_group("Closed", member_name="Ana", relays=[relay.url])
            with pytest.raises(RelayUnavailable, match="token"):
                await closed.sync()
            group = await ana.create_group("Family", member_name="Ana", relays=[relay.url], tokens={relay.url: token})
            link = await group.invite()
            await group.sync()
            assert dict(read_link(link).tokens) == {relay.url: token}
            his = await ben.join(link, member_name="Ben")
            await his.feed.post("through the door")
            await his.sync()
            await group.sync()
            assert [post.text for post in await group.feed.list()] == ["through the door"]
        async with await Cocoon.open(tmp_path / "ben", "secret") as ben:
            assert (await ben.group("Family").sync()).relays[0].ok
