"""A relay that shows less than it has, less than it had, or another thing to each: beacons tell it by name.

Each is also run against a build from which the defence was taken out. Implements specs/beacon.md §3 and §4.
"""

from __future__ import annotations

from typing import Any

import pytest

from cocoon_core.protocol.ids import DeviceId
from cocoon_core.sync import driver
from cocoon_core.sync.beacons import Beacons
from cocoon_core.sync.outbox import Outbox
from tests.support.hostile import Forger, HidingRelay, hide_device, inject, topic_log
from tests.support.memory_relay import MemoryRelay
from tests.support.world import Seat, World, alarms, make_world, state_of  # noqa: F401  a fixture

DAY_MS = 86_400_000


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A relay in memory answers at once or never."""
    monkeypatch.setattr(driver, "SILENCE_SECONDS", 0.01)


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A build that reads no beacon."""
    monkeypatch.setattr(Beacons, "note", lambda *_: None)


def end_of(seat: Seat, device: DeviceId) -> int:
    return seat.replica.chains[device].last_seq


def only_relay(world: World) -> MemoryRelay:
    (relay,) = world.relays.values()
    return relay


async def trio(world: World) -> tuple[Seat, Seat, Seat]:
    ana, ben, chi = await world.group("ana", "ben", "chi")
    return ana, ben, chi


def show_all(seat: Seat) -> None:
    """The relay treats this seat like the others again."""
    seat.relays.clear()


# --- 10: rolled back, and grown past the place


async def roll_one_back(world: World) -> tuple[Seat, Seat, Seat]:
    """The relay lets Ana see nothing of Ben's newest that Chi has read; then it grows past the place where that was."""
    ana, ben, chi = await trio(world)
    relay, end = only_relay(world), end_of(ana, ben.device)
    await ben.group.feed.post("shown to Chi")
    await ben.sync()
    await chi.sync()
    hide_device(ana, relay, ben.device, end)
    for number in range(3):
        await chi.group.feed.post(f"post {number}")
        await chi.sync()
        await ana.sync()
    assert await ana.texts() == ["post 0", "post 1", "post 2"]
    await chi.group.sync(beacon=True)
    await ana.sync()
    return ana, ben, chi


async def test_attack_10_a_client_that_is_rolled_back_is_told_by_the_next_beacon(world: World) -> None:
    ana, ben, chi = await roll_one_back(world)
    (alarm,) = alarms(ana, "withheld")
    assert f"of Ben's device {ben.device.hex()}" in alarm
    assert only_relay(world).url in alarm
    assert "Chi says that they exist" in alarm
    show_all(ana)
    await ana.sync()
    assert alarms(ana, "withheld") == []
    assert await state_of(ana) == await state_of(chi)


@pytest.mark.usefixtures("blind")
async def test_attack_10_succeeds_where_beacons_are_not_read(world: World) -> None:
    ana, _, _ = await roll_one_back(world)
    assert ana.group.alarms() == []


# --- 11: different histories for two members


async def fork_for_two(world: World) -> tuple[Seat, Seat, Seat]:
    """Ben signs two histories, and the relay shows one to Ana and the other one to Chi."""
    ana, ben, chi = await trio(world)
    relay = only_relay(world)
    branches = []
    for text in ("for Ana", "for Chi"):
        forger = Forger(ben)
        branches.append(forger.write((forger.feed(), forger.post(text))))
    inject(relay, ana.replica.epoch, *branches)
    for seat, hidden in ((ana, branches[1]), (chi, branches[0])):
        seat.relays[relay.url] = HidingRelay(relay, hidden.__eq__)
        await seat.sync()
    assert await ana.texts() == ["for Ana"]
    assert await chi.texts() == ["for Chi"]
    await chi.group.sync(beacon=True)
    await ana.sync()
    return ana, ben, chi


async def test_attack_11_two_histories_are_found_out_at_the_next_beacon(world: World) -> None:
    ana, ben, chi = await fork_for_two(world)
    await ana.sync()
    (alarm,) = alarms(ana, "histories")
    assert f"Ben's device {ben.device.hex()}" in alarm
    world.add_relay()  # any other way shows the proof
    await ana.group.add_relay("ws://relay1.test:8787")
    for _ in range(4):
        world.now_ms += 600_000  # whoever is not first by rank waits some minutes
        for seat in (ana, chi):
            await seat.sync()
    for seat in (ana, chi):
        assert ben.device not in seat.replica.members.roster.devices
        assert any("signed two histories" in one for one in seat.group.alarms())
        assert alarms(seat, "histories") == []
    assert await ana.texts() == await chi.texts()


