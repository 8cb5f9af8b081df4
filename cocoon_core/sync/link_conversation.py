"""Carries one linking over the relays of its code: letters into the mailbox, letters out of it, and time.

The two halves of the conversation are `LinkSession`s (protocol/device_link.py); here are only connections, waiting and
the end. Every letter goes to all relays of the code, and one of them suffices. Spec: specs/device-link.md §4.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import aclosing, suppress
from typing import Any, Final

from cocoon_core.errors import LinkingError, RelayError, RelayUnavailable, UntrustedInputError
from cocoon_core.protocol.device_code import DeviceCode
from cocoon_core.protocol.device_link import CompareWords, LinkEffect, LinkEnded, LinkSession, PutLetter
from cocoon_core.protocol.envelope import open_envelope, seal_envelope
from cocoon_core.protocol.link_letters import Reason
from cocoon_core.sync.mailbox import put_mailbox, read_mailbox, watch_mailbox
from cocoon_core.sync.transport import Dial

PATIENCE_SECONDS: Final = 600.0  # without a letter of the other side
END_SECONDS: Final = 5.0  # to tell the other side of the end
RECONNECT_SECONDS: Final = 1.0

Perform = Callable[[LinkEffect], Awaitable[list[LinkEffect]]]


class LinkConversation:
    """One side of one linking, at the relays of its code.

    Args:
        perform: does what an effect asks for and gives the effects that follow; it may wait for a person while words
            are compared, and letters go on being read meanwhile.
    """

    def __init__(self, code: DeviceCode, session: LinkSession, dial: Dial, perform: Perform) -> None:
        self._code, self._session, self._dial, self._perform = code, session, dial, perform
        self._mailbox = code.mailbox()
        self._came: asyncio.Queue[bytes | list[LinkEffect] | BaseException] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._lost: dict[str, RelayError] = {}

    async def is_waited_at(self) -> bool:
        """Whether somebody wrote to this code's mailbox.

        Raises:
            RelayUnavailable: no relay of the code could be reached.
        """
        failures: list[str] = []
        for url in self._code.relays:
            try:
                if await read_mailbox(self._dial, url, self._mailbox):
                    return True
            except RelayError as error:
                failures.append(str(error))
        if len(failures) == len(self._code.relays):
            raise RelayUnavailable("; ".join(failures))
        return False

    async def begin(self) -> None:
        """Say what is said before the other side is there.

        Raises:
            RelayUnavailable: no relay of the code took it.
        """
        await self._do(self._session.start())

    async def run(self, patience: float = PATIENCE_SECONDS) -> None:
        """Converse until the session is done.

        Args:
            patience: seconds without a letter of the other side after which it is given up.

        Raises:
            LinkingError: it ended otherwise; the other side was told, if a relay could be reached.
            RelayUnavailable: no relay of the code can be reached any more.
        """
        for url in self._code.relays:
            self._start(self._watch(url))
        try:
            await self._converse(patience)
        except BaseException as error:
            await self._tell_end(error)
            raise
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _converse(self, patience: float) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + patience
        while not self._session.is_done:
            try:
                async with asyncio.timeout_at(until):
                    came = await self._came.get()
            except TimeoutError as error:
                raise LinkEnded(Reason.STOPPED, self._too_long()) from error
            if isinstance(came, BaseException):
                raise came
            if isinstance(came, bytes):
                known = self._session.heard
                effects = self._session.letter_received(came)
                if self._session.heard > known:
                    until = loop.time() + patience
            else:
                effects = came
            await self._do(effects)

    def _too_long(self) -> str:
        if self._lost.keys() >= set(self._code.relays):
            return (
                f"no relay of the code can be reached: {next(iter(self._lost.values()))}; begin again with a new code"
            )
        who = "the other device fell silent" if self._session.heard else "no other device answered"
        return f"{who} in time; begin again with a new code"

    async def _do(self, effects: Sequence[LinkEffect]) -> None:
        for effect in effects:
            match effect:
                case PutLetter(value):
                    await self._put(value)
                case CompareWords():
                    self._start(self._ask(effect))
                case _:
                    await self._do(await self._perform(effect))

    async def _ask(self, effect: CompareWords) -> None:
        try:
            self._came.put_nowait(await self._perform(effect))
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self._came.put_nowait(error)

    async def _watch(self, url: str) -> None:
        """Every letter that this relay shows, over every loss of the connection."""
        while True:
            try:
                async with aclosing(watch_mailbox(self._dial, url, self._mailbox)) as envelopes:
                    async for envelope in envelopes:
                        self._lost.pop(url, None)
                        with suppress(UntrustedInputError):  # of one who has not the code: the relay
                            self._came.put_nowait(open_envelope(envelope, self._mailbox))
            except RelayError as error:
                self._lost[url] = error
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _put(self, value: bytes) -> None:
        envelope = seal_envelope(value, self._mailbox)
        puts = [put_mailbox(self._dial, url, self._mailbox, envelope) for url in self._code.relays]
        results = await asyncio.gather(*puts, return_exceptions=True)
        failures = [result for result in results if isinstance(result, BaseException)]
        for failure in failures:
            if not isinstance(failure, RelayError):
                raise failure
        if len(failures) == len(puts):
            raise RelayUnavailable("; ".join(map(str, failures)))

    async def _tell_end(self, error: BaseException) -> None:
        """Best effort: the other side would find out by waiting."""
        reason = error.reason if isinstance(error, LinkEnded) else Reason.STOPPED
        if isinstance(error, LinkingError) and self._session.was_ended_by_other:
            return
        with suppress(RelayError, TimeoutError):
            async with asyncio.timeout(END_SECONDS):
                await self._put(self._session.end_letter(reason))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.add(asyncio.create_task(work))
