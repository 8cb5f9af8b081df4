"""Vectors for specs/manifest.md: frontier, snapshot, manifest. Compressed parts are inputs, see epochs.py."""

from __future__ import annotations

import bz2
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from cocoon_core.protocol.change import join_change
from cocoon_core.protocol.constants import (
    LABEL_MANIFEST_PAGE,
    LABEL_SNAPSHOT_PAGE,
    MAX_MANIFEST_INLINE,
)
from cocoon_core.protocol.descriptor import actor_of
from cocoon_core.protocol.encoding import decode, encode
from cocoon_core.protocol.entry import Entry
from cocoon_core.protocol.envelope import pad
from cocoon_core.protocol.frontier import decode_frontier, encode_frontier, frontier_digest, run_end_of
from cocoon_core.protocol.ids import BlobHash, ChangeHash, DeviceId, DocumentId, GroupId, TopicId
from cocoon_core.protocol.manifest import (
    DocumentState,
    Manifest,
    ManifestBody,
    decode_manifest,
    encode_manifest,
    open_manifest,
    read_manifest_body,
)
from cocoon_core.protocol.manifest_check import check_against_roster, verify_manifest
from cocoon_core.protocol.part import PackedChange, open_part, read_sections
from cocoon_core.protocol.sealed_pages import name_page, seal_page
from cocoon_core.protocol.snapshot import (
    PageRef,
    SnapshotRef,
    check_heads,
    open_snapshot,
    read_snapshot,
    seal_part,
    unseal_part,
)
from tests.support.epoch_story import BEN, NEXT, EpochStory, manifest_entry, pages_of, read_back, with_document
from tests.support.flips import flip
from tests.support.part_tables import HEAD, Section, encode_table, parse_table
from tests.support.protocol_story import ANA, EPOCH, FEED, GROUP, LIST, named_secret, whole_tail
from tests.vectors.chains import full_form
from tests.vectors.epochs import kept, kept_story
from tests.vectors.values import Json, refused

DOCUMENT = FEED.document_id(GROUP)
PAGE_KEY = named_secret("manifest key")


# --- snapshots


def make_snapshot() -> Json:
    """Two feeds in one page, from their changes to the page; one of them in two pages; parts, pages and heads that are
    refused.
    """
    story = kept_story()
    states = story.manifest().documents
    part = bytes.fromhex(kept()["part"])
    table = bz2.decompress(part)
    page, shown = _shown_page(part, "page 0")
    return {
        "group_id": GROUP.hex(),
        "documents": [_shown_document(state, open_all(state, story.blobs)) for state in states],
        **shown,
        "origin": "parts were compressed once; another compression of the same table is as good",
        "in_two_pages": _in_two_pages(states),
        "bad_parts": _bad_parts(table),
        "bad_tables": _bad_tables(table),
        "bad_pages": _bad_pages(page, story.blobs[page.name]),
        "bad_snapshots": _bad_snapshots(),
        "bad_heads": _bad_heads(*_feed(states, story.blobs)),
    }


def open_all(state: DocumentState, blobs: Mapping[BlobHash, bytes]) -> list[PackedChange]:
    assert state.snapshot is not None
    return open_snapshot(state.snapshot, state.descriptor.document_id(GROUP), GROUP, blobs)


def _feed(
    states: Sequence[DocumentState], blobs: Mapping[BlobHash, bytes]
) -> tuple[list[PackedChange], tuple[int, ChangeHash]]:
    """The changes of Ana's feed, and her head."""
    state = next(one for one in states if one.descriptor == FEED)
    return open_all(state, blobs), state.heads[ANA.id]


def _shown_page(part: bytes, key: str) -> tuple[PageRef, Json]:
    ref, blob = seal_part(part, named_secret(key), GROUP)
    return ref, {
        "table": bz2.decompress(part).hex(),
        "part": part.hex(),
        "key": ref.key.reveal().hex(),
        "ad": (LABEL_SNAPSHOT_PAGE.encode() + b"\0" + GROUP).hex(),
        "padded_bytes": len(pad(part)),
        "page": blob.hex(),
        "name": ref.name.hex(),
    }


