"""Vectors for specs/epoch.md §4 to §9: rotations, the choice of an epoch, ranks, the repair topic.

Wraps are random, and compressed parts of snapshots may come out otherwise with another version of bzip2: they were made
once and are inputs here (epoch_ciphertexts.json). `python -m tests.vectors.epochs` makes them anew.
"""

from __future__ import annotations

import bz2
import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

from cocoon_core.protocol import part as part_module
from cocoon_core.protocol.constants import (
    LABEL_COMPLAINT,
    LABEL_RANK,
    LABEL_REPAIR,
    LABEL_WRAP_PAGE,
    SNAPSHOT_PART_BYTES,
    WRAP_BYTES,
)
from cocoon_core.protocol.encoding import decode, encode
from cocoon_core.protocol.epoch import wrap_epoch
from cocoon_core.protocol.epochs import rank_of
from cocoon_core.protocol.ids import BlobHash, DeviceId, DocumentId, HpkePublicKey, RecipientId, Signature
from cocoon_core.protocol.operations import decode_operation
from cocoon_core.protocol.operations_rotation import Reason, Rotation, WrapPages
from cocoon_core.protocol.part import Part, Said, pack_parts
from cocoon_core.protocol.primitives import hash_bytes
from cocoon_core.protocol.repair import (
    Complaint,
    Fork,
    Repair,
    RepairKeys,
    encode_repair_value,
    read_repair_value,
    repair_keys,
)
from cocoon_core.protocol.roster_values import Operation, Recipient
from cocoon_core.protocol.rotation import Pages, check_wraps, open_rotation
from cocoon_core.protocol.rotation_value import add_wraps, split_wraps
from cocoon_core.protocol.sealed_pages import name_page, seal_page
from tests.support.epoch_scenes import SCENES, Epochs
from tests.support.epoch_story import BEN, NEXT, RENEWED, EpochStory, changes_of, pages_of, told
from tests.support.flips import flip
from tests.support.protocol_story import ANA, EPOCH, FEED, GROUP, device_keys, named_secret
from tests.vectors.values import Json, refused

KEPT = Path(__file__).with_name("epoch_ciphertexts.json")
PAGE_KEY = named_secret("page key")
DEVICES = tuple(sorted((ANA, BEN, device_keys("chi"), device_keys("dan")), key=lambda keys: keys.id))


def kept() -> dict[str, str]:
    value: dict[str, str] = json.loads(KEPT.read_text("utf-8"))
    return value


def make_kept() -> dict[str, str]:
    """What is not the same each time it is made."""
    parts: dict[str, str] = {}

    def pack(documents: list[tuple[DocumentId, list[Said]]]) -> list[Part]:
        made = pack_parts(documents)
        parts["part"] = made[0].data.hex()
        return made

    story = told(lambda epoch, keys: wrap_epoch(epoch, keys.hpke_public, GROUP), pack)
    story.manifest()
    document = FEED.document_id(GROUP)
    with patch.object(part_module, "SNAPSHOT_PART_BYTES", 340):
        halves = pack_parts([(document, changes_of(story.ana, document))])
    assert len(halves) == 2
    wraps = {keys.id.hex(): wrap_epoch(NEXT, keys.hpke_public, GROUP).hex() for keys in (*DEVICES, RENEWED)}
    return {
        **wraps,
        **parts,
        "half 0": halves[0].data.hex(),
        "half 1": halves[1].data.hex(),
        "too many zeros": bz2.compress(b"\1" + bytes(SNAPSHOT_PART_BYTES)).hex(),
    }


def kept_story() -> EpochStory:
    """The story with the wraps and the part that were made once."""
    made = kept()
    return told(
        lambda epoch, keys: bytes.fromhex(made[keys.id.hex()]),
        lambda documents: [Part(bytes.fromhex(made["part"]), tuple(document for document, _ in documents))],
    )


# --- rotations


def _paged() -> tuple[Rotation, dict[BlobHash, bytes], list[bytes]]:
    """Four wraps in two pages; a writer would let them stand beside the rotation."""
    made = kept()
    records = [b"".join(keys.id + bytes.fromhex(made[keys.id.hex()]) for keys in DEVICES[at : at + 2]) for at in (0, 2)]
    blobs = [seal_page(data, PAGE_KEY, place, LABEL_WRAP_PAGE, NEXT.topic) for place, data in enumerate(records)]
    first = tuple((RecipientId(DEVICES[2 * place].id), name_page(blob)) for place, blob in enumerate(blobs))
    return Rotation(Reason.AGE, (EPOCH.topic,), NEXT.topic, WrapPages(PAGE_KEY, first)), pages_of(blobs), records


