"""The stream of notices of one group, as an app reads it: a list, pages by a token, a stream that waits, a hook.

What is read here was written in the transaction that made it true (noticing.py). Nothing is held for a reader: each
page comes from the table, so a slow one costs nothing and loses nothing but what is let go of by number.
Spec: specs/events.md §3 to §5.
"""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cocoon_core.errors import UsageError
from cocoon_core.protocol.constants import MAX_NOTICES
from cocoon_core.protocol.ids import MemberId
from cocoon_core.social.feed import Feed
from cocoon_core.social.mutes import Mute, Mutes, is_quiet
from cocoon_core.social.notice_kinds import ABOUT_POSTS, ABOUT_TOGETHER, NoticeKind
from cocoon_core.social.notice_subjects import Subjects
from cocoon_core.social.noticing import Noticing
from cocoon_core.social.times import time_of
from cocoon_core.storage.notices import StoredNotice
from cocoon_core.sync.events import GroupEvent, NoticesAdded
from cocoon_core.sync.replica import Replica

PAGE: Final = 100  # notices that are read at once
QUIET_SECONDS: Final = 60.0  # between two looks whether the quiet hours have ended
_IN_THREADS: Final = ABOUT_POSTS | ABOUT_TOGETHER  # what a mute of a thread may name


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that happened, with what is known of it now.

    Attributes:
        number: its place in the stream of the group; later ones have greater numbers.
        kind: what it is about; more kinds may come, so an app passes over those that it does not know.
        token: reading goes on behind it by this.
        time: when this device came to know, in UTC.
        member, name: who did it, or, for `newcomer`, `removal` and `keys`, whom it is about; None for an alarm, and for
            a request, whose text is the name.
        me: whether that is oneself.
        post: the post, for those that are about one; None where it is not here any more.
        about: the event, list or note, for those that are about one; None where it is not here any more.
        title: what that is called now.
        change: for `event-change` what is other, with commas between: `time`, `place`, `name`, `called off`,
            `on again`; for `event-reply` what was replied: `yes`, `no` or `maybe`, empty where that was taken back; for
            `list` and `note`: `new`, `changed`, `put aside` or `taken out`.
        text: the beginning of the post, unless it was erased or is hidden, of what the event says, or of the words of
            the reply; else what is to be said, for people.
        read: it was marked as read.
    """

    number: int
    kind: NoticeKind
    token: str
    time: datetime
    member: MemberId | None
    name: str | None
    me: bool
    post: str | None
    about: str | None
    title: str
    change: str
    text: str
    read: bool


@dataclass(frozen=True, slots=True)
class NoticePage:
    """Notices in their order, and how to go on.

    Attributes:
        token: reading goes on behind this page by it, also where it is empty.
        missed: some that came after the token were let go of before they were read, or the token is of another stream,
            as after a backup was restored: what this device has is shown from its beginning.
        more: there are more already.
    """

    notices: tuple[Notice, ...]
    token: str
    missed: bool
    more: bool


Hook = Callable[[Sequence[Notice]], Awaitable[None]]


class Notices:
    """The notices of one group."""

    def __init__(self, replica: Replica, feed: Feed, noticing: Noticing) -> None:
        self._replica, self._table = replica, noticing.table
        self._subjects, self._mutes = Subjects(replica, feed), Mutes(replica)
        self._waiting: set[asyncio.Event] = set()
        replica.listen(self._heard)

    # --- reading

    async def list(
        self, limit: int = 50, *, before: int | None = None, unread: bool = False, muted: bool = False
    ) -> builtins.list[Notice]:
        """The newest notices, newest first.

        Args:
            before: only those with a lower number.
            unread: only those that were not marked as read.
            muted: those that a mute holds back too.
        """
        if limit < 1:
            raise UsageError("a limit is 1 or more")
        last = self._table.end().last + 1 if before is None else before
        found: builtins.list[StoredNotice] = []
        while len(found) < limit and (rows := self._table.before(last, PAGE, unread=unread)):
            found += self._told(rows, muted=muted)
            last = rows[-1].number
        return [await self._show(row) for row in found[:limit]]

    async def after(self, token: str | None = None, limit: int = PAGE, *, muted: bool = False) -> NoticePage:
        """A page of those behind a token, in the order in which they happened; without one, from the oldest kept.

        An app keeps the token of what it has dealt with, and gets everything behind it again after a crash.

        Args:
            limit: at most so many; where mutes hold some back there may be fewer, or none, and `more` all the same.
            muted: those that a mute holds back too.

        Raises:
            UsageError: this is no token, or a limit below 1.
        """
        if limit < 1:
            raise UsageError("a limit is 1 or more")  # a page of none would pass over what is there
        end = self._table.end()
        number, is_other = _read_token(token, end.stream, end.last)
        rows = self._table.after(number, limit)
        last = rows[-1].number if rows else max(number, end.last)
        shown = [await self._show(row) for row in self._told(rows, muted=muted)]
        missed = is_other or (token is not None and number < end.lost_to)
        return NoticePage(tuple(shown), self._token(last), missed, len(rows) == limit and last < end.last)

    async def stream(self, token: str | None = None, *, muted: bool = False) -> AsyncGenerator[Notice, None]:
        """Every notice behind a token, then each new one as it comes, until the caller ends it.

        Each is given at least once, in order. Nothing is queued: while the caller is busy, they wait in the table.
        `newest` as token begins with what happens from now on.

        Args:
            muted: those that a mute holds back too.
        """
        woken = asyncio.Event()
        self._waiting.add(woken)
        try:
            while True:
                woken.clear()
                page = await self.after(token, muted=muted)
                for notice in page.notices:
                    yield notice
                token = page.token
                if not page.more:
                    await woken.wait()
        finally:
            self._waiting.discard(woken)

    @property
    def newest(self) -> str:
        """The token of the newest notice."""
        return self._token(self._table.end().last)

    def unread(self) -> int:
        """How many were not marked as read, without those that a mute holds back."""
        if not self._mutes.all():
            return self._table.count_unread()
        return len(self._told(self._table.before(self._table.end().last + 1, MAX_NOTICES, unread=True), muted=False))

    # --- marking

    async def mark_read(self, *, upto: str | None = None, about: str | None = None) -> int:
        """Mark notices as read: all, those up to a token, or those about one thing; how many were not.

        Args:
            about: a post, list, note or event, by its id or a beginning of it; or by its name, but for posts.

        Raises:
            UsageError: this is no token of this stream.
            UnknownItemError: it is not here.
        """
        if about is not None:
            numbers = self._table.about([self._subjects.find(about)])
            with self._replica.transaction():
                return self._table.set_read(numbers)
        end = self._table.end()
        number, is_other = _read_token(upto, end.stream, end.last) if upto is not None else (end.last, False)
        if is_other:
            raise UsageError("this token is of another stream of notices; take one that this device gave")
        with self._replica.transaction():
            return self._table.set_read_to(number)

    # --- mutes

    async def mute(
        self, *, thread: str | None = None, member: MemberId | None = None, until: datetime | None = None
    ) -> None:
        """Be told nothing more of a thread, a member or, with neither, the whole group; what happens is kept.

        Removals, changed keys and alarms are told all the same.

        Args:
            thread: the id of any post in it, or of a list, a note or an event, or a unique beginning of it; or the name
                of one of these three.
            until: when it ends; never, if not given.

        Raises:
            UnknownItemError: it is not here.
            UsageError: both were named, `until` is past, or there are too many.
        """
        self._mutes.set(self._find(thread), member, until)
        self.wake()

    async def unmute(self, *, thread: str | None = None, member: MemberId | None = None) -> bool:
        """Take a mute back; whether there was one. What it held back is shown again.

        Raises:
            UnknownItemError, UsageError: as `mute`.
        """
        ended = self._mutes.remove(self._find(thread), member)
        self.wake()
        return ended

    def mutes(self) -> builtins.list[Mute]:
        """What is muted now."""
        return self._mutes.all()

    def _find(self, reference: str | None) -> bytes | None:
        return None if reference is None else self._subjects.find(reference)

    def _told(self, rows: Sequence[StoredNotice], *, muted: bool) -> builtins.list[StoredNotice]:
        """Those of some rows that no mute holds back."""
        if muted:
            return [*rows]
        holding = self._mutes.find()
        return [row for row in rows if not holding.holds(row, in_thread=row.kind in _IN_THREADS)]

    # --- a hook for apps

    async def deliver(self, hook: Hook, reader: str = "app", *, quiet: bool = True) -> None:
        """Give every notice from now on to a hook, in order and all that are there at once, until cancelled.

        How far it came is kept under the name `reader` when the hook returned. So what a hook was given and did not
        finish, since it raised or the process ended, it is given again: when `deliver` is called the next time, which
        then begins where the last one of this name ended. What a mute holds back is passed over.

        Args:
            quiet: wait where the profile's quiet hours hold; what happens meanwhile is given when they end.

        Raises:
            Whatever the hook raises.
        """
        number = self._table.reader(reader)
        if number is None:
            number = self._table.end().last
            self._set_reader(reader, number)
        woken = asyncio.Event()
        self._waiting.add(woken)
        try:
            while True:
                woken.clear()
                rows = [] if quiet and is_quiet(self._replica) else self._table.after(number, PAGE)
                if rows:
                    if told := self._told(rows, muted=False):
                        await hook([await self._show(row) for row in told])
                    number = rows[-1].number
                    self._set_reader(reader, number)
                else:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(QUIET_SECONDS):
                            await woken.wait()
        finally:
            self._waiting.discard(woken)

    def _set_reader(self, reader: str, number: int) -> None:
        with self._replica.transaction():
            self._table.set_reader(reader, number)

    # --- inside

    def _heard(self, event: GroupEvent) -> None:
        if isinstance(event, NoticesAdded):
            self.wake()

    def wake(self) -> None:
        """Have everybody who waits look again."""
        for woken in self._waiting:
            woken.set()

    def _token(self, number: int) -> str:
        return f"{number}.{self._table.end().stream.hex()}"

    async def _show(self, row: StoredNotice) -> Notice:
        kind = NoticeKind(row.kind)
        said = await self._subjects.say(row)
        member = MemberId(row.member) if row.member is not None else None
        return Notice(
            number=row.number,
            kind=kind,
            token=self._token(row.number),
            time=time_of(row.time_ms),
            member=member,
            name=self._name_of(member) if member is not None else None,
            me=member is not None and member == self._replica.members.member_ever(self._replica.keys.id),
            post=said.post,
            about=said.about,
            title=said.title,
            change=said.change,
            text=said.text,
            read=row.read,
        )

    def _name_of(self, member: MemberId) -> str:
        roster = self._replica.members.roster
        known = roster.members.get(member) or roster.former_members.get(member)
        return known.shown_name if known is not None else member.hex()[:12]


def _read_token(token: str | None, stream: bytes, last: int) -> tuple[int, bool]:
    """The number in a token, and whether it is of another stream, or of a later state of this one; 0 then."""
    if token is None:
        return 0, False
    number, _, name = token.partition(".")
    if not (number.isascii() and number.isdecimal() and len(number) <= 18 and len(name) == 2 * len(stream)):
        raise UsageError(f"{token[:40]!r} is no token of a stream of notices; take one that a notice or page had")
    if int(number) and (name != stream.hex() or int(number) > last):
        return 0, True
    return int(number), False
