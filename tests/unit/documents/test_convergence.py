"""Several devices, one document, every order of delivery: the same content, heads and admitted changes everywhere."""

from __future__ import annotations

import random

import pytest

from tests.support.documents import (
    ANA,
    OWNED,
    SHARED,
    deliver,
    deliver_all,
    device,
    new_document,
    new_gate,
    random_session,
)


@pytest.mark.parametrize("seed", range(120))
def test_all_orders_of_delivery_converge(seed: int) -> None:
    rng = random.Random(seed)
    descriptor, documents, made = random_session(seed, steps=25, devices=1 + seed % 4)
    newcomer = new_document(descriptor, 50)
    for number, document in enumerate([*documents, newcomer]):
        deliver_all(document, rng.sample(made, len(made)), device(number + 1))
    contents = [document.read().to_python() for document in [*documents, newcomer]]
    assert all(content == contents[0] for content in contents), f"seed {seed}"
    assert {document.heads for document in documents} == {newcomer.heads}, f"seed {seed}"
    assert new_gate(descriptor, made).heads == newcomer.heads, f"seed {seed}"


def test_two_devices_that_write_long_branches_apart_join_them() -> None:
    for descriptor in (OWNED, SHARED):
        first, second = new_document(descriptor, 1), new_document(descriptor, 2)
        made = []
        for document, signer in ((first, device(1)), (second, device(2))):
            for number in range(150):
                begun = document.change()
                with begun as root:
                    (root if descriptor is OWNED else root["items"])[f"{signer[0]}:{number}"] = number
                assert begun.change is not None
                made.append((begun.change.raw, signer))
        interleaved = [item for pair in zip(made[:150], made[150:], strict=True) for item in pair]
        for document, signer in ((first, device(1)), (second, device(2))):
            assert deliver(document, interleaved, signer) == []
        assert first.heads == second.heads
        assert len(first.heads) == 2
        begun = first.change()
        with begun as root:
            (root if descriptor is OWNED else root["items"])["both"] = True
        assert begun.change is not None
        assert len(begun.change.deps) == 2
        deliver(second, [(begun.change.raw, device(1))], device(2))
        assert first.read() == second.read()


def test_a_gate_keeps_a_bounded_past_for_busy_concurrent_writers() -> None:
    """Eight devices that always write side by side: what is kept of a past does not grow with the document."""
    documents = [new_document(SHARED, number + 1) for number in range(8)]
    gate = new_gate(SHARED)
    last = []
    for turn in range(40):
        made = []
        for number, document in enumerate(documents):
            begun = document.change()
            with begun as root:
                root["items"][f"{number}"] = turn
            assert begun.change is not None
            made.append((begun.change.raw, device(number + 1)))
        last = [gate.admit(raw, signer, ANA) for raw, signer in made]
        for number, document in enumerate(documents):
            deliver(document, made, device(number + 1))
    assert all(len(change.clock) < 8 and change.prefix >= len(gate) - 24 for change in last)
