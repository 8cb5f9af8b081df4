"""The admission gate, rule by rule, and that its verdict depends on a change's past alone."""

from __future__ import annotations

import copy
import pickle
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from cocoon_core.documents import AdmittedChange, Document, Gate, MissingDependencyError, Text, parse_change
from cocoon_core.documents.change import (
    ACTION,
    DELETE,
    INSERT,
    INT,
    KEY_ACTOR,
    KEY_COUNTER,
    KEY_STRING,
    MAKE_LIST,
    MAKE_MAP,
    MAKE_TEXT,
    NULL,
    OBJ_ACTOR,
    OBJ_COUNTER,
    PRED_ACTOR,
    PRED_COUNT,
    PRED_COUNTER,
    PUT,
    STRING,
    VALUE_META,
)
from cocoon_core.errors import (
    CocoonError,
    EquivocationError,
    MalformedError,
    NotPermittedError,
    UntrustedInputError,
)
from cocoon_core.protocol.constants import MAX_NESTING
from cocoon_core.protocol.descriptor import actor_of
from cocoon_core.protocol.ids import ActorId, ChangeHash
from tests.support.changes import Parts, mutate, put_together, take_apart
from tests.support.documents import (
    ADMIN,
    ANA,
    BEN,
    GROUP,
    OWNED,
    SHARED,
    Signed,
    deliver,
    device,
    edit,
    new_document,
    new_gate,
    random_session,
)

ONE, TWO, THREE = device(1), device(2), device(3)


def edited(document: Document, write: Callable[[Any], object]) -> bytes:
    begun = document.change()
    with begun as root:
        write(root)
    assert begun.change is not None
    return begun.change.raw


def refuse(gate: Gate, raw: bytes, error: type[CocoonError], says: str, signer: Any = ONE, member: Any = ANA) -> None:
    """The gate refuses it for this reason, twice, and is as it was."""
    before, heads = len(gate), gate.heads
    for _ in range(2):
        with pytest.raises(error, match=says):
            gate.admit(raw, signer, member)
    assert (len(gate), gate.heads) == (before, heads)


# --- what an admitted change says


def test_an_admitted_change_says_what_it_is() -> None:
    document, gate = new_document(OWNED, 1), new_gate(OWNED)
    first = gate.admit(edit(document, a=1, b={"c": 2}), ONE, ANA)
    raw = edited(document, lambda root: root["b"].update(c=3, d=4))
    second = gate.admit(raw, ONE, ANA)
    assert isinstance(second.hash, ChangeHash)
    assert isinstance(second.actor, ActorId)
    assert (second.raw, second.seq, second.start_op, second.max_op) == (raw, 2, 4, 5)
    assert second.deps == (first.hash,)
    assert (first.touched, second.touched) == (("a", "b"), ("b",))
    assert gate.heads == document.heads == {second.hash}
    assert gate.find(first.hash) is first
    assert gate.last_seq(second.actor) == 2


def test_admitting_again_gives_the_same_change() -> None:
    document, gate = new_document(OWNED, 1), new_gate(OWNED)
    raw = edit(document, a=1)
    assert gate.admit(raw, ONE, ANA) is gate.admit(raw, ONE, ANA)
    assert len(gate) == 1


def test_nobody_but_the_gate_makes_an_admitted_change() -> None:
    change = new_gate(OWNED).admit(edit(new_document(OWNED, 1), a=1), ONE, ANA)
    attempts: list[Callable[[], object]] = [
        lambda: AdmittedChange(*change),
        lambda: AdmittedChange._make(change),
        lambda: change._replace(seq=9),
        lambda: pickle.dumps(change),
        lambda: copy.copy(change),
        lambda: setattr(change, "seq", 9),
    ]
    for attempt in attempts:
        with pytest.raises((TypeError, AttributeError)):
            attempt()


