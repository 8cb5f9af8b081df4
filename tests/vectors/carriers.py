"""Vectors for bundles and for the local network (specs/bundle.md, specs/lan.md)."""

from __future__ import annotations

from cocoon_core.protocol.bundle import (
    HEAD,
    BlobPart,
    EndPart,
    EnvelopesPart,
    Part,
    TopicPart,
    fill_parts,
    first_digest,
    frame_part,
)
from cocoon_core.protocol.constants import LABEL_LAN, LAN_TOKEN_BYTES, MAX_PUT_ENVELOPES
from cocoon_core.protocol.encoding import encode
from cocoon_core.protocol.envelope import seal_envelope
from cocoon_core.protocol.ids import TopicId
from cocoon_core.protocol.lan import (
    MOST_TOKENS,
    Instance,
    lan_key,
    make_announcement,
    make_token,
    read_announcement,
    read_instance,
    recognise,
)
from cocoon_core.protocol.primitives import derive, hash_bytes, sha256
from tests.support.bundle_parsers import frame_payloads, payloads_of, read_whole, write_parts
from tests.support.flips import flip
from tests.support.protocol_story import EPOCH
from tests.vectors.values import Json, refused


def make_bundle() -> Json:
    """A bundle, part by part; the same with many envelopes; files that are refused."""
    one, two = seal_envelope(b"one", EPOCH), seal_envelope(b"two", EPOCH)
    blobs = sorted((b"blob one", b"blob two"), key=sha256)
    topic, other = sorted((EPOCH.topic, TopicId(b"\x0a" * 32)))
    parts: list[Part] = [
        TopicPart(topic, True),
        EnvelopesPart((one,)),
        TopicPart(other, False),
        EnvelopesPart((one, two)),
        *map(BlobPart, blobs),
        EndPart(2, 3, 2),
    ]
    shown, digest = [], first_digest()
    for part in parts:
        raw, after = frame_part(part, digest)
        shown.append({"before": digest.hex(), "raw": raw.hex(), "digest": after.hex()})
        digest = after
    whole = write_parts(*parts)
    many = [one] * (MAX_PUT_ENVELOPES + 1)
    cuts = [len(part.envelopes) for part in fill_parts(many)]
    return {
        "head": HEAD.hex(),
        "first_digest": first_digest().hex(),
        "parts": shown,
        "file": whole.hex(),
        "parts_of_65_envelopes": cuts,
        "refused": [
            refused(name, reason, {"file": raw.hex()}, read_whole, raw)
            for name, reason, raw in _bad(parts, whole, one, many)
        ],
    }


