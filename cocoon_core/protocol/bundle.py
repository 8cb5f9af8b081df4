"""A bundle: what a relay would hold of a group, in one file that anybody may carry. Implements specs/bundle.md §2, §3.

    bundle = head ‖ part ‖ part ‖ …            part = length(4) ‖ payload ‖ digest(32)

A payload is one CBOR value, and each digest commits to all before it: a file that was cut off, damaged or put together
anew is noticed at the part where it happens. Digests are no signatures: whoever made a file can make any file. What is
in it is believed no more than what a relay says. Files are read and written in sync/bundle_file.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from cocoon_core.errors import MalformedError, UpdateNeededError
from cocoon_core.protocol.constants import (
    BUNDLE_PART_BYTES,
    LABEL_BUNDLE_PART,
    MAX_BLOB_BYTES,
    MAX_BUNDLE_BLOBS,
    MAX_BUNDLE_PART,
    MAX_BUNDLE_TOPICS,
    MAX_ENVELOPE_BYTES,
    MAX_PUT_ENVELOPES,
)
from cocoon_core.protocol.encoding import decode, encode
from cocoon_core.protocol.frames import MIN_ENVELOPE_BYTES
from cocoon_core.protocol.ids import BlobHash, TopicId
from cocoon_core.protocol.primitives import hash_bytes, sha256

HEAD: Final = b"cocoon bundle 1\n"
_HEAD_OF_ANY: Final = b"cocoon bundle "
LENGTH_BYTES: Final = 4
DIGEST_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class TopicPart:
    """What follows stands in this topic. A sealed one takes nothing more at a relay."""

    topic: TopicId
    sealed: bool


@dataclass(frozen=True, slots=True)
class EnvelopesPart:
    """The next envelopes of the topic, in their order."""

    envelopes: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class BlobPart:
    """One blob."""

    data: bytes

    @property
    def name(self) -> BlobHash:
        return BlobHash(sha256(self.data))


@dataclass(frozen=True, slots=True)
class EndPart:
    """All there is: how many of each came before."""

    topics: int
    envelopes: int
    blobs: int


Part = TopicPart | EnvelopesPart | BlobPart | EndPart


def check_head(raw: bytes) -> None:
    """Check the first bytes of a file, as many as HEAD has.

    Raises:
        MalformedError: it is no bundle.
        UpdateNeededError: it is one of another version.
    """
    if raw == HEAD:
        return
    if raw.startswith(_HEAD_OF_ANY) and raw.endswith(b"\n"):
        raise UpdateNeededError("this bundle is of a later version; install a newer Cocoon")
    raise MalformedError("this file is no bundle")


def first_digest() -> bytes:
    """What the first part's digest goes on from."""
    return hash_bytes(LABEL_BUNDLE_PART, HEAD)


def next_digest(before: bytes, payload: bytes) -> bytes:
    """The digest of a part, from that of the part before it."""
    return hash_bytes(LABEL_BUNDLE_PART, before + payload)


def frame_part(part: Part, before: bytes) -> tuple[bytes, bytes]:
    """The bytes of a part, and its digest."""
    payload = encode(_value_of(part))
    digest = next_digest(before, payload)
    return len(payload).to_bytes(LENGTH_BYTES) + payload + digest, digest


def read_length(raw: bytes) -> int:
    """How many bytes a part's payload has.

    Raises:
        MalformedError: the file is cut off, or the part would be longer than one may be.
    """
    if len(raw) < LENGTH_BYTES:
        raise MalformedError("the bundle is cut off")
    length = int.from_bytes(raw)
    if not 0 < length <= MAX_BUNDLE_PART:
        raise MalformedError(f"the bundle is damaged: a part says that it has {length} bytes")
    return length


def read_part(raw: bytes, length: int, before: bytes) -> tuple[Part, bytes]:
    """The part in payload ‖ digest, and its digest.

    Raises:
        MalformedError: the file is cut off or damaged here, or this is no part.
    """
    if len(raw) != length + DIGEST_BYTES:
        raise MalformedError("the bundle is cut off")
    payload, digest = raw[:length], raw[length:]
    if next_digest(before, payload) != digest:
        raise MalformedError("the bundle is damaged")
    return _part_from(decode(payload, max_bytes=MAX_BUNDLE_PART)), digest


