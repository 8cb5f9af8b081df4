"""Every TCP connection passes here first: how many there may be, and whether the reader keeps up.

A thin protocol around aiohttp's. It counts connections in all and for each address before a byte is parsed, and tells
a writer when the socket takes more, which aiohttp keeps to itself. Implements specs/relay.md §8.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from cocoon_relay.limits import AddressBook, Limits


class Doors:
    """The counts that all doormen share."""

    def __init__(self, limits: Limits, addresses: AddressBook, *, count_addresses: bool) -> None:
        self.limits = limits
        self.addresses = addresses
        self.count_addresses = count_addresses
        self.open = 0
        self.turned_away = 0
        self.cut_off = 0


class Doorman(asyncio.Protocol):
    """Stands between one transport and aiohttp's handler of it."""

    __slots__ = ("_address", "_cut", "_doors", "_heard", "_inner", "_make_inner", "_paused", "_transport", "_waiters")

    def __init__(self, doors: Doors, make_inner: Callable[[], asyncio.Protocol]) -> None:
        self._doors = doors
        self._make_inner = make_inner
        self._inner: asyncio.Protocol | None = None
        self._transport: asyncio.Transport | None = None
        self._address: str | None = None
        self._paused = False
        self._heard = False
        self._cut: asyncio.TimerHandle | None = None
        self._waiters: list[asyncio.Future[None]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        doors = self._doors
        now = asyncio.get_running_loop().time()
        peer = transport.get_extra_info("peername")
        account = doors.addresses.find(str(peer[0]), now) if peer and doors.count_addresses else None
        crowded = account is not None and account.connections >= doors.limits.address_connections
        if doors.open >= doors.limits.connections or crowded:
            doors.turned_away += 1
            transport.abort()
            return
        doors.open += 1
        if account is not None:
            account.connections += 1
            self._address = str(peer[0])
        transport.set_write_buffer_limits(high=doors.limits.connection_buffer_bytes)
        self._transport = transport
        self._inner = self._make_inner()
        self._inner.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._inner is None:
            return
        self._doors.open -= 1
        if self._address is not None:
            self._doors.addresses.find(self._address, asyncio.get_running_loop().time()).connections -= 1
        self._stop_clock()
        self._wake()
        inner, self._inner = self._inner, None
        inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._heard = True
        if self._inner is not None:
            self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received() if self._inner is not None else None

    def pause_writing(self) -> None:
        self._paused = True
        if self._cut is None:
            patience = self._doors.limits.reader_seconds
            self._cut = asyncio.get_running_loop().call_later(patience, self._cut_off)
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._paused = False
        self._stop_clock()
        if self._inner is not None:
            self._inner.resume_writing()
        self._wake()

    @property
    def paused(self) -> bool:
        """Whether more is written than the reader has taken."""
        return self._paused

    def take_heard(self) -> bool:
        """Whether anything came since this was last asked."""
        heard, self._heard = self._heard, False
        return heard

    async def drained(self) -> None:
        """Wait until the reader has taken most of what was written, or has gone."""
        while self._paused and self._inner is not None:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter

    def _cut_off(self) -> None:
        """This reader has not taken in time what was written to it: what waits for it is memory of the others."""
        self._cut = None
        self._doors.cut_off += 1
        if self._transport is not None:
            self._transport.abort()

    def _stop_clock(self) -> None:
        if self._cut is not None:
            self._cut.cancel()
            self._cut = None

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
