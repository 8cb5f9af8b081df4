"""Syncing a group: one pass, staying connected, what happened. A part of `Group`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from cocoon_core.errors import RelayError, RelayUnavailable
from cocoon_core.group_part import GroupPart
from cocoon_core.protocol.ids import DeviceId
from cocoon_core.sync.admission import serve_mailboxes
from cocoon_core.sync.driver import Progress, RelayDriver
from cocoon_core.sync.events import GroupEvent, RosterChanged
from cocoon_core.sync.passes import RelayPass, sync_relays
from cocoon_core.sync.ranges import DeviceRanges, held_ranges
from cocoon_core.sync.relay_list import follow_policy, is_left, leave_relay
from cocoon_core.sync.replacing import replace_own_device
from cocoon_core.sync.withheld import find_withheld
from cocoon_core.vault.reports import TellTransfer, TransferReport

MOST_EVENTS = 10_000  # events kept for one listener that does not read
MOST_SECOND_LOOKS = 2  # passes that one sync adds for what is missing here, or at a relay
MAILBOX_SECONDS = 60.0  # between two looks for requests while watching
LIST_SECONDS = 10.0  # between two looks at which relays are to be left while watching
FILES_SECONDS = 60.0  # between two looks at what is to be sent or fetched of the vault while watching
BRIEF = timedelta(seconds=20)  # what a phone gives an app that it wakes, with some room
MAILBOXES, LIST, FILES = "mailboxes", "relays", "files"  # what is watched beside relays, whose names are addresses


@dataclass(frozen=True, slots=True)
class RelayReport:
    """What a sync did at one relay: entries sent and received; `error` is a sentence where it could not."""

    url: str
    ok: bool
    error: str | None
    sent: int
    received: int


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What a sync did at all relays.

    Attributes:
        requests: those who newly ask to be admitted.
        unread: documents of which others have more, and no relay that was reached has the pages.
        files: what was sent, fetched and renewed of the vault.
    """

    sent: int
    received: int
    relays: tuple[RelayReport, ...]
    requests: int = 0
    unread: int = 0
    files: TransferReport = field(default_factory=TransferReport)


def _report(done: RelayPass) -> RelayReport:
    error = None if done.error is None else str(done.error)
    return RelayReport(done.url, error is None, error, done.sent, done.received)


@dataclass(frozen=True, slots=True)
class WithheldInfo:
    """Entries of a device that are known to exist and did not come.

    Attributes:
        member, member_name: whose device it is; None where that is not known.
        first, last: the seqs between which something is missing; `count` entries in all.
        since: when it was noticed here.
        relays: those that were read to their ends and did not show them.
        had_by: names of members who say that they have them.
    """

    member: str | None
    member_name: str | None
    device: str
    first: int
    last: int
    count: int
    since: datetime
    relays: tuple[str, ...]
    had_by: tuple[str, ...]


