"""The beacon: a device's word, at most daily, of what it has of the others. Implements specs/beacon.md §1.

    body = [1, number, frontier digest, rest, relays, ends]

A beacon is a link of its device's chain and decides nothing: no member, document or epoch depends on it. It lets others
see that something was kept from them, and its author's silence about an entry lets that one's author see it too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from cocoon_core.errors import MalformedError
from cocoon_core.protocol.constants import LABEL_BEACON_ORDER, MAX_BEACON_ENDS, MAX_RELAY_URL, MAX_RELAYS, MAX_SEQ
from cocoon_core.protocol.encoding import encode
from cocoon_core.protocol.entry import Entry, EntryKind
from cocoon_core.protocol.ids import DeviceId, EntryId, FrontierDigest
from cocoon_core.protocol.operation_forms import require_integer
from cocoon_core.protocol.primitives import hash_bytes

BEACON_VERSION: Final = 1

Ends = Mapping[DeviceId, tuple[int, EntryId]]  # the last entry of each device: (seq, id)


@dataclass(frozen=True, slots=True)
class Beacon:
    """What a device had.

    Attributes:
        number: counts the beacons of this chain from 0, so a reader sees whether one is missing.
        digest: of its frontier (specs/manifest.md §3) over all devices that belonged to the group as far as it knew.
        rest: devices with news that found no room; 0 says that of every device that is not named, what earlier beacons
            said still holds.
        relays: origins of the relays that it had read to their ends just before.
        ends: of devices with news since they were last named, the last entry that it had.
    """

    number: int
    digest: FrontierDigest
    rest: int
    relays: tuple[str, ...]
    ends: Ends

    def encode_body(self) -> list[Any]:
        """The body of the entry."""
        ends = [[device, *self.ends[device]] for device in sorted(self.ends)]
        return [BEACON_VERSION, self.number, self.digest, self.rest, sorted(self.relays), ends]


def read_beacon(entry: Entry) -> Beacon:
    """Read a verified entry of kind BEACON.

    Raises:
        MalformedError: not such an entry, or another form. Its entry is a link like any other, and says nothing.
    """
    if entry.kind is not EntryKind.BEACON:
        raise MalformedError("not the entry of a beacon")
    match entry.body:
        case [int() as version, int() as number, bytes() as digest, int() as rest, list() as relays, list() as ends]:
            require_integer(version, BEACON_VERSION, BEACON_VERSION, "the version of a beacon")
            require_integer(number, 0, MAX_SEQ, "the number of a beacon")
            require_integer(rest, 0, MAX_SEQ, "the rest of a beacon")
            named = read_ends(ends, MAX_BEACON_ENDS)
            if entry.device in named:
                raise MalformedError("a beacon names its own device")
            return Beacon(number, FrontierDigest(digest), rest, _read_relays(relays), named)
    raise MalformedError("a beacon is [1, number, frontier digest, rest, relays, ends]")


def choose_ends(device: DeviceId, number: int, news: Iterable[DeviceId], most: int = MAX_BEACON_ENDS) -> list[DeviceId]:
    """Which devices a beacon names, where it has no room for all: another choice each time and for each author, so that
    in a large group every device is named by several of the others soon.
    """
    order = sorted(news, key=lambda other: hash_bytes(LABEL_BEACON_ORDER, encode([device, number, other])))
    return order[:most]


def _read_relays(relays: list[Any]) -> tuple[str, ...]:
    fits = all(isinstance(relay, str) and 0 < len(relay.encode()) <= MAX_RELAY_URL for relay in relays)
    if len(relays) > MAX_RELAYS or not fits or any(left >= right for left, right in pairwise(relays)):
        raise MalformedError(f"the relays of a beacon are up to {MAX_RELAYS} addresses, rising")
    return tuple(relays)


def read_ends(ends: list[Any], most: int) -> dict[DeviceId, tuple[int, EntryId]]:
    """Ends as they are written: `[device id, seq, entry id]`, rising by device.

    Raises:
        MalformedError: anything else, or more than `most`.
    """
    if len(ends) > most:
        raise MalformedError(f"these are more than {most} ends")
    found: dict[DeviceId, tuple[int, EntryId]] = {}
    last = b""
    for end in ends:
        match end:
            case [bytes() as device, int() as seq, bytes() as entry] if device > last:
                require_integer(seq, 0, MAX_SEQ, "the seq of an end")
                found[DeviceId(device)] = seq, EntryId(entry)
                last = device
            case _:
                raise MalformedError("an end is [device id, seq, entry id], rising by device")
    return found
