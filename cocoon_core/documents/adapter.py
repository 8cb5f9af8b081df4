"""The only calls into automerge: one document in memory, changed by admitted changes and by this device's own edits.

Whatever automerge raises, its panics included (they are BaseExceptions), comes out as DocumentUnavailableError: "cannot
be shown here", never a verdict on an author. A panic leaves the object's lock unusable, so it is marked spoiled, every
later call fails at once, and the owner builds another from the raw changes, which are the truth. Only what the gate
admitted, or what this device itself stored, may be applied. Implements specs/documents.md §6.
"""

from __future__ import annotations

import ctypes
from asyncio import CancelledError
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, ParamSpec, TypeVar

from automerge.core import ROOT, Document, Message, ObjType, ScalarType, SyncState, Transaction

from cocoon_core.documents.columns import encode_uint
from cocoon_core.errors import DocumentUnavailableError
from cocoon_core.protocol.ids import ActorId

_P = ParamSpec("_P")
_T = TypeVar("_T")
_BATCH: Final = 1000  # changes in one message
_MESSAGE: Final = b"\x42\0\0\0"  # a v1 sync message without heads, needs and filters: changes alone
_LET_THROUGH: Final = (KeyboardInterrupt, SystemExit, CancelledError, GeneratorExit)

Reader = Document | Transaction
Stored = Any  # (ScalarType, value) or ObjType, as automerge gives it


class Replica:
    """One automerge document. Not for several threads at once."""

    __slots__ = ("_actor", "_document", "_spoiled", "_transaction")

    def __init__(self, actor: ActorId, saved: bytes | None = None) -> None:
        """Begin an empty document, or load one from this device's own cache; a foreign document is never loaded.

        Raises:
            DocumentUnavailableError: the cache cannot be loaded.
        """
        self._spoiled = False
        self._actor = actor
        self._transaction: Transaction | None = None
        if saved is None:
            self._document = self._call(Document, bytes(actor))
        else:
            self._document = self._call(Document.load, saved)
            self._call(self._document.set_actor, bytes(actor))

    def _call(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        if self._spoiled:
            raise DocumentUnavailableError
        try:
            return function(*args, **kwargs)
        except _LET_THROUGH:
            raise
        except BaseException as error:
            if not isinstance(error, Exception):
                self._spoiled = True
                self._abandon()
            raise DocumentUnavailableError(
                f"automerge cannot do this here: {type(error).__name__} in a document of actor {self._actor}"
            ) from error

    def _abandon(self) -> None:
        """Never free what a panic left behind.

        After it the transaction can be neither committed nor rolled back, and automerge frees the document before an
        open transaction that still points into it: seen to corrupt the memory of the whole process. So it is leaked.
        """
        for item in (getattr(self, "_document", None), self._transaction):
            if item is not None:
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(item))

    @property
    def spoiled(self) -> bool:
        """Whether this object can no longer be used; another is to be built from the raw changes."""
        return self._spoiled

    def spoil(self) -> None:
        self._spoiled = True

    @property
    def heads(self) -> frozenset[bytes]:
        return frozenset(self._call(self._document.get_heads))

    def apply(self, raws: Iterable[bytes]) -> None:
        """Apply admitted raw changes, each after those it depends on. Those that are here already change nothing."""
        batch: list[bytes] = []
        for raw in raws:
            batch.append(raw)
            if len(batch) == _BATCH:
                self._apply_batch(batch)
                batch = []
        if batch:
            self._apply_batch(batch)

    def _apply_batch(self, batch: list[bytes]) -> None:
        parts = [_MESSAGE, encode_uint(len(batch))]
        for raw in batch:
            parts.append(encode_uint(len(raw)))
            parts.append(raw)
        message = self._call(Message.decode, b"".join(parts))
        self._call(self._document.receive_sync_message, SyncState(), message)

    def save(self) -> bytes:
        """The whole document in automerge's own form: a cache for `__init__`, worth nothing to anybody else."""
        return self._call(self._document.save)

    # --- editing

    @contextmanager
    def editing(self) -> Iterator[None]:
        """Make the body's writes one change; none if the body raises."""
        transaction = self._call(self._document.transaction)
        self._call(transaction.__enter__)
        self._transaction = transaction
        try:
            yield
        except BaseException as error:
            self._transaction = None
            if not self._spoiled:
                self._end(transaction, error)
            raise
        self._transaction = None
        self._end(transaction, None)

    def _end(self, transaction: Transaction, error: BaseException | None) -> None:
        """Commit, or roll back where there is an error."""
        try:
            self._call(transaction.__exit__, type(error) if error else None, error, None)
        except DocumentUnavailableError:
            self._spoiled = True
            self._abandon()
            raise

    def changes_since(self, heads: Iterable[bytes]) -> list[bytes]:
        """Raw changes that are not ancestors of `heads`. Costs no more in a long history than in a short one."""
        return [change.raw_bytes for change in self._call(self._document.get_changes, list(heads))]

    def put(self, container: bytes, place: str | int, kind: ScalarType, value: Any) -> None:
        self._call(self._writer().put, container, place, kind, value)

    def put_container(self, container: bytes, place: str | int, kind: ObjType) -> bytes:
        return self._call(self._writer().put_object, container, place, kind)

    def insert(self, container: bytes, index: int, kind: ScalarType, value: Any) -> None:
        self._call(self._writer().insert, container, index, kind, value)

    def insert_container(self, container: bytes, index: int, kind: ObjType) -> bytes:
        return self._call(self._writer().insert_object, container, index, kind)

    def delete(self, container: bytes, place: str | int) -> None:
        self._call(self._writer().delete, container, place)

    def _writer(self) -> Transaction:
        if self._transaction is None:
            raise DocumentUnavailableError("an edit has ended")
        return self._transaction

    # --- reading as it was

    def get_then(self, heads: Iterable[bytes], key: str) -> tuple[Stored, bytes] | None:
        """What stood under a root key when these were the newest changes."""
        return self._call(self._document.get, ROOT, key, list(heads))

    def entries_then(self, heads: Iterable[bytes], container: bytes) -> list[tuple[str, tuple[Stored, bytes]]]:
        """What stood in a map then, by key."""
        then = list(heads)
        keys = self._call(self._document.keys, container, then)
        return list(zip(keys, self._call(self._document.values, container, then), strict=True))

    # --- reading; inside an edit, what it has written so far

    def _reader(self) -> Reader:
        return self._transaction or self._document

    def get(self, container: bytes, place: str | int) -> tuple[Stored, bytes] | None:
        return self._call(self._reader().get, container, place)

    def keys(self, container: bytes) -> list[str]:
        return self._call(self._reader().keys, container)

    def values(self, container: bytes) -> list[tuple[Stored, bytes]]:
        return self._call(self._reader().values, container)

    def length(self, container: bytes) -> int:
        return self._call(self._reader().length, container)

    def text(self, container: bytes) -> str:
        return self._call(self._reader().text, container)


__all__ = ["ROOT", "ObjType", "Replica", "ScalarType"]
