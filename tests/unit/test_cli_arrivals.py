"""What a watch shows of a group as it comes, for people and for scripts; run in this process."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from cocoon_cli import arrivals
from cocoon_cli.arrivals import Arrivals
from cocoon_cli.output import Output
from tests.support.waits import COMES
from tests.support.world import Seat, World, make_world  # noqa: F401  a fixture


@asynccontextmanager
async def watched(seat: Seat, *, as_json: bool = False) -> AsyncIterator[Callable[[str], Awaitable[str]]]:
    """Gives a function that waits until some words were shown, and gives all that was shown since the last time."""
    out = io.StringIO()
    running = asyncio.create_task(Arrivals(Output(as_json, out=out, err=io.StringIO()), [seat.group], seat.group).run())
    seen = 0

    async def shown(words: str) -> str:
        nonlocal seen
        async with asyncio.timeout(COMES):
            while words not in out.getvalue()[seen:]:
                assert not running.done(), running
                await asyncio.sleep(0)
        found, seen = out.getvalue()[seen:], len(out.getvalue())
        return found

    for _ in range(3):
        await asyncio.sleep(0)
    try:
        yield shown
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_each_kind_is_shown_in_a_line_of_its_own(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    when = datetime.fromtimestamp(world.now_ms / 1000, UTC) + timedelta(days=3)
    mine = await ben.group.feed.post("Soup is ready.")
    await world.level()
    async with watched(ben) as shown:

        async def see(words: str) -> str:
            await world.level()
            return await shown(words)

        post = await ana.group.feed.post("At eight?")
        assert "  At eight?\n" in await see("At eight?")
        await ana.group.feed.edit(post.id, "At nine?")
        assert (await see("At nine?")).splitlines() == [f"Ana  edited  {post.id[:8]}", "  At nine?"]
        await ana.group.feed.pin(mine.id)
        assert await see("pinned") == f"Ben  pinned at the top  {mine.id[:8]}  Soup is ready.\n"
        await ana.group.feed.hide(mine.id)
        assert await see("hidden") == f"Ben  hidden by an admin  {mine.id[:8]}\n"
        await ana.group.feed.unhide(mine.id)
        assert "shown again" in await see("shown again")
        await ana.group.feed.delete(post.id)
        assert "deleted by its author" in await see("deleted")
        shopping = await ana.group.lists.new("Shopping", ["milk", "eggs"])
        line = await see("Shopping")
        assert line == f"Shopping  new list · + milk, eggs · 2 open, 0 done  {shopping.id[:8]}\n"
        await ana.group.lists.tick("Shopping", "milk")
        assert "list · ✓ milk · 1 open, 1 done" in await see("✓")
        await ana.group.notes.new("Rules", "Shoes\noff.")
        assert "Rules  note new · 2 lines" in await see("Rules")
        party = await ana.group.calendar.new("Party", when)
        assert "by Ana" in await see("Party")
        await ana.group.calendar.reply(party.id, "maybe", "if it rains")
        assert await see("may come") == f"Ana  may come to Party (if it rains)  {party.id[:8]}\n"
        await ana.group.profile.set(about="plays the\x1b[2J oboe")
        assert "Ana  says: plays the" in await see("oboe")
        await ben.group.lists.add("Shopping", "my own")
        await ana.group.feed.post("the end")
        assert "my own" not in await see("the end")


async def test_a_burst_is_one_line_for_people_and_all_of_it_for_scripts(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    number = 2 * arrivals.MOST_AT_ONCE
    async with watched(ana, as_json=True) as each, watched(ben) as shown:
        for one in range(number):
            await ana.group.feed.post(f"post {one}")
        await world.level()
        lines = (await shown("Much came")).splitlines()
        assert lines == [f"Much came: {number} posts  `cocoon feed --new` shows the posts."]
        rows = (await each(f"post {number - 1}")).splitlines()
        assert [json.loads(row)["post"]["text"] for row in rows] == [f"post {one}" for one in range(number)]
