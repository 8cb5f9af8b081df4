"""The vault's index: which items there are, and writing those of this member. Spec: specs/vault-items.md.

Items alone: their bytes are sealed, sent and fetched by cocoon_core/vault, and both are put together in vaulting.py.
Asking is in item_index.py.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Final

from cocoon_core.documents.proxies import MapEdit
from cocoon_core.errors import UnknownItemError, UsageError
from cocoon_core.protocol.descriptor import Descriptor
from cocoon_core.social.erasing import Erasable, erase, finish_erasing
from cocoon_core.social.item import Item
from cocoon_core.social.item_index import ItemIndex
from cocoon_core.social.item_view import ITEM_PREFIX, ItemView, item_id
from cocoon_core.sync.events import GroupEvent
from cocoon_core.sync.replica import Replica

ITEMS: Final = Erasable("vault_items", "item", "who added an item can remove it")


class VaultItems(ItemIndex):
    """The items of one group, and writing those of this member."""

    def __init__(self, replica: Replica) -> None:
        super().__init__(replica)
        self.view = ItemView(replica)
        replica.add_view(self.view)
        replica.chores.append(lambda: finish_erasing(replica, ITEMS))

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
        descriptor = self.view.document_at(now_ms)
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
        fresh = self.among(self.view.named_by(event))
        return sorted(fresh, key=lambda item: (item.time, item.id))

    # --- inside

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
