"""A hostile member against the documents: attacks 27, 28, 33, 35, 42 and 43.

Each is run against the real gate, where it must be refused and leave the others at work, and once against a gate with
the one rule taken out (`weakened`), where it must succeed: else the test would prove nothing.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
import tracemalloc
import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from automerge.core import ROOT, ObjType, ScalarType
from automerge.core import Document as Automerge

from cocoon_core.documents import Document, Gate, MissingDependencyError, Rule, Saved, change, parse_change
from cocoon_core.documents.adapter import Replica
from cocoon_core.documents.change import (
    ACTION,
    INSERT,
    KEY_ACTOR,
    KEY_COUNTER,
    KEY_STRING,
    OBJ_ACTOR,
    OBJ_COUNTER,
    PRED_ACTOR,
    PRED_COUNT,
    PRED_COUNTER,
    PUT,
    VALUE_META,
)
from cocoon_core.documents.columns import encode_uint, read_uint
from cocoon_core.errors import (
    CocoonError,
    DocumentUnavailableError,
    EquivocationError,
    MalformedError,
    NotPermittedError,
    UsageError,
)
from cocoon_core.protocol.constants import MAX_CHANGE_BYTES, MAX_OP_COUNTER
from cocoon_core.protocol.descriptor import Descriptor, actor_of
from tests.adversary.weakened_gate import CarelessGate, WeakenedGate
from tests.support.changes import put_together, take_apart
from tests.support.documents import (
    ANA,
    BEN,
    GROUP,
    OWNED,
    SHARED,
    deliver,
    device,
    edit,
    first_changes,
    new_document,
    new_gate,
)

ONE, TWO, MALLORY = device(1), device(2), device(66)
ID = SHARED.document_id(GROUP)


def put_item(document: Document, key: str, value: Any) -> bytes:
    begun = document.change()
    with begun as root:
        root["items"][key] = value
    assert begun.change is not None
    return begun.change.raw


def weakened(descriptor: Descriptor, *without: Rule) -> WeakenedGate:
    return WeakenedGate(descriptor, descriptor.document_id(GROUP), *without)


def reopen(number: int, log: list[bytes], saved: Saved | None = None) -> Document:
    return Document(SHARED, ID, actor_of(device(number), ID), lambda: list(log), saved)


def require_alive_after(attack: bytes, before: list[tuple[bytes, Any]], error: type[CocoonError]) -> None:
    """The attack is refused; the document lives on for the others, through a restart, and they still converge."""
    stored: dict[int, list[bytes]] = {1: [], 2: []}
    documents = {number: reopen(number, stored[number]) for number in (1, 2)}
    for number, document in documents.items():
        for raw, signer in before:
            if signer == device(number):
                continue
            document.merge([document.receive(raw, signer, ANA)])
            stored[number].append(raw)
        for _ in range(2):
            with pytest.raises(error):
                document.receive(attack, MALLORY, BEN)
    for turn in range(3):
        for number, other in ((1, 2), (2, 1)):
            raw = put_item(documents[number], f"{number}", turn)
            stored[number].append(raw)
            documents[other].merge([documents[other].receive(raw, device(number), ANA)])
            stored[other].append(raw)
        for number in (1, 2):  # a restart, from the cache and from the store
            saved = documents[number].save()
            documents[number] = reopen(number, stored[number], saved if turn else None)
            assert documents[number].heads == saved.heads
    assert documents[1].read() == documents[2].read()
    assert documents[1].read()["items"]["1"] == 2


def mallory_after(raws: list[bytes]) -> Document:
    """Mallory's honest-looking document, with others' changes in it."""
    document = new_document(SHARED, 66)
    deliver(document, [(raw, ONE) for raw in raws], MALLORY)
    return document


def forge(raw: bytes, **columns: list[Any]) -> bytes:
    names = {
        "objects": OBJ_COUNTER, "object_actors": OBJ_ACTOR, "keys": KEY_STRING, "elements": KEY_COUNTER,
        "element_actors": KEY_ACTOR, "preds": PRED_COUNT, "pred_actors": PRED_ACTOR, "pred_counters": PRED_COUNTER,
    }  # fmt: skip
    parts = take_apart(raw)
    return put_together(
        replace(parts, columns={**parts.columns, **{names[name]: column for name, column in columns.items()}})
    )


def apply_ungated(raws: list[bytes]) -> Replica:
    replica = Replica(actor_of(TWO, ID))
    replica.apply(raws)
    return replica


# --- 27: under another's name


def test_attack_27_a_change_under_another_devices_actor_is_refused() -> None:
    victim = new_document(SHARED, 1)
    forged = put_item(new_document(SHARED, 1), "words", "never said")  # anyone can compute the victim's actor
    gate = new_gate(SHARED)
    with pytest.raises(NotPermittedError):
        gate.admit(forged, MALLORY, BEN)
    assert gate.admit(put_item(victim, "words", "said"), ONE, ANA)


def test_attack_27_weakened_the_forged_actor_shuts_its_owner_out() -> None:
    victim = new_document(SHARED, 1)
    gate = weakened(SHARED, Rule.ACTOR)
    assert gate.admit(put_item(new_document(SHARED, 1), "words", "never said"), MALLORY, BEN)
    with pytest.raises(EquivocationError):
        gate.admit(put_item(victim, "words", "said"), ONE, ANA)


def test_attack_27_a_change_in_another_members_document_is_refused() -> None:
    raw = edit(new_document(OWNED, 66), **{"post:1": {"text": "by Ana, it seems"}})
    with pytest.raises(NotPermittedError):
        new_gate(OWNED).admit(raw, MALLORY, BEN)
    assert new_gate(OWNED).admit(raw, MALLORY, ANA)  # the same device, were it Ana's


def test_attack_27_weakened_anybody_writes_in_anybodys_document() -> None:
    raw = edit(new_document(OWNED, 66), **{"post:1": {"text": "by Ana, it seems"}})
    admitted = weakened(OWNED, Rule.OWNER).admit(raw, MALLORY, BEN)
    replica = Replica(actor_of(ONE, ID))
    replica.apply([admitted.raw])
    assert replica.keys(ROOT) == ["post:1"]


# --- 28: one (actor, seq) twice


def test_attack_28_a_second_change_with_one_seq_is_an_equivocation_and_others_go_on() -> None:
    said, unsaid = put_item(new_document(SHARED, 66), "a", 1), put_item(new_document(SHARED, 66), "a", 2)
    require_alive_after(unsaid, [(said, MALLORY)], EquivocationError)


def test_attack_28_weakened_a_reused_seq_blocks_everybodys_later_changes() -> None:
    said, unsaid = put_item(new_document(SHARED, 66), "a", 1), put_item(new_document(SHARED, 66), "c", 2)
    gate = weakened(SHARED, Rule.EQUIVOCATION, Rule.SEQ)
    victim = new_document(SHARED, 1)
    deliver(victim, [(said, MALLORY)], ONE)
    later = put_item(victim, "b", 1)
    raws = [gate.admit(said, MALLORY, BEN).raw, gate.admit(unsaid, MALLORY, BEN).raw, gate.admit(later, ONE, ANA).raw]
    with pytest.raises(DocumentUnavailableError):
        apply_ungated([*first_changes(SHARED), *raws])


# --- 33: time

FUTURE = 253_000_000_000_000  # milliseconds
YEAR = 9987


def with_time(raw: bytes, seconds: int) -> bytes:
    return put_together(replace(take_apart(raw), time=seconds))


@pytest.mark.parametrize("seconds", [1, -1, -(2**40), 2**40])
def test_attack_33_a_change_carries_no_time(seconds: int) -> None:
    raw = put_item(new_document(SHARED, 66), "a", 1)
    require_alive_after(with_time(raw, seconds), [], MalformedError)


def test_attack_33_weakened_a_time_of_the_authors_choice_enters_the_document() -> None:
    raw = put_item(new_document(SHARED, 66), "a", 1)
    gate = CarelessGate(SHARED, ID, lambda _: raw)
    replica = apply_ungated([*first_changes(SHARED), gate.admit(with_time(raw, FUTURE), MALLORY, BEN).raw])
    loaded = Automerge.load(replica.save())
    assert loaded.get_changes([])[-1].timestamp.year == YEAR


# --- 35: poison


def unloadable(base: bytes) -> bytes:
    """Names a predecessor that is on another key: applies, saves, and cannot be loaded again."""
    document = mallory_after([base])
    raw = put_item(document, "b", 2)
    parts = replace(take_apart(raw), others=[parse_change(base).actor])
    parts = replace(parts, columns={**parts.columns, PRED_COUNT: [1], PRED_ACTOR: [2], PRED_COUNTER: [4]})
    schema_actor = take_apart(raw).others
    others = sorted([*schema_actor, parse_change(base).actor])
    number = others.index(parse_change(base).actor) + 1
    columns = {
        **parts.columns, OBJ_ACTOR: [others.index(schema_actor[0]) + 1], PRED_ACTOR: [number]
    }  # fmt: skip
    return put_together(replace(parts, others=others, columns=columns))


def test_attack_35_a_change_that_saves_but_does_not_load_is_refused() -> None:
    base = put_item(new_document(SHARED, 1), "a", 1)
    assert parse_change(unloadable(base))  # its form is good
    require_alive_after(unloadable(base), [], MissingDependencyError)
    gate = new_gate(SHARED, [(base, ONE)])
    with pytest.raises(MalformedError, match="predecessors"):
        gate.admit(unloadable(base), MALLORY, BEN)


def test_attack_35_weakened_the_document_saves_and_is_lost() -> None:
    base = put_item(new_document(SHARED, 1), "a", 1)
    gate = weakened(SHARED, Rule.PREDECESSORS)
    raws = [gate.admit(base, ONE, ANA).raw, gate.admit(unloadable(base), MALLORY, BEN).raw]
    replica = apply_ungated([*first_changes(SHARED), *raws])
    saved = replica.save()
    with pytest.raises(DocumentUnavailableError):
        Replica(actor_of(TWO, ID), saved)


def panicking() -> bytes:
    """Names a predecessor whose counter has over 32 bits."""
    return forge(put_item(new_document(SHARED, 66), "a", 1), preds=[1], pred_actors=[0], pred_counters=[2**33])


def test_attack_35_a_change_that_panics_is_refused() -> None:
    assert parse_change(panicking())
    require_alive_after(panicking(), [], MalformedError)


def test_attack_35_weakened_automerge_panics() -> None:
    raw = weakened(SHARED, Rule.PREDECESSORS).admit(panicking(), MALLORY, BEN).raw
    replica = apply_ungated(first_changes(SHARED))
    with pytest.raises(DocumentUnavailableError) as caught:
        replica.apply([raw])
    assert not isinstance(caught.value.__cause__, Exception)
    assert replica.spoiled


PANIC_IN_AN_EDIT = """
import sys
from cocoon_core.documents import adapter
from cocoon_core.errors import DocumentUnavailableError
from cocoon_core.protocol.ids import ActorId
if "weakened" in sys.argv:
    adapter.Replica._abandon = lambda self: None
