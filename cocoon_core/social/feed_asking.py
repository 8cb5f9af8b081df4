"""Calls and questions: posts that want something of the others, and who answered. Spec: specs/feed.md §5.

A call asks everybody to act, by a time or not; each member's newest answer counts, by name. A question asks who knows;
who asked marks the replies that helped. Nothing here is a right: an answer is what its member says.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from cocoon_core.documents.proxies import MapEdit
from cocoon_core.errors import UsageError
from cocoon_core.protocol.constants import MAX_SOLVING
from cocoon_core.protocol.ids import MemberId
from cocoon_core.social.feed_reading import Reading
from cocoon_core.social.feed_writing import Attachment
from cocoon_core.social.item_view import fold
from cocoon_core.social.owned_view import LAST_MS
from cocoon_core.social.post import Post
from cocoon_core.social.post_rows import COLUMNS
from cocoon_core.social.post_view import CALL, NO, POST_ID_BYTES, QUESTION, YES, split_ids
from cocoon_core.vault.progress import Tell

OPEN_MS: Final = 30 * 86_400_000  # that a call without a time stays open
_SAYS: Final = {"yes": (YES, "Yes."), "no": (NO, "No.")}  # what is written, and the words where none are given


@dataclass(frozen=True, slots=True)
class CallAnswer:
    """A member's newest answer to a call. `is_late`: it was given after the time that the call names."""

    post: Post
    is_late: bool


@dataclass(frozen=True, slots=True)
class CallAnswers:
    """Who answered a call, and who did not: of those who are members now, without who called.

    Attributes:
        yes, no: by the time of the answer.
        silent: names and ids, by name. Who has not seen it is among them.
    """

    call: Post
    yes: tuple[CallAnswer, ...]
    no: tuple[CallAnswer, ...]
    silent: tuple[tuple[str, MemberId], ...]


