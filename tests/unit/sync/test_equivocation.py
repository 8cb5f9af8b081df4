"""A device signs two histories: whoever has both lets the same one stand, whatever came first, and puts it out."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from pathlib import Path
from random import Random

import pytest

from cocoon_core.protocol.operations_devices import Suspend
from cocoon_core.protocol.run import Run, parse_run
from cocoon_core.sync import equivocation
from cocoon_core.sync.equivocation import Forks
from cocoon_core.sync.pins import pin_devices
from cocoon_core.sync.reissue import reissue_lost
from cocoon_core.sync.suspending import contradict, suspend_forked
from tests.support.hostile import Forger, put_item, put_root
from tests.support.peers import Peer, Peers
from tests.support.world import SHARED


@pytest.fixture
def peers(tmp_path: Path) -> Iterator[Peers]:
    made = Peers(tmp_path)
    yield made
    made.close()


def at_once(*_: object) -> bool:
    return True


def branches(mal: Peer, count: int = 2) -> list[Forger]:
    """Forgers at the same place of one chain, told apart by their time."""
    first = mal.forger()
    made = [first]
    for number in range(1, count):
        twin = first.copy()
        twin.time_ms += number
        made.append(twin)
    return made


def diary(forger: Forger, key: str, value: object) -> Run:
    """One entry that sets a key of the forger's diary, as if nothing else of its branch were there."""
    document = forger.seat.diary()  # type: ignore[attr-defined]
    return forger.run(forger.entry((document, forger.change(document, put_root(key, value)))))


def item(forger: Forger, key: str, value: object) -> Run:
    return forger.run(forger.entry((SHARED, forger.change(SHARED, put_item(key, value)))))


def smaller_first(*runs: Run) -> list[Run]:
    return sorted(runs, key=lambda run: run.entries[0].id)


def assert_equal(*peers: Peer) -> None:
    for peer in peers[1:]:
        assert peer.chains() == peers[0].chains(), peer.name
        assert peer.documents() == peers[0].documents(), peer.name
    for peer in peers:
        before = peer.documents()
        peer.open()
        assert peer.documents() == before, f"{peer.name} opened again"


# --- which one stands


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
def test_the_branch_with_the_smallest_id_stands_in_any_order(peers: Peers, order: tuple[int, ...]) -> None:
    ana, ben, mal = peers.found("Ana", "Ben", "Mal")
    runs = [diary(forger, f"of {n}", n) for n, forger in enumerate(branches(mal, 3))]
    for place in order:
        ana.take([runs[place].wire])
    ben.take([run.wire for run in runs])
    decides = smaller_first(*runs)[0]
    assert ana.replica.chains[mal.device].last_id == decides.last_id
    assert ana.plain(mal.diary()) == {f"of {runs.index(decides)}": runs.index(decides)}
    assert_equal(ana, ben)
    heads = ana.replica.log.heads(mal.device)
    assert heads.digest() == decides.heads_digest


def test_a_longer_branch_stands_whole_or_not_at_all(peers: Peers) -> None:
    ana, ben, mal = peers.found("Ana", "Ben", "Mal")
    one, two = branches(mal)
    first = [diary(one, "a", 1), item(one, "x", 1), item(one, "y", 2)]
    second = [diary(two, "b", 1), item(two, "z", 3)]
    ana.take(run.wire for run in first + second)
    for run in reversed(second + first):
        ben.take([run.wire])
    ben.take(run.wire for run in second)
    assert_equal(ana, ben)
    decides = first if smaller_first(first[0], second[0])[0] is first[0] else second
    assert ana.replica.chains[mal.device].last_id == decides[-1].last_id
    assert ana.plain(mal.diary()) == ({"a": 1} if decides is first else {"b": 1})


