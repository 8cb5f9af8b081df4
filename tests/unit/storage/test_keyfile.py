"""`profile.key`: what is written is read, and nothing else is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cocoon_core.errors import ProfileDamagedError, UpdateNeededError
from cocoon_core.storage.keyfile import KeyFile, compute_check, decode_key_file, encode_key_file
from cocoon_core.storage.passphrase import Cost, SealedKey
from tests.support.flips import flip

IN_KEY_RING = KeyFile(bytes(range(16)), None)
UNDER_PASSPHRASE = KeyFile(bytes(range(16)), SealedKey(Cost(2, 19 * 1024), b"s" * 16, b"n" * 24, b"c" * 48))


def rewritten(key_file: KeyFile, **changes: Any) -> bytes:
    """The file with some fields changed by someone who knows how to make the check hold again."""
    fields = json.loads(encode_key_file(key_file)) | changes
    fields = {name: value for name, value in fields.items() if value is not ...}
    return json.dumps(fields | {"check": compute_check(fields)}).encode()


@pytest.mark.parametrize("key_file", [IN_KEY_RING, UNDER_PASSPHRASE])
def test_what_is_written_is_read(key_file: KeyFile) -> None:
    assert decode_key_file(encode_key_file(key_file)) == key_file
    assert decode_key_file(rewritten(key_file)) == key_file


@pytest.mark.parametrize("key_file", [IN_KEY_RING, UNDER_PASSPHRASE])
def test_any_changed_byte_is_damage(key_file: KeyFile) -> None:
    data = encode_key_file(key_file)
    for place in range(len(data)):
        with pytest.raises(ProfileDamagedError):
            decode_key_file(flip(data, place))


@pytest.mark.parametrize("cut", [0, 1, 40, 200, -3])
def test_a_cut_file_is_damage(cut: int) -> None:
    with pytest.raises(ProfileDamagedError):
        decode_key_file(encode_key_file(UNDER_PASSPHRASE)[:cut])


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 0},
        {"version": True},
        {"version": "1"},
        {"version": ...},
        {"profile": "00"},
        {"profile": None},
        {"profile": "zz" * 16},
        {"kept": "nowhere"},
        {"kept": ...},
        {"ops": "2"},
        {"ops": -1},
        {"ops": 2.5},
        {"ops": True},
        {"memory_kib": 2**31},
        {"salt": "00" * 15},
        {"salt": "00 " * 10 + "00"},
        {"nonce": "00" * 25},
        {"sealed": "00" * 47},
        {"sealed": ["00"]},
    ],
)
def test_a_field_that_is_not_what_it_must_be_is_damage(changes: dict[str, Any]) -> None:
    with pytest.raises(ProfileDamagedError):
        decode_key_file(rewritten(UNDER_PASSPHRASE, **changes))


def test_a_newer_file_asks_for_an_update() -> None:
    with pytest.raises(UpdateNeededError):
        decode_key_file(rewritten(UNDER_PASSPHRASE, version=2))


@given(st.binary(max_size=300) | st.text(alphabet='{}[]":,0123456789versionkept', max_size=200).map(str.encode))
def test_no_bytes_raise_anything_but_the_named_errors(data: bytes) -> None:
    with pytest.raises((ProfileDamagedError, UpdateNeededError)):
        decode_key_file(data)


def test_deep_nesting_is_damage() -> None:
    with pytest.raises(ProfileDamagedError):
        decode_key_file(b"[" * 16_000)