def test_touched_names_the_root_key_of_what_lies_deep_inside() -> None:
    document, gate = new_document(SHARED, 1), new_gate(SHARED)
    gate.admit(edited(document, lambda root: root["items"].update(x={"y": [{"z": 1}]})), ONE, ANA)
    deep = gate.admit(edited(document, lambda root: root["items"]["x"]["y"][0].update(z=2)), ONE, ANA)
    both = gate.admit(edited(document, lambda root: (root["notes"].append("n"), root["items"].update(q=1))), ONE, ANA)
    assert deep.touched == ("items",)
    assert both.touched == ("notes", "items")


# --- who


def test_an_owned_document_takes_changes_of_its_owner_alone() -> None:
    document, gate = new_document(OWNED, 2), new_gate(OWNED)
    refuse(gate, edit(document, a=1), NotPermittedError, "another member", TWO, BEN)


def test_a_shared_document_takes_changes_of_every_member() -> None:
    raw = edited(new_document(SHARED, 2), lambda root: root["items"].update(a=1))
    assert new_gate(SHARED).admit(raw, TWO, BEN).touched == ("items",)


def test_a_change_under_the_actor_of_another_device_is_refused_and_stays_good_from_that_device() -> None:
    document, gate = new_document(SHARED, 1), new_gate(SHARED)
    raw = edited(document, lambda root: root["items"].update(a=1))
    refuse(gate, raw, NotPermittedError, "actor of another device", TWO, BEN)
    assert gate.admit(raw, ONE, ANA)


def test_nobody_writes_under_the_actor_of_the_schema() -> None:
    gate = new_gate(SHARED)
    assert gate.schema_change is not None
    refuse(gate, gate.schema_change.raw, NotPermittedError, "actor of another device")


# --- where it stands


def test_unknown_dependencies_are_named_and_not_held_against_the_change() -> None:
    document, gate = new_document(OWNED, 1), new_gate(OWNED)
    first, second, third = edit(document, a=1), edit(document, a=2), edit(document, a=3)
    gate.admit(first, ONE, ANA)
    with pytest.raises(MissingDependencyError) as caught:
        gate.admit(third, ONE, ANA)
    assert caught.value.missing == (ChangeHash(parse_change(second).hash),)
    assert gate.admit(second, ONE, ANA).seq == 2
    assert gate.admit(third, ONE, ANA).seq == 3


def test_what_is_built_on_a_refused_change_is_refused() -> None:
    document, gate = new_document(OWNED, 1), new_gate(OWNED)
    gate.admit(edit(document, a=1), ONE, ANA)
    wrong = put_together(replace(take_apart(edit(document, a=2)), start_op=9))
    refuse(gate, wrong, MalformedError, "begins at operation 9")
    after = put_together(replace(take_apart(edit(document, a=3)), deps=[parse_change(wrong).hash]))
    refuse(gate, after, NotPermittedError, "was refused")


def test_a_second_change_with_one_seq_is_an_equivocation() -> None:
    gate = new_gate(OWNED, [(edit(new_document(OWNED, 1), a=1), ONE)])
    refuse(gate, edit(new_document(OWNED, 1), a=2), EquivocationError, "second one of its actor with seq 1")


@pytest.mark.parametrize("seq", [1, 2, 4, 5])
def test_seq_counts_on_from_the_actors_last(seq: int) -> None:
    document, gate = new_document(OWNED, 1), new_gate(OWNED)
    gate.admit(edit(document, a=1), ONE, ANA)
    gate.admit(edit(document, a=2), ONE, ANA)
    wrong = put_together(replace(take_apart(edit(document, a=3)), seq=seq))
    refuse(gate, wrong, EquivocationError if seq < 3 else MalformedError, "seq")


def test_the_first_change_of_an_actor_has_seq_1() -> None:
    raw = put_together(replace(take_apart(edit(new_document(OWNED, 1), a=1)), seq=2))
    refuse(new_gate(OWNED), raw, MalformedError, "first of its actor")


