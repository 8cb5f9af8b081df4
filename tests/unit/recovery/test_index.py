"""The index: what it says, for whom, how large it is, and which of several counts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cocoon_core.errors import DecryptionError, MalformedError
from cocoon_core.protocol.constants import MAX_INDEX_BYTES, MAX_INDEX_RECORDS, MIN_INDEX_BYTES
from cocoon_core.protocol.encoding import decode, encode
from cocoon_core.protocol.envelope import seal_envelope
from cocoon_core.protocol.epoch import Epoch
from cocoon_core.protocol.operations import Create
from cocoon_core.protocol.primitives import Secret, wrap
from cocoon_core.protocol.recovery import PhraseKeys, RecoveryKeys, index_mailbox, seal_seed
from cocoon_core.protocol.recovery_index import (
    Index,
    Indexes,
    IndexRecord,
    open_index,
    read_indexes,
    seal_index,
)
from tests.support.protocol_story import CREATE, EPOCH, GROUP, RELAYS, named_secret

KEYS = PhraseKeys(Secret(bytes(range(16)), 16))
OTHER = PhraseKeys(Secret(bytes(16), 16))
MAILBOX = index_mailbox(KEYS.index_secret, RELAYS[0])
SEED = seal_seed(RecoveryKeys(named_secret("recovery seed")), KEYS.opening.public, GROUP)
RECORD = IndexRecord(CREATE, EPOCH, RELAYS, (SEED,))


def tag(number: int) -> bytes:
    return bytes([number]) * 16


def index(number: int, *records: IndexRecord, superseded: tuple[bytes, ...] = ()) -> Index:
    return Index(tag(number), superseded, records)


def another_group(number: int, create: Create = CREATE) -> IndexRecord:
    return replace(RECORD, create=replace(create, salt=number.to_bytes(32)))


def in_mailbox(*indexes: Index) -> list[bytes]:
    return [seal_envelope(seal_index(one, KEYS.opening.public)[0], MAILBOX) for one in indexes]


def tags_of(*indexes: Index) -> list[int]:
    return [found.tag[0] for found in read_indexes(in_mailbox(*indexes), KEYS, MAILBOX).current]


def sealed(body: bytes) -> bytes:
    return encode([1, wrap(KEYS.opening.public, body, b"cocoon/v1/index\0")])


def test_an_index_comes_back_whole() -> None:
    tokens = ((RELAYS[0], "token"),)
    meant = index(1, replace(RECORD, tokens=tokens), another_group(2), superseded=(tag(8), tag(9)))
    value, count = seal_index(meant, KEYS.opening.public)
    found = open_index(value, KEYS)
    assert count == 2
    assert (found.tag, found.superseded, found.unknown) == (meant.tag, meant.superseded, 0)
    assert [record.group for record in found.records] == [record.group for record in meant.records]
    assert [record.epoch.topic for record in found.records] == [EPOCH.topic, EPOCH.topic]
    assert found.records[0].relays == RELAYS
    assert found.records[0].seeds == (SEED,)
    assert [record.tokens for record in found.records] == [tokens, ()]


def test_only_the_phrase_opens_it() -> None:
    value, _ = seal_index(index(1, RECORD), KEYS.opening.public)
    with pytest.raises(DecryptionError):
        open_index(value, OTHER)
    assert read_indexes([seal_envelope(value, MAILBOX)], OTHER, MAILBOX) == Indexes()


def test_its_size_is_a_power_of_two_and_hides_the_number_of_groups() -> None:
    sizes = []
    for count in (0, 1, 2, 5, 20, 60):
        value, kept = seal_index(index(1, *(another_group(n) for n in range(count))), KEYS.opening.public)
        assert kept == count
        sizes.append(len(decode(value)[1]) - 1136)
    assert sizes[:3] == [MIN_INDEX_BYTES] * 3
    assert all(size & (size - 1) == 0 for size in sizes)
    assert len(set(sizes)) <= 5


def test_what_finds_no_room_is_left_off_and_counted() -> None:
    value, kept = seal_index(index(1, *(another_group(n) for n in range(400))), KEYS.opening.public)
    assert 100 < kept < 400
    assert len(open_index(value, KEYS).records) == kept
    assert len(decode(value)[1]) - 1136 == MAX_INDEX_BYTES
    assert len(seal_envelope(value, MAILBOX)) <= 1024 * 1024


def test_the_newest_of_each_writer_counts_and_the_newest_writer_comes_first() -> None:
    assert tags_of(index(1), index(2), index(1, RECORD)) == [1, 2]


def test_a_superseded_writer_counts_no_more_until_it_writes_again() -> None:
    assert tags_of(index(1, RECORD), index(2, superseded=(tag(1),))) == [2]
    assert tags_of(index(1), index(2, superseded=(tag(1),)), index(1)) == [1, 2]
    assert tags_of(index(2, superseded=(tag(2),))) == [2]  # oneself


def test_rubbish_between_them_does_no_harm() -> None:
    envelopes = in_mailbox(index(1), index(2))
    rubbish = [
        seal_envelope(b"", MAILBOX),
        seal_envelope(encode([1, b"short"]), MAILBOX),
        seal_envelope(sealed(b"\x80"), MAILBOX),
        seal_envelope(seal_index(index(3), OTHER.opening.public)[0], MAILBOX),
        seal_envelope(
            seal_index(index(4), KEYS.opening.public)[0], index_mailbox(KEYS.index_secret, "wss://b.example")
        ),
        bytes(300),
    ]
    found = read_indexes([*rubbish, envelopes[0], *rubbish, envelopes[1], *rubbish], KEYS, MAILBOX)
    assert [one.tag[0] for one in found.current] == [2, 1]
    assert found.older == ()


def test_a_group_of_a_later_version_takes_no_other_with_it() -> None:
    value = index(1, RECORD).to_value()
    newer = RECORD.to_value()
    newer[0] = [200, b"what a later version says"]
    value[3].append(newer)
    body = encode(value) + b"\x80"
    found = open_index(sealed(body.ljust(MIN_INDEX_BYTES, b"\0")), KEYS)
    assert [record.group for record in found.records] == [GROUP]
    assert found.unknown == 1


def test_of_a_group_in_two_indexes_both_records_are_tried_the_newest_first() -> None:
    newer = replace(RECORD, epoch=Epoch(named_secret("a later epoch")))
    merged = read_indexes(in_mailbox(index(1, RECORD, another_group(7)), index(2, newer)), KEYS, MAILBOX).records()
    assert [record.epoch.topic for record in merged[GROUP]] == [newer.epoch.topic, EPOCH.topic]
    assert len(merged) == 2


def test_what_was_superseded_is_tried_after_all_that_was_not() -> None:
    """Whoever holds the index secret could have superseded what is true."""
    false = [replace(RECORD, epoch=Epoch(named_secret(f"false {n}"))) for n in range(3)]
    indexes = in_mailbox(index(1, RECORD), *(index(2 + n, false[n], superseded=(tag(1),)) for n in range(3)))
    found = read_indexes(indexes, KEYS, MAILBOX)
    assert [one.tag[0] for one in found.current] == [4, 3, 2]
    assert [one.tag[0] for one in found.older] == [1]
    assert [record.epoch.topic for record in found.records()[GROUP]][-1] == EPOCH.topic
    assert found.seeds(GROUP) == [SEED]
    assert found.tags() == {tag(1), tag(2), tag(3), tag(4)}


def test_only_so_many_records_of_a_group_are_tried() -> None:
    many = [replace(RECORD, epoch=Epoch(named_secret(f"false {n}"))) for n in range(MAX_INDEX_RECORDS + 5)]
    assert len(Indexes((index(1, *many),)).records()[GROUP]) == MAX_INDEX_RECORDS


def body_of(value: list[object]) -> bytes:
    return (encode(value) + b"\x80").ljust(MIN_INDEX_BYTES, b"\0")


@pytest.mark.parametrize(
    "value",
    [
        [2, tag(1), [], []],
        [True, tag(1), [], []],
        [1, tag(1)[:-1], [], []],
        [1, tag(1), [b"short"], []],
        [1, tag(1), [tag(n) for n in range(65)], []],
        [1, tag(1), [], [[]]],
        [1, tag(1), [], [[*RECORD.to_value()[:4], []]]],
        [1, tag(1), [], [[*RECORD.to_value()[:4], [SEED] * 5]]],
        [1, tag(1), [], [[*RECORD.to_value()[:4], ["text"]]]],
        [1, tag(1), [], [[*RECORD.to_value()[:2], [], {}, [SEED]]]],
        [1, tag(1), [], [[*RECORD.to_value()[:2], ["http://relay.example"], {}, [SEED]]]],
        [1, tag(1), [], [[[5, {}], *RECORD.to_value()[1:]]]],
        [1, tag(1), [], [[*RECORD.to_value()[:3], {"wss://other.example": "token"}, [SEED]]]],
        [1, tag(1), [], [[*RECORD.to_value()[:3], {RELAYS[0]: "two words"}, [SEED]]]],
        {},
    ],
)
def test_what_is_no_index_is_refused(value: list[object]) -> None:
    with pytest.raises(MalformedError):
        open_index(sealed(body_of(value)), KEYS)


def test_an_epoch_secret_of_another_length_is_refused() -> None:
    value = [1, tag(1), [], [[RECORD.to_value()[0], bytes(31), *RECORD.to_value()[2:]]]]
    with pytest.raises(DecryptionError):
        open_index(sealed(body_of(value)), KEYS)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        bytes(MIN_INDEX_BYTES),
        encode([1, tag(1), [], []]),
        (encode([1, tag(1), [], []]) + b"\x80").ljust(MIN_INDEX_BYTES - 1, b"\0"),
        (encode([1, tag(1), [], []]) + b"\x80").ljust(2 * MIN_INDEX_BYTES, b"\0"),
    ],
)
def test_another_padding_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedError):
        open_index(sealed(body), KEYS)
