"""Calls and questions: whose answer counts, who is silent, what is late, and what an asker marks."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cocoon_cli.calls import answers_data, draw_answers
from cocoon_cli.output import Screen
from cocoon_core.errors import UnknownItemError, UsageError
from cocoon_core.protocol.constants import MAX_SOLVING
from cocoon_core.social.feed_asking import CallAnswers
from tests.support.hostile import Forger, inject
from tests.support.world import Seat, World, make_world, rebuild_everything, state_of  # noqa: F401  a fixture

DAY_MS = 86_400_000


def at(seat: Seat, **ahead: int) -> datetime:
    return datetime.fromtimestamp(seat.world.now_ms / 1000, UTC) + timedelta(**ahead)


def shown(answers: CallAnswers) -> tuple[list[str], list[str], list[str]]:
    return (
        [one.post.author for one in answers.yes],
        [one.post.author for one in answers.no],
        [name for name, _ in answers.silent],
    )


async def test_everybody_sees_who_answered_a_call(world: World) -> None:
    ana, ben, chi, dee = await world.group("ana", "ben", "chi", "dee")
    call = await ana.group.feed.call("Who helps on Saturday?", at(ana, hours=1))
    assert (call.ask, call.until is not None) == ("call", True)
    await world.level()
    assert shown(await ben.group.feed.answers(call.id)) == ([], [], ["Ben", "Chi", "Dee"])
    given = await ben.group.feed.answer(call.id[:8], "yes")
    assert (given.answer, given.text, given.parent) == ("yes", "Yes.", call.id)
    await chi.group.feed.answer(call.id, "yes", "With the van.")
    await chi.group.feed.answer(call.id, "no", "The van broke down.")
    await ben.group.feed.reply(call.id, "a word that is no answer")
    chi.skew_ms = 2 * DAY_MS
    dee.skew_ms = 2 * DAY_MS
    await dee.group.feed.answer(call.id, "no")
    await ana.group.feed.answer(call.id, "yes", "I do, of course: I called.")
    await world.level()
    for seat in (ana, ben, chi, dee):
        answers = await seat.group.feed.answers(call.id)
        assert shown(answers) == (["Ben"], ["Chi", "Dee"], [])
        assert [one.is_late for one in (*answers.yes, *answers.no)] == [False, False, True]
        assert answers.no[0].post.text == "The van broke down."
    before = await state_of(ana)
    rebuild_everything(ana)
    assert await state_of(ana) == before == await state_of(dee)
    await ben.group.feed.delete(given.id)
    await ana.group.remove_member(chi.group.me)  # type: ignore[arg-type]
    await world.level([ana, ben, dee])
    assert shown(await ana.group.feed.answers(call.id)) == ([], ["Dee"], ["Ben"])


async def test_who_called_is_shown_who_has_seen_it_and_said_nothing(world: World) -> None:
    ana, ben, chi, _ = await world.group("ana", "ben", "chi", "dee")
    call = await ana.group.feed.call("Who helps?")
    await world.level()
    await ben.group.feed.answer(call.id, "yes")
    await world.level()
    answers, told = await ana.group.feed.answers(call.id), [ben.group.me, chi.group.me]
    silent = {one["member"]: one["seen"] for one in answers_data(answers, told)["silent"]}  # type: ignore[arg-type]
    assert silent == {"Chi": True, "Dee": False}
    assert {one["seen"] for one in answers_data(answers, None)["silent"]} == {None}
    shown_to_people = io.StringIO()
    draw_answers(Screen(shown_to_people), answers, told)  # type: ignore[arg-type]
    assert "has seen it: Chi" in shown_to_people.getvalue()
    assert "not yet: Dee" in shown_to_people.getvalue()


async def test_a_call_moves_its_time_and_is_open_until_then(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    timed = await ana.group.feed.call("By tonight", at(ana, hours=1))
    free = await ana.group.feed.call("Some day")
    question = await ben.group.feed.ask("Who knows a roofer?")
    await world.level()
    assert [post.id for post in await ana.group.feed.asked()] == [question.id, free.id, timed.id]
    ana.skew_ms = DAY_MS
    assert [post.id for post in await ana.group.feed.asked()] == [question.id, free.id]
    assert [post.id for post in await ana.group.feed.asked(everything=True)] == [question.id, free.id, timed.id]
    await ana.group.feed.set_deadline(timed.id, at(ana, days=3))
    assert timed.id in [post.id for post in await ana.group.feed.asked()]
    assert (await ana.group.feed.set_deadline(timed.id, None)).until is None
    ana.skew_ms = 40 * DAY_MS
    assert [post.id for post in await ana.group.feed.asked()] == [question.id]
    with pytest.raises(UsageError):
        await ben.group.feed.set_deadline(timed.id, at(ben, days=90))
    with pytest.raises(UsageError):
        await ana.group.feed.asked(limit=0)


async def test_the_asker_marks_what_helped(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    question = await ana.group.feed.ask("Who knows a roofer?")
    await world.level()
    one = await ben.group.feed.reply(question.id, "Mine is good.")
    two = await ben.group.feed.reply(one.id, "And cheap.")
    other = await ben.group.feed.post("another thread")
    await world.level()
    assert (await ana.group.feed.solve(question.id, one.id, two.id[:8])).solved == (one.id, two.id)
    await world.level()
    assert (await ben.group.feed.get(question.id)).solved == (one.id, two.id)
    assert await ben.group.feed.asked() == []
    assert (await ana.group.feed.solve(question.id, one.id, solved=False)).solved == (two.id,)
    assert (await ana.group.feed.solve(question.id, two.id, solved=False)).solved == ()
    with pytest.raises(UsageError, match="no reply"):
        await ana.group.feed.solve(question.id, other.id)
    with pytest.raises(UsageError, match="no reply"):
        await ana.group.feed.solve(question.id, question.id)
    with pytest.raises(UsageError):
        await ben.group.feed.solve(question.id, one.id)
    with pytest.raises(UsageError, match="no question"):
        await ana.group.feed.solve(other.id, one.id)
    many = [await ana.group.feed.reply(question.id, f"{number}") for number in range(MAX_SOLVING + 1)]
    with pytest.raises(UsageError, match="at most"):
        await ana.group.feed.solve(question.id, *[post.id for post in many])


async def test_what_cannot_be_asked_or_answered_is_said(world: World) -> None:
    (ana,) = await world.group("ana")
    feed = ana.group.feed
    post, call = await feed.post("a post"), await feed.call("a call")
    for act in (feed.answers(post.id), feed.answer(post.id, "yes"), feed.answer(call.id, "perhaps"),
                feed.call("", None), feed.call("late", at(ana, days=-1)),
                feed.call("no zone", datetime(2099, 1, 1)), feed.ask(" ")):  # fmt: skip
        with pytest.raises(UsageError):
            await act
    with pytest.raises(UnknownItemError):
        await feed.answers("00112233")
    assert len(await feed.list()) == 2


async def test_attack_27_33_answers_of_others_and_from_far_times_count_as_what_they_are(world: World) -> None:
    ana, ben, mal = await world.group("ana", "ben", "mal")
    call = await ana.group.feed.call("Who helps?", at(ana, hours=1))
    await world.level()
    await ben.group.feed.answer(call.id, "yes")
    await world.level()
    forger = Forger(mal)
    wanted = bytes.fromhex(call.id)
    values: list[Any] = [
        {"at": 1, "text": "early", "re": wanted, "answer": 1},
        {"at": 2**60, "text": "late", "re": wanted, "answer": 2},
        {"at": 2**61, "text": "odd", "re": wanted, "answer": 3},
        {"at": 2**61, "text": "odd", "re": wanted, "answer": True},
        {"at": 2**61, "text": "no call of mine", "ask": 1, "until": "soon"},
    ]

    def write(root: Any) -> None:
        for number, value in enumerate(values):
            root[f"post:{number}"] = value

    raw = forger.change(forger.feed(), write)
    inject(next(iter(world.relays.values())), ana.replica.epoch, forger.write((forger.feed(), raw)))
    await ana.sync()
    answers = await ana.group.feed.answers(call.id)
    assert shown(answers) == (["Ben"], ["Mal"], [])
    assert answers.no[0].is_late
    assert [post.until for post in await ana.group.feed.asked(everything=True) if post.author == "Mal"] == [None]
