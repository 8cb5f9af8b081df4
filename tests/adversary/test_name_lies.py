"""What a relay can do with names: list what it does not have, serve what it did not list, leave out, replay, run on.

Each is also run against a build from which the defence was taken out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from cocoon_core.errors import RelayUnavailable
from cocoon_core.protocol.frames import Fetched, Listed, RelayFrame
from cocoon_core.sync import driver, reconciling
from cocoon_core.sync.session import Effect, PlacesFetched, Session
from cocoon_core.sync.still import StillTopic
from tests.support.hostile import EditingRelay, topic_log
from tests.support.memory_relay import MemoryConnection
from tests.support.world import Seat, World, make_world, state_of  # noqa: F401  a fixture


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A relay in memory answers at once or never, and a few envelopes are many."""
    monkeypatch.setattr(driver, "SILENCE_SECONDS", 0.01)
    monkeypatch.setattr(reconciling, "SENT_AT_ONCE", 1)


async def behind(world: World, relay: EditingRelay) -> tuple[Seat, Seat, list[bytes]]:
    """Ben holds a part of the topic and reads it anew; three envelopes of Ana, at its middle and end, he lacks."""
    world.add_relay(relay)
    ana, ben = await world.group("ana", "ben")
    envelopes: list[bytes] = []
    for number in range(6):
        await ana.group.feed.post(f"post {number}")
        await ana.sync()
        envelopes.append(topic_log(relay, ana.replica.epoch).envelopes[-1])
        if number == 2:
            await world.level()
    log = topic_log(relay, ana.replica.epoch)
    log.envelopes.insert(3, log.envelopes.pop(-2))
    with ben.replica.transaction():
        ben.replica.log.note_missed(relay.url, ben.replica.epoch.topic, 1)
    return ana, ben, envelopes[3:]


Edit = Callable[[Any], Any]


def of_listed(change: Callable[[Listed], Listed]) -> Edit:
    return lambda frame: (change(frame) if isinstance(frame, Listed) else frame,)


def of_fetched(change: Callable[[Fetched], Fetched]) -> Edit:
    return lambda frame: (change(frame) if isinstance(frame, Fetched) else frame,)


LIES: dict[str, Edit] = {
    "names of nothing": of_listed(lambda f: replace(f, names=(*f.names[:-1], b"nothing!"))),
    "names in another order": of_listed(lambda f: replace(f, names=f.names[::-1])),
    "one name for another": of_listed(lambda f: replace(f, names=(*f.names[:-1], b"\0" * 8))),
    "a place left out": of_listed(lambda f: replace(f, first=f.first + 1, names=f.names[1:])),
    "places before those": of_listed(
        lambda f: replace(f, first=max(1, f.first - 1)) if f.first > 1 else replace(f, first=2)
    ),
    "more names than there are places": of_listed(lambda f: replace(f, names=(*f.names, *f.names))),
    "no names": of_listed(lambda f: replace(f, names=())),
    "another envelope": of_fetched(lambda f: replace(f, envelopes=(b"\x07" * 300, *f.envelopes[1:]))),
    "envelopes in another order": of_fetched(lambda f: replace(f, envelopes=f.envelopes[::-1])),
    "nothing at a place": of_fetched(lambda f: replace(f, envelopes=(None, *f.envelopes[1:]))),
    "more envelopes than places": of_fetched(lambda f: replace(f, envelopes=f.envelopes * 2)),
    "names to who asked for envelopes": lambda f: (
        (Listed(f.request, f.topic, 1, (bytes(8),)) if isinstance(f, Fetched) else f),
    ),
    "envelopes to who asked for names": lambda f: (
        (Fetched(f.request, f.topic, (b"\x07" * 300,)) if isinstance(f, Listed) else f),
    ),
    "names twice": lambda f: (f, f) if isinstance(f, Listed) else (f,),
    "names of another request": of_listed(lambda f: replace(f, request=f.request + 100)),
}


async def attack(world: World, lie: Edit) -> None:
    relay = EditingRelay()
    ana, ben, _ = await behind(world, relay)
    relay.edit = lie
    with pytest.raises(RelayUnavailable):
        await ben.sync()
    alarms = ben.group.alarms()
    assert any("the relay" in alarm for alarm in alarms), alarms
    assert not any("signature" in alarm or "decrypt" in alarm for alarm in alarms)  # nothing of it came that far
    relay.edit = lambda frame: (frame,)
    await ben.sync()
    assert await state_of(ben) == await state_of(ana)


@pytest.mark.parametrize("lie", LIES)
async def test_attack_12_lies_about_names_end_the_pass_and_are_told(world: World, lie: str) -> None:
    await attack(world, LIES[lie])


