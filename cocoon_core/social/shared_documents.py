"""What lists and notes have alike: a shared document each, a name that anybody may change, and being put aside.

Nobody can delete a shared document, since nobody owns it. Putting it aside hides it from the lists, for all members,
until somebody takes it out again; what it said stays in its history. Implements specs/together.md §2.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final

from cocoon_core.documents.proxies import MapEdit
from cocoon_core.errors import UnknownItemError, UsageError
from cocoon_core.protocol.constants import MAX_TITLE_BYTES
from cocoon_core.protocol.descriptor import Descriptor, DocumentKind
from cocoon_core.social.item_view import fold
from cocoon_core.social.references import find_named, find_reference
from cocoon_core.social.shared_view import ABOUT, SharedView
from cocoon_core.sync.events import DocumentChanged, GroupEvent
from cocoon_core.sync.replica import Replica
from cocoon_core.vault.naming import clean_text

ID_BYTES: Final = 32  # a document's id
_LIKE_AN_ID: Final = re.compile(r"[0-9a-f]{4,64}", re.ASCII)

Write = Callable[[MapEdit], None]


class SharedDocuments:
    """The shared documents of one kind in one group."""

    word: ClassVar[str]
    kind: ClassVar[type[SharedView]]

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._db, self._no = replica.database, replica.record.number
        self.view = self.kind(replica)
        replica.add_view(self.view)

    # --- what anybody may do with each

    async def rename(self, reference: str, name: str) -> str:
        """Call it otherwise, for everybody; give its id.

        Raises:
            UnknownItemError: it is not here.
            UsageError: the name is empty or too long.
        """
        found = self._find(reference)
        named = require_title(name)
        self._write(found, lambda root: root[ABOUT].__setitem__("name", named))
        return found.hex()

    async def remove(self, reference: str) -> str:
        """Put it aside, for everybody: no list shows it, and any member can take it out again. Give its id.

        Raises:
            UnknownItemError: it is not here.
        """
        found, now_ms = self._find(reference), self._replica.clock()
        self._write(found, lambda root: root[ABOUT].__setitem__("gone", now_ms))
        return found.hex()

    async def restore(self, reference: str) -> str:
        """Take out again what was put aside; give its id.

        Args:
            reference: its id, or the beginning of it.

        Raises:
            UnknownItemError: it is not here.
        """
        found = self._find(reference)
        self._write(found, lambda root: root[ABOUT].pop("gone", None))
        return found.hex()

    # --- for each kind

    def _named_by(self, event: GroupEvent) -> bytes | None:
        """The id of the one that an event of `Group.events` is about; None for others."""
        if not isinstance(event, DocumentChanged) or not event.name.startswith(self.view.documents):
            return None
        return bytes(event.document)

    def _make(self, name: str, *writes: Write) -> bytes:
        """A new document of that name; give its id."""
        replica = self._replica
        named, now_ms = require_title(name), replica.clock()
        document = Descriptor(DocumentKind.SHARED, self.view.documents + secrets.token_hex(8), schema=self.view.schema)

        def begin(root: MapEdit) -> None:
            root[ABOUT]["name"] = named
            root[ABOUT]["at"] = now_ms

        self._write_all(document, (begin, *writes))
        return bytes(document.document_id(replica.group))

    def _write(self, found: bytes, *writes: Write) -> None:
        """Edit one: every step is a change of its own, and all of them are written or none."""
        if writes:
            self._write_all(self._descriptor(found), writes)

    def _write_all(self, descriptor: Descriptor, writes: Sequence[Write]) -> None:
        replica = self._replica
        if len(writes) == 1:
            with replica.change(descriptor) as root:
                writes[0](root)
            return
        replica.members.require_member(replica.keys.id)
        replica.debts.require_read(descriptor)
        with replica.changing():
            for write in writes:
                replica.change_inside(descriptor, write)

    def _descriptor(self, found: bytes) -> Descriptor:
        number = self._db.query_value(
            f"SELECT document_no FROM {self.view.table} WHERE group_no=? AND {self.view.identity}=?", (self._no, found)
        )
        if number is None:
            raise UnknownItemError(f"this {self.word} is not here any more")
        return self._replica.documents.get(number).descriptor

    def _find(self, reference: str) -> bytes:
        """The id of the one that is called so, or whose id begins so; of those put aside, by id alone.

        Raises:
            UnknownItemError: none, or more than one, is meant by that.
        """
        view, wanted = self.view, fold(reference.strip())
        rows = self._db.query(
            f"SELECT {view.identity}, name FROM {view.table} WHERE group_no=? AND gone_ms IS NULL", (self._no,)
        )
        named = [bytes(found) for found, name in rows if fold(name) == wanted]

        def between(low: bytes, high: bytes) -> list[tuple[Any, ...]]:
            statement = (
                f"SELECT {view.identity} FROM {view.table} WHERE group_no=? AND {view.identity} BETWEEN ? AND ? LIMIT 2"
            )
            return self._db.query(statement, (self._no, low, high))

        found = find_named(reference, named, between, size=ID_BYTES, word=self.word)
        if found is not None:
            return found
        try:
            return find_reference(
                reference, between, size=ID_BYTES, word=self.word, whose=f"a {self.word}", where="here"
            )
        except UnknownItemError:
            if _LIKE_AN_ID.fullmatch(reference.strip().lower()):
                raise
            shown = clean_text(reference, 40)
            raise UnknownItemError(f"no {self.word} is called “{shown}”, and no id of one begins so") from None


def require_title(name: str) -> str:
    """A name as everybody will read it.

    Raises:
        UsageError: it is empty, or too long.
    """
    shown = clean_text(name, 4 * MAX_TITLE_BYTES)
    if not shown or len(shown.encode()) > MAX_TITLE_BYTES:
        raise UsageError(f"a name is 1 to {MAX_TITLE_BYTES} bytes of text that shows")
    return shown
