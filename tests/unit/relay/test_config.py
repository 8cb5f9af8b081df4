"""Listening addresses and origins."""

from __future__ import annotations

import pytest

from cocoon_relay.config import origins_of, parse_listen, parse_origin


@pytest.mark.parametrize(
    ("text", "parsed"),
    [("127.0.0.1:8787", ("127.0.0.1", 8787)), ("localhost:0", ("localhost", 0)), ("[::1]:80", ("::1", 80))],
)
def test_listen_is_host_and_port(text: str, parsed: tuple[str, int]) -> None:
    assert parse_listen(text) == parsed


@pytest.mark.parametrize("text", ["", "8787", ":8787", "127.0.0.1", "127.0.0.1:", "h:-1", "h:65536", "::1:80", "h:٣"])
def test_another_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_listen(text)


def test_origins_are_normalized_or_refused() -> None:
    assert parse_origin("https://relay.example") == "wss://relay.example:443"
    with pytest.raises(ValueError, match="the URL"):
        parse_origin("relay.example")


def test_a_loopback_relay_goes_by_every_name_of_loopback() -> None:
    names = {"ws://127.0.0.1:9", "ws://localhost:9", "ws://[::1]:9"}
    assert set(origins_of("127.0.0.1", 9)) == set(origins_of("localhost", 9)) == set(origins_of("::1", 9)) == names


def test_another_address_goes_by_its_own_name_alone() -> None:
    assert origins_of("192.0.2.1", 9) == ("ws://192.0.2.1:9",)
