"""Which relays a device uses: those that the policy names, those that it has yet to leave well, and those on trial.

    named ── the policy names others ──▶ being left: read, signposted, and given nothing more ──▶ forgotten
    on trial: read only ── the policy, once it is known, names it ──▶ named

The list that a group was made or joined with is where a device begins. A relay that the policy names no more is used as
before until one that it names holds everything; then it is given a signpost (handover.py), and is left when that was
shown. Spec: specs/relays.md.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from contextlib import nullcontext, suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from cocoon_core.errors import MalformedError
from cocoon_core.protocol.constants import LEAVE_DAYS, MAX_RELAYS
from cocoon_core.protocol.frames import normalize_origin
from cocoon_core.protocol.ids import TopicId
from cocoon_core.protocol.invite import require_relays
from cocoon_core.protocol.operations import SetPolicy
from cocoon_core.protocol.roster_values import Operation
from cocoon_core.storage.relays import RelayState

if TYPE_CHECKING:
    from cocoon_core.sync.replica import Replica

DAY_MS: Final = 86_400_000
RETRY_LEFT_MS: Final = 3_600_000  # between two tries of a relay that is being left and was not reached
MOST_TRIED: Final = MAX_RELAYS  # relays on trial at once


# --- the list


def named_relays(replica: Replica) -> list[str]:
    """The policy's relays in their normal form; none where they cannot be used."""
    if not replica.members.has_begun:
        return []
    return usable(replica.members.roster.policy.relays)


def usable(urls: Iterable[str]) -> list[str]:
    """Addresses in their normal form; none where one is no address."""
    return list(_normalize(tuple(urls)))


@lru_cache(maxsize=64)
def _normalize(urls: tuple[str, ...]) -> tuple[str, ...]:
    """Asked at every message, of the same few lists."""
    with suppress(MalformedError):
        return tuple(normalize_origin(url) for url in require_relays(list(urls)))
    return ()


def relays_to_tell(replica: Replica) -> tuple[str, ...]:
    """The relays that links, welcomes and indexes name: the policy's, else those that this device uses."""
    return tuple(named_relays(replica) or replica.groups.relays(replica.record.number)[:MAX_RELAYS])


def follow_policy(replica: Replica, *, inside: bool = False, between: Callable[[], object] | None = None) -> bool:
    """Use every relay that the policy names; a new one is given all that is here. Others are being left from now on.

    Args:
        inside: the caller holds a transaction.
        between: what is done when a new relay is in the list, and before it is told what it should be given.

    Returns:
        Whether there is a new one.
    """
    states, named = {state.url: state for state in replica.relays.all()}, named_relays(replica)
    if not named:
        if between is not None:
            between()
        return False
    used = {url for url, state in states.items() if not state.on_trial}
    new = [url for url in named if url not in used]
    astray = [] if used <= set(named) and not new else _find_astray(replica, states)
    back = [url for url in named if url in used and states[url].left_ms is not None]
    gone = [state.url for state in states.values() if state.url not in named and _is_named_no_more(state)]
    if new or back or gone or astray:
        with nullcontext() if inside else replica.transaction():
            for url in (*new, *back, *(url for url, _ in astray)):
                replica.relays.add(url)
            for _, what in astray:
                replica.epochs.table.note_due(what, replica.clock())
            for url in (*gone, *(url for url, _ in astray)):
                replica.relays.set_left(url, replica.clock())
            if between is not None:
                between()
            if new or back:
                replica.beacons.table.forget_settled()
            for url in (*new, *back):
                replica.epochs.queue_all(url)
                _welcome_there(replica, url)
            for url in gone:
                _welcome_there(replica, url, replaces=True)
    elif between is not None:
        between()
    return bool(new)


def _find_astray(replica: Replica, states: Container[str]) -> list[tuple[str, str]]:
    """Relays that members may have gone to by another change of policy, and what says that they were looked at."""
    deciding = deciding_change(replica)
    found = []
    for url in _named_beside(replica) if deciding is not None else ():
        what = f"relay {deciding.id if deciding is not None else ''} {url}"
        if url not in states and replica.epochs.table.due_since(what) is None:
            found.append((url, what))
    return found


def _is_named_no_more(state: RelayState) -> bool:
    return not state.on_trial and state.left_ms is None


def _welcome_there(replica: Replica, url: str, *, replaces: bool = False) -> None:
    from cocoon_core.sync.welcomes import queue_welcomes_at  # which asks this module what the policy names

    queue_welcomes_at(replica, url, replaces=replaces)


def is_left(replica: Replica, url: str) -> bool:
    """True where the policy names others and not this one; a guest (guests.py) never was one of them."""
    named = named_relays(replica)
    return bool(named) and url not in named and url not in replica.guests


def is_on_trial(replica: Replica, url: str) -> bool:
    state = replica.relays.find(url)
    return state is not None and state.on_trial


# --- leaving


