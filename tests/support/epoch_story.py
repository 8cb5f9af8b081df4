"""A small group through its first rotation, in real runs: Ana creates it, Ben joins and writes, Ana puts him out,
rotates and packs the manifest. With fixed wraps all of it comes out the same everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cocoon_core.protocol.descriptor import Descriptor, DocumentKind
from cocoon_core.protocol.device import DeviceKeys
from cocoon_core.protocol.entry import Entry, EntryKind
from cocoon_core.protocol.epoch import Epoch
from cocoon_core.protocol.frontier import Frontier, frontier_of, run_end_of
from cocoon_core.protocol.ids import BlobHash, ChangeHash, DocumentId, EntryId, TopicId
from cocoon_core.protocol.invite import InviteKeys
from cocoon_core.protocol.manifest import DocumentState, Manifest, open_manifest, read_manifest_body, seal_manifest
from cocoon_core.protocol.manifest_check import VerifiedManifest, verify_manifest
from cocoon_core.protocol.operation_forms import Pin
from cocoon_core.protocol.operations import Invite, Join, OperationBody, member_id_of
from cocoon_core.protocol.operations_devices import RemoveMember
from cocoon_core.protocol.operations_rotation import Reason, Rotation, WrapsBeside
from cocoon_core.protocol.part import Part, Said, pack_parts
from cocoon_core.protocol.rekey import rekey_body
from cocoon_core.protocol.roster import RosterGraph
from cocoon_core.protocol.roster_values import Operation, Roster
from cocoon_core.protocol.run import Run
from cocoon_core.protocol.sealed_pages import name_page
from cocoon_core.protocol.snapshot import PageRef, SnapshotRef, seal_part
from tests.support.protocol_story import (
    ANA,
    CREATE,
    EPOCH,
    FEED,
    GROUP,
    LIST,
    TAILS,
    Writer,
    device_keys,
    named_secret,
)

BEN = device_keys("ben")
BEN_MEMBER = member_id_of(GROUP, BEN.id)
BEN_FEED = Descriptor(DocumentKind.OWNED, "feed/2023-11", BEN_MEMBER)
NEXT = Epoch(named_secret("second epoch"))
LINK_KEYS = InviteKeys(named_secret("ben's link"))
RENEWED = device_keys("ana renewed")

Wrap = Callable[[Epoch, DeviceKeys], bytes]
Pack = Callable[[list[tuple[DocumentId, list[Said]]]], list[Part]]


def pages_of(blobs: list[bytes]) -> dict[BlobHash, bytes]:
    """Blobs by name, as they are got from a relay."""
    return {name_page(blob): blob for blob in blobs}


def state(writer: Writer, kind: EntryKind, body: list[Any]) -> Entry:
    """Write an entry that carries neither changes nor an operation."""
    entry = writer._maker().statement(kind, *writer._at(), body)
    writer.entries.append(entry)
    return entry


def operation_of(entry: Entry, body: OperationBody) -> Operation:
    return Operation(entry.id, entry.device, entry.seq, entry.roster_heads, body)


@dataclass
class EpochStory:
    """The writers, every run in the order written, and what the manifest is made of."""

    wrap: Wrap
    pack: Pack = pack_parts
    ana: Writer = field(default_factory=Writer)
    ben: Writer = field(default_factory=lambda: Writer(BEN))
    runs: list[Run] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)
    blobs: dict[BlobHash, bytes] = field(default_factory=dict)
    records: bytes = b""  # the wraps beside the rotation

    def operate(self, writer: Writer, body: OperationBody) -> Operation:
        entry = writer.operate(body)
        self.ana.roster_heads = self.ben.roster_heads = writer.roster_heads
        self.operations.append(operation_of(entry, body))
        self.runs.append(writer.run(1))
        return self.operations[-1]

    def edit(self, writer: Writer, descriptor: Descriptor, tails: tuple[bytes | None, ...]) -> Run:
        for tail in tails:
            writer.edit(descriptor, tail=tail)
        self.runs.append(writer.run(len(tails)))
        return self.runs[-1]

    def begin(self) -> None:
        """Up to the moment at which Ben is put out."""
        self.operate(self.ana, CREATE)
        self.edit(self.ana, FEED, TAILS)
        self.operate(
            self.ana,
            Invite.make(LINK_KEYS.signing, LINK_KEYS.hpke().public, LINK_KEYS.mailbox_secret, GROUP, ANA.id),
        )
        self.operate(self.ben, Join.make(LINK_KEYS.signing, GROUP, BEN.id, BEN.hpke_public, "Ben"))
        self.edit(self.ben, BEN_FEED, TAILS[:2])
        self.edit(self.ben, LIST, (None,))
        state(self.ana, EntryKind.REKEY, rekey_body(RENEWED.hpke_public))
        self.runs.append(self.ana.run(1))

    def remove_ben(self) -> Operation:
        """Put Ben out, pinned at his first run of two posts; what he wrote after was not known."""
        pin = Pin(BEN.id, 2, self.ben.entries[2].id)
        return self.operate(self.ana, RemoveMember(BEN_MEMBER, (pin,)))

    def rotate(self) -> Operation:
        """Ana's rotation to the next epoch, for her own renewed key alone."""
        self.records = ANA.id + self.wrap(NEXT, RENEWED)
        body = Rotation(Reason.REMOVAL, (EPOCH.topic,), NEXT.topic, WrapsBeside.of(self.records))
        return self.operate(self.ana, body)

    def roster(self) -> Roster:
        graph = RosterGraph(GROUP)
        for operation in self.operations:
            graph.add(operation)
        return graph.evaluate()

    def frontier(self) -> Frontier:
        """Ana's newest run end, and Ben's last at or before his pin."""
        ana = [run for run in self.runs if run.device == ANA.id][-1]
        ben = [run for run in self.runs if run.device == BEN.id and run.last_seq <= 2][-1]
        return frontier_of([run_end_of(ana), run_end_of(ben)])

    def manifest(self) -> Manifest:
        """What Ana packs: both feeds, every operation, her rekey. Ben's later entries do not count."""
        statements = [run for run in self.runs if run.entries[-1].kind is EntryKind.ROSTER]
        rekeys = [run for run in self.runs if run.entries[-1].kind is EntryKind.REKEY]
        documents = self._documents((FEED, self.ana), (BEN_FEED, self.ben))
        return Manifest(self.frontier(), tuple(statements), frozenset(), tuple(rekeys), (), documents)

    def _documents(self, *written: tuple[Descriptor, Writer]) -> tuple[DocumentState, ...]:
        """These documents, each by its writer alone, in one page."""
        by_id = sorted(((one.document_id(GROUP), one, writer) for one, writer in written), key=lambda each: each[0])
        said = {document: changes_of(writer, document) for document, _, writer in by_id}
        (page,) = self.seal(self.pack(list(said.items())))
        return tuple(
            DocumentState(
                descriptor,
                {writer.keys.id: (len(said[document]), newest_change(writer, document))},
                SnapshotRef((page,)),
            )
            for document, descriptor, writer in by_id
        )

    def seal(self, parts: list[Part]) -> list[PageRef]:
        """Seal parts under keys that are known, and keep the pages with the blobs."""
        refs = []
        for place, part in enumerate(parts):
            ref, blob = seal_part(part.data, named_secret(f"page {place}"), GROUP)
            self.blobs[ref.name] = blob
            refs.append(ref)
        return refs


