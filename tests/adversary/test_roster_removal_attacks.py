"""Attacks on removal, devices, admission and recovery, and known failures of other systems.

Each also runs once on a build that lacks the rule it meets, and is seen to succeed there.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from cocoon_core.protocol import roster_flaws
from cocoon_core.protocol.constants import MAX_TIME_MS
from cocoon_core.protocol.entry import Entry, EntryMaker
from cocoon_core.protocol.ids import DeviceId, EntryId, HpkePublicKey
from cocoon_core.protocol.operation_forms import Policy, Role
from cocoon_core.protocol.operations import Join, RevokeInvite, SetRole, decode_operation
from cocoon_core.protocol.operations_admission import Admit, Newcomer, Recover, SetRecovery
from cocoon_core.protocol.operations_devices import AddDevice, ReplaceDevice
from cocoon_core.protocol.roster import Operation
from cocoon_core.protocol.roster_judge import Judge
from cocoon_core.protocol.roster_rights import Rights
from cocoon_core.protocol.roster_rules import Evaluation
from tests.adversary.test_roster_attacks import (
    SMALL_ORDER,
    allow_all,
    errors,
    evaluate_everywhere,
    forget_removals_at_once,
)
from tests.support.roster_story import Link, Person, Story

Attack = Callable[[Story], Operation]


# --- 13 and 14: a device, a newcomer or a key that nobody meant


def forge_device(story: Story) -> Operation:
    """A relay, or a member, makes up a device of Ben's."""
    ben, ghost = story.enter(story.ana, 1), Person(66)
    proof = AddDevice.make(ghost.key, story.group, ghost.device, ghost.hpke).proof
    return story.write(ben, AddDevice(ghost.device, ghost.hpke, proof))


def forge_replacement(story: Story) -> Operation:
    ben, ghost = story.enter(story.ana, 1), Person(66)
    proof = ReplaceDevice.make(ghost.key, story.group, ghost.device, ghost.hpke).proof
    return story.write(ghost, ReplaceDevice(ben.device, ghost.hpke, proof), seq=0)


def forge_recovery(story: Story) -> Operation:
    ben, ghost = story.enter(story.ana, 1), Person(66)
    story.set_recovery(ben, phrase=ben.phrase())
    genuine = Recover.make(ghost.phrase(), story.group, story.member(ben), ghost.device, ghost.hpke)
    return story.write(ghost, Recover(genuine.member, ben.phrase().public, ghost.hpke, genuine.proof), seq=0)  # type: ignore[arg-type]


def swap_key_of_newcomer(story: Story) -> Operation:
    """The admitting member wraps for a key of their own instead of the newcomer's."""
    story.set_policy(story.ana, Policy(max_members=50, vouches=1))
    link, _ = story.invite(story.ana)
    asked, thief = story.newcomer(Person(1), link), Person(67)
    swapped = Newcomer(asked.device, thief.hpke, asked.invite, asked.name, asked.invite_proof, asked.proof)
    return story.admit(story.ana, swapped)


FORGERIES: list[Attack] = [forge_device, forge_replacement, forge_recovery, swap_key_of_newcomer]


@pytest.mark.parametrize("attack", FORGERIES)
def test_attack_13_14_a_device_that_no_key_meant_is_refused(attack: Attack) -> None:
    story = Story()
    forged = attack(story)
    before = story.evaluate([it for it in story.operations.values() if it is not forged])
    state = evaluate_everywhere(story)
    assert errors(state) == {forged.id: "SignatureError"}
    assert (state.devices, state.members) == (before.devices, before.members)


