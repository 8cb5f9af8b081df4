"""Which epoch is chosen, and who should no longer read it: the same for whoever holds the same operations."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cocoon_core.protocol import operations_rotation
from cocoon_core.protocol.epochs import Gone, path_of, rank_of
from cocoon_core.protocol.ids import DeviceId
from cocoon_core.protocol.operation_forms import Role
from cocoon_core.protocol.operations_rotation import Reason
from cocoon_core.protocol.roster_values import Operation
from cocoon_core.protocol.rotation_due import EpochUse, find_reason
from tests.support.epoch_scenes import SCENES, Epochs, first_topic, ids, rotation_of, topic
from tests.support.roster_people import Person, signing_key


def test_before_any_rotation_it_is_creates() -> None:
    epochs = Epochs()
    choice = epochs.choose()
    assert choice.epoch.rotation is None
    assert choice.epoch.topic == first_topic(epochs.story)
    assert choice.topics_to_end == (first_topic(epochs.story),)


def test_rotations_in_a_row_lead_to_the_last() -> None:
    epochs = Epochs()
    first = epochs.rotate(epochs.people[1])
    second = epochs.rotate(epochs.people[2], first)
    choice = epochs.choose()
    assert choice.epoch.topic == rotation_of(second).topic
    assert ids(choice.path) == [second.id, first.id, epochs.story.create.id]
    assert not choice.forks
    assert not choice.gone


def test_a_removed_device_is_gone_until_the_next_rotation() -> None:
    epochs = Epochs()
    ben = epochs.people[1]
    first = epochs.rotate(epochs.people[0])
    epochs.story.remove(epochs.people[0], ben)
    assert epochs.choose().gone.devices == (ben.device,)
    epochs.rotate(epochs.people[0], first)
    assert not epochs.choose().gone


def test_of_two_whose_names_are_the_same_one_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody can seek keys that begin alike; here all do."""
    monkeypatch.setattr(operations_rotation, "RECIPIENT_NAME_BYTES", 0)
    epochs = Epochs()
    ben = epochs.people[1]
    first = epochs.rotate(epochs.people[0])
    assert not epochs.choose().gone
    epochs.story.remove(epochs.people[0], ben)
    assert epochs.choose().gone.devices == (ben.device,)
    epochs.rotate(epochs.people[0], first)
    assert not epochs.choose().gone


def test_who_came_in_after_the_rotation_was_given_the_secret_too() -> None:
    epochs = Epochs()
    first = epochs.rotate(epochs.people[0])
    dan = epochs.story.enter(epochs.people[0], 7)
    gone = epochs.choose().gone
    assert gone.invites
    assert not gone.devices
    epochs.story.remove(epochs.people[0], dan)
    assert epochs.choose().gone.devices == (dan.device,)
    epochs.rotate(epochs.people[0], first)
    assert not epochs.choose().gone


def test_a_closed_link_is_gone_and_an_open_one_is_not() -> None:
    epochs = Epochs()
    story, ana = epochs.story, epochs.people[0]
    link, _ = story.invite(ana)
    rotation = epochs.rotate(ana)
    assert not epochs.choose().gone
    story.revoke(ana, link)
    assert [bytes(invite) for invite in epochs.choose().gone.invites] == [link.key.public]
    epochs.rotate(ana, rotation)
    assert not epochs.choose().gone


def test_of_two_forks_the_one_without_a_removed_recipient_is_chosen() -> None:
    epochs = Epochs()
    ana, ben, chi = epochs.people
    before = epochs.heads()
    removal = epochs.story.remove(ana, ben)
    good = epochs.rotate(ana, knowing=[removal])
    longer = epochs.rotate(chi, knowing=before)
    for _ in range(3):
        longer = epochs.rotate(chi, longer, knowing=[longer])
    choice = epochs.choose()
    assert choice.epoch.id == good.id
    assert [fork.id for fork in choice.forks] == [longer.id]
    assert choice.topics_to_end == tuple(sorted({rotation_of(good).topic, rotation_of(longer).topic}))