def changes_of(writer: Writer, document: DocumentId) -> list[Said]:
    """A writer's changes of one document, in order, with the seqs of their entries."""
    return [
        Said(writer.keys.id, one.raw, entry.seq)
        for entry in writer.entries
        for one in entry.changes
        if one.document == document
    ]


def newest_change(writer: Writer, document: DocumentId) -> ChangeHash:
    return [one.hash for entry in writer.entries for one in entry.changes if one.document == document][-1]


def told(wrap: Wrap, pack: Pack = pack_parts) -> EpochStory:
    """The whole story up to the rotation."""
    story = EpochStory(wrap, pack)
    story.begin()
    story.remove_ben()
    story.rotate()
    return story


def manifest_entry(
    story: EpochStory, manifest: Manifest | None = None, topic: TopicId = NEXT.topic
) -> tuple[Entry, Mapping[BlobHash, bytes]]:
    """The entry that carries this manifest, and its blobs."""
    body, blobs = seal_manifest(manifest or story.manifest(), GROUP, topic, named_secret("manifest key"))
    entry = story.ana._maker().statement(EntryKind.MANIFEST, *story.ana._at(), body.to_value())
    return entry, pages_of(blobs)


def read_back(
    entry: Entry, pages: Mapping[BlobHash, bytes], topic: TopicId = NEXT.topic, known: tuple[EntryId, ...] = ()
) -> VerifiedManifest:
    """Everything that a reader does who has nothing but the new epoch's secret and the group's id."""
    return verify_manifest(open_manifest(read_manifest_body(entry.body), GROUP, topic, pages), entry, topic, known)


def with_document(manifest: Manifest, place: int, **changes: Any) -> Manifest:
    """The manifest with one document altered."""
    documents = list(manifest.documents)
    documents[place] = replace(documents[place], **changes)
    return replace(manifest, documents=tuple(documents))
