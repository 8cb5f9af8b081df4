"""The code agrees with the vectors of rotations, epochs, repair topics, snapshots and manifests, from their files."""

from __future__ import annotations

import bz2
import random
from itertools import accumulate
from typing import Any

import cbor2
import pytest

from cocoon_core.protocol.constants import LABEL_RANK
from cocoon_core.protocol.descriptor import descriptor_from_value
from cocoon_core.protocol.encoding import decode, encode
from cocoon_core.protocol.entry import Entry, EntryKind, EntryMaker
from cocoon_core.protocol.epoch import Epoch
from cocoon_core.protocol.epochs import Path, choose_epoch, rank_of, trace_epochs
from cocoon_core.protocol.frontier import decode_frontier, encode_frontier, frontier_digest
from cocoon_core.protocol.ids import BlobHash, ChangeHash, DeviceId, DocumentId, EntryId, GroupId, RecipientId, TopicId
from cocoon_core.protocol.manifest import decode_manifest, encode_manifest, open_manifest, read_manifest_body
from cocoon_core.protocol.manifest_check import VerifiedManifest, check_against_roster, verify_manifest
from cocoon_core.protocol.operations import Create, decode_operation
from cocoon_core.protocol.operations_rotation import Rotation
from cocoon_core.protocol.part import PackedChange, Said, open_part, pack_parts, read_sections
from cocoon_core.protocol.primitives import HpkeKey, hash_bytes, open_bulk, sha256, verify
from cocoon_core.protocol.repair import Complaint, Fork, Repair, read_repair_value, repair_keys
from cocoon_core.protocol.retire import read_retire
from cocoon_core.protocol.roster import RosterGraph
from cocoon_core.protocol.roster_values import Operation, Recipient, Roster
from cocoon_core.protocol.rotation import Pages, check_wraps, find_page, open_rotation
from cocoon_core.protocol.rotation_value import add_wraps, split_wraps
from cocoon_core.protocol.run import parse_run, verify_run
from cocoon_core.protocol.snapshot import (
    PageRef,
    SnapshotRef,
    check_heads,
    open_snapshot,
    read_snapshot,
    seal_part,
    unseal_part,
)
from tests.support.epoch_scenes import Asked
from tests.support.part_tables import parse_table
from tests.vectors.test_vectors import Case, read, require_refused, secret, unhex

STREAM_OF = {1: 0, 2: 0, 0x11: 0, 0x13: 0, 0x15: 1, 0x34: 2, 0x42: 2, 0x56: 2, 0x57: 3, 0x70: 4, 0x71: 4, 0x73: 4}


def rotation_from(text: str) -> Rotation:
    body = decode_operation(decode(unhex(text)))
    assert isinstance(body, Rotation)
    assert encode(body.encode_body()).hex() == text
    return body


def pages_from(case: dict[str, str]) -> Pages:
    return {BlobHash(unhex(name)): unhex(blob) for name, blob in case.items()}


def key_from(case: Case) -> HpkeKey:
    return HpkeKey(secret(case["hpke_seed"]))


def split_or_parse(raw: bytes, group: GroupId) -> object:
    """Read what stands in a topic: a rotation with its wraps, or else a run."""
    found = split_wraps(raw, group)
    return found if found is not None else parse_run(raw, group)


# --- rotations


