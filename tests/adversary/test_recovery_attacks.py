"""Attacks on recovery: by the relay that holds the index, by whoever took a profile, by members. Each defence is also
taken away once, to see the attack succeed.
"""

from __future__ import annotations

import shutil

import pytest

import cocoon_core.recovery as facade
from cocoon_core.errors import NotPermittedError, NotYetError, UsageError
from cocoon_core.protocol import circle as circle_codes
from cocoon_core.protocol import recovery_index
from cocoon_core.protocol.envelope import seal_envelope
from cocoon_core.protocol.epoch import Epoch, TopicKeys
from cocoon_core.protocol.primitives import Secret
from cocoon_core.protocol.recovery import RecoveryKeys, index_mailbox, read_phrase, seal_seed
from cocoon_core.protocol.recovery_index import Index, IndexRecord, seal_index
from cocoon_core.storage.recovery import IndexWriter, RecoveryTable
from cocoon_core.sync import circle
from tests.support.memory_relay import MemoryRelay
from tests.support.world import Seat, World, make_world  # noqa: F401  a fixture

HOUR_MS = 3_600_000
EVIL = Epoch(Secret(b"\x66" * 32))
EVIL_TAG = b"\x66" * 16


async def cover(seat: Seat) -> str:
    made = await seat.running.new_recovery_phrase()
    await seat.sync()
    return made.phrase


def append(relay: MemoryRelay, keys: TopicKeys, values: list[bytes]) -> None:
    """Put values into a topic, as whoever has its keys can."""
    connection = relay.connect()
    try:
        if keys.topic not in relay.logs:
            relay.logs[keys.topic] = type(next(iter(relay.logs.values())))(next(iter(relay.logs.values())).incarnation)
        relay.logs[keys.topic].envelopes += [seal_envelope(value, keys) for value in values]
    finally:
        connection.end()


def stolen_writer(seat: Seat) -> tuple[IndexWriter, tuple[bytes, ...]]:
    """What a thief of the opened profile has for the index: not the phrase."""
    table = RecoveryTable(seat.replica.database)
    writer = table.writer()
    assert writer is not None
    return writer, tuple(seed.sealed for seed in table.seeds(seat.replica.group))


def put_index(world: World, writer: IndexWriter, *records: IndexRecord, superseded: tuple[bytes, ...] = ()) -> None:
    value, _ = seal_index(Index(EVIL_TAG, superseded, records), writer.key)
    for url, relay in world.relays.items():
        append(relay, index_mailbox(writer.secret, url), [value])


def lay_a_copy(world: World, seat: Seat) -> None:
    """All that the group holds, sealed again for an epoch of the thief's own: a copy in which nobody else reads."""
    runs = [stored.wire for stored in seat.replica.log.runs_with_operation()]
    for relay in world.relays.values():
        append(relay, EVIL, runs)


async def stolen(world: World) -> tuple[Seat, Seat, str]:
    """Ana with a phrase, and Ben; a thief copied Ana's index writer, then forged an index above hers."""
    ana, ben = await world.group("ana", "ben")
    phrase = await cover(ana)
    await world.level()
    writer, seeds = stolen_writer(ana)
    lay_a_copy(world, ana)
    record = IndexRecord(ana.replica.record.create, EVIL, (*world.relays,), seeds)
    put_index(world, writer, record, superseded=(writer.tag,))
    return ana, ben, phrase


async def test_attack_13_a_forged_index_does_not_lead_into_a_copy_of_the_group(world: World) -> None:
    ana, ben, phrase = await stolen(world)
    await ana.stop()
    again = await world.seat("ana2")
    (found,) = await again.running.use_recovery_phrase(phrase, [*world.relays])
    assert found.error is None
    assert again.replica.epoch.topic == ben.replica.epoch.topic != EVIL.topic
    await again.group.feed.post("seen by Ben")
    await again.sync()
    await ben.sync()
    assert await ben.texts() == ["seen by Ben"]


async def test_attack_13_is_seen_to_succeed_where_the_epoch_is_not_asked_about(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facade, "require_own_epoch", lambda replica: None)
    _, ben, phrase = await stolen(world)
    again = await world.seat("ana2")
    await again.running.use_recovery_phrase(phrase, [*world.relays])
    assert EVIL.topic in again.replica.epochs.held
    assert EVIL.topic not in ben.replica.epochs.held


