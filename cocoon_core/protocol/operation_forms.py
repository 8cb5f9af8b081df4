"""What the bodies of roster operations are made of: roles, pins, the policy, and the checks of their forms.

Implements specs/roster.md §2. The operations themselves are in operations*.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Any, Final

from cocoon_core.errors import MalformedError, UpdateNeededError
from cocoon_core.protocol.constants import (
    DEFAULT_MAX_MEMBERS,
    EPOCH_DAYS,
    MAX_EPOCH_DAYS,
    MAX_MEMBERS,
    MAX_PINS,
    MAX_RELAY_TOKEN,
    MAX_RELAY_URL,
    MAX_RELAYS,
    MAX_SEQ,
    MAX_VOUCHES,
)
from cocoon_core.protocol.ids import DeviceId, EntryId


class Role(StrEnum):
    """What a member may do: an admin removes members, sets roles and policy, changes admin documents, and whatever a
    member may.
    """

    MEMBER = "member"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Pin:
    """The last entry of a device that the author of a reducing operation knew and counted."""

    device: DeviceId
    seq: int
    entry: EntryId


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules of a group.

    `inviters` is the least role that may invite. `vouches` is how many members must want a newcomer: at 0 a link
    suffices, at 1 a member admits, above that others vouch before. `tokens` are access tokens of relays that ask for
    one, by URL; every member knows them.
    """

    max_members: int = DEFAULT_MAX_MEMBERS
    inviters: Role = Role.MEMBER
    relays: tuple[str, ...] = ()
    tokens: tuple[tuple[str, str], ...] = ()
    vouches: int = 0
    epoch_days: int = EPOCH_DAYS

    def __post_init__(self) -> None:
        require_integer(self.max_members, 1, MAX_MEMBERS, "max_members")
        require_integer(self.vouches, 0, MAX_VOUCHES, "vouches")
        require_integer(self.epoch_days, 1, MAX_EPOCH_DAYS, "epoch_days")
        if len(self.relays) > MAX_RELAYS or len(set(self.relays)) != len(self.relays):
            raise MalformedError(f"a group has up to {MAX_RELAYS} different relays")
        for url in self.relays:
            require_visible(url, MAX_RELAY_URL, "a relay's URL")
        if list(self.tokens) != sorted(dict(self.tokens).items()) or not {url for url, _ in self.tokens} <= {
            *self.relays
        }:
            raise MalformedError("access tokens are of relays of the group, one each, in their order")
        for _, token in self.tokens:
            require_visible(token, MAX_RELAY_TOKEN, "an access token")

    def to_value(self) -> dict[str, Any]:
        return {
            "epoch_days": self.epoch_days,
            "inviters": str(self.inviters),
            "max_members": self.max_members,
            "relays": list(self.relays),
            "tokens": dict(self.tokens),
            "vouches": self.vouches,
        }


_POLICY_KEYS: Final = frozenset({"epoch_days", "inviters", "max_members", "relays", "tokens", "vouches"})


def policy_from(value: dict[Any, Any]) -> Policy:
    """Read a policy.

    Raises:
        MalformedError: not exactly the keys of a policy, or a value out of range.
        UpdateNeededError: a rule that this version does not know.
    """
    if not all(isinstance(key, str) for key in value):
        raise MalformedError("the keys of a policy are text")
    if value.keys() - _POLICY_KEYS:
        raise UpdateNeededError("this group's policy has a rule that this version does not know")
    relays, tokens = value.get("relays"), value.get("tokens")
    if not isinstance(relays, list) or not all(isinstance(url, str) for url in relays):
        raise MalformedError("the relays of a policy are a list of text")
    if not isinstance(tokens, dict) or not all(isinstance(item, str) for pair in tokens.items() for item in pair):
        raise MalformedError("the tokens of a policy are a map from text to text")
    numbers = [value.get(key) for key in ("max_members", "vouches", "epoch_days")]
    if not all(type(number) is int for number in numbers):
        raise MalformedError("max_members, vouches and epoch_days are integers")
    most, vouches, days = (int(number) for number in numbers if isinstance(number, int))
    return Policy(most, role_from(value.get("inviters")), tuple(relays), tuple(sorted(tokens.items())), vouches, days)


def take_items(items: list[Any], *kinds: type) -> list[Any]:
    """The items after an operation's code, each of its type."""
    if len(items) != len(kinds):
        raise MalformedError(f"this operation has {len(kinds)} items after its code, not {len(items)}")
    for place, (item, kind) in enumerate(zip(items, kinds, strict=True), 1):
        # a bool is an int to isinstance
        if not isinstance(item, kind) or isinstance(item, bool):
            raise MalformedError(f"item {place} of this operation is not of type {kind.__name__}")
    return items


def pins_from(values: list[Any]) -> tuple[Pin, ...]:
    return tuple(_pin_from(value) for value in values)


def pins_value(pins: tuple[Pin, ...]) -> list[Any]:
    return [[pin.device, pin.seq, pin.entry] for pin in pins]


def _pin_from(value: object) -> Pin:
    match value:
        case [bytes() as device, int() as seq, bytes() as entry]:
            return Pin(DeviceId(device), seq, EntryId(entry))
    raise MalformedError("a pin is [device id, seq, entry id]")


def require_pins(pins: tuple[Pin, ...], most: int = MAX_PINS) -> None:
    """Pins rise by device, and their seqs are in range."""
    require_rising(tuple(pin.device for pin in pins), most, "pins")
    for pin in pins:
        require_integer(pin.seq, 0, MAX_SEQ, "the seq of a pin")


def role_from(value: object) -> Role:
    if isinstance(value, str) and value in ("member", "admin"):
        return Role(value)
    raise MalformedError("a role is member or admin")


def require_integer(value: int, least: int, most: int, what: str) -> None:
    if type(value) is not int or not least <= value <= most:
        raise MalformedError(f"{what} is an integer from {least} to {most}")


def require_rising(items: tuple[bytes, ...], most: int, what: str) -> None:
    if len(items) > most:
        raise MalformedError(f"{what} are {len(items)}, more than {most}")
    if any(left >= right for left, right in pairwise(items)):
        raise MalformedError(f"{what} are not in rising order")


def require_visible(text: str, most: int, what: str) -> None:
    if not (text.isascii() and text.isprintable() and " " not in text and 0 < len(text) <= most):
        raise MalformedError(f"{what} is 1 to {most} visible ASCII characters")