def test_then_the_one_whose_rotator_is_still_in() -> None:
    epochs = Epochs(4)
    ana, ben, chi, dan = epochs.people
    before = epochs.heads()
    by_ben = epochs.rotate(ben, knowing=before)
    by_ben = epochs.rotate(ben, by_ben, knowing=[by_ben])
    by_chi = epochs.rotate(chi, knowing=before)
    removal = epochs.story.remove(ana, ben, [], parents=[by_ben, by_chi])
    epochs.story.remove(ana, dan, [], parents=[removal])
    choice = epochs.choose()  # both have recipients who are gone; Ben is out and knew more
    assert choice.gone
    assert choice.epoch.id == by_chi.id


def test_then_the_one_that_knew_more_operations() -> None:
    epochs = Epochs()
    before = epochs.heads()
    promotion = epochs.story.set_role(epochs.people[0], epochs.people[2], Role.ADMIN)
    more = epochs.rotate(epochs.people[2], knowing=[promotion])
    senior = epochs.rotate(epochs.people[1], knowing=before, below=more)
    choice = epochs.choose()
    assert choice.epoch.id == more.id
    assert [fork.id for fork in choice.forks] == [senior.id]


def test_then_the_one_of_the_senior_rotator_then_the_smaller_id() -> None:
    epochs = Epochs()
    before = epochs.heads()
    junior = epochs.rotate(epochs.people[2], knowing=before)
    senior = epochs.rotate(epochs.people[1], knowing=before)
    assert epochs.choose().epoch.id == senior.id
    smaller = epochs.story.write(
        epochs.people[1].on(1), rotation_of(junior), parents=before
    )  # a device that never was in: it counts nowhere
    assert smaller.id not in {epochs.choose().epoch.id, *(fork.id for fork in epochs.choose().forks)}


def test_a_merging_rotation_ends_all_forks_and_its_path_goes_by_the_best_as_its_author_knew() -> None:
    epochs = Epochs()
    ana, ben, chi = epochs.people
    before = epochs.heads()
    by_chi, by_ben = epochs.rotate(chi, knowing=before), epochs.rotate(ben, knowing=before)
    merged = epochs.rotate(ana, by_chi, by_ben)
    choice = epochs.choose()
    assert choice.epoch.id == merged.id
    assert not choice.forks
    assert ids(choice.path) == [merged.id, by_ben.id, epochs.story.create.id]
    epochs.story.remove(ana, ben)  # what is known now does not change the way that led here
    assert ids(epochs.choose().path) == [merged.id, by_ben.id, epochs.story.create.id]


def test_a_rotation_that_does_not_count_ends_nothing() -> None:
    epochs = Epochs()
    ana, ben, chi = epochs.people
    first = epochs.rotate(ana)
    removal = epochs.story.remove(ana, ben, parents=[first])
    epochs.rotate(ben, first, knowing=[first])  # signed after he was out, by what others know
    by_ben_again = epochs.rotate(ben, first, knowing=[removal])
    choice = epochs.choose()
    assert choice.epoch.id == first.id
    assert by_ben_again.id not in {node.id for node in choice.forks}
    merged = epochs.rotate(chi, first)
    assert epochs.choose().epoch.id == merged.id


def test_a_rotation_to_a_topic_that_it_knew_begins_no_epoch() -> None:
    epochs = Epochs()
    ana, ben, _ = epochs.people
    first = epochs.rotate(ana)
    second = epochs.rotate(ana, first)
    back = epochs.rotate(ben, second, to=rotation_of(first).topic)
    home = epochs.rotate(ben, second, to=first_topic(epochs.story))
    graph, _ = epochs.trace()
    assert back.id not in graph.nodes
    assert home.id not in graph.nodes
    assert epochs.choose().epoch.id == second.id


def test_a_rotation_that_knew_nothing_of_what_it_says_it_ends_begins_no_epoch() -> None:
    epochs = Epochs()
    ana, ben, _ = epochs.people
    before = epochs.heads()
    first = epochs.rotate(ana)
    unrooted = epochs.rotate(ben, first, knowing=before)
    graph, _ = epochs.trace()
    assert unrooted.id not in graph.nodes
    assert epochs.choose().epoch.id == first.id


def test_another_rotation_to_the_same_topic_is_an_epoch_of_its_own() -> None:
    epochs = Epochs()
    ana, ben, _ = epochs.people
    before = epochs.heads()
    real = epochs.rotate(ana, knowing=before)
    epochs.rotate(ben, knowing=before, to=rotation_of(real).topic, below=real)
    choice = epochs.choose()
    assert choice.epoch.id == real.id
    assert choice.topics_to_end == (rotation_of(real).topic,)