class Syncing(GroupPart):
    """The part of a group that is about relays."""

    async def sync(
        self,
        progress: Progress | None = None,
        *,
        reads_all: bool = True,
        beacon: bool = False,
        files: bool = True,
        on_transfer: TellTransfer | None = None,
    ) -> SyncReport:
        """Pull from and push to every relay once, all at the same time; once more where something is missing.

        Args:
            progress: called with (envelopes read, envelopes there) while catching up, and then with (documents read,
                documents there).
            reads_all: read all documents of which others have more; else the newest months alone.
            beacon: tell the others now what this device has of theirs, which else it does about once a day.
            files: go on with what is to be sent and fetched of the vault.
            on_transfer: called with how far each file is.

        Raises:
            RelayUnavailable: no relay could be used; each one's reason is in the message.
            LocalStateError: this device cannot go on.
        """
        done: dict[str, RelayReport] = {}
        requests = await self._pass(done, progress, reads_all)
        for _ in range(MOST_SECOND_LOOKS):
            asked = self._of_the_group(done)
            level = [url for url in asked if done[url].ok]
            if not self._replica.report_withheld(level, complete=len(level) == len(asked)):
                break
            requests += await self._pass(done, progress, reads_all)
        level = [url for url, report in done.items() if report.ok]
        if not level:
            raise RelayUnavailable("; ".join(report.error or "" for report in done.values()))
        await self._replica.edits_ended()
        if replace_own_device(self._replica, every_relay=len(level) == len(done)) is not None:
            # what the new device wrote is sent
            return await self.sync(progress, reads_all=reads_all, beacon=beacon, files=files, on_transfer=on_transfer)
        if self._replica.beacons.write(level, asked=beacon):
            requests += await self._pass(done, progress, reads_all)
        transfers = await self._transfers.run(self._of_the_group(level), on_transfer) if files else TransferReport()
        relays = tuple(done.values())
        unread = sum(len(lot.debts) for lot in self._replica.debts.lots()) if reads_all else 0
        sent, received = sum(r.sent for r in relays), sum(r.received for r in relays)
        return SyncReport(sent, received, relays, requests, unread, transfers)

    async def sync_briefly(self, budget: timedelta = BRIEF) -> SyncReport | None:
        """Sync for a moment, as an app may that is woken in the background: the newest months, no files, not for long.

        What came or was sent until the time is over is durable, and the next sync goes on there.

        Returns:
            What was done; None where the time was over before.

        Raises:
            RelayUnavailable, LocalStateError: as `sync`.
        """
        try:
            async with asyncio.timeout(budget.total_seconds()):
                return await self.sync(reads_all=False, files=False)
        except TimeoutError:
            return None

    async def _pass(self, done: dict[str, RelayReport], progress: Progress | None, reads_all: bool) -> int:
        """One pass at every relay; how many newly ask to come in.

        Args:
            done: what was done at each relay in this sync, which this adds to.
        """
        passes = await sync_relays(self._replica, self._dial, progress, reads_all=reads_all)
        for one in passes:
            if not one.on_trial:
                report, before = _report(one), done.get(one.url)
                sent, received = (before.sent, before.received) if before is not None else (0, 0)
                done[one.url] = replace(report, sent=report.sent + sent, received=report.received + received)
        return sum(one.requests for one in passes)

    @asynccontextmanager
    async def watch(
        self,
        on_state: Callable[[str, RelayError | None], None] | None = None,
        on_transfer: TellTransfer | None = None,
    ) -> AsyncIterator[None]:
        """Stay connected to every relay inside the block: what others write arrives, what is written here is sent.

        Args:
            on_state: called with a relay's address, and None when it is level, or the error each time it is lost or
                cannot be reached.
            on_transfer: called with how far each file of the vault is.

        Raises:
            LocalStateError: this device cannot go on.
        """

        def follow(url: str) -> Callable[[RelayError | None], None] | None:
            return None if on_state is None else lambda error: on_state(url, error)

        owner = asyncio.current_task()
        tasks: dict[str, asyncio.Task[None]] = {}
        failures: list[BaseException] = []

        def ended(task: asyncio.Task[None]) -> None:
            error = None if task.cancelled() else task.exception()
            if error is not None:
                failures.append(error)
                if owner is not None:
                    owner.cancel()

        def start(name: str, work: Coroutine[Any, Any, None]) -> None:
            tasks[name] = asyncio.create_task(work, name=f"watch {name}")
            tasks[name].add_done_callback(ended)

        def follow_list() -> None:
            """Watch what the list names by now; with a relay that was left its connection ends."""
            follow_policy(self._replica)
            for url in self.relays:
                if url not in tasks:
                    start(url, RelayDriver(self._replica, url, self._dial, self._dial.blobs).watch(follow(url)))
            for url in [url for url in tasks if url not in self.relays and url not in (MAILBOXES, LIST, FILES)]:
                tasks.pop(url).cancel()

        follow_list()
        start(MAILBOXES, self._watch_mailboxes())
        start(LIST, self._watch_list(follow_list))
        start(FILES, self._watch_files(on_transfer))
        try:
            yield
        except asyncio.CancelledError:
            if failures:
                raise failures[0] from None
            raise
        finally:
            for task in tasks.values():
                task.remove_done_callback(ended)
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)

    async def _watch_list(self, follow_list: Callable[[], None]) -> None:
        """Follow the policy's relays as they change, and leave those that were told where the group went."""
        changed = asyncio.Event()
        unlisten = self._replica.listen(lambda event: changed.set() if isinstance(event, RosterChanged) else None)
        try:
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(LIST_SECONDS):
                        await changed.wait()
                changed.clear()
                for url in self.relays:
                    if url in self._replica.level_relays:
                        leave_relay(self._replica, url)
                follow_list()
        finally:
            unlisten()

    async def _watch_mailboxes(self) -> None:
        """Look for requests every now and then; a relay that cannot be reached is told of by its driver."""
        while True:
            if self._replica.level_relays:
                await self._replica.edits_ended()
                replace_own_device(self._replica, every_relay=self._replica.level_relays >= set(self.relays))
                self._tend_beacons()
            for url in self.relays:
                if url in self._replica.level_relays:
                    with suppress(RelayError):
                        await serve_mailboxes(self._replica, self._dial, url)
            await asyncio.sleep(MAILBOX_SECONDS)

    async def _watch_files(self, on_transfer: TellTransfer | None) -> None:
        """Go on with files when there is something new, and every now and then: what failed is tried again."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(FILES_SECONDS if self._replica.level_relays else LIST_SECONDS):
                    await self._transfers.wake.wait()
            self._transfers.wake.clear()
            if level := [url for url in self._of_the_group(self.relays) if url in self._replica.level_relays]:
                await self._transfers.run(level, on_transfer)

    def _tend_beacons(self) -> None:
        """While watching: ask again for what is missing, and tell the others what is here, where that is due."""
        asked = self._of_the_group(self.relays)
        level = [url for url in asked if url in self._replica.level_relays]
        self._replica.report_withheld(level, complete=len(level) == len(asked))
        self._replica.beacons.write(level)

    def _of_the_group(self, urls: Iterable[str]) -> list[str]:
        """Those that should have everything: one that is being left is not asked for what is new."""
        return [url for url in urls if not is_left(self._replica, url)]

    async def events(self) -> AsyncIterator[GroupEvent]:
        """What happens in this group from now on, by this device or others, each after it was made durable."""
        queue: asyncio.Queue[GroupEvent] = asyncio.Queue(MOST_EVENTS)

        def take(event: GroupEvent) -> None:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(event)

        unlisten = self._replica.listen(take)
        try:
            while True:
                yield await queue.get()
        finally:
            unlisten()

    def unsent(self) -> int:
        """Entries and runs that some relay has not acknowledged yet."""
        log = self._replica.log
        return log.pending_count() + max((log.unsent_count(url) for url in self.relays), default=0)

    def ranges(self) -> dict[DeviceId, DeviceRanges]:
        """Which entries of each device are here, and so which of those before its last known one are not."""
        return held_ranges(self._replica)

    def withheld(self) -> list[WithheldInfo]:
        """What others wrote and relays did not show, as far as the member was told of it by `alarms`."""
        found = []
        for one in find_withheld(self._replica):
            member = self._replica.members.member_ever(one.device)
            found.append(
                WithheldInfo(
                    member=str(member) if member is not None else None,
                    member_name=self._name_of(one.device),
                    device=one.device.hex(),
                    first=one.ranges[0].first if one.ranges else 0,
                    last=one.ranges[-1].last if one.ranges else 0,
                    count=one.count,
                    since=datetime.fromtimestamp(one.since_ms / 1000, UTC),
                    relays=one.relays,
                    had_by=tuple(dict.fromkeys(self._name_of(teller) or teller.hex() for teller in one.tellers)),
                )
            )
        return found

    def _name_of(self, device: DeviceId) -> str | None:
        member = self._replica.members.member_of(device)
        return self._roster.members[member].shown_name if member is not None else None

    def alarms(self) -> list[str]:
        """What a member should know: refused input, forks, lost or withheld entries. Oldest first."""
        return [message for _, _, message, _ in self._replica.groups.alarms(self._replica.record.number)]
