"""A document as a whole: receive and merge, own edits, cache, rebuilding, and what happens when automerge fails."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator

import pytest
from automerge.core import ROOT, ScalarType

from cocoon_core.documents import Document, MissingDependencyError, Saved, Text, parse_change
from cocoon_core.documents.adapter import Replica
from cocoon_core.errors import DocumentUnavailableError, UsageError
from cocoon_core.protocol.descriptor import actor_of
from tests.support.documents import (
    ANA,
    GROUP,
    OWNED,
    SHARED,
    deliver,
    device,
    edit,
    first_changes,
    new_document,
    random_session,
)

ONE, TWO = device(1), device(2)
ID = SHARED.document_id(GROUP)


def document_of(
    stored: list[bytes], number: int = 1, saved: Saved | None = None, asked: list[int] | None = None
) -> Document:
    """A shared document over a store; `asked` counts how often the store was read."""

    def read() -> Iterator[bytes]:
        if asked is not None:
            asked.append(1)
        return iter(stored)

    return Document(SHARED, ID, actor_of(device(number), ID), read, saved)


def put_item(document: Document, key: str, value: int) -> bytes:
    begun = document.change()
    with begun as root:
        root["items"][key] = value
    assert begun.change is not None
    return begun.change.raw


def test_an_edit_says_what_it_made() -> None:
    document = new_document(OWNED, 1)
    first = edit(document, a=1)
    begun = document.change()
    with begun as root:
        root["b"] = {"c": 1}
        root["a"] = 2
    change = begun.change
    assert change is not None
    assert (change.seq, change.max_op, change.touched) == (2, 4, ("b", "a"))
    assert change.deps == (parse_change(first).hash,)
    assert change.hash in document.heads
    assert change.raw == parse_change(change.raw).raw


def test_an_edit_that_writes_nothing_makes_no_change() -> None:
    document = new_document(OWNED, 1)
    edit(document, a=1)
    begun = document.change()
    with begun as root:
        root["a"] = 1
    assert begun.change is None


def test_one_edit_at_a_time() -> None:
    document = new_document(OWNED, 1)
    with document.change() as root:
        root["a"] = 1
        for attempt in (document.change().__enter__, document.save, lambda: document.merge([])):
            with pytest.raises(UsageError, match="edit of this document is open"):
                attempt()
    assert document.read() == {"a": 1}


def test_a_received_change_shows_only_once_it_is_merged_and_says_what_it_touched() -> None:
    first, second = new_document(SHARED, 1), new_document(SHARED, 2)
    change = second.receive(put_item(first, "milk", 2), ONE, ANA)
    assert second.read()["items"] == {}
    assert second.merge([change]) == ("items",)
    assert second.read()["items"] == {"milk": 2}
    assert second.merge([change]) == ()


def test_an_own_edit_between_receiving_and_merging_is_concurrent() -> None:
    first, second = new_document(SHARED, 1), new_document(SHARED, 2)
    change = second.receive(put_item(first, "milk", 2), ONE, ANA)
    own = put_item(second, "bread", 1)
    second.merge([change])
    assert second.read()["items"] == {"bread": 1, "milk": 2}
    assert len(second.heads) == 2
    deliver(first, [(own, TWO)], ONE)
    assert first.heads == second.heads


def test_changes_can_be_merged_in_parts() -> None:
    first, second = new_document(SHARED, 1), new_document(SHARED, 2)
    changes = [second.receive(put_item(first, f"{number}", number), ONE, ANA) for number in range(4)]
    second.merge(changes[:1])
    assert second.read()["items"] == {"0": 0}
    second.merge(changes)
    assert second.heads == first.heads


def test_a_document_is_built_from_its_store() -> None:
    document = new_document(SHARED, 1)
    stored = [put_item(document, f"{number}", number) for number in range(2500)]
    again = document_of(stored)
    assert again.heads == document.heads
    assert again.read() == document.read()


def test_loading_from_the_cache_and_editing_read_no_store() -> None:
    stored: list[bytes] = []
    asked: list[int] = []
    document = document_of(stored)
    stored += [put_item(document, f"{number}", number) for number in range(5)]
    again = document_of(stored, saved=document.save(), asked=asked)
    own = put_item(again, "own", 1)
    assert parse_change(own).seq == 6
    assert (again.read()["items"]["own"], asked) == (1, [])
    stored.append(own)
    other = document_of(stored, number=2)
    again.merge([again.receive(put_item(other, "theirs", 2), TWO, ANA)])
    assert again.read()["items"]["theirs"] == 2
    assert len(asked) == 1


def test_the_gate_knows_own_edits_that_the_store_has_not_yet() -> None:
    stored: list[bytes] = []
    document, other = document_of(stored), new_document(SHARED, 2)
    own = put_item(document, "own", 1)
    deliver(other, [(own, ONE)], TWO)
    document.merge([document.receive(put_item(other, "after", 2), TWO, ANA)])
    later = put_item(document, "later", 3)
    deliver(other, [(later, ONE)], TWO)
    document.merge([document.receive(put_item(other, "last", 4), TWO, ANA)])
    assert document.heads == other.heads


@pytest.mark.parametrize("spoil", ["heads", "bytes", "cut"])
def test_a_cache_that_does_not_fit_is_not_used(spoil: str) -> None:
    stored: list[bytes] = []
    document = document_of(stored)
    stored.append(put_item(document, "a", 1))
    saved = document.save()
    stored.append(put_item(document, "b", 2))
    wrong = {
        "heads": Saved(saved.data, document.heads),
        "bytes": Saved(b"nothing", saved.heads),
        "cut": Saved(saved.data[:-9], saved.heads),
    }[spoil]
    assert document_of(stored, saved=wrong).read()["items"] == {"a": 1, "b": 2}


def test_rebuilding_forgets_what_was_not_stored() -> None:
    stored: list[bytes] = []
    document, other = document_of(stored), new_document(SHARED, 2)
    stored.append(put_item(document, "kept", 1))
    lost = put_item(document, "lost", 2)
    received = put_item(other, "theirs", 3)
    document.receive(received, TWO, ANA)
    document.rebuild()
    assert document.read()["items"] == {"kept": 1}
    again = put_item(document, "again", 4)
    assert parse_change(again).seq == parse_change(lost).seq
    document.merge([document.receive(received, TWO, ANA)])
    assert document.read()["items"] == {"again": 4, "kept": 1, "theirs": 3}


def test_a_store_that_does_not_pass_its_own_gate_is_said_to_be_unavailable() -> None:
    stored: list[bytes] = []
    document = document_of(stored)
    first, second = put_item(document, "a", 1), put_item(document, "b", 2)
    other = put_item(new_document(SHARED, 2), "x", 1)
    again = document_of([first, second])
    broken = Document(SHARED, ID, again.actor, lambda: [edit(new_document(OWNED, 1), a=1)], again.save())
    with pytest.raises(DocumentUnavailableError, match="do not pass its gate"):
        broken.receive(other, TWO, ANA)


def test_missing_dependencies_leave_a_document_as_it_is() -> None:
    first, second = new_document(SHARED, 1), new_document(SHARED, 2)
    put_item(first, "a", 1)
    later = put_item(first, "b", 2)
    with pytest.raises(MissingDependencyError):
        second.receive(later, ONE, ANA)
    assert second.read()["items"] == {}


# --- when automerge fails


def test_a_panic_is_an_unavailable_document_until_it_is_rebuilt() -> None:
    stored: list[bytes] = []
    document = document_of(stored)
    stored.append(put_item(document, "a", 1))
    with pytest.raises(DocumentUnavailableError) as caught, document.change() as root:
        root["items"]._replica.put(ROOT, "x", ScalarType.Counter, 1)  # automerge panics at this
    assert not isinstance(caught.value.__cause__, Exception)
    assert document.spoiled
    attempts: list[Callable[[], object]] = [
        lambda: document.read().to_python(),
        lambda: document.heads,
        document.save,
        lambda: put_item(document, "b", 2),
    ]
    for attempt in attempts:
        with pytest.raises(DocumentUnavailableError):
            attempt()
    document.rebuild()
    assert not document.spoiled
    stored.append(put_item(document, "b", 2))
    assert document_of(stored).read()["items"] == {"a": 1, "b": 2}


def test_what_automerge_refuses_without_a_panic_does_not_spoil_the_document() -> None:
    replica = Replica(actor_of(ONE, ID))
    with pytest.raises(DocumentUnavailableError):
        replica.apply([b"no change at all"])
    assert not replica.spoiled
    assert replica.heads == frozenset()
    with pytest.raises(DocumentUnavailableError):
        replica.put(ROOT, "a", ScalarType.Int, 1)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
def test_interruptions_pass_through(error: type[BaseException]) -> None:
    replica = Replica(actor_of(ONE, ID))

    def interrupted() -> None:
        raise error

    with pytest.raises(error):
        replica._call(interrupted)
    assert not replica.spoiled


def test_an_interrupt_from_the_keyboard_within_an_edit_writes_nothing() -> None:
    document = new_document(OWNED, 1)
    with pytest.raises(KeyboardInterrupt), document.change() as root:
        root["a"] = Text("written")
        signal.raise_signal(signal.SIGINT)
    assert document.read() == {}
    assert edit(document, b=1)


def test_changes_applied_again_change_nothing() -> None:
    _, documents, made = random_session(2, devices=1)
    replica = Replica(documents[0].actor)
    raws = [raw for raw, _ in made]
    for _ in range(2):
        replica.apply([*first_changes(SHARED), *raws])
        assert replica.heads == documents[0].heads


def test_what_stood_under_a_key_after_each_change_can_be_read() -> None:
    ours, theirs = new_document(OWNED, 1), new_document(OWNED, 2)
    first = edit(ours, post={"text": "one", "by": b"\x01", "tags": ["not shown"]}, other=1)
    theirs.merge([theirs.receive(first, ONE, ANA)])

    def write(document: Document, text: str) -> bytes:
        begun = document.change()
        with begun as root:
            root["post"]["text"] = text
        assert begun.change is not None
        return begun.change.raw

    mine, other = write(ours, "mine"), write(theirs, "theirs")
    edit(ours, other=2)  # touches something else
    ours.merge([ours.receive(other, TWO, ANA)])
    with ours.change() as root:
        del root["post"]
    texts = [None if value is None else value["text"] for _, value in ours.versions("post", 10)]
    assert (texts[0], sorted(map(str, texts[1:3])), texts[3:]) == ("one", ["mine", "theirs"], [None])
    assert ours.versions("post", 10)[0] == (parse_change(first).hash, {"text": "one", "by": b"\x01"})
    assert len(ours.versions("post", 2)) == 2
    assert ours.versions("nothing", 10) == []
    assert [value for _, value in ours.versions("other", 10)] == [1, 2]
    waiting = write(theirs, "not merged")
    ours.receive(waiting, TWO, ANA)
    assert len(ours.versions("post", 10)) == 4, "what was received and not merged is not shown"
    assert mine != other
