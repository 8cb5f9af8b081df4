"""What a replica says of itself, and in what two replicas differ: printed where a story ends unlike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cocoon_core.storage.documents import DocumentRecord
from tests.support.world import Seat, alarms


def describe_seats(seats: Sequence[Seat]) -> Iterator[str]:
    """A line for each: where it stands, and what it waits for."""
    for seat in seats:
        replica = seat.replica
        yield (
            f"{seat.name} {seat.device.hex()[:8]} {'in' if seat.group.me is not None else 'OUT'}"
            f" epoch {replica.epoch.topic.hex()[:6]} level {replica.epochs.is_level}"
            f" operations {len(replica.members.graph)} unsent {seat.group.unsent()}"
            f" parked {len(replica.log.parked())} unreadable {len(replica.debts.unreadable)}"
            f" owed {len(list(replica.debts.all()))} told {alarms(seat)}"
        )


def describe_difference(one: Seat, other: Seat) -> Iterator[str]:
    """Operations and changes that one has, or lets count, and the other does not."""
    mine, theirs = one.replica.members.graph, other.replica.members.graph
    for seat, here, there in ((one, mine, theirs), (other, theirs, mine)):
        for operation in here.operations():
            if operation.id not in there:
                which = f"{type(operation.body).__name__} {operation.id.hex()[:8]}"
                yield f"only {seat.name}: {which} of {operation.device.hex()[:8]} {operation.seq}"
    documents = {record.document: record for record in other.replica.documents.all()}
    for record in one.replica.documents.all():
        if record.document not in documents:
            yield f"only {one.name}: document {record.descriptor.name}"
        else:
            yield from _describe_document(one, other, record, documents[record.document])


def _describe_document(one: Seat, other: Seat, record: DocumentRecord, its: DocumentRecord) -> Iterator[str]:
    for seat, mine, elsewhere, theirs in ((one, record, other, its), (other, its, one, record)):
        counting = {arrival.change.hash for arrival in elsewhere.replica.shelf.counting_changes(theirs)}
        arrived = {arrival.change.hash: arrival for arrival in elsewhere.replica.shelf.arrivals.of(theirs)}
        waiting = elsewhere.replica.documents.waiting_changes(theirs.number)
        refused = elsewhere.replica.documents.refused(theirs.number)
        for arrival in seat.replica.shelf.counting_changes(mine):
            name = arrival.change.hash
            if name in counting:
                continue
            there = arrived.get(name)
            has = "nothing of it" if there is None else f"seq {there.seq}, stands {there.stands}, final {there.final}"
            standing = elsewhere.replica.members.standing(arrival.device)
            yield (
                f"counts for {seat.name} alone, in {mine.descriptor.name}: {name.hex()[:8]} of"
                f" {arrival.device.hex()[:8]} {arrival.seq}; {elsewhere.name} has {has}"
                f"{', waiting' if name in waiting else ''}{', refused' if name in refused else ''}; standing {standing}"
            )
