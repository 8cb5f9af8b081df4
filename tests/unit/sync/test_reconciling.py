"""After a gap of any kind exactly what is missing is sent, by names, from any relay; all of it to who holds nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace

import pytest

from cocoon_core.errors import RelayUnavailable
from cocoon_core.protocol.envelope import seal_envelope
from cocoon_core.protocol.epoch import TopicKeys
from cocoon_core.protocol.frames import (
    Entries,
    Error,
    ErrorCode,
    Fetched,
    Listed,
    Live,
    Opened,
    Put,
    RelayFrame,
    decode_client_frame,
)
from cocoon_core.protocol.ids import TopicId
from cocoon_core.sync import readers, reconciling
from tests.support.flips import flip
from tests.support.hostile import inject, topic_log
from tests.support.memory_relay import MemoryConnection, MemoryLog, MemoryRelay
from tests.support.world import Seat, World, make_world, state_of  # noqa: F401  a fixture

POSTS = 12


@pytest.fixture(autouse=True)
def few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dozen envelopes are many here."""
    monkeypatch.setattr(reconciling, "SENT_AT_ONCE", 2)


class CountingRelay(MemoryRelay):
    """Keeps every envelope that it sent, and answers in small pieces."""

    def __init__(self, url: str = "ws://relay0.test:8787", seed: int = 0) -> None:
        super().__init__(url, seed)
        self.sent: list[bytes] = []
        self.heard: list[bytes] = []
        self.listed = 0
        self.most_names = 5
        self.limits = {"names": 5, "fetch_places": 3}

    def outgoing(self, connection: MemoryConnection, frame: RelayFrame) -> Iterable[RelayFrame]:
        if isinstance(frame, Entries | Fetched):
            self.sent += [envelope for envelope in frame.envelopes if envelope is not None]
        if isinstance(frame, Listed):
            self.listed += len(frame.names)
        return (frame,)

    def handle(self, connection: MemoryConnection, raw: bytes) -> None:
        self.heard.append(raw)
        super().handle(connection, raw)

    def forget(self) -> None:
        self.sent.clear()
        self.listed = 0


async def filled(world: World, relays: int = 1, posts: int = POSTS) -> tuple[Seat, Seat, list[CountingRelay]]:
    """Two members who are level, with so many runs in the current topic."""
    made = [CountingRelay(f"ws://relay{number}.test:8787", seed=number) for number in range(relays)]
    for relay in made:
        world.add_relay(relay)
    ana, ben = await world.group("ana", "ben", relays=made)
    for number in range(posts):
        await ana.group.feed.post(f"post {number}")
        await ana.sync()
    await world.level()
    for relay in made:
        relay.forget()
    return ana, ben, made


async def write(seat: Seat, *texts: str) -> list[bytes]:
    """Posts, each in an envelope of its own in the current topic of the first relay: those."""
    relay = seat.world.relays[seat.replica.groups.relays(seat.replica.record.number)[0]]
    log = topic_log(relay, seat.replica.epoch)
    there = len(log.envelopes)
    for text in texts:
        await seat.group.feed.post(text)
        await seat.sync()
    return log.envelopes[there:]


def own(seat: Seat, log: MemoryLog) -> list[bytes]:
    """What this seat wrote, as it stands in the log."""
    ends = seat.replica.log.ends_before(1 << 53, 1000)
    wires = [seat.replica.log.run(number).wire for number, device, _ in ends if device == seat.device]
    sealed = {seal_envelope(wire, seat.replica.epoch) for wire in wires}
    return [envelope for envelope in log.envelopes if envelope in sealed]


# --- each kind of gap


async def test_a_second_relay_is_not_sent_what_the_first_has_sent(world: World) -> None:
    ana, ben, (first, second) = await filled(world, relays=2)
    new = await write(ana, *(f"new {number}" for number in range(8)))
    first.forget()
    second.forget()
    await ben.sync()
    assert first.sent == new
    assert second.sent == []
    assert second.listed == 8
    assert len(await ben.texts()) == POSTS + 8


