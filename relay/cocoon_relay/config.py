"""What an operator decides: where to listen, where to keep the data, and by which names clients know this relay."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from socket import gethostname
from typing import Final
from urllib.parse import parse_qs, urlsplit

from cocoon_core.errors import MalformedError, UsageError
from cocoon_core.protocol.frames import normalize_origin
from cocoon_core.protocol.ids import TopicId
from cocoon_relay.limits import Limits

_S3: Final = "s3://"
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
    databases: tuple[str, ...] = ()  # of PostgreSQL; none: SQLite under `data`
    bucket: str | None = None  # of S3; None: files under `data`
    more_hosts: tuple[str, ...] = ()  # other addresses to listen at, at the same port
    log_addresses: bool = False
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


def parse_database(text: str) -> str:
    """The URL of a PostgreSQL database, without a password.

    Raises:
        ValueError: another form; it says what the value must be.
        UsageError: there is a password in it, which is not shown again.
    """
    parts = urlsplit(text)
    if parts.password is not None or "password" in parse_qs(parts.query):
        raise UsageError(
            "the URL of a database has no password in it, since others may read the list of processes, settings and"
            " logs: put it into PGPASSWORD, or into a file that PGPASSFILE names"
        )
    if parts.scheme not in {"postgresql", "postgres"} or not parts.path.strip("/"):
        raise ValueError("is postgresql://USER@HOST/DATABASE")
    return text


def split_bucket(url: str) -> tuple[str, str]:
    """Bucket and folder of s3://BUCKET/FOLDER.

    Raises:
        ValueError: another form; it says what the value must be.
    """
    bucket, _, folder = url.removeprefix(_S3).partition("/")
    if not url.startswith(_S3) or not bucket or set(url) & set("@?#"):
        raise ValueError("is `files`, s3://BUCKET or s3://BUCKET/FOLDER; keys and endpoint come from AWS_ variables")
    return bucket, folder.strip("/")


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
