"""Vectors for specs/manifest.md: frontier, snapshot, manifest. Compressed parts are inputs, see epochs.py."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cocoon_core.protocol.constants import (
    LABEL_MANIFEST_PAGE,
    LABEL_SNAPSHOT_PAGE,
    MAX_MANIFEST_INLINE,
)
from cocoon_core.protocol.encoding import decode, encode
from cocoon_core.protocol.entry import Entry
from cocoon_core.protocol.envelope import pad
from cocoon_core.protocol.frontier import decode_frontier, encode_frontier, frontier_digest, run_end_of
from cocoon_core.protocol.ids import BlobHash, ChangeHash, DeviceId, TopicId
from cocoon_core.protocol.manifest import (
    Manifest,
    ManifestBody,
    decode_manifest,
    encode_manifest,
    open_manifest,
    read_manifest_body,
)
from cocoon_core.protocol.manifest_check import check_against_roster, verify_manifest
from cocoon_core.protocol.sealed_pages import name_page, seal_page
from cocoon_core.protocol.snapshot import PackedChange, SnapshotRef, check_heads, open_snapshot, unpack_snapshot
from tests.support.epoch_story import BEN, NEXT, EpochStory, manifest_entry, pages_of, read_back, with_document
from tests.support.protocol_story import ANA, EPOCH, FEED, GROUP, LIST, named_secret
from tests.vectors.chains import full_form
from tests.vectors.epochs import kept, kept_story
from tests.vectors.values import Json, flip, refused

DOCUMENT = FEED.document_id(GROUP)
PAGE_KEY = named_secret("manifest key")


# --- snapshots


def make_snapshot() -> Json:
    """Ana's feed as a snapshot, from its changes to its page; parts and heads that are refused."""
    story = kept_story()
    state = next(one for one in story.manifest().documents if one.descriptor == FEED)
    assert state.snapshot is not None
    part = bytes.fromhex(kept()[f"part {DOCUMENT.hex()}"])
    (name,) = state.snapshot.pages
    changes = open_snapshot(state.snapshot, DOCUMENT, story.blobs)
    return {
        "document_id": DOCUMENT.hex(),
        "changes": [{"device": one.device.hex(), "raw": one.raw.hex(), "hash": one.hash.hex()} for one in changes],
        "heads": _shown_heads({ANA.id: state.heads[ANA.id]}),
        "table": zlib.decompress(part).hex(),
        "part": part.hex(),
        "origin": "the part was compressed once; another compression of the same table is as good",
        "key": state.snapshot.key.reveal().hex(),
        "ad": (LABEL_SNAPSHOT_PAGE.encode() + b"\0" + DOCUMENT).hex(),
        "padded_bytes": len(pad(part)),
        "page": story.blobs[name].hex(),
        "name": name.hex(),
        "bad_parts": _bad_parts(zlib.decompress(part)),
        "bad_pages": _bad_pages(state.snapshot, story.blobs[name]),
        "bad_heads": _bad_heads(changes, state.heads[ANA.id]),
    }


def _shown_heads(heads: Mapping[DeviceId, tuple[int, ChangeHash]]) -> list[Json]:
    return [{"device": one.hex(), "seq": seq, "hash": change.hex()} for one, (seq, change) in sorted(heads.items())]


def _bad_parts(table: bytes) -> list[Json]:
    """One fault each, in an uncompressed table unless the fault is in the compression."""
    _, devices, changes, links = struct.unpack_from(">BHII", table)
    authors = 11 + 32 * devices
    sizes, counts = authors + 2 * changes, authors + 6 * changes
    first_link = authors + 8 * changes
    twice = struct.pack(">BHII", 1, 2, changes, links) + table[11:43] * 2 + table[43:]
    too_far = table[:first_link] + struct.pack(">I", changes) + table[first_link + 4 :]
    tables = [
        ("version 0", "the version", b"\0" + table[1:]),
        ("version 2", "a later version", b"\2" + table[1:]),
        ("a byte more", "tails fill the part", table + b"\0"),
        ("a byte less", "tails fill the part", table[:-1]),
        ("ten bytes", "a part has a head", table[:10]),
        ("a device twice", "each once", twice),
        ("an author that is not there", "authors are places in the list", flip(table, authors + 1, 2)),
        ("a tail of no bytes", "a tail is not empty", table[:sizes] + bytes(4) + table[sizes + 4 :]),
        ("a dependency without a link", "as many links as dependencies", flip(table, counts + 1)),
        ("a dependency before the beginning", "a link goes back to a change of the snapshot", too_far),
    ]
    shown = []
    for name, why, bad in tables:
        given = {"document_id": DOCUMENT.hex(), "table": bad.hex()}
        shown.append(refused(name, why, given, unpack_snapshot, DOCUMENT, [zlib.compress(bad)]))
    packed = bytes.fromhex(kept()[f"part {DOCUMENT.hex()}"])
    for name, why, part in (
        ("cut off", "the stream ends", packed[:-5]),
        ("bytes behind the stream", "one stream", packed + b"\0"),
        ("not compressed", "zlib", table),
        ("a million and one zeros", "at most 1,000,000 bytes", bytes.fromhex(kept()["too many zeros"])),
    ):
        given = {"document_id": DOCUMENT.hex(), "part": part.hex()}
        shown.append(refused(name, why, given, unpack_snapshot, DOCUMENT, [part]))
    return shown


