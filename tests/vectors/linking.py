"""Vectors for specs/device-link.md and specs/verification.md.

What follows the words is sealed by HPKE, which is random: the three sealed letters were made once and are inputs here
(link_letters.json). `python -m tests.vectors.linking` makes them anew.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from cocoon_core.protocol.constants import LABEL_DEVICE_CODE_CHECK, LABEL_LINK_WORDS, LABEL_SAFETY_NUMBER, VERSION
from cocoon_core.protocol.device_code import CODE_PREFIX, _to_base64, read_code, write_code
from cocoon_core.protocol.device_link import LinkEffect, LinkSession, PutLetter, make_transcript, words_of
from cocoon_core.protocol.encoding import encode
from cocoon_core.protocol.ids import DeviceId, MemberId
from cocoon_core.protocol.link_letters import (
    Enrolled,
    Enrolment,
    Side,
    decode_enrolled,
    decode_enrolments,
    decode_letter,
    decode_offers,
    encode_enrolled,
    encode_enrolments,
    encode_offers,
)
from cocoon_core.protocol.operations_devices import AddDevice
from cocoon_core.protocol.primitives import hash_bytes
from cocoon_core.protocol.safety_number import make_safety_number
from cocoon_core.protocol.words import to_words, word_list
from tests.support.link_story import CODE, OFFER, Mailbox, link_keys, make_session, meet
from tests.support.protocol_story import ANA, EPOCH, GROUP, MEMBER, device_keys, named_secret
from tests.vectors.values import Json, refused

LETTERS = Path(__file__).with_name("link_letters.json")
PHONE = device_keys("ana's phone")
ENROLMENT = Enrolment(GROUP, AddDevice.make(PHONE.signing, GROUP, ANA.id, PHONE.hpke_public))
ENROLLED = Enrolled(GROUP, EPOCH)


def make_letters() -> dict[str, str]:
    """The three sealed letters of the story, made anew."""
    new, old, mailbox = make_session(Side.NEW), make_session(Side.OLD), Mailbox()
    meet(new, old, mailbox)
    mailbox.do(new, new.words_confirmed(same=True))
    mailbox.do(old, old.words_confirmed(same=True))
    mailbox.do(old, old.offer([OFFER]))
    mailbox.settle(new, old)
    mailbox.do(new, new.answer([ENROLMENT]))
    mailbox.settle(new, old)
    mailbox.do(old, old.enrolled([ENROLLED]))
    offer, answer, enrolled = (letter.hex() for letter in mailbox.letters[4:])
    return {"offer": offer, "answer": answer, "enrolled": enrolled}


def make_device_link() -> Json:
    """A code; both sides' keys, letters, transcript and words; the sealed letters and what is in them."""
    new, old, mailbox = make_session(Side.NEW), make_session(Side.OLD), Mailbox()
    meet(new, old, mailbox)
    topic = CODE.mailbox().topic
    openings = {side: link_keys(side.name.lower()).opening for side in Side}
    transcript = make_transcript(topic, openings[Side.NEW], openings[Side.OLD])
    kept: dict[str, str] = json.loads(LETTERS.read_text("utf-8"))
    words = word_list()
    return {
        "code": {
            "secret": CODE.secret.reveal().hex(),
            "relays": list(CODE.relays),
            "text": write_code(CODE),
            "mailbox": topic.hex(),
        },
        "bad_codes": _bad_codes(write_code(CODE)),
        "sides": {side.name.lower(): _side(side) for side in Side},
        "letters": [letter.hex() for letter in mailbox.letters],
        "transcript": transcript.hex(),
        "words_hash": hash_bytes(LABEL_LINK_WORDS, transcript).hex(),
        "words": list(words_of(transcript)),
        "sealed": {
            "origin": "made once; HPKE is random, so only opening them is checked",
            **kept,
            "offer_content": encode_offers([OFFER]).hex(),
            "answer_content": encode_enrolments([ENROLMENT]).hex(),
            "enrolled_content": encode_enrolled([ENROLLED]).hex(),
        },
        "bad_letters": _bad_letters(),
        "bad_contents": _bad_contents(),
        "word_list": {
            "origin": "the English list of BIP-39",
            "words": len(words),
            "sha256": hashlib.sha256(("\n".join(words) + "\n").encode()).hexdigest(),
        },
        "to_words": [
            {"data": data.hex(), "count": count, "words": list(to_words(data, count))}
            for data, count in ((bytes(8), 4), (b"\xff" * 8, 4), (bytes.fromhex("0010020040080100"), 4))
        ],
    }


def _side(side: Side) -> Json:
    name, opening = side.name.lower(), link_keys(side.name.lower()).opening
    return {
        "signing_seed": named_secret(f"{name} link signing").reveal().hex(),
        "hpke_seed": named_secret(f"{name} link hpke").reveal().hex(),
        "nonce": opening.nonce.hex(),
        "signing_public": opening.signing.hex(),
        "hpke_public": opening.hpke.hex(),
        "commitment": opening.commitment(side).hex(),
    }


def _code_of(fields: list[Any]) -> str:
    payload = encode(fields)
    return CODE_PREFIX + _to_base64(payload + hash_bytes(LABEL_DEVICE_CODE_CHECK, payload, 4))


