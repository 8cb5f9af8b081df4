"""The epochs of one group on this device: which are held, which is written to, and what is due.

Nothing is sealed to anybody who is known to be gone: `may_seal` is asked before every put. Which of several rotations
is followed is decided in protocol/epochs.py, from the operations alone; here is what this device holds of it. How a
rotation is written is in rotating.py, how one is followed in following.py, how old topics end in handover.py.
Spec: specs/epoch.md.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, cast

from cocoon_core.errors import LocalStateError, UntrustedInputError
from cocoon_core.protocol.constants import MAX_PUT_ENVELOPES, PARK_TOTAL_BYTES, REPAIR_DAYS
from cocoon_core.protocol.entry import Entry, EntryKind
from cocoon_core.protocol.epoch import Epoch, TopicKeys
from cocoon_core.protocol.epochs import Choice, EpochGraph, EpochNode, Path, Steps, choose_epoch, trace_epochs
from cocoon_core.protocol.frontier import Frontier
from cocoon_core.protocol.ids import DeviceId, EntryId, TopicId
from cocoon_core.protocol.operations import Create, OperationBody, SetPolicy, decode_operation
from cocoon_core.protocol.operations_admission import SetRecovery
from cocoon_core.protocol.operations_devices import AddDevice, ReplaceDevice
from cocoon_core.protocol.operations_rotation import Reason, Rotation, name_recipient
from cocoon_core.protocol.repair import RepairKeys, repair_keys
from cocoon_core.protocol.roster import RosterGraph
from cocoon_core.protocol.roster_values import Roster
from cocoon_core.protocol.rotation_due import EpochUse, find_reason
from cocoon_core.protocol.rotation_value import add_wraps
from cocoon_core.protocol.run import UnverifiedRun, parse_run
from cocoon_core.storage.epochs import EpochTable, StoredEpoch
from cocoon_core.sync.beacons import is_beacon
from cocoon_core.sync.final import read_final
from cocoon_core.sync.rotating import write_rotation

if TYPE_CHECKING:
    from cocoon_core.sync.replica import Replica

DAY_MS = 86_400_000
REPAIR_DEPTH = 8  # repair topics, each of the one before, that are looked at
MAX_EARLY = 32  # rotations that cannot be placed and are complained of: anybody in the epoch can write such
WATCHED_EPOCHS = 16  # ended epochs whose repair topics are read
CARRIED_BYTES = 1024 * 1024  # bytes of rotations with their wraps that lead on in one put, beyond the newest one


class Epochs:
    """What this device holds of the group's epochs."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self.table = EpochTable(replica.database, replica.record.number)
        self.held: dict[TopicId, StoredEpoch] = {}
        self._first = replica.record.create.topic  # that needs no manifest
        self._repairs: dict[TopicId, RepairKeys] = {}  # by their own topic
        self._repair_after: dict[TopicId, RepairKeys] = {}  # by the topic that they repair: asked for at every message
        self._choice: Choice | None = None
        self._chosen_of: tuple[RosterGraph | None, int] = (None, -1)
        self._steps: Steps = {}
        self.broken: set[TopicId] = set()  # epochs whose manifests cannot serve who comes anew
        self.closed: set[EntryId] = set()  # rotations that hold no wrap which opens here
        self._closed_early: dict[EntryId, Rotation] = {}  # of these, those that name operations which are not here
        self._finals: dict[TopicId, tuple[Frontier, frozenset[EntryId]]] = {}
        self._told: dict[TopicId, tuple[Frontier, frozenset[EntryId]]] = {}  # these, and what epochs beside say
        self._traced: EpochGraph | None = None
        self._written: TopicId | None = None  # the current topic, when it was last asked
        self._applied: tuple[EntryId, ...] = ()  # the epochs from which finality was taken last
        self.to_reread: set[str] = set()  # relays that may have shown more of the current topic than was noted

    def load(self) -> None:
        """Take everything from the database again."""
        before, self.held = self.held, {stored.epoch.topic: stored for stored in self.table.all()}
        told = {topic: stored.frontier for topic, stored in self.held.items() if stored.frontier is not None}
        if told != {topic: stored.frontier for topic, stored in before.items() if topic in self._told}:
            self._told = {topic: self._read_told(topic, raw, before.get(topic)) for topic, raw in told.items()}
            self._choice = None  # it goes by what manifests say to be final
        self._finals = {topic: final for topic, final in self._told.items() if self.held[topic].followed}
        if not self.held:
            raise LocalStateError("no epoch of this group is stored")
        self.apply_final()
        self._written = self.current.epoch.topic

    def _read_told(self, topic: TopicId, raw: bytes, before: StoredEpoch | None) -> tuple[Frontier, frozenset[EntryId]]:
        known = self._told.get(topic)
        return known if known is not None and before is not None and before.frontier == raw else read_final(raw)

    # --- which is written to

    @property
    def choice(self) -> Choice | None:
        """What the operations that are known choose; None before the create is here."""
        members = self._replica.members
        if not members.has_begun:
            return None
        graph, known = self._chosen_of
        if self._choice is None or graph is not members.graph or known != len(graph):
            self._choice = self._choose()
            self._chosen_of = members.graph, len(members.graph)
        return self._choice

    def _choose(self) -> Choice:
        graph = self._replica.members.graph
        operations, refused = graph.operations(), self._replica.members.roster.refused
        creates = [one for one in operations if isinstance(one.body, Create) and one.id not in refused]
        rotations = [one for one in operations if isinstance(one.body, Rotation)]
        history = _History(graph)
        self._traced = trace_epochs(min(creates, key=lambda one: one.id), rotations, history)
        return choose_epoch(self._traced, history, self._judge, self._steps)

    def _judge(self, path: Path) -> Roster:
        """The roster with what is final along that path, as far as its manifests are known here."""
        return self._replica.members.graph.evaluate(self._final_along(path))

    def _final_along(self, path: Path) -> frozenset[EntryId]:
        return next((self._final_operations(node) for node in path if node.topic in self._told), frozenset())

    def unknown(self) -> list[EpochNode]:
        """Epochs that are not held and whose manifests may say what counts, pasts first: those that do not stand as far
        as is known here, and those before an end, back to what is known.
        """
        choice, traced = self.choice, self._traced
        if choice is None or traced is None or len(traced.nodes) == 1:
            return []
        standing, waiting = set[EntryId](), [choice.epoch, *choice.forks]
        while waiting:
            node = waiting.pop()
            if node.id not in standing:
                standing.add(node.id)
                waiting += traced.parents(node)
        wanted = {one for one in traced.nodes if one not in standing}
        waiting = [choice.epoch, *choice.forks]
        while waiting:
            node = waiting.pop()
            if node.topic not in self._told and node.id not in wanted:
                wanted.add(node.id)
                waiting += traced.parents(node)
        return [node for node in traced.nodes.values() if node.id in wanted and node.topic not in self.held]

    def _final_operations(self, node: EpochNode) -> frozenset[EntryId]:
        """What the epoch's manifest makes final: all but that its own author took another device's place, which nobody
        can make final alone (counting.md §7).
        """
        operations, graph = self._told[node.topic][1], self._replica.members.graph
        return frozenset(
            operation
            for operation in operations
            if operation not in graph
            or graph.operation(operation).device != node.operation.device
            or not isinstance(graph.operation(operation).body, ReplaceDevice)
        )

    @property
    def current(self) -> StoredEpoch:
        """The epoch that is written to: the chosen one, or as long as its secret is not here the nearest before it."""
        if len(self.held) > 1 and (choice := self.choice) is not None:
            for node in choice.path:
                if node.topic in self.held:
                    return self.held[node.topic]
        return next(reversed(self.held.values()))

    @property
    def is_level(self) -> bool:
        """True where the chosen epoch's secret is here."""
        choice = self.choice
        return choice is None or choice.epoch.topic in self.held

    def may_seal(self) -> bool:
        """True where the chosen epoch is held and nobody who was given its secret is gone."""
        choice = self.choice
        if choice is None or choice.epoch.topic not in self.held:
            return False
        left = self._left_by_own_word(choice.roster)
        if set(choice.gone.devices) - left:
            return False
        return not choice.gone.others or set(choice.gone.others) <= self._brought_in_by(left)

    def _left_by_own_word(self, roster: Roster) -> set[DeviceId]:
        """The devices that went by a `leave` of this one: it may still tell the others so, which no other can."""
        own = roster.former_devices.get(self._replica.keys.id)
        if own is None or self._replica.members.operation(own.out_by).device != own.id:
            return set()
        return {device.id for device in roster.former_devices.values() if device.out_by == own.out_by}

    def _brought_in_by(self, left: set[DeviceId]) -> set[bytes]:
        """The names of recovery phrases and of further devices that these brought in, whether or not they count: they
        went with those that left.
        """
        found: set[bytes] = set()
        for operation in self._replica.members.graph.operations() if left else ():
            if operation.device in left and isinstance(operation.body, AddDevice):
                found.add(name_recipient(operation.body.device))
            elif operation.device in left and isinstance(operation.body, SetRecovery) and operation.body.recovery:
                found.add(name_recipient(operation.body.recovery[0]))
        return found

    def is_before_current(self, topic: TopicId) -> bool:
        """True where the chosen epoch was begun by a rotation that ended this one, or by one after that."""
        choice = self.choice
        if choice is None:
            return False
        ended = {parent for node in choice.path if node.rotation is not None for parent in node.rotation.parents}
        return topic in ended

    # --- finality

    def follow_choice(self) -> bool:
        """Operations came: they may choose another epoch of those that are held. Inside a transaction.

        Finality goes by that one's path from now on, and its topic is given what it lacks. What it showed was not noted
        as long as another was written to, so it is read anew.

        Returns:
            Whether finality may have changed.
        """
        choice = self.choice
        if choice is None:
            return False
        topic, changed = self.current.epoch.topic, self._final_nodes(choice) != self._applied
        if changed:
            self.apply_final()
        if topic != self._written:
            self._begin_to_write(topic)
        return changed

    def _begin_to_write(self, topic: TopicId) -> None:
        self.table.reopen_forks()
        replica, self._written = self._replica, topic
        replica.log.forget_acks()
        replica.beacons.forget_shown()
        replica.level_relays.clear()
        replica.debts.follow_choice(topic)
        if not self.held[topic].followed and topic != self._first:
            return  # all is queued when it is followed
        for relay in replica.groups.carriers(replica.record.number):
            replica.log.note_missed(relay, topic, 1)
            self.to_reread.add(relay)

    def _final_nodes(self, choice: Choice) -> tuple[EntryId, ...]:
        return tuple(node.id for node in (*choice.path, *choice.forks) if node.topic in self._finals)

    def apply_final(self) -> None:
        """Tell the roster what the manifests along the chosen path made final."""
        choice = self.choice
        if choice is None:
            return
        self._applied = self._final_nodes(choice)
        last, frontier = self.last_followed(), self.frontier()
        operations = self._final_operations(last) if last is not None else frozenset()
        seqs = {device: end.seq for device, end in frontier.items()}
        ids = {device: end.entry for device, end in frontier.items()}
        self._replica.members.set_final(seqs, operations, ids, self._branches(choice))

    def _branches(self, choice: Choice) -> list[dict[DeviceId, EntryId]]:
        """What each manifest names of every device but its author, in the order in which they decide between two
        histories of it: the oldest on the path first, then those of epochs beside it (specs/counting.md §4).
        """
        return [
            {
                device: end.entry
                for device, end in self._finals[node.topic][0].items()
                if device != node.operation.device
            }
            for node in (*reversed(choice.path), *choice.forks)
            if node.topic in self._finals
        ]

    def has_final(self, operation: EntryId) -> bool:
        """True where a manifest on the chosen path holds the operation."""
        choice = self.choice
        path = choice.path if choice is not None else ()
        return any(operation in self._finals[node.topic][1] for node in path if node.topic in self._finals)

    def frontier(self) -> Frontier:
        """The last known frontier of a manifest on the chosen path; empty before the first rotation."""
        last = self.last_followed()
        return self._finals[last.topic][0] if last is not None else {}

    def frontier_of(self, topic: TopicId) -> Frontier:
        """What the manifest that opens that topic says, as far as it is known here."""
        return self._told[topic][0] if topic in self._told else {}

    def frontier_after(self, topic: TopicId) -> Frontier | None:
        """What the manifest says that opens the next topic on the chosen path, as far as one is known here."""
        topics = [node.topic for node in self.choice.path] if self.choice is not None else []
        later = reversed(topics[: topics.index(topic)]) if topic in topics else iter(())
        return next((self._told[one][0] for one in later if one in self._told), None)

    def last_followed(self) -> EpochNode | None:
        """The newest epoch on the chosen path whose manifest was followed here, if there is one."""
        path = self.choice.path if self.choice is not None else ()
        return next((node for node in path if node.topic in self._finals), None)

    # --- topics

    def keys(self, topic: TopicId) -> TopicKeys | None:
        """What opens a topic of this group: an epoch's, or a repair topic that was asked for."""
        stored = self.held.get(topic)
        return stored.epoch if stored is not None else self._repairs.get(topic)

    def repair_of(self, keys: TopicKeys) -> RepairKeys:
        """The repair topic of an epoch, or of a repair topic."""
        repair = self._repair_after.get(keys.topic)
        if repair is None:
            repair = keys.following() if isinstance(keys, RepairKeys) else repair_keys(cast(Epoch, keys))
            self._repair_after[keys.topic] = self._repairs[repair.topic] = repair
        return repair

    def to_read(self, relay: str) -> list[Epoch]:
        """The epochs whose topics this relay must still show to their ends, oldest first; the current one is last."""
        finished, current = self.table.finished(relay), self.current
        earlier = [stored.epoch for topic, stored in self.held.items() if topic not in finished and stored != current]
        return [*earlier, current.epoch]

    def watched(self) -> list[Epoch]:
        """Epochs whose repair topics are read: those that ended in the last REPAIR_DAYS, the newest of them, and the
        current one where the next one's secret is not here, or where that may be so.
        """
        after = self._replica.clock() - REPAIR_DAYS * DAY_MS
        ended = self.ended_ms()
        found = [self.held[topic].epoch for topic, end in ended.items() if end >= after][-WATCHED_EPOCHS:]
        return found if self.is_level and not self.left_out_early() else [*found, self.current.epoch]

    def left_out_early(self) -> dict[EntryId, Rotation]:
        """Rotations that give this device no secret, and of which it cannot say whether they count: they name
        operations that it does not know.
        """
        members, closed = self._replica.members, self._closed_early.items()
        if not members.has_begun:
            return {}
        return {one: body for one, body in closed if one not in members.graph and body.topic not in self.held}

    def take_closed_early(self, operation: EntryId) -> bool:
        """True where the rotation was one of these, and can be placed now: once, for nobody was told of it yet."""
        return self._closed_early.pop(operation, None) is not None

    def note_closed_early(self, operation: EntryId, body: Rotation) -> None:
        """This rotation cannot be placed, and no wrap in it opens here."""
        self._closed_early = {one: known for one, known in self._closed_early.items() if known.topic not in self.held}
        if len(self._closed_early) < MAX_EARLY:
            self._closed_early[operation] = body

    def rotation(self, operation: EntryId) -> Rotation | None:
        """What this operation says, if it is a rotation that is known or one of those that came early."""
        graph = self._replica.members.graph
        body = graph.operation(operation).body if operation in graph else self.left_out_early().get(operation)
        return body if isinstance(body, Rotation) else None

    def ended_ms(self) -> dict[TopicId, int]:
        """When each earlier epoch ended, as far as this device knows: it held the next one from then on."""
        current = self.current
        earlier = [stored for stored in self.held.values() if stored != current]
        starts = [stored.since_ms for stored in [*earlier[1:], current]]
        return {stored.epoch.topic: end for stored, end in zip(earlier, starts, strict=False)}

    def ended(self, relay: str) -> list[Epoch]:
        """Epochs before the current one, or beside it, that are not finished at this relay."""
        return self.to_read(relay)[:-1]

    def leads_on(self, relay: str, place: TopicId, ended: TopicId) -> bool:
        """True where the relay showed, in that topic, a rotation on the way from this epoch to the chosen one, to an
        epoch that is held: in the topic of another one nobody may lead on.
        """
        shown = self.table.shown_rotations(relay, place)
        return bool(shown) and any(node.id in shown and node.topic in self.held for node in self._way_from(ended))

    def held_path(self) -> set[EntryId]:
        """The operations that began the epochs on the chosen path, those that are held."""
        choice = self.choice
        return {node.id for node in choice.path if node.topic in self.held} if choice is not None else set()

    def _way_from(self, topic: TopicId) -> list[EpochNode]:
        """The epochs on the chosen path that are later than this one, the newest first."""
        choice, stored = self.choice, self.held.get(topic)
        way: list[EpochNode] = []
        if choice is None:
            return way
        graph = self._replica.members.graph
        for node in choice.path:
            if node.rotation is None or node.topic == topic:
                break
            known = stored.rotation if stored is not None else None
            if known is not None and known in graph and (known == node.id or graph.knows(known, node.id)):
                break
            way.append(node)
        return way

    def handover_from(self, topic: TopicId) -> list[bytes]:
        """The runs that lead whoever reads that topic to the current one: operations and rotations, in their order.

        None where the newest one's wraps are not here: without them it leads nobody on, and others have them.
        """
        way = self._way_from(topic)
        if way and self.lacks_wraps(way[0]):
            return []
        wires: list[bytes] = []
        for node in way:
            stored = self.held.get(node.topic)
            own = self._replica.log.operation_wire(node.id)
            wires = [*(stored.handover if stored is not None else ()), *([own] if own else []), *wires]
        return list(dict.fromkeys(wires))[-MAX_PUT_ENVELOPES:]

    # --- wraps

    def lacks_wraps(self, node: EpochNode) -> bool:
        """True where the wraps that stand beside this rotation are not here."""
        rotation = node.rotation
        return rotation is not None and rotation.beside is not None and not self.table.has_wraps(node.id)

    def carry(self, wire: bytes, last_id: EntryId) -> bytes:
        """What is sealed of a run: a rotation goes with the wraps beside it, if they are here."""
        records = self.table.wraps(last_id)
        return wire if records is None else add_wraps(wire, records)

    def carry_all(self, wires: Sequence[bytes]) -> list[bytes]:
        """What is sealed of runs that lead on: the newest rotation with its wraps, and those before it as far as they
        fit into one put.
        """
        values: list[bytes] = []
        left = CARRIED_BYTES
        for wire in reversed(wires):
            value = self.carry(wire, parse_run(wire, self._replica.group).last_id)
            if len(value) > len(wire):
                is_newest = left == CARRIED_BYTES
                left -= len(value)
                value = value if left >= 0 or is_newest else wire
            values.append(value)
        return values[::-1]

    def note_wraps(self, found: Mapping[EntryId, bytes]) -> None:
        """Keep wraps that came beside rotations: to open one's own, and to lead others on. Inside a transaction.

        Of rotations that are not in the roster, which anybody in the epoch can make up, no more than of runs that wait.
        """
        graph = self._replica.members.graph
        apart = sum(size for one, size in self.table.with_wraps() if one not in graph) if found else 0
        for operation, records in found.items():
            if operation not in graph and apart + len(records) > PARK_TOTAL_BYTES:
                continue
            if self.table.add_wraps(operation, records):
                apart += 0 if operation in graph else len(records)
                self.closed.discard(operation)
                self._closed_early.pop(operation, None)

    def drop_wraps(self) -> None:
        """Erase the wraps of rotations that neither began nor ended an epoch that is held. Inside a transaction."""
        graph, parked = self._replica.members.graph, {run.statement for run in self._replica.log.parked()}
        old = []
        for operation, _ in self.table.with_wraps():
            body = graph.operation(operation).body if operation in graph else None
            topics = {body.topic, *body.parents} if isinstance(body, Rotation) else set()
            if topics.isdisjoint(self.held) and operation not in parked:
                old.append(operation)
        self.table.drop_wraps(old)

    # --- what came

    def note_received(
        self,
        relay: str,
        topic: TopicId,
        runs: Sequence[UnverifiedRun],
        size: int,
        *,
        is_anew: bool,
        wraps: Collection[EntryId] = (),
    ) -> None:
        """Count what a topic showed, and keep in mind what says to end an epoch or to open one. Inside a transaction.

        Nothing of it is believed: what a rotation or manifest says is asked again where it is used.

        Args:
            is_anew: these are the first of that topic, which is read from its start, maybe not for the first time.
            wraps: the rotations that came with their wraps: another one leads nobody on.
        """
        count = sum(not is_beacon(run) for run in runs)
        self.table.note_received(relay, topic, count, size, is_anew=is_anew)
        stored = self.held.get(topic)
        if topic in self._repairs or (stored is not None and not stored.followed and topic != self._first):
            self.table.note_shown_early(relay, topic, [run.last_id for run in runs])
        for run in runs:
            if not run.has_statement:
                continue
            last = run.stored().entries[-1]
            if last.kind is EntryKind.ROSTER and last.body and last.body[0] == Rotation.CODE:
                if last.id in wraps or not isinstance(last.body[-1], bytes):
                    self.table.note_rotation_shown(relay, topic, last.id)
            elif last.kind is EntryKind.ROSTER and topic in self.held:
                self._note_signpost(relay, topic, last)
            elif last.kind is EntryKind.MANIFEST and topic in self.held and self.held[topic].manifest is None:
                self.table.add_candidate(topic, last.id, run.wire)

    def _note_signpost(self, relay: str, topic: TopicId, entry: Entry) -> None:
        """Which relays a change of policy names: of a sealed topic it may tell where the group went."""
        if entry.body and entry.body[0] == SetPolicy.CODE:
            with suppress(UntrustedInputError):
                body = decode_operation(entry.body)
                if isinstance(body, SetPolicy):
                    self._replica.relays.note_signpost(relay, topic, entry.id, body.policy.relays)

    def note_told(self, topic: TopicId, final: bytes) -> None:
        """Keep what the manifest of an epoch says that is not followed: others may judge by it. In a transaction."""
        replica = self._replica
        standings = replica.members.standings()
        self.table.set_told(topic, final)
        self.refresh()
        replica.follow_standings(standings)
        replica.forks.settle(everything=True)

    def hold(self, epoch: Epoch, rotation: EntryId | None) -> None:
        """Keep an epoch's secret. Inside a transaction."""
        self.table.add(epoch, self._replica.clock(), rotation)
        self.refresh()

    def refresh(self) -> None:
        """What is held has changed: what was acknowledged in another topic is put again. Inside a transaction."""
        before, followed = self._written, {topic for topic, stored in self.held.items() if stored.followed}
        self.load()
        topic = self.current.epoch.topic
        if topic != before and (topic in followed or topic == self._first):
            self._begin_to_write(topic)
        elif topic != before:
            self.table.reopen_forks()
            self._replica.log.forget_acks()
            self._replica.beacons.forget_shown()
            self._replica.level_relays.clear()

    def queue_all(self, relay: str) -> None:
        """Queue for a relay all that its current topic must hold: every run above the frontier that counts."""
        replica, frontier = self._replica, self.frontier()
        for device in replica.chains:
            end = frontier.get(device)
            replica.log.enqueue_above(relay, device, end.seq if end is not None else -1)
        replica.log.note_shown(relay, self.table.shown_early(relay, self.current.epoch.topic))

    # --- sizes

    def reason_to_rotate(self, *, sealed: bool) -> Reason | None:
        """Why the current epoch should end, or None.

        Args:
            sealed: somebody ended its topic at a relay, and nothing leads on.
        """
        choice = self.choice
        if choice is None or choice.epoch.topic not in self.held:
            return None
        if (sealed or choice.epoch.topic in self.broken) and self._may_repair(choice):
            return Reason.REPAIR
        if self._replica.retires.lacks_manifest:
            return Reason.REPAIR
        envelopes, size = self.table.size(choice.epoch.topic)
        use = EpochUse(self.current.since_ms, envelopes, size)
        recipients, days = len(choice.roster.recipients()), choice.roster.policy.epoch_days
        forked = any(fork.topic in self.held or fork.id in self.closed for fork in choice.forks)
        return find_reason(use, choice.gone, forked, recipients, days, self._replica.clock())

    def _may_repair(self, choice: Choice) -> bool:
        """Not again right after a repair, or a relay that says every time that something is missing would rule."""
        rotation, age = choice.epoch.rotation, self._replica.clock() - self.current.since_ms
        return rotation is None or rotation.reason is not Reason.REPAIR or age >= DAY_MS

    def rotate_after(self, operation: OperationBody) -> None:
        """After an own operation that may have put somebody out: end the epoch in the same transaction."""
        choice = self.choice
        if choice is None or not choice.gone or self._replica.members.member_of(self._replica.keys.id) is None:
            return
        if choice.epoch.topic in self.held and not isinstance(operation, Rotation):
            self.rotate(Reason.REMOVAL if choice.gone.devices or choice.gone.others else Reason.INVITE)

    def rotate(self, reason: Reason) -> TopicId:
        """Begin a new epoch. Inside a transaction."""
        return write_rotation(self._replica, reason)


class _History:
    """What the choice of an epoch asks of the graph of operations."""

    def __init__(self, graph: RosterGraph) -> None:
        self._graph = graph

    def knows(self, later: EntryId, earlier: EntryId) -> bool:
        return self._graph.knows(later, earlier)

    def past(self, operation: EntryId) -> Collection[EntryId]:
        return self._graph.past(self._graph.operation(operation).parents)

    def roster_at(self, heads: Iterable[EntryId]) -> Roster:
        return self._graph.roster_at(heads)
