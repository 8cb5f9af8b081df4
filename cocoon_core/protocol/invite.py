"""Invite link, mailbox and welcome: first contact. Implements specs/invite.md.

A link holds one random secret. From it come, by separate derivations, the invite's signing key (proves the right to
join; its public half is the invite id), its HPKE key (reads welcomes) and its mailbox (where the welcome waits). The
link pins the group's id; a welcome that does not begin with that group's `create` is refused.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from cocoon_core.errors import DecryptionError, InvalidLinkError, MalformedError
from cocoon_core.protocol import encoding
from cocoon_core.protocol.constants import (
    LABEL_EPOCH_NONCE,
    LABEL_EPOCH_SEAL,
    LABEL_EPOCH_TOPIC,
    LABEL_GROUP,
    LABEL_INVITE_HPKE,
    LABEL_INVITE_MAILBOX,
    LABEL_INVITE_SIGN,
    LABEL_LINK_CHECK,
    LABEL_WELCOME,
    MAX_RELAY_TOKEN,
    MAX_RELAY_URL,
    MAX_RELAYS,
    VERSION,
)
from cocoon_core.protocol.epoch import Epoch, TopicKeys
from cocoon_core.protocol.frames import normalize_origin
from cocoon_core.protocol.ids import GroupId, HpkePublicKey, InviteId
from cocoon_core.protocol.operation_forms import require_visible
from cocoon_core.protocol.operations import Create, decode_operation
from cocoon_core.protocol.operations_admission import Newcomer, request_from
from cocoon_core.protocol.primitives import (
    HpkeKey,
    Secret,
    SigningKey,
    constant_time_equal,
    derive,
    hash_bytes,
    wrap,
)

LINK_PREFIX: Final = "cocoon:"
_CHECK_BYTES: Final = 4
_MAX_LINK: Final = 8192  # characters
_MAX_HOST: Final = 253  # characters
_MAX_HOST_LABEL: Final = 63  # characters


@dataclass(frozen=True, slots=True)
class Link:
    """What an invite link says. Whoever holds it can read the group while the invite is open, unless it takes requests.

    `tokens` are access tokens of those relays that ask for one, by URL.
    """

    group: GroupId
    secret: Secret = field(repr=False)
    relays: tuple[str, ...]
    tokens: tuple[tuple[str, str], ...] = field(default=(), repr=False)


class InviteKeys:
    """The keys that a link's secret yields."""

    __slots__ = ("_hpke_seed", "mailbox_secret", "signing")

    def __init__(self, secret: Secret) -> None:
        self.signing = SigningKey(derive(secret, LABEL_INVITE_SIGN))
        self.mailbox_secret = derive(secret, LABEL_INVITE_MAILBOX)
        self._hpke_seed = derive(secret, LABEL_INVITE_HPKE)

    @property
    def id(self) -> InviteId:
        return InviteId(self.signing.public)

    def hpke(self) -> HpkeKey:
        return HpkeKey(self._hpke_seed)


def mailbox_keys(mailbox_secret: Secret) -> TopicKeys:
    """The topic of an invite's mailbox. Every member can derive it, from the invite in the roster, and renew its
    lease.
    """
    return TopicKeys(
        derive(mailbox_secret, LABEL_EPOCH_TOPIC),
        derive(mailbox_secret, LABEL_EPOCH_SEAL),
        derive(mailbox_secret, LABEL_EPOCH_NONCE),
    )


@dataclass(frozen=True, slots=True)
class Welcome:
    """What a newcomer needs: the group's `create` body, the current epoch and the relays.

    `epoch` is None where the invite takes requests: its link lets nobody read, and one asks to be admitted.
    """

    group: GroupId
    create: Create
    epoch: Epoch | None
    relays: tuple[str, ...]


def wrap_welcome(welcome: Welcome, invite: InviteId, hpke: HpkePublicKey) -> bytes:
    """The value to seal into the mailbox: a welcome that only the holder of that HPKE key can read.

    The key is the link's, or a newcomer's own where a member admitted them.
    """
    secret = None if welcome.epoch is None else welcome.epoch.secret.reveal()
    body = encoding.encode([VERSION, welcome.create.encode_body(), secret, list(welcome.relays)])
    return encoding.encode([VERSION, wrap(hpke, body, _welcome_info(welcome.group, invite))])


def open_welcome(value: bytes, keys: InviteKeys, group: GroupId) -> Welcome:
    """Read a welcome for the holder of a link. As `open_admission`, with the link's own key."""
    return open_admission(value, keys.hpke(), keys.id, group)


def open_admission(value: bytes, key: HpkeKey, invite: InviteId, group: GroupId) -> Welcome:
    """Read a welcome and check that it begins with the group that the link pins.

    Raises:
        DecryptionError: made for another key, link or group, or changed.
        MalformedError: not a welcome, or its `create` is another group's.
        UpdateNeededError: the group that the link pins was created by a later version.
    """
    outer = encoding.decode(value)
    match outer:
        case [version, bytes() as wrapped] if _is_version(version):
            body = encoding.decode(key.open(wrapped, _welcome_info(group, invite)))
        case _:
            raise MalformedError("not a welcome of this version")
    match body:
        case [version, list() as create, bytes() | None as secret, list() as relays] if _is_version(version):
            pass
        case _:
            raise MalformedError("not a welcome of this version")
    # The hash first: what is not pinned by the link must not be able to say "update needed".
    if hash_bytes(LABEL_GROUP, encoding.encode(create)) != group:
        raise MalformedError("a welcome begins with another group's create")
    operation = decode_operation(create)
    if not isinstance(operation, Create):
        raise MalformedError("a welcome does not begin with a create")
    try:
        epoch = None if secret is None else Epoch(Secret(secret))
    except MalformedError as error:
        raise DecryptionError("a welcome does not hold a secret of 32 bytes") from error
    return Welcome(group, operation, epoch, require_relays(relays))


