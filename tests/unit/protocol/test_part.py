"""A part gives back every change of every document to the byte, and never unpacks to more than it may."""

from __future__ import annotations

import bz2
import random
import time
import tracemalloc
import zlib
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cocoon_core.errors import MalformedError, UntrustedInputError, UpdateNeededError, UsageError
from cocoon_core.protocol import part as part_module
from cocoon_core.protocol.change import encode_leb128, join_change
from cocoon_core.protocol.constants import MAX_CHANGE_BYTES, MAX_CHANGE_DEPS, MAX_SEQ, SNAPSHOT_PART_BYTES
from cocoon_core.protocol.descriptor import actor_of
from cocoon_core.protocol.ids import DeviceId, DocumentId
from cocoon_core.protocol.part import Part, Said, count_changes, open_part, pack_parts, read_sections
from tests.support.epoch_story import BEN
from tests.support.part_tables import HEAD, Section, encode_table, parse_table
from tests.support.protocol_story import ANA, FEED, GROUP, LIST, TAILS, whole_tail

DOCUMENT = LIST.document_id(GROUP)
OTHER = FEED.document_id(GROUP)
DEVICES = (ANA.id, BEN.id, DeviceId(bytes(32)))
COLUMNS = (0x01, 0x02, 0x11, 0x13, 0x15, 0x34, 0x42, 0x56, 0x57, 0x70, 0x71, 0x73)
OK = Section(DOCUMENT, (ANA.id,))
LATE = "twice, or after one that depends"


def make_tail(rng: random.Random, seq: int, size: int) -> bytes:
    """A tail with some other actors, and some of the columns that there are."""
    columns = sorted(rng.sample(COLUMNS, rng.randint(0, len(COLUMNS))))
    cuts = [rng.randbytes(rng.randint(0, size)) for _ in columns]
    others = rng.randint(0, 2)
    head = b"\0\0" + encode_leb128(others) + b"".join(b"\x10" + rng.randbytes(16) for _ in range(others))
    head += encode_leb128(len(columns))
    head += b"".join(bytes((kind,)) + encode_leb128(len(cut)) for kind, cut in zip(columns, cuts, strict=True))
    return encode_leb128(seq) + encode_leb128(rng.randint(1, 2**31)) + head + b"".join(cuts)


def make_changes(seed: int, count: int, size: int = 8, outside: int = 0, document: DocumentId = DOCUMENT) -> list[Said]:
    """Changes of three devices, each upon some that stand before; some depend on what is outside."""
    rng = random.Random(seed)
    done: list[bytes] = []
    seqs, entries = dict.fromkeys(DEVICES, 0), dict.fromkeys(DEVICES, 0)
    changes: list[Said] = []
    for _ in range(count):
        device = rng.choice(DEVICES)
        seqs[device] += 1
        entries[device] += rng.choice((0, 1, 1, 7, 2**40))
        deps = set(rng.sample(done, min(len(done), rng.randrange(4)))) | {rng.randbytes(32) for _ in range(outside)}
        raw, digest = join_change(sorted(deps), actor_of(device, document), make_tail(rng, seqs[device], size))
        changes.append(Said(device, raw, entries[device]))
        done.append(digest)
    return changes


def read(parts: Sequence[Part | bytes], document: DocumentId = DOCUMENT) -> list[Said]:
    opened = [open_part(part.data if isinstance(part, Part) else part) for part in parts]
    packed = read_sections(document, [sections[document] for sections in opened])
    return [Said(one.device, one.raw, one.entry) for one in packed]


def read_table(table: bytes) -> object:
    return [read_sections(document, [section]) for document, section in open_part(bz2.compress(table)).items()]


@given(st.integers(0, 2**32), st.integers(1, 200), st.integers(0, 2))
def test_every_change_comes_back(seed: int, count: int, outside: int) -> None:
    changes = make_changes(seed, count, outside=outside)
    assert read(pack_parts([(DOCUMENT, changes)])) == changes


