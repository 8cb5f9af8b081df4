"""The policy in a past: the newest word on each rule, and of several at once the strictest.

Spec: specs/roster.md §7.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from cocoon_core.protocol.operation_forms import Policy, Role
from cocoon_core.protocol.operations import SetPolicy
from cocoon_core.protocol.roster_rights import Rights

RULES: Final = ("max_members", "inviters", "vouches", "epoch_days", "relays")


class Policies:
    """The policies of one evaluation. `clear` at the start of a pass; `allow` each set_policy that it permits."""

    def __init__(self, rights: Rights, first: Policy) -> None:
        self._rights = rights
        self._first = first
        self._changes: dict[str, int] = {}  # rule -> bits: the operations that gave it another value
        self._known: dict[int, Policy] = {}

    def clear(self) -> None:
        self._changes.clear()
        self._known.clear()

    def allow(self, place: int) -> None:
        """Note which rules a permitted set_policy changes, against the policy of its own past."""
        for rule in self.changed_rules(place):
            self._changes[rule] = self._changes.get(rule, 0) | 1 << place

    def changed_rules(self, place: int) -> frozenset[str]:
        before, after = self.at(self._rights.log.ancestors[place]), self.body_at(place)
        return frozenset(rule for rule in RULES if _value(before, rule) != _value(after, rule))

    def at(self, past: int) -> Policy:
        """The policy in a past."""
        present = self._rights.log.policy_bits & past & self._rights.valid
        if not present:
            return self._first
        left, giving = present, 0
        while left:
            lowest = left & -left
            left ^= lowest
            if self._rights.supports(lowest.bit_length() - 1, past):
                giving |= lowest
        policy = self._known.get(giving)
        if policy is None:
            policy = self._known[giving] = self._combine(giving)
        return policy

    def _combine(self, giving: int) -> Policy:
        policy = self._first
        for rule in RULES:
            newest = [self.body_at(place) for place in self._newest(giving & self._changes.get(rule, 0))]
            if not newest:
                continue
            match rule:
                case "max_members":
                    policy = replace(policy, max_members=min(it.max_members for it in newest))
                case "inviters":
                    admins = any(it.inviters is Role.ADMIN for it in newest)
                    policy = replace(policy, inviters=Role.ADMIN if admins else Role.MEMBER)
                case "vouches":
                    policy = replace(policy, vouches=max(it.vouches for it in newest))
                case "epoch_days":
                    policy = replace(policy, epoch_days=min(it.epoch_days for it in newest))
                case "relays":
                    policy = replace(policy, relays=newest[0].relays, tokens=newest[0].tokens)
        return policy

    def _newest(self, left: int) -> list[int]:
        """Those of the operations that no other of them knew, by depth and id."""
        log = self._rights.log
        newest = []
        while left:
            place = left.bit_length() - 1  # no other that is left can have it in its past
            newest.append(place)
            left &= ~(log.ancestors[place] | 1 << place)
        return sorted(newest, key=log.rank)

    def body_at(self, place: int) -> Policy:
        body = self._rights.log.operations[place].body
        assert isinstance(body, SetPolicy)
        return body.policy


def _value(policy: Policy, rule: str) -> object:
    return (policy.relays, policy.tokens) if rule == "relays" else getattr(policy, rule)