def test_rotations() -> None:
    vectors = read("rotation")
    group, wanted = GroupId(unhex(vectors["group_id"])), secret(vectors["epoch_secret"])
    beside, paged = vectors["beside"], vectors["paged"]
    rotation = rotation_from(beside["body"])
    assert rotation.topic == Epoch(wanted).topic
    records = unhex(beside["records"])
    assert add_wraps(unhex(beside["run"]), records).hex() == beside["value"]
    split = split_wraps(unhex(beside["value"]), group)
    assert split is not None
    assert (split[0].wire.hex(), split[1]) == (beside["run"], records)
    here = {BlobHash(sha256(records)): records}
    opened = open_rotation(rotation, RecipientId(unhex(beside["recipient"])), [key_from(beside)], group, here)
    assert opened.secret == wanted

    rotation = rotation_from(paged["body"])
    for page in paged["pages"]:
        blob = unhex(page["blob"])
        assert sha256(blob).hex() == page["name"]
        padded = open_bulk(secret(paged["key"]), unhex(page["nonce"]), blob, unhex(paged["ad"]))
        assert padded.rstrip(b"\0")[:-1].hex() == page["records"]
    pages = pages_from({page["name"]: page["blob"] for page in paged["pages"]})
    for one in paged["recipients"]:
        recipient, name = RecipientId(unhex(one["recipient"])), BlobHash(unhex(paged["pages"][one["page"]]["name"]))
        assert find_page(rotation, recipient) == name
        assert open_rotation(rotation, recipient, [key_from(one)], group, {name: pages[name]}).secret == wanted
    for check in vectors["checks"]:
        key = key_from(paged["recipients"][0]).public
        due = [Recipient(DeviceId(unhex(one)), key) for one in check["recipients"]]
        found = check_wraps(rotation, due, pages)
        assert [one.hex() for one in found.missing] == check["missing"], check["name"]
        assert [one.hex() for one in found.strangers] == check["strangers"], check["name"]


def test_refused_rotations() -> None:
    vectors = read("rotation")
    group = GroupId(unhex(vectors["group_id"]))
    require_refused(vectors["bad_bodies"], lambda case: decode_operation(decode(unhex(case["body"]))))
    require_refused(vectors["bad_values"], lambda case: split_or_parse(unhex(case["value"]), group))

    def attempt(case: Case) -> object:
        pages, recipient = pages_from(case["pages"]), RecipientId(unhex(case["recipient"]))
        return open_rotation(rotation_from(case["body"]), recipient, [key_from(case)], group, pages)

    require_refused(vectors["bad_openings"], attempt)


# --- the choice


def graph_from(case: Case, seed: int) -> RosterGraph:
    """The operations, in an order that puts parents first."""
    graph = RosterGraph(GroupId(unhex(case["group_id"])))
    waiting = list(case["operations"])
    random.Random(seed).shuffle(waiting)
    while waiting:
        one = waiting.pop(0)
        parents = tuple(EntryId(unhex(parent)) for parent in one["parents"])
        if any(parent not in graph for parent in parents):
            waiting.append(one)
            continue
        body = decode_operation(decode(unhex(one["body"])))
        graph.add(Operation(EntryId(unhex(one["id"])), DeviceId(unhex(one["device"])), one["seq"], parents, body))
    return graph


@pytest.mark.parametrize("case", read("epoch-choice")["choices"], ids=lambda case: case["name"])
def test_the_choice_of_an_epoch(case: Case) -> None:
    for seed in range(4):
        graph = graph_from(case, seed)
        create = min((one for one in graph.operations() if isinstance(one.body, Create)), key=lambda one: one.id)

        def judge(path: Path, graph: RosterGraph = graph) -> Roster:
            return graph.evaluate()

        choice = choose_epoch(trace_epochs(create, graph.operations(), Asked(graph)), Asked(graph), judge)
        assert choice.epoch.topic.hex() == case["topic"]
        assert [node.id.hex() for node in choice.path] == case["path"]
        assert [node.id.hex() for node in choice.forks] == case["forks"]
        assert [topic.hex() for topic in choice.topics_to_end] == case["parents_of_the_next"]
        for kind, gone in case["gone"].items():
            assert [one.hex() for one in getattr(choice.gone, kind)] == gone


def test_ranks() -> None:
    for case in read("epoch-choice")["ranks"]:
        parent = TopicId(unhex(case["parent"]))
        devices = [DeviceId(unhex(one["device"])) for one in case["devices"]]
        for device, one in zip(devices, case["devices"], strict=True):
            assert hash_bytes(LABEL_RANK, device + parent).hex() == one["hash"]
            assert rank_of(device, parent, devices) == one["rank"]


# --- the repair topic


