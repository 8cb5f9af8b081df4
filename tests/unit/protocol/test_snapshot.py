"""A snapshot gives back every change to the byte, names what is missing or too many, and never unpacks to more than it
may.
"""

from __future__ import annotations

import random
import struct
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cocoon_core.errors import DecryptionError, MalformedError, NotYetError, UpdateNeededError, UsageError
from cocoon_core.protocol.change import join_change
from cocoon_core.protocol.constants import SNAPSHOT_PART_BYTES
from cocoon_core.protocol.descriptor import actor_of
from cocoon_core.protocol.ids import ChangeHash, DeviceId
from cocoon_core.protocol.snapshot import check_heads, open_snapshot, pack_snapshot, seal_snapshot, unpack_snapshot
from tests.support.epoch_story import BEN, pages_of
from tests.support.protocol_story import ANA, FEED, GROUP, LIST, change_tail, named_secret

DOCUMENT = LIST.document_id(GROUP)
DEVICES = (ANA.id, BEN.id, DeviceId(bytes(32)))
KEY = named_secret("snapshot key")
Changes = list[tuple[DeviceId, bytes]]


def make_changes(seed: int, count: int, size: int = 40, outside: int = 0) -> Changes:
    """Changes of three devices, each upon some that stand before; a few depend on what is outside."""
    rng = random.Random(seed)
    done: list[bytes] = []
    seqs = dict.fromkeys(DEVICES, 0)
    changes: Changes = []
    for _ in range(count):
        device = rng.choice(DEVICES)
        seqs[device] += 1
        deps = set(rng.sample(done, min(len(done), rng.randrange(4)))) | {rng.randbytes(32) for _ in range(outside)}
        seq = seqs[device]
        tail = (bytes((seq,)) if seq < 128 else bytes((seq & 127 | 128, seq >> 7))) + rng.randbytes(size)
        raw, digest = join_change(sorted(deps), actor_of(device, DOCUMENT), tail)
        changes.append((device, raw))
        done.append(digest)
    return changes


def unpacked(parts: list[bytes]) -> Changes:
    return [(one.device, one.raw) for one in unpack_snapshot(DOCUMENT, parts)]


@given(st.integers(0, 2**32), st.integers(0, 300), st.integers(0, 2))
def test_every_change_comes_back(seed: int, count: int, outside: int) -> None:
    changes = make_changes(seed, count, outside=outside)
    assert unpacked(pack_snapshot(DOCUMENT, changes)) == changes


def test_a_large_document_has_parts_and_dependencies_reach_over_them() -> None:
    changes = make_changes(7, 300, size=10_000)
    parts = pack_snapshot(DOCUMENT, changes)
    assert len(parts) == 4
    assert max(map(len, parts)) <= SNAPSHOT_PART_BYTES
    assert unpacked(parts) == changes
    with pytest.raises(MalformedError):
        unpacked(parts[1:])
    with pytest.raises(MalformedError):
        unpacked(parts[::-1])


def test_a_change_with_all_the_dependencies_it_may_have() -> None:
    changes = make_changes(3, 1500, size=1)
    deps = sorted(one.hash for one in unpack_snapshot(DOCUMENT, pack_snapshot(DOCUMENT, changes))[:1024])
    changes.append((ANA.id, join_change(deps, actor_of(ANA.id, DOCUMENT), change_tail(9)).raw))
    assert unpacked(pack_snapshot(DOCUMENT, changes)) == changes


def test_it_opens_under_its_key_and_for_its_document_alone() -> None:
    changes = make_changes(1, 20)
    ref, blobs = seal_snapshot(DOCUMENT, changes, KEY)
    pages = pages_of(blobs)
    assert [(one.device, one.raw) for one in open_snapshot(ref, DOCUMENT, pages)] == changes
    with pytest.raises(DecryptionError):
        open_snapshot(ref, FEED.document_id(GROUP), pages)
    with pytest.raises(DecryptionError):
        open_snapshot(type(ref)(named_secret("another"), ref.pages), DOCUMENT, pages)
    with pytest.raises(NotYetError):
        open_snapshot(ref, DOCUMENT, {})
    with pytest.raises(DecryptionError):
        open_snapshot(ref, DOCUMENT, {ref.pages[0]: blobs[0] + b"\0"})


def test_nothing_and_another_actor_cannot_be_packed() -> None:
    with pytest.raises(UsageError):
        seal_snapshot(DOCUMENT, [], KEY)
    ((device, raw),) = make_changes(1, 1)
    other = next(one for one in DEVICES if one != device)
    with pytest.raises(UsageError):
        pack_snapshot(DOCUMENT, [(other, raw)])


def heads_of(changes: Changes) -> dict[DeviceId, tuple[int, ChangeHash]]:
    heads = {}
    for one in unpack_snapshot(DOCUMENT, pack_snapshot(DOCUMENT, changes)):
        heads[one.device] = one.seq or 0, one.hash
    return heads


