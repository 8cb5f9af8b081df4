"""Mutes and quiet hours: what a member is not told now, though it is kept. Spec: specs/events.md §6.

A mute is asked when notices are read, not when they are written: whoever takes one back sees what it held back. What is
about safety, that somebody is out, that keys are others, alarms, no mute holds back. Quiet hours are the profile's, by
the wall clock of this device; they hold a hook back until they end, and hide nothing from who looks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time
from typing import Final, Literal

from cocoon_core.errors import UsageError
from cocoon_core.protocol.constants import MAX_MUTES
from cocoon_core.protocol.ids import MemberId
from cocoon_core.social.notice_kinds import SAFETY
from cocoon_core.social.noticing import MOST_STEPS
from cocoon_core.social.times import time_of
from cocoon_core.storage.mutes import MuteTable, StoredMute, read_quiet_hours
from cocoon_core.storage.notices import StoredNotice
from cocoon_core.sync.replica import Replica

GROUP: Final = "group"
THREAD: Final = "thread"
MEMBER: Final = "member"
_ALL: Final = b""  # the subject of a mute of the whole group


@dataclass(frozen=True, slots=True)
class Mute:
    """Something that is muted.

    Attributes:
        subject: the id of the post above which nothing of the thread was here, or of a list, note or event; or of the
            member; None for the group.
        until: when it ends; None for never.
    """

    kind: Literal["group", "thread", "member"]
    subject: str | None
    until: datetime | None


@dataclass(frozen=True, slots=True)
class QuietHours:
    """From one time of the day to another, by the wall clock; over midnight where the end is before the start."""

    start: time
    end: time

    def covers(self, now: datetime) -> bool:
        """Whether a moment lies in them. `now` is taken as its wall clock shows it."""
        at = now.time().replace(tzinfo=None)
        if self.start < self.end:
            return self.start <= at < self.end
        return at >= self.start or at < self.end


def read_hours(replica: Replica) -> QuietHours | None:
    """The quiet hours of the profile."""
    found = read_quiet_hours(replica.database)
    return None if found is None else hours_of(*found)


def hours_of(start: int, end: int) -> QuietHours:
    """Quiet hours from minutes of the day."""
    return QuietHours(time(*divmod(start, 60)), time(*divmod(end, 60)))


def is_quiet(replica: Replica) -> bool:
    """Whether it is within the quiet hours now, by this device's wall clock."""
    hours = read_hours(replica)
    return hours is not None and hours.covers(time_of(replica.clock()).astimezone())


class Mutes:
    """The mutes of one group."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._db, self._no = replica.database, replica.record.number
        self._table = MuteTable(replica.database, replica.record.number)

    def all(self) -> list[Mute]:
        """Those that have not ended."""
        found: list[Mute] = []
        for stored in self._table.all(self._replica.clock()):
            until = None if stored.until_ms is None else time_of(stored.until_ms)
            match stored.kind:
                case "group":
                    found.append(Mute("group", None, until))
                case "thread":
                    found.append(Mute("thread", stored.subject.hex(), until))
                case "member":
                    found.append(Mute("member", stored.subject.hex(), until))
        return found

    def set(self, thread: bytes | None, member: MemberId | None, until: datetime | None) -> None:
        """Mute a thread, a member or, with neither, the group. A second mute of the same takes the place of the first.

        Args:
            thread: a post of it that is here, or a list, note or event.

        Raises:
            UsageError: both were named, it would have ended already, or there are MAX_MUTES.
        """
        kind, subject = _name(thread, member)
        if kind == THREAD:
            subject = self.path_of(subject)[-1]
        until_ms = None if until is None else int(until.timestamp() * 1000)
        now_ms = self._replica.clock()
        if until_ms is not None and until_ms <= now_ms:
            raise UsageError("a mute ends in the future")
        with self._replica.transaction():
            self._table.forget_ended(now_ms)
            if len(self._table.all(now_ms)) >= MAX_MUTES:
                raise UsageError(f"a group has at most {MAX_MUTES} mutes; take some back")
            self._table.set(StoredMute(kind, subject, until_ms))

    def remove(self, thread: bytes | None, member: MemberId | None) -> bool:
        """Take a mute back, a thread's wherever in it that was set; whether there was one."""
        kind, subject = _name(thread, member)
        subjects = self.path_of(subject) if kind == THREAD else [subject]
        with self._replica.transaction():
            return any([self._table.remove(kind, one) for one in subjects])

    def find(self) -> Holding:
        """The mutes that hold now, to be asked for a page of notices."""
        return Holding(self, self._table.all(self._replica.clock()))

    def path_of(self, post: bytes) -> list[bytes]:
        """A post and those that it stands below in its thread, as far as they are here; the topmost last. What is no
        post stands alone.
        """
        rows = self._db.query(
            "WITH RECURSIVE up(post, step) AS (SELECT :p, 0 UNION ALL SELECT q.parent, step+1 FROM up "
            "CROSS JOIN posts q ON q.group_no=:g AND q.post=up.post WHERE q.parent IS NOT NULL AND step<:most) "
            "SELECT up.post FROM up WHERE EXISTS (SELECT 1 FROM posts r WHERE r.group_no=:g AND r.post=up.post) "
            "ORDER BY up.step",
            {"g": self._no, "p": post, "most": MOST_STEPS},
        )
        return [bytes(found) for (found,) in rows] or [post]


class Holding:
    """The mutes of one moment."""

    def __init__(self, mutes: Mutes, stored: Sequence[StoredMute]) -> None:
        self._mutes = mutes
        self._all = any(mute.kind == GROUP for mute in stored)
        self._members = frozenset(mute.subject for mute in stored if mute.kind == MEMBER)
        self._threads = frozenset(mute.subject for mute in stored if mute.kind == THREAD)

    def holds(self, notice: StoredNotice, *, in_thread: bool) -> bool:
        """Whether a notice is held back."""
        if notice.kind in SAFETY:
            return False
        if self._all or notice.member in self._members:
            return True
        return bool(self._threads) and in_thread and not self._threads.isdisjoint(self._mutes.path_of(notice.subject))


def _name(thread: bytes | None, member: MemberId | None) -> tuple[str, bytes]:
    if thread is not None and member is not None:
        raise UsageError("mute a thread or a member, not both at once")
    if thread is not None:
        return THREAD, thread
    return (MEMBER, bytes(member)) if member is not None else (GROUP, _ALL)
