"""Where an announcement may send a device: nowhere but to addresses of local networks, the nearest first."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from cocoon_core.errors import LocalStateError
from cocoon_core.sync import mdns
from cocoon_core.sync.mdns import MdnsFinder, is_of_a_local_network


def test_an_announcement_sends_nobody_out_of_the_local_network() -> None:
    finder = MdnsFinder(["192.168.1.5"])
    given = ["8.8.8.8", "127.0.0.1", "0.0.0.0", "224.0.0.251", "240.0.0.1", "fe80::1", "10.0.0.7"]
    assert finder._usable(given) == ["10.0.0.7"]


def test_of_several_addresses_the_nearest_comes_first_and_not_all_are_tried() -> None:
    finder = MdnsFinder(["192.168.1.5", "10.1.0.9"])
    given = ["172.17.0.1", "10.200.0.1", "192.168.1.77", "192.168.2.2", "10.1.0.1"]
    assert finder._usable(given) == ["10.1.0.1", "192.168.1.77", "192.168.2.2", "10.200.0.1"]


def test_loopback_serves_where_it_is_the_only_network() -> None:
    assert MdnsFinder(["127.0.0.1"])._usable(["127.0.0.1", "10.0.0.7"]) == ["127.0.0.1"]


@pytest.mark.parametrize(
    ("address", "local"),
    [("192.168.0.1", True), ("10.0.0.1", True), ("169.254.3.4", True), ("127.0.0.1", False), ("93.184.216.34", False)],
)
def test_what_a_local_network_is(address: str, local: bool) -> None:
    assert is_of_a_local_network(IPv4Address(address)) is local


def test_a_machine_on_no_network_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    import ifaddr

    monkeypatch.setattr(ifaddr, "get_adapters", list)
    with pytest.raises(LocalStateError, match="no local network"):
        mdns.local_addresses()
