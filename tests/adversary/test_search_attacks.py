"""A member who writes so that others' searches fail, mislead or cost without end."""

from __future__ import annotations

import time
from typing import Any

from cocoon_core.protocol.constants import MAX_SEARCH_CHARS
from cocoon_core.social.owned_view import LAST_MS
from tests.support.hostile import Forger, inject
from tests.support.world import Seat, World, make_world  # noqa: F401  a fixture


async def write(world: World, ana: Seat, mal: Seat, posts: dict[str, Any]) -> None:
    """Have ana get posts that no feed writes."""
    forger = Forger(mal)

    def put(root: Any) -> None:
        for key, value in posts.items():
            root[key] = value

    raw = forger.change(forger.feed(), put)
    inject(next(iter(world.relays.values())), ana.replica.epoch, forger.write((forger.feed(), raw)))
    await ana.sync()


async def test_attack_33_times_far_off_neither_hide_nor_outlast_anything(world: World) -> None:
    ana, mal = await world.group("ana", "mal")
    honest = await ana.group.feed.post("soup of ana")
    times = {"post:0": -(10**15), "post:1": 0, "post:2": 10**18, "post:3": LAST_MS, "post:4": LAST_MS - 1}
    await write(world, ana, mal, {key: {"at": at, "text": f"soup {key}"} for key, at in times.items()})
    found = await ana.group.search("soup")
    assert len(found) == 6
    assert [one.time for one in found] == sorted((one.time for one in found), reverse=True)
    assert [one.id for one in await ana.group.search("soup", author=ana.group.me)] == [honest.id]
    around = await ana.group.search("soup", since=honest.time, until=found[2].time)
    assert [one.id for one in around] == [honest.id]
    assert [one.id for one in await ana.group.search("soup", until=honest.time)] == [one.id for one in found[4:]]


async def test_attack_42_a_text_that_grows_when_it_is_spelled_takes_bounded_room(world: World) -> None:
    ana, mal = await world.group("ana", "mal")
    bomb = "\ufdfa" * 60_000  # 18 letters each
    await write(world, ana, mal, {"post:0": {"at": 1, "text": bomb}, "post:1": {"at": 2, "text": "soup"}})
    began = time.process_time()
    assert [one.text for one in await ana.group.search("soup")] == ["soup"]
    assert time.process_time() - began < 5
    words = ana.replica.database.query_value("SELECT max(length(words)) FROM search_texts")
    assert words <= MAX_SEARCH_CHARS + 16


async def test_attack_43_posts_that_share_a_moment_keep_nobody_waiting(world: World) -> None:
    ana, mal = await world.group("ana", "mal")
    honest = await ana.group.feed.post("soup of ana")
    at = int(honest.time.timestamp() * 1000)
    await write(world, ana, mal, {f"post:{n}": {"at": at, "text": f"flood {n}"} for n in range(2_000)})
    began = time.process_time()
    assert [one.id for one in await ana.group.search("soup ana")] == [honest.id]
    assert len(await ana.group.search("flood", limit=1_000)) == 1_000
    assert time.process_time() - began < 5
