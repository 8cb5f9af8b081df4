"""`vault`: the group's files, photos, videos and links. Its commands, and those that only ask or change words.

Adding is in vault_add, getting and opening in vault_get.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cocoon_cli.arguments import Commands, JoinWords, add_yes, byte_count, positive
from cocoon_cli.context import Context, with_group
from cocoon_cli.output import Outcome, Screen
from cocoon_cli.text import age, count, shorten_id, size, timestamp
from cocoon_cli.vault_add import add_adding
from cocoon_cli.vault_get import add_getting
from cocoon_cli.vault_items import KINDS, draw_items, item_data
from cocoon_core.errors import UsageError

if TYPE_CHECKING:
    from cocoon_core import Group, VaultItem


def add_commands(commands: Commands) -> None:
    """Add `vault` and its commands."""
    vault = commands.nest(
        "vault",
        "the group's files, photos, videos and links: add, list, get, open, albums, remove, pin, check, status",
    )
    add_adding(vault)
    listing = vault.add(
        "list",
        with_group(list_items),
        "what is in the vault, the newest last",
        "Reads what is on this device: no relay is asked. With --json the newest stands first.",
        examples=[
            "cocoon vault list --kind photo --album Summer",
            "cocoon vault list --search boat --limit 20",
            "cocoon vault list --before 4f1c93      (those that stand before it)",
        ],
    )
    listing.add_argument("--limit", type=positive, default=50, metavar="N", help="how many (50)")
    listing.add_argument("--before", metavar="ID", help="only what is older than this item")
    listing.add_argument("--kind", choices=KINDS, help="only such items")
    listing.add_argument("--album", metavar="NAME", help="only items of this album")
    listing.add_argument("--from", dest="member", metavar="MEMBER", help="only what this member added")
    listing.add_argument("--search", metavar="WORDS", help="only items with these words in name, caption or address")
    add_getting(vault)
    vault.add("albums", with_group(list_albums), "the albums, and how much is in each")
    caption = vault.add(
        "caption",
        with_group(set_caption),
        "say what a file of your own is, or change what was said",
        examples=['cocoon vault caption 4f1c93 "The pier at low tide"', 'cocoon vault caption 4f1c93 ""'],
    )
    caption.add_argument("item", metavar="ID", help="an item's id, or the beginning of it")
    caption.add_argument("text", metavar="TEXT", nargs="+", action=JoinWords, help='the words; "" takes them away')
    album = vault.add(
        "album",
        with_group(set_album),
        "put items of your own into an album, or out of one",
        "An album is a word that items stand under; the last one takes it away.",
        examples=["cocoon vault album Summer 4f1c93 a07bd2", 'cocoon vault album "" 4f1c93'],
    )
    album.add_argument("album", metavar="NAME", help='the album\'s name; "" takes them out of theirs')
    album.add_argument("items", metavar="ID", nargs="+", help="an item's id, or the beginning of it")
    remove = vault.add(
        "remove",
        with_group(remove_items, _ask_to_remove),
        "take items of your own out of the vault",
        "Nobody's list shows it any more, devices let go of their copies, and relays when its lease ends. Its name and "
        "key stay in the history that members hold; --erase lets go of that too, as `cocoon erase` does of posts. What "
        "somebody saved stays.",
        examples=["cocoon vault remove 4f1c93", "cocoon vault remove --erase 4f1c93 a07bd2"],
    )
    remove.add_argument("items", metavar="ID", nargs="+", help="an item's id, or the beginning of it")
    remove.add_argument("--erase", action="store_true", help="let go of its name and key in the history too")
    add_yes(remove)
    status = vault.add(
        "status",
        with_group(show_status),
        "how much is in the vault, how much of it is here, what still has to be sent",
        examples=["cocoon vault status", "cocoon vault status --limit 20GiB"],
    )
    status.add_argument(
        "--limit",
        type=byte_count,
        metavar="SIZE",
        help="keep at most so much on this device of what can be fetched again, of all groups; as 500MiB or 20GiB",
    )


# --- what there is


async def list_items(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """A page of items."""
    member = None if args.member is None else group.find_member(args.member)
    items = await group.vault.items(
        limit=args.limit, before=args.before, kind=args.kind, album=args.album, member=member, text=args.search
    )
    notes = []
    if len(items) == args.limit:
        notes.append(f"There may be more: `--before {shorten_id(items[-1].id)}` goes on.")
    elif not items and any((args.before, args.kind, args.album, args.member, args.search)):
        notes.append("Nothing fits.")
    elif not items:
        notes.append("The vault is empty; `cocoon vault add FILE` fills it, `cocoon sync` fetches what others added.")
    return Outcome(
        data={"items": [item_data(item) for item in items]},
        draw=lambda screen: draw_items(screen, list(reversed(items))),
        notes=notes,
    )


async def list_albums(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """All albums."""
    albums = await group.vault.albums()
    now = datetime.now(UTC)
    rows = [(album.name, count(album.items, "item"), size(album.size), age(album.newest, now)) for album in albums]
    return Outcome(
        data={
            "albums": [
                {"name": album.name, "items": album.items, "bytes": album.size, "newest": timestamp(album.newest)}
                for album in albums
            ]
        },
        draw=lambda screen: screen.table(("ALBUM", "ITEMS", "SIZE", "NEWEST"), rows) if rows else None,
        notes=[] if albums else ["There are no albums; `cocoon vault album NAME ID` puts items of yours into one."],
    )


# --- changing them


async def set_caption(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Say what an own item is."""
    item = await group.vault.edit(args.item, caption=args.text)
    return await _changed(group, context, [item], "Said." if item.caption else "It says nothing more.")


