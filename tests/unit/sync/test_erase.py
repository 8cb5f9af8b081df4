"""A retired document, on several devices and through rotations: nothing that counts is lost, nothing erased comes back,
and what was erased is nowhere after the rotation.
"""

from __future__ import annotations

import bz2
from pathlib import Path
from typing import Any

import pytest

from cocoon_core.errors import UsageError
from cocoon_core.protocol.descriptor import Descriptor
from cocoon_core.sync.paging import states_before
from tests.support.linking import link
from tests.support.world import Seat, World, make_world, rebuild_everything, state_of  # noqa: F401  a fixture

CANARY = "canary-7f3c91-flies-at-midnight"


def rows_with(seat: Seat, word: str) -> list[str]:
    """The tables of a profile in which a word stands, in any row, decrypted; pages unpacked."""
    database = seat.replica.database
    tables = [name for (name,) in database.query("SELECT name FROM sqlite_master WHERE type='table'")]
    found = []
    for table in tables:
        for row in database.query(f'SELECT * FROM "{table}"'):
            values = [value.encode() if isinstance(value, str) else value for value in row]
            values += [bz2.decompress(value) for value in values if isinstance(value, bytes) and value[:3] == b"BZh"]
            if any(word.encode() in value for value in values if isinstance(value, bytes)):
                found.append(table)
    return found


async def same(*seats: Seat) -> None:
    reference = await state_of(seats[0])
    for seat in seats:
        assert await state_of(seat) == reference, seat.name
        rebuild_everything(seat)
        assert await state_of(seat) == reference, f"{seat.name} rebuilt"
        await seat.restart()
        assert await state_of(seat) == reference, f"{seat.name} restarted"
        assert (await seat.running.check()).findings == (), seat.name


async def two_devices(world: World, *others: str) -> tuple[Seat, Seat, list[Seat]]:
    """Ana's laptop and phone, and other members."""
    laptop, *rest = await world.group("ana", *others)
    phone = await world.seat("phone")
    await link(laptop, phone)
    await world.level()
    return laptop, phone, rest


async def shown(seat: Seat) -> list[str]:
    """Oldest first; those that were erased as a dash."""
    return [post.text if not post.erased else "-" for post in reversed(await seat.group.feed.list(limit=1000))]


# --- nothing is left


async def test_the_text_is_nowhere_after_erase_and_rotation(world: World) -> None:
    ana, ben, chi = await world.group("ana", "ben", "chi")
    await ana.group.feed.post("before")
    gone = await ana.group.feed.post(CANARY)
    async with ana.group.document("list", {"items": dict}).change() as doc:
        doc["items"]["milk"] = 2
    await world.level()
    await ben.group.feed.reply(gone.id, "a reply")
    await world.level()
    assert all(rows_with(seat, CANARY) for seat in (ana, ben, chi))
    await ana.group.feed.erase(gone.id)
    assert "posts" not in rows_with(ana, CANARY)
    await world.level()
    assert all("posts" not in rows_with(seat, CANARY) for seat in (ana, ben, chi))
    await ana.group.rotate()
    await world.level()
    for seat in (ana, ben, chi):
        assert rows_with(seat, CANARY) == [], seat.name
    await same(ana, ben, chi)
    link_ = await ben.group.invite()
    await ben.sync()
    dee = await world.seat("dee")
    await dee.running.join(link_, member_name="Dee")
    await world.level()
    assert rows_with(dee, CANARY) == []
    assert await shown(dee) == await shown(ana) == ["before", "-"]
    await same(ana, ben, chi, dee)


