"""Events of a group and who comes: what each member announces, and what the others reply. Spec: specs/together.md §6.

Only who made an event changes it; only a member's own replies count for that member, the newest of them. Nobody is
counted: who replied what is shown by name.
"""

from __future__ import annotations

import builtins
import secrets
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final

from cocoon_core.documents.proxies import MapEdit
from cocoon_core.errors import UnknownItemError, UsageError
from cocoon_core.protocol.constants import (
    EVENT_ID_BYTES,
    MAX_EVENT_ABOUT_BYTES,
    MAX_EVENT_WORDS_BYTES,
    MAX_TITLE_BYTES,
)
from cocoon_core.protocol.descriptor import Descriptor
from cocoon_core.protocol.ids import MemberId
from cocoon_core.social.erasing import Erasable, erase, finish_erasing
from cocoon_core.social.event import CalendarEvent, EventReply, When, moved_span, span, to_ms
from cocoon_core.social.event_view import (
    EVENT_KEY,
    REPLIES,
    REPLY_KEY,
    EventView,
    ReplyView,
    event_id,
)
from cocoon_core.social.icalendar import write_calendar
from cocoon_core.social.item_view import fold
from cocoon_core.social.owned_view import LAST_MS
from cocoon_core.social.references import find_named, find_reference
from cocoon_core.social.shared_documents import require_title
from cocoon_core.social.times import time_of
from cocoon_core.sync.events import GroupEvent
from cocoon_core.sync.replica import Replica
from cocoon_core.vault.naming import clean_text

EVENTS: Final = Erasable("events", "event", "who made an event can erase it")
_COLUMNS: Final = "event, member, time_ms, name, begins_ms, ends_ms, days, edited_ms, place, about, cancelled"


