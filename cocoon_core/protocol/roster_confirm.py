"""Joins and the closings that did not know them: what confirms a join, and who waits while one is in doubt.

Closing an invite is anybody's and removing a member is not, so a closing does not reach a join that others took in. And
whoever came by a join that an undecided closing may refuse decides nothing before that closing is decided: else the
thief of an old link would act with the seniority of the link. Spec: specs/roster.md §5 and §6.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cocoon_core.protocol.operations import Join, RevokeInvite
from cocoon_core.protocol.operations_rotation import Rotation
from cocoon_core.protocol.roster_log import within

if TYPE_CHECKING:
    from cocoon_core.protocol.roster_rules import Evaluation


def bits_of(mask: int) -> Iterator[int]:
    """The places of a mask."""
    while mask:
        lowest = mask & -mask
        yield lowest.bit_length() - 1
        mask ^= lowest


def find_confirmed(evaluation: Evaluation, invite: int, closing: int) -> list[int]:
    """Joins unknown to the closing but known to a counted rotation or admin's operation.

    Its author must owe the right to nothing that knew the join, and have known no closing of the invite.
    """
    log, rights = evaluation.log, evaluation.rights
    unknown = [join for join in evaluation.uses.entries_of(invite) if log.concurrent(join, closing)]
    unknown = [join for join in unknown if rights.valid >> join & 1]
    if not unknown:
        return []
    closed = [*evaluation.uses.closings.get(invite, ()), closing]
    confirmed: set[int] = set()
    for place in evaluation.places:
        past = log.ancestors[place]
        known = [join for join in unknown if past >> join & 1]
        if not known or evaluation.judge.undecided >> place & 1:
            continue
        if not evaluation.is_counted(place) or within(closed, past):
            continue
        sources = _confirming_right(evaluation, place)
        known = [join for join in known if sources and join not in sources]
        confirmed.update(join for join in known if not any(log.ancestors[it] >> join & 1 for it in sources))
    return sorted(confirmed)


def _confirming_right(evaluation: Evaluation, place: int) -> tuple[int, ...]:
    """What gave the right by which an operation confirms joins, or nothing."""
    operation, past = evaluation.log.operations[place], evaluation.log.ancestors[place]
    grant = evaluation.rights.device_grant(operation.device, past)
    if grant is None:
        return ()
    if isinstance(operation.body, Rotation):
        return grant.sources
    admin = evaluation.rights.admin_grant(grant.member, past)
    return (*grant.sources, *admin.sources) if admin is not None else ()


def find_doubts(evaluation: Evaluation) -> dict[int, int]:
    """For each permitted join that undecided permitted closings may yet refuse, their bits."""
    log, rights, uses = evaluation.log, evaluation.rights, evaluation.uses
    doubts: dict[int, int] = {}
    for closing in within(evaluation.places, evaluation.judge.undecided & rights.valid):
        for invite in log.closes.get(closing, ()):
            joins = [it for it in uses.entries_of(invite) if _is_open(evaluation, it, closing)]
            if not joins or within(uses.closings.get(invite, ()), log.ancestors[closing]):
                continue
            confirmed = find_confirmed(evaluation, invite, closing)
            for join in joins:
                if join not in confirmed:
                    doubts[join] = doubts.get(join, 0) | 1 << closing
    return doubts


def _is_open(evaluation: Evaluation, join: int, closing: int) -> bool:
    log = evaluation.log
    operation, body = log.operations[join], log.operations[closing].body
    if not isinstance(operation.body, Join) or not log.concurrent(join, closing):
        return False
    if isinstance(body, RevokeInvite) and operation.id in body.joins:
        return False
    settled = join in evaluation.uses.settled or operation.id in evaluation.final
    return bool(evaluation.rights.valid >> join & 1) and not settled


def spread_doubts(evaluation: Evaluation, doubts: dict[int, int]) -> dict[int, int]:
    """The doubts about every operation: its own, and those about what gave the rights that it uses."""
    found = dict(doubts)
    for place in evaluation.places:
        inherited = found.get(place, 0)
        for source in evaluation.judge.sources.get(place, ()):
            inherited |= found.get(source, 0)
        if inherited:
            found[place] = inherited
    return found