def encode_request(request: Newcomer) -> bytes:
    """The value to seal into the mailbox: somebody with the link asks to be admitted."""
    return encoding.encode([VERSION, request.to_value()])


def read_request(value: bytes, group: GroupId, invite: InviteId) -> Newcomer:
    """Read a request that lay in an invite's mailbox.

    Raises:
        MalformedError: not a request of a newcomer, or by another invite.
        SignatureError: the link's key or the device's did not sign it.
    """
    match encoding.decode(value):
        case [version, list() as items] if _is_version(version):
            request = request_from(items)
        case _:
            raise MalformedError("not a request of this version")
    if not isinstance(request, Newcomer) or request.invite != invite:
        raise MalformedError("a request is not a newcomer's by this invite")
    request.verify_proofs(group)
    return request


def write_link(link: Link) -> str:
    """The link as text: `cocoon:` and base64url of CBOR [version, group, secret, relays] and a 4-byte check.

    Where there are access tokens, they are a fifth item.
    """
    tokens = [dict(link.tokens)] if link.tokens else []
    payload = encoding.encode([VERSION, link.group, link.secret.reveal(), list(link.relays), *tokens])
    return LINK_PREFIX + _to_base64(payload + _link_check(payload))


_AROUND: Final = "<>‹›«»\"'“”„‘’"  # what mail programs and people put around a link


def read_link(text: str) -> Link:
    """Read a link, as pasted: line breaks within it, and white space, quotes and angle brackets around it do no harm.

    Raises:
        InvalidLinkError: not a link, or not all of it.
    """
    text = "".join(text.split()).strip(_AROUND)
    if not text.startswith(LINK_PREFIX) or len(text) > _MAX_LINK:
        raise InvalidLinkError
    encoded = text[len(LINK_PREFIX) :]
    try:
        raw = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
        payload, check = raw[:-_CHECK_BYTES], raw[-_CHECK_BYTES:]
        if _to_base64(raw) != encoded or not constant_time_equal(check, _link_check(payload)):
            raise InvalidLinkError
        match encoding.decode(payload):
            case [version, bytes() as group, bytes() as secret, list() as relays] if _is_version(version):
                return Link(GroupId(group), Secret(secret), require_relays(relays))
            case [version, bytes() as group, bytes() as secret, list() as relays, dict() as tokens] if _is_version(
                version
            ):
                return Link(GroupId(group), Secret(secret), require_relays(relays), require_tokens(tokens, relays))
            case [int() as version, *_] if version > VERSION:
                raise InvalidLinkError("this link was made by a newer Cocoon; install that version to use it")
    except (binascii.Error, ValueError, MalformedError) as error:
        raise InvalidLinkError from error
    raise InvalidLinkError


def require_relays(value: list[Any]) -> tuple[str, ...]:
    """Read a list of relay addresses.

    Raises:
        MalformedError: none, too many, one that is not ws:// or wss:// with a host that can be a name, one with a path,
            or one that is not visible ASCII.
    """
    good = all(
        isinstance(url, str)
        and url.isascii()
        and url.isprintable()
        and " " not in url
        and len(url) <= MAX_RELAY_URL
        and url.startswith(("ws://", "wss://"))
        and _is_origin(url)
        for url in value
    )
    if not good or not 0 < len(value) <= MAX_RELAYS or len(set(value)) != len(value):
        raise MalformedError(f"a group has 1 to {MAX_RELAYS} relays, each once, as ws:// or wss:// addresses")
    return tuple(value)


def require_tokens(value: dict[Any, Any], relays: list[Any]) -> tuple[tuple[str, str], ...]:
    """Read the access tokens of a link: at least one, each of one of its relays.

    Raises:
        MalformedError: no such thing.
    """
    if not value or not all(isinstance(item, str) for pair in value.items() for item in pair):
        raise MalformedError("access tokens are a map from text to text")
    tokens = tuple(sorted(value.items()))
    if not set(value) <= set(relays):
        raise MalformedError("an access token is of no relay of the link")
    for _, token in tokens:
        require_visible(token, MAX_RELAY_TOKEN, "an access token")
    return tokens


def _is_origin(url: str) -> bool:
    """Whether it has a host that can be looked up, and nothing behind host and port."""
    try:
        origin = normalize_origin(url)
        parts = urlsplit(url)
    except (MalformedError, ValueError):
        return False
    if parts.path not in ("", "/") or parts.query or parts.fragment or url.endswith(("?", "#")):
        return False
    host = origin.split("://")[1].rpartition(":")[0]
    return host.startswith("[") or (
        len(host) <= _MAX_HOST and all(0 < len(label) <= _MAX_HOST_LABEL for label in host.split("."))
    )


def _is_version(value: object) -> bool:
    return type(value) is int and value == VERSION  # True equals 1


def _to_base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _link_check(payload: bytes) -> bytes:
    return hash_bytes(LABEL_LINK_CHECK, payload, _CHECK_BYTES)


def _welcome_info(group: GroupId, invite: InviteId) -> bytes:
    return LABEL_WELCOME.encode() + b"\0" + group + invite
