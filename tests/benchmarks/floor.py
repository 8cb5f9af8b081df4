"""The bare floors: the same work on the same data with nothing around it, and as few calls as it takes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import cbor2
from automerge.core import ROOT, Document, Message, ObjType, ScalarType, SyncState

from cocoon_core.documents.columns import encode_uint
from cocoon_core.documents.gate import Gate
from cocoon_core.protocol import encoding
from cocoon_core.protocol.constants import LABEL_ENTRY, LABEL_ENVELOPE, LABEL_RUN, NONCE_BYTES, VERSION
from cocoon_core.protocol.descriptor import Descriptor
from cocoon_core.protocol.entry import Entry, EntryKind
from cocoon_core.protocol.envelope import open_envelope, seal_envelope
from cocoon_core.protocol.epoch import Epoch
from cocoon_core.protocol.ids import DocumentId, GroupId, MemberId
from cocoon_core.protocol.part import open_part, read_sections
from cocoon_core.protocol.primitives import Secret, SigningKey, hash_bytes, open_sealed
from cocoon_core.protocol.run import parse_run
from cocoon_core.storage.database import Database

ENVELOPE_BYTES: Final = 448  # of a post that is sent alone
_TABLE: Final = "CREATE TABLE bare (id INTEGER PRIMARY KEY, envelope BLOB NOT NULL) STRICT"


# --- catching up


@dataclass(frozen=True, slots=True)
class Prepared:
    """One envelope with what the floor needs beside it: the full form of its entries, and its changes by document."""

    envelope: bytes
    entries: tuple[bytes, ...]
    changes: dict[bytes, list[bytes]]


def prepare(envelopes: Iterable[bytes], epoch: Epoch, group: GroupId) -> list[Prepared]:
    """Take envelopes apart, outside of the measurement."""
    prepared = []
    for envelope in envelopes:
        run = parse_run(open_envelope(envelope, epoch), group).stored()
        changes: dict[bytes, list[bytes]] = {}
        for entry in run.entries:
            for change in entry.changes:
                changes.setdefault(bytes(change.document), []).append(change.raw)
        prepared.append(Prepared(envelope, tuple(map(_full_form, run.entries)), changes))
    return prepared


def _full_form(entry: Entry) -> bytes:
    body: Any = entry.body
    if entry.kind is EntryKind.CHANGE:
        body = [[bytes(change.document), change.raw] for change in entry.changes]
    heads = [bytes(head) for head in entry.roster_heads]
    full = encoding.encode(
        [VERSION, entry.group, entry.device, entry.seq, entry.prev or b"", heads, entry.time_ms, int(entry.kind), body]
    )
    if hash_bytes(LABEL_ENTRY, full) != entry.id:
        raise RuntimeError("this is not the full form of an entry")
    return full


def measure_floor(prepared: list[Prepared], epoch: Epoch) -> float:
    """Seconds for AEAD open + BLAKE2b + CBOR decode + automerge apply, in one loop over the envelopes."""
    documents: dict[bytes, Document] = {}
    key, ad = epoch.seal_key, LABEL_ENVELOPE.encode() + b"\0" + epoch.topic
    began = time.perf_counter()
    for item in prepared:
        envelope = item.envelope
        plain = open_sealed(key, envelope[:NONCE_BYTES], envelope[NONCE_BYTES:], ad)
        for entry in item.entries:
            blake2b(entry, digest_size=32).digest()
        cbor2.loads(plain.rstrip(b"\0")[:-1])
        for document, raws in item.changes.items():
            target = documents.get(document)
            if target is None:
                target = documents[document] = Document()
            parts = [b"\x42\0\0\0", encode_uint(len(raws))]
            for raw in raws:
                parts += (encode_uint(len(raw)), raw)
            target.receive_sync_message(SyncState(), Message.decode(b"".join(parts)))
    return time.perf_counter() - began


# --- a newcomer's pages


def measure_pages(parts: Iterable[bytes], descriptors: Mapping[DocumentId, Descriptor]) -> dict[str, float]:
    """Seconds and processor seconds for unpacking pages of snapshots, passing their changes through the gate and
    applying them; for applying alone; and the bytes of the largest document's changes.
    """
    bare, applied = Timer(), Timer()
    largest = 0
    for part in parts:
        with bare:
            opened = {document: read_sections(document, [section]) for document, section in open_part(part).items()}
            for document, changes in opened.items():
                gate, descriptor = Gate(descriptors[document], document), descriptors[document]
                for change in changes:
                    gate.admit(change.raw, change.device, descriptor.member or MemberId(bytes(32)), change.hash)
        for changes in opened.values():
            with applied:
                _apply(Document(), [change.raw for change in changes])
            largest = max(largest, sum(len(change.raw) for change in changes))
    return {
        "bare": bare.wall + applied.wall,
        "bare_processor": bare.processor + applied.processor,
        "apply": applied.wall,
        "apply_processor": applied.processor,
        "largest": largest,
    }


class Timer:
    """Adds up the seconds, and the processor seconds of this process, of the blocks that run under it."""

    def __init__(self) -> None:
        self.wall = self.processor = 0.0

    def __enter__(self) -> None:
        self._began, self._used = time.perf_counter(), time.process_time()

    def __exit__(self, *_: object) -> None:
        self.wall += time.perf_counter() - self._began
        self.processor += time.process_time() - self._used


def _apply(target: Document, raws: Sequence[bytes]) -> None:
    parts = [b"\x42\0\0\0", encode_uint(len(raws))]
    for raw in raws:
        parts += (encode_uint(len(raw)), raw)
    target.receive_sync_message(SyncState(), Message.decode(b"".join(parts)))


# --- a durable post


def open_bare(path: Path) -> Database:
    """An encrypted database with the settings of a profile's, and one table."""
    path.touch(0o600)
    database = Database.open(path, Secret(bytes(range(32))))
    database.execute(_TABLE)
    return database


def commit_bare(database: Database, envelope: bytes) -> None:
    """One commit of one row."""
    with database.transaction():
        database.execute("INSERT INTO bare (envelope) VALUES (?)", (envelope,))


class BarePost:
    """Seal + sign + automerge edit + one commit, and nothing else of what makes a post one."""

    def __init__(self, database: Database, epoch: Epoch) -> None:
        self._database, self._epoch = database, epoch
        self._signing = SigningKey(Secret(bytes(range(32))))
        self._document = Document(actor_id=bytes(16))
        self._count = 0

    def post(self, text: str, durable: bool = True) -> None:
        """Write one."""
        self._count += 1
        key, at = f"post:{self._count:016x}", 1_767_254_400_000 + self._count
        before = self._document.get_heads()
        with self._document.transaction() as transaction:
            post = transaction.put_object(ROOT, key, ObjType.Map)
            transaction.put(post, "at", ScalarType.Int, at)
            transaction.put(post, "text", ScalarType.Str, text)
        if not durable:
            return
        raw = self._document.get_changes(before)[0].raw_bytes
        signature = self._signing.sign(LABEL_RUN, raw[-64:])
        envelope = seal_envelope(raw + signature, self._epoch)
        with self._database.transaction():
            self._database.execute("INSERT INTO bare (envelope) VALUES (?)", (envelope,))
