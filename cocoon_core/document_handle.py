"""Documents of a group by name, dict-like to read and to edit. A part of `Group`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

from cocoon_core.documents import MapView, normalise_schema
from cocoon_core.errors import MalformedError, UsageError
from cocoon_core.group_part import GroupPart
from cocoon_core.protocol.descriptor import Descriptor, DocumentKind
from cocoon_core.protocol.ids import MemberId
from cocoon_core.sync.replica import Replica

_KEPT: Final = ("feed/", "vault/", "list/", "note/", "event/", "reply/", "seen/")  # specs/documents.md §11


class DocumentHandle:
    """A document of a group, dict-like to read and to edit."""

    def __init__(self, replica: Replica, descriptor: Descriptor) -> None:
        self._replica, self._descriptor = replica, descriptor

    @property
    def name(self) -> str:
        return self._descriptor.name

    def read(self) -> MapView:
        """The document's root map, to be read before the next await: plain copies come from `.to_python()`."""
        return self._replica.shelf.get(self._descriptor).read()

    @asynccontextmanager
    async def change(self) -> AsyncIterator[Any]:
        """Edit inside the block; durable when it ends, undone when it raises.

        Raises:
            UsageError: this member may not change this document, or a value that a document cannot hold.
        """
        with self._changing() as root:
            yield root

    @contextmanager
    def _changing(self) -> Iterator[Any]:
        with self._replica.change(self._descriptor) as root:
            yield root


class Documents(GroupPart):
    """The part of a group that gives its documents."""

    def document(
        self,
        name: str,
        schema: Mapping[str, Any] | None = None,
        *,
        admin: bool = False,
        owner: MemberId | None = None,
    ) -> DocumentHandle:
        """A document by name: with a schema shared by all members (or admins only), without one a member's own.

        Args:
            schema: root keys and what stands under them: dict, list or str (text that is edited together).
            admin: only admins may change it.
            owner: whose, where there is no schema; this member's own if not given. Others' can be read, not changed.

        Raises:
            UsageError: the name or schema cannot be used.
        """
        if name.startswith(_KEPT):
            raise UsageError(
                f"documents that begin with {', '.join(_KEPT)} are written by the parts of Cocoon they name"
            )
        if (name == "profile" and schema is None) or (name == "circle" and schema is not None and admin):
            raise UsageError(f"the document `{name}` is written by `Group.{'profile' if schema is None else 'feed'}`")
        if schema is None:
            kind, member = DocumentKind.OWNED, owner or self.me
            if member is None:
                raise UsageError("this device is not a member of the group")
        else:
            kind, member = DocumentKind.ADMIN if admin else DocumentKind.SHARED, None
        try:
            descriptor = Descriptor(kind, name, member, () if schema is None else normalise_schema(schema))
        except MalformedError as error:
            raise UsageError(str(error)) from error
        return DocumentHandle(self._replica, descriptor)
