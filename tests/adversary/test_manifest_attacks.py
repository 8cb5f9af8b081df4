"""Attacks on rotations, manifests and snapshots, below the relay: wraps that differ or are missing, history that was
forged, altered or left out.

Each is the attack, then the same attack on a build that was weakened where the defence is.
"""

from __future__ import annotations

import bz2
from collections.abc import Callable
from dataclasses import replace

import pytest

from cocoon_core.errors import (
    CocoonError,
    DecryptionError,
    MalformedError,
    NotPermittedError,
    SignatureError,
    UsageError,
)
from cocoon_core.protocol import epoch as epoch_module
from cocoon_core.protocol import manifest_check as check_module
from cocoon_core.protocol import rotation as rotation_module
from cocoon_core.protocol import sealed_pages as pages_module
from cocoon_core.protocol.change import join_change, split_change
from cocoon_core.protocol.descriptor import Descriptor, actor_of
from cocoon_core.protocol.encoding import decode, encode
from cocoon_core.protocol.entry import EntryKind
from cocoon_core.protocol.epoch import Epoch, unwrap_epoch, wrap_epoch
from cocoon_core.protocol.frontier import frontier_digest, join_frontiers, run_end_of
from cocoon_core.protocol.ids import BlobHash, DeviceId, DocumentId, RecipientId
from cocoon_core.protocol.invite import InviteKeys
from cocoon_core.protocol.manifest import Heads, Manifest, ManifestBody, open_manifest, read_manifest_body
from cocoon_core.protocol.manifest_check import check_against_roster
from cocoon_core.protocol.operations import Invite, member_id_of
from cocoon_core.protocol.operations_devices import RemoveMember
from cocoon_core.protocol.operations_rotation import Reason, Rotation, WrapsBeside
from cocoon_core.protocol.part import PackedChange, Said, pack_parts
from cocoon_core.protocol.primitives import Secret, wrap
from cocoon_core.protocol.repair import Complaint, Repair, encode_repair_value, read_repair_value
from cocoon_core.protocol.roster import RosterGraph
from cocoon_core.protocol.roster_values import Recipient
from cocoon_core.protocol.rotation import Pages, check_wraps, make_rotation, open_rotation
from cocoon_core.protocol.run import parse_run
from cocoon_core.protocol.sealed_pages import name_page, seal_page
from cocoon_core.protocol.snapshot import SnapshotRef, check_heads, open_snapshot, seal_part, unseal_part
from tests.support.epoch_story import (
    BEN,
    BEN_FEED,
    NEXT,
    EpochStory,
    changes_of,
    manifest_entry,
    pages_of,
    read_back,
    told,
    with_document,
)
from tests.support.flips import flip
from tests.support.part_tables import encode_table, parse_table
from tests.support.protocol_story import ANA, EPOCH, FEED, GROUP, Writer, device_keys, named_secret, whole_tail

KEY = named_secret("a key")
OTHER = Epoch(named_secret("another epoch"))
CHI = device_keys("chi")
EVERYBODY = (ANA, BEN, CHI)
DUE = tuple(Recipient(keys.id, keys.hpke_public) for keys in EVERYBODY)


@pytest.fixture
def story() -> EpochStory:
    return told(lambda epoch, keys: wrap_epoch(epoch, keys.hpke_public, GROUP))


def rotation_with(wraps: dict[DeviceId, bytes]) -> Rotation:
    """A rotation to NEXT by a member who makes the wraps as they please."""
    return Rotation(Reason.AGE, (EPOCH.topic,), NEXT.topic, WrapsBeside.of(records_of(wraps)))


def records_of(wraps: dict[DeviceId, bytes]) -> bytes:
    return b"".join(one + made for one, made in sorted(wraps.items()))


def beside(wraps: dict[DeviceId, bytes]) -> Pages:
    """What stands beside the rotation with these wraps."""
    return pages_of([records_of(wraps)])


def good_wraps() -> dict[DeviceId, bytes]:
    return {keys.id: wrap_epoch(NEXT, keys.hpke_public, GROUP) for keys in EVERYBODY}


# --- 29: wrap different secrets for different members, or omit one


def _wrap_another_secret() -> dict[DeviceId, bytes]:
    """For Ben another epoch's secret, under the info of this one's topic."""
    info = b"cocoon/v1/wrap\0" + GROUP + NEXT.topic
    return {**good_wraps(), BEN.id: wrap(BEN.hpke_public, OTHER.secret.reveal(), info)}


