"""What a member is told nothing of: what a mute holds back, for how long, what never; and quiet hours."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta

import pytest

from cocoon_core import Notice, QuietHours
from cocoon_core.errors import UnknownItemError, UsageError
from cocoon_core.protocol.constants import MAX_MUTES
from cocoon_core.protocol.ids import MemberId
from cocoon_core.social import notices as reading
from cocoon_core.social.mutes import Mutes
from tests.support.waits import COMES
from tests.support.world import Seat, World, make_world  # noqa: F401  a fixture


async def texts(seat: Seat, *, muted: bool = False) -> list[str]:
    """Of the unread notices, oldest first."""
    return [notice.text for notice in reversed(await seat.group.notices.list(unread=True, muted=muted))]


def member(seat: Seat) -> MemberId:
    found = seat.group.me
    assert found is not None
    return found


async def test_a_mute_holds_back_what_it_names_and_gives_it_back(world: World) -> None:
    ana, ben, chi = await world.group("ana", "ben", "chi")
    root = await ana.group.feed.post("root")
    await world.level()
    notices = ana.group.notices
    await notices.mark_read()
    token = notices.newest
    first = await ben.group.feed.reply(root.id, "in the thread")
    await ben.sync()
    await chi.sync()
    await chi.group.feed.reply(first.id, "deeper")
    await chi.group.feed.post("beside it")
    await ben.group.feed.post("ben elsewhere")
    await world.level()
    assert await texts(ana) == ["in the thread", "deeper", "beside it", "ben elsewhere"]

    await notices.mute(thread=first.id[:8])
    assert await texts(ana) == ["beside it", "ben elsewhere"]
    assert notices.unread() == 2
    await notices.mute(member=member(ben))
    assert await texts(ana) == ["beside it"]
    page = await notices.after(token)
    assert [notice.text for notice in page.notices] == ["beside it"]
    assert page.token == notices.newest
    assert await texts(ana, muted=True) == ["in the thread", "deeper", "beside it", "ben elsewhere"]
    await ana.restart()
    notices = ana.group.notices
    assert [(mute.kind, mute.subject, mute.until) for mute in notices.mutes()] == [
        ("member", str(member(ben)), None),
        ("thread", root.id, None),
    ]
    await notices.mute()
    assert await texts(ana) == []
    assert await notices.unmute()
    assert not await notices.unmute()
    assert await notices.unmute(thread=root.id)
    assert await notices.unmute(member=member(ben))
    assert await texts(ana) == ["in the thread", "deeper", "beside it", "ben elsewhere"]


async def test_a_mute_ends_with_its_time(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    now = datetime.fromtimestamp(world.now_ms / 1000, UTC)
    await ana.group.notices.mark_read()
    await ana.group.notices.mute(until=now + timedelta(hours=8))
    await ben.group.feed.post("at night")
    await world.level()
    assert await texts(ana) == []
    world.now_ms += 9 * 3_600_000
    assert await texts(ana) == ["at night"]
    assert ana.group.notices.mutes() == []
    with pytest.raises(UsageError, match="future"):
        await ana.group.notices.mute(until=now)
    with pytest.raises(UsageError, match="not both"):
        await ana.group.notices.mute(thread=(await ana.group.feed.list())[0].id, member=member(ben))
    with pytest.raises(UnknownItemError):
        await ana.group.notices.mute(thread="00000000")


async def test_no_mute_holds_back_what_is_about_safety(world: World) -> None:
    ana, ben, chi = await world.group("ana", "ben", "chi")
    await ben.group.notices.mark_read()
    await ben.group.notices.mute()
    await ben.group.notices.mute(member=member(ana))
    await ben.group.notices.mute(member=member(chi))
    await ana.group.remove_member("Chi")
    await ana.group.feed.post("not told")
    await world.level([ana, ben])
    with ben.replica.transaction():
        ben.replica.alarm("fork", "x", "two histories")
    assert [notice.kind for notice in await ben.group.notices.list(unread=True)] == ["alarm", "removal"]


async def test_mutes_are_bounded(world: World) -> None:
    (ana,) = await world.group("ana")
    mutes = Mutes(ana.replica)
    with ana.replica.transaction():
        ana.replica.database.executemany(
            "INSERT INTO mutes (group_no, kind, subject) VALUES (?,'member',?)",
            [(ana.replica.record.number, number.to_bytes(32, "big")) for number in range(MAX_MUTES)],
        )
    with pytest.raises(UsageError, match="at most"):
        mutes.set(None, None, None)


@pytest.mark.parametrize(
    ("start", "end", "quiet", "loud"),
    [
        (time(22), time(7), ["22:00", "23:59", "00:00", "06:59"], ["07:00", "12:00", "21:59"]),
        (time(13), time(14, 30), ["13:00", "14:29"], ["12:59", "14:30", "00:00"]),
    ],
)
def test_quiet_hours_are_of_the_wall_clock(start: time, end: time, quiet: Sequence[str], loud: Sequence[str]) -> None:
    hours = QuietHours(start, end)
    for words, expected in ((quiet, True), (loud, False)):
        for at in words:
            assert hours.covers(datetime.fromisoformat(f"2026-11-22T{at}:00+05:00")) is expected, at


async def test_a_hook_waits_for_the_end_of_the_quiet_hours(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ana, ben = await world.group("ana", "ben")
    monkeypatch.setattr(reading, "QUIET_SECONDS", 0.01)
    now = datetime.fromtimestamp(world.now_ms / 1000, UTC).astimezone()
    hours = QuietHours((now - timedelta(minutes=5)).time(), (now + timedelta(hours=1)).time())
    await ana.running.set_quiet_hours(hours)
    assert ana.running.quiet_hours == QuietHours(
        hours.start.replace(second=0, microsecond=0), hours.end.replace(second=0, microsecond=0)
    )
    given: asyncio.Queue[str] = asyncio.Queue()

    async def hook(notices: Sequence[Notice]) -> None:
        for notice in notices:
            given.put_nowait(notice.text)

    async with asyncio.timeout(COMES):
        running = asyncio.create_task(ana.group.notices.deliver(hook))
        try:
            await asyncio.sleep(0)
            await ben.group.feed.post("at night")
            await world.level()
            assert given.empty()
            assert "at night" in await texts(ana)  # who looks, sees
            world.now_ms += 2 * 3_600_000  # the night is over
            assert await given.get() == "at night"
            world.now_ms -= 2 * 3_600_000
            await ben.group.feed.post("taken back")
            await world.level()
            assert given.empty()
            await ana.running.set_quiet_hours(None)
            assert await given.get() == "taken back"
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def test_quiet_hours_are_the_profile_s_and_outlive_it(world: World) -> None:
    (ana,) = await world.group("ana")
    assert ana.running.quiet_hours is None
    hours = QuietHours(time(22, 30), time(6, 15))
    await ana.running.set_quiet_hours(hours)
    await ana.restart()
    assert ana.running.quiet_hours == hours
    with pytest.raises(UsageError, match="begin when they end"):
        await ana.running.set_quiet_hours(QuietHours(time(1), time(1)))
    await ana.running.set_quiet_hours(None)
    assert ana.running.quiet_hours is None
