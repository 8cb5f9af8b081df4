"""Devices find each other by real multicast DNS, on the loop of this machine; and in two network namespaces."""

from __future__ import annotations

import asyncio
import secrets

from cocoon_core.protocol.lan import MOST_TOKENS, Instance, make_announcement
from cocoon_core.sync.mdns import MdnsFinder, Sighting
from tests.support.lan import LOCAL


def announcement(instance: Instance) -> dict[bytes, bytes]:
    return make_announcement([], 1, instance, secrets.token_bytes(8 * MOST_TOKENS))


async def heard(finder: MdnsFinder, instance: Instance) -> Sighting:
    """What is heard next of that instance: others may be on this machine."""
    async with asyncio.timeout(30):
        while True:
            sighting = await finder.next_sighting()
            if sighting.instance.nonce == instance.nonce:
                return sighting


async def test_an_instance_is_heard_changed_and_gone() -> None:
    one, two = MdnsFinder([LOCAL]), MdnsFinder([LOCAL])
    instance = Instance(secrets.token_bytes(16), 40_001)
    try:
        listening = asyncio.create_task(heard(two, instance))
        await one.announce(instance, announcement(instance))
        first = await listening
        assert first.instance == instance
        assert first.urls == (f"ws://{LOCAL}:40001",)
        assert first.tokens is not None
        assert len(first.tokens) == 24
        await one.announce(instance, announcement(instance))
        async with asyncio.timeout(30):
            while (second := await heard(two, instance)).tokens == first.tokens:
                pass
        assert second.tokens is not None
        await one.close()
        assert (await heard(two, instance)).tokens is None
    finally:
        await one.close()
        await two.close()