def test_attack_29_whoever_is_told_another_secret_notices_and_the_others_do_not_lose_theirs() -> None:
    wraps = _wrap_another_secret()
    rotation = rotation_with(wraps)
    for keys in (ANA, CHI):
        assert open_rotation(rotation, RecipientId(keys.id), [keys.hpke], GROUP, beside(wraps)).secret == NEXT.secret
    with pytest.raises(DecryptionError):
        open_rotation(rotation, RecipientId(BEN.id), [BEN.hpke], GROUP, beside(wraps))


def test_attack_29_weakened_without_deriving_the_topic_two_members_hold_two_secrets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Believing(Epoch):
        """An epoch that takes whatever topic it is said to have."""

        def __init__(self, secret: Secret) -> None:
            super().__init__(secret)
            self.topic = NEXT.topic

    monkeypatch.setattr(epoch_module, "Epoch", Believing)
    wraps = _wrap_another_secret()
    rotation, here = rotation_with(wraps), beside(wraps)
    secrets = {open_rotation(rotation, RecipientId(keys.id), [keys.hpke], GROUP, here).secret for keys in EVERYBODY}
    assert len(secrets) == 2


def test_attack_29_who_was_left_out_is_seen_by_everybody_complains_and_is_repaired() -> None:
    wraps = good_wraps()
    del wraps[BEN.id]
    rotation = rotation_with(wraps)
    assert check_wraps(rotation, DUE, beside(wraps)).missing == (RecipientId(BEN.id),)
    with pytest.raises(DecryptionError):
        open_rotation(rotation, RecipientId(BEN.id), [BEN.hpke], GROUP, beside(wraps))
    operation = parse_run(Writer().write_runs([1])[0].wire, GROUP).last_id  # the rotation's id
    said = read_repair_value(encode_repair_value(Complaint.make(BEN.signing, GROUP, operation)), GROUP)
    assert isinstance(said, Complaint)
    repair = Repair.make(CHI.signing, GROUP, said.rotation, NEXT, RecipientId(said.device), BEN.hpke_public)
    mended = read_repair_value(encode_repair_value(repair), GROUP)
    assert isinstance(mended, Repair)
    assert mended.open([BEN.hpke], GROUP, rotation.topic).secret == NEXT.secret


def test_attack_29_a_repair_cannot_tell_another_secret_either() -> None:
    info = b"cocoon/v1/wrap\0" + GROUP + NEXT.topic
    operation = parse_run(Writer().write_runs([1])[0].wire, GROUP).last_id
    honest = Repair.make(CHI.signing, GROUP, operation, NEXT, RecipientId(BEN.id), BEN.hpke_public)
    for lie in (
        replace(honest, wrapped=wrap(BEN.hpke_public, OTHER.secret.reveal(), info)),
        replace(honest, wrapped=wrap_epoch(OTHER, BEN.hpke_public, GROUP)),
    ):
        with pytest.raises(DecryptionError):
            lie.open([BEN.hpke], GROUP, NEXT.topic)


def test_attack_29_a_stranger_among_the_wraps_is_seen_by_everybody() -> None:
    mallory = device_keys("mallory")
    wraps = {**good_wraps(), mallory.id: wrap_epoch(NEXT, mallory.hpke_public, GROUP)}
    assert check_wraps(rotation_with(wraps), DUE, beside(wraps)).strangers == (RecipientId(mallory.id),)


def test_attack_29_a_page_that_serves_only_some_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotation_module, "MAX_WRAPS_BESIDE", 1)
    rotation, blobs = make_rotation(Reason.AGE, [EPOCH.topic], NEXT, DUE, GROUP, KEY)
    assert not check_wraps(rotation, DUE, pages_of(blobs))
    fewer, blobs = make_rotation(Reason.AGE, [EPOCH.topic], NEXT, DUE[:2], GROUP, KEY)
    assert check_wraps(fewer, DUE, pages_of(blobs)).missing == (RecipientId(CHI.id),)


# --- 30: one ciphertext, two keys


def test_attack_30_a_wrap_or_page_says_one_thing_since_what_is_signed_names_its_key_or_topic(
    story: EpochStory,
) -> None:
    wrapped = wrap_epoch(NEXT, BEN.hpke_public, GROUP)
    with pytest.raises(DecryptionError):
        unwrap_epoch(wrapped, BEN.hpke, GROUP, OTHER.topic)
    blob = seal_page(b"content", KEY, 0, "cocoon/v1/manifest-page", NEXT.topic)
    one, two = (ManifestBody(b"", key, (name_page(blob),)) for key in (KEY, named_secret("a second key")))
    entries = [
        story.ana._maker().statement(EntryKind.MANIFEST, *story.ana._at(), body.to_value()) for body in (one, two)
    ]
    assert entries[0].id != entries[1].id, "two keys are two entries at one place: a proof against their author"
    with pytest.raises(DecryptionError):
        open_manifest(two, GROUP, NEXT.topic, pages_of([blob]))


