"""`cocoon-relay stats`, `gc` and `drop`: what an operator asks of a data directory, mostly beside a serving relay."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from time import gmtime, strftime, time
from typing import Final

from cocoon_core.errors import MalformedError, ProfileLockedError, UsageError
from cocoon_core.protocol.ids import TopicId
from cocoon_relay.limits import Limits
from cocoon_relay.relay_store import open_log, open_store
from cocoon_relay.settings import FILES, Settings
from cocoon_relay.sqlite_schema import DATABASE_NAME
from cocoon_relay.sqlite_store import read_stats
from cocoon_relay.store import TopicStats, Totals

_LOCK_NAME: Final = "relay.lock"


@contextmanager
def hold_lock(data: Path) -> Iterator[None]:
    """One serving relay for one data directory."""
    import fcntl

    with (data / _LOCK_NAME).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ProfileLockedError(f"another relay is serving {data}") from error
        yield


def bucket_of(settings: Settings) -> str | None:
    """Where blobs are, if not in files."""
    return None if settings["blobs"] == FILES else settings["blobs"]


def find_data(options: argparse.Namespace) -> Path:
    """The data directory, which must be one, unless the topics are elsewhere."""
    data: Path = options.settings["data"]
    if not options.settings["database"] and not (data / DATABASE_NAME).is_file():
        raise UsageError(f"{data} is not the data directory of a relay")
    return data


def stats(options: argparse.Namespace) -> int:
    """Topics and blobs: how many, and how large."""
    data = find_data(options)
    databases = options.settings["database"]
    totals, topics = asyncio.run(_read_stats(databases)) if databases else read_stats(data)
    if options.json:
        shown = [
            {
                "id": topic.topic.hex(),
                "entries": topic.entries,
                "bytes": topic.bytes,
                "sealed": topic.sealed,
                "touched": _show_time(topic.touched),
            }
            for topic in topics
        ]
        print(json.dumps({"topics": shown, "blobs": {"count": totals.blobs, "bytes": totals.blob_bytes}}))
        return 0
    for topic in topics:
        state = "sealed" if topic.sealed else "open"
        print(
            f"{topic.topic.hex()}  {topic.entries:>8} entries  {topic.bytes:>12} bytes  {state:<6}  "
            f"{_show_time(topic.touched)}"
        )
    print(f"{totals.topics} topics, {totals.entries} entries, {totals.bytes} bytes")
    print(f"{totals.blobs} blobs, {totals.blob_bytes} bytes")
    return 0


async def _read_stats(databases: Sequence[str]) -> tuple[Totals, list[TopicStats]]:
    log = await open_log(Path(), databases, Limits(), time)
    try:
        return await log.totals(), await log.topic_stats()
    finally:
        await log.close()


def gc(options: argparse.Namespace) -> int:
    """Remove what outlived its lease."""
    data = find_data(options)

    async def collect() -> dict[str, int]:
        settings: Settings = options.settings
        store = await open_store(data, settings["database"], bucket_of(settings), settings.limits, exclusive=False)
        try:
            done = await store.gc()
        finally:
            await store.close()
        return {"topics": done.topics, "entries": done.entries, "blobs": done.blobs, "files": done.files}

    removed = asyncio.run(collect())
    if options.json:
        print(json.dumps({"removed": removed}))
    else:
        print("removed " + ", ".join(f"{count} {name}" for name, count in removed.items()))
    return 0


def drop(options: argparse.Namespace) -> int:
    """Let go of topics."""
    data = find_data(options)
    if bool(options.topics) == options.sealed:
        raise UsageError("name topics, or give --sealed for all that have ended")
    try:
        topics = None if options.sealed else {TopicId(bytes.fromhex(topic)) for topic in options.topics}
    except (ValueError, MalformedError) as error:
        raise UsageError("a topic is named by 64 hex digits, as `cocoon-relay stats` shows it") from error

    async def let_go() -> int:
        log = await open_log(data, options.settings["database"], Limits(), time)
        try:
            return (await log.drop(topics)).topics
        finally:
            await log.close()

    # Relays that serve a database look whether a topic is still there; of SQLite one process alone does.
    with nullcontext() if options.settings["database"] else hold_lock(data):
        removed = asyncio.run(let_go())
    print(json.dumps({"removed": {"topics": removed}}) if options.json else f"removed {removed} topics")
    return 0


def _show_time(seconds: int) -> str:
    return strftime("%Y-%m-%dT%H:%MZ", gmtime(seconds))