@pytest.mark.usefixtures("blind")
async def test_attack_11_succeeds_where_beacons_are_not_read(world: World) -> None:
    ana, _, chi = await fork_for_two(world)
    await ana.sync()
    assert ana.group.alarms() == chi.group.alarms() == []
    assert await ana.texts() != await chi.texts()


async def split(world: World) -> tuple[Seat, Seat, Seat, MemoryRelay, MemoryRelay]:
    """The first relay keeps what Ben writes from Ana, who reads it by the second."""
    first, second = world.add_relay(), world.add_relay()
    ana, ben, chi = await trio(world)
    hide_device(ana, first, ben.device, end_of(ana, ben.device))
    await ben.group.feed.post("not by the first")
    await ben.sync()
    await chi.sync()
    await ana.sync()
    assert await ana.texts() == ["not by the first"]
    await ana.group.sync(beacon=True)
    return ana, ben, chi, first, second


async def test_attack_11_a_relay_that_shows_less_than_the_other_is_named(world: World) -> None:
    ana, ben, _, first, second = await split(world)
    (alarm,) = alarms(ana, "not-shown")
    assert first.url in alarm
    assert second.url not in alarm
    assert f"Ben's device {ben.device.hex()}" in alarm
    assert alarms(ana, "withheld") == []
    show_all(ana)
    world.now_ms += DAY_MS
    await ana.group.sync(beacon=True)
    await ana.sync()
    assert alarms(ana, "not-shown") == []


async def test_attack_11_succeeds_where_nothing_is_put_again_with_a_beacon(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Beacons, "put_again", lambda *_: None)
    ana, _, _, _, _ = await split(world)
    assert alarms(ana, "not-shown") == []


async def test_attack_11_a_relay_that_withholds_one_author_is_used_for_the_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its lie about one would cost this device all that goes by it."""
    _, _, chi, first, second = await split(world)
    second.reachable = False
    await chi.group.feed.post("by the first")
    await chi.sync()
    (ana,) = [seat for seat in world.seats if seat.name == "ana"]
    report = await ana.sync()
    assert [relay.ok for relay in report.relays] == [True, False]
    assert first.url == report.relays[0].url
    assert "by the first" in await ana.texts()


async def test_attack_11_a_relay_is_lost_for_all_where_what_it_withholds_is_put_for_ever(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Outbox, "_set_others_aside", lambda _: False)
    ana, _, _, first, _ = await split(world)
    report = await ana.sync()
    assert [relay.ok for relay in report.relays if relay.url == first.url] == [False]


# --- 12: one author withheld


async def withhold(world: World, *, by_all: bool) -> tuple[Seat, Seat, Seat]:
    """The newest of Ben's chain is kept from Ana; or from everyone."""
    ana, ben, chi = await trio(world)
    for seat in (ana, chi) if by_all else (ana,):
        hide_device(seat, only_relay(world), ben.device, end_of(seat, ben.device))
    await ben.group.feed.post("withheld")
    await ben.sync()
    for _ in range(2):
        await chi.group.sync(beacon=True)
        await ana.sync()
        await ben.sync()
    return ana, ben, chi


async def test_attack_12_the_newest_of_an_author_withheld_from_one_is_reported_by_name(world: World) -> None:
    ana, ben, chi = await withhold(world, by_all=False)
    (alarm,) = alarms(ana, "withheld")
    assert f"Ben's device {ben.device.hex()}" in alarm
    assert f"{only_relay(world).url} does not show" in alarm
    assert chi.group.alarms() == ben.group.alarms() == []


async def test_attack_12_the_newest_of_an_author_withheld_from_all_is_reported_to_the_author(world: World) -> None:
    ana, ben, chi = await withhold(world, by_all=True)
    (alarm,) = alarms(ben, "withheld")
    assert "of this device did not reach Chi" in alarm
    assert only_relay(world).url in alarm
    assert ana.group.alarms() == chi.group.alarms() == []


@pytest.mark.usefixtures("blind")
@pytest.mark.parametrize("by_all", [False, True])
async def test_attack_12_succeeds_for_the_newest_where_beacons_are_not_read(world: World, by_all: bool) -> None:
    for seat in await withhold(world, by_all=by_all):
        assert seat.group.alarms() == []


async def test_attack_12_a_relay_cannot_have_honest_members_accused_by_holding_beacons_back(world: World) -> None:
    """All of a member's beacons come late and at once: what they lacked when they were written is not held against the
    relay, since nothing was settled when the first one came.
    """
    ana, ben, _ = await trio(world)
    relay, end = only_relay(world), end_of(ben, ana.device)
    hide_device(ben, relay, ana.device, end)
    for _ in range(3):
        await ana.group.sync(beacon=True)
    await ben.group.feed.post("written later")
    show_all(ben)
    await ben.sync()
    await ben.sync()
    assert ben.group.alarms() == []


