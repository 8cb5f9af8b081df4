"""The epoch: one 32-byte group secret, and all that is derived from it. Implements specs/epoch.md §1 and §2.

Whoever holds the secret can open everything of its topic, append to it and seal it. The topic's id is the public key
of a key pair derived from the secret, so the id commits to the secret. Wraps are here; whom a rotation wraps for is in
rotation.py.
"""

from __future__ import annotations

from cocoon_core.errors import DecryptionError, MalformedError
from cocoon_core.protocol.constants import (
    LABEL_EPOCH_CAST,
    LABEL_EPOCH_NONCE,
    LABEL_EPOCH_REPAIR,
    LABEL_EPOCH_SEAL,
    LABEL_EPOCH_TOPIC,
    LABEL_WRAP,
)
from cocoon_core.protocol.ids import GroupId, HpkePublicKey, TopicId
from cocoon_core.protocol.primitives import HpkeKey, Secret, SigningKey, derive, wrap


class TopicKeys:
    """What opens one topic at a relay and seals its envelopes. An epoch has them, and so has a mailbox."""

    __slots__ = ("nonce_key", "seal_key", "signing", "topic")

    def __init__(self, topic_seed: Secret, seal_key: Secret, nonce_key: Secret) -> None:
        self.signing = SigningKey(topic_seed)
        self.topic = TopicId(self.signing.public)
        self.seal_key = seal_key
        self.nonce_key = nonce_key

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.topic!r}, hidden)"

    def __reduce__(self) -> str:
        raise TypeError("a secret is never pickled")


class Epoch(TopicKeys):
    """The keys of one epoch, derived from its secret."""

    __slots__ = ("cast_key", "repair_secret", "secret")

    def __init__(self, secret: Secret) -> None:
        super().__init__(
            derive(secret, LABEL_EPOCH_TOPIC), derive(secret, LABEL_EPOCH_SEAL), derive(secret, LABEL_EPOCH_NONCE)
        )
        self.secret = secret
        self.cast_key = derive(secret, LABEL_EPOCH_CAST)
        self.repair_secret = derive(secret, LABEL_EPOCH_REPAIR)


def wrap_epoch(epoch: Epoch, recipient: HpkePublicKey, group: GroupId) -> bytes:
    """Wrap an epoch's secret for one recipient (1168 bytes). Bound to the group and to the epoch's topic."""
    return wrap(recipient, epoch.secret.reveal(), _wrap_info(group, epoch.topic))


def unwrap_epoch(wrapped: bytes, key: HpkeKey, group: GroupId, topic: TopicId) -> Epoch:
    """Open one's own wrap and check that the topic derives from what was inside.

    Raises:
        DecryptionError: it was not made for this key, group and topic, or holds another epoch's secret.
    """
    try:
        epoch = Epoch(Secret(key.open(wrapped, _wrap_info(group, topic))))
    except MalformedError as error:
        raise DecryptionError("a wrap does not hold a secret of 32 bytes") from error
    if epoch.topic != topic:
        raise DecryptionError("a wrap holds the secret of another topic")
    return epoch


def _wrap_info(group: GroupId, topic: TopicId) -> bytes:
    return LABEL_WRAP.encode() + b"\0" + group + topic
