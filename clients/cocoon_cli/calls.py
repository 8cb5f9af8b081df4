"""`call`, `ask`, `answer`, `solve`, `asked`: posts that want something of the others, and who answered."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from cocoon_cli.arguments import Commands, JoinWords, positive
from cocoon_cli.context import Context, with_group
from cocoon_cli.events import when
from cocoon_cli.output import Outcome, Screen
from cocoon_cli.post_drawing import draw_posts, post_data
from cocoon_cli.posts import written
from cocoon_cli.text import age, shorten_id
from cocoon_core.errors import LocalStateError, UsageError

if TYPE_CHECKING:
    from cocoon_core import CallAnswer, CallAnswers, Group, Post

_CALL_HELP = "the id of a call, or the beginning of it"
_TEXT_HELP = "what to say, in one or many words; - reads it from standard input"


def add_commands(commands: Commands) -> None:
    """Add the commands about calls and questions."""
    call = commands.add(
        "call",
        with_group(write_call),
        "call the circle: a post that asks everybody to act",
        "The others answer yes or no; `cocoon asked ID` shows by name who did, and who did not.",
        examples=[
            "cocoon call Who helps on Saturday? --until '2026-08-01 09:00'",
            "cocoon call 'The vote is open' --until 2026-08-03",
        ],
    )
    call.add_argument("text", metavar="TEXT", nargs="+", action=JoinWords, help=_TEXT_HELP)
    call.add_argument(
        "--until", type=when, metavar="WHEN", help="by when: 2026-12-24 18:00, or 2026-12-24 for the end of that day"
    )
    ask = commands.add(
        "ask",
        with_group(write_question),
        "ask whether anybody knows",
        "Replies answer it (`cocoon reply`); `cocoon solve` marks those that helped.",
        examples=["cocoon ask Does anybody know a good roofer?"],
    )
    ask.add_argument("text", metavar="TEXT", nargs="+", action=JoinWords, help=_TEXT_HELP)
    for asking in (call, ask):
        asking.add_argument("--quote", metavar="ID", help="a post that is shown with it")
    answer = commands.add(
        "answer",
        with_group(write_answer),
        "answer a call, yes or no",
        "Your newest answer counts.",
        examples=["cocoon answer 4f1c93 yes", "cocoon answer 4f1c93 no I am away that weekend."],
    )
    answer.add_argument("call", metavar="CALL", help=_CALL_HELP)
    answer.add_argument("answer", choices=("yes", "no"), help="yes or no")
    answer.add_argument("text", metavar="TEXT", nargs="*", action=JoinWords, default="", help="and words beside it")
    solve = commands.add(
        "solve",
        with_group(solve_question),
        "mark replies as what answers your question",
        examples=["cocoon solve 4f1c93 a07bd2", "cocoon solve 4f1c93 a07bd2 --undo"],
    )
    solve.add_argument("question", metavar="QUESTION", help="the id of your question, or the beginning of it")
    solve.add_argument("replies", metavar="REPLY", nargs="+", help="the id of a reply, or the beginning of it")
    solve.add_argument("--undo", action="store_true", help="take the mark away again")
    asked = commands.add(
        "asked",
        with_group(show_asked),
        "calls and questions that are open, or who answered a call",
        "A call is open until its time is over, or for 30 days; a question as long as no answer is marked.",
        examples=["cocoon asked", "cocoon asked --all", "cocoon asked 4f1c93"],
    )
    asked.add_argument("call", metavar="CALL", nargs="?", help=_CALL_HELP)
    asked.add_argument("--all", action="store_true", help="those that are closed too")
    asked.add_argument("--limit", type=positive, default=50, metavar="N", help="how many (50)")


async def write_call(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Call the circle."""
    post = await group.feed.call(_require_words(args.text), _end_of(args.until), quote=args.quote)
    return await written(post, group, context)