def test_an_entry_that_both_branches_hold_stands_although_its_run_does_not(peers: Peers) -> None:
    """A copy of the device formed other runs of the same entries: the fork lies inside a run."""
    ana, ben, mal = peers.found("Ana", "Ben", "Mal")
    one = mal.forger()
    shared = one.entry((SHARED, one.change(SHARED, put_item("both", 1))))
    two = one.copy()
    two.time_ms += 1
    whole = one.run(shared, one.entry((one.seat.diary(), one.change(one.seat.diary(), put_root("a", 1)))))  # type: ignore[attr-defined]
    alone = two.run(shared)
    rest = diary(two, "b", 1)
    for peer, runs in ((ana, (whole, alone, rest)), (ben, (alone, rest, whole))):
        for run in runs:
            peer.take([run.wire])
    decides = "a" if whole.last_id < rest.last_id else "b"
    for peer in (ana, ben):
        assert peer.plain(SHARED)["items"] == {"both": 1}
        assert peer.plain(mal.diary()) == {decides: 1}
        assert peer.replica.known_id(mal.device, shared.seq) == shared.id
    assert_equal(ana, ben)


def test_what_is_final_stands_against_a_smaller_id(peers: Peers) -> None:
    ana, ben, mal = peers.found("Ana", "Ben", "Mal")
    smaller, larger = smaller_first(*(diary(forger, f"{n}", n) for n, forger in enumerate(branches(mal))))
    ana.take([larger.wire])
    final = {mal.device: larger.last_seq}, frozenset[object](), {mal.device: larger.last_id}
    for peer in (ana, ben):
        peer.take([smaller.wire])
        peer.take([larger.wire])
        assert peer.replica.chains[mal.device].last_id == smaller.last_id
        with peer.replica.transaction():
            peer.replica.members.set_final(*final)  # type: ignore[arg-type]
            peer.replica.forks.settle(everything=True)
        assert peer.replica.chains[mal.device].last_id == larger.last_id
        peer.take([smaller.wire])
        assert peer.replica.chains[mal.device].last_id == larger.last_id
    assert ana.documents() == ben.documents()


def test_replicas_differ_where_the_first_branch_to_arrive_stands(peers: Peers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Forks, "settle", lambda *_, **__: None)
    ana, ben, mal = peers.found("Ana", "Ben", "Mal")
    first, second = (diary(forger, f"{n}", n) for n, forger in enumerate(branches(mal)))
    for run in (first, second):
        ana.take([run.wire])
    for run in (second, first):
        ben.take([run.wire])
    assert ana.documents() != ben.documents()


def test_there_is_room_for_so_many_branches_and_no_more(peers: Peers, monkeypatch: pytest.MonkeyPatch) -> None:
    ana, _, mal = peers.found("Ana", "Ben", "Mal")
    runs = [diary(forger, f"{n}", n) for n, forger in enumerate(branches(mal, 12))]
    monkeypatch.setattr(equivocation, "MAX_APART_BYTES", 4 * len(runs[0].wire))
    ana.take(run.wire for run in runs)
    assert ana.replica.forks.table.size(mal.device) <= 4 * len(runs[0].wire)


@pytest.mark.parametrize("seed", range(12))
def test_random_trees_of_entries_end_in_one_chain(peers: Peers, seed: int) -> None:
    print(f"seed {seed}")
    chance = Random(seed)
    ana, ben, mal = peers.found("Ana", "Ben", "Mal")
    forgers, runs = branches(mal, 2), []
    for number in range(14):
        forger = chance.choice(forgers)
        if chance.random() < 0.3:
            twin = forger.copy()
            twin.time_ms += 1_000 + number
            forgers.append(twin)
        runs.append(diary(forger, f"{number}", number) if chance.random() < 0.5 else item(forger, f"{number}", number))
    for peer in (ana, ben):
        wires = [run.wire for run in runs]
        for _ in range(8):
            chance.shuffle(wires)
            peer.take(wires)
    assert_equal(ana, ben)
    for peer in (ana, ben):
        before = peer.documents()
        for record in peer.replica.documents.all():
            with peer.replica.transaction():
                peer.replica.shelf.rebuild(record)
        assert peer.documents() == before


