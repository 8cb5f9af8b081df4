"""Beacons: when one is written and what it says; what is concluded from those of others, and what is not."""

from __future__ import annotations

import pytest

from cocoon_core.protocol.beacon import Beacon, read_beacon
from cocoon_core.protocol.constants import BEACON_HOURS, MAX_BEACON_ENDS, MAX_RELAYS
from cocoon_core.protocol.entry import Entry, EntryKind
from cocoon_core.protocol.ids import DeviceId
from cocoon_core.protocol.run import parse_run
from cocoon_core.storage.database import Database
from tests.support.hostile import Forger, HidingRelay, hide_device, inject, topic_log
from tests.support.memory_relay import MemoryRelay
from tests.support.world import Seat, World, alarms, make_world, state_of  # noqa: F401  a fixture

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


def own_beacons(seat: Seat) -> list[Entry]:
    """The beacons in a seat's chain, as runs in its log."""
    log, device = seat.replica.log, seat.device
    end = seat.replica.chains[device].last_seq
    runs = [parse_run(stored.wire, seat.replica.group).stored() for stored in log.runs_between(device, -1, end)]
    return [entry for run in runs for entry in run.entries if entry.kind is EntryKind.BEACON]


def last_beacon(seat: Seat) -> Beacon:
    return read_beacon(own_beacons(seat)[-1])


def end_of(seat: Seat, device: DeviceId) -> int:
    return seat.replica.chains[device].last_seq


# --- when