async def test_a_relay_that_was_never_read_is_read_by_its_names(world: World) -> None:
    ana, ben, (first, _) = await filled(world, relays=2)
    replica = ben.replica
    with replica.transaction():
        replica.database.execute("DELETE FROM cursors WHERE relay=?", (first.url,))
    (new,) = await write(ana, "new")
    first.forget()
    await ben.sync()
    assert first.sent == [new]
    assert first.listed == len(topic_log(first, replica.epoch).envelopes)
    assert ben.group.alarms() == []


async def test_a_topic_that_expired_is_filled_again_and_only_what_is_missing_is_sent(world: World) -> None:
    ana, ben, (relay,) = await filled(world)
    relay.expire(ana.replica.epoch.topic)
    await ana.sync()  # she is first, and puts everything again
    (new,) = await write(ana, "new")
    relay.forget()
    await ben.sync()
    assert relay.sent == [new]
    assert any("given everything again" in alarm for alarm in ben.group.alarms())
    log = topic_log(relay, ben.replica.epoch)
    assert len(log.envelopes) == len(set(log.envelopes))
    assert ben.replica.log.outbox_size(relay.url) == 0
    relay.forget()
    await world.level()
    assert relay.sent == []
    assert await state_of(ana) == await state_of(ben)


async def test_a_relay_that_was_rolled_back_is_sent_what_it_lost_and_sends_only_what_is_missing(world: World) -> None:
    ana, ben, (relay,) = await filled(world)
    (lost,) = await write(ana, "lost")
    await ben.sync()
    relay.rollback(ben.replica.epoch.topic, 9)
    later = (await write(ben, "of Ben, after it"))[-1]
    assert lost in topic_log(relay, ben.replica.epoch).envelopes
    relay.forget()
    await ana.sync()
    assert relay.sent == [later]
    assert await state_of(ana) == await state_of(ben)


async def test_an_older_copy_of_a_profile_is_sent_what_came_since(world: World) -> None:
    ana, ben, (relay,) = await filled(world, posts=6)
    await ben.stop()
    copy = await world.copy(ben, "ben as he was")
    new = await write(ana, *(f"new {number}" for number in range(6)))
    await copy.start()
    relay.forget()
    await copy.sync()
    assert relay.sent == new
    assert await state_of(copy) == await state_of(ana)


async def test_a_topic_that_is_to_be_read_anew_is_listed(world: World) -> None:
    _, ben, (relay,) = await filled(world)
    with ben.replica.transaction():
        ben.replica.log.note_missed(relay.url, ben.replica.epoch.topic, 1)
    await ben.sync()
    assert relay.sent == []
    assert relay.listed == len(topic_log(relay, ben.replica.epoch).envelopes)
    assert ben.replica.log.outbox_size(relay.url) == 0  # the names showed everything


@pytest.mark.parametrize("limits", [{}, {"names": 5, "fetch_places": 3}])
async def test_what_is_read_anew_counts_once_for_the_age_of_an_epoch(world: World, limits: dict[str, int]) -> None:
    _, ben, (relay,) = await filled(world)
    topic = ben.replica.epoch.topic
    relay.limits = limits
    before = ben.replica.epochs.table.size(topic)
    for _ in range(3):
        with ben.replica.transaction():
            ben.replica.log.note_missed(relay.url, topic, 1)
        await ben.sync()
    assert (
        ben.replica.epochs.table.size(topic)
        == before
        == (
            len(topic_log(relay, ben.replica.epoch).envelopes),
            sum(map(len, topic_log(relay, ben.replica.epoch).envelopes)),
        )
    )