def _bad_codes(text: str) -> list[Json]:
    fields = [VERSION, CODE.secret.reveal(), list(CODE.relays)]
    cases = [
        ("a link", "another scheme", "cocoon:" + text[len(CODE_PREFIX) :]),
        ("the last character missing", "the check", text[:-1]),
        ("with = at the end", "one text for a code", text + "="),
        ("over 4,096 characters", "a code is short", text + "A" * 4096),
        ("version 2", "a later version", _code_of([2, *fields[1:]])),
        ("version true", "true is not a number", _code_of([True, *fields[1:]])),
        ("a secret of 31 bytes", "32 bytes", _code_of([VERSION, bytes(31), fields[2]])),
        ("no relay", "1 to 8 relays", _code_of([*fields[:2], []])),
        ("a field more", "three fields", _code_of([*fields, 0])),
    ]
    return [refused(name, reason, {"text": code}, read_code, code) for name, reason, code in cases]


def _bad_letters() -> list[Json]:
    opening = link_keys("new").opening
    cases = [
        ("not an array", "not a letter", encode({})),
        ("version 2", "a later version", encode([2, 0, 0, bytes(32)])),
        ("side 2", "there are two sides", encode([1, 2, 0, bytes(32)])),
        ("side true", "true is not a number", encode([1, True, 0, bytes(32)])),
        ("a commitment of 31 bytes", "32 bytes", encode([1, 0, 0, bytes(31)])),
        ("a linking key of 31 bytes", "32 bytes", encode([1, 0, 1, bytes(31), opening.hpke, bytes(32)])),
        ("a nonce of 31 bytes", "32 bytes", encode([1, 0, 1, opening.signing, opening.hpke, bytes(31)])),
        ("a third sealed letter", "a side has two at most", encode([1, 0, 2, 2, b"", bytes(64)])),
        ("an unknown reason", "four reasons", encode([1, 0, 3, 4])),
        ("an unknown step", "four steps", encode([1, 0, 4])),
    ]
    return [refused(name, reason, {"value": value.hex()}, decode_letter, value) for name, reason, value in cases]


def _bad_contents() -> list[Json]:
    offer = encode_offers([OFFER])
    fields = [OFFER.create.encode_body(), EPOCH.secret.reveal(), list(OFFER.relays), "Ana", ANA.id]
    cases: list[tuple[str, str, str, bytes, Any]] = [
        ("no group", "1 at least", "offer", encode([]), decode_offers),
        ("a group twice", "each once", "offer", encode([fields, fields]), decode_offers),
        ("no relay", "1 to 8 relays", "offer", encode([[*fields[:2], [], *fields[3:]]]), decode_offers),
        ("a secret of 31 bytes", "32 bytes", "offer", encode([[fields[0], bytes(31), *fields[2:]]]), decode_offers),
        ("cut off", "one value", "offer", offer[:-1], decode_offers),
        ("a field less", "four fields", "answer", encode([[GROUP, PHONE.id, PHONE.hpke_public]]), decode_enrolments),
        ("65 groups", "64 at most", "enrolled", encode([[bytes(32), bytes(32)]] * 65), decode_enrolled),
    ]
    return [
        refused(name, reason, {"kind": kind, "content": value.hex()}, decode, value)
        for name, reason, kind, value, decode in cases
    ]


def make_verification() -> Json:
    """Safety numbers: equal from both sides, whatever the order of devices; another one for any other key."""
    ben, tablet = device_keys("ben"), device_keys("ben's tablet")
    other = MemberId(hashlib.sha256(b"ben").digest())
    cases: list[tuple[str, list[DeviceId], list[DeviceId]]] = [
        ("one device each", [ANA.id], [ben.id]),
        ("a device more", [ANA.id], [ben.id, tablet.id]),
        ("two devices each", [ANA.id, PHONE.id], [ben.id, tablet.id]),
    ]
    return {
        "group_id": GROUP.hex(),
        "good": [_safety_case(name, MEMBER, ours, other, theirs) for name, ours, theirs in cases],
    }


def _safety_case(name: str, one: MemberId, ours: list[DeviceId], other: MemberId, theirs: list[DeviceId]) -> Json:
    number = make_safety_number(GROUP, (one, ours), (other, theirs))
    assert number == make_safety_number(GROUP, (other, reversed(theirs)), (one, reversed(ours)))
    hashed = encode([VERSION, GROUP, sorted([[one, sorted(ours)], [other, sorted(theirs)]])])
    assert hash_bytes(LABEL_SAFETY_NUMBER, hashed, 60) == number.raw
    return {
        "name": name,
        "one": {"member": one.hex(), "devices": [device.hex() for device in ours]},
        "other": {"member": other.hex(), "devices": [device.hex() for device in theirs]},
        "hashed": hashed.hex(),
        "number": number.raw.hex(),
        "digits": number.digits,
        "words": list(number.words),
    }


def replay(letters: list[bytes], side: Side, *, confirm: bool) -> tuple[LinkSession, list[LinkEffect]]:
    """A session of the story that is shown these letters, and says yes as soon as it is asked."""
    session = make_session(side)
    effects = list(session.start())
    for letter in letters:
        found = session.letter_received(letter)
        effects += found
        if confirm and any(type(effect).__name__ == "CompareWords" for effect in found):
            effects += session.words_confirmed(same=True)
    return session, [effect for effect in effects if not isinstance(effect, PutLetter)]


if __name__ == "__main__":
    LETTERS.write_text(json.dumps(make_letters(), indent=1) + "\n", "utf-8")
