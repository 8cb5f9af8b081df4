"""People, their devices and the links that they hand on, for tests of the roster. Keys come from numbers, so runs
repeat.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from cocoon_core.protocol.change import join_change
from cocoon_core.protocol.constants import LABEL_ENTRY
from cocoon_core.protocol.descriptor import Descriptor, DocumentKind, actor_of
from cocoon_core.protocol.entry import Entry, EntryMaker, document_change
from cocoon_core.protocol.ids import (
    DeviceId,
    EntryId,
    GroupId,
    HeadsDigest,
    HpkePublicKey,
    TopicId,
)
from cocoon_core.protocol.operation_forms import Pin
from cocoon_core.protocol.operations_rotation import RECORD_BYTES, Reason, Rotation, WrapsBeside
from cocoon_core.protocol.primitives import HpkeKey, Secret, SigningKey, hash_bytes
from cocoon_core.protocol.run import Run, sign_run
from tests.support.protocol_story import change_tail

LIST = Descriptor(DocumentKind.SHARED, "list", schema=(("items", "map"),))


def numbered_secret(kind: int, number: int) -> Secret:
    return Secret(bytes([kind]) + number.to_bytes(31, "big"))


@lru_cache(maxsize=50_000)
def signing_key(kind: int, number: int) -> SigningKey:
    return SigningKey(numbered_secret(kind, number))


@lru_cache(maxsize=512)
def hpke_key(kind: int, number: int) -> HpkePublicKey:
    return HpkeKey(numbered_secret(kind, number)).public


@dataclass(frozen=True)
class Person:
    """Somebody at one of their devices. The first is the one by which they became a member."""

    number: int
    which: int = 0

    def on(self, which: int) -> Person:
        """The same person at another device."""
        return Person(self.number, which)

    @property
    def key(self) -> SigningKey:
        return signing_key(1, self.number + 100_000 * self.which)

    @property
    def device(self) -> DeviceId:
        return DeviceId(self.key.public)

    @property
    def first_device(self) -> DeviceId:
        return self.on(0).device

    @property
    def hpke(self) -> HpkePublicKey:
        return hpke_key(2, (self.number + 7 * self.which) % 64)

    @property
    def name(self) -> str:
        return f"Person {chr(65 + self.number % 26)}{chr(65 + self.number // 26 % 26)}{chr(65 + self.number // 676)}"

    def phrase(self, edition: int = 0) -> SigningKey:
        """The signing key of a recovery phrase of theirs."""
        return signing_key(7, self.number + 100_000 * edition)


@dataclass(frozen=True)
class Link:
    """What an invite's link yields."""

    number: int

    @property
    def key(self) -> SigningKey:
        return signing_key(3, self.number)


def pin(person: Person, seq: int, entry: EntryId | None = None) -> Pin:
    """A pin on somebody's device."""
    return Pin(person.device, seq, entry or EntryId(hash_bytes(LABEL_ENTRY, b"pin" + bytes([seq]))))


def sorted_pins(pins: Iterable[Pin]) -> tuple[Pin, ...]:
    return tuple(sorted(pins, key=lambda it: it.device))


def rotation_body(number: int = 1) -> Rotation:
    """A rotation of the right form, from one made-up topic to the next."""
    before, after = (TopicId(signing_key(4, 100 + it).public) for it in (number - 1, number))
    return Rotation(Reason.AGE, (before,), after, WrapsBeside.of(bytes(RECORD_BYTES)))


def make_run(group: GroupId, person: Person, seq: int, prev: EntryId | None, words: Sequence[int]) -> Run:
    """A signed run of entries by the person's device, each different from another's with another word."""
    maker = EntryMaker(group, person.device, ())
    document = LIST.document_id(group)
    entries: list[Entry] = []
    for place, word in enumerate(words):
        raw, _ = join_change([], actor_of(person.device, document), change_tail(place + 1, bytes([word])))
        change = document_change(document, raw)
        entries.append(maker.change(seq + place, entries[-1].id if entries else prev, word, (change,)))
    return sign_run(entries, lambda _: LIST, person.key, HeadsDigest(bytes(32)))


def fork(group: GroupId, person: Person, seq: int = 5) -> tuple[Run, Run]:
    """Two runs of one device that part at a seq, the one whose branch decides by its smaller id first."""
    prev = EntryId(hash_bytes(LABEL_ENTRY, person.device + bytes([seq]))) if seq else None
    runs = [make_run(group, person, seq, prev, [word, word + 10]) for word in (1, 2)]
    first, second = sorted(runs, key=lambda run: run.entries[0].id)
    return first, second