@pytest.mark.parametrize("attack", FORGERIES)
def test_attack_13_14_a_made_up_device_enters_where_proofs_are_not_checked(
    attack: Attack, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind, check in (
        (AddDevice, "verify_proof"),
        (ReplaceDevice, "verify_proof"),
        (Recover, "verify_proof"),
        (Newcomer, "verify_proofs"),
    ):
        monkeypatch.setattr(kind, check, allow_all)
    story = Story()
    assert attack(story).id not in story.evaluate().refused


# --- 24: what a removed member kept


def return_by_old_things(story: Story) -> list[Operation]:
    """Ben is removed, and comes with every proof that he ever held, as if he knew nothing."""
    ben = story.enter(story.ana, 1)
    story.set_recovery(ben, phrase=ben.phrase(), guardians=[story.ana])
    link, _ = story.invite(ben, uses=5)
    heads = story.heads()
    story.remove(story.ana, ben, parents=heads)
    return [
        story.recover(ben.on(1), ben.phrase(), parents=heads),
        story.replace_device(ben, ben.on(2), parents=heads),
        story.add_device(ben, ben.on(3), parents=heads),
        story.join(Person(5), link, parents=heads),
        story.recover(ben.on(4), ben.phrase()),
        story.join(Person(6), link),
    ]


def test_attack_24_nothing_that_the_removed_kept_lets_anybody_in() -> None:
    story = Story()
    written = return_by_old_things(story)
    state = evaluate_everywhere(story)
    assert {it.id for it in written} == set(state.refused)
    assert list(state.members) == [story.member(story.ana)]
    assert [it.id for it in state.recipients()] == [story.ana.device]


def test_attack_24_old_things_work_where_a_removal_reaches_only_what_knew_it(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_removals_at_once(monkeypatch)
    monkeypatch.setattr(Rights, "is_member_out", lambda self, member, past: False)
    story = Story()
    written = return_by_old_things(story)
    assert any(it.id not in story.evaluate().refused for it in written)


# --- 25: races of removal


def remove_each_other(story: Story, seed: int) -> tuple[Person, Person]:
    ben = story.enter(story.ana, 1 + seed)
    cleo = story.enter(story.ana, 60 + seed)
    story.set_role(story.ana, ben, Role.ADMIN)
    story.set_role(story.ana, cleo, Role.ADMIN)
    heads = story.heads()
    mine = story.remove(ben, cleo, parents=heads)
    story.remove(cleo, ben, parents=heads, below=mine)
    return ben, cleo


def test_attack_25_mutual_removal_leaves_the_senior_whatever_the_ids() -> None:
    for seed in range(6):
        story = Story()
        ben, cleo = remove_each_other(story, seed)
        state = evaluate_everywhere(story)
        assert set(state.members) == {story.member(story.ana), story.member(ben)}, f"seed {seed}"
        assert story.member(cleo) in state.former_members


def test_attack_25_the_smaller_id_wins_where_seniority_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Evaluation, "_order", lambda self, place: (0, self.log.operations[place].id, place))
    story = Story()
    ben, _ = remove_each_other(story, 1)
    assert story.member(ben) not in story.evaluate().members


def race_removal(story: Story) -> list[Operation]:
    """Ben adds, promotes, admits and removes as if he did not know that he is being removed."""
    ben, cleo = story.enter(story.ana, 1, role=Role.ADMIN), story.enter(story.ana, 2)
    heads = story.heads()
    story.remove(story.ana, ben, parents=heads)
    added = story.add_device(ben, ben.on(1), parents=heads)
    promoted = story.set_role(ben.on(1), cleo, Role.ADMIN, parents=[added])
    link, invite = story.invite(ben.on(1), role=Role.ADMIN, parents=[promoted])
    joined = story.join(Person(3), link, parents=[invite])
    against = story.remove(Person(3), story.ana, parents=[joined])
    return [added, promoted, invite, joined, against]


def test_attack_25_34_whatever_races_the_own_removal_loses() -> None:
    story = Story()
    written = race_removal(story)
    state = evaluate_everywhere(story)
    assert set(state.refused) == {it.id for it in written}
    assert set(state.devices) == {story.ana.device, Person(2).device}
    assert not state.is_admin(story.member(Person(2)))


def test_attack_25_34_succeeds_where_a_removal_does_not_reach_what_it_did_not_know(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    forget_removals_at_once(monkeypatch)
    story = Story()
    race_removal(story)
    assert story.evaluate().is_admin(story.member(Person(2)))


def answer_known_removal(story: Story) -> Person:
    """A thief's device answers the owner's removal through a device that the removal did not know."""
    ben = story.enter(story.ana, 1)
    story.add_device(ben, ben.on(1))
    heads = story.heads()
    removal = story.remove_device(ben, ben.on(1), parents=heads)
    story.add_device(ben.on(1), ben.on(2), parents=heads)
    story.remove_device(ben.on(2), ben, below=removal)
    return ben


def test_attack_25_a_known_removal_is_not_answered_through_a_device_unknown_to_it() -> None:
    story = Story()
    ben = answer_known_removal(story)
    assert ben.device in evaluate_everywhere(story).devices


def test_attack_25_the_answer_succeeds_where_only_the_end_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Rights, "_is_lost", lambda self, place, past: False)
    story = Story()
    ben = answer_known_removal(story)
    assert ben.device not in story.evaluate().devices


def act_by_stolen_link(story: Story) -> tuple[Operation, Person]:
    """The thief of a link that was spent long ago joins as of then, and removes everybody junior to the link."""
    link, invite = story.invite(story.ana, role=Role.ADMIN)
    join = story.join(Person(1), link)
    cleo = story.enter(story.ana, 3)
    story.revoke(cleo, link, [join])
    story.join(Person(2), link, parents=[invite], below=join)
    return story.remove(Person(2), cleo, parents=story.heads()), cleo


def test_attack_24_a_stolen_spent_link_removes_nobody() -> None:
    story = Story()
    attack, cleo = act_by_stolen_link(story)
    state = evaluate_everywhere(story)
    assert attack.id in state.refused
    assert story.member(cleo) in state.members


def test_attack_24_a_stolen_spent_link_removes_members_where_nobody_waits_for_its_closing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("cocoon_core.protocol.roster_rules.find_doubts", lambda evaluation: {})
    story = Story()
    _, cleo = act_by_stolen_link(story)
    assert story.member(cleo) not in story.evaluate().members


# --- 31: operations that their authors have no right to


def write_without_right(story: Story) -> list[Operation]:
    ben, cleo = story.enter(story.ana, 1), story.enter(story.ana, 2)
    stranger = Person(9)
    story.set_recovery(cleo, phrase=cleo.phrase(), guardians=[story.ana])
    return [
        story.remove(ben, cleo),
        story.remove_device(ben, cleo),
        story.set_policy(ben, Policy(max_members=5000)),
        story.leave(stranger),
        story.rotate(stranger, seq=1),
        story.set_recovery(stranger, phrase=stranger.phrase()),
        story.add_device(stranger, stranger.on(1), seq=2),
        story.recover(ben.on(1), cleo.phrase()),
        story.admit(ben, story.lost(cleo.on(1))),
        story.remove(stranger, story.ana, seq=3),
    ]


def test_attack_31_no_removal_policy_or_return_without_the_right() -> None:
    story = Story()
    written = write_without_right(story)
    state = evaluate_everywhere(story)
    assert {it.id for it in written} == set(state.refused)
    assert set(errors(state).values()) == {"NotPermittedError"}
    assert (len(state.members), len(state.devices), state.policy) == (3, 3, Policy(max_members=100))


def test_attack_31_any_member_removes_another_where_the_right_is_not_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Judge, "_needs_admin", lambda self, place, member: False)
    story = Story()
    write_without_right(story)
    assert len(story.evaluate().members) < 3


