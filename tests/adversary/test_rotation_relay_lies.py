"""Relays that lie about the end of a topic, against whole groups: a removal must reach who stays, and never who goes.

What one such lie looks like on the wire is in test_seal_attacks.py. Here: Ana removes Ben while the relay lies. A relay
that lies a few times delays it; beside one that never stops, another relay suffices; and nothing that is written after
the removal is ever put under a key that Ben has.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from cocoon_core.errors import RelayError, UntrustedInputError
from cocoon_core.protocol.envelope import open_envelope
from cocoon_core.protocol.ids import TopicId
from cocoon_core.sync import driver, handover
from cocoon_core.sync.driver import RelayDriver
from cocoon_core.sync.epochs import DAY_MS
from cocoon_core.sync.handover import Handover
from cocoon_core.sync.session import Effect, Tag
from tests.support.lying_seals import KEPT, FalselySealed, LosingSeals, NeverLevel, OldLife, SealLiar, SelfSealing
from tests.support.memory_relay import MemoryRelay
from tests.support.waits import COMES
from tests.support.world import Seat, World, make_world  # noqa: F401  a fixture

LIARS: dict[str, Callable[[], SealLiar]] = {
    **{f"loses all but {kept}": lambda kept=kept: LosingSeals(kept) for kept in KEPT},  # type: ignore[misc]
    "seals by itself": SelfSealing,
    "calls all sealed": FalselySealed,
    "claims more": lambda: NeverLevel(claims_more=True),
    "never agrees": lambda: NeverLevel(claims_more=False),
}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A relay in memory answers at once or never."""
    monkeypatch.setattr(driver, "SILENCE_SECONDS", 0.05)


async def remove_ben(world: World, liar: SealLiar, *others: MemoryRelay) -> list[Seat]:
    """A level group at these relays; then the relay begins to lie, and Ana removes Ben and writes on."""
    for relay in (liar, *others):
        world.add_relay(relay)
    ana, ben, chi = await world.group("ana", "ben", "chi")
    await ben.group.feed.post("before")
    await world.level()
    liar.lies = True
    await ana.group.remove_member(ana.group.find_member("Ben"))
    await ana.group.feed.post("after")
    return [ana, ben, chi]


async def sync_all(*seats: Seat) -> list[str]:
    """A pass each, which ends in time; what relays are blamed for."""
    blamed: list[str] = []
    for seat in seats:
        try:
            async with asyncio.timeout(COMES):
                report = await seat.sync()
        except RelayError as error:  # no relay was of use
            blamed.append(f"{seat.name}: {error}")
            continue
        blamed += [f"{seat.name}: {relay.error}" for relay in report.relays if not relay.ok]
    return blamed


async def require_ben_out(ben: Seat, ana: Seat, relays: list[MemoryRelay]) -> None:
    """Ben has not the new secret, and nothing at any relay that he can open holds what came after."""
    await sync_all(ben)
    assert "after" not in await ben.texts()
    held = ben.replica.epochs.held
    assert ana.replica.epoch.topic not in held
    for relay in relays:
        for topic, log in relay.logs.items():
            for envelope in log.envelopes if topic in held else ():
                try:
                    assert b"after" not in open_envelope(envelope, held[topic].epoch)
                except UntrustedInputError:
                    continue


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("kept", KEPT)
async def test_attack_17_20_a_rotation_that_was_acknowledged_and_lost_is_put_until_it_is_there(
    world: World, kept: str, times: int
) -> None:
    liar = LosingSeals(kept, times)
    ana, ben, chi = await remove_ben(world, liar)
    for _ in range(3):
        await sync_all(ana, chi)
    # Where the seal alone was kept, the rest is put into the repair topic, and nothing is sealed there.
    assert liar.times == (times - 1 if kept == "seal" else 0)
    assert await sync_all(ana, chi, ana, chi) == []
    assert "after" in await chi.texts()
    assert chi.replica.epoch.topic == ana.replica.epoch.topic
    await require_ben_out(ben, ana, [liar])


