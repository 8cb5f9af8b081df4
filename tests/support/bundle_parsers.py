"""The parser of bundle files, for parsers.py: over whole files, and over parts whose digests are right."""

from __future__ import annotations

import tempfile
from collections.abc import Callable

from cocoon_core.errors import CocoonError, MalformedError, UpdateNeededError
from cocoon_core.protocol.bundle import (
    DIGEST_BYTES,
    HEAD,
    LENGTH_BYTES,
    BlobPart,
    EndPart,
    EnvelopesPart,
    Part,
    TopicPart,
    first_digest,
    frame_part,
    next_digest,
)
from cocoon_core.protocol.encoding import decode, encode
from cocoon_core.protocol.envelope import seal_envelope
from cocoon_core.protocol.lan import MOST_TOKENS, Instance, lan_key, make_announcement, read_announcement, read_instance
from cocoon_core.protocol.primitives import hash_bytes
from cocoon_core.sync.bundle_file import BundleFile
from tests.support.protocol_story import EPOCH

Described = tuple[str, Callable[[bytes], object], tuple[bytes, ...], tuple[type[CocoonError], ...], bool]

PARTS: tuple[Part, ...] = (
    TopicPart(EPOCH.topic, False),
    EnvelopesPart((seal_envelope(b"one", EPOCH), seal_envelope(b"two", EPOCH))),
    BlobPart(b"blob"),
    EndPart(1, 2, 1),
)


def write_parts(*parts: Part) -> bytes:
    """A file of these parts, in whatever order."""
    digest, found = first_digest(), [HEAD]
    for part in parts:
        raw, digest = frame_part(part, digest)
        found.append(raw)
    return b"".join(found)


def frame_payloads(payloads: list[bytes]) -> bytes:
    """A file of these payloads, whatever they are, with right digests."""
    digest, found = first_digest(), [HEAD]
    for payload in payloads:
        digest = next_digest(digest, payload)
        found.append(len(payload).to_bytes(LENGTH_BYTES) + payload + digest)
    return b"".join(found)


def read_whole(raw: bytes) -> list[object]:
    """Open a file with these bytes, and read all of it."""
    with tempfile.TemporaryFile() as file:
        file.write(raw)
        file.seek(0)
        bundle = BundleFile(file)
        found: list[object] = [(topic, list(bundle.envelopes(topic))) for topic in bundle.topics]
        return found


def _read_values(raw: bytes) -> object:
    """The same for a CBOR array of payloads: what passes the digests is met."""
    values = decode(raw)
    if not isinstance(values, list):
        raise MalformedError("not parts")
    return read_whole(frame_payloads([encode(value) for value in values]))


def _read_record(raw: bytes) -> object:
    """Read a TXT record that a stranger sent."""
    value = decode(raw)
    if not isinstance(value, dict) or not all(isinstance(item, bytes) for item in value.values()):
        raise MalformedError("not a record")
    return read_announcement({key.encode() if isinstance(key, str) else key: item for key, item in value.items()})


def _read_name(raw: bytes) -> object:
    return read_instance(raw.decode("utf-8", "replace"), 1)


def payloads_of(raw: bytes) -> list[bytes]:
    """The payloads of a whole file."""
    at, found = len(HEAD), []
    while at < len(raw):
        length = int.from_bytes(raw[at : at + LENGTH_BYTES])
        found.append(raw[at + LENGTH_BYTES : at + LENGTH_BYTES + length])
        at += LENGTH_BYTES + length + DIGEST_BYTES
    return found


def bundle_parsers() -> tuple[Described, ...]:
    """(name, read, whole inputs, errors that it names, whether inputs are CBOR)."""
    whole = write_parts(*PARTS)
    values = [decode(payload) for payload in payloads_of(whole)]
    allowed = (MalformedError, UpdateNeededError)
    instance = Instance(bytes(16), 1)
    filling = b"".join(hash_bytes("fill", bytes((number,)), 8) for number in range(MOST_TOKENS))
    record = make_announcement([lan_key(EPOCH)], 1, instance, filling)
    named = encode({key.decode(): value for key, value in record.items()})
    return (
        ("bundle", read_whole, (whole,), allowed, False),
        ("bundle with parts", _read_values, (encode(values),), allowed, True),
        ("announcement", _read_record, (named,), (MalformedError,), True),
        ("name of an instance", _read_name, (instance.name.encode(),), (MalformedError,), False),
    )
