"""Proofs of one profile: the same in every process that could open it, and in no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from cocoon_core.errors import NoProfileError, UsageError, WrongPassphraseError
from cocoon_core.storage.passphrase import COST_FLOOR
from cocoon_core.storage.profile import Profile
from tests.support.key_ring import use_key_ring
from tests.support.storage_children import PASSPHRASE


def test_whoever_could_open_a_profile_proves_what_its_holder_expects(tmp_path: Path) -> None:
    with Profile.create(tmp_path, PASSPHRASE, cost=COST_FLOOR) as held:
        other = Profile.derive_proof(tmp_path, PASSPHRASE)
        asked = other.prove_call(b"c" * 32, b"call")
        assert asked == held.proof.prove_call(b"c" * 32, b"call")
        assert held.proof.prove_answer(asked, b"answer") == other.prove_answer(asked, b"answer")
        assert len(asked) == 32
    assert repr(other) == "LocalProof(…)"


def test_a_proof_is_of_one_challenge_one_call_and_one_direction(tmp_path: Path) -> None:
    with Profile.create(tmp_path, PASSPHRASE, cost=COST_FLOOR) as profile:
        proof = profile.proof
    proofs = {
        proof.prove_call(b"c" * 32, b"call"),
        proof.prove_call(b"d" * 32, b"call"),
        proof.prove_call(b"c" * 32, b"other"),
        proof.prove_answer(b"c" * 32, b"call"),
        proof.prove_answer(b"d" * 32, b"call"),
    }
    assert len(proofs) == 5


def test_two_profiles_have_different_proofs(tmp_path: Path) -> None:
    made = []
    for name in ("one", "two"):
        with Profile.create(tmp_path / name, PASSPHRASE, cost=COST_FLOOR) as profile:
            made.append(profile.proof.prove_call(b"c" * 32, b""))
    assert made[0] != made[1]


def test_attack_39_a_wrong_passphrase_gives_no_proof(tmp_path: Path) -> None:
    with Profile.create(tmp_path, PASSPHRASE, cost=COST_FLOOR):
        for guess in ("a guess", None):
            with pytest.raises(WrongPassphraseError):
                Profile.derive_proof(tmp_path, guess)


def test_a_key_in_the_key_ring_proves_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_key_ring(monkeypatch)
    with Profile.create(tmp_path) as profile:
        assert Profile.derive_proof(tmp_path).prove_call(b"", b"") == profile.proof.prove_call(b"", b"")
        with pytest.raises(UsageError):
            Profile.derive_proof(tmp_path, PASSPHRASE)


def test_where_there_is_no_profile_there_is_no_proof(tmp_path: Path) -> None:
    with pytest.raises(NoProfileError):
        Profile.derive_proof(tmp_path, PASSPHRASE)
