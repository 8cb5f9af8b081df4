"""The vault of a group, as an embedder sees it: files, photos, videos, audio and links that only the group can open.

What is added is sealed on this device and durable there when the call returns; `Group.sync` and `watch` send it, and
`get`, `open` and `pin` fetch what others added. Keys stay inside. What stands in documents is social/vault_items.py's,
what a file is made of cocoon_core/vault's. Spec: specs/vault.md, specs/vault-items.md, specs/media.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from cocoon_core.errors import UsageError
from cocoon_core.protocol.constants import MAX_ALBUM_BYTES, MAX_CAPTION_BYTES
from cocoon_core.protocol.ids import MemberId
from cocoon_core.protocol.vault_file import FileRef
from cocoon_core.social.item import Album, Item
from cocoon_core.storage.database import Database
from cocoon_core.storage.meta import read_meta, write_meta
from cocoon_core.sync.events import GroupEvent
from cocoon_core.vault.content import LIMIT_BYTES
from cocoon_core.vault.naming import clean_text
from cocoon_core.vault.reports import TellStep, TellTransfer, VaultCheck
from cocoon_core.vault_adding import Adding
from cocoon_core.vault_fetching import Fetching
from cocoon_core.vault_part import require_texts

_LIMIT: Final = "vault_limit"  # in the table `meta`


def read_limit(database: Database) -> int:
    """How many bytes of what can be fetched again this profile keeps."""
    stored = read_meta(database, _LIMIT)
    return LIMIT_BYTES if stored is None else int.from_bytes(stored)


@dataclass(frozen=True, slots=True)
class VaultStatus:
    """How much there is, in bytes.

    Attributes:
        items, bytes: all that is in the vault of this group, wherever it is.
        here: what of this group is on this device.
        here_of_all, limit: what of all groups is here that can be fetched again, and how much may be.
        pinned: what is kept here whatever the limit.
        waiting_files, waiting_bytes: what some relay has not taken yet.
    """

    items: int
    bytes: int
    here: int
    here_of_all: int
    limit: int
    pinned: int
    waiting_files: int
    waiting_bytes: int


class Vault(Adding, Fetching):
    """The vault of one group: `group.vault`. Get it from `Group`, do not make it."""

    # --- asking

    async def items(
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
            kind: file, photo, video, audio or link.
            text: words that must stand in its name, caption or address, in letters of either case.

        Raises:
            UsageError: a limit below 1, or no kind of item.
            UnknownItemError: `before` is not here.
        """
        return self.index.select(limit, before, kind=kind, album=album, member=member, text=text)

    async def item(self, reference: str) -> Item:
        """One item, by id or a unique beginning of it.

        Raises:
            UnknownItemError: it is not here.
        """
        return self.index.get(reference)

    async def albums(self) -> list[Album]:
        """All albums, the one with the newest item first."""
        return self.index.albums()

    async def changed(self, event: GroupEvent) -> list[Item]:
        """The items that an event of `Group.events` is about, the oldest first; none for others."""
        return self.index.changed(event)

    # --- changing and removing

    async def edit(self, reference: str, *, caption: str | None = None, album: str | None = None) -> Item:
        """Change what is said of an own item; an empty text takes it away.

        Raises:
            UnknownItemError: it is not here.
            UsageError: it is another member's, or a text is too long.
        """
        require_texts(caption or "", album)
        item = self.index.find(reference)
        changes: dict[str, str | None] = {}
        if caption is not None:
            changes["caption"] = clean_text(caption, MAX_CAPTION_BYTES, lines=True) or None
        if album is not None:
            changes["album"] = clean_text(album, MAX_ALBUM_BYTES) or None
        self.index.set(item, changes)
        return self.index.of(item)

    async def remove(self, *references: str, erase: bool = False) -> list[str]:
        """Take own items out of the vault, for everybody; their ids.

        No device lists them any more or renews their leases, and this one lets go of the bytes. What was saved stays.

        Args:
            erase: let go of names and keys in the history of documents too, as `Feed.erase` does of texts.

        Raises:
            UnknownItemError: one is not here.
            UsageError: one is another member's. Nothing was removed.
        """
        items = list(dict.fromkeys(map(self.index.find, references)))
        stored = [self.index.stored(item) for item in items]
        (self.index.erase if erase else self.index.remove)(items)
        self._forget(ref for one in stored for ref in (one.file, one.thumb) if ref is not None)
        return [item.hex() for item in items]

    def _forget(self, refs: Iterable[FileRef]) -> None:
        """Let go of what no item names any more."""
        unnamed = [ref for ref in refs if not self.index.is_referred(ref.id())]
        with self._replica.transaction():
            self._files.forget(unnamed)
        for ref in unnamed:
            self._files.let_go(ref)

    # --- how much there is

    def status(self) -> VaultStatus:
        """How much is in the vault, how much of it is here, and what is to be sent."""
        items, total = self.index.count()
        room = self._files.room()
        return VaultStatus(
            items=items,
            bytes=total,
            here=room.of_group,
            here_of_all=room.of_all,
            limit=room.limit,
            pinned=room.pinned,
            waiting_files=len(room.waiting),
            waiting_bytes=sum(ref.size for ref in room.waiting),
        )

    async def set_limit(self, limit: int) -> None:
        """Keep at most so many bytes on this device of what can be fetched again, of all groups of this profile.

        What is pinned, and what some relay has not taken yet, stays beyond it.

        Raises:
            UsageError: less than a byte.
        """
        if not 0 < limit < 1 << 62:
            raise UsageError("a limit is 1 byte or more")
        with self._replica.transaction():
            write_meta(self._replica.database, _LIMIT, limit.to_bytes(8))
        self._files.set_limit(limit)

    async def check(self, progress: TellTransfer | None = None, on_step: TellStep | None = None) -> VaultCheck:
        """Ask every relay for all that items name, put again what it lost, and read all that is here anew.

        What is damaged here is fetched again when it is needed. Every lease is renewed on the way.

        Args:
            progress: called with how far what is put again is.
            on_step: called with how far reading here, and asking each relay, is.

        Raises:
            LocalStateError: this device cannot go on.
        """
        return await self._files.check(self._replica.groups.relays(self._replica.record.number), progress, on_step)

    def name_of(self, file: bytes) -> str | None:
        """What a file is called that a transfer is about, by its id; None of small pictures."""
        return self.index.name_of(file)
