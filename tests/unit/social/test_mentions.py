"""Mentions: `@Name` where it names one member without doubt, what is quoted, and what of both is shown."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from cocoon_core.errors import UnknownItemError, UnknownMemberError, UsageError
from cocoon_core.protocol.constants import MAX_MENTIONS
from cocoon_core.protocol.ids import MemberId
from cocoon_core.social.mentions import find_mentions, pack_mentions
from tests.support.world import World, make_world

__all__ = ["make_world"]


def roster_of(*names: str) -> Any:
    members = {}
    for number, name in enumerate(names):
        member = MemberId(bytes([number]) * 32)
        chosen = name.split(" #")[0]
        members[member] = SimpleNamespace(id=member, name=chosen, shown_name=name)
    return SimpleNamespace(members=members)


PEOPLE = roster_of(
    "Ana", "Ana Maria", "Ben Miller", "Zoë", "李小龙", "O'Neil", "Jo #11111111", "Jo #22222222", "Straße"
)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("nobody", []),
        ("@Ana come", [0]),
        ("@ana, come", [0]),
        ("@Ana Maria come", [1]),
        ("@ANA MARIA", [1]),
        ("(@Ben Miller)", [2]),
        ("@ben comes", [2]),
        ("@Ben's turn", [2]),
        ("@Bend it", []),
        ("@Benjamin", []),
        ("mail ana@ben.example", []),
        ("@zoë and @ana", [3, 0]),
        ("@ana @Ana", [0]),
        ("问@李小龙吧", []),
        ("问 @李小龙, 好", [4]),
        ("@O'Neil!", [5]),
        ("@Jo whoever", []),
        ("@Jo #22222222", [7]),
        ("@STRASSE", [8]),
        ("@", []),
        ("@@Ana", [0]),
        ("@ Ana", []),
    ],
)
def test_whom_a_text_names(text: str, named: list[int]) -> None:
    assert find_mentions(text, PEOPLE) == [MemberId(bytes([number]) * 32) for number in named]


def test_mentions_are_bounded_and_named_beside_the_text_first() -> None:
    many = roster_of(*(f"member{number}" for number in range(100)))
    ids = list(many.members)
    text = " ".join(f"@member{number}" for number in range(100))
    assert find_mentions(text, many) == ids[:MAX_MENTIONS]
    packed = pack_mentions(text, [ids[99], ids[99]], many)
    assert packed == b"".join([ids[99], *ids[: MAX_MENTIONS - 1]])
    with pytest.raises(UsageError, match="64"):
        pack_mentions("", ids, many)
    with pytest.raises(UnknownMemberError):
        pack_mentions("", [MemberId(b"\xff" * 32)], many)
    assert len(find_mentions("@" * 60_000 + "@member1", many)) == 0, "only so many signs are looked at"


async def test_mentions_and_quotes_are_shown_to_all(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    first = await ana.group.feed.post("who has the ladder?")
    await world.level()
    post = await ben.group.feed.post("@Ana, I do", quote=first.id[:8])
    reply = await ben.group.feed.reply(post.id, "come by", mentions=[ana.group.me])  # type: ignore[list-item]
    await world.level()
    shown = await ana.group.feed.get(post.id)
    assert (shown.mentions, shown.quote) == ((ana.group.me,), first.id)
    assert shown.quoted is not None
    assert (shown.quoted.text, shown.quoted.author, shown.quoted.is_here) == ("who has the ladder?", "Ana", True)
    assert (await ana.group.feed.get(reply.id)).mentions == (ana.group.me,)
    await ana.group.feed.edit(first.id, "who has a ladder?")
    assert (await ana.group.feed.get(post.id)).quoted.text == "who has a ladder?"  # type: ignore[union-attr]
    await ben.group.feed.edit(post.id, "I do")
    await world.level()
    edited = await ana.group.feed.get(post.id)
    assert (edited.mentions, edited.quote) == ((), first.id)
    await ana.group.feed.delete(first.id)
    await world.level()
    quoted = (await ben.group.feed.get(post.id)).quoted
    assert quoted is not None
    assert (quoted.gone, quoted.text) == (True, "")
    with pytest.raises(UnknownItemError):
        await ben.group.feed.post("quotes nothing", quote="00" * 16)


async def test_who_was_removed_is_still_shown_as_mentioned_and_who_never_came_is_not(world: World) -> None:
    from tests.support.hostile import Forger, inject

    ana, ben, mal = await world.group("ana", "ben", "mal")
    post = await ana.group.feed.post("@Ben, welcome")
    forger = Forger(mal)
    raw = forger.post("to nobody", mentions=b"\x07" * 32 + bytes(forger.member))
    inject(next(iter(world.relays.values())), ana.replica.epoch, forger.write((forger.feed(), raw)))
    await ben.sync()
    odd = next(one for one in await ben.group.feed.list() if one.text == "to nobody")
    assert odd.mentions == (forger.member,)
    bens = ben.group.me
    await ana.group.remove_member("Ben")
    assert (await ana.group.feed.get(post.id)).mentions == (bens,)


async def test_who_is_gone_is_shown_by_name_beside_what_they_wrote(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    post = await ben.group.feed.post("farewell")
    await ben.group.vault.add_link("https://example.org/")
    await world.level()
    await ana.group.remove_member("Ben")
    assert (await ana.group.feed.get(post.id)).author == "Ben"
    assert [item.author for item in await ana.group.vault.items()] == ["Ben"]
