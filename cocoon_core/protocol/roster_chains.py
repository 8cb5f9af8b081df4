"""One history for each device: which operations stand where a device signed two. Spec: specs/roster.md §4.

A device's operations must each know all of its earlier ones. Where they do not, one branch stands: what is final, then
from the lowest seq up the smallest id among those that know what already stands. The others are *contested*: they do
not count, but what others built on them without knowing a rival stays, so nobody takes away what they gave by signing a
second history. Two fresh devices in the place of one are rivals of each other, and neither stands.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import groupby

from cocoon_core.protocol.ids import EntryId
from cocoon_core.protocol.operations import Create
from cocoon_core.protocol.operations_devices import Suspend
from cocoon_core.protocol.roster_log import OperationLog, within
from cocoon_core.protocol.roster_values import Refusal


def find_rivals(log: OperationLog, mask: int, final: Collection[EntryId] = ()) -> dict[int, int]:
    """For each contested operation of the mask, the bits of the standing operations that it contradicts.

    Every create of a group has the same body, so two contradict nothing; a suspend counts by its proof alone. An
    operation with a flaw takes no part.
    """
    rivals: dict[int, int] = {}
    for places in log.by_device.values():
        if len(places) > 1:
            chain = [place for place in within(places, mask) if is_chained(log, place)]
            if len(chain) > 1:
                rivals.update(_rivals_of_device(log, chain, final))
    return rivals


def is_chained(log: OperationLog, place: int) -> bool:
    """Whether the operation takes part in its device's one history."""
    return log.flaws[place] is None and not isinstance(log.operations[place].body, Create | Suspend)


def _rivals_of_device(log: OperationLog, chain: list[int], final: Collection[EntryId]) -> dict[int, int]:
    fixed = [place for place in chain if log.operations[place].id in final]
    rivals: dict[int, int] = {}
    standing: list[int] = []
    for group in (fixed, [place for place in chain if place not in fixed]) if fixed else (chain,):
        _stand(log, group, standing, rivals)
    return rivals


def _stand(log: OperationLog, group: list[int], standing: list[int], rivals: dict[int, int]) -> None:
    """Let as many of the group stand as contradict neither what stands already nor each other."""
    group.sort(key=lambda place: (log.operations[place].seq, log.operations[place].id))
    fixed = list(standing)
    below = 0
    for seq, same_seq in groupby(group, key=lambda place: log.operations[place].seq):
        for place in fixed:
            if log.operations[place].seq < seq:
                below |= 1 << place
        beside = sum(1 << place for place in fixed if log.operations[place].seq == seq)
        above = [place for place in fixed if log.operations[place].seq > seq]
        losers: list[int] = []
        for place in same_seq:
            blind = sum(1 << other for other in above if not log.ancestors[other] >> place & 1)
            if beside or blind or below & ~log.ancestors[place]:
                losers.append(place)
                rivals[place] = (below & ~log.ancestors[place]) | blind
            else:
                beside = 1 << place
                standing.append(place)
        for place in losers:
            rivals[place] |= beside
        below |= beside


def find_twins(log: OperationLog, mask: int, final: Collection[EntryId] = ()) -> dict[int, int]:
    """For each operation that puts a fresh device in the place of another, the bits of those that do so at once."""
    twins: dict[int, int] = {}
    for places in log.replacements.values():
        present = within(places, mask)
        for place in present if len(present) > 1 else ():
            others = [it for it in present if log.concurrent(it, place)]
            if log.operations[place].id in final:
                others = [it for it in others if log.operations[it].id in final]
            if others:
                twins[place] = sum(1 << it for it in others)
    return twins


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
    if lowest[0] > seq:
        return Refusal("EquivocationError", f"{lowest[1].hex()[:12]}, entry {lowest[0]} of its device, leaves it out")
    return Refusal("EquivocationError", f"it does not follow {lowest[1].hex()[:12]}, entry {lowest[0]} of its device")


def refuse_twin(log: OperationLog, twins: int) -> Refusal:
    """The record of an operation whose device is one of several in the place of one."""
    places = [place for place in range(twins.bit_length()) if twins >> place & 1]
    other = min(log.operations[place].id for place in places)
    return Refusal("EquivocationError", f"another device was put in the same place by {other.hex()[:12]}")
