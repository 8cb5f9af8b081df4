"""The proof that `suspend` carries: two runs of one device that contradict each other. Spec: specs/roster.md §10.

Each run is signed by the device and names what follows what, so two different entries with one seq are the device's own
word against itself, and nobody else can make them up.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from cocoon_core.errors import NotPermittedError
from cocoon_core.protocol.ids import EntryId, GroupId
from cocoon_core.protocol.operations_devices import Suspend
from cocoon_core.protocol.run import Run, parse_run, verify_run


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Two branches of one chain, from the first seq at which they are seen to part: entry ids by rising seq.

    `before` is the entry that both follow, where there is one and both name it.
    """

    seq: int
    before: EntryId | None
    first: tuple[EntryId, ...]
    second: tuple[EntryId, ...]

    def deciding(self, final: Collection[EntryId]) -> tuple[EntryId, ...]:
        """The branch that decides: the one that is final if just one is, else the one whose first id is smaller."""
        finals = [branch for branch in (self.first, self.second) if any(entry in final for entry in branch)]
        return min(finals if len(finals) == 1 else (self.first, self.second))

    def losing(self, final: Collection[EntryId]) -> tuple[EntryId, ...]:
        """The other one."""
        return self.second if self.deciding(final) == self.first else self.first


def read_contradiction(body: Suspend, group: GroupId) -> Contradiction:
    """Check a proof.

    Raises:
        MalformedError: what it carries are not runs.
        SignatureError: the device that a run names did not sign it.
        NotPermittedError: they are another device's, or do not contradict each other.
        UpdateNeededError: a run of a later version.
    """
    first, second = (verify_run(parse_run(wire, group)) for wire in (body.first, body.second))
    if first.device != body.device or second.device != body.device:
        raise NotPermittedError("its proof is about another device")
    for seq in range(max(first.first_seq, second.first_seq), min(first.last_seq, second.last_seq) + 1):
        ours, others = _from(first, seq), _from(second, seq)
        if ours[0] != others[0]:
            before = {_before(first, seq), _before(second, seq)}
            return Contradiction(seq, before.pop() if len(before) == 1 else None, ours, others)
    raise NotPermittedError("the two runs of its proof do not contradict each other")


def _from(run: Run, seq: int) -> tuple[EntryId, ...]:
    return tuple(entry.id for entry in run.entries[seq - run.first_seq :])


def _before(run: Run, seq: int) -> EntryId | None:
    return run.entries[seq - run.first_seq].prev
