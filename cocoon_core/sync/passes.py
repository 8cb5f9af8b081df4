"""One pass at every relay of a group, at the same time: send to all, take from any.

No relay waits for another: one that is gone costs nobody its patience. Only a relay that is being left comes after
those that the policy names, since it is told where to go when one of them holds everything. What a pass learns about
relays, from the policy or a signpost, is followed in the same call. Spec: specs/relays.md §2.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from cocoon_core.errors import RelayError
from cocoon_core.sync.access import RelayAccess
from cocoon_core.sync.admission import serve_mailboxes
from cocoon_core.sync.blobs import run_together
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
    passes = _Passes(replica, access, _Progress(progress), joining=joining, reads_all=reads_all)
    for _ in range(ROUNDS):
        follow_policy(replica)
        todo = passes.due()
        if not todo:
            break
        await passes.run(todo)
    return passes.finish()


class _Passes:
    """The passes of one call: a relay has one, and another where something came up for it meanwhile."""

    def __init__(
        self, replica: Replica, access: RelayAccess, progress: _Progress, *, joining: bool, reads_all: bool
    ) -> None:
        self._replica, self._access, self._progress = replica, access, progress
        self._joining, self._reads_all = joining, reads_all
        self._done: dict[str, RelayPass] = {}
        self._again: set[str] = set()
        self._repeated: set[str] = set()  # what cannot be done here now is not tried for ever

    def due(self) -> list[str]:
        """The relays where there is something to do that was not done in this call."""
        found = []
        for state in self._replica.relays.all():
            known = self._done.get(state.url)
            if known is None:
                if not is_resting(self._replica, state):
                    found.append(state.url)
            elif known.error is None and (state.url in self._again or (known.on_trial and not state.on_trial)):
                found.append(state.url)
        return found

    async def run(self, todo: list[str]) -> None:
        """A pass at each of these: those that are being left after one of the others, or when none can be used."""
        replica = self._replica
        self._again.clear()
        left = [url for url in todo if is_left(replica, url)]
        first = [url for url in todo if url not in left]
        enough, running = asyncio.Event(), len(first)
        if not first:
            enough.set()

        async def run_first(url: str) -> None:
            nonlocal running
            try:
                if await self._try(url):
                    enough.set()
            finally:
                running -= 1
                if running == 0:
                    enough.set()

        async def run_left(url: str) -> None:
            await enough.wait()
            await self._try(url)

        await run_together([*map(run_first, first), *map(run_left, left)])
        follow_policy(replica)
        for state in replica.relays.all():
            done = self._done.get(state.url)
            if done is not None and done.error is None and not state.on_trial:
                self._look_back(state.url, was_left=state.url in left)

    def _look_back(self, url: str, *, was_left: bool) -> None:
        """Leave it, or see whether the others brought something that concerns it."""
        replica = self._replica
        if is_left(replica, url):
            if not leave_relay(replica, url) and not was_left:
                self._again.add(url)  # the policy came just now: it is told where the group went
        elif url not in self._repeated and (
            replica.log.unsent_count(url) or (self._reads_all and replica.debts.lots())
        ):
            self._repeated.add(url)
            self._again.add(url)

    async def _try(self, url: str) -> bool:
        result = self._done.setdefault(url, RelayPass(url))
        progress = self._progress.of(url)
        try:
            leads_to = await _run_one(
                self._replica, self._access, result, progress, joining=self._joining, reads_all=self._reads_all
            )
        except RelayError as error:
            result.error = error
            give_up(self._replica, url)
            return False
        for hint in leads_to:
            try_relay(self._replica, hint)
        return True

    def finish(self) -> list[RelayPass]:
        """What was done; a relay that was tried and proved nothing is forgotten."""
        for url, result in self._done.items():
            result.on_trial = result.on_trial and end_trial(self._replica, url)
        return list(self._done.values())


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
