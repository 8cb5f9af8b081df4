"""`parse_change`: what automerge writes is read as it is meant, and every other form is refused."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256

import pytest
from automerge.core import ROOT, ObjType, ScalarType
from automerge.core import Document as Automerge

from cocoon_core.documents import Text, change, parse_change
from cocoon_core.documents.change import (
    ACTION,
    DELETE,
    INSERT,
    KEY_ACTOR,
    KEY_STRING,
    MAKE_LIST,
    MAKE_MAP,
    MAKE_TEXT,
    OBJ_ACTOR,
    PRED_ACTOR,
    PRED_COUNT,
    PUT,
    VALUE_META,
)
from cocoon_core.documents.columns import encode_sint, encode_uint
from cocoon_core.documents.schema import frame_change
from cocoon_core.errors import MalformedError
from cocoon_core.protocol.change import split_change
from cocoon_core.protocol.constants import MAX_CHANGE_BYTES, MAX_CHANGE_DEPS, MAX_OP_COUNTER
from tests.support.changes import Parts, mutate, put_together, take_apart
from tests.support.documents import OWNED, edit, new_document


def change_of(**values: object) -> bytes:
    return edit(new_document(OWNED, 1), **values)


def second_change() -> bytes:
    document = new_document(OWNED, 1)
    edit(document, a=1, b=[1, 2])
    return edit(document, a=2)


def test_a_record_is_read_as_it_was_written() -> None:
    raw = change_of(**{"post:1": {"at": 5, "text": "hi"}})
    parsed = parse_change(raw)
    assert parsed.hash == sha256(raw[8:]).digest()
    assert (parsed.seq, parsed.start_op, parsed.max_op, parsed.deps) == (1, 1, 3, ())
    assert list(parsed.shape.actions) == [MAKE_MAP, PUT, PUT]
    assert list(parsed.key_strings or ()) == ["post:1", "at", "text"]
    assert list(parsed.obj_counters or ()) == [None, 1, 1]
    assert parsed.values == b"\x05hi"
    assert parsed.record_key == "post:1"


def test_lists_texts_and_deletions_are_read_as_they_were_written() -> None:
    document = new_document(OWNED, 1)
    begun = document.change()
    with begun as root:
        root["l"] = [7]
        root["t"] = Text("é")
        del root["l"][0]
    assert begun.change is not None
    parsed = parse_change(begun.change.raw)
    assert list(parsed.shape.actions) == [MAKE_LIST, PUT, MAKE_TEXT, PUT, DELETE]
    assert list(parsed.shape.inserts) == [False, True, False, True, False]
    assert list(parsed.shape.pred_counts) == [0, 0, 0, 0, 1]
    assert list(parsed.pred_counters or ()) == [2]
    assert parsed.record_key is None


def test_header_agrees_with_the_wire_codec() -> None:
    raw = second_change()
    deps, actor, _ = split_change(raw)
    parsed = parse_change(raw)
    assert (tuple(deps), actor) == (parsed.deps, parsed.actor)


def test_pieces_put_together_unchanged_are_the_same_bytes() -> None:
    for raw in (change_of(a=1), second_change(), change_of(l=[1, None, {"x": Text("é")}], b=b"\x00", f=1.5)):
        assert put_together(take_apart(raw)) == raw


def _columns(parts: Parts, **changed: list[object]) -> Parts:
    names = {"actions": ACTION, "metas": VALUE_META, "preds": PRED_COUNT, "keys": KEY_STRING, "objects": OBJ_ACTOR}
    return replace(parts, columns={**parts.columns, **{names[name]: column for name, column in changed.items()}})


def _value(parts: Parts, kind: int, data: bytes) -> Parts:
    return replace(_columns(parts, metas=[len(data) << 4 | kind]), values=data)


REFUSED: dict[str, Callable[[Parts], Parts]] = {
    "a time": lambda parts: replace(parts, time=1),
    "a negative time": lambda parts: replace(parts, time=-1),
    "a message": lambda parts: replace(parts, message=b"m"),
    "extra bytes": lambda parts: replace(parts, extra=b"\0"),
    "seq 0": lambda parts: replace(parts, seq=0),
    "first operation 0": lambda parts: replace(parts, start_op=0),
    "an operation counter over the limit": lambda parts: replace(parts, start_op=MAX_OP_COUNTER + 1),
    "an operation counter near 2^32": lambda parts: replace(parts, start_op=2**32 - 1),
    "dependencies out of order": lambda parts: replace(parts, deps=[b"\2" * 32, b"\1" * 32]),
    "a dependency twice": lambda parts: replace(parts, deps=[b"\1" * 32, b"\1" * 32]),
    "too many dependencies": lambda parts: replace(
        parts, deps=[number.to_bytes(32) for number in range(MAX_CHANGE_DEPS + 1)]
    ),
    "an actor of 15 bytes": lambda parts: replace(parts, actor=parts.actor[1:]),
    "an actor named and not used": lambda parts: replace(parts, others=[b"\1" * 16]),
    "an actor used and not named": lambda parts: _columns(parts, objects=[1]),
    "another actor of 15 bytes": lambda parts: replace(parts, others=[b"\1" * 15]),
    "itself among the others": lambda parts: replace(parts, others=[parts.actor]),
    "no operations": lambda parts: replace(parts, columns={name: [] for name in parts.columns}, values=b""),
    "columns of different lengths": lambda parts: _columns(parts, actions=[PUT, PUT]),
    "keys of another length": lambda parts: _columns(parts, keys=["a", "b"]),
    "predecessors without their columns": lambda parts: _columns(parts, preds=[1]),
    "no number of predecessors": lambda parts: replace(parts, overrides={PRED_COUNT: b"\x00\x01"}),
    "predecessors without a number": lambda parts: replace(parts, overrides={PRED_ACTOR: b"\x7f\x00"}),
    "an increment": lambda parts: _columns(parts, actions=[5]),
    "a table": lambda parts: _columns(parts, actions=[6], metas=[0]),
    "a mark": lambda parts: _columns(parts, actions=[7]),
    "an action without a name": lambda parts: _columns(parts, actions=[8]),
    "a deletion with a value": lambda parts: _columns(parts, actions=[DELETE]),
    "a container with a value": lambda parts: _columns(parts, actions=[MAKE_MAP]),
    "a container that is true": lambda parts: replace(_columns(parts, actions=[MAKE_MAP], metas=[2]), values=b""),
    "an unsigned integer": lambda parts: _value(parts, 3, b"\1"),
    "a counter": lambda parts: _value(parts, 8, b"\1"),
    "a timestamp": lambda parts: _value(parts, 9, b"\1"),
    "a value of an unknown type": lambda parts: _value(parts, 10, b"\1"),
    "a null with bytes": lambda parts: _value(parts, 0, b"\1"),
    "true with bytes": lambda parts: _value(parts, 2, b"\1"),
    "fewer bytes than values": lambda parts: replace(parts, values=b""),
    "more bytes than values": lambda parts: replace(parts, values=b"\1\1"),
    "an empty integer": lambda parts: _value(parts, 4, b""),
    "an integer cut off": lambda parts: _value(parts, 4, b"\x80"),
    "an integer with bytes behind": lambda parts: _value(parts, 4, b"\x01\x01"),
    "an integer that is not minimal": lambda parts: _value(parts, 4, b"\x81\x00"),
    "a negative integer that is not minimal": lambda parts: _value(parts, 4, b"\xff\x7f"),
    "an integer of 65 bits": lambda parts: _value(parts, 4, encode_sint(2**63)),
    "an integer of 11 bytes": lambda parts: _value(parts, 4, encode_sint(2**71)),
    "a float of 7 bytes": lambda parts: _value(parts, 5, bytes(7)),
    "not a number": lambda parts: _value(parts, 5, bytes.fromhex("000000000000f87f")),
    "infinity": lambda parts: _value(parts, 5, bytes.fromhex("000000000000f0ff")),
    "text that is not UTF-8": lambda parts: _value(parts, 6, b"\xff"),
    "text with half a surrogate pair": lambda parts: _value(parts, 6, b"\xed\xa0\x80"),
    "a column of marks": lambda parts: replace(parts, order=(*parts.order, 0xA5), overrides={0xA5: b"\x7f\x01a"}),
    "a column of expansion": lambda parts: replace(parts, order=(*parts.order, 0x94), overrides={0x94: b"\x01"}),
    "a deflated column": lambda parts: replace(parts, order=(*parts.order, 0x7B), overrides={0x7B: b"\x01"}),
    "a column twice": lambda parts: replace(parts, order=tuple(sorted((*parts.order, ACTION)))),
    "columns out of order": lambda parts: replace(parts, order=tuple(reversed(parts.order))),
    "no column of actions": lambda parts: replace(parts, order=tuple(name for name in parts.order if name != ACTION)),
    "no column of insertions": lambda parts: replace(parts, overrides={INSERT: b""}),
    "a column of nulls": lambda parts: replace(parts, overrides={KEY_ACTOR: b"\x00\x01"}),
    "an action that is null": lambda parts: replace(parts, overrides={ACTION: b"\x00\x01"}),
    "a column in another form": lambda parts: replace(parts, overrides={ACTION: b"\x01\x01"}),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_forms(name: str) -> None:
    parts = take_apart(change_of(a=1))
    assert parse_change(put_together(parts))
    with pytest.raises(MalformedError):
        parse_change(put_together(REFUSED[name](parts)))


def _rechecked(raw: bytes) -> bytes:
    return raw[:4] + sha256(raw[8:]).digest()[:4] + raw[8:]


def _deflated(raw: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = packer.compress(raw[10:]) + packer.flush()
    return raw[:8] + b"\x02" + encode_uint(len(body)) + body


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda raw: raw[:-1], id="cut off"),
        pytest.param(lambda raw: raw + b"\0", id="trailing byte"),
        pytest.param(lambda raw: b"", id="nothing"),
        pytest.param(lambda raw: b"\x85\x6f\x4a\x84" + raw[4:], id="other magic"),
        pytest.param(lambda raw: raw[:4] + bytes(4) + raw[8:], id="wrong checksum"),
        pytest.param(lambda raw: _rechecked(raw[:8] + b"\0" + raw[9:]), id="document chunk"),
        pytest.param(_deflated, id="deflated chunk"),
        pytest.param(lambda raw: _rechecked(raw[:8] + b"\3" + raw[9:]), id="unknown chunk"),
        pytest.param(lambda raw: _rechecked(raw[:9] + bytes((raw[9] | 0x80, 0)) + raw[10:]), id="length not minimal"),
        pytest.param(lambda raw: frame_change(raw[10:] + bytes(MAX_CHANGE_BYTES)), id="over the size limit"),
        pytest.param(lambda raw: frame_change(b"\0" * 40), id="nothing but zeros"),
    ],
)
def test_refused_frames(spoil: Callable[[bytes], bytes]) -> None:
    raw = change_of(a=1)
    assert len(raw) < 0x80 + 10
    with pytest.raises(MalformedError):
        parse_change(spoil(raw))


def test_every_prefix_and_every_flipped_bit_is_refused() -> None:
    raw = second_change()
    for end in range(len(raw)):
        with pytest.raises(MalformedError):
            parse_change(raw[:end])
    for bit in range(8 * len(raw)):
        spoiled = bytearray(raw)
        spoiled[bit // 8] ^= 1 << bit % 8
        with pytest.raises(MalformedError):
            parse_change(bytes(spoiled))


def test_a_hash_of_other_bytes_is_refused() -> None:
    raw = change_of(a=1)
    assert parse_change(raw, sha256(raw[8:]).digest()) == parse_change(raw)
    with pytest.raises(MalformedError, match="checksum"):
        parse_change(raw, sha256(second_change()[8:]).digest())


def reframed(raw: bytes, old: bytes, new: bytes) -> bytes:
    """The change with some of its bytes replaced, and a frame that fits."""
    assert raw[9] < 0x80
    assert raw.count(old) == 1
    return frame_change(raw[10:].replace(old, new))


def test_what_is_remembered_of_other_changes_alters_no_verdict() -> None:
    seed = 7
    rng = random.Random(seed)
    posts = [{"at": 5, "text": "hi"}, {"at": 1 << 40, "text": "é" * 90, "re": bytes(16)}, {"n": None, "b": True}]
    raws = [change_of(**{key: post}) for post in posts for key in ("post:1", "at", "k" * 130)]
    twins = change_of(**{"post:2": {"post:1": 1, "text": "x"}})
    raws.append(twins)
    crafted = [reframed(twins, b"post:2", b"post:1"), reframed(twins, b"\x34\1\x42\4", b"\x34\2\x42\3")]
    changed = [*raws, *crafted, *(mutate(rng.choice(raws), [b"\1" * 32], [b"\1" * 16], rng) for _ in range(1500))]
    memories = (change._layouts, change._forms, change._shapes, change._names, change._alone)

    def parsed(raw: bytes, cold: bool) -> object:
        for memory in memories if cold else ():
            memory.clear()
        try:
            found = parse_change(raw)
        except MalformedError:
            return None
        return found, found.obj_counters, found.key_strings

    cold = [parsed(raw, True) for raw in changed]
    warm = [parsed(raw, False) for raw in (*changed, *changed)]
    assert warm == cold * 2, f"seed {seed}"
    assert None in cold
    assert sum(found is not None for found in cold) > len(raws)


def test_a_change_that_makes_more_things_than_it_has_bytes_is_refused() -> None:
    peer = Automerge(actor_id=b"\1" * 16)
    with peer.transaction() as transaction:
        items = transaction.put_object(ROOT, "l", ObjType.List)
        for index in range(799):
            transaction.insert(items, index, ScalarType.Null, None)
    raw = peer.get_changes([])[0].raw_bytes
    assert len(raw) < 200
    with pytest.raises(MalformedError, match="makes 800 things"):
        parse_change(raw)


def test_deleting_a_long_text_takes_few_bytes_and_is_accepted() -> None:
    document = new_document(OWNED, 1)
    edit(document, t=Text("x" * 3000))
    begun = document.change()
    with begun as root:
        del root["t"][:]
    assert begun.change is not None
    assert len(begun.change.raw) < 200
    assert parse_change(begun.change.raw).shape.ops == 3000