for _ in range(20):
    replica = adapter.Replica(ActorId(bytes(16)))
    try:
        with replica.editing():
            replica.put(adapter.ROOT, "a", adapter.ScalarType.Int, 1)
            replica.put(adapter.ROOT, "b", adapter.ScalarType.Counter, 1)
    except DocumentUnavailableError:
        pass
    del replica
print("alive")
"""


def run_panics(*arguments: str, timeout: float) -> str:
    """What a process says that panicked within edits, with freed memory overwritten at once."""
    done = subprocess.run(
        [sys.executable, "-c", PANIC_IN_AN_EDIT, *arguments],
        env={"PYTHONPATH": os.pathsep.join(sys.path), "MALLOC_PERTURB_": "165", "RUST_BACKTRACE": "0"},
        capture_output=True, text=True, timeout=timeout, check=True,
    )  # fmt: skip
    return done.stdout


def test_attack_35_a_panic_within_an_edit_leaves_the_process_alive() -> None:
    assert run_panics(timeout=60) == "alive\n"


def test_attack_35_weakened_freeing_what_a_panic_left_behind_kills_or_stops_the_process() -> None:
    with pytest.raises((subprocess.CalledProcessError, subprocess.TimeoutExpired)):
        run_panics("weakened", timeout=5)


def exhausting() -> bytes:
    return put_together(replace(take_apart(put_item(new_document(SHARED, 66), "a", 1)), start_op=MAX_OP_COUNTER))


def test_attack_35_a_change_that_exhausts_the_counters_is_refused() -> None:
    require_alive_after(exhausting(), [], MalformedError)


def test_attack_35_weakened_nobody_can_edit_any_more() -> None:
    raw = weakened(SHARED, Rule.START_OP).admit(exhausting(), MALLORY, BEN).raw
    victim = Document(SHARED, ID, actor_of(ONE, ID), lambda: [raw])
    with pytest.raises(UsageError):
        put_item(victim, "b", 1)


def test_attack_35_conflicts_piled_up_on_one_key_are_refused() -> None:
    """Without predecessors each write stands beside the last, and the next honest write would have to name them all."""
    document = new_document(SHARED, 66)
    first = put_item(document, "milk", 1)
    second = forge(put_item(document, "milk", 2), preds=[0], pred_actors=[], pred_counters=[])
    gate = new_gate(SHARED, [(first, MALLORY)])
    with pytest.raises(MalformedError):
        gate.admit(second, MALLORY, BEN)
    require_alive_after(second, [(first, MALLORY)], MalformedError)


def test_attack_35_weakened_an_honest_write_grows_with_the_pile() -> None:
    gate, raws = weakened(SHARED, Rule.PREDECESSORS), []
    previous = put_item(new_document(SHARED, 66), "milk", 0)
    raws.append(gate.admit(previous, MALLORY, BEN).raw)
    for number in range(2, 60):
        parts = replace(
            take_apart(previous), seq=number, start_op=parse_change(previous).start_op + 1,
            deps=[parse_change(previous).hash], values=bytes([number]),
        )  # fmt: skip
        previous = put_together(parts)
        raws.append(gate.admit(previous, MALLORY, BEN).raw)
    victim = Document(SHARED, ID, actor_of(ONE, ID), lambda: raws)
    honest = put_item(victim, "milk", "mine")
    assert sum(take_apart(honest).columns[PRED_COUNT]) == 59


def expanding(rows: int) -> bytes:
    """As many nulls as wanted, put at the head of a list: a hundred bytes."""
    raw = put_item(new_document(SHARED, 66), "a", None)
    parts = take_apart(raw)
    columns: dict[int, list[Any]] = {
        OBJ_ACTOR: [1] * rows, OBJ_COUNTER: [2] * rows, KEY_ACTOR: [None] * rows, KEY_COUNTER: [0] * rows,
        KEY_STRING: [None] * rows, INSERT: [True] * rows, ACTION: [PUT] * rows, VALUE_META: [0] * rows,
        PRED_COUNT: [0] * rows, PRED_ACTOR: [], PRED_COUNTER: [],
    }  # fmt: skip
    return put_together(replace(parts, columns=columns))


@pytest.mark.parametrize("items", [1_000, 16_000, 200_000])
def test_attack_35_a_change_that_expands_a_hundredfold_is_refused(items: int) -> None:
    raw = expanding(items)
    assert len(raw) < 200
    require_bounded(lambda: new_gate(SHARED).admit(raw, MALLORY, BEN), MalformedError)
    require_alive_after(raw, [], MalformedError)


def test_attack_35_weakened_a_hundred_bytes_become_thousands_of_items(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = expanding(16_000)
    monkeypatch.setattr(change, "FREE_CHANGE_OPS", 10**9)
    admitted = new_gate(SHARED).admit(raw, MALLORY, BEN).raw
    document = Document(SHARED, ID, actor_of(ONE, ID), lambda: [admitted])
    assert len(document.read()["lines"]) == 16_000 > 80 * len(raw)


# --- 42: bombs


def require_bounded(attempt: Callable[[], object], error: type[CocoonError]) -> None:
    """It is refused within 4 MiB of memory and a second of this process."""
    tracemalloc.start()
    began = time.process_time()
    try:
        with pytest.raises(error):
            attempt()
        spent, (_, peak) = time.process_time() - began, tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20
    assert spent < 1


def deflated(raw: bytes) -> bytes:
    """The same change as a chunk of type 2, which automerge inflates: the checksum is that of the inflated one."""
    _, start = read_uint(raw, 9)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = packer.compress(raw[start:]) + packer.flush()
    return raw[:8] + b"\2" + encode_uint(len(body)) + body


def big_text_change(size: int) -> bytes:
    peer = Automerge(actor_id=bytes(actor_of(MALLORY, ID)))
    with peer.transaction() as transaction:
        transaction.put(ROOT, "a", ScalarType.Str, "x" * size)
    return peer.get_changes([])[0].raw_bytes


def test_attack_42_a_deflated_change_chunk_is_refused_before_it_is_inflated() -> None:
    bomb = deflated(big_text_change(20_000_000))
    assert len(bomb) < MAX_CHANGE_BYTES
    require_bounded(lambda: new_gate(SHARED).admit(bomb, MALLORY, BEN), MalformedError)
    require_alive_after(bomb, [], MalformedError)


def test_attack_42_weakened_automerge_inflates_it_a_hundredfold() -> None:
    bomb = deflated(big_text_change(20_000_000))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    replica = apply_ungated([bomb])
    stored = replica.get(ROOT, "a")
    assert stored is not None
    assert len(stored[0][1]) == 20_000_000 > 500 * len(bomb)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >= before


def document_bomb(items: int) -> bytes:
    """A saved document of many equal items: a few hundred bytes."""
    peer = Automerge(actor_id=b"\1" * 16)
    with peer.transaction() as transaction:
        row = transaction.put_object(ROOT, "l", ObjType.List)
        for index in range(items):
            transaction.insert(row, index, ScalarType.Null, None)
    return peer.save()


def test_attack_42_a_document_chunk_is_refused() -> None:
    bomb = document_bomb(50_000)
    assert len(bomb) < 300
    require_bounded(lambda: new_gate(SHARED).admit(bomb, MALLORY, BEN), MalformedError)
    require_alive_after(bomb, [], MalformedError)


def test_attack_42_weakened_a_document_chunk_loads_as_thousands_of_items() -> None:
    replica = Replica(actor_of(ONE, ID), document_bomb(50_000))
    stored = replica.get(ROOT, "l")
    assert stored is not None
    assert replica.length(stored[1]) == 50_000


def test_attack_42_counts_and_lengths_that_lie_cost_nothing() -> None:
    raw = put_item(new_document(SHARED, 66), "a", 1)
    parts = take_apart(raw)
    for name in (ACTION, VALUE_META, PRED_COUNT, OBJ_COUNTER, KEY_STRING, INSERT, PRED_COUNTER):
        for lie in (b"\xff\xff\xff\xff\xff\xff\x3f\x01", b"\x00\xff\xff\xff\xff\xff\xff\x3f", b"\xff\xff\xff\x7f"):
            bomb = put_together(replace(parts, overrides={name: lie}))
            require_bounded(partial(new_gate(SHARED).admit, bomb, MALLORY, BEN), MalformedError)


# --- 43: floods


def test_attack_43_a_flood_of_changes_without_their_dependencies_leaves_nothing_in_the_gate() -> None:
    gate = new_gate(SHARED)
    raw = put_item(new_document(SHARED, 66), "a", 1)
    flood = [
        put_together(replace(take_apart(raw), deps=[number.to_bytes(32)], seq=1 + number)) for number in range(2_000)
    ]
    tracemalloc.start()
    try:
        for item in flood:
            with pytest.raises(MissingDependencyError):
                gate.admit(item, MALLORY, BEN)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 256 << 10
    assert len(gate) == 1


def test_attack_43_many_references_into_large_changes_cost_no_more_than_they_weigh() -> None:
    """Small changes that point into many large ones: nothing is parsed again for each."""
    author = new_document(OWNED, 1)
    gate = new_gate(OWNED)
    for number in range(8):
        gate.admit(edit(author, **{f"l{number}": list(range(5_000))}), ONE, ANA)
    began = time.process_time()
    for turn in range(100):
        begun = author.change()
        with begun as root:
            for number in range(8):
                root[f"l{number}"][turn] = -1 - turn
        assert begun.change is not None
        gate.admit(begun.change.raw, ONE, ANA)
    assert time.process_time() - began < 5


def test_weakened_gates_are_gates_in_all_else() -> None:
    gate: Gate = weakened(OWNED, Rule.ACTOR)
    with pytest.raises(NotPermittedError):
        gate.admit(edit(new_document(OWNED, 1), a=1), ONE, BEN)
