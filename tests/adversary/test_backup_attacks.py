"""Attacks 38 to 40 on backups: what a thief finds in the file, a wrong passphrase and a lowered cost, and yesterday's
copy put back: nothing is signed twice, nothing is lost, and the restored profile never writes on the old chain.
"""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from cocoon_cli.leaks import needles_of, search_tree
from cocoon_core import Cocoon
from cocoon_core.errors import BackupDamagedError, RestoredError, UsageError, WrongPassphraseError
from cocoon_core.protocol.backup import MAGIC, PREFIX_BYTES, BackupHead
from cocoon_core.protocol.run import parse_run
from cocoon_core.storage.passphrase import COST_FLOOR, Cost
from cocoon_core.sync import replacing
from tests.support.world import SCHEMA, Seat, World, alarms, make_world, state_of  # noqa: F401  a fixture

WORDS = "a passphrase for paper"


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """The least cost that there is: how dear a guess is, is for other tests."""
    monkeypatch.setattr("cocoon_core.storage.backup.Cost", lambda *given: Cost(*given) if given else COST_FLOOR)


def back_up(seat: Seat) -> Path:
    """A backup of a running seat."""
    path = seat.world.folder / f"{seat.name}.backup"
    seat.running.backup(path, WORDS, replace=True)
    return path


async def restore(world: World, path: Path, name: str) -> Seat:
    """A new seat out of a backup, running."""
    seat = Seat(world, name, world.folder / name)
    Cocoon.restore(path, WORDS, seat.home, clock=seat.clock)
    world.seats.append(seat)
    return await seat.start()


def signed_by(seats: list[Seat], device: bytes) -> dict[int, set[bytes]]:
    """What is known anywhere of a device, signed at each seq: more than one would be a second history."""
    found: dict[int, set[bytes]] = {}
    for seat in seats:
        database = seat.replica.database
        for table in ("runs", "loose_runs", "side_runs", "parked"):
            for (wire,) in database.query(f"SELECT wire FROM {table}"):
                run = parse_run(wire, seat.replica.group).stored()
                if run.device == device:
                    for entry in run.entries:
                        found.setdefault(entry.seq, set()).add(bytes(entry.id))
    return found


