"""Sealing the database key under a passphrase."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from cocoon_core.errors import MalformedError, ProfileDamagedError, UsageError, WrongPassphraseError
from cocoon_core.protocol.primitives import Secret, argon2id
from cocoon_core.storage.passphrase import (
    COST_CEILING,
    COST_FLOOR,
    Cost,
    SealedKey,
    normalise_passphrase,
    open_key,
    require_cost,
    seal_key,
)
from tests.support.flips import flip

KEY = Secret(bytes(range(32)))
PROFILE = bytes(16)


@pytest.fixture(scope="module")
def sealed() -> SealedKey:
    return seal_key(KEY, "correct horse", PROFILE, COST_FLOOR)


@pytest.mark.parametrize(("ops", "memory_kib"), [(1, 8), (2, 64), (3, 1024)])
def test_argon2id_agrees_with_another_implementation(ops: int, memory_kib: int) -> None:
    other = Argon2id(salt=b"somesalt12345678", length=32, iterations=ops, lanes=1, memory_cost=memory_kib)
    assert argon2id(b"password", b"somesalt12345678", ops, memory_kib).reveal() == other.derive(b"password")


def test_argon2id_refuses_what_it_does_not_have() -> None:
    for salt, ops, memory in ((bytes(15), 2, 64), (bytes(16), 0, 64), (bytes(16), 2, 1)):
        with pytest.raises(MalformedError):
            argon2id(b"x", salt, ops, memory)


def test_the_right_passphrase_opens(sealed: SealedKey) -> None:
    assert open_key(sealed, "correct horse", PROFILE) == KEY


@pytest.mark.parametrize("wrong", ["correct horse ", "Correct horse", "x", "correct\0horse"])
def test_any_other_passphrase_is_one_error(sealed: SealedKey, wrong: str) -> None:
    with pytest.raises(WrongPassphraseError) as caught:
        open_key(sealed, wrong, PROFILE)
    assert str(caught.value) == "The passphrase does not open this profile."
    assert caught.value.__cause__ is None


def test_one_passphrase_in_two_unicode_forms_is_one_passphrase() -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    assert composed != decomposed
    assert normalise_passphrase(composed) == normalise_passphrase(decomposed)
    assert open_key(seal_key(KEY, composed, PROFILE, COST_FLOOR), decomposed, PROFILE) == KEY


@pytest.mark.parametrize("bad", ["", "\udcff"])
def test_what_is_no_passphrase_is_refused(bad: str) -> None:
    with pytest.raises(UsageError):
        seal_key(KEY, bad, PROFILE, COST_FLOOR)


def test_sealing_twice_shares_nothing() -> None:
    one, two = (seal_key(KEY, "same", PROFILE, COST_FLOOR) for _ in range(2))
    assert one.salt != two.salt
    assert one.nonce != two.nonce
    assert one.ciphertext != two.ciphertext


@pytest.mark.parametrize(
    "cost",
    [
        Cost(COST_FLOOR.ops - 1, COST_FLOOR.memory_kib),
        Cost(COST_FLOOR.ops, COST_FLOOR.memory_kib - 1),
        Cost(COST_FLOOR.ops - 1, COST_CEILING.memory_kib),
        Cost(0, 0),
        Cost(COST_CEILING.ops + 1, COST_FLOOR.memory_kib),
        Cost(COST_FLOOR.ops, COST_CEILING.memory_kib + 1),
    ],
)
def test_a_cost_out_of_bounds_is_refused_on_the_way_in_and_out(sealed: SealedKey, cost: Cost) -> None:
    with pytest.raises(UsageError):
        seal_key(KEY, "correct horse", PROFILE, cost)
    with pytest.raises(ProfileDamagedError):
        open_key(replace(sealed, cost=cost), "correct horse", PROFILE)


def test_the_cost_for_new_passphrases_is_above_the_floor() -> None:
    require_cost(Cost())
    assert Cost().ops > COST_FLOOR.ops
    assert Cost().memory_kib > COST_FLOOR.memory_kib


def test_cost_salt_and_profile_are_bound(sealed: SealedKey) -> None:
    dearer = replace(sealed, cost=Cost(COST_FLOOR.ops + 1, COST_FLOOR.memory_kib))
    other_salt = replace(sealed, salt=bytes(16))
    flipped = replace(sealed, ciphertext=flip(sealed.ciphertext, 0))
    for changed in (dearer, other_salt, flipped):
        with pytest.raises(WrongPassphraseError):
            open_key(changed, "correct horse", PROFILE)
    with pytest.raises(WrongPassphraseError):
        open_key(sealed, "correct horse", b"\1" * 16)