@given(st.lists(st.tuples(st.integers(0, 2**32), st.integers(0, 20)), min_size=1, max_size=6))
def test_every_change_of_several_documents_comes_back(made: list[tuple[int, int]]) -> None:
    documents = {}
    for number, (seed, count) in enumerate(made):
        document = DocumentId(bytes((number,)) * 32)
        documents[document] = make_changes(seed, count, document=document)
    parts = pack_parts(list(documents.items()))
    assert len(parts) == (1 if any(documents.values()) else 0), "what has no change is in none"
    for document, changes in documents.items():
        assert not changes or read(parts, document) == changes
    if parts:
        assert parts[0].documents == tuple(document for document, changes in documents.items() if changes)
        sections = open_part(parts[0].data)
        assert {document: count_changes(section) for document, section in sections.items()} == {
            document: len(changes) for document, changes in documents.items() if changes
        }


@given(st.integers(0, 2**32), st.integers(1, 60), st.integers(400, 3000))
def test_a_document_may_be_split_wherever_it_has_to_be(seed: int, count: int, limit: int) -> None:
    changes = make_changes(seed, count, size=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(part_module, "SNAPSHOT_PART_BYTES", limit)
        parts = pack_parts([(DOCUMENT, changes)])
    assert read(parts) == changes
    assert all(len(bz2.decompress(part.data)) <= limit for part in parts)


def test_the_numbers_of_a_device_are_put_back() -> None:
    changes = make_changes(2, 100)
    (part,) = pack_parts([(DOCUMENT, changes)])
    counted = dict.fromkeys(DEVICES, 0)
    for one in read_sections(DOCUMENT, [open_part(part.data)[DOCUMENT]]):
        counted[one.device] += 1
        assert one.seq == counted[one.device]


def test_real_changes_and_the_hand_made_table_are_one_form() -> None:
    changes = [Said(ANA.id, join_change([], actor_of(ANA.id, DOCUMENT), TAILS[0]).raw, 5)]
    (part,) = pack_parts([(DOCUMENT, changes)])
    section = parse_table(bz2.decompress(part.data))[DOCUMENT]
    assert (section.devices, section.authors, section.entries, section.counts) == ((ANA.id,), (0,), (5,), (0,))
    assert encode_table(section) == bz2.decompress(part.data)
    assert read_table(encode_table(OK))


def test_a_document_that_fits_stands_in_one_part() -> None:
    """The second would begin in the first, and does not."""
    small = {
        DocumentId(bytes((n,)) * 32): make_changes(n, 20, 60, document=DocumentId(bytes((n,)) * 32)) for n in range(9)
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(part_module, "SNAPSHOT_PART_BYTES", 15_000)
        parts = pack_parts(list(small.items()))
    assert 1 < len(parts) < 9
    assert [document for part in parts for document in part.documents] == list(small)
    for document, changes in small.items():
        (one,) = [part for part in parts if document in part.documents]
        assert read([one], document) == changes


def test_a_large_document_has_parts_and_dependencies_reach_over_them() -> None:
    changes = make_changes(7, 150, size=2_000)
    parts = pack_parts([(DOCUMENT, changes)])
    assert len(parts) == 3
    assert all(len(bz2.decompress(part.data)) <= SNAPSHOT_PART_BYTES for part in parts)
    assert read(parts) == changes
    for wrong in (parts[1:], parts[::-1]):
        with pytest.raises(MalformedError):
            read(wrong)


def test_a_change_with_all_the_dependencies_it_may_have() -> None:
    changes = make_changes(3, 1500, size=1)
    hashes = [
        one.hash for one in read_sections(DOCUMENT, [open_part(pack_parts([(DOCUMENT, changes)])[0].data)[DOCUMENT]])
    ]
    seq = sum(one.device == ANA.id for one in changes) + 1
    for deps in (
        sorted(hashes[:MAX_CHANGE_DEPS]),
        sorted(bytes((n >> 8, n & 255)) * 16 for n in range(MAX_CHANGE_DEPS)),
    ):
        raw = join_change(deps, actor_of(ANA.id, DOCUMENT), whole_tail(seq)).raw
        longer = [*changes, Said(ANA.id, raw, MAX_SEQ)]
        assert read(pack_parts([(DOCUMENT, longer)])) == longer


def test_a_change_of_as_many_bytes_and_actors_as_it_may_have() -> None:
    head = b"\0\0" + encode_leb128(12_000) + (b"\x10" + bytes(16)) * 12_000 + b"\0"
    large = [
        Said(ANA.id, join_change([], actor_of(ANA.id, DOCUMENT), whole_tail(1, bytes(MAX_CHANGE_BYTES - 80))).raw, 0),
        Said(ANA.id, join_change([], actor_of(ANA.id, DOCUMENT), b"\2\1" + head).raw, 1),
    ]
    assert read(pack_parts([(DOCUMENT, large)])) == large


@pytest.mark.parametrize(
    ("seq", "tail", "device"),
    [
        pytest.param(1, whole_tail(1), BEN.id, id="another's actor"),
        pytest.param(2, whole_tail(2), ANA.id, id="not the first of its device"),
        pytest.param(1, whole_tail(1) + b"\0", ANA.id, id="bytes behind its columns"),
        pytest.param(1, whole_tail(1)[:-1], ANA.id, id="columns cut off"),
        pytest.param(1, b"\1\1\1\0\0\0", ANA.id, id="a time"),
        pytest.param(1, b"\1\1\0\0", ANA.id, id="no head"),
        pytest.param(1, b"\1", ANA.id, id="no first operation"),
        pytest.param(1, whole_tail(1, start=2**32), ANA.id, id="too large a counter"),
        pytest.param(1, b"\1\1\0\0\0\1\x08\0", ANA.id, id="a column of another kind"),
    ],
)
def test_what_the_gate_would_not_have_admitted_is_not_packed(seq: int, tail: bytes, device: DeviceId) -> None:
    raw = join_change([], actor_of(ANA.id, DOCUMENT), tail).raw
    with pytest.raises(UsageError):
        pack_parts([(DOCUMENT, [Said(device, raw, seq)])])


def test_nothing_is_no_part() -> None:
    assert pack_parts([]) == []
    assert pack_parts([(DOCUMENT, [])]) == []


# --- what is refused

GOOD = encode_table(OK)
TWO = replace(
    OK, authors=(0, 0), entries=(1, 1), counts=(0, 1), starts=(1, 1), sizes=(6, 6), links=(1,), rest=HEAD * 2 + b"xy"
)


@pytest.mark.parametrize(
    ("part", "why"),
    [
        pytest.param(b"", "cut off", id="empty"),
        pytest.param(b"x" * 50, "not compressed", id="not compressed"),
        pytest.param(zlib.compress(GOOD), "not compressed", id="another compression"),
        pytest.param(bz2.compress(b""), "no version", id="nothing inside"),
        pytest.param(bz2.compress(GOOD)[:-1], "cut off", id="cut off"),
        pytest.param(bz2.compress(GOOD) + b"\0", "goes on", id="goes on"),
        pytest.param(bz2.compress(GOOD) * 2, "goes on", id="two streams"),
        pytest.param(bz2.compress(GOOD[:40]) + bz2.compress(GOOD[40:]), "goes on", id="in two streams"),
        pytest.param(bz2.compress(b"\1" + bytes(SNAPSHOT_PART_BYTES)), "too much", id="a byte too many"),
    ],
)
def test_a_part_that_is_none(part: bytes, why: str) -> None:
    with pytest.raises(MalformedError, match=why):
        open_part(part)


@pytest.mark.parametrize(
    ("table", "why"),
    [
        pytest.param(b"\0" + GOOD[1:], "no version", id="version 0"),
        pytest.param(b"\1", "is empty", id="no section"),
        pytest.param(GOOD + b"\0", "has no head", id="a byte behind the last section"),
        pytest.param(GOOD[:-1], "do not fill", id="a byte less"),
        pytest.param(b"\1" + DOCUMENT + b"\xff" * 4, "do not fill", id="a section of 4 GiB"),
        pytest.param(b"\1" + DOCUMENT + b"\0\0\0\t" + bytes(9), "do not fill", id="a section without its head"),
        pytest.param(encode_table(OK, OK), "one document has two", id="a document twice"),
        pytest.param(b"\1" + DOCUMENT + b"\0\0\0\n" + bytes(10), "is empty", id="no change"),
        pytest.param(b"\1" + DOCUMENT + b"\0\0\0\n" + b"\xff" * 10, "shorter than its tables", id="no tables"),
        pytest.param(encode_table(replace(TWO, devices=(ANA.id,) * 2, authors=(0, 1))), "twice", id="a device twice"),
        pytest.param(encode_table(replace(OK, devices=(ANA.id, BEN.id))), "wrote nothing", id="an idle device"),
        pytest.param(encode_table(replace(OK, authors=(1,))), "device", id="an author that is not there"),
        pytest.param(encode_table(replace(OK, counts=(1,))), "other links", id="a dependency without its link"),
        pytest.param(encode_table(replace(TWO, counts=(0, 0))), "other links", id="a link of no dependency"),
        pytest.param(
            encode_table(replace(OK, counts=(1025,), links=(0,) * 1025, rest=bytes(1025 * 32) + OK.rest)),
            "too many of one", id="too many dependencies",
        ),
        pytest.param(encode_table(replace(TWO, links=(0,), rest=b"x" * 20)), "its hashes", id="no hash for a link"),
        pytest.param(encode_table(replace(TWO, links=(2,))), "before the beginning", id="a link to nothing"),
        pytest.param(encode_table(replace(OK, sizes=(4,))), "cut off", id="a head cut off"),
        pytest.param(encode_table(replace(OK, sizes=(7,))), "another length", id="a head too long"),
        pytest.param(encode_table(replace(OK, sizes=(99,))), "another length", id="a head beyond the section"),
        pytest.param(encode_table(replace(OK, rest=b"\1" + OK.rest[1:])), "time or a message", id="a time"),
        pytest.param(encode_table(replace(OK, rest=b"\0\1" + OK.rest[2:])), "time or a message", id="a message"),
        pytest.param(
            encode_table(replace(OK, sizes=(4,), rest=b"\0\0\0\x0d")), "13 columns", id="too many columns"
        ),
        pytest.param(
            encode_table(replace(OK, sizes=(8,), rest=b"\0\0\0\2\x57\1\x57\1xx")), "out of order", id="a column twice"
        ),
        pytest.param(encode_table(replace(OK, rest=HEAD[:4] + b"\x08\1x")), "unknown", id="a column of another kind"),
        pytest.param(encode_table(replace(OK, rest=OK.rest + b"\0")), "do not fill it", id="a byte more of columns"),
        pytest.param(encode_table(replace(OK, rest=OK.rest[:-1])), "do not fill it", id="a byte less of columns"),
        pytest.param(encode_table(replace(OK, entries=(2**53,))), "seq of its entry", id="a seq that is none"),
        pytest.param(encode_table(replace(OK, entries=(2**64 - 1,))), "seq of its entry", id="a negative seq"),
        pytest.param(
            encode_table(replace(OK, sizes=(8,), rest=b"\0\0\0\1\x57" + encode_leb128(2**18) + bytes(2**18))),
            "too many bytes", id="too long a change",
        ),
    ],
)  # fmt: skip
def test_a_table_that_is_none(table: bytes, why: str) -> None:
    assert read_table(encode_table(TWO)), "the tables that the others are made of are good"
    with pytest.raises(MalformedError, match=why):
        read_table(table)


def test_a_later_version_stops_the_group() -> None:
    with pytest.raises(UpdateNeededError):
        open_part(bz2.compress(b"\2" + GOOD[1:]))


def test_a_change_twice_is_refused_also_in_two_parts() -> None:
    """A device's number rises by itself, so the same change twice takes another author of the same actor: none."""
    one = open_part(bz2.compress(GOOD))[DOCUMENT]
    twice = read_sections(DOCUMENT, [one, one])
    assert [change.seq for change in twice] == [1, 2], "the same row is the next change"
    assert len({change.hash for change in twice}) == 2


def test_a_change_after_one_that_depends_on_it_is_refused() -> None:
    first = join_change([], actor_of(BEN.id, DOCUMENT), whole_tail(1))
    section = Section(
        DOCUMENT, (ANA.id, BEN.id), (0, 1), (1, 1), (1, 0), (1, 0), (6, 6), (0,), first.hash + HEAD * 2 + b"xx"
    )
    with pytest.raises(MalformedError, match=LATE):
        read_table(encode_table(section))
    sections = [replace(OK, counts=(1,), links=(0,), rest=first.hash + OK.rest), replace(OK, devices=(BEN.id,))]
    with pytest.raises(MalformedError, match=LATE):
        read_sections(DOCUMENT, [open_part(bz2.compress(encode_table(one)))[DOCUMENT] for one in sections])


@given(st.integers(0, 2**32), st.data())
def test_any_byte_altered_gives_other_changes_or_is_refused(seed: int, data: st.DataObject) -> None:
    changes = make_changes(seed, 12)
    table = bytearray(bz2.decompress(pack_parts([(DOCUMENT, changes)])[0].data))
    place = data.draw(st.integers(0, len(table) - 1))
    table[place] ^= data.draw(st.integers(1, 255))
    try:
        sections = open_part(bz2.compress(bytes(table)))
        found = [Said(one.device, one.raw, one.entry) for one in read_sections(DOCUMENT, [sections[DOCUMENT]])]
    except (UntrustedInputError, UpdateNeededError, KeyError):
        return
    assert found != changes


@given(st.binary(max_size=300))
def test_any_table_is_read_or_refused(rest: bytes) -> None:
    table = b"\1" + DOCUMENT + len(rest).to_bytes(4) + rest
    try:
        read_table(table)
    except UntrustedInputError:
        return


# --- bombs


@pytest.mark.parametrize("size", [10**6, 10**8])
def test_a_bomb_is_refused_before_it_takes_memory(size: int) -> None:
    compressor = bz2.BZ2Compressor()
    bomb = compressor.compress(b"\1") + b"".join(compressor.compress(bytes(10**6)) for _ in range(size // 10**6))
    bomb += compressor.flush()
    tracemalloc.start()
    began = time.process_time()
    with pytest.raises(MalformedError):
        open_part(bomb)
    took = time.process_time() - began
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * SNAPSHOT_PART_BYTES
    assert took < 2


def test_the_worst_table_takes_bounded_time_and_memory() -> None:
    """As many changes as fit, each of the smallest head: what a part can cost whoever reads it."""
    head = b"\0\0\0\0"
    count = (SNAPSHOT_PART_BYTES - 200) // (20 + 4 + len(head))
    section = Section(
        DOCUMENT,
        (ANA.id,),
        (0,) * count,
        (1,) * count,
        (0, *(1,) * (count - 1)),
        (0,) * count,
        (4,) * count,
        (1,) * (count - 1),
        head * count,
    )
    part = bz2.compress(encode_table(section))
    assert len(part) < 20_000, "it is also a small one"
    tracemalloc.start()
    began = time.process_time()
    found = read_sections(DOCUMENT, [open_part(part)[DOCUMENT]])
    took = time.process_time() - began
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found) == count
    assert peak < 50 * SNAPSHOT_PART_BYTES
    assert took < 20  # while memory is traced, which makes it many times slower
