"""A local network for tests: announcements reach everybody at once; the hosts behind them are real, on 127.0.0.1."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from cocoon_core.protocol.lan import Instance, read_announcement
from cocoon_core.sync.mdns import Sighting

LOCAL = "127.0.0.1"


class Network:
    """Where announcements are heard. `heard` keeps all that was ever said."""

    def __init__(self) -> None:
        self.finders: list[NetworkFinder] = []
        self.present: dict[bytes, Sighting] = {}
        self.heard: list[Sighting] = []

    def finder(self) -> NetworkFinder:
        return NetworkFinder(self)

    def say(self, sighting: Sighting) -> None:
        self.heard.append(sighting)
        if sighting.tokens is None:
            self.present.pop(sighting.instance.nonce, None)
        else:
            self.present[sighting.instance.nonce] = sighting
        for finder in self.finders:
            finder.queue.put_nowait(sighting)


class NetworkFinder:
    """One device's way to hear and be heard."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._instance: Instance | None = None
        self.queue: asyncio.Queue[Sighting] = asyncio.Queue()
        network.finders.append(self)
        for sighting in network.present.values():
            self.queue.put_nowait(sighting)

    async def announce(self, instance: Instance, record: dict[bytes, bytes]) -> None:
        self._instance = instance
        url = f"ws://{LOCAL}:{instance.port}"
        self._network.say(Sighting(instance, read_announcement(record), (url,)))

    async def next_sighting(self) -> Sighting:
        return await self.queue.get()

    async def close(self) -> None:
        if self in self._network.finders:
            self._network.finders.remove(self)
        if self._instance is not None:
            self._network.say(replace(Sighting(self._instance, None)))
