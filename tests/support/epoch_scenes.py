"""Scenes of rotations side by side, on a real roster graph, for tests and vectors of the choice of an epoch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from cocoon_core.protocol.constants import WRAP_BYTES
from cocoon_core.protocol.epochs import Choice, EpochGraph, Path, choose_epoch, trace_epochs
from cocoon_core.protocol.ids import EntryId, TopicId
from cocoon_core.protocol.operation_forms import Role
from cocoon_core.protocol.operations import Create
from cocoon_core.protocol.operations_rotation import Reason, Rotation, WrapsBeside
from cocoon_core.protocol.roster import RosterGraph
from cocoon_core.protocol.roster_values import Operation, Roster
from tests.support.roster_people import Person, signing_key
from tests.support.roster_story import Story


class Asked:
    """A roster graph as epochs.py asks it."""

    def __init__(self, graph: RosterGraph) -> None:
        self.graph = graph

    def knows(self, later: EntryId, earlier: EntryId) -> bool:
        return self.graph.knows(later, earlier)

    def past(self, operation: EntryId) -> Collection[EntryId]:
        return self.graph.past(self.graph.operation(operation).parents)

    def roster_at(self, heads: Iterable[EntryId]) -> Roster:
        return self.graph.roster_at(heads)


def topic(number: int) -> TopicId:
    return TopicId(signing_key(4, number).public)


def first_topic(story: Story) -> TopicId:
    body = story.create.body
    assert isinstance(body, Create)
    return body.topic


class Epochs:
    """A story with rotations that name exactly whom they must."""

    def __init__(self, members: int = 3) -> None:
        self.story = Story()
        self.people = [self.story.ana, *(self.story.enter(self.story.ana, number) for number in range(1, members))]
        self._topics = 0

    def rotate(
        self,
        author: Person,
        *ends: Operation | None,
        knowing: Iterable[Operation] | None = None,
        to: TopicId | None = None,
        below: Operation | None = None,
    ) -> Operation:
        """A rotation that ends the epochs of these rotations (None: the first), knowing these operations or all."""
        story = self.story
        heads = story.heads() if knowing is None else tuple(sorted(one.id for one in knowing))
        self._topics += 1
        ended = {rotation_of(end).topic if end is not None else first_topic(story) for end in ends or (None,)}
        named = sorted(bytes(one.id) for one in story.graph().roster_at(heads).recipients())
        wraps = WrapsBeside.of(b"".join(one + bytes(WRAP_BYTES) for one in named))
        body = Rotation(Reason.REQUEST, tuple(sorted(ended)), to or topic(1000 + self._topics), wraps)
        return story.write(author, body, parents=heads, below=below)

    def heads(self) -> list[Operation]:
        return [self.story.operations[head] for head in self.story.heads()]

    def trace(self, order: list[Operation] | None = None) -> tuple[EpochGraph, Asked]:
        asked = Asked(self.story.graph(order))
        operations = asked.graph.operations()
        creates = [one for one in operations if isinstance(one.body, Create)]
        return trace_epochs(min(creates, key=lambda one: one.id), operations, asked), asked

    def choose(self, order: list[Operation] | None = None) -> Choice:
        graph, asked = self.trace(order)

        def judge(path: Path) -> Roster:
            return asked.graph.evaluate()

        return choose_epoch(graph, asked, judge)


def rotation_of(operation: Operation) -> Rotation:
    assert isinstance(operation.body, Rotation)
    return operation.body


def ids(path: Path) -> list[EntryId]:
    return [node.id for node in path]


# --- scenes, each with more than one end or somebody gone


def _in_a_row() -> Epochs:
    epochs = Epochs()
    epochs.rotate(epochs.people[2], epochs.rotate(epochs.people[1]))
    return epochs


def _removed() -> Epochs:
    epochs = _in_a_row()
    epochs.story.remove(epochs.people[0], epochs.people[1])
    return epochs


def _link_closed() -> Epochs:
    epochs = Epochs()
    link, _ = epochs.story.invite(epochs.people[0])
    epochs.rotate(epochs.people[0])
    epochs.story.revoke(epochs.people[0], link)
    return epochs


def _came_in_later() -> Epochs:
    epochs = Epochs()
    epochs.rotate(epochs.people[0])
    newcomer = epochs.story.enter(epochs.people[0], 7)
    epochs.story.remove(epochs.people[0], newcomer)
    return epochs


def _fork_with_a_removed() -> Epochs:
    epochs = Epochs()
    before = epochs.heads()
    removal = epochs.story.remove(epochs.people[0], epochs.people[1])
    epochs.rotate(epochs.people[0], knowing=[removal])
    longer = epochs.rotate(epochs.people[2], knowing=before)
    epochs.rotate(epochs.people[2], longer, knowing=[longer])
    return epochs


def _fork_by_one_who_is_out() -> Epochs:
    epochs = Epochs(4)
    ana, ben, chi, dan = epochs.people
    before = epochs.heads()
    by_ben = epochs.rotate(ben, knowing=before)
    by_ben = epochs.rotate(ben, by_ben, knowing=[by_ben])
    by_chi = epochs.rotate(chi, knowing=before)
    removal = epochs.story.remove(ana, ben, [], parents=[by_ben, by_chi])
    epochs.story.remove(ana, dan, [], parents=[removal])
    return epochs


def _fork_that_knew_more() -> Epochs:
    epochs = Epochs()
    before = epochs.heads()
    promotion = epochs.story.set_role(epochs.people[0], epochs.people[2], Role.ADMIN)
    more = epochs.rotate(epochs.people[2], knowing=[promotion])
    epochs.rotate(epochs.people[1], knowing=before, below=more)
    return epochs


def _fork_of_the_senior() -> Epochs:
    epochs = Epochs()
    before = epochs.heads()
    epochs.rotate(epochs.people[2], knowing=before)
    epochs.rotate(epochs.people[1], knowing=before)
    return epochs


def _merged() -> Epochs:
    epochs = Epochs()
    before = epochs.heads()
    both = [epochs.rotate(epochs.people[number], knowing=before) for number in (2, 1)]
    epochs.rotate(epochs.people[0], *both)
    return epochs


def _not_counted() -> Epochs:
    epochs = Epochs()
    first = epochs.rotate(epochs.people[0])
    removal = epochs.story.remove(epochs.people[0], epochs.people[1], parents=[first])
    epochs.rotate(epochs.people[1], first, knowing=[removal])
    return epochs


def _back_to_an_old_topic() -> Epochs:
    epochs = Epochs()
    first = epochs.rotate(epochs.people[0])
    second = epochs.rotate(epochs.people[0], first)
    epochs.rotate(epochs.people[1], second, to=rotation_of(first).topic)
    return epochs


def _ends_what_it_did_not_know() -> Epochs:
    epochs = Epochs()
    before = epochs.heads()
    first = epochs.rotate(epochs.people[0])
    epochs.rotate(epochs.people[1], first, knowing=before)
    return epochs


def _same_topic_twice() -> Epochs:
    epochs = Epochs()
    before = epochs.heads()
    real = epochs.rotate(epochs.people[0], knowing=before)
    epochs.rotate(epochs.people[1], knowing=before, to=rotation_of(real).topic, below=real)
    return epochs


SCENES: dict[str, Callable[[], Epochs]] = {
    "before any rotation": Epochs,
    "two in a row": _in_a_row,
    "a member is removed": _removed,
    "a link is closed": _link_closed,
    "somebody came in after the rotation and was removed": _came_in_later,
    "a longer fork with a recipient who was removed": _fork_with_a_removed,
    "a fork that knew more, by one who is out": _fork_by_one_who_is_out,
    "a fork that knew more, by a junior": _fork_that_knew_more,
    "a fork of a senior": _fork_of_the_senior,
    "merged again": _merged,
    "a rotation that does not count": _not_counted,
    "a rotation back to an old topic": _back_to_an_old_topic,
    "a rotation that ends what it did not know": _ends_what_it_did_not_know,
    "two rotations to one topic": _same_topic_twice,
}
