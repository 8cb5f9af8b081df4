"""The mistakes that an embedder or a member can make: a clear error of the right kind, and nothing changed."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cocoon_core import Cocoon
from cocoon_core.errors import (
    CocoonError,
    InvalidLinkError,
    NoKeyRingError,
    NoProfileError,
    NotYetError,
    ProfileLockedError,
    RelayUnavailable,
    UnknownGroupError,
    UnknownItemError,
    UnknownMemberError,
    UsageError,
    WrongPassphraseError,
)
from cocoon_core.sync.access import RelayAccess
from tests.support.world import SCHEMA, Seat, World, make_world, state_of  # noqa: F401  a fixture

# --- profiles


async def test_profiles_that_cannot_be_opened_say_why(tmp_path: Path) -> None:
    with pytest.raises(NoProfileError):
        await Cocoon.open(tmp_path / "none", "secret")
    with pytest.raises(NoKeyRingError):
        Cocoon.init(tmp_path / "a")
    Cocoon.init(tmp_path / "a", "secret")
    with pytest.raises(UsageError):
        Cocoon.init(tmp_path / "a", "secret")
    with pytest.raises(WrongPassphraseError):
        await Cocoon.open(tmp_path / "a", "Secret")
    with pytest.raises(WrongPassphraseError):
        await Cocoon.open(tmp_path / "a")
    async with await Cocoon.open(tmp_path / "a", "secret"):
        with pytest.raises(ProfileLockedError):
            await Cocoon.open(tmp_path / "a", "secret")
    async with await Cocoon.open(tmp_path / "a", "secret") as cocoon:
        assert cocoon.groups() == []


# --- making and naming groups


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "x" * 200},
        {"name": "two\nlines"},
        {"name": "\ud800"},
        {"member_name": ""},
        {"member_name": "deadbeef01"},
        {"member_name": "\u202eevil"},
        {"relays": []},
        {"relays": ["ftp://relay.test"]},
        {"relays": ["relay.test"]},
        {"relays": ["ws://"]},
        {"relays": ["ws://relay.test:99999"]},
        {"relays": ["ws://user:secret@relay.test"]},
        {"relays": ["ws://relay.test", "ws://relay.test"]},
        {"relays": [f"ws://relay{n}.test" for n in range(9)]},
        {"max_members": 0},
        {"max_members": 10**9},
    ],
    ids=ascii,
)
async def test_a_group_that_cannot_be_made_leaves_none(world: World, wrong: dict[str, Any]) -> None:
    seat = await world.seat("ana")
    asked: dict[str, Any] = {"name": "Family", "member_name": "Ana", "relays": ["ws://relay.test"]} | wrong
    name = asked.pop("name")
    with pytest.raises(UsageError):
        await seat.running.create_group(name, **asked)
    assert seat.running.groups() == []
    await seat.restart()
    assert seat.running.groups() == []


async def test_groups_are_found_by_name_or_beginning_of_id(world: World) -> None:
    seat = await world.seat("ana")
    with pytest.raises(UnknownGroupError, match="none yet"):
        seat.running.group("Family")
    made = [
        await seat.running.create_group(name, member_name="Ana", relays=["ws://relay.test"])
        for name in ("Family", "Band", "Band")
    ]
    assert seat.running.group("family").id == made[0].id
    assert seat.running.group(made[1].id.hex()[:12]).id == made[1].id
    with pytest.raises(UnknownGroupError, match="more than one"):
        seat.running.group("Band")
    for wrong in ("", "Choir", "abc", "zzzz", made[0].id.hex() + "00"):
        with pytest.raises(UnknownGroupError):
            seat.running.group(wrong)


# --- joining


async def test_links_that_are_not_whole_are_refused_at_once(world: World) -> None:
    ana = (await world.group("ana"))[0]
    link = await ana.group.invite()
    await ana.sync()
    seat = await world.seat("ben")
    for wrong in ("", "cocoon:", "cocoon:AAAA", "http://example.com", link[:-1], link[:-10], link[1:], link + "A",
                  "x" * 9000, link.replace("cocoon:", "cocoon://"), link[:20] + "é" + link[21:]):  # fmt: skip
        with pytest.raises(InvalidLinkError):
            await seat.running.join(wrong, member_name="Ben")
    assert seat.running.groups() == []
    group = await seat.running.join(f"  {link[:30]}\n{link[30:]} ", member_name="Ben")  # as a mail client breaks it
    assert group.me is not None


async def test_a_link_before_its_sync_works_after_it(world: World) -> None:
    ana = (await world.group("ana"))[0]
    link = await ana.group.invite()
    seat = await world.seat("ben")
    with pytest.raises(NotYetError, match="sync"):
        await seat.running.join(link, member_name="Ben")
    assert seat.running.groups() == []
    await ana.sync()
    await seat.running.join(link, member_name="Ben")
    with pytest.raises(UsageError, match="already"):
        await seat.running.join(link, member_name="Ben")
    with pytest.raises(UsageError, match="already"):
        await ana.running.join(link, member_name="Ana")


async def test_a_join_that_was_cut_off_goes_on_with_the_same_link(world: World) -> None:
    ana = (await world.group("ana"))[0]
    relay = next(iter(world.relays.values()))
    link = await ana.group.invite()
    await ana.sync()
    seat = await world.seat("ben")
    relay.reachable = False
    with pytest.raises(RelayUnavailable):
        await seat.running.join(link, member_name="Ben")
    relay.reachable = True
    dials = 0
    dial = seat.dial

    async def once(url: str) -> Any:  # the mailbox can be read, the group's topic no longer
        nonlocal dials
        dials += 1
        if dials > 1:
            raise RelayUnavailable("gone again")
        return await dial(url)

    seat.running._dial = RelayAccess(once, seat.dial_blobs)
    with pytest.raises(RelayUnavailable):
        await seat.running.join(link, member_name="Ben")
    assert seat.running.groups() == []
    await seat.restart()
    assert seat.running.groups() == []
    group = await seat.running.join(link, member_name="Ben")
    await world.level()
    assert [member.name for member in ana.group.members()] == ["Ana", "Ben"]
    assert group.me == ana.group.members()[1].id


async def test_a_used_closed_or_expired_link_says_so_and_leaves_nothing(world: World) -> None:
    ana = (await world.group("ana"))[0]
    used, closed = await ana.group.invite(), await ana.group.invite()
    expired = await ana.group.invite(expires_in=timedelta(seconds=30))
    await ana.group.revoke_invite(ana.group.invites()[1].id.hex())
    await world.level()
    ben = await world.seat("ben")
    await ben.running.join(used, member_name="Ben")
    world.now_ms += 40_000
    seat = await world.seat("chi")
    open_invites = [invite for invite in ana.group.invites() if invite.open]
    for link in (used, closed, expired):
        with pytest.raises((InvalidLinkError, NotYetError)) as refused:
            await seat.running.join(link, member_name="Chi")
        if isinstance(refused.value, InvalidLinkError):
            assert seat.running.groups() == []
    assert open_invites
    fresh = await ana.group.invite()
    await world.level([ana, ben])
    await seat.running.join(fresh, member_name="Chi")
    await world.level()
    assert len(ana.group.members()) == 3


@pytest.mark.parametrize("name", ["", " ", "deadbeef", "a\nb", "x" * 300, "\ud800"], ids=ascii)
async def test_a_name_that_cannot_be_leaves_no_group_behind(world: World, name: str) -> None:
    ana = (await world.group("ana"))[0]
    link = await ana.group.invite()
    await ana.sync()
    seat = await world.seat("ben")
    with pytest.raises(UsageError):
        await seat.running.join(link, member_name=name)
    assert seat.running.groups() == []
    await seat.running.join(link, member_name="Ben")


# --- members, invites, documents


async def test_members_are_named_by_name_or_beginning_of_id(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    me = ana.group.me
    assert me is not None
    assert ana.group.find_member("ANA") == me == ana.group.find_member(me.hex()[:6])
    for wrong in ("", "Zoe", "abc", "zzzz"):
        with pytest.raises(UnknownMemberError):
            ana.group.find_member(wrong)
        with pytest.raises(UnknownMemberError):
            await ana.group.set_role(wrong, "admin")
    with pytest.raises(UsageError, match="role"):
        await ana.group.set_role("Ben", "king")
    with pytest.raises(UsageError):
        await ben.group.set_role("Ben", "admin")
    with pytest.raises(UsageError):
        await ben.group.set_role("Ana", "member")
    assert ben.group.unsent() == 0


@pytest.mark.parametrize(("uses", "seconds"), [(0, 60), (-1, 60), (10**6, 60), (1, 0), (1, -5), (50, 60)], ids=str)
async def test_an_invite_that_cannot_be_writes_nothing(world: World, uses: int, seconds: int) -> None:
    ana = (await world.group("ana"))[0]
    with pytest.raises(UsageError):
        await ana.group.invite(uses=uses, expires_in=timedelta(seconds=seconds))
    assert ana.group.invites() == []
    assert ana.group.unsent() == 0
    assert ana.replica.groups.letters(ana.replica.record.number, ana.group.relays[0]) == []


async def test_revoking_what_is_not_there_is_said(world: World) -> None:
    ana = (await world.group("ana"))[0]
    with pytest.raises(UnknownItemError):
        await ana.group.revoke_invite("abcd")
    await ana.group.invite()
    with pytest.raises(UnknownItemError):
        await ana.group.revoke_invite("zz")
    await ana.group.revoke_invite(ana.group.invites()[0].id.hex()[:8])
    await ana.group.revoke_invite(ana.group.invites()[0].id.hex()[:8])  # closed is closed


@pytest.mark.parametrize(
    ("name", "schema"),
    [("", None), ("x" * 200, None), ("feed/2026-09", None), ("vault/x", {"a": dict}), ("d", {}), ("d", {"a": int}),
     ("d", {"": dict}), ("d", {1: dict}), ("d", {f"k{n}": dict for n in range(99)}), ("\ud800", None)],
    ids=lambda value: ascii(value)[:20],
)  # fmt: skip
async def test_a_document_that_cannot_be_is_said(world: World, name: str, schema: Any) -> None:
    ana = (await world.group("ana"))[0]
    with pytest.raises(UsageError):
        ana.group.document(name, schema)


async def test_rights_are_asked_before_anything_is_written(world: World) -> None:
    _, ben = await world.group("ana", "ben")
    with pytest.raises(UsageError, match="admin"):
        async with ben.group.document("rules", {"rules": dict}, admin=True).change() as doc:
            doc["rules"]["x"] = 1
    assert ben.group.unsent() == 0


@pytest.mark.parametrize("value", [object, {1: 2}, 2**70, {"a": {"b": set()}}, "\ud800"], ids=ascii)
async def test_a_value_that_a_document_cannot_hold_undoes_the_edit(world: World, value: Any) -> None:
    ana, ben = await world.group("ana", "ben")
    async with ana.group.document("list", SCHEMA).change() as doc:
        doc["items"]["kept"] = 1
    with pytest.raises(UsageError):
        async with ana.group.document("list", SCHEMA).change() as doc:
            doc["items"]["half"] = 1
            doc["items"]["bad"] = value
    async with ana.group.document("list", SCHEMA).change() as doc:
        doc["items"]["after"] = 2
    await world.level()
    assert ben.shared()["items"] == {"kept": 1, "after": 2}


async def test_an_edit_that_raises_or_changes_nothing_writes_nothing(world: World) -> None:
    ana = (await world.group("ana"))[0]
    before = await state_of(ana)
    with pytest.raises(ZeroDivisionError):
        async with ana.group.document("list", SCHEMA).change() as doc:
            doc["items"]["x"] = 1 / 0
    with pytest.raises(asyncio.CancelledError):
        async with ana.group.document("list", SCHEMA).change() as doc:
            doc["items"]["x"] = 1
            raise asyncio.CancelledError
    async with ana.group.document("list", SCHEMA).change():
        pass
    assert await state_of(ana) == before
    assert ana.group.unsent() == 0


async def test_an_edit_too_large_to_send_is_undone(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    with pytest.raises(UsageError, match="divide"):
        async with ana.group.document("list", SCHEMA).change() as doc:
            doc["items"]["x"] = "x" * 300_000
    async with ana.group.document("list", SCHEMA).change() as doc:
        doc["items"]["y"] = "y" * 200_000
    await world.level()
    assert ben.shared()["items"] == {"y": "y" * 200_000}


async def test_without_any_relay_everything_but_sync_works(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    next(iter(world.relays.values())).reachable = False
    await ana.group.feed.post("offline")
    link = await ana.group.invite()
    assert link.startswith("cocoon:")
    for act in (ana.group.sync, ana.group.audit):
        with pytest.raises(RelayUnavailable):
            await act()
    assert ana.group.unsent() == 2
    next(iter(world.relays.values())).reachable = True
    await world.level()
    assert await ben.texts() == ["offline"]
    assert ana.group.unsent() == 0


async def test_two_groups_of_one_profile_share_nothing(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    band = await ana.running.create_group("Band", member_name="Ana", relays=list(world.relays))
    family = ana.running.group("Family")
    await band.feed.post("for the band")
    await family.feed.post("for the family")
    await band.sync()
    await family.sync()
    await ben.sync()
    assert await ben.texts() == ["for the family"]
    assert [post.text for post in await band.feed.list()] == ["for the band"]
    keys = {band.replica.keys.id, band.replica.keys.hpke_public}
    assert not keys & {family.replica.keys.id, family.replica.keys.hpke_public}
    (post,) = await band.feed.list()
    with pytest.raises(UnknownItemError):
        await family.feed.get(post.id)


async def test_every_error_has_a_sentence_a_code_and_an_exit_code() -> None:
    def tree(kind: type[CocoonError]) -> list[type[CocoonError]]:
        return [kind, *(sub for below in kind.__subclasses__() for sub in tree(below))]

    for kind in tree(CocoonError):
        if kind.__module__ == "cocoon_core.errors":
            assert (kind.__doc__ or "").strip()
            assert kind.code
            assert kind.exit_code
