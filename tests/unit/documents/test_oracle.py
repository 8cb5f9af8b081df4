"""The oracle: whatever the gate admits, automerge applies at its own past and loads again, and others can edit on.

Real changes of random sessions are mutated with their structure and checksum kept. What happened is counted, so that a
gate which refuses everything, or a mutation that changes nothing, does not pass for a success.
"""

from __future__ import annotations

import random
from collections import Counter

from automerge.core import Document as Automerge
from automerge.core import Message, SyncState

from cocoon_core.documents import Document, Gate, MissingDependencyError, parse_change
from cocoon_core.errors import UntrustedInputError
from cocoon_core.protocol.descriptor import Descriptor, actor_of
from tests.support.changes import mutate
from tests.support.documents import (
    ANA,
    GROUP,
    Signed,
    device,
    first_changes,
    new_gate,
    random_edit,
    random_session,
    sync_message,
)

SESSIONS = range(140)
MUTATIONS = 60  # of each of three changes of each session
STRANGER = 99


def survives(descriptor: Descriptor, before: list[Signed], raw: bytes, deps: list[bytes]) -> None:
    """Apply at the change's own past and at all that is there, and reload both. Any error is a failure, panics too."""
    history = first_changes(descriptor) + [item for item, _ in before]
    everything = Automerge(actor_id=b"\xff" * 16)
    if history:
        everything.receive_sync_message(SyncState(), Message.decode(sync_message(history)))
    own_hash = parse_change(raw).hash
    for peer in (everything.fork(deps), everything):
        expected = {*peer.get_heads(), own_hash} - set(deps)
        peer.receive_sync_message(SyncState(), Message.decode(sync_message([raw])))
        assert set(peer.get_heads()) == expected
        assert set(Automerge.load(peer.save()).get_heads()) == expected


def others_can_edit(descriptor: Descriptor, before: list[Signed], raw: bytes, gate: Gate, rng: random.Random) -> None:
    """Another device shows the document, edits it twice, and the gate admits that."""
    document_id = descriptor.document_id(GROUP)
    stored = [item for item, _ in before] + [raw]
    document = Document(descriptor, document_id, actor_of(device(STRANGER), document_id), lambda: stored)
    document.read().to_python()
    for _ in range(2):
        begun = document.change()
        with begun as root:
            random_edit(rng, root)
        if begun.change is not None:
            assert gate.admit(begun.change.raw, device(STRANGER), ANA).hash in document.heads


def run_sessions(seeds: range, mutations: int) -> Counter[str]:
    report: Counter[str] = Counter()
    for seed in seeds:
        rng = random.Random(f"oracle {seed}")
        descriptor, _, made = random_session(seed, steps=14)
        actors = sorted({parse_change(raw).actor for raw, _ in made})
        for place in rng.sample(range(len(made)), min(3, len(made))):
            before, (raw, signer) = made[:place], made[place]
            known = [parse_change(item).hash for item in first_changes(descriptor) + [item for item, _ in before]]
            gate = new_gate(descriptor, before)
            for _ in range(mutations):
                changed = mutate(raw, known, actors, rng)
                if changed == raw:
                    continue
                report["mutations"] += 1
                size = len(gate)
                try:
                    change = gate.admit(changed, signer, ANA)
                except (UntrustedInputError, MissingDependencyError) as error:
                    report[type(error).__name__] += 1
                    assert len(gate) == size
                    continue
                report["admitted"] += 1
                try:
                    survives(descriptor, before, changed, list(change.dep_hashes))
                    others_can_edit(descriptor, before, changed, gate, rng)
                except BaseException:
                    print(f"session {seed}, change {place}: {changed.hex()}")
                    raise
                gate = new_gate(descriptor, before)
    return report


def test_what_the_gate_admits_of_thousands_of_mutations_applies_and_loads_and_can_be_edited() -> None:
    print(f"oracle: sessions {SESSIONS}, seeded 'oracle <number>'")
    report = run_sessions(SESSIONS, MUTATIONS)
    print(dict(report))
    assert report["mutations"] > 15_000
    assert report["admitted"] > 300
    assert report["MalformedError"] > report["mutations"] // 2