# --- 36: forged or incomplete snapshots and manifests


def feed_of(story: EpochStory) -> tuple[DocumentId, list[Said]]:
    document = FEED.document_id(GROUP)
    return document, changes_of(story.ana, document)


def _altered(changes: list[Said], document: DocumentId, place: int) -> list[Said]:
    """One change with another text in it, and those after it upon that: what a forger would pack."""
    done: list[bytes] = []
    altered = []
    for number, said in enumerate(changes):
        _, _, tail = split_change(said.raw)
        if number == place:
            tail = flip(tail, -3)  # its last letter; what follows are two runs
        made = join_change(done[-1:], actor_of(said.device, document), tail)
        done.append(made.hash)
        altered.append(said._replace(raw=made.raw))
    return altered


def _forgeries(story: EpochStory) -> dict[str, list[Said]]:
    document, changes = feed_of(story)
    addition = join_change([], actor_of(BEN.id, document), whole_tail(1, b"put into Ben's mouth"))
    more = join_change([], actor_of(ANA.id, document), whole_tail(4, b"and more"))
    return {
        "a word altered": _altered(changes, document, 0),
        "the last word altered": _altered(changes, document, 2),
        "the last change left out": changes[:-1],
        "everything left out but one": changes[:1],
        "a change in another's name": [*changes, Said(BEN.id, addition.raw, 0)],
        "one more in her name": [*changes, Said(ANA.id, more.raw, 9)],
    }


def _page(*documents: tuple[DocumentId, list[Said]]) -> tuple[SnapshotRef, dict[BlobHash, bytes]]:
    """All of it in one page, as whoever packs a manifest seals it."""
    (part,) = pack_parts(sorted(documents))
    ref, blob = seal_part(part.data, KEY, GROUP)
    return SnapshotRef((ref,)), {ref.name: blob}


def _packed(document: DocumentId, changes: list[Said]) -> list[PackedChange]:
    ref, blobs = _page((document, changes))
    return open_snapshot(ref, document, GROUP, blobs)


def _heads_of(story: EpochStory, descriptor: Descriptor) -> Heads:
    return next(
        one for one in read_back(*manifest_entry(story)).manifest.documents if one.descriptor == descriptor
    ).heads


def test_attack_36_a_snapshot_that_is_not_what_was_signed_is_refused(story: EpochStory) -> None:
    document, changes = feed_of(story)
    heads = _heads_of(story, FEED)
    check_heads(_packed(document, changes), heads)
    for name, forged in _forgeries(story).items():
        with pytest.raises(MalformedError):
            check_heads(_packed(document, forged), heads)
            raise AssertionError(name)


def test_attack_36_of_several_documents_in_a_page_only_the_forged_one_is_refused(story: EpochStory) -> None:
    """Whoever packed the page spoiled one document of it: the other is read as it was signed."""
    document, _ = feed_of(story)
    other = BEN_FEED.document_id(GROUP)
    his = [said for said in changes_of(story.ben, other) if said.seq <= 2]
    for name, forged in _forgeries(story).items():
        ref, blobs = _page((document, forged), (other, his))
        check_heads(open_snapshot(ref, other, GROUP, blobs), _heads_of(story, BEN_FEED))
        with pytest.raises(MalformedError):
            check_heads(open_snapshot(ref, document, GROUP, blobs), _heads_of(story, FEED))
            raise AssertionError(name)


def test_attack_36_what_is_another_documents_is_not_taken_for_this_ones(story: EpochStory) -> None:
    """Ben's posts under the name of Ana's feed, in a table that was put together by hand: other actors and hashes."""
    document, _ = feed_of(story)
    other = BEN_FEED.document_id(GROUP)
    (part,) = pack_parts([(other, [said for said in changes_of(story.ben, other) if said.seq <= 2])])
    section = replace(parse_table(bz2.decompress(part.data))[other], document=document)
    ref, blob = seal_part(bz2.compress(encode_table(section)), KEY, GROUP)
    moved = open_snapshot(SnapshotRef((ref,)), document, GROUP, {ref.name: blob})
    for heads in (_heads_of(story, FEED), _heads_of(story, BEN_FEED)):
        with pytest.raises(MalformedError):
            check_heads(moved, heads)