def test_repair_topics() -> None:
    vectors = read("repair")
    group = GroupId(unhex(vectors["group_id"]))
    keys = repair_keys(Epoch(secret(vectors["epoch_secret"])))
    for shown in vectors["topics"]:
        assert keys.topic.hex() == shown["topic"]
        assert keys.seal_key == secret(shown["seal_key"])
        assert keys.nonce_key == secret(shown["nonce_key"])
        keys = keys.following()
    complaint = read_repair_value(unhex(vectors["complaint"]["value"]), group)
    repair = read_repair_value(unhex(vectors["repair"]["value"]), group)
    fork = read_repair_value(unhex(vectors["fork"]["value"]), group)
    assert isinstance(complaint, Complaint)
    assert isinstance(repair, Repair)
    assert isinstance(fork, Fork)
    for value, case in ((complaint, vectors["complaint"]), (repair, vectors["repair"])):
        assert value.rotation.hex() == case["rotation"]
        assert value.device.hex() == case["device"]
        verify(value.device, case["label"], unhex(case["signed"]), value.signature)
    case = vectors["repair"]
    assert repair.recipient.hex() == case["recipient"]
    opened = repair.open([key_from(case)], group, TopicId(unhex(case["topic"])))
    assert opened.secret == secret(case["epoch_secret"])
    assert fork.run.wire.hex() == vectors["fork"]["run"]
    require_refused(vectors["bad"], lambda case: read_repair_value(unhex(case["value"]), group))


# --- snapshots


def heads_from(shown: list[Case]) -> dict[DeviceId, tuple[int, ChangeHash]]:
    return {DeviceId(unhex(one["device"])): (one["seq"], ChangeHash(unhex(one["hash"]))) for one in shown}


def page_from(shown: Case) -> PageRef:
    return PageRef(BlobHash(unhex(shown["name"])), secret(shown["key"]))


def require_page(shown: Case) -> bytes:
    """Open a page as the spec says, without the code; its part."""
    part, page = unhex(shown["part"]), unhex(shown["page"])
    assert bz2.decompress(part).hex() == shown["table"]
    assert sha256(page).hex() == shown["name"]
    assert len(page) == shown["padded_bytes"] + 16
    assert open_bulk(secret(shown["key"]), bytes(12), page, unhex(shown["ad"])).rstrip(b"\0")[:-1] == part
    return part


def shown_changes(changes: list[PackedChange]) -> list[Case]:
    return [
        {"device": one.device.hex(), "seq": one.seq, "entry": one.entry, "raw": one.raw.hex(), "hash": one.hash.hex()}
        for one in changes
    ]


def test_snapshots_of_two_documents_in_one_page() -> None:
    case = read("snapshot")
    group = GroupId(unhex(case["group_id"]))
    part = require_page(case)
    ref = SnapshotRef((page_from(case),))
    for shown in case["documents"]:
        document = DocumentId(unhex(shown["document_id"]))
        changes = open_snapshot(ref, document, group, {ref.pages[0].name: unhex(case["page"])})
        assert shown_changes(changes) == shown["changes"]
        check_heads(changes, heads_from(shown["heads"]))
    assert seal_part(part, ref.pages[0].key, group) == (ref.pages[0], unhex(case["page"]))


def test_a_snapshot_in_two_pages() -> None:
    vectors = read("snapshot")
    case, group = vectors["in_two_pages"], GroupId(unhex(vectors["group_id"]))
    for shown in case["pages"]:
        require_page(shown)
    ref = SnapshotRef(tuple(map(page_from, case["pages"])))
    blobs = {page_from(shown).name: unhex(shown["page"]) for shown in case["pages"]}
    changes = open_snapshot(ref, DocumentId(unhex(case["document_id"])), group, blobs)
    assert shown_changes(changes) == case["changes"]
    assert case["changes"] in [shown["changes"] for shown in vectors["documents"]], "the same as in one page"


def test_the_same_changes_pack_to_the_same_table() -> None:
    vectors = read("snapshot")
    documents = [
        (
            DocumentId(unhex(shown["document_id"])),
            [Said(DeviceId(unhex(one["device"])), unhex(one["raw"]), one["entry"]) for one in shown["changes"]],
        )
        for shown in vectors["documents"]
    ]
    (part,) = pack_parts(documents)
    assert bz2.decompress(part.data).hex() == vectors["table"]


