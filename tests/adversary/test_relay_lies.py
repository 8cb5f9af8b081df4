"""What a relay can do to a group: cut, forget, roll back, withhold, repeat, mix up, lie, and read.

Each is also run against a build from which the defence was taken out. What only others' beacons show is in
test_withholding_attacks.py.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from cocoon_core.errors import NotYetError, RelayError, RelayUnavailable, StorageFullError
from cocoon_core.protocol.envelope import open_envelope
from cocoon_core.protocol.frames import Ack, Entries, Live, RelayFrame
from cocoon_core.storage.database import Database
from cocoon_core.storage.log import Log
from cocoon_core.sync import driver, receiving
from cocoon_core.sync import replica as replica_module
from cocoon_core.sync.driver import RelayDriver
from cocoon_core.sync.epochs import Epochs
from cocoon_core.sync.session import Session
from tests.support.hostile import CuttingRelay, EditingRelay, RecordingRelay, count_in, inject, topic_log
from tests.support.memory_relay import LyingRelay, MemoryConnection, MemoryRelay
from tests.support.watched_disk import WatchedDisk
from tests.support.world import Seat, World, make_world, state_of  # noqa: F401  a fixture

SCHEMA = {"items": dict}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A relay in memory answers at once or never."""
    monkeypatch.setattr(driver, "SILENCE_SECONDS", 0.01)


async def pair(world: World) -> tuple[Seat, Seat]:
    ana, ben = await world.group("ana", "ben")
    return ana, ben


# --- 8: reset in mid-upload


async def cut_everywhere(world: World) -> tuple[Seat, Seat, CuttingRelay, int]:
    relay = CuttingRelay()
    world.add_relay(relay)
    ana, ben = await pair(world)
    cut, posts = 0, 0
    while True:
        for _ in range(3):
            await ana.group.feed.post(f"post {posts}")
            posts += 1
        async with ben.group.document("list", SCHEMA).change() as doc:
            doc["items"][str(cut)] = cut
        through = True
        for seat in (ana, ben):
            relay.arm(cut)
            try:
                await seat.sync()
            except RelayUnavailable:
                through = False
        cut += 1
        if through:
            break
    relay.arm(None)
    await world.level()
    return ana, ben, relay, posts


async def test_attack_08_a_connection_cut_at_every_frame_loses_and_doubles_nothing(world: World) -> None:
    ana, ben, relay, posts = await cut_everywhere(world)
    assert relay.frames == 0 or relay.cut_at is None
    assert posts > 15  # there were several frames to cut at
    assert await ben.texts() == [f"post {number}" for number in range(posts)] == await ana.texts()
    log = topic_log(relay, ana.replica.epoch)
    assert all(count_in(log.envelopes, envelope) == 1 for envelope in log.envelopes)
    assert await state_of(ana) == await state_of(ben)
    assert ana.group.alarms() == [] == ben.group.alarms()


