"""Carrying a group where no relay is: into a bundle file. A part of `Group`; `Cocoon.import_bundle` takes one in."""

from __future__ import annotations

import os
from pathlib import Path

from cocoon_core.group_part import GroupPart
from cocoon_core.storage.paths import require_not_of_profile
from cocoon_core.sync.bundling import Exported, export_bundle


class Carrying(GroupPart):
    """The part of a group that is about carriers other than relays."""

    async def export_bundle(self, path: str | os.PathLike[str], *, replaces: bool = False) -> Exported:
        """Write into one file all that a relay would hold of this group, for every epoch that this device still holds.

        Needs no relay. Whoever finds the file sees what a relay sees. It is there whole, or not at all.

        Args:
            replaces: even if there is a file of that name.

        Raises:
            UsageError: there is such a file already, or no such folder, or it is the profile's; or this device cannot
                write to the group now.
            StorageFullError, LocalStateError: it could not be written.
        """
        require_not_of_profile(self._replica.database.folder, Path(path))
        await self._replica.edits_ended()
        return await export_bundle(self._replica, self._dial, Path(path), replaces=replaces)