def may_leave(replica: Replica, url: str) -> bool:
    """True where the policy does not name the relay, and one that it names holds all that is here: from then on nothing
    goes there but the signpost.
    """
    return is_left(replica, url) and any(holds_all(replica, other) for other in named_relays(replica))


def holds_all(replica: Replica, url: str) -> bool:
    """True where this device found the current topic begun at that relay, and owes it nothing."""
    topic, number = replica.epoch.topic, replica.record.number
    cursor = replica.groups.cursor(number, url, topic)
    return (
        cursor is not None
        and cursor.after > 0
        and not replica.log.unsent_count(url)
        and not replica.log.acked(url)
        and not replica.epochs.table.has_uploads(url, topic)
        and not replica.epochs.table.untold(url, 1)
    )


def leave_relay(replica: Replica, url: str) -> bool:
    """Forget a relay that is to be left, where everything that it should still tell is there. To be called when level
    with it.
    """
    state = replica.relays.find(url)
    if state is None or state.on_trial or not may_leave(replica, url) or not state.signposted:
        return False
    if replica.groups.letters(replica.record.number, url):
        return False
    _forget(replica, url)
    return True


def give_up(replica: Replica, url: str) -> bool:
    """Note that a relay which is being left was not reached; forget it after LEAVE_DAYS of that."""
    state, now = replica.relays.find(url), replica.clock()
    if state is None or state.left_ms is None:
        return False
    if now - state.left_ms >= LEAVE_DAYS * DAY_MS:
        _forget(replica, url)
        return True
    with replica.transaction():
        replica.relays.set_failed(url, now)
    return False


def is_resting(replica: Replica, state: RelayState) -> bool:
    """True where a relay that is being left was found unreachable lately: who syncs need not wait for it each time."""
    return (
        state.left_ms is not None
        and state.failed_ms is not None
        and 0 <= replica.clock() - state.failed_ms < RETRY_LEFT_MS
        and any(holds_all(replica, url) for url in named_relays(replica))
    )


def _forget(replica: Replica, url: str) -> None:
    with replica.transaction():
        replica.groups.remove_relay(replica.record.number, url)


# --- signposts


def deciding_change(replica: Replica) -> Operation | None:
    """The operation that says which relays the policy names; None where `create` does."""
    if not replica.members.has_begun:
        return None
    policy, graph = replica.members.roster.policy, replica.members.graph
    found: Operation | None = None
    for one in _changes(replica):
        assert isinstance(one.body, SetPolicy)
        same = (one.body.policy.relays, one.body.policy.tokens) == (policy.relays, policy.tokens)
        if same and (found is None or graph.knows(one.id, found.id)):
            found = one
    return found


def _changes(replica: Replica) -> list[Operation]:
    """Every change of policy that counts, pasts first."""
    refused = replica.members.roster.refused
    operations = replica.members.graph.operations()
    return [one for one in operations if isinstance(one.body, SetPolicy) and one.id not in refused]


def _named_beside(replica: Replica) -> list[str]:
    """Relays of changes of policy that did not know the deciding one, nor it them: members may have followed these, and
    are told there where the group is.
    """
    deciding, graph = deciding_change(replica), replica.members.graph
    if deciding is None:
        return []
    beside = [
        one
        for one in graph.operations()
        if isinstance(one.body, SetPolicy)
        and one.id != deciding.id
        and not graph.knows(deciding.id, one.id)
        and not graph.knows(one.id, deciding.id)
        and _was_admin(replica, one)
    ]
    named = named_relays(replica)
    urls = [url for one in beside if isinstance(one.body, SetPolicy) for url in usable(one.body.policy.relays)]
    return [url for url in dict.fromkeys(urls) if url not in named][:MAX_RELAYS]


def _was_admin(replica: Replica, operation: Operation) -> bool:
    """By what its author knew: also of one that was put out at the same time, whom members may have followed."""
    graph = replica.members.graph
    if not operation.parents:
        return False
    roster = graph.roster_at(operation.parents)
    member = roster.member_ever(operation.device)
    return member is not None and roster.is_admin(member)


def has_signpost(replica: Replica, url: str, topic: TopicId) -> bool:
    """True where that relay showed a change of policy in this topic: of a sealed one it is the signpost."""
    return replica.relays.signpost(url, topic) is not None


# --- on trial


def try_relay(replica: Replica, url: str) -> bool:
    """Look for the group at a relay that nothing proves to be one of its own. True if it is not used already."""
    states = replica.relays.all()
    if any(state.url == url for state in states) or sum(state.on_trial for state in states) >= MOST_TRIED:
        return False
    with replica.transaction():
        replica.relays.add(url, on_trial=True)
    return True


def end_trial(replica: Replica, url: str) -> bool:
    """Forget a relay that was tried and proved nothing; what it showed is kept. True if it was on trial."""
    if not is_on_trial(replica, url):
        return False
    _forget(replica, url)
    return True
