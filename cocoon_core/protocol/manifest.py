"""The manifest: what opens a topic, so that whoever has its secret can build the group from this topic alone.
Implements specs/manifest.md §1 and §4.

It is an entry of the rotation's author, right after the rotation, and carries every operation under its own signature.
So it proves itself: whoever packed it can forge or alter nothing, nor leave out what the signed heads name. This module
is the value and its form; manifest_check.py says what of it holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cocoon_core.errors import MalformedError, NotYetError, UpdateNeededError, UsageError
from cocoon_core.protocol import encoding
from cocoon_core.protocol.constants import (
    LABEL_MANIFEST_PAGE,
    MAX_MANIFEST_INLINE,
    MAX_MANIFEST_PAGES,
    MAX_PAGE_BYTES,
    MAX_SEQ,
    VERSION,
)
from cocoon_core.protocol.descriptor import Descriptor, descriptor_from_value
from cocoon_core.protocol.frontier import Frontier, decode_frontier, encode_frontier
from cocoon_core.protocol.ids import BlobHash, ChangeHash, DeviceId, EntryId, GroupId, TopicId
from cocoon_core.protocol.operation_forms import require_integer, require_rising
from cocoon_core.protocol.primitives import Secret
from cocoon_core.protocol.run import Run, UnverifiedRun, parse_run
from cocoon_core.protocol.sealed_pages import name_page, open_page, seal_page
from cocoon_core.protocol.snapshot import PageRef, SnapshotRef
from cocoon_core.protocol.statement import parse_statement

_FIELDS: Final = 8

Heads = Mapping[DeviceId, tuple[int, ChangeHash]]  # of one document: every device's newest change in it


@dataclass(frozen=True, slots=True)
class DocumentState:
    """One document in a manifest: what it is, what every device signed of it, and where its changes are.

    `snapshot` is None where no change is left. `ended` are the devices whose part of it ends before their head, because
    the gate refused a change of theirs; the run with that change is among the manifest's runs. `retired` is the run
    with its owner's retire, in short form: then nothing of it counts, and the manifest holds no change of it.
    """

    descriptor: Descriptor
    heads: Heads
    snapshot: SnapshotRef | None
    ended: tuple[DeviceId, ...] = ()
    retired: bytes = b""

    def __post_init__(self) -> None:
        if self.retired and (self.snapshot is not None or self.ended):
            raise MalformedError("a document that was retired has no snapshot, and nobody's part of it ends")
        if self.snapshot is None and not self.retired and set(self.ended) != self.heads.keys():
            raise MalformedError("the changes of a document are left out, and it was not retired")


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a rotation's author held.

    Fields:
        frontier: for every device that counts, its newest run end; for one that was cut, the last at or before its pin.
        operations: every roster operation with all before it, pasts first, create first; each a run of one entry.
        final: those of them that were final for its author, by manifests before this one.
        rekeys: the newest of each device that counts, as runs of one entry, rising by device.
        runs: whole runs beyond the frontier of cut devices, and those with changes that the gate refused; rising by
            device and first seq.
        documents: rising by document id.
    """

    frontier: Frontier
    operations: tuple[Run, ...]
    final: frozenset[EntryId]
    rekeys: tuple[Run, ...]
    runs: tuple[Run, ...]
    documents: tuple[DocumentState, ...]


@dataclass(frozen=True, slots=True)
class UnverifiedManifest:
    """A manifest that was parsed. What it says cannot be read before manifest_check.py has verified it."""

    group: GroupId
    _frontier: Frontier
    _operations: tuple[UnverifiedRun, ...]
    _final: frozenset[EntryId]
    _rekeys: tuple[UnverifiedRun, ...]
    _runs: tuple[UnverifiedRun, ...]
    _documents: tuple[DocumentState, ...]

    def stored_documents(self) -> tuple[DocumentState, ...]:
        """What it says of documents, where it comes from one's own store: it was verified before it was stored."""
        return self._documents

    def stored_runs(self) -> tuple[Run, ...]:
        """The runs that it carries, where it comes from one's own store."""
        return tuple(run.stored() for run in self._runs)


@dataclass(frozen=True, slots=True)
class ManifestBody:
    """The body of a manifest's entry: the content itself, or the pages that hold it with their key."""

    inline: bytes
    key: Secret | None
    pages: tuple[BlobHash, ...]

    def __post_init__(self) -> None:
        if (self.key is None) != bool(self.inline) or bool(self.pages) != (self.key is not None):
            raise MalformedError("a manifest stands in its entry, or in pages with a key")
        if len(self.inline) > MAX_MANIFEST_INLINE or len(self.pages) > MAX_MANIFEST_PAGES:
            raise MalformedError("a manifest is too large")

    def to_value(self) -> list[Any]:
        return [VERSION, self.inline, self.key.reveal() if self.key else b"", list(self.pages)]


