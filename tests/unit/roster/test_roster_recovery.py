"""Coming back: by the phrase, by the guardians; which word on it holds; nothing gained by an old one."""

from __future__ import annotations

from tests.support.roster_story import Person, Story, pin


def with_phrase() -> tuple[Story, Person]:
    story = Story()
    ben = story.enter(story.ana, 1)
    story.set_recovery(ben, phrase=ben.phrase())
    return story, ben


def test_the_phrase_brings_a_new_device_in_beside_the_old() -> None:
    story, ben = with_phrase()
    written = story.recover(ben.on(1), ben.phrase())
    state = story.evaluate()
    assert state.refused == {}
    assert set(state.members[story.member(ben)].devices) == {ben.device, ben.on(1).device}
    assert state.devices[ben.on(1).device].enrolled_by == written.id


def test_the_phrase_works_when_all_devices_are_gone() -> None:
    story, ben = with_phrase()
    story.remove_device(ben, ben)
    assert story.evaluate().members[story.member(ben)].devices == ()
    story.recover(ben.on(1), ben.phrase())
    assert story.evaluate().members[story.member(ben)].devices == (ben.on(1).device,)


def test_a_phrase_is_a_recipient_of_every_secret() -> None:
    story, ben = with_phrase()
    state = story.evaluate()
    assert ben.phrase().public in {it.id for it in state.recipients()}
    story.remove(story.ana, ben)
    assert ben.phrase().public not in {it.id for it in story.evaluate().recipients()}


def test_another_phrase_lets_nobody_in() -> None:
    story, ben = with_phrase()
    others = [story.recover(ben.on(1), ben.phrase(9)), story.recover(story.ana.on(1), ben.phrase())]
    assert set(story.evaluate().refused) == {it.id for it in others}


def test_the_newest_phrase_counts_and_an_older_one_does_not() -> None:
    story, ben = with_phrase()
    story.set_recovery(ben, phrase=ben.phrase(1))
    old = story.recover(ben.on(1), ben.phrase(0))
    story.recover(ben.on(2), ben.phrase(1))
    assert set(story.evaluate().refused) == {old.id}


def test_an_old_phrase_gains_nothing_by_not_knowing_the_new_one() -> None:
    story, ben = with_phrase()
    heads = story.heads()
    story.set_recovery(ben, phrase=ben.phrase(1), parents=heads)
    late = story.recover(ben.on(1), ben.phrase(0), parents=heads)
    assert set(story.evaluate().refused) == {late.id}


def test_saying_the_same_phrase_again_takes_nothing() -> None:
    story, ben = with_phrase()
    heads = story.heads()
    story.set_recovery(ben, phrase=ben.phrase(0), guardians=[story.ana], parents=heads)
    story.recover(ben.on(1), ben.phrase(0), parents=heads)
    assert story.evaluate().refused == {}


def test_of_two_phrases_at_once_neither_counts() -> None:
    story, ben = with_phrase()
    story.add_device(ben, ben.on(1))
    heads = story.heads()
    story.set_recovery(ben, phrase=ben.phrase(1), guardians=[story.ana], parents=heads)
    story.set_recovery(ben.on(1), phrase=ben.phrase(2), parents=heads)
    found = story.evaluate().recoveries[story.member(ben)]
    assert (found.id, found.hpke, found.guardians, found.threshold) == (None, None, (), 0)
    story.set_recovery(ben, phrase=ben.phrase(3))
    assert story.evaluate().recoveries[story.member(ben)].id == ben.phrase(3).public


def test_a_removed_member_does_not_come_back_by_a_phrase() -> None:
    story, ben = with_phrase()
    heads = story.heads()
    story.remove(story.ana, ben, parents=heads)
    refused = [story.recover(ben.on(1), ben.phrase(), parents=heads), story.recover(ben.on(2), ben.phrase())]
    assert set(story.evaluate().refused) == {it.id for it in refused}


# --- guardians


