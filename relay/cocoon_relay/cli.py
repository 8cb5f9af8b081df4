"""`cocoon-relay serve | stats | gc | drop`: one command that says when it is ready, and why when it is not.

Errors are one sentence on standard error and a non-zero exit: 2 for a wrong call, 6 for what this machine does not
allow. Implements relay/README.md.
"""

from __future__ import annotations

import argparse
import asyncio
import errno
import json
import logging
import signal
import sqlite3
import sys
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from time import gmtime, strftime
from typing import TYPE_CHECKING, Final, NoReturn

from cocoon_core.errors import CocoonError, LocalStateError, MalformedError, ProfileLockedError, UsageError
from cocoon_core.protocol.ids import TopicId
from cocoon_relay import __version__
from cocoon_relay.config import RelayConfig, is_wildcard, parse_listen, parse_origin
from cocoon_relay.limits import DAY, Limits
from cocoon_relay.sqlite_schema import DATABASE_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOCK_NAME: Final = "relay.lock"
_RESERVED_DESCRIPTORS: Final = 64  # for the store, uploads and downloads


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in words
    try:
        options = _make_parser().parse_args(words)
    except UsageError as error:
        return _fail(error, str(error), as_json)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(message)s")
    try:
        code: int = options.run(options)
        return code
    except CocoonError as error:
        return _fail(error, str(error), as_json)
    except (OSError, sqlite3.Error) as error:
        return _fail(LocalStateError(), _explain(error, options), as_json)


def _fail(error: CocoonError, message: str, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"error": {"code": error.code, "message": message}}), flush=True)
    else:
        print(f"cocoon-relay: {message}", file=sys.stderr)
    return error.exit_code


