"""What a transaction did to events, lists and notes that a member should be told. Spec: specs/events.md §3.

As noticing.py does with posts: what stood before is looked up when a document is about to be shown anew, and compared
at the end of the transaction. Of a shared document the shelf says which devices wrote what came, since its content does
not. A list or note has one unread notice at most, so an evening of editing is told once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

from cocoon_core.protocol.constants import NOTICE_AGAIN_HOURS
from cocoon_core.protocol.descriptor import DocumentKind
from cocoon_core.protocol.ids import DeviceId, DocumentId, MemberId
from cocoon_core.protocol.run import parse_run
from cocoon_core.social.event_view import EVENT_KEY, EVENT_PREFIX, REPLY_KEY, REPLY_PREFIX, event_id, reply_id
from cocoon_core.social.list_view import LIST_PREFIX
from cocoon_core.social.note_view import NOTE_PREFIX
from cocoon_core.social.notice_kinds import NoticeKind
from cocoon_core.social.owned_view import base_of
from cocoon_core.storage.documents import DocumentRecord
from cocoon_core.storage.notices import NewNotice, NoticeTable, StoredNotice
from cocoon_core.sync.replica import Replica
from cocoon_core.sync.shelf import NO_RUN

NEW, CHANGED, PUT_ASIDE, TAKEN_OUT = "new", "changed", "put aside", "taken out"  # of a list or note
TIME, PLACE, NAME, CALLED_OFF, ON_AGAIN = "time", "place", "name", "called off", "on again"  # of an event
_AGAIN_MS: Final = NOTICE_AGAIN_HOURS * 3_600_000
_BATCH: Final = 32  # that are looked up at once


class _Event(NamedTuple):
    """A row of the table of events, as far as notices ask."""

    event: bytes
    member: bytes
    time_ms: int
    edited_ms: int | None
    over_ms: int
    span: tuple[int, int | None, int]
    place: str
    name: str
    cancelled: int


class _Shared(NamedTuple):
    """What a list or a note says."""

    time_ms: int
    gone: bool
    said: tuple[Any, ...]


class TogetherNoticing:
    """Finds what is to be told of events, lists and notes. Noticing asks it."""

    def __init__(self, replica: Replica, table: NoticeTable) -> None:
        self._replica, self._table = replica, table
        self._db, self._no = replica.database, replica.record.number
        self._events: dict[bytes, _Event | None] = {}  # that this transaction touches, as they were before it
        self._replies: dict[bytes, bool] = {}  # and replies to events: whether they were here
        self._shared: dict[DocumentId, tuple[DocumentRecord, _Shared | None]] = {}
        self._written: dict[DocumentId, set[tuple[DeviceId, int]]] = {}
        replica.shelf.written = self._note_written

    def clear(self) -> None:
        """The transaction is over."""
        for noted in (self._events, self._replies, self._shared, self._written):
            noted.clear()

    @property
    def has_noted(self) -> bool:
        """Whether the transaction touched any."""
        return bool(self._events or self._replies or self._shared)

    # --- as a transaction goes on

    def follows(self, record: DocumentRecord) -> bool:
        """Whether it is a document of one of these."""
        return record.descriptor.name.startswith((EVENT_PREFIX, REPLY_PREFIX, LIST_PREFIX, NOTE_PREFIX))

    def note(self, record: DocumentRecord, keys: Iterable[str]) -> None:
        """These root keys of a document are about to be shown anew."""
        descriptor = record.descriptor
        if descriptor.kind is DocumentKind.SHARED:
            if record.document in self._written and record.document not in self._shared:
                self._shared[record.document] = record, self._read_shared(record)
        elif descriptor.kind is DocumentKind.OWNED and descriptor.name.startswith(EVENT_PREFIX):
            base = base_of(descriptor, record.document, self._replica.group)
            fresh = [event_id(base, key) for key in keys if key.startswith(EVENT_KEY)]
            fresh = [event for event in fresh if event not in self._events]
            self._events |= dict.fromkeys(fresh) | self._read_events(fresh)
        elif descriptor.kind is DocumentKind.OWNED and descriptor.name.startswith(REPLY_PREFIX):
            base = base_of(descriptor, record.document, self._replica.group)
            fresh = [reply_id(base, key) for key in keys if key.startswith(REPLY_KEY)]
            fresh = [reply for reply in fresh if reply not in self._replies]
            known = {bytes(row[0]) for row in self._read_replies("reply", fresh)}
            self._replies |= {reply: reply in known for reply in fresh}

    def _note_written(self, record: DocumentRecord, devices: Collection[tuple[DeviceId, int]]) -> None:
        if record.descriptor.name.startswith((LIST_PREFIX, NOTE_PREFIX)):
            self._written.setdefault(record.document, set()).update(devices)

    # --- at its end

    def compare(self, me: MemberId, since_ms: int) -> list[NewNotice]:
        """What is to be told; what an unread notice says already is taken together with it."""
        now_ms = self._replica.clock()
        found = [*self._compare_events(me, since_ms, now_ms), *self._compare_replies(me, since_ms, now_ms)]
        found += self._compare_shared(me, since_ms)
        return [notice for one in found if (notice := self._joined(one, now_ms)) is not None]

    def _compare_events(self, me: bytes, since_ms: int, now_ms: int) -> list[NewNotice]:
        found = []
        for event in self._read_events([*self._events]).values():
            stood = self._events[event.event]
            if event.member == me or max(event.over_ms, stood.over_ms if stood is not None else 0) < now_ms:
                continue
            if stood is not None:
                changes = _changes(stood, event)
                if changes and (event.edited_ms or 0) >= since_ms:
                    found.append(NewNotice(NoticeKind.EVENT_CHANGE, event.event, event.member, ", ".join(changes)))
            elif event.time_ms >= since_ms and not self._table.has(NoticeKind.EVENT, event.event):
                found.append(NewNotice(NoticeKind.EVENT, event.event, event.member))
        return found

    def _compare_replies(self, me: bytes, since_ms: int, now_ms: int) -> list[NewNotice]:
        """The newest reply of each member to an own event; also such as came before the event of an own device."""
        fresh = [reply for reply, was_here in self._replies.items() if not was_here]
        rows = self._read_replies("reply", fresh) + self._read_replies(
            "event", [event for event, stood in self._events.items() if stood is None]
        )
        found = {}
        for reply, event, member, time_ms in sorted(rows, key=lambda row: (row[3], row[0])):
            own = self._read_events([event]).get(event)
            if own is None or own.member != me or member == me or time_ms < since_ms or own.over_ms < now_ms:
                continue
            if reply == self._newest_reply(event, member):
                found[event, member] = NewNotice(NoticeKind.EVENT_REPLY, event, member)
        return [*found.values()]

    def _compare_shared(self, me: MemberId, since_ms: int) -> list[NewNotice]:
        found = []
        for document, (record, stood) in self._shared.items():
            now = self._read_shared(record)
            if now is None or now == stood:
                continue
            written = {(self._replica.members.member_ever(device), run) for device, run in self._written[document]}
            others = {member for member, _ in written if member is not None and member != me}
            if not others:
                continue
            runs = {run for member, run in written if member in others}
            if now.gone if stood is None else not self._is_recent(runs, since_ms):
                continue
            if stood is None and now.time_ms < since_ms:
                continue
            kind = NoticeKind.LIST if record.descriptor.name.startswith(LIST_PREFIX) else NoticeKind.NOTE
            change = CHANGED
            if stood is None:
                change = CHANGED if any(member == me for member, _ in written) else NEW
            elif stood.gone != now.gone:
                change = PUT_ASIDE if now.gone else TAKEN_OUT
            member = bytes(*others) if len(others) == 1 else None
            found.append(NewNotice(kind, bytes(document), member, change))
        return found

    def _is_recent(self, runs: set[int], since_ms: int) -> bool:
        """Whether any of it was written lately, by what its entries say; what comes in a snapshot bears no time."""
        if NO_RUN in runs:
            return True
        wires = (self._replica.documents.run(number).wire for number in sorted(runs, reverse=True))
        entries = (parse_run(wire, self._replica.group).stored().entries for wire in wires)
        return any(entry.time_ms >= since_ms for some in entries for entry in some)

    def _joined(self, notice: NewNotice, now_ms: int) -> NewNotice | None:
        """The notice that says this and what the unread one of its kind says, which goes; None where that one stays."""
        member = notice.member if notice.kind == NoticeKind.EVENT_REPLY else None
        unread = self._table.unread_about(notice.kind, notice.subject, member)
        if unread is None:
            return notice
        if notice.kind == NoticeKind.EVENT_CHANGE:
            notice = replace(notice, words=_join_changes(unread.words, notice.words))
        elif notice.kind in (NoticeKind.LIST, NoticeKind.NOTE):
            if self._says_it(unread, notice, now_ms):
                return None
            if notice.words == CHANGED and unread.words == NEW:
                notice = replace(notice, words=NEW, member=unread.member)
            elif notice.words == CHANGED and notice.member != unread.member:
                notice = replace(notice, member=None)
        self._table.remove(unread.number)
        return notice

    @staticmethod
    def _says_it(unread: StoredNotice, notice: NewNotice, now_ms: int) -> bool:
        is_late = unread.time_ms <= now_ms - _AGAIN_MS
        is_alike = notice.words in (CHANGED, unread.words)
        return is_alike and not is_late and (unread.words == NEW or unread.member in (None, notice.member))

    # --- reading the tables

    def _read_events(self, events: Sequence[bytes]) -> dict[bytes, _Event]:
        found: dict[bytes, _Event] = {}
        for some in _batches(events):
            rows = self._db.query(
                "SELECT event, member, time_ms, edited_ms, over_ms, begins_ms, ends_ms, days, place, name, cancelled "
                f"FROM events WHERE group_no=? AND NOT erased AND event IN ({','.join('?' * len(some))})",
                (self._no, *some),
            )
            found |= {row[0]: _Event._make((*row[:5], tuple(row[5:8]), *row[8:])) for row in rows}
        return found

    def _read_replies(self, column: str, keys: Sequence[bytes]) -> list[tuple[Any, ...]]:
        found = []
        for some in _batches(keys):
            found += self._db.query(
                "SELECT reply, event, member, time_ms FROM event_replies WHERE group_no=? AND NOT erased "
                f"AND {column} IN ({','.join('?' * len(some))})",
                (self._no, *some),
            )
        return found

    def _newest_reply(self, event: bytes, member: bytes) -> Any:
        return self._db.query_value(
            "SELECT reply FROM event_replies WHERE group_no=? AND event=? AND member=? AND NOT erased "
            "ORDER BY time_ms DESC, reply DESC LIMIT 1",
            (self._no, event, member),
        )

    def _read_shared(self, record: DocumentRecord) -> _Shared | None:
        is_list = record.descriptor.name.startswith(LIST_PREFIX)
        table, text = ("lists", "''") if is_list else ("notes", "text")
        row = self._db.query_one(
            f"SELECT time_ms, gone_ms, name, {text} FROM {table} WHERE document_no=?", (record.number,)
        )
        if row is None:
            return None
        items: Sequence[Any] = ()
        if is_list:
            items = self._db.query(
                "SELECT item, text, done_ms IS NULL FROM list_items WHERE document_no=? ORDER BY item", (record.number,)
            )
        return _Shared(row[0], row[1] is not None, (row[2], row[3], *items))


def _batches(keys: Sequence[bytes]) -> Iterable[Sequence[bytes]]:
    return (keys[at : at + _BATCH] for at in range(0, len(keys), _BATCH))


def _changes(stood: _Event, event: _Event) -> list[str]:
    changes = [
        word
        for word, is_other in (
            (TIME, stood.span != event.span),
            (PLACE, stood.place != event.place),
            (NAME, stood.name != event.name),
        )
        if is_other
    ]
    if stood.cancelled != event.cancelled:
        changes.append(CALLED_OFF if event.cancelled else ON_AGAIN)
    return changes


def _join_changes(before: str, now: str) -> str:
    said = {*before.split(", "), *now.split(", ")}
    last = next((word for word in (*now.split(", "), *before.split(", ")) if word in (CALLED_OFF, ON_AGAIN)), None)
    return ", ".join([word for word in (TIME, PLACE, NAME) if word in said] + ([last] if last is not None else []))
