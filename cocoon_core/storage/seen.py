"""What authors were told that others have seen, and what this member has seen and is to tell. Spec: specs/people.md §5.

`seen_posts` is computed from documents, with the secrets of `seen_keys`, which are kept: what brought them opens only
as long as this device has the key of then.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from cocoon_core.protocol.ids import MemberId
from cocoon_core.protocol.primitives import Secret
from cocoon_core.storage.database import Database, Migration

SEEN: Final = Migration(
    "seen",
    """
CREATE TABLE seen_posts (
    group_no    INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    document_no INTEGER NOT NULL REFERENCES documents(id) ON DELETE CASCADE,
    key         TEXT NOT NULL,
    post        BLOB NOT NULL,
    member      BLOB NOT NULL,
    PRIMARY KEY (document_no, key, post)
) STRICT, WITHOUT ROWID;
CREATE INDEX seen_posts_by_post ON seen_posts (group_no, post);
CREATE TABLE seen_keys (
    group_no    INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    document_no INTEGER NOT NULL REFERENCES documents(id) ON DELETE CASCADE,
    key         TEXT NOT NULL,
    secret      BLOB NOT NULL,
    PRIMARY KEY (document_no, key)
) STRICT, WITHOUT ROWID;
CREATE TABLE seen_boxes (
    group_no   INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    author     BLOB NOT NULL,
    document   BLOB NOT NULL,
    recipients BLOB NOT NULL,
    secret     BLOB NOT NULL,
    PRIMARY KEY (group_no, author)
) STRICT, WITHOUT ROWID;
CREATE TABLE seen_to_tell (
    group_no INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    post     BLOB NOT NULL,
    told     INTEGER NOT NULL,
    PRIMARY KEY (group_no, post)
) STRICT, WITHOUT ROWID;
CREATE INDEX seen_untold ON seen_to_tell (group_no, post) WHERE NOT told;
""",
)


@dataclass(frozen=True, slots=True)
class OwnBox:
    """The secret under which an author is told: for which of their keys (a digest), and in which document it stands."""

    document: bytes
    recipients: bytes
    secret: Secret


class SeenTable:
    """Reads and writes the tables above, for one group."""

    def __init__(self, database: Database, group_no: int) -> None:
        self._db, self._no = database, group_no

    # --- what this member, as an author, was told

    def set_told(self, document_no: int, key: str, member: MemberId, posts: Iterable[bytes]) -> None:
        """What a notice names, in the place of what it named before."""
        self._db.execute("DELETE FROM seen_posts WHERE document_no=? AND key=?", (document_no, key))
        self._db.executemany(
            "INSERT OR IGNORE INTO seen_posts (group_no, document_no, key, post, member) VALUES (?,?,?,?,?)",
            [(self._no, document_no, key, post, bytes(member)) for post in posts],
        )

    def drop_told(self, document_no: int) -> None:
        self._db.execute("DELETE FROM seen_posts WHERE document_no=?", (document_no,))

    def seen_by(self, post: bytes) -> list[MemberId]:
        rows = self._db.query(
            "SELECT DISTINCT member FROM seen_posts WHERE group_no=? AND post=? ORDER BY member", (self._no, post)
        )
        return [MemberId(member) for (member,) in rows]

    def keys(self, document_no: int) -> dict[str, Secret]:
        """The secrets that boxes of a document brought, by root key."""
        rows = self._db.query("SELECT key, secret FROM seen_keys WHERE document_no=?", (document_no,))
        return {key: Secret(secret) for key, secret in rows}

    def add_key(self, document_no: int, key: str, secret: Secret) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO seen_keys (group_no, document_no, key, secret) VALUES (?,?,?,?)",
            (self._no, document_no, key, secret.reveal()),
        )

    # --- what this member, as a reader, tells

    def mark(self, posts: Sequence[bytes]) -> None:
        """These were seen here: their authors are to be told, once."""
        self._db.executemany(
            "INSERT OR IGNORE INTO seen_to_tell (group_no, post, told) VALUES (?,?,0)",
            [(self._no, post) for post in posts],
        )

    def to_tell(self) -> list[tuple[MemberId, bytes]]:
        """Author and id of the posts that are here, and whose authors are to be told; by author."""
        rows = self._db.query(
            "SELECT p.member, p.post FROM seen_to_tell t JOIN posts p ON p.group_no=t.group_no AND p.post=t.post "
            "WHERE t.group_no=? AND NOT t.told AND NOT p.erased ORDER BY p.member, p.post",
            (self._no,),
        )
        return [(MemberId(member), post) for member, post in rows]

    def note_told(self, posts: Iterable[bytes]) -> None:
        self._db.executemany(
            "UPDATE seen_to_tell SET told=1 WHERE group_no=? AND post=?", [(self._no, post) for post in posts]
        )

    def forget_untold(self) -> None:
        """Nobody is to be told any more."""
        self._db.execute("DELETE FROM seen_to_tell WHERE group_no=? AND NOT told", (self._no,))

    def own_box(self, author: MemberId) -> OwnBox | None:
        row = self._db.query_one(
            "SELECT document, recipients, secret FROM seen_boxes WHERE group_no=? AND author=?",
            (self._no, bytes(author)),
        )
        return None if row is None else OwnBox(row[0], row[1], Secret(row[2]))

    def set_own_box(self, author: MemberId, box: OwnBox) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO seen_boxes (group_no, author, document, recipients, secret) VALUES (?,?,?,?,?)",
            (self._no, bytes(author), box.document, box.recipients, box.secret.reveal()),
        )
