"""Coming back by the phrase: a bare device, the relays, and everything that was there."""

from __future__ import annotations

import pytest

from cocoon_core.errors import InvalidPhraseError, NotPermittedError, NotYetError, RelayUnavailable, UsageError
from cocoon_core.protocol.recovery import PhraseKeys, index_mailbox, read_phrase
from cocoon_core.storage.recovery import RecoveryTable
from cocoon_core.sync.recovering import DAY_MS, EPOCH_PUT_MS, RENEW_MS
from tests.support.world import Seat, World, make_world  # noqa: F401  a fixture


def urls(world: World) -> list[str]:
    return [*world.relays]


async def cover(seat: Seat) -> str:
    """A phrase for everything that this seat has, sent."""
    made = await seat.running.new_recovery_phrase()
    assert not made.left_out
    for group in seat.running.groups():
        await group.sync()
    return made.phrase


async def come_back(world: World, phrase: str, name: str) -> Seat:
    seat = await world.seat(name)
    found = await seat.running.use_recovery_phrase(phrase, urls(world))
    assert [one.error for one in found] == [None] * len(found)
    return seat


def index_topic(world: World, phrase: str, relay: str | None = None) -> list[bytes]:
    """What the relay holds of the phrase's index."""
    url = relay or urls(world)[0]
    mailbox = index_mailbox(PhraseKeys(read_phrase(phrase)).index_secret, url)
    log = world.relays[url].logs.get(mailbox.topic)
    return [] if log is None else log.envelopes


def devices_of(seat: Seat, name: str) -> int:
    return next(member.devices for member in seat.group.members() if member.name == name)


