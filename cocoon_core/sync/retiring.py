"""Documents that their owners retired: which they are, and how one is retired.

A retire counts like any entry of its device in an owned document; where one counts, nothing in that document does, and
its next generation goes on in its place. So it is a function of what is held, like all counting. What is made again of
edits that did not know of it is in carrying_over.py; how the retired content leaves this device, in sweeping.py.
Implements specs/retire.md §3 and §4.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from cocoon_core.documents.proxies import MapEdit
from cocoon_core.errors import MalformedError, UsageError
from cocoon_core.protocol.constants import MAX_RETIRE_HEADS
from cocoon_core.protocol.descriptor import Descriptor
from cocoon_core.protocol.entry import EntryKind
from cocoon_core.protocol.frontier import Frontier
from cocoon_core.protocol.ids import ChangeHash, DeviceId, DocumentId, EntryId, MemberId, TopicId
from cocoon_core.protocol.manifest_check import VerifiedManifest
from cocoon_core.protocol.retire import Retire, read_retire, retire_body
from cocoon_core.protocol.run import Run, parse_run
from cocoon_core.protocol.statement import parse_statement
from cocoon_core.storage.retires import RetireTable
from cocoon_core.sync.withdrawals import rebuild_documents

if TYPE_CHECKING:
    from cocoon_core.sync.replica import Replica

KEYS_A_CHANGE: Final = 64  # root keys that one change copies,
BYTES_A_CHANGE: Final = 65_536  # and bytes of what stands under them, beyond which another change begins

Heads = dict[DeviceId, tuple[int, ChangeHash]]


class Retires:
    """The retires that are known to one replica, and what they do."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self.table = RetireTable(replica.database, replica.record.number)
        self._known: dict[EntryId, Retire] = {}
        self._wires: dict[EntryId, bytes] = {}
        self._counted: frozenset[EntryId] = frozenset()
        self._documents: dict[DocumentId, tuple[Retire, ...]] = {}
        self._asked_of: object = None  # the standings of which it was last asked what counts
        self._swept_runs: dict[DeviceId, tuple[int, EntryId]] = {}
        self._devices: tuple[object, dict[MemberId, list[DeviceId]]] = None, {}  # by the standings of which they are
        self.tried: dict[DocumentId, TopicId] = {}  # retired documents, and the epoch in which they were last swept
        self.carried_at: object = None  # what the own devices had written when nothing was left to be made again

    def load(self) -> None:
        """Take everything from the database again: what counts is as it was found to be last."""
        stored = self.table.all()
        group = self._replica.group
        runs = {one.entry: parse_run(one.wire, group).stored() for one in stored}
        self._known = {entry: read_retire(run.entries[-1]) for entry, run in runs.items()}
        self._wires = {one.entry: one.wire for one in stored}
        self._asked_of = None
        self.tried.clear()
        self.carried_at = None
        self._swept_runs = self.table.swept_runs()
        self._set_counted(frozenset(one.entry for one in stored if one.counts))

    def note(self, run: Run) -> None:
        """Take a verified run with a retire in. Inside a transaction, at whose end it is asked what it does."""
        entry = run.entries[-1]
        if entry.id in self._known:
            return
        try:
            retire = read_retire(entry)
        except MalformedError as error:  # a link of its chain all the same
            self._replica.alarm("refused-malformed", run.device.hex(), f"a retire of {run.device} is none: {error}")
            return
        self._known[entry.id], self._wires[entry.id] = retire, run.wire
        self.table.add(entry.id, run.wire)
        self._replica.documents.ensure(retire.descriptor.document_id(self._replica.group), retire.descriptor)
        self._asked_of = None

    def take_in(self, verified: VerifiedManifest) -> None:
        """The retires by which a manifest leaves documents out. Inside a transaction.

        Raises:
            MalformedError: it holds changes of a document whose retire its author must have had.
        """
        manifest, group = verified.manifest, self._replica.group
        left_out = {state.descriptor for state in manifest.documents if state.retired}
        for entry in self._counted:
            retire = self._known[entry]
            if retire.descriptor not in left_out and self._is_within(manifest.frontier, retire):
                raise MalformedError(f"a manifest holds {retire.descriptor.name!r}, which was retired before it")
        for state in manifest.documents:
            if state.retired:
                self.note(parse_statement(state.retired, group).stored())

    @property
    def known(self) -> Set[EntryId]:
        """The retires that are known here; each was verified."""
        return self._known.keys()

    # --- what counts

    def settle(self) -> None:
        """Ask which retires count, if that may have changed, and build anew what it concerns. Inside a transaction."""
        if not self._known:
            return
        standings = self._replica.members.standings()
        if standings is self._asked_of:
            return
        self._asked_of = standings
        counted = frozenset(entry for entry, retire in self._known.items() if self._counts(retire))
        changed = counted ^ self._counted
        if not changed:
            return
        before = self._documents.keys()
        self.table.set_counts(changed & counted, True)
        self.table.set_counts(changed - counted, False)
        self._set_counted(counted)
        replica, after = self._replica, self._documents.keys()
        replica.debts.drop(after - before)
        rebuild_documents(replica, before ^ after)
        lacking, last = self.lacking() & (before - after), replica.epochs.last_followed()
        if lacking and last is not None:
            replica.debts.owe_again(last.topic, lacking)

    def _counts(self, retire: Retire) -> bool:
        """It stands in its device's chain, or a manifest stands for it there; and its device had the right to it."""
        members = self._replica.members
        if members.member_ever(retire.device) != retire.descriptor.member:
            return False
        if not members.counts_ever(retire.device, retire.seq, retire.descriptor):
            return False
        return self._replica.known_id(retire.device, retire.seq) in (None, retire.entry)

    def _set_counted(self, counted: frozenset[EntryId]) -> None:
        self._counted = counted
        found: dict[DocumentId, tuple[Retire, ...]] = {}
        for entry in sorted(counted):
            retire = self._known[entry]
            document = retire.descriptor.document_id(self._replica.group)
            found[document] = (*found.get(document, ()), retire)
        self._documents = found
        self._replica.members.set_retired(frozenset(self._known[entry].descriptor for entry in counted))

    def current(self, descriptor: Descriptor) -> Descriptor:
        """The generation of a document that is written to."""
        members = self._replica.members
        while members.is_retired(descriptor):
            descriptor = descriptor.at(descriptor.generation + 1)
        return descriptor

    def documents(self) -> Mapping[DocumentId, tuple[Retire, ...]]:
        """The retired documents, each with the retires of it that count."""
        return self._documents

    def proof_of(self, document: DocumentId) -> bytes:
        """The run of a retire of that document that counts, for a manifest; empty where there is none."""
        retires = self._documents.get(document)
        return self._wires[retires[0].entry] if retires else b""

    def is_final(self, document: DocumentId) -> bool:
        """Whether the manifests on the chosen path stand for a retire of that document."""
        frontier = self._replica.epochs.frontier()
        return any(self._is_within(frontier, retire) for retire in self._documents.get(document, ()))

    def _is_within(self, frontier: Frontier, retire: Retire) -> bool:
        """Whether a device's run end comes after a retire, on the chain that stands here."""
        end = frontier.get(retire.device)
        return (
            end is not None
            and retire.seq <= end.seq
            and self._replica.known_id(retire.device, end.seq) in (None, end.entry)
        )

    # --- what was let go of

    def note_swept_run(self, device: DeviceId, last_seq: int, last_id: EntryId) -> None:
        self.table.note_swept_run(device, last_seq, last_id)
        self._swept_runs = self.table.swept_runs()

    def swept_id(self, device: DeviceId, seq: int) -> EntryId | None:
        """The id of that entry, if it ended the last run of its device that was let go of."""
        last_seq, last_id = self.table.swept_runs().get(device, (-1, None))
        return last_id if last_seq == seq else None

    def lacking(self) -> set[DocumentId]:
        """Documents that go on after all, since their retire does not count any more, and were let go of here."""
        return self.table.swept_documents() - self._documents.keys()

    @property
    def lacks_manifest(self) -> bool:
        """Whether runs were let go of that no manifest on the chosen path stands for: another path was chosen since.

        Whoever follows it may never get them, unless a manifest of this device comes to stand for them.
        """
        if not self._swept_runs:
            return False
        frontier = self._replica.epochs.frontier()
        return any(
            device not in frontier or frontier[device].seq < seq for device, (seq, _) in self._swept_runs.items()
        )

    # --- heads

    def devices_of(self, member: MemberId) -> Sequence[DeviceId]:
        """The devices, present and former ones, of a member."""
        members = self._replica.members
        if self._devices[0] is not members.standings():
            self._devices = members.standings(), {}
        found = self._devices[1]
        if member not in found:
            found[member] = sorted(device for device in members.standings() if members.member_ever(device) == member)
        return found[member]

    def heads_of(self, descriptor: Descriptor) -> Heads:
        """Of each device of the owner that changed the document, its newest change that is in a run here."""
        replica, document = self._replica, descriptor.document_id(self._replica.group)
        assert descriptor.member is not None, "only owned documents are retired"
        found: Heads = {}
        for device in self.devices_of(descriptor.member):
            head = replica.heads_of(device).get(document) if device in replica.chains else None
            if head is not None and head[0] >= 1:
                found[device] = head
        return found


