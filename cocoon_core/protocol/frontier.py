"""The frontier: for every device the last run end that is known. Implements specs/manifest.md §3.

A run end proves itself: the device's signature over entry id and heads digest. It stands for all that the device wrote
up to there, since the entry id commits to every earlier entry and the digest to every change.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cocoon_core.errors import MalformedError
from cocoon_core.protocol import encoding
from cocoon_core.protocol.constants import LABEL_FRONTIER, LABEL_RUN, MAX_SEQ
from cocoon_core.protocol.ids import DeviceId, EntryId, FrontierDigest, HeadsDigest, Signature
from cocoon_core.protocol.operation_forms import require_integer
from cocoon_core.protocol.primitives import hash_bytes, verify
from cocoon_core.protocol.run import Run


@dataclass(frozen=True, slots=True)
class RunEnd:
    """The end of a run: its last entry, and the digest of the device's heads after it, under one signature."""

    device: DeviceId
    seq: int
    entry: EntryId
    digest: HeadsDigest
    signature: Signature

    def verify(self) -> None:
        """Check that the device signed this. The seq is not under the signature: the entry id commits to it.

        Raises:
            SignatureError: it did not.
        """
        verify(self.device, LABEL_RUN, self.entry + self.digest, self.signature)


Frontier = Mapping[DeviceId, RunEnd]


def run_end_of(run: Run) -> RunEnd:
    """Where a run ends. It proves itself only if the run's own signature was checked (specs/envelope.md §6)."""
    return RunEnd(run.device, run.last_seq, run.last_id, run.heads_digest, run.signature)


def frontier_of(ends: Iterable[RunEnd]) -> Frontier:
    """The frontier of these run ends, one for each device, in the order of their ids."""
    return {end.device: end for end in sorted(ends, key=lambda end: end.device)}


def encode_frontier(frontier: Frontier) -> list[Any]:
    """The CBOR form: [device id, seq, entry id, heads digest, signature], rising by device."""
    ends = [frontier[device] for device in sorted(frontier)]
    return [[end.device, end.seq, end.entry, end.digest, end.signature] for end in ends]


def decode_frontier(value: object) -> Frontier:
    """Read the CBOR form. No signature is checked.

    Raises:
        MalformedError: anything else.
    """
    if not isinstance(value, list):
        raise MalformedError("a frontier is an array of run ends")
    frontier: dict[DeviceId, RunEnd] = {}
    last = b""
    for item in value:
        end = _end_from(item)
        if end.device <= last:
            raise MalformedError("the devices of a frontier do not rise")
        frontier[end.device] = end
        last = end.device
    return frontier


def frontier_digest(frontier: Frontier) -> FrontierDigest:
    """32 bytes that two devices have in common exactly if they know the same last entry of every device."""
    return digest_of_ends({device: (end.seq, end.entry) for device, end in frontier.items()})


def digest_of_ends(ends: Mapping[DeviceId, tuple[int, EntryId]]) -> FrontierDigest:
    """The same of (seq, entry id) of every device's last entry."""
    listed = [[device, *ends[device]] for device in sorted(ends)]
    return FrontierDigest(hash_bytes(LABEL_FRONTIER, encoding.encode(listed)))


def join_frontiers(chosen: Frontier, others: Iterable[Frontier], held: Collection[DeviceId] = ()) -> Frontier:
    """What is final after a rotation that merges epochs: the highest run end of each device.

    Args:
        chosen: the frontier along the chosen parent.
        others: those of the other parents.
        held: devices that are cut or signed two histories. They stay where the chosen parent has them: what was
            withdrawn there does not come back through another.
    """
    joined = dict(chosen)
    for frontier in others:
        for device, end in frontier.items():
            known = joined.get(device)
            if device not in held and (known is None or known.seq < end.seq):
                joined[device] = end
    return frontier_of(joined.values())


def _end_from(value: object) -> RunEnd:
    match value:
        case [bytes() as device, int() as seq, bytes() as entry, bytes() as digest, bytes() as signature]:
            require_integer(seq, 0, MAX_SEQ, "the seq of a run end")
            return RunEnd(DeviceId(device), seq, EntryId(entry), HeadsDigest(digest), Signature(signature))
    raise MalformedError("a run end is [device id, seq, entry id, heads digest, signature]")
