"""Runs that cannot be placed yet, and those for which there was no room: kept, bounded, fetched again, over crashes."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from cocoon_core.errors import RelayUnavailable
from cocoon_core.protocol.envelope import seal_envelope
from cocoon_core.protocol.run import parse_run, sign_run
from cocoon_core.sync import receiving
from cocoon_core.sync.driver import RelayDriver
from tests.support.dying import dies_after
from tests.support.flips import flip
from tests.support.hostile import Forger, inject, topic_log
from tests.support.memory_relay import MemoryRelay
from tests.support.world import Seat, World, alarms, make_world, state_of  # noqa: F401  a fixture


async def three_runs(world: World) -> tuple[Seat, Seat, MemoryRelay, list[bytes]]:
    """Three runs of Ana that Ben has not seen, taken off the relay."""
    ana, ben = await world.group("ana", "ben")
    relay = next(iter(world.relays.values()))
    log = topic_log(relay, ana.replica.epoch)
    there = len(log.envelopes)
    for number in range(3):
        await ana.group.feed.post(f"post {number}")
        await ana.sync()
    taken = log.envelopes[there:]
    del log.envelopes[there:]
    return ana, ben, relay, taken


async def test_an_early_run_waits_over_a_restart(world: World) -> None:
    ana, ben, relay, (first, second, third) = await three_runs(world)
    inject(relay, ana.replica.epoch, third, second)
    await ben.sync()
    assert len(ben.replica.log.parked()) == 2
    await ben.restart()
    inject(relay, ana.replica.epoch, first)
    await ben.sync()
    assert await ben.texts() == ["post 0", "post 1", "post 2"]
    assert ben.replica.log.parked() == []


async def test_a_part_of_a_run_does_not_keep_the_whole_out(world: World) -> None:
    """A signature is over the last entry, so anybody can cut a run's beginning off: the rest must not displace it."""
    ana, ben = await world.group("ana", "ben")
    relay = next(iter(world.relays.values()))
    for number in range(3):
        await ana.group.feed.post(f"post {number}")
    await ana.sync()
    await ana.group.invite()
    await ana.sync()
    await ana.group.feed.post("after the operation")
    await ana.sync()
    log = topic_log(relay, ana.replica.epoch)
    whole, operation, after = log.envelopes[-3:]
    del log.envelopes[-3:]
    stored = ana.replica.log.run_covering(ana.device, ana.replica.chains[ana.device].last_seq - 2)
    assert stored is not None
    assert seal_envelope(stored.wire, ana.replica.epoch) == whole
    run = parse_run(stored.wire, ana.replica.group).stored()
    cut = sign_run(run.entries[-1:], lambda d: run.descriptors[d], ana.replica.keys.signing, run.heads_digest)
    assert cut.signature == run.signature
    inject(relay, ana.replica.epoch, after, seal_envelope(cut.wire, ana.replica.epoch), operation)
    await ben.sync()
    assert await ben.texts() == []
    inject(relay, ana.replica.epoch, whole)
    await ben.sync()
    assert await ben.texts() == ["post 0", "post 1", "post 2", "after the operation"]


async def test_what_there_was_no_room_for_is_fetched_again_even_after_a_crash(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiving, "PARK_DEVICE_BYTES", 10)
    ana, ben, relay, (first, second, third) = await three_runs(world)
    inject(relay, ana.replica.epoch, third, second, first)
    await ben.sync()
    assert await ben.texts() == ["post 0"]

    async def dial(url: str) -> object:
        connection = relay.connect()
        send = connection.send

        async def die_after_open(raw: bytes) -> None:
            await send(raw)
            raise RelayUnavailable("cut right after the open")

        connection.send = die_after_open  # type: ignore[method-assign]
        return connection

    for _ in range(2):
        with pytest.raises(RelayUnavailable):
            await RelayDriver(ben.replica, relay.url, dial, ben.dial_blobs).sync_once()  # type: ignore[arg-type]
        await ben.restart()
    for _ in range(2):
        await ben.sync()
    assert await ben.texts() == ["post 0", "post 1", "post 2"]


async def test_runs_that_name_operations_to_come_wait_for_them(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    relay = next(iter(world.relays.values()))
    log = topic_log(relay, ana.replica.epoch)
    there = len(log.envelopes)
    await ana.group.set_role("Ben", "admin")
    await ana.sync()
    await ben.sync()
    await ben.group.feed.post("knowing it")
    await ben.sync()
    operation, post = log.envelopes[there:]
    log.envelopes[there:] = [post, operation]
    link = await ana.group.invite()
    await world.level()
    late = await world.seat("late")
    await late.running.join(link, member_name="Late")
    assert await late.texts() == ["knowing it"]


async def test_garbage_under_anothers_name_takes_none_of_their_room(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana, ben, relay, (first, second, third) = await three_runs(world)
    far = Forger(ana)
    far.seq += 50
    wire = far.run(far.entry((far.feed(), far.post("far")))).wire
    inject(relay, ana.replica.epoch, far.seal(flip(wire)))
    await ben.sync()
    assert ben.replica.log.parked_bytes() == {}
    inject(relay, ana.replica.epoch, third, second, first)
    await ben.sync()
    assert await ben.texts() == ["post 0", "post 1", "post 2"]


async def test_a_join_that_dies_after_any_of_its_transactions_can_be_made_again(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The invite waits in the new epoch's topic for the manifest there, and nothing but that manifest would free it."""
    ana, ben = await world.group("ana", "ben")
    await ben.group.feed.post("before")
    await world.level()
    await ana.group.rotate()
    deaths, died = 0, True
    while died:
        link = await ana.group.invite(uses=1)
        await ana.sync()
        joiner = await world.seat(f"joiner{deaths}")
        join = partial(joiner.running.join, link, member_name=joiner.name)
        died = await dies_after(monkeypatch, joiner, deaths, join, tmp_path / f"after{deaths}")
        if died:
            if not joiner.has_group:
                await joiner.running.join(link, member_name=joiner.name)
            deaths += 1
        await world.level()
        assert await state_of(joiner) == await state_of(ana)
        await ana.group.remove_member(joiner.group.me or "")
        await ana.sync()
    assert deaths > 5


async def test_a_relay_that_has_what_is_put_again_is_not_said_to_have_lost_it(world: World) -> None:
    relay = world.add_relay()
    relay.limits["put_envelopes"] = 1
    ana, ben = await world.group("ana", "ben")
    await world.level()
    await ana.group.feed.post("written first")
    ana.replica.form_runs()
    await ben.group.feed.post("sent first")
    await ben.sync()
    await ana.sync()
    log = ana.replica.log
    runs = [log.run_covering(seat.device, ana.replica.chains[seat.device].last_seq) for seat in (ana, ben)]
    for run in runs:
        assert run is not None
        log.enqueue(relay.url, run.number, run.last_id)
    report = await ana.sync()
    assert all(one.ok for one in report.relays)
    assert log.outbox_size(relay.url) == 0
    assert not alarms(ana)
