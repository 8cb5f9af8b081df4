"""The relay as one server: routes, lifetime, and what it tells of itself.

`Relay.start` listens, `Relay.stop` drains: what was taken in is stored and answered, every client is told, then the
store closes. No access log; no log line carries an address, topic or hash. Implements specs/relay.md §1 and §9.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import re
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from time import monotonic, time
from typing import Any, Final

from aiohttp import web

from cocoon_core.errors import UsageError
from cocoon_core.protocol.constants import MAX_FRAME_BYTES
from cocoon_core.protocol.frames import FRAME_VERSION, ErrorCode
from cocoon_relay import __version__
from cocoon_relay.config import RelayConfig, origins_of
from cocoon_relay.connection import Connection
from cocoon_relay.doorman import Doorman, Doors
from cocoon_relay.eager_socket import EagerSocket
from cocoon_relay.gate import Gate, Grant
from cocoon_relay.http_blobs import BlobHandlers
from cocoon_relay.http_sync import SyncHandlers
from cocoon_relay.limits import Address
from cocoon_relay.logs import AddressLog, log_event
from cocoon_relay.metrics import CONTENT_TYPE, Metrics
from cocoon_relay.proofs import DatedChallenges
from cocoon_relay.refusal import HTTP_STATUS, Refusal, describe_fault
from cocoon_relay.relay_store import RelayStore
from cocoon_relay.request_proofs import RequestProofs
from cocoon_relay.store import Collected
from cocoon_relay.subscription import Hub
from cocoon_relay.tokens import TOKENS_NAME, TokenBook

_OTHER_VERSION: Final = re.compile(r"/v(?!1/)[0-9]+/")
_TOKEN_HEADER: Final = "Cocoon-Token"
_TOKEN_SECONDS: Final = 2.0  # seconds after which a token that was revoked ends the connections that came in by it
_GRANT: Final = web.RequestKey("grant", Grant)
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Relay:
    """One serving relay. Make it and use it inside one event loop."""

    _requests: SyncHandlers

    def __init__(self, config: RelayConfig, store: RelayStore) -> None:
        self._config = config
        self._store = store
        self._limits = config.limits
        self._metrics = Metrics()
        self._hub = Hub(store.log, self._metrics, config.limits)
        tokens = None if config.is_private else TokenBook(config.data / TOKENS_NAME)
        self._gate = Gate(config.access, config.limits, config.classes, tokens)
        self._doors = Doors(config.limits, self._gate.addresses, count_addresses=not config.behind_proxy)
        self._connections: set[Connection] = set()
        self._address_log = AddressLog(wanted=config.log_addresses)
        self._gc_last: dict[str, float] = {"gc_last_seconds": 0, "gc_last_timestamp_seconds": 0}
        self._draining = False
        self._stopping = False
        self._origins: tuple[str, ...] = ()
        self._runner: web.AppRunner | None = None
        self._servers: list[asyncio.Server] = []
        self._chores: list[asyncio.Task[None]] = []
        self.port = config.port

    @property
    def url(self) -> str:
        """Where clients on this machine reach it."""
        host = self._config.host
        return f"ws://[{host}]:{self.port}" if ":" in host else f"ws://{host}:{self.port}"

    @property
    def connections(self) -> int:
        """Clients that are connected now."""
        return len(self._connections)

    @property
    def origins(self) -> tuple[str, ...]:
        """The names for which proofs are accepted, in normal form."""
        return self._origins

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the address is taken or not of this machine.
        """
        config = self._config
        listeners = _bind(config.host, config.port)
        self.port = listeners[0].getsockname()[1]
        try:
            for host in config.more_hosts:
                listeners += _bind(host, self.port)
        except BaseException:
            for listener in listeners:
                listener.close()
            raise
        hosts = (config.host, *config.more_hosts)
        self._origins = config.origins or tuple(name for host in hosts for name in origins_of(host, self.port))
        app = web.Application(client_max_size=0, middlewares=[self._guard])
        app.router.add_get("/v1/sync", self._sync, allow_head=False)
        if not config.is_private:
            app.router.add_get("/v1/info", self._info)
            app.router.add_get("/healthz", self._health)
            app.router.add_get("/metrics", self._show_metrics)
        challenges = DatedChallenges(await self._store.log.shared_secret())
        proofs = RequestProofs(challenges, _granted, self._origins)
        BlobHandlers(self._store, proofs, self._metrics).add_routes(app)
        self._requests = SyncHandlers(self._store.log, self._hub, proofs, self._metrics)
        if not config.is_private:
            app.router.add_post("/v1/sync", self._requests.post)
        self._runner = web.AppRunner(
            app,
            handle_signals=False,
            access_log=None,
            logger=_mute_logger(),
            auto_decompress=False,
            keepalive_timeout=self._limits.request_seconds,
            lingering_time=2.0,
            shutdown_timeout=self._limits.stop_seconds,
        )
        await self._runner.setup()
        make_inner = self._runner.server
        assert make_inner is not None
        loop = asyncio.get_running_loop()
        if not config.is_private:  # else the loop is another program's
            loop.set_exception_handler(_log_loop_error)
        make_doorman = partial(Doorman, self._doors, make_inner)
        self._servers = [await loop.create_server(make_doorman, sock=one, backlog=1024) for one in listeners]
        self._gate.refresh()
        self._chores = [asyncio.create_task(self._do_chores()), asyncio.create_task(self._follow_tokens())]

    def drain(self) -> None:
        """Tell those who ask after its health that it is about to end; go on serving everybody."""
        self._draining = True

    async def stop(self) -> None:
        """Drain and close. What was acknowledged is on the disk; what was not, the client puts again."""
        self._stopping = True
        for listening in self._servers:
            listening.close()
        for chore in self._chores:
            chore.cancel()
            with suppress(asyncio.CancelledError):
                await chore
        with suppress(TimeoutError):
            async with asyncio.timeout(self._limits.stop_seconds):
                await asyncio.gather(*(connection.shut_down() for connection in list(self._connections)))
        for connection in list(self._connections):
            connection.cut_off()
        if self._runner is not None:
            await self._runner.cleanup()
        await self._store.close()

    # --- handlers

    async def _sync(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() != "websocket" and not self._config.is_private:
            return await self._requests.get(request)
        transport = request.transport
        if transport is None:
            raise ConnectionResetError
        doorman = transport.get_protocol()
        assert isinstance(doorman, Doorman)
        grant = _granted(request)
        behind = self._behind_proxy(request)
        if behind is not None and behind.connections >= self._limits.address_connections:
            raise Refusal(ErrorCode.RATE, "too many connections from this address", retry_after_ms=60_000)
        ws = EagerSocket(
            compress=False,
            autoping=False,  # pings count as messages
            max_msg_size=MAX_FRAME_BYTES,
            timeout=self._limits.stop_seconds / 2,
        )
        await ws.prepare(request)
        connection = Connection(
            transport,
            doorman,
            store=self._store.log,
            hub=self._hub,
            origins=self._origins,
            address=grant.address,
            limits=grant.limits,
            metrics=self._metrics,
            token=grant.token,
            admits=self._config.admits,
        )
        self._connections.add(connection)
        # The doorman has counted whom it can tell apart; a class counts its own.
        accounts = [behind] if behind is not None else []
        if grant.limits is not self._limits:
            accounts.append(grant.address)
        for account in accounts:
            account.connections += 1
        address, begun = self._address_of(request), asyncio.get_running_loop().time()
        self._address_log.connected(address)
        try:
            await connection.run(ws)
        finally:
            self._address_log.gone(address, asyncio.get_running_loop().time() - begun)
            self._connections.discard(connection)
            for account in accounts:
                account.connections -= 1
        return ws

    async def _info(self, request: web.Request) -> web.Response:
        return web.json_response(
            {
                "name": "cocoon-relay",
                "version": __version__,
                "frame_version": FRAME_VERSION,
                "token_required": self._gate.asks_for_token,
                "limits": self._limits.announced(),
            }
        )

    async def _health(self, request: web.Request) -> web.Response:
        if self._draining:
            raise Refusal(ErrorCode.SHUTTING_DOWN, "the relay is about to end", retry_after_ms=1_000)
        await self._store.log.totals()
        return web.Response(text="ok\n")

    async def _show_metrics(self, request: web.Request) -> web.Response:
        totals = await self._store.log.totals()
        now = {
            "connections": self._doors.open,
            "connections_turned_away": self._doors.turned_away,
            "connections_cut_off": self._doors.cut_off,
            "topics_open": len(self._hub.open_handles()),
            "topics": totals.topics,
            "stored_entries": totals.entries,
            "stored_bytes": totals.bytes,
            "stored_blobs": totals.blobs,
            "stored_blob_bytes": totals.blob_bytes,
            "commits": self._store.log.commits,
            "backlog_bytes": self._store.log.backlog_bytes,
            "access_tokens": self._gate.tokens,
            "draining": int(self._draining),
            **self._gc_last,
        }
        free = await self._store.blobs.free_bytes()
        if free is not None:
            now["free_bytes"] = free
        return web.Response(text=self._metrics.render(now), headers={"Content-Type": CONTENT_TYPE})

    @web.middleware
    async def _guard(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Turn refusals into answers, and let nothing of a request reach a log."""
        try:
            if self._stopping:
                raise Refusal(ErrorCode.SHUTTING_DOWN, "the relay is shutting down", retry_after_ms=1_000)
            self._admit(request)
            return await handler(request)
        except Refusal as refusal:
            self._metrics.count_refusal(refusal.code)
            self._address_log.refused(self._address_of(request), refusal.code)
            return _answer_refusal(request, refusal)
        except web.HTTPException as error:
            code = ErrorCode.NOT_FOUND if error.status == 404 else ErrorCode.BAD_FRAME
            if error.status == 404 and _OTHER_VERSION.match(request.path):
                code = ErrorCode.VERSION
            return _answer_refusal(request, Refusal(code, error.reason), error.status)
        except ConnectionError:
            raise
        except Exception as error:
            self._metrics.count("failures")
            log_event("request failed", level=logging.ERROR, fault=describe_fault(error))
            return _answer_refusal(request, Refusal(ErrorCode.BUSY, "the relay failed", retry_after_ms=5_000), 500)

    def _admit(self, request: web.Request) -> None:
        """Note with the request what whoever asks may do, or refuse."""
        now = asyncio.get_running_loop().time()
        address = self._address_of(request)
        self._gate.count_request(address, now)
        if request.path.startswith("/v1/") and request.path != "/v1/info":
            request[_GRANT] = self._gate.admit(request.headers.get(_TOKEN_HEADER), address, now)

    def _behind_proxy(self, request: web.Request) -> Address | None:
        """The account that counts connections of an address, where the doorman sees the proxy's alone."""
        if not self._config.behind_proxy:
            return None
        return self._gate.addresses.find(self._address_of(request), asyncio.get_running_loop().time())

    def _address_of(self, request: web.Request) -> str:
        """Who asks; behind a proxy, whom the proxy says it serves."""
        address = request.remote or ""
        if self._config.behind_proxy:
            forwarded = request.headers.getall("X-Forwarded-For", [])
            if forwarded:
                address = forwarded[-1].rpartition(",")[2].strip()
        return address

    async def _follow_tokens(self) -> None:
        """End the connections that came in by a token that no longer holds."""
        while True:
            await asyncio.sleep(_TOKEN_SECONDS)
            self._gate.refresh()
            ended = [one for one in self._connections if one.token and not self._gate.still_holds(one.token)]
            refusal = Refusal(ErrorCode.TOKEN, "the access token holds no longer")
            for done in await asyncio.gather(*(one.dismiss(refusal) for one in ended), return_exceptions=True):
                if isinstance(done, Exception):
                    log_event("connection not ended", level=logging.ERROR, fault=describe_fault(done))

    async def _do_chores(self) -> None:
        """Renew the leases of what is open, and let the rest run out."""
        while True:
            begun = monotonic()
            try:
                await self._store.log.touch_topics(self._hub.open_handles())
                self._tell_gc(await self._store.gc(), monotonic() - begun)
            except Refusal as refusal:
                self._metrics.count("gc_failures")
                log_event("gc put off", level=logging.WARNING, reason=refusal.message)
            except Exception as error:
                self._metrics.count("gc_failures")
                log_event("gc failed", level=logging.ERROR, fault=describe_fault(error))
            await asyncio.sleep(self._limits.gc_seconds)

    def _tell_gc(self, done: Collected, seconds: float) -> None:
        removed = {"topics": done.topics, "entries": done.entries, "blobs": done.blobs, "files": done.files}
        for name, number in removed.items():
            self._metrics.count(f"gc_{name}", number)
        self._metrics.count("gc_rounds")
        self._gc_last = {"gc_last_seconds": round(seconds, 3), "gc_last_timestamp_seconds": round(time())}
        log_event("gc", seconds=round(seconds, 3), **removed)


def _granted(request: web.Request) -> Grant:
    """What the guard noted with a request."""
    return request[_GRANT]


def _bind(host: str, port: int) -> list[socket.socket]:
    """Sockets for every address that the host's name stands for, all at one port."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise UsageError(f"--listen: {host} is not an address of this machine") from error
    listeners: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in found:
            try:
                listeners.append(_bind_one(socket.socket(family, kind, protocol), address, port))
            except OSError as error:
                # localhost stands for ::1 too, also where a machine has no IPv6.
                if not listeners or error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
            port = listeners[0].getsockname()[1]
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def _bind_one(listener: socket.socket, address: tuple[Any, ...], port: int) -> socket.socket:
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if listener.family is socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((address[0], port, *address[2:]))
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def _answer_refusal(request: web.Request, refusal: Refusal, status: int | None = None) -> web.Response:
    body = {"error": {"code": str(refusal.code), "message": refusal.message}}
    answer = web.json_response(body, status=status or HTTP_STATUS[refusal.code])
    if refusal.retry_after_ms is not None:
        answer.headers["Retry-After"] = str(-(-refusal.retry_after_ms // 1000))
    if not request.content.at_eof():
        answer.force_close()  # the rest of a refused upload is not read
    return answer


def _log_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """The loop's own reports name sockets, and so addresses: keep the kind of the fault alone."""
    error = context.get("exception")
    if isinstance(error, ConnectionError):
        return
    fault = describe_fault(error) if error is not None else "a fault without a name"
    log_event("event loop reports", level=logging.ERROR, fault=fault)


def _mute_logger() -> logging.Logger:
    """aiohttp names the peer in what it logs; the relay counts and logs its own faults instead."""
    logger = logging.Logger("cocoon_relay.http")
    logger.disabled = True
    return logger
