"""What happened in a group that its member should be told, written in the transaction that made it true.

A view of the feed's documents that sees each post before the table of posts follows, and a follower of the replica that
at the end of the transaction compares: posts, people, alarms. Events, lists and notes are noticing_together.py's. What
is old, one's own, or was there already is none; so a newcomer's catch-up gives no flood. Reading what is written here
is notices.py's. Implements specs/events.md §3.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from cocoon_core.protocol.constants import NOTICE_DAYS
from cocoon_core.protocol.descriptor import DocumentKind
from cocoon_core.protocol.ids import DeviceId, EntryId, MemberId
from cocoon_core.protocol.operations_devices import Leave
from cocoon_core.protocol.retire import GONE_PREFIX
from cocoon_core.protocol.roster_values import Roster
from cocoon_core.social.notice_kinds import NoticeKind
from cocoon_core.social.noticing_together import TogetherNoticing
from cocoon_core.social.owned_view import base_of
from cocoon_core.social.post_view import CALL, FEED_PREFIX, POST_ID_BYTES, POST_PREFIX, QUESTION, post_id, split_ids
from cocoon_core.social.times import month_of
from cocoon_core.storage.documents import DocumentRecord
from cocoon_core.storage.notices import NewNotice, NoticeTable
from cocoon_core.sync.events import AlarmRaised, GroupEvent, NoticesAdded, RequestMade
from cocoon_core.sync.relay_list import DAY_MS
from cocoon_core.sync.replica import Replica
from cocoon_core.sync.shelf import Readable

BATCH: Final = 32  # posts that are looked up at once
MOST_STEPS: Final = 64  # up from a reply to the post that its thread begins with
_OWN: Final = "\x00own"  # in place of words: this device did it, and its member knows
_COLUMNS: Final = "post, member, time_ms, parent, erased, mentions, ask, solved"


class _Post(NamedTuple):
    """A row of the table of posts, as far as notices ask."""

    post: bytes
    member: bytes
    time_ms: int
    parent: bytes | None
    erased: int
    mentions: bytes | None
    ask: int | None
    solved: bytes | None

    def mentions_member(self, member: bytes) -> bool:
        return self.mentions is not None and member in split_ids(self.mentions, MemberId.LENGTH)


class _People(NamedTuple):
    """Who is in the group, with which devices."""

    devices: Mapping[MemberId, frozenset[DeviceId]]
    me: MemberId | None


class Noticing:
    """Writes the notices of one group. Implements `sync.shelf.View` and `sync.replica.Follower`."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._db, self._no = replica.database, replica.record.number
        self.table = NoticeTable(replica.database, replica.record.number)
        self._together = TogetherNoticing(replica, self.table)
        self._created_ms: int = self._db.query_value("SELECT created_ms FROM groups WHERE id=?", (self._no,))
        self._stood: dict[bytes, _Post | None] = {}  # posts that this transaction touches, as they were before it
        self._adopted: set[int] = set()  # documents that it brought whole
        self._roster, self._people = self._read_people()
        self._settled: tuple[Roster | None, _People] | None = None
        replica.shelf.views.insert(0, self)  # before the table of posts follows
        replica.followers.append(self)

    # --- following documents

    def merged(self, record: DocumentRecord, document: Readable, touched: set[str]) -> None:
        self._note(record, touched)

    def rebuilt(self, record: DocumentRecord, document: Readable) -> None:
        self._note(record, document.root_keys())

    def adopted(self, record: DocumentRecord, document: Readable) -> None:
        if record.descriptor.generation or self._together.follows(record):
            self._note(record, document.root_keys())  # what it holds may have been shown out of an earlier one
        elif self._is_recent(record):
            self._adopted.add(record.number)

    def let_go(self, record: DocumentRecord) -> None:
        """What is not kept here happened long ago."""

    def _note(self, record: DocumentRecord, keys: Iterable[str]) -> None:
        if self._people.me is not None:
            self._together.note(record, keys)
        if not self._is_recent(record):
            return
        base = base_of(record.descriptor, record.document, self._replica.group)
        plain = dict.fromkeys(key.removeprefix(GONE_PREFIX) for key in keys)
        named = [post_id(base, key) for key in plain if key.startswith(POST_PREFIX)]
        new = [post for post in named if post not in self._stood]
        self._stood |= dict.fromkeys(new) | self._posts(new)

    def _is_recent(self, record: DocumentRecord) -> bool:
        """Whether a document of the feed may hold what is new enough: by its month, which is asked for nothing else."""
        descriptor = record.descriptor
        if descriptor.kind is not DocumentKind.OWNED or not descriptor.name.startswith(FEED_PREFIX):
            return False
        first = month_of(self._since_ms())
        return self._people.me is not None and (descriptor.period is None or descriptor.period >= first)

    def _since_ms(self) -> int:
        """What was written before is old: NOTICE_DAYS ago, or before this device came into the group."""
        now = self._replica.clock()
        return max(min(self._created_ms, now), now - NOTICE_DAYS * DAY_MS, 0)

    # --- at the end of a transaction

    def settle(self, events: Sequence[GroupEvent]) -> None:
        """Write what the transaction gives."""
        before = self._people
        found: list[NewNotice] = []
        if self._replica.members.has_begun and self._replica.members.roster is not self._roster:
            self._settled = self._roster, self._people
            self._roster, self._people = self._read_people()
            if before.me is not None and self._people.devices != before.devices:
                found += self._compare_people(before, self._people)
        if before.me is not None and (self._stood or self._adopted):
            found += self._compare_posts(before.me)
        if before.me is not None and self._together.has_noted:
            found += self._together.compare(before.me, self._since_ms())
        found += [
            NewNotice(NoticeKind.REQUEST, bytes(event.request), None, event.name)
            for event in events
            if isinstance(event, RequestMade)
        ]
        found += [
            NewNotice(NoticeKind.ALARM, f"{event.kind} {event.subject}".encode(), None, event.message)
            for event in events
            if isinstance(event, AlarmRaised)
        ]
        if found:
            self.table.begin(self._replica.keys.id)
            first, last = self.table.add(found, self._replica.clock())
            self._replica.tell(NoticesAdded(first, last))

    def ended(self, *, committed: bool) -> None:
        if not committed and self._settled is not None:
            self._roster, self._people = None, self._settled[1]
        if not committed:
            self.table.forget_counts()
        self._settled = None
        self._stood.clear()
        self._adopted.clear()
        self._together.clear()

    # --- people

    def _read_people(self) -> tuple[Roster | None, _People]:
        members = self._replica.members
        if not members.has_begun:
            return None, _People({}, None)
        roster = members.roster
        devices = {member.id: frozenset(member.devices) for member in roster.members.values()}
        return roster, _People(devices, members.member_of(self._replica.keys.id))

    def _compare_people(self, before: _People, now: _People) -> list[NewNotice]:
        found = [
            NewNotice(NoticeKind.NEWCOMER, bytes(member), bytes(member))
            for member in now.devices
            if member not in before.devices
        ]
        found += [self._tell_removal(member) for member in before.devices if member not in now.devices]
        for member in sorted(before.devices.keys() & now.devices.keys()):
            came, went = now.devices[member] - before.devices[member], before.devices[member] - now.devices[member]
            if came or went:
                found += self._tell_keys(member, came, went)
        return [notice for notice in found if notice.words != _OWN]

    def _tell_removal(self, member: MemberId) -> NewNotice:
        former = self._replica.members.roster.former_members.get(member)
        words = ""
        if former is not None:
            words = self._tell_author(former.out_by, "removed by")
            if words and words != _OWN and isinstance(self._replica.members.operation(former.out_by).body, Leave):
                words = "left"
        return NewNotice(NoticeKind.REMOVAL, bytes(member), bytes(member), words)

    def _tell_keys(self, member: MemberId, came: frozenset[DeviceId], went: frozenset[DeviceId]) -> list[NewNotice]:
        """What this very device did to its member's devices is none."""
        roster = self._replica.members.roster
        by = [roster.devices[device].enrolled_by for device in came]
        by += [roster.former_devices[device].out_by for device in went if device in roster.former_devices]
        if by and all(self._tell_author(operation, "") == _OWN for operation in by):
            return []
        changes = [f"{word} {', '.join(sorted(device.hex()[:8] for device in some))}" for word, some in
                   (("new:", came), ("gone:", went)) if some]  # fmt: skip
        return [NewNotice(NoticeKind.KEYS, bytes(member), bytes(member), "; ".join(changes))]

    def _tell_author(self, operation: EntryId, words: str) -> str:
        """`words` and the name of who wrote an operation; `_OWN` where this device did."""
        members = self._replica.members
        if operation not in members.graph:
            return ""
        author = members.operation(operation).device
        if author == self._replica.keys.id:
            return _OWN
        member = members.member_ever(author)
        known = None
        if member is not None:
            known = members.roster.members.get(member) or members.roster.former_members.get(member)
        return f"{words} {known.shown_name if known is not None else author.hex()[:12]}"

    # --- posts

    def _compare_posts(self, me: MemberId) -> list[NewNotice]:
        since_ms = self._since_ms()
        now = self._posts([*self._stood])
        for number in self._adopted:
            rows = self._db.query(
                f"SELECT {_COLUMNS} FROM posts WHERE group_no=? AND document_no=? AND time_ms>=?",
                (self._no, number, since_ms),
            )
            now |= _by_id(rows)
        late = [reply for post in now.values() if self._is_own_arrival(post, me) for reply in self._replies_to(post)]
        now |= {post.post: post for post in late if post.post not in now}
        shown = sorted(now.values(), key=lambda post: (post.time_ms, post.post))
        found: list[NewNotice] = []
        for post in shown:
            stood = self._stood.get(post.post)
            if post.member != me and not post.erased:
                if post.time_ms >= since_ms:
                    found += self._notice_of(post, stood, bytes(me))
                if post.solved is not None:
                    found += self._marks_of(post, stood, bytes(me))
        return [notice for notice in found if not self.table.has(notice.kind, notice.subject)]

    def _is_own_arrival(self, post: _Post, me: MemberId) -> bool:
        """A post that another device of the own member wrote may come after a reply to it."""
        return post.member == me and self._stood.get(post.post) is None

    def _replies_to(self, post: _Post) -> list[_Post]:
        rows = self._db.query(f"SELECT {_COLUMNS} FROM posts WHERE group_no=? AND parent=?", (self._no, post.post))
        return [_Post(*row) for row in rows]

    def _notice_of(self, post: _Post, stood: _Post | None, me: bytes) -> list[NewNotice]:
        """One at most: the kind that says most."""
        if post.mentions_member(me):
            kind = NoticeKind.MENTION if stood is None or not stood.mentions_member(me) else None
        elif post.ask == CALL:
            kind = NoticeKind.CALL if stood is None or stood.ask != CALL else None
        elif stood is not None:
            kind = None
        elif post.parent is not None:
            kind = self._kind_of_reply(post.parent, me)
        else:
            kind = NoticeKind.QUESTION if post.ask == QUESTION else NoticeKind.POST
        return [NewNotice(kind, post.post, post.member)] if kind is not None else []

    def _kind_of_reply(self, parent: bytes, me: bytes) -> NoticeKind | None:
        """Up the thread: whose post it answers, and who began it."""
        rows = self._db.query(
            "WITH RECURSIVE up(post, step) AS (SELECT :p, 0 UNION ALL SELECT q.parent, step+1 FROM up "
            "CROSS JOIN posts q ON q.group_no=:g AND q.post=up.post WHERE q.parent IS NOT NULL AND step<:most) "
            "SELECT q.member, q.parent, q.ask FROM up CROSS JOIN posts q ON q.group_no=:g AND q.post=up.post "
            "ORDER BY up.step",
            {"g": self._no, "p": parent, "most": MOST_STEPS},
        )
        if not rows:
            return None
        author, _, ask = rows[0]
        if author == me:
            return NoticeKind.REPLY if ask is None else NoticeKind.ANSWER
        top, above, _ = rows[-1]
        return NoticeKind.REPLY if top == me and above is None else None

    def _marks_of(self, post: _Post, stood: _Post | None, me: bytes) -> list[NewNotice]:
        """Replies of one's own that the asker newly marked as what answers the question."""
        before = split_ids(stood.solved, POST_ID_BYTES) if stood is not None else []
        marked = [reply for reply in split_ids(post.solved, POST_ID_BYTES) if reply not in before]
        return [
            NewNotice(NoticeKind.SOLVED, reply, post.member)
            for reply in marked
            if self._db.query_value("SELECT member FROM posts WHERE group_no=? AND post=?", (self._no, reply)) == me
        ]

    def _posts(self, posts: Sequence[bytes]) -> dict[bytes, _Post]:
        """Those of these posts that are here."""
        found: dict[bytes, _Post] = {}
        for at in range(0, len(posts), BATCH):
            some = posts[at : at + BATCH]
            sql = f"SELECT {_COLUMNS} FROM posts WHERE group_no=? AND post IN ({','.join('?' * len(some))})"
            found |= _by_id(self._db.query(sql, (self._no, *some)))
        return found


def _by_id(rows: Sequence[tuple[Any, ...]]) -> dict[bytes, _Post]:
    return {row[0]: _Post._make(row) for row in rows}
