"""What a change of standings asks for: the documents that it concerns are built anew, and what was taken away is told.

A standing says how far a device's entries count by themselves. Where it changes, only the documents that were changed
by entries between the old and the new limit are concerned; if there are none, as after most removals, nothing is built.
Implements specs/counting.md §6.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

from cocoon_core.errors import DocumentUnavailableError
from cocoon_core.protocol.descriptor import DocumentKind
from cocoon_core.protocol.entry import Entry
from cocoon_core.protocol.ids import ChangeHash, DeviceId, DocumentId
from cocoon_core.protocol.operations_devices import ReplaceDevice, Suspend
from cocoon_core.protocol.run import parse_run
from cocoon_core.storage.documents import DocumentRecord
from cocoon_core.sync.arrivals import Arrival
from cocoon_core.sync.events import DocumentChanged, EntriesWithdrawn
from cocoon_core.sync.members import ALL, NOBODY, Standing

if TYPE_CHECKING:
    from cocoon_core.sync.replica import Replica


@dataclass(slots=True)
class _Concerned:
    """The documents that one device's standing concerns, and the entries that may not count any more."""

    documents: set[DocumentId] = field(default_factory=set)
    lowered: list[Entry] = field(default_factory=list)


def follow_standings(
    replica: Replica, before: Mapping[DeviceId, Standing], new: Set[DeviceId] = frozenset()
) -> list[EntriesWithdrawn]:
    """Where a device's entries count otherwise than before, build the documents that they changed anew, and tell.

    Inside a transaction.

    Args:
        new: devices of which no document shows anything yet.

    Returns:
        What was taken away; it is told as events and alarms too.
    """
    after = replica.members.standings()
    own = replica.keys.id
    if before.get(own, NOBODY).limit != ALL == after.get(own, NOBODY).limit:
        # It has come in, or whoever put it out had no right to, as is known by now. It need not have written anything.
        replica.groups.end_alarm(replica.record.number, "out", own.hex())
        replica.epochs.closed.clear()  # where one still gives it no secret, it is told that it was left out
    concerned: dict[DeviceId, _Concerned] = {}
    for device in replica.chains:
        was, now = before.get(device, NOBODY), after.get(device, NOBODY)
        if was == now or device in new:
            continue
        if was.limit == ALL != now.limit:
            _tell_out(replica, device)
        found = _find_concerned(replica, device, was, now)
        if found.documents:
            concerned[device] = found
    documents = {document for found in concerned.values() for document in found.documents}
    rebuild_documents(replica, documents)
    told = [_tell_withdrawn(replica, device, found) for device, found in sorted(concerned.items())]
    return [event for event in told if event is not None]


def rebuild_documents(replica: Replica, documents: Iterable[DocumentId]) -> None:
    """Build these documents anew from what is stored, and tell that they changed. Inside a transaction."""
    for record in filter(None, map(replica.documents.find, sorted(documents))):
        try:
            replica.shelf.rebuild(record)
        except DocumentUnavailableError as error:
            replica.note_unavailable(record.document, record.descriptor, error)
            continue
        replica.tell(DocumentChanged(record.document, record.descriptor.name, frozenset(), own=False))


def tell_late(replica: Replica, record: DocumentRecord, arrival: Arrival) -> None:
    """A change counts that its device had no right to: only because one that counts depends on it."""
    name = _name_of(replica, arrival.device)
    replica.alarm(
        "late",
        f"{record.document.hex()} {arrival.device.hex()}",
        f"{name} changed {record.descriptor.name!r} without the right to, or after losing it; it is shown, since "
        "somebody who has the right built on it",
    )


# --- inside


