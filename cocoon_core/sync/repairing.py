"""Complaints and repairs: a device that a rotation left out asks in the repair topic, and another gives it the secret.

Nobody is believed: a complaint is answered only to a recipient by the roster, under the HPKE key that the roster names,
so the most that a false one costs is an answer. The first by rank answers, the others only if nobody has.
Spec: specs/epoch.md §9.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from cocoon_core.errors import NotYetError, UntrustedInputError
from cocoon_core.protocol.envelope import seal_envelope
from cocoon_core.protocol.epoch import TopicKeys
from cocoon_core.protocol.epochs import rank_of
from cocoon_core.protocol.ids import DeviceId, EntryId, RecipientId, TopicId
from cocoon_core.protocol.operations_rotation import Rotation
from cocoon_core.protocol.primitives import HpkeKey, sha256
from cocoon_core.protocol.repair import Complaint, Repair, encode_repair_value, read_repair_value
from cocoon_core.sync.epochs import REPAIR_DEPTH
from cocoon_core.sync.rotating import find_recipients
from cocoon_core.sync.session import Effect, Session, Tag
from cocoon_core.sync.turns import is_turn

if TYPE_CHECKING:
    from cocoon_core.sync.replica import Replica


def note_repair_value(replica: Replica, topic: TopicId, value: Complaint | Repair, relay: str | None = None) -> None:
    """Keep what is said in a repair topic, once; a bounded number of them. Inside a transaction.

    Args:
        relay: which showed it there; None where this device is about to say it.
    """
    device = value.device if isinstance(value, Complaint) else DeviceId(value.recipient)
    kind = "complaint" if isinstance(value, Complaint) else "repair"
    raw = encode_repair_value(value)
    replica.epochs.table.add_repair(topic, value.rotation, kind, device, raw)
    if relay is not None:
        replica.epochs.table.note_shown_early(relay, topic, [_name_of(raw)])


def _name_of(raw: bytes) -> EntryId:
    """By which it is noted that a relay showed it."""
    return EntryId(sha256(raw))


def open_repairs(replica: Replica, keys: list[HpkeKey]) -> bool:
    """Take the secret that somebody gave this device after its complaint. True where one opened."""
    own = replica.keys.id
    for raw in replica.epochs.table.repairs("repair", own):
        value = read_repair_value(raw, replica.group)
        if not isinstance(value, Repair):
            continue
        if value.rotation in replica.members.graph and replica.members.member_of(value.device) is None:
            continue  # of one that came early it is not asked: the manifest proves what the secret is worth
        body = replica.epochs.rotation(value.rotation)
        if body is None or body.topic in replica.epochs.held:
            continue
        with suppress(UntrustedInputError, NotYetError):
            epoch = value.open(keys, replica.group, body.topic)
            with replica.transaction():
                replica.epochs.hold(epoch, value.rotation if replica.members.knows((value.rotation,)) else None)
            return True
    return False


class Repairing:
    """What this device has to say in repair topics, at one relay."""

    def __init__(self, replica: Replica, url: str, session: Session) -> None:
        self._replica, self._url, self._session = replica, url, session
        self._said: set[tuple[TopicId, bytes]] = set()
        self._closed: set[EntryId] = set()
        self._answered: dict[TopicId, list[tuple[DeviceId, bytes]]] = {}  # own answers, of earlier passes too
        self._told: set[EntryId] = set()  # rotations that cannot be placed and were told of

    def complain_of(self, rotation: EntryId) -> None:
        """This device is a recipient by the roster, and no wrap of that rotation opens here."""
        self._closed.add(rotation)

    def _left_out_by(self) -> list[EntryId]:
        """The rotations that are closed to this device, also those that an earlier pass found: it may have ended, or
        its relay been lost, before the complaint was heard.
        """
        replica, found = self._replica, []
        for rotation in sorted(self._closed | replica.epochs.closed):
            body = replica.epochs.rotation(rotation)
            if body is not None and body.topic not in replica.epochs.held:
                found.append(rotation)
        return found

    def advance(self, topics: list[TopicKeys]) -> list[Effect]:
        """Put complaints, answers and own operations into the repair topics that are open and not sealed: those that
        this relay has not shown there.
        """
        effects: list[Effect] = []
        for keys in topics:
            if self._session.is_live(keys.topic) and not self._session.is_sealed(keys.topic):
                said = [*self._complaints(keys.topic), *self._answers(keys.topic), *self._own_operations(keys.topic)]
                for raw in self._unshown(keys.topic, [raw for raw in said if (keys.topic, raw) not in self._said]):
                    self._said.add((keys.topic, raw))
                    effects += self._session.put(keys.topic, Tag.REPAIR, [seal_envelope(raw, keys)])
        return effects

    def _unshown(self, topic: TopicId, said: list[bytes]) -> list[bytes]:
        shown = set(self._replica.epochs.table.shown_early(self._url, topic)) if said else set()
        return [raw for raw in said if _name_of(raw) not in shown]

    def _own_operations(self, topic: TopicId) -> list[bytes]:
        """What this device wrote of the roster and cannot send, because the epoch that was chosen is closed to it.

        The others may not know that it belongs to the group; or it was put out by who did not know of its objection.
        """
        replica = self._replica
        if replica.epochs.is_level or not any(self._ends_here(rotation, topic) for rotation in self._left_out_by()):
            return []
        end = replica.epochs.frontier().get(replica.keys.id)
        shown = set(replica.epochs.table.shown_early(self._url, topic))
        runs = replica.log.operations_above(replica.keys.id, end.seq if end is not None else -1)
        carry = replica.epochs.carry
        return [carry(run.wire, run.last_id) for run in runs if run.last_id not in shown]

    def _complaints(self, topic: TopicId) -> list[bytes]:
        replica = self._replica
        ended = [rotation for rotation in self._left_out_by() if self._ends_here(rotation, topic)]
        early = replica.epochs.left_out_early()
        for rotation in [rotation for rotation in ended if rotation in early and rotation not in self._told]:
            self._told.add(rotation)
            with replica.transaction():
                message = "a rotation left this device out, or it was put out of the group; others are asked"
                replica.alarm("excluded", rotation.hex(), message)
        return [encode_repair_value(Complaint.make(replica.keys.signing, replica.group, one)) for one in ended]

    def _answers(self, topic: TopicId) -> list[bytes]:
        """Repairs for complaints that nobody answered, where it is this device's turn; and those that it made before,
        which stand at one relay perhaps.
        """
        replica = self._replica
        if replica.members.member_of(replica.keys.id) is None:
            return []
        if topic not in self._answered:
            self._answered[topic] = self._answers_before(topic)
        answered, complaints = self._answered[topic], replica.epochs.table.open_complaints(topic)
        recipients = {one.id: one for one in find_recipients(replica)} if complaints or answered else {}
        for rotation, device in complaints:
            recipient = recipients.get(device)
            if recipient is None or device == replica.keys.id or rotation not in replica.members.graph:
                continue
            body = replica.members.graph.operation(rotation).body
            stored = replica.epochs.held.get(body.topic) if isinstance(body, Rotation) else None
            if stored is None:
                continue
            rank = rank_of(replica.keys.id, topic, replica.seen_lately() - {device})
            if not is_turn(replica, f"repair {rotation} {device}", rank):
                continue
            answer = Repair.make(
                replica.keys.signing, replica.group, rotation, stored.epoch, RecipientId(device), recipient.hpke
            )
            with replica.transaction():
                note_repair_value(replica, topic, answer)
            answered.append((device, encode_repair_value(answer)))
        return [raw for device, raw in answered if device in recipients]

    def _answers_before(self, topic: TopicId) -> list[tuple[DeviceId, bytes]]:
        replica, found = self._replica, []
        for raw in replica.epochs.table.repairs_in(topic):
            value = read_repair_value(raw, replica.group)
            if isinstance(value, Repair) and value.device == replica.keys.id:
                found.append((DeviceId(value.recipient), raw))
        return found

    def _ends_here(self, rotation: EntryId, topic: TopicId) -> bool:
        """Whether that repair topic is one of an epoch which the rotation ended. Who cannot place a rotation asks in
        that of its own epoch too: it may hold nothing of what that one ended.
        """
        replica = self._replica
        body = replica.epochs.rotation(rotation)
        assert body is not None, "it is asked of such alone"
        early = rotation in replica.epochs.left_out_early()
        for parent in (*body.parents, replica.epoch.topic) if early else body.parents:
            if parent in replica.epochs.held:
                keys: TopicKeys = replica.epochs.held[parent].epoch
                for _ in range(REPAIR_DEPTH):
                    keys = replica.epochs.repair_of(keys)
                    if keys.topic == topic:
                        return True
        return False