def _bad(parts: list[Part], whole: bytes, one: bytes, many: list[bytes]) -> list[tuple[str, str, bytes]]:
    sealed, first, opened, rest, blob, last, _ = parts
    topic = payloads_of(whole)[0]
    after = TopicPart(TopicId(b"\xff" * 32), False)
    full = [topic, encode([2, many]), encode([4, 1, len(many), 0])]
    return [
        ("empty", "there is no head", b""),
        ("another file", "the head is another", b"PK\x03\x04" + bytes(32)),
        ("a later version", "the head names version 2", b"cocoon bundle 2\n" + whole[len(HEAD) :]),
        ("cut off inside a part", "the part is shorter than its length", whole[: len(whole) // 2]),
        ("cut off before its end", "the end is missing", write_parts(*parts[:-1])),
        ("goes on after its end", "a byte follows the end", whole + b"\0"),
        ("a part after the end", "a part follows the end", write_parts(*parts, after)),
        ("one bit flipped", "a digest does not hold", flip(whole, -40)),
        ("a part that is too long", "its length is over the limit", HEAD + b"\xff\xff\xff\xff"),
        ("a part that is empty", "its length is 0", HEAD + bytes(4) + bytes(32)),
        ("topics that fall", "topics rise", write_parts(opened, rest, sealed, first, EndPart(2, 3, 0))),
        ("a topic twice", "topics rise", write_parts(sealed, first, sealed, first, EndPart(2, 2, 0))),
        ("a topic after blobs", "topics come first", write_parts(sealed, first, blob, opened, rest, EndPart(2, 3, 1))),
        ("an empty topic", "a topic has an envelope", write_parts(sealed, opened, rest, EndPart(2, 2, 0))),
        ("a last topic that is empty", "a topic has an envelope", write_parts(sealed, EndPart(1, 0, 0))),
        ("envelopes of no topic", "a topic comes before them", write_parts(first, EndPart(0, 1, 0))),
        ("a part that is not full", "the next envelope had room", write_parts(sealed, first, first, EndPart(1, 2, 0))),
        ("a part that is too full", "65 envelopes", frame_payloads(full)),
        ("a part without envelopes", "1 to 64 envelopes", frame_payloads([topic, encode([2, []])])),
        ("an envelope that is too short", "295 bytes", frame_payloads([topic, encode([2, [one[:295]]])])),
        ("blobs that fall", "blobs rise by name", write_parts(last, blob, EndPart(0, 0, 2))),
        ("a blob twice", "blobs rise by name", write_parts(blob, blob, EndPart(0, 0, 2))),
        ("an empty blob", "a blob has a byte", frame_payloads([encode([3, b""])])),
        ("an end that counts otherwise", "one blob came", write_parts(blob, EndPart(0, 0, 2))),
        ("a part of no kind", "kinds are 1 to 4", frame_payloads([encode([5, b"x"])])),
        ("CBOR in another form", "the encoding is deterministic", frame_payloads([b"\x84\x18\x04\x00\x00\x00"])),
    ]


def make_lan() -> Json:
    """Tokens of an epoch, announcements, what is recognised when, names and records that are refused."""
    instance = Instance(bytes(range(16)), 40_123)
    slot = 497_222
    filling = bytes(number * 37 % 251 for number in range(MOST_TOKENS * LAN_TOKEN_BYTES))
    filling = b"".join(hash_bytes("cocoon/v1/lan", filling[at : at + 8], 8) for at in range(0, len(filling), 8))
    key = lan_key(EPOCH)
    keys = [key, *(derive(key, LABEL_LAN, bytes((number,))) for number in range(24))]
    record = make_announcement([key], slot, instance, filling)
    full = make_announcement(keys, slot, instance, filling)
    tokens = read_announcement(record)
    seen = [
        {"slot": at, "port": port, "found": bool(recognise(tokens, [key], at, Instance(instance.nonce, port)))}
        for at, port in ((slot, 40_123), (slot + 1, 40_123), (slot - 1, 40_123), (slot + 2, 40_123), (slot, 40_124))
    ]
    return {
        "epoch_secret": EPOCH.secret.reveal().hex(),
        "lan_key": key.reveal().hex(),
        "instance": instance.nonce.hex(),
        "port": instance.port,
        "slot": slot,
        "slot_of_ms": slot * 3_600_000 + 1,
        "token": make_token(key, slot, instance).hex(),
        "filling": filling.hex(),
        "announcement": _shown(record),
        "keys_of_25": [one.reveal().hex() for one in keys],
        "announcement_of_25": _shown(full),
        "recognised": seen,
        "refused_names": [
            refused(name, reason, {"instance": given, "port": port}, read_instance, given, port)
            for name, reason, given, port in (
                ("upper case", "digits are in lower case", "0A" * 16, 1),
                ("too short", "16 bytes", "0a" * 15, 1),
                ("no hex", "digits of hex", "zz" * 16, 1),
                ("spaces", "digits of hex alone", "0a " * 16, 1),
                ("no port", "a port is 1 to 65535", "0a" * 16, 0),
            )
        ],
        "refused_records": [
            refused(name, reason, {"record": _shown(bad)}, read_announcement, bad)
            for name, reason, bad in _bad_records(record, full)
        ],
    }


def _shown(record: dict[bytes, bytes]) -> dict[str, str]:
    return {key.decode(): value.hex() for key, value in record.items()}


def _bad_records(record: dict[bytes, bytes], full: dict[bytes, bytes]) -> list[tuple[str, str, dict[bytes, bytes]]]:
    string = record[b"t0"]
    falling = b"".join(reversed([string[at : at + 8] for at in range(0, len(string), 8)]))
    return [
        ("empty", "there is no version", {}),
        ("another version", "the version is 1", {**record, b"v": b"2"}),
        ("no tokens", "t0 is there", {b"v": b"1"}),
        ("a string that is too short", "a string has 192 bytes", {**record, b"t0": string[:-8]}),
        ("a string that is too long", "a string has 192 bytes", {**record, b"t0": string + bytes(8)}),
        ("tokens that fall", "tokens rise", {**record, b"t0": falling}),
        ("a token twice", "tokens rise", {**record, b"t0": string[:8] + string[:-8]}),
        ("strings that fall", "tokens rise over strings", {b"v": b"1", b"t0": full[b"t1"], b"t1": full[b"t0"]}),
    ]