async def test_attack_08_succeeds_where_what_was_sent_counts_as_stored(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = Session.put

    def careless(self: Any, topic: Any, tag: int, envelopes: Any, **options: Any) -> Any:
        (url,) = world.relays
        for seat in world.seats:
            if seat.has_group:
                log = seat.replica.log
                log.note_shown(url, [run.last_id for run in log.unsent(url, 1000)])
        return put(self, topic, tag, envelopes, **options)

    monkeypatch.setattr(Session, "put", careless)
    monkeypatch.setattr(Epochs, "queue_all", lambda *_: None)  # else the gap that others find has it put again
    with pytest.raises((AssertionError, NotYetError)):
        _, ben, _, posts = await cut_everywhere(world)
        assert await ben.texts() == [f"post {number}" for number in range(posts)]


# --- 10: rolled back


async def test_attack_10_a_relay_that_went_back_is_told_of_and_given_everything_again(world: World) -> None:
    ana, ben = await pair(world)
    relay = next(iter(world.relays.values()))
    for number in range(5):
        await (ana, ben)[number % 2].group.feed.post(f"post {number}")
        await world.level()
    there = set(topic_log(relay, ana.replica.epoch).envelopes)
    relay.rollback(ana.replica.epoch.topic, 2)
    await ben.sync()  # it holds the entries of others too, and puts them again
    assert any("no longer has what it had shown" in alarm for alarm in ben.group.alarms())
    assert set(topic_log(relay, ana.replica.epoch).envelopes) == there
    await world.level()
    assert await ana.texts() == await ben.texts() == [f"post {number}" for number in range(5)]


async def test_attack_10_a_relay_that_forgot_the_topic_is_given_everything_again(world: World) -> None:
    ana, ben = await pair(world)
    relay = next(iter(world.relays.values()))
    await ana.group.feed.post("kept")
    await world.level()
    there = set(topic_log(relay, ana.replica.epoch).envelopes)
    relay.expire(ana.replica.epoch.topic)
    await ben.sync()
    assert set(topic_log(relay, ana.replica.epoch).envelopes) == there
    assert any("no longer has" in alarm for alarm in ben.group.alarms())
    await ana.sync()
    assert len(topic_log(relay, ana.replica.epoch).envelopes) == len(there)


async def test_attack_10_succeeds_where_a_shorter_log_is_not_noticed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana, ben = await pair(world)
    relay = next(iter(world.relays.values()))
    await ana.group.feed.post("kept")
    await world.level()
    monkeypatch.setattr(RelayDriver, "_opened", lambda *_: [])
    relay.rollback(ana.replica.epoch.topic, 2)
    await ben.sync()
    assert len(topic_log(relay, ana.replica.epoch).envelopes) == 2


# --- 11, 12: different histories, one author withheld


class WithholdingTwice(EditingRelay):
    """Leaves envelopes out and numbers the others as if nothing were missing."""

    def __init__(self) -> None:
        super().__init__()
        self.withheld: set[bytes] = set()
        self.left_out: dict[tuple[MemoryConnection, bytes], int] = {}

    def outgoing(self, connection: MemoryConnection, frame: RelayFrame) -> Iterable[RelayFrame]:
        if not isinstance(frame, Entries | Live):
            return (frame,)
        before = self.left_out.get((connection, frame.topic), 0)
        if isinstance(frame, Live):
            return (replace(frame, last=frame.last - before),)
        kept = tuple(envelope for envelope in frame.envelopes if envelope not in self.withheld)
        self.left_out[connection, frame.topic] = before + len(frame.envelopes) - len(kept)
        return (Entries(frame.topic, frame.first - before, kept),) if kept else ()


async def test_attack_12_a_hole_in_the_numbers_ends_the_pass_and_is_told(world: World) -> None:
    relay = EditingRelay()
    world.add_relay(relay)
    ana, ben = await pair(world)
    for number in range(3):
        await ana.group.feed.post(f"post {number}")
        await ana.sync()
    withheld = topic_log(relay, ana.replica.epoch).envelopes[-2]

    def leave_out(frame: RelayFrame) -> Iterable[RelayFrame]:
        if not isinstance(frame, Entries):
            return (frame,)
        numbered = enumerate(frame.envelopes, frame.first)
        return [Entries(frame.topic, place, (item,)) for place, item in numbered if item != withheld]

    relay.edit = leave_out
    with pytest.raises(RelayUnavailable, match="went from place"):
        await ben.sync()
    assert any("went from place" in alarm for alarm in ben.group.alarms())
    relay.edit = lambda frame: (frame,)
    await ben.sync()
    assert await ben.texts() == ["post 0", "post 1", "post 2"]


async def withhold_from(world: World) -> tuple[Seat, Seat, WithholdingTwice]:
    """Ben is not shown one entry of Ana, with no hole in the numbers, and then one that follows it."""
    relay = WithholdingTwice()
    world.add_relay(relay)
    ana, ben = await pair(world)
    for text in ("withheld", "shown"):
        await ana.group.feed.post(text)
        await ana.sync()
    relay.withheld = {topic_log(relay, ana.replica.epoch).envelopes[-2]}
    await ben.sync()
    return ana, ben, relay


async def test_attack_12_an_author_withheld_in_the_middle_is_reported(world: World) -> None:
    """The chain of the author shows the gap, however the relay numbers the rest."""
    ana, ben, relay = await withhold_from(world)
    assert await ben.texts() == []
    assert any("are missing" in alarm and ana.device.hex() in alarm for alarm in ben.group.alarms())
    relay.withheld = set()
    await ben.sync()  # what it once withheld is asked for again
    assert await ben.texts() == ["withheld", "shown"]


async def test_attack_12_succeeds_where_gaps_are_not_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica_module.Replica, "report_withheld", lambda *_, **__: False)
    _, ben, relay = await withhold_from(world)
    relay.withheld = set()
    await ben.sync()
    assert ben.group.alarms() == []
    assert await ben.texts() == []