class Order:
    """Checks that parts stand in the one order that there is; give it each in turn.

    Topics rise, each with an envelope at least and with its envelopes in parts as full as they can be; then blobs,
    rising by name; then the end. `is_whole` once that came.
    """

    def __init__(self) -> None:
        self.topics = self.envelopes = self.blobs = 0
        self.is_whole = False
        self._topic: TopicId | None = None
        self._blob: BlobHash | None = None
        self._before: tuple[bytes, ...] = ()  # the envelopes of the part before, of this topic

    def take(self, part: Part) -> None:
        """Raises:
        MalformedError: this part cannot stand here.
        """
        if self.is_whole:
            raise MalformedError("the bundle goes on after its end")
        match part:
            case TopicPart(topic, _):
                self._take_topic(topic)
            case EnvelopesPart(envelopes):
                self._take_envelopes(envelopes)
            case BlobPart():
                self._take_blob(part.name)
            case EndPart():
                self._require_ended_topic()
                if (part.topics, part.envelopes, part.blobs) != (self.topics, self.envelopes, self.blobs):
                    raise MalformedError("the bundle's end counts other parts than those that came")
                self.is_whole = True

    def _take_topic(self, topic: TopicId) -> None:
        self._require_ended_topic()
        if self._blob is not None or (self._topic is not None and topic <= self._topic):
            raise MalformedError("the topics of a bundle do not rise")
        if self.topics == MAX_BUNDLE_TOPICS:
            raise MalformedError(f"a bundle has at most {MAX_BUNDLE_TOPICS} topics")
        self._topic, self._before = topic, ()
        self.topics += 1

    def _take_envelopes(self, envelopes: tuple[bytes, ...]) -> None:
        if self._topic is None or self._blob is not None:
            raise MalformedError("envelopes of a bundle stand in no topic")
        if self._before and _has_room(self._before, envelopes[0]):
            raise MalformedError("a part of a bundle is not as full as it could be")
        self._before = envelopes
        self.envelopes += len(envelopes)

    def _take_blob(self, name: BlobHash) -> None:
        self._require_ended_topic()
        if self._blob is not None and name <= self._blob:
            raise MalformedError("the blobs of a bundle do not rise")
        if self.blobs == MAX_BUNDLE_BLOBS:
            raise MalformedError(f"a bundle has at most {MAX_BUNDLE_BLOBS} blobs")
        self._blob = name
        self.blobs += 1

    def _require_ended_topic(self) -> None:
        if self._topic is not None and not self._before:
            raise MalformedError("a topic of a bundle is empty")


def fill_parts(envelopes: Iterable[bytes]) -> Iterator[EnvelopesPart]:
    """Cut a topic's envelopes into parts, each as full as it can be."""
    batch: tuple[bytes, ...] = ()
    for envelope in envelopes:
        if batch and not _has_room(batch, envelope):
            yield EnvelopesPart(batch)
            batch = ()
        batch = (*batch, envelope)
    if batch:
        yield EnvelopesPart(batch)


def _has_room(envelopes: tuple[bytes, ...], another: bytes) -> bool:
    used = sum(map(len, envelopes))
    return len(envelopes) < MAX_PUT_ENVELOPES and used + len(another) <= BUNDLE_PART_BYTES


# --- one part


def _value_of(part: Part) -> list[Any]:
    match part:
        case TopicPart(topic, sealed):
            return [1, topic, sealed]
        case EnvelopesPart(envelopes):
            return [2, envelopes]
        case BlobPart(data):
            return [3, data]
        case EndPart(topics, envelopes_in_all, blobs):
            return [4, topics, envelopes_in_all, blobs]


def _part_from(value: Any) -> Part:
    match value:
        case [int() as kind, bytes() as topic, bool() as sealed] if _is(kind, 1):
            return TopicPart(TopicId(topic), sealed)
        case [int() as kind, list() as envelopes] if _is(kind, 2):
            return EnvelopesPart(_envelopes(envelopes))
        case [int() as kind, bytes() as data] if _is(kind, 3) and 0 < len(data) <= MAX_BLOB_BYTES:
            return BlobPart(data)
        case [int() as kind, *counts] if _is(kind, 4) and len(counts) == 3 and all(type(n) is int for n in counts):
            return EndPart(*counts)
    raise MalformedError("a part of a bundle is none that this version knows")


def _is(kind: int, wanted: int) -> bool:
    return type(kind) is int and kind == wanted


def _envelopes(values: list[Any]) -> tuple[bytes, ...]:
    if not 0 < len(values) <= MAX_PUT_ENVELOPES:
        raise MalformedError(f"a part of a bundle has 1 to {MAX_PUT_ENVELOPES} envelopes")
    for value in values:
        if type(value) is not bytes or not MIN_ENVELOPE_BYTES <= len(value) <= MAX_ENVELOPE_BYTES:
            raise MalformedError(f"an envelope is {MIN_ENVELOPE_BYTES} to {MAX_ENVELOPE_BYTES} bytes")
    found: tuple[bytes, ...] = tuple(values)
    if len(found) > 1 and sum(map(len, found)) > BUNDLE_PART_BYTES:
        raise MalformedError(f"the envelopes of a part are at most {BUNDLE_PART_BYTES} bytes")
    return found
