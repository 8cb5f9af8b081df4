"""What a member tells an author that they have seen, so that nobody else can read it. Implements specs/people.md §5.

A *box* brings a secret to the author's devices, once a month; a *notice* names posts under it. Both are of sizes that
do not tell whom they are for. Whoever reads along learns that something was told, and when.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from cocoon_core.errors import DecryptionError, MalformedError
from cocoon_core.protocol import encoding
from cocoon_core.protocol.constants import (
    ENVELOPE_OVERHEAD,
    LABEL_SEEN,
    LABEL_SEEN_KEY,
    MAX_SEEN_POSTS,
    MAX_SEEN_WRAPS,
    NONCE_BYTES,
    SEEN_BYTES,
    SEEN_WRAPS,
    WRAP_BYTES,
)
from cocoon_core.protocol.ids import DocumentId, GroupId, HpkePublicKey, MemberId
from cocoon_core.protocol.primitives import HpkeKey, Secret, open_sealed, seal, wrap

NOTICE_BYTES: Final = SEEN_BYTES + ENVELOPE_OVERHEAD
_ID_BYTES: Final = 16


def count_wraps(recipients: int) -> int:
    """How many wraps a box for so many devices has: the next of 4, 8 and 16."""
    wraps = SEEN_WRAPS
    while wraps < min(recipients, MAX_SEEN_WRAPS):
        wraps *= 2
    return wraps


def make_box(
    secret: Secret, recipients: Sequence[HpkePublicKey], group: GroupId, reader: MemberId, author: MemberId
) -> bytes:
    """Wrap a secret for devices of an author.

    Args:
        recipients: `count_wraps` keys, those that the author's devices lack filled up with fresh ones that nobody has.
    """
    info = _box_info(group, reader, author)
    return b"".join(sorted(wrap(one, secret.reveal(), info) for one in recipients))


def is_box(value: bytes) -> bool:
    """Whether it has the size of a box."""
    return len(value) in {WRAP_BYTES * count_wraps(number) for number in (1, SEEN_WRAPS + 1, MAX_SEEN_WRAPS)}


def open_box(value: bytes, keys: Iterable[HpkeKey], group: GroupId, reader: MemberId, author: MemberId) -> Secret:
    """The secret in a box, for a device of the author.

    Raises:
        DecryptionError: none of its wraps is for one of these keys.
        MalformedError: it is no box, or holds no secret.
    """
    if not is_box(value):
        raise MalformedError(f"a box is not {len(value)} bytes")
    info, tried = _box_info(group, reader, author), list(keys)
    for at in range(0, len(value), WRAP_BYTES):
        for key in tried:
            try:
                return Secret(key.open(value[at : at + WRAP_BYTES], info))
            except DecryptionError:
                continue
    raise DecryptionError("this box is for somebody else")


def seal_notice(posts: Sequence[bytes], secret: Secret, nonce: bytes, document: DocumentId, key: str) -> bytes:
    """Name 1 to MAX_SEEN_POSTS posts, in 296 bytes.

    Args:
        nonce: 24 random bytes.
        document: that it stands in, in generation 0, under the root key `key`.
    """
    assert 0 < len(posts) <= MAX_SEEN_POSTS, "the caller divides them"
    plain = (b"".join(posts) + b"\x80").ljust(SEEN_BYTES, b"\0")
    return nonce + seal(secret, nonce, plain, _notice_ad(document, key))


def open_notice(value: bytes, secret: Secret, document: DocumentId, key: str) -> list[bytes]:
    """The ids of the posts in a notice.

    Raises:
        DecryptionError: it is under another secret, or stood elsewhere.
        MalformedError: it is no notice.
    """
    if len(value) != NOTICE_BYTES:
        raise MalformedError(f"a notice is not {len(value)} bytes")
    padded = open_sealed(secret, value[:NONCE_BYTES], value[NONCE_BYTES:], _notice_ad(document, key))
    plain = padded.rstrip(b"\0")
    if not plain.endswith(b"\x80") or len(plain) == 1 or (len(plain) - 1) % _ID_BYTES:
        raise MalformedError("a notice names whole ids of posts")
    return [plain[at : at + _ID_BYTES] for at in range(0, len(plain) - 1, _ID_BYTES)]


def _box_info(group: GroupId, reader: MemberId, author: MemberId) -> bytes:
    return LABEL_SEEN_KEY.encode() + b"\0" + encoding.encode([group, reader, author])


def _notice_ad(document: DocumentId, key: str) -> bytes:
    return LABEL_SEEN.encode() + b"\0" + document + key.encode()
