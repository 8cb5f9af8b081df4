"""What the processes do that crash tests kill. They come from a fork server that has imported everything."""

from __future__ import annotations

import asyncio
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random

import aiohttp  # noqa: F401  imported before the fork, as all below

from cocoon_core import Cocoon
from cocoon_core.errors import RelayError
from cocoon_core.storage.vault_contents import decode_ref, encode_ref
from cocoon_core.vault.sources import FileSource
from tests.support.storage_children import PASSPHRASE


def post_and_sync(home: Path, seed: int, tell: Connection) -> None:
    """Post, reply, edit and sync in an order that the seed gives, and tell every post as it was acknowledged."""
    asyncio.run(_post_and_sync(home, Random(seed), tell))


async def _post_and_sync(home: Path, chance: Random, tell: Connection) -> None:
    cocoon = await Cocoon.open(home, PASSPHRASE)
    (group,) = cocoon.groups()
    tell.send("open")
    number = 0
    while True:
        act = chance.random()
        if act < 0.55:
            post = await group.feed.post(f"post {number} of {chance.random()}")
            tell.send((post.id, post.text))
            number += 1
        elif act < 0.7:
            newest = await group.feed.list(limit=1)
            if newest:
                post = await group.feed.reply(newest[0].id, f"reply {number} of {chance.random()}")
                tell.send((post.id, post.text))
                number += 1
        elif act < 0.8:
            async with group.document("counted", {"items": dict}).change() as root:
                root["items"][f"{chance.random()}"] = number
        else:
            tell.send("sync")
            try:
                await group.sync()
            except RelayError as error:  # the relay is the test's: it always answers
                tell.send(error)
                raise
            tell.send("synced")


def join_group(home: Path, link: str, tell: Connection) -> None:
    """Join, and tell when it is done."""
    asyncio.run(_join_group(home, link, tell))


async def _join_group(home: Path, link: str, tell: Connection) -> None:
    cocoon = await Cocoon.open(home, PASSPHRASE)
    tell.send("open")
    group = await cocoon.join(link, member_name="Joiner")
    tell.send(("joined", group.id))
    await cocoon.close()


def send_file(home: Path, path: Path, tell: Connection) -> None:
    """Add a file to the vault and send it; its reference is left beside it."""
    asyncio.run(_send_file(home, path, tell))


async def _send_file(home: Path, path: Path, tell: Connection) -> None:
    async with await Cocoon.open(home, PASSPHRASE) as cocoon:
        (group,) = cocoon.groups()
        tell.send("open")
        source = FileSource(path)
        ref = await group._transfers.seal(source)
        source.close()
        with group.replica.database.transaction():
            group._transfers.send(ref)
        path.with_suffix(".ref").write_bytes(encode_ref(ref))
        report = await group.sync()
        tell.send("done" if report.files.sent == 1 or not group._transfers.state(ref).waits_for else report)


def fetch_file(home: Path, path: Path, target: Path, tell: Connection) -> None:
    """Fetch a file that `send_file` sent, and write it."""
    asyncio.run(_fetch_file(home, path, target, tell))


async def _fetch_file(home: Path, path: Path, target: Path, tell: Connection) -> None:
    async with await Cocoon.open(home, PASSPHRASE) as cocoon:
        (group,) = cocoon.groups()
        tell.send("open")
        await group._transfers.write_to(decode_ref(path.with_suffix(".ref").read_bytes()), target, replace=True)
        tell.send("done")
