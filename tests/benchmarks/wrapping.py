"""Line 8: a removal with its rotation for 1,000 devices, opening one's own wrap, packing and unpacking a snapshot."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final

from cocoon_core.protocol import primitives
from cocoon_core.protocol.change import join_change
from cocoon_core.protocol.descriptor import actor_of
from cocoon_core.protocol.device import DeviceKeys
from cocoon_core.protocol.encoding import encode
from cocoon_core.protocol.entry import EntryKind, EntryMaker
from cocoon_core.protocol.envelope import seal_envelope
from cocoon_core.protocol.epoch import Epoch
from cocoon_core.protocol.heads import DeviceHeads
from cocoon_core.protocol.ids import BlobHash, DeviceId, DocumentId, EntryId, RecipientId
from cocoon_core.protocol.operation_forms import Pin
from cocoon_core.protocol.operations import OperationBody, member_id_of
from cocoon_core.protocol.operations_devices import RemoveMember
from cocoon_core.protocol.operations_rotation import Reason, Rotation
from cocoon_core.protocol.part import PackedChange, Part, Said, open_part, pack_parts
from cocoon_core.protocol.primitives import Secret, sha256
from cocoon_core.protocol.roster_values import Recipient
from cocoon_core.protocol.rotation import check_wraps, find_page, make_rotation, open_rotation
from cocoon_core.protocol.run import sign_run
from cocoon_core.protocol.sealed_pages import name_page
from cocoon_core.protocol.snapshot import check_heads, read_snapshot
from tests.benchmarks.table import Row, Samples, compare, compare_freely
from tests.support.protocol_story import ANA, EPOCH, FEED, GROUP, named_secret, whole_tail

DEVICES: Final = 1_000
FEW: Final = 24
CHANGES: Final = 10_000
ROUNDS: Final = 5


async def measure_wrapping(base: Path) -> list[Row]:
    """All of it is computation: nothing is stored or sent."""
    return [*_measure_rotation(), *_measure_opening(), *_measure_snapshot()]


@cache
def _people(count: int) -> tuple[DeviceKeys, ...]:
    found = [
        DeviceKeys(Secret(b"\1" + number.to_bytes(31)), Secret(b"\2" + number.to_bytes(31))) for number in range(count)
    ]
    for keys in found:
        assert keys.hpke_public
    return tuple(found)


def _recipients(count: int) -> list[Recipient]:
    return [Recipient(keys.id, keys.hpke_public) for keys in _people(count)]


def _time(act: Callable[[], object], rounds: int = ROUNDS, each: int = 1) -> Samples:
    """Milliseconds of each of these rounds, of which every one acts `each` times."""
    act()
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        for _ in range(each):
            act()
        taken.append((time.perf_counter() - began) * 1000 / each)
    return Samples(taken, "ms")


def _time_beside(act: Callable[[], object], floor: Callable[[], object]) -> tuple[Samples, Samples]:
    """Both by turns, so that what else the machine does is borne by both alike."""
    rounds = [(_time(act, 1), _time(floor, 1)) for _ in range(ROUNDS)]
    mine, other = ([pair[side].median for pair in rounds] for side in (0, 1))
    return Samples(mine, "ms"), Samples(other, "ms")


# --- removal and rotation


def _measure_rotation() -> list[Row]:
    recipients, info = _recipients(DEVICES), b"i" * 79
    measured, floor = _time_beside(
        lambda: _remove_and_rotate(recipients),
        lambda: [primitives.wrap(one.hpke, bytes(32), info) for one in recipients],
    )
    return [compare(f"8 removal and rotation for {DEVICES} devices", measured, floor, 1.3, "HPKE seals")]


def _remove_and_rotate(recipients: list[Recipient]) -> tuple[list[bytes], list[bytes]]:
    """Two signed, sealed runs and the pages of wraps."""
    gone = DeviceId(bytes(32))
    body, pages = make_rotation(
        Reason.REMOVAL, [EPOCH.topic], Epoch(named_secret("next")), recipients, GROUP, named_secret("pages")
    )
    removal = RemoveMember(member_id_of(GROUP, gone), (Pin(gone, 5, EntryId(bytes(32))),))
    envelopes = []
    heads: tuple[EntryId, ...] = ()
    operations: tuple[OperationBody, ...] = (removal, body)
    for seq, operation in enumerate(operations):
        maker = EntryMaker(GROUP, ANA.id, heads)
        prev = heads[0] if heads else None
        entry = maker.statement(EntryKind.ROSTER, seq, prev, 0, operation.encode_body())
        run = sign_run([entry], lambda document: FEED, ANA.signing, DeviceHeads().digest())
        envelopes.append(seal_envelope(run.wire, EPOCH))
        heads = (entry.id,)
    return envelopes, pages


# --- one's own wrap


def _measure_opening() -> list[Row]:
    beside, few, many = _own_opening(100), _own_opening(400), _own_opening(DEVICES)
    rows = [
        compare(f"8 opening the own wrap of {DEVICES}", many, few, 1.3, "of 400"),
        compare_freely("8 opening the own wrap of 400, in a page", few, beside, "of 100, beside the rotation"),
    ]
    body, pages = _rotation(DEVICES)
    checking = _time(lambda: check_wraps(body, _recipients(DEVICES), pages), each=5)
    small = _rotation(FEW)[0].encode_body()
    return [
        *rows,
        compare_freely(f"8 checking whom {DEVICES} wraps name", checking, many, "own wrap"),
        Row(f"8 the body of a rotation for {FEW} devices, in each later manifest", f"{len(encode(small))} bytes"),
    ]


@cache
def _rotation(count: int) -> tuple[Rotation, dict[BlobHash, bytes]]:
    body, pages = make_rotation(
        Reason.AGE, [EPOCH.topic], Epoch(named_secret("next")), _recipients(count), GROUP, named_secret("pages")
    )
    return body, {name_page(page): page for page in pages}


def _own_opening(count: int) -> Samples:
    """Opening once the page is here: to get it is finding."""
    body, pages = _rotation(count)
    keys = _people(count)[0]
    own = RecipientId(keys.id)
    page = find_page(body, own)
    only = {page: pages[page]} if page is not None else pages
    return _time(lambda: open_rotation(body, own, [keys.hpke], GROUP, only), each=50)


# --- snapshots


def _measure_snapshot() -> list[Row]:
    changes = _changes()
    document = FEED.document_id(GROUP)
    raws = [said.raw[8:] for said in changes]
    floor = _time(lambda: [sha256(raw) for raw in raws])
    parts = pack_parts([(document, changes)])
    packing = _time(lambda: pack_parts([(document, changes)]), 3)
    unpacking = _time(lambda: _unpack(document, parts))
    unpacked = _unpack(document, parts)
    heads = {ANA.id: (CHANGES, unpacked[-1].hash)}
    checking = _time(lambda: check_heads(unpacked, heads))
    size, whole = sum(len(part.data) for part in parts), sum(map(len, raws))
    return [
        compare_freely(f"8 unpacking {CHANGES} changes", unpacking, floor, "hashing them"),
        compare_freely(f"8 packing {CHANGES} changes", packing, floor, "hashing them"),
        compare_freely(f"8 comparing {CHANGES} changes with signed heads", checking, floor, "hashing them"),
        Row(
            f"8 a snapshot of {CHANGES} changes", f"{size // 1000} kB in {len(parts)} parts", "", f"{size / whole:.2f}×"
        ),
    ]


def _unpack(document: DocumentId, parts: list[Part]) -> list[PackedChange]:
    return read_snapshot(document, [open_part(part.data) for part in parts])


def _changes() -> list[Said]:
    """A feed of posts of 25 words, as one device writes it."""
    rng = random.Random(8)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(2_000)]
    actor = actor_of(ANA.id, FEED.document_id(GROUP))
    made: list[Said] = []
    before: list[bytes] = []
    for number in range(1, CHANGES + 1):
        text = rng.randbytes(8) + " ".join(rng.choices(words, k=25)).encode()
        change = join_change(before, actor, whole_tail(number, text, start=3 * number - 2))
        before = [change.hash]
        made.append(Said(ANA.id, change.raw, number))
    return made
