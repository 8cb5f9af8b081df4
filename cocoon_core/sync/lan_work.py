"""What goes on at once in the exchange over one network. A group that is stopped ends its own work, and no other's.

Spec: specs/lan.md §4.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from cocoon_core.errors import OF_THE_PROFILE, LocalStateError

Group = int  # a group by its number in the profile


class Work:
    """The tasks of some groups, and of all of them. What fails for all, or for the last group, ends everything.

    Attributes:
        stopped: groups that cannot go on on this device, and why.
    """

    def __init__(self, groups: set[Group]) -> None:
        self._groups = groups
        self._tasks: dict[asyncio.Task[None], Group | None] = {}
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.stopped: dict[Group, LocalStateError] = {}

    def start(self, work: Coroutine[Any, Any, None], group: Group | None = None) -> asyncio.Task[None]:
        """Let something go on; if it is for one group, what stops that group is not told to the others."""
        task = asyncio.create_task(work)
        self._tasks[task] = group
        task.add_done_callback(self._ended)
        return task

    async def unless_failed(self, wanted: asyncio.Future[Any]) -> None:
        """Wait for something, or raise what ended everything."""
        both: set[asyncio.Future[Any]] = {wanted, self._failed}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if self._failed.done():
            wanted.cancel()
            self._failed.result()
        await wanted

    async def until_failed(self) -> None:
        """Raises what ends everything; returns never."""
        await asyncio.shield(self._failed)

    async def end(self) -> None:
        """Stop all of it."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if not self._failed.done():
            self._failed.cancel()
        elif not self._failed.cancelled():
            self._failed.exception()

    def _ended(self, task: asyncio.Task[None]) -> None:
        group = self._tasks.pop(task)
        error = None if task.cancelled() else task.exception()
        if error is None:
            return
        if group is not None and isinstance(error, LocalStateError) and not isinstance(error, OF_THE_PROFILE):
            self.stopped.setdefault(group, error)
            for other in [other for other, whose in self._tasks.items() if whose == group]:
                other.cancel()
            if not self._groups <= self.stopped.keys():
                return
        if not self._failed.done():
            self._failed.set_exception(error)