async def test_attack_17_20_succeeds_where_an_acknowledgement_is_believed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Handover.acked

    def believe(self: Handover, topic: TopicId, tag: int) -> list[Effect]:
        keys = self._replica.epochs.keys(topic)
        if tag == Tag.MANIFEST or keys is None:
            return honest(self, topic, tag)
        self._putting.discard((topic, tag))
        return self._finish(keys)

    monkeypatch.setattr(Handover, "acked", believe)
    ana, _, chi = await remove_ben(world, LosingSeals("nothing", 1))
    for _ in range(4):
        await sync_all(ana, chi)
    assert "after" not in await chi.texts()


async def test_attack_17_a_relay_that_never_agrees_holds_a_pass_for_ever_where_rounds_are_not_counted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handover, "ROUNDS", 10**9)
    ana, _, _ = await remove_ben(world, NeverLevel(claims_more=False))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await ana.sync()


@pytest.mark.parametrize("lie", LIARS)
async def test_attack_17_whoever_watches_is_told_too(world: World, lie: str) -> None:
    """The relay begins to lie while the remover is level and only watches: the removal goes through, or it is told."""
    liar = LIARS[lie]()
    world.add_relay(liar)
    ana, _, chi = await world.group("ana", "ben", "chi")
    states: asyncio.Queue[RelayError | None] = asyncio.Queue()
    watching = RelayDriver(ana.replica, liar.url, ana.dial, ana.dial_blobs)
    task = asyncio.create_task(watching.watch(states.put_nowait))
    try:
        async with asyncio.timeout(COMES):
            assert await states.get() is None
            liar.lies = True
            await ana.group.remove_member(ana.group.find_member("Ben"))
            await ana.group.feed.post("after")
            told = False
            while not told and "after" not in await chi.texts():
                await sync_all(chi)
                told = not states.empty() and await states.get() is not None
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("lie", LIARS)
async def test_attack_17_beside_a_relay_that_never_stops_lying_another_suffices(world: World, lie: str) -> None:
    liar, honest = LIARS[lie](), MemoryRelay("ws://honest.test:8787", seed=2)
    ana, ben, chi = await remove_ben(world, liar, honest)
    for _ in range(4):
        await sync_all(ana, chi)
    assert "after" in await chi.texts()
    await require_ben_out(ben, ana, [liar, honest])


@pytest.mark.parametrize("lie", LIARS)
async def test_attack_17_a_lying_relay_is_told_of_and_once_it_stops_all_is_well(world: World, lie: str) -> None:
    liar = LIARS[lie]()
    ana, ben, chi = await remove_ben(world, liar)
    blamed: list[str] = []
    for _ in range(3):
        blamed += await sync_all(ana, chi)
    if "after" not in await chi.texts():
        assert blamed, "the removal did not go through, and nobody was told"
    await require_ben_out(ben, ana, [liar])
    liar.lies = False
    world.now_ms += DAY_MS  # a topic that somebody sealed is left by one rotation a day
    for _ in range(4):
        await sync_all(ana, chi)
    assert await sync_all(ana, chi) == []
    assert "after" in await chi.texts()
    assert chi.replica.epoch.topic == ana.replica.epoch.topic
    await chi.group.feed.post("and on")
    await sync_all(chi, ana)
    assert "and on" in await ana.texts()
    await require_ben_out(ben, ana, [liar])


@pytest.mark.parametrize("same_life", [True, False])
async def test_attack_16_the_old_life_of_a_sealed_topic_takes_nobody_back(world: World, same_life: bool) -> None:
    liar = OldLife()
    ana, ben, chi = await remove_ben(world, liar)
    old = chi.replica.epoch.topic
    await sync_all(ana, chi, ana, chi)
    assert liar.logs[old].sealed
    liar.go_back(old, 2, same_life=same_life)
    await ana.group.feed.post("after, too")
    for _ in range(3):
        await sync_all(ana, chi)
    assert ana.replica.epoch.topic == chi.replica.epoch.topic != old
    assert (await chi.texts())[-2:] == ["after", "after, too"]
    await require_ben_out(ben, ana, [liar])