class _Parser(argparse.ArgumentParser):
    """Raises instead of printing a usage text and exiting."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (`{self.prog} --help` shows how)")


def _folder(value: str) -> Path:
    if not value.strip():
        raise argparse.ArgumentTypeError("this is empty; give the name of a folder")
    return Path(value)


def _make_parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="cocoon-relay", description="Stores and forwards what it cannot read, for Cocoon groups.")
    parser.add_argument("--version", action="version", version=f"cocoon-relay {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="serve until SIGINT or SIGTERM")
    serve.add_argument("--listen", default="127.0.0.1:8787", metavar="HOST:PORT", help="default 127.0.0.1:8787")
    serve.add_argument("--data", type=_folder, required=True, metavar="DIR", help="where everything is kept")
    serve.add_argument(
        "--origin", action="append", default=[], metavar="URL", help="the URL that clients use; may be given again"
    )
    serve.add_argument("--behind-proxy", action="store_true", help="take addresses from the last X-Forwarded-For")
    serve.add_argument("--tokens", type=Path, metavar="FILE", help="ask for an access token, one a line in FILE")
    serve.add_argument("--max-bytes", type=int, default=0, metavar="BYTES", help="keep no more than this (0: no limit)")
    serve.add_argument("--json", action="store_true", help="the ready line and errors as one JSON object each")
    _add_leases(serve)
    serve.set_defaults(run=_serve)

    stats = commands.add_parser("stats", help="what is kept")
    stats.add_argument("--data", type=_folder, required=True, metavar="DIR")
    stats.add_argument("--json", action="store_true", help="one JSON object")
    stats.set_defaults(run=_stats)

    gc = commands.add_parser("gc", help="remove what outlived its lease, also beside a serving relay")
    gc.add_argument("--data", type=_folder, required=True, metavar="DIR")
    gc.add_argument("--json", action="store_true", help="one JSON object")
    _add_leases(gc)
    gc.set_defaults(run=_gc)

    drop = commands.add_parser("drop", help="let go of topics now, whatever their lease, while no relay serves them")
    drop.add_argument("--data", type=_folder, required=True, metavar="DIR")
    drop.add_argument("--sealed", action="store_true", help="all that have ended")
    drop.add_argument("topics", nargs="*", metavar="TOPIC", help="their ids, as `stats` shows them")
    drop.add_argument("--json", action="store_true", help="one JSON object")
    drop.set_defaults(run=_drop)
    return parser


def _add_leases(parser: argparse.ArgumentParser) -> None:
    defaults = Limits()
    for name, seconds, what in (
        ("topic", defaults.topic_lease, "a topic that nobody touches"),
        ("sealed", defaults.sealed_topic_lease, "the last envelope of a sealed topic"),
        ("blob", defaults.blob_lease, "a blob that nobody names"),
    ):
        days = seconds // DAY
        parser.add_argument(
            f"--{name}-days", type=int, default=days, metavar="DAYS", help=f"keep {what} so long (default {days})"
        )


def _make_limits(options: argparse.Namespace) -> Limits:
    if min(options.topic_days, options.sealed_days, options.blob_days) < 1:
        raise UsageError("a lease is at least one day")
    most = getattr(options, "max_bytes", 0)
    if most < 0:
        raise UsageError(f"--max-bytes is a number of bytes, or 0 for no limit, not {most}")
    return Limits(
        topic_lease=options.topic_days * DAY,
        sealed_topic_lease=options.sealed_days * DAY,
        blob_lease=options.blob_days * DAY,
        stored_bytes=most,
    )


# --- serve


def _serve(options: argparse.Namespace) -> int:
    host, port = parse_listen(options.listen)
    origins = tuple(parse_origin(origin) for origin in options.origin)
    if is_wildcard(host) and not origins:
        print(
            "cocoon-relay: without --origin only clients on this machine can prove themselves;"
            " give the URL that others use",
            file=sys.stderr,
        )
    tokens = _read_tokens(options.tokens)
    limits = _fit_descriptors(_make_limits(options))
    config = RelayConfig(options.data, host, port, origins, options.behind_proxy, tokens, limits)
    options.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _hold_lock(options.data):
        asyncio.run(_run(config, options.json))
    return 0


def _fit_descriptors(limits: Limits) -> Limits:
    """Take as many file descriptors as the system gives, and as many connections as they allow."""
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if most == resource.RLIM_INFINITY:
        return limits
    return replace(limits, connections=max(1, min(limits.connections, most - _RESERVED_DESCRIPTORS)))


async def _run(config: RelayConfig, as_json: bool) -> None:
    from cocoon_relay.server import Relay
    from cocoon_relay.sqlite_store import SqliteStore

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    store = await SqliteStore.open(config.data, config.limits)
    relay = Relay(config, store)
    try:
        await relay.start()
        print(json.dumps({"ready": relay.url}) if as_json else f"relay ready at {relay.url}", flush=True)
        await stop.wait()
    finally:
        await relay.stop()


def _read_tokens(path: Path | None) -> frozenset[str]:
    if path is None:
        return frozenset()
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    tokens = frozenset(sha256(line.encode()).hexdigest() for line in lines if line and not line.startswith("#"))
    if not tokens:
        raise UsageError(f"{path} holds no token")
    return tokens


@contextmanager
def _hold_lock(data: Path) -> Iterator[None]:
    """One serving relay for one data directory."""
    import fcntl

    with (data / _LOCK_NAME).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ProfileLockedError(f"another relay is serving {data}") from error
        yield


# --- stats and gc


def _stats(options: argparse.Namespace) -> int:
    from cocoon_relay.sqlite_store import read_stats

    _require_data(options.data)
    totals, topics = read_stats(options.data)
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


def _gc(options: argparse.Namespace) -> int:
    from cocoon_relay.sqlite_store import SqliteStore

    _require_data(options.data)

    async def collect() -> dict[str, int]:
        store = await SqliteStore.open(options.data, _make_limits(options), exclusive=False)
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


def _drop(options: argparse.Namespace) -> int:
    from cocoon_relay.sqlite_store import SqliteStore

    _require_data(options.data)
    if bool(options.topics) == options.sealed:
        raise UsageError("name topics, or give --sealed for all that have ended")
    try:
        topics = None if options.sealed else {TopicId(bytes.fromhex(topic)) for topic in options.topics}
    except (ValueError, MalformedError) as error:
        raise UsageError("a topic is named by 64 hex digits, as `cocoon-relay stats` shows it") from error

    async def let_go() -> int:
        store = await SqliteStore.open(options.data, Limits())
        try:
            return (await store.drop(topics)).topics
        finally:
            await store.close()

    with _hold_lock(options.data):
        removed = asyncio.run(let_go())
    print(json.dumps({"removed": {"topics": removed}}) if options.json else f"removed {removed} topics")
    return 0


def _require_data(data: Path) -> None:
    if not (data / DATABASE_NAME).is_file():
        raise UsageError(f"{data} is not the data directory of a relay")


def _show_time(seconds: int) -> str:
    return strftime("%Y-%m-%dT%H:%MZ", gmtime(seconds))


def _explain(error: OSError | sqlite3.Error, options: argparse.Namespace) -> str:
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return f"{options.listen} is in use by another program; give another --listen"
    if isinstance(error, OSError) and error.errno == errno.EADDRNOTAVAIL:
        return f"{options.listen} is not an address of this machine; give another --listen"
    if isinstance(error, PermissionError) and error.filename is None:
        return f"this user may not listen at {options.listen}; give a port above 1023"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename} cannot be used: {error.strerror}"
    return f"{options.data} cannot be used: {error}"


if __name__ == "__main__":
    sys.exit(main())
