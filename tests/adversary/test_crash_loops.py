"""kill -9 at any moment of a post, a sync or a join: what was acknowledged is there, once, here and elsewhere."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from random import Random
from typing import Any

import pytest

from cocoon_core import Cocoon
from cocoon_core.group import Group
from cocoon_core.storage.passphrase import COST_FLOOR
from cocoon_core.storage.profile import Profile
from tests.support.crash_children import join_group, post_and_sync
from tests.support.forks import a_child, make_forks
from tests.support.relay_process import RelayProcess
from tests.support.storage_children import PASSPHRASE

KILLS = 200
KILLS_OF_JOINS = 25
SEED = 44_09


@pytest.fixture(scope="module")
def forks() -> ForkServerContext:
    return make_forks()


def drain(pipe: Connection) -> list[Any]:
    """All that the child could still tell before it died."""
    told = []
    try:
        while True:
            told.append(pipe.recv())
    except EOFError:
        return told


def tell_undisturbed(forks: ForkServerContext, home: Path, count: int) -> tuple[list[Any], float]:
    """What a child tells that is not killed before it told that much, and the seconds that each took here and now."""
    with a_child(forks, post_and_sync, home, SEED) as (_, pipe):
        pipe.recv()
        started = time.monotonic()
        told = [pipe.recv() for _ in range(count)]
        return told, (time.monotonic() - started) / count


async def make_pair(folder: Path, url: str) -> tuple[Path, Cocoon, Group]:
    """A group of two: the home of the one that is going to be killed, and the other one, open."""
    for name in ("ana", "ben"):
        Profile.create(folder / name, PASSPHRASE, cost=COST_FLOOR).close()
    async with await Cocoon.open(folder / "ana", PASSPHRASE) as ana:
        group = await ana.create_group("Family", member_name="Ana", relays=[url])
        link = await group.invite()
        await group.sync()
        ben = await Cocoon.open(folder / "ben", PASSPHRASE)
        other = await ben.join(link, member_name="Ben")
        await group.sync()
    return folder / "ana", ben, other


async def texts_of(group: Group) -> Counter[tuple[str, str]]:
    found: Counter[tuple[str, str]] = Counter()
    for post in await group.feed.list(limit=1_000_000):
        for item in await group.feed.thread(post.id):
            found[item.id, item.text] += 1
    return found


@pytest.mark.long
def test_attack_44_kill_at_any_moment_of_a_post_or_a_sync(tmp_path: Path, forks: ForkServerContext) -> None:
    print(f"seed {SEED}")
    chance = Random(SEED)
    acknowledged: list[tuple[str, str]] = []
    last_words: Counter[str] = Counter()
    with RelayProcess(tmp_path / "relay") as relay, asyncio.Runner() as runner:
        home, ben, seen_by_ben = runner.run(make_pair(tmp_path, relay.url))
        told, pace = tell_undisturbed(forks, home, 30)
        acknowledged += [item for item in told if isinstance(item, tuple)]
        for kill in range(KILLS):
            if kill % 10 == 0:  # something to receive
                runner.run(seen_by_ben.feed.post(f"of ben, before kill {kill}"))
                runner.run(seen_by_ben.sync())
            with a_child(forks, post_and_sync, home, chance.randrange(2**32)) as (child, pipe):
                told = [pipe.recv()]
                deadline = time.monotonic() + pace * chance.choice([2, 12, 60]) * chance.random()
                while (left := deadline - time.monotonic()) > 0:
                    if pipe.poll(left):
                        told.append(pipe.recv())
                assert child.is_alive(), told
                child.kill()
                told += drain(pipe)
            assert not any(isinstance(item, Exception) for item in told), told
            acknowledged += [item for item in told if isinstance(item, tuple)]
            last_words[next(item for item in reversed(told) if isinstance(item, str))] += 1

        async def look() -> None:
            async with await Cocoon.open(home, PASSPHRASE) as ana:
                (group,) = ana.groups()
                before = await texts_of(group)
                assert max(before.values()) == 1, "a post stands twice"
                assert set(acknowledged) <= set(before), "an acknowledged post is lost"
                await group.sync()
                assert group.unsent() == 0
                await seen_by_ben.sync()
                assert await texts_of(seen_by_ben) == await texts_of(group)
                assert set(acknowledged) <= set(await texts_of(seen_by_ben))
                assert group.alarms() == [] == seen_by_ben.alarms()
                assert (
                    group.document("counted", {"items": dict}).read().to_python()
                    == seen_by_ben.document("counted", {"items": dict}).read().to_python()
                )

        runner.run(look())
        runner.run(ben.close())
    print(f"{len(acknowledged)} posts were acknowledged; killed after: {dict(last_words)}")
    assert len(acknowledged) > KILLS
    assert min(last_words[word] for word in ("open", "sync", "synced")) > 0


def test_attack_44_kill_at_any_moment_of_a_join(tmp_path: Path, forks: ForkServerContext) -> None:
    print(f"seed {SEED}")
    chance = Random(SEED)
    with RelayProcess(tmp_path / "relay") as relay, asyncio.Runner() as runner:
        _, ben, group = runner.run(make_pair(tmp_path, relay.url))
        for number in range(KILLS_OF_JOINS):
            link = runner.run(group.invite(uses=1)) if len(group.members()) < 8 else None
            if link is None:
                break
            runner.run(group.sync())
            home = tmp_path / f"joiner{number}"
            Profile.create(home, PASSPHRASE, cost=COST_FLOOR).close()
            for _ in range(3):
                with a_child(forks, join_group, home, link) as (child, pipe):
                    pipe.recv()
                    deadline = time.monotonic() + 0.05 * chance.random()
                    while (left := deadline - time.monotonic()) > 0:
                        try:
                            if pipe.poll(left):
                                pipe.recv()
                        except EOFError:
                            break
                    child.kill()

            async def finish(home: Path = home, link: str = link) -> None:
                async with await Cocoon.open(home, PASSPHRASE) as cocoon:
                    joined = cocoon.groups()
                    joiner = joined[0] if joined else await cocoon.join(link, member_name="Joiner")
                    await joiner.sync()
                    assert joiner.me is not None
                    await group.sync()
                    assert joiner.me in [member.id for member in group.members()]

            runner.run(finish())
            assert len(group.members()) == 3 + number, "a link of one use let in one"
        assert group.alarms() == []
        runner.run(ben.close())
