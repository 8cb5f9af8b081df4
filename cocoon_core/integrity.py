"""Integrity on demand: everything local is verified anew from the truth, and caches are repaired. A part of `Cocoon`.

The database first, then each group's log, then its documents and views. Spec: specs/check.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from cocoon_core.cocoon_part import CocoonPart
from cocoon_core.errors import CocoonError, LocalStateError, ProfileDamagedError
from cocoon_core.storage.groups import GroupRecord
from cocoon_core.storage.search import SEARCH_INDEX, SearchTable
from cocoon_core.sync.checking import Checked, Finding, LogCheck
from cocoon_core.sync.checking_documents import DocumentCheck

_MOST_TOLD: Final = 100  # faults of SQLite that are listed
_RESTORE: Final = "restore a backup (`cocoon profile restore`), or link this device anew from another one of yours"

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class GroupFinding:
    """A finding, and the group that it is in; None for the database itself.

    `what`, `where`, `problem`, `repaired` and `advice` are those of `Finding`.
    """

    group: str | None
    what: str
    where: str
    problem: str
    repaired: bool
    advice: str


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What was checked, by kind, and what was found. `sound` where nothing is wrong any more."""

    checked: dict[str, int]
    findings: tuple[GroupFinding, ...]

    @property
    def sound(self) -> bool:
        return all(finding.repaired for finding in self.findings)


class Integrity(CocoonPart):
    """The part of a profile's façade that checks it."""

    async def check(self, *, repair: bool = True, progress: Progress | None = None) -> CheckReport:
        """Verify everything that this profile holds, and put right what can be computed anew.

        Signed runs are never changed. One that does not prove itself is set aside, and what relays or members still
        have of it comes with the next sync. Nothing is written where nothing is wrong.

        Args:
            repair: if not, nothing is written at all.
            progress: called with (parts checked, parts there are).

        Raises:
            StorageFullError, LocalStateError: the database cannot be read or written.
        """
        counts: dict[str, int] = {}
        findings: list[GroupFinding] = []
        try:
            findings += [_of(None, finding) for finding in self._check_database(repair)]
            for record in self._table.all():
                checked = await self._check_group(record, repair, progress)
                findings += [_of(str(record.group), finding) for finding in checked.findings]
                for what, number in checked.counts.items():
                    counts[what] = counts.get(what, 0) + number
        except ProfileDamagedError as error:
            findings.append(GroupFinding(None, "database", "profile.db", str(error), False, _RESTORE))
        return CheckReport(counts, tuple(findings))

    def _check_database(self, repair: bool) -> list[Finding]:
        """Pages, indexes and references, as SQLite sees them."""
        database = self._profile.database
        faults = _integrity(self)
        if faults and repair:
            with suppress(LocalStateError):
                database.execute("REINDEX")
            if any(SEARCH_INDEX in fault for fault in faults):
                with suppress(LocalStateError), database.transaction():
                    SearchTable(database).wipe()  # what it holds is taken in anew
            left = _integrity(self)
        else:
            left = faults
        found = [
            Finding(
                "database",
                "profile.db",
                fault,
                repair and fault not in left,
                "nothing is to be done" if repair and fault not in left else _RESTORE,
            )
            for fault in faults
        ]
        strays = {(str(table), str(parent)) for table, _, parent, _ in database.query("PRAGMA foreign_key_check")}
        for table, parent in sorted(strays):
            found.append(Finding("database", table, f"rows name others that are not in {parent}", False, _RESTORE))
        return found

    async def _check_group(self, record: GroupRecord, repair: bool, progress: Progress | None) -> Checked:
        known = self._groups.get(record.number)
        if known is not None:
            await known.replica.edits_ended()
        log = LogCheck(self._profile.database, record, self._clock, repair=repair)
        done, total = 0, self._count_parts(record)
        for _ in log.run():
            done += 1
            if progress is not None:
                progress(min(done, total), total)
            await asyncio.sleep(0)
        checked = log.checked
        mended = repair and any(finding.repaired for finding in checked.findings)
        try:
            replica = self._replica(record)
            if mended:
                replica.load()
            for _ in DocumentCheck(replica, checked, log.holed, repair=repair).run():
                done += 1
                if progress is not None:
                    progress(min(done, total), total)
                await asyncio.sleep(0)
                await replica.edits_ended()
        except ProfileDamagedError:
            raise
        except (CocoonError, ValueError, TypeError) as error:
            finding = Finding("group", "the group", f"it cannot be opened: {error}", False, _RESTORE)
            checked.findings.append(finding)
        return checked

    def _count_parts(self, record: GroupRecord) -> int:
        """Devices and documents, and the few parts between."""
        value = self._profile.database.query_value(
            "SELECT (SELECT count(DISTINCT device) FROM runs WHERE group_no=:g)"
            " + (SELECT count(*) FROM documents WHERE group_no=:g)",
            {"g": record.number},
        )
        return int(value) + 5


def _integrity(part: CocoonPart) -> list[str]:
    rows = part._profile.database.query(f"PRAGMA integrity_check({_MOST_TOLD})")
    return [str(row[0]) for row in rows if row[0] != "ok"]


def _of(group: str | None, finding: Finding) -> GroupFinding:
    return GroupFinding(group, finding.what, finding.where, finding.problem, finding.repaired, finding.advice)