async def set_album(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Put own items into an album."""
    items = [await group.vault.edit(item, album=args.album) for item in args.items]
    where = f"in {items[0].album}" if items[0].album else "in no album"
    return await _changed(group, context, items, f"{count(len(items), 'item')} {where}.")


async def _changed(group: Group, context: Context, items: Sequence[VaultItem], words: str) -> Outcome:
    return await context.wrote(group, {"items": [item_data(item) for item in items]}, words)


def _ask_to_remove(args: argparse.Namespace) -> str:
    return f"{'Erase' if args.erase else 'Remove'} {count(len(set(args.items)), 'item')} for everybody?"


async def remove_items(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Take own items out."""
    ids = await group.vault.remove(*args.items, erase=args.erase)
    notes = ["Relays let go of the bytes when the lease ends; what somebody saved stays."]
    if args.erase:
        notes.append(
            "Name and key leave the others' devices with the next rotation that they follow (`cocoon rotate`)."
        )
    return Outcome(
        data={"removed": ids, "erased": bool(args.erase)},
        draw=lambda screen: screen.line(f"{'Erased' if args.erase else 'Removed'} {count(len(ids), 'item')}."),
        notes=[] if context.output.as_json else [*notes, *await context.notes_on_sending(group)],
    )


# --- how much there is


async def show_status(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Sizes, and what is to be sent; sets the limit where one is given."""
    if args.limit is not None:
        if args.limit < 1:
            raise UsageError("A limit is 1 byte or more.")
        await group.vault.set_limit(args.limit)
    status = group.vault.status()
    limit = size(status.limit)
    lines = [
        f"In the vault: {count(status.items, 'item')}, {size(status.bytes)}.",
        f"On this device: {size(status.here)} of this group; {size(status.here_of_all)} of all, of at most {limit}"
        + (f" and {size(status.pinned)} that is pinned." if status.pinned else "."),
    ]
    if status.waiting_files:
        lines.append(f"To be sent: {count(status.waiting_files, 'file')}, {size(status.waiting_bytes)}.")
    else:
        lines.append("Everything added here was sent.")

    def draw(screen: Screen) -> None:
        for line in lines:
            screen.line(line)

    return Outcome(
        data={
            "items": status.items,
            "bytes": status.bytes,
            "here": status.here,
            "here_of_all_groups": status.here_of_all,
            "pinned": status.pinned,
            "limit": status.limit,
            "waiting": {"files": status.waiting_files, "bytes": status.waiting_bytes},
        },
        draw=draw,
        notes=["`cocoon sync` sends what waits."] if status.waiting_files else [],
    )