# --- 15: moved ciphertext


async def test_attack_15_envelopes_of_another_group_are_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ana, ben = await pair(world)
    relay = next(iter(world.relays.values()))
    other = await world.seat("other")
    await other.running.create_group("Band", member_name="Otto", relays=[relay.url])
    await other.group.feed.post("of another group")
    await other.sync()
    before = await state_of(ben)
    moved = list(topic_log(relay, other.replica.epoch).envelopes)
    inject(relay, ana.replica.epoch, *moved)
    driven = RelayDriver(ben.replica, relay.url, ben.dial, ben.dial_blobs)
    assert (await driven.sync_once()).refused == {"decryption": len(moved)}
    assert await state_of(ben) == before
    monkeypatch.setattr(
        receiving,
        "open_envelope",
        lambda envelope, _, opened=open_envelope: opened(envelope, other.replica.epoch),
    )
    inject(relay, ana.replica.epoch, moved[-1] + b"", *moved)
    driven = RelayDriver(ben.replica, relay.url, ben.dial, ben.dial_blobs)
    assert "signature" in (await driven.sync_once()).refused  # past the first of two defences


# --- 16: an old epoch, a topic that nobody asked for


async def test_attack_16_a_topic_that_nobody_asked_for_is_ignored(world: World) -> None:
    relay = EditingRelay()
    world.add_relay(relay)
    ana, ben = await pair(world)
    other = type(ana.replica.epoch.topic)(b"\x05" * 32)
    log = topic_log(relay, ana.replica.epoch)

    def confuse(frame: RelayFrame) -> Iterable[RelayFrame]:
        if isinstance(frame, Live):
            return [frame, Entries(other, 1, tuple(log.envelopes)), Live(other, len(log.envelopes))]
        return (frame,)

    relay.edit = confuse
    await ana.group.feed.post("here")
    before = ben.replica.log.run_count()
    await ana.sync()
    await ben.sync()
    assert ben.replica.log.run_count() == before + 1


# --- 19: what a relay can find


CANARIES = ["Canary Family", "Canary Ana", "Canary Ben", "canary text", "canary reply", "canary key", "canary value",
            "canary name"]  # fmt: skip


async def fill_with_canaries(world: World) -> bytes:
    relay = RecordingRelay()
    world.add_relay(relay)
    ana, ben = await world.seat("ana"), await world.seat("ben")
    group = await ana.running.create_group("Canary Family", member_name="Canary Ana", relays=[relay.url])
    link = await group.invite()
    await group.sync()
    await ben.running.join(link, member_name="Canary Ben")
    post = await group.feed.post("canary text")
    await group.sync()
    await ben.sync()
    await ben.group.feed.reply(post.id, "canary reply")
    async with ben.group.document("canary name", {"items": dict}).change() as doc:
        doc["items"]["canary key"] = "canary value"
    await world.level()
    secrets = [ana.replica.keys.signing_seed, ana.replica.keys.hpke_seed, ana.replica.epoch.secret]
    everything = relay.everything()
    for secret in secrets:
        assert secret.reveal() not in everything
    assert bytes(ana.device) not in everything
    assert bytes(ana.replica.group) not in everything
    return everything


def found(everything: bytes) -> list[str]:
    def forms(canary: str) -> list[bytes]:
        raw = canary.encode()
        return [raw, raw.upper(), canary.encode("utf-16-le"), raw.hex().encode(), base64.b64encode(raw)[:-4]]

    return [canary for canary in CANARIES if any(form in everything for form in forms(canary))]


