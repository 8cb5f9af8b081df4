"""Several relays: what a new one is given, what one that lost everything is given again, how one is left, and who finds
the way after months.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from cocoon_core.errors import CocoonError, NotYetError, RelayError, RelayUnavailable, UsageError
from cocoon_core.protocol.ids import EntryId
from cocoon_core.protocol.invite import read_link
from cocoon_core.protocol.operations import SetPolicy
from cocoon_core.sync import driver, manifest_blobs
from cocoon_core.sync.events import DocumentChanged
from cocoon_core.sync.manifest_blobs import blobs_of_epoch
from cocoon_core.sync.relay_list import named_relays
from cocoon_core.sync.transport import Connection
from tests.support.dying import dies_after
from tests.support.hostile import Forger
from tests.support.memory_relay import MemoryRelay
from tests.support.relays import age, wipe
from tests.support.world import Seat, World, make_world, state_of  # noqa: F401  a fixture


async def two_relays(world: World, *names: str) -> tuple[MemoryRelay, MemoryRelay, list[Seat]]:
    one, two = world.add_relay(), world.add_relay()
    seats = await world.group(*names)
    await seats[0].group.feed.post("before")
    async with seats[0].group.document("list", {"items": dict}).change() as doc:
        doc["items"]["milk"] = 1
    await world.level()
    await seats[0].group.rotate()
    await seats[0].group.feed.post("above")
    await world.level()
    return one, two, seats


# --- a relay that lost everything


async def test_a_wiped_relay_is_filled_again_and_the_other_one_can_be_lost(world: World) -> None:
    one, two, (ana, ben) = await two_relays(world, "ana", "ben")
    link = await ana.group.invite(uses=2)
    phrase = (await ben.running.new_recovery_phrase()).phrase
    await world.level()
    wipe(one)
    await world.level()
    two.reachable = False
    reference = await state_of(ana)
    chi = await world.seat("chi")
    await chi.running.join(link, member_name="Chi")
    assert await chi.texts() == await ana.texts() == ["before", "above"]
    await ben.stop()
    back = await world.seat("back")
    (found,) = await back.running.use_recovery_phrase(phrase, [one.url])
    assert found.group is not None
    assert await back.texts() == ["before", "above"]
    assert reference["documents"].keys() <= (await state_of(back))["documents"].keys()


async def test_the_blobs_of_a_wiped_relay_come_from_the_other_without_a_rotation(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, (ana, _) = await two_relays(world, "ana", "ben")
    topic = ana.replica.epoch.topic
    wipe(one)
    monkeypatch.setattr(manifest_blobs, "find_blobs", lambda *_: iter(()))  # else they are made again
    await ana.sync()
    assert ana.replica.epoch.topic == topic
    assert one.blobs.kept.keys() == two.blobs.kept.keys() & one.blobs.kept.keys() != set()
    assert set(blobs_of_epoch(ana.replica, ana.replica.epochs.current)) <= one.blobs.kept.keys()


@pytest.mark.parametrize("can_be_made", [True, False])
async def test_blobs_that_no_relay_has_are_made_again_or_the_epoch_is_ended(
    world: World, monkeypatch: pytest.MonkeyPatch, can_be_made: bool
) -> None:
    one, two, (ana, ben) = await two_relays(world, "ana", "ben")
    if not can_be_made:
        monkeypatch.setattr(manifest_blobs, "find_blobs", lambda *_: iter(()))
    topic = ana.replica.epoch.topic
    link = await ana.group.invite()
    await ana.sync()
    wipe(one)
    wipe(two)
    for _ in range(3):
        await ben.sync()
        await ana.sync()
        world.now_ms += 120_000
    assert ana.replica.epoch.topic == ben.replica.epoch.topic
    assert (ana.replica.epoch.topic == topic) is can_be_made
    chi = await world.seat("chi")
    await chi.running.join(link, member_name="Chi")
    assert await chi.texts() == ["before", "above"]


async def test_requests_and_answers_are_put_again_at_a_wiped_relay(world: World) -> None:
    one, two = world.add_relay(), world.add_relay()
    ana, _ = await world.group("ana", "ben")
    await ana.group.set_policy(vouches=1)
    link = await ana.group.invite()
    await world.level()
    chi = await world.seat("chi")
    with pytest.raises(NotYetError):
        await chi.running.join(link, member_name="Chi")
    wipe(one)
    two.reachable = False
    await chi.running.finish_joins()  # puts its request again
    await ana.sync()
    (request,) = ana.group.requests()
    await ana.group.admit(request.id.hex())
    await ana.sync()
    wipe(one)
    await ana.sync()
    assert [group.name for group in await chi.running.finish_joins()] == ["Family"]


# --- moving


async def test_a_member_who_slept_through_a_move_finds_the_group_after_a_year(world: World) -> None:
    old = world.add_relay()
    ana, ben, dan = await world.group("ana", "ben", "dan")
    await ana.group.feed.post("before")
    await world.level()
    await dan.stop()
    new = world.add_relay()
    await ana.group.move_relays([new.url])
    await world.level([ana, ben])
    assert ana.group.relays == ben.group.relays == [new.url]
    await ana.group.feed.post("after the move")
    await world.level([ana, ben])
    for month in range(14):
        age(world, 30)
        await ben.group.feed.post(f"month {month}")
        await world.level([ana, ben])
    assert sum(len(log.envelopes) for log in old.logs.values()) <= 3 * len(old.logs), "only signs are left"
    await dan.start()
    report = await dan.sync()
    assert {relay.url for relay in report.relays} == {old.url, new.url}
    assert dan.group.relays == [new.url]
    assert await dan.texts() == await ana.texts()
    await dan.group.feed.post("good morning")
    await world.level()
    assert await ana.texts() == await dan.texts()


async def test_the_old_relay_holds_nothing_but_where_the_group_went(world: World) -> None:
    old = world.add_relay()
    ana, ben = await world.group("ana", "ben")
    new = world.add_relay()
    await ana.group.move_relays([new.url])
    blobs = len(old.blobs.kept)
    await world.level()
    log = old.logs[ana.replica.epoch.topic]
    assert log.sealed
    assert len(log.envelopes) == 1
    assert len(old.blobs.kept) == blobs
    assert all(one.sealed for topic, one in old.logs.items() if topic in ana.replica.epochs.held)
    count = {topic: len(log.envelopes) for topic, log in old.logs.items()}
    await ben.group.feed.post("elsewhere")
    await world.level()
    assert {topic: len(log.envelopes) for topic, log in old.logs.items()} == count


async def test_a_link_and_a_phrase_that_name_the_old_relay_lead_on(world: World) -> None:
    old = world.add_relay()
    ana, ben = await world.group("ana", "ben")
    await ana.group.feed.post("before")
    link = await ana.group.invite(uses=3, expires_in=timedelta(days=60))
    phrase = (await ben.running.new_recovery_phrase()).phrase
    await world.level()
    new = world.add_relay()
    await ana.group.move_relays([new.url])
    await world.level()
    age(world, 30)
    assert read_link(link).relays == (old.url,)
    chi = await world.seat("chi")
    await chi.running.join(link, member_name="Chi")
    assert await chi.texts() == ["before"]
    assert chi.group.relays == [new.url]
    await ben.stop()
    back = await world.seat("back")
    (found,) = await back.running.use_recovery_phrase(phrase, [old.url])
    assert found.group is not None
    assert await back.texts() == ["before"]


async def test_who_asks_by_a_link_of_the_old_relay_is_heard_at_the_new_one(world: World) -> None:
    world.add_relay()
    ana, _ = await world.group("ana", "ben")
    await ana.group.set_policy(vouches=1)
    link = await ana.group.invite(expires_in=timedelta(days=60))
    await world.level()
    early, late = await world.seat("early"), await world.seat("late")
    link_two = await ana.group.invite(expires_in=timedelta(days=60))
    await world.level()
    with pytest.raises(NotYetError):
        await early.running.join(link, member_name="Early")
    new = world.add_relay()
    await ana.group.move_relays([new.url])
    await world.level()
    with pytest.raises(NotYetError):
        await late.running.join(link_two, member_name="Late")
    await early.running.finish_joins()
    await ana.sync()
    requests = ana.group.requests()
    assert sorted(request.name for request in requests) == ["Early", "Late"]
    for request in requests:
        await ana.group.admit(request.id.hex())
    await ana.sync()
    assert len(await early.running.finish_joins()) == len(await late.running.finish_joins()) == 1


async def test_a_move_away_from_a_dead_relay(world: World) -> None:
    old = world.add_relay()
    ana, ben = await world.group("ana", "ben")
    await ana.group.feed.post("one")
    await world.level()
    await ben.group.feed.post("not sent yet")
    old.reachable = False
    new = world.add_relay()
    await ana.group.move_relays([new.url])
    report = await ana.sync()
    assert {relay.url: relay.ok for relay in report.relays} == {old.url: False, new.url: True}
    link = await ana.group.invite()
    await ana.sync()
    assert read_link(link).relays == (new.url,)
    chi = await world.seat("chi")
    await chi.running.join(link, member_name="Chi")
    with pytest.raises(RelayUnavailable):
        await ben.sync()
    assert await ben.group.use_relay(new.url)
    for seat in (ana, ben, chi, ana, ben, chi):
        await seat.sync()
    assert sorted(await ana.texts()) == ["not sent yet", "one"]
    assert ben.group.relays == [old.url, new.url], "it may come back, and tell those who sleep"
    age(world, 31)
    await ben.sync()
    assert ben.group.relays == [new.url]


async def test_a_relay_that_proves_nothing_is_not_used(world: World) -> None:
    world.add_relay()
    _, ben = await world.group("ana", "ben")
    other = MemoryRelay("ws://stranger.test:8787", seed=9)
    ben.relays[other.url] = other
    assert not await ben.group.use_relay(other.url)
    assert other.url not in [state.url for state in ben.replica.relays.all()]
    assert not any(log.envelopes for log in other.logs.values()), "nothing was put there"
    with pytest.raises(UsageError):
        await ben.group.use_relay("not an address")


async def test_two_admins_who_move_to_different_relays_at_once_end_at_one(world: World) -> None:
    old = world.add_relay()
    ana, ben, chi = await world.group("ana", "ben", "chi")
    await ana.group.set_role(next(m.id for m in ana.group.members() if m.name == "Ben"), "admin")
    await world.level()
    x, y = world.add_relay(), world.add_relay()
    await ana.group.move_relays([x.url])
    await ben.group.move_relays([y.url])
    await ana.group.feed.post("from ana")
    await ben.group.feed.post("from ben")
    await ana.sync()  # which leaves the old relay before it hears of the other move
    assert ana.group.relays == [x.url]
    for _ in range(6):
        for seat in (ben, chi, ana):
            await seat.sync()
        world.now_ms += 120_000
    assert named_relays(ana.replica) == named_relays(ben.replica) == named_relays(chi.replica)
    assert ana.group.relays == ben.group.relays == chi.group.relays == named_relays(ana.replica)
    assert len(await ana.texts()) == 2
    assert await state_of(ana) == await state_of(ben) == await state_of(chi)
    assert old.url not in ana.group.relays


async def test_a_relay_that_was_left_can_be_named_again(world: World) -> None:
    old = world.add_relay()
    ana, ben = await world.group("ana", "ben")
    new = world.add_relay()
    await ana.group.move_relays([new.url])
    await world.level()
    await ben.group.feed.post("at the new one")
    await world.level()
    await ana.group.add_relay(old.url)
    await world.level()
    assert ben.group.relays == [new.url, old.url]
    await ana.group.remove_relay(new.url)
    await world.level()
    new.reachable = False
    link = await ana.group.invite()
    await ana.sync()
    chi = await world.seat("chi")
    await chi.running.join(link, member_name="Chi")
    assert await chi.texts() == ["at the new one"]


# --- what is refused


async def test_what_is_said_where_relays_cannot_be_changed(world: World) -> None:
    one = world.add_relay()
    ana, ben = await world.group("ana", "ben")
    two = world.add_relay()
    two.reachable = False
    with pytest.raises(RelayUnavailable):
        await ana.group.move_relays([two.url])
    with pytest.raises(RelayUnavailable):
        await ana.group.add_relay(two.url)
    with pytest.raises(RelayUnavailable):
        await ana.group.set_policy(relays=[two.url])
    with pytest.raises(UsageError, match="only relay"):
        await ana.group.remove_relay(one.url)
    with pytest.raises(UsageError, match="no relay of the group"):
        await ana.group.remove_relay(two.url)
    with pytest.raises(UsageError, match="already"):
        await ana.group.add_relay(one.url)
    with pytest.raises(UsageError, match="admin"):
        await ben.group.add_relay(two.url)
    for wrong in ("relay.test", "ws://", "ws://user@host", "ws://a b", "ftp://relay.test", "ws://relay.test:0", ""):
        with pytest.raises(UsageError):
            await ana.group.add_relay(wrong)
    assert list(ana.group.policy.relays) == [one.url]
    await ana.group.add_relay(two.url, force=True)
    assert list(ana.group.policy.relays) == [one.url, two.url]


# --- what can go wrong on the way


@pytest.mark.parametrize("frames", range(0, 24, 3))
async def test_a_move_that_is_cut_between_any_two_frames_is_finished_later(world: World, frames: int) -> None:
    world.add_relay()
    ana, ben, dan = await world.group("ana", "ben", "dan")
    await ana.group.feed.post("before")
    await world.level()
    new = world.add_relay()
    await ana.group.move_relays([new.url])
    ana.dying_after = frames
    with suppress(CocoonError):
        await ana.sync()
    ana.dying_after = None
    await ana.restart()
    await ben.group.feed.post("meanwhile")
    await ben.sync()
    world.now_ms += 3_700_000  # a relay that is being left and was lost is not tried again at once
    await world.level([ana, ben])
    assert ana.group.relays == ben.group.relays == [new.url]
    age(world, 90)
    age(world, 90)
    await world.level([ana, ben])
    await dan.sync()
    await world.level()
    assert await state_of(ana) == await state_of(ben) == await state_of(dan)
    assert sorted(await dan.texts()) == ["before", "meanwhile"]


@pytest.mark.parametrize("mortal", ["ana", "ben"])
@pytest.mark.parametrize("transactions", [1, 4, 8, 13, 19])
async def test_who_dies_after_any_transaction_of_a_move_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mortal: str, transactions: int
) -> None:
    """Ana moves and dies on the way; or Ben, as he follows her."""
    one, two = world.add_relay(), world.add_relay()
    ana, ben = await world.group("ana", "ben", relays=[one])
    await ana.group.feed.post("before")
    await ana.group.move_relays([two.url])
    if mortal == "ben":
        await ana.sync()
    dying = ana if mortal == "ana" else ben
    died = await dies_after(monkeypatch, dying, transactions, dying.sync, tmp_path / "after")
    assert died or transactions > 8
    world.now_ms += 3_700_000
    await world.level()
    assert ana.group.relays == ben.group.relays == [two.url]
    assert one.logs[ana.replica.epoch.topic].sealed
    assert await state_of(ana) == await state_of(ben)


async def test_a_relay_that_does_not_answer_keeps_no_other_waiting(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = world.add_relay(), world.add_relay()
    ana, ben = await world.group("ana", "ben")
    await ana.group.feed.post("one")
    silent, released = one.url, asyncio.Event()
    level: list[str] = []
    dial, sync_once = Seat.dial, driver.RelayDriver.sync_once

    async def slow_dial(seat: Seat, url: str) -> Connection:
        if url == silent and seat is ana:
            await released.wait()
            raise RelayUnavailable("no answer in 10 s")
        return await dial(seat, url)

    async def spied(self: driver.RelayDriver) -> driver.Pass:
        done = await sync_once(self)
        level.append(self._url)
        if self._replica is ana.replica:
            released.set()  # only now does the other one give up
        return done

    monkeypatch.setattr(Seat, "dial", slow_dial)
    monkeypatch.setattr(driver.RelayDriver, "sync_once", spied)
    await ana.restart()
    async with asyncio.timeout(30):
        report = await ana.sync()
    assert level == [two.url]
    assert {relay.url: relay.ok for relay in report.relays} == {one.url: False, two.url: True}
    await ben.sync()
    assert await ben.texts() == ["one"]


async def test_who_watches_follows_a_move(world: World) -> None:
    old = world.add_relay()
    ana, ben = await world.group("ana", "ben")
    new = world.add_relay()
    level = asyncio.Event()

    def on_state(url: str, error: RelayError | None) -> None:
        if url == new.url and error is None:
            level.set()

    async with ben.group.watch(on_state):
        await ana.group.move_relays([new.url])
        await ana.sync()
        async with asyncio.timeout(30):
            await level.wait()
        await ana.group.feed.post("at the new one")
        heard = asyncio.ensure_future(_next_change(ben))
        await asyncio.sleep(0)
        await ana.sync()
        async with asyncio.timeout(30):
            await heard
    await ben.sync()
    assert await ben.texts() == ["at the new one"]
    assert ben.group.relays == [new.url]
    assert old.url not in [state.url for state in ben.replica.relays.all()]


async def _next_change(seat: Seat) -> None:
    async for event in seat.group.events():
        if isinstance(event, DocumentChanged):
            return


async def test_an_edit_that_the_caller_has_open_is_told_and_waits_for_nobody(world: World) -> None:
    world.add_relay()
    world.add_relay()
    (ana,) = await world.group("ana")
    async with ana.group.document("list", {"items": dict}).change() as doc:
        doc["items"]["milk"] = 1
        with pytest.raises(UsageError, match="edit"):
            async with asyncio.timeout(10):
                await ana.sync()


async def test_with_a_dead_relay_that_is_left_a_sync_tries_it_only_now_and_then(world: World) -> None:
    old = world.add_relay()
    ana, _ = await world.group("ana", "ben")
    old.reachable = False
    new = world.add_relay()
    await ana.group.move_relays([new.url])
    assert {relay.url for relay in (await ana.sync()).relays} == {old.url, new.url}
    assert {relay.url for relay in (await ana.sync()).relays} == {new.url}
    world.now_ms += 3_700_000
    assert {relay.url for relay in (await ana.sync()).relays} == {old.url, new.url}
    old.reachable = True
    world.now_ms += 3_700_000
    assert all(relay.ok for relay in (await ana.sync()).relays)
    assert ana.group.relays == [new.url]
    assert old.logs[ana.replica.epoch.topic].sealed, "it came back, and is told"


# --- members and relays that mislead


async def test_a_member_cannot_hold_up_the_others_by_a_false_signpost(world: World) -> None:
    """Whoever holds the secret can seal the topic with a change of policy of their own making."""
    relay = world.add_relay()
    ana, ben, eve = await world.group("ana", "ben", "eve")
    stranger = MemoryRelay("ws://stranger.test:8787", seed=7)
    for seat in (ana, ben):
        seat.relays[stranger.url] = stranger
    await ana.group.rotate()
    await world.level()
    topic = eve.replica.epoch.topic
    forger = Forger(eve)
    forger.roster_heads = (EntryId(b"\x01" * 32),)
    envelope = forger.operate(SetPolicy(replace(eve.group.policy, relays=(stranger.url,))))
    relay.logs[topic].envelopes.append(envelope)
    relay.logs[topic].sealed = True
    await ana.group.feed.post("unhurt")
    for _ in range(3):
        for seat in (ana, ben):
            with suppress(RelayError):  # whose turn it is not to rotate can only say that the topic takes nothing
                await seat.sync()
        world.now_ms += 120_000
    assert ana.replica.epoch.topic == ben.replica.epoch.topic != topic
    assert await ben.texts() == ["unhurt"]
    assert ana.group.relays == [relay.url]
    assert not stranger.logs


async def test_who_comes_late_tries_a_false_signpost_and_gives_it_nothing(world: World) -> None:
    relay = world.add_relay()
    ana, dan, eve = await world.group("ana", "dan", "eve")
    stranger = MemoryRelay("ws://stranger.test:8787", seed=7)
    dan.relays[stranger.url] = stranger
    await dan.group.feed.post("mine, and not sent")
    await ana.group.rotate()
    await ana.sync()
    await eve.sync()
    topic = ana.replica.epoch.topic
    forger = Forger(eve)
    forger.roster_heads = (EntryId(b"\x01" * 32),)
    envelope = forger.operate(SetPolicy(replace(eve.group.policy, relays=(stranger.url,))))
    log = relay.logs[topic]
    log.first, log.envelopes, log.sealed = log.last + 1, [envelope], True  # the relay helps, and keeps the end alone
    with suppress(RelayError):
        await dan.sync()
    assert dan.replica.epoch.topic == topic, "held back: it may be true"
    assert all(not one.envelopes for one in stranger.logs.values())
    assert dan.group.relays == [relay.url]
    assert [state.url for state in dan.replica.relays.all()] == [relay.url]
    age(world, 4)
    for _ in range(2):
        await dan.sync()
        world.now_ms += 300_000
    assert dan.replica.epoch.topic != topic, "it led nowhere: somebody sealed the topic"
    assert await dan.texts() == ["mine, and not sent"]


async def test_a_relay_that_is_left_is_not_said_to_withhold(world: World) -> None:
    """What is written after a move is at the new relay alone."""
    world.add_relay()
    ana, ben = await world.group("ana", "ben")
    new = world.add_relay()
    await ana.group.move_relays([new.url])
    await ana.sync()
    await ana.group.feed.post("at the new one")
    await ana.group.sync(beacon=True)
    for _ in range(2):
        await ben.group.sync(beacon=True)
        await ana.group.sync(beacon=True)
    assert await ben.texts() == ["at the new one"]
    assert ana.group.alarms() == ben.group.alarms() == []
    assert ana.group.withheld() == ben.group.withheld() == []
