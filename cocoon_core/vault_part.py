"""What the parts of a vault's façade share: the index of items, and the files of this device. Also texts of items.

`Vault` is made of the parts in vault_adding, vault_fetching and vaulting.
"""

from __future__ import annotations

from collections.abc import Iterator

from cocoon_core.errors import UsageError
from cocoon_core.protocol.constants import MAX_ALBUM_BYTES, MAX_CAPTION_BYTES
from cocoon_core.protocol.vault_file import FileRef
from cocoon_core.social.item import Item
from cocoon_core.social.vault_items import VaultItems
from cocoon_core.sync.replica import Replica
from cocoon_core.vault.naming import clean_text
from cocoon_core.vault.transfers import Transfers


class VaultPart:
    """One subject of a vault's façade."""

    def __init__(self, replica: Replica, transfers: Transfers) -> None:
        self._replica, self._files = replica, transfers
        self.index = VaultItems(replica)  # for the modules of this package: not part of the public face
        transfers.references = self._references
        transfers.is_named = self.index.is_referred

    def _references(self) -> Iterator[tuple[bool, FileRef]]:
        """All files that items name, and whether it is the own member's item."""
        for one in self.index.all_stored():
            for ref in (one.file, one.thumb):
                if ref is not None:
                    yield one.is_own, ref

    def _file_of(self, reference: str) -> tuple[Item, FileRef]:
        """An item and its file.

        Raises:
            UnknownItemError: it is not here.
            UsageError: it is a link.
        """
        item = self.index.get(reference)
        ref = self.index.stored(bytes.fromhex(item.id)).file
        if ref is None:
            raise UsageError(f"this is a link, and has no file: it leads to {item.url}")
        return item, ref


def require_texts(caption: str, album: str | None) -> None:
    """Raises:
    UsageError: longer than items say.
    """
    if len(caption.encode(errors="replace")) > MAX_CAPTION_BYTES:
        raise UsageError(f"a caption is at most {MAX_CAPTION_BYTES} bytes of text")
    if album is not None and len(album.encode(errors="replace")) > MAX_ALBUM_BYTES:
        raise UsageError(f"an album's name is at most {MAX_ALBUM_BYTES} bytes of text")


def say_texts(caption: str, album: str | None) -> dict[str, str]:
    """What an item says of these, as far as they say anything."""
    texts = {
        "caption": clean_text(caption, MAX_CAPTION_BYTES, lines=True),
        "album": clean_text(album or "", MAX_ALBUM_BYTES),
    }
    return {name: text for name, text in texts.items() if text}