# --- 32: keys that do not bind


def bad_device(story: Story, device: bytes, hpke: HpkePublicKey) -> AddDevice:
    made = AddDevice.make(Person(70).key, story.group, story.ana.device, hpke)
    return AddDevice(DeviceId(device), hpke, made.proof)


@pytest.mark.parametrize("which", ["device", "x25519", "phrase"])
def test_attack_32_keys_of_small_order_enter_by_no_way(which: str) -> None:
    story = Story()
    good = Person(70)
    weak_hpke = HpkePublicKey(good.hpke[:-32] + bytes(32))
    match which:
        case "device":
            operation = story.write(story.ana, bad_device(story, SMALL_ORDER, good.hpke))
        case "x25519":
            body = AddDevice.make(good.key, story.group, story.ana.device, weak_hpke)
            operation = story.write(story.ana, body)
        case _:
            made = story.set_recovery(story.ana, phrase=story.ana.phrase()).body
            assert isinstance(made, SetRecovery)
            assert made.recovery is not None
            weak = SetRecovery((made.recovery[0], weak_hpke, made.recovery[2]))
            operation = story.write(story.ana, weak)
    assert evaluate_everywhere(story).refused[operation.id].error == "MalformedError"


def test_attack_32_a_weak_key_enters_where_keys_are_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roster_flaws, "require_good_signing_key", allow_all)
    monkeypatch.setattr(roster_flaws, "require_good_hpke_key", allow_all)
    story = Story()
    good = Person(70)
    weak = HpkePublicKey(good.hpke[:-32] + bytes(32))
    story.write(story.ana, AddDevice.make(good.key, story.group, story.ana.device, weak))
    assert good.device in story.evaluate().devices


