"""A manifest proves itself to whoever has the new epoch's secret and the group's id: what it must hold, and what of it
is refused.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from cocoon_core.errors import DecryptionError, MalformedError, NotPermittedError, NotYetError, SignatureError
from cocoon_core.protocol import manifest as manifest_module
from cocoon_core.protocol.encoding import decode, encode
from cocoon_core.protocol.entry import EntryKind
from cocoon_core.protocol.epoch import wrap_epoch
from cocoon_core.protocol.frontier import run_end_of
from cocoon_core.protocol.ids import BlobHash
from cocoon_core.protocol.manifest import decode_manifest, encode_manifest, read_manifest_body
from cocoon_core.protocol.manifest_check import check_against_roster
from cocoon_core.protocol.snapshot import PageRef, SnapshotRef, check_heads, open_snapshot
from cocoon_core.protocol.statement import parse_statement
from tests.support.epoch_story import BEN, EpochStory, manifest_entry, read_back, told
from tests.support.protocol_story import ANA, GROUP, named_secret


@pytest.fixture
def story() -> EpochStory:
    return told(lambda epoch, keys: wrap_epoch(epoch, keys.hpke_public, GROUP))


def test_a_newcomer_reads_it_whole(story: EpochStory) -> None:
    verified = read_back(*manifest_entry(story))
    assert verified.manifest == story.manifest()
    assert list(verified.operations) == story.operations
    assert verified.rotation == story.operations[-1]
    assert [rekey.device for rekey in verified.rekeys] == [ANA.id]
    for state in verified.manifest.documents:
        document = state.descriptor.document_id(GROUP)
        assert state.snapshot is not None
        changes = open_snapshot(state.snapshot, document, GROUP, story.blobs)
        check_heads(changes, state.heads)
        writer = story.ana if changes[0].device == ANA.id else story.ben
        assert [one.raw for one in changes] == [
            one.raw for entry in writer.entries for one in entry.changes if one.document == document
        ]


def test_it_goes_into_pages_where_it_is_large(story: EpochStory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest_module, "MAX_MANIFEST_INLINE", 100)
    monkeypatch.setattr(manifest_module, "MAX_PAGE_BYTES", 1500)
    entry, pages = manifest_entry(story)
    body = read_manifest_body(entry.body)
    assert not body.inline
    assert set(body.pages) == pages.keys()
    assert len(body.pages) > 2
    assert read_back(entry, pages).manifest == story.manifest()
    with pytest.raises(NotYetError):
        read_back(entry, dict(list(pages.items())[1:]))
    first, second = list(pages)[:2]
    with pytest.raises(DecryptionError):
        read_back(entry, {**pages, first: pages[second]})


def test_only_a_run_of_one_entry_without_changes_is_a_statement(story: EpochStory) -> None:
    assert parse_statement(story.runs[0].wire, GROUP).stored() == story.runs[0]
    with pytest.raises(MalformedError):
        parse_statement(story.runs[1].wire, GROUP)


def test_the_encoding_is_the_same_back_and_forth(story: EpochStory) -> None:
    content = encode_manifest(story.manifest(), GROUP)
    again = decode_manifest(content, GROUP)
    assert again._frontier == story.frontier()
    assert again._documents == story.manifest().documents


def test_a_page_stands_once_for_all_its_documents(story: EpochStory) -> None:
    manifest = story.manifest()
    pages = {state.snapshot.pages for state in manifest.documents if state.snapshot}
    assert len(manifest.documents) == 2
    assert len(pages) == 1
    value = decode(encode_manifest(manifest, GROUP))
    assert [bytes(name) for name, _ in value[6]] == [bytes(page.name) for page in next(iter(pages))]
    assert [where for _, _, where, _ in value[7]] == [[0], [0]]


def test_pages_stand_by_name_and_documents_name_them_in_their_own_order(story: EpochStory) -> None:
    manifest = story.manifest()
    refs = tuple(PageRef(BlobHash(bytes((n,)) * 32), named_secret(str(n))) for n in (9, 3, 5))
    first = replace(manifest.documents[0], snapshot=SnapshotRef(refs))
    second = replace(manifest.documents[1], snapshot=SnapshotRef(refs[1:2]))
    content = encode_manifest(replace(manifest, documents=(first, second)), GROUP)
    value = decode(content)
    assert [name[0] for name, _ in value[6]] == [3, 5, 9]
    assert [where for _, _, where, _ in value[7]] == [[2, 0, 1], [0]]
    assert decode_manifest(content, GROUP).stored_documents() == (first, second)


def test_a_document_of_which_no_change_is_left_has_no_page(story: EpochStory) -> None:
    manifest = story.manifest()
    bare = tuple(replace(state, snapshot=None, ended=tuple(state.heads)) for state in manifest.documents)
    content = encode_manifest(replace(manifest, documents=bare), GROUP)
    assert decode(content)[6] == []
    assert decode_manifest(content, GROUP).stored_documents() == bare


def test_what_was_verified_before_is_not_verified_again(story: EpochStory) -> None:
    first, second, *others = story.manifest().operations
    fields = decode(second.wire)
    fields[9] = bytes(64)
    operations = (first, replace(second, wire=encode(fields)), *others)
    entry, pages = manifest_entry(story, replace(story.manifest(), operations=operations))
    with pytest.raises(SignatureError):
        read_back(entry, pages)
    known = tuple(operation.id for operation in story.operations)
    assert read_back(entry, pages, known=known).operations == tuple(story.operations)


def test_the_rotation_must_count(story: EpochStory) -> None:
    verified = read_back(*manifest_entry(story))
    roster = story.roster()
    check_against_roster(verified, roster)
    with pytest.raises(NotPermittedError):
        check_against_roster(verified, replace(roster, rotations=()))


def test_a_cut_device_is_there_up_to_its_pin(story: EpochStory) -> None:
    roster = story.roster()
    manifest = story.manifest()
    heads_of_ben = [state for state in manifest.documents if BEN.id in state.heads]
    without = replace(
        manifest,
        frontier={ANA.id: manifest.frontier[ANA.id]},
        documents=tuple(state for state in manifest.documents if state not in heads_of_ben),
    )
    with pytest.raises(MalformedError, match="reach the pin"):
        check_against_roster(read_back(*manifest_entry(story, without)), roster)
    runs = tuple(run for run in story.runs if run.device == BEN.id and run.last_seq <= 2)
    check_against_roster(read_back(*manifest_entry(story, replace(without, runs=runs))), roster)
    with pytest.raises(MalformedError, match="reach the pin"):
        check_against_roster(read_back(*manifest_entry(story, replace(without, runs=runs[1:]))), roster)


def test_a_device_that_counts_is_known_up_to_its_operations(story: EpochStory) -> None:
    manifest = story.manifest()
    earlier = [run for run in story.runs if run.device == ANA.id][1]
    older = replace(manifest, frontier={**manifest.frontier, ANA.id: run_end_of(earlier)})
    with pytest.raises(MalformedError, match="not known up to"):
        check_against_roster(read_back(*manifest_entry(story, older)), story.roster())


@pytest.mark.parametrize("kind", [EntryKind.ROSTER, EntryKind.REKEY])
def test_only_a_manifest_entry_is_one(story: EpochStory, kind: EntryKind) -> None:
    entry, pages = manifest_entry(story)
    with pytest.raises(MalformedError):
        read_back(entry._replace(kind=kind), pages)