def seal_manifest(manifest: Manifest, group: GroupId, topic: TopicId, key: Secret) -> tuple[ManifestBody, list[bytes]]:
    """The body of the entry of kind MANIFEST, and the blobs that must be at the relay before it.

    Args:
        topic: that of the new epoch.
        key: fresh and random; used only if the content does not stand in the entry.

    Raises:
        UsageError: it does not fit into MAX_MANIFEST_PAGES pages.
    """
    content = encode_manifest(manifest, group)
    if len(content) <= MAX_MANIFEST_INLINE:
        return ManifestBody(content, None, ()), []
    parts = [content[at : at + MAX_PAGE_BYTES] for at in range(0, len(content), MAX_PAGE_BYTES)]
    if len(parts) > MAX_MANIFEST_PAGES:
        raise UsageError(f"a manifest of {len(content)} bytes is too large")
    blobs = [seal_page(part, key, place, LABEL_MANIFEST_PAGE, topic) for place, part in enumerate(parts)]
    return ManifestBody(b"", key, tuple(map(name_page, blobs))), blobs


def read_manifest_body(body: object) -> ManifestBody:
    """Read the body of an entry of kind MANIFEST.

    Raises:
        MalformedError: not that.
        UpdateNeededError: of a later version.
    """
    match body:
        case [version, bytes() as inline, bytes() as key, list() as pages] if (
            type(version) is int and version == VERSION
        ):
            return ManifestBody(inline, Secret(key) if key else None, tuple(BlobHash(page) for page in pages))
        case [version, *_] if type(version) is int and version > VERSION:
            raise UpdateNeededError(f"a manifest is of version {version}; install a newer Cocoon")
    raise MalformedError("a manifest's body is [version, content, key, pages]")


def open_manifest(
    body: ManifestBody, group: GroupId, topic: TopicId, pages: Mapping[BlobHash, bytes]
) -> UnverifiedManifest:
    """Put the content together and parse it.

    Args:
        topic: the topic in which the entry stood.

    Raises:
        NotYetError: a page is not here.
        DecryptionError: a page is not the one that was named.
        MalformedError: it is no manifest.
        UpdateNeededError: it, or an operation in it, is of a later version.
    """
    if body.key is None:
        return decode_manifest(body.inline, group)
    parts = []
    for place, name in enumerate(body.pages):
        blob = pages.get(name)
        if blob is None:
            raise NotYetError(f"page {name.hex()[:12]} of a manifest is not here")
        parts.append(open_page(blob, name, body.key, place, LABEL_MANIFEST_PAGE, topic))
    return decode_manifest(b"".join(parts), group)


# --- the content


def encode_manifest(manifest: Manifest, group: GroupId) -> bytes:
    """CBOR [version, frontier, operations, final, rekeys, runs, pages, documents]."""
    places = {device: place for place, device in enumerate(sorted(manifest.frontier))}
    documents = sorted(manifest.documents, key=lambda state: state.descriptor.document_id(group))
    keys = {page.name: page.key for state in documents if state.snapshot for page in state.snapshot.pages}
    pages = {name: place for place, name in enumerate(sorted(keys))}
    return encoding.encode(
        [
            VERSION,
            encode_frontier(manifest.frontier),
            [run.wire for run in manifest.operations],
            [place for place, run in enumerate(manifest.operations) if run.last_id in manifest.final],
            [run.wire for run in manifest.rekeys],
            [run.wire for run in manifest.runs],
            [[name, keys[name].reveal()] for name in pages],
            [_document_value(state, places, pages) for state in documents],
        ]
    )