def test_ranks_are_places_in_an_order_that_every_topic_shuffles() -> None:
    devices = [DeviceId(signing_key(1, number).public) for number in range(20)]
    orders = []
    for number in range(10):
        ranks = [rank_of(device, topic(number), devices) for device in devices]
        assert sorted(ranks) == list(range(20))
        orders.append(ranks)
    assert len(set(map(tuple, orders))) == 10
    assert rank_of(devices[0], topic(0), []) == 0


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_every_order_of_arrival_gives_the_same_choice(seed: int) -> None:
    rng = random.Random(seed)
    epochs = Epochs(4)
    known: dict[Person, list[Operation]] = {person: epochs.heads() for person in epochs.people}
    rotations: list[Operation | None] = [None]
    for _ in range(rng.randrange(1, 9)):
        author = rng.choice(epochs.people)
        match rng.randrange(4):
            case 0:
                target = rng.choice([one for one in epochs.people if one is not author])
                written = epochs.story.remove(author, target, parents=known[author])
            case 1:
                other = rng.choice(epochs.people)
                known[author] = list({one.id: one for one in known[author] + known[other]}.values())
                continue
            case _:
                ends = rng.sample(rotations, rng.randrange(1, min(3, len(rotations)) + 1))
                written = epochs.rotate(author, *ends, knowing=known[author])
                rotations.append(written)
        known[author] = [written, *(one for one in known[author] if one.id not in written.parents)]
    choice = epochs.choose()
    for _ in range(3):
        again = epochs.choose(epochs.story.shuffled(rng))
        assert (again.epoch, again.path, again.gone, again.forks) == (
            choice.epoch,
            choice.path,
            choice.gone,
            choice.forks,
        )
    assert choice.path[-1].rotation is None
    assert all(later.ends for later in choice.path[:-1])


def test_the_path_of_each_epoch_is_found_without_recursion() -> None:
    epochs = Epochs(1)
    last = epochs.rotate(epochs.people[0])
    for _ in range(300):
        last = epochs.rotate(epochs.people[0], last, knowing=[last])
    graph, asked = epochs.trace()
    assert len(path_of(graph, graph.nodes[last.id], asked)) == 302


def test_an_epoch_ends_by_who_is_gone_by_forks_by_size_or_by_age() -> None:
    day = 24 * 3600 * 1000
    nobody = Gone()
    fresh = EpochUse(0, 0, 0)
    assert find_reason(fresh, nobody, False, 10, 30, 30 * day - 1) is None
    assert find_reason(fresh, nobody, False, 10, 30, 30 * day) is Reason.AGE
    assert find_reason(EpochUse(0, 1999, 0), nobody, False, 10, 30, 0) is None
    assert find_reason(EpochUse(0, 2000, 0), nobody, False, 10, 30, 0) is Reason.SIZE
    assert find_reason(EpochUse(0, 2000, 0), nobody, False, 501, 30, 0) is None
    assert find_reason(EpochUse(0, 0, 16 * 1024 * 1024), nobody, False, 501, 30, 0) is Reason.SIZE
    assert find_reason(fresh, nobody, True, 10, 30, 0) is Reason.FORK
    epochs = Epochs()
    link, _ = epochs.story.invite(epochs.people[0])
    epochs.rotate(epochs.people[0])
    epochs.story.revoke(epochs.people[0], link)
    assert find_reason(fresh, epochs.choose().gone, True, 10, 30, 0) is Reason.INVITE
    epochs.story.remove(epochs.people[0], epochs.people[1])
    assert find_reason(fresh, epochs.choose().gone, True, 10, 30, 0) is Reason.REMOVAL


@pytest.mark.parametrize("name", SCENES)
def test_every_scene_is_the_same_in_every_order(name: str) -> None:
    epochs = SCENES[name]()
    choice = epochs.choose()
    for seed in range(5):
        again = epochs.choose(epochs.story.shuffled(random.Random(seed)))
        assert (again.path, again.forks, again.gone) == (choice.path, choice.forks, choice.gone)