def make_rotation_vectors() -> Json:
    """A rotation with its wraps beside it and one with pages; what is refused of bodies, values, wraps and pages."""
    story = kept_story()
    beside = story.operations[-1].body
    assert isinstance(beside, Rotation)
    paged, pages, records = _paged()
    return {
        "group_id": GROUP.hex(),
        "epoch_secret": NEXT.secret.reveal().hex(),
        "beside": {
            "body": encode(beside.encode_body()).hex(),
            "run": story.runs[-1].wire.hex(),
            "records": story.records.hex(),
            "value": add_wraps(story.runs[-1].wire, story.records).hex(),
            "recipient": ANA.id.hex(),
            "hpke_seed": RENEWED.hpke_seed.reveal().hex(),
        },
        "paged": {
            "body": encode(paged.encode_body()).hex(),
            "key": PAGE_KEY.reveal().hex(),
            "ad": (LABEL_WRAP_PAGE.encode() + b"\0" + NEXT.topic).hex(),
            "pages": [
                {
                    "nonce": place.to_bytes(12).hex(),
                    "records": data.hex(),
                    "blob": pages[name].hex(),
                    "name": name.hex(),
                }
                for place, (data, name) in enumerate(zip(records, paged.pages, strict=True))
            ],
            "recipients": [
                {"recipient": keys.id.hex(), "hpke_seed": keys.hpke_seed.reveal().hex(), "page": place // 2}
                for place, keys in enumerate(DEVICES)
            ],
        },
        "bad_bodies": _bad_bodies(beside, paged),
        "bad_values": _bad_rotation_values(story),
        "bad_openings": _bad_openings(beside, story.records, paged, pages),
        "checks": _checks(paged, pages),
    }


def _bad_bodies(beside: Rotation, paged: Rotation) -> list[Json]:
    good, other = beside.encode_body(), paged.encode_body()
    code, reason, parents, topic, named, name = good
    cases: list[tuple[str, str, list[Any]]] = [
        ("a reason of no known kind", "the reasons of the page", [code, "because", parents, topic, named, name]),
        ("no parent", "it ends one epoch at least", [code, reason, [], topic, named, name]),
        ("33 parents", "at most 32", [code, reason, [bytes([n]) * 32 for n in range(33)], topic, named, name]),
        ("parents out of order", "they rise", [code, reason, [b"\2" * 32, b"\1" * 32], topic, named, name]),
        ("its own topic as parent", "a topic ends another", [code, reason, [topic], topic, named, name]),
        ("no recipient", "one at least", [code, reason, parents, topic, b"", name]),
        ("names of 9 bytes", "8 bytes each", [code, reason, parents, topic, named + b"\xff", name]),
        ("names out of order", "they rise", [code, reason, parents, topic, b"\2" * 8 + b"\1" * 8, name]),
        ("257 names", "at most 256 stand beside it", [code, reason, parents, topic, bytes(8 * 257), name]),
        ("a hash of 31 bytes", "32 bytes", [code, reason, parents, topic, named, bytes(31)]),
        ("no page", "one at least", [*other[:5], []]),
        ("pages without a key", "wraps or pages", [*other[:4], b"", other[5]]),
        ("a page key of 31 bytes", "32 bytes", [*other[:4], bytes(31), other[5]]),
        ("a page twice", "pages rise by their first recipient", [*other[:5], [other[5][0], other[5][0]]]),
        ("an item more", "six items", [*good, 0]),
    ]
    return [
        refused(name, why, {"body": encode(body).hex()}, decode_operation, decode(encode(body)))
        for name, why, body in cases
    ]


def _bad_rotation_values(story: EpochStory) -> list[Json]:
    run, records = story.runs[-1].wire, story.records
    cases: list[tuple[str, str, list[Any]]] = [
        ("version 2", "a later version", [2, "rotation", run, records]),
        ("version 0", "version 1", [0, "rotation", run, records]),
        ("no wraps", "one at least", [1, "rotation", run, b""]),
        ("a flipped bit in a wrap", "the hash in the body", [1, "rotation", run, flip(records, 99)]),
        ("wraps cut off", "each has 1200 bytes", [1, "rotation", run, records[:-1]]),
        ("wraps beside a create", "wraps stand beside a rotation", [1, "rotation", story.runs[0].wire, records]),
        ("wraps beside changes", "a run of one entry without changes", [1, "rotation", story.runs[1].wire, records]),
    ]
    return [
        refused(name, why, {"value": encode(value).hex()}, split_wraps, encode(value), GROUP)
        for name, why, value in cases
    ]


def _bad_openings(beside: Rotation, records: bytes, paged: Rotation, pages: Mapping[BlobHash, bytes]) -> list[Json]:
    first, second = paged.pages
    swapped = {first: pages[second], second: pages[first]}
    moved = Rotation(beside.reason, (NEXT.topic,), EPOCH.topic, beside.where)
    here = pages_of([records])
    others = {name: flip(data, 9) for name, data in here.items()}
    cases: list[tuple[str, str, Rotation, Any, Pages]] = [
        ("no wrap for it", "the recipients are named by id", beside, BEN, here),
        ("an older key of the recipient", "wrapped to the newest key", beside, ANA, here),
        ("another topic", "the wrap is bound to the topic", moved, RENEWED, here),
        ("its wraps are not there", "they stand beside it", beside, RENEWED, {}),
        ("other wraps beside it", "named by their hash", beside, RENEWED, others),
        ("its page is not there", "one page is needed", paged, DEVICES[3], {first: pages[first]}),
        ("another page in its place", "a blob is named by its hash", paged, DEVICES[0], swapped),
        ("a flipped bit in its page", "a blob is named by its hash", paged, DEVICES[0], {first: flip(pages[first], 9)}),
    ]
    shown = []
    for name, why, rotation, keys, blobs in cases:
        recipient = RecipientId(ANA.id if keys is RENEWED else keys.id)
        given = {
            "body": encode(rotation.encode_body()).hex(),
            "recipient": recipient.hex(),
            "hpke_seed": keys.hpke_seed.reveal().hex(),
            "pages": {page.hex(): blob.hex() for page, blob in blobs.items()},
        }
        shown.append(refused(name, why, given, open_rotation, rotation, recipient, [keys.hpke], GROUP, blobs))
    return shown


def _checks(paged: Rotation, pages: Mapping[BlobHash, bytes]) -> list[Json]:
    """Whom the roster gives, and what is then wrong with the paged rotation."""
    nobody = HpkePublicKey(bytes(HpkePublicKey.LENGTH))
    stranger = DeviceId(bytes(32))
    shown = []
    for name, due in (
        ("everybody", [keys.id for keys in DEVICES]),
        ("one is missing", [*(keys.id for keys in DEVICES), stranger]),
        ("one is a stranger", [keys.id for keys in DEVICES[1:]]),
    ):
        found = check_wraps(paged, [Recipient(one, nobody) for one in due], pages)
        shown.append(
            {
                "name": name,
                "recipients": sorted(one.hex() for one in due),
                "missing": [one.hex() for one in found.missing],
                "strangers": [one.hex() for one in found.strangers],
            }
        )
    return shown


# --- the choice of an epoch


def make_epochs() -> Json:
    """Sets of operations, and the epoch that is chosen: with its path, the forks that stand and who is gone. Ids of
    operations are made up.
    """
    topics = [EPOCH.topic, NEXT.topic]
    return {
        "choices": [_shown_choice(name, make()) for name, make in SCENES.items()],
        "ranks": [
            {
                "parent": topic.hex(),
                "devices": [
                    {
                        "device": keys.id.hex(),
                        "hash": hash_bytes(LABEL_RANK, keys.id + topic).hex(),
                        "rank": rank_of(keys.id, topic, [one.id for one in DEVICES]),
                    }
                    for keys in DEVICES
                ],
            }
            for topic in topics
        ],
    }


def _shown_choice(name: str, epochs: Epochs) -> Json:
    choice = epochs.choose()
    return {
        "name": name,
        "group_id": epochs.story.group.hex(),
        "operations": [_shown_operation(one) for one in epochs.story.shuffled(random.Random(len(name)))],
        "topic": choice.epoch.topic.hex(),
        "path": [node.id.hex() for node in choice.path],
        "forks": [node.id.hex() for node in choice.forks],
        "gone": {
            "devices": [one.hex() for one in choice.gone.devices],
            "invites": [one.hex() for one in choice.gone.invites],
            "others": [one.hex() for one in choice.gone.others],
        },
        "parents_of_the_next": [topic.hex() for topic in choice.topics_to_end],
    }


def _shown_operation(operation: Operation) -> Json:
    return {
        "id": operation.id.hex(),
        "device": operation.device.hex(),
        "seq": operation.seq,
        "parents": [parent.hex() for parent in operation.parents],
        "body": encode(operation.body.encode_body()).hex(),
    }


# --- the repair topic


def make_repair() -> Json:
    """The keys of repair topics, and the values in them; values that are refused."""
    story = kept_story()
    rotation = story.operations[-1].id
    complaint = Complaint.make(BEN.signing, GROUP, rotation)
    wrapped = bytes.fromhex(kept()[BEN.id.hex()])
    repair = Repair(
        rotation,
        RecipientId(BEN.id),
        wrapped,
        ANA.id,
        ANA.signing.sign(LABEL_REPAIR, GROUP + rotation + BEN.id + wrapped),
    )
    fork = Fork.of(story.runs[-1])
    return {
        "group_id": GROUP.hex(),
        "epoch_secret": EPOCH.secret.reveal().hex(),
        "topics": [_shown_keys(keys) for keys in (repair_keys(EPOCH), repair_keys(EPOCH).following())],
        "complaint": {
            "rotation": rotation.hex(),
            "device": BEN.id.hex(),
            "label": LABEL_COMPLAINT,
            "signed": (GROUP + rotation).hex(),
            "value": encode_repair_value(complaint).hex(),
        },
        "repair": {
            "rotation": rotation.hex(),
            "recipient": BEN.id.hex(),
            "device": ANA.id.hex(),
            "label": LABEL_REPAIR,
            "signed": (GROUP + rotation + BEN.id + wrapped).hex(),
            "value": encode_repair_value(repair).hex(),
            "hpke_seed": BEN.hpke_seed.reveal().hex(),
            "topic": NEXT.topic.hex(),
            "epoch_secret": NEXT.secret.reveal().hex(),
        },
        "fork": {"run": story.runs[-1].wire.hex(), "value": encode_repair_value(fork).hex()},
        "bad": _bad_values(story, complaint, repair),
    }


def _shown_keys(keys: RepairKeys) -> Json:
    return {
        "topic": keys.topic.hex(),
        "seal_key": keys.seal_key.reveal().hex(),
        "nonce_key": keys.nonce_key.reveal().hex(),
    }


def _bad_values(story: EpochStory, complaint: Complaint, repair: Repair) -> list[Json]:
    wrong = Signature(bytes(64))
    said, mended = complaint.to_value(), repair.to_value()
    unsigned = decode(story.runs[-1].wire)
    unsigned[9] = wrong
    cases: list[tuple[str, str, list[Any]]] = [
        ("a complaint that its device did not sign", "the signature", [*said[:4], wrong]),
        ("a complaint under another device", "the signature", [*said[:3], ANA.id, said[4]]),
        ("a repair for another recipient", "the signature", [*mended[:3], ANA.id, *mended[4:]]),
        ("a repair with another wrap", "the signature", [*mended[:4], bytes(WRAP_BYTES), *mended[5:]]),
        ("a repair with a wrap of 1167 bytes", "1168 bytes", [*mended[:4], bytes(1167), *mended[5:]]),
        ("a fork that its device did not sign", "the signature", [1, "fork", encode(unsigned)]),
        ("a fork by a create", "a fork is a rotation", [1, "fork", story.runs[0].wire]),
        ("a fork by changes", "a run of one entry without changes", [1, "fork", story.runs[1].wire]),
        ("of another kind", "complaint, repair or fork", [1, "greeting", b""]),
        ("version 2", "a later version", [2, *said[1:]]),
        ("version true", "true is not a number", [True, *said[1:]]),
        ("a field more", "five fields", [*said, 0]),
    ]
    return [
        refused(name, why, {"value": encode(value).hex()}, read_repair_value, encode(value), GROUP)
        for name, why, value in cases
    ]


if __name__ == "__main__":
    KEPT.write_text(json.dumps(make_kept(), indent=1) + "\n", "utf-8")
