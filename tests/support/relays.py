"""What happens to relays in memory over months: they are wiped, and time passes."""

from __future__ import annotations

from tests.support.memory_relay import MemoryRelay
from tests.support.world import World


def wipe(relay: MemoryRelay) -> None:
    """The relay's directory is deleted, and a fresh one serves at its address."""
    for connection in list(relay.connections):
        connection.end()
    relay.logs.clear()
    relay.blobs.kept.clear()
    relay.blobs.touched.clear()


def age(world: World, days: int) -> None:
    """Time passes for devices and relays, a month at a time."""
    for start in range(0, days, 30):
        passed = min(30, days - start)
        world.now_ms += passed * 86_400_000
        for relay in world.relays.values():
            relay.age(passed)
