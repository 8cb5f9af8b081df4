"""What is left of a file where the power went while it was being written: some of the sectors, in any order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, TypeVar

SECTOR_BYTES: Final = 512


@dataclass(frozen=True, slots=True)
class DiskEvent:
    """One call that changes files. Of `kind` write and truncate it changes bytes, at the offset."""

    kind: str
    name: str = ""
    offset: int = 0
    data: bytes = b""


_Event = TypeVar("_Event", bound=DiskEvent)


def apply_write(content: bytearray, change: DiskEvent) -> None:
    """Do it to the bytes of a file."""
    if change.kind == "truncate":
        del content[change.offset :]
        return
    if len(content) < change.offset:
        content.extend(bytes(change.offset - len(content)))
    content[change.offset : change.offset + len(change.data)] = change.data


def split_write(change: _Event) -> list[_Event]:
    """The parts of it of which the disk may take some and not the others: a sector is written whole or not at all."""
    if change.kind == "truncate":
        return [change]
    parts = []
    at = 0
    while at < len(change.data):
        size = min(SECTOR_BYTES - (change.offset + at) % SECTOR_BYTES, len(change.data) - at)
        parts.append(replace(change, offset=change.offset + at, data=change.data[at : at + size]))
        at += size
    return parts