def _shown_document(state: DocumentState, changes: list[PackedChange]) -> Json:
    return {
        "document_id": state.descriptor.document_id(GROUP).hex(),
        "changes": [
            {
                "device": one.device.hex(),
                "seq": one.seq,
                "entry": one.entry,
                "raw": one.raw.hex(),
                "hash": one.hash.hex(),
            }
            for one in changes
        ],
        "heads": _shown_heads(state.heads),
    }


def _in_two_pages(states: Sequence[DocumentState]) -> Json:
    state = next(one for one in states if one.descriptor == FEED)
    pages = [_shown_page(bytes.fromhex(kept()[f"half {place}"]), f"half {place}") for place in (0, 1)]
    blobs = {ref.name: bytes.fromhex(shown["page"]) for ref, shown in pages}
    halves = replace(state, snapshot=SnapshotRef(tuple(ref for ref, _ in pages)))
    return {
        "about": "a writer would let it stand in one",
        "pages": [shown for _, shown in pages],
        **_shown_document(state, open_all(halves, blobs)),
    }


def _shown_heads(heads: Mapping[DeviceId, tuple[int, ChangeHash]]) -> list[Json]:
    return [{"device": one.hex(), "seq": seq, "hash": change.hex()} for one, (seq, change) in sorted(heads.items())]


def read_part(part: bytes) -> list[list[PackedChange]]:
    """A part to the last change of each document."""
    return [read_sections(document, [section]) for document, section in open_part(part).items()]


def _bad_parts(table: bytes) -> list[Json]:
    """Faults in the compression."""
    packed = bytes.fromhex(kept()["part"])
    return [
        refused(name, why, {"part": part.hex()}, open_part, part)
        for name, why, part in (
            ("nothing", "bzip2", b""),
            ("cut off", "the stream ends", packed[:-5]),
            ("bytes behind the stream", "one stream", packed + b"\0"),
            ("two streams", "one stream", packed + packed),
            ("not compressed", "bzip2", table),
            ("another method", "bzip2", zlib.compress(table)),
            ("400,001 bytes", "at most 400,000 bytes", bytes.fromhex(kept()["too many zeros"])),
        )
    ]


def _bad_tables(table: bytes) -> list[Json]:
    """One fault each, in the feed's section, which stands alone here; or in what is around it."""
    good = parse_table(table)[DOCUMENT]
    tables = [
        ("nothing inside", "it has a version", b""),
        ("no section", "one at least", b"\1"),
        ("version 0", "the version", b"\0" + table[1:]),
        ("version 2", "a later version", b"\2" + table[1:]),
        ("a byte more", "sections fill the part", table + b"\0"),
        ("a byte less", "sections fill the part", table[:-1]),
        ("a document twice", "each once", encode_table(good, good)),
        ("a section of nine bytes", "it has a head", b"\1" + DOCUMENT + b"\0\0\0\x09" + bytes(9)),
        ("no change", "one at least", encode_table(Section(DOCUMENT, (), (), (), (), (), (), (), b""))),
        ("tables cut off", "they are whole", b"\1" + DOCUMENT + b"\0\0\0\x0a" + struct.pack(">HII", 1, 3, 0)),
        ("a device twice", "each once", encode_table(replace(good, devices=good.devices * 2, authors=(0, 1, 0)))),
        ("a device without a change", "each has one", encode_table(replace(good, devices=(*good.devices, BEN.id)))),
        ("an author that is not there", "places in the list", encode_table(replace(good, authors=(0, 0, 1)))),
        ("a dependency without a link", "as many links as dependencies", encode_table(replace(good, counts=(1, 1, 1)))),
        ("a dependency before the beginning", "a link goes back", encode_table(replace(good, links=(2, 1)))),
        ("no hash for a link of 0", "hashes are whole", encode_table(replace(good, links=(0, 1), rest=b""))),
        ("a seq of an entry over 2^53 - 1", "as large as a seq", encode_table(replace(good, entries=(2**53, 1, 1)))),
        ("a head that is longer", "a head has its length", encode_table(replace(good, sizes=(99, *good.sizes[1:])))),
        ("a time in a head", "none", encode_table(replace(good, rest=flip(good.rest, 0)))),
        ("a message in a head", "none", encode_table(replace(good, rest=flip(good.rest, 1)))),
        ("a column of no kind", "kinds of columns", encode_table(replace(good, rest=flip(good.rest, 4, 2)))),
        ("columns out of order", "they rise", encode_table(_swapped(good))),
        ("a byte more of columns", "they fill the section", encode_table(replace(good, rest=good.rest + b"\0"))),
        ("a byte less of columns", "they fill the section", encode_table(replace(good, rest=good.rest[:-1]))),
        ("a change after one that depends on it", "pasts first", encode_table(_reversed())),
    ]
    return [refused(name, why, {"table": bad.hex()}, read_part, bz2.compress(bad)) for name, why, bad in tables]


