"""Vectors for specs/retire.md: the entry, the next generation, and a manifest that leaves a retired document out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cocoon_core.protocol.constants import MAX_GENERATION, MAX_RETIRE_HEADS
from cocoon_core.protocol.descriptor import descriptor_from_value
from cocoon_core.protocol.device import DeviceKeys
from cocoon_core.protocol.encoding import decode, encode
from cocoon_core.protocol.entry import Entry, EntryKind
from cocoon_core.protocol.manifest import DocumentState, Manifest, decode_manifest, encode_manifest
from cocoon_core.protocol.manifest_check import check_against_roster
from cocoon_core.protocol.retire import read_retire, retire_body
from cocoon_core.protocol.run import Run, sign_run
from tests.support.epoch_story import BEN, BEN_FEED, NEXT, EpochStory, manifest_entry, read_back
from tests.support.protocol_story import ANA, FEED, GROUP, LIST, unsigned
from tests.vectors.chains import full_form
from tests.vectors.epochs import kept_story
from tests.vectors.values import Json, refused


def retire_run(story: EpochStory, keys: DeviceKeys, body: list[Any]) -> Run:
    """The retire with this body that a device writes after all that the story tells of it."""
    writer = story.ana if keys is ANA else story.ben
    entry = writer._maker().statement(EntryKind.RETIRE, *writer._at(), body)
    return sign_run([entry], writer.descriptors.__getitem__, keys.signing, writer.heads.digest())


def without_feed(manifest: Manifest, retired: bytes) -> Manifest:
    """The manifest without the changes of Ana's feed, for this reason."""
    documents = tuple(
        replace(one, snapshot=None, retired=retired) if one.descriptor == FEED else one for one in manifest.documents
    )
    return replace(manifest, documents=documents)


def make_retire() -> Json:
    """Ana retires her feed, after the story of the other manifests; what is refused, and by which step."""
    story = kept_story()
    honest = story.manifest()
    state = next(one for one in honest.documents if one.descriptor == FEED)
    run = retire_run(story, ANA, retire_body(FEED, state.heads))
    following = read_retire(run.entries[-1]).next_descriptor
    manifest = without_feed(honest, run.wire)
    entry, _ = manifest_entry(story, manifest)
    return {
        "group_id": GROUP.hex(),
        "topic": NEXT.topic.hex(),
        "descriptor": encode(FEED.to_value()).hex(),
        "document_id": FEED.document_id(GROUP).hex(),
        "next_descriptor": encode(following.to_value()).hex(),
        "next_document_id": following.document_id(GROUP).hex(),
        "heads": [{"device": ANA.id.hex(), "seq": seq, "hash": one.hex()} for seq, one in state.heads.values()],
        "entry": _shown(run.entries[-1]),
        "run": run.wire.hex(),
        "manifest": {
            "about": "that of manifest.json, but that this document was retired",
            "content": encode_manifest(manifest, GROUP).hex(),
            "full": full_form(entry).hex(),
        },
        "bad_descriptors": _bad_descriptors(),
        "bad_bodies": _bad_bodies(story, state),
        "bad_contents": _bad_contents(manifest),
        "bad": _bad_manifests(story, honest),
        "bad_by_roster": _bad_by_roster(story, honest),
    }


def _shown(entry: Entry) -> Json:
    return {"full": full_form(entry).hex(), "entry_id": entry.id.hex(), "body": encode(entry.body).hex()}


def _bad_descriptors() -> list[Json]:
    owner, name = FEED.to_value()[1:3]
    cases: list[tuple[str, str, Any]] = [
        ("generation 0, said", "it is left out", [0, owner, name, 0]),
        ("a negative generation", "at least 1", [0, owner, name, -1]),
        ("generation 65,536", "at most 65,535", [0, owner, name, MAX_GENERATION + 1]),
        ("generation true", "true is not a number", [0, owner, name, True]),
        ("a generation of a shared document", "owned documents alone have them", [*LIST.to_value(), 1]),
    ]
    return [
        refused(why_name, why, {"descriptor": encode(value).hex()}, descriptor_from_value, value)
        for why_name, why, value in cases
    ]


