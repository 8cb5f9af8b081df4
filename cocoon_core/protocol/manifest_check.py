"""What of a manifest holds: first all that needs no roster, then what the roster of its operations says. Implements
specs/manifest.md §6.

The changes of its snapshots are checked by snapshot.py and the gate. That it is the newest state, nobody can prove:
whoever has newer, signed runs notices, and puts them again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from cocoon_core.errors import MalformedError, NotPermittedError
from cocoon_core.protocol.entry import Entry, EntryKind
from cocoon_core.protocol.frontier import Frontier
from cocoon_core.protocol.heads import DeviceHeads
from cocoon_core.protocol.ids import DeviceId, EntryId, GroupId, TopicId
from cocoon_core.protocol.manifest import DocumentState, Manifest, UnverifiedManifest
from cocoon_core.protocol.operation_forms import Pin
from cocoon_core.protocol.operations import Create, decode_operation
from cocoon_core.protocol.operations_rotation import Rotation
from cocoon_core.protocol.rekey import Rekey, read_rekey
from cocoon_core.protocol.retire import Retire, read_retire, require_counted
from cocoon_core.protocol.roster_values import Operation, Roster
from cocoon_core.protocol.run import Run, UnverifiedRun, verify_run
from cocoon_core.protocol.statement import parse_statement


@dataclass(frozen=True, slots=True)
class VerifiedManifest:
    """A manifest of which every signature holds, and whose heads are those that each device signed."""

    manifest: Manifest
    operations: tuple[Operation, ...]
    rekeys: tuple[Rekey, ...]
    rotation: Operation
    retires: tuple[Retire, ...] = ()


def verify_manifest(
    unverified: UnverifiedManifest, entry: Entry, topic: TopicId, known: Collection[EntryId] = ()
) -> VerifiedManifest:
    """Check everything that needs no roster.

    Args:
        entry: the manifest's own, of a run whose signature was checked.
        topic: the topic in which it stood.
        known: ids of entries that were verified here before; their signatures are not checked again.

    Raises:
        SignatureError: an operation, rekey, retire, run or run end is not signed by the device that it names.
        MalformedError: its operations are not whole, it does not follow the rotation that began this topic, or its
            heads are not those that were signed.
        UpdateNeededError: an operation of a later version.
    """
    for end in unverified._frontier.values():
        end.verify()
    operations = _read_operations(unverified._operations, unverified.group, known)
    rotation = _find_rotation(operations, entry, topic)
    _check_digests(unverified.group, unverified._frontier, unverified._documents)
    rekeys = tuple(_verified(run, known) for run in unverified._rekeys)
    runs = tuple(_verified(run, ()) for run in unverified._runs)
    manifest = Manifest(
        unverified._frontier,
        tuple(run.stored() for run in unverified._operations),
        unverified._final,
        rekeys,
        runs,
        unverified._documents,
    )
    read = tuple(read_rekey(run.entries[-1]) for run in rekeys)
    retired = [state for state in unverified._documents if state.retired]
    retires = tuple(_read_retire(state, unverified.group, known) for state in retired)
    return VerifiedManifest(manifest, operations, read, rotation, retires)


def check_against_roster(verified: VerifiedManifest, roster: Roster) -> None:
    """Compare a manifest with the roster that its own operations evaluate to.

    Raises:
        NotPermittedError: the rotation does not count, or a retire by which it leaves a document out.
        MalformedError: a device is missing, was never in, or does not end where it must.
    """
    manifest = verified.manifest
    if all(state.operation != verified.rotation.id for state in roster.rotations):
        raise NotPermittedError("a manifest is of a rotation that does not count")
    for device in manifest.frontier:
        if device not in roster.devices and device not in roster.former_devices:
            raise MalformedError(f"a frontier names device {device.hex()[:12]}, which never was in the group")
    rotation = verified.rotation  # of others an operation may be known before what they wrote ahead of it
    _require_within(manifest.frontier, rotation.device, rotation.seq, rotation.id)
    for rekey in verified.rekeys:
        if rekey.device not in roster.devices:
            raise MalformedError("a manifest holds the rekey of a device that does not count")
        _require_within(manifest.frontier, rekey.device, rekey.seq, rekey.entry)
    for former in roster.former_devices.values():
        if former.pin is not None:
            _require_reach(manifest, former.pin)
    for retire in verified.retires:
        end = manifest.frontier.get(retire.device)
        require_counted(retire, roster, end.seq if end is not None else -1)


def _read_operations(
    runs: Iterable[UnverifiedRun], group: GroupId, known: Collection[EntryId]
) -> tuple[Operation, ...]:
    operations: list[Operation] = []
    seen: set[EntryId] = set()
    for unverified in runs:
        entry = _verified(unverified, known).entries[-1]
        if entry.kind is not EntryKind.ROSTER or entry.id in seen or not seen.issuperset(entry.roster_heads):
            raise MalformedError("the operations of a manifest are not each there once, pasts first")
        body = decode_operation(entry.body)
        if not operations and not (isinstance(body, Create) and body.group_id() == group):
            raise MalformedError("a manifest does not begin with the group's create")
        seen.add(entry.id)
        operations.append(Operation(entry.id, entry.device, entry.seq, entry.roster_heads, body))
    return tuple(operations)


def _find_rotation(operations: Iterable[Operation], entry: Entry, topic: TopicId) -> Operation:
    if entry.kind is not EntryKind.MANIFEST:
        raise MalformedError("not an entry of kind manifest")
    for operation in operations:
        body, follows = operation.body, operation.id == entry.prev and operation.device == entry.device
        if follows and isinstance(body, Rotation) and body.topic == topic:
            return operation
    raise MalformedError("a manifest does not follow the rotation that began its topic")


def _read_retire(state: DocumentState, group: GroupId, known: Collection[EntryId]) -> Retire:
    """The word by which a manifest leaves a document's changes out: its owner's, and of this very document."""
    retire = read_retire(_verified(parse_statement(state.retired, group), known).entries[-1])
    if retire.descriptor != state.descriptor:
        raise MalformedError("a document of a manifest was retired by the retire of another")
    return retire


def _check_digests(group: GroupId, frontier: Frontier, documents: Iterable[DocumentState]) -> None:
    heads = {device: DeviceHeads() for device in frontier}
    for state in documents:
        document = state.descriptor.document_id(group)
        for device, (seq, change) in state.heads.items():
            heads[device].advance(document, seq, change)
    for device, end in frontier.items():
        if heads[device].digest() != end.digest:
            raise MalformedError(f"the heads of device {device.hex()[:12]} are not those that it signed")


def _verified(run: UnverifiedRun, known: Collection[EntryId]) -> Run:
    return run.stored() if run.last_id in known else verify_run(run)


def _require_within(frontier: Frontier, device: DeviceId, seq: int, entry: EntryId) -> None:
    end = frontier.get(device)
    if end is None or end.seq < seq or (end.seq == seq and end.entry != entry):
        raise MalformedError(f"device {device.hex()[:12]} is not known up to what the manifest holds of it")


def _require_reach(manifest: Manifest, pin: Pin) -> None:
    """What is known of a cut device goes at least to its pin: by its run end, or by whole runs from there, linked."""
    end = manifest.frontier.get(pin.device)
    seq, link = (end.seq, end.entry) if end is not None else (-1, None)
    if seq > pin.seq:  # it was final before it was cut
        return
    for run in manifest.runs:
        if run.device == pin.device and seq < pin.seq and run.first_seq == seq + 1 and run.entries[0].prev == link:
            seq, link = run.last_seq, run.last_id
            if run.first_seq <= pin.seq <= run.last_seq:
                link = run.entries[pin.seq - run.first_seq].id
                seq = pin.seq
    if (seq, link) != (pin.seq, pin.entry):
        raise MalformedError(f"a manifest does not reach the pin of device {pin.device.hex()[:12]}")


def final_operations(verified: VerifiedManifest, roster: Roster) -> frozenset[EntryId]:
    """The operations that this manifest makes final: those that count by its own roster, within its frontier.

    What a manifest only carries along (both branches of a fork, operations of a device beyond its cut) is not final.
    """
    frontier = verified.manifest.frontier
    return frozenset(
        operation.id
        for operation in verified.operations
        if operation.id not in roster.refused
        and operation.device in frontier
        and operation.seq <= frontier[operation.device].seq
    )
