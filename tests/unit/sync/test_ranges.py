"""What is held of each device, as ranges, and how what is missing is named."""

from __future__ import annotations

import pytest

from cocoon_core.protocol.ids import DeviceId
from cocoon_core.sync.ranges import DeviceRanges, SeqRange, held_ranges, merge_ranges, missing_ranges, name_ranges
from tests.support.hostile import Forger, inject, topic_log
from tests.support.world import Seat, World, make_world  # noqa: F401  a fixture


def spans(*pairs: tuple[int, int]) -> tuple[SeqRange, ...]:
    return tuple(SeqRange(first, last) for first, last in pairs)


@pytest.mark.parametrize(
    ("given", "merged"),
    [
        ([], []),
        ([(3, 4), (0, 2)], [(0, 4)]),
        ([(0, 9), (2, 3)], [(0, 9)]),
        ([(0, 2), (4, 5), (5, 8)], [(0, 2), (4, 8)]),
    ],
)
def test_ranges_that_touch_become_one(given: list[tuple[int, int]], merged: list[tuple[int, int]]) -> None:
    assert merge_ranges(spans(*given)) == spans(*merged)


@pytest.mark.parametrize(
    ("held", "up_to", "missing"),
    [
        ([(0, 4)], None, []),
        ([(0, 4)], 3, []),
        ([(0, 4)], 9, [(5, 9)]),
        ([(0, 4), (8, 9), (12, 12)], None, [(5, 7), (10, 11)]),
        ([(0, 4), (8, 9), (12, 12)], 6, [(5, 6)]),
        ([(0, 4), (8, 9), (12, 12)], 14, [(5, 7), (10, 11), (13, 14)]),
        ([(2, 3)], None, [(0, 1)]),
        ([], None, []),
        ([], 1, [(0, 1)]),
    ],
)
def test_what_is_missing_is_what_lies_between(
    held: list[tuple[int, int]], up_to: int | None, missing: list[tuple[int, int]]
) -> None:
    ranges = DeviceRanges(DeviceId(bytes(32)), spans(*held))
    assert ranges.missing(up_to) == spans(*missing)
    assert ranges.end == (held[0][1] if held and held[0][0] == 0 else -1)
    assert ranges.last == (held[-1][1] if held else -1)
    for first, last in missing:
        assert not any(ranges.holds(seq) for seq in range(first, last + 1))


async def gaps(world: World, posts: int, shown: list[int]) -> tuple[Seat, Seat, int]:
    """Ana wrote `posts` entries, each a run; Ben is shown those with these numbers. The seq of the first of them."""
    ana, ben = await world.group("ana", "ben")
    relay = next(iter(world.relays.values()))
    log = topic_log(relay, ana.replica.epoch)
    there, begin = len(log.envelopes), ana.replica.chains[ana.device].last_seq + 1
    for number in range(posts):
        await ana.group.feed.post(f"post {number}")
        await ana.sync()
    taken = log.envelopes[there:]
    del log.envelopes[there:]
    inject(relay, ana.replica.epoch, *(taken[number] for number in shown))
    return ana, ben, begin


async def test_a_chain_is_one_range_and_own_entries_that_were_not_sent_belong_to_it(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    await ana.group.feed.post("not sent")
    (pending,) = ana.replica.log.pending()
    assert ana.group.ranges()[ana.device].held == spans((0, pending.seq))
    assert ana.group.ranges().keys() == {ana.device, ben.device}
    assert missing_ranges(ana.replica) == {}
    assert missing_ranges(ana.replica, {ben.device: 5, ana.device: 0}).keys() == {ben.device}


async def test_gaps_before_runs_that_wait_are_named_exactly(world: World) -> None:
    ana, ben, begin = await gaps(world, 8, [0, 3, 4, 7])
    await ben.sync()
    assert held_ranges(ben.replica)[ana.device].held == spans(
        (0, begin), (begin + 3, begin + 4), (begin + 7, begin + 7)
    )
    assert missing_ranges(ben.replica) == {ana.device: spans((begin + 1, begin + 2), (begin + 5, begin + 6))}
    (alarm,) = [alarm for alarm in ben.group.alarms() if "missing" in alarm]
    assert alarm.startswith(
        f"entries {begin + 1} to {begin + 2} and entries {begin + 5} to {begin + 6} of Ana's device {ana.device.hex()} "
        "are missing"
    )
    await ben.restart()
    assert missing_ranges(ben.replica) == {ana.device: spans((begin + 1, begin + 2), (begin + 5, begin + 6))}


async def test_a_history_that_contradicts_the_chain_and_operations_beyond_a_gap_are_held(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    relay = next(iter(world.relays.values()))
    end = ana.replica.chains[ana.device].last_seq
    forger = Forger(ana)
    other = [forger.write((forger.feed(), forger.post("other", f"post:0{n}"))) for n in range(2)]
    await ana.group.feed.post("one")
    await world.level()
    inject(relay, ana.replica.epoch, *other)
    await ben.sync()
    assert held_ranges(ben.replica)[ana.device].held == spans((0, end + 2))


async def test_what_nobody_knows_is_missing_from_its_first_entry(world: World) -> None:
    (ana,) = await world.group("ana")
    stranger = DeviceId(b"s" * 32)
    assert missing_ranges(ana.replica, {stranger: 2}) == {stranger: spans((0, 2))}
    assert name_ranges(ana.replica, stranger, spans((0, 2))) == f"entries 0 to 2 of device {stranger.hex()}"


async def test_a_sentence_names_a_few_ranges_and_counts_the_rest(world: World) -> None:
    (ana,) = await world.group("ana")
    many = spans(*((seq * 10, seq * 10 + 1) for seq in range(6)))
    assert name_ranges(ana.replica, ana.device, many) == (
        "entries 0 to 1, entries 10 to 11, entries 20 to 21, entries 30 to 31 and 4 later ones of Ana's device "
        f"{ana.device.hex()}"
    )
