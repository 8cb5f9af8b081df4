"""What an operator decides: where to listen, where to keep the data, and by which names clients know this relay."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from socket import gethostname

from cocoon_core.errors import MalformedError
from cocoon_core.protocol.frames import normalize_origin
from cocoon_core.protocol.ids import TopicId
from cocoon_relay.limits import Limits

Admits = Callable[[TopicId], bool]


class Access(StrEnum):
    """Who is served."""

    ANYONE = "anyone"
    TOKEN = "token"
    GUEST = "guest"


@dataclass(frozen=True, slots=True)
class RelayConfig:
    """One relay. `origins` are in normal form; if there are none, `origins_of` the address that it listens at."""

    data: Path
    host: str = "127.0.0.1"
    port: int = 8787
    origins: tuple[str, ...] = ()
    behind_proxy: bool = False
    access: Access = Access.ANYONE
    limits: Limits = field(default_factory=Limits)
    classes: Mapping[str, Limits] = field(default_factory=dict)  # of those with a token of a class, and of guests
    more_hosts: tuple[str, ...] = ()  # other addresses to listen at, at the same port
    admits: Admits | None = None  # who proves none of these topics opens nothing

    @property
    def is_private(self) -> bool:
        """Whether it serves those whom `admits` lets in and nobody else: it tells strangers nothing of itself."""
        return self.admits is not None


def parse_listen(text: str) -> tuple[str, int]:
    """Split HOST:PORT; an IPv6 host stands in brackets; port 0 takes any free one.

    Raises:
        ValueError: another form; it says what the value must be.
    """
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed:
        host = host[1:-1]
    if not colon or not host or (":" in host and not bracketed) or not port.isascii() or not port.isdigit():
        raise ValueError("is HOST:PORT, for example 127.0.0.1:8787")
    if int(port) > 65535:
        raise ValueError("ends with a port, which is at most 65535")
    return host, int(port)


def parse_origin(text: str) -> str:
    """The normal form of an --origin.

    Raises:
        ValueError: not a relay URL; it says what the value must be.
    """
    try:
        return normalize_origin(text)
    except MalformedError as error:
        raise ValueError("is the URL that clients use, for example wss://relay.example") from error


def is_wildcard(host: str) -> bool:
    """Whether a host stands for every address of this machine."""
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False


def origins_of(host: str, port: int) -> tuple[str, ...]:
    """The names under which a relay that was given no --origin accepts proofs.

    The address that it listens at; for a loopback address all names of loopback; for a wildcard those and the name of
    this machine. Another name needs --origin.
    """
    names = [f"[{host}]" if ":" in host else host]
    if is_wildcard(host):
        names.append(gethostname())
    if is_wildcard(host) or _is_loopback(host):
        names += ["127.0.0.1", "localhost", "[::1]"]
    found: dict[str, None] = {}
    for name in names:
        try:
            found[normalize_origin(f"ws://{name}:{port}")] = None
        except MalformedError:
            continue  # a machine's own name may be one that no URL can hold
    return tuple(found)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