async def test_attack_14_a_seed_of_the_thief_s_own_enrols_nobody(world: World) -> None:
    """Whoever can write the index can seal a seed to the phrase; the roster does not name its key."""
    ana, _ = await world.group("ana", "ben")
    phrase = await cover(ana)
    writer, _ = stolen_writer(ana)
    for url, relay in world.relays.items():
        relay.expire(index_mailbox(writer.secret, url).topic)
    own = RecoveryKeys(Secret(b"\x77" * 32))
    seeds = (seal_seed(own, writer.key, ana.replica.group),)
    put_index(world, writer, IndexRecord(ana.replica.record.create, ana.replica.epoch, (*world.relays,), seeds))
    again = await world.seat("ana2")
    (found,) = await again.running.use_recovery_phrase(phrase, [*world.relays])
    assert isinstance(found.error, NotPermittedError)
    assert again.running.groups() == []


@pytest.mark.parametrize("weak", [False, True])
async def test_a_thief_who_supersedes_the_true_index_does_not_hide_it(
    world: World, monkeypatch: pytest.MonkeyPatch, weak: bool
) -> None:
    if weak:  # what was superseded is forgotten
        monkeypatch.setattr(recovery_index.Indexes, "records", records_of_the_current_ones_alone)
    ana, _ = await world.group("ana", "ben")
    phrase = await cover(ana)
    writer, _ = stolen_writer(ana)
    put_index(world, writer, superseded=(writer.tag,))
    again = await world.seat("ana2")
    found = await again.running.use_recovery_phrase(phrase, [*world.relays])
    assert [one.name for one in found] == ([] if weak else ["Family"])


def records_of_the_current_ones_alone(indexes: recovery_index.Indexes) -> dict[object, list[IndexRecord]]:
    return {record.group: [record] for index in indexes.current for record in index.records}


