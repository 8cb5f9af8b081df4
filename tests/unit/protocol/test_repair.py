"""What goes into a repair topic: complaints, repairs and forks, each signed; and the topics themselves."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cocoon_core.errors import DecryptionError, MalformedError, SignatureError, UpdateNeededError
from cocoon_core.protocol.encoding import decode, encode
from cocoon_core.protocol.envelope import open_envelope, seal_envelope
from cocoon_core.protocol.epoch import wrap_epoch
from cocoon_core.protocol.ids import EntryId, GroupId, RecipientId
from cocoon_core.protocol.repair import Complaint, Fork, Repair, encode_repair_value, read_repair_value, repair_keys
from cocoon_core.protocol.run import UnverifiedRun
from tests.support.epoch_story import BEN, NEXT, RENEWED, EpochStory, told
from tests.support.protocol_story import ANA, EPOCH, GROUP

OTHER = GroupId(b"\x09" * 32)


@pytest.fixture
def story() -> EpochStory:
    return told(lambda epoch, keys: wrap_epoch(epoch, keys.hpke_public, GROUP))


def test_repair_topics_follow_one_another_and_are_no_epochs_topic() -> None:
    first = repair_keys(EPOCH)
    second = first.following()
    assert len({EPOCH.topic, first.topic, second.topic, second.following().topic}) == 4
    assert repair_keys(EPOCH).following().topic == second.topic
    assert open_envelope(seal_envelope(b"value", first), repair_keys(EPOCH)) == b"value"
    with pytest.raises(DecryptionError):
        open_envelope(seal_envelope(b"value", first), second)


def test_a_complaint_comes_back_signed(story: EpochStory) -> None:
    complaint = Complaint.make(BEN.signing, GROUP, story.operations[-1].id)
    raw = encode_repair_value(complaint)
    assert read_repair_value(raw, GROUP) == complaint
    with pytest.raises(SignatureError):
        read_repair_value(raw, OTHER)
    with pytest.raises(SignatureError):
        read_repair_value(encode_repair_value(replace(complaint, device=ANA.id)), GROUP)
    with pytest.raises(SignatureError):
        read_repair_value(encode_repair_value(replace(complaint, rotation=EntryId(bytes(32)))), GROUP)


def test_a_repair_opens_for_its_recipient_with_any_of_its_keys(story: EpochStory) -> None:
    rotation = story.operations[-1].id
    repair = Repair.make(BEN.signing, GROUP, rotation, NEXT, RecipientId(ANA.id), ANA.hpke_public)
    raw = encode_repair_value(repair)
    assert read_repair_value(raw, GROUP) == repair
    assert repair.open([RENEWED.hpke, ANA.hpke], GROUP, NEXT.topic).secret == NEXT.secret
    with pytest.raises(DecryptionError):
        repair.open([BEN.hpke], GROUP, NEXT.topic)
    with pytest.raises(DecryptionError):
        repair.open([ANA.hpke], GROUP, EPOCH.topic)
    with pytest.raises(DecryptionError):
        repair.open([], GROUP, NEXT.topic)
    for other in (
        replace(repair, recipient=RecipientId(BEN.id)),
        replace(repair, wrapped=bytes(1168)),
        replace(repair, device=ANA.id),
    ):
        with pytest.raises(SignatureError):
            read_repair_value(encode_repair_value(other), GROUP)


def test_a_fork_is_announced_by_its_own_signed_rotation(story: EpochStory) -> None:
    fork = Fork.of(story.runs[-1])
    assert fork.rotation == story.operations[-1].body
    assert read_repair_value(encode_repair_value(fork), GROUP) == fork
    fields = decode(story.runs[-1].wire)
    with pytest.raises(SignatureError):
        read_repair_value(encode([1, "fork", encode([*fields[:9], bytes(64)])]), GROUP)
    with pytest.raises(MalformedError):
        Fork.of(story.runs[0])
    for run in (story.runs[0], story.runs[1]):
        with pytest.raises(MalformedError):
            read_repair_value(encode([1, "fork", run.wire]), GROUP)


def test_a_run_in_a_repair_topic_stays_a_run(story: EpochStory) -> None:
    found = read_repair_value(story.runs[-1].wire, GROUP)
    assert isinstance(found, UnverifiedRun)
    assert found.stored() == story.runs[-1]


@pytest.mark.parametrize(
    "value", [[], {}, [1], [1, "complaint"], [1, "other", bytes(32)], [True, "fork", b""], ["fork"], [1, "repair", 1]]
)
def test_a_value_that_is_none(value: object) -> None:
    with pytest.raises(MalformedError):
        read_repair_value(encode(value), GROUP)


def test_a_later_version_stops_the_group() -> None:
    with pytest.raises(UpdateNeededError):
        read_repair_value(encode([2, "complaint"]), GROUP)
