"""The form of a beacon, and whom it names where it has no room for all."""

from __future__ import annotations

from collections import Counter

import pytest

from cocoon_core.errors import MalformedError
from cocoon_core.protocol.beacon import Beacon, choose_ends, read_beacon
from cocoon_core.protocol.constants import MAX_BEACON_ENDS
from cocoon_core.protocol.entry import EntryKind
from cocoon_core.protocol.ids import DeviceId, EntryId, FrontierDigest
from tests.support.epoch_story import BEN, state
from tests.support.protocol_story import ANA, CREATE, Writer

DIGEST = FrontierDigest(bytes(32))


def device(number: int) -> DeviceId:
    return DeviceId(number.to_bytes(32, "big"))


def test_a_beacon_is_what_was_written() -> None:
    writer = Writer()
    writer.operate(CREATE)
    ends = {BEN.id: (4, EntryId(b"\4" * 32))}
    beacon = Beacon(2, DIGEST, 1, ("ws://a.test:1", "ws://b.test:1"), ends)
    entry = state(writer, EntryKind.BEACON, beacon.encode_body())
    assert read_beacon(entry) == beacon
    assert (entry.device, entry.changes) == (ANA.id, ())


def test_the_entry_of_another_kind_is_none() -> None:
    writer = Writer()
    writer.operate(CREATE)
    with pytest.raises(MalformedError):
        read_beacon(state(writer, EntryKind.REKEY, Beacon(0, DIGEST, 0, (), {}).encode_body()))


def test_the_choice_is_bounded_and_the_same_each_time() -> None:
    news = [device(number) for number in range(100)]
    chosen = choose_ends(ANA.id, 0, news)
    assert len(chosen) == len(set(chosen)) == MAX_BEACON_ENDS
    assert chosen == choose_ends(ANA.id, 0, news[::-1])
    assert choose_ends(ANA.id, 0, news[:5]) != []
    assert set(choose_ends(ANA.id, 0, news[:5])) == set(news[:5])


def test_the_choice_differs_from_time_to_time_and_by_author_so_that_all_are_named_soon() -> None:
    news = [device(number) for number in range(100)]
    assert choose_ends(ANA.id, 0, news) != choose_ends(ANA.id, 1, news) != choose_ends(BEN.id, 1, news)
    named = Counter(one for author in news for one in choose_ends(author, 7, news))
    assert len(named) == len(news)
    assert min(named.values()) > 10