# --- 17: a removal that is shown to its author alone


async def suppress(world: World) -> tuple[Seat, Seat, Seat]:
    """The relay shows Ana that her removal of Ben ended the topic; then it takes that back, and Chi goes on there."""
    ana, ben, chi = await trio(world)
    relay, old = only_relay(world), ana.replica.epoch.topic
    before = relay.logs[old].last
    await ana.group.remove_member("Ben")
    await ana.sync()
    assert relay.logs[old].sealed
    relay.rollback(old, before)
    await chi.group.feed.post("under the old key")
    await chi.sync()
    assert chi.replica.epoch.topic == old
    world.now_ms += DAY_MS
    for seat in (ana, chi, ana, chi, ana, chi):
        await seat.sync()
    return ana, ben, chi


async def test_attack_17_a_removal_that_is_taken_back_behind_its_author_is_found_with_the_next_beacon(
    world: World,
) -> None:
    ana, ben, chi = await suppress(world)
    assert chi.replica.epoch.topic == ana.replica.epoch.topic
    for seat in (ana, chi):
        assert ben.device not in seat.replica.members.roster.devices
        assert await seat.texts() == ["under the old key"]


async def test_attack_17_succeeds_where_ended_topics_are_not_looked_at_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Beacons, "_look_at_ended", lambda *_: None)
    ana, ben, chi = await suppress(world)
    assert ben.device in chi.replica.members.roster.devices
    assert await ana.texts() == []


# --- 20: acknowledged, shown to its author, and lost


async def lose_one(world: World) -> tuple[Seat, Seat, Seat]:
    """What Ben saw stored is gone from the relay before others read it, and something else takes its place."""
    ana, ben, chi = await trio(world)
    relay = only_relay(world)
    await ben.group.feed.post("lost")
    await ben.sync()
    log = topic_log(relay, ben.replica.epoch)
    del log.envelopes[-1]
    await chi.group.feed.post("in its place")
    await chi.sync()
    await ben.sync()
    assert ben.replica.log.outbox_size(relay.url) == 0
    for _ in range(2):
        await ana.group.sync(beacon=True)
        await ben.sync()
    await ana.sync()
    return ana, ben, chi


async def test_attack_20_what_was_shown_and_then_lost_is_found_by_beacons_and_put_again(world: World) -> None:
    ana, ben, chi = await lose_one(world)
    assert "lost" in await ana.texts()
    await chi.sync()
    await ana.group.sync(beacon=True)
    await ben.sync()
    assert alarms(ben, "withheld") == []
    await world.level()
    assert await state_of(ana) == await state_of(ben) == await state_of(chi)


@pytest.mark.usefixtures("blind")
async def test_attack_20_succeeds_where_what_others_lack_is_not_noticed(world: World) -> None:
    ana, ben, _ = await lose_one(world)
    assert await ana.texts() == ["in its place"]
    assert ben.group.alarms() == []


# --- what a member can do with beacons


async def test_a_member_who_names_entries_that_do_not_exist_is_told_of_by_name_and_hides_nothing(
    world: World,
) -> None:
    ana, ben, chi = await trio(world)
    liar = Forger(ben)
    body: list[Any] = [1, 0, bytes(32), 0, [only_relay(world).url], [[bytes(chi.device), 10**6, bytes(32)]]]
    inject(only_relay(world), ana.replica.epoch, liar.seal(liar.run(liar.statement(4, body))))
    await ana.sync()
    await ana.sync()
    (alarm,) = alarms(ana, "withheld")
    assert "Ben says that they exist" in alarm
    await chi.group.feed.post("here I am")
    await chi.sync()
    await ana.sync()
    assert await ana.texts() == ["here I am"]
    await ana.group.remove_member("Ben")
    await ana.sync()
    assert alarms(ana, "withheld") == []


async def test_a_member_who_names_another_entry_accuses_nobody(world: World) -> None:
    """Without a proof, one word stands against the other, and the alarm says so."""
    ana, ben, chi = await trio(world)
    liar = Forger(ben)
    seq = end_of(ana, chi.device)
    body: list[Any] = [1, 0, bytes(32), 0, [only_relay(world).url], [[bytes(chi.device), seq, bytes(32)]]]
    inject(only_relay(world), ana.replica.epoch, liar.seal(liar.run(liar.statement(4, body))))
    await ana.sync()
    await ana.sync()
    (alarm,) = alarms(ana, "histories")
    assert alarm.startswith(f"Ben's device {ben.device.hex()} says")
    assert alarm.endswith("or this is not so")
    assert chi.device in ana.replica.members.roster.devices
    await ana.group.remove_member("Ben")
    await ana.sync()
    assert alarms(ana, "histories") == []
