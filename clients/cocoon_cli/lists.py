"""`list …`: lists that all members write together, such as what is to be bought. Writing needs no relay."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cocoon_cli.arguments import Commands, JoinWords, plain_text
from cocoon_cli.context import Context, with_group
from cocoon_cli.output import Outcome, Screen
from cocoon_cli.text import count, shorten_id, timestamp
from cocoon_core.errors import UsageError

if TYPE_CHECKING:
    from cocoon_core import Group, ListInfo, SharedList

_LIST_HELP = "a list's name, or its id or the beginning of it"
_ITEM_HELP = "what an item says, or its id or the beginning of it"


def add_commands(commands: Commands) -> None:
    """Add `list` and its commands."""
    family = commands.nest(
        "list",
        "lists that all write together: show, new, add, done, open, edit, move, drop, clear, rename, remove, restore",
        bare=with_group(show_lists),
        list=None,
        removed=False,
    )
    show = family.add(
        "show",
        with_group(show_lists),
        "all lists, or what is on one",
        examples=["cocoon list show", "cocoon list show Shopping"],
    )
    show.add_argument("list", metavar="LIST", nargs="?", help=_LIST_HELP)
    show.add_argument("--removed", action="store_true", help="lists that were put aside too")
    new = family.add(
        "new",
        with_group(new_list),
        "begin a list",
        "Any member may change everything on it.",
        examples=["cocoon list new Shopping", "cocoon list new Shopping milk 'rye bread' eggs"],
    )
    new.add_argument("name", metavar="NAME", type=plain_text, help="what it is called")
    _add_items(new, "*")
    add = family.add(
        "add",
        with_group(add_items),
        "put items on a list, each of one word, or of several in quotes",
        examples=[
            "cocoon list add Shopping milk 'rye bread'",
            "cocoon list add Shopping eggs --before milk",
            "cat list.txt | cocoon list add Shopping -      (a line each)",
        ],
    )
    _add_list(add)
    _add_items(add, "+")
    add.add_argument("--before", metavar="ITEM", help="put them before this item, not at the end")
    done = family.add(
        "done", with_group(tick_items), "tick items off", examples=["cocoon list done Shopping milk 'rye bread'"]
    )
    reopen = family.add("open", with_group(open_items), "take the tick away again")
    drop = family.add(
        "drop", with_group(drop_items), "take items off a list", "What they said stays in the list's history."
    )
    for command in (done, reopen, drop):
        _add_list(command)
        command.add_argument("items", metavar="ITEM", nargs="+", help=_ITEM_HELP)
    clear = family.add("clear", with_group(clear_list), "take all items off that are done")
    _add_list(clear)
    edit = family.add(
        "edit",
        with_group(edit_item),
        "let an item say something else",
        examples=["cocoon list edit Shopping milk oat milk"],
    )
    _add_list(edit)
    edit.add_argument("item", metavar="ITEM", help=_ITEM_HELP)
    edit.add_argument("text", metavar="TEXT", nargs="+", action=JoinWords, help="what it says from now on")
    move = family.add(
        "move",
        with_group(move_item),
        "put an item elsewhere on its list",
        examples=["cocoon list move Shopping eggs --first", "cocoon list move Shopping eggs --before milk"],
    )
    _add_list(move)
    move.add_argument("item", metavar="ITEM", help=_ITEM_HELP)
    where = move.add_mutually_exclusive_group(required=True)
    where.add_argument("--before", metavar="ITEM", help="before this item")
    where.add_argument("--first", action="store_true", help="before all others")
    where.add_argument("--last", action="store_true", help="behind all others")
    rename = family.add("rename", with_group(rename_list), "call a list otherwise, for everybody")
    _add_list(rename)
    rename.add_argument("name", metavar="NAME", nargs="+", action=JoinWords, help="what it is called from now on")
    remove = family.add(
        "remove",
        with_group(remove_list),
        "put a list aside, for everybody",
        "No list shows it, and any member can `restore` it. What it said stays in the history that members hold.",
    )
    _add_list(remove)
    restore = family.add("restore", with_group(restore_list), "take a list out again that was put aside")
    restore.add_argument("list", metavar="ID", help="its id or the beginning of it; `list show --removed` shows them")


def _add_list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("list", metavar="LIST", help=_LIST_HELP)


def _add_items(parser: argparse.ArgumentParser, nargs: str) -> None:
    optional: dict[str, Any] = {"default": []} if nargs == "*" else {}
    parser.add_argument(
        "items",
        metavar="ITEM",
        nargs=nargs,
        type=plain_text,
        **optional,
        help="what is on it; - reads standard input, a line each",
    )


def list_data(found: SharedList) -> dict[str, Any]:
    """A list as scripts see it."""
    return {
        "id": found.id,
        "name": found.name,
        "time": timestamp(found.time),
        "removed": found.removed,
        "items": [
            {
                "id": item.id,
                "text": item.text,
                "time": timestamp(item.time),
                "done": None if item.done is None else timestamp(item.done),
            }
            for item in found.items
        ],
    }


def info_data(one: ListInfo) -> dict[str, Any]:
    """A list without its items as scripts see it."""
    return {
        "id": one.id,
        "name": one.name,
        "time": timestamp(one.time),
        "removed": one.removed,
        "open": one.open,
        "done": one.done,
    }


def draw_list(screen: Screen, found: SharedList) -> None:
    """The name, and a line for each item."""
    screen.line((found.name, "bold"), ("  put aside" if found.removed else "", "dim"), "  ", (found.id[:8], "cyan"))
    for item in found.items:
        mark, style = ("☐ ", "") if item.done is None else ("☑ ", "dim")
        screen.line((mark, style), (item.text, style), "  ", (shorten_id(item.id), "cyan"), indent=2)
    if not found.items:
        screen.line(("nothing yet", "dim"), indent=2)


async def show_lists(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """One list, or all."""
    if args.list is not None:
        return _outcome(await group.lists.get(args.list), [])
    found = await group.lists.all(removed=args.removed)
    rows = [
        (shorten_id(one.id), one.name + (" (put aside)" if one.removed else ""), str(one.open), str(one.done))
        for one in found
    ]
    return Outcome(
        data={"lists": [info_data(one) for one in found]},
        draw=lambda screen: screen.table(("ID", "LIST", "OPEN", "DONE"), rows) if rows else None,
        notes=[] if found else ["There are no lists; `cocoon list new NAME` begins one."],
    )


async def new_list(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Begin a list."""
    return await _changed(await group.lists.new(args.name, _lines(args.items)), group, context)


