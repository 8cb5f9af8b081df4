"""Who has seen a post: told to its author alone, by those who wish to. Implements specs/people.md §5.

A member who wishes so (`tells_seen` in their profile) tells each author which of their posts they have seen, in an
owned document of the month, sealed to the author's devices. It is gathered for an hour, so that nobody learns when
exactly something was read. Authors keep the secrets that they were sent in a table, since the key that opened them is
erased one day.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import groupby
from typing import Any, ClassVar, Final

from cocoon_core.errors import DocumentUnavailableError, UntrustedInputError, UsageError
from cocoon_core.protocol import encoding
from cocoon_core.protocol.constants import (
    LABEL_SEEN_RECIPIENTS,
    MAX_CAST_MEMBERS,
    MAX_SEEN_BOXES,
    MAX_SEEN_POSTS,
    MAX_SEEN_WRAPS,
    NONCE_BYTES,
    SEEN_HOURS,
)
from cocoon_core.protocol.descriptor import Descriptor, DocumentKind
from cocoon_core.protocol.ids import DocumentId, HpkePublicKey, MemberId
from cocoon_core.protocol.primitives import HpkeKey, Secret, hash_bytes
from cocoon_core.protocol.seen import count_wraps, is_box, make_box, open_box, open_notice, seal_notice
from cocoon_core.social.feed import Feed
from cocoon_core.social.owned_view import base_of, own_document_at
from cocoon_core.storage.documents import DocumentRecord
from cocoon_core.storage.member_profiles import MemberProfileTable
from cocoon_core.storage.seen import OwnBox, SeenTable
from cocoon_core.sync.replica import Replica
from cocoon_core.sync.rotating import find_recipients
from cocoon_core.sync.shelf import Readable

SEEN_PREFIX: Final = "seen/"
SEEN_KEY: Final = "seen:"
_HOUR_MS: Final = 3_600_000
_MOST_BYTES: Final = 128 * 1024  # of boxes and notices that are written at once; a change has room for twice that
_TOLD: Final = "seen told"  # in the table `due`: when authors were last told


class SeenView:
    """The table `seen_posts` of one group, kept level with the documents of others. Implements `sync.shelf.View`."""

    table: ClassVar = "seen_posts"

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self.rows = SeenTable(replica.database, replica.record.number)
        replica.add_view(self)

    def merged(self, record: DocumentRecord, document: Readable, touched: set[str]) -> None:
        if self.is_mine(record):
            self._read(record, document, touched)

    def rebuilt(self, record: DocumentRecord, document: Readable) -> None:
        if self.is_mine(record):
            self.rows.drop_told(record.number)
            self._read(record, document, document.root_keys())

    def adopted(self, record: DocumentRecord, document: Readable) -> None:
        self.rebuilt(record, document)

    def let_go(self, record: DocumentRecord) -> None:
        if self.is_mine(record):
            self.rows.drop_told(record.number)

    def is_mine(self, record: DocumentRecord) -> bool:
        return record.descriptor.kind is DocumentKind.OWNED and record.descriptor.name.startswith(SEEN_PREFIX)

    def _read(self, record: DocumentRecord, document: Readable, keys: Iterable[str]) -> None:
        """Read what is for this member; nothing else opens."""
        replica, reader = self._replica, record.descriptor.member
        me = replica.members.member_of(replica.keys.id)
        if me is None or reader is None or reader == me:
            return
        values = {key: document.plain(key) for key in sorted(keys) if key.startswith(SEEN_KEY)}
        found = {key: value for key, value in values.items() if type(value) is bytes}
        known = self.rows.keys(record.number)
        fresh = [key for key, value in found.items() if is_box(value) and key not in known]
        if fresh:
            own = [replica.keys.hpke, *(HpkeKey(seed) for _, seed in replica.epochs.table.hpke_seeds())]
            for key in fresh[:MAX_SEEN_BOXES]:
                if len(known) >= MAX_SEEN_BOXES:
                    break  # each of them is tried for each notice
                with suppress(UntrustedInputError):
                    known[key] = open_box(found[key], own, replica.group, reader, me)
                    self.rows.add_key(record.number, key, known[key])
        base = base_of(record.descriptor, record.document, replica.group)
        for key in values:
            value = found.get(key, b"")
            told = [] if not value or is_box(value) else _open(value, known.values(), base, key)
            self.rows.set_told(record.number, key, reader, told)


class Seen:
    """What authors are told of who has seen their posts: `group.seen`. Get it from `Group`, do not make it."""

    def __init__(self, replica: Replica, feed: Feed) -> None:
        self._replica, self._feed = replica, feed
        self.view = SeenView(replica)
        self._rows = self.view.rows
        self._profiles = MemberProfileTable(replica.database, replica.record.number)
        replica.chores.append(self.tell)

    # --- asking, as an author

    async def by(self, post: str) -> list[MemberId]:
        """The members who told that they have seen this post or reply of one's own, as far as this device could read.

        Raises:
            UnknownItemError: it is not here.
            UsageError: it is another member's; only its author is told.
        """
        replica = self._replica
        found = await self._feed.get(post)
        if found.author_id != replica.members.member_of(replica.keys.id):
            raise UsageError("only who wrote a post is told who has seen it")
        return self._rows.seen_by(bytes.fromhex(found.id))

    # --- telling, as a reader

    async def mark(self, *posts: str) -> int:
        """These posts and replies were shown to the own member: how many of them their authors are to be told of.

        Nothing is noted where the own member does not wish to tell, or the group has more than 50 members.

        Raises:
            UnknownItemError: one is not here.
        """
        if not self._tells():
            return 0
        replica = self._replica
        me = replica.members.member_of(replica.keys.id)
        seen = [await self._feed.get(post) for post in posts]
        others = [bytes.fromhex(post.id) for post in seen if post.author_id != me and not post.erased]
        with replica.transaction():
            self._rows.mark(others)
        return len(others)

    def tell(self) -> None:
        """Tell authors what was seen, if that is due. To be called when level, not in an edit or a transaction."""
        replica = self._replica
        if not self._tells():
            if self._rows.to_tell():
                with replica.transaction():
                    self._rows.forget_untold()
            return
        table, now_ms = replica.epochs.table, replica.clock()
        since = table.due_since(_TOLD)
        if since is not None and abs(now_ms - since) < SEEN_HOURS * _HOUR_MS:
            return
        waiting = self._rows.to_tell()
        if waiting:
            with suppress(UsageError, DocumentUnavailableError):  # it is tried again: a sync is not stopped by that
                self._write(waiting, now_ms)

    def _write(self, waiting: Sequence[tuple[MemberId, bytes]], now_ms: int) -> None:
        replica = self._replica
        descriptor = own_document_at(replica, SEEN_PREFIX, now_ms)
        replica.debts.require_read(descriptor)
        keys = {recipient.id: recipient.hpke for recipient in find_recipients(replica)}
        base = descriptor.at(0).document_id(replica.group)
        values: dict[str, bytes] = {}
        told: list[bytes] = []
        with replica.changing():  # what is told, and that it was
            for author, posts in _in_notices(waiting):
                if sum(map(len, values.values())) >= _MOST_BYTES:
                    break  # the others are told next time
                told += posts
                member = replica.members.roster.members.get(author)
                devices = sorted(keys[device] for device in member.devices if device in keys) if member else []
                if not devices:
                    continue  # whoever is out is told nothing
                secret, box = self._secret_for(descriptor, author, devices)
                if box is not None:
                    values[_new_key()] = box
                key = _new_key()
                values[key] = seal_notice(posts, secret, secrets.token_bytes(NONCE_BYTES), base, key)
            replica.change_inside(descriptor, lambda root: _put_all(root, values))
            self._rows.note_told(told)
            replica.epochs.table.forget_due(_TOLD)
            replica.epochs.table.note_due(_TOLD, now_ms)

    def _secret_for(
        self, descriptor: Descriptor, author: MemberId, devices: Sequence[HpkePublicKey]
    ) -> tuple[Secret, bytes | None]:
        """What an author is told under, and the box that brings it if they lack it. Inside a transaction."""
        replica = self._replica
        document = bytes(descriptor.document_id(replica.group))
        digest = hash_bytes(LABEL_SEEN_RECIPIENTS, encoding.encode([bytes(one) for one in devices]))
        known = self._rows.own_box(author)
        if known is not None and (known.document, known.recipients) == (document, digest):
            return known.secret, None
        secret = Secret(secrets.token_bytes(32))
        recipients = list(devices[:MAX_SEEN_WRAPS])
        while len(recipients) < count_wraps(len(devices)):  # keys of nobody, so that their number tells nothing
            recipients.append(HpkeKey(Secret(secrets.token_bytes(32))).public)
        assert descriptor.member is not None, "the document is owned"
        box = make_box(secret, recipients, replica.group, descriptor.member, author)
        self._rows.set_own_box(author, OwnBox(document, digest, secret))
        return secret, box

    def _tells(self) -> bool:
        members = self._replica.members
        me = members.member_of(self._replica.keys.id)
        if me is None or len(members.roster.members) > MAX_CAST_MEMBERS or not self._replica.is_writable:
            return False
        return self._profiles.get(me).tells_seen


def _in_notices(waiting: Sequence[tuple[MemberId, bytes]]) -> Iterator[tuple[MemberId, list[bytes]]]:
    """Authors, each with as many posts as one notice names; sorted by author."""
    for author, pairs in groupby(waiting, key=lambda pair: pair[0]):
        posts = [post for _, post in pairs]
        for at in range(0, len(posts), MAX_SEEN_POSTS):
            yield author, posts[at : at + MAX_SEEN_POSTS]


def _new_key() -> str:
    return SEEN_KEY + secrets.token_hex(8)


def _open(value: bytes, known: Iterable[Secret], base: DocumentId, key: str) -> list[bytes]:
    """The posts that a notice names; none where it is for somebody else, or is none."""
    for secret in known:
        with suppress(UntrustedInputError):
            return open_notice(value, secret, base, key)
    return []


def _put_all(root: Any, values: dict[str, bytes]) -> None:
    for key in sorted(values):
        root[key] = values[key]