async def test_a_beacon_is_written_once_in_a_while_and_sent_in_the_same_sync(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    await ana.group.feed.post("news")
    await world.level()
    assert own_beacons(ana) == own_beacons(ben) == []
    world.now_ms += BEACON_HOURS * HOUR_MS
    report = await ben.sync()
    assert report.sent == 1
    (beacon,) = map(read_beacon, own_beacons(ben))
    assert beacon.ends == {ana.device: (end_of(ben, ana.device), ben.replica.chains[ana.device].last_id)}
    assert (beacon.number, beacon.rest) == (0, 0)
    assert beacon.relays == tuple(ben.group.relays)
    assert not ben.replica.has_unsent
    await ana.sync()
    assert ana.replica.chains[ben.device] == ben.replica.chains[ben.device]
    assert last_beacon(ana).ends == {ben.device: (end_of(ana, ben.device), ana.replica.chains[ben.device].last_id)}
    await ben.sync()
    assert ana.replica.beacons.digest() == ben.replica.beacons.digest() != beacon.digest


async def test_beacons_alone_are_no_news(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    for _ in range(5):
        world.now_ms += DAY_MS
        await world.level()
    assert len(own_beacons(ana)) == len(own_beacons(ben)) == 1
    size = len(topic_log(next(iter(world.relays.values())), ana.replica.epoch).envelopes)
    for _ in range(3):
        world.now_ms += DAY_MS
        await world.level()
    assert len(topic_log(next(iter(world.relays.values())), ana.replica.epoch).envelopes) == size


async def test_who_only_reads_tells_too_and_only_what_is_new(world: World) -> None:
    ana, ben, chi = await world.group("ana", "ben", "chi")
    world.now_ms += DAY_MS
    await world.level()
    assert last_beacon(chi).ends.keys() == {ana.device, ben.device}
    await ana.group.feed.post("one")
    await ana.sync()
    world.now_ms += DAY_MS
    await chi.sync()
    assert last_beacon(chi).ends.keys() == {ana.device}
    assert last_beacon(chi).number == 1


async def test_not_more_than_one_in_that_time_however_much_is_written(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    world.now_ms += DAY_MS
    for number in range(5):
        await ben.group.feed.post(f"post {number}")
        await world.level()
        world.now_ms += HOUR_MS
    assert len(own_beacons(ana)) == len(own_beacons(ben)) == 1


async def test_one_is_written_at_once_where_the_member_asks(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    await ben.group.sync(beacon=True)
    await ben.group.sync(beacon=True)
    assert [read_beacon(entry).number for entry in own_beacons(ben)] == [0, 1]
    assert last_beacon(ben).ends == {}
    await ana.sync()
    assert alarms(ana) == []


async def test_a_clock_that_was_set_back_does_not_silence_beacons(world: World) -> None:
    ana, _ = await world.group("ana", "ben")
    ana.skew_ms = 400 * DAY_MS
    await ana.group.feed.post("from the future")
    await ana.group.sync(beacon=True)
    ana.skew_ms = 0
    await ana.group.feed.post("from today")
    await ana.sync()
    assert len(own_beacons(ana)) == 2


async def test_none_is_written_where_no_relay_was_read_to_its_end(world: World) -> None:
    ana, _ = await world.group("ana", "ben")
    world.now_ms += DAY_MS
    assert not ana.replica.beacons.write([])
    assert ana.replica.beacons.is_due()


async def test_beacons_do_not_age_an_epoch(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    before = ana.replica.epochs.table.size(ana.replica.epoch.topic)
    await ben.group.sync(beacon=True)
    await ana.sync()
    assert ana.replica.chains[ben.device] == ben.replica.chains[ben.device]
    assert ana.replica.epochs.table.size(ana.replica.epoch.topic) == before


async def test_what_finds_no_room_is_told_by_the_next(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cocoon_core.sync.beacons.choose_ends", lambda _, __, news: sorted(news)[:2])
    names = ["ana", "ben", "chi", "dan"]
    seats = await world.group(*names)
    ana = seats[0]
    await ana.group.sync(beacon=True)
    assert (len(last_beacon(ana).ends), last_beacon(ana).rest) == (2, 1)
    world.now_ms += DAY_MS
    await ana.sync()  # what is left is news enough
    assert (len(last_beacon(ana).ends), last_beacon(ana).rest) == (1, 0)
    assert MAX_BEACON_ENDS >= 2


async def test_a_beacon_survives_a_restart_and_a_rotation(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    await ben.group.sync(beacon=True)
    await world.level()
    await ana.group.rotate()
    await world.level()
    for seat in (ana, ben):
        await seat.restart()
        await seat.group.sync(beacon=True)
    await world.level()
    assert await state_of(ana) == await state_of(ben)
    assert alarms(ana) == alarms(ben) == []


# --- what is missing


async def test_the_end_of_a_chain_that_is_withheld_from_one_is_told_by_name(world: World) -> None:
    """Ben's newest is shown to Chi and not to Ana; Chi's beacon says that it exists."""
    ana, ben, chi = await world.group("ana", "ben", "chi")
    (relay,) = world.relays.values()
    hide_device(ana, relay, ben.device, end_of(ana, ben.device))
    begin = end_of(ana, ben.device) + 1
    for number in range(3):
        await ben.group.feed.post(f"post {number}")
        await ben.sync()
    await ana.sync()
    assert alarms(ana) == []  # nothing shows it yet
    await chi.group.sync(beacon=True)
    await ana.sync()
    (alarm,) = alarms(ana, "withheld")
    assert alarm.startswith(f"entries {begin} to {begin + 2} of Ben's device {ben.device.hex()} are missing")
    assert "3 in all, noticed 2026-09" in alarm
    assert f"{relay.url} does not show them" in alarm
    assert alarm.endswith("Chi says that they exist")
    (one,) = ana.group.withheld()
    assert (one.member_name, one.device, one.count) == ("Ben", ben.device.hex(), 3)
    assert one.relays == (relay.url,)
    assert alarms(chi) == alarms(ben) == []
    await ana.restart()
    await ana.sync()
    assert alarms(ana, "withheld") == [alarm]
    ana.relays.clear()  # the relay gives in
    world.now_ms += DAY_MS
    await ana.sync()
    assert len(await ana.texts()) == 3
    assert alarms(ana) == []
    assert ana.group.withheld() == []


async def test_what_another_relay_shows_is_no_alarm_and_is_put_where_it_lacks(world: World) -> None:
    first, second = world.add_relay(), world.add_relay()
    ana, ben, chi = await world.group("ana", "ben", "chi")
    first.reachable = False
    await ben.group.feed.post("only at the second")
    await ben.sync()
    await chi.sync()
    first.reachable = True
    before = len(topic_log(first, ana.replica.epoch).envelopes)
    await chi.group.sync(beacon=True)  # before its beacon, it puts there what that tells of
    envelopes = topic_log(first, ana.replica.epoch).envelopes
    assert len(envelopes) == before + 2
    assert envelopes[-2] in topic_log(second, ana.replica.epoch).envelopes
    second.reachable = False
    await ana.sync()
    assert await ana.texts() == ["only at the second"]
    assert alarms(ana) == []


async def test_a_relay_that_cannot_be_reached_may_have_it_so_nothing_is_told_for_a_day(world: World) -> None:
    first, second = world.add_relay(), world.add_relay()
    ana, ben, chi = await world.group("ana", "ben", "chi")
    hide_device(ana, first, ben.device, end_of(ana, ben.device))
    second.reachable = False
    await ben.group.feed.post("withheld by the first")
    await ben.sync()
    await chi.group.sync(beacon=True)
    await ana.sync()
    assert alarms(ana) == []
    world.now_ms += DAY_MS
    await ana.sync()
    await ana.sync()
    (alarm,) = alarms(ana, "withheld")
    assert f"{first.url} does not show" in alarm
    assert second.url not in alarm
    second.reachable = True
    await ben.sync()
    await ana.sync()
    assert await ana.texts() == ["withheld by the first"]
    assert alarms(ana, "withheld") == []


async def test_a_gap_is_told_after_a_day_where_another_relay_cannot_be_reached(world: World) -> None:
    """Else one relay that is gone for good would let another one withhold what it likes, and nobody be told."""
    first, second = world.add_relay(), world.add_relay()
    ana, ben = await world.group("ana", "ben")
    second.reachable = False
    await ben.group.feed.post("withheld by the first")
    await ben.sync()
    hidden = topic_log(first, ana.replica.epoch).envelopes[-1]
    await ben.group.feed.post("shown by the first")
    await ben.sync()
    ana.relays[first.url] = HidingRelay(first, hidden.__eq__)
    await ana.sync()
    assert alarms(ana) == []  # the second may have it
    world.now_ms += DAY_MS
    await ana.sync()
    (alarm,) = alarms(ana, "withheld")
    assert f"{first.url} does not show" in alarm
    assert second.url not in alarm
    second.reachable = True
    await ben.sync()
    await ana.sync()
    assert await ana.texts() == ["withheld by the first", "shown by the first"]
    assert alarms(ana) == []


async def test_the_word_of_who_was_put_out_is_no_ones(world: World) -> None:
    ana, ben, chi = await world.group("ana", "ben", "chi")
    (relay,) = world.relays.values()
    hide_device(ana, relay, ben.device, end_of(ana, ben.device))
    await ben.group.feed.post("withheld")
    await ben.sync()
    await chi.group.sync(beacon=True)
    await ana.sync()
    assert len(alarms(ana, "withheld")) == 1
    await ana.group.remove_member("Chi")
    await ana.sync()
    assert alarms(ana, "withheld") == []


async def test_of_who_was_put_out_nothing_is_missed(world: World) -> None:
    ana, ben, chi = await world.group("ana", "ben", "chi")
    (relay,) = world.relays.values()
    hide_device(ana, relay, ben.device, end_of(ana, ben.device))
    await ben.group.feed.post("withheld")
    await ben.sync()
    await chi.group.sync(beacon=True)
    await ana.sync()
    assert len(alarms(ana, "withheld")) == 1
    await ana.group.remove_member("Ben")
    await ana.sync()
    assert alarms(ana, "withheld") == []


# --- what others lack


async def test_entries_that_are_withheld_from_all_alike_are_told_to_their_author(world: World) -> None:
    ana, ben, chi = await world.group("ana", "ben", "chi")
    (relay,) = world.relays.values()
    for seat in (ana, chi):
        hide_device(seat, relay, ben.device, end_of(seat, ben.device))
    begin = end_of(ben, ben.device) + 1
    await ben.group.feed.post("nobody hears me")
    await ben.sync()
    for _ in range(2):
        assert alarms(ben) == []
        for seat in (ana, chi):
            await seat.group.sync(beacon=True)
        await ben.sync()
    (alarm,) = alarms(ben, "withheld")
    assert alarm.startswith(f"entry {begin} of this device did not reach")
    assert "Ana" in alarm
    assert "Chi" in alarm
    assert relay.url in alarm
    for seat in (ana, chi):
        seat.relays.clear()
        with seat.replica.transaction():
            seat.replica.log.note_missed(relay.url, seat.replica.epoch.topic, 1)
        await seat.group.sync(beacon=True)
    await ben.sync()
    assert alarms(ben) == []


async def test_a_beacon_that_crosses_an_entry_is_no_lack(world: World) -> None:
    """Ana read before Ben's post was there, and her beacon is put after: each time anew, never twice of the same."""
    ana, ben = await world.group("ana", "ben")
    for number in range(4):
        await ana.sync()
        assert ana.replica.beacons.write(ana.group.relays, asked=True)
        await ben.group.feed.post(f"post {number}")
        await ben.sync()
        await ana.sync()
        await ben.sync()
        assert alarms(ben) == []
    await ana.group.sync(beacon=True)
    await ben.sync()
    assert alarms(ben) == []


@pytest.mark.parametrize("elsewhere", [True, False])
async def test_a_lack_counts_only_where_the_beacons_author_read_a_relay_that_is_used_here(
    world: World, elsewhere: bool
) -> None:
    """Who only met others on the local network for days cannot have been shown anything by a relay."""
    (relay,) = (world.add_relay(),)
    ana, ben = await world.group("ana", "ben")
    await ben.group.feed.post("settled")
    await ben.sync()
    await ben.sync()
    writer = Forger(ana)
    for number in range(3):
        read = "ws://elsewhere.test:1" if elsewhere else relay.url
        entry = writer.statement(4, [1, number, bytes(32), 0, [read], []])
        inject(relay, ben.replica.epoch, writer.seal(writer.run(entry)))
        await ben.sync()
    assert bool(alarms(ben, "withheld")) is not elsewhere


async def test_a_relay_that_is_new_is_not_said_to_withhold_what_only_the_others_had(world: World) -> None:
    """Chi read the new relay alone, before Ben had put there what the old one held."""
    old = world.add_relay()
    ana, ben, chi = await world.group("ana", "ben", "chi")
    await ben.group.feed.post("settled at the old one")
    for _ in range(2):
        await ben.sync()
    writer = Forger(chi)

    async def tell(number: int, relay: MemoryRelay) -> None:
        writer.epoch = ben.replica.epoch
        entry = writer.statement(4, [1, number, bytes(32), 0, [relay.url], []])
        inject(relay, ben.replica.epoch, writer.seal(writer.run(entry)))
        await ben.sync()

    await tell(0, old)
    new = world.add_relay()
    await ana.group.add_relay(new.url)
    for seat in (ana, ben):
        await seat.sync()
    await tell(1, new)
    assert alarms(ben, "withheld") == []
    await tell(2, new)  # by now it was shown there as well
    (alarm,) = alarms(ben, "withheld")
    assert new.url in alarm


async def test_a_beacon_names_not_more_relays_than_one_can(world: World) -> None:
    """While a group moves, a device reads the relays that it leaves and those that it goes to."""
    for _ in range(MAX_RELAYS + 1):
        world.add_relay()
    urls = list(world.relays)
    ana, ben = await world.group("ana", "ben", relays=[world.relays[url] for url in urls[1:]])
    await ben.group.feed.post("news")
    await world.level()
    assert ana.replica.beacons.write(urls, asked=True)
    ana.replica.form_runs()
    assert last_beacon(ana).relays == tuple(sorted(urls[1:]))


async def test_who_missed_a_beacon_concludes_nothing_from_silence(world: World) -> None:
    """Ben sleeps over a rotation: that Ana told of his entries stood in a topic which he does not read whole."""
    ana, ben, chi = await world.group("ana", "ben", "chi")
    await ana.group.sync(beacon=True)
    await ben.group.feed.post("told")
    await ben.sync()
    await ben.sync()
    for _ in range(2):
        await ana.group.sync(beacon=True)
    await ana.group.rotate()
    await ana.sync()
    await chi.sync()
    relay: MemoryRelay = next(iter(world.relays.values()))
    for log in relay.logs.values():
        if log.sealed:  # its lease is over: the last envelope is left, which leads on
            log.first, log.envelopes = log.last, log.envelopes[-1:]
    await ben.sync()
    for _ in range(3):
        await chi.group.feed.post("so that there is news")
        await chi.sync()
        await ana.group.sync(beacon=True)
        await ben.sync()
    assert alarms(ben, "withheld") == []


async def test_a_profile_of_an_earlier_version_gets_the_tables(world: World) -> None:
    (ana,) = await world.group("ana")
    database: Database = ana.replica.database
    names = {name for (name,) in database.query("SELECT name FROM sqlite_master WHERE type='table'")}
    assert names >= {"beacons", "beacon_news", "own_beacons", "missing_ends", "shown_ends"}
