"""The body of a rekey entry: a device's fresh HPKE key. Implements specs/epoch.md §8.

A rekey is a signed link of the device's chain and no roster operation: of those that count, the one with the highest
seq says to which key the next rotation wraps. A body that is none is still a link, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from cocoon_core.errors import MalformedError
from cocoon_core.protocol.entry import Entry, EntryKind
from cocoon_core.protocol.ids import DeviceId, EntryId, HpkePublicKey
from cocoon_core.protocol.primitives import require_good_hpke_key
from cocoon_core.protocol.roster_values import Recipient


@dataclass(frozen=True, slots=True)
class Rekey:
    """A device's word that secrets be wrapped to this key from now on."""

    device: DeviceId
    seq: int
    entry: EntryId
    hpke: HpkePublicKey


def rekey_body(hpke: HpkePublicKey) -> list[Any]:
    """The body of the entry by which a device changes its HPKE key."""
    return [hpke]


def read_rekey(entry: Entry) -> Rekey:
    """Read a verified entry of kind REKEY.

    Raises:
        MalformedError: not such an entry, or its key is not one of this suite or of small order.
    """
    match entry.body:
        case [bytes() as raw] if entry.kind is EntryKind.REKEY:
            hpke = HpkePublicKey(raw)
            require_good_hpke_key(hpke)
            return Rekey(entry.device, entry.seq, entry.id, hpke)
    raise MalformedError("a rekey is [HPKE key]")


def newest_rekeys(rekeys: Iterable[Rekey]) -> dict[DeviceId, Rekey]:
    """The one of each device that counts last. The caller leaves out those that do not count."""
    newest: dict[DeviceId, Rekey] = {}
    for rekey in rekeys:
        known = newest.get(rekey.device)
        if known is None or known.seq < rekey.seq:
            newest[rekey.device] = rekey
    return newest


def renew_recipients(recipients: Iterable[Recipient], rekeys: Mapping[DeviceId, Rekey]) -> tuple[Recipient, ...]:
    """The roster's recipients, each device with the newest key that is known of it."""
    keys: dict[bytes, HpkePublicKey] = {device: rekey.hpke for device, rekey in rekeys.items()}
    return tuple(replace(one, hpke=keys.get(one.id, one.hpke)) for one in recipients)
