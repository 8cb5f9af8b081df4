"""A small group with fixed keys, told in entries and runs: what vectors and protocol tests are made of.

Every secret here is a hash of its name, so all of it comes out the same everywhere, and none of it is a secret.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from cocoon_core.protocol.change import encode_leb128, join_change
from cocoon_core.protocol.descriptor import Descriptor, DocumentKind, actor_of
from cocoon_core.protocol.device import DeviceKeys
from cocoon_core.protocol.encoding import decode, encode
from cocoon_core.protocol.entry import DocumentChange, Entry, EntryMaker, document_change
from cocoon_core.protocol.epoch import Epoch
from cocoon_core.protocol.heads import DeviceHeads, advance_heads
from cocoon_core.protocol.ids import ChangeHash, DocumentId, EntryId, GroupId, MemberId
from cocoon_core.protocol.operation_forms import Policy
from cocoon_core.protocol.operations import Create, OperationBody, member_id_of
from cocoon_core.protocol.primitives import Secret
from cocoon_core.protocol.run import Run, UnverifiedRun, parse_run, sign_run

RELAYS = ("wss://relay.example:443",)
BEGIN_MS = 1_700_000_000_000

# What follows the actor in three consecutive changes of one document, made once with automerge 1.0.0rc1: each puts a
# map under `post:…` with an integer `at` and a text `text`.
TAILS = tuple(
    bytes.fromhex(tail)
    for tail in (
        "01010000000801040204151f340142045604570b700200010200000102017d15706f73743a3030303030303030303030303030303102"
        "61740474657874037f0002017d00645681d095ffbc3168656c6c6f0300",
        "02040000000801040204151f340142045604570c700200010200000102047d15706f73743a3030303030303030303030303030303202"
        "61740474657874037f0002017d00646682d095ffbc317365636f6e640300",
        "03070000000801040204151f340142045604570b700200010200000102077d15706f73743a3030303030303030303030303030303302"
        "61740474657874037f0002017d00645683d095ffbc3174686972640300",
    )
)


def named_secret(name: str) -> Secret:
    """A secret of 32 bytes that is SHA-256 of its name."""
    return Secret(hashlib.sha256(name.encode()).digest())


def device_keys(name: str) -> DeviceKeys:
    return DeviceKeys(named_secret(f"{name} signing"), named_secret(f"{name} hpke"))


ANA = device_keys("ana")
EPOCH = Epoch(named_secret("epoch"))
CREATE = Create(
    named_secret("salt").reveal(), ANA.id, ANA.hpke_public, EPOCH.topic, "Family", "Ana", Policy(relays=RELAYS)
)
GROUP: GroupId = CREATE.group_id()
MEMBER: MemberId = member_id_of(GROUP, ANA.id)
FEED = Descriptor(DocumentKind.OWNED, "feed/2023-11", MEMBER)
LIST = Descriptor(DocumentKind.SHARED, "shopping", schema=(("items", "map"), ("notes", "text")))


def change_tail(seq: int, payload: bytes = b"") -> bytes:
    """A tail of which only the seq is of any meaning; enough for everything below the gate."""
    assert 0 < seq < 128
    return bytes((seq,)) + b"\0\0\0\0\0\0" + payload


def whole_tail(seq: int, payload: bytes = b"x", start: int = 1) -> bytes:
    """A tail with a head and one column: enough for what takes a change apart, as parts of snapshots do."""
    column = b"\x57" + encode_leb128(len(payload))
    return encode_leb128(seq) + encode_leb128(start) + b"\0\0\0\1" + column + payload


@dataclass
class Writer:
    """One device that writes: a chain of entries, the documents' changes, the heads, the runs."""

    keys: DeviceKeys = ANA
    group: GroupId = GROUP
    roster_heads: tuple[EntryId, ...] = ()
    entries: list[Entry] = field(default_factory=list)
    heads: DeviceHeads = field(default_factory=DeviceHeads)
    descriptors: dict[DocumentId, Descriptor] = field(default_factory=dict)
    _changes: dict[DocumentId, list[ChangeHash]] = field(default_factory=dict)

    def operate(self, body: OperationBody) -> Entry:
        """Write a roster operation, and name it as the head from now on."""
        entry = self._maker().operation(*self._at(), body.encode_body())
        self.entries.append(entry)
        self.roster_heads = (entry.id,)
        return entry

    def edit(self, *descriptors: Descriptor, tail: bytes | None = None) -> Entry:
        """Write an entry with one change to each of these documents."""
        changes = tuple(self._change(descriptor, tail) for descriptor in descriptors)
        entry = self._maker().change(*self._at(), changes)
        self.entries.append(entry)
        return entry

    def run(self, count: int = 1) -> Run:
        """Sign the entries that are in no run yet, the last `count`."""
        entries = self.entries[-count:]
        for entry in entries:
            advance_heads(self.heads, entry.changes)
        return sign_run(entries, self.descriptors.__getitem__, self.keys.signing, self.heads.digest())

    def write_runs(self, sizes: Sequence[int], descriptor: Descriptor = FEED) -> list[Run]:
        """Runs of one-change entries, as many in each as `sizes` says."""
        runs = []
        for size in sizes:
            for _ in range(size):
                self.edit(descriptor)
            runs.append(self.run(size))
        return runs

    def _change(self, descriptor: Descriptor, tail: bytes | None) -> DocumentChange:
        document = descriptor.document_id(self.group)
        self.descriptors[document] = descriptor
        before = self._changes.setdefault(document, [])
        raw, digest = join_change(
            list(before[-1:]), actor_of(self.keys.id, document), tail or change_tail(len(before) % 127 + 1)
        )
        before.append(digest)
        return document_change(document, raw)

    def _maker(self) -> EntryMaker:
        return EntryMaker(self.group, self.keys.id, self.roster_heads)

    def _at(self) -> tuple[int, EntryId | None, int]:
        seq = len(self.entries)
        return seq, self.entries[-1].id if self.entries else None, BEGIN_MS + 1000 * seq


def parsed(run: Run) -> UnverifiedRun:
    """The run as it arrives."""
    return parse_run(run.wire, run.group)


def unsigned(run: Run, *, digest: bool = False) -> UnverifiedRun:
    """The run with a signature that does not hold, as anyone who can seal may put it: same entries, or other digest."""
    fields = decode(run.wire)
    fields[8 if digest else 9] = bytes(byte ^ 1 for byte in fields[8 if digest else 9])
    return parse_run(encode(fields), run.group)


def forged(run: Run) -> UnverifiedRun:
    """Another run in the place of this one: other entries, and no signature."""
    fields = decode(run.wire)
    fields[6] += 1
    return parse_run(encode(fields), run.group)
