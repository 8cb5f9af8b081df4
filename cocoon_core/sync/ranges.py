"""Which entries of each device are here, as ranges of their seqs, so that what is missing is named exactly.

The chain of a device is held from seq 0 to its end: its runs stand in the log, or a manifest holds what they said; of
the own chain, entries that are in no run yet belong to it.
Beyond a gap lie the runs that are parked, those that stand apart, and operations that stand in no chain. Nothing is
kept for this: it is computed from what is stored, whenever it is asked for. It says what is held, not what counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cocoon_core.errors import UntrustedInputError
from cocoon_core.protocol.ids import DeviceId
from cocoon_core.protocol.run import parse_run

if TYPE_CHECKING:
    from cocoon_core.sync.replica import Replica

MOST_NAMED: Final = 4  # ranges that a sentence names; of more it says how many


@dataclass(frozen=True, slots=True, order=True)
class SeqRange:
    """The entries `first` to `last` of one device, both of them among it."""

    first: int
    last: int

    def __str__(self) -> str:
        return f"entry {self.first}" if self.first == self.last else f"entries {self.first} to {self.last}"

    @property
    def count(self) -> int:
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class DeviceRanges:
    """What is held of one device: ranges that rise and do not touch, since those that do are one."""

    device: DeviceId
    held: tuple[SeqRange, ...]

    @property
    def end(self) -> int:
        """The last seq before the first gap; -1 where not even the first entry is here."""
        return self.held[0].last if self.held and self.held[0].first == 0 else -1

    @property
    def last(self) -> int:
        """The last seq of which anything is here; -1 where nothing is."""
        return self.held[-1].last if self.held else -1

    def holds(self, seq: int) -> bool:
        return any(one.first <= seq <= one.last for one in self.held)

    def missing(self, up_to: int | None = None) -> tuple[SeqRange, ...]:
        """The gaps from seq 0 to `up_to`, or to the last entry that is here."""
        end = self.last if up_to is None else up_to
        gaps: list[SeqRange] = []
        at = 0
        for one in self.held:
            if one.first > at and at <= end:
                gaps.append(SeqRange(at, min(one.first - 1, end)))
            at = one.last + 1
        if at <= end:
            gaps.append(SeqRange(at, end))
        return tuple(gaps)


def held_ranges(replica: Replica) -> dict[DeviceId, DeviceRanges]:
    """Every device of which anything is here, with what that is.

    Costs little more than the runs that stand in no chain: those are read whole.
    """
    found = {device: [SeqRange(0, end.last_seq)] for device, end in replica.chains.items()}
    for device, one in _beside_chains(replica):
        found.setdefault(device, []).append(one)
    return {device: DeviceRanges(device, merge_ranges(found[device])) for device in sorted(found)}


def missing_ranges(
    replica: Replica, ends: Mapping[DeviceId, int] | None = None
) -> dict[DeviceId, tuple[SeqRange, ...]]:
    """What is known to have been written and is not here; devices that lack nothing are left out.

    Args:
        ends: how far devices are known to have come from elsewhere, by seq: a frontier, a beacon.
    """
    held = held_ranges(replica)
    named = ends or {}
    found: dict[DeviceId, tuple[SeqRange, ...]] = {}
    for device in sorted(held.keys() | named.keys()):
        ranges = held.get(device, DeviceRanges(device, ()))
        gaps = ranges.missing(max(ranges.last, named.get(device, -1)))
        if gaps:
            found[device] = gaps
    return found


def merge_ranges(ranges: Iterable[SeqRange]) -> tuple[SeqRange, ...]:
    """The same seqs, in ranges that rise and do not touch."""
    merged: list[SeqRange] = []
    for one in sorted(ranges):
        if merged and one.first <= merged[-1].last + 1:
            merged[-1] = SeqRange(merged[-1].first, max(merged[-1].last, one.last))
        else:
            merged.append(one)
    return tuple(merged)


def name_ranges(replica: Replica, device: DeviceId, ranges: Iterable[SeqRange]) -> str:
    """For people: "entries 12 to 19 and entry 23 of Ben's device <id>"."""
    named = list(ranges)
    words = [str(one) for one in named[:MOST_NAMED]]
    if len(named) > MOST_NAMED:
        words.append(f"{sum(one.count for one in named[MOST_NAMED:])} later ones")
    listed = " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
    return f"{listed} of {name_device(replica, device)}"


def name_device(replica: Replica, device: DeviceId) -> str:
    """For people: whose device it is or was, and its id."""
    member = replica.members.member_ever(device)
    if member is None:
        return f"device {device.hex()}"
    roster = replica.members.roster
    known = roster.members.get(member) or roster.former_members.get(member)
    return f"{known.shown_name if known is not None else member.hex()[:12]}'s device {device.hex()}"


def _beside_chains(replica: Replica) -> Iterator[tuple[DeviceId, SeqRange]]:
    wires = [parked.wire for parked in replica.log.parked()]
    for device in replica.forks.table.devices():
        wires += [apart.wire for apart in replica.forks.table.of(device)]
    wires += replica.log.side_runs()
    for wire in wires:
        try:
            run = parse_run(wire, replica.group)
        except UntrustedInputError:
            continue  # damaged on this disk: then it is not held
        yield run.device, SeqRange(run.first_seq, run.last_seq)