async def write_question(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Ask whether anybody knows."""
    return await written(await group.feed.ask(_require_words(args.text), quote=args.quote), group, context)


async def write_answer(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Answer a call."""
    return await written(await group.feed.answer(args.call, args.answer, args.text), group, context)


def _require_words(text: str) -> str:
    if not text.strip():
        raise UsageError("There is nothing in it: say what you want of the others.")
    return text


def _end_of(until: datetime | date | None) -> datetime | None:
    """A day ends at its midnight, in this machine's time zone."""
    if until is None or isinstance(until, datetime):
        return until
    try:
        return datetime.combine(until + timedelta(days=1), time()).astimezone()
    except (OverflowError, OSError):
        raise UsageError("A call names a day before the end of the year 9999.") from None


async def solve_question(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Mark what answers an own question."""
    post = await group.feed.solve(args.question, *args.replies, solved=not args.undo)
    words = f"Marked: {', '.join(map(shorten_id, post.solved))}." if post.solved else "No answer is marked."
    return await context.wrote(group, {"post": post_data(post)}, words)


async def show_asked(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """What is open, or who answered a call."""
    if args.call is not None:
        answers = await group.feed.answers(args.call)
        told = await group.seen.by(answers.call.id) if answers.call.author_id == group.me else None
        await _note_shown(group, context, [answers.call, *(one.post for one in (*answers.yes, *answers.no))])
        return Outcome(answers_data(answers, told), lambda screen: draw_answers(screen, answers, told or ()))
    posts = await group.feed.asked(args.limit, everything=args.all)
    await _note_shown(group, context, posts)
    notes = [] if posts else ["Nobody asks anything; `cocoon call TEXT` and `cocoon ask TEXT` do."]
    return Outcome(
        data={"posts": [post_data(post) for post in posts]},
        draw=lambda screen: draw_posts(screen, list(reversed(posts))),
        notes=notes,
    )


async def _note_shown(group: Group, context: Context, posts: Sequence[Post]) -> None:
    """What people are shown counts as read. Where that cannot be kept, they are shown it all the same."""
    if context.output.as_json:
        return
    with suppress(LocalStateError):
        await group.feed.note_here(post.id for post in posts if post.unread)
        await group.seen.mark(*(post.id for post in posts if not post.hidden))


def answers_data(answers: CallAnswers, told: Collection[bytes] | None) -> dict[str, Any]:
    """Who answered a call as scripts see it.

    Args:
        told: who told that they have seen it; only who called knows.
    """

    def given(found: Sequence[CallAnswer]) -> list[dict[str, Any]]:
        return [{"late": one.is_late, "post": post_data(one.post)} for one in found]

    return {
        "call": post_data(answers.call),
        "yes": given(answers.yes),
        "no": given(answers.no),
        "silent": [
            {"member": name, "member_id": str(member), "seen": None if told is None else member in told}
            for name, member in answers.silent
        ],
    }


def draw_answers(screen: Screen, answers: CallAnswers, told: Collection[bytes]) -> None:
    """The call, then who said what, and who nothing."""
    draw_posts(screen, [answers.call])
    now = datetime.now(UTC)
    for label, found in (("yes", answers.yes), ("no", answers.no)):
        for one in found:
            marks = [age(one.post.time, now), *(["late"] if one.is_late else [])]
            screen.line(
                (f"{label:<4}", "green" if label == "yes" else "red"),
                (one.post.author, "bold"),
                (f"  {' · '.join(marks)}  ", "dim"),
                (shorten_id(one.post.id), "cyan"),
                indent=2,
            )
            if one.post.text.strip().rstrip(".").lower() != label:
                screen.body(one.post.text, 6)
    for label, names in (
        ("has seen it", [name for name, member in answers.silent if member in told]),
        ("not yet", [name for name, member in answers.silent if member not in told]),
    ):
        if names:
            screen.line((f"{label}: ", "dim"), ", ".join(names), indent=2)