def test_attack_36_an_earlier_change_left_out_shows_since_the_others_move_up(story: EpochStory) -> None:
    """A change's number is not in the table, so a gap cannot even be said: what is left hashes to something else."""
    document, changes = feed_of(story)
    with pytest.raises(UsageError):
        pack_parts([(document, changes[1:])])
    for place in (0, 1):
        kept = [said for number, said in enumerate(changes) if number != place]
        renumbered = []
        for number, said in enumerate(kept, 1):
            deps, _, tail = split_change(said.raw)
            made = join_change(deps, actor_of(said.device, document), bytes((number,)) + tail[1:])
            renumbered.append(said._replace(raw=made.raw))
        with pytest.raises(MalformedError):
            check_heads(_packed(document, renumbered), _heads_of(story, FEED))


def test_attack_36_a_reused_page_that_its_packer_filled_otherwise_is_refused(story: EpochStory) -> None:
    """A page is named by its bytes, so a manifest's author cannot put others under the name of one that is known."""
    document, changes = feed_of(story)
    ref, blobs = _page((document, changes))
    page = ref.pages[0]
    _, others = _page((document, _altered(changes, document, 0)))
    assert unseal_part(page, blobs[page.name], GROUP)
    with pytest.raises(DecryptionError):
        unseal_part(page, next(iter(others.values())), GROUP)


def test_attack_36_weakened_if_only_the_seqs_are_compared_words_can_be_altered(story: EpochStory) -> None:
    document, changes = feed_of(story)
    other = BEN_FEED.document_id(GROUP)
    his = [said for said in changes_of(story.ben, other) if said.seq <= 2]
    ref, blobs = _page((document, _altered(changes, document, 0)), (other, his))
    altered = open_snapshot(ref, document, GROUP, blobs)
    claimed = {ANA.id: (3, altered[-1].hash)}  # heads that were computed from the snapshot, instead of the signed ones
    check_heads(altered, claimed)


def test_attack_36_weakened_if_a_page_is_not_compared_with_its_name_another_is_read(
    story: EpochStory, monkeypatch: pytest.MonkeyPatch
) -> None:
    document, changes = feed_of(story)
    ref, _ = _page((document, changes))
    forged, blobs = _page((document, changes[:1]))
    given = {ref.pages[0].name: blobs[forged.pages[0].name]}
    with pytest.raises(DecryptionError):
        open_snapshot(ref, document, GROUP, given)
    monkeypatch.setattr(pages_module, "name_page", lambda blob: ref.pages[0].name)
    assert len(open_snapshot(ref, document, GROUP, given)) == 1


def _with_operation(story: EpochStory, manifest: Manifest) -> Manifest:
    """An invite in Ana's name, which she did not sign."""
    keys = InviteKeys(named_secret("mallory's link"))
    body = Invite.make(keys.signing, keys.hpke().public, keys.mailbox_secret, GROUP, ANA.id)
    fields = decode(manifest.operations[1].wire)
    fields[7][0][2] = body.encode_body()
    forged = replace(manifest.operations[1], wire=encode(fields))
    return replace(manifest, operations=(*manifest.operations, forged))


def _with_heads(story: EpochStory, manifest: Manifest) -> Manifest:
    """The heads of an altered feed, under the run end that Ana signed for the true one."""
    document, changes = feed_of(story)
    altered = _packed(document, _altered(changes, document, 0))
    place = [one.descriptor for one in manifest.documents].index(FEED)
    return with_document(manifest, place, heads={ANA.id: (3, altered[-1].hash)})


def _without_bens_feed(story: EpochStory, manifest: Manifest) -> Manifest:
    return replace(manifest, documents=tuple(one for one in manifest.documents if one.descriptor != BEN_FEED))


def _without_ben(story: EpochStory, manifest: Manifest) -> Manifest:
    """Neither his posts nor his run end, though his pin says that they count."""
    ends = {device: end for device, end in manifest.frontier.items() if device != BEN.id}
    return replace(_without_bens_feed(story, manifest), frontier=ends)


ATTEMPTS: dict[str, tuple[Callable[[EpochStory, Manifest], Manifest], type[CocoonError]]] = {
    "an operation that nobody signed": (_with_operation, SignatureError),
    "heads that were not signed": (_with_heads, MalformedError),
    "a document left out": (_without_bens_feed, MalformedError),
    "a removed member left out whole": (_without_ben, MalformedError),
}


