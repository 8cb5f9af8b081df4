"""The number by which two members see that they see the same devices of each other. Implements specs/verification.md.

It covers the group, both members' ids and all of their devices' ids, that is, signing keys. HPKE keys are not in it:
each stands in an entry that its device signed, so nobody can put another in its place, and it changes every month.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cocoon_core.errors import UsageError
from cocoon_core.protocol import encoding
from cocoon_core.protocol.constants import (
    LABEL_SAFETY_NUMBER,
    SAFETY_NUMBER_BYTES,
    SAFETY_NUMBER_WORDS,
    VERSION,
)
from cocoon_core.protocol.ids import DeviceId, GroupId, MemberId
from cocoon_core.protocol.primitives import constant_time_equal, hash_bytes
from cocoon_core.protocol.words import to_words

_GROUP_BYTES = 5  # of the number that make one group of five digits


@dataclass(frozen=True, slots=True)
class SafetyNumber:
    """60 bytes, shown as words or as digits: either alone suffices. The same on both sides; not a secret."""

    raw: bytes

    @property
    def words(self) -> tuple[str, ...]:
        """12 words: the first 132 bits."""
        return to_words(self.raw, SAFETY_NUMBER_WORDS)

    @property
    def digits(self) -> str:
        """12 groups of 5 digits: each from 5 bytes, modulo 100,000."""
        parts = [self.raw[at : at + _GROUP_BYTES] for at in range(0, SAFETY_NUMBER_BYTES, _GROUP_BYTES)]
        return " ".join(f"{int.from_bytes(part, 'big') % 100_000:05d}" for part in parts)

    def matches(self, text: str) -> bool:
        """Whether a text, typed or scanned from the other side, is this number: in digits or in words.

        White space and the case of letters do not matter.
        """
        given = "".join(text.split()).casefold().encode()
        forms = ("".join(self.words).encode(), self.digits.replace(" ", "").encode())
        return any(constant_time_equal(given, form) for form in forms)


def make_safety_number(
    group: GroupId,
    one: tuple[MemberId, Iterable[DeviceId]],
    other: tuple[MemberId, Iterable[DeviceId]],
) -> SafetyNumber:
    """The number of two members of a group, each with all devices that are valid now. Their order does not matter.

    Raises:
        UsageError: they are the same member.
    """
    if one[0] == other[0]:
        raise UsageError("a safety number is for two members")
    members = sorted([member, sorted(devices)] for member, devices in (one, other))
    return SafetyNumber(
        hash_bytes(LABEL_SAFETY_NUMBER, encoding.encode([VERSION, group, members]), SAFETY_NUMBER_BYTES)
    )
