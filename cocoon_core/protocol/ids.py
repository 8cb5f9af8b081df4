"""Names of things: every fixed-length byte string has a type of its own that checks its length.

They are `bytes`, so they hash, compare and encode as such; the type says which kind of name it is and refuses a wrong
length with MalformedError. Nothing here is secret. Spec: specs/conventions.md §3.
"""

from __future__ import annotations

from typing import ClassVar, Self

from cocoon_core.errors import MalformedError

_new = bytes.__new__


class FixedBytes(bytes):
    """A byte string of exactly LENGTH bytes."""

    __slots__ = ()
    LENGTH: ClassVar[int] = 32

    def __new__(cls, raw: bytes) -> Self:
        if not isinstance(raw, bytes) or len(raw) != cls.LENGTH:
            size = len(raw) if isinstance(raw, bytes) else type(raw).__name__
            raise MalformedError(f"{cls.__name__} is {cls.LENGTH} bytes, not {size}")
        return super().__new__(cls, raw)

    @classmethod
    def unchecked(cls, raw: bytes) -> Self:
        """The same for bytes that were just computed with that length: on hot paths the check costs more than the
        hash.
        """
        return _new(cls, raw)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.hex()[:12]}…)"

    def __str__(self) -> str:
        return self.hex()


class GroupId(FixedBytes):
    """Hash of the body of the group's `create`."""


class DeviceId(FixedBytes):
    """Ed25519 public key of a device in one group."""


class MemberId(FixedBytes):
    """Hash of group id and the first device id of the member."""


class EntryId(FixedBytes):
    """Hash of an entry in full form."""


class InviteId(FixedBytes):
    """Ed25519 public key that proves the right to join; named by the invite's entry."""


class RecoveryId(FixedBytes):
    """Ed25519 public key of a member's recovery phrase in one group."""


class RequestId(FixedBytes):
    """Hash of a request to come in, which members vouch for."""


class RecipientId(FixedBytes):
    """A device id, invite id or recovery id: whom an epoch's secret is wrapped for."""


class TopicId(FixedBytes):
    """Ed25519 public key of an epoch or mailbox; the relay's name of a log."""


class DocumentId(FixedBytes):
    """Hash of a document's descriptor."""


class ChangeHash(FixedBytes):
    """SHA-256 that automerge gives to a change."""


class BlobHash(FixedBytes):
    """SHA-256 of a blob's ciphertext."""


class EnvelopeHash(FixedBytes):
    """BLAKE2b-256 of an envelope as it stands on the relay."""


class HeadsDigest(FixedBytes):
    """Digest of a device's heads over all of its documents."""


class FrontierDigest(FixedBytes):
    """Digest of the last entries of all devices."""


class Incarnation(FixedBytes):
    """Random id that a relay gives to one life of a topic."""

    LENGTH = 16


class ActorId(FixedBytes):
    """automerge actor: BLAKE2b-128 of device id and document id."""

    LENGTH = 16


class Signature(FixedBytes):
    """Ed25519 signature."""

    LENGTH = 64


class HpkePublicKey(FixedBytes):
    """MLKEM768-X25519 public key: 1184 bytes of ML-KEM-768, then 32 of X25519."""

    LENGTH = 1216
