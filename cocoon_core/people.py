"""Who is in a group and what is to be known of them: their profiles, and when they were last here. A part of `Group`.

Spec: specs/people.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cocoon_core.membership import Membership
from cocoon_core.profiles import Profiles
from cocoon_core.protocol.ids import MemberId
from cocoon_core.social.feed import Feed
from cocoon_core.storage.member_profiles import NOTHING_SAID


@dataclass(frozen=True, slots=True)
class Person:
    """A member, as one shows them to people.

    Attributes:
        about: what they say of themselves; a line, or nothing.
        picture: the item of the vault that is their picture; `Group.profile.picture` gives its bytes.
        last_seen: the hour of their newest entry that is here, in UTC; None where there is none, or they are quiet.
        quiet: they want nobody to be told when they are or were here.
        online: a device of theirs said so in the last minute or so; None where this device watches at no relay, and so
            cannot know. Never True of who is quiet, nor in groups of more than 50 members.
        typing: the id of the post in whose thread they are typing, empty for the feed; None where they are not.
        tells_seen: they tell authors which of their posts they have seen.
    """

    id: MemberId
    name: str
    role: str
    me: bool
    about: str
    picture: str | None
    last_seen: datetime | None
    quiet: bool
    online: bool | None
    typing: str | None
    tells_seen: bool


class People(Membership):
    """The part of a group that is about people as people see them."""

    profile: Profiles
    feed: Feed
    _answered: tuple[str, bytes] | None = None  # the post that is being answered, and the root of its thread

    def people(self) -> list[Person]:
        """All members with their profiles, the senior first."""
        said, pictures = self.profile.view.rows.all(), self.profile.pictures()
        presence = self._replica.presence
        here, knows = presence.here(), bool(presence.connections)
        return [
            Person(
                member.id,
                member.name,
                member.role,
                member.me,
                said.get(member.id, NOTHING_SAID).about,
                pictures.get(member.id),
                member.last_seen,
                member.quiet,
                (member.id in here or (member.me and presence.is_said())) if knows else None,
                _hex_of(here.get(member.id)),
                said.get(member.id, NOTHING_SAID).tells_seen,
            )
            for member in self.members()
        ]

    async def set_typing(self, post: str | None = None) -> None:
        """Say that one is typing: in the thread of a post, or in the feed. To be called at every letter; what is sent
        is one cast in four seconds, to those who watch now, and nothing of who is quiet.

        Args:
            post: the id of a post or reply that is answered, or a unique beginning of it.

        Raises:
            UnknownItemError: it is not here.
        """
        if post is None:
            self._replica.presence.typing(b"")
            return
        if self._answered is None or self._answered[0] != post:
            self._answered = post, bytes.fromhex((await self.feed.thread(post))[0].id)
        self._replica.presence.typing(self._answered[1])

    def set_present(self, present: bool) -> None:
        """Whether this device, while it watches, says that its member is here: off for what runs in the background."""
        self._replica.presence.is_told = present


def _hex_of(place: bytes | None) -> str | None:
    return None if place is None else place.hex()