def _bad_bodies(story: EpochStory, state: DocumentState) -> list[Json]:
    owned = FEED.to_value()
    head = [ANA.id, *state.heads[ANA.id]]
    last = [*owned, MAX_GENERATION]
    too_many = [[n.to_bytes(32), 1, bytes(32)] for n in range(MAX_RETIRE_HEADS + 1)]
    cases: list[tuple[str, str, list[Any]]] = [
        ("no heads field", "two fields", [owned]),
        ("three fields", "two fields", [owned, [head], 1]),
        ("a shared document", "only owned documents", [LIST.to_value(), [head]]),
        ("the last generation", "there must be a next one", [last, [head]]),
        ("a head of change 0", "changes are numbered from 1", [owned, [[ANA.id, 0, head[2]]]]),
        ("a head of two fields", "three fields", [owned, [head[:2]]]),
        ("a device twice", "they rise by device", [owned, [head, head]]),
        ("257 heads", "at most 256", [owned, too_many]),
    ]  # fmt: skip
    shown = []
    for name, why, body in cases:
        entry = retire_run(story, ANA, body).entries[-1]
        shown.append(refused(name, why, {"full": full_form(entry).hex()}, read_retire, entry))
    return shown


def _bad_contents(manifest: Manifest) -> list[Json]:
    value = decode(encode_manifest(manifest, GROUP))
    place = next(place for place, one in enumerate(value[7]) if isinstance(one[2], bytes))
    descriptor, heads, wire, _ = value[7][place]
    cases: list[tuple[str, str, list[Any]]] = [
        ("an empty retire", "a run or an array", [descriptor, heads, b"", []]),
        ("no snapshot and no retire", "who left it out says why", [descriptor, heads, [], []]),
        ("an end beside a retire", "there are no changes", [descriptor, heads, wire, [heads[0][0]]]),
    ]
    shown = []
    for name, why, document in cases:
        content = encode([*value[:7], [*value[7][:place], document, *value[7][place + 1 :]]])
        shown.append(refused(name, why, {"content": content.hex()}, decode_manifest, content, GROUP))
    return shown


def _bad_manifests(story: EpochStory, honest: Manifest) -> list[Json]:
    """Refused before any roster is asked."""
    right = retire_run(story, ANA, retire_body(FEED, {}))
    other = retire_run(story, ANA, retire_body(BEN_FEED, {}))
    rekey = next(run for run in story.runs if run.entries[-1].kind is EntryKind.REKEY)
    cases = [
        ("a retire that nobody signed", "it proves itself", unsigned(right).wire),
        ("the retire of another document", "it names this one", other.wire),
        ("another statement", "an entry of kind 5", rekey.wire),
        ("a run of changes", "a statement", story.runs[1].wire),
        ("something else", "a run", b"\x80"),
    ]
    shown = []
    for name, why, wire in cases:
        entry, pages = manifest_entry(story, without_feed(honest, wire))
        shown.append(refused(name, why, {"full": full_form(entry).hex()}, read_back, entry, pages))
    return shown


def _bad_by_roster(story: EpochStory, honest: Manifest) -> list[Json]:
    """What only the roster of its own operations shows."""
    bens = tuple(
        replace(one, snapshot=None, retired=retire_run(story, BEN, retire_body(BEN_FEED, one.heads)).wire)
        if one.descriptor == BEN_FEED
        else one
        for one in honest.documents
    )
    cases = [
        (
            "another member's retire",
            "the owner's",
            without_feed(honest, retire_run(story, BEN, retire_body(FEED, {})).wire),
        ),
        ("a retire beyond its device's pin", "of a device that had the right", replace(honest, documents=bens)),
    ]
    shown = []
    for name, why, bad in cases:
        entry, pages = manifest_entry(story, bad)
        verified = read_back(entry, pages)
        shown.append(
            refused(name, why, {"full": full_form(entry).hex()}, check_against_roster, verified, story.roster())
        )
    return shown