async def test_runs_that_wait_and_runs_that_were_withheld_are_told_apart(world: World) -> None:
    ana, ben, (relay,) = await filled(world)
    log = topic_log(relay, ana.replica.epoch)
    gone, kept, last = await write(ana, "withheld", "shown", "and this")
    log.envelopes.remove(gone)
    await ben.sync()
    assert any("are missing" in alarm for alarm in ben.group.alarms())
    inject(relay, ana.replica.epoch, gone)
    relay.forget()
    await ben.sync()
    assert relay.sent == [gone]
    assert {kept, last} <= set(log.envelopes)
    assert (await ben.texts())[-3:] == ["withheld", "shown", "and this"]


async def test_a_run_that_is_damaged_here_is_fetched_and_takes_the_place_of_the_damaged_one(world: World) -> None:
    _, ben, (relay,) = await filled(world)
    replica = ben.replica
    (number, wire), *_ = replica.database.query(
        "SELECT id, wire FROM runs WHERE group_no=? ORDER BY id DESC", (replica.record.number,)
    )
    damaged = flip(wire)
    with replica.transaction():
        replica.database.execute("UPDATE runs SET wire=? WHERE id=?", (damaged, number))
        replica.log.note_missed(relay.url, replica.epoch.topic, 1)
    relay.heard.clear()
    await ben.sync()
    assert relay.sent == [seal_envelope(wire, replica.epoch)]
    assert replica.log.find_wire(number) == wire
    assert not any(isinstance(decode_client_frame(raw), Put) for raw in relay.heard)


# --- two relays at the same time


async def test_a_newcomer_is_sent_a_topic_by_one_of_two_relays(world: World) -> None:
    ana, _, (first, second) = await filled(world, relays=2)
    link = await ana.group.invite()
    await ana.sync()
    topic = set(topic_log(first, ana.replica.epoch).envelopes)
    first.forget()
    second.forget()
    cleo = await world.seat("cleo")
    await cleo.running.join(link, member_name="Cleo")
    sent = [envelope for envelope in [*first.sent, *second.sent] if envelope in topic]
    assert set(sent) == topic
    assert len(sent) <= len(topic) + 2  # what a relay sends without being asked for names
    assert len(await cleo.texts()) == POSTS


