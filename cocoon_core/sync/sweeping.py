"""Lets go of what a retired document said, once the manifests stand for it without it.

As soon as a retire counts, nothing of the document is shown, and no cache of it is kept. Its changes stay in the runs
of the log until a manifest on the chosen path was made by somebody who had the retire: below its frontier nobody needs
those runs any more, to link or to count. What else stands in them is kept as a snapshot says it, as a newcomer has it.
A run that cannot be spared (a pin cuts it, or a change in it was refused) stays. Implements specs/retire.md §5.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from typing import TYPE_CHECKING

from cocoon_core.protocol.ids import ChangeHash, DocumentId
from cocoon_core.protocol.part import open_part
from cocoon_core.protocol.run import parse_run
from cocoon_core.storage.documents import DocumentRecord
from cocoon_core.storage.retires import ErasableRun
from cocoon_core.sync.carrying_over import is_carried

if TYPE_CHECKING:
    from cocoon_core.sync.replica import Replica


def sweep_retired(replica: Replica) -> int:
    """Delete what can go. To be called when level with a relay, not in an edit or a transaction.

    Returns:
        How many documents were let go of, wholly or in part.
    """
    retires, topic = replica.retires, replica.epoch.topic
    todo = [document for document in retires.documents() if retires.tried.get(document) != topic]
    if not todo or not _is_settled(replica):
        return 0
    done = retires.table.swept_documents(wholly=True)
    ready: list[DocumentRecord] = []
    for document in todo:
        record = replica.documents.find(document)
        if record is not None and retires.is_final(document) and _has_carried(replica, record):
            ready.append(record)
    fresh = {record.document for record in ready} - done
    if fresh:
        _sweep_pages(replica, fresh)
    for record in ready:
        if record.document in fresh or retires.table.holds_changes(record.number):
            _sweep(replica, record)
        retires.tried[record.document] = topic  # what is left of it waits for another manifest
    return len(ready)


def _sweep_pages(replica: Replica, retired: Set[DocumentId]) -> None:
    """Delete the stored pages in which one of these documents stands; what else stands there is kept without them."""
    for page in replica.snapshots.stored_pages():
        part = replica.snapshots.part(page)
        if part is None or retired.isdisjoint(open_part(part)):
            continue
        with replica.transaction():
            for number in replica.snapshots.built_on(page):
                record = replica.documents.get(number)
                if record.document not in retired:
                    replica.shelf.keep_changes(record)
                else:
                    replica.retires.table.delete_said(number)
            replica.snapshots.delete_page(page)
            replica.shelf.arrivals.forget_pages()


def _has_carried(replica: Replica, record: DocumentRecord) -> bool:
    """Whether this device, if it is one of the owner's, has nothing of the document to make again."""
    own = replica.members.member_of(replica.keys.id)
    return record.descriptor.member != own or is_carried(replica, record.document)


def _is_settled(replica: Replica) -> bool:
    """One epoch stands, with nothing beside it, and some relay leads to it from every one before: another manifest
    could only come to stand in its place by a fork, and what it would need is put right then.
    """
    epochs, choice = replica.epochs, replica.epochs.choice
    if choice is None or choice.forks or not epochs.is_level or not epochs.current.followed:
        return False
    relays = replica.groups.relays(replica.record.number)
    return not relays or any(not epochs.ended(relay) for relay in relays)


def _sweep(replica: Replica, record: DocumentRecord) -> None:
    table, retired = replica.retires.table, replica.retires.documents()
    going: list[ErasableRun] = []
    needed: dict[DocumentId, set[ChangeHash]] = {}
    counting: dict[DocumentId, set[ChangeHash]] = {}
    for run in table.runs_of(record.number):
        others = _others_in(replica, run, retired)
        if others is not None and all(
            changes <= _counting(replica, document, counting) for document, changes in others.items()
        ):
            going.append(run)
            for document, changes in others.items():
                needed.setdefault(document, set()).update(changes)
    with replica.transaction():
        for document, changes in needed.items():
            other = replica.documents.find(document)
            assert other is not None, "what a run changes is known"
            replica.shelf.keep_changes(other, changes)
        for run in going:
            table.delete_run(run.number)
            replica.retires.note_swept_run(run.device, run.last_seq, run.last_id)
        table.delete_said(record.number)
        replica.documents.set_cache(record.number, None, 0)
        replica.shelf.discard(record.document)
        table.delete_uploads(replica.epoch.topic)
        table.note_swept(record.document, is_whole=True)


def _others_in(
    replica: Replica, run: ErasableRun, retired: Iterable[DocumentId]
) -> dict[DocumentId, set[ChangeHash]] | None:
    """The changes of a run in documents that go on; None where the run cannot be spared."""
    end = replica.epochs.frontier().get(run.device)
    if end is None or run.last_seq > end.seq:
        return None
    whole = parse_run(run.wire, replica.group).stored()
    if whole.last_seq != run.last_seq:  # only its beginning stands: what it proves is two histories
        return None
    found: dict[DocumentId, set[ChangeHash]] = {}
    for entry in whole.entries:
        for change in entry.changes:
            if change.document not in retired:
                found.setdefault(change.document, set()).add(change.hash)
    return found


def _counting(replica: Replica, document: DocumentId, known: dict[DocumentId, set[ChangeHash]]) -> set[ChangeHash]:
    """The changes of a document that count and were admitted."""
    if document not in known:
        record = replica.documents.find(document)
        counting = replica.shelf.counting_changes(record) if record is not None else []
        known[document] = {arrival.change.hash for arrival in counting}
    return known[document]
