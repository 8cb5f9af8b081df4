"""A WebSocket whose messages are offered to a taker where they are parsed, before they wait for a task.

aiohttp hands each message over through a queue, a future and a turn of the task that waits for it: for a put of one
envelope that is as much work as all else that is done with it. Only the queue is another one here, so parsing and its
limits stay aiohttp's. It reaches into parts that aiohttp calls its own: where they are not as they were known,
`is_eager` is False, and every message goes the long way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from aiohttp import WSMessage, WSMsgType, web
from aiohttp.http import WebSocketReader

try:
    from aiohttp._websocket.reader import WebSocketDataQueue
except ImportError:  # it is somewhere else now
    WebSocketDataQueue = object  # type: ignore[assignment, misc]

Taker = Callable[[bytes], bool]  # takes a binary message, or leaves it
_QUEUE_BYTES: Final = 1 << 16  # twice as many wait, and reading is paused: as aiohttp has it


class _Queue(WebSocketDataQueue):
    """Where the parser puts messages."""

    taker: Taker | None = None  # while the receiver waits and nothing is kept for it

    def feed_data(self, data: Any, size: int) -> None:
        taker = self.taker
        if taker is not None:
            if data.type is WSMsgType.BINARY:
                try:
                    if taker(data.data):
                        return
                except Exception:  # noqa: S110  the parser would keep it to itself: it is offered again where it is told
                    pass
            self.taker = None  # what comes now comes after this one, also while this one is taken out
        super().feed_data(data, size)


class EagerSocket(web.WebSocketResponse):
    """Used as a WebSocketResponse, but for `receive_rest`."""

    _queue: _Queue | None = None

    @property
    def is_eager(self) -> bool:
        """Whether messages are offered where they are parsed."""
        return self._queue is not None

    async def receive_rest(self, taker: Taker) -> WSMessage:
        """The next message that is left by `taker`. It is offered those that come while this waits, in their order."""
        queue = self._queue
        while True:
            if queue is not None and not queue._buffer:
                queue.taker = taker
            try:
                message = await self.receive()
            finally:
                if queue is not None:
                    queue.taker = None
            # Those that came while the last one was looked after have waited, unoffered; so do all without this queue.
            if message.type is not WSMsgType.BINARY or not taker(message.data):
                return message

    def _post_start(self, request: web.BaseRequest, protocol: str | None, writer: Any) -> None:
        handler: Any = request.protocol
        spoke_early = bool(getattr(handler, "_message_tail", b"-"))  # before it was greeted: some is parsed already
        super()._post_start(request, protocol, writer)
        if not spoke_early:
            self._become_eager(handler)

    def _become_eager(self, handler: Any) -> None:
        """Put another queue, and a parser that fills it, in the place of those that nothing has come to yet."""
        try:
            queue = _Queue(handler, _QUEUE_BYTES, loop=asyncio.get_running_loop())
            parser = WebSocketReader(queue, self._max_msg_size, bool(self._compress), True)
            if type(handler._payload_parser) is not WebSocketReader or type(self._reader) is not WebSocketDataQueue:
                return
        except (AttributeError, TypeError):
            return
        self._reader = self._queue = queue
        self._parser = handler._payload_parser = parser