@pytest.mark.parametrize("slow", [0, 1])
async def test_a_relay_that_brings_nothing_loses_its_turn(
    world: World, monkeypatch: pytest.MonkeyPatch, slow: int
) -> None:
    monkeypatch.setattr("cocoon_core.sync.readers.PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr("cocoon_core.sync.driver.SILENCE_SECONDS", 0.5)
    ana, ben, relays = await filled(world, relays=2)
    new = await write(ana, *(f"new {number}" for number in range(8)))
    monkeypatch.setattr(
        relays[slow],
        "outgoing",
        lambda _, frame: () if isinstance(frame, Entries | Listed | Fetched | Live) else (frame,),
    )
    relays[1 - slow].forget()
    report = await ben.sync()
    assert [relay.ok for relay in report.relays].count(True) == 1
    assert relays[1 - slow].sent == new
    assert len(await ben.texts()) == POSTS + 8


class DrippingRelay(CountingRelay):
    """Of one topic, sends what opens to nothing for ever, and nothing else."""

    dripped: TopicId | None = None

    def outgoing(self, connection: MemoryConnection, frame: RelayFrame) -> Iterable[RelayFrame]:
        is_drop = isinstance(frame, Entries) and frame.envelopes[0] == bytes(40_000)
        if is_drop or getattr(frame, "topic", None) != self.dripped:
            return (frame,)
        if isinstance(frame, Opened):
            self.tasks.append(asyncio.create_task(self._drip(connection, frame)))
            return (replace(frame, last=frame.last - 7),)  # so little that it is not asked for names
        return () if isinstance(frame, Entries | Listed | Fetched | Live) else (frame,)

    def __init__(self) -> None:
        super().__init__()
        self.tasks: list[asyncio.Task[None]] = []

    async def _drip(self, connection: MemoryConnection, opened: Opened) -> None:
        place = opened.last - 8
        while True:
            place += 1
            connection.deliver(Entries(opened.topic, place, (bytes(40_000),)))
            while connection.waiting:
                await asyncio.sleep(0)


async def test_attack_08_a_relay_that_drips_what_opens_to_nothing_holds_no_other_one_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cocoon_core.sync.readers.PATIENCE_SECONDS", 0.05)
    dripping, honest = DrippingRelay(), CountingRelay("ws://relay1.test:8787", seed=1)
    for relay in (dripping, honest):
        world.add_relay(relay)
    ana, ben = await world.group("ana", "ben", relays=[dripping, honest])
    await ana.group.feed.post("first")
    await world.level()
    await write(ana, *(f"new {number}" for number in range(8)))
    dripping.dripped = ana.replica.epoch.topic
    arrived = asyncio.Event()
    ben.replica.listen(lambda _: arrived.set())
    syncing = asyncio.create_task(ben.sync())
    async with asyncio.timeout(20):
        while len(await ben.texts()) < 9:
            await arrived.wait()
            arrived.clear()
    (drip,) = dripping.tasks
    assert not drip.done()
    assert dripping.connections
    for task in (drip, syncing):
        task.cancel()
    await asyncio.gather(drip, syncing, return_exceptions=True)


async def test_the_turn_of_a_topic_goes_to_who_waits_and_from_who_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "PATIENCE_SECONDS", 2.0)
    turns, topic, other = readers.Readers(), TopicId(bytes(32)), TopicId(b"\1" * 32)
    one, two = object(), object()
    start = asyncio.get_running_loop().time()
    assert turns.begin(topic, one, start)
    assert turns.begin(topic, one, start + 0.1)
    assert not turns.begin(topic, two, start + 1.9)
    assert turns.begin(other, two, start + 1.9)
    turns.note(topic, one, readers.LEAST_BYTES)
    turns.note(topic, two, readers.LEAST_BYTES)  # nobody's
    assert not turns.begin(topic, two, start + 2.1)  # it has brought enough, and has until 4.1
    turns.note(topic, one, readers.LEAST_BYTES - 1)
    assert not turns.begin(topic, two, start + 4.0)
    assert turns.begin(topic, two, start + 4.2)
    assert not turns.begin(topic, one, start + 4.3)
    waiting = asyncio.create_task(turns.wait(topic, one))
    await asyncio.sleep(0)
    turns.end(one)
    await asyncio.sleep(0)
    assert not waiting.done()
    turns.end(two)
    await waiting
    assert not turns.begin(topic, two, start)
    assert turns.begin(other, one, start)


# --- who need not, or cannot, be asked for names


async def test_a_newcomer_reads_whole_without_a_question(world: World) -> None:
    ana, _, (relay,) = await filled(world)
    link = await ana.group.invite()
    await ana.sync()
    cleo = await world.seat("cleo")
    relay.forget()
    await cleo.running.join(link, member_name="Cleo")
    assert relay.listed == 0
    assert len(relay.sent) >= POSTS


async def test_who_knows_nothing_of_what_is_listed_reads_whole(world: World) -> None:
    ana, ben, (relay,) = await filled(world)
    new = await write(ana, *(f"new {number}" for number in range(8)))
    relay.forget()
    await ben.sync()
    assert relay.listed == 5  # one answer
    assert relay.sent == new


async def test_a_little_is_sent_without_a_question(world: World) -> None:
    ana, ben, (relay,) = await filled(world)
    new = await write(ana, "one", "two")
    relay.forget()
    await ben.sync()
    assert (relay.listed, relay.sent) == (0, new)


@pytest.mark.parametrize("limits", [{}, {"names": 5}, {"fetch_places": 5}, {"names": 0, "fetch_places": 5}])
async def test_a_relay_that_has_no_names_is_read_whole(world: World, limits: dict[str, int]) -> None:
    ana, ben, (relay,) = await filled(world)
    relay.limits = limits
    with ben.replica.transaction():
        ben.replica.log.note_missed(relay.url, ben.replica.epoch.topic, 1)
    await ben.sync()
    assert relay.listed == 0
    assert relay.sent == topic_log(relay, ana.replica.epoch).envelopes