def retire_document(replica: Replica, descriptor: Descriptor, contents: Mapping[str, Any]) -> None:
    """Retire an own document at the heads that are known here. Its next generation gets these contents.

    All of it is one transaction, and the contents stand in the chain before the retire: whoever has that has them.

    Args:
        contents: by root key. What the next generation has under a key already is left as it is.

    Raises:
        UsageError: it is not this member's, was retired before, or an edit is open.
    """
    replica.require_writable()
    replica.require_no_edit()
    replica.members.require_right(replica.keys.id, descriptor)
    following = descriptor.at(descriptor.generation + 1)
    with replica.transaction():
        replica.own_chain.form_runs()
        heads = replica.retires.heads_of(descriptor)
        if not heads:
            raise UsageError("nothing stands in this document that could be retired")
        heads = dict(islice(heads.items(), MAX_RETIRE_HEADS))  # of others nothing is lost: it is there already
        for batch in _batches(contents):
            replica.change_inside(following, lambda root, batch=batch: _copy(root, batch))  # type: ignore[misc]
        replica.own_chain.append_statement(EntryKind.RETIRE, retire_body(descriptor, heads))
        replica.own_chain.form_runs()


def _copy(root: MapEdit, batch: Mapping[str, Any]) -> None:
    for key, value in batch.items():
        if key not in root:
            root[key] = value


def _batches(contents: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """As much as one change takes."""
    batch: dict[str, Any] = {}
    size = 0
    for key, value in contents.items():
        length = _size(value)
        if batch and (len(batch) >= KEYS_A_CHANGE or size + length > BYTES_A_CHANGE):
            yield batch
            batch, size = {}, 0
        batch[key] = value
        size += length
    if batch:
        yield batch


def _size(value: Any) -> int:
    match value:
        case str():
            return len(value.encode())
        case bytes():
            return len(value)
        case dict():
            return sum(len(key) + _size(inner) for key, inner in value.items())
        case list():
            return sum(map(_size, value))
    return 8
