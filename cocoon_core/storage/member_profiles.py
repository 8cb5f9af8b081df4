"""The table of what members say of themselves, computed from their documents. Spec: specs/storage.md §6."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cocoon_core.protocol.ids import MemberId
from cocoon_core.storage.database import Database, Migration

MEMBER_PROFILES: Final = Migration(
    "member profiles",
    """
CREATE TABLE member_profiles (
    group_no    INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    member      BLOB NOT NULL,
    document_no INTEGER NOT NULL REFERENCES documents(id) ON DELETE CASCADE,
    generation  INTEGER NOT NULL,
    about       TEXT NOT NULL,
    picture     BLOB,
    quiet       INTEGER NOT NULL,
    tells_seen  INTEGER NOT NULL,
    UNIQUE (group_no, member)
) STRICT;
INSERT INTO stale_views SELECT id, 'member_profiles' FROM groups;
""",
)


@dataclass(frozen=True, slots=True)
class MemberProfile:
    """What a member says of themselves in one group.

    Attributes:
        about: a line.
        picture: the id of an item of the vault. Whether it is one, the member's own, and a picture, is for the reader.
        quiet: wants nobody to be told when they were here.
        tells_seen: tells authors what they have seen.
    """

    about: str = ""
    picture: bytes | None = None
    quiet: bool = False
    tells_seen: bool = False


NOTHING_SAID: Final = MemberProfile()


class MemberProfileTable:
    """Reads and writes the table above, for one group."""

    def __init__(self, database: Database, group_no: int) -> None:
        self._db, self._no = database, group_no

    def set(self, member: MemberId, document_no: int, generation: int, profile: MemberProfile) -> None:
        """Keep what a document says, unless a later generation of it says something."""
        self._db.execute(
            "INSERT INTO member_profiles (group_no, member, document_no, generation, about, picture, quiet, "
            "tells_seen) VALUES (?,?,?,?,?,?,?,?) ON CONFLICT DO UPDATE SET document_no=excluded.document_no, "
            "generation=excluded.generation, about=excluded.about, picture=excluded.picture, quiet=excluded.quiet, "
            "tells_seen=excluded.tells_seen WHERE excluded.generation>=generation",
            (
                self._no,
                bytes(member),
                document_no,
                generation,
                profile.about,
                profile.picture,
                int(profile.quiet),
                int(profile.tells_seen),
            ),
        )

    def drop(self, document_no: int) -> bool:
        """This document says nothing any more; whether it was what counted."""
        return self._db.execute("DELETE FROM member_profiles WHERE document_no=?", (document_no,)) > 0

    def get(self, member: MemberId) -> MemberProfile:
        row = self._db.query_one(
            "SELECT about, picture, quiet, tells_seen FROM member_profiles WHERE group_no=? AND member=?",
            (self._no, bytes(member)),
        )
        return NOTHING_SAID if row is None else MemberProfile(row[0], row[1], bool(row[2]), bool(row[3]))

    def all(self) -> dict[MemberId, MemberProfile]:
        """Of every member who says something."""
        rows = self._db.query(
            "SELECT member, about, picture, quiet, tells_seen FROM member_profiles WHERE group_no=?", (self._no,)
        )
        return {
            MemberId(member): MemberProfile(about, picture, bool(quiet), bool(tells_seen))
            for member, about, picture, quiet, tells_seen in rows
        }

    def quiet(self) -> frozenset[MemberId]:
        """Those who want nobody to be told when they were here."""
        rows = self._db.query("SELECT member FROM member_profiles WHERE group_no=? AND quiet", (self._no,))
        return frozenset(MemberId(member) for (member,) in rows)

    def pictures(self) -> dict[MemberId, bytes]:
        """The pictures that are here: own items of the vault, each with a small picture to be shown."""
        rows = self._db.query(
            "SELECT p.member, p.picture FROM member_profiles p JOIN vault_items v ON v.group_no=p.group_no "
            "AND v.item=p.picture AND v.member=p.member WHERE p.group_no=? AND v.kind='photo' AND v.has_thumb "
            "AND NOT v.erased",
            (self._no,),
        )
        return {MemberId(member): picture for member, picture in rows}