def _swapped(good: Section) -> Section:
    """The first two columns in the first head the other way round."""
    head = good.rest[: good.sizes[0]]
    return replace(good, rest=head[:4] + head[6:8] + head[4:6] + head[8:] + good.rest[len(head) :])


def _reversed() -> Section:
    first = join_change([], actor_of(BEN.id, DOCUMENT), whole_tail(1))
    return Section(
        DOCUMENT,
        (ANA.id, BEN.id),
        (0, 1),
        (1, 1),
        (1, 0),
        (1, 0),
        (len(HEAD),) * 2,
        (0,),
        first.hash + HEAD * 2 + b"xx",
    )


def _bad_pages(page: PageRef, blob: bytes) -> list[Json]:
    second = seal_page(b"", page.key, 1, LABEL_SNAPSHOT_PAGE, GROUP)
    other = GroupId(bytes(32))
    cases: list[tuple[str, str, PageRef, bytes, GroupId]] = [
        ("a flipped bit", "a blob is named by its hash", page, flip(blob, -1), GROUP),
        ("another group", "bound to the group", page, blob, other),
        ("another key", "sealed under its key", PageRef(page.name, named_secret("another")), blob, GROUP),
        ("the page of another place", "its place is 0", PageRef(name_page(second), page.key), second, GROUP),
    ]
    return [
        refused(
            name,
            why,
            {"group_id": group.hex(), "key": at.key.reveal().hex(), "name": at.name.hex(), "page": given.hex()},
            unseal_part,
            at,
            given,
            group,
        )
        for name, why, at, given, group in cases
    ]


def _bad_snapshots() -> list[Json]:
    """Parts that are each as they should be, and no snapshot of this document together."""
    halves = [bytes.fromhex(kept()[f"half {place}"]) for place in (0, 1)]
    cases: list[tuple[str, str, list[bytes], DocumentId]] = [
        ("a part that holds nothing of it", "each holds something", halves[:1], LIST.document_id(GROUP)),
        ("the second part alone", "a link goes back to a change", halves[1:], DOCUMENT),
        ("the parts in the other order", "a link goes back to a change", halves[::-1], DOCUMENT),
    ]
    return [
        refused(
            name,
            why,
            {"document_id": document.hex(), "parts": [part.hex() for part in parts]},
            read_snapshot,
            document,
            [open_part(part) for part in parts],
        )
        for name, why, parts, document in cases
    ]


def _bad_heads(changes: list[PackedChange], head: tuple[int, ChangeHash]) -> list[Json]:
    seq, change = head
    cases: list[tuple[str, str, list[PackedChange], Mapping[DeviceId, tuple[int, ChangeHash]]]] = [
        ("the last change is left out", "the signed head", changes[:-1], {ANA.id: head}),
        ("the first change is left out", "one by one from 1", changes[1:], {ANA.id: head}),
        ("one in the middle is left out", "one by one from 1", [changes[0], *changes[2:]], {ANA.id: head}),
        ("another hash was signed", "the signed head", changes, {ANA.id: (seq, ChangeHash(bytes(32)))}),
        ("an older head was signed", "none beyond", changes, {ANA.id: (seq - 1, ChangeHash(changes[-2].hash))}),
        ("its device signed none", "none beyond", changes, {}),
        ("another device signed one", "all that was signed", changes, {ANA.id: head, BEN.id: (1, change)}),
    ]
    return [
        refused(
            name,
            why,
            {"changes": [one.hash.hex() for one in these], "heads": _shown_heads(heads)},
            check_heads,
            these,
            heads,
        )
        for name, why, these, heads in cases
    ]


