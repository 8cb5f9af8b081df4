"""Profiles as members see them: a line and a picture, whatever a hostile member writes; and when somebody was here."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cocoon_core.errors import UnknownItemError, UsageError
from cocoon_core.people import Person
from cocoon_core.protocol.descriptor import Descriptor, DocumentKind
from cocoon_core.storage.member_profiles import NOTHING_SAID
from cocoon_core.vault.images import MAX_THUMB_BYTES, MAX_THUMB_SIDE
from tests.support.hostile import Forger, inject
from tests.support.linking import link
from tests.support.media_files import CANARY, photo
from tests.support.world import Seat, World, make_world, rebuild_everything, state_of

__all__ = ["make_world"]

HOUR_MS = 3_600_000


def person(at: Seat, name: str) -> Person:
    """A member, as that device shows them."""
    return next(one for one in at.group.people() if one.name == name)


def make_photo(world: World, name: str = "me.jpg") -> Path:
    path = world.folder / name
    path.write_bytes(photo("jpg"))
    return path


async def test_everybody_sees_what_a_member_says_and_takes_back(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    assert (person(ben, "Ana").about, person(ben, "Ana").picture) == ("", None)
    await ana.group.profile.set(about="  Bakes on\nSundays ", picture=make_photo(world))
    await world.level()
    for seat in (ana, ben):
        shown = person(seat, "Ana")
        assert shown.about == "Bakes on Sundays"
        assert shown.picture is not None
        assert shown.me == (seat is ana)
        picture = await seat.group.profile.picture(shown.id)
        assert CANARY.encode() not in picture
        assert len(picture) <= MAX_THUMB_BYTES
        with Image.open(io.BytesIO(picture)) as image:
            assert (image.format, max(image.size) <= MAX_THUMB_SIDE) == ("WEBP", True)
            assert not image.info.keys() & {"exif", "xmp", "icc_profile"}
    before = await state_of(ben)
    rebuild_everything(ben)
    await ben.restart()
    assert await state_of(ben) == before == await state_of(ana)
    await ana.group.profile.set(about="")
    await ana.group.profile.remove_picture()
    await world.level()
    assert (person(ben, "Ana").about, person(ben, "Ana").picture) == ("", None)
    assert await ben.group.vault.items() == []
    with pytest.raises(UnknownItemError):
        await ben.group.profile.picture(person(ben, "Ana").id)
    assert ben.group.profile.view.rows.all() == {}


async def test_a_newcomer_sees_profiles_of_before(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    await ana.group.profile.set(about="Bakes")
    await ben.group.profile.set(about="Sings", quiet=True)
    await world.level()
    await ana.group.rotate()
    await world.level()
    chi = await world.seat("chi")
    invite = await ana.group.invite()
    await ana.sync()
    await chi.running.join(invite, member_name="Chi")
    await world.level()
    assert {one.name: (one.about, one.quiet) for one in chi.group.people()} == {
        "Ana": ("Bakes", False),
        "Ben": ("Sings", True),
        "Chi": ("", False),
    }
    assert await state_of(chi) == await state_of(ana)


async def test_two_devices_of_a_member_that_write_at_once_agree(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    second = await world.seat("ana2")
    await link(ana, second)
    await world.level()
    await ana.group.profile.set(about="from the first", quiet=True)
    await second.group.profile.set(about="from the second")
    await world.level()
    said = {seat.group.profile.get(ana.group.me) for seat in (ana, second, ben)}
    assert len(said) == 1
    assert said.pop().quiet
    assert await state_of(ana) == await state_of(second) == await state_of(ben)


async def test_a_picture_goes_out_of_the_vault_when_another_takes_its_place_and_other_photos_stay(world: World) -> None:
    (ana,) = await world.group("ana")
    kept = await ana.group.vault.add(make_photo(world, "holiday.jpg"))
    await ana.group.profile.set(picture=make_photo(world))
    first = person(ana, "Ana").picture
    await ana.group.profile.set(picture=make_photo(world))
    second = person(ana, "Ana").picture
    assert first != second
    assert {item.id for item in await ana.group.vault.items()} == {kept.id, second}


async def test_what_cannot_be_said_is_refused_and_changes_nothing(world: World) -> None:
    (ana,) = await world.group("ana")
    text = world.folder / "words.txt"
    text.write_text("no photo")
    for wrong in ({"about": "é" * 257}, {"picture": text}, {"picture": world.folder / "nothing.jpg"}):
        with pytest.raises(UsageError):
            await ana.group.profile.set(**wrong)
    with pytest.raises(UsageError, match="profile"):
        ana.group.document("profile")
    assert ana.group.profile.get() == NOTHING_SAID
    assert await ana.group.vault.items() == []


# --- what hostile members write


def forge(world: World, mal: Seat, at: Seat, write: Callable[[Any], None], generation: int = 0) -> None:
    """Have mal write into its profile whatever it likes."""
    forger = Forger(mal)
    descriptor = Descriptor(DocumentKind.OWNED, "profile", forger.member, generation=generation)
    change = forger.change(descriptor, write)
    inject(next(iter(world.relays.values())), at.replica.epoch, forger.write((descriptor, change)))


ODD: dict[str, tuple[Any, Any]] = {
    "about": (5, ""),
    "about as a map": ({"a": "b"}, ""),
    "about that reads backwards": ("\u202eevil \x1b[2J text\nof two lines", "evil [2J text of two lines"),
    "about without an end": ("a" * 4_000, "a" * 509 + "…"),
    "quiet": ("yes", False),
    "quiet as a number": (1, False),
    "picture": (b"short", None),
    "picture as text": ("a" * 16, None),
    "picture of nothing": (bytes(16), None),
}


@pytest.mark.parametrize("name", ODD)
async def test_attack_21_what_is_odd_in_a_profile_is_made_harmless(world: World, name: str) -> None:
    ana, mal = await world.group("ana", "mal")
    key, (value, shown) = name.split(maxsplit=1)[0], ODD[name]

    def write(root: Any) -> None:
        root[key] = value
        root["other"] = {"what": "ever"}

    forge(world, mal, ana, write)
    await ana.sync()
    assert getattr(person(ana, "Mal"), key) == shown
    rebuild_everything(ana)
    assert getattr(person(ana, "Mal"), key) == shown


async def test_attack_27_nobody_shows_anothers_photo_beside_the_own_name(world: World) -> None:
    ana, mal = await world.group("ana", "mal")
    await ana.group.profile.set(picture=make_photo(world))
    await world.level()
    item = person(mal, "Ana").picture
    assert item is not None
    forge(world, mal, ana, lambda root: root.__setitem__("picture", bytes.fromhex(item)))
    await ana.sync()
    assert person(ana, "Mal").picture is None
    assert person(ana, "Ana").picture == item


async def test_attack_27_a_profile_is_its_owners_alone(world: World) -> None:
    ana, mal = await world.group("ana", "mal")
    await ana.group.profile.set(about="Bakes")
    await world.level()
    forger = Forger(mal)
    hers = Descriptor(DocumentKind.OWNED, "profile", ana.group.me)
    change = forger.change(hers, lambda root: root.__setitem__("about", "Cheats"))
    inject(next(iter(world.relays.values())), ana.replica.epoch, forger.write((hers, change)))
    await ana.sync()
    assert person(ana, "Ana").about == "Bakes"


# --- last signed on


async def test_last_signed_on_is_the_hour_of_the_newest_entry(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    world.now_ms += 5 * HOUR_MS
    await ben.group.feed.post("hello")
    wrote = world.now_ms
    await world.level()
    world.now_ms += 30 * HOUR_MS
    assert person(ana, "Ben").last_seen == datetime.fromtimestamp(wrote // HOUR_MS * HOUR_MS / 1000, UTC)
    ben.skew_ms = 100 * HOUR_MS
    await ben.group.feed.post("from the future")
    await world.level()
    assert person(ana, "Ben").last_seen == datetime.fromtimestamp(world.now_ms // HOUR_MS * HOUR_MS / 1000, UTC)


async def test_who_wishes_so_is_not_shown(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    assert person(ana, "Ben").last_seen is not None
    await ben.group.profile.set(quiet=True)
    await world.level()
    assert person(ana, "Ben").quiet
    assert person(ana, "Ben").last_seen is None
    shown = next(member for member in ana.group.members() if member.name == "Ben")
    assert (shown.last_seen, shown.quiet) == (None, True)
    assert [device.last_seen for device in ana.group.devices() if device.member == shown.id] == [None]
    assert all(device.last_seen is not None for device in ben.group.devices())
    assert person(ana, "Ana").last_seen is not None
    await ben.group.profile.set(quiet=False)
    await world.level()
    assert person(ana, "Ben").last_seen is not None