# --- honest changes on a branch that does not decide


def test_an_honest_change_on_the_losing_branch_stays_where_no_number_is_contested(peers: Peers) -> None:
    ana, ben, mal = peers.found("Ana", "Ben", "Mal")
    one, two = branches(mal)
    losing, deciding = item(one, "of mal", 1), diary(two, "other", 1)
    while deciding.last_id > losing.last_id:  # the losing branch must be the one that touches the list
        two.time_ms += 1
        two.seq, two.prev = deciding.first_seq, deciding.entries[0].prev  # type: ignore[assignment]
        deciding = diary(two, "other", 1)
    ben.take([losing.wire])
    ben.edit(SHARED, "of ben", 2)
    bens = [run.wire for run in ben.runs()]
    ana.take([deciding.wire, losing.wire])
    assert ana.plain(SHARED)["items"] == {}
    ana.take(bens)
    ben.take([deciding.wire])
    for peer in (ana, ben):
        assert peer.plain(SHARED)["items"] == {"of mal": 1, "of ben": 2}
        assert peer.plain(mal.diary()) == {"other": 1}
    assert reissue_lost(ben.replica).written == 0
    assert_equal(ana, ben)
    (alarm,) = [alarm for alarm in ana.replica.groups.alarms(ana.replica.record.number) if alarm[0] == "late"]
    assert "Mal" in alarm[2]


def test_an_honest_change_whose_past_lost_its_number_is_made_again_by_its_own_device(peers: Peers) -> None:
    ana, ben, mal = peers.found("Ana", "Ben", "Mal")
    ana.edit(SHARED, "before", 0)
    peers.level()
    deciding, losing = smaller_first(*(item(forger, "of mal", n) for n, forger in enumerate(branches(mal))))
    ben.take([losing.wire])
    ben.edit(SHARED, "of ben", 2)
    ben.edit(SHARED, "of ben too", 3)
    ben.take([deciding.wire])
    value = parse_run(deciding.wire, ana.replica.group)
    assert value.last_id == deciding.last_id
    assert set(ben.plain(SHARED)["items"]) == {"before", "of mal"}
    done = reissue_lost(ben.replica)
    assert (done.written, done.left) == (2, 0)
    assert reissue_lost(ben.replica).written == 0
    assert set(ben.plain(SHARED)["items"]) == {"before", "of mal", "of ben", "of ben too"}
    ana.take([deciding.wire, losing.wire, *(run.wire for run in ben.runs())])
    assert ana.plain(SHARED) == ben.plain(SHARED)
    assert_equal(ana, ben)
    ben.edit(SHARED, "goes on", 4)
    ana.take(run.wire for run in ben.runs())
    assert_equal(ana, ben)
    assert ana.plain(SHARED)["items"]["goes on"] == 4


def test_whoever_learns_of_the_fork_last_shows_the_same(peers: Peers) -> None:
    """Ana has the losing branch and both of Ben's changes, the lost one and the one that he made again."""
    ana, ben, mal = peers.found("Ana", "Ben", "Mal")
    deciding, losing = smaller_first(*(item(forger, "of mal", n) for n, forger in enumerate(branches(mal))))
    for peer in (ana, ben):
        peer.take([losing.wire])
    ben.edit(SHARED, "of ben", 2)
    ben.take([deciding.wire])
    reissue_lost(ben.replica)
    ana.take(run.wire for run in ben.runs())
    assert ana.plain(SHARED)["items"]["of ben"] == 2
    ana.take([deciding.wire])
    assert ana.plain(SHARED)["items"]["of ben"] == 2
    assert_equal(ana, ben)


# --- putting it out