def test_the_authors_previous_change_is_a_dependency() -> None:
    first, other = new_document(SHARED, 1), new_document(SHARED, 2)
    theirs = edited(other, lambda root: root["items"].update(b=1))
    gate = new_gate(SHARED, [(edited(first, lambda root: root["items"].update(a=1)), ONE), (theirs, TWO)])
    raw = edited(first, lambda root: root["items"].update(c=1))
    wrong = put_together(replace(take_apart(raw), deps=[parse_change(theirs).hash]))
    refuse(gate, wrong, MalformedError, "does not follow its actor's last")


@pytest.mark.parametrize("start_op", [1, 2, 4, 2**31 - 1])
def test_the_first_operation_follows_the_dependencies(start_op: int) -> None:
    document = new_document(OWNED, 1)
    gate = new_gate(OWNED, [(edit(document, a=1, b=2), ONE)])
    raw = edit(document, c=3)
    refuse(gate, put_together(replace(take_apart(raw), start_op=start_op)), MalformedError, "begins at operation")
    assert gate.admit(raw, ONE, ANA).start_op == 3


def test_a_dependency_that_another_holds_is_refused() -> None:
    first, second = new_document(SHARED, 1), new_document(SHARED, 2)
    one = edited(first, lambda root: root["items"].update(a=1))
    two = edited(first, lambda root: root["items"].update(a=2))
    deliver(second, [(one, ONE), (two, ONE)], TWO)
    raw = edited(second, lambda root: root["items"].update(b=1))
    gate = new_gate(SHARED, [(one, ONE), (two, ONE)])
    redundant = put_together(replace(take_apart(raw), deps=sorted([parse_change(one).hash, parse_change(two).hash])))
    refuse(gate, redundant, MalformedError, "another already holds", TWO)
    assert gate.admit(raw, TWO, ANA)


# --- what it names


# The stage: one change of device 1 makes m={"k": 1, "inner": {}}, l=[1, 2], t=Text("ab"), s=1. Its operations are
M, K, INNER, L, L1, L2, T, T1, T2, S = range(1, 11)
AT_ROOT = None


def stage() -> tuple[Gate, bytes]:
    document = new_document(OWNED, 1)
    raw = edit(document, m={"k": 1, "inner": {}}, l=[1, 2], t=Text("ab"), s=1)
    return new_gate(OWNED, [(raw, ONE)]), raw


def operation(
    raw: bytes,
    obj: int | None,
    key: str | int,
    action: int = PUT,
    value: tuple[int, bytes] = (INT, b"\7"),
    insert: bool = False,
    preds: tuple[int, ...] = (),
) -> Parts:
    """The change after `raw`, with this one operation. A key of 0 is the head of a list."""
    first = take_apart(raw)
    if action != PUT:
        value = (NULL, b"")
    columns: dict[int, list[Any]] = {
        OBJ_ACTOR: [None if obj is None else 0], OBJ_COUNTER: [obj],
        KEY_ACTOR: [0 if isinstance(key, int) and key else None], KEY_COUNTER: [key if isinstance(key, int) else None],
        KEY_STRING: [key if isinstance(key, str) else None],
        INSERT: [insert], ACTION: [action], VALUE_META: [len(value[1]) << 4 | value[0]],
        PRED_COUNT: [len(preds)], PRED_ACTOR: [0] * len(preds), PRED_COUNTER: list(preds),
    }  # fmt: skip
    return replace(first, deps=[parse_change(raw).hash], seq=2, start_op=S + 1, columns=columns, values=value[1])


def set_column(parts: Parts, name: int, column: list[Any]) -> Parts:
    return replace(parts, columns={**parts.columns, name: column})


