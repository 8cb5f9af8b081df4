"""Hashes, signatures, sealing and wraps: what they refuse, and that secrets stay inside."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cocoon_core.errors import DecryptionError, MalformedError, SignatureError
from cocoon_core.protocol import constants
from cocoon_core.protocol.constants import LABEL_JOIN, LABEL_RUN
from cocoon_core.protocol.ids import HpkePublicKey
from cocoon_core.protocol.primitives import (
    HpkeKey,
    Secret,
    SigningKey,
    constant_time_equal,
    derive,
    hash_bytes,
    keyed_hash,
    open_sealed,
    require_good_hpke_key,
    require_good_signing_key,
    seal,
    verify,
    wrap,
)
from tests.support.protocol_story import ANA, EPOCH, named_secret
from tests.vectors.basics import MIXED_ORDER, SMALL_ORDER, SMALL_ORDER_X25519

KEY = named_secret("a key")
NONCE = bytes(24)


def test_a_label_parts_hashes_derivations_and_signatures() -> None:
    assert hash_bytes("cocoon/v1/a", b"x") != hash_bytes("cocoon/v1/b", b"x")
    assert keyed_hash(KEY.reveal(), "cocoon/v1/a", b"x") != hash_bytes("cocoon/v1/a", b"x")
    assert derive(KEY, "cocoon/v1/a") != derive(KEY, "cocoon/v1/b")
    assert derive(KEY, "cocoon/v1/a") != derive(KEY, "cocoon/v1/a", b"context")
    signature = SigningKey(KEY).sign(LABEL_RUN, b"x")
    with pytest.raises(SignatureError):
        verify(SigningKey(KEY).public, LABEL_JOIN, b"x", signature)


def test_a_shorter_hash_is_not_the_beginning_of_a_longer_one() -> None:
    assert hash_bytes("cocoon/v1/a", b"x")[:16] != hash_bytes("cocoon/v1/a", b"x", 16)


def test_no_label_holds_the_zero_that_ends_it_and_none_is_used_twice() -> None:
    labels = [value for name, value in vars(constants).items() if name.startswith("LABEL_")]
    assert len(set(labels)) == len(labels)
    assert all(label.isascii() and "\0" not in label and label.startswith("cocoon/v1/") for label in labels)


@pytest.mark.parametrize("raw", [*SMALL_ORDER, *MIXED_ORDER, "00" * 31, ""])
def test_signing_keys_that_do_not_bind_are_refused(raw: str) -> None:
    with pytest.raises(MalformedError):
        require_good_signing_key(bytes.fromhex(raw))


@pytest.mark.parametrize("raw", SMALL_ORDER_X25519)
def test_hpke_keys_of_small_order_are_refused_and_nothing_is_wrapped_to_them(raw: str) -> None:
    """Mended: `wrap` let a ValueError of the library out."""
    public = HpkePublicKey(ANA.hpke_public[:1184] + bytes.fromhex(raw))
    with pytest.raises(MalformedError):
        require_good_hpke_key(public)
    with pytest.raises(MalformedError):
        wrap(public, b"secret", b"info")


def test_an_mlkem_key_out_of_range_is_refused() -> None:
    public = HpkePublicKey(b"\xff" * 1184 + ANA.hpke_public[1184:])
    with pytest.raises(MalformedError):
        require_good_hpke_key(public)
    with pytest.raises(MalformedError):
        wrap(public, b"secret", b"info")


def test_good_keys_pass() -> None:
    require_good_signing_key(ANA.id)
    require_good_hpke_key(ANA.hpke_public)


@given(st.binary(max_size=200), st.binary(max_size=40))
def test_what_is_sealed_opens_and_nothing_else_does(plaintext: bytes, ad: bytes) -> None:
    sealed = seal(KEY, NONCE, plaintext, ad)
    assert open_sealed(KEY, NONCE, sealed, ad) == plaintext
    for attempt in (
        (named_secret("other"), NONCE, sealed, ad),
        (KEY, b"\1" * 24, sealed, ad),
        (KEY, NONCE, sealed, ad + b"\0"),
        (KEY, NONCE, sealed[:-1], ad),
        (KEY, NONCE, sealed + b"\0", ad),
    ):
        with pytest.raises(DecryptionError):
            open_sealed(*attempt)


@given(st.binary(max_size=100), st.binary(max_size=40))
def test_a_wrap_is_1136_bytes_longer_and_opens_for_its_key_and_info_alone(plaintext: bytes, info: bytes) -> None:
    wrapped = wrap(ANA.hpke_public, plaintext, info)
    assert len(wrapped) == len(plaintext) + 1136
    assert ANA.hpke.open(wrapped, info) == plaintext
    with pytest.raises(DecryptionError):
        ANA.hpke.open(wrapped, info + b"\0")


@given(st.binary(max_size=1300))
def test_bytes_that_are_no_wrap_do_not_open(raw: bytes) -> None:
    with pytest.raises(DecryptionError):
        ANA.hpke.open(raw, b"info")


@pytest.mark.parametrize("share", SMALL_ORDER_X25519)
def test_a_wrap_with_a_share_of_small_order_does_not_open(share: str) -> None:
    wrapped = wrap(ANA.hpke_public, b"x", b"info")
    with pytest.raises(DecryptionError):
        ANA.hpke.open(wrapped[:1088] + bytes.fromhex(share) + wrapped[1120:], b"info")


SECRETS: list[Callable[[], object]] = [
    lambda: KEY,
    lambda: SigningKey(KEY),
    lambda: HpkeKey(KEY),
    lambda: ANA,
    lambda: EPOCH,
]


@pytest.mark.parametrize("make", SECRETS)
def test_keys_neither_print_nor_pickle(make: Callable[[], object]) -> None:
    value = make()
    raw = KEY.reveal().hex()
    for shown in (repr(value), str(value), f"{value}"):
        assert "hidden" in shown
        assert raw not in shown
    with pytest.raises(TypeError):
        pickle.dumps(value)


def test_secrets_compare_by_value_and_have_their_length() -> None:
    assert Secret(bytes(32)) == Secret(bytes(32))
    assert Secret(bytes(32)) != Secret(b"\1" + bytes(31))
    assert Secret(bytes(32)) != bytes(32)
    assert hash(Secret(bytes(32))) == hash(Secret(bytes(32)))
    for length in (0, 31, 33):
        with pytest.raises(MalformedError):
            Secret(bytes(length))
    assert constant_time_equal(b"a", b"a")
    assert not constant_time_equal(b"a", b"b")


@pytest.mark.parametrize(("public", "signature"), [(31, 64), (33, 64), (0, 64), (32, 63), (32, 65), (32, 0)])
def test_keys_and_signatures_of_another_length_do_not_verify(public: int, signature: int) -> None:
    with pytest.raises(SignatureError):
        verify(bytes(public), LABEL_RUN, b"", bytes(signature))
