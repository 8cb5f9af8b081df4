"""A device keeps the last months alone: what it lets go, what it must not, and how it comes back."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from cocoon_core.errors import UnknownItemError, UsageError
from cocoon_core.protocol.epoch import TopicKeys
from cocoon_core.protocol.ids import BlobHash
from cocoon_core.sync.blobs import RelayBlobs
from tests.support.world import Seat, World, make_world, rebuild_everything, state_of  # noqa: F401  a fixture
from tests.unit.sync.test_pages import MONTHS, join, named, relay_of, rotate, write, write_months

NOW = "2026-09"  # the month of the world


def months_of(seat: Seat) -> set[str]:
    """The months whose posts are shown."""
    rows = seat.replica.database.query("SELECT text FROM posts")
    return {text.rpartition(" ")[2] for (text,) in rows}


def texts_on_disk(seat: Seat) -> bytes:
    """Everything that the rows of a profile hold of runs and pages."""
    replica = seat.replica
    runs = replica.database.query("SELECT wire FROM runs")
    said = replica.database.query("SELECT part FROM pages WHERE part IS NOT NULL")
    return b"".join(row for (row,) in (*runs, *said))


async def years(world: World) -> tuple[Seat, Seat]:
    """Two who wrote in five months and write now; all of it is packed, and both have followed."""
    ana, ben = await world.group("ana", "ben")
    for month in (*MONTHS, NOW):
        write_months(ana, [month])
        write_months(ben, [month])
        await world.level()
    await rotate(world, ana, ben)
    return ana, ben


async def test_old_months_go_and_come_back_the_same(world: World) -> None:
    ana, ben = await years(world)
    before = await state_of(ben)
    assert await ben.group.keep_months(3) == 8, "four months of two members are older than July"
    assert months_of(ben) == {"2026-07", NOW}
    assert ben.group.months_away() == ["2026-06", "2026-05", "2026-04", "2026-03"]
    assert months_of(ana) == {*MONTHS, NOW}
    assert b"in 2026-03" not in texts_on_disk(ben)
    await ben.group.fetch_months(["2026-04"])
    assert months_of(ben) == {"2026-04", "2026-07", NOW}
    await ben.sync()
    assert "2026-04" in months_of(ben), "it stays for a day"
    await ben.group.keep_months(None)
    await ben.sync()
    assert await state_of(ben) == before
    rebuild_everything(ben)
    assert await state_of(ben) == before == await state_of(ana)


async def test_what_is_away_survives_restarts_rotations_by_anybody_and_serves_who_comes_anew(world: World) -> None:
    ana, ben = await years(world)
    await ben.group.keep_months(1)
    await ben.restart()
    assert months_of(ben) == {NOW}
    assert await rotate(world, ben, ana) == set(), "who does not have them carries their pages on"
    newcomer = await join(world, ben, "cleo")
    assert months_of(newcomer) == {*MONTHS, NOW}
    write(ana, "feed/2026-05", "ana late in 2026-05")
    await world.level()
    assert months_of(ben) == {NOW}, "what came waits for what it builds on"
    await rotate(world, ana, ben)
    await ben.group.fetch_months(["2026-05"])
    assert "ana late in 2026-05" in {text for (text,) in ben.replica.database.query("SELECT text FROM posts")}


async def test_what_was_written_since_the_last_rotation_stays_and_goes_after_the_next(world: World) -> None:
    ana, ben = await years(world)
    write(ben, "feed/2026-03", "ben again in 2026-03")
    await world.level()
    await ana.group.keep_months(1)
    assert months_of(ana) == {"2026-03", NOW}, "of Ben's March more is here than the manifest says"
    await rotate(world, ben, ana)
    world.now_ms += 86_400_000
    await ana.sync()
    assert months_of(ana) == {NOW}


async def test_nothing_goes_that_no_relay_has(world: World) -> None:
    ana, _ = await years(world)
    relay_of(world).blobs.kept.clear()
    assert await ana.group.keep_months(1) == 0
    assert months_of(ana) == {*MONTHS, NOW}
    relay_of(world).reachable = False
    assert await ana.group.keep_months(1) == 0
    assert months_of(ana) == {*MONTHS, NOW}


async def test_a_clock_that_was_set_back_lets_go_again(world: World) -> None:
    ana, _ = await years(world)
    ana.skew_ms = 400 * 86_400_000
    await ana.group.keep_months(100)
    ana.skew_ms = 0
    ana.replica.groups.set_kept_months(ana.replica.record.number, 1)
    await ana.sync()
    assert months_of(ana) == {NOW}


async def test_what_comes_while_a_relay_is_asked_stays(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ana writes in an old month while Ben asks whether a relay has it, and a watch beside it brings that."""
    ana, ben = await years(world)
    honest = RelayBlobs.have
    came: list[bool] = []

    async def have(self: RelayBlobs, keys: TopicKeys, blobs: Iterable[BlobHash]) -> set[BlobHash]:
        there = await honest(self, keys, blobs)
        if not came:
            came.append(True)
            write(ana, "feed/2026-05", "ana late in 2026-05")
            await ana.group.sync()
            await ben.group.sync(reads_all=False)
        return there

    monkeypatch.setattr(RelayBlobs, "have", have)
    await ben.group.keep_months(1)
    assert came
    texts = {text for (text,) in ben.replica.database.query("SELECT text FROM posts")}
    assert {"ana late in 2026-05", "ana in 2026-05"} <= texts, "of Ana's May more is here than the manifest says"
    assert months_of(ben) == {"2026-05", NOW}


async def test_a_newcomer_who_keeps_some_months_fetches_no_others(world: World) -> None:
    ana, _ = await years(world)
    cleo = await join(world, ana, "cleo")
    await cleo.group.keep_months(2)
    assert months_of(cleo) == {NOW}
    fetched = relay_of(world).blobs.kept
    assert fetched
    write(ana, f"feed/{NOW}", f"more in {NOW}")
    await world.level()
    await rotate(world, ana, cleo)
    assert months_of(cleo) == {NOW}
    assert cleo.group.months_away() == sorted(MONTHS, reverse=True)


async def test_what_is_away_is_not_written_to_and_mistakes_are_named(world: World) -> None:
    ana, _ = await years(world)
    await ana.group.keep_months(1)
    with pytest.raises(Exception, match="not read here yet"), ana.replica.change(named(ana, "feed/2026-03")) as root:
        root["x"] = 1
    for wrong in (0, -1, 12_001):
        with pytest.raises(UsageError):
            await ana.group.keep_months(wrong)
    for month in ("2026-13", "march", ""):
        with pytest.raises(UsageError, match="YYYY-MM"):
            await ana.group.fetch_months([month])
    with pytest.raises(UnknownItemError):
        await ana.group.fetch_months(["1999-01"])


async def test_what_comes_back_is_not_new_to_who_had_read_it(world: World) -> None:
    ana, ben = await years(world)
    await ben.group.feed.note_here()
    await ben.group.keep_months(2)
    assert months_of(ben) == {NOW}
    await ben.group.keep_months(None)
    await ben.sync()
    assert months_of(ben) == {*MONTHS, NOW}
    assert await ben.group.feed.unread() == 0
    await ana.group.feed.post("something new in 2026-09")
    await world.level()
    assert await ben.group.feed.unread() == 1