def test_the_signed_heads_name_exactly_its_changes() -> None:
    changes = make_changes(5, 60)
    packed = unpack_snapshot(DOCUMENT, pack_snapshot(DOCUMENT, changes))
    heads = heads_of(changes)
    check_heads(packed, heads)
    for place in range(60):
        with pytest.raises(MalformedError):
            check_heads(packed[:place] + packed[place + 1 :], heads)
    with pytest.raises(MalformedError, match="signed none"):
        check_heads(packed, {device: head for device, head in heads.items() if device != ANA.id})
    with pytest.raises(MalformedError):
        check_heads(packed, {**heads, ANA.id: (heads[ANA.id][0], ChangeHash(bytes(32)))})
    with pytest.raises(MalformedError):
        check_heads(packed, {**heads, ANA.id: (heads[ANA.id][0] + 1, heads[ANA.id][1])})


def test_a_device_that_the_gate_ended_may_stop_before_its_head_and_nobody_else() -> None:
    changes = make_changes(5, 60)
    packed = unpack_snapshot(DOCUMENT, pack_snapshot(DOCUMENT, changes))
    heads = heads_of(changes)
    of_ana = [place for place, one in enumerate(packed) if one.device == ANA.id]
    for kept in (0, 1, len(of_ana) - 1):
        fewer = [one for place, one in enumerate(packed) if place not in of_ana[kept:]]
        check_heads(fewer, heads, ended={ANA.id})
        with pytest.raises(MalformedError):
            check_heads(fewer, heads, ended={BEN.id})
    with pytest.raises(MalformedError):
        check_heads(packed, {**heads, ANA.id: (1, heads[ANA.id][1])}, ended={ANA.id})


# --- what is refused


def table(
    version: int = 1,
    devices: tuple[bytes, ...] = (ANA.id,),
    rows: tuple[tuple[int, int, int], ...] = ((0, 8, 0),),
    links: tuple[int, ...] = (),
    rest: bytes = change_tail(1) + b"x",
) -> bytes:
    """A part, by hand: rows of (author, length of the tail, number of dependencies)."""
    head = struct.pack(">BHII", version, len(devices), len(rows), len(links)) + b"".join(devices)
    columns = [struct.pack(f">{len(rows)}{kind}", *[row[n] for row in rows]) for n, kind in enumerate("HIH")]
    return head + b"".join(columns) + struct.pack(f">{len(links)}I", *links) + rest


def test_the_table_by_hand_is_one() -> None:
    assert len(unpack_snapshot(DOCUMENT, [zlib.compress(table())])) == 1


@pytest.mark.parametrize(
    "part",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"x" * 50, id="not compressed"),
        pytest.param(zlib.compress(b""), id="nothing inside"),
        pytest.param(zlib.compress(table())[:-1], id="cut off"),
        pytest.param(zlib.compress(table()) + b"\0", id="goes on"),
        pytest.param(zlib.compress(table() + b"\0"), id="bytes behind the last tail"),
        pytest.param(zlib.compress(table()[:-1]), id="a byte less"),
        pytest.param(zlib.compress(table(version=0)), id="version 0"),
        pytest.param(zlib.compress(table(devices=(ANA.id, ANA.id))), id="a device twice"),
        pytest.param(zlib.compress(table(devices=(ANA.id, BEN.id))), id="a device that wrote nothing"),
        pytest.param(zlib.compress(table(rows=((1, 8, 0),))), id="an author that is not there"),
        pytest.param(zlib.compress(table(rows=((0, 8, 1),), links=(1,))), id="a dependency before the beginning"),
        pytest.param(zlib.compress(table(rows=((0, 8, 1),))), id="a dependency without its link"),
        pytest.param(zlib.compress(table(rows=((0, 8, 0),), links=(1,))), id="a link of no dependency"),
        pytest.param(zlib.compress(table(rows=((0, 0, 0),), rest=b"")), id="a change without a tail"),
        pytest.param(zlib.compress(table(rows=((0, 8, 0), (0, 8, 0)), rest=(change_tail(1) + b"x") * 2)), id="twice"),
        pytest.param(zlib.compress(table(rows=((0, 2**18 + 1, 0),), rest=bytes(2**18 + 1))), id="too long a change"),
        pytest.param(
            zlib.compress(table(rows=((0, 8, 1025),), links=(0,) * 1025, rest=bytes(1025 * 32 + 8))),
            id="too many dependencies",
        ),
    ],
)
def test_a_part_that_is_none(part: bytes) -> None:
    with pytest.raises(MalformedError):
        unpack_snapshot(DOCUMENT, [part])


def test_a_later_version_stops_the_group() -> None:
    with pytest.raises(UpdateNeededError):
        unpack_snapshot(DOCUMENT, [zlib.compress(table(version=2))])


def test_a_change_after_one_that_depends_on_it_is_refused() -> None:
    first = join_change([], actor_of(ANA.id, DOCUMENT), change_tail(1) + b"x")
    after = table(
        rows=((0, 8, 1), (0, 8, 0)), links=(0,), rest=first.hash + change_tail(2) + b"x" + change_tail(1) + b"x"
    )
    with pytest.raises(MalformedError, match="after one that depends"):
        unpack_snapshot(DOCUMENT, [zlib.compress(after)])


def test_a_bomb_is_refused_before_it_takes_memory() -> None:
    bomb = zlib.compress(bytes(100_000_000))
    tracemalloc.start()
    with pytest.raises(MalformedError):
        unpack_snapshot(DOCUMENT, [bomb])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * SNAPSHOT_PART_BYTES
