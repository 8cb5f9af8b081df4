"""Drafts: what was begun stays on one device until it is posted, once, or dropped."""

from __future__ import annotations

import pytest

from cocoon_core.errors import StorageFullError, UnknownItemError, UsageError
from cocoon_core.social.drafts import Draft
from tests.support.world import World, make_world

__all__ = ["make_world"]


async def test_a_draft_survives_a_restart_and_is_posted_once(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    root = await ben.group.feed.post("who comes?")
    await world.level()
    entries = ana.replica.chains[ana.device].last_seq
    await ana.group.feed.drafts.save("a new post, begun")
    await ana.group.feed.drafts.save("I do", root.id[:8])
    await ana.group.feed.drafts.save("I do, @Ben", root.id, quote=root.id)
    await ana.restart()
    drafts = await ana.group.feed.drafts.list()
    assert [(one.text, one.reply_to, one.quote) for one in drafts] == [
        ("I do, @Ben", root.id, root.id),
        ("a new post, begun", None, None),
    ]
    assert ana.replica.chains[ana.device].last_seq == entries, "nothing of it is in a document"
    post = await ana.group.feed.send_draft(root.id)
    assert (post.text, post.parent, post.quote, post.mentions) == ("I do, @Ben", root.id, root.id, (ben.group.me,))
    with pytest.raises(UnknownItemError, match="no such draft"):
        await ana.group.feed.send_draft(root.id)
    assert (await ana.group.feed.send_draft()).text == "a new post, begun"
    assert await ana.group.feed.drafts.list() == []


async def test_what_could_not_be_posted_stays_a_draft(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    (ana,) = await world.group("ana")
    await ana.group.feed.drafts.save("not lost")

    def fail(*_: object) -> None:
        raise StorageFullError

    monkeypatch.setattr(ana.replica.own_chain, "form_at_once", fail)
    with pytest.raises(StorageFullError):
        await ana.group.feed.send_draft()
    monkeypatch.undo()
    assert await ana.texts() == []
    assert (await ana.group.feed.drafts.list())[0].text == "not lost"
    await ana.group.feed.send_draft()
    assert await ana.texts() == ["not lost"]


async def test_a_draft_is_dropped_also_when_what_it_answers_is_not_here_any_more(world: World) -> None:
    (ana,) = await world.group("ana")
    post = await ana.group.feed.post("here")
    saved = await ana.group.feed.drafts.save("an answer", post.id)
    assert await ana.group.feed.drafts.get(post.id) == saved
    assert await ana.group.feed.drafts.get() is None
    with ana.replica.transaction():
        ana.replica.database.execute("DELETE FROM posts")
    assert isinstance(await ana.group.feed.drafts.drop(post.id), Draft)
    assert await ana.group.feed.drafts.list() == []


async def test_drafts_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    (ana,) = await world.group("ana")
    monkeypatch.setattr("cocoon_core.social.drafts.MAX_DRAFTS", 2)
    one, two = await ana.group.feed.post("one"), await ana.group.feed.post("two")
    await ana.group.feed.drafts.save("to one", one.id)
    await ana.group.feed.drafts.save("to two", two.id)
    with pytest.raises(UsageError, match="2 drafts"):
        await ana.group.feed.drafts.save("a new one")
    await ana.group.feed.drafts.save("to two, again", two.id)
    for text in ("", " \n", "x" * 70_000, "\ud800"):
        with pytest.raises(UsageError):
            await ana.group.feed.drafts.save(text, one.id)
    assert {one.text for one in await ana.group.feed.drafts.list()} == {"to one", "to two, again"}
