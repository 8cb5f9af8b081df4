"""Sealing and padding: one value has one envelope, and its size says no more than its length class."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cocoon_core.errors import DecryptionError, MalformedError, UsageError
from cocoon_core.protocol.constants import ENVELOPE_OVERHEAD, MAX_ENVELOPE_BYTES, PADDING_FLOOR
from cocoon_core.protocol.envelope import envelope_hash, open_envelope, pad, padded_size, seal_envelope, unpad
from cocoon_core.protocol.epoch import Epoch
from tests.support.protocol_story import EPOCH, named_secret

LARGEST = 1_032_191  # bytes of a value: the last Padmé class under 1 MiB less 40 bytes is 1,032,192


def padme(length: int) -> int:
    """Padmé as its paper states it (Nikitin et al., PETS 2019, §4.3), on integers."""
    exponent = length.bit_length() - 1
    zeros = exponent - exponent.bit_length()
    return -(-length // (1 << zeros)) << zeros


@given(st.binary(max_size=2000))
def test_a_value_opens_from_its_one_envelope(value: bytes) -> None:
    envelope = seal_envelope(value, EPOCH)
    assert open_envelope(envelope, EPOCH) == value
    assert seal_envelope(value, EPOCH) == envelope
    assert envelope_hash(envelope) == envelope_hash(seal_envelope(value, EPOCH))


@given(st.integers(0, 2_000_000))
def test_the_length_class_is_padme_with_a_floor(length: int) -> None:
    size = padded_size(length)
    assert size == max(PADDING_FLOOR, padme(length + 1))
    assert length < size
    assert size <= max(PADDING_FLOOR, (length + 1) * 1.12)


def test_there_are_few_length_classes() -> None:
    classes = {padded_size(length) for length in range(0, LARGEST + 1, 7)}
    assert len(classes) <= 256
    assert padded_size(max(classes) - 1) in classes


@given(st.binary(max_size=600))
def test_padding_comes_off_again(value: bytes) -> None:
    assert unpad(pad(value)) == value


@given(st.binary(max_size=600))
def test_any_bytes_are_the_one_padding_of_a_value_or_malformed(raw: bytes) -> None:
    try:
        value = unpad(raw)
    except MalformedError:
        return
    assert pad(value) == raw


@pytest.mark.parametrize("value", [b"", b"\0", b"\x80", b"\x80\0", b"a\x80\0\0", bytes(255), b"\x80" * 256])
def test_values_that_look_like_padding_come_back_whole(value: bytes) -> None:
    assert open_envelope(seal_envelope(value, EPOCH), EPOCH) == value


def test_the_largest_value_fits_and_the_next_does_not() -> None:
    envelope = seal_envelope(bytes(LARGEST), EPOCH)
    assert len(envelope) <= MAX_ENVELOPE_BYTES
    assert open_envelope(envelope, EPOCH) == bytes(LARGEST)
    with pytest.raises(UsageError):
        seal_envelope(bytes(LARGEST + 1), EPOCH)


@pytest.mark.parametrize("size", [0, 1, 24, 40, ENVELOPE_OVERHEAD + PADDING_FLOOR - 1, MAX_ENVELOPE_BYTES + 1])
def test_other_sizes_are_not_even_opened(size: int) -> None:
    with pytest.raises(DecryptionError):
        open_envelope(bytes(size), EPOCH)


def test_another_epoch_opens_nothing() -> None:
    other = Epoch(named_secret("another epoch"))
    with pytest.raises(DecryptionError):
        open_envelope(seal_envelope(b"value", EPOCH), other)


def test_two_epochs_seal_one_value_to_bytes_that_share_nothing() -> None:
    one, two = seal_envelope(b"value", EPOCH), seal_envelope(b"value", Epoch(named_secret("another epoch")))
    assert one[:24] != two[:24]
    assert sum(left == right for left, right in zip(one, two, strict=True)) < 20