async def test_what_is_left_of_a_sealed_topic_is_enough_to_follow(world: World) -> None:
    """Ben sleeps while the epoch ends; at the second relay only the old topic's last envelope is left."""
    ana, ben, (first, second) = await filled(world, relays=2)
    await ben.stop()
    old = ana.replica.epoch
    await write(ana, *(f"new {number}" for number in range(6)))
    await ana.group.rotate()
    await world.level([ana])
    for relay in (first, second):
        log = topic_log(relay, old)
        assert log.sealed
        if relay is second:
            log.first = log.last
            del log.envelopes[:-1]
        relay.forget()
    await ben.start()
    await world.level([ben])
    assert len(await ben.texts()) == POSTS + 6
    assert len([envelope for envelope in second.sent if envelope in topic_log(first, old).envelopes]) <= 1
    assert await state_of(ana) == await state_of(ben)


async def test_an_ended_topic_is_read_by_the_names_of_its_own_runs(world: World) -> None:
    """The second relay is out of reach while the epoch ends: Ben follows by the first, and reads its topic later."""
    ana, ben, (first, second) = await filled(world, relays=2)
    old = ana.replica.epoch
    await write(ana, *(f"old {number}" for number in range(6)))
    second.reachable = False
    await ana.group.rotate()
    await ana.sync()
    await ben.sync()
    await write(ana, *(f"new {number}" for number in range(6)))
    await ben.sync()
    assert ben.replica.epoch.topic != old.topic
    wires = [wire for _, wire in reconciling._held_wires(ben.replica, old.topic)]
    named = {seal_envelope(wire, old) for wire in wires}
    assert len(set(topic_log(first, old).envelopes) - named) <= 1  # Ben's join, which the manifest before holds as well
    assert len(wires) < len(topic_log(first, old).envelopes) + 6  # without the new ones
    second.reachable = True
    second.forget()
    await ben.sync()
    there = set(topic_log(second, old).envelopes)
    assert len([envelope for envelope in second.sent if envelope in there]) <= 2
    assert second.listed >= 6
    await world.level()
    assert await state_of(ana) == await state_of(ben)


# --- on the way