async def test_attack_19_nothing_readable_reaches_a_relay(world: World) -> None:
    assert found(await fill_with_canaries(world)) == []


async def test_attack_19_succeeds_where_nothing_is_sealed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica_module, "seal_envelope", lambda wire, _: (wire + b"\x80").ljust(400, b"\0"))
    relay = RecordingRelay()
    world.add_relay(relay)
    ana = await world.seat("ana")
    group = await ana.running.create_group("Canary Family", member_name="Canary Ana", relays=[relay.url])
    await group.feed.post("canary text")
    with pytest.raises(RelayUnavailable):  # nobody could open it, this device neither
        await group.sync()
    assert found(relay.everything()) == ["Canary Family", "Canary Ana", "canary text"]


# --- 20: acknowledge, then lose


class ForgetfulRelay(LyingRelay):
    """Acknowledges at places that `lie` makes up, and stores nothing while it lies."""

    def __init__(self) -> None:
        super().__init__()
        self.lies = False
        self.lie: Any = lambda seq: seq

    def outgoing(self, connection: MemoryConnection, frame: RelayFrame) -> Iterable[RelayFrame]:
        if self.lies and isinstance(frame, Ack):
            return (replace(frame, seqs=tuple(self.lie(seq) for seq in frame.seqs)),)
        return (frame,)


LIES = {"the next place": lambda seq: seq, "a place far ahead": lambda seq: seq + 2**40, "the first place": lambda _: 1}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
async def test_attack_20_what_was_acknowledged_and_lost_is_sent_again(world: World, lie: Any) -> None:
    relay = ForgetfulRelay()
    world.add_relay(relay)
    ana, ben = await pair(world)
    relay.lies, relay.lie = True, lie
    await ana.group.feed.post("acknowledged")
    with pytest.raises(RelayUnavailable):
        await ana.sync()
    relay.lies = False
    await ben.group.feed.post("others go on")
    await ben.sync()
    await world.level()
    assert sorted(await ben.texts()) == ["acknowledged", "others go on"]
    assert any("did not keep them" in alarm for alarm in ana.group.alarms())
    assert ana.replica.log.outbox_size(relay.url) == 0


async def test_attack_20_succeeds_where_an_acknowledgement_is_believed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    relay = ForgetfulRelay()
    world.add_relay(relay)
    ana, ben = await pair(world)
    relay.lies = True
    for name in ("requeue_lost", "requeue"):
        monkeypatch.setattr(Log, name, lambda *_: 0)
    await ana.group.feed.post("acknowledged")
    with pytest.raises(RelayUnavailable):
        await ana.sync()
    relay.lies = False
    await world.level()
    assert await ben.texts() == []


# --- 41: frames that are none


@pytest.mark.parametrize("seed", range(8))
async def test_attack_41_malformed_frames_end_in_a_relay_error_and_change_nothing(world: World, seed: int) -> None:
    print(f"seed {seed}")
    chance = Random(seed)
    relay = EditingRelay()
    world.add_relay(relay)
    ana, ben = await pair(world)
    await ana.group.feed.post("sound")
    await ana.sync()

    def damage(raw: bytes) -> bytes:
        match chance.randrange(5):
            case 0:
                return raw[: chance.randrange(len(raw))]
            case 1:
                return raw + chance.randbytes(3)
            case 2:
                at = chance.randrange(len(raw))
                return raw[:at] + chance.randbytes(1) + raw[at + 1 :]
            case 3:
                return chance.randbytes(chance.randrange(1, 80))
        return b"\x81" * chance.randrange(1, 4000)

    class Raw:
        """Frames as bytes, some of them damaged."""

        def __init__(self, connection: Any) -> None:
            self.connection = connection
            self.left = chance.randrange(4)

        async def send(self, raw: bytes) -> None:
            await self.connection.send(raw)

        async def receive(self) -> bytes:
            raw: bytes = await self.connection.receive()
            self.left -= 1
            return damage(raw) if self.left < 0 else raw

        async def close(self) -> None:
            await self.connection.close()

    async def dial(url: str) -> Any:
        return Raw(relay.connect())

    for _ in range(25):
        with suppress(RelayError):
            await RelayDriver(ben.replica, relay.url, dial, ben.dial_blobs).sync_once()
    await ben.group.feed.post("still writes")
    await ana.group.feed.post("what follows a damaged entry shows that it is missing")
    with suppress(RelayUnavailable):  # an own entry that came back damaged looks as if it had been lost
        await ben.sync()
    await world.level()
    assert len(await ben.texts()) == 3
    assert await ben.texts() == await ana.texts()


