"""A table of what members wrote each in their own documents: kept level with them, so that reading needs no document.

What is written is a map under a root key `<kind>:<random>` of an owned document `<purpose>/<month>`; its author is the
document's owner, so nobody can write, change or delete another's. Its id is a hash of document and key. Of several
generations of a document, which are there together for a moment or by a fault, the newest that names it says what it
is; where it says both, it was erased. Who deletes a post leaves a tombstone in its place, in the first generation too.
Posts are in post_view.py, items of the vault in item_view.py. Implements specs/feed.md §4 and specs/vault-items.md §4.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Final

from cocoon_core.protocol.descriptor import Descriptor, DocumentKind
from cocoon_core.protocol.ids import DocumentId, GroupId
from cocoon_core.protocol.retire import GONE_PREFIX
from cocoon_core.social.stale import compute_if_stale
from cocoon_core.social.times import month_of
from cocoon_core.storage.documents import DocumentRecord
from cocoon_core.sync.events import DocumentChanged, GroupEvent
from cocoon_core.sync.replica import Replica
from cocoon_core.sync.shelf import Readable

MOST_COPIES: Final = 10_000  # that are kept in mind
LAST_MS: Final = 253_402_300_799_000  # the end of the year 9999, as far as a date can be shown

Said = tuple[Any, ...]  # what one of them says, in the order of the view's columns
Row = tuple[Any, ...]  # group, id, document, key and member, what it says, generation, erased, lingers


class OwnedView:
    """Keeps one table of one group level with its documents. Implements `sync.shelf.View`.

    Each kind says what it is named by (`documents`, `keys`), which table it fills (`table`, `identity`, `columns`), and
    how it is read (`identify`, `read`, `read_tombstone`). Where it comes to read otherwise, a step of the schema says
    that the table is stale, and it is computed anew when the group is next opened.

    Attributes:
        stays: its rows are kept while their month is not kept on this device (specs/storage.md §5).
        deletes: who takes one away leaves a tombstone, in the first generation too.
        copies: those that came lately with a next generation and are as they were.
    """

    documents: ClassVar[str]
    keys: ClassVar[str]
    table: ClassVar[str]
    identity: ClassVar[str]
    columns: ClassVar[Sequence[str]]
    stays: ClassVar[bool] = False
    deletes: ClassVar[bool] = False

    def __init__(self, replica: Replica) -> None:
        self._replica, self._group = replica, replica.group
        self._db, self._no = replica.database, replica.record.number
        self.copies: dict[bytes, None] = {}
        table, said = self.table, self.columns
        columns = ["group_no", self.identity, "document_no", "key", "member", *said, "generation", "erased", "lingers"]
        updates = ", ".join(f"{column}=excluded.{column}" for column in columns[2:])
        # The order of columns on disk is the migrations'; here they are named.
        insert = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({','.join('?' * len(columns))})"
        self._upsert = f"{insert} ON CONFLICT DO UPDATE SET {updates} WHERE excluded.generation>=generation"
        # for the first generation of a document of which nothing is shown: whatever stands there is of a later one. An
        # insert that never updates costs SQLite half, since it need not be able to undo a row
        self._add = f"{insert} ON CONFLICT DO NOTHING"
        self._delete = f"DELETE FROM {table} WHERE group_no=? AND {self.identity}=? AND document_no=?"
        self._stood = f"SELECT {', '.join(said)}, erased FROM {table} WHERE group_no=? AND {self.identity}=?"

    # --- what each kind says of itself

    def identify(self, base: DocumentId, key: str) -> bytes:
        """The id of what stands under a root key. `base` is the document's id in generation 0."""
        raise NotImplementedError

    def read(self, value: Any, identity: bytes) -> Said | None:
        """What a map says, or None where it is none of this kind; what is odd in it is made harmless."""
        raise NotImplementedError

    def read_tombstone(self, value: Any, identity: bytes, generation: int) -> Said | None:
        """What is left of one that was erased, or deleted; None where it is no tombstone of this generation."""
        raise NotImplementedError

    def arriving(self, record: DocumentRecord, rows: Sequence[Row]) -> None:
        """These rows are about to be written; those that stood in the table still do."""

    # --- following the documents

    def merged(self, record: DocumentRecord, document: Readable, touched: set[str]) -> None:
        if self.is_mine(record):
            self._update(record, document, touched, self._upsert)

    def rebuilt(self, record: DocumentRecord, document: Readable) -> None:
        if self.is_mine(record) and not (self.stays and self._replica.debts.is_away(record.document)):
            stood = self._db.query(f"SELECT key FROM {self.table} WHERE document_no=?", (record.number,))
            self._db.execute(f"DELETE FROM {self.table} WHERE document_no=?", (record.number,))
            self._update(record, document, {*document.root_keys(), *(key for (key,) in stood)}, self._upsert)

    def adopted(self, record: DocumentRecord, document: Readable) -> None:
        if self.stays:
            self.rebuilt(record, document)
        elif self.is_mine(record):
            sql = self._upsert if record.descriptor.generation else self._add
            self._update(record, document, document.root_keys(), sql)

    def let_go(self, record: DocumentRecord) -> None:
        if self.is_mine(record) and not self.stays:
            self._db.execute(f"DELETE FROM {self.table} WHERE document_no=?", (record.number,))

    def is_mine(self, record: DocumentRecord) -> bool:
        """Whether the table is computed from this document, among others."""
        return record.descriptor.kind is DocumentKind.OWNED and record.descriptor.name.startswith(self.documents)

    def catch_up(self) -> None:
        """Compute the table anew where a step of the schema asked for that. Not inside a transaction.

        A document that cannot be shown now is left as it was; `cocoon check` computes its rows when it can be.
        """
        compute_if_stale(self._replica, self)

    # --- for what is made of the table

    def document_at(self, now_ms: int) -> Descriptor:
        """The document of the month that the own member writes in.

        Raises:
            UsageError: this device is not a member's.
        """
        return own_document_at(self._replica, self.documents, now_ms)

    def named_by(self, event: GroupEvent) -> list[bytes]:
        """The ids of what an event of `Group.events` is about; none of other events, nor of `copies`."""
        if not isinstance(event, DocumentChanged) or not event.name.startswith(self.documents):
            return []
        record = self._replica.documents.find(event.document)
        if record is None:
            return []
        base = base_of(record.descriptor, event.document, self._group)
        if record.descriptor.generation or self.deletes:
            keys = [key.removeprefix(GONE_PREFIX) for key in event.keys]
        else:
            keys = list(event.keys)
        ids = dict.fromkeys(self.identify(base, key) for key in keys if key.startswith(self.keys))
        return [identity for identity in ids if identity not in self.copies]

    # --- inside

    def _update(self, record: DocumentRecord, document: Readable, keys: Iterable[str], sql: str) -> None:
        generation, member = record.descriptor.generation, record.descriptor.member
        assert member is not None, "the document is owned"
        base = base_of(record.descriptor, record.document, self._group)
        if generation or self.deletes:
            keys = dict.fromkeys(key.removeprefix(GONE_PREFIX) for key in keys)
        group_no, number, author = self._no, record.number, bytes(member)
        prefix, identify, read, plain = self.keys, self.identify, self.read, document.plain
        rows: list[Row] = []
        gone: list[tuple[int, bytes, int]] = []
        lost: list[str] = []
        for key in keys:
            if not key.startswith(prefix):
                continue
            identity = identify(base, key)
            said = read(plain(key), identity)
            erased = lingers = 0
            if generation or (said is None and self.deletes):  # a later generation's goes before what stands beside it
                tombstone = self.read_tombstone(plain(GONE_PREFIX + key), identity, generation)
                if tombstone is not None:
                    said, erased, lingers = tombstone, 1, int(said is not None)
            if said is None:
                gone.append((group_no, identity, number))
                lost.append(key)
            else:
                rows.append((group_no, identity, number, key, author, *said, generation, erased, lingers))
        if gone:
            self._db.executemany(self._delete, gone)
        if rows:
            self.arriving(record, rows)
        if generation:
            self._note_copies(rows)
        if rows:
            self._db.executemany(sql, rows)
        if lost and generation:
            self._look_below(record.descriptor, lost)

    def _note_copies(self, rows: Iterable[Row]) -> None:
        """Tell what only moved to this generation from what is new or other in it."""
        end = 5 + len(self.columns)
        for row in rows:
            stood = self._db.query_one(self._stood, row[:2])
            self.copies.pop(row[1], None)
            if stood == (*row[5:end], row[end + 1]):
                self.copies[row[1]] = None
        while len(self.copies) > MOST_COPIES:
            del self.copies[next(iter(self.copies))]

    def _look_below(self, descriptor: Descriptor, keys: list[str]) -> None:
        """What a generation names no more, an earlier one may still, if it goes on."""
        earlier = [
            record
            for record in self._replica.documents.all()
            if record.descriptor.generation < descriptor.generation
            and record.descriptor.at(0) == descriptor.at(0)
            and not self._replica.members.is_retired(record.descriptor)
        ]
        if earlier:
            record = max(earlier, key=lambda one: one.descriptor.generation)
            self._update(record, self._replica.shelf.get(record.descriptor), keys, self._upsert)


def own_document_at(replica: Replica, documents: str, now_ms: int) -> Descriptor:
    """The document of the month that the own member writes in, of those whose names begin so.

    Raises:
        UsageError: this device is not a member's.
    """
    member = replica.members.require_member(replica.keys.id)
    return replica.retires.current(Descriptor(DocumentKind.OWNED, documents + month_of(now_ms), member))


def base_of(descriptor: Descriptor, document: DocumentId, group: GroupId) -> DocumentId:
    """The id of a document's generation 0, by which what stands in it is named in all of them."""
    return document if not descriptor.generation else descriptor.at(0).document_id(group)


def clamp_ms(time_ms: int) -> int:
    """A time that can be shown."""
    return time_ms if 0 <= time_ms <= LAST_MS else min(max(time_ms, 0), LAST_MS)
