"""The vault's index: asking which items there are, and writing those of this member. Spec: specs/vault-items.md.

Items alone: their bytes are sealed, sent and fetched by cocoon_core/vault, and both are put together in vaulting.py.
Reading asks the table that item_view.py keeps; no document is opened for it.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from cocoon_core.documents.proxies import MapEdit
from cocoon_core.errors import UnknownItemError, UsageError
from cocoon_core.protocol.constants import VAULT_ITEM_ID_BYTES
from cocoon_core.protocol.descriptor import Descriptor, DocumentKind
from cocoon_core.protocol.ids import MemberId
from cocoon_core.protocol.retire import GONE_PREFIX
from cocoon_core.protocol.vault_file import FileRef
from cocoon_core.social.erasing import Erasable, erase, finish_erasing
from cocoon_core.social.item import Album, Item
from cocoon_core.social.item_view import ITEM_PREFIX, KINDS, VAULT_PREFIX, ItemView, fold, item_id, unpack_ref
from cocoon_core.social.owned_view import base_of
from cocoon_core.sync.events import DocumentChanged, GroupEvent
from cocoon_core.sync.replica import Replica

ITEMS: Final = Erasable("vault_items", "item", "who added an item can remove it")

_COLUMNS: Final = (
    "item, member, kind, time_ms, name, type, size, width, height, duration, album, caption, url, has_thumb, blur, "
    "site, about"
)
_REFERENCES_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class StoredItem:
    """What the vault's own modules need of an item.

    Attributes:
        is_own: this member's own, on whichever device.
        file, thumb: where its bytes are, with their keys: of a link there is no file.
    """

    id: bytes
    is_own: bool
    file: FileRef | None
    thumb: FileRef | None


class VaultItems:
    """The items of one group."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._db, self._no = replica.database, replica.record.number
        self.view = ItemView(replica)
        replica.add_view(self.view)
        replica.chores.append(lambda: finish_erasing(replica, ITEMS))

    # --- asking

    def select(
        self,
        limit: int = 100,
        before: str | None = None,
        *,
        kind: str | None = None,
        album: str | None = None,
        member: MemberId | None = None,
        text: str | None = None,
    ) -> list[Item]:
        """Items, the newest first; those alone that all of what is given fits.

        Args:
            before: the id of an item; only those that stand below it.
            text: words that must stand in its name, caption or address, in letters of either case.

        Raises:
            UsageError: a limit below 1, or no kind of item.
            UnknownItemError: `before` is not here.
        """
        if limit < 1:
            raise UsageError("a limit is 1 or more")
        if kind is not None and kind not in KINDS:
            raise UsageError(f"items are of these kinds: {', '.join(KINDS)}; not {kind[:40]!r}")
        where, parameters = ["group_no=?", "NOT erased"], [self._no]
        values: list[Any] = parameters
        for column, wanted in (("kind", kind), ("album", album), ("member", member)):
            if wanted is not None:
                where.append(f"{column}=?")
                values.append(bytes(wanted) if isinstance(wanted, bytes) else wanted)
        for word in fold(text or "").split():
            where.append("instr(sought, ?)")
            values.append(word)
        if before is not None:
            anchor = self.find(before)
            time_ms = self._db.query_value(
                "SELECT time_ms FROM vault_items WHERE group_no=? AND item=?", (self._no, anchor)
            )
            where.append("(time_ms, item) < (?, ?)")
            values += [time_ms, anchor]
        rows = self._db.query(
            f"SELECT {_COLUMNS} FROM vault_items WHERE {' AND '.join(where)} ORDER BY time_ms DESC, item DESC LIMIT ?",
            (*values, limit),
        )
        return self._items(rows)

    def get(self, reference: str) -> Item:
        """One item, by id or a unique beginning of it.

        Raises:
            UnknownItemError: it is not here.
        """
        return self.of(self.find(reference))

    def of(self, item: bytes) -> Item:
        """One item, by id."""
        found = self.among([item])
        if not found:
            raise UnknownItemError("this item is not here any more")
        return found[0]

    def among(self, items: Sequence[bytes]) -> list[Item]:
        """Those of these items that are here, in the order given."""
        marks = ",".join("?" * len(items))
        rows = self._db.query(
            f"SELECT {_COLUMNS} FROM vault_items WHERE group_no=? AND item IN ({marks}) AND NOT erased",
            (self._no, *items),
        )
        by_id = {row[0]: row for row in rows}
        return self._items([by_id[item] for item in items if item in by_id])

    def albums(self) -> list[Album]:
        """All albums, the one with the newest item first."""
        rows = self._db.query(
            "SELECT album, count(*), sum(size), max(time_ms) FROM vault_items "
            "WHERE group_no=? AND album IS NOT NULL AND NOT erased GROUP BY album ORDER BY 4 DESC, 1",
            (self._no,),
        )
        return [Album(name, number, int(size), _time(newest)) for name, number, size, newest in rows]

    def count(self) -> tuple[int, int]:
        """How many items there are, and the bytes of all their files."""
        row = self._db.query_one(
            "SELECT count(*), coalesce(sum(size), 0) FROM vault_items WHERE group_no=? AND NOT erased", (self._no,)
        )
        assert row is not None, "an aggregate has one row"
        return int(row[0]), int(row[1])

    def find(self, reference: str) -> bytes:
        """The id that a hex string or a unique beginning of one names.

        Raises:
            UnknownItemError: none, or more than one.
        """
        text = reference.strip().lower()
        low, high = text.ljust(2 * VAULT_ITEM_ID_BYTES, "0"), text.ljust(2 * VAULT_ITEM_ID_BYTES, "f")
        try:
            bounds = bytes.fromhex(low), bytes.fromhex(high)
        except ValueError:
            raise UnknownItemError(f"{reference[:40]!r} is not the id of an item of the vault") from None
        if len(text) < 4 or len(bounds[0]) != VAULT_ITEM_ID_BYTES:
            raise UnknownItemError(f"{reference[:40]!r} is not the id of an item, nor 4 or more characters of one")
        rows = self._db.query(
            "SELECT item FROM vault_items WHERE group_no=? AND item BETWEEN ? AND ? AND NOT erased LIMIT 2",
            (self._no, *bounds),
        )
        if len(rows) > 1:
            raise UnknownItemError(f"more than one item begins with {text}; give more of the id")
        if not rows:
            raise UnknownItemError(f"no item {text} is in the vault; `cocoon sync` may bring it")
        return bytes(rows[0][0])

    # --- for the vault's own modules

    def stored(self, item: bytes) -> StoredItem:
        """Where the bytes of an item are.

        Raises:
            UnknownItemError: it is not here.
        """
        row = self._db.query_one(
            "SELECT item, member, file, thumb FROM vault_items WHERE group_no=? AND item=? AND NOT erased",
            (self._no, item),
        )
        if row is None:
            raise UnknownItemError("this item is not here any more")
        return self._stored(row)

    def with_digest(self, digest: bytes) -> Iterator[StoredItem]:
        """Items whose members say that their files have this digest, the oldest first."""
        rows = self._db.query(
            "SELECT item, member, file, thumb FROM vault_items WHERE group_no=? AND digest=? AND NOT erased "
            "ORDER BY time_ms, item LIMIT 16",
            (self._no, digest),
        )
        return map(self._stored, rows)

    def is_referred(self, file: bytes) -> bool:
        """Whether some item names this file, by its id, as its own or as its small picture."""
        found = self._db.query_value(
            "SELECT 1 FROM vault_items WHERE group_no=?1 AND file_id=?2 "
            "UNION SELECT 1 FROM vault_items WHERE group_no=?1 AND thumb_id=?2",
            (self._no, file),
        )
        return found is not None

    def name_of(self, file: bytes) -> str | None:
        """What the first item calls a file that names it as its own; None of small pictures."""
        name: str | None = self._db.query_value(
            "SELECT name FROM vault_items WHERE group_no=? AND file_id=? AND NOT erased ORDER BY time_ms LIMIT 1",
            (self._no, file),
        )
        return name

    def own_copies(self, file: bytes) -> list[tuple[bytes, str, str | None]]:
        """Own items with this file: id, name and album, the oldest first."""
        me = self._replica.members.member_of(self._replica.keys.id)
        return self._db.query(
            "SELECT item, name, album FROM vault_items WHERE group_no=? AND file_id=? AND member=? AND NOT erased "
            "ORDER BY time_ms, item",
            (self._no, file, me),
        )

    def oldest_first(self) -> Iterator[Item]:
        """Every item, the oldest first; a few are held at a time, and others may write meanwhile."""
        after: tuple[int, bytes] = (-1, b"")
        while True:
            rows = self._db.query(
                f"SELECT {_COLUMNS} FROM vault_items WHERE group_no=? AND NOT erased AND (time_ms, item) > (?, ?) "
                "ORDER BY time_ms, item LIMIT ?",
                (self._no, *after, _REFERENCES_AT_ONCE),
            )
            if not rows:
                return
            yield from self._items(rows)
            after = rows[-1][3], bytes(rows[-1][0])

    def all_stored(self) -> Iterator[StoredItem]:
        """Every item that is here, by id; a few are held at a time, and others may write meanwhile."""
        after = b""
        while True:
            rows = self._db.query(
                "SELECT item, member, file, thumb FROM vault_items WHERE group_no=? AND item>? AND NOT erased "
                "ORDER BY item LIMIT ?",
                (self._no, after, _REFERENCES_AT_ONCE),
            )
            if not rows:
                return
            yield from map(self._stored, rows)
            after = bytes(rows[-1][0])

    # --- writing

    def write(self, items: Sequence[Mapping[str, Any]]) -> list[bytes]:
        """Put items into this member's document of the month. Inside a transaction; give their ids.

        Args:
            items: the maps of specs/vault-items.md §2, without `at`.

        Raises:
            UsageError: this device is not a member's.
            DocumentUnavailableError: what this member's other devices wrote in the month was not read here yet.
        """
        replica = self._replica
        now_ms = replica.clock()
        descriptor = self._document_of(now_ms)
        replica.debts.require_read(descriptor)
        base = descriptor.at(0).document_id(replica.group)
        ids = []
        for item in items:  # one change each: a reader takes a change that makes one map without asking automerge
            key = ITEM_PREFIX + secrets.token_hex(8)
            value = {"at": now_ms, **item}
            replica.change_inside(descriptor, lambda root, key=key, value=value: root.__setitem__(key, value))  # type: ignore[misc]
            ids.append(item_id(base, key))
        return ids

    def set(self, item: bytes, changes: Mapping[str, str | None]) -> None:
        """Change texts of an own item: None takes one away.

        Raises:
            UnknownItemError: it is not here.
            UsageError: it is another member's.
        """

        def write(root: MapEdit, key: str) -> None:
            value = root.get(key)
            if not isinstance(value, MapEdit):
                raise UnknownItemError("this item is not here any more")
            for name, text in changes.items():
                if text is not None and value.get(name) != text:
                    value[name] = text
                elif text is None and name in value:
                    del value[name]

        ((descriptor, keys),) = self._own([item]).items()
        with self._replica.change(descriptor) as root:
            write(root, keys[0])

    def remove(self, items: Sequence[bytes]) -> None:
        """Take own items out of the vault: nobody's list shows them any more, and nothing renews their leases.

        Raises:
            UnknownItemError: one is not here.
            UsageError: one is another member's. Nothing was removed.
        """
        for descriptor, keys in self._own(items).items():
            with self._replica.change(descriptor) as root:
                for key in keys:
                    if key in root:
                        del root[key]

    def erase(self, items: Sequence[bytes]) -> None:
        """Remove own items, and let what the month's document ever said of them go too: names, captions and keys.

        Raises:
            UnknownItemError: one is not here.
            UsageError: one is another member's, or this device may not write. Nothing was erased then.
        """
        erase(self._replica, ITEMS, items)

    def changed(self, event: GroupEvent) -> list[Item]:
        """The items that an event of `Group.events` is about, the oldest first; none for others, nor for those gone."""
        if not isinstance(event, DocumentChanged) or not event.name.startswith(VAULT_PREFIX):
            return []
        record = self._replica.documents.find(event.document)
        if record is None:
            return []
        base = base_of(record.descriptor, event.document, self._replica.group)
        keys = {key.removeprefix(GONE_PREFIX) if record.descriptor.generation else key for key in event.keys}
        ids = [item_id(base, key) for key in keys if key.startswith(ITEM_PREFIX)]
        fresh = self.among([item for item in ids if item not in self.view.copies])
        return sorted(fresh, key=lambda item: (item.time, item.id))

    # --- inside

    def _document_of(self, now_ms: int) -> Descriptor:
        replica = self._replica
        member = replica.members.member_of(replica.keys.id)
        if member is None:
            raise UsageError("this device is not a member of the group")
        month = datetime.fromtimestamp(now_ms / 1000, UTC).strftime("%Y-%m")
        return replica.retires.current(Descriptor(DocumentKind.OWNED, VAULT_PREFIX + month, member))

    def _own(self, items: Sequence[bytes]) -> dict[Descriptor, list[str]]:
        """The root keys of own items, by the document in which each stands."""
        replica = self._replica
        me = replica.members.member_of(replica.keys.id)
        found: dict[Descriptor, list[str]] = {}
        for item in dict.fromkeys(items):
            row = self._db.query_one(
                "SELECT document_no, key, member FROM vault_items WHERE group_no=? AND item=? AND NOT erased",
                (self._no, item),
            )
            if row is None:
                raise UnknownItemError("this item is not here any more")
            if me is None or row[2] != me:
                raise UsageError("only who added an item can change or remove it")
            found.setdefault(replica.documents.get(row[0]).descriptor, []).append(row[1])
        return found

    def _stored(self, row: tuple[Any, ...]) -> StoredItem:
        item, member, file, thumb = row
        me = self._replica.members.member_of(self._replica.keys.id)
        return StoredItem(
            bytes(item),
            member == me,
            None if file is None else unpack_ref(file),
            None if thumb is None else unpack_ref(thumb),
        )

    def _items(self, rows: Sequence[tuple[Any, ...]]) -> list[Item]:
        members = self._replica.members.roster.members
        names: dict[bytes, tuple[str, MemberId]] = {}
        found = []
        for (
            item, member, kind, time_ms, name, mime, size, width, height, duration,
            album, caption, url, has_thumb, blur, site, about,
        ) in rows:  # fmt: skip
            who = names.get(member)
            if who is None:
                known = members.get(MemberId(member))
                who = names[member] = (known.shown_name if known else member.hex()[:12], MemberId(member))
            found.append(
                Item(
                    item.hex(),
                    *who,
                    kind,
                    name,
                    mime,
                    size,
                    _time(time_ms),
                    caption,
                    album,
                    width,
                    height,
                    None if duration is None else timedelta(milliseconds=duration),
                    bool(has_thumb),
                    blur,
                    url,
                    site,
                    about,
                )
            )
        return found


def _time(time_ms: int) -> datetime:
    return datetime.fromtimestamp(time_ms / 1000, UTC)
