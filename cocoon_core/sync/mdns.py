"""Announcing and finding on a local network by multicast DNS: the one importer of zeroconf. Implements specs/lan.md §3.

What is heard is a stranger's: names, ports, addresses and texts are checked here, and bounded in number. Names that
other programs announce are passed over.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address
from typing import TYPE_CHECKING, Any, Protocol

from cocoon_core.errors import LocalStateError, MalformedError, UsageError
from cocoon_core.protocol.lan import SERVICE_TYPE, Instance, read_announcement, read_instance

if TYPE_CHECKING:
    from zeroconf import Zeroconf
    from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

MOST_HEARD = 256  # instances that are kept in mind; the one heard longest ago goes first
MOST_ADDRESSES = 4  # of one instance
RESOLVE_MS = 3_000  # for the address of a name that was heard
MOST_RESOLVING = 16  # names at once


@dataclass(frozen=True, slots=True)
class Sighting:
    """Somebody on the network: what they announce, and where they say they listen. Nothing of it is proved.

    `tokens` is None for one that took leave.
    """

    instance: Instance
    tokens: frozenset[bytes] | None
    urls: tuple[str, ...] = ()


class Finder(Protocol):
    """Announces this device and finds others."""

    async def announce(self, instance: Instance, record: dict[bytes, bytes]) -> None:
        """Say this from now on, in place of what was said before."""
        ...

    async def next_sighting(self) -> Sighting:
        """The next that is heard: new, or announced anew, or gone."""
        ...

    async def close(self) -> None:
        """Take leave."""
        ...


class MdnsFinder:
    """A finder on some interfaces, given by their own IPv4 addresses."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = tuple(addresses)
        self._accepts_loopback = all(ip_address(address).is_loopback for address in addresses)
        self._zeroconf: AsyncZeroconf | None = None
        self._browser: AsyncServiceBrowser | None = None
        self._info: AsyncServiceInfo | None = None
        self._heard: asyncio.Queue[Sighting] = asyncio.Queue(MOST_HEARD)
        self._known: OrderedDict[str, Instance] = OrderedDict()
        self._resolving: dict[str, asyncio.Task[None]] = {}

    async def announce(self, instance: Instance, record: dict[bytes, bytes]) -> None:
        from zeroconf.asyncio import AsyncServiceInfo

        zeroconf = self._open()
        info = AsyncServiceInfo(
            SERVICE_TYPE,
            f"{instance.name}.{SERVICE_TYPE}",
            addresses=[ip_address(address).packed for address in self._addresses],
            port=instance.port,
            properties=dict(record),
            server=f"{instance.name}.local.",
        )
        try:
            if self._info is None:
                await (await zeroconf.async_register_service(info))
            else:
                await (await zeroconf.async_update_service(info))
        except Exception as error:
            raise LocalStateError(f"this device cannot be announced on the network: {error!r}") from error
        self._info = info

    async def next_sighting(self) -> Sighting:
        from zeroconf.asyncio import AsyncServiceBrowser

        if self._browser is None:
            zeroconf = self._open().zeroconf
            self._browser = AsyncServiceBrowser(zeroconf, SERVICE_TYPE, handlers=[self._changed])
        return await self._heard.get()

    async def close(self) -> None:
        for task in list(self._resolving.values()):
            task.cancel()
        await asyncio.gather(*self._resolving.values(), return_exceptions=True)
        zeroconf, self._zeroconf = self._zeroconf, None
        if zeroconf is None:
            return
        with suppress(Exception):  # the network may have gone; there is nothing to be saved
            if self._browser is not None:
                await self._browser.async_cancel()
            await zeroconf.async_unregister_all_services()
        with suppress(Exception):
            await zeroconf.async_close()

    def _open(self) -> AsyncZeroconf:
        if self._zeroconf is None:
            try:
                from zeroconf import IPVersion
                from zeroconf.asyncio import AsyncZeroconf
            except ImportError as error:
                raise UsageError("finding devices needs the package zeroconf: install cocoon-sync[lan]") from error
            logging.getLogger("zeroconf").setLevel(logging.CRITICAL)  # it quotes what strangers sent
            try:
                self._zeroconf = AsyncZeroconf(interfaces=list(self._addresses), ip_version=IPVersion.V4Only)
            except OSError as error:
                raise LocalStateError(f"multicast DNS cannot be used on this network: {error.strerror}") from error
        return self._zeroconf

    # --- what is heard

    def _changed(self, zeroconf: Zeroconf, service_type: str, name: str, state_change: Any) -> None:
        from zeroconf import ServiceStateChange

        label = name.removesuffix("." + SERVICE_TYPE)
        if state_change is ServiceStateChange.Removed:
            gone = self._known.pop(label, None)
            if gone is not None:
                self._tell(Sighting(gone, None))
        elif label not in self._resolving and len(self._resolving) < MOST_RESOLVING and len(label) == 32:
            task = asyncio.ensure_future(self._resolve(zeroconf, name, label))
            self._resolving[label] = task
            task.add_done_callback(lambda _: self._resolving.pop(label, None))

    async def _resolve(self, zeroconf: Zeroconf, name: str, label: str) -> None:
        from zeroconf.asyncio import AsyncServiceInfo

        info = AsyncServiceInfo(SERVICE_TYPE, name)
        with suppress(MalformedError, OSError, ValueError):
            if not await info.async_request(zeroconf, RESOLVE_MS):
                return
            instance = read_instance(label, info.port or 0)
            tokens = read_announcement({key: value for key, value in info.properties.items() if key is not None})
            urls = tuple(f"ws://{address}:{instance.port}" for address in self._usable(info.parsed_addresses()))
            if urls:
                self._known[label] = instance
                self._known.move_to_end(label)
                while len(self._known) > MOST_HEARD:
                    self._known.popitem(last=False)
                self._tell(Sighting(instance, tokens, urls))

    def _usable(self, addresses: Sequence[str]) -> list[str]:
        """Those where a device of this network can be: no announcement may send this device anywhere else."""
        found = []
        for text in addresses:
            address = ip_address(text.partition("%")[0])
            if isinstance(address, IPv4Address) and (
                address.is_loopback if self._accepts_loopback else is_of_a_local_network(address)
            ):
                found.append(text)
        found.sort(key=self._nearness, reverse=True)  # of several, the one in a network of this machine's own
        return found[:MOST_ADDRESSES]

    def _nearness(self, address: str) -> int:
        """How many leading bits an address has in common with one of this machine's own."""
        number = int(IPv4Address(address))
        return max(32 - (number ^ int(IPv4Address(own))).bit_length() for own in self._addresses)

    def _tell(self, sighting: Sighting) -> None:
        if self._heard.full():
            self._heard.get_nowait()
        self._heard.put_nowait(sighting)


def is_of_a_local_network(address: IPv4Address) -> bool:
    """Whether an address is one of a private or link-local network, and not this machine's own loop."""
    return address.is_private and not (
        address.is_loopback or address.is_multicast or address.is_unspecified or address.is_reserved
    )


def local_addresses() -> list[str]:
    """This machine's own IPv4 addresses on local networks.

    Raises:
        LocalStateError: it is on none.
        UsageError: the packages for it are not installed.
    """
    try:
        import ifaddr
    except ImportError as error:
        raise UsageError("finding devices needs the package zeroconf: install cocoon-sync[lan]") from error
    found = []
    for adapter in ifaddr.get_adapters():
        for ip in adapter.ips:
            if isinstance(ip.ip, str) and is_of_a_local_network(IPv4Address(ip.ip)):
                found.append(ip.ip)
    if not found:
        raise LocalStateError("this machine is on no local network (no private IPv4 address)")
    return sorted(set(found))
