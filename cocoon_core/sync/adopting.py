"""Takes in what a manifest says: for who comes with nothing, and for who missed what its author had.

Everything is proved before it counts: operations by their signatures, run ends by theirs, heads by the run ends,
changes by the heads and the gate. What a manifest leaves out is put again by whoever has it: `queue_missing`.
Spec: specs/manifest.md §6 and §7.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cocoon_core.errors import ChainAheadError
from cocoon_core.protocol.frontier import RunEnd
from cocoon_core.protocol.heads import DeviceHeads
from cocoon_core.protocol.ids import DeviceId, TopicId
from cocoon_core.protocol.manifest import DocumentState, encode_manifest
from cocoon_core.protocol.manifest_check import VerifiedManifest, check_against_roster, final_operations
from cocoon_core.protocol.roster import RosterGraph
from cocoon_core.protocol.run import Run
from cocoon_core.storage.log import ChainEnd
from cocoon_core.sync.events import RosterChanged
from cocoon_core.sync.final import write_final
from cocoon_core.sync.key_care import erase_old_keys
from cocoon_core.sync.owed import changes_in

if TYPE_CHECKING:
    from cocoon_core.sync.replica import Replica

HANDOVER_OPERATIONS = 8  # operations before a rotation that go into the old topic with it


class ProvedManifest:
    """A manifest of this topic whose signatures hold and that fits the roster of its own operations: dear to make, and
    asked more than once.

    Attributes:
        final: the operations that it makes final.
    """

    def __init__(self, topic: TopicId, run: Run, verified: VerifiedManifest) -> None:
        """Raises:
        MalformedError, NotPermittedError: it does not fit.
        """
        self.topic, self.run, self.verified = topic, run, verified
        graph = RosterGraph(run.group)
        for operation in verified.operations:
            graph.add(operation)
        self.final = final_operations(verified, graph.evaluate(verified.manifest.final))
        check_against_roster(verified, graph.evaluate(self.final))

    def write_final(self) -> bytes:
        """What it makes final, for the store: by its own roster, and not by the one that stands here."""
        return write_final(self.verified.manifest.frontier, self.final)


def find_behind(replica: Replica, verified: VerifiedManifest) -> dict[DeviceId, RunEnd]:
    """The devices of which the manifest knows more than this replica."""
    frontier = verified.manifest.frontier
    return {
        device: end
        for device, end in frontier.items()
        if device not in replica.chains or replica.chains[device].last_seq < end.seq
    }


def find_needed(replica: Replica, verified: VerifiedManifest) -> list[DocumentState]:
    """The documents whose snapshots hold something that is not here, those that are owed already among them."""
    behind, lacking = find_behind(replica, verified), replica.retires.lacking()
    return [
        state
        for state in verified.manifest.documents
        if state.snapshot is not None
        and (
            not behind.keys().isdisjoint(state.heads)
            or replica.debts.find(state.descriptor.document_id(replica.group)) is not None
            or replica.promised.wants(state)
            or state.descriptor.document_id(replica.group) in lacking
        )
    ]


def adopt_manifest(replica: Replica, proved: ProvedManifest) -> None:
    """Take a manifest in. Inside a transaction, in which what is parked is to be tried again.

    What its snapshots hold and is not here is owed from then on (sync/owed.py).
    """
    verified = proved.verified
    behind = find_behind(replica, verified)
    if replica.keys.id in behind:
        replica.stop(ChainAheadError())
        if replica.has_unsent:  # what was written here stands in the way of what this device wrote elsewhere
            return
    replica.retires.take_in(verified)
    needed = find_needed(replica, verified)
    before_members, standings = replica.members.ids(), replica.members.standings()
    new = behind.keys() - replica.chains.keys()
    known = [operation.id for operation in verified.operations if replica.members.knows((operation.id,))]
    for operation_run in verified.manifest.operations:
        if not replica.members.knows((operation_run.last_id,)):
            replica.members.add_entry(operation_run.entries[-1])
            replica.log.add_side_run(operation_run.last_id, operation_run.wire)
    replica.epochs.table.told({operation.id for operation in verified.operations})
    for rekey in verified.manifest.rekeys:
        replica.epochs.table.add_rekey(rekey.device, rekey.last_seq, rekey.wire)
    _move_chains(replica, verified, behind)
    _keep_epoch(replica, proved)
    for state in verified.manifest.documents:  # though nothing of it counts, its heads go on
        replica.documents.ensure(state.descriptor.document_id(replica.group), state.descriptor)
    replica.debts.owe(proved.topic, needed, changes_in(verified.manifest.runs))
    replica.debts.follow_choice(replica.epoch.topic)  # what it says may have chosen an epoch that was followed before
    fresh = tuple(operation.id for operation in verified.operations if operation.id not in set(known))
    if fresh:
        joined = tuple(replica.members.ids() - before_members)
        replica.tell(RosterChanged(fresh, joined))
    replica.follow_standings(standings, new=new)
    replica.forks.settle(everything=True)
    ends = {device: (end.seq, end.entry) for device, end in verified.manifest.frontier.items()}
    replica.beacons.note_ends(proved.run.device, proved.run.last_seq, ends)


def _move_chains(replica: Replica, verified: VerifiedManifest, behind: Mapping[DeviceId, RunEnd]) -> None:
    """Of devices that are behind here, go on from the manifest's run ends."""
    heads: dict[DeviceId, DeviceHeads] = {device: DeviceHeads() for device in behind}
    for state in verified.manifest.documents:
        document = state.descriptor.document_id(replica.group)
        for device, (seq, change) in state.heads.items():
            if device in heads:
                heads[device].advance(document, seq, change)
    for device, end in behind.items():
        known = replica.chains.get(device)
        replica.set_chain(device, ChainEnd(end.seq, end.entry, known.last_time_ms if known else 0))
        replica.set_heads(device, heads[device])
    replica.beacons.note_news(behind)


def _keep_epoch(replica: Replica, proved: ProvedManifest) -> None:
    epochs, topic, verified = replica.epochs, proved.topic, proved.verified
    epochs.table.set_rotation(topic, verified.rotation.id)
    epochs.table.set_manifest(topic, proved.run.wire)
    content = encode_manifest(verified.manifest, replica.group)
    epochs.table.set_followed(topic, proved.write_final(), content, _find_handover(verified))
    epochs.refresh()
    erase_old_keys(replica)


def _find_handover(verified: VerifiedManifest) -> list[bytes]:
    """The rotation's run, after those of the operations that its author wrote right before it."""
    by_id = {run.last_id: run for run in verified.manifest.operations}
    run = by_id[verified.rotation.id]
    wires = [run.wire]
    while len(wires) < HANDOVER_OPERATIONS:
        prev = run.entries[0].prev
        if prev is None or prev not in by_id:
            break
        run = by_id[prev]
        wires.insert(0, run.wire)
    return wires


def queue_missing(replica: Replica) -> None:
    """Queue, for every relay, all that is here above the manifest's frontier and counts, whoever wrote it.

    What a relay turns out to hold is taken off as it is shown; of others' runs the first by rank put them.
    """
    for relay in replica.groups.carriers(replica.record.number):
        replica.epochs.queue_all(relay)
