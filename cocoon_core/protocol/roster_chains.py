"""One history for each device: which operations stand where a device signed two. Spec: specs/roster.md §4.

A device's operations must each know all of its earlier ones. Where they do not, one branch stands: from the lowest seq
up, the smallest id among those that know what already stands. The others are *contested*: they do not count, but what
others built on them without knowing a rival stays, so nobody takes away what they gave by signing a second history.
Suspension and the finality of a manifest's frontier decide more, and belong to later operations.
"""

from __future__ import annotations

from itertools import groupby

from cocoon_core.protocol.operations import Create
from cocoon_core.protocol.roster_log import OperationLog
from cocoon_core.protocol.roster_values import Refusal


def find_rivals(log: OperationLog, mask: int) -> dict[int, int]:
    """For each contested operation of the mask, the bits of the standing operations that it contradicts.

    Every create of a group has the same body, so two contradict nothing. An operation with a flaw takes no part.
    """
    rivals: dict[int, int] = {}
    for places in log.by_device.values():
        if len(places) > 1:
            rivals.update(_rivals_of_device(log, [place for place in places if mask >> place & 1]))
    return rivals


def _rivals_of_device(log: OperationLog, places: list[int]) -> dict[int, int]:
    rivals: dict[int, int] = {}
    stands = 0
    sound = [place for place in places if log.flaws[place] is None]
    sound = [place for place in sound if not isinstance(log.operations[place].body, Create)]
    sound.sort(key=lambda place: (log.operations[place].seq, log.operations[place].id))
    for _, same_seq in groupby(sound, key=lambda place: log.operations[place].seq):
        chosen: int | None = None
        losers: list[int] = []
        for place in same_seq:
            if chosen is None and stands & ~log.ancestors[place] == 0:
                chosen = place
            else:
                losers.append(place)
        before = stands
        if chosen is not None:
            stands |= 1 << chosen
        for place in losers:
            rivals[place] = (before & ~log.ancestors[place]) | (1 << chosen if chosen is not None else 0)
    return rivals


def refuse_contested(log: OperationLog, place: int, rivals: int) -> Refusal:
    """The record of an operation that another of its device contradicts."""
    seq = log.operations[place].seq
    first = rivals & -rivals
    lowest = min(
        (log.operations[other].seq, log.operations[other].id)
        for other in range(first.bit_length() - 1, rivals.bit_length())
        if rivals >> other & 1
    )
    if lowest[0] == seq:
        return Refusal("EquivocationError", f"its device also signed {lowest[1].hex()[:12]} as its entry {seq}")
    return Refusal("EquivocationError", f"it does not follow {lowest[1].hex()[:12]}, entry {lowest[0]} of its device")