ALLOWED: dict[str, Callable[[bytes], Parts]] = {
    "a new key at the root": lambda raw: operation(raw, AT_ROOT, "new"),
    "a new container at the root": lambda raw: operation(raw, AT_ROOT, "new", MAKE_MAP),
    "another value at the root": lambda raw: operation(raw, AT_ROOT, "s", preds=(S,)),
    "a scalar for a container at the root": lambda raw: operation(raw, AT_ROOT, "m", preds=(M,)),
    "a deletion at the root": lambda raw: operation(raw, AT_ROOT, "m", DELETE, preds=(M,)),
    "a new key in a map": lambda raw: operation(raw, M, "new"),
    "another value in a map": lambda raw: operation(raw, M, "k", preds=(K,)),
    "a container for a value in a map": lambda raw: operation(raw, M, "k", MAKE_LIST, preds=(K,)),
    "a key in an inner map": lambda raw: operation(raw, INNER, "new"),
    "an insertion at the head of a list": lambda raw: operation(raw, L, 0, insert=True),
    "an insertion into a list": lambda raw: operation(raw, L, L1, insert=True),
    "a container inserted into a list": lambda raw: operation(raw, L, L2, MAKE_TEXT, insert=True),
    "another value in a list": lambda raw: operation(raw, L, L1, preds=(L1,)),
    "a deletion from a list": lambda raw: operation(raw, L, L1, DELETE, preds=(L1,)),
    "a character in a text": lambda raw: operation(raw, T, T1, value=(STRING, "\U0001f600".encode()), insert=True),
    "a deletion from a text": lambda raw: operation(raw, T, T2, DELETE, preds=(T2,)),
}

