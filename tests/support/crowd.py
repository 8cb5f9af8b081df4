"""A crowd: many members of one group, each with a device and a profile of its own, in this process and on one loop.

They come in by a link, all watch one relay, and write in turns of chance. How long a post takes is counted from the
call of `feed.post` until another device, which `Group.events` told of it, has read it out of its feed.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from cocoon_core import Cocoon, DocumentChanged, Group
from cocoon_core.errors import RelayError
from tests.benchmarks.text import Writer

MOST_POSTS: Final = 1_000_000
ROUNDS: Final = 4  # passes in which all become level


@dataclass(frozen=True, slots=True)
class Told:
    """What became of some posts.

    Attributes:
        delays: seconds from each post to each other device's feed.
        seconds: from the first post to the last one's.
        late: the longest that a post began after it was due: this process had no time for it.
    """

    posts: int
    delays: list[float]
    seconds: float
    late: float


class Crowd:
    """Devices that are in the same group, and in no other."""

    def __init__(self, cocoons: Sequence[Cocoon]) -> None:
        self._cocoons = cocoons
        self.groups: list[Group] = []
        self._began: dict[str, tuple[int, float]] = {}  # by post: whose, and when
        self._shown: dict[str, dict[int, float]] = {}  # by post: when each device had it in its feed
        self._lacking = 0
        self._moved = asyncio.Event()

    def open(self) -> None:
        """Take the groups of profiles that are in one."""
        self.groups = [group for cocoon in self._cocoons for group in cocoon.groups()]

    async def found(self, url: str) -> list[float]:
        """Make the group, and let all others join by its link, one after the other; the seconds that each took."""
        first, *others = self._cocoons
        group = await first.create_group(
            "Crowd", member_name="Member 0", relays=[url], max_members=len(self._cocoons), vouches=0
        )
        link = await group.invite(uses=len(others), expires_in=timedelta(days=1))
        await group.sync()
        taken = []
        for number, cocoon in enumerate(others, 1):
            began = time.perf_counter()
            await cocoon.join(link, member_name=f"Member {number}")
            taken.append(time.perf_counter() - began)
        self.open()
        return taken

    async def settle(self) -> None:
        """Have all know all, with the link closed and the epoch after it begun."""
        for _ in range(ROUNDS):
            for group in self.groups:
                await group.sync()
            if self.is_level():
                return
        raise RuntimeError(f"after {ROUNDS} passes some members lack what others have")

    def is_level(self) -> bool:
        """All have the same roster and epoch, and there is nobody whom it is to be closed to."""
        seen = {(len(group.members()), group.replica.epoch.topic) for group in self.groups}
        return (
            len(seen) == 1
            and next(iter(seen))[0] == len(self.groups)
            and not any(invite.open for group in self.groups for invite in group.invites())
            and all(group.replica.epochs.current.followed for group in self.groups)
        )

    # --- live

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """All are level and connected inside the block, and see what comes."""
        async with AsyncExitStack() as stack:
            levels = [asyncio.Event() for _ in self.groups]
            for group, level in zip(self.groups, levels, strict=True):
                await stack.enter_async_context(group.watch(_set_when_level(level)))
            tasks = [asyncio.create_task(self._look(place)) for place in range(len(self.groups))]
            try:
                for level in levels:
                    await level.wait()
                yield
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _look(self, place: int) -> None:
        """What somebody does who is shown each new post."""
        group = self.groups[place]
        async for event in group.events():
            if isinstance(event, DocumentChanged) and not event.own:
                for post in await group.feed.changed(event):
                    shown = self._shown.setdefault(post.id, {})
                    if place not in shown:
                        shown[place] = time.perf_counter()
                        self._lacking -= 1
                self._moved.set()

    async def write(self, posts: int, rate: float, seed: int) -> Told:
        """Let members write, `rate` posts a second in all; returns when every device shows every post."""
        rng, writer = random.Random(seed), Writer(seed)
        began, late, written = time.perf_counter(), 0.0, []
        for number in range(posts):
            due = began + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            place = rng.randrange(len(self.groups))
            now = time.perf_counter()
            late = max(late, now - due)
            self._lacking += len(self.groups) - 1
            post = await self.groups[place].feed.post(writer.write_post())
            self._began[post.id] = place, now
            written.append(post.id)
        seconds = time.perf_counter() - began
        while self._lacking:
            self._moved.clear()
            await self._moved.wait()
        delays = [at - self._began[post][1] for post in written for at in self._shown[post].values()]
        return Told(posts, delays, seconds, late)

    async def feeds(self) -> list[list[str]]:
        """What each device shows, by id, newest first."""
        return [[post.id for post in await group.feed.list(limit=MOST_POSTS)] for group in self.groups]


def _set_when_level(level: asyncio.Event) -> Callable[[str, RelayError | None], None]:
    def note(_: str, error: RelayError | None) -> None:
        if error is None:
            level.set()

    return note
