"""`sync --watch`: stay connected, send what is written meanwhile, show each post and alarm as it comes, until Ctrl-C.

This process holds the profile as long as it watches, so other commands go through it (`holder`).
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from cocoon_cli.context import NOT_SENT, Context
from cocoon_cli.holder import serve_commands
from cocoon_cli.network import watch_network
from cocoon_cli.output import Outcome
from cocoon_cli.text import count
from cocoon_core.errors import OF_THE_PROFILE, LocalStateError, RelayError

if TYPE_CHECKING:
    from cocoon_core import Cocoon, Group


Show = Callable[[Sequence["Group"], "Group"], Coroutine[Any, Any, None]]  # all groups that are watched, and one of them
Beside = Callable[["Group"], Coroutine[Any, Any, None]]

SENT = "Sent."
WAITS = "Not sent yet: the `cocoon sync --watch` that runs sends it as soon as it reaches the relay."
ANSWER_SECONDS = 60.0  # between two looks whether a group let this profile in
SENT_LOOKS = 100  # a command waits no longer to say that what it wrote was sent
_LOOK_SECONDS = 0.02


async def watch_groups(
    cocoon: Cocoon,
    context: Context,
    network: Sequence[str] | None = None,
    *,
    away: bool = False,
    show: Show | None = None,
    beside: Beside | None = None,
) -> Outcome:
    """Show what comes in the chosen groups until the process is asked to end, which is success.

    Args:
        network: exchange with devices of the local network too, by these own addresses; by all, if there are none.
        away: nobody sits before it: others are not shown that their member is here.
        show: shows what comes in one group; posts, items and alarms, if not given.
        beside: goes on in each group besides.
    """
    asked = _asked_to_end()
    async with contextlib.AsyncExitStack() as stack:
        watch = await stack.enter_async_context(Watch(cocoon, context, away=away, show=show, beside=beside))
        await watch.add_groups()
        if network is not None:
            stay = await stack.enter_async_context(watch_network(cocoon, watch.groups, network))
            watch.stay_for(stay)
            context.output.note("Looking for devices on this network too.")
        try:
            await stack.enter_async_context(
                serve_commands(
                    cocoon, replace(context, sending=watch.describe_sending, stay_for=watch.stay_for), watch.look_again
                )
            )
        except LocalStateError as error:
            context.output.note(f"Other commands have to wait until this ends: {error}.")
        context.output.note("Watching; Ctrl-C ends it.")
        await watch.run(asked)
    return Outcome(data={"ended": True}, draw=lambda screen: None)


class Watch:
    """The groups that are watched: those that were chosen; if none was named, also those that are joined meanwhile."""

    def __init__(
        self,
        cocoon: Cocoon,
        context: Context,
        *,
        away: bool = False,
        show: Show | None = None,
        beside: Beside | None = None,
    ) -> None:
        self._cocoon, self._context, self._away = cocoon, context, away
        self._show_in, self._beside = show, beside
        self._groups: list[Group] = []
        self._stopped: set[Group] = set()  # of them, those that cannot go on on this device
        self._showing: set[asyncio.Task[None]] = set()  # and what else has to go on
        self._changed = asyncio.Event()
        self._lost: set[tuple[str, str]] = set()

    async def __aenter__(self) -> Watch:
        return self

    async def __aexit__(self, *error: Any) -> None:
        for task in self._showing:
            task.cancel()
        await asyncio.gather(*self._showing, return_exceptions=True)

    @property
    def groups(self) -> list[Group]:
        return list(self._groups)

    def stay_for(self, work: Coroutine[Any, Any, None]) -> None:
        """Let something go on beside; if it fails, the watch does."""
        self._showing.add(asyncio.create_task(work))

    def look_again(self) -> None:
        """There may be a new group."""
        self._changed.set()

    async def add_groups(self) -> None:
        """Watch what is not watched yet."""
        if not self._cocoon.groups() and self._cocoon.pending_joins():
            return
        for group in self._context.choose_groups(self._cocoon):
            if group not in self._groups:
                self._groups.append(group)
                group.set_present(not self._away)
                shown = self._show_in(self._groups, group) if self._show_in is not None else self._show(group)
                self._showing.add(asyncio.create_task(shown))
                if self._beside is not None:
                    self._showing.add(asyncio.create_task(self._beside(group)))
                self._showing.add(asyncio.create_task(self._watch(group)))

    async def run(self, asked: asyncio.Event) -> None:
        """Go on until asked to end, or until something fails for good."""
        ending = asyncio.create_task(asked.wait())
        entering = asyncio.create_task(self._enter_when_let_in())
        try:
            while not asked.is_set():
                changed = asyncio.create_task(self._changed.wait())
                staying = {*self._showing, entering}
                done, _ = await asyncio.wait({ending, changed, *staying}, return_when=asyncio.FIRST_COMPLETED)
                changed.cancel()
                for task in done & staying:
                    task.result()
                if self._changed.is_set():
                    self._changed.clear()
                    await self.add_groups()
        finally:
            ending.cancel()
            entering.cancel()

    async def _enter_when_let_in(self) -> None:
        """Look every now and then whether a group that was asked has let this profile in."""
        while True:
            for group in await self._cocoon.finish_joins():
                self._context.output.note(f"Members of {group.name} let you in.")
                self.look_again()
            await asyncio.sleep(ANSWER_SECONDS)

    async def _watch(self, group: Group) -> None:
        """Keep one group level. One that is stopped keeps no other from it; when none is left, the watch has ended."""
        try:
            async with group.watch(partial(self._tell_state, group)):
                await asyncio.Event().wait()
        except LocalStateError as error:
            self._stopped.add(group)
            if isinstance(error, OF_THE_PROFILE) or self._stopped.issuperset(self._groups):
                raise
            self._tell_stop(group, error)
            await asyncio.Event().wait()

    def _show(self, group: Group) -> Coroutine[Any, Any, None]:
        from cocoon_cli.arrivals import Arrivals  # loads the core

        return Arrivals(self._context.output, self._groups, group).run()

    def _tell_stop(self, group: Group, error: LocalStateError) -> None:
        output = self._context.output
        if output.as_json:
            output.emit({"group": str(group.id), "error": {"code": error.code, "message": str(error)}})
        else:
            output.note(f"{group.name} is watched no longer, the others are: {str(error).rstrip('.')}.")

    async def describe_sending(self, group: Group) -> str:
        """Whether what was written just now has been sent, given a moment where the relay can be reached."""
        if group not in self._groups or group in self._stopped:
            return NOT_SENT
        if all(identifier != str(group.id) for identifier, _ in self._lost):
            for _ in range(SENT_LOOKS):
                if not group.unsent():
                    break
                await asyncio.sleep(_LOOK_SECONDS)
        if group.unsent():
            return WAITS
        files = group.vault.status().waiting_files
        return f"Sent, but for {count(files, 'file')} that the `cocoon sync --watch` is sending." if files else SENT

    def _tell_state(self, group: Group, url: str, error: RelayError | None) -> None:
        """Say once that a relay is lost, and once that it is level again."""
        place = (str(group.id), url)
        where = f"{group.name}: " if len(self._groups) > 1 else ""
        if error is None and place in self._lost:
            self._lost.discard(place)
            self._context.output.note(f"{where}In sync with {url} again.")
        elif error is not None and place not in self._lost:
            self._lost.add(place)
            self._context.output.note(f"{where}Not in sync with {url}, trying again: {error}.")


def _asked_to_end() -> asyncio.Event:
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, asked.set)
        except NotImplementedError:  # on Windows
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(asked.set))
    return asked
