"""The vault of a group, as an embedder sees it: files, photos, videos and links that only the group can open."""

from __future__ import annotations

from cocoon_core.social.vault_items import VaultItems
from cocoon_core.sync.access import RelayAccess
from cocoon_core.sync.replica import Replica


class Vault:
    def __init__(self, replica: Replica, dial: RelayAccess) -> None:
        self._replica, self._dial = replica, dial
        self.index = VaultItems(replica)