# --- manifests


def make_manifest() -> Json:
    """The manifest of the second epoch, from its parts to its entry; what is refused, and by which step."""
    story = kept_story()
    manifest = story.manifest()
    entry, _ = manifest_entry(story)
    content = encode_manifest(manifest, GROUP)
    paged, blobs = _paged(content)
    return {
        "group_id": GROUP.hex(),
        "topic": NEXT.topic.hex(),
        "frontier": encode(encode_frontier(manifest.frontier)).hex(),
        "frontier_digest": frontier_digest(manifest.frontier).hex(),
        "operations": [run.wire.hex() for run in manifest.operations],
        "rekeys": [run.wire.hex() for run in manifest.rekeys],
        "documents": [
            {
                "descriptor": encode(state.descriptor.to_value()).hex(),
                "document_id": state.descriptor.document_id(GROUP).hex(),
                "heads": _shown_heads(state.heads),
                "pages": [{"name": page.name.hex(), "key": page.key.reveal().hex()} for page in state.snapshot.pages]
                if state.snapshot
                else [],
            }
            for state in manifest.documents
        ],
        "content": content.hex(),
        "entry": {"full": full_form(entry).hex(), "entry_id": entry.id.hex(), "body": encode(entry.body).hex()},
        "paged": {
            "about": "the same content in two pages; a writer would let it stand in the entry",
            "body": encode(paged.to_value()).hex(),
            "ad": (LABEL_MANIFEST_PAGE.encode() + b"\0" + NEXT.topic).hex(),
            "pages": {name.hex(): blob.hex() for name, blob in blobs.items()},
        },
        "bad_frontiers": _bad_frontiers(manifest),
        "bad_bodies": _bad_bodies(content, paged),
        "bad_openings": _bad_openings(content, paged, blobs),
        "bad": _bad_manifests(story, manifest),
        "bad_by_roster": _bad_by_roster(story, manifest),
    }


def _paged(content: bytes) -> tuple[ManifestBody, dict[BlobHash, bytes]]:
    half = len(content) // 2
    blobs = [
        seal_page(part, PAGE_KEY, place, LABEL_MANIFEST_PAGE, NEXT.topic)
        for place, part in enumerate((content[:half], content[half:]))
    ]
    return ManifestBody(b"", PAGE_KEY, tuple(map(name_page, blobs))), pages_of(blobs)


def _bad_frontiers(manifest: Manifest) -> list[Json]:
    first, second = encode_frontier(manifest.frontier)
    cases: list[tuple[str, str, Any]] = [
        ("a map", "an array of run ends", {}),
        ("a device twice", "each once", [first, first]),
        ("out of order", "they rise by device", [second, first]),
        ("a run end of four fields", "five fields", [first[:4]]),
        ("a negative seq", "a seq is not negative", [[first[0], -1, *first[2:]]]),
        ("a seq that is true", "true is not a number", [[first[0], True, *first[2:]]]),
        ("a digest of 31 bytes", "32 bytes", [[*first[:3], bytes(31), first[4]]]),
    ]
    return [refused(name, why, {"frontier": encode(value).hex()}, decode_frontier, value) for name, why, value in cases]


