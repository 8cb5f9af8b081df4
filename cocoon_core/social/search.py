"""Searching all that this device holds of a group, by text, author, time and kind. Spec: specs/search.md.

The index gives candidates, the latest first; what counts is what the tables hold now. So a stale row could cost time
and never show what was erased, hidden or deleted. Asking is bounded by what is found, not by what there is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Final

from cocoon_core.errors import UsageError
from cocoon_core.protocol.constants import MAX_RESULTS
from cocoon_core.protocol.ids import MemberId
from cocoon_core.social.search_index import SearchIndex
from cocoon_core.social.search_result import SearchResult
from cocoon_core.social.search_sources import SOURCES, SearchSource
from cocoon_core.social.search_words import (
    expression_of,
    mark_group,
    mark_kind,
    mark_member,
    read_query,
    trigrams_of,
)
from cocoon_core.social.times import time_of
from cocoon_core.storage.search import Candidate, newest_in
from cocoon_core.sync.replica import Replica

_LEAST_AT_ONCE: Final = 64  # candidates that are looked up together
_WORTH_A_COMMIT: Final = 64  # new things; fewer wait for a search

KINDS: Final = tuple(kind for source in SOURCES for kind in source.kinds)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A query that was read."""

    needles: tuple[str, ...]
    author: MemberId | None
    since_ms: int | None
    until_ms: int | None
    kinds: frozenset[str]
    limit: int


class Search:
    """Searching one group."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._db, self._no = replica.database, replica.record.number
        self.index = SearchIndex(replica.database)
        self._sources = {source.number: source for source in SOURCES}
        replica.chores.append(self.keep_up)

    async def search(
        self,
        text: str,
        author: MemberId | None,
        since: datetime | None,
        until: datetime | None,
        kinds: Collection[str],
        limit: int,
    ) -> list[SearchResult]:
        """What fits, the latest first; see `Group.search`."""
        unknown = [kind for kind in kinds if kind not in KINDS]
        if unknown:
            raise UsageError(f"what can be searched is of these kinds: {', '.join(KINDS)}; not {unknown[0][:40]!r}")
        if not 1 <= limit <= MAX_RESULTS:
            raise UsageError(f"a search gives 1 to {MAX_RESULTS} results")
        needles = read_query(text)
        if not needles and text.strip():
            return []  # nothing but marks and dots, which nothing is found by
        wanted = _Wanted(tuple(needles), author, _ms(since), _ms(until), frozenset(kinds), limit)
        while not self.index.is_level():
            self.index.follow()
            await asyncio.sleep(0)  # others get a turn: after a first sync this may take seconds
        return self._find(wanted)

    def keep_up(self) -> None:
        """Let go of what was erased, and take in some of what came if that is worth a commit; a chore of devices that
        are level.
        """
        if self.index.table.has_todo() or self.index.behind() >= _WORTH_A_COMMIT:
            self.index.follow()

    def let_go(self) -> None:
        """Let what was erased or changed leave the index, if something was."""
        if self.index.table.has_todo():
            self.index.follow()

    # --- inside

    def _find(self, wanted: _Wanted) -> list[SearchResult]:
        found: list[tuple[int, SearchResult]] = []
        at_once = max(_LEAST_AT_ONCE, wanted.limit)
        with closing(self._candidates(wanted)) as candidates:
            while some := list(islice(candidates, at_once)):
                found += self._look_up(some, wanted)
                found.sort(key=lambda one: (one[0], one[1].id), reverse=True)
                del found[wanted.limit :]
                if len(found) == wanted.limit and newest_in(some[-1].slot) < found[-1][0]:
                    break  # whatever comes is older than all of these
        return [result for _, result in found]

    def _candidates(self, wanted: _Wanted) -> Generator[Candidate, None, None]:
        """What stands in the index and has all that is sought, by falling slots."""
        marks: list[str | list[str]] = [mark_group(self._no)]
        if wanted.author is not None:
            marks.append(mark_member(wanted.author))
        if wanted.kinds:
            marks.append([mark_kind(kind) for kind in sorted(wanted.kinds)])
        expression = expression_of([*trigrams_of(wanted.needles), *marks])
        with closing(self.index.table.match(expression, wanted.since_ms, wanted.until_ms)) as rows:
            for row in rows:
                if all(needle in row.words for needle in wanted.needles):
                    yield row

    def _look_up(self, candidates: Iterable[Candidate], wanted: _Wanted) -> Iterator[tuple[int, SearchResult]]:
        """What the tables hold now of these candidates, as far as it fits."""
        by_source: dict[int, list[bytes]] = {}
        for candidate in candidates:
            by_source.setdefault(candidate.source, []).append(candidate.thing)
        for number, things in by_source.items():
            for row in self._rows(self._sources[number], things):
                time_ms, member, kind = row[1:4]
                if (
                    (wanted.author is None or member == wanted.author)
                    and (not wanted.kinds or kind in wanted.kinds)
                    and (wanted.since_ms is None or time_ms >= wanted.since_ms)
                    and (wanted.until_ms is None or time_ms < wanted.until_ms)
                ):
                    yield time_ms, self._result(row, wanted)

    def _rows(self, source: SearchSource, things: list[bytes]) -> list[tuple[Any, ...]]:
        columns = (source.identity, source.time_ms, source.member, source.kind, source.parent, *source.texts)
        return self._db.query(
            f"SELECT {', '.join(columns)} FROM {source.table} WHERE group_no=? AND {source.identity} "
            f"IN ({','.join('?' * len(things))}) AND ({source.is_kept}) AND ({source.is_shown})",
            (self._no, *things),
        )

    def _result(self, row: tuple[Any, ...], wanted: _Wanted) -> SearchResult:
        thing, time_ms, member, kind, parent, *texts = row
        return SearchResult(
            id=thing.hex(),
            kind=kind,
            author="" if member is None else self._name_of(MemberId(member)),
            author_id=None if member is None else MemberId(member),
            time=time_of(time_ms),
            text="\n".join(text for text in texts if text),
            parent=None if parent is None else parent.hex(),
            needles=wanted.needles,
        )

    def _name_of(self, member: MemberId) -> str:
        roster = self._replica.members.roster
        known = roster.members.get(member) or roster.former_members.get(member)
        return known.shown_name if known else member.hex()[:12]


def _ms(time: datetime | None) -> int | None:
    """A point in time in ms since 1970, of times before that 0."""
    return None if time is None else max(0, int(time.timestamp() * 1000))
