"""Who is in a group and what is to be known of them: their profiles, and when they were last here. A part of `Group`.

Spec: specs/people.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cocoon_core.membership import Membership
from cocoon_core.profiles import Profiles
from cocoon_core.protocol.ids import MemberId
from cocoon_core.storage.member_profiles import NOTHING_SAID


@dataclass(frozen=True, slots=True)
class Person:
    """A member, as one shows them to people.

    Attributes:
        about: what they say of themselves; a line, or nothing.
        picture: the item of the vault that is their picture; `Group.profile.picture` gives its bytes.
        last_seen: the hour of their newest entry that is here, in UTC; None where there is none, or they are quiet.
        quiet: they want nobody to be told when they are or were here.
    """

    id: MemberId
    name: str
    role: str
    me: bool
    about: str
    picture: str | None
    last_seen: datetime | None
    quiet: bool


class People(Membership):
    """The part of a group that is about people as people see them."""

    profile: Profiles

    def people(self) -> list[Person]:
        """All members with their profiles, the senior first."""
        said, pictures = self.profile.view.rows.all(), self.profile.pictures()
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
            )
            for member in self.members()
        ]