@pytest.mark.parametrize("lie", ["another envelope", "names of nothing", "envelopes in another order"])
async def test_attack_12_succeeds_where_what_is_served_is_not_compared_with_what_was_listed(
    world: World, monkeypatch: pytest.MonkeyPatch, lie: str
) -> None:
    def trusting(self: Any, frame: Fetched) -> Any:
        asked = self._asked.pop(frame.request)
        return tuple(zip(asked.places, frame.envelopes, strict=False)), asked.places[len(frame.envelopes) :]

    monkeypatch.setattr(StillTopic, "fetched", trusting)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        await attack(world, LIES[lie])


async def test_attack_12_a_relay_that_names_and_never_serves_is_given_up(world: World) -> None:
    relay = EditingRelay()
    ana, ben, _ = await behind(world, relay)
    relay.edit = lambda frame: () if isinstance(frame, Fetched) else (frame,)
    with pytest.raises(RelayUnavailable, match="does not answer"):
        await ben.sync()
    relay.edit = lambda frame: (frame,)
    await ben.sync()
    assert await state_of(ben) == await state_of(ana)


async def test_attack_42_envelopes_that_wait_for_an_earlier_one_fill_no_memory(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The relay serves everything but what comes first, for which all the rest must wait."""
    relay = EditingRelay()
    world.add_relay(relay)
    ana, ben = await world.group("ana", "ben")
    relay.limits = {"names": 100, "fetch_places": 1}
    for number in range(30):
        await ana.group.feed.post(f"post {number}")
        await ana.sync()
    held: list[int] = []
    honest = reconciling.Reconciling.fetched

    def spy(self: reconciling.Reconciling, answer: PlacesFetched) -> list[Effect]:
        effects = honest(self, answer)
        held.extend(sum(map(len, reading.fetched.values())) for reading in self._readings.values())
        return effects

    first: list[RelayFrame] = []

    def hold_back(frame: RelayFrame) -> Iterable[RelayFrame]:
        if isinstance(frame, Fetched) and not first:
            first.append(frame)
            return ()
        return (frame,)

    monkeypatch.setattr(reconciling.Reconciling, "fetched", spy)
    monkeypatch.setattr(reconciling, "FETCHED_BYTES", 1000)
    relay.edit = hold_back
    with ben.replica.transaction():
        ben.replica.log.note_missed(relay.url, ben.replica.epoch.topic, 1)
    with pytest.raises(RelayUnavailable, match="does not answer"):
        await ben.sync()
    largest = max(map(len, topic_log(relay, ana.replica.epoch).envelopes[-30:]))
    assert first
    assert max(held) <= 1000 + reconciling.FETCHES * largest
    relay.edit = lambda frame: (frame,)
    await ben.sync()
    assert await state_of(ben) == await state_of(ana)


# --- 20: acknowledge, then lose


class RememberingRelay(EditingRelay):
    """Has lost an envelope and goes on listing it, by the name that it had when it was last asked."""

    def __init__(self) -> None:
        super().__init__()
        self.lost: bytes | None = None
        self.names: dict[bytes, bytes] = {}  # envelope -> its name when it was here

    def outgoing(self, connection: MemoryConnection, frame: RelayFrame) -> Iterable[RelayFrame]:
        if isinstance(frame, Listed):
            listed = self.logs[frame.topic].envelopes[frame.first - 1 :]
            if self.lost is None:
                self.names |= dict(zip(listed, frame.names, strict=False))
            else:
                kept = zip(listed, frame.names, strict=False)
                frame = replace(frame, names=tuple(self.names[e] if e == self.lost else name for e, name in kept))
        if isinstance(frame, Fetched):
            frame = replace(frame, envelopes=tuple(None if e == self.lost else e for e in frame.envelopes))
        return super().outgoing(connection, frame)


async def claim_what_was_lost(world: World) -> tuple[Seat, RememberingRelay]:
    relay = RememberingRelay()
    ana, _, _ = await behind(world, relay)

    def read_anew() -> None:
        with ana.replica.transaction():
            ana.replica.epochs.queue_all(relay.url)
            ana.replica.log.note_missed(relay.url, ana.replica.epoch.topic, 1)

    read_anew()
    await ana.sync()
    relay.lost = topic_log(relay, ana.replica.epoch).envelopes[-1]
    read_anew()
    with suppress(RelayUnavailable):
        await ana.sync()
    return ana, relay


async def test_attack_20_a_name_that_was_once_listed_does_not_stand_for_what_is_lost(world: World) -> None:
    """The salt is another one, so the relay cannot name what it has no more; and its name is what takes a run off the
    queue of who wrote it.
    """
    ana, relay = await claim_what_was_lost(world)
    assert any("does not serve" in alarm for alarm in ana.group.alarms())
    assert ana.replica.log.outbox_size(relay.url) > 0


async def test_attack_20_succeeds_where_the_salt_is_always_the_same(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "Session", lambda origin, _: Session(origin, bytes(32)))
    ana, relay = await claim_what_was_lost(world)
    assert ana.group.alarms() == []
    assert ana.replica.log.outbox_size(relay.url) == 0
