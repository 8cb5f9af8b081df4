"""A device's newest HPKE key: what a rekey is, and to which key the next rotation wraps."""

from __future__ import annotations

import pytest

from cocoon_core.errors import MalformedError
from cocoon_core.protocol.entry import Entry, EntryKind
from cocoon_core.protocol.ids import RecoveryId
from cocoon_core.protocol.rekey import newest_rekeys, read_rekey, rekey_body, renew_recipients
from cocoon_core.protocol.roster_values import Recipient
from tests.support.epoch_story import BEN, RENEWED, state
from tests.support.protocol_story import ANA, CREATE, Writer, device_keys


def entry_of(kind: EntryKind, body: list[object]) -> Entry:
    writer = Writer()
    writer.operate(CREATE)
    return state(writer, kind, body)


def test_a_rekey_is_read_from_its_entry() -> None:
    rekey = read_rekey(entry_of(EntryKind.REKEY, rekey_body(RENEWED.hpke_public)))
    assert (rekey.device, rekey.seq, rekey.hpke) == (ANA.id, 1, RENEWED.hpke_public)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (EntryKind.MANIFEST, rekey_body(RENEWED.hpke_public)),
        (EntryKind.REKEY, []),
        (EntryKind.REKEY, [bytes(1215)]),
        (EntryKind.REKEY, [bytes(1216)]),  # its X25519 part is of small order
        (EntryKind.REKEY, [b"\xff" * 1216]),  # its ML-KEM part is not canonical
        (EntryKind.REKEY, [1]),
        (EntryKind.REKEY, [*rekey_body(RENEWED.hpke_public), 0]),
    ],
)
def test_what_is_no_rekey(kind: EntryKind, body: list[object]) -> None:
    with pytest.raises(MalformedError):
        read_rekey(entry_of(kind, body))


def test_the_newest_of_each_device_counts_in_any_order() -> None:
    writer = Writer()
    writer.operate(CREATE)
    keys = [device_keys(f"key {number}").hpke_public for number in range(3)]
    rekeys = [read_rekey(state(writer, EntryKind.REKEY, rekey_body(key))) for key in keys]
    for order in (rekeys, rekeys[::-1], rekeys[1:] + rekeys[:1]):
        assert newest_rekeys(order) == {ANA.id: rekeys[2]}


def test_recipients_are_renewed_and_others_stay() -> None:
    phrase = RecoveryId(bytes(32))
    before = (
        Recipient(ANA.id, ANA.hpke_public),
        Recipient(BEN.id, BEN.hpke_public),
        Recipient(phrase, BEN.hpke_public),
    )
    rekey = read_rekey(entry_of(EntryKind.REKEY, rekey_body(RENEWED.hpke_public)))
    after = renew_recipients(before, newest_rekeys([rekey]))
    assert after == (Recipient(ANA.id, RENEWED.hpke_public), *before[1:])
