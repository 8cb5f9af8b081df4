"""What changed between two texts, as few splices, and the same edit made in a text that went on meanwhile.

People edit whole texts; a document takes characters put in and taken out. Only what differs is written, so that two
people who write in one note at once keep both of what they wrote. Implements specs/together.md §5.

Whole lines are compared first, then the characters of those that differ, by Myers' O(ND) algorithm with a bound: where
two pieces differ in more than MOST_DIFFERENCES, one is put in the place of the other. So a hostile text costs no more
than a bounded time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

MOST_DIFFERENCES: Final = 500  # lines, and in each piece of changed lines characters, that are told apart

_Hunk = tuple[int, int, int, int]  # from, to in the one; from, to in the other


@dataclass(frozen=True, slots=True)
class Splice:
    """From place `at` on, `removed` characters go and `text` comes. Places count code points of the text before."""

    at: int
    removed: int
    text: str


def find_splices(old: str, new: str) -> list[Splice]:
    """What makes the new text of the old one, from the front to the back; splices do not touch each other."""
    start, old_end, new_end = _trim(old, new)
    before, after = old[start:old_end], new[start:new_end]
    if not before or not after:
        return [Splice(start, len(before), after)] if before or after else []
    found: list[Splice] = []
    old_lines, new_lines = before.splitlines(keepends=True), after.splitlines(keepends=True)
    old_at = start
    line = 0
    for first, last, new_first, new_last in _compare(old_lines, new_lines):
        old_at += sum(map(len, old_lines[line:first]))
        piece = "".join(old_lines[first:last])
        found += _in_piece(piece, "".join(new_lines[new_first:new_last]), old_at)
        old_at += len(piece)
        line = last
    return found


def apply_splices(text: str, splices: Sequence[Splice]) -> str:
    """The text after the splices."""
    for splice in reversed(splices):
        text = text[: splice.at] + splice.text + text[splice.at + splice.removed :]
    return text


def rebase_splices(splices: Sequence[Splice], base: str, current: str) -> list[Splice]:
    """Splices of `base` as splices of what has become of it: both are kept.

    What was put in stands behind what others put in at the same place; what was taken out goes as far as it is still
    there, and what others put between it stays.
    """
    if base == current:
        return list(splices)
    places: list[int] = []  # of each character of the base: where it is now, or -1
    moved = 0
    for theirs in find_splices(base, current):
        places += range(len(places) + moved, theirs.at + moved)
        places += [-1] * theirs.removed
        moved += len(theirs.text) - theirs.removed
    places += range(len(places) + moved, len(base) + moved)
    following = [len(current)] * (len(base) + 1)  # where the next character is that is still there
    for place in range(len(base) - 1, -1, -1):
        following[place] = places[place] if places[place] >= 0 else following[place + 1]
    rebased: list[Splice] = []
    for mine in splices:
        runs = _runs([place for place in places[mine.at : mine.at + mine.removed] if place >= 0])
        place, count = runs.pop(0) if runs else (following[mine.at], 0)
        if mine.text or count:
            rebased.append(Splice(place, count, mine.text))
        rebased += [Splice(place, count, "") for place, count in runs]
    return rebased


def _runs(places: Sequence[int]) -> list[tuple[int, int]]:
    """Ascending numbers as (first, how many) of those that follow one another."""
    runs: list[tuple[int, int]] = []
    for place in places:
        if runs and sum(runs[-1]) == place:
            runs[-1] = runs[-1][0], runs[-1][1] + 1
        else:
            runs.append((place, 1))
    return runs


def _in_piece(old: str, new: str, at: int) -> list[Splice]:
    start, old_end, new_end = _trim(old, new)
    hunks = _compare(old[start:old_end], new[start:new_end])
    return [
        Splice(at + start + first, last - first, new[start + new_first : start + new_last])
        for first, last, new_first, new_last in hunks
    ]


def _trim(old: str, new: str) -> tuple[int, int, int]:
    """Where two texts begin to differ, and from where on each is as the other."""
    most = min(len(old), len(new))
    start = 0
    while start < most and old[start] == new[start]:
        start += 1
    end = 0
    while end < most - start and old[-1 - end] == new[-1 - end]:
        end += 1
    return start, len(old) - end, len(new) - end


def _compare(old: Sequence[str], new: Sequence[str]) -> list[_Hunk]:
    """The pieces that differ, in order; one that is all of it where too much does."""
    trace: list[dict[int, int]] = []
    reached: dict[int, int] = {0: _slide(old, new, 0, 0)}
    for depth in range(MOST_DIFFERENCES + 1):
        if depth:
            reached = {}
            for diagonal in range(-depth, depth + 1, 2):
                place = max(_steps(trace[-1], diagonal, len(old), len(new)))
                if place >= 0:
                    reached[diagonal] = _slide(old, new, place, diagonal)
        trace.append(reached)
        if reached.get(len(old) - len(new)) == len(old):
            return _walk_back(trace, len(old), len(new))
    return [(0, len(old), 0, len(new))]


def _steps(reached: dict[int, int], diagonal: int, old: int, new: int) -> tuple[int, int]:
    """How far in the old one an insertion, and a removal, lead on this diagonal; -1 where out of the texts."""
    inserted, removed = reached.get(diagonal + 1, -1), reached.get(diagonal - 1, -2) + 1
    return inserted if inserted - diagonal <= new else -1, removed if removed <= old else -1


def _slide(old: Sequence[str], new: Sequence[str], place: int, diagonal: int) -> int:
    """As far as both are equal from here on."""
    while place < len(old) and place - diagonal < len(new) and old[place] == new[place - diagonal]:
        place += 1
    return place


def _walk_back(trace: list[dict[int, int]], old: int, new: int) -> list[_Hunk]:
    hunks: list[_Hunk] = []
    place, other = old, new
    for depth in range(len(trace) - 1, 0, -1):
        diagonal = place - other
        inserted, removed = _steps(trace[depth - 1], diagonal, old, new)
        if inserted >= removed:
            place, other = inserted, inserted - diagonal - 1
            step = (place, place, other, other + 1)
        else:
            place, other = removed - 1, removed - diagonal
            step = (place, place + 1, other, other)
        if hunks and (step[1], step[3]) == (hunks[-1][0], hunks[-1][2]):
            hunks[-1] = (step[0], hunks[-1][1], step[2], hunks[-1][3])
        else:
            hunks.append(step)
    hunks.reverse()
    return hunks
