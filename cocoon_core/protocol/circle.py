"""Circle recovery: the texts that a lost member and the guardians hand each other. Implements specs/recovery.md §7.

    guardian ── help code ──▶ lost member ── circle code ──▶ guardians ── vouch, delay, admit ──▶ welcome

No secret of the group is in either text. The help code says which group and member; the circle code where the request
lies and which it is, so that the relay can put no other in its place. Whoever carries the code could exchange it: six
words, which the lost member says and a guardian types, cover the request. The welcome is that of an invite
(invite.py), with the request's id in the place of the invite's.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import Any, Final

from cocoon_core.errors import InvalidLinkError, MalformedError
from cocoon_core.protocol import encoding
from cocoon_core.protocol.constants import LABEL_CIRCLE_CHECK, VERSION
from cocoon_core.protocol.epoch import TopicKeys
from cocoon_core.protocol.ids import GroupId, InviteId, MemberId, RequestId
from cocoon_core.protocol.invite import mailbox_keys, require_relays, require_tokens
from cocoon_core.protocol.operations_admission import LostMember, request_from, request_id
from cocoon_core.protocol.primitives import Secret, constant_time_equal, hash_bytes
from cocoon_core.protocol.words import to_words

HELP_PREFIX: Final = "cocoon-help:"
CIRCLE_PREFIX: Final = "cocoon-circle:"
_CHECK_BYTES: Final = 4
_CIRCLE_WORDS: Final = 6
_MAX_CODE: Final = 4096  # characters
_AROUND: Final = "<>‹›«»\"'“”„‘’"  # what mail programs and people put around a code


@dataclass(frozen=True, slots=True)
class HelpCode:
    """What a lost member needs to ask: the group, who they are in it, and its relays, with an access token where one
    asks for it. It opens nothing of the group.
    """

    group: GroupId
    member: MemberId
    relays: tuple[str, ...]
    tokens: tuple[tuple[str, str], ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class CircleCode:
    """Where a request lies and which it is. Whoever has it can read the request and write into its mailbox, no more."""

    group: GroupId
    mailbox_secret: Secret = field(repr=False)
    request: RequestId

    def mailbox(self) -> TopicKeys:
        return mailbox_keys(self.mailbox_secret)


def write_help_code(code: HelpCode) -> str:
    """The code as text."""
    return _write(HELP_PREFIX, [VERSION, code.group, code.member, list(code.relays), dict(code.tokens)])


def read_help_code(text: str) -> HelpCode:
    """Read the code that a guardian gave.

    Raises:
        InvalidLinkError: not one, or not all of it.
    """
    try:
        match _read(HELP_PREFIX, text):
            case [
                version,
                bytes() as group,
                bytes() as member,
                list() as relays,
                dict() as tokens,
            ] if _is_version(version):
                known = require_tokens(tokens, relays) if tokens else ()
                return HelpCode(GroupId(group), MemberId(member), require_relays(relays), known)
    except MalformedError as error:
        raise _not_whole(HELP_PREFIX) from error
    raise _not_whole(HELP_PREFIX)


def write_circle_code(code: CircleCode) -> str:
    """The code as text, short enough for a QR code."""
    return _write(CIRCLE_PREFIX, [VERSION, code.group, code.mailbox_secret.reveal(), code.request])


def read_circle_code(text: str) -> CircleCode:
    """Read the code that a lost member gave.

    Raises:
        InvalidLinkError: not one, or not all of it.
    """
    try:
        match _read(CIRCLE_PREFIX, text):
            case [version, bytes() as group, bytes() as secret, bytes() as request] if _is_version(version):
                return CircleCode(GroupId(group), Secret(secret), RequestId(request))
    except MalformedError as error:
        raise _not_whole(CIRCLE_PREFIX) from error
    raise _not_whole(CIRCLE_PREFIX)


def request_words(request: RequestId) -> str:
    """Six words that tell a request from any other that somebody could make: its first 66 bits."""
    return " ".join(to_words(request, _CIRCLE_WORDS))


def encode_request(request: LostMember) -> bytes:
    """The value to seal into the mailbox."""
    return encoding.encode([VERSION, request.to_value()])


def read_request(value: bytes, code: CircleCode) -> LostMember:
    """Read what lies in the mailbox, and take no other request than the one that the code names.

    Raises:
        MalformedError: not a request, or another one.
        SignatureError: its device did not sign it.
    """
    match encoding.decode(value):
        case [version, list() as items] if _is_version(version):
            request = request_from(items)
        case _:
            raise MalformedError("not a request of this version")
    if not isinstance(request, LostMember) or request_id(request, code.group) != code.request:
        raise MalformedError("another request than the one that the code names")
    request.verify_proofs(code.group)
    return request


def welcome_name(request: RequestId) -> InviteId:
    """What stands in the place of the invite's id in the welcome for a request."""
    return InviteId(request)


def _write(prefix: str, fields: list[Any]) -> str:
    payload = encoding.encode(fields)
    return prefix + _to_base64(payload + _check(prefix, payload))


def _read(prefix: str, text: str) -> Any:
    """The value in a code. Line breaks within it, and white space, quotes and brackets around it do no harm."""
    text = "".join(text.split()).strip(_AROUND)
    if not text.startswith(prefix) or len(text) > _MAX_CODE:
        raise _not_whole(prefix)
    encoded = text[len(prefix) :]
    try:
        raw = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise _not_whole(prefix) from error
    payload, check = raw[:-_CHECK_BYTES], raw[-_CHECK_BYTES:]
    if _to_base64(raw) != encoded or not constant_time_equal(check, _check(prefix, payload)):
        raise _not_whole(prefix)
    value = encoding.decode(payload)
    match value:
        case [int() as version, *_] if version > VERSION:
            raise InvalidLinkError("this code was made by a newer Cocoon; install that version to use it")
    return value


def _not_whole(prefix: str) -> InvalidLinkError:
    return InvalidLinkError(f"this is not a whole code; copy it again, from {prefix} to its last character")


def _check(prefix: str, payload: bytes) -> bytes:
    return hash_bytes(LABEL_CIRCLE_CHECK, prefix.encode() + payload, _CHECK_BYTES)


def _to_base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _is_version(value: object) -> bool:
    return type(value) is int and value == VERSION  # True equals 1