class Calendar:
    """The events of one group. Edits are durable when the call returns, and are sent with the next sync.

    An event is named by its name, where one event alone that is not over has it, or by its id or a beginning of that.
    """

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._db, self._no = replica.database, replica.record.number
        self.view, self.reply_view = EventView(replica), ReplyView(replica)
        for view in (self.view, self.reply_view):
            replica.add_view(view)
        replica.chores.append(lambda: finish_erasing(replica, EVENTS))

    # --- writing

    async def new(
        self, name: str, begins: When, ends: When | None = None, *, place: str = "", about: str = ""
    ) -> CalendarEvent:
        """Announce an event.

        Args:
            begins, ends: two moments with their time zones, or two days, of which the second is the last one.

        Raises:
            UsageError: it ends before it begins, or a text is empty or too long.
        """
        replica = self._replica
        said = {"name": require_title(name), **span(begins, ends), **_texts(place, about)}
        now_ms = replica.clock()
        descriptor = self.view.document_at(now_ms)
        key = EVENT_KEY + secrets.token_hex(8)
        with replica.change(descriptor) as root:
            root[key] = {"at": now_ms, **said}
        return self._get(event_id(descriptor.at(0).document_id(replica.group), key))

    async def change(
        self,
        reference: str,
        *,
        name: str | None = None,
        begins: When | None = None,
        ends: When | None = None,
        place: str | None = None,
        about: str | None = None,
        cancelled: bool | None = None,
    ) -> CalendarEvent:
        """Change an own event: what is given, and nothing else. Another beginning alone moves the end with it.

        Raises:
            UnknownItemError: it is not here.
            UsageError: it is another member's; or as `new`.
        """
        found = self._find(reference)
        stood, now_ms = self._get(found), self._replica.clock()
        said: dict[str, Any] = {} if name is None else {"name": require_title(name)}
        if begins is not None or ends is not None:
            said |= moved_span(stood, begins, ends)
        said |= {key: text for key, text in _texts(place or "", about or "").items()}
        gone = [key for key, text in (("place", place), ("about", about)) if text is not None and key not in said]
        gone += [key for key in ("days", "ends") if "begins" in said and key not in said]
        if cancelled is not None:
            gone += [] if cancelled else ["cancelled"]
            said |= {"cancelled": now_ms} if cancelled else {}

        def write(event: MapEdit) -> None:
            for key, value in {**said, "edited": now_ms}.items():
                event[key] = value
            for key in gone:
                event.pop(key, None)

        ((descriptor, keys),) = self._own([found]).items()
        with self._replica.change(descriptor) as root:
            event = root.get(keys[0])
            if not isinstance(event, MapEdit):
                raise UnknownItemError("this event is not here any more")
            write(event)
        return self._get(found)

    async def cancel(self, reference: str) -> CalendarEvent:
        """Call an own event off: it stays, and everybody sees that it does not take place.

        Raises:
            UnknownItemError, UsageError: as `change`.
        """
        return await self.change(reference, cancelled=True)

    async def remove(self, *references: str, erase: bool = False) -> builtins.list[str]:
        """Take own events out, so that no list shows them; give their ids.

        Args:
            erase: let go of what the month's document ever said of events of this member, as `Feed.erase` does.

        Raises:
            UnknownItemError: one is not here.
            UsageError: one is another member's. Nothing was removed.
        """
        found = list(dict.fromkeys(self._find(reference) for reference in references))
        if erase:
            _erase(self._replica, found)
        else:
            for descriptor, keys in self._own(found).items():
                with self._replica.change(descriptor) as root:
                    for key in keys:
                        root.pop(key, None)
        return [event.hex() for event in found]

    async def reply(self, reference: str, answer: str, words: str = "") -> CalendarEvent:
        """Say whether one comes; what one replied before is taken back.

        Args:
            answer: "yes", "no" or "maybe".

        Raises:
            UnknownItemError: the event is not here.
            UsageError: another answer, or words that are too long.
        """
        if answer not in REPLIES:
            raise UsageError(f"a reply is one of: {', '.join(REPLIES)}; not {answer[:40]!r}")
        replica, found = self._replica, self._find(reference)
        now_ms = replica.clock()
        value: dict[str, Any] = {"at": now_ms, "event": found, "says": REPLIES.index(answer) + 1}
        if shown := _require(words, MAX_EVENT_WORDS_BYTES, "the words of a reply", lines=True):
            value["words"] = shown
        descriptor = self.reply_view.document_at(now_ms)
        before = self._db.query(
            "SELECT r.key FROM event_replies r JOIN documents d ON d.id=r.document_no "
            "WHERE r.group_no=? AND r.event=? AND d.document=?",
            (self._no, found, bytes(descriptor.document_id(replica.group))),
        )
        with replica.change(descriptor) as root:
            for (key,) in before:
                root.pop(key, None)
            root[REPLY_KEY + secrets.token_hex(8)] = value
        return self._get(found)

    # --- reading

    async def list(
        self, since: datetime | None = None, until: datetime | None = None, limit: int = 100
    ) -> builtins.list[CalendarEvent]:
        """Events, the earliest first.

        Args:
            since: those that are not over by then; now if not given.
            until: those alone that begin before.
        """
        if limit < 1:
            raise UsageError("a limit is 1 or more")
        first = self._replica.clock() if since is None else to_ms(since)
        last = LAST_MS + 1 if until is None else to_ms(until)
        rows = self._db.query(
            f"SELECT {_COLUMNS} FROM events WHERE group_no=? AND NOT erased AND over_ms>=? AND begins_ms<? "
            "ORDER BY begins_ms, event LIMIT ?",
            (self._no, first, last, limit),
        )
        return [self._event(row) for row in rows]

    async def get(self, reference: str) -> CalendarEvent:
        """One event.

        Raises:
            UnknownItemError: it is not here.
        """
        return self._get(self._find(reference))

    async def export(self, *references: str) -> str:
        """Events as an iCalendar file, for other calendars: those that are named, or all. It names no member.

        Raises:
            UnknownItemError: one is not here.
        """
        if references:
            return write_calendar([self._get(self._find(reference)) for reference in references])
        return write_calendar(self.everything())

    async def changed(self, event: GroupEvent) -> builtins.list[CalendarEvent]:
        """The events that one of `Group.events` is about, the earliest first; none for others, nor for those gone."""
        here = "SELECT 1 FROM events WHERE group_no=? AND event=? AND NOT erased"
        named = [one for one in self.view.named_by(event) if self._db.query_value(here, (self._no, one))]
        return sorted(map(self._get, named), key=lambda one: (one.begins, one.id))

    async def replied(self, event: GroupEvent) -> builtins.list[tuple[CalendarEvent, EventReply]]:
        """The replies that one of `Group.events` is about, as far as they are the newest of their members."""
        found = []
        for named in self.reply_view.named_by(event):
            row = self._db.query_one(
                "SELECT r.event, r.member, r.time_ms FROM event_replies r JOIN events e ON e.group_no=r.group_no "
                "AND e.event=r.event WHERE r.group_no=? AND r.reply=? AND NOT r.erased AND NOT e.erased",
                (self._no, named),
            )
            if row is not None:
                about, time = self._get(row[0]), time_of(row[2])
                found += [(about, one) for one in about.replies if one.member_id == row[1] and one.time == time]
        return found

    def everything(self) -> Iterator[CalendarEvent]:
        """Every event that is here, the earliest first; a few are held at a time, and others may write meanwhile."""
        after: tuple[int, bytes] = (-1, b"")
        while True:
            rows = self._db.query(
                f"SELECT {_COLUMNS} FROM events WHERE group_no=? AND NOT erased AND (begins_ms, event) > (?, ?) "
                "ORDER BY begins_ms, event LIMIT 200",
                (self._no, *after),
            )
            if not rows:
                return
            yield from map(self._event, rows)
            after = rows[-1][4], bytes(rows[-1][0])

    # --- inside

    def _get(self, event: bytes) -> CalendarEvent:
        row = self._db.query_one(
            f"SELECT {_COLUMNS} FROM events WHERE group_no=? AND event=? AND NOT erased", (self._no, event)
        )
        if row is None:
            raise UnknownItemError("this event is not here any more")
        return self._event(row)

    def _event(self, row: tuple[Any, ...]) -> CalendarEvent:
        event, member, time_ms, name, begins, ends, days, edited, place, about, cancelled = row
        roster, author = self._replica.members.roster, MemberId(member)
        known = roster.members.get(author) or roster.former_members.get(author)
        return CalendarEvent(
            id=event.hex(),
            author=known.shown_name if known else member.hex()[:12],
            author_id=author,
            name=name,
            begins=time_of(begins),
            ends=None if ends is None else time_of(ends),
            days=days,
            place=place,
            about=about,
            cancelled=bool(cancelled),
            time=time_of(time_ms),
            edited=None if edited is None else time_of(edited),
            replies=tuple(self._replies(event, edited)),
        )

    def _replies(self, event: bytes, edited_ms: int | None) -> builtins.list[EventReply]:
        """The newest reply of each member; whoever is out comes no more."""
        rows = self._db.query(
            "SELECT member, says, words, time_ms FROM (SELECT *, row_number() OVER (PARTITION BY member "
            "ORDER BY time_ms DESC, reply DESC) AS place FROM event_replies WHERE group_no=? AND event=? "
            "AND NOT erased) WHERE place=1",
            (self._no, event),
        )
        members = self._replica.members.roster.members
        found = []
        for member, says, words, time_ms in rows:
            known = members.get(MemberId(member))
            if known is not None:
                older = edited_ms is not None and time_ms < edited_ms
                reply = EventReply(
                    known.shown_name, MemberId(member), REPLIES[says - 1], words, time_of(time_ms), older
                )
                found.append(reply)
        return sorted(found, key=lambda reply: (fold(reply.member), reply.member_id))

    def _own(self, events: Sequence[bytes]) -> dict[Descriptor, builtins.list[str]]:
        """The root keys of own events, by the document in which each stands."""
        replica = self._replica
        me = replica.members.member_of(replica.keys.id)
        found: dict[Descriptor, builtins.list[str]] = {}
        for event in events:
            row = self._db.query_one(
                "SELECT document_no, key, member FROM events WHERE group_no=? AND event=? AND NOT erased",
                (self._no, event),
            )
            if row is None:
                raise UnknownItemError("this event is not here any more")
            if me is None or row[2] != me:
                raise UsageError("only who made an event can change or remove it")
            found.setdefault(replica.documents.get(row[0]).descriptor, []).append(row[1])
        return found

    def _find(self, reference: str) -> bytes:
        wanted, now_ms = fold(clean_text(reference, MAX_TITLE_BYTES)), self._replica.clock()
        rows = self._db.query(
            "SELECT event, name FROM events WHERE group_no=? AND NOT erased AND over_ms>=?", (self._no, now_ms)
        )
        named = [bytes(event) for event, name in rows if fold(name) == wanted]

        def between(low: bytes, high: bytes) -> builtins.list[tuple[Any, ...]]:
            statement = "SELECT event FROM events WHERE group_no=? AND event BETWEEN ? AND ? AND NOT erased LIMIT 2"
            return self._db.query(statement, (self._no, low, high))

        found = find_named(reference, named, between, size=EVENT_ID_BYTES, word="event")
        if found is not None:
            return found
        return find_reference(
            reference, between, size=EVENT_ID_BYTES, word="event", whose="an event, nor the name of one", where="here"
        )


def _erase(replica: Replica, events: Sequence[bytes]) -> None:
    erase(replica, EVENTS, events)


# --- what it says


def _texts(place: str, about: str) -> dict[str, str]:
    said = {
        "place": _require(place, MAX_TITLE_BYTES, "a place"),
        "about": _require(about, MAX_EVENT_ABOUT_BYTES, "what is said of an event", lines=True),
    }
    return {key: text for key, text in said.items() if text}


def _require(text: str, most: int, what: str, *, lines: bool = False) -> str:
    shown = clean_text(text, 4 * most, lines=lines)
    if len(shown.encode()) > most:
        raise UsageError(f"{what} is at most {most:,} bytes of text")
    return shown
