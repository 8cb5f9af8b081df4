"""Rotation end to end: a removal in one put with it, newcomers after it, sleepers, and several devices at once."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cocoon_core.errors import CocoonError, DecryptionError
from cocoon_core.protocol import rotation
from cocoon_core.protocol.epoch import Epoch, wrap_epoch
from cocoon_core.protocol.ids import GroupId, HpkePublicKey, RecipientId
from cocoon_core.protocol.primitives import HpkeKey, Secret
from cocoon_core.protocol.roster_values import Recipient
from cocoon_core.protocol.rotation import open_rotation
from cocoon_core.storage.epochs import EpochTable
from cocoon_core.sync import driver, epochs, manifest_blobs, rotating
from cocoon_core.sync.paging import Pager
from cocoon_core.sync.rotating import find_recipients, write_rotation
from tests.support.dying import dies_after
from tests.support.epoch_story import pages_of
from tests.support.linking import link
from tests.support.world import Seat, World, alarms, make_world, rebuild_everything, state_of  # noqa: F401  a fixture


def current(*seats: Seat) -> set[bytes]:
    return {seat.replica.epoch.topic for seat in seats}


async def invite(world: World, seat: Seat, name: str) -> Seat:
    link = await seat.group.invite(expires_in=timedelta(days=1))
    await seat.sync()
    newcomer = await world.seat(name)
    await newcomer.running.join(link, member_name=name)
    return newcomer


async def with_two_admins(world: World) -> list[Seat]:
    """Ana and Ben are admins, Cleo is not."""
    ana, ben, cleo = await world.group("ana", "ben", "cleo")
    await ana.group.set_role("ben", "admin")
    await world.level()
    return [ana, ben, cleo]


async def remove(seat: Seat, name: str) -> None:
    await seat.group.remove_member(seat.group.find_member(name))


async def test_a_spent_invite_ends_the_epoch_for_all(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    first = ana.replica.record.create.topic
    await ben.group.feed.post("hi")
    await world.level()
    assert len(current(ana, ben)) == 1
    assert first not in current(ana, ben)
    assert await ana.texts() == await ben.texts() == ["hi"]


async def test_a_removal_and_its_rotation_reach_all_others(world: World) -> None:
    ana, ben, cleo = await world.group("ana", "ben", "cleo")
    await ben.group.feed.post("before")
    await world.level()
    before = current(ana, ben, cleo)
    await remove(ana, "ben")
    assert not before & current(ana)
    await ben.group.feed.post("after, unknowing")
    await ana.sync()
    await cleo.sync()
    await ana.group.feed.post("among us")
    await world.level([ana, cleo])
    assert current(ana) == current(cleo)
    assert sorted(await cleo.texts()) == sorted(await ana.texts()) == ["among us", "before"]
    await ben.sync()
    assert ben.group.me is None
    assert not current(ana) & set(ben.replica.epochs.held)
    assert "among us" not in await ben.texts()
    await world.level([ana, cleo])
    assert sorted(await ana.texts()) == ["among us", "before"]
    assert await state_of(ana) == await state_of(cleo)


async def test_what_the_removed_wrote_and_could_not_send_counts_nowhere(world: World) -> None:
    ana, ben, cleo = await world.group("ana", "ben", "cleo")
    await world.level()
    await ben.group.feed.post("late")
    await remove(ana, "ben")
    await ana.sync()
    await ben.sync()
    await world.level([ana, cleo])
    assert "late" not in await ana.texts()
    assert "late" not in await cleo.texts()


async def test_a_newcomer_after_a_rotation_has_the_whole_history(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    await ana.group.feed.post("one")
    await ben.group.feed.post("two")
    await world.level()
    await ana.group.rotate()
    await world.level()
    dan = await invite(world, ana, "dan")
    await world.level()
    assert await dan.texts() == await ana.texts()
    assert len(current(ana, ben, dan)) == 1
    rebuild_everything(dan)
    assert await state_of(dan) == await state_of(ana) == await state_of(ben)


async def test_who_slept_through_several_rotations_follows_them(world: World) -> None:
    ana, ben, cleo = await world.group("ana", "ben", "cleo")
    await world.level()
    await cleo.group.feed.post("written asleep")
    for text in ("one", "two", "three"):
        await ana.group.feed.post(text)
        await ana.group.rotate()
        await world.level([ana, ben])
    await world.level()
    assert len(current(ana, ben, cleo)) == 1
    texts = [sorted(await seat.texts()) for seat in (ana, ben, cleo)]
    assert texts == [sorted(["one", "two", "three", "written asleep"])] * 3


async def test_two_that_rotate_at_once_end_in_one_epoch(world: World) -> None:
    ana, ben, cleo = await world.group("ana", "ben", "cleo")
    await world.level()
    await ana.group.rotate()
    await ben.group.rotate()
    await ana.group.feed.post("a")
    await ben.group.feed.post("b")
    await cleo.group.feed.post("c")
    await world.level()
    assert len(current(ana, ben, cleo)) == 1
    assert sorted(await ana.texts()) == ["a", "b", "c"]
    assert await state_of(ana) == await state_of(ben) == await state_of(cleo)


async def test_who_was_put_out_by_one_who_had_no_right_to_is_told_so_no_more(world: World) -> None:
    ana, ben, cleo = await with_two_admins(world)
    await remove(ben, "cleo")
    await remove(ana, "ben")
    await ben.sync()
    await cleo.sync()
    assert alarms(cleo, "out")
    for _ in range(3):
        for seat in (ana, cleo):
            await seat.sync()
    assert cleo.group.me is not None
    assert current(ana) == current(cleo)
    assert not alarms(cleo, "out")


async def test_a_device_that_wrote_nothing_yet_is_told_so_no_more_either(world: World) -> None:
    """It has no chain of its own when it is in again."""
    ana, ben, cleo = await with_two_admins(world)
    phone = await world.seat("phone")
    await link(cleo, phone)
    await world.level()
    assert phone.device not in phone.replica.chains
    await remove(ben, "cleo")
    await remove(ana, "ben")
    await ben.sync()
    await phone.sync()
    assert alarms(phone, "out")
    for _ in range(3):
        for seat in (ana, cleo, phone):
            await seat.sync()
    assert phone.group.me is not None
    assert current(ana) == current(phone)
    assert not alarms(phone, "out")


async def test_mutual_removal_leaves_the_senior_and_one_epoch(world: World) -> None:
    ana, ben, cleo = await with_two_admins(world)
    await remove(ben, "ana")
    await remove(ana, "ben")
    await ben.sync()
    await ana.sync()
    for _ in range(3):
        for seat in (ana, cleo):
            await seat.sync()
    assert {m.name for m in cleo.group.members()} == {"Ana", "Cleo"}
    await ana.group.feed.post("still here")
    await world.level([ana, cleo])
    assert await cleo.texts() == await ana.texts() == ["still here"]
    assert current(ana) == current(cleo)
    await ben.sync()
    assert not current(ana) & set(ben.replica.epochs.held)


@pytest.mark.parametrize("fault", ["left out", "another secret", "another key"])
async def test_attack_29_who_a_rotation_left_out_complains_and_is_given_the_secret(
    world: World, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    ana, ben, cleo = await world.group("ana", "ben", "cleo")
    await world.level()
    victim = cleo.replica.keys.id

    def spoil(replica: Any, reason: Any) -> Any:
        with monkeypatch.context() as patched:
            if fault == "left out":
                patched.setattr(rotating, "find_recipients", lambda r: without(find_recipients(r), victim))
            else:
                patched.setattr(rotation, "wrap_epoch", wrong_for(cleo.replica.keys.hpke_public, fault))
            return write_rotation(replica, reason)

    monkeypatch.setattr(epochs, "write_rotation", spoil)
    await ben.group.rotate()
    monkeypatch.setattr(epochs, "write_rotation", write_rotation)
    await ben.group.feed.post("not for cleo")
    await ben.sync()
    await ana.sync()
    assert await ana.texts() == ["not for cleo"]
    for _ in range(2):
        await cleo.sync()
        assert await cleo.texts() == []
    for _ in range(3):  # ana may not be the first to answer
        await ana.sync()
        await cleo.sync()
        world.now_ms += 120_000
    assert current(ana, ben, cleo) == current(ana)
    assert await cleo.texts() == ["not for cleo"]
    assert alarms(cleo, "excluded")


@pytest.mark.parametrize("frames", range(2, 8))
async def test_who_is_left_out_complains_until_it_is_heard(
    world: World, monkeypatch: pytest.MonkeyPatch, frames: int
) -> None:
    """The pass in which Cleo found out ended before her complaint was at the relay; the program runs on."""
    ana, ben, cleo = await world.group("ana", "ben", "cleo")
    await world.level()
    leave_out(monkeypatch, cleo)
    await ben.group.rotate()
    monkeypatch.setattr(epochs, "write_rotation", write_rotation)
    await ben.group.feed.post("not for cleo")
    await ben.sync()
    cleo.dying_after = frames
    with suppress(CocoonError):
        await cleo.sync()
    cleo.dying_after = None
    for _ in range(4):
        await cleo.sync()
        await ana.sync()
        await ben.sync()
        world.now_ms += 120_000
    await cleo.sync()
    assert await cleo.texts() == ["not for cleo"]


def without(recipients: tuple[Recipient, ...], left_out: bytes) -> tuple[Recipient, ...]:
    return tuple(one for one in recipients if one.id != left_out)


def wrong_for(key: HpkePublicKey, fault: str) -> Any:
    def wrap(epoch: Epoch, recipient: HpkePublicKey, group: GroupId) -> bytes:
        if recipient != key:
            return wrap_epoch(epoch, recipient, group)
        if fault == "another secret":
            return wrap_epoch(Epoch(Secret(b"x" * 32)), recipient, group)
        return wrap_epoch(epoch, HpkeKey(Secret(b"y" * 32)).public, group)

    return wrap


@pytest.mark.parametrize("step", range(14))
async def test_a_rotation_that_dies_between_any_two_frames_is_finished_later(world: World, step: int) -> None:
    ana, ben, cleo = await world.group("ana", "ben", "cleo")
    await cleo.group.feed.post("before")
    await world.level()
    await remove(ana, "ben")
    await ana.group.feed.post("after")
    ana.dying_after = step
    with suppress(CocoonError):
        await ana.sync()
    ana.dying_after = None
    await ana.restart()
    await cleo.group.feed.post("meanwhile")
    await cleo.sync()
    await world.level([ana, cleo])
    assert sorted(await ana.texts()) == ["after", "before", "meanwhile"]
    assert await state_of(ana) == await state_of(cleo)
    assert current(ana) == current(cleo)
    await ben.sync()
    assert not current(ana) & set(ben.replica.epochs.held)
    newcomer = await invite(world, ana, "dan")
    assert sorted(await newcomer.texts()) == ["after", "before", "meanwhile"]


@pytest.mark.parametrize("mortal", ["ana", "ben"])
async def test_who_dies_after_any_transaction_of_rotating_or_following_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mortal: str
) -> None:
    """Ana rotates and dies when she syncs; or Ben, as he follows her."""
    ana, ben = await world.group("ana", "ben")
    deaths, died = 0, True
    while died:
        await ana.group.feed.post("before")
        await ana.group.rotate()
        await ana.group.feed.post("after")
        await ben.group.feed.post("meanwhile")
        if mortal == "ben":
            await ana.sync()
        dying = ana if mortal == "ana" else ben
        died = await dies_after(monkeypatch, dying, deaths, dying.sync, tmp_path / f"after {deaths}")
        deaths += died
        await world.level()
        assert len(current(ana, ben)) == 1
        assert await state_of(ana) == await state_of(ben)
    assert deaths > 5


async def test_a_manifest_without_its_blobs_is_found_out_and_made_anew(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana, ben = await world.group("ana", "ben")
    await ana.group.feed.post("one")
    await world.level()
    with monkeypatch.context() as patched:
        patched.setattr(EpochTable, "add_uploads", lambda *_: None)
        await ben.group.rotate()
    bad = current(ben)
    monkeypatch.setattr(manifest_blobs, "find_blobs", lambda *_: iter(()))  # else they are made again,
    monkeypatch.setattr(Pager, "_is_same_page", lambda *_: None)  # or known to be what they should be
    await ben.sync()
    for _ in range(3):
        await ana.sync()
        await ben.sync()
        world.now_ms += 120_000
    assert current(ana) == current(ben) != bad
    newcomer = await invite(world, ana, "dan")
    assert await newcomer.texts() == ["one"]


async def test_a_stolen_hpke_key_opens_nothing_after_a_rekey_and_a_rotation(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    await world.level()
    stolen = ben.replica.keys.hpke
    world.now_ms += 31 * 86_400_000
    await world.level(rounds=12)
    await ana.group.rotate()
    await world.level()
    (made,) = [r for r in ana.replica.members.roster.rotations if r.body.topic == ana.replica.epoch.topic]
    records = ana.replica.epochs.table.wraps(made.operation)
    assert records is not None
    with pytest.raises(DecryptionError):
        open_rotation(made.body, RecipientId(ben.device), [stolen], ben.replica.group, pages_of([records]))
    await ana.group.feed.post("secret")
    await world.level()
    assert await ben.texts() == ["secret"]


async def test_secrets_of_old_epochs_are_erased(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    await ana.group.feed.post("kept")
    await world.level()
    for _ in range(3):
        await ana.group.rotate()
        await world.level()
    assert len(ana.replica.epochs.held) > 3
    world.now_ms += 32 * 86_400_000
    await world.level(rounds=12)
    for seat in (ana, ben):
        await seat.restart()
        assert len(seat.replica.epochs.held) <= 3
        assert await seat.texts() == ["kept"]
    newcomer = await invite(world, ben, "dan")
    assert await newcomer.texts() == ["kept"]


@pytest.mark.parametrize("lost", ["complaint", "answer"])
async def test_complaints_and_answers_stand_at_every_relay(
    world: World, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    """The relay that showed one of them loses its disk, or is out of reach of who waits for it."""
    monkeypatch.setattr(driver, "SILENCE_SECONDS", 0.05)
    one, two = world.add_relay(), world.add_relay()
    ana, ben, cleo = await world.group("ana", "ben", "cleo")
    await world.level()
    leave_out(monkeypatch, cleo)
    await ben.group.rotate()
    monkeypatch.setattr(epochs, "write_rotation", write_rotation)
    await ben.group.feed.post("not for cleo")
    await ben.sync()
    two.reachable = False
    await cleo.sync()  # complains at the first relay
    if lost == "complaint":
        one.reachable, two.reachable = False, True
        await cleo.sync()
    for _ in range(4):
        await ana.sync()
        await ben.sync()
        world.now_ms += 120_000
    one.reachable, two.reachable = False, True
    for _ in range(4):
        await ana.sync()
        await ben.sync()
        await cleo.sync()
        world.now_ms += 120_000
    assert await cleo.texts() == ["not for cleo"]


def leave_out(monkeypatch: pytest.MonkeyPatch, seat: Seat) -> None:
    """Rotations that are written from now on wrap nothing for this device."""
    victim = seat.replica.keys.id

    def spoil(replica: Any, reason: Any) -> Any:
        with monkeypatch.context() as patched:
            patched.setattr(rotating, "find_recipients", lambda r: without(find_recipients(r), victim))
            return write_rotation(replica, reason)

    monkeypatch.setattr(epochs, "write_rotation", spoil)
