"""Vectors for whole rosters: sets of operations with concurrency, and the state that each evaluates to.

The cases are the tables of roster_cases.py, and a few random stories. Operation ids here are given and not hashes of
entries: evaluation takes an id as it is. Bodies, keys and proofs are real.
"""

from __future__ import annotations

from cocoon_core.protocol.encoding import encode
from cocoon_core.protocol.ids import EntryId
from cocoon_core.protocol.operation_forms import Pin
from cocoon_core.protocol.roster import Operation, Roster
from tests.support.roster_random import RandomStory
from tests.support.roster_story import Story
from tests.vectors.roster_cases import CASES
from tests.vectors.values import Json

_RANDOM = (3, 7, 19, 31)  # seeds


def make_rosters() -> Json:
    """Operations by id, and for each case which of them arrived, what is final, and the state."""
    operations: dict[str, Json] = {}
    cases = []
    for name, section, build in CASES:
        story = Story()
        told = build(story)
        final = told if isinstance(told, frozenset) else frozenset()
        cases.append(_case(name, section, told if isinstance(told, Story) else story, final, operations))
    for seed in _RANDOM:
        story = RandomStory(seed, size=22).story
        cases.append(_case(f"random story {seed}", "all", story, frozenset(), operations))
    return {"operations": operations, "cases": cases}


def _case(name: str, section: str, story: Story, final: frozenset[EntryId], operations: dict[str, Json]) -> Json:
    for operation in story.operations.values():
        operations.setdefault(operation.id.hex(), _operation_value(operation))
    return {
        "name": name,
        "section": section,
        "group_id": story.group.hex(),
        "arrived": [entry.hex() for entry in story.operations],
        "final": sorted(entry.hex() for entry in final),
        "state": state_value(story.graph().evaluate(final)),
    }


def _operation_value(operation: Operation) -> Json:
    return {
        "device": operation.device.hex(),
        "seq": operation.seq,
        "parents": [parent.hex() for parent in operation.parents],
        "body": encode(operation.body.encode_body()).hex(),
    }


def state_value(state: Roster) -> Json:
    """A state as a vector holds it."""
    return {
        "heads": [head.hex() for head in state.heads],
        "policy": state.policy.to_value(),
        "members": {
            member.hex(): {
                "shown_name": it.shown_name,
                "role": str(it.role),
                "devices": [device.hex() for device in it.devices],
                "joined_by": it.joined_by.hex(),
                "seniority": [it.seniority.depth, it.seniority.admission, it.seniority.id.hex()],
            }
            for member, it in state.members.items()
        },
        "former_members": {member.hex(): it.out_by.hex() for member, it in state.former_members.items()},
        "former_devices": {
            device.hex(): {"out_by": it.out_by.hex(), "pin": _pin_value(it.pin)}
            for device, it in state.former_devices.items()
        },
        "admin_pins": {device.hex(): _pin_value(pin) for device, pin in state.admin_pins.items()},
        "invites": {
            invite.hex(): {
                "operation": it.operation.hex(),
                "joins": [join.hex() for join in it.joins],
                "revoked": it.revoked,
                "by_request": it.by_request,
            }
            for invite, it in state.invites.items()
        },
        "recoveries": {
            member.hex(): [it.id.hex() if it.id else "", [g.hex() for g in it.guardians], it.threshold]
            for member, it in sorted(state.recoveries.items())
        },
        "requests": {
            request.hex(): {"vouchers": [voucher.hex() for voucher in it.vouchers], "granted": it.granted}
            for request, it in state.requests.items()
        },
        "rotations": [it.operation.hex() for it in state.rotations],
        "recipients": [it.id.hex() for it in state.recipients()],
        "refused": {entry.hex(): it.error for entry, it in sorted(state.refused.items())},
    }


def _pin_value(pin: Pin | None) -> list[object] | None:
    return [pin.seq, pin.entry.hex()] if pin is not None else None
