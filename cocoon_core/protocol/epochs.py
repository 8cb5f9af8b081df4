"""The epochs of a group: which follows which, which one is chosen, and who may read one but should not. Implements
specs/epoch.md §6 and §7.

A pure function of sets of operations. A topic alone names no epoch here, since any member may sign a rotation that
names another's topic: the rotation does. Whether a rotation's wraps are right does not enter: where they are not,
others complain, and the next rotation mends it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from types import MappingProxyType
from typing import Final, Protocol

from cocoon_core.protocol.constants import LABEL_RANK
from cocoon_core.protocol.ids import DeviceId, EntryId, InviteId, TopicId
from cocoon_core.protocol.operations import Create
from cocoon_core.protocol.operations_rotation import Rotation, name_recipient
from cocoon_core.protocol.primitives import hash_bytes
from cocoon_core.protocol.roster_values import Operation, Roster, Seniority


class History(Protocol):
    """What is asked of the graph of roster operations (roster.py)."""

    def knows(self, later: EntryId, earlier: EntryId) -> bool:
        """Whether `earlier` is in the past of `later`."""
        ...

    def past(self, operation: EntryId) -> Collection[EntryId]:
        """The operations before that one, without it."""
        ...

    def roster_at(self, heads: Iterable[EntryId]) -> Roster:
        """The state that a writer knew who names these heads."""
        ...


@dataclass(frozen=True, slots=True)
class EpochNode:
    """One epoch: of `create`, or begun by a rotation. `ends` are the epochs that the rotation names and knew."""

    topic: TopicId
    operation: Operation
    ends: tuple[EntryId, ...]

    @property
    def id(self) -> EntryId:
        return self.operation.id

    @property
    def rotation(self) -> Rotation | None:
        body = self.operation.body
        return body if isinstance(body, Rotation) else None


_NONE: Final = Seniority(2**53, 0, EntryId(bytes(32)))  # of a rotation that does not count

Path = tuple[EpochNode, ...]  # from an epoch back to that of create, by the chosen parents
Steps = dict[tuple[EntryId, tuple[EntryId, ...]], EntryId]  # of an epoch and those that it ends, the best of these
Judge = Callable[[Path], Roster]  # the roster of all operations, evaluated with what is final along that path


@dataclass(frozen=True, slots=True)
class Gone:
    """Who was given an epoch's secret and is no recipient any more. True where there is somebody."""

    devices: tuple[DeviceId, ...] = ()
    invites: tuple[InviteId, ...] = ()
    others: tuple[bytes, ...] = ()  # recovery phrases that were replaced, and whoever was never due; by their names

    def __bool__(self) -> bool:
        return bool(self.devices or self.invites or self.others)


@dataclass(frozen=True, slots=True)
class Choice:
    """The epoch to write in. `forks` are the other ends that stand, best first; the next rotation names them too."""

    epoch: EpochNode
    path: Path
    roster: Roster
    gone: Gone
    forks: tuple[EpochNode, ...]

    @property
    def topics_to_end(self) -> tuple[TopicId, ...]:
        """The parents that the next rotation names."""
        return tuple(sorted({self.epoch.topic, *(fork.topic for fork in self.forks)}))


@dataclass(frozen=True, slots=True)
class EpochGraph:
    """Every epoch that operations begin, by the id of the operation, pasts first."""

    create: EntryId
    nodes: Mapping[EntryId, EpochNode]

    def parents(self, node: EpochNode) -> tuple[EpochNode, ...]:
        return tuple(self.nodes[end] for end in node.ends)

    def leaves(self, without: Collection[EntryId] = ()) -> tuple[EpochNode, ...]:
        """The epochs that no other ends, by id; those named in `without` end nothing and are none themselves."""
        standing = [node for node in self.nodes.values() if node.id not in without]
        ended = {end for node in standing for end in node.ends}
        return tuple(sorted((node for node in standing if node.id not in ended), key=lambda node: node.id))


def trace_epochs(create: Operation, rotations: Iterable[Operation], history: History) -> EpochGraph:
    """Find which epoch follows which.

    A rotation begins no epoch if its topic is that of an epoch that it knew, or if it knew none that it says it ends.

    Args:
        create: of several entries of create the one with the smallest id.
        rotations: every rotation that is known, whether it counts or not, in any order.
    """
    assert isinstance(create.body, Create)
    found: dict[EntryId, tuple[Operation, Rotation]] = {
        operation.id: (operation, operation.body) for operation in rotations if isinstance(operation.body, Rotation)
    }
    by_topic: dict[TopicId, list[EntryId]] = {create.body.topic: [create.id]}
    for operation, body in found.values():
        by_topic.setdefault(body.topic, []).append(operation.id)

    def known(later: EntryId, topics: Iterable[TopicId]) -> list[EntryId]:
        named = [earlier for topic in topics for earlier in by_topic.get(topic, ())]
        return [earlier for earlier in named if earlier == create.id or history.knows(later, earlier)]

    ends = {id_: known(id_, body.parents) for id_, (_, body) in found.items()}
    nodes = {create.id: EpochNode(create.body.topic, create, ())}
    for id_ in TopologicalSorter(ends).static_order():
        if id_ in found and not known(id_, [found[id_][1].topic]):
            sound = tuple(sorted(end for end in ends[id_] if end in nodes))
            if sound:
                operation, body = found[id_]
                nodes[id_] = EpochNode(body.topic, operation, sound)
    return EpochGraph(create.id, MappingProxyType(nodes))


