"""Restored copies with entries that they had not sent, damaged copies of runs, logs and groups that are not whole."""

from __future__ import annotations

import pytest

from cocoon_core.errors import LocalStateError, UnknownGroupError, UsageError
from cocoon_core.protocol.envelope import open_envelope, seal_envelope
from cocoon_core.protocol.run import parse_run, sign_run
from cocoon_core.sync.members import Members
from tests.support.flips import flip
from tests.support.hostile import inject, topic_log
from tests.support.world import ADMIN, ADMIN_SCHEMA, Seat, World, make_world  # noqa: F401  a fixture

# --- an edit and the roster


async def two_admins(world: World) -> tuple[Seat, Seat]:
    ana, ben = await world.group("ana", "ben")
    assert ben.group.me is not None
    await ana.group.set_role(ben.group.me, "admin")
    await world.level()
    async with ana.group.document("rules", ADMIN_SCHEMA, admin=True).change() as doc:
        doc["rules"]["a"] = 1
    await world.level()
    return ana, ben


async def test_no_operation_is_written_under_an_open_edit_and_the_edit_is_kept(world: World) -> None:
    ana, ben = await two_admins(world)
    assert ana.group.me is not None
    async with ben.group.document("rules", ADMIN_SCHEMA, admin=True).change() as doc:
        doc["rules"]["b"] = 2
        with pytest.raises(UsageError, match="is open"):
            await ben.group.set_role(ana.group.me, "member")
    assert ben.shared(ADMIN) == {"rules": {"a": 1, "b": 2}}
    await ben.group.set_role(ana.group.me, "member")
    async with ben.group.document("rules", ADMIN_SCHEMA, admin=True).change() as doc:
        doc["rules"]["c"] = 3
    await world.level()
    assert ana.shared(ADMIN) == ben.shared(ADMIN) == {"rules": {"a": 1, "b": 2, "c": 3}}


async def test_a_document_that_is_edited_is_not_built_anew(world: World) -> None:
    _, ben = await two_admins(world)
    record = ben.replica.documents.find(ADMIN.document_id(ben.replica.group))
    assert record is not None
    with ben.replica.change(ADMIN) as root:
        root["rules"]["b"] = 2
        with pytest.raises(UsageError, match="is open"):
            ben.replica.shelf.rebuild(record)
    assert ben.shared(ADMIN) == {"rules": {"a": 1, "b": 2}}


async def test_an_edit_whose_document_was_loaded_anew_is_refused_and_not_half_stored(world: World) -> None:
    _, ben = await two_admins(world)
    with pytest.raises(LocalStateError, match="make it again"), ben.replica.change(ADMIN) as root:
        root["rules"]["b"] = 2
        ben.replica.load()  # as when a transaction fails under the edit
    assert ben.replica.log.pending_count() == 0
    assert ben.shared(ADMIN) == {"rules": {"a": 1}}
    with ben.replica.change(ADMIN) as root:
        root["rules"]["b"] = 2
    assert ben.shared(ADMIN) == {"rules": {"a": 1, "b": 2}}


# --- restored copies


async def test_a_copy_with_an_unsent_operation_opens_again_when_others_built_on_it(world: World) -> None:
    ana, _ = await world.group("ana", "ben", uses=1)
    link = await ana.group.invite(uses=5)
    await ana.stop()
    copy = await world.copy(ana, "copy")
    await ana.start()
    await ana.sync()
    cid = await world.seat("cid")
    await cid.running.join(link, member_name="Cid")
    await ana.stop()
    await copy.start()
    await copy.sync()
    await copy.restart()
    assert [member.name for member in copy.group.members()] == ["Ana", "Ben", "Cid"]
    assert copy.group.alarms() == []


async def test_a_copy_whose_unsent_entries_were_sent_takes_that_run_and_accuses_nobody(world: World) -> None:
    one, two = world.add_relay(), world.add_relay()
    ana, ben = await world.group("ana", "ben")
    await ana.group.feed.post("written offline")
    await ana.stop()
    copy = await world.copy(ana, "copy")
    await ana.start()
    two.reachable = False
    await ana.sync()
    await ana.stop()
    await copy.start()
    await copy.sync()
    assert copy.replica.log.pending_count() == 0
    assert copy.replica.log.outbox_size(one.url) == 0
    assert copy.replica.log.unsent_count(two.url) == 1
    assert copy.group.alarms() == []
    two.reachable, one.reachable = True, False
    await copy.sync()
    await ben.sync()
    assert await ben.texts() == ["written offline"]
    await copy.restart()
    await copy.group.feed.post("and it goes on")
    await copy.sync()
    await ben.sync()
    assert await copy.texts() == await ben.texts() == ["written offline", "and it goes on"]
    assert ben.group.alarms() == []


async def test_a_copy_that_is_behind_in_the_middle_of_a_run_keeps_one_of_each_entry(world: World) -> None:
    ana, _ = await world.group("ana", "ben")
    ana_device = ana.device
    await ana.group.feed.post("first")
    await ana.stop()
    copy = await world.copy(ana, "copy")
    await ana.start()
    await ana.group.feed.post("second")
    await ana.sync()
    await ana.stop()
    await copy.start()
    await copy.sync()
    assert copy.device != ana_device  # it goes on as a fresh one
    assert copy.replica.log.pending_count() == 0
    assert await copy.texts() == ["first", "second"]
    assert [alarm for alarm in copy.group.alarms() if "heads" in alarm] == []
    await copy.restart()
    assert await copy.texts() == ["first", "second"]


# --- damage on this disk


