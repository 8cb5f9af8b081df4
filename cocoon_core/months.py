"""Which months of a group this device keeps, and bringing older ones back. A part of `Group`.

What is let go stays at the relays and with the others; what it takes to fetch it stays here. Spec: specs/storage.md.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from cocoon_core.errors import RelayError, UnknownItemError, UsageError
from cocoon_core.protocol.ids import BlobHash
from cocoon_core.sync.driver import Progress
from cocoon_core.sync.keeping import LOOKED, find_old, is_due, let_go
from cocoon_core.syncing import Syncing, SyncReport
from cocoon_core.vault.reports import TellTransfer

MOST_MONTHS: Final = 12_000
_MONTH: Final = re.compile(r"\d{4}-(0[1-9]|1[0-2])", re.ASCII)


class Months(Syncing):
    """The part of a group that is about how much of it stays here."""

    @property
    def kept_months(self) -> int | None:
        """How many months of posts this device keeps, the current one among them; None where it keeps all."""
        return self._replica.groups.kept_months(self._replica.record.number)

    def months_away(self) -> list[str]:
        """The months, "YYYY-MM", of which something is not on this device, the newest first."""
        return self._replica.debts.away()

    async def keep_months(self, months: int | None) -> int:
        """Keep so many months on this device, the current one among them, or all with None.

        What is older goes from this device where a relay says that it has it; posts that others may still judge
        otherwise, or that were changed since the last rotation, stay. With None, the next sync brings everything.

        Returns:
            How many documents (one a member and month) were let go.

        Raises:
            UsageError: not a number of months.
        """
        if months is not None and not 1 <= months <= MOST_MONTHS:
            raise UsageError(f"a device keeps 1 to {MOST_MONTHS} months, or all")
        replica = self._replica
        await replica.edits_ended()
        with replica.transaction():
            replica.groups.set_kept_months(replica.record.number, months)
            if months is None:
                replica.debts.ask_for(replica.debts.away())
        return await self._let_go()

    async def fetch_months(self, months: Sequence[str], progress: Progress | None = None) -> SyncReport:
        """Bring months back to this device, for a day at least.

        Raises:
            UsageError: not a month.
            UnknownItemError: nothing of such a month is away.
            RelayUnavailable: no relay could be used.
        """
        wrong = [month for month in months if _MONTH.fullmatch(month) is None]
        if wrong or not months:
            raise UsageError(f"a month is written YYYY-MM, not {wrong[0]!r}" if wrong else "name a month, as YYYY-MM")
        replica = self._replica
        await replica.edits_ended()
        with replica.transaction():
            if not replica.debts.ask_for(set(months)):
                raise UnknownItemError(f"nothing of {', '.join(months)} is kept elsewhere")
            replica.epochs.table.forget_due(LOOKED)
            replica.epochs.table.note_due(LOOKED, replica.clock())
        return await self.sync(progress)

    async def sync(
        self,
        progress: Progress | None = None,
        *,
        reads_all: bool = True,
        beacon: bool = False,
        files: bool = True,
        on_transfer: TellTransfer | None = None,
    ) -> SyncReport:
        report = await super().sync(progress, reads_all=reads_all, beacon=beacon, files=files, on_transfer=on_transfer)
        if reads_all and is_due(self._replica):
            await self._let_go()
        return report

    async def _let_go(self) -> int:
        replica = self._replica
        there: set[BlobHash] = set()
        wanted = {page for one in find_old(replica) for page in one.pages}
        for url in self.relays if wanted else ():
            blobs = self._dial.blobs(url)
            try:
                there |= await blobs.have(replica.epoch, wanted - there)
            except RelayError:
                continue  # another one may have them
            finally:
                await blobs.close()
        await replica.edits_ended()
        with replica.transaction():  # what came while relays were asked is not in the manifest
            return let_go(replica, find_old(replica), there)
