"""Which addresses of the web a device asks on behalf of a link: public hosts by HTTP, and nothing near the device.

A link could name a router, a printer, a cloud's metadata service or a program on this machine, by its number in any
spelling, by a name that leads there, or through a redirect. What counts in the end is the address that a socket is
about to connect to (`is_public`), whatever name led to it. Spec: specs/media.md §7.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

from yarl import URL

from cocoon_core.errors import PageError

MAX_URL: Final = 2048  # characters, as they are sent
_LEAST_PORT: Final = 1024  # below it only those of HTTP
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*:", re.I)
_HOST_AND_PORT: Final = re.compile(r"[^/?#@:\s]+\.[^/?#@:\s]+(?::\d{1,5})?(?:[/?#]|\Z)")
_NUMBER: Final = re.compile(r"(?:0x[0-9a-f]*|\d+)\Z", re.I)  # as the last part of a host: the host is a number

_NOT_PUBLIC_4: Final = tuple(
    IPv4Network(net)
    for net in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
        "224.0.0.0/4", "240.0.0.0/4",
    )
)  # fmt: skip
_GLOBAL_6: Final = IPv6Network("2000::/3")  # all that is given out; mapped, local, link and group addresses are outside
_NOT_PUBLIC_6: Final = tuple(IPv6Network(net) for net in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"))
_TRANSLATED: Final = IPv6Network("64:ff9b::/96")  # an IPv4 address, where a network has IPv6 alone


def is_public(address: str) -> bool:
    """Whether an address, as a socket is given it, is of the public internet. By a fixed table; other text is not."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, IPv6Address):
        if parsed.scope_id:
            return False
        if parsed in _TRANSLATED:
            return _is_public_4(IPv4Address(int(parsed) & 0xFFFFFFFF))
        return parsed in _GLOBAL_6 and not any(parsed in net for net in _NOT_PUBLIC_6)
    return _is_public_4(parsed)


def _is_public_4(address: IPv4Address) -> bool:
    return not any(address in net for net in _NOT_PUBLIC_4)


def read_address(typed: str) -> URL:
    """The address of a page that a person typed or a redirect names: `https://` where it names no scheme.

    Host names become ASCII; what a link must not hold when others open it is refused.

    Raises:
        PageError: it is not an address of the web, is over MAX_URL, has a user's name or password in it, names a host
            by a bare word or a number that is no plain IP address, or a port of another protocol.
    """
    text = typed.strip()
    if not _SCHEME.match(text) or _HOST_AND_PORT.match(text):
        text = "https://" + text.removeprefix("//")
    try:
        url = URL(text)
        host, port = url.host, url.port
    except (ValueError, IndexError) as error:  # the second where a host is `[]` alone
        raise PageError("this is not an address of a page") from error
    if url.scheme not in ("http", "https") or not host or not text.isprintable() or set(text) & set(" \\"):
        raise PageError("this is not an address of a page; one begins with https://")
    if len(str(url)) > MAX_URL:
        raise PageError(f"this address is longer than {MAX_URL:,} characters")
    if url.user is not None or url.password is not None:
        raise PageError("this address holds the name or the password of a user")
    if port is None or (port < _LEAST_PORT and port not in (80, 443)):
        raise PageError(f"port {port} is not one of the web")
    _require_host(host)
    return url


def _require_host(host: str) -> None:
    """A name with a dot, or an IP address in its plain spelling."""
    try:
        ip_address(host)
    except ValueError as error:
        labels = host.rstrip(".").split(".")
        if len(labels) < 2 or _NUMBER.match(labels[-1]) or not all(labels):
            raise PageError(f"{host[:60]} is no host of the web") from error
