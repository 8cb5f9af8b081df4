"""What a member is told: which kinds, what not, in which order, exactly with what it tells, and how an app reads on."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from cocoon_core import Cocoon, Notice
from cocoon_core.errors import StorageFullError, UsageError
from cocoon_core.social.post_view import post_id
from cocoon_core.storage import notices as tables
from cocoon_core.storage.notices import NoticeTable
from tests.integration.test_group_admission import ask, asking_group
from tests.support.linking import link
from tests.support.waits import COMES
from tests.support.world import Seat, World, make_world, rebuild_everything  # noqa: F401  a fixture
from tests.unit.sync.test_erase import rows_with

DAY_MS = 86_400_000

Told = list[tuple[str, str | None, str]]


async def told(seat: Seat, *kinds: str) -> Told:
    """Kind, name and text of the notices, the oldest first; of these kinds, or of all but newcomers."""
    found = reversed(await seat.group.notices.list(limit=10_000))
    return [(n.kind, n.name, n.text) for n in found if (n.kind in kinds if kinds else n.kind != "newcomer")]


def write(seat: Seat, text: str, key: str, **more: Any) -> str:
    """A post with keys that the feed has no call for here; written again under the same key, it is edited. Its id."""
    descriptor = seat.group.feed.view.document_at(seat.clock())
    key = f"post:{key}"
    with seat.replica.change(descriptor) as root:
        if key not in root:
            root[key] = {"at": seat.clock()}
        for name, value in {"text": text, **more}.items():
            root[key][name] = value
    return post_id(descriptor.document_id(seat.replica.group), key).hex()


def me(seat: Seat) -> bytes:
    member = seat.group.me
    assert member is not None
    return bytes(member)


async def test_a_page_of_none_is_refused_and_passes_over_nothing(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    token = ana.group.notices.newest
    await ben.group.feed.post("hello")
    await world.level()
    for limit in (0, -1):
        with pytest.raises(UsageError):
            await ana.group.notices.after(token, limit)
    assert [notice.text for notice in (await ana.group.notices.after(token)).notices] == ["hello"]


async def test_posts_and_replies_of_others_are_told_and_what_others_say_to_each_other_is_not(world: World) -> None:
    ana, ben, chi = await world.group("ana", "ben", "chi")
    root = await ana.group.feed.post("Rehearsal on Friday?")
    await world.level()
    yes = await ben.group.feed.reply(root.id, "Yes.")
    await world.level()
    await chi.group.feed.reply(yes.id, "At eight?")
    other = await ben.group.feed.post("Who has the ladder?")
    await world.level()
    await chi.group.feed.reply(other.id, "Not me.")
    await world.level()
    assert await told(ana) == [
        ("reply", "Ben", "Yes."),
        ("reply", "Chi", "At eight?"),  # in the thread that she began
        ("post", "Ben", "Who has the ladder?"),
    ]
    assert await told(ben) == [("post", "Ana", "Rehearsal on Friday?"), ("reply", "Chi", "At eight?"),
                               ("reply", "Chi", "Not me.")]  # fmt: skip
    assert await told(chi) == [("post", "Ana", "Rehearsal on Friday?"), ("post", "Ben", "Who has the ladder?")]


async def test_mentions_calls_questions_answers_and_marks_are_told_once_each(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    call = write(ana, "Help on Saturday", "call", ask=1)
    question = write(ana, "Who knows a plumber?", "question", ask=2)
    write(ana, "Ben!", "mention", mentions=me(ben))
    write(ana, "edited soon", "edited")
    await world.level()
    assert [kind for kind, _, _ in await told(ben)] == ["call", "question", "mention", "post"]
    write(ben, "I come", "yes", re=bytes.fromhex(call), answer=1)
    answer = write(ben, "My aunt", "aunt", re=bytes.fromhex(question))
    write(ana, "edited: Ben!", "edited", edited=1, mentions=me(ben))
    await world.level()
    assert await told(ana) == [("answer", "Ben", "I come"), ("answer", "Ben", "My aunt")]
    assert (await told(ben))[-1] == ("mention", "Ana", "edited: Ben!")
    for _ in range(2):  # and once only
        write(ana, "Who knows a plumber?", "question", ask=2, solved=bytes.fromhex(answer))
        write(ana, "edited: Ben!!", "edited", edited=2, mentions=me(ben))
        await world.level()
    assert await told(ben, "solved", "mention") == [
        ("mention", "Ana", "Ben!"),
        ("mention", "Ana", "edited: Ben!!"),
        ("solved", "Ana", "My aunt"),
    ]


async def test_people_who_come_go_or_change_devices_are_told_and_own_deeds_are_not(world: World) -> None:
    ana, ben, chi = await world.group("ana", "ben", "chi")
    assert sorted(await told(ana, "newcomer")) == [("newcomer", "Ben", ""), ("newcomer", "Chi", "")]
    phone = await world.seat("phone")
    await link(ben, phone)
    await world.level()
    (change,) = await told(ana, "keys")
    assert change[:2] == ("keys", "Ben")
    assert change[2] == f"new: {phone.device.hex()[:8]}"
    assert await told(ben) == []  # his laptop let the phone in
    await ana.group.remove_member("Chi")
    await world.level([ana, ben, phone])
    await chi.sync()
    assert await told(ben, "removal") == [("removal", "Chi", "removed by Ana")]
    assert await told(chi, "removal") == [("removal", "Chi", "removed by Ana")]
    assert [notice.me for notice in await chi.group.notices.list() if notice.kind == "removal"] == [True]
    assert await told(ana, "removal") == []
    await ben.group.leave()
    await world.level([ben, ana])
    assert await told(ana, "removal") == [("removal", "Ben", "left")]


async def test_who_comes_new_gets_no_flood_of_what_is_old(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    for number in range(5):
        write(ben, f"old {number}", f"{number}", mentions=me(ana))
    await world.level()
    await ana.group.rotate()
    await ben.group.feed.post("older than chi")
    await world.level()
    link_text = await ana.group.invite()
    await world.level()
    chi = await world.seat("chi")
    await chi.running.join(link_text, member_name="Chi")
    phone = await world.seat("phone")
    await link(ana, phone)
    await world.level()
    assert [post.text for post in await chi.group.feed.list(limit=1)] == ["older than chi"]
    for seat in (chi, phone):
        assert await told(seat, "post", "mention", "reply", "newcomer") == [], seat.name
    await ben.group.feed.post("new")
    await world.level()
    assert await told(chi, "post") == await told(phone, "post") == [("post", "Ben", "new")]


async def test_who_comes_back_is_told_of_the_last_weeks_and_not_of_what_bears_an_old_date(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    await ana.group.feed.post("first days")
    await ana.sync()
    world.now_ms += 40 * DAY_MS
    await ana.group.feed.post("last days")
    write(ana, "dated back by hand", "00", at=world.now_ms - 31 * DAY_MS)
    ana.skew_ms = -35 * DAY_MS
    await ana.group.feed.post("dated back")
    await world.level()
    assert await told(ben) == [("post", "Ana", "last days")]


async def test_a_reply_that_came_before_the_own_post_of_another_device_is_told_with_it(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    phone = await world.seat("phone")
    await link(ana, phone)
    await world.level()
    root = await ana.group.feed.post("root")
    await ana.sync()
    await ben.sync()
    await ben.group.feed.reply(root.id, "reply")
    await ben.sync()
    replica = phone.replica
    merged = replica.shelf.merge
    held: list[Any] = []

    def without_own(descriptor: Any, arrivals: Any) -> set[str]:
        if descriptor.member == phone.group.me:
            held.append((descriptor, arrivals))
            return set()
        return merged(descriptor, arrivals)

    replica.shelf.merge = without_own  # type: ignore[method-assign]
    await phone.sync()
    assert held
    assert await told(phone) == []
    with replica.transaction():
        for descriptor, arrivals in held:
            merged(descriptor, arrivals)
    assert await told(phone) == [("reply", "Ben", "reply")]


async def test_a_notice_is_committed_with_what_it_tells_or_not_at_all(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    link_text = await ana.group.invite()
    await ana.group.feed.post("once")
    await ana.sync()
    chi = await world.seat("chi")
    await chi.running.join(link_text, member_name="Chi")
    added = NoticeTable.add

    def fail(self: NoticeTable, *args: Any) -> tuple[int, int]:
        added(self, *args)
        raise StorageFullError

    for _ in range(2):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(NoticeTable, "add", fail)
            with pytest.raises(StorageFullError):
                await ben.sync()
        assert [post.text for post in await ben.group.feed.list()] == []
        assert (await ben.group.notices.after(ben.group.notices.newest)).notices == ()
    newest = ben.group.notices.newest
    await ben.sync()
    page = await ben.group.notices.after(newest)
    assert sorted(notice.kind for notice in page.notices) == ["newcomer", "post"]
    await ben.restart()
    assert await ben.group.notices.after(newest) == page
    assert (await ben.sync()).received == 0
    rebuild_everything(ben)
    assert await ben.group.notices.after(newest) == page


async def test_alarms_are_told_each_time_that_they_are_new(world: World) -> None:
    (ana,) = await world.group("ana")
    replica = ana.replica
    for _ in range(2):
        with replica.transaction():
            replica.alarm("fork", "x", "a device signed two histories")
    with replica.transaction():
        replica.groups.end_alarm(replica.record.number, "fork", "x")
        replica.alarm("fork", "x", "again")
    assert await told(ana) == [("alarm", None, "a device signed two histories"), ("alarm", None, "again")]


async def test_who_asks_to_be_let_in_is_told_once(world: World) -> None:
    (ana, ben), link_text = await asking_group(world, "ana", "ben")
    await ask(world, link_text, "dora")
    for _ in range(2):
        await ana.sync()
        await ben.sync()
    assert await told(ana, "request") == await told(ben, "request") == [("request", None, "Dora")]


async def test_what_was_erased_is_shown_by_no_notice_and_moving_a_month_tells_nothing(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    secret = await ana.group.feed.post("canary-of-notices")
    await ana.group.feed.post("beside it")
    await world.level()
    assert [text for _, _, text in await told(ben)] == ["canary-of-notices", "beside it"]
    assert rows_with(ben, "canary-of-notices").count("notices") == 0
    await ana.group.feed.erase(secret.id)
    await ana.group.rotate()
    await world.level()
    assert await told(ben) == [("post", "Ana", ""), ("post", "Ana", "beside it")]


# --- reading on


async def test_a_token_goes_on_where_it_was_and_pages_meet(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    token = ben.group.notices.newest
    for number in range(7):
        await ana.group.feed.post(f"{number}")
    await world.level()
    texts: list[str] = []
    while True:
        page = await ben.group.notices.after(token, limit=3)
        assert not page.missed
        texts += [notice.text for notice in page.notices]
        token = page.token
        if not page.more:
            break
        await ben.restart()
    assert texts == [f"{number}" for number in range(7)]
    assert await ben.group.notices.after(token) == await ben.group.notices.after(ben.group.notices.newest)
    newest_first = await ben.group.notices.list(limit=2)
    assert [notice.text for notice in newest_first] == ["6", "5"]
    below = await ben.group.notices.list(limit=2, before=newest_first[-1].number)
    assert [notice.text for notice in below] == ["4", "3"]
    for odd in ("", "x", "1.", "-1.00000000", "1.0000000", "١.00000000", f"{10**20}.00000000"):
        with pytest.raises(UsageError, match="token"):
            await ben.group.notices.after(odd)


async def test_attack_43_a_flood_of_posts_hides_nothing_else_and_what_went_is_said(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana, ben = await world.group("ana", "ben")
    start = ben.group.notices.newest
    await ana.group.feed.post("first")
    await world.level()
    with ben.replica.transaction():
        ben.replica.alarm("fork", "x", "look")
    read = ben.group.notices.newest
    monkeypatch.setattr(tables, "MAX_NOTICES", 10)
    for number in range(30):
        await ana.group.feed.post(f"{number}")
    await world.level()
    shown = await told(ben, "post", "alarm", "newcomer")
    assert len(shown) == 10
    assert shown[0] == ("newcomer", "Ana", "") or shown[0][0] == "alarm"
    assert ("alarm", None, "look") in shown
    assert shown[-1] == ("post", "Ana", "29")
    assert (await ben.group.notices.after(start)).missed
    assert (await ben.group.notices.after(read)).missed
    assert not (await ben.group.notices.after(ben.group.notices.newest)).missed
    assert not (await ben.group.notices.after()).missed


def test_kinds_come_down_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MAX_NOTICES", 10)
    assert tables._too_many({"post": 10}) == []
    assert tables._too_many({"post": 12}) == [("post", 2)]
    assert tables._too_many({"alarm": 3, "post": 100}) == [("post", 93)]
    assert sorted(tables._too_many({"alarm": 50, "post": 100, "keys": 1})) == [("alarm", 46), ("post", 95)]


async def test_a_token_of_another_stream_begins_anew_and_says_so(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    await ana.group.feed.post("one")
    await world.level()
    ben.running.backup(path := world.folder / "backup", "six words for a backup of ben")
    await ana.group.feed.post("two")
    await world.level()
    later = ben.group.notices.newest
    await ben.stop()
    twin = Seat(world, "twin", world.folder / "twin")
    world.seats[:] = [ana, twin]
    Cocoon.restore(path, "six words for a backup of ben", twin.home, clock=twin.clock)
    await twin.start()
    page = await twin.group.notices.after(later)  # of a state that this copy never had
    assert page.missed
    assert [notice.text for notice in page.notices if notice.kind == "post"] == ["one"]
    await world.level()
    await ana.group.feed.post("three")
    await world.level()
    page = await twin.group.notices.after(later)
    assert page.missed
    assert [notice.text for notice in page.notices if notice.kind == "post"] == ["one", "two", "three"]
    with pytest.raises(UsageError, match="another stream"):
        await twin.group.notices.mark_read(upto=later)


async def test_a_stream_waits_wakes_and_queues_nothing_for_a_slow_reader(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    notices = ben.group.notices
    got: list[Notice] = []
    async with asyncio.timeout(COMES), aclosing(notices.stream(notices.newest)) as stream:
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        await ana.group.feed.post("0")
        await world.level()
        got.append(await waiting)
        for number in range(1, 250):  # more than a page, while nobody reads
            with ben.replica.transaction():
                ben.replica.alarm("fork", f"{number}", f"{number}")
        while len(got) < 250:
            got.append(await anext(stream))
    assert [notice.text for notice in got] == [f"{number}" for number in range(250)]
    assert [notice.number for notice in got] == list(range(got[0].number, got[0].number + 250))
    assert not notices._waiting


async def test_marks_count_and_move_no_token(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    await ben.group.notices.mark_read()
    posts = [await ana.group.feed.post(f"{number}") for number in range(4)]
    await world.level()
    notices = ben.group.notices
    assert notices.unread() == 4
    first, *_ = (await notices.after(None, limit=100)).notices[-4:]
    assert await notices.mark_read(upto=first.token) == 1
    assert await notices.mark_read(about=posts[2].id[:12]) == 1
    assert [notice.text for notice in await notices.list(unread=True)] == ["3", "1"]
    assert notices.unread() == 2
    assert await notices.mark_read() == 2
    assert notices.unread() == 0
    assert (await notices.after(first.token)).notices[0].read


async def test_a_hook_is_given_all_that_came_and_again_what_it_did_not_finish(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    given: list[list[str]] = []
    fails = {"broken"}
    enough = asyncio.Event()

    async def hook(notices: Any) -> None:
        given.append([notice.text for notice in notices])
        if given[-1][-1] in fails:
            fails.clear()
            raise OSError("the display is gone")
        enough.set()

    async def deliver(text: str) -> None:
        """Until the hook has dealt with that, or failed."""
        enough.clear()
        running = asyncio.create_task(ben.group.notices.deliver(hook, "test"))
        await asyncio.sleep(0)
        await ana.group.feed.post(text)
        await world.level()
        ended = asyncio.create_task(enough.wait())
        async with asyncio.timeout(COMES):
            await asyncio.wait({running, ended}, return_when=asyncio.FIRST_COMPLETED)
        failed = running.done()
        running.cancel()
        ended.cancel()
        results = await asyncio.gather(running, ended, return_exceptions=True)
        if failed:
            raise results[0]  # type: ignore[misc]

    await deliver("one")  # what was before is not given
    await ana.group.feed.post("while nobody listens")
    await world.level()
    with pytest.raises(OSError, match="display"):
        await deliver("broken")
    await ben.restart()
    await deliver("mended")
    flat = [text for texts in given for text in texts]
    assert flat == ["one", "while nobody listens", "broken", "broken", "mended"]