async def test_attack_41_every_relay_error_of_a_pass_is_in_the_report(world: World) -> None:
    relay = EditingRelay()
    world.add_relay(relay)
    good = world.add_relay(MemoryRelay("ws://good.test:1"))
    ana, ben = await pair(world)
    relay.edit = lambda frame: [replace(frame, last=frame.last + 5)] if isinstance(frame, Live) else [frame]
    await ana.group.feed.post("by the other relay")
    report = await ana.sync()
    assert [(r.url, r.ok) for r in report.relays] == [(relay.url, False), (good.url, True)]
    assert "level" in (report.relays[0].error or "")
    await ben.sync()
    assert await ben.texts() == ["by the other relay"]
    assert any("level" in alarm for alarm in ana.group.alarms())


# --- 44: a full disk


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> WatchedDisk:
    """Every database that is opened from now on stands on it."""
    watched = WatchedDisk()
    opened = Database.open
    monkeypatch.setattr(
        "cocoon_core.storage.profile.Database.open", lambda path, key: opened(path, key, vfs=watched.vfs_name)
    )
    return watched


def fail_at(disk: WatchedDisk, number: int | None) -> None:
    """Let the disk be full from its call `number` on, counted from now."""
    import apsw

    start = disk.calls

    def full(call: int, kind: str) -> Exception | None:
        if number is not None and kind in ("write", "truncate", "sync") and call - start >= number:
            return apsw.FullError("full") if kind == "write" else apsw.IOError("broken")
        return None

    disk.fail = full


@pytest.mark.parametrize("act", ["post", "receive", "shared", "invite"])
async def test_attack_44_a_full_disk_refuses_and_loses_nothing(world: World, disk: WatchedDisk, act: str) -> None:
    ana, ben = await pair(world)
    await ana.group.feed.post("before")
    await world.level()
    refused = done = known = 0
    for number in range(0, 120, 1):
        before = await state_of(ben)
        if act == "receive":
            await ana.group.feed.post(f"post {number}")
            await ana.sync()
        fail_at(disk, number)
        try:
            match act:
                case "post":
                    await ben.group.feed.post(f"post {number}")
                case "receive":
                    await ben.sync()
                case "shared":
                    async with ben.group.document("list", SCHEMA).change() as doc:
                        doc["items"][str(number)] = number
                case "invite":
                    assert await ben.group.invite()
        except StorageFullError:
            refused += 1
            fail_at(disk, None)
            if act == "receive":  # several deliveries, each a transaction: what came is whole, and nothing behind it
                mine, theirs = await ben.texts(), await ana.texts()
                assert known <= len(mine), f"at write {number}"
                assert mine == theirs[: len(mine)], f"at write {number}"
                known = len(mine)
            else:
                assert await state_of(ben) == before, f"at write {number}"
        else:
            done += 1
        fail_at(disk, None)
        for invite in ben.group.invites():
            await ben.group.revoke_invite(invite.id.hex())
        if done > 2:
            break
    assert refused > 1
    assert done > 2
    state = await state_of(ben)
    await ben.restart()
    assert await state_of(ben) == state
    await world.level()
    await ben.group.feed.post("after")
    await world.level()
    assert await state_of(ana) == await state_of(ben)
    assert (await ana.texts())[-1] == "after"


async def test_attack_44_succeeds_where_memory_is_kept_after_a_failure(
    world: World, disk: WatchedDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana, ben = await pair(world)
    monkeypatch.setattr(replica_module.Replica, "load", lambda *_: None)
    before = await state_of(ben)
    fail_at(disk, 0)
    with pytest.raises(StorageFullError):
        await ben.group.invite()
    fail_at(disk, None)
    assert await state_of(ben) != before
    assert ana.group.members()
