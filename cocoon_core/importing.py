"""Taking in what a bundle file carries, for every group of a profile that it is of. A part of `Cocoon`."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from cocoon_core.cocoon_part import CocoonPart
from cocoon_core.errors import CocoonError, LocalStateError, NotYetError, UnknownGroupError, UntrustedInputError
from cocoon_core.group import Group
from cocoon_core.protocol.ids import GroupId
from cocoon_core.storage.groups import JOINING
from cocoon_core.sync.bundle_file import Progress, open_bundle
from cocoon_core.sync.bundling import Imported, can_open, import_bundle


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What a file brought, for each group of this profile that it is of; and the groups where it could not be used to
    its end, each with the reason.
    """

    groups: dict[GroupId, Imported] = field(default_factory=dict)
    failed: dict[GroupId, CocoonError] = field(default_factory=dict)


class Importing(CocoonPart):
    """The part of a profile that takes in bundles."""

    async def import_bundle(self, path: str | os.PathLike[str], progress: Progress | None = None) -> ImportReport:
        """Take in what a file that `Group.export_bundle` wrote has for the groups of this profile.

        Nothing is believed of it that would not be believed of a relay. The same file again changes nothing.

        Args:
            progress: called with (bytes checked, bytes in all) while the file is checked.

        Raises:
            UsageError: there is no such file.
            MalformedError, UpdateNeededError: it is no bundle, or damaged, or of a later version; nothing was changed.
            UnknownGroupError: no group of this profile can open it.
            LocalStateError: it cannot be read, or not stored.
        """
        bundle = open_bundle(Path(path), progress)
        try:
            groups = [group for group in self._all_groups() if can_open(group.replica, bundle)]
            if not groups:
                raise UnknownGroupError(
                    "no group on this device can open this file: it is of another group, or of a time of it that this "
                    "device has never been led to"
                )
            report = ImportReport()
            for group in groups:
                try:
                    report.groups[group.id] = await import_bundle(group.replica, bundle, Path(path).name)
                except CocoonError as error:
                    if len(groups) == 1:
                        raise
                    report.failed[group.id] = error
            return report
        finally:
            bundle.close()

    def _all_groups(self) -> list[Group]:
        """All that can be opened; one that is damaged keeps no other from its file."""
        found = []
        for record in self._table.all():
            if record.state != JOINING:
                with suppress(LocalStateError, NotYetError, UntrustedInputError):
                    found.append(self._group(record))
        return found
