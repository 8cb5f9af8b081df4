"""`vault add`: files, folders and links into the vault."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cocoon_cli.arguments import Commands
from cocoon_cli.context import Context, with_group
from cocoon_cli.output import Outcome, Screen
from cocoon_cli.text import count, shorten_id, size
from cocoon_cli.vault_items import item_data
from cocoon_core.errors import StorageFullError, UsageError

if TYPE_CHECKING:
    from cocoon_core import AddedFile, AddProgress, AddReport, Group, VaultItem

LISTED = 20  # files that are told one by one
_PAGES = ("http://", "https://")
_FULL = (
    "There is no room on this device's disk, or it takes nothing more. What was added by then stays; the same command "
    "goes on with the rest when there is room."
)


def add_adding(vault: Commands) -> None:
    """Add `vault add`."""
    add = vault.add(
        "add",
        with_group(add_things),
        "put files, all files of folders, or links into the vault",
        "Everything is sealed on this device first, so no relay is needed; `cocoon sync` sends it. What photos, films "
        "and sound say of place, device and maker is taken out of what is added; your own file stays as it is. The "
        "files of a folder come into an album of its name. What was broken off goes on with the same command; what is "
        "there already is not added twice.",
        examples=[
            "cocoon vault add holiday.mp4 notes.pdf",
            "cocoon vault add Pictures/Summer --caption 'By the sea'",
            "cocoon vault add scan.jpg --album Papers --keep-metadata",
            "cocoon vault add https://example.org/recipe --title 'Plum cake' --preview",
        ],
        broken_off="Broken off. What was added stays, and the same command goes on with the rest.",
    )
    add.add_argument("things", metavar="PATH|URL", nargs="+", help="a file, a folder, or the address of a page")
    add.add_argument("--caption", default="", metavar="TEXT", help="what to say of all of them; of a link, your note")
    add.add_argument("--album", metavar="NAME", help="the album for all of them")
    add.add_argument(
        "--keep-metadata",
        action="store_true",
        help="leave in the files what they say of place, device and maker: everybody in the group gets it",
    )
    add.add_argument("--title", default="", metavar="TEXT", help="what a link is called")
    add.add_argument(
        "--preview",
        action="store_true",
        help="fetch a link's page for its title and picture, from this device alone: its server sees your address",
    )


async def add_things(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Add links and files, in this order."""
    links = [thing for thing in args.things if thing.lower().startswith(_PAGES)]
    paths = [context.locate(Path(thing)) for thing in args.things if thing not in links]
    if (args.title or args.preview) and paths:
        raise UsageError("--title and --preview are for links; these are files. --caption says what a file is.")
    items: list[VaultItem] = []
    for url in links:
        items.append(
            await group.vault.add_link(url, title=args.title, note=args.caption, album=args.album, preview=args.preview)
        )
    report: AddReport | None = None
    if paths:
        with context.output.byte_progress("Sealing") as bar:

            def tell(far: AddProgress) -> None:
                name = far.path.name if far.of == 1 else f"{far.number}/{far.of} {far.path.name}"
                bar(far.progress.done, far.progress.total, name)

            try:
                report = await group.vault.add_all(
                    paths, caption=args.caption, album=args.album, keep_metadata=args.keep_metadata, progress=tell
                )
            except StorageFullError as error:
                raise StorageFullError(_FULL) from error
        items += [one.item for one in report.added]
    return await _outcome(group, context, items, report)


async def _outcome(group: Group, context: Context, items: list[VaultItem], report: AddReport | None) -> Outcome:
    files = {one.item.id: one for one in report.added} if report is not None else {}
    skipped = [] if report is None else list(report.skipped)
    if skipped and not items:
        raise skipped[0].error if len(skipped) == 1 else UsageError(_all_skipped(report))
    notes = [f"Not added: {one.path.name}: {one.error}" for one in skipped[:LISTED]]
    if len(skipped) > LISTED:
        notes.append(f"… and {count(len(skipped) - LISTED, 'more file')} that could not be added.")
    notes += _notes_on_metadata(list(files.values()))

    def draw(screen: Screen) -> None:
        for item in items[:LISTED]:
            added = files.get(item.id)
            marks = [size(item.size)] if item.kind != "link" else []
            marks += [item.album] if item.album else []
            if added is not None:
                marks += ["was there already"] if added.existed else []
                marks += [f"taken out: {', '.join(added.removed)}"] if added.removed else []
            screen.line(
                (shorten_id(item.id), "cyan"),
                f"  {item.kind:<5}  ",
                (item.name, "bold"),
                (f"  {' · '.join(marks)}", "dim"),
            )
        if len(items) > LISTED:
            screen.line(f"… and {len(items) - LISTED} more: {count(len(items), 'item')} in all.")

    data: dict[str, Any] = {
        "items": [item_data(item) | _file_data(files.get(item.id)) for item in items],
        "skipped": [{"path": str(one.path), "code": one.error.code, "message": str(one.error)} for one in skipped],
    }
    exit_code = UsageError.exit_code if skipped else 0
    return Outcome(data, draw, [*notes, *await context.notes_on_sending(group)], exit_code)


def _file_data(added: AddedFile | None) -> dict[str, Any]:
    if added is None:
        return {}
    return {
        "path": str(added.path),
        "existed": added.existed,
        "removed": list(added.removed),
        "left": list(added.left),
        "note": added.note,
    }


def _all_skipped(report: AddReport | None) -> str:
    assert report is not None, "there are some"
    first = "; ".join(str(one.error) for one in report.skipped[:3])
    return f"None of {count(len(report.skipped), 'file')} could be added: {first}"


def _notes_on_metadata(added: list[AddedFile]) -> list[str]:
    """What was not taken out, told once for all files that it is so of."""
    notes = []
    left = sorted({words for one in added for words in one.left})
    if left:
        which = [one.item.name for one in added if one.left]
        shown = ", ".join(which[:3]) + (f" and {len(which) - 3} more" if len(which) > 3 else "")
        notes.append(f"May still be in {shown}: {', '.join(left)}.")
    notes += [f"No small picture of {one.item.name}: {one.note}." for one in added if one.note][:LISTED]
    return notes