async def add_items(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Put items on a list."""
    texts = _lines(args.items)
    if not texts:
        raise UsageError("There is nothing to put on the list.")
    return await _changed(await group.lists.add(args.list, *texts, before=args.before), group, context)


def _lines(items: Sequence[str]) -> list[str]:
    """The items that were typed or piped; an empty line is none."""
    return [line for item in items for line in item.splitlines() if line.strip()]


async def tick_items(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Tick items off."""
    return await _changed(await group.lists.tick(args.list, *args.items), group, context)


async def open_items(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Take ticks away."""
    return await _changed(await group.lists.tick(args.list, *args.items, done=False), group, context)


async def drop_items(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Take items off."""
    return await _changed(await group.lists.drop(args.list, *args.items), group, context)


async def clear_list(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Take off what is done."""
    return await _changed(await group.lists.clear(args.list), group, context)


async def edit_item(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Let an item say something else."""
    return await _changed(await group.lists.edit(args.list, args.item, args.text), group, context)


async def move_item(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Put an item elsewhere."""
    before = args.before
    if args.first:
        items = (await group.lists.get(args.list)).items
        before = items[0].id if items else None
    return await _changed(await group.lists.move(args.list, args.item, before), group, context)


async def rename_list(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Call a list otherwise."""
    found = await group.lists.rename(args.list, args.name)
    return await _changed(await group.lists.get(found), group, context)


async def remove_list(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Put a list aside."""
    found = await group.lists.remove(args.list)
    return await context.wrote(
        group, {"id": found}, f"Put aside; `cocoon list restore {shorten_id(found)}` takes it out again."
    )


async def restore_list(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Take a list out again."""
    return await context.wrote(group, {"id": await group.lists.restore(args.list)}, "It is back.")


async def _changed(found: SharedList, group: Group, context: Context) -> Outcome:
    return _outcome(found, await context.notes_on_sending(group))


def _outcome(found: SharedList, notes: Sequence[str]) -> Outcome:
    done = sum(item.done is not None for item in found.items)
    left = [f"{count(done, 'item')} done; `cocoon list clear` takes them off."] if done >= 10 else []
    return Outcome({"list": list_data(found)}, lambda screen: draw_list(screen, found), [*left, *notes])
