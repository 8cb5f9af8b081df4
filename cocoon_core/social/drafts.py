"""What a member began to write and did not post: on this device alone, and there after a restart. Spec: specs/feed.md
§6.

One for each post that is answered, and one for a new post. A draft is in no document, so it is sent to nobody, not even
to the member's other devices.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from cocoon_core.errors import UnknownItemError, UsageError
from cocoon_core.protocol.constants import MAX_DRAFTS
from cocoon_core.social.feed_changing import require_text
from cocoon_core.social.times import time_of
from cocoon_core.sync.replica import Replica

_NEW_POST: Final = b""  # in place of the post that a draft answers
_COLUMNS: Final = "text, reply_to, quote, saved_ms"


@dataclass(frozen=True, slots=True)
class Draft:
    """A text that was begun.

    Attributes:
        reply_to: the id of the post that it answers; None for a new post.
        quote: the id of the post that it quotes.
    """

    text: str
    reply_to: str | None
    quote: str | None
    saved: datetime


class Drafts:
    """The drafts of one group on this device.

    Args:
        find: gives the id of a post that is named by a beginning of it.
    """

    def __init__(self, replica: Replica, find: Callable[[str], bytes]) -> None:
        self._replica, self._find = replica, find
        self._db, self._no = replica.database, replica.record.number

    async def save(self, text: str, reply_to: str | None = None, quote: str | None = None) -> Draft:
        """Keep a text, in place of what was kept for the same post.

        Raises:
            UnknownItemError: what it answers or quotes is not here.
            UsageError: it could not be posted, or there are 200 drafts in this group.
        """
        require_text(text, bare=False)
        place = self._place(reply_to)
        quoted = None if quote is None else self._find(quote)
        with self._db.transaction():
            others = self._db.query_value(
                "SELECT count(*) FROM drafts WHERE group_no=? AND reply_to!=?", (self._no, place)
            )
            if others >= MAX_DRAFTS:
                raise UsageError(f"there are {MAX_DRAFTS} drafts in this group; post or drop one first")
            self._db.execute(
                f"INSERT OR REPLACE INTO drafts (group_no, {_COLUMNS}) VALUES (?,?,?,?,?)",
                (self._no, text, place, quoted, self._replica.clock()),
            )
        return self.require(reply_to)

    async def get(self, reply_to: str | None = None) -> Draft | None:
        """The draft of a reply to a post, or of a new post; None where there is none.

        Raises:
            UnknownItemError: that post is not here.
        """
        row = self._db.query_one(
            f"SELECT {_COLUMNS} FROM drafts WHERE group_no=? AND reply_to=?", (self._no, self._place(reply_to))
        )
        return None if row is None else _draft(row)

    async def list(self) -> builtins.list[Draft]:
        """All drafts, the one that was saved last first."""
        rows = self._db.query(
            f"SELECT {_COLUMNS} FROM drafts WHERE group_no=? ORDER BY saved_ms DESC, reply_to", (self._no,)
        )
        return [_draft(row) for row in rows]

    async def drop(self, reply_to: str | None = None) -> Draft:
        """Drop a draft; give what it said.

        Raises:
            UnknownItemError: there is none.
        """
        draft = self.require(reply_to)
        with self._db.transaction():
            self.forget(self._place(reply_to))
        return draft

    # --- for the feed

    def require(self, reply_to: str | None) -> Draft:
        """Raises:
        UnknownItemError: there is no such draft.
        """
        row = self._db.query_one(
            f"SELECT {_COLUMNS} FROM drafts WHERE group_no=? AND reply_to=?", (self._no, self._place(reply_to))
        )
        if row is None:
            raise UnknownItemError("there is no such draft; `cocoon draft` lists those there are")
        return _draft(row)

    def forget(self, reply_to: bytes | None) -> None:
        """Inside a transaction."""
        self._db.execute("DELETE FROM drafts WHERE group_no=? AND reply_to=?", (self._no, reply_to or _NEW_POST))

    def _place(self, reply_to: str | None) -> bytes:
        """Where a draft stands: a post that is not here any more is named by its whole id."""
        if reply_to is None:
            return _NEW_POST
        try:
            return self._find(reply_to)
        except UnknownItemError:
            kept = self._db.query("SELECT reply_to FROM drafts WHERE group_no=?", (self._no,))
            found = [bytes(place) for (place,) in kept if bytes(place).hex() == reply_to.strip().lower()]
            if not found:
                raise
            return found[0]


def _draft(row: tuple[Any, ...]) -> Draft:
    text, reply_to, quote, saved_ms = row
    return Draft(text, reply_to.hex() or None, None if quote is None else quote.hex(), time_of(saved_ms))