def follow(story: EpochStory, manifest: Manifest) -> None:
    """What a newcomer does with a manifest, up to the snapshots."""
    verified = read_back(*manifest_entry(story, manifest))
    graph = RosterGraph(GROUP)
    for operation in verified.operations:
        graph.add(operation)
    check_against_roster(verified, graph.evaluate())


@pytest.mark.parametrize("name", ATTEMPTS)
def test_attack_36_a_manifest_that_is_forged_or_incomplete_is_refused(story: EpochStory, name: str) -> None:
    follow(story, story.manifest())
    forge, error = ATTEMPTS[name]
    with pytest.raises(error):
        follow(story, forge(story, story.manifest()))


@pytest.mark.parametrize(
    ("name", "defence"),
    [
        ("an operation that nobody signed", "verify_run"),
        ("heads that were not signed", "_check_digests"),
        ("a document left out", "_check_digests"),
        ("a removed member left out whole", "_require_reach"),
    ],
)
def test_attack_36_weakened_each_forgery_passes_without_its_check(
    story: EpochStory, name: str, defence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        check_module, defence, (lambda run: run.stored()) if defence == "verify_run" else lambda *_: None
    )
    follow(story, ATTEMPTS[name][0](story, story.manifest()))


def test_attack_36_older_signed_heads_pass_and_whoever_has_newer_sees_it() -> None:
    """Ana packs Ben as of his join, with none of his posts: validly signed, so only comparison shows it."""
    story = EpochStory(lambda epoch, keys: wrap_epoch(epoch, keys.hpke_public, GROUP))
    story.begin()
    story.rotate()
    of_ben = [run_end_of(run) for run in story.runs if run.device == BEN.id]
    manifest = _without_bens_feed(story, story.manifest())
    older = replace(manifest, frontier={**manifest.frontier, BEN.id: of_ben[0]})
    follow(story, older)  # a newcomer cannot know
    own = {**older.frontier, BEN.id: of_ben[-1]}  # whoever has what Ben wrote since
    assert frontier_digest(own) != frontier_digest(older.frontier)
    assert join_frontiers(older.frontier, [own])[BEN.id] == of_ben[-1]
    above = [run for run in story.runs if run.last_seq > older.frontier[run.device].seq]
    assert [run.device for run in above] == [BEN.id, BEN.id], "what stands above the frontier is put again"


def test_attack_36_a_manifest_of_one_who_was_out_is_none(story: EpochStory) -> None:
    """Ben rotates after he was removed: a manifest of real signatures, whose rotation does not count."""
    wraps = WrapsBeside.of(BEN.id + wrap_epoch(OTHER, BEN.hpke_public, GROUP))
    story.operations.pop()
    story.runs.pop()
    story.ana.entries.pop()
    story.ben.roster_heads = (story.operations[-1].id,)
    rotation = story.operate(story.ben, Rotation(Reason.REQUEST, (EPOCH.topic,), OTHER.topic, wraps))
    assert rotation.device == BEN.id
    ends = story.manifest().frontier
    entry_story = replace(story, ana=story.ben)  # he writes the manifest
    entry, pages = manifest_entry(entry_story, replace(story.manifest(), frontier=ends), OTHER.topic)
    verified = read_back(entry, pages, OTHER.topic)
    with pytest.raises(NotPermittedError):
        check_against_roster(verified, story.roster())


def test_attack_36_members_that_the_create_does_not_lead_to_are_none(story: EpochStory) -> None:
    """Another group's create in front: nothing in it is looked at."""
    mallory = device_keys("mallory")
    body = RemoveMember(member_id_of(GROUP, ANA.id), ())
    writer = Writer(mallory, roster_heads=(story.operations[-1].id,))
    writer.edit(FEED)
    writer.run(1)
    writer.operate(body)
    forged = replace(story.manifest(), operations=(*story.manifest().operations, writer.run(1)))
    verified = read_back(*manifest_entry(story, forged))  # well signed, by a device that nobody enrolled
    graph = RosterGraph(GROUP)
    for operation in verified.operations:
        graph.add(operation)
    roster = graph.evaluate()
    assert verified.operations[-1].id in roster.refused
    assert ANA.id in roster.devices
    check_against_roster(verified, roster)
    assert verified.operations[-1].id not in check_module.final_operations(verified, roster)


def test_attack_36_a_page_of_another_topic_or_place_does_not_open() -> None:
    blob = seal_page(b"content", KEY, 1, "cocoon/v1/manifest-page", OTHER.topic)
    body = read_manifest_body([1, b"", KEY.reveal(), [name_page(blob)]])
    with pytest.raises(DecryptionError):
        open_manifest(body, GROUP, NEXT.topic, pages_of([blob]))