class Asking(Reading):
    """What asks the others for something, in the feed. Durable when the call returns, and sent with the next sync."""

    async def call(
        self,
        text: str,
        until: datetime | None = None,
        attachments: Sequence[Attachment] = (),
        progress: Tell | None = None,
        *,
        quote: str | None = None,
        mentions: Iterable[MemberId] = (),
    ) -> Post:
        """Call the circle: a post that asks everybody to act.

        Args:
            until: by when it wants to be answered. Later answers count, and are shown as late.

        Raises:
            UsageError: that time has no time zone or is over; or as `post`.
            UnknownItemError, UnknownMemberError: as `post`.
        """
        more = {**self._said(text, quote, mentions), "ask": CALL}
        if until is not None:
            more["until"] = self._deadline(until)
        return await self.write(text, None, attachments, progress, more)

    async def ask(
        self,
        text: str,
        attachments: Sequence[Attachment] = (),
        progress: Tell | None = None,
        *,
        quote: str | None = None,
        mentions: Iterable[MemberId] = (),
    ) -> Post:
        """Ask whether anybody knows. Replies answer it, and `solve` marks those that helped.

        Raises:
            UsageError, UnknownItemError, UnknownMemberError: as `post`.
        """
        more = {**self._said(text, quote, mentions), "ask": QUESTION}
        return await self.write(text, None, attachments, progress, more)

    async def answer(self, call: str, answer: str, text: str = "") -> Post:
        """Answer a call, with a reply to it. A later answer of the same member takes the place of an earlier one.

        Args:
            answer: "yes" or "no".
            text: the words of the reply; "Yes." or "No." if there are none.

        Raises:
            UnknownItemError: it is not here.
            UsageError: it is no call, or that is no answer.
        """
        if answer not in _SAYS:
            raise UsageError(f"an answer to a call is yes or no, not {answer[:40]!r}")
        found = self._find(call)
        self._require(found, CALL)
        says, words = _SAYS[answer]
        said = text if text.strip() else words
        return await self.write(said, found, more={**self._said(said, None, ()), "answer": says})

    async def answers(self, call: str) -> CallAnswers:
        """Who answered a call, and who did not.

        Raises:
            UnknownItemError: it is not here.
            UsageError: it is no call.
        """
        found = self._find(call)
        self._require(found, CALL)
        shown = self._get(found)
        rows = self._db.query(
            f"SELECT {COLUMNS} FROM posts p WHERE p.group_no=? AND p.parent=? AND p.answer IS NOT NULL "
            "ORDER BY p.time_ms, p.post",
            (self._no, found),
        )
        members = self._replica.members.roster.members
        asked = members.keys() - {shown.author_id}
        newest = {post.author_id: post for post in self._posts(rows) if post.author_id in asked}
        given = sorted(newest.values(), key=lambda post: (post.time, post.id))
        answers = [CallAnswer(post, shown.until is not None and post.time > shown.until) for post in given]
        silent = [
            (member.shown_name, identity)
            for identity, member in members.items()
            if identity in asked and identity not in newest
        ]
        return CallAnswers(
            shown,
            tuple(one for one in answers if one.post.answer == "yes"),
            tuple(one for one in answers if one.post.answer == "no"),
            tuple(sorted(silent, key=lambda one: (fold(one[0]), one[1]))),
        )

    async def set_deadline(self, call: str, until: datetime | None) -> Post:
        """Let an own call want to be answered by another time, or by none.

        Raises:
            UnknownItemError: it is not here, or was taken away.
            UsageError: it is another member's or no call, or that time is over.
        """
        found = self._find(call)
        self._require(found, CALL)
        deadline = None if until is None else self._deadline(until)

        def write(value: MapEdit) -> None:
            if deadline is None:
                value.pop("until", None)
            else:
                value["until"] = deadline

        self.change_own(found, write)
        return self._get(found)

    async def solve(self, question: str, *replies: str, solved: bool = True) -> Post:
        """Mark replies as what answers an own question, or take the mark away.

        Raises:
            UnknownItemError: the question or a reply is not here.
            UsageError: it is another member's or no question, a reply is not of its thread, or there are over 16.
        """
        found = self._find(question)
        self._require(found, QUESTION)
        self.place_of_own(found, "change")
        named = [self._find(reply) for reply in replies]
        for reply in named:
            if reply == found or self._root_of(reply) != found:
                raise UsageError(f"{reply.hex()[:8]} is no reply to this question")
        held = self._db.query_value("SELECT solved FROM posts WHERE group_no=? AND post=?", (self._no, found))
        before = split_ids(held, POST_ID_BYTES)
        after = list(dict.fromkeys([*before, *named])) if solved else [one for one in before if one not in named]
        if len(after) > MAX_SOLVING:
            raise UsageError(f"at most {MAX_SOLVING} replies are marked as answers")

        def write(value: MapEdit) -> None:
            if after:
                value["solved"] = b"".join(after)
            else:
                value.pop("solved", None)

        if after != before:
            self.change_own(found, write)
        return self._get(found)

    async def asked(self, limit: int = 50, *, everything: bool = False) -> builtins.list[Post]:
        """Calls and questions, the newest first: those that are open, or all.

        A call is open until its time is over, or without one for 30 days; a question as long as no answer is marked.
        """
        if limit < 1:
            raise UsageError("a limit is 1 or more")
        now_ms = self._replica.clock()
        where = "AND (CASE p.ask WHEN ? THEN coalesce(p.until_ms, p.time_ms + ?) >= ? ELSE p.solved IS NULL END)"
        values = () if everything else (CALL, OPEN_MS, now_ms)
        rows = self._db.query(
            f"SELECT {COLUMNS} FROM posts p WHERE p.group_no=? AND p.ask IS NOT NULL AND NOT p.erased "
            f"{'' if everything else where} ORDER BY p.time_ms DESC, p.post DESC LIMIT ?",
            (self._no, *values, limit),
        )
        return self._posts(rows)

    # --- inside

    def _require(self, post: bytes, ask: int) -> None:
        """Raises:
        UsageError: it is no call, or no question.
        """
        found: Any = self._db.query_value("SELECT ask FROM posts WHERE group_no=? AND post=?", (self._no, post))
        if found != ask:
            raise UsageError(f"{post.hex()[:8]} is no {'call' if ask == CALL else 'question'}")

    def _deadline(self, until: datetime) -> int:
        if until.tzinfo is None:
            raise UsageError("a time needs its time zone")
        ms = int(until.timestamp() * 1000)
        if not self._replica.clock() < ms <= LAST_MS:
            raise UsageError("a call names a time that is to come")
        return ms
