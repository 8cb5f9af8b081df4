"""Puts a device out that signed two histories: any member's device may, by the proof, and one suffices.

Implements specs/counting.md §4. What the suspension does to rights is the roster's (specs/roster.md §10).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from itertools import combinations

from cocoon_core.errors import SignatureError, UsageError
from cocoon_core.protocol.epochs import rank_of
from cocoon_core.protocol.ids import DeviceId
from cocoon_core.protocol.operations_devices import Suspend
from cocoon_core.protocol.run import Run, UnverifiedRun, parse_run, verify_run
from cocoon_core.sync.pins import pin_devices
from cocoon_core.sync.replica import Replica


def suspend_forked(replica: Replica, is_turn: Callable[[str, int], bool]) -> int:
    """Write a suspension for every valid device that signed two histories, if it is this device's turn.

    Args:
        is_turn: whether those who come first have had their time, by what is due and rank. Ranks begin at 1, so that
            the first waits too, and the copy of a member's device can replace itself before.

    Returns:
        How many were written.
    """
    if replica.members.member_of(replica.keys.id) is None or not replica.is_writable:
        return 0
    written = 0
    for device, proof in sorted(replica.log.forks().items()):
        if device == replica.keys.id or replica.members.member_of(device) is None:
            continue
        runs = _find_proof(replica, device, proof)
        rank = 1 + rank_of(replica.keys.id, device, replica.members.roster.devices)
        if runs is None or not is_turn(f"suspend {device}", rank):
            continue
        first, second = sorted(run.wire for run in runs)
        with suppress(UsageError):  # it would not count as things stand: a sync is not stopped by that
            replica.write_operation(Suspend(device, first, second, pin_devices(replica, [device])))
            written += 1
    return written


def _find_proof(replica: Replica, device: DeviceId, proof: tuple[bytes, bytes]) -> tuple[Run, Run] | None:
    """Two runs whose own signatures hold and which contradict each other by themselves, if they are here."""
    wires = [wire for wire in (*proof, *(run.wire for run in replica.forks.table.of(device))) if wire]
    sound = [run for run in (parse_run(wire, replica.group) for wire in wires) if _is_sound(run)]
    for first, second in combinations(sound, 2):
        if contradict(first, second):
            return first.stored(), second.stored()
    return None


def _is_sound(run: UnverifiedRun) -> bool:
    try:
        verify_run(run)
    except SignatureError:
        return False
    return True


def contradict(first: UnverifiedRun, second: UnverifiedRun) -> bool:
    """Whether two runs of a device hold different entries at one seq: it signed both, so it contradicts itself."""
    if first.first_seq > second.first_seq:
        first, second = second, first
    seq = min(first.last_seq, second.last_seq)
    return second.first_seq <= seq and first.id_at(seq) != second.id_at(seq)
