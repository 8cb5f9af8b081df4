"""`cocoon-relay serve`: from the settings to a serving relay, and to its end."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import sys
from contextlib import suppress
from dataclasses import replace
from typing import Final

from cocoon_relay import __version__, logs
from cocoon_relay.cli_data import bucket_of, hold_lock
from cocoon_relay.config import Access, RelayConfig, is_wildcard, parse_listen
from cocoon_relay.limits import Limits
from cocoon_relay.settings import Settings
from cocoon_relay.tokens import TOKENS_NAME, read_tokens

_RESERVED_DESCRIPTORS: Final = 64  # for the store, uploads and downloads


def serve(options: argparse.Namespace) -> int:
    """Serve until a signal comes."""
    settings: Settings = options.settings
    logs.set_up(settings["log"], settings["log_level"], addresses=settings["log_addresses"])
    host, port = parse_listen(settings["listen"])
    if is_wildcard(host) and not settings["origin"]:
        print(
            "cocoon-relay: without --origin only clients on this machine can prove themselves;"
            " give the URL that others use",
            file=sys.stderr,
        )
    if settings["access"] is Access.TOKEN and not read_tokens(settings["data"] / TOKENS_NAME):
        print("cocoon-relay: no access token yet; `cocoon-relay token new NAME` makes one", file=sys.stderr)
    config = RelayConfig(
        settings["data"],
        host,
        port,
        settings["origin"],
        settings["behind_proxy"],
        access=settings["access"],
        limits=_fit_descriptors(settings.limits),
        classes=settings.classes,
        databases=settings["database"],
        bucket=bucket_of(settings),
        log_addresses=settings["log_addresses"],
    )
    config.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    with hold_lock(config.data):
        asyncio.run(_run(config, options.json))
    return 0


def _fit_descriptors(limits: Limits) -> Limits:
    """Take as many file descriptors as the system gives, and as many connections as they allow."""
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # a sandbox may forbid even this
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most == resource.RLIM_INFINITY:
        return limits
    return replace(limits, connections=max(1, min(limits.connections, most - _RESERVED_DESCRIPTORS)))


async def _run(config: RelayConfig, as_json: bool) -> None:
    from cocoon_relay.relay_store import open_store
    from cocoon_relay.server import Relay

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def end(number: signal.Signals) -> None:
        if stop.is_set():
            os._exit(128 + number)  # asked twice: what was acknowledged is on the disk, nobody else is waited for
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end, number)
    store = await open_store(config.data, config.databases, config.bucket, config.limits)
    relay = Relay(config, store)
    try:
        await relay.start()
        _tell_supervisor("READY=1")
        logs.log_event("ready", version=__version__)
        print(json.dumps({"ready": relay.url}) if as_json else f"relay ready at {relay.url}", flush=True)
        await stop.wait()
        _tell_supervisor("STOPPING=1")
        logs.log_event("draining", seconds=config.limits.drain_seconds, connections=relay.connections)
        relay.drain()
        await asyncio.sleep(config.limits.drain_seconds)
    finally:
        await relay.stop()
        logs.log_event("stopped")


def _tell_supervisor(state: str) -> None:
    """Tell systemd, if it started this with Type=notify (sd_notify(3))."""
    place = os.environ.get("NOTIFY_SOCKET")
    if not place:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender, suppress(OSError):
        sender.connect("\0" + place[1:] if place.startswith("@") else place)
        sender.send(state.encode())