def test_the_table_of_a_part_is_read_as_the_page_says() -> None:
    case = read("snapshot")
    sections = parse_table(unhex(case["table"]))
    for shown in case["documents"]:
        section = sections[DocumentId(unhex(shown["document_id"]))]
        changes = shown["changes"]
        count = len(changes)
        assert [device.hex() for device in section.devices] == [changes[0]["device"]]
        assert section.authors == (0,) * count
        assert list(accumulate(section.entries)) == [one["entry"] for one in changes]
        assert section.counts == (0, *(1,) * (count - 1))
        assert section.links == (1,) * (count - 1)
        at = sum(section.sizes)
        heads = [
            section.rest[end - size : end] for end, size in zip(accumulate(section.sizes), section.sizes, strict=True)
        ]
        parts: list[list[bytes]] = [[] for _ in changes]
        for stream in range(5):
            for place, head in enumerate(heads):
                size = sum(head[n + 1] for n in range(4, len(head), 2) if STREAM_OF[head[n]] == stream)
                parts[place].append(section.rest[at : at + size])
                at += size
        assert at == len(section.rest)
        for number, start, head, columns, one in zip(
            range(1, count + 1), accumulate(section.starts), heads, parts, changes, strict=True
        ):
            assert unhex(one["raw"]).endswith(bytes((number, start)) + head + b"".join(columns))


def test_refused_snapshots() -> None:
    vectors = read("snapshot")
    group = GroupId(unhex(vectors["group_id"]))

    def read_table(case: Case) -> object:
        sections = open_part(bz2.compress(unhex(case["table"])))
        return [read_sections(document, [section]) for document, section in sections.items()]

    def unseal(case: Case) -> object:
        return unseal_part(page_from(case), unhex(case["page"]), GroupId(unhex(case["group_id"])))

    def put_together(case: Case) -> object:
        return read_snapshot(DocumentId(unhex(case["document_id"])), [open_part(unhex(one)) for one in case["parts"]])

    by_hash: dict[str, PackedChange] = {}
    ref = SnapshotRef((page_from(vectors),))
    for shown in vectors["documents"]:
        document = DocumentId(unhex(shown["document_id"]))
        for change in open_snapshot(ref, document, group, {ref.pages[0].name: unhex(vectors["page"])}):
            by_hash[change.hash.hex()] = change
    require_refused(vectors["bad_parts"], lambda case: open_part(unhex(case["part"])))
    require_refused(vectors["bad_tables"], read_table)
    require_refused(vectors["bad_pages"], unseal)
    require_refused(vectors["bad_snapshots"], put_together)
    require_refused(
        vectors["bad_heads"],
        lambda case: check_heads([by_hash[one] for one in case["changes"]], heads_from(case["heads"])),
    )


# --- manifests


def entry_from(full: str) -> Entry:
    """An entry from its full form."""
    value: list[Any] = cbor2.loads(unhex(full))
    _, group, device, seq, prev, heads, time_ms, kind, body = value
    maker = EntryMaker(GroupId(group), DeviceId(device), tuple(EntryId(head) for head in heads))
    return maker.statement(EntryKind(kind), seq, EntryId(prev) if prev else None, time_ms, body)


def read_whole(case: Case, entry: Entry, topic: TopicId) -> VerifiedManifest:
    group = GroupId(unhex(case["group_id"]))
    return verify_manifest(open_manifest(read_manifest_body(entry.body), group, topic, {}), entry, topic)


def roster_of(case: Case, verified: VerifiedManifest) -> Roster:
    graph = RosterGraph(GroupId(unhex(case["group_id"])))
    for operation in verified.operations:
        graph.add(operation)
    return graph.evaluate()


def test_a_manifest() -> None:
    case = read("manifest")
    group, topic = GroupId(unhex(case["group_id"])), TopicId(unhex(case["topic"]))
    entry = entry_from(case["entry"]["full"])
    assert entry.id.hex() == case["entry"]["entry_id"]
    assert encode(entry.body).hex() == case["entry"]["body"]
    verified = read_whole(case, entry, topic)
    manifest = verified.manifest
    check_against_roster(verified, roster_of(case, verified))
    assert encode(encode_frontier(manifest.frontier)).hex() == case["frontier"]
    assert frontier_digest(manifest.frontier).hex() == case["frontier_digest"]
    assert [run.wire.hex() for run in manifest.operations] == case["operations"]
    assert [run.wire.hex() for run in manifest.rekeys] == case["rekeys"]
    for state, shown in zip(manifest.documents, case["documents"], strict=True):
        assert state.descriptor.document_id(group).hex() == shown["document_id"]
        assert encode(state.descriptor.to_value()).hex() == shown["descriptor"]
        assert state.heads == heads_from(shown["heads"])
        assert state.snapshot is not None
        assert list(state.snapshot.pages) == [page_from(page) for page in shown["pages"]]
    assert encode_manifest(manifest, group).hex() == case["content"]
    paged = read_manifest_body(decode(unhex(case["paged"]["body"])))
    again = open_manifest(paged, group, topic, pages_from(case["paged"]["pages"]))
    assert verify_manifest(again, entry, topic) == verified