def _bad_bodies(content: bytes, paged: ManifestBody) -> list[Json]:
    key, pages = PAGE_KEY.reveal(), list(paged.pages)
    cases: list[tuple[str, str, Any]] = [
        ("version 2", "a later version", [2, content, b"", []]),
        ("version true", "true is not a number", [True, content, b"", []]),
        ("nothing", "a content or pages", [1, b"", b"", []]),
        ("both", "a content or pages", [1, content, key, pages]),
        ("pages without a key", "pages have a key", [1, b"", b"", pages]),
        ("a key without pages", "a key has pages", [1, b"", key, []]),
        ("65 pages", "at most 64", [1, b"", key, [bytes([n]) * 32 for n in range(65)]]),
        ("a content over 64 KiB", "larger ones go into pages", [1, bytes(MAX_MANIFEST_INLINE + 1), b"", []]),
        ("three fields", "four fields", [1, content, b""]),
    ]
    return [refused(name, why, {"body": encode(body).hex()}, read_manifest_body, body) for name, why, body in cases]


def _bad_openings(content: bytes, paged: ManifestBody, blobs: Mapping[BlobHash, bytes]) -> list[Json]:
    first, second = paged.pages
    value = decode(content)
    inline: list[tuple[str, str, Any]] = [
        ("content of version 2", "a later version", [2, *value[1:]]),
        ("content of seven fields", "eight fields", value[:7]),
        ("a final operation that is not there", "a place among the operations", [*value[:3], [99], *value[4:]]),
        ("a final operation twice", "they rise", [*value[:3], [0, 0], *value[4:]]),
        ("a rekey of changes", "a run of one entry without changes", [*value[:4], [_changes_run()], *value[5:]]),
        ("a page of three fields", "two fields", [*value[:6], [[*value[6][0], 0]], value[7]]),
        ("a page twice", "each once", [*value[:6], value[6] * 2, value[7]]),
        ("pages out of order", "they rise by name", [*value[:6], [[b"\xff" * 32, bytes(32)], *value[6]], value[7]]),
        ("a page with no document", "each holds one", [*value[:6], [[bytes(32), bytes(32)], *value[6]], value[7]]),
        ("documents out of order", "they rise by id", [*value[:7], value[7][::-1]]),
        ("a document twice", "each once", [*value[:7], [value[7][0], value[7][0]]]),
        ("a head of a device beyond the frontier", "a place in the frontier", _with_head(value, 2)),
        ("a page that is not there", "a place among the pages", _with_pages(value, [1])),
        ("a page named twice by a document", "each once", _with_pages(value, [0, 0])),
        ("an ended device without a head", "it has one", _with_ended(value, 0)),
    ]
    shown = [
        refused(name, why, {"content": encode(bad).hex()}, decode_manifest, encode(bad), GROUP)
        for name, why, bad in inline
    ]
    pages: list[tuple[str, str, ManifestBody, Mapping[BlobHash, bytes], TopicId]] = [
        ("a page is not there", "all pages are needed", paged, {first: blobs[first]}, NEXT.topic),
        ("pages out of order", "a page has its place", replace(paged, pages=(second, first)), blobs, NEXT.topic),
        ("another topic", "bound to the topic", paged, blobs, EPOCH.topic),
    ]
    for name, why, body, given, topic in pages:
        shown.append(
            refused(
                name,
                why,
                {
                    "body": encode(body.to_value()).hex(),
                    "topic": topic.hex(),
                    "pages": {page.hex(): blob.hex() for page, blob in given.items()},
                },
                open_manifest,
                body,
                GROUP,
                topic,
                given,
            )
        )
    return shown


def _changes_run() -> bytes:
    return kept_story().runs[1].wire


def _with_head(value: list[Any], place: int) -> list[Any]:
    descriptor, heads, *others = value[7][0]
    return [*value[:7], [[descriptor, [[place, *heads[0][1:]]], *others], *value[7][1:]]]


def _with_pages(value: list[Any], places: list[int]) -> list[Any]:
    descriptor, heads, _, ended = value[7][0]
    return [*value[:7], [[descriptor, heads, places, ended], *value[7][1:]]]


