"""The index: which groups a profile is in, and what it takes to come back, for the holder of the phrase alone.

Each device that covers groups by the phrase puts its own index into the mailbox whenever something changed. Whoever
holds the mailbox's secret (a device, or a thief of one) can put anything there: an index does not prove who wrote it,
and what it says is checked against the group it leads to. Implements specs/recovery.md §4.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from cocoon_core.errors import DecryptionError, MalformedError, UntrustedInputError, UpdateNeededError
from cocoon_core.protocol import encoding
from cocoon_core.protocol.constants import (
    INDEX_TAG_BYTES,
    LABEL_INDEX,
    MAX_INDEX_BYTES,
    MAX_INDEX_KEYS,
    MAX_INDEX_RECORDS,
    MAX_INDEX_TAGS,
    MIN_INDEX_BYTES,
    VERSION,
)
from cocoon_core.protocol.envelope import open_envelope
from cocoon_core.protocol.epoch import Epoch, TopicKeys
from cocoon_core.protocol.ids import GroupId, HpkePublicKey, TopicId
from cocoon_core.protocol.invite import require_relays, require_tokens
from cocoon_core.protocol.operations import Create, decode_operation
from cocoon_core.protocol.primitives import Secret, wrap
from cocoon_core.protocol.recovery import PhraseKeys


@dataclass(frozen=True, slots=True)
class IndexRecord:
    """One group: how it began, an epoch to begin at, its relays with their access tokens, and sealed seeds.

    More than one seed of recovery keys stands here while it is not certain which the roster will count.
    """

    create: Create
    epoch: Epoch
    relays: tuple[str, ...]
    seeds: tuple[bytes, ...] = field(repr=False)
    tokens: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    @property
    def group(self) -> GroupId:
        return self.create.group_id()

    def to_value(self) -> list[Any]:
        secret, tokens = self.epoch.secret.reveal(), dict(self.tokens)
        return [self.create.encode_body(), secret, list(self.relays), tokens, list(self.seeds)]


@dataclass(frozen=True, slots=True)
class Index:
    """What one writer knows. `tag` is random and the writer's own; indexes under `superseded` tags count no more.

    `unknown` counts records of groups that a later version created.
    """

    tag: bytes
    superseded: tuple[bytes, ...]
    records: tuple[IndexRecord, ...]
    unknown: int = 0

    def to_value(self) -> list[Any]:
        return [VERSION, self.tag, list(self.superseded), [record.to_value() for record in self.records]]


def seal_index(index: Index, reader: HpkePublicKey) -> tuple[bytes, int]:
    """The value to seal into the mailbox, and how many of the records found room in it, the first ones.

    Its size is a power of two from 16 KiB on, so it says little of how many groups there are.
    """
    records = index.records
    while True:
        body = encoding.encode(Index(index.tag, index.superseded, records).to_value())
        if len(body) < MAX_INDEX_BYTES:
            break
        records = records[: len(records) * MAX_INDEX_BYTES // (len(body) + 1)]
    padded = (body + b"\x80").ljust(_padded_size(len(body)), b"\0")
    return encoding.encode([VERSION, wrap(reader, padded, _info())]), len(records)


def open_index(value: bytes, keys: PhraseKeys) -> Index:
    """Read one index.

    Raises:
        DecryptionError: sealed to another phrase.
        MalformedError: not an index.
    """
    match encoding.decode(value):
        case [version, bytes() as sealed] if _is_version(version):
            padded = keys.opening.open(sealed, _info())
        case _:
            raise MalformedError("not an index of this version")
    body = padded.rstrip(b"\0")
    if not body.endswith(b"\x80") or len(padded) != _padded_size(len(body) - 1):
        raise MalformedError("the padding of an index is not the permitted one")
    match encoding.decode(body[:-1]):
        case [version, bytes() as tag, list() as superseded, list() as records] if _is_version(version):
            tags = [_tag_from(value) for value in (tag, *superseded)]
            if len(superseded) > MAX_INDEX_TAGS:
                raise MalformedError(f"an index supersedes {MAX_INDEX_TAGS} others at most")
            known = [_record_from(value) for value in records]
            found = tuple(record for record in known if record is not None)
            return Index(tags[0], tuple(tags[1:]), found, len(known) - len(found))
    raise MalformedError("not an index of this version")


@dataclass(frozen=True, slots=True)
class Indexes:
    """What the mailboxes of a phrase hold, each part the newest first.

    `current` is the newest of each writer that no later one superseded. `older` is the rest: who holds the index secret
    could have put something later in the place of what is true, so it is tried as well, after those.
    """

    current: tuple[Index, ...] = ()
    older: tuple[Index, ...] = ()

    def __add__(self, other: Indexes) -> Indexes:
        return Indexes(self.current + other.current, self.older + other.older)

    def tags(self) -> set[bytes]:
        return {index.tag for index in (*self.current, *self.older)}

    def records(self) -> dict[GroupId, list[IndexRecord]]:
        """For each group its records, those of one epoch at the same relays once: any one of them may lead to it."""
        merged: dict[GroupId, dict[tuple[TopicId, tuple[str, ...]], IndexRecord]] = {}
        for index in (*self.current, *self.older):
            for record in index.records:
                merged.setdefault(record.group, {}).setdefault((record.epoch.topic, record.relays), record)
        return {group: list(records.values())[:MAX_INDEX_RECORDS] for group, records in merged.items()}

    def seeds(self, group: GroupId) -> list[bytes]:
        """Every sealed seed of a group, once."""
        indexes = (*self.current, *self.older)
        found = (
            seed for index in indexes for record in index.records if record.group == group for seed in record.seeds
        )
        return list(dict.fromkeys(found))


def read_indexes(envelopes: Iterable[bytes], keys: PhraseKeys, mailbox: TopicKeys) -> Indexes:
    """The indexes of a mailbox. What is none is passed over."""
    current: dict[bytes, Index] = {}
    older: list[Index] = []
    for envelope in envelopes:
        try:
            index = open_index(open_envelope(envelope, mailbox), keys)
        except UntrustedInputError:
            continue
        older += [current.pop(tag) for tag in dict.fromkeys((index.tag, *index.superseded)) if tag in current]
        current[index.tag] = index
    return Indexes(tuple(reversed(current.values())), tuple(reversed(older)))


def _padded_size(length: int) -> int:
    """The power of two that holds so many bytes and the end mark."""
    return max(MIN_INDEX_BYTES, 1 << length.bit_length())


def _record_from(value: object) -> IndexRecord | None:
    """A record; None where a later version created the group, which takes no other group with it."""
    match value:
        case [list() as create, bytes() as secret, list() as relays, dict() as tokens, list() as seeds]:
            pass
        case _:
            raise MalformedError("a record of an index is [create, epoch secret, relays, tokens, seeds]")
    if not 0 < len(seeds) <= MAX_INDEX_KEYS or not all(isinstance(seed, bytes) for seed in seeds):
        raise MalformedError(f"a record of an index has 1 to {MAX_INDEX_KEYS} sealed seeds")
    try:
        operation = decode_operation(create)
    except UpdateNeededError:
        return None
    if not isinstance(operation, Create):
        raise MalformedError("a record of an index does not begin with a create")
    try:
        epoch = Epoch(Secret(secret))
    except MalformedError as error:
        raise DecryptionError("a record of an index does not hold a secret of 32 bytes") from error
    known = require_tokens(tokens, relays) if tokens else ()
    return IndexRecord(operation, epoch, require_relays(relays), tuple(seeds), known)


def _tag_from(value: object) -> bytes:
    if not isinstance(value, bytes) or len(value) != INDEX_TAG_BYTES:
        raise MalformedError(f"the tag of an index is {INDEX_TAG_BYTES} bytes")
    return value


def _is_version(value: object) -> bool:
    return type(value) is int and value == VERSION  # True equals 1


def _info() -> bytes:
    return LABEL_INDEX.encode() + b"\0"
