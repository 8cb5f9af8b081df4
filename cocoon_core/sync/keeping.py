"""Which months of documents stay on this device: older ones are let go, and come back when they are asked for.

A document is let go where the followed manifest says all that is here of it, and a relay says that it has the pages. It
is owed from then on like one that was never read (owed.py), and is left where it is. Its runs go from the log with it:
they are final, and the manifest stands for them, as it does for whoever came after it. Implements specs/storage.md §5.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cocoon_core.protocol.ids import BlobHash, DeviceId, DocumentId
from cocoon_core.protocol.manifest import DocumentState
from cocoon_core.protocol.run import parse_run
from cocoon_core.storage.documents import DocumentRecord
from cocoon_core.sync.paging import states_before

if TYPE_CHECKING:
    from cocoon_core.sync.replica import Replica

DAY_MS: Final = 86_400_000  # between two looks for what can be let go; what was asked for stays so long at least
LOOKED: Final = "let go"


@dataclass(frozen=True, slots=True)
class _Old:
    record: DocumentRecord
    state: DocumentState
    runs: frozenset[int]

    @property
    def pages(self) -> set[BlobHash]:
        return {page.name for page in self.state.snapshot.pages} if self.state.snapshot else set()


def is_due(replica: Replica) -> bool:
    """True where it was not looked for a day, and this device does not keep everything."""
    if replica.kept_from() is None:
        return False
    since = replica.epochs.table.due_since(LOOKED)
    return since is None or abs(replica.clock() - since) >= DAY_MS


def find_old(replica: Replica) -> list[_Old]:
    """The documents that this device need not keep: of earlier months, and whole in the manifest."""
    first = replica.kept_from()
    if first is None:
        return []
    frontier = {device: end.seq for device, end in replica.epochs.frontier().items()}
    found: dict[DocumentId, _Old] = {}
    for document, state in states_before(replica).items():
        period = state.descriptor.period
        record = replica.documents.find(document)
        if record is None or period is None or period >= first or replica.debts.find(document) is not None:
            continue
        runs = _final_runs(replica, record, frontier) if _is_said(replica, record, state) else None
        if runs is not None:
            found[document] = _Old(record, state, frozenset(runs))
    return _closed_under_runs(replica, found)


def _is_said(replica: Replica, record: DocumentRecord, state: DocumentState) -> bool:
    """Whether the manifest says all that is here of a document, and nothing of it may be judged otherwise later."""
    document = record.document
    return (
        state.snapshot is not None
        and not state.ended
        and not replica.members.may_be_cut(record.descriptor)
        and not replica.shelf.is_pinned(document)
        and not replica.documents.has_waiting(record.number)
        and next(replica.shelf.arrivals.pending(document), None) is None
        and all(replica.heads_of(device).get(document) == state.heads.get(device) for device in replica.chains)
    )


def _final_runs(replica: Replica, record: DocumentRecord, frontier: Mapping[DeviceId, int]) -> list[int] | None:
    """The numbers of the runs that change a document, if all of them are final, sent, and nothing but changes."""
    numbers = []
    for stored in replica.documents.wires(record.number):
        run = parse_run(stored.wire, replica.group).stored()
        is_final = stored.number > 0 and run.last_seq <= frontier.get(run.device, -1)
        if not is_final or not run.entries[-1].changes or replica.log.is_queued(stored.number):
            return None
        numbers.append(stored.number)
    return numbers


def _closed_under_runs(replica: Replica, found: Mapping[DocumentId, _Old]) -> list[_Old]:
    """Those of which no run changes a document that stays."""
    left = dict(found)
    numbers = {old.record.number: document for document, old in found.items()}
    while True:
        kept = {
            run for old in left.values() for run in old.runs
            if not {numbers.get(one) for one in replica.documents.changed_by(run)} <= left.keys()
        }  # fmt: skip
        stays = [document for document, old in left.items() if old.runs & kept]
        if not stays:
            return list(left.values())
        for document in stays:
            del left[document]


def let_go(replica: Replica, old: Iterable[_Old], there: Collection[BlobHash]) -> int:
    """Let those documents go whose pages some relay says it has. Inside a transaction.

    Returns:
        How many were let go.
    """
    chosen = [one for one in old if one.pages <= set(there) and replica.debts.find(one.record.document) is None]
    topic = replica.epochs.last_followed()
    if topic is None:
        return 0
    for one in chosen:
        record = one.record
        replica.shelf.let_go(record)
        replica.snapshots.forget(record.number)
        replica.documents.forget_content(record.number)
    replica.log.drop_runs({run for one in chosen for run in one.runs})
    replica.snapshots.drop_parts()
    replica.debts.owe(topic.topic, [one.state for one in chosen], {})
    replica.epochs.table.forget_due(LOOKED)
    replica.epochs.table.note_due(LOOKED, replica.clock())
    return len(chosen)
