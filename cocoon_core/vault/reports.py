"""What transfers tell: how far they are, what a run did, what a check found, how a file stands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from cocoon_core.protocol.vault_file import FileRef
from cocoon_core.vault.progress import Progress


@dataclass(frozen=True, slots=True)
class Transfer:
    """How far one transfer is: `up` to `relay`, or down from any."""

    file: bytes
    up: bool
    relay: str
    progress: Progress


TellTransfer = Callable[[Transfer], None]


@dataclass(slots=True)
class TransferReport:
    """What one run did.

    Attributes:
        sent: files that a relay took, counted for each relay.
        fetched: files that came whole.
        renewed: files whose leases were renewed, counted for each relay.
        lost: files of which blobs are nowhere any more, counted for each relay.
        errors: what could not be done, in sentences.
    """

    sent: int = 0
    fetched: int = 0
    renewed: int = 0
    lost: int = 0
    errors: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class CheckStep:
    """How far a check is: bytes that were read on this device; or, where a relay is named, files it was asked for."""

    relay: str
    done: int
    total: int


TellStep = Callable[[CheckStep], None]


@dataclass(frozen=True, slots=True)
class RelayCheck:
    """What a relay had of all files that items name: `files` in all, those it lacked something of before, and after."""

    url: str
    files: int
    lacking: int
    still_lacking: int
    error: str | None = None


@dataclass(frozen=True, slots=True)
class VaultCheck:
    """What a check found. `damaged` counts blobs that this device's disk had lost or altered."""

    relays: tuple[RelayCheck, ...]
    damaged: int


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes of blobs that are here: of one group, of all, and of all what is pinned; the limit of what need not be; and
    the files of the group that some relay has not taken yet.
    """

    of_group: int
    of_all: int
    pinned: int
    limit: int
    waiting: tuple[FileRef, ...]


@dataclass(frozen=True, slots=True)
class FileState:
    """How a file stands: bytes of it that are here, bytes in all, and the relays that are still to take it."""

    held: int
    total: int
    pinned: bool
    waits_for: tuple[str, ...]

    @property
    def is_here(self) -> bool:
        return self.held == self.total