async def damage(seat: Seat, number: int) -> bytes:
    """One bit of a stored run is another; all is to be read anew. The run as it was."""
    replica = seat.replica
    wire = replica.log.find_wire(number)
    assert wire is not None
    with replica.transaction():
        damaged = flip(wire)
        replica.database.execute("UPDATE runs SET wire=? WHERE id=?", (damaged, number))
        for relay in replica.groups.relays(replica.record.number):
            replica.log.note_missed(relay, replica.epoch.topic, 1)
    return wire


async def test_a_damaged_run_is_put_back_from_a_relay_also_right_after_a_manifest(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    await ana.group.rotate()
    await world.level()
    await ana.group.feed.post("the first above the frontier")
    await world.level()
    for seat in (ana, ben):
        stored = seat.replica.log.run_covering(ana.device, ana.replica.chains[ana.device].last_seq)
        assert stored is not None
        wire = await damage(seat, stored.number)
        await seat.sync()
        assert seat.replica.log.find_wire(stored.number) == wire
    assert ana.group.alarms() == ben.group.alarms() == []


async def test_a_part_of_a_damaged_run_does_not_take_its_place(world: World) -> None:
    """Anybody can cut the beginning off a run: what is left bears the device's signature too."""
    ana, ben = await world.group("ana", "ben")
    relay = next(iter(world.relays.values()))
    for number in range(3):
        await ana.group.feed.post(f"post {number}")
    await world.level()
    stored = ben.replica.log.run_covering(ana.device, ana.replica.chains[ana.device].last_seq)
    assert stored is not None
    run = parse_run(stored.wire, ana.replica.group).stored()
    assert len(run.entries) == 3
    part = sign_run(run.entries[-1:], lambda d: run.descriptors[d], ana.replica.keys.signing, run.heads_digest)
    whole = topic_log(relay, ana.replica.epoch).envelopes.pop()
    inject(relay, ana.replica.epoch, seal_envelope(part.wire, ana.replica.epoch))
    wire = await damage(ben, stored.number)
    with ben.replica.transaction():
        ben.replica.log.dequeue([stored.last_id])
    await ben.sync()
    assert ben.replica.log.find_wire(stored.number) not in (wire, part.wire)
    inject(relay, ana.replica.epoch, whole)
    await ben.sync()
    assert ben.replica.log.find_wire(stored.number) == wire


# --- what relays hold


async def test_a_damaged_copy_at_a_relay_does_not_stand_for_the_run(world: World) -> None:
    one, two = world.add_relay(), world.add_relay()
    ana, ben = await world.group("ana", "ben")
    two.reachable = False
    await ana.group.invite(uses=2)
    await ana.sync()
    epoch = ana.replica.epoch
    sound = topic_log(one, epoch).envelopes[-1]
    wire = open_envelope(sound, epoch)
    inject(two, epoch, seal_envelope(flip(wire), epoch))
    two.reachable = True
    await ana.sync()
    assert sound in topic_log(two, epoch).envelopes
    one.reachable = False
    await ana.group.feed.post("hello")
    await ana.sync()
    await ben.sync()
    assert await ben.texts() == ["hello"]
    assert ben.replica.members.roster.invites.keys() == ana.replica.members.roster.invites.keys()


async def test_a_relay_that_was_rolled_back_and_has_grown_past_the_place_is_given_what_it_lost(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    relay = next(iter(world.relays.values()))
    topic = ana.replica.epoch.topic
    last = topic_log(relay, ana.replica.epoch).last
    for number in range(3):
        await ana.group.feed.post(f"ana {number}")
        await ana.sync()
    relay.rollback(topic, last)
    for number in range(5):
        await ben.group.feed.post(f"ben {number}")
        await ben.sync()
    for _ in range(4):
        await ana.sync()
        await ben.sync()
    assert len(await ana.texts()) == 8
    assert sorted(await ana.texts()) == sorted(await ben.texts())


# --- what is not whole


async def test_the_roster_is_built_from_operations_in_any_order(world: World) -> None:
    ana, _, _ = await world.group("ana", "ben", "cid")
    wires = [stored.wire for stored in ana.replica.log.runs_with_operation()]
    members = Members(ana.replica.group)
    assert members.load(reversed(wires), ()) == 0
    assert members.roster == ana.replica.members.roster
    assert members.load(wires[:1] + wires[2:], ()) == len(wires) - 2


async def test_a_group_with_an_operation_that_lacks_its_parent_can_be_read(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    await ana.group.invite()
    await ana.group.feed.post("still here")
    await world.level()
    first_invite = ben.replica.log.runs_with_operation()[1]
    with ben.replica.transaction():
        ben.replica.database.execute("DELETE FROM runs WHERE id=?", (first_invite.number,))
    await ben.restart()
    assert [group.id for group in ben.running.groups()] == [ana.group.id]
    assert any("not whole" in alarm for alarm in ben.group.alarms())
    assert [member.name for member in ben.group.members()] == ["Ana"]
    assert "still here" in await ben.texts()
    with pytest.raises(LocalStateError, match="not whole"):
        ben.replica.require_writable()


async def test_a_group_that_cannot_be_opened_hides_no_other(world: World) -> None:
    relay = world.add_relay()
    ana = await world.seat("ana")
    bad = await ana.running.create_group("Bad", member_name="Ana", relays=[relay.url])
    good = await ana.running.create_group("Good", member_name="Ana", relays=[relay.url])
    bad_id, good_id = bad.id, good.id
    with bad.replica.transaction():
        bad.replica.database.execute("UPDATE chains SET last_id=x'00' WHERE group_no=?", (bad.replica.record.number,))
    await ana.restart()
    assert [group.id for group in ana.running.groups()] == [good_id]
    assert list(ana.running.damaged_groups()) == [bad_id]
    assert ana.running.group("Good").id == good_id
    with pytest.raises(UnknownGroupError, match="cannot be opened"):
        ana.running.group("Bad")
