"""Makes edits of a retired document again in its next generation, where its owner's other devices wrote them without
knowing of the retire.

Nothing in a retired document counts, whoever wrote it when; but what one's own device wrote in time must not be lost.
What the retires name, they carried over. The rest is the difference between two states of the document: what they all
name, and all that is here. The device that wrote it makes it again as soon as it learns of the retire; another one of
the member, if it has it, some time later: that one may be gone. Implements specs/retire.md §4.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from cocoon_core.errors import DocumentUnavailableError
from cocoon_core.protocol import encoding
from cocoon_core.protocol.ids import DeviceId, DocumentId, MemberId
from cocoon_core.protocol.primitives import sha256
from cocoon_core.protocol.retire import Retire
from cocoon_core.storage.documents import DocumentRecord
from cocoon_core.sync.arrivals import ancestors_of
from cocoon_core.sync.reissue import carry_difference
from cocoon_core.sync.retiring import Heads
from cocoon_core.sync.turns import is_turn

if TYPE_CHECKING:
    from cocoon_core.sync.replica import Replica


def carry_over(replica: Replica) -> None:
    """Make again what is due and this device's turn. To be called when level, not in an edit or a transaction."""
    member = replica.members.member_of(replica.keys.id)
    documents = replica.retires.documents()
    if member is None or not documents or not replica.is_writable:
        return
    state = _written(replica, member)
    if state == replica.retires.carried_at:
        return
    waits = False
    for document, retires in list(documents.items()):
        if retires[0].descriptor.member == member:
            waits |= not _carry(replica, document, retires)
    if not waits and state == _written(replica, member):
        replica.retires.carried_at = state


def _written(replica: Replica, member: MemberId) -> object:
    """Changes whenever a device of the member wrote something, or another retire counts."""
    devices, chains = replica.retires.devices_of(member), replica.chains
    return [(device, chains[device].last_seq) for device in devices if device in chains], replica.retires.documents()


def is_carried(replica: Replica, document: DocumentId) -> bool:
    """Whether nothing of a retired document of the own member has yet to be made again."""
    retires = replica.retires.documents().get(document, ())
    return not retires or not _uncarried(replica, document, retires)[0]


def _carry(replica: Replica, document: DocumentId, retires: tuple[Retire, ...]) -> bool:
    """False where it is to be done, and others come first."""
    if any(changed == document for changed, _, _ in replica.own_chain.pending_changes()):
        replica.form_runs()
    waiting, heads = _uncarried(replica, document, retires)
    record = replica.documents.find(document)
    if not waiting or record is None:
        return True
    if replica.keys.id not in waiting:
        own = [
            device.id for device in replica.members.roster.devices.values() if device.member == record.descriptor.member
        ]
        what = f"carry {document} {sha256(_pack(heads)).hex()[:16]}"
        if not is_turn(replica, what, 1 + sorted(own).index(replica.keys.id)):
            return False
    try:
        _write(replica, record, retires)
    except DocumentUnavailableError as error:
        with replica.transaction():
            replica.note_unavailable(document, record.descriptor, error)
    with replica.transaction():
        replica.retires.table.set_carried(document, _pack(heads))
    return True


def _uncarried(replica: Replica, document: DocumentId, retires: Iterable[Retire]) -> tuple[set[DeviceId], Heads]:
    """The devices that wrote something which some retire does not name, and the heads of all of them."""
    retires = tuple(retires)
    heads = replica.retires.heads_of(retires[0].descriptor)
    waiting = {
        device
        for device, (seq, _) in heads.items()
        if any(device not in one.heads or one.heads[device][0] < seq for one in retires)
    }
    if waiting and replica.retires.table.carried(document) == _pack(heads):
        return set(), heads
    return waiting, heads


def _pack(heads: Heads) -> bytes:
    return encoding.encode([[device, seq, change] for device, (seq, change) in sorted(heads.items())])


def _write(replica: Replica, record: DocumentRecord, retires: tuple[Retire, ...]) -> None:
    """Write what differs between what every retire names and all that is here."""
    here = {bytes(arrival.change.hash): arrival.change.raw for arrival in replica.shelf.changes_ever(record)}
    named = [_past(retire, here) for retire in retires]
    base = {digest: raw for digest, raw in named[0].items() if all(digest in one for one in named)}
    carry_difference(replica, record, base.values(), here.values())


def _past(retire: Retire, here: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    found = [here[change] for _, change in retire.heads.values() if change in here]
    return ancestors_of(found, dict(here))