def _bad_pages(ref: SnapshotRef, page: bytes) -> list[Json]:
    other = LIST.document_id(GROUP)
    another_key = SnapshotRef(named_secret("another"), ref.pages)
    second = seal_page(b"", ref.key, 1, LABEL_SNAPSHOT_PAGE, DOCUMENT)
    moved = SnapshotRef(ref.key, (name_page(second),))
    cases: list[tuple[str, str, SnapshotRef, bytes, bytes]] = [
        ("a flipped bit", "a blob is named by its hash", ref, flip(page, -1), DOCUMENT),
        ("another document", "bound to the document", ref, page, other),
        ("another key", "sealed under its key", another_key, page, DOCUMENT),
        ("the page of another place", "the place is its nonce", moved, second, DOCUMENT),
    ]
    return [
        refused(
            name,
            why,
            {
                "document_id": document.hex(),
                "key": at.key.reveal().hex(),
                "name": at.pages[0].hex(),
                "page": blob.hex(),
            },
            open_snapshot,
            at,
            document,
            {at.pages[0]: blob},
        )
        for name, why, at, blob, document in cases
    ]


def _bad_heads(changes: list[PackedChange], head: tuple[int, ChangeHash]) -> list[Json]:
    seq, change = head
    cases: list[tuple[str, str, list[PackedChange], Mapping[DeviceId, tuple[int, ChangeHash]]]] = [
        ("the last change is left out", "the signed head", changes[:-1], {ANA.id: head}),
        ("the first change is left out", "one by one from 1", changes[1:], {ANA.id: head}),
        ("one in the middle is left out", "one by one from 1", [changes[0], *changes[2:]], {ANA.id: head}),
        ("another hash was signed", "the signed head", changes, {ANA.id: (seq, ChangeHash(bytes(32)))}),
        ("an older head was signed", "none beyond", changes, {ANA.id: (seq - 1, changes[-2].hash)}),
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
                "key": state.snapshot.key.reveal().hex() if state.snapshot else "",
                "pages": [page.hex() for page in state.snapshot.pages] if state.snapshot else [],
                "seqs": list(state.seqs),
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
        ("content of six fields", "seven fields", value[:6]),
        ("a final operation that is not there", "a place among the operations", [*value[:3], [99], *value[4:]]),
        ("a final operation twice", "they rise", [*value[:3], [0, 0], *value[4:]]),
        ("a rekey of changes", "a run of one entry without changes", [*value[:4], [_changes_run()], *value[5:]]),
        ("documents out of order", "they rise by id", [*value[:6], value[6][::-1]]),
        ("a document twice", "each once", [*value[:6], [value[6][0], value[6][0]]]),
        ("a head of a device beyond the frontier", "a place in the frontier", _with_head(value, 2)),
        ("a snapshot without seqs", "one for each change", _with_seqs(value, [])),
        ("a negative seq of an entry", "a seq is not negative", _with_seqs(value, [-1])),
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
    descriptor, heads, *others = value[6][0]
    return [*value[:6], [[descriptor, [[place, *heads[0][1:]]], *others], *value[6][1:]]]


def _with_seqs(value: list[Any], seqs: list[int]) -> list[Any]:
    return [*value[:6], [[*value[6][0][:3], seqs, value[6][0][4]], *value[6][1:]]]


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
