"""`note …`: texts that all members write together. Writing needs no relay."""

from __future__ import annotations

import argparse
import io
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cocoon_cli.arguments import Commands, JoinWords, plain_text
from cocoon_cli.context import Context, with_group
from cocoon_cli.editor import edit_text
from cocoon_cli.output import Outcome, Output, Screen
from cocoon_cli.text import age, count, shorten_id, timestamp
from cocoon_core.errors import UsageError

if TYPE_CHECKING:
    from cocoon_core import Group, Note

_NOTE_HELP = "a note's name, or its id or the beginning of it"
_TEXT_HELP = "what it says, in one or many words; - reads it from standard input"


def add_commands(commands: Commands) -> None:
    """Add `note` and its commands."""
    family = commands.nest(
        "note",
        "texts that all write together: show, new, edit, append, write, rename, remove, restore",
        bare=SHOW,
        note=None,
        removed=False,
    )
    show = family.add(
        "show", with_group(show_notes), "all notes, or one", examples=["cocoon note show", "cocoon note show Packing"]
    )
    show.add_argument("note", metavar="NOTE", nargs="?", help=_NOTE_HELP)
    show.add_argument("--removed", action="store_true", help="notes that were put aside too")
    new = family.add(
        "new",
        with_group(new_note),
        "begin a note",
        "Any member may change everything in it. Two who write in it at once keep both of what they wrote.",
        examples=["cocoon note new 'House rules' Shoes off.", "cocoon note new Recipe - < recipe.txt"],
    )
    new.add_argument("name", metavar="NAME", type=plain_text, help="what it is called")
    new.add_argument("text", metavar="TEXT", nargs="*", action=JoinWords, default="", help=_TEXT_HELP)
    edit = family.add(
        "edit",
        with_group(edit_note, prepare=_ask_editor),
        "change a note in your editor (VISUAL or EDITOR)",
        "The text lies in a file that only you can read while the editor runs, and is removed then; what the editor "
        "itself keeps stays. What others wrote meanwhile is kept beside what you wrote.",
        examples=["cocoon note edit 'House rules'", "EDITOR=nano cocoon note edit 4f1c93"],
    )
    _add_note(edit)
    append = family.add(
        "append",
        with_group(append_text),
        "put a line at the end of a note",
        examples=["cocoon note append Packing tent pegs"],
    )
    write = family.add(
        "write",
        with_group(write_text),
        "let a note say something else",
        "Only what differs is written.",
        examples=["cocoon note write Packing - < packing.txt"],
    )
    for command in (append, write):
        _add_note(command)
        command.add_argument("text", metavar="TEXT", nargs="+", action=JoinWords, help=_TEXT_HELP)
    rename = family.add("rename", with_group(rename_note), "call a note otherwise, for everybody")
    _add_note(rename)
    rename.add_argument("name", metavar="NAME", nargs="+", action=JoinWords, help="what it is called from now on")
    remove = family.add(
        "remove",
        with_group(remove_note),
        "put a note aside, for everybody",
        "No list shows it, and any member can `restore` it. What it said stays in the history that members hold.",
    )
    _add_note(remove)
    restore = family.add("restore", with_group(restore_note), "take a note out again that was put aside")
    restore.add_argument("note", metavar="ID", help="its id or the beginning of it; `note show --removed` shows them")


def _add_note(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("note", metavar="NOTE", help=_NOTE_HELP)


def note_data(note: Note) -> dict[str, Any]:
    """A note as scripts see it."""
    return {
        "id": note.id,
        "name": note.name,
        "text": note.text,
        "time": timestamp(note.time),
        "edited": timestamp(note.edited),
        "removed": note.removed,
    }


def draw_note(screen: Screen, note: Note) -> None:
    """The name, when it was changed, and the text."""
    marks = [age(note.edited, datetime.now(UTC)), *(["put aside"] if note.removed else [])]
    screen.line((note.name, "bold"), (f"  {' · '.join(marks)}  ", "dim"), (shorten_id(note.id), "cyan"))
    if note.text:
        screen.body(note.text, 2)
    else:
        screen.line(("nothing yet", "dim"), indent=2)


async def show_notes(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """One note, or all."""
    if args.note is not None:
        return _outcome(await group.notes.get(args.note), [])
    found = await group.notes.all(removed=args.removed)
    now = datetime.now(UTC)
    rows = [
        (
            shorten_id(note.id),
            note.name + (" (put aside)" if note.removed else ""),
            count(len(note.text.splitlines()), "line"),
            age(note.edited, now),
        )
        for note in found
    ]
    return Outcome(
        data={"notes": [note_data(note) for note in found]},
        draw=lambda screen: screen.table(("ID", "NOTE", "LENGTH", "CHANGED"), rows) if rows else None,
        notes=[] if found else ["There are no notes; `cocoon note new NAME` begins one."],
    )


SHOW = with_group(show_notes)


async def new_note(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Begin a note."""
    return await _changed(await group.notes.new(args.name, args.text), group, context)


def _ask_editor(context: Context, args: argparse.Namespace) -> Context:
    """Have a person change the text where the call was typed. The profile is not held meanwhile."""
    context = context.unlock()
    note = _fetch(context, args.note)
    text = edit_text(note["text"])
    return replace(context, answers={**context.answers, "note": note["id"], "base": note["text"], "text": text})


def _fetch(context: Context, note: str) -> dict[str, Any]:
    """The note as it is, by a call of its own."""
    output = Output(as_json=True, out=io.StringIO(), err=io.StringIO())
    asked = replace(context, words=("--json", "note", "show", note), output=output)
    outcome = SHOW(asked, argparse.Namespace(note=note, removed=False))
    if isinstance(outcome, Outcome):
        return dict(outcome.data["note"])
    answer = json.loads(outcome.out)
    if outcome.exit_code:
        raise UsageError(answer["error"]["message"])
    return dict(answer["note"])


async def edit_note(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Write what a person made of the text."""
    made = context.answers
    if made["text"] == made["base"]:
        return _outcome(await group.notes.get(made["note"]), ["Nothing was changed."])
    return await _changed(await group.notes.write(made["note"], made["text"], base=made["base"]), group, context)


async def append_text(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Put a line at the end."""
    return await _changed(await group.notes.append(args.note, args.text), group, context)


async def write_text(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Let a note say something else."""
    return await _changed(await group.notes.write(args.note, args.text), group, context)


async def rename_note(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Call a note otherwise."""
    found = await group.notes.rename(args.note, args.name)
    return await _changed(await group.notes.get(found), group, context)


async def remove_note(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Put a note aside."""
    found = await group.notes.remove(args.note)
    return await context.wrote(
        group, {"id": found}, f"Put aside; `cocoon note restore {shorten_id(found)}` takes it out again."
    )


async def restore_note(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Take a note out again."""
    return await context.wrote(group, {"id": await group.notes.restore(args.note)}, "It is back.")


async def _changed(note: Note, group: Group, context: Context) -> Outcome:
    return _outcome(note, await context.notes_on_sending(group))


def _outcome(note: Note, notes: list[str]) -> Outcome:
    return Outcome({"note": note_data(note)}, lambda screen: draw_note(screen, note), notes)
