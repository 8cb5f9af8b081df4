"""The parsers of linking devices, for fuzzing: codes, letters, what is sealed in them, and the session as a whole."""

from __future__ import annotations

from collections.abc import Callable

from cocoon_core.errors import CocoonError, InvalidLinkError, MalformedError, UntrustedInputError, UpdateNeededError
from cocoon_core.protocol.device_code import read_code, write_code
from cocoon_core.protocol.link_letters import (
    EndLetter,
    Enrolled,
    Enrolment,
    Reason,
    Side,
    decode_enrolled,
    decode_enrolments,
    decode_letter,
    decode_offers,
    encode_enrolled,
    encode_enrolments,
    encode_letter,
    encode_offers,
)
from cocoon_core.protocol.operations_devices import AddDevice
from tests.support.link_story import CODE, OFFER, Mailbox, make_session, meet
from tests.support.protocol_story import ANA, EPOCH, GROUP, device_keys

_Parser = tuple[str, Callable[[bytes], object], tuple[bytes, ...], tuple[type[CocoonError], ...], bool]


def link_parsers() -> list[_Parser]:
    """(name, reader, inputs, error classes, whether inputs are CBOR) of each."""
    new, old, mailbox = make_session(Side.NEW), make_session(Side.OLD), Mailbox()
    meet(new, old, mailbox)
    old.words_confirmed(same=True)
    mailbox.do(old, old.offer([OFFER]))
    letters = (*mailbox.letters, encode_letter(EndLetter(Side.OLD, Reason.STOPPED)))
    phone = device_keys("ana's phone")
    enrolment = Enrolment(GROUP, AddDevice.make(phone.signing, GROUP, ANA.id, phone.hpke_public))
    letter, malformed = (MalformedError, UpdateNeededError), (MalformedError,)
    return [
        ("decode_letter", decode_letter, letters, letter, True),
        ("letter_received", _receive, letters, (UntrustedInputError, UpdateNeededError), True),
        ("decode_offers", decode_offers, (encode_offers([OFFER]),), letter, True),
        ("decode_enrolments", decode_enrolments, (encode_enrolments([enrolment]),), malformed, True),
        ("decode_enrolled", decode_enrolled, (encode_enrolled([Enrolled(GROUP, EPOCH)]),), malformed, True),
        ("read_code", _read_code, (write_code(CODE).encode(),), (InvalidLinkError,), False),
    ]


def _read_code(raw: bytes) -> object:
    return read_code(raw.decode("utf-8", "surrogateescape"))


def _receive(raw: bytes) -> object:
    """A new side that is shown a letter of the other, and the whole story before it."""
    new, old, mailbox = make_session(Side.NEW), make_session(Side.OLD), Mailbox()
    meet(new, old, mailbox)
    new.words_confirmed(same=True)
    return new.letter_received(raw)