async def test_attack_40_a_restored_backup_comes_in_as_a_new_device(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    await ana.group.feed.post("yesterday")
    await world.level()
    path = back_up(ana)
    await ana.group.feed.post("today")
    await ben.group.feed.post("of ben")
    await world.level([ana, ben])
    old, member = ana.device, ana.group.me
    await ana.stop()

    copy = await restore(world, path, "copy")
    assert await copy.texts() == ["yesterday"]
    with pytest.raises(RestoredError):
        await copy.group.feed.post("too early")
    with pytest.raises(RestoredError):
        await copy.group.rotate()
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
    assert any("goes on as a new one" in message for message in alarms(ben, "replaced"))
    assert await state_of(copy) == await state_of(ben)
    assert all(len(ids) == 1 for ids in signed_by([copy, ben], old).values())
    await copy.restart()
    await copy.group.feed.post("after a restart")
    await world.level([copy, ben])
    assert "after a restart" in await ben.texts()


async def test_attack_40_a_chain_that_did_not_go_on_is_left_all_the_same(world: World) -> None:
    """Nobody shows the restored profile that its device went on: it must not be trusted to be alone."""
    ana, ben = await world.group("ana", "ben")
    path, old = back_up(ana), ana.device
    await ana.group.feed.post("written, and never sent")
    await ana.stop()
    copy = await restore(world, path, "copy")
    await copy.sync()
    assert copy.device != old
    await copy.group.feed.post("of the copy")
    await world.level([copy, ben])
    assert await ben.texts() == ["of the copy"]
    assert all(len(ids) == 1 for ids in signed_by([copy, ben], old).values())


async def test_attack_40_unsent_edits_in_a_backup_are_kept(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    post = await ana.group.feed.post("unsent")
    reply = await ana.group.feed.reply(post.id, "to myself")
    async with ana.group.document("list", SCHEMA).change() as doc:
        doc["items"]["eggs"] = 2
        doc["lines"].append("one")
    path = back_up(ana)
    await ana.stop()
    copy = await restore(world, path, "copy")
    assert await copy.texts() == ["unsent"]
    await copy.sync()
    await world.level([copy, ben])
    for seat in (copy, ben):
        assert await seat.texts() == ["unsent"]
        assert (await seat.group.feed.get(reply.id)).parent == post.id
        assert seat.shared() == {"items": {"eggs": 2}, "lines": ["one"], "note": ""}
    assert alarms(copy, "edits-left") == []
    assert await state_of(copy) == await state_of(ben)


async def test_attack_40_unsent_edits_that_were_sent_since_are_there_once(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    await ana.group.feed.post("unsent then")
    path, old = back_up(ana), ana.device
    await ana.group.feed.post("later")
    await world.level([ana, ben])
    await ana.stop()
    copy = await restore(world, path, "copy")
    await copy.sync()
    await world.level([copy, ben])
    for seat in (copy, ben):
        assert sorted(await seat.texts()) == ["later", "unsent then"]
        assert seat.replica.log.forks() == {}
    assert all(len(ids) == 1 for ids in signed_by([copy, ben], old).values())
    assert await state_of(copy) == await state_of(ben)


async def test_attack_40_the_device_that_still_runs_learns_that_it_was_replaced(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    path, old = back_up(ana), ana.device
    copy = await restore(world, path, "copy")
    await copy.sync()
    await ana.group.feed.post("too late")
    await ana.sync()
    assert alarms(ana, "replaced-here")
    assert ana.group.me is None
    with pytest.raises(UsageError):
        await ana.group.feed.post("more")
    await copy.group.feed.post("of the copy")
    await world.level([copy, ben])
    assert await ben.texts() == ["of the copy"]
    assert ben.replica.log.forks() == {}
    assert all(len(ids) == 1 for ids in signed_by([ana, ben, copy], old).values())


async def test_attack_40_a_second_restore_of_one_backup_writes_nothing(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    path = back_up(ana)
    await ana.stop()
    first, second = await restore(world, path, "first"), await restore(world, path, "second")
    await first.sync()
    await second.sync()
    assert first.group.me is not None
    assert second.group.me is None
    assert alarms(second, "replaced-here")
    with pytest.raises(UsageError):
        await second.group.feed.post("not this one")
    await first.group.feed.post("goes on")
    await world.level([first, ben])
    assert await ben.texts() == ["goes on"]
    assert len(ben.replica.members.roster.devices) == 2


async def test_attack_40_a_relay_that_is_out_of_reach_is_waited_for(world: World) -> None:
    """It alone has what the device wrote last; to pin the device without it would take that away from all."""
    one, two = world.add_relay(), world.add_relay()
    ana, ben = await world.group("ana", "ben")
    path = back_up(ana)
    one.reachable = False
    await ana.group.feed.post("only at the second")
    await ana.sync()
    await ana.stop()
    one.reachable, two.reachable = True, False
    copy = await restore(world, path, "copy")
    old = copy.device
    await copy.sync()
    assert copy.device == old
    assert alarms(copy, "restored-waits")
    two.reachable = True
    await copy.sync()
    assert copy.device != old
    assert alarms(copy, "restored-waits") == []
    await world.level([copy, ben])
    assert await ben.texts() == ["only at the second"]


async def test_attack_40_a_relay_that_never_comes_back_is_waited_for_one_day(world: World) -> None:
    world.add_relay()
    two = world.add_relay()
    ana, ben = await world.group("ana", "ben")
    path = back_up(ana)
    await ana.stop()
    two.reachable = False
    copy = await restore(world, path, "copy")
    old = copy.device
    await copy.sync()
    assert copy.device == old
    world.now_ms += replacing.RESTORED_WAIT_MS
    await copy.sync()
    assert copy.device != old
    await copy.group.feed.post("goes on")
    await copy.sync()
    await ben.sync()
    assert await ben.texts() == ["goes on"]


async def test_attack_40_a_group_that_nobody_saw_yet_is_restored_and_can_be_joined(world: World) -> None:
    ana = await world.seat("ana")
    url = world.add_relay().url
    await ana.running.create_group("Family", member_name="Ana", relays=[url])
    await ana.group.feed.post("alone")
    path, old = back_up(ana), ana.device
    await ana.stop()
    copy = await restore(world, path, "copy")
    await copy.sync()
    assert copy.device != old
    assert copy.group.me is not None
    assert await copy.texts() == ["alone"]
    link = await copy.group.invite(uses=1, expires_in=timedelta(days=7))
    await copy.sync()
    ben = await world.seat("ben")
    await ben.running.join(link, member_name="Ben")
    await world.level([copy, ben])
    assert await ben.texts() == ["alone"]
    assert await state_of(copy) == await state_of(ben)


async def test_attack_40_a_rotation_in_the_backup_that_was_never_sent_does_no_harm(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    await ana.group.rotate()
    await ana.group.feed.post("in the new epoch")
    path = back_up(ana)
    await ana.stop()
    copy = await restore(world, path, "copy")
    await copy.sync()
    await world.level([copy, ben])
    await ben.group.feed.post("of ben")
    await world.level([copy, ben])
    assert sorted(await copy.texts()) == sorted(await ben.texts()) == ["in the new epoch", "of ben"]
    assert await state_of(copy) == await state_of(ben)


async def test_attack_40_a_backup_that_is_older_than_the_keys_takes_nothing_away(world: World) -> None:
    """It opens nothing of what came since. Were the old device pinned at what the backup knows, all that it wrote since
    would count no more.
    """
    ana, ben = await world.group("ana", "ben")
    path = back_up(ana)
    world.now_ms += 31 * 86_400_000
    await world.level([ana, ben], rounds=12)
    await ben.group.rotate()
    await world.level([ana, ben])
    await ana.group.feed.post("written since")
    await world.level([ana, ben])
    copy = await restore(world, path, "copy")
    old = copy.device
    await copy.sync()
    assert copy.device == old
    assert any("recovery phrase" in message for message in alarms(copy, "restored-late"))
    await world.level([ana, ben])
    assert await ben.texts() == await ana.texts() == ["written since"]
    assert ana.group.me is not None


async def test_attack_40_an_unfinished_join_is_not_restored(world: World) -> None:
    (ana,) = await world.group("ana")
    await ana.group.set_policy(vouches=1)
    link = await ana.group.invite(uses=1, expires_in=timedelta(days=7))
    await ana.sync()
    ben = await world.seat("ben")
    with pytest.raises(Exception, match="admitted"):
        await ben.running.join(link, member_name="Ben")
    path = back_up(ben)
    report = Cocoon.restore(path, WORDS, world.folder / "copy")
    assert report.dropped == 1
    async with await Cocoon.open(world.folder / "copy", clock=ben.clock, access=ben.access) as copy:
        assert copy.pending_joins() == []


async def test_attack_40_succeeds_where_what_is_restored_may_write(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The build without the mark: two devices sign one seq."""
    monkeypatch.setattr("cocoon_core.backing_up.mark_restored", lambda *_: 0)
    ana, ben = await world.group("ana", "ben")
    path, old = back_up(ana), ana.device
    copy = await restore(world, path, "copy")
    await copy.group.feed.post("of the copy")
    copy.replica.form_runs()
    await ana.group.feed.post("of the first")
    ana.replica.form_runs()
    assert any(len(ids) > 1 for ids in signed_by([ana, ben, copy], old).values())


# --- the thief


async def test_attack_38_a_backup_holds_no_word_in_the_clear(world: World) -> None:
    ana, _ = await world.group("ana", "ben")
    await ana.group.feed.post("gooseberries and marzipan")
    folder = world.folder / "stolen"
    folder.mkdir()
    ana.running.backup(folder / "file", WORDS)
    needles = needles_of(["gooseberries and marzipan", "Family", WORDS])
    assert not search_tree(folder, needles).hits
    (folder / "plain").write_text(json.dumps(["gooseberries and marzipan"]))
    assert search_tree(folder, needles).hits  # the search finds what is there
    seeds = [ana.replica.keys.signing_seed.reveal(), ana.replica.keys.hpke_seed.reveal()]
    assert all(seed not in (folder / "file").read_bytes() for seed in seeds)
    assert (folder / "file").stat().st_mode & 0o777 == 0o600


async def test_attack_39_a_wrong_passphrase_is_one_clear_error_and_writes_nothing(world: World) -> None:
    (ana,) = await world.group("ana")
    path = back_up(ana)
    with pytest.raises(WrongPassphraseError, match="does not open this backup"):
        Cocoon.restore(path, "another", world.folder / "nowhere")
    with pytest.raises(UsageError):
        Cocoon.restore(path, "", world.folder / "nowhere")
    assert not (world.folder / "nowhere").exists()


async def test_attack_39_a_cost_under_the_floor_is_refused_although_the_head_is_sound(world: World) -> None:
    (ana,) = await world.group("ana")
    path = back_up(ana)
    raw = path.read_bytes()
    length = PREFIX_BYTES + int.from_bytes(raw[len(MAGIC) : PREFIX_BYTES], "big") + 16
    for ops, memory in ((1, 8), (COST_FLOOR.ops, 8), (1000, COST_FLOOR.memory_kib), (3, 2**30)):
        head = BackupHead(ops, memory, bytes(16)).encode()
        path.write_bytes(head + raw[length:])
        with pytest.raises(BackupDamagedError, match="was changed"):
            Cocoon.restore(path, WORDS, world.folder / "nowhere")
    assert not (world.folder / "nowhere").exists()


async def test_attack_39_another_cost_or_salt_opens_nothing(world: World) -> None:
    """The head is part of every key: it cannot be swapped for one that is cheaper to guess at."""
    (ana,) = await world.group("ana")
    path = back_up(ana)
    raw = path.read_bytes()
    length = PREFIX_BYTES + int.from_bytes(raw[len(MAGIC) : PREFIX_BYTES], "big") + 16
    path.write_bytes(BackupHead(COST_FLOOR.ops + 1, COST_FLOOR.memory_kib, bytes(16)).encode() + raw[length:])
    with pytest.raises(WrongPassphraseError):
        Cocoon.restore(path, WORDS, world.folder / "nowhere")


async def test_attack_39_succeeds_where_the_floor_is_gone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    (ana,) = await world.group("ana")
    monkeypatch.setattr("cocoon_core.storage.backup.require_cost", lambda _: None)
    monkeypatch.setattr("cocoon_core.storage.backup.Cost", lambda *given: Cost(*given) if given else Cost(1, 8))
    path = back_up(ana)
    assert Cocoon.restore(path, WORDS, world.folder / "cheap").groups == 1
