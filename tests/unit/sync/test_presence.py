"""Who is here and typing: shown to those who watch, for seconds, as their own devices say; nothing of it is stored."""

from __future__ import annotations

import asyncio

import pytest

from cocoon_core.people import Person
from cocoon_core.protocol.cast import PresenceCast, open_cast, seal_cast, sign_presence
from cocoon_core.protocol.constants import HERE_LASTS, HERE_SECONDS, NONCE_BYTES, PRESENCE_SKEW_SECONDS, TYPING_LASTS
from cocoon_core.sync import casting, driver, presence
from cocoon_core.sync.events import GroupEvent, PresenceChanged
from cocoon_core.sync.session import Session
from tests.support.world import Seat, World, make_world, state_of
from tests.unit.sync.test_casting import HeardRelay, caster, until, watching

__all__ = ["make_world"]


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits ten seconds here."""
    monkeypatch.setattr(driver, "CAST_SECONDS", 0.01)
    monkeypatch.setattr(casting, "HERE_SECONDS", 0.05)


def person(at: Seat, name: str) -> Person:
    return next(one for one in at.group.people() if one.name == name)


def heard(at: Seat, cast: PresenceCast) -> None:
    """That device hears a cast, as a relay forwards it."""
    hearing, epoch = caster(at), at.replica.epoch
    hearing.heard(epoch.topic, seal_cast(cast, epoch, bytes(NONCE_BYTES)))


def said(of: Seat, place: bytes | None = None, *, later_ms: int = 0) -> PresenceCast:
    return sign_presence(of.replica.keys.signing, of.replica.epoch, of.clock() + later_ms, place)


async def test_who_watches_sees_who_is_here_and_where_they_type(world: World) -> None:
    relay = HeardRelay()
    world.add_relay(relay)
    ana, ben = await world.group("ana", "ben")
    post = await ana.group.feed.post("Who has the ladder?")
    await world.level()
    answer = await ben.group.feed.reply(post.id, "I")
    await world.level()
    assert person(ana, "Ben").online is None
    before = await state_of(ana)
    events: list[GroupEvent] = []
    async with watching(ana, ben):
        unlisten = ana.replica.listen(events.append)
        await until(lambda: bool(person(ana, "Ben").online and person(ben, "Ana").online))
        assert person(ana, "Ben").typing is None
        await ben.group.set_typing(answer.id)
        await until(lambda: person(ana, "Ben").typing == post.id)
        await ben.group.set_typing()
        await until(lambda: person(ana, "Ben").typing == "")
        unlisten()
    assert person(ana, "Ben").online is None
    told = [event for event in events if isinstance(event, PresenceChanged)]
    assert ben.group.me is not None
    assert PresenceChanged(ben.group.me, True, post.id) in told
    values = {cast: open_cast(cast, ana.replica.epoch) for cast in relay.casts}
    sizes = {len(cast) for cast, value in values.items() if isinstance(value, PresenceCast)}
    assert sizes == {296}  # attack 9: nobody tells typing from the rest by its size
    assert await state_of(ana) == before


async def test_what_was_said_ends_by_itself(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    ana.replica.presence.now = now = Clock()
    ana.replica.presence.connections.add("ws://relay0.test:8787")
    events: list[GroupEvent] = []
    ana.replica.listen(events.append)
    heard(ana, said(ben, b""))
    assert (person(ana, "Ben").online, person(ana, "Ben").typing) == (True, "")
    now.seconds += TYPING_LASTS
    assert (person(ana, "Ben").online, person(ana, "Ben").typing) == (True, None)
    now.seconds += HERE_LASTS
    assert person(ana, "Ben").online is False
    ana.replica.presence.tell()
    ana.replica.presence.tell()
    me = ben.group.me
    assert me is not None
    assert events == [PresenceChanged(me, True, ""), PresenceChanged(me, False, None)]


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


async def test_attack_27_nobody_is_shown_as_here_by_anothers_word(world: World) -> None:
    ana, ben, mal = await world.group("ana", "ben", "mal")
    true = said(ben, b"")
    forged = PresenceCast(ben.device, true.time_ms + 1, b"", true.signature)
    as_ben = sign_presence(mal.replica.keys.signing, mal.replica.epoch, mal.clock(), None)
    stolen = PresenceCast(ben.device, as_ben.time_ms, None, as_ben.signature)
    for cast in (forged, stolen):
        heard(ana, cast)
    assert ana.replica.presence.here() == {}
    heard(ana, true)
    assert ana.replica.presence.here() == {ben.group.me: b""}


async def test_attack_02_what_was_said_is_not_heeded_twice_nor_late(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    ana.replica.presence.now = now = Clock()
    old = said(ben)
    heard(ana, old)
    now.seconds += HERE_LASTS
    heard(ana, old)
    assert ana.replica.presence.here() == {}
    skew_ms = PRESENCE_SKEW_SECONDS * 1000 + 1000
    for late in (said(ben, later_ms=-skew_ms), said(ben, later_ms=skew_ms)):
        heard(ana, late)
    assert ana.replica.presence.here() == {}
    heard(ana, said(ben))
    assert len(ana.replica.presence.here()) == 1


async def test_who_is_out_is_not_shown(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    last = said(ben)
    heard(ana, last)
    await ana.group.remove_member("Ben")
    assert ana.replica.presence.here() == {}
    heard(ana, said(ben))
    assert ana.replica.presence.here() == {}


async def test_who_is_quiet_says_nothing_and_is_not_shown(world: World) -> None:
    relay = HeardRelay()
    world.add_relay(relay)
    ana, ben = await world.group("ana", "ben")
    await ben.group.profile.set(quiet=True)
    await world.level()
    heard(ana, said(ben))  # of another device of his, which does not know yet
    assert ana.replica.presence.here() == {}
    async with watching(ana, ben):
        await ben.group.set_typing()
        await until(lambda: bool(person(ben, "Ana").online))
        assert person(ana, "Ben").online is False
        assert person(ben, "Ben").online is False
    values = [open_cast(cast, ana.replica.epoch) for cast in relay.casts]
    assert {value.device for value in values if isinstance(value, PresenceCast)} == {ana.device}


async def test_what_runs_in_the_background_is_not_here(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    ben.group.set_present(False)
    async with watching(ana, ben):
        await until(lambda: bool(person(ben, "Ana").online))
        assert person(ana, "Ben").online is False


async def test_in_large_groups_nobody_says_or_hears_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ana, ben = await world.group("ana", "ben")
    monkeypatch.setattr(presence, "MAX_CAST_MEMBERS", 1)
    assert not ana.replica.presence.is_said()
    heard(ana, said(ben))
    assert ana.replica.presence.here() == {}


async def test_typing_is_said_once_in_a_while_however_fast_somebody_types(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    (ana,) = await world.group("ana")
    made: list[bytes] = []
    monkeypatch.setattr(casting, "HERE_SECONDS", HERE_SECONDS)
    monkeypatch.setattr(Session, "cast", lambda _, __, payload: made.append(payload) or [])  # type: ignore[func-returns-value]
    monkeypatch.setattr(Session, "is_live", lambda *_: True)
    now = Clock()
    (url,) = ana.group.relays
    ana.replica.presence.now = now
    telling = casting.Casting(ana.replica, url, Session(url), now)
    for _ in range(100):  # ten seconds of ten letters each
        await ana.group.set_typing()
        telling.advance()
        now.seconds += 0.1
        await asyncio.sleep(0)
    values = [open_cast(cast, ana.replica.epoch) for cast in made]
    assert [value.typing for value in values if isinstance(value, PresenceCast)] == [b"", b"", b""]
