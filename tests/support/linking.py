"""Linking a device to another over the relays of a little world: the screens of both, and the people before them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from cocoon_core.device_linking import AcceptReport
from cocoon_core.group import Group
from tests.support.world import Seat


class Screens:
    """What the two devices show, and what their people say."""

    def __init__(self, *, new: bool = True, old: bool = True) -> None:
        self.code: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.words: dict[str, tuple[str, ...]] = {}
        self._says = {"new": new, "old": old}

    def show_code(self, code: str) -> None:
        self.code.set_result(code)

    async def confirm_new(self, words: tuple[str, ...]) -> bool:
        self.words["new"] = words
        return self._says["new"]

    async def confirm_old(self, words: tuple[str, ...]) -> bool:
        self.words["old"] = words
        return self._says["old"]


async def link(
    old: Seat,
    new: Seat,
    *,
    groups: Sequence[Group] = (),
    screens: Screens | None = None,
    relays: Sequence[str] = (),
    patience: float = 30,
) -> tuple[list[Group], AcceptReport, Screens]:
    """Link `new` to `old`; raises what the new side raises, after the old side has ended too."""
    shown = screens or Screens()
    urls = list(relays) or [next(iter(old.world.relays))]
    linking = asyncio.create_task(
        new.running.link_device(urls, show_code=shown.show_code, confirm=shown.confirm_new, patience=patience)
    )
    linking.add_done_callback(lambda _: shown.code.cancel())  # where it failed before there was a code
    accepting = asyncio.create_task(
        old.running.accept_device(await shown.code, confirm=shown.confirm_old, groups=groups, patience=patience)
    )
    results = await asyncio.gather(linking, accepting, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return await linking, await accepting, shown
