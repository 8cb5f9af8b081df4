"""The parsers of rotations, manifests, snapshots and repair topics that a stranger's bytes reach, for parsers.py."""

from __future__ import annotations

import bz2
from collections.abc import Callable

from cocoon_core.errors import CocoonError, MalformedError, UntrustedInputError, UpdateNeededError
from cocoon_core.protocol.beacon import Beacon, read_beacon
from cocoon_core.protocol.constants import LABEL_REPAIR, LABEL_WRAP_PAGE
from cocoon_core.protocol.encoding import decode, encode
from cocoon_core.protocol.entry import EntryKind
from cocoon_core.protocol.frontier import decode_frontier, encode_frontier, frontier_digest
from cocoon_core.protocol.ids import RecipientId
from cocoon_core.protocol.manifest import decode_manifest, encode_manifest, read_manifest_body
from cocoon_core.protocol.manifest_check import verify_manifest
from cocoon_core.protocol.operations import decode_operation
from cocoon_core.protocol.operations_rotation import Reason, Rotation, WrapPages, WrapsBeside
from cocoon_core.protocol.part import open_part, read_sections
from cocoon_core.protocol.rekey import read_rekey, rekey_body
from cocoon_core.protocol.repair import Complaint, Fork, Repair, RepairValue, encode_repair_value, read_repair_value
from cocoon_core.protocol.rotation import find_wrap
from cocoon_core.protocol.rotation_value import add_wraps, split_wraps
from cocoon_core.protocol.sealed_pages import name_page, seal_page
from tests.support.epoch_story import BEN, NEXT, RENEWED, manifest_entry, state
from tests.support.protocol_story import ANA, CREATE, EPOCH, GROUP, Writer, named_secret
from tests.vectors.epochs import kept, kept_story

Described = tuple[str, Callable[[bytes], object], tuple[bytes, ...], tuple[type[CocoonError], ...], bool]

_UNTRUSTED = (UntrustedInputError, UpdateNeededError)
_KEY = named_secret("page key")


def _find_in_page(records: bytes) -> object:
    """Look one's wrap up in a page that a member sealed, with any bytes in it."""
    blob = seal_page(records[:1_000_000], _KEY, 0, LABEL_WRAP_PAGE, NEXT.topic)
    first = RecipientId(records[:32].ljust(32, b"\0"))
    rotation = Rotation(Reason.AGE, (EPOCH.topic,), NEXT.topic, WrapPages(_KEY, ((first, name_page(blob)),)))
    return find_wrap(rotation, RecipientId(ANA.id), {name_page(blob): blob})


def _read_part(table: bytes) -> object:
    """Read a part whose table is this, to the last change of each document."""
    sections = open_part(bz2.compress(table, 1))
    return [read_sections(document, [section]) for document, section in sections.items()]


def _rekey(raw: bytes) -> object:
    value = decode(raw)
    if not isinstance(value, list):
        raise MalformedError("not a body")
    writer = Writer()
    writer.operate(CREATE)
    return read_rekey(state(writer, EntryKind.REKEY, value))


def _beacon(raw: bytes) -> object:
    value = decode(raw)
    if not isinstance(value, list):
        raise MalformedError("not a body")
    writer = Writer()
    writer.operate(CREATE)
    return read_beacon(state(writer, EntryKind.BEACON, value))


def epoch_parsers() -> tuple[Described, ...]:
    """(name, read, whole inputs, errors that it names, whether inputs are CBOR)."""
    story = kept_story()
    manifest, rotation = story.manifest(), story.runs[-1].last_id
    entry, _ = manifest_entry(story)
    content = encode_manifest(manifest, GROUP)
    part = bytes.fromhex(kept()["part"])
    wrapped = bytes.fromhex(kept()[BEN.id.hex()])
    signature = ANA.signing.sign(LABEL_REPAIR, GROUP + rotation + BEN.id + wrapped)
    repair = Repair(rotation, RecipientId(BEN.id), wrapped, ANA.id, signature)
    values: tuple[RepairValue, ...] = (Complaint.make(BEN.signing, GROUP, rotation), repair, Fork.of(story.runs[-1]))
    page = ANA.id + wrapped

    def verify(raw: bytes) -> object:
        return verify_manifest(decode_manifest(raw, GROUP), entry, NEXT.topic)

    malformed = (MalformedError,)
    digest = frontier_digest(manifest.frontier)
    beacon = Beacon(1, digest, 0, ("ws://relay.test:1",), {BEN.id: (2, entry.id)})
    named = WrapPages(_KEY, ((RecipientId(ANA.id), name_page(b"a page")),))
    bodies = (
        Rotation(Reason.AGE, (EPOCH.topic,), NEXT.topic, WrapsBeside.of(BEN.id + wrapped)),
        Rotation(Reason.REMOVAL, (EPOCH.topic,), NEXT.topic, named),
    )
    return (
        ("decode_operation of rotations", lambda raw: decode_operation(decode(raw)), tuple(
            encode(body.encode_body()) for body in bodies), _UNTRUSTED, True),
        ("page of wraps", _find_in_page, (page,), malformed, False),
        ("split_wraps", lambda raw: split_wraps(raw, GROUP), (
            add_wraps(story.runs[-1].wire, story.records),), _UNTRUSTED, True),
        ("read_rekey", _rekey, (encode(rekey_body(RENEWED.hpke_public)),), malformed, True),
        ("read_beacon", _beacon, (encode(beacon.encode_body()),), malformed, True),
        ("decode_frontier", lambda raw: decode_frontier(decode(raw)), (
            encode(encode_frontier(manifest.frontier)),), malformed, True),
        ("read_manifest_body", lambda raw: read_manifest_body(decode(raw)), (encode(entry.body),), _UNTRUSTED, True),
        ("decode_manifest", lambda raw: decode_manifest(raw, GROUP), (content,), _UNTRUSTED, True),
        ("verify_manifest", verify, (content,), _UNTRUSTED, True),
        ("open_part", open_part, (part,), _UNTRUSTED, False),
        ("read_sections", _read_part, (bz2.decompress(part),), _UNTRUSTED, False),
        ("read_repair_value", lambda raw: read_repair_value(raw, GROUP), tuple(
            map(encode_repair_value, values)), _UNTRUSTED, True),
    )  # fmt: skip