def test_any_member_puts_the_device_out_once_and_pins_the_deciding_branch(peers: Peers) -> None:
    ana, ben, mal = peers.found("Ana", "Ben", "Mal")
    one, two = branches(mal)
    first, second = diary(one, "a", 1), diary(two, "b", 1)
    ana.take([first.wire, second.wire])
    assert suspend_forked(ana.replica, lambda *_: False) == 0
    assert suspend_forked(ana.replica, at_once) == 1
    assert suspend_forked(ana.replica, at_once) == 0
    roster = ana.replica.members.roster
    assert mal.device not in roster.devices
    decides = smaller_first(first, second)[0]
    pin = roster.former_devices[mal.device].pin
    assert pin is not None
    assert pin.entry == decides.last_id
    forger = one if decides is first else two
    after = diary(forger, "after", 1)
    ben.take([run.wire for run in ana.runs()])
    ben.take([first.wire, second.wire, after.wire])
    ana.take([after.wire])
    for peer in (ana, ben):
        assert "after" not in peer.plain(mal.diary())
        assert len(peer.plain(mal.diary())) == 1
    assert_equal(ana, ben)
    assert suspend_forked(ben.replica, at_once) == 0


def test_who_saw_one_branch_alone_learns_the_other_from_the_suspension(peers: Peers) -> None:
    ana, ben, mal = peers.found("Ana", "Ben", "Mal")
    deciding, losing = smaller_first(*(diary(forger, f"{n}", n) for n, forger in enumerate(branches(mal))))
    ana.take([deciding.wire, losing.wire])
    suspend_forked(ana.replica, at_once)
    ben.take([losing.wire])
    ben.take(run.wire for run in ana.runs())
    assert ben.plain(mal.diary()) == ana.plain(mal.diary())
    assert_equal(ana, ben)


def test_a_pin_on_the_losing_branch_reaches_what_both_have_in_common(peers: Peers) -> None:
    """A member who is in it pins the branch that does not decide, at an end that nobody else has."""
    ana, ben, mal = peers.found("Ana", "Ben", "Mal")
    mal.edit(mal.diary(), "before", 1)
    peers.level()
    deciding, losing = smaller_first(*(diary(forger, f"{n}", n) for n, forger in enumerate(branches(mal))))
    ben.take([losing.wire])
    first, second = sorted((deciding.wire, losing.wire))
    ben.replica.write_operation(Suspend(mal.device, first, second, pin_devices(ben.replica, [mal.device])))
    ana.take([deciding.wire, losing.wire])
    suspend_forked(ana.replica, at_once)
    for _ in range(2):
        ana.take(run.wire for run in ben.runs())
        ben.take(run.wire for run in ana.runs())
    assert_equal(ana, ben)
    assert len(ana.plain(mal.diary())) == 2


def test_a_suspension_that_pins_nothing_takes_no_more_than_what_is_contested(peers: Peers) -> None:
    ana, ben, mal = peers.found("Ana", "Ben", "Mal")
    mal.edit(mal.diary(), "before", 1)
    peers.level()
    runs = [diary(forger, f"{n}", n) for n, forger in enumerate(branches(mal))]
    ben.take(run.wire for run in runs)
    first, second = sorted(run.wire for run in runs)
    ben.replica.write_operation(Suspend(mal.device, first, second))
    ana.take([*(run.wire for run in runs), *(run.wire for run in ben.runs())])
    assert ana.plain(mal.diary()) == ben.plain(mal.diary()) == {"before": 1}
    assert_equal(ana, ben)


def test_runs_contradict_each_other_by_other_entries_at_one_place(peers: Peers) -> None:
    _, _, mal = peers.found("Ana", "Ben", "Mal")
    one, two = branches(mal)
    shared = one.copy()
    a, b, c = (parse_run(diary(f, "k", 1).wire, mal.replica.group) for f in (one, two, shared))
    later = parse_run(diary(one, "l", 2).wire, mal.replica.group)
    assert contradict(a, b)
    assert contradict(b, a)
    assert not contradict(a, c)
    assert not contradict(a, later)
    assert not contradict(b, later)  # what lies between is not here
