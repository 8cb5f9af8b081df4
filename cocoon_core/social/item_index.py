"""Asking which items the vault has. Spec: specs/vault-items.md §4.

Asks the table that item_view.py keeps; no document is opened for it. Writing is in vault_items.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from cocoon_core.errors import UnknownItemError, UsageError
from cocoon_core.protocol.constants import VAULT_ITEM_ID_BYTES
from cocoon_core.protocol.ids import MemberId
from cocoon_core.protocol.vault_file import FileRef
from cocoon_core.social.item import Album, Item
from cocoon_core.social.item_view import KINDS, fold, unpack_ref
from cocoon_core.social.references import find_reference
from cocoon_core.social.times import time_of
from cocoon_core.sync.replica import Replica

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


class ItemIndex:
    """The items of one group, to be asked for."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._db, self._no = replica.database, replica.record.number

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
        where, values = ["group_no=?", "NOT erased"], list[Any]([self._no])
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
        return [Album(name, number, int(size), time_of(newest)) for name, number, size, newest in rows]

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

        def between(low: bytes, high: bytes) -> list[tuple[Any, ...]]:
            statement = "SELECT item FROM vault_items WHERE group_no=? AND item BETWEEN ? AND ? AND NOT erased LIMIT 2"
            return self._db.query(statement, (self._no, low, high))

        whose = "an item of the vault"
        return find_reference(
            reference, between, size=VAULT_ITEM_ID_BYTES, word="item", whose=whose, where="in the vault"
        )

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

    # --- inside

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
        roster = self._replica.members.roster
        names: dict[bytes, tuple[str, MemberId]] = {}
        found = []
        for (
            item, member, kind, time_ms, name, mime, size, width, height, duration,
            album, caption, url, has_thumb, blur, site, about,
        ) in rows:  # fmt: skip
            who = names.get(member)
            if who is None:
                author = MemberId(member)
                known = roster.members.get(author) or roster.former_members.get(author)
                who = names[member] = (known.shown_name if known else member.hex()[:12], author)
            found.append(
                Item(
                    item.hex(),
                    *who,
                    kind,
                    name,
                    mime,
                    size,
                    time_of(time_ms),
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
