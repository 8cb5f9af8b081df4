"""Token buckets and the accounts of addresses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cocoon_core.protocol.frames import ErrorCode
from cocoon_relay.limits import DAY, AddressBook, Limits, TokenBucket
from cocoon_relay.refusal import Refusal
from cocoon_relay.settings import read_settings


def test_a_bucket_gives_its_burst_then_its_rate() -> None:
    bucket = TokenBucket(rate=2.0, burst=3, now=0.0)
    assert [bucket.take(1, 0.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert bucket.take(1, 0.4) > 0
    assert bucket.take(1, 0.6) == 0.0


def test_a_refusal_says_when_to_come_again() -> None:
    bucket = TokenBucket(rate=0.5, burst=1, now=0.0)
    bucket.require(1, 0.0, ErrorCode.RATE, "puts")
    with pytest.raises(Refusal) as caught:
        bucket.require(1, 0.0, ErrorCode.RATE, "puts")
    assert (caught.value.code, caught.value.retry_after_ms) == (ErrorCode.RATE, 2000)
    bucket.require(1, 2.0, ErrorCode.RATE, "puts")


def test_more_than_the_burst_is_owed_not_refused_for_ever() -> None:
    bucket = TokenBucket(rate=1.0, burst=10, now=0.0)
    assert bucket.take(25, 0.0) == 0.0
    assert bucket.take(1, 15.0) > 0
    assert bucket.take(1, 16.5) == 0.0


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(1, 8)), max_size=60))
def test_no_schedule_takes_more_than_burst_and_rate(steps: list[tuple[float, int]]) -> None:
    bucket = TokenBucket(rate=3.0, burst=8, now=0.0)
    now, taken = 0.0, 0
    for pause, amount in steps:
        now += pause
        if bucket.take(amount, now) == 0.0:
            taken += amount
        assert taken <= 8 + 3.0 * now + 1e-6


def test_an_ipv6_network_is_one_account_and_mapped_ipv4_is_ipv4() -> None:
    book = AddressBook(Limits())
    assert book.find("2001:db8::1", 0.0) is book.find("2001:db8::ffff:2", 0.0)
    assert book.find("2001:db8:0:1::1", 0.0) is not book.find("2001:db8::1", 0.0)
    assert book.find("::ffff:192.0.2.7", 0.0) is book.find("192.0.2.7", 0.0)
    assert book.find("fe80::1%eth0", 0.0) is book.find("fe80::2", 0.0)


def test_a_flood_of_addresses_is_forgotten_but_not_those_connected() -> None:
    book = AddressBook(Limits())
    kept = book.find("198.51.100.1", 0.0)
    kept.connections = 1
    for number in range(12_000):
        book.find(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 0.0)
    assert len(book) <= 10_001
    assert book.find("198.51.100.1", 0.0) is kept


@pytest.mark.parametrize(
    ("given", "days"),
    [({}, 730), ({"sealed_topic_lease": "400 days"}, 400), ({"sealed_topic_lease": "5 days"}, 90),
     ({"topic_lease": "900 days"}, 900)],
)  # fmt: skip
def test_what_leads_on_is_kept_as_the_operator_says_and_no_shorter_than_an_open_topic(
    given: dict[str, str], days: int
) -> None:
    assert read_settings({"data": "anywhere", **given}, {}, None).limits.last_envelope_lease == days * DAY
