"""Whom a text speaks to: `@Name`, where that names one member without doubt. Spec: specs/feed.md §2.

A name is looked for behind every `@` that begins a word, letters of either case alike, the longest first; where no name
fits, the first word of a name does, if no other member's begins so. Where it could be two members it is nobody.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from cocoon_core.errors import UnknownMemberError, UsageError
from cocoon_core.protocol.constants import MAX_MENTIONS
from cocoon_core.protocol.ids import MemberId
from cocoon_core.protocol.roster import Member, Roster
from cocoon_core.social.item_view import fold

_MOST_SIGNS: Final = 1_000  # `@` in one text that are looked at

_WORD: Final = re.compile(r"\w+(?:[-'’.]\w+)*")
_LAST_JOINT: Final = re.compile(r"[-'’.]\w+\Z")

Names = Mapping[str, MemberId | None]  # by folded name; None where it is in doubt


def find_mentions(text: str, roster: Roster) -> list[MemberId]:
    """The members whom a text names, each once, in the order of the text."""
    if "@" not in text:
        return []
    folded = fold(text)
    whole = _unambiguous((name, member) for member in roster.members.values() for name in _names_of(member))
    first = _unambiguous((name.split()[0], member) for member in roster.members.values() for name in _names_of(member))
    lengths = sorted({len(name) for name in whole}, reverse=True)
    found: dict[MemberId, None] = {}
    place = -1
    for _ in range(_MOST_SIGNS):
        place = folded.find("@", place + 1)
        if place < 0 or len(found) == MAX_MENTIONS:
            break
        if place and folded[place - 1].isalnum():
            continue  # an address of mail
        member = _named_at(folded, place + 1, whole, lengths, first)
        if member is not None:
            found[member] = None
    return list(found)


def pack_mentions(text: str, named: Iterable[MemberId], roster: Roster) -> bytes:
    """The value of `mentions`: those who were named beside the text, and those whom it names.

    Raises:
        UsageError: they are more than 64.
        UnknownMemberError: somebody was named beside the text who is no member.
    """
    beside = list(dict.fromkeys(named))
    if len(beside) > MAX_MENTIONS:
        raise UsageError(f"a post mentions at most {MAX_MENTIONS} members, not {len(beside)}")
    for member in beside:
        if member not in roster.members:
            raise UnknownMemberError(f"there is no member {member.hex()[:12]}")
    return b"".join(list(dict.fromkeys([*beside, *find_mentions(text, roster)]))[:MAX_MENTIONS])


def _names_of(member: Member) -> set[str]:
    """What a member can be called: what they chose, and as they are shown apart from who chose alike."""
    return {folded for name in (member.name, member.shown_name) if (folded := fold(name).strip())}


def _unambiguous(pairs: Iterable[tuple[str, Member]]) -> Names:
    found: dict[str, MemberId | None] = {}
    for name, member in pairs:
        found[name] = member.id if found.get(name, member.id) == member.id else None
    return found


def _named_at(text: str, start: int, whole: Names, lengths: list[int], first: Names) -> MemberId | None:
    for length in lengths:
        end = start + length
        if text[start:end] in whole and len(text) >= end and not text[end : end + 1].isalnum():
            return whole[text[start:end]]
    match = _WORD.match(text, start)
    word = match.group() if match is not None else ""
    while word:
        if word in first:
            return first[word]
        word = _LAST_JOINT.sub("", word) if _LAST_JOINT.search(word) else ""  # "ben's" may be of Ben
    return None