REFUSED: dict[str, tuple[Callable[[bytes], Parts], type[UntrustedInputError], str]] = {
    "a container over something at the root": (
        lambda raw: operation(raw, AT_ROOT, "s", MAKE_MAP, preds=(S,)), NotPermittedError, "something else at the root",
    ),
    "a container that nobody made": (lambda raw: operation(raw, 40, "new"), MalformedError, "container"),
    "a container of the future": (lambda raw: operation(raw, S + 1, "new"), MalformedError, "container"),
    "a scalar as a container": (lambda raw: operation(raw, S, "new"), MalformedError, "container"),
    "half a container": (
        lambda raw: set_column(operation(raw, M, "new"), OBJ_ACTOR, [None]), MalformedError, "half a container",
    ),
    "the other half": (
        lambda raw: set_column(operation(raw, M, "new"), OBJ_COUNTER, [None]), MalformedError, "half a container",
    ),
    "an element in a map": (lambda raw: operation(raw, M, L1, preds=(L1,)), MalformedError, "key in a map"),
    "an insertion into a map": (lambda raw: operation(raw, M, "new", insert=True), MalformedError, "key in a map"),
    "an element at the root": (lambda raw: operation(raw, AT_ROOT, L1, preds=(L1,)), MalformedError, "key in a map"),
    "a key with an element's number": (
        lambda raw: set_column(operation(raw, M, "new"), KEY_COUNTER, [0]), MalformedError, "key in a map",
    ),
    "a key in a list": (lambda raw: operation(raw, L, "new"), MalformedError, "key in a list"),
    "a key in a text": (lambda raw: operation(raw, T, "new", insert=True), MalformedError, "key in a list"),
    "no key in a list": (
        lambda raw: set_column(operation(raw, L, 0, insert=True), KEY_COUNTER, [None]), MalformedError, "element",
    ),
    "an element without an actor": (
        lambda raw: set_column(operation(raw, L, L1, insert=True), KEY_ACTOR, [None]), MalformedError, "element",
    ),
    "an element that nobody inserted": (lambda raw: operation(raw, L, 40, insert=True), MalformedError, "element"),
    "an element of another list": (lambda raw: operation(raw, L, T1, insert=True), MalformedError, "element"),
    "a map's value as an element": (lambda raw: operation(raw, L, K, insert=True), MalformedError, "element"),
    "the list as its own element": (lambda raw: operation(raw, L, L, insert=True), MalformedError, "element"),
    "itself as an element": (lambda raw: operation(raw, L, S + 1, insert=True), MalformedError, "element"),
    "a value at the head": (lambda raw: operation(raw, L, 0), MalformedError, "head"),
    "a deletion of the head": (lambda raw: operation(raw, L, 0, DELETE), MalformedError, "head"),
    "an inserted deletion": (lambda raw: operation(raw, L, L1, DELETE, insert=True), MalformedError, "inserts nothing"),
    "an insertion with predecessors": (
        lambda raw: operation(raw, L, L1, insert=True, preds=(L1,)), MalformedError, "in the place of something",
    ),
    "a number in a text": (lambda raw: operation(raw, T, T1, insert=True), MalformedError, "one character"),
    "two characters in a text": (
        lambda raw: operation(raw, T, T1, value=(STRING, b"ab"), insert=True), MalformedError, "one character",
    ),
    "no character in a text": (
        lambda raw: operation(raw, T, T1, value=(STRING, b""), insert=True), MalformedError, "one character",
    ),
    "a container in a text": (lambda raw: operation(raw, T, T1, MAKE_MAP, insert=True), MalformedError, "character"),
    "a character overwritten": (
        lambda raw: operation(raw, T, T1, value=(STRING, b"x"), preds=(T1,)), MalformedError, "overwrites",
    ),
    "no predecessor where there is one": (lambda raw: operation(raw, M, "k"), MalformedError, "names none"),
    "no predecessor of an element": (lambda raw: operation(raw, L, L1), MalformedError, "names none"),
    "a deletion of nothing": (lambda raw: operation(raw, M, "new", DELETE), MalformedError, "deletes nothing"),
    "a predecessor that nobody made": (
        lambda raw: operation(raw, M, "new", preds=(40,)), MalformedError, "not in its past",
    ),
    "itself as predecessor": (
        lambda raw: operation(raw, M, "new", preds=(S + 1,)), MalformedError, "not in its past",
    ),
    "a predecessor of another key": (lambda raw: operation(raw, M, "new", preds=(K,)), MalformedError, "visible"),
    "a predecessor of another container": (lambda raw: operation(raw, INNER, "k", preds=(K,)), MalformedError, "vis"),
    "a predecessor of another element": (lambda raw: operation(raw, L, L1, preds=(L2,)), MalformedError, "visible"),
    "a predecessor too many": (lambda raw: operation(raw, M, "k", preds=(K, INNER)), MalformedError, "visible"),
    "predecessors out of order": (
        lambda raw: operation(raw, M, "k", preds=(INNER, K)), MalformedError, "out of order",
    ),
    "a predecessor twice": (lambda raw: operation(raw, M, "k", preds=(K, K)), MalformedError, "out of order"),
    "a predecessor without a counter": (
        lambda raw: replace(operation(raw, M, "k", preds=(K,)), overrides={PRED_COUNTER: b"\x00\x01"}),
        MalformedError, "null",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ALLOWED)
def test_allowed_operations(name: str) -> None:
    gate, raw = stage()
    assert gate.admit(put_together(ALLOWED[name](raw)), ONE, ANA).seq == 2


@pytest.mark.parametrize("name", REFUSED)
def test_refused_operations(name: str) -> None:
    make, error, says = REFUSED[name]
    gate, raw = stage()
    refuse(gate, put_together(make(raw)), error, says)


def test_nobody_writes_at_the_root_of_a_document_with_a_schema() -> None:
    for descriptor, key in ((SHARED, "items"), (SHARED, "other"), (ADMIN, "profile")):
        gate = new_gate(descriptor)
        assert gate.schema_change is not None
        actor = actor_of(ONE, descriptor.document_id(GROUP))
        for action in (PUT, MAKE_MAP):
            parts = replace(operation(gate.schema_change.raw, AT_ROOT, key, action), actor=actor, seq=1)
            raw = put_together(replace(parts, start_op=gate.schema_change.max_op + 1))
            refuse(gate, raw, NotPermittedError, "root of a document with a schema")


def test_what_was_overwritten_or_deleted_is_no_predecessor_any_more() -> None:
    gate, raw = stage()
    for parts in (operation(raw, M, "k", preds=(K,)), operation(raw, M, "k", DELETE, preds=(K,))):
        gate, _ = stage()
        second = put_together(parts)
        gate.admit(second, ONE, ANA)
        again = replace(operation(second, M, "k", preds=(K,)), seq=3, start_op=S + 2)
        refuse(gate, put_together(again), MalformedError, "predecessors")


def test_within_one_change_each_write_names_the_one_before() -> None:
    document, gate = new_document(OWNED, 1), new_gate(OWNED)

    def write(root: Any) -> None:
        root["a"] = 1
        root["a"] = 2
        del root["a"]
        root["a"] = {"b": 1}
        root["a"]["b"] = 2
        root["l"] = [1]
        root["l"][0] = 2
        del root["l"][0]

    raw = edited(document, write)
    gate.admit(raw, ONE, ANA)
    parts = take_apart(edited(document, lambda root: root.update(l=None, a=7)))
    assert gate.admit(put_together(parts), ONE, ANA)
    columns = take_apart(raw).columns
    lost = [*columns[PRED_COUNT]]
    lost[1] = 0
    wrong = replace(
        take_apart(raw),
        columns={
            **columns, PRED_COUNT: lost, PRED_ACTOR: columns[PRED_ACTOR][1:], PRED_COUNTER: columns[PRED_COUNTER][1:]
        },
    )  # fmt: skip
    refuse(new_gate(OWNED), put_together(wrong), MalformedError, "names none where something is visible")


def test_a_container_outside_the_past_is_refused_even_where_this_replica_has_it() -> None:
    first, second = new_document(SHARED, 1), new_document(SHARED, 2)
    theirs = edited(first, lambda root: root["items"].update(box={}))
    deliver(second, [(theirs, ONE)], TWO)
    raw = edited(second, lambda root: root["items"]["box"].update(a=1))
    gate = new_gate(SHARED, [(theirs, ONE)])
    assert gate.schema_change is not None
    unhinged = replace(take_apart(raw), deps=[gate.schema_change.hash], start_op=gate.schema_change.max_op + 1)
    refuse(gate, put_together(unhinged), MalformedError, "not in its past", TWO)
    assert gate.admit(raw, TWO, ANA)


def test_concurrent_writers_name_what_each_of_them_saw() -> None:
    documents = [new_document(SHARED, number) for number in (1, 2, 3)]
    raws = []
    for number, document in enumerate(documents):
        begun = document.change()
        with begun as root:
            root["items"]["k"] = number
        assert begun.change is not None
        raws.append(begun.change.raw)
    gate = new_gate(SHARED, [(raws[0], ONE), (raws[1], TWO), (raws[2], THREE)])
    deliver(documents[0], [(raws[1], TWO)], ONE)
    merged = edited(documents[0], lambda root: root["items"].update(k="one and two"))
    assert take_apart(merged).columns[PRED_COUNT] == [2]
    change = gate.admit(merged, ONE, ANA)
    deliver(documents[1], [(raws[0], ONE), (raws[2], THREE)], TWO)
    assert take_apart(edited(documents[1], lambda root: root["items"].update(k="all"))).columns[PRED_COUNT] == [3]
    assert change.hash in gate.heads


def test_containers_nest_no_deeper_than_the_limit() -> None:
    document, gate = new_document(OWNED, 1), new_gate(OWNED)
    value: dict[str, Any] = {}
    for _ in range(MAX_NESTING - 1):
        value = {"x": value}
    raw = edit(document, a=value)
    gate.admit(raw, ONE, ANA)
    deepest = parse_change(raw).max_op
    too_deep = replace(operation(raw, deepest, "x", MAKE_MAP), start_op=deepest + 1)
    refuse(gate, put_together(too_deep), MalformedError, "nests over")
    assert gate.admit(put_together(replace(operation(raw, deepest, "x"), start_op=deepest + 1)), ONE, ANA)


# --- the verdict is a function of the change and its past


def _verdict(gate: Gate, raw: bytes, signer: Any) -> type[CocoonError] | None:
    try:
        gate.admit(raw, signer, ANA)
    except CocoonError as error:
        return type(error)
    return None


@pytest.mark.parametrize("seed", range(60))
def test_the_verdict_is_the_same_whatever_else_arrived_and_in_whatever_order(seed: int) -> None:
    rng = random.Random(seed)
    descriptor, _, made = random_session(seed, devices=3)
    past = {gate_change.hash_bytes: gate_change for gate_change in _admit_all(descriptor, made)}
    for raw, signer in rng.sample(made, min(3, len(made))):
        needed = _ancestors(raw, past)
        exact = [item for item in made if parse_change(item[0]).hash in needed]
        others = [item for item in made if not _descends(item[0], raw, past) and item[0] != raw]
        actors = sorted({parse_change(item[0]).actor for item in made})
        for _ in range(25):
            changed = mutate(raw, sorted(past), actors, rng)
            try:
                deps = take_apart(changed).deps
            except MalformedError:
                deps = []
            if not needed.issuperset(deps):
                continue  # its past is another one
            alone = _verdict(new_gate(descriptor, exact), changed, signer)
            crowd = _verdict(new_gate(descriptor, _shuffled(others, rng)), changed, signer)
            assert alone == crowd, f"seed {seed}: {alone} alone, {crowd} among others, {changed.hex()}"


def _admit_all(descriptor: Any, made: list[Signed]) -> list[AdmittedChange]:
    gate = new_gate(descriptor)
    return [gate.admit(raw, signer, ANA) for raw, signer in made]


def _ancestors(raw: bytes, past: dict[bytes, AdmittedChange]) -> set[bytes]:
    found: set[bytes] = set()
    waiting = list(parse_change(raw).deps)
    while waiting:
        item = waiting.pop()
        if item not in found:
            found.add(item)
            waiting += past[item].dep_hashes if item in past else ()
    return found


def _descends(raw: bytes, ancestor: bytes, past: dict[bytes, AdmittedChange]) -> bool:
    return parse_change(ancestor).hash in _ancestors(raw, past)


def _shuffled(changes: list[Signed], rng: random.Random) -> list[Signed]:
    """The same changes in another order in which each comes after its dependencies."""
    rest = rng.sample(changes, len(changes))
    hashes = {parse_change(raw).hash for raw, _ in rest}
    done: list[Signed] = []
    while rest:
        for item in rest:
            if hashes.isdisjoint(parse_change(item[0]).deps):
                break
        rest.remove(item)
        hashes.discard(parse_change(item[0]).hash)
        done.append(item)
    return done


def test_the_shortcut_for_records_gives_the_verdict_of_the_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    seed = 5
    rng = random.Random(seed)
    document = new_document(OWNED, 1)
    first = edit(document, **{"post:0": {"at": 1, "text": "é"}})
    second = edit(document, **{"post:1": {"at": 2, "by": b"b", "text": "hello", "to": None}})
    changed = [
        second,
        *(mutate(second, [parse_change(first).hash], [take_apart(second).actor], rng) for _ in range(3000)),
    ]
    with_it = [_verdict(new_gate(OWNED, [(first, ONE)]), raw, ONE) for raw in changed]
    monkeypatch.setattr("cocoon_core.documents.places.Places.may_make", lambda *_: False)
    without = [_verdict(new_gate(OWNED, [(first, ONE)]), raw, ONE) for raw in changed]
    assert with_it == without
    assert with_it.count(None) > 10, f"seed {seed}"


def test_stored_changes_are_admitted_without_asking_who_wrote_them() -> None:
    document = new_document(OWNED, 1)
    raws = [edit(document, a=number) for number in range(5)]
    gate = new_gate(OWNED)
    assert [gate.admit_known(raw).seq for raw in raws] == [1, 2, 3, 4, 5]
    assert gate.admit_known(raws[0]).seq == 1
    with pytest.raises(MalformedError):
        new_gate(OWNED).admit_known(put_together(replace(take_apart(raws[0]), start_op=5)))
