"""Computes a view anew where a step of the schema asked for that, when a group is opened. Spec: specs/storage.md §6."""

from __future__ import annotations

from contextlib import suppress
from typing import Protocol

from cocoon_core.errors import DocumentUnavailableError
from cocoon_core.storage.documents import DocumentRecord
from cocoon_core.storage.views import forget_stale_view, is_view_stale
from cocoon_core.sync.replica import Replica
from cocoon_core.sync.shelf import Readable


class Computed(Protocol):
    """A view with a table of its own."""

    @property
    def table(self) -> str: ...

    def is_mine(self, record: DocumentRecord) -> bool:
        """Whether the table is computed from this document, among others."""
        ...

    def rebuilt(self, record: DocumentRecord, document: Readable) -> None: ...


class CatchesUp(Protocol):
    """A view that looks, when a group is opened, whether it is to be computed anew."""

    def catch_up(self) -> None: ...


def compute_if_stale(replica: Replica, view: Computed) -> None:
    """Compute the table anew where a step of the schema asked for that. Not inside a transaction.

    A document that cannot be shown now is left as it was; `cocoon check` computes its rows when it can be.
    """
    database, number = replica.database, replica.record.number
    if not is_view_stale(database, number, view.table):
        return
    with replica.transaction():
        for record in filter(view.is_mine, replica.documents.all()):
            if not replica.shelf.is_bare(record):
                with suppress(DocumentUnavailableError):
                    view.rebuilt(record, replica.shelf.get(record.descriptor))
        forget_stale_view(database, number, view.table)