async def test_a_phrase_brings_group_and_history_back_on_a_bare_device(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    await ana.group.feed.post("before")
    phrase = await cover(ana)
    await ben.sync()
    await ben.group.feed.post("meanwhile")
    await ben.sync()
    await ana.stop()
    again = await come_back(world, phrase, "ana2")
    assert await again.texts() == ["before", "meanwhile"]
    assert again.group.name == "Family"
    assert [member.name for member in again.group.members() if member.me] == ["Ana"]
    await again.group.feed.post("back")
    await again.sync()
    await ben.sync()
    assert (await ben.texts())[-1] == "back"
    assert devices_of(ben, "Ana") == 2
    assert again.group.me == next(m.id for m in ben.group.members() if m.name == "Ana")


async def test_groups_made_after_the_phrase_are_covered_without_it(world: World) -> None:
    ana, _ = await world.group("ana", "ben")
    phrase = await cover(ana)
    band = await ana.running.create_group("Band", member_name="Ana", relays=urls(world))
    await band.feed.post("first song")
    await band.sync()
    await ana.stop()
    again = await come_back(world, phrase, "ana2")
    assert {group.name for group in again.running.groups()} == {"Family", "Band"}
    back = again.running.group("Band")
    assert [post.text for post in await back.feed.list(limit=9)] == ["first song"]


async def test_a_phrase_made_before_any_group_covers_them_all(world: World) -> None:
    relay = world.add_relay()
    ana = await world.seat("ana")
    made = await ana.running.new_recovery_phrase()
    assert made.covered == ()
    group = await ana.running.create_group("Family", member_name="Ana", relays=[relay.url])
    await group.feed.post("hello")
    await group.sync()
    assert not ana.running.uncovered_groups()
    await ana.stop()
    assert await (await come_back(world, made.phrase, "ana2")).texts() == ["hello"]


async def test_who_comes_back_covers_what_comes_later_and_comes_back_again(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    phrase = await cover(ana)
    await ana.stop()
    second = await come_back(world, phrase, "ana2")
    band = await second.running.create_group("Band", member_name="Ana", relays=urls(world))
    await band.sync()
    await second.running.group("Family").feed.post("from the second")
    for group in second.running.groups():
        await group.sync()
    await second.stop()
    third = await come_back(world, phrase, "ana3")
    assert {group.name for group in third.running.groups()} == {"Family", "Band"}
    assert [p.text for p in await third.running.group("Family").feed.list(limit=9)] == ["from the second"]
    await ben.sync()
    assert devices_of(ben, "Ana") == 3


async def test_after_a_rotation_the_wrap_for_the_phrase_leads_on(world: World) -> None:
    """The index knows an epoch that has ended; the rotations since then wrap for recovery keys too."""
    ana, ben, chi = await world.group("ana", "ben", "chi")
    phrase = await cover(ana)
    await world.level()
    await ana.stop()
    await ben.group.feed.post("before the removal")
    await ben.sync()
    await ben.group.rotate()
    await world.level([ben, chi])
    await ben.group.feed.post("in the second epoch")
    await chi.group.rotate()
    await world.level([ben, chi])
    await chi.group.feed.post("in the third epoch")
    await world.level([ben, chi])
    again = await come_back(world, phrase, "ana2")
    assert await again.texts() == ["before the removal", "in the second epoch", "in the third epoch"]
    await world.level([again, ben, chi])
    await again.group.feed.post("back")
    await world.level([again, ben, chi])
    assert (await chi.texts())[-1] == "back"


async def test_the_admin_whose_only_phone_was_lost_is_an_admin_again(world: World) -> None:
    """Without phrase or guardians nobody can do what takes an admin; with the phrase it is as before."""
    ana, ben = await world.group("ana", "ben")
    phrase = await cover(ana)
    await ben.sync()
    await ana.stop()
    with pytest.raises(UsageError, match="only an admin"):
        await ben.group.set_role("Ben", "admin")
    await ben.group.feed.post("the group goes on all the same")
    await ben.sync()
    again = await come_back(world, phrase, "ana2")
    await again.group.set_role("Ben", "admin")
    await again.sync()
    await ben.sync()
    assert {member.name: member.role for member in ben.group.members()} == {"Ana": "admin", "Ben": "admin"}


async def test_the_lost_device_is_put_out_from_the_new_one(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    phrase = await cover(ana)
    lost = ana.device
    again = await come_back(world, phrase, "ana2")
    await again.group.remove_device(lost.hex())
    await world.level([again, ben])
    await ana.group.feed.post("by the thief")
    await ana.sync()
    await world.level([again, ben])
    assert await ben.texts() == []
    assert ana.group.me is None


async def test_a_new_phrase_stops_the_one_before(world: World) -> None:
    ana, _ = await world.group("ana", "ben")
    old = await cover(ana)
    new = await cover(ana)
    await ana.stop()
    seat = await world.seat("thief")
    (found,) = await seat.running.use_recovery_phrase(old, urls(world))
    assert isinstance(found.error, NotPermittedError)
    assert found.group is None
    assert not seat.running.groups()
    await come_back(world, new, "ana2")


async def test_who_was_removed_does_not_come_back_by_phrase(world: World) -> None:
    ana, ben, chi = await world.group("ana", "ben", "chi")
    phrase = await cover(ben)
    await world.level()
    await ana.group.remove_member("Ben")
    await world.level([ana, chi])
    seat = await world.seat("ben2")
    (found,) = await seat.running.use_recovery_phrase(phrase, urls(world))
    assert found.error is not None
    assert not seat.running.groups()
    await ana.sync()
    assert {member.name for member in ana.group.members()} == {"Ana", "Chi"}


async def test_it_can_be_used_while_the_old_device_lives(world: World) -> None:
    (ana,) = await world.group("ana")
    phrase = await cover(ana)
    second = await come_back(world, phrase, "ana2")
    await world.level([ana, second])
    await ana.group.feed.post("one")
    await world.level([ana, second])
    assert await second.texts() == ["one"]
    (here,) = await second.running.use_recovery_phrase(phrase, urls(world))  # again: nothing is done twice
    assert here.group is second.group
    assert devices_of(second, "Ana") == 2


async def test_words_of_another_phrase_find_nothing(world: World) -> None:
    (ana,) = await world.group("ana")
    await cover(ana)
    seat = await world.seat("somebody")
    with pytest.raises(NotYetError, match="no index of this phrase"):
        await seat.running.use_recovery_phrase("abandon " * 11 + "about", urls(world))
    with pytest.raises(InvalidPhraseError):
        await seat.running.use_recovery_phrase("abandon " * 12, urls(world))
    with pytest.raises(UsageError):
        await seat.running.use_recovery_phrase("abandon " * 11 + "about", ["http:/nowhere"])
    with pytest.raises(RelayUnavailable):
        await seat.running.use_recovery_phrase("abandon " * 11 + "about", ["ws://nowhere.test:1"])


async def test_what_a_lost_relay_kept_from_coming_back_comes_when_it_is_there_again(world: World) -> None:
    first, second = world.add_relay(), world.add_relay()
    ana = await world.seat("ana")
    for name, relay in (("Family", first), ("Band", second)):
        group = await ana.running.create_group(name, member_name="Ana", relays=[relay.url])
        await group.feed.post(f"in {name}")
        await group.sync()
    phrase = await cover(ana)
    await ana.stop()
    second.switch_off()
    seat = await world.seat("ana2")
    found = {one.name: one for one in await seat.running.use_recovery_phrase(phrase, [first.url])}
    assert found["Family"].error is None
    assert isinstance(found["Band"].error, RelayUnavailable)
    second.reachable = True
    await seat.restart()
    found = {one.name: one for one in await seat.running.use_recovery_phrase(phrase, [first.url])}
    assert {name: one.error for name, one in found.items()} == {"Family": None, "Band": None}
    assert [p.text for p in await seat.running.group("Band").feed.list(limit=9)] == ["in Band"]


async def test_any_relay_of_any_group_has_the_whole_index(world: World) -> None:
    first, second = world.add_relay(), world.add_relay()
    ana = await world.seat("ana")
    for name, relay in (("Family", first), ("Band", second)):
        await ana.running.create_group(name, member_name="Ana", relays=[relay.url])
    phrase = await cover(ana)
    for group in ana.running.groups():
        await group.sync()
    await ana.stop()
    topics = [index_mailbox(PhraseKeys(read_phrase(phrase)).index_secret, relay.url).topic for relay in (first, second)]
    assert topics[0] != topics[1]
    for number, relay in enumerate((first, second)):
        seat = await world.seat(f"ana{number}")
        found = await seat.running.use_recovery_phrase(phrase, [relay.url])
        assert {one.name for one in found if one.group is not None} == {"Family", "Band"}


# --- the index at the relay


async def test_nothing_new_puts_nothing(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    phrase = await cover(ana)
    await world.level()
    before = list(index_topic(world, phrase))
    assert len(before) == 1
    for _ in range(3):
        await ben.group.feed.post("daily talk")
        await world.level()
        world.now_ms += DAY_MS
    assert index_topic(world, phrase) == before


async def test_an_index_is_looked_for_every_month_and_put_again_where_it_expired(world: World) -> None:
    (ana,) = await world.group("ana")
    phrase = await cover(ana)
    before = list(index_topic(world, phrase))
    mailbox = index_mailbox(PhraseKeys(read_phrase(phrase)).index_secret, urls(world)[0])
    world.relays[urls(world)[0]].expire(mailbox.topic)
    world.now_ms += RENEW_MS
    await ana.sync()
    assert index_topic(world, phrase) == before  # the same bytes


async def test_a_new_epoch_alone_waits_before_it_shows_in_the_index(world: World) -> None:
    ana, _ = await world.group("ana", "ben")
    phrase = await cover(ana)
    await world.level()
    before = len(index_topic(world, phrase))
    await ana.group.rotate()
    await world.level()
    world.now_ms += EPOCH_PUT_MS - DAY_MS
    await ana.sync()
    assert len(index_topic(world, phrase)) == before
    world.now_ms += EPOCH_PUT_MS + DAY_MS
    await ana.sync()
    assert len(index_topic(world, phrase)) == before + 1


async def test_an_epoch_begun_by_who_did_not_know_of_the_phrase_goes_into_the_index_at_once(world: World) -> None:
    """It has no wrap for the phrase, so an older epoch does not lead to it."""
    ana, ben = await world.group("ana", "ben")
    await ben.group.rotate()
    phrase = await cover(ana)
    await ben.sync()
    await ana.sync()
    assert ana.replica.epoch.topic == ben.replica.epoch.topic
    await ana.sync()
    assert len(index_topic(world, phrase)) == 2
    await ana.stop()
    await ben.group.feed.post("in the second epoch")
    await ben.sync()
    again = await come_back(world, phrase, "ana2")
    assert await again.texts() == ["in the second epoch"]


async def test_the_profile_keeps_neither_the_phrase_nor_what_opens_the_index(world: World) -> None:
    (ana,) = await world.group("ana")
    phrase = await cover(ana)
    await ana.sync()
    secret = read_phrase(phrase)
    rows: list[object] = []
    database = ana.replica.database
    for (table,) in database.query("SELECT name FROM sqlite_schema WHERE type='table'"):
        for row in database.query(f'SELECT * FROM "{table}"'):
            rows += row
    stored = b"\0".join(bytes(value) if isinstance(value, bytes) else str(value).encode() for value in rows)
    assert secret.reveal() not in stored
    assert not any(" ".join(phrase.split()[at : at + 2]).encode() in stored for at in range(11))
    (seed,) = RecoveryTable(database).seeds(ana.replica.group)
    assert seed.sealed in stored  # what is searched is what is stored
    assert not RecoveryTable(database).recovering(ana.replica.record.number)


# --- the hint


async def test_a_phrase_is_recommended_once_a_day_as_long_as_all_hangs_on_one_device(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    assert [group.name for group in ana.running.uncovered_groups()] == ["Family"]
    hint = ana.running.take_recovery_hint()
    assert hint is not None
    assert "“Family”" in hint
    assert ana.running.take_recovery_hint() is None
    await ana.restart()
    assert ana.running.take_recovery_hint() is None
    world.now_ms += DAY_MS
    assert ana.running.take_recovery_hint() == hint
    await cover(ana)
    world.now_ms += DAY_MS
    assert ana.running.take_recovery_hint() is None
    assert ana.running.uncovered_groups() == []
    await ben.group.set_guardians([m.id for m in ben.group.members() if not m.me], 1)
    assert ben.running.take_recovery_hint() is None  # guardians can bring Ben back


async def test_another_phrase_of_one_s_own_takes_groups_over(world: World) -> None:
    """Who has a phrase, and uses that of an older profile, needs only their own afterwards."""
    (ana,) = await world.group("ana")
    old = await cover(ana)
    await ana.stop()
    new = await world.seat("new")
    band = await new.running.create_group("Band", member_name="Ana", relays=urls(world))
    await band.sync()
    own = await cover(new)
    found = await new.running.use_recovery_phrase(old, urls(world))
    assert [one.error for one in found] == [None]
    for group in new.running.groups():
        await group.sync()
    await new.stop()
    third = await come_back(world, own, "third")
    assert {group.name for group in third.running.groups()} == {"Family", "Band"}