def _with_ended(value: list[Any], document: int) -> list[Any]:
    """The device that has no head in this document, as one whose part of it ended."""
    descriptor, heads, pages, _ = value[7][document]
    (other,) = {0, 1} - {heads[0][0]}
    documents = list(value[7])
    documents[document] = [descriptor, heads, pages, [other]]
    return [*value[:7], documents]


def _bad_manifests(story: EpochStory, manifest: Manifest) -> list[Json]:
    """Of good form, and refused before any roster is asked."""
    ends = manifest.frontier
    forged_end = {**ends, ANA.id: replace(ends[ANA.id], entry=ends[BEN.id].entry)}
    first, second, *others = manifest.operations
    unsigned = decode(second.wire)
    unsigned[9] = bytes(64)
    forged = (first, replace(second, wire=encode(unsigned)), *others)
    feed = next(place for place, one in enumerate(manifest.documents) if one.descriptor == FEED)
    seq, _ = manifest.documents[feed].heads[ANA.id]
    unknown = {ANA.id: (seq, ChangeHash(bytes(32)))}
    older = run_end_of(story.runs[0])
    cases: list[tuple[str, str, Manifest]] = [
        ("a run end that its device did not sign", "each end proves itself", replace(manifest, frontier=forged_end)),
        ("an operation that its device did not sign", "each proves itself", replace(manifest, operations=forged)),
        ("an operation left out", "pasts are whole", replace(manifest, operations=(first, *others))),
        ("an operation twice", "each once", replace(manifest, operations=(first, second, second, *others))),
        ("without its create", "it begins with the group's create", replace(manifest, operations=(second, *others))),
        ("without its rotation", "it follows the rotation", replace(manifest, operations=manifest.operations[:-1])),
        ("a head that was not signed", "the digest", with_document(manifest, feed, heads=unknown)),
        ("a head left out", "the digest", with_document(manifest, feed, heads={})),
        ("an older run end with the newer heads", "the digest", replace(manifest, frontier={**ends, ANA.id: older})),
        ("a document left out", "the digest", replace(manifest, documents=manifest.documents[:1])),
    ]  # fmt: skip
    shown = []
    for name, why, bad in cases:
        entry, pages = manifest_entry(story, bad)
        shown.append(refused(name, why, _shown_bad(entry), read_back, entry, pages))
    entry, pages = manifest_entry(story)
    other = open_manifest(read_manifest_body(entry.body), GROUP, NEXT.topic, pages)
    for name, why, carrier, topic in (
        ("in another topic", "the rotation began this topic", entry, EPOCH.topic),
        ("not after its rotation", "prev is the rotation", entry._replace(prev=story.runs[0].last_id), NEXT.topic),
        ("by another device", "the rotation's author", entry._replace(device=BEN.id), NEXT.topic),
    ):
        given = {**_shown_bad(carrier), "topic": topic.hex()}
        shown.append(refused(name, why, given, verify_manifest, other, carrier, topic))
    return shown


def _shown_bad(entry: Entry) -> Json:
    return {"full": full_form(entry).hex()}


def _bad_by_roster(story: EpochStory, manifest: Manifest) -> list[Json]:
    """What only the roster of its own operations shows."""
    ends = manifest.frontier
    without_ben = replace(
        manifest,
        frontier={ANA.id: ends[ANA.id]},
        documents=tuple(state for state in manifest.documents if BEN.id not in state.heads),
    )
    runs = [run for run in story.runs if run.device == BEN.id]
    older = {**ends, ANA.id: run_end_of([run for run in story.runs if run.device == ANA.id][-2])}
    cases: list[tuple[str, str, Manifest]] = [
        ("a removed device is left out below its pin", "up to its pin", without_ben),
        ("a gap below its pin", "runs are linked", replace(without_ben, runs=(runs[1],))),
        ("a device that counts ends before its operation", "up to its operations", replace(manifest, frontier=older)),
    ]  # fmt: skip
    shown = []
    for name, why, bad in cases:
        entry, pages = manifest_entry(story, bad)
        verified = read_back(entry, pages)
        shown.append(refused(name, why, _shown_bad(entry), check_against_roster, verified, story.roster()))
    return shown