def choose_epoch(graph: EpochGraph, history: History, judge: Judge, steps: Steps | None = None) -> Choice:
    """Choose among the ends of the graph: the same for whoever holds the same operations and manifests.

    Each end is judged by the roster as it is with what is final along its own path. An end whose rotation does not
    count there is none, and what it ended stands again. Of the rest the best is (1) without a recipient who is gone,
    (2) by a device that is still in, (3) the one that knew most operations that count, (4) of the senior rotator, (5)
    of the smaller id.

    Args:
        steps: what `path_of` found before, and finds.
    """
    void: set[EntryId] = set()
    judged: dict[EntryId, tuple[Path, Roster]] = {}
    while True:
        leaves = graph.leaves(void)
        for leaf in leaves:
            if leaf.id not in judged:
                path = path_of(graph, leaf, history, steps)
                judged[leaf.id] = path, judge(path)
        refused = {leaf.id for leaf in leaves if not _counts(leaf, judged[leaf.id][1])}
        if not refused:
            break
        void |= refused
    if len(leaves) > 1:
        leaves = tuple(sorted(leaves, key=lambda leaf: _standing(leaf, judged[leaf.id][1], history)))
    best, *forks = leaves
    path, roster = judged[best.id]
    return Choice(best, path, roster, find_gone(best, roster, history), tuple(forks))


def path_of(graph: EpochGraph, node: EpochNode, history: History, steps: Steps | None = None) -> Path:
    """From an epoch back to that of create. Where a rotation ended several, by the best of them as its author knew.

    Args:
        steps: which was the best, of those that were asked before. It goes by a rotation's past alone, so it never
            changes; and to find it takes an evaluation of that past.
    """
    steps = {} if steps is None else steps
    path = [node]
    while parents := graph.parents(path[-1]):
        if len(parents) == 1:
            path.append(parents[0])
            continue
        key = path[-1].id, path[-1].ends
        if key not in steps:
            steps[key] = _best_parent(path[-1], parents, history).id
        path.append(graph.nodes[steps[key]])
    return tuple(path)


def _best_parent(node: EpochNode, parents: tuple[EpochNode, ...], history: History) -> EpochNode:
    roster = history.roster_at(node.operation.parents)
    return min(parents, key=lambda one: (not _counts(one, roster), *_standing(one, roster, history)))


def find_gone(node: EpochNode, roster: Roster, history: History) -> Gone:
    """Who was given this epoch's secret and is no recipient by this roster.

    Given it was whom its rotation names (of pages: whom it was to name), and, by a welcome, every device and link that
    came in by an operation that the rotation did not know. A rotation names by the first bytes of an id: of two that
    begin alike it names both, so that one of them can be gone.
    """
    now: set[bytes] = {one.id for one in roster.recipients()}
    out = set(Counter(_named(node, history)) - Counter(map(name_recipient, now)))
    devices = {
        device.id
        for device in roster.former_devices.values()
        if name_recipient(device.id) in out
        or (device.enrolled_by != node.id and not history.knows(node.id, device.enrolled_by))
    }
    invites = {
        invite.id
        for invite in roster.invites.values()
        if name_recipient(invite.id) in out or (not invite.by_request and not history.knows(node.id, invite.operation))
    }
    devices, invites = devices - now, invites - now
    others = out - set(map(name_recipient, (*devices, *invites)))
    return Gone(tuple(sorted(devices)), tuple(sorted(invites)), tuple(sorted(others)))


def rank_of(one: bytes, about: bytes, others: Iterable[bytes]) -> int:
    """The place of a device or member among those (itself or not) that may do what one of them should: 0 goes first.

    Args:
        about: the id of what is to be done, such as the topic to be ended, so that the order differs from time to time.
    """
    own = hash_bytes(LABEL_RANK, one + about)
    return sum(hash_bytes(LABEL_RANK, other + about) < own for other in others)


def _named(node: EpochNode, history: History) -> Iterable[bytes]:
    rotation = node.rotation
    if rotation is None:
        return (name_recipient(node.operation.device),)
    if rotation.beside is not None:
        return rotation.beside.named
    return (name_recipient(one.id) for one in history.roster_at(node.operation.parents).recipients())


def _counts(node: EpochNode, roster: Roster) -> bool:
    return node.rotation is None or any(state.operation == node.id for state in roster.rotations)


def _standing(node: EpochNode, roster: Roster, history: History) -> tuple[bool, bool, int, Seniority, EntryId]:
    """Less is better."""
    covered = sum(operation not in roster.refused for operation in history.past(node.id))
    rotator_out = node.operation.device not in roster.devices
    return bool(find_gone(node, roster, history)), rotator_out, -covered, _seniority(node, roster), node.id


def _seniority(node: EpochNode, roster: Roster) -> Seniority:
    for state in roster.rotations:
        if state.operation == node.id:
            return state.seniority
    if node.rotation is None:
        return Seniority(0, 0, node.id)
    return _NONE._replace(id=node.id)