def decode_manifest(content: bytes, group: GroupId) -> UnverifiedManifest:
    """Parse the content; no signature is checked.

    Raises:
        MalformedError: not that.
        UpdateNeededError: it, or a run in it, is of a later version.
    """
    value = encoding.decode(content, max_bytes=MAX_MANIFEST_PAGES * MAX_PAGE_BYTES)
    if not isinstance(value, list) or not value or type(value[0]) is not int:
        raise MalformedError("a manifest is an array that begins with its version")
    if value[0] > VERSION:
        raise UpdateNeededError(f"a manifest is of version {value[0]}; install a newer Cocoon")
    if value[0] != VERSION or len(value) != _FIELDS or not all(isinstance(field, list) for field in value[1:]):
        raise MalformedError(f"a manifest of version {VERSION} has {_FIELDS} fields")
    _, ends, operations, final, rekeys, runs, pages, documents = value
    frontier = decode_frontier(ends)
    refs = _pages_from(pages)
    states = tuple(_document_from(document, tuple(frontier), refs) for document in documents)
    if {page.name for state in states if state.snapshot for page in state.snapshot.pages} != {ref.name for ref in refs}:
        raise MalformedError("a manifest names a page in which no document is")
    require_rising(tuple(state.descriptor.document_id(group) for state in states), len(states), "documents")
    own = tuple(parse_statement(_wire(wire), group) for wire in rekeys)
    require_rising(tuple(run.device for run in own), len(own), "rekeys")
    whole = tuple(parse_run(_wire(wire), group) for wire in runs)
    require_rising(tuple(run.device + run.first_seq.to_bytes(8) for run in whole), len(whole), "runs")
    statements = tuple(parse_statement(_wire(wire), group) for wire in operations)
    return UnverifiedManifest(group, frontier, statements, _final_from(final, statements), own, whole, states)


def _final_from(places: list[Any], operations: Sequence[UnverifiedRun]) -> frozenset[EntryId]:
    for place in places:
        require_integer(place, 0, len(operations) - 1, "the place of an operation")
    if places != sorted(set(places)):
        raise MalformedError("the final operations of a manifest do not rise")
    return frozenset(operations[place].last_id for place in places)


def _pages_from(values: list[Any]) -> tuple[PageRef, ...]:
    found = []
    for value in values:
        match value:
            case [bytes() as name, bytes() as key]:
                found.append(PageRef(BlobHash(name), Secret(key)))
            case _:
                raise MalformedError("a page is [blob hash, key]")
    require_rising(tuple(page.name for page in found), len(found), "pages")
    return tuple(found)


def _document_value(state: DocumentState, places: Mapping[DeviceId, int], pages: Mapping[BlobHash, int]) -> list[Any]:
    heads = sorted([places[device], seq, change] for device, (seq, change) in state.heads.items())
    where: Any = [pages[page.name] for page in state.snapshot.pages] if state.snapshot else []
    ended = sorted(places[device] for device in state.ended)
    return [state.descriptor.to_value(), heads, state.retired or where, ended]


def _document_from(value: object, devices: tuple[DeviceId, ...], pages: tuple[PageRef, ...]) -> DocumentState:
    match value:
        case [descriptor, list() as heads, (list() | bytes()) as where, list() as ended]:
            found: dict[DeviceId, tuple[int, ChangeHash]] = {}
            for item in heads:
                device, head = _head_from(item, devices)
                if found and device <= next(reversed(found)):
                    raise MalformedError("the heads of a document do not rise by device")
                found[device] = head
            cut = tuple(_device_at(place, devices) for place in ended)
            require_rising(cut, len(devices), "devices that ended")
            if not set(cut) <= found.keys():
                raise MalformedError("a device that ended has no head")
            snapshot, retired = (None, where) if isinstance(where, bytes) else (_snapshot_from(where, pages), b"")
            if where == b"":
                raise MalformedError("the retire of a document is empty")
            return DocumentState(descriptor_from_value(descriptor), found, snapshot, cut, retired)
    raise MalformedError("a document of a manifest is [descriptor, heads, pages or retire, ended]")


def _head_from(value: object, devices: tuple[DeviceId, ...]) -> tuple[DeviceId, tuple[int, ChangeHash]]:
    match value:
        case [place, int() as seq, bytes() as change]:
            require_integer(seq, 0, MAX_SEQ, "the seq of a head")
            return _device_at(place, devices), (seq, ChangeHash(change))
    raise MalformedError("a head is [place of the device, seq, change hash]")


def _device_at(place: object, devices: tuple[DeviceId, ...]) -> DeviceId:
    if type(place) is not int or not 0 <= place < len(devices):
        raise MalformedError("a head is of a device that the frontier does not name")
    return devices[place]


def _snapshot_from(where: list[Any], pages: tuple[PageRef, ...]) -> SnapshotRef | None:
    for place in where:
        require_integer(place, 0, len(pages) - 1, "the place of a page")
    return SnapshotRef(tuple(pages[place] for place in where)) if where else None


def _wire(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise MalformedError("a run of a manifest is a byte string")
    return value
