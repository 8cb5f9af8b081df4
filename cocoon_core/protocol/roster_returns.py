"""How members come in by others' word or come back: vouches for a request, and a member's recovery in a past.

Spec: specs/roster.md §11.
"""

from __future__ import annotations

from cocoon_core.protocol.ids import MemberId, RequestId
from cocoon_core.protocol.operations_admission import SetRecovery
from cocoon_core.protocol.roster_rights import Rights
from cocoon_core.protocol.roster_values import Recovery


def find_vouchers(rights: Rights, request: RequestId, past: int) -> set[MemberId]:
    """The members of that past who vouched for the request in it."""
    log = rights.log
    vouches = [place for place in log.vouches.get(request, ()) if rights.supports(place, past)]
    return {member for member in (log.author_of[place] for place in vouches) if rights.is_member(member, past)}


def find_recovery(rights: Rights, member: MemberId, past: int) -> Recovery | None:
    """How a member may come back as of that past; None if never said.

    Of several that did not know each other, only what they agree on: a phrase that all of them name, the guardians that
    all of them name, and the highest threshold.
    """
    newest = newest_recoveries(rights, member, past)
    if not newest:
        return None
    phrases = {body.recovery for body in newest}
    agreed = next(iter(phrases)) if len({found and found[:2] for found in phrases}) == 1 else None
    guardians = set(newest[0].guardians).intersection(*(body.guardians for body in newest))
    threshold = max(body.threshold for body in newest)
    if not 0 < threshold <= len(guardians):
        guardians, threshold = set(), 0
    key, hpke = (agreed[0], agreed[1]) if agreed is not None else (None, None)
    return Recovery(key, hpke, tuple(sorted(guardians)), threshold)


def newest_recoveries(rights: Rights, member: MemberId, past: int) -> list[SetRecovery]:
    log = rights.log
    places = [place for place in log.recoveries.get(member, ()) if rights.supports(place, past)]
    known = 0
    for place in places:
        known |= log.ancestors[place]
    bodies = [log.operations[place].body for place in places if not known >> place & 1]
    return [body for body in bodies if isinstance(body, SetRecovery)]


def recovery_of(body: SetRecovery) -> Recovery:
    """What one operation says."""
    key, hpke = (body.recovery[0], body.recovery[1]) if body.recovery is not None else (None, None)
    return Recovery(key, hpke, body.guardians, body.threshold)


def grants_lost(recovery: Recovery, member: MemberId, author: MemberId, vouchers: set[MemberId]) -> bool:
    """Whether this author, with these vouchers, may let a lost member in again: guardians all, and enough of them."""
    guardians = set(recovery.guardians) - {member}
    return author in guardians and 0 < recovery.threshold <= len(guardians & (vouchers | {author}))
