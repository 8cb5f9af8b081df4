"""The relay by which other devices of the local network reach this one: `cocoon_relay` inside this process.

It lets in only who proves a topic that this device holds, tells strangers nothing, keeps less than a relay does, and is
gone with its data when the command ends. Implements specs/lan.md §4.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from cocoon_relay.config import Admits, RelayConfig
from cocoon_relay.limits import GIB, MIB, Limits
from cocoon_relay.relay_store import RelayStore, open_files
from cocoon_relay.server import Relay
from cocoon_relay.store import Totals

LIMITS = Limits(
    topic_bytes=256 * MIB,
    topic_blob_bytes=4 * GIB,
    address_connections=16,
    address_topics_burst=512,
    address_blob_bytes_burst=4 * GIB,
    connections=64,
    backlog_bytes=16 * MIB,
    stored_bytes=8 * GIB,
)


class LanRelay:
    """A host that listens."""

    def __init__(self, relay: Relay, store: RelayStore) -> None:
        self._relay, self._store = relay, store

    @property
    def port(self) -> int:
        return self._relay.port

    @property
    def url(self) -> str:
        return self._relay.url

    @property
    def connections(self) -> int:
        return self._relay.connections

    async def totals(self) -> Totals:
        """What it keeps in all."""
        return await self._store.log.totals()

    async def stop(self) -> None:
        await self._relay.stop()


async def start_host(folder: Path, addresses: Sequence[str], admits: Admits) -> LanRelay:
    """Listen at these addresses, all at one port that is free.

    Raises:
        OSError: nothing can listen there, or write there.
    """
    logging.getLogger("cocoon_relay").setLevel(logging.CRITICAL)  # this terminal is another program's
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    store = await open_files(folder, LIMITS)
    host, *others = addresses
    relay = Relay(RelayConfig(folder, host, 0, limits=LIMITS, more_hosts=tuple(others), admits=admits), store)
    try:
        await relay.start()
    except BaseException:
        await store.close()
        raise
    return LanRelay(relay, store)