# --- 33: clocks


def demotion_and_promotion(times: tuple[int, int]) -> tuple[Story, Person]:
    """Two admins set Cleo's role at once, in entries with these times."""
    story = Story()
    ben, cleo = story.enter(story.ana, 1, role=Role.ADMIN), story.enter(story.ana, 2)
    heads = story.heads()
    for author, role, time_ms in ((story.ana, Role.MEMBER, times[0]), (ben, Role.ADMIN, times[1])):
        body = SetRole(story.member(cleo), role).encode_body()
        seq = story.next_seq(author)
        entry: Entry = EntryMaker(story.group, author.device, heads).operation(seq, EntryId(bytes(32)), time_ms, body)
        story.operations[entry.id] = Operation(entry.id, author.device, seq, heads, decode_operation(entry.body))
    return story, cleo


@pytest.mark.parametrize("times", [(0, MAX_TIME_MS), (MAX_TIME_MS, 0), (5, 5)])
def test_attack_33_no_clock_decides_which_word_is_newest(times: tuple[int, int]) -> None:
    story, cleo = demotion_and_promotion(times)
    assert not evaluate_everywhere(story).is_admin(story.member(cleo))


def test_attack_33_the_clock_at_the_maximum_wins_where_the_newest_is_the_latest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The failure of others: of two words the one with the greater time."""
    story, cleo = demotion_and_promotion((0, MAX_TIME_MS))
    late = list(story.operations)[-1]
    newest = Rights.newest_roles

    def by_clock(self: Rights, member: object, past: int) -> list[int]:
        found = newest(self, member, past)  # type: ignore[arg-type]
        return [it for it in found if self.log.operations[it].id == late] or found

    monkeypatch.setattr(Rights, "newest_roles", by_clock)
    assert story.evaluate().is_admin(story.member(cleo))


# --- 37: admissions at once on one use


def admit_too_many(story: Story) -> list[Operation]:
    story.set_policy(story.ana, Policy(max_members=50, vouches=1))
    members = [story.enter_by_request(story.ana, number) for number in (1, 2)]
    link, _ = story.invite(story.ana)
    heads = story.heads()
    people = zip((story.ana, *members), range(10, 13), strict=True)
    return [story.admit(author, story.newcomer(Person(it), link), parents=heads) for author, it in people]


def test_attack_37_admissions_at_once_on_one_use_have_one_winner_everywhere() -> None:
    story = Story()
    written = admit_too_many(story)
    state = evaluate_everywhere(story)
    assert set(state.refused) == {it.id for it in written[1:]}, "the senior admits"
    assert len(state.members) == 4


def test_attack_37_all_enter_where_what_others_took_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Judge, "_taken", lambda self, place, invite: 0)
    story = Story()
    admit_too_many(story)
    assert len(story.evaluate().members) == 6


# --- known failures of other systems


def test_a_roster_forged_out_of_links_that_nobody_signed_is_refused() -> None:
    """Elsewhere a server could put members into a roster whose links were hashed but not really signed."""
    story = Story()
    ben = story.enter(story.ana, 1)
    link, invite = story.invite(story.ana)
    ghost = Person(66)
    by_other_link = Join.make(Link(999).key, story.group, ghost.device, ghost.hpke, "Ghost")
    forged = [
        story.write(ghost, Join(invite.body.invite, ghost.hpke, "Ghost", by_other_link.proof)),  # type: ignore[union-attr]
        story.write(ghost, SetRole(story.member(ghost), Role.ADMIN), seq=1),
        story.write(ghost, RevokeInvite(invite.body.invite), seq=2),  # type: ignore[union-attr]
        story.write(ghost, Admit(story.lost(ben.on(1))), seq=3),
    ]
    state = evaluate_everywhere(story)
    assert {it.id for it in forged} == set(state.refused)
    assert link.key.public in state.invites
    assert set(state.members) == {story.member(story.ana), story.member(ben)}


def test_mutual_removal_of_everybody_is_a_state_and_no_exception() -> None:
    """Elsewhere two admins who removed each other made every replica throw for ever."""
    for seed in range(10):
        story, rng = Story(), random.Random(seed)
        people = [story.ana, *(story.enter(story.ana, number, role=Role.ADMIN) for number in range(1, 6))]
        heads = story.heads()
        for author in people:
            for target in rng.sample([it for it in people if it is not author], 4):
                story.remove(author, target, parents=[*heads, *_own(story, author)])
        state = evaluate_everywhere(story)
        assert any(member.role is Role.ADMIN for member in state.members.values()), f"seed {seed}"


def _own(story: Story, author: Person) -> list[EntryId]:
    return [it.id for it in story.operations.values() if it.device == author.device][-1:]


def test_nobody_sets_another_members_key() -> None:
    """Elsewhere any member could rotate another's key, and then read what was meant for them."""
    story = Story()
    ben, mallory = story.enter(story.ana, 1), story.enter(story.ana, 2, role=Role.ADMIN)
    before = story.evaluate()
    thief = ben.on(1)
    signed = AddDevice.make(thief.key, story.group, ben.device, thief.hpke)
    written = [
        story.write(mallory, signed),
        story.write(thief, ReplaceDevice(ben.device, thief.hpke, signed.proof), seq=0),
        story.admit(mallory, story.lost(thief)),
        story.recover(thief.on(2), mallory.phrase()),
    ]
    state = evaluate_everywhere(story)
    assert {it.id for it in written} == set(state.refused)
    assert state.devices == before.devices


def test_an_invites_proof_replayed_for_another_device_is_refused() -> None:
    """Elsewhere the proof of an invite named no device, and whoever saw it could use it again."""
    story = Story()
    link, _ = story.invite(story.ana, uses=5)
    ben, thief = Person(1), Person(2)
    joined = story.join(ben, link).body
    assert isinstance(joined, Join)
    replayed = [
        story.write(thief, joined),
        story.write(thief.on(1), Join(joined.invite, thief.hpke, "Thief", joined.proof)),
    ]
    state = evaluate_everywhere(story)
    assert errors(state) == {it.id: "SignatureError" for it in replayed}


def test_a_proof_from_another_group_is_refused() -> None:
    story, other = Story(), Story(Policy(max_members=7))
    ben = story.enter(story.ana, 1)
    other.set_recovery(ben, phrase=ben.phrase())
    stolen = AddDevice.make(ben.on(1).key, other.group, ben.device, ben.on(1).hpke)
    operation = story.write(ben, stolen)
    assert errors(evaluate_everywhere(story)) == {operation.id: "SignatureError"}