def _find_concerned(replica: Replica, device: DeviceId, was: Standing, now: Standing) -> _Concerned:
    """What the device changed by entries that counted and do not, or the other way round."""
    found = _Concerned()
    if was.member != now.member:  # whose owned documents its changes belong to
        heads = replica.log.heads(device).items()
        found.documents.update(document for document, _, _ in heads)
    found.documents.update(_find_in_snapshots(replica, device, was, now))
    low, admin_low = min(was.limit, now.limit), min(was.admin_limit, now.admin_limit)
    first = 1 + min(low if was.limit != now.limit else ALL, admin_low if was.admin_limit != now.admin_limit else ALL)
    if first > replica.chains[device].last_seq:
        return found
    for entry in _entries_from(replica, device, first):
        lowered = False
        for change in entry.changes:
            record = replica.documents.find(change.document)
            if record is None:
                continue
            limits = _limits_in(record, was, now)
            if min(limits) < entry.seq <= max(limits):
                found.documents.add(change.document)
                lowered = lowered or limits[1] < limits[0]
        if lowered:
            found.lowered.append(entry)
    return found


def _find_in_snapshots(replica: Replica, device: DeviceId, was: Standing, now: Standing) -> Iterator[DocumentId]:
    """Documents that the device changed by entries which are not here, but for what a snapshot says of them."""
    for document, _, _ in replica.log.heads(device).items():
        record = replica.documents.find(document)
        stored = replica.snapshots.get(record.number) if record is not None else None
        if record is None or stored is None:
            continue
        low, high = sorted(_limits_in(record, was, now))
        if low == high or stored.last_entry <= low:
            continue
        said = chain(*replica.shelf.arrivals.in_snapshots(record))
        if any(one.device == device and low < one.seq <= high for one in said):
            yield record.document


def _limits_in(record: DocumentRecord, was: Standing, now: Standing) -> tuple[int, int]:
    """The limits that hold for a document, before and now."""
    if record.descriptor.kind is DocumentKind.ADMIN:
        return was.admin_limit, now.admin_limit
    return was.limit, now.limit


def _entries_from(replica: Replica, device: DeviceId, first: int) -> Iterator[Entry]:
    """The entries of a device's chain from that seq on, pending ones too."""
    for _, last_seq, _, wire in replica.forks.table.standing(device, first):
        entries = parse_run(wire, replica.group).stored().entries
        yield from (entry for entry in entries if first <= entry.seq <= last_seq)
    if device == replica.keys.id:
        yield from (entry for entry in replica.own_chain.pending_entries() if entry.seq >= first)


def _tell_withdrawn(replica: Replica, device: DeviceId, found: _Concerned) -> EntriesWithdrawn | None:
    """Say how many entries of a device do not count any more. What others built on counts, and is not among them."""
    called: dict[DocumentId, set[ChangeHash]] = {}
    for document in found.documents:
        record = replica.documents.find(document)
        called[document] = replica.documents.called(record.number) if record is not None else set()
    gone = [
        entry
        for entry in found.lowered
        if not any(change.hash in called.get(change.document, ()) for change in entry.changes)
    ]
    if not gone:
        return None
    documents = frozenset(change.document for entry in gone for change in entry.changes)
    name = _name_of(replica, device)
    replica.alarm(
        "withdrawn",
        f"{device.hex()} {gone[0].seq}",
        f"{len(gone)} entries of {name} are not shown any more: they were not known to who took the right away",
    )
    event = EntriesWithdrawn(device, replica.members.member_ever(device), len(gone), documents)
    replica.tell(event)
    return event


def _tell_out(replica: Replica, device: DeviceId) -> None:
    """All are told where a device was replaced by its own key, or put out for two histories."""
    former = replica.members.roster.former_devices.get(device)
    if former is None or former.out_by not in replica.members.graph:
        return
    body = replica.members.operation(former.out_by).body
    name = _name_of(replica, device)
    if isinstance(body, ReplaceDevice):
        replica.alarm(
            "replaced", device.hex(), f"a device of {name} was restored or copied, and goes on as a new one; ask {name}"
        )
    elif isinstance(body, Suspend):
        replica.alarm(
            "suspended", device.hex(), f"a device of {name} signed two histories; it was put out, by the proof"
        )


def _name_of(replica: Replica, device: DeviceId) -> str:
    roster = replica.members.roster
    member = replica.members.member_ever(device)
    if member is None:
        return f"device {device.hex()[:12]}"
    known = roster.members.get(member) or roster.former_members.get(member)
    return known.shown_name if known is not None else member.hex()[:12]
