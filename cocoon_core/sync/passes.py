"""One pass at every relay of a group, at the same time: send to all, take from any.

No relay waits for another: one that is gone costs nobody its patience. Only a relay that is being left comes after
those that the policy names, since it is told where to go when one of them holds everything. What a pass learns about
relays, from the policy or a signpost, is followed in the same call. Spec: specs/relays.md §2.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, Final

from cocoon_core.errors import RelayError
from cocoon_core.sync.access import RelayAccess
from cocoon_core.sync.admission import serve_mailboxes
from cocoon_core.sync.driver import Progress, RelayDriver
from cocoon_core.sync.relay_list import (
    end_trial,
    follow_policy,
    give_up,
    is_left,
    is_resting,
    leave_relay,
    try_relay,
)
from cocoon_core.sync.replica import Replica

ROUNDS: Final = 6  # of relays that become known by what others show


@dataclass(slots=True)
class RelayPass:
    """What was done at one relay: entries sent and received, requests that are new; `error` where it could not be
    used to the end.

    Attributes:
        on_trial: it was only looked at, and nothing says that it is one of the group's.
    """

    url: str
    error: RelayError | None = None
    sent: int = 0
    received: int = 0
    requests: int = 0
    on_trial: bool = False


async def sync_relays(
    replica: Replica,
    access: RelayAccess,
    progress: Progress | None = None,
    *,
    joining: bool = False,
    reads_all: bool = True,
) -> list[RelayPass]:
    """Pull from and push to every relay of the group.

    Args:
        reads_all: read all documents that are owed; else the newest months alone.
        progress: called with (envelopes read, envelopes there), of all relays together.
        joining: nothing is looked for in mailboxes.

    Raises:
        LocalStateError: this device cannot go on.
    """
    await replica.edits_ended()  # asked here, since an edit that the caller has open is nobody else's
    done: dict[str, RelayPass] = {}
    again: set[str] = set()
    total = _Progress(progress)
    for _ in range(ROUNDS):
        follow_policy(replica)
        todo = _due(replica, done, again)
        if not todo:
            break
        again = set()
        await _run_round(replica, access, todo, done, again, total, joining=joining, reads_all=reads_all)
    for url in list(done):
        if done[url].on_trial and end_trial(replica, url) is False:
            done[url].on_trial = False  # it proved to be one of the group's
    return list(done.values())


def _due(replica: Replica, done: dict[str, RelayPass], again: set[str]) -> list[str]:
    """The relays where there is something to do that was not done in this call."""
    found = []
    for state in replica.relays.all():
        known = done.get(state.url)
        if known is None:
            if not is_resting(replica, state):
                found.append(state.url)
        elif known.error is None and (state.url in again or (known.on_trial and not state.on_trial)):
            found.append(state.url)
    return found


async def _run_round(
    replica: Replica,
    access: RelayAccess,
    todo: list[str],
    done: dict[str, RelayPass],
    again: set[str],
    total: _Progress,
    *,
    joining: bool,
    reads_all: bool,
) -> None:
    left = [url for url in todo if is_left(replica, url)]
    first = [url for url in todo if url not in left]
    enough = asyncio.Event()  # one of the first holds everything, or none of them can be used
    running = len(first)
    if not first:
        enough.set()

    async def run(url: str, *, waits: bool) -> None:
        nonlocal running
        if waits:
            await enough.wait()
        result = done.setdefault(url, RelayPass(url))
        try:
            leads_to = await _run_one(replica, access, result, total.of(url), joining=joining, reads_all=reads_all)
            for hint in leads_to:
                try_relay(replica, hint)
            if not waits:
                enough.set()
        except RelayError as error:
            result.error = error
            give_up(replica, url)
        finally:
            running -= not waits
            if running == 0:
                enough.set()

    await run_together([run(url, waits=False) for url in first] + [run(url, waits=True) for url in left])
    follow_policy(replica)
    for state in replica.relays.all():
        result = done.get(state.url)
        if result is None or result.error is not None:
            continue
        if state.url not in left and is_left(replica, state.url) and not state.on_trial:
            again.add(state.url)  # the policy came just now: it is told where the group went
        elif replica.log.unsent_count(state.url) and not is_left(replica, state.url) and state.url not in again:
            _once_more(again, result)
        elif reads_all and not state.on_trial and replica.debts.lots():
            _once_more(again, result)  # another relay was asked for it, and failed
        leave_relay(replica, state.url)


def _once_more(again: set[str], result: RelayPass) -> None:
    """What another relay brought has to go there."""
    again.add(result.url)


async def _run_one(
    replica: Replica,
    access: RelayAccess,
    result: RelayPass,
    progress: Progress | None,
    *,
    joining: bool,
    reads_all: bool,
) -> list[str]:
    state = replica.relays.find(result.url)
    result.on_trial = state is not None and state.on_trial
    driver = RelayDriver(replica, result.url, access, access.blobs, progress, reads_all=reads_all)
    done = await driver.sync_once()
    result.sent += done.sent
    result.received += done.received
    if not joining and not result.on_trial:
        result.requests += await serve_mailboxes(replica, access, result.url)
    return done.leads_to


class _Progress:
    """Adds up what several relays say of how far they are."""

    def __init__(self, tell: Progress | None) -> None:
        self._tell = tell
        self._read: dict[str, tuple[int, int]] = {}

    def of(self, url: str) -> Progress | None:
        if self._tell is None:
            return None
        return lambda read, there: self._note(url, read, there)

    def _note(self, url: str, read: int, there: int) -> None:
        self._read[url] = read, there
        if self._tell is not None:
            self._tell(sum(one for one, _ in self._read.values()), sum(one for _, one in self._read.values()))


async def run_together(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run all of it at the same time; the first that fails ends the others, and is raised as it is."""
    tasks = [asyncio.ensure_future(one) for one in work]
    if not tasks:
        return
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        failed = [task for task in tasks if task.done() and not task.cancelled() and task.exception() is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in failed:
        task.result()
