"""Attacks on the feed by members: others' words, marks without a right, times far off, texts that run, sizes that tell.

Where a defence can be taken out, the attack is also run against a build without it, to see that it would succeed there.
"""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest

from cocoon_cli.output import Output
from cocoon_cli.post_drawing import draw_posts
from cocoon_core.documents import gate as gate_module
from cocoon_core.documents.rules import Rule
from cocoon_core.protocol.envelope import padded_size
from cocoon_core.protocol.retire import GONE_PREFIX
from cocoon_core.social.circle_view import CIRCLE
from cocoon_core.social.post_view import post_id
from cocoon_core.sync.members import Members
from tests.support.hostile import Forger, inject
from tests.support.world import Seat, World, make_world, rebuild_everything, state_of

__all__ = ["make_world"]

OVERHEAD = 40  # bytes of nonce and tag
LAST_SECOND = 253_402_300_799


def relay_of(world: World) -> Any:
    return next(iter(world.relays.values()))


async def agree(*seats: Seat) -> None:
    for seat in (*seats, *seats):
        await seat.sync()
    reference = await state_of(seats[0])
    for seat in seats:
        assert await state_of(seat) == reference
        rebuild_everything(seat)
        assert await state_of(seat) == reference


# --- 9: sizes


async def test_attack_09_whatever_is_done_to_a_post_is_of_a_published_size(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    await world.level()
    log = relay_of(world).logs[ana.replica.epoch.topic].envelopes
    begun, sizes = len(log), []
    first, second = await ana.group.feed.post("a"), await ana.group.feed.post("b" * 200)
    feed = ana.group.feed
    for act in (
        feed.edit(first.id, "c"), feed.edit(second.id, "@Ben " + "d" * 150), feed.hide(first.id), feed.unhide(first.id),
        feed.pin(second.id), feed.reply(first.id, "e", quote=second.id), feed.delete(first.id), feed.delete(second.id),
    ):  # fmt: skip
        await act
        await ana.sync()
        sizes += [len(envelope) - OVERHEAD for envelope in log[begun:]]
        begun = len(log)
    await feed.drafts.save("kept here")
    await feed.note_here()
    await ana.sync()
    assert len(log) == begun, "what is drafted and read is told to nobody"
    assert len(sizes) >= 8
    assert all(size == padded_size(size - 1) for size in sizes)
    assert len(set(sizes)) <= 4
    await agree(ana, ben)


# --- 21: texts


HOSTILE = "\x1b]0;owned\x07\u202e<script>alert(1)</script>\nAna  just now  00000000"


async def test_attack_21_a_quoted_and_an_edited_text_do_not_steer_the_terminal(world: World) -> None:
    ana, mal = await world.group("ana", "mal")
    quoted = await mal.group.feed.post(HOSTILE)
    await mal.group.feed.edit(quoted.id, HOSTILE + "again")
    await mal.group.feed.post("see", quote=quoted.id)
    await world.level()
    out = StringIO()
    draw_posts(Output(as_json=False, out=out, err=out).screen(), list(reversed(await ana.group.feed.list())))
    shown = out.getvalue()
    assert not set(shown) & {"\x1b", "\x07", "\u202e"}
    assert "<script>alert(1)</script>" in shown
    assert not any(line.startswith("Ana") for line in shown.splitlines()), "no line passes for a heading"


# --- 27: others' words


def forge_edit(forger: Forger, victim: Seat, key: str) -> bytes:
    feed = Forger(victim).feed()
    return forger.write((feed, forger.change(feed, lambda root: root[key].__setitem__("text", "not hers"))))


def forge_deletion(forger: Forger, victim: Seat, key: str) -> bytes:
    feed = Forger(victim).feed()

    def bury(root: Any) -> None:
        del root[key]
        root[GONE_PREFIX + key] = {"at": 1, "deleted": 1}

    return forger.write((feed, forger.change(feed, bury)))


@pytest.mark.parametrize("forge", [forge_edit, forge_deletion])
async def test_attack_27_nobody_edits_or_deletes_anothers_post(world: World, forge: Any) -> None:
    ana, ben, mal = await world.group("ana", "ben", "mal")
    post = await ana.group.feed.post("hers")
    await world.level()
    key = ana.replica.database.query_value("SELECT key FROM posts WHERE post=?", (bytes.fromhex(post.id),))
    inject(relay_of(world), ana.replica.epoch, forge(Forger(mal), ana, key))
    await mal.stop()
    for seat in (ana, ben):
        await seat.sync()
        shown = await seat.group.feed.get(post.id)
        assert (shown.text, shown.edited, shown.deleted) == ("hers", False, False)
        assert [one.text for one in await seat.group.feed.versions(post.id)] == ["hers"]
    await ana.group.feed.edit(post.id, "hers, edited")
    await agree(ana, ben)
    assert (await ben.group.feed.get(post.id)).text == "hers, edited"


async def test_attack_27_succeeds_where_the_gate_does_not_ask_whose_document_it_is(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana, ben, mal = await world.group("ana", "ben", "mal")
    post = await ana.group.feed.post("hers")
    await world.level()
    key = ana.replica.database.query_value("SELECT key FROM posts WHERE post=?", (bytes.fromhex(post.id),))
    inject(relay_of(world), ana.replica.epoch, forge_edit(Forger(mal), ana, key))
    refuse = gate_module.Gate._refuse
    monkeypatch.setattr(
        gate_module.Gate, "_refuse", lambda self, rule, what: rule is Rule.OWNER or refuse(self, rule, what)
    )
    await ben.sync()
    assert (await ben.group.feed.get(post.id)).text == "not hers"


def forge_marks(forger: Forger, post: str) -> bytes:
    def mark(root: Any) -> None:
        root["hidden"][post] = 1
        root["pins"][post] = 1

    return forger.write((CIRCLE, forger.change(CIRCLE, mark)))


async def test_attack_27_who_is_no_admin_hides_and_pins_nothing(world: World) -> None:
    ana, ben, mal = await world.group("ana", "ben", "mal")
    post = await ana.group.feed.post("hers")
    await world.level()
    inject(relay_of(world), ana.replica.epoch, forge_marks(Forger(mal), post.id))
    await mal.stop()
    for seat in (ana, ben):
        await seat.sync()
        shown = await seat.group.feed.get(post.id)
        assert (shown.text, shown.hidden, shown.pinned) == ("hers", False, False)
    await ana.group.feed.pin(post.id)
    await agree(ana, ben)
    shown = await ben.group.feed.get(post.id)
    assert (shown.hidden, shown.pinned) == (False, True)


async def test_attack_27_succeeds_where_it_is_not_asked_who_may_mark(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana, ben, mal = await world.group("ana", "ben", "mal")
    post = await ana.group.feed.post("hers")
    await world.level()
    inject(relay_of(world), ana.replica.epoch, forge_marks(Forger(mal), post.id))
    monkeypatch.setattr(Members, "counts", lambda *_: True)
    await ben.sync()
    assert (await ben.group.feed.get(post.id)).hidden


async def test_attack_27_a_tombstone_without_a_deletion_hides_no_history_as_erased(world: World) -> None:
    """In the first generation nothing can have been erased: who says so there is not believed."""
    ana, mal = await world.group("ana", "mal")
    forger = Forger(mal)
    feed = forger.feed()
    key = "post:00"

    def lie(root: Any) -> None:
        root[GONE_PREFIX + key] = {"at": 5}
        root["gone:post:01"] = {"at": 6, "deleted": True}

    inject(relay_of(world), ana.replica.epoch, forger.write((feed, forger.change(feed, lie))))
    await ana.sync()
    document = feed.document_id(ana.replica.group)
    rows = ana.replica.database.query("SELECT post FROM posts")
    assert not {(post_id(document, one),) for one in (key, "post:01")} & set(rows)


# --- 33: times


async def test_attack_33_no_time_of_a_post_breaks_the_display_or_outlasts_an_edit(world: World) -> None:
    ana, ben, mal = await world.group("ana", "ben", "mal")
    times: list[Any] = [0, -1, -(2**63), 2**53, 2**63 - 1, "soon", None, True]

    def write(root: Any) -> None:
        for place, time_ms in enumerate(times):
            more = {"edited": time_ms, "ask": 1, "until": time_ms}
            root[f"post:{place:02}"] = {"at": 1, "text": f"{time_ms!r}", **more}

    forger = Forger(mal)
    raw = forger.change(forger.feed(), write)
    inject(relay_of(world), ana.replica.epoch, forger.write((forger.feed(), raw)))
    await mal.stop()
    await agree(ana, ben)
    out = StringIO()
    for seat in (ana, ben):
        posts = await seat.group.feed.list()
        assert len(posts) == len(times)
        for post in posts:
            for time in (post.edited_at, post.until):
                assert time is None or 0 <= time.timestamp() <= LAST_SECOND
            assert all(0 <= one.time.timestamp() <= LAST_SECOND for one in await seat.group.feed.versions(post.id))
        draw_posts(Output(as_json=False, out=out, err=out).screen(), posts)
    assert not any(post.future for post in await ana.group.feed.list())
    ben.skew_ms = (
        3 * 10**12
    )  # a member's clock that is far ahead stands on top, marked, and its author can still take it back
    ahead = await ben.group.feed.post("from far ahead")
    await agree(ana, ben)
    assert (await ana.group.feed.list())[0].id == ahead.id
    assert (await ana.group.feed.get(ahead.id)).future
    await ben.group.feed.delete(ahead.id)
    await agree(ana, ben)
    assert ahead.id not in {post.id for post in await ana.group.feed.list()}


async def test_attack_33_a_mark_from_the_future_is_taken_back_like_any_other(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    await ana.group.set_role("Ben", "admin")
    post = await ana.group.feed.post("hers")
    await world.level()
    ben.skew_ms = 3 * 10**12
    await ben.group.feed.hide(post.id)
    await ben.group.feed.pin(post.id)
    await agree(ana, ben)
    await ana.group.feed.unhide(post.id)
    await ana.group.feed.unpin(post.id)
    await agree(ana, ben)
    for seat in (ana, ben):
        shown = await seat.group.feed.get(post.id)
        assert (shown.hidden, shown.pinned) == (False, False)
