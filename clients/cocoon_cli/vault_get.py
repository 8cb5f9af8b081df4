"""`vault get`, `open`, `pin`, `unpin`, `check`: what needs the bytes of items."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cocoon_cli.arguments import Commands, file
from cocoon_cli.bars import ByteProgress
from cocoon_cli.context import Context, with_group, with_profile
from cocoon_cli.output import Outcome, Screen
from cocoon_cli.text import as_sentence, count, shorten_id, size
from cocoon_core.errors import LocalStateError, RelayUnavailable, UsageError

if TYPE_CHECKING:
    from cocoon_core import ByteProgress as Far
    from cocoon_core import CheckStep, Cocoon, Group, OpenedFile, Transfer, VaultItem

PRIVATE = "Whoever knows this address has the file, as long as it is served; it leads nowhere from other devices."
NOT_SHOWN = "A browser does not show this ({}): it saves it. `cocoon vault get` does so without one."


def add_getting(vault: Commands) -> None:
    """Add the commands."""
    get = vault.add(
        "get",
        with_group(get_items),
        "save files of the vault as files of yours, decrypted",
        "What is not on this device is fetched. A file is saved under its own name into the current folder, or into "
        "the folder or under the name that -o gives; nothing is replaced without --force.",
        examples=[
            "cocoon vault get 4f1c93",
            "cocoon vault get 4f1c93 -o holiday.mp4",
            "cocoon vault get 4f1c93 a07bd2 -o ~/Downloads",
            "cocoon vault get --album Summer -o summer",
        ],
        broken_off="Broken off. What came is kept: the same command goes on from there.",
    )
    get.add_argument("items", metavar="ID", nargs="*", help="an item's id, or the beginning of it")
    get.add_argument("--album", metavar="NAME", help="all of an album")
    get.add_argument("-o", "--output", type=file, metavar="PATH", help="a file's name, or a folder")
    get.add_argument("--force", action="store_true", help="replace a file of the name that -o gives")
    opening = vault.add(
        "open",
        with_profile(open_item, stays=lambda args: False),
        "serve a file to a program of this device, to be played or seeked in without saving it",
        "It is decrypted in memory as it is asked for, and only those parts are fetched. The address holds a random "
        "token, answers on 127.0.0.1 alone, and ends with the command. What the file is, is told by its bytes: only "
        "pictures, films and sound are shown in a page, anything else is offered to be saved, and no other program is "
        "started.",
        examples=[
            "cocoon vault open 4f1c93 --browser",
            "cocoon vault open 4f1c93      (and give the address to a player)",
        ],
    )
    opening.add_argument("item", metavar="ID", help="an item's id, or the beginning of it")
    opening.add_argument("--browser", action="store_true", help="show it in your browser, if that can show it")
    pin = vault.add(
        "pin",
        with_group(pin_items),
        "keep files on this device, whatever the limit, and fetch them now",
        examples=["cocoon vault pin 4f1c93", "cocoon vault pin --album Summer"],
        broken_off="Broken off. It is pinned, and what came is kept: `cocoon sync` fetches the rest.",
    )
    unpin = vault.add("unpin", with_group(unpin_items), "let files go when the room is needed")
    for command in (pin, unpin):
        command.add_argument("items", metavar="ID", nargs="*", help="an item's id, or the beginning of it")
        command.add_argument("--album", metavar="NAME", help="all of an album")
    vault.add(
        "check",
        with_group(check_vault),
        "ask every relay for all files, and put again what one lost and this device has",
        "Renews every lease on the way, and reads all that is on this device anew. What a relay lacks and this device "
        "has not either, is put again by a device that has it, when its member runs this.",
        broken_off="Broken off. What was put again stays; what is still lacking, the next `cocoon sync` goes on with.",
    )


async def _chosen(group: Group, args: argparse.Namespace) -> list[str]:
    """The ids of what was named."""
    if bool(args.items) == (args.album is not None):
        raise UsageError("Name items by id, or an album with --album; not both.")
    if args.album is None:
        return list(dict.fromkeys([(await group.vault.item(reference)).id for reference in args.items]))
    found = await group.vault.items(limit=1_000_000, album=args.album)
    if not found:
        raise UsageError(f"There is no album {args.album!r}; `cocoon vault albums` lists them.")
    return [item.id for item in found if item.kind != "link"]


async def get_items(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Fetch and save."""
    ids = await _chosen(group, args)
    target = context.locate(args.output) if args.output is not None else context.folder
    if len(ids) > 1 and not target.is_dir():
        if target.exists():
            raise UsageError(f"{target} is a file; give a folder for {count(len(ids), 'item')}.")
        target.mkdir(parents=True)
    elif len(ids) == 1 and target.is_file() and not args.force:
        raise UsageError(f"There is a file {target} already; --force replaces it.")
    elif not target.parent.is_dir():
        raise UsageError(f"There is no folder {target.parent}.")
    saved: list[tuple[VaultItem, Path]] = []
    items = [await group.vault.item(reference) for reference in ids]
    total, before = sum(item.size for item in items), 0
    with context.output.byte_progress("Fetching") as bar:
        for number, item in enumerate(items, start=1):
            what = item.name if len(ids) == 1 else f"{number}/{len(ids)} {item.name}"

            def tell(far: Far, what: str = what, before: int = before, size: int = item.size) -> None:
                bar(before + far.done * size // max(far.total, 1), total, what)

            saved.append((item, await group.vault.get(item.id, target, replace=args.force, progress=tell)))
            before += item.size

    def draw(screen: Screen) -> None:
        for item, path in saved:
            screen.line((shorten_id(item.id), "cyan"), f"  {path}", (f"  {size(item.size)}", "dim"))

    data: dict[str, Any] = {"items": [{"id": item.id, "path": str(path)} for item, path in saved]}
    return Outcome(data | ({"path": str(saved[0][1])} if len(saved) == 1 else {}), draw)


def _show(bar: ByteProgress, what: str, far: Far) -> None:
    bar(far.done, far.total, what)


async def open_item(cocoon: Cocoon, context: Context, args: argparse.Namespace) -> Outcome:
    """Serve a file to a program of this device, until nobody asks any more."""
    from cocoon_cli.vault_serving import IDLE_SECONDS, serve_file

    group = context.choose_group(cocoon)
    opened = await group.vault.open(args.item)
    minutes = int(IDLE_SECONDS // 60)
    if context.stay_for is not None:
        started: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        context.stay_for(_serve_beside(opened, started))
        url = await started
        note = f"The `cocoon sync --watch` that runs serves it, until nobody has asked for {minutes} minutes."
        return Outcome(_opened_data(opened, url), lambda screen: screen.line(url), [note, PRIVATE])
    async with serve_file(opened) as server:
        url = server.url()
        if context.output.as_json:
            context.output.emit(_opened_data(opened, url))
        else:
            context.output.screen().line(url)
            context.output.note(PRIVATE, f"Served until Ctrl-C, or until nobody has asked for {minutes} minutes.")
            context.output.note(*_start_browser(opened, url, args))
            context.output.out.flush()
        with contextlib.suppress(asyncio.CancelledError):  # Ctrl-C
            await server.wait_until_idle()
    return Outcome({"ended": True}, lambda screen: None)


def _start_browser(opened: OpenedFile, url: str, args: argparse.Namespace) -> list[str]:
    """Show it in the browser, where a person asked for it and a browser can show it."""
    if not args.browser:
        return ["--browser opens it in your browser."] if opened.inline else [NOT_SHOWN.format(opened.mime)]
    if not opened.inline:
        return [NOT_SHOWN.format(opened.mime)]
    import webbrowser

    return [] if webbrowser.open(url) else ["No browser could be started; open the address yourself."]


async def _serve_beside(opened: OpenedFile, started: asyncio.Future[str]) -> None:
    """What a watch goes on with; a failure is told to who asked, and ends no watch."""
    from cocoon_cli.vault_serving import serve_file

    try:
        async with serve_file(opened) as server:
            started.set_result(server.url())
            await server.wait_until_idle()
    except OSError as error:
        if not started.done():
            started.set_exception(LocalStateError(f"Nothing can be served on 127.0.0.1: {error.strerror}."))


def _opened_data(opened: OpenedFile, url: str) -> dict[str, Any]:
    return {"url": url, "name": opened.name, "mime": opened.mime, "size": opened.size, "inline": opened.inline}


async def pin_items(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Keep what was named here."""
    ids = await _chosen(group, args)
    with context.output.byte_progress("Fetching") as bar:
        await group.vault.pin(*ids, progress=partial(_show, bar, ""))
    return Outcome({"pinned": ids}, lambda screen: screen.line(f"Kept on this device: {count(len(ids), 'item')}."))


async def unpin_items(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Let it go when the room is needed."""
    ids = await _chosen(group, args)
    await group.vault.unpin(*ids)
    return Outcome({"unpinned": ids}, lambda screen: screen.line(f"No longer pinned: {count(len(ids), 'item')}."))


async def check_vault(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Ask all relays, and mend."""
    with context.output.byte_progress("") as bar:

        def tell(one: Transfer) -> None:
            what = f"Putting again {group.vault.name_of(one.file) or 'a small picture'}"
            far = one.progress
            bar(far.done, far.total, what, part=(one.relay, one.file), is_moving=far.rate > 0)

        def tell_step(step: CheckStep) -> None:
            if step.relay:
                bar.files(step.done, step.total, f"Asking {step.relay}")
            else:
                bar(step.done, step.total, "Reading what is on this device")

        report = await group.vault.check(tell, tell_step)
    lines, notes = [], []
    for relay in report.relays:
        if relay.error is not None:
            lines.append(as_sentence(relay.error if relay.url in relay.error else f"{relay.url}: {relay.error}"))
        elif relay.still_lacking:
            lines.append(f"{relay.url}: lacks {count(relay.still_lacking, 'file')} of {relay.files}.")
        elif relay.lacking:
            lines.append(f"{relay.url}: has all {count(relay.files, 'file')}; {relay.lacking} had to be put again.")
        else:
            lines.append(f"{relay.url}: has all {count(relay.files, 'file')}.")
    if report.damaged:
        lines.append(
            f"This device's disk had damaged {count(report.damaged, 'chunk')}; they are fetched again when needed."
        )
    if any(relay.still_lacking for relay in report.relays):
        notes.append(
            "What is lacking is not on this device either: who has it puts it again with `cocoon vault check`."
        )

    def draw(screen: Screen) -> None:
        for line in lines:
            screen.line(line)

    failed = any(relay.error is not None for relay in report.relays)
    lacks = any(relay.still_lacking for relay in report.relays)
    return Outcome(
        data={
            "relays": [
                {
                    "url": relay.url,
                    "files": relay.files,
                    "put_again": relay.lacking - relay.still_lacking,
                    "lacking": relay.still_lacking,
                    "error": relay.error,
                }
                for relay in report.relays
            ],
            "damaged": report.damaged,
        },
        draw=draw,
        notes=notes,
        exit_code=RelayUnavailable.exit_code if failed else LocalStateError.exit_code if lacks else 0,
    )