class BusyRelay(CountingRelay):
    """Calls `on_listed` after every answer with names, as if others went on meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.on_listed: list[bytes] = []
        self.refusals = 0

    def outgoing(self, connection: MemoryConnection, frame: RelayFrame) -> Iterable[RelayFrame]:
        if isinstance(frame, Listed) and self.on_listed:
            self.logs[frame.topic].envelopes.append(self.on_listed.pop(0))
        if isinstance(frame, Listed | Fetched) and self.refusals:
            self.refusals -= 1
            return (Error(frame.request, ErrorCode.RATE, "too fast", 1),)
        return super().outgoing(connection, frame)


async def busy(world: World, lacking: int) -> tuple[Seat, Seat, BusyRelay, list[bytes]]:
    """Ben is to read everything anew, and lacks so many envelopes in the middle."""
    relay = BusyRelay()
    world.add_relay(relay)
    ana, ben = await world.group("ana", "ben")
    await write(ana, *(f"post {number}" for number in range(6)))
    await world.level()
    new = await write(ana, *(f"new {number}" for number in range(lacking)))
    later = await write(ana, "later 0", "later 1", "later 2")
    log = topic_log(relay, ana.replica.epoch)
    for envelope in later:
        log.envelopes.remove(envelope)
    with ben.replica.transaction():
        ben.replica.log.note_missed(relay.url, ben.replica.epoch.topic, 1)
    relay.on_listed = later
    relay.forget()
    return ana, ben, relay, [*new, *later]


async def test_what_comes_while_names_are_compared_is_sent_after(world: World) -> None:
    ana, ben, relay, new = await busy(world, 5)
    await ben.sync()
    assert relay.on_listed == []
    assert sorted(relay.sent) == sorted(new)
    assert await state_of(ana) == await state_of(ben)


@pytest.mark.parametrize("refusals", [1, 2, 5])
async def test_a_relay_that_asks_to_wait_is_asked_again(
    world: World, monkeypatch: pytest.MonkeyPatch, refusals: int
) -> None:
    monkeypatch.setattr("cocoon_core.sync.driver.RETRY_LEAST", 0.001)
    ana, ben, relay, new = await busy(world, 9)
    relay.refusals = refusals
    await ben.sync()
    assert relay.refusals == 0
    assert set(relay.sent) == set(new)
    assert await state_of(ana) == await state_of(ben)


async def test_a_pass_that_is_cut_at_any_frame_goes_on_from_there(world: World) -> None:
    ana, ben, relay, new = await busy(world, 9)
    cuts = 0
    for frames in range(1, 60):
        ben.dying_after = frames
        try:
            await ben.sync()
        except RelayUnavailable:
            cuts += 1
            await ben.restart()
            continue
        break
    assert cuts > 3
    assert set(relay.sent) == set(new)
    assert len(relay.sent) < 3 * len(new)  # what was delivered is not sent again, only what was on its way
    assert await state_of(ana) == await state_of(ben)
    assert ben.group.alarms() == []


async def test_runs_are_named_in_turns_and_at_most_so_many(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconciling, "NAMED_AT_ONCE", 2)
    monkeypatch.setattr(reconciling, "MOST_NAMED", 8)
    ana, ben, (relay,) = await filled(world)
    with ben.replica.transaction():
        ben.replica.log.note_missed(relay.url, ben.replica.epoch.topic, 1)
    await ben.sync()
    there = len(topic_log(relay, ana.replica.epoch).envelopes)
    assert 0 < len(relay.sent) < there
    assert await state_of(ana) == await state_of(ben)


async def test_where_little_is_to_come_only_what_came_last_is_named(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciling, "NAMED_AT_LEAST", 4)
    ana, ben, (first, second) = await filled(world, relays=2)
    new = await write(ana, "one", "two", "three")
    named: list[bytes] = []

    def seal(wire: bytes, keys: TopicKeys) -> bytes:
        named.append(wire)
        return seal_envelope(wire, keys)

    monkeypatch.setattr(reconciling, "seal_envelope", seal)
    first.forget()
    second.forget()
    await ben.sync()
    assert sorted(first.sent + second.sent) == sorted(new)
    assert 0 < len(named) <= 2 * 4 * len(new) + len(new)


async def test_a_run_that_left_the_log_meanwhile_is_fetched(world: World) -> None:
    """As when another relay showed a history of its device that decides, while this one's names were compared."""
    _, ben, (relay,) = await filled(world)
    replica = ben.replica
    found = replica.log.find_wire
    with replica.transaction():
        replica.log.note_missed(relay.url, replica.epoch.topic, 1)
    gone = max(number for (number,) in replica.database.query("SELECT id FROM runs"))
    wire = found(gone)
    assert wire is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replica.log, "find_wire", lambda number: None if number == gone else found(number))
        await ben.sync()
    assert relay.sent == [seal_envelope(wire, replica.epoch)]


# --- what a name proves


async def test_what_a_relay_names_leaves_the_queue_and_what_it_does_not_is_put(world: World) -> None:
    ana, _, (relay,) = await filled(world)
    replica, log = ana.replica, topic_log(relay, ana.replica.epoch)
    lost = own(ana, log)[-1]
    log.envelopes.remove(lost)
    with replica.transaction():
        replica.epochs.queue_all(relay.url)
        replica.log.note_missed(relay.url, replica.epoch.topic, 1)
    relay.heard.clear()
    await ana.sync()
    assert [frame.envelopes for frame in map(decode_client_frame, relay.heard) if isinstance(frame, Put)] == [(lost,)]
    assert relay.sent == [lost]  # to who put it, which shows that it is there
    assert replica.log.outbox_size(relay.url) == 0