async def test_all_that_stood_in_the_same_runs_is_kept(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    gone = await ana.group.feed.post(CANARY)  # all of this is one run, since none was sent yet
    async with ana.group.document("diary").change() as doc:
        doc["today"] = "rain"
    async with ana.group.document("list", {"items": dict}).change() as doc:
        doc["items"]["milk"] = 2
    await world.level()
    async with ben.group.document("list", {"items": dict}).change() as doc:
        doc["items"]["tea"] = 1
    await world.level()
    await ben.group.rotate()
    await world.level()
    await ana.group.feed.erase(gone.id)
    await world.level()
    await ben.group.rotate()
    await world.level()
    for seat in (ana, ben):
        assert rows_with(seat, CANARY) == []
        assert seat.group.document("list", {"items": dict}).read().to_python() == {"items": {"milk": 2, "tea": 1}}
        me = ana.group.me
        assert seat.group.document("diary", owner=me).read().to_python() == {"today": "rain"}
    await ana.group.feed.post("goes on")
    await world.level()
    await same(ana, ben)


async def test_the_newest_own_run_can_go_and_the_chain_goes_on(world: World) -> None:
    laptop, phone, (ben,) = await two_devices(world, "ben")
    gone = await laptop.group.feed.post(CANARY)
    await world.level()
    await phone.group.feed.erase(gone.id)
    await world.level()
    await ben.group.rotate()
    await world.level()
    assert rows_with(laptop, CANARY) == []
    await laptop.group.feed.post("after")
    await laptop.restart()
    await laptop.group.feed.post("and after")
    await world.level()
    assert await shown(ben) == ["-", "after", "and after"]
    await same(laptop, phone, ben)


async def test_a_rotation_right_away_is_enough(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    gone = await ana.group.feed.post(CANARY)
    await world.level()
    await ana.group.feed.erase(gone.id)
    await ana.group.rotate()
    await world.level()
    assert rows_with(ana, CANARY) == rows_with(ben, CANARY) == []


async def test_before_the_rotation_nothing_is_let_go_of(world: World) -> None:
    """The retire may yet be withdrawn: whoever removes its device without having seen it brings the document back."""
    laptop, phone, (ben,) = await two_devices(world, "ben")
    post = await laptop.group.feed.post("stays after all")
    await world.level()
    await laptop.group.feed.erase(post.id)
    await laptop.sync()
    devices = [device for device in phone.group.devices() if device.id == laptop.device]
    await phone.group.remove_device(devices[0].id.hex())  # unknowing
    assert await shown(phone) == ["stays after all"]
    await world.level([phone, ben])
    assert await shown(phone) == await shown(ben) == ["stays after all"]
    await same(phone, ben)


async def test_an_erase_that_was_withdrawn_after_the_rotation_brings_the_document_back(world: World) -> None:
    """By a fork: somebody removes the device and rotates, who knew neither the retire nor the rotation after it."""
    laptop, phone, (ben, chi) = await two_devices(world, "ben", "chi")
    post = await laptop.group.feed.post("stays after all")
    await world.level()
    devices = [device for device in phone.group.devices() if device.id == laptop.device]
    await phone.group.remove_device(devices[0].id.hex())
    await laptop.group.feed.erase(post.id)
    await laptop.group.rotate()
    await world.level([laptop, ben, chi])
    assert await shown(ben) == ["-"]
    assert rows_with(ben, "stays after all") == []
    await phone.sync()
    for _ in range(3):
        for seat in (ben, chi, phone):
            await seat.sync()
        world.now_ms += 3_600_000
    await world.level([phone, ben, chi], rounds=20)
    assert await shown(phone) == await shown(ben) == await shown(chi) == ["stays after all"]
    await same(phone, ben, chi)


# --- several devices of one member


async def test_what_another_own_device_wrote_in_between_is_made_again(world: World) -> None:
    laptop, phone, (ben,) = await two_devices(world, "ben")
    first = await laptop.group.feed.post(CANARY)
    second = await laptop.group.feed.post("second")
    await world.level()
    await phone.group.feed.post("from the phone, unknowing")
    await laptop.group.feed.erase(first.id)
    await world.level()
    for seat in (laptop, phone, ben):
        assert await shown(seat) == ["-", "second", "from the phone, unknowing"]
    assert (await phone.group.feed.get(second.id)).text == "second"
    await same(laptop, phone, ben)
    await ben.group.rotate()
    await world.level()
    world.now_ms += 3_600_000  # the laptop gives the phone its time to make again what it wrote
    await world.level()
    for seat in (laptop, phone, ben):
        assert await shown(seat) == ["-", "second", "from the phone, unknowing"]
        assert rows_with(seat, CANARY) == []
    await same(laptop, phone, ben)


async def test_what_a_device_wrote_that_is_gone_is_made_again_by_another(world: World) -> None:
    laptop, phone, (ben,) = await two_devices(world, "ben")
    first = await laptop.group.feed.post("first")
    await world.level()
    await phone.group.feed.post("last words of the phone")
    await phone.sync()
    await phone.stop()
    await laptop.group.feed.erase(first.id)
    await world.level([laptop, ben])
    assert await shown(ben) == ["-"]
    world.now_ms += 3_600_000
    await world.level([laptop, ben])
    assert await shown(laptop) == await shown(ben) == ["-", "last words of the phone"]
    await same(laptop, ben)


async def test_a_device_that_comes_back_after_months_loses_nothing_and_brings_nothing_back(world: World) -> None:
    laptop, phone, (ben,) = await two_devices(world, "ben")
    gone = await laptop.group.feed.post(CANARY)
    await world.level()
    await phone.group.feed.post("written on the mountain")
    await laptop.group.feed.erase(gone.id)
    await laptop.group.rotate()
    await world.level([laptop, ben])
    for _ in range(3):
        world.now_ms += 31 * 86_400_000
        await laptop.group.feed.post("a month later")
        await laptop.group.rotate()
        await world.level([laptop, ben])
        for relay in world.relays.values():
            relay.age(31)
    assert rows_with(laptop, CANARY) == rows_with(ben, CANARY) == []
    await world.level(rounds=16)
    expected = ["-", "written on the mountain", *["a month later"] * 3]
    for seat in (laptop, phone, ben):
        assert await shown(seat) == expected, seat.name
        assert rows_with(seat, CANARY) == [], seat.name
    await same(laptop, phone, ben)


async def test_two_devices_that_erase_at_once_erase_both(world: World) -> None:
    laptop, phone, (ben,) = await two_devices(world, "ben")
    one = await laptop.group.feed.post("one " + CANARY)
    two = await laptop.group.feed.post("two " + CANARY)
    await laptop.group.feed.post("three")
    await world.level()
    await laptop.group.feed.erase(one.id)
    await phone.group.feed.erase(two.id)
    await world.level(rounds=16)
    world.now_ms += 3_600_000
    await world.level(rounds=16)
    for seat in (laptop, phone, ben):
        assert await shown(seat) == ["-", "-", "three"]
    await same(laptop, phone, ben)
    await ben.group.rotate()
    await world.level()
    for seat in (laptop, phone, ben):
        assert rows_with(seat, CANARY) == [], seat.name
    await same(laptop, phone, ben)


# --- limits


async def test_what_was_retired_takes_no_edit(world: World) -> None:
    (ana,) = await world.group("ana")
    post = await ana.group.feed.post("one")
    record = next(one for one in ana.replica.documents.all() if one.descriptor.name.startswith("feed/"))
    await ana.group.feed.erase(post.id)
    with pytest.raises(UsageError, match="retired"), ana.replica.change(record.descriptor) as root:
        root["post:1"] = {"at": 1, "text": "late"}
    assert generation_of(ana) == 1


def generation_of(seat: Seat) -> Any:
    found: list[Descriptor] = [one.descriptor for one in seat.replica.documents.all()]
    return max(one.generation for one in found if one.name.startswith("feed/"))


async def test_a_bundle_made_before_the_rotation_brings_a_sleeper_level(world: World, tmp_path: Path) -> None:
    """It needs the pages of the manifest as that was packed, with what was retired since."""
    ana, ben, chi = await world.group("ana", "ben", "chi")
    gone = await ana.group.feed.post(CANARY)
    kept = await ana.group.feed.post("kept")
    await ana.group.rotate()
    await world.level([ana, ben])
    await ana.group.feed.erase(gone.id)
    await world.level([ana, ben])
    next(iter(world.relays.values())).switch_off()
    file = tmp_path / "family.cocoon"
    await ben.group.export_bundle(file)
    await chi.running.import_bundle(file)
    assert await shown(chi) == ["-", "kept"]
    assert (await chi.group.feed.get(kept.id)).text == "kept"
    await same(ana, ben, chi)


async def join(world: World, inviter: Seat, name: str) -> Seat:
    offered = await inviter.group.invite()
    await inviter.sync()
    seat = await world.seat(name)
    await seat.running.join(offered, member_name=name.title())
    await world.level()
    return seat


async def test_what_shares_a_page_with_the_erased_is_packed_without_it(world: World) -> None:
    """Closed months share pages; whoever read one of those holds it as it came."""
    ana, ben = await world.group("ana", "ben")
    gone = await ana.group.feed.post(CANARY)
    for _ in range(2):
        for n in range(10):
            await ana.group.feed.post(f"ana {n}")
            await ben.group.feed.post(f"ben {n}")
        await world.level()
        await ana.group.rotate()
        await world.level()
        world.now_ms += 40 * 86_400_000
    await ben.group.rotate()
    await world.level()
    chi = await join(world, ben, "chi")
    assert "pages" in rows_with(chi, CANARY)
    assert len(chi.replica.snapshots.stored_pages()) == 1, "all closed months stand in one page"
    await ana.group.feed.erase(gone.id)
    await world.level()
    await chi.group.rotate()
    await world.level()
    for seat in (ana, ben, chi):
        assert rows_with(seat, CANARY) == [], seat.name
    await same(ana, ben, chi)
    dee = await join(world, ben, "dee")
    assert rows_with(dee, CANARY) == []
    assert len(await shown(dee)) == 41
    await same(ana, ben, chi, dee)


async def test_what_is_retired_before_it_was_read_is_never_read(world: World) -> None:
    ana, ben, chi = await world.group("ana", "ben", "chi")
    gone = await ana.group.feed.post(CANARY)
    await world.level([ana, ben])
    topic = ana.replica.epoch.topic
    await ana.group.rotate()
    await world.level([ana, ben])
    relay = next(iter(world.relays.values()))
    log = relay.logs[topic]
    log.first, log.envelopes = log.last, log.envelopes[-1:]  # of the topic before, nothing is kept but its end
    for page in {
        page.name for one in states_before(ana.replica).values() if one.snapshot for page in one.snapshot.pages
    }:
        del relay.blobs.kept[page]
    await chi.sync()
    assert chi.replica.debts.page_names()
    await ana.group.feed.erase(gone.id)
    await world.level([ana, ben])
    await chi.sync()
    assert await shown(chi) == ["-"]
    assert not chi.replica.debts
    await world.level()
    assert rows_with(chi, CANARY) == []
    await same(ana, ben, chi)
