"""A bundle carries a group from device to device with no relay: behind, ahead, on a fork, asleep, removed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cocoon_core.errors import RelayUnavailable, StorageFullError, UnknownGroupError, UsageError
from cocoon_core.sync import bundling, manifest_blobs
from cocoon_core.sync.paging import Pager
from tests.support.world import World, make_world, state_of  # noqa: F401  a fixture


async def test_a_bundle_brings_a_device_that_is_behind_level(world: World, tmp_path: Path) -> None:
    ana, ben = await world.group("ana", "ben")
    relay = next(iter(world.relays.values()))
    relay.switch_off()
    await ana.group.feed.post("while away")
    with pytest.raises(RelayUnavailable):
        await ana.sync()
    file = tmp_path / "family.cocoon"

    exported = await ana.group.export_bundle(file)
    report = await ben.running.import_bundle(file)

    assert exported.size == file.stat().st_size
    assert report.groups[ben.group.id].received == 1
    assert await ben.texts() == ["while away"]
    relay.reachable = True
    await world.level()
    assert await state_of(ana) == await state_of(ben)


async def test_what_came_in_a_bundle_is_given_to_the_relays_by_who_took_it(world: World, tmp_path: Path) -> None:
    ana, ben, cleo = await world.group("ana", "ben", "cleo")
    relay = next(iter(world.relays.values()))
    await ana.group.feed.post("by hand")
    await ana.group.export_bundle(tmp_path / "b")
    await ana.stop()
    await ben.running.import_bundle(tmp_path / "b")
    relay.reachable = True
    await world.level([ben, cleo])
    assert await cleo.texts() == ["by hand"]


async def test_the_same_bundle_again_changes_nothing(world: World, tmp_path: Path) -> None:
    ana, ben = await world.group("ana", "ben")
    await ana.group.feed.post("once")
    await ana.group.export_bundle(tmp_path / "b")
    await ben.running.import_bundle(tmp_path / "b")
    before = await state_of(ben), ben.group.alarms()
    report = await ben.running.import_bundle(tmp_path / "b")
    assert report.groups[ben.group.id].received == 0
    assert (await state_of(ben), ben.group.alarms()) == before


async def test_who_is_ahead_is_told_what_the_author_did_not_have(world: World, tmp_path: Path) -> None:
    ana, ben = await world.group("ana", "ben")
    await ana.group.export_bundle(tmp_path / "b")
    await ben.group.feed.post("one")
    await ben.group.feed.post("two")
    imported = (await ben.running.import_bundle(tmp_path / "b")).groups[ben.group.id]
    assert (imported.received, imported.unknown_to_author) == (0, 2)
    await ben.group.export_bundle(tmp_path / "c")
    imported = (await ana.running.import_bundle(tmp_path / "c")).groups[ana.group.id]
    assert (imported.received, imported.unknown_to_author) == (2, 0)


async def test_a_member_who_slept_through_rotations_is_brought_level_with_no_relay(
    world: World, tmp_path: Path
) -> None:
    ana, ben, cleo = await world.group("ana", "ben", "cleo")
    relay = next(iter(world.relays.values()))
    for number in range(4):
        await ana.group.feed.post(f"epoch {number}")
        await ben.group.feed.post(f"of ben {number}")
        await world.level([ana, ben])
        await ana.group.rotate()
        await world.level([ana, ben])
    relay.switch_off()
    exported = await ben.group.export_bundle(tmp_path / "b")  # who did not rotate packs the snapshots again
    assert not exported.rotated
    assert exported.lacking == 0
    assert exported.blobs > 0
    report = await cleo.running.import_bundle(tmp_path / "b")
    assert report.groups[cleo.group.id].received >= 8
    assert await state_of(cleo) == await state_of(ben)
    assert cleo.group.alarms() == []
    relay.reachable = True
    await world.level()
    assert await state_of(cleo) == await state_of(ana)


async def test_a_rotation_that_came_in_a_bundle_is_handed_over_at_the_relays(world: World, tmp_path: Path) -> None:
    ana, ben, cleo = await world.group("ana", "ben", "cleo")
    await ana.group.feed.post("before")
    await ana.group.rotate()
    await ana.group.feed.post("after")
    await ana.group.export_bundle(tmp_path / "b")
    await ana.stop()
    await ben.running.import_bundle(tmp_path / "b")
    await world.level([ben, cleo])
    assert cleo.replica.epoch.topic == ben.replica.epoch.topic
    assert await cleo.texts() == ["before", "after"]
    dora = await world.seat("dora")
    link = await ben.group.invite()
    await ben.sync()
    await dora.running.join(link, member_name="Dora")
    assert await dora.texts() == ["before", "after"]


async def test_a_guest_leaves_nothing_behind(world: World, tmp_path: Path) -> None:
    ana, ben = await world.group("ana", "ben")
    await ana.group.feed.post("x")
    await ana.group.rotate()
    await ana.group.export_bundle(tmp_path / "b")
    await ben.running.import_bundle(tmp_path / "b")
    database = ben.replica.database
    tables = [name for (name,) in database.query("SELECT name FROM sqlite_master WHERE type='table'")]
    for table in tables:
        columns = {row[1] for row in database.query(f"PRAGMA table_info({table})")}
        if "relay" in columns:
            assert all(relay in world.relays for (relay,) in database.query(f"SELECT relay FROM {table}")), table


async def test_a_bundle_of_another_group_opens_nowhere(world: World, tmp_path: Path) -> None:
    (ana,) = await world.group("ana")
    ben = await world.seat("ben")
    await ben.running.create_group("Band", member_name="Ben", relays=[*world.relays])
    await ana.group.export_bundle(tmp_path / "b")
    with pytest.raises(UnknownGroupError, match="no group on this device can open this file"):
        await ben.running.import_bundle(tmp_path / "b")


async def test_an_older_bundle_rolls_nothing_back_and_is_no_alarm(world: World, tmp_path: Path) -> None:
    ana, ben = await world.group("ana", "ben")
    await ana.group.feed.post("early")
    await ana.group.export_bundle(tmp_path / "old")
    await world.level()
    await ana.group.feed.post("late")
    await ana.group.rotate()
    await ana.group.feed.post("later")
    await world.level()
    before = await state_of(ben), ben.replica.epoch.topic
    await ben.running.import_bundle(tmp_path / "old")
    assert (await state_of(ben), ben.replica.epoch.topic) == before
    assert ben.group.alarms() == []
    assert not ben.group.unsent()
    report = await ben.sync()
    assert (report.sent, report.received) == (0, 0)


async def test_a_file_is_not_replaced_unasked(world: World, tmp_path: Path) -> None:
    (ana,) = await world.group("ana")
    (tmp_path / "b").write_bytes(b"mine")
    with pytest.raises(UsageError, match="already"):
        await ana.group.export_bundle(tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"mine"
    await ana.group.export_bundle(tmp_path / "b", replaces=True)
    assert (tmp_path / "b").read_bytes().startswith(b"cocoon bundle 1\n")
    with pytest.raises(UsageError, match="itself"):
        await ana.group.export_bundle(ana.home / "profile.key", replaces=True)
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith(".")] == []


async def test_two_who_each_wrote_and_rotated_agree_after_a_file_each_way(world: World, tmp_path: Path) -> None:
    ana, ben = await world.group("ana", "ben")
    next(iter(world.relays.values())).switch_off()
    for seat in (ana, ben):
        await seat.group.feed.post(f"of {seat.name}")
        await seat.group.rotate()
        await seat.group.feed.post(f"of {seat.name}, after")
    for giver, taker in [(ana, ben), (ben, ana)] * 3:
        file = tmp_path / f"of {giver.name}"
        await giver.group.export_bundle(file, replaces=True)
        await taker.running.import_bundle(file)
    assert len(await ana.texts()) == 4
    assert await state_of(ana) == await state_of(ben)
    assert ana.replica.epoch.topic == ben.replica.epoch.topic
    next(iter(world.relays.values())).reachable = True
    await world.level()
    assert await state_of(ana) == await state_of(ben)


async def test_a_profile_restored_from_an_old_copy_is_brought_level_and_goes_on_as_a_new_device(
    world: World, tmp_path: Path
) -> None:
    ana, ben = await world.group("ana", "ben")
    await ana.group.feed.post("yesterday")
    await world.level()
    await ana.stop()
    copy = await world.copy(ana, "copy")
    await ana.start()
    await ana.group.feed.post("today")
    await ana.group.rotate()
    await world.level()
    await ana.stop()
    next(iter(world.relays.values())).switch_off()
    await ben.group.export_bundle(tmp_path / "b")
    await copy.start()
    old = copy.device
    report = await copy.running.import_bundle(tmp_path / "b")
    assert report.groups[copy.group.id].received > 0
    assert await copy.texts() == ["yesterday", "today"]
    assert copy.device != old
    next(iter(world.relays.values())).reachable = True
    await world.level([copy, ben])
    assert await state_of(copy) == await state_of(ben)


async def test_a_removed_member_learns_it_from_a_file_and_reads_nothing_after_it(world: World, tmp_path: Path) -> None:
    ana, ben = await world.group("ana", "ben")
    await ana.group.feed.post("with ben")
    await ana.group.remove_member(ana.group.find_member("ben"))
    await ana.group.feed.post("without ben")
    await ana.group.export_bundle(tmp_path / "b")
    await ben.running.import_bundle(tmp_path / "b")
    assert ben.group.me is None
    assert await ben.texts() == []  # what was written before stands in the epoch that he is not given
    assert any("put out of the group" in alarm for alarm in ben.group.alarms())
    with pytest.raises(UsageError, match="cannot write to the group"):
        await ben.group.export_bundle(tmp_path / "c")
    assert not (tmp_path / "c").exists()


async def test_blobs_that_cannot_be_made_again_are_fetched_and_else_a_new_epoch_is_begun(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana, ben, cleo = await world.group("ana", "ben", "cleo")
    relay = next(iter(world.relays.values()))
    await ana.group.feed.post("early")
    await ana.group.rotate()
    await world.level([ana, ben])
    monkeypatch.setattr(manifest_blobs, "_page_again", lambda *_: None)  # as where bzip2 differs
    monkeypatch.setattr(Pager, "_is_same_page", lambda *_: None)
    fetched = await ben.group.export_bundle(tmp_path / "fetched")
    assert (fetched.rotated, fetched.lacking) == (False, 0)
    before = ben.replica.epoch.topic
    relay.switch_off()
    rotated = await ben.group.export_bundle(tmp_path / "rotated")
    assert (rotated.rotated, rotated.lacking) == (True, 0)
    assert ben.replica.epoch.topic != before
    await cleo.running.import_bundle(tmp_path / "rotated")
    assert await cleo.texts() == ["early"]
    assert cleo.replica.epoch.topic == ben.replica.epoch.topic


async def test_a_bundle_without_blobs_is_no_reason_for_alarm_or_rotation(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana, ben, cleo = await world.group("ana", "ben", "cleo")
    await ana.group.feed.post("early")
    await world.level([ana, ben])
    await ana.group.rotate()
    await world.level([ana, ben])
    with monkeypatch.context() as patched:
        patched.setattr(bundling, "blobs_of_epoch", lambda replica, stored: [])
        await ana.group.export_bundle(tmp_path / "b")
    await cleo.running.import_bundle(tmp_path / "b")
    assert cleo.group.alarms() == []
    assert await cleo.texts() == []
    await world.level()
    assert cleo.group.alarms() == []
    assert await state_of(cleo) == await state_of(ana)


async def test_a_disk_that_fills_up_leaves_no_file(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (ana,) = await world.group("ana")
    await ana.group.feed.post("x")

    def full(number: int) -> None:
        raise OSError(28, "No space left on device")

    before = sorted(entry.name for entry in tmp_path.iterdir())
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(StorageFullError, match="no room"):
            await ana.group.export_bundle(tmp_path / "b")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == before


async def test_equal_groups_write_equal_files(world: World, tmp_path: Path) -> None:
    ana, _ = await world.group("ana", "ben")
    await ana.group.feed.post("x")
    await ana.group.rotate()
    await ana.group.export_bundle(tmp_path / "one")
    await ana.group.export_bundle(tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert (tmp_path / "one").stat().st_mode & 0o777 == 0o600