def test_refused_manifests() -> None:
    vectors = read("manifest")
    group, own_topic = GroupId(unhex(vectors["group_id"])), TopicId(unhex(vectors["topic"]))
    require_refused(vectors["bad_frontiers"], lambda case: decode_frontier(decode(unhex(case["frontier"]))))
    require_refused(vectors["bad_bodies"], lambda case: read_manifest_body(decode(unhex(case["body"]))))

    def open_one(case: Case) -> object:
        if "content" in case:
            return decode_manifest(unhex(case["content"]), group)
        body = read_manifest_body(decode(unhex(case["body"])))
        return open_manifest(body, group, TopicId(unhex(case["topic"])), pages_from(case["pages"]))

    def read_one(case: Case) -> VerifiedManifest:
        topic = TopicId(unhex(case["topic"])) if "topic" in case else own_topic
        return read_whole(vectors, entry_from(case["full"]), topic)

    def compare(case: Case) -> None:
        verified = read_one(case)
        check_against_roster(verified, roster_of(vectors, verified))

    require_refused(vectors["bad_openings"], open_one)
    require_refused(vectors["bad"], read_one)
    require_refused(vectors["bad_by_roster"], compare)


# --- retired documents


def test_a_retire_and_the_manifest_that_goes_by_it() -> None:
    case = read("retire")
    group, topic = GroupId(unhex(case["group_id"])), TopicId(unhex(case["topic"]))
    entry = entry_from(case["entry"]["full"])
    assert entry.id.hex() == case["entry"]["entry_id"]
    retire = read_retire(entry)
    assert encode(retire.descriptor.to_value()).hex() == case["descriptor"]
    assert retire.descriptor.document_id(group).hex() == case["document_id"]
    assert encode(retire.next_descriptor.to_value()).hex() == case["next_descriptor"]
    assert retire.next_descriptor.document_id(group).hex() == case["next_document_id"]
    assert descriptor_from_value(decode(unhex(case["next_descriptor"]))) == retire.next_descriptor
    assert retire.heads == heads_from(case["heads"])
    assert verify_run(parse_run(unhex(case["run"]), group)).entries == (entry,)
    verified = read_whole(case, entry_from(case["manifest"]["full"]), topic)
    check_against_roster(verified, roster_of(case, verified))
    assert verified.retires == (retire,)
    assert encode_manifest(verified.manifest, group).hex() == case["manifest"]["content"]
    (left_out,) = [one for one in verified.manifest.documents if one.retired]
    assert left_out.descriptor == retire.descriptor
    assert left_out.heads == heads_from(case["heads"])
    assert left_out.snapshot is None


def test_refused_retires() -> None:
    vectors = read("retire")
    group, topic = GroupId(unhex(vectors["group_id"])), TopicId(unhex(vectors["topic"]))
    require_refused(vectors["bad_descriptors"], lambda case: descriptor_from_value(decode(unhex(case["descriptor"]))))
    require_refused(vectors["bad_bodies"], lambda case: read_retire(entry_from(case["full"])))
    require_refused(vectors["bad_contents"], lambda case: decode_manifest(unhex(case["content"]), group))

    def read_one(case: Case) -> VerifiedManifest:
        return read_whole(vectors, entry_from(case["full"]), topic)

    def compare(case: Case) -> None:
        verified = read_one(case)
        check_against_roster(verified, roster_of(vectors, verified))

    require_refused(vectors["bad"], read_one)
    require_refused(vectors["bad_by_roster"], compare)
