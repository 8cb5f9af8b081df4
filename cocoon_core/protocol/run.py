"""The run: consecutive entries of one device under one signature, and its short form. Implements specs/envelope.md §2
and §3.

    run = [version, device_id, first_seq, prev, roster_heads, descriptors, time_ms, entries, heads_digest, signature]

The signature is over (last entry id, heads digest); every earlier entry is linked to the last by `prev`, so one check
authenticates them all. What is implied is left out and put back here: the group (from the epoch), each later `prev`,
actors, magic and checksums; a dependency on a change of the same run is its number. Ids and signatures are over the
full form. A run says nothing until it was verified: `UnverifiedRun` can be linked and counted, only `verify_run` or
`accept_linked` give a `Run` with entries to read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from cocoon_core.errors import MalformedError, SignatureError, UpdateNeededError, UsageError
from cocoon_core.protocol import encoding
from cocoon_core.protocol.constants import (
    LABEL_RUN,
    MAX_ROSTER_HEADS,
    MAX_RUN_ENTRIES,
    VERSION,
)
from cocoon_core.protocol.descriptor import Descriptor
from cocoon_core.protocol.entry import Entry, EntryKind
from cocoon_core.protocol.ids import DeviceId, DocumentId, EntryId, GroupId, HeadsDigest, Signature
from cocoon_core.protocol.primitives import SigningKey, verify
from cocoon_core.protocol.short_form import Expander, Shortener

_FIELDS: Final = 10


@dataclass(frozen=True, slots=True)
class Run:
    """A run whose author is proved. `wire` is its short form, as received: stored and put again as it is."""

    group: GroupId
    device: DeviceId
    entries: tuple[Entry, ...]
    descriptors: dict[DocumentId, Descriptor]
    heads_digest: HeadsDigest
    signature: Signature
    wire: bytes

    @property
    def first_seq(self) -> int:
        return self.entries[0].seq

    @property
    def last_seq(self) -> int:
        return self.entries[-1].seq

    @property
    def last_id(self) -> EntryId:
        return self.entries[-1].id


@dataclass(frozen=True, slots=True)
class UnverifiedRun:
    """A run that was parsed and hashed. Whose it is, is only claimed; what it says cannot be read yet."""

    device: DeviceId
    first_seq: int
    last_seq: int
    prev: EntryId | None
    last_id: EntryId
    has_statement: bool
    _run: Run = field(repr=False)

    @property
    def size(self) -> int:
        """Bytes of the short form."""
        return len(self._run.wire)

    @property
    def wire(self) -> bytes:
        """The short form, for parking."""
        return self._run.wire

    @property
    def named_heads(self) -> tuple[EntryId, ...]:
        """The roster operations that it needs to be known before it can be read."""
        return self._run.entries[0].roster_heads

    def stored(self) -> Run:
        """The run, where its short form comes from one's own log: it was verified before it was stored."""
        return self._run

    def ids(self) -> tuple[EntryId, ...]:
        """The ids of its entries, for linking."""
        return tuple(entry.id for entry in self._run.entries)

    def id_at(self, seq: int) -> EntryId:
        """The id of its entry at that seq, for linking."""
        return self._run.entries[seq - self.first_seq].id


def verify_run(run: UnverifiedRun) -> Run:
    """Check the device's signature.

    Raises:
        SignatureError: the device that the run names did not sign it.
    """
    inner = run._run
    verify(inner.device, LABEL_RUN, inner.last_id + inner.heads_digest, inner.signature)
    return inner


def accept_linked(run: UnverifiedRun, later: Run) -> Run:
    """Take a run whose last entry a verified, later run of the same device names as the one before it, or holds itself.

    Raises:
        SignatureError: the two are not linked.
    """
    if later.first_seq <= run.last_seq < later.last_seq:  # they overlap
        linked: EntryId | None = later.entries[run.last_seq - later.first_seq].id
    else:
        linked = later.entries[0].prev
    if linked != run.last_id or later.device != run.device:
        raise SignatureError("a run is not linked to the later one that was verified")
    return run._run


def sign_run(
    entries: Sequence[Entry],
    descriptor_of: Callable[[DocumentId], Descriptor],
    key: SigningKey,
    heads_digest: HeadsDigest,
) -> Run:
    """Form and sign a run of one's own consecutive entries. Its bounds never change afterwards.

    Args:
        entries: consecutive, with equal roster heads; one that carries no change only alone.
        heads_digest: of the device's heads after the last entry.

    Raises:
        UsageError: the entries cannot stand in one run.
    """
    first = entries[0]
    for before, after in pairwise(entries):
        if (
            after.prev != before.id
            or after.seq != before.seq + 1
            or after.roster_heads != first.roster_heads
            or not before.kind is after.kind is EntryKind.CHANGE
        ):
            raise UsageError("these entries cannot stand in one run")
    if len(entries) > MAX_RUN_ENTRIES or first.device != key.public:
        raise UsageError("a run is too long, or another device's")
    signature = key.sign(LABEL_RUN, entries[-1].id + heads_digest)
    descriptors: dict[DocumentId, Descriptor] = {}
    body = Shortener(descriptor_of, descriptors).entries(entries)
    wire = encoding.encode(
        [
            VERSION,
            first.device,
            first.seq,
            first.prev or b"",
            list(first.roster_heads),
            [descriptor.to_value() for descriptor in descriptors.values()],
            first.time_ms,
            body,
            heads_digest,
            signature,
        ]
    )
    return Run(first.group, first.device, tuple(entries), descriptors, heads_digest, signature, wire)


def parse_run(wire: bytes, group: GroupId) -> UnverifiedRun:
    """Read the short form and compute every entry's full form and id.

    Raises:
        MalformedError: not a run.
        UpdateNeededError: a version or an entry kind that this code does not know.
    """
    value = encoding.decode(wire, plain=False)  # every item's type is checked below and in short_form.py
    if not isinstance(value, list) or not value or type(value[0]) is not int:
        raise MalformedError("a run is an array that begins with its version")
    if value[0] > VERSION:
        raise UpdateNeededError(f"a run is of version {value[0]}; install a newer Cocoon")
    if value[0] != VERSION or len(value) != _FIELDS:
        raise MalformedError(f"a run of version {VERSION} has {_FIELDS} fields, not {len(value)}")
    _, device, first_seq, prev, heads, descriptors, time_ms, entries, digest, signature = value
    if not (
        type(first_seq) is int
        and isinstance(prev, bytes)
        and isinstance(heads, list)
        and len(heads) <= MAX_ROSTER_HEADS
        and isinstance(descriptors, list)
        and type(time_ms) is int
        and isinstance(entries, list)
        and 0 < len(entries) <= MAX_RUN_ENTRIES
    ):
        raise MalformedError("a field of a run is of another type or size")
    expander = Expander(group, DeviceId(device), tuple(map(EntryId, heads)), descriptors)
    full = expander.entries(first_seq, EntryId(prev) if prev else None, time_ms, entries)
    run = Run(group, expander.device, full, expander.descriptors, HeadsDigest(digest), Signature(signature), wire)
    return UnverifiedRun(
        run.device, first_seq, run.last_seq, full[0].prev, run.last_id, full[-1].kind is not EntryKind.CHANGE, run
    )


def count_entries(wire: bytes) -> int:
    """How many entries a run in one's own log holds."""
    return len(encoding.decode(wire, plain=False)[7])