async def test_attack_16_a_relay_that_serves_an_old_index_leads_to_the_newest_epoch(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    phrase = await cover(ana)
    await ana.running.create_group("Band", member_name="Ana", relays=[*world.relays])
    for group in ana.running.groups():
        await group.sync()
    writer, _ = stolen_writer_of(ana)
    url, relay = next(iter(world.relays.items()))
    topic = index_mailbox(writer.secret, url).topic
    assert relay.logs[topic].last == 2
    await ben.sync()
    await ana.stop()
    await ben.group.rotate()
    await ben.sync()
    relay.rollback(topic, 1)
    again = await world.seat("ana2")
    found = await again.running.use_recovery_phrase(phrase, [url])
    assert [one.name for one in found] == ["Family"]  # what is newer than the old index is not in it
    assert again.replica.epoch.topic == ben.replica.epoch.topic


def stolen_writer_of(seat: Seat) -> tuple[IndexWriter, int]:
    database = seat.running.groups()[0].replica.database
    writer = RecoveryTable(database).writer()
    assert writer is not None
    return writer, 0


async def test_attack_19_the_relay_reads_nothing_in_an_index(world: World) -> None:
    ana, _ = await world.group("ana", "ben")
    phrase = await cover(ana)
    await world.level()
    writer, seeds = stolen_writer(ana)
    held = b"".join(
        envelope for relay in world.relays.values() for log in relay.logs.values() for envelope in log.envelopes
    )
    url = next(iter(world.relays))
    assert index_mailbox(writer.secret, url).topic in world.relays[url].logs
    replica = ana.replica
    canaries = [
        b"Family",
        url.encode(),
        replica.group,
        replica.epoch.secret.reveal(),
        replica.keys.id,
        writer.tag,
        writer.secret.reveal(),
        seeds[0][:64],
        read_phrase(phrase).reveal(),
    ]
    assert not [canary for canary in canaries if bytes(canary) in held]


async def test_attack_22_a_thief_with_the_profile_does_not_come_back_once_removed_and_rephrased(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    phrase = await cover(ana)
    await ana.stop()
    shutil.copytree(ana.home, world.folder / "stolen")
    await ana.start()
    lost = ana.device
    again = await world.seat("ana2")
    await again.running.use_recovery_phrase(phrase, [*world.relays])
    await again.group.remove_device(lost.hex())
    await again.running.new_recovery_phrase()
    await world.level([again, ben])
    await again.group.feed.post("after the theft")
    await world.level([again, ben])
    await ana.stop()
    thief = Seat(world, "thief", world.folder / "stolen")
    world.seats.append(thief)
    await thief.start()
    await thief.sync()
    assert thief.group.me is None
    assert await thief.texts() == []
    secrets = [seed for seed in RecoveryTable(thief.replica.database).recovering(thief.replica.record.number)]
    assert secrets == []
    with pytest.raises(UsageError):
        await thief.group.set_guardians([m.id for m in thief.group.members() if m.name == "Ben"], 1)


async def vouched(world: World, threshold: int = 2) -> tuple[Seat, Seat, Seat, Seat, circle_codes.CircleCode]:
    """Dee's guardians are Ana, Ben and Chi; only Ben vouched."""
    ana, ben, chi, dee = await world.group("ana", "ben", "chi", "dee")
    others = [info.id for info in dee.group.members() if not info.me]
    await dee.group.set_guardians(others, threshold)
    await world.level()
    new = await world.seat("new")
    me = dee.group.me
    assert me is not None
    asked = await new.running.ask_guardians(ben.group.write_help_code(me))
    await ben.group.vouch_for_lost(asked.code, asked.words)
    await world.level([ana, ben, chi, dee])
    return ana, ben, chi, dee, circle_codes.read_circle_code(asked.code)


async def test_attack_31_one_guardian_alone_admits_nobody_whatever_program_runs(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, ben, _, dee, code = await vouched(world)
    state = ben.replica.members.roster.requests[code.request]
    seen = RecoveryTable(ben.replica.database).seen_requests(ben.replica.record.number)[code.request]
    with pytest.raises(UsageError):  # the own roster refuses it
        circle._admit(ben.replica, state.request, seen)  # type: ignore[arg-type]
    assert dee.device in ben.replica.members.roster.devices


async def test_attack_14_the_relay_or_a_guardian_cannot_exchange_the_request(world: World) -> None:
    """Whoever has the code can write into its mailbox; only the request that the code names is taken."""
    _, ben, chi, dee, code = await vouched(world)
    intruder = await world.seat("intruder")
    me = dee.group.me
    assert me is not None
    await intruder.running.ask_guardians(ben.group.write_help_code(me))
    (lost,) = RecoveryTable(intruder.running._profile.database).lost_requests()
    for relay in world.relays.values():
        del relay.logs[code.mailbox().topic].envelopes[:]
        append(relay, code.mailbox(), [circle_codes.encode_request(circle.make_request(lost))])
    with pytest.raises(NotYetError):
        await circle.fetch_request(chi.replica, chi.dial, code)


async def test_attack_14_is_seen_to_succeed_where_the_id_is_not_compared(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, ben, chi, dee, code = await vouched(world)
    intruder = await world.seat("intruder")
    me = dee.group.me
    assert me is not None
    await intruder.running.ask_guardians(ben.group.write_help_code(me))
    (lost,) = RecoveryTable(intruder.running._profile.database).lost_requests()
    for relay in world.relays.values():
        del relay.logs[code.mailbox().topic].envelopes[:]
        append(relay, code.mailbox(), [circle_codes.encode_request(circle.make_request(lost))])
    monkeypatch.setattr(circle_codes, "request_id", lambda request, group: code.request)
    assert (await circle.fetch_request(chi.replica, chi.dial, code)).device == lost.keys.id


@pytest.mark.parametrize("said", ["", "abandon " * 6, "the words of another request entirely now"])
async def test_attack_06_a_guardian_who_types_other_words_vouches_for_nobody(world: World, said: str) -> None:
    _, _, chi, _, code = await vouched(world)
    with pytest.raises(UsageError, match="not the words"):
        await chi.group.vouch_for_lost(circle_codes.write_circle_code(code), said)
    assert [len(request.vouchers) for request in chi.group.recovery_requests()] == [1]


async def test_attack_33_a_clock_that_jumps_ahead_admits_on_one_device_and_only_if_enough_vouched(world: World) -> None:
    """The delay is a device's own: its clock can shorten it for that device, and rights depend on no clock."""
    ana, ben, chi, dee, _ = await vouched(world)
    ben.skew_ms = 1000 * 24 * HOUR_MS
    await world.level([ana, ben, chi, dee])
    assert dee.group.me is not None
    assert dee.device in ana.replica.members.roster.devices
