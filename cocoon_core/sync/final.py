"""What a manifest made final, in the form in which a device keeps it: frontier and operations."""

from __future__ import annotations

from collections.abc import Collection

from cocoon_core.protocol import encoding
from cocoon_core.protocol.frontier import Frontier, decode_frontier, encode_frontier
from cocoon_core.protocol.ids import EntryId


def write_final(frontier: Frontier, operations: Collection[EntryId]) -> bytes:
    """What a manifest made final, for the store."""
    return encoding.encode([encode_frontier(frontier), sorted(operations)])


def read_final(raw: bytes) -> tuple[Frontier, frozenset[EntryId]]:
    frontier, operations = encoding.decode(raw, max_bytes=len(raw))
    return decode_frontier(frontier), frozenset(EntryId(operation) for operation in operations)