def with_guardians(threshold: int = 2) -> tuple[Story, Person, list[Person]]:
    story = Story()
    ben = story.enter(story.ana, 1)
    guardians = [story.ana, story.enter(story.ana, 2), story.enter(story.ana, 3)]
    story.set_recovery(ben, guardians=guardians, threshold=threshold)
    return story, ben, guardians


def test_guardians_put_a_new_device_in_the_place_of_all_others() -> None:
    story, ben, (_, cleo, dan) = with_guardians()
    story.add_device(ben, ben.on(1))
    request = story.lost(ben.on(2))
    story.vouch(cleo, request)
    written = story.admit(dan, request, [pin(ben, 4)])
    state = story.evaluate()
    assert state.refused == {}
    assert state.members[story.member(ben)].devices == (ben.on(2).device,)
    formers = {device: (it.out_by, it.pin and it.pin.seq) for device, it in state.former_devices.items()}
    assert formers == {ben.device: (written.id, 4), ben.on(1).device: (written.id, None)}
    story.add_device(ben.on(2), ben.on(3))
    assert story.evaluate().refused == {}


def test_too_few_guardians_or_others_bring_nobody_back() -> None:
    story, ben, (ana, cleo, dan) = with_guardians()
    eve = story.enter(ana, 4)
    request = story.lost(ben.on(1))
    alone = story.admit(cleo, request)
    story.vouch(eve, request)
    with_other = story.admit(cleo, request)
    story.vouch(dan, request)
    by_other = story.admit(eve, request)
    assert set(story.evaluate().refused) == {alone.id, with_other.id, by_other.id}
    story.admit(cleo, request)
    assert ben.on(1).device in story.evaluate().devices


def test_nobody_is_a_guardian_of_themself() -> None:
    story = Story()
    ben = story.enter(story.ana, 1)
    story.set_recovery(ben, guardians=[ben, story.ana], threshold=2)
    request = story.lost(ben.on(1))
    story.vouch(ben, request)
    written = story.admit(story.ana, request)
    assert set(story.evaluate().refused) == {written.id}


def test_what_the_old_devices_did_at_once_does_not_count() -> None:
    story, ben, (_, cleo, dan) = with_guardians()
    request = story.lost(ben.on(1))
    story.vouch(cleo, request)
    heads = story.heads()
    story.admit(dan, request, parents=heads)
    thief = story.add_device(ben, ben.on(2), parents=heads)
    link = story.invite(ben, parents=[thief])[1]
    state = story.evaluate()
    assert set(state.refused) == {thief.id, link.id}
    assert state.members[story.member(ben)].devices == (ben.on(1).device,)


def test_of_two_returns_at_once_one_counts() -> None:
    story, ben, (ana, cleo, dan) = with_guardians()
    requests = [story.lost(ben.on(1)), story.lost(ben.on(2))]
    for request in requests:
        story.vouch(cleo, request)
    heads = story.heads()
    story.admit(ana, requests[0], parents=heads)
    junior = story.admit(dan, requests[1], parents=heads)
    state = story.evaluate()
    assert set(state.refused) == {junior.id}
    assert state.members[story.member(ben)].devices == (ben.on(1).device,)


def test_a_member_who_is_there_after_all_takes_the_guardians_away() -> None:
    story, ben, (_, cleo, dan) = with_guardians()
    request = story.lost(ben.on(1))
    story.vouch(cleo, request)
    story.set_recovery(ben, phrase=ben.phrase())
    late = story.admit(dan, request)
    assert set(story.evaluate().refused) == {late.id}


def test_guardians_gain_nothing_by_not_knowing_that_they_are_none_any_more() -> None:
    story = Story()
    ben, cleo = story.enter(story.ana, 1), story.enter(story.ana, 2)
    story.set_recovery(ben, guardians=[cleo])
    heads = story.heads()
    story.set_recovery(ben, guardians=[story.ana], parents=heads)
    late = story.admit(cleo, story.lost(ben.on(1)), parents=heads)
    assert set(story.evaluate().refused) == {late.id}
