"""The recovery phrase and the keys around it. Implements specs/recovery.md §1 to §3.

Twelve words hold one random secret. From it come the keys of the *index*: an HPKE key that alone can read it, and the
mailboxes where it waits, one a relay. The keys by which a member comes back into a group do not come from the phrase:
they are random, fresh for every group, and reach the holder of the phrase sealed to the index key. So no two groups
share a key, a group that is joined years later is covered without the paper, and the device keeps neither phrase nor
keys.
"""

from __future__ import annotations

import difflib
import re
from functools import lru_cache
from typing import Final

from mnemonic import Mnemonic

from cocoon_core.errors import DecryptionError, InvalidPhraseError, MalformedError
from cocoon_core.protocol.constants import (
    LABEL_INDEX_HPKE,
    LABEL_INDEX_MAILBOX,
    LABEL_INDEX_SECRET,
    LABEL_PHRASE_STRETCH,
    LABEL_RECOVERY_HPKE,
    LABEL_RECOVERY_SEED,
    LABEL_RECOVERY_SIGN,
    PHRASE_ARGON2_MEMORY_KIB,
    PHRASE_ARGON2_OPS,
    PHRASE_BYTES,
    PHRASE_WORDS,
)
from cocoon_core.protocol.epoch import TopicKeys
from cocoon_core.protocol.frames import normalize_origin
from cocoon_core.protocol.ids import GroupId, HpkePublicKey, RecoveryId
from cocoon_core.protocol.invite import mailbox_keys
from cocoon_core.protocol.primitives import HpkeKey, Secret, SigningKey, argon2id, derive, hash_bytes, wrap
from cocoon_core.protocol.words import word_list

_WORD: Final = re.compile(r"[^\W\d_]+")


@lru_cache(maxsize=1)
def _words() -> Mnemonic:
    return Mnemonic("english")


def write_phrase(secret: Secret) -> str:
    """The words that hold this secret of 16 bytes: 128 bits and 4 of checksum, as BIP-39 does it."""
    return _words().to_mnemonic(secret.reveal())


def read_phrase(text: str) -> Secret:
    """The secret in a phrase. Case, line breaks, numbers and punctuation around the words do no harm.

    Raises:
        InvalidPhraseError: a word that is not in the list, too few or too many, or words that do not belong together.
    """
    words = _WORD.findall(text.lower())
    known = word_list()
    for place, word in enumerate(words, 1):
        if word not in known:
            near = " or ".join(map(repr, difflib.get_close_matches(word, known, 2)))
            hint = f"; did you mean {near}?" if near else ""
            raise InvalidPhraseError(f"word {place}, {word!r}, is not in the list of words{hint}")
    if len(words) != PHRASE_WORDS:
        raise InvalidPhraseError(f"a recovery phrase has {PHRASE_WORDS} words, and this has {len(words)}")
    try:
        return Secret(bytes(_words().to_entropy(words)), PHRASE_BYTES)
    except ValueError as error:
        raise InvalidPhraseError(
            "all of these are words of the list, but they do not belong together: one is wrong or out of its place"
        ) from error


class PhraseKeys:
    """What a phrase yields: the key that reads the index, and the secret of its mailboxes.

    Making them takes the time and memory of Argon2id. Whoever has them has every group of the profile.
    """

    __slots__ = ("index_secret", "opening")

    def __init__(self, secret: Secret) -> None:
        salt = hash_bytes(LABEL_PHRASE_STRETCH, b"", 16)
        stretched = argon2id(secret.reveal(), salt, PHRASE_ARGON2_OPS, PHRASE_ARGON2_MEMORY_KIB)
        self.opening = HpkeKey(derive(stretched, LABEL_INDEX_HPKE))
        self.index_secret = derive(stretched, LABEL_INDEX_SECRET)

    def __repr__(self) -> str:
        return "PhraseKeys(hidden)"

    def __reduce__(self) -> str:
        raise TypeError("a secret is never pickled")


def index_mailbox_secret(index_secret: Secret, relay: str) -> Secret:
    """The secret of the index's mailbox at one relay: no two relays see the same topic.

    Raises:
        MalformedError: not a relay's address.
    """
    return derive(index_secret, LABEL_INDEX_MAILBOX, normalize_origin(relay).encode())


def index_mailbox(index_secret: Secret, relay: str) -> TopicKeys:
    """What opens the index's mailbox at one relay, and seals its envelopes."""
    return mailbox_keys(index_mailbox_secret(index_secret, relay))


class RecoveryKeys:
    """The keys by which one member comes back into one group: to sign `recover`, and to open wraps of epochs.

    Made from a random seed of 32 bytes that the device erases as soon as it is sealed for the index.
    """

    __slots__ = ("hpke", "seed", "signing")

    def __init__(self, seed: Secret) -> None:
        self.seed = seed
        self.signing = SigningKey(derive(seed, LABEL_RECOVERY_SIGN))
        self.hpke = HpkeKey(derive(seed, LABEL_RECOVERY_HPKE))

    @property
    def id(self) -> RecoveryId:
        return RecoveryId(self.signing.public)

    def __repr__(self) -> str:
        return f"RecoveryKeys({self.id!r}, hidden)"

    def __reduce__(self) -> str:
        raise TypeError("a secret is never pickled")


def seal_seed(keys: RecoveryKeys, index: HpkePublicKey, group: GroupId) -> bytes:
    """The seed of a group's recovery keys, for whoever holds the phrase alone."""
    return wrap(index, keys.seed.reveal(), _seed_info(group))


def open_seed(sealed: bytes, keys: PhraseKeys, group: GroupId) -> RecoveryKeys:
    """Undo `seal_seed`.

    Raises:
        DecryptionError: sealed for another phrase or group, or not a seed.
    """
    try:
        return RecoveryKeys(Secret(keys.opening.open(sealed, _seed_info(group))))
    except MalformedError as error:
        raise DecryptionError("a sealed recovery seed is not 32 bytes") from error


def _seed_info(group: GroupId) -> bytes:
    return LABEL_RECOVERY_SEED.encode() + b"\0" + group
