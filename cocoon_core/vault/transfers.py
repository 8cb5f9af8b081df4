"""The files of one group: sealed, sent, fetched, opened, kept alive and let go of. What the façade of the vault uses.

What is to be sent or fetched is in rows, so every sync goes on with it: `run` does what is due at relays that were just
found level. Nothing here knows of items: it is told what they refer to. Spec: specs/vault.md §6 to §9.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from cocoon_core.errors import CocoonError, NotYetError, RelayError, UntrustedInputError
from cocoon_core.protocol.constants import CHUNK_BYTES
from cocoon_core.protocol.ids import BlobHash
from cocoon_core.protocol.vault_file import FileRef
from cocoon_core.storage.vault_contents import ContentRecord, measure_contents
from cocoon_core.storage.vault_transfers import TransferTable
from cocoon_core.sync.access import RelayAccess
from cocoon_core.sync.blobs import IN_FLIGHT, run_together
from cocoon_core.sync.relay_list import DAY_MS, is_left, is_on_trial
from cocoon_core.sync.replica import Replica
from cocoon_core.vault.content import ContentStore
from cocoon_core.vault.downloads import fetch_file
from cocoon_core.vault.holding import Holding
from cocoon_core.vault.leases import References, is_round_due, renew
from cocoon_core.vault.opening import DamagedError, Opener, chunks_between
from cocoon_core.vault.places import length_of_all
from cocoon_core.vault.progress import Meter, Tell
from cocoon_core.vault.relays import NowhereError, OpenRelays
from cocoon_core.vault.reports import (
    CheckStep,
    FileState,
    RelayCheck,
    Room,
    TellStep,
    TellTransfer,
    Transfer,
    TransferReport,
    VaultCheck,
)
from cocoon_core.vault.sealing import KnownFile, seal_file
from cocoon_core.vault.sources import Source
from cocoon_core.vault.uploads import drop_damaged, send_file

MOST_CANDIDATES: Final = 4  # known files that a new one is compared with
KEPT_SEALING_DAYS: Final = 7  # days that a file which was never sealed to its end is kept to go on from
_DAMAGE_TRIES: Final = 3  # times that one opening fetches again what the disk damaged
_AHEAD: Final = 4  # chunks that a reader of a part has fetched together


class Transfers:
    """The files of one group on this device.

    Attributes:
        references: gives all that items refer to; without it, no lease is renewed and nothing is forgotten.
        is_named: whether some item refers to a file, by its id. Goes with `references`.
        wake: set when there is something new to send or fetch.
    """

    def __init__(self, replica: Replica, access: RelayAccess, store: ContentStore) -> None:
        """Args:
        store: of the profile: all its groups have room in one.
        """
        self._replica, self._access, self._store = replica, access, store
        self.references: References | None = None
        self.is_named: Callable[[bytes], bool] = lambda _: True
        self.wake = asyncio.Event()
        self._holding: Holding | None = None
        self._running = asyncio.Lock()

    @property
    def holding(self) -> Holding:
        """Contents and rows; the content store is prepared when it is first used."""
        if self._holding is None:
            self._store.ready()
            self._holding = Holding(self._replica, self._store)
        return self._holding

    # --- files of this device

    async def seal(self, source: Source, candidates: Iterable[FileRef] = (), tell: Tell | None = None) -> FileRef:
        """Seal a file into the content store; nothing is sent yet. Called again after a crash it goes on.

        Args:
            candidates: files of the same size and digest; if it is one of them, that one's reference is given.

        Raises:
            As vault/sealing.py: seal_file.
        """
        holding = self.holding
        known: KnownFile | None = None
        for ref in list(candidates)[:MOST_CANDIDATES]:
            try:
                known = KnownFile(ref, await holding.names(ref, self._get_alone))
                break
            except (RelayError, NowhereError, UntrustedInputError):
                continue  # its list cannot be had now, or is broken
        return await seal_file(holding.store, holding.contents, source, self._replica.clock, known, tell)

    def send(self, ref: FileRef) -> None:
        """Have a file sent to every relay, at the next run. Inside the transaction that makes an item name it."""
        now = self._replica.clock()
        for url in self._targets():
            self.holding.transfers.queue(url, ref, now)
        self.wake.set()

    def forget(self, refs: Iterable[FileRef]) -> None:
        """No item names these any more. Inside a transaction; `let_go` takes what is here of them."""
        self.holding.transfers.forget([ref.id() for ref in refs])

    def let_go(self, ref: FileRef) -> None:
        """Remove what is here of a file; it can be fetched again as long as a relay has it."""
        record = self.holding.find(ref)
        if record is not None and record.number not in self.holding.store.busy:
            self.holding.store.remove(record.number, record.place)

    def state(self, ref: FileRef) -> FileState:
        record = self.holding.find(ref)
        held, pinned = (record.held, record.pinned) if record is not None else (0, False)
        return FileState(held, length_of_all(ref.size), pinned, tuple(self.holding.transfers.relays_lacking(ref.id())))

    def pin(self, ref: FileRef, *, pinned: bool = True) -> None:
        """Keep a file here, whatever the limit; it is fetched at the next run if it is not here."""
        record = self.holding.begin(ref)
        with self.holding.contents.transaction():
            self.holding.contents.set_pinned(record.number, pinned)
            if pinned and record.held < length_of_all(ref.size):
                self.holding.contents.set_wanted(record.number, True)
                self.wake.set()

    def make_room(self) -> None:
        """Let go of what can be fetched again, as far as there is more than the limit."""
        self.holding.store.make_room()

    def room(self) -> Room:
        """How much is here, and what is to be sent."""
        database, group = self._replica.database, self._replica.record.number
        of_group, of_all, pinned = measure_contents(database, group)
        transfers = TransferTable(database, group)
        return Room(of_group, of_all, pinned, self._store.limit, tuple(transfers.queued_anywhere()))

    def set_limit(self, limit: int) -> None:
        """Bytes of all groups that are kept of what can be fetched again."""
        self.holding.store.limit = limit
        self.holding.store.make_room()

    # --- files of others

    async def fetch(self, ref: FileRef, tell: Tell | None = None) -> None:
        """Have a file here, whole. If it is broken off, the next run goes on.

        Raises:
            As vault/downloads.py: fetch_file.
        """
        record = self._begin(ref)
        if record.held < length_of_all(ref.size):
            async with self._relays() as relays:
                await self._fetch_wanted(relays, record, ref, tell)
        self.holding.store.make_room()

    async def fetch_all(self, refs: Iterable[FileRef], tell: TellTransfer | None = None) -> TransferReport:
        """Have these here, small ones several at a time; what could not be had is told in the report. For pictures
        of a whole page: each alone would cost a connection.
        """
        report = TransferReport()
        lacking = [ref for ref in refs if self._begin(ref).held < length_of_all(ref.size)]
        if lacking:
            async with self._relays() as relays:
                await _each(lacking, lambda ref: self._try_fetch(relays, ref, report, tell))
            self.holding.store.make_room()
        return report

    async def write_to(self, ref: FileRef, target: Path, *, replace: bool = False, tell: Tell | None = None) -> None:
        """Write a file that is here, or is fetched first.

        Args:
            tell: called with how far fetching is, in bytes of blobs.

        Raises:
            UsageError: there is a file of that name, and it is not to be replaced.
            As `fetch`.
        """
        for last in (False,) * (_DAMAGE_TRIES - 1) + (True,):
            await self.fetch(ref, tell)
            try:
                async with self._open(ref) as opener:
                    return await opener.write_to(target, replace=replace)
            except DamagedError:
                await drop_damaged(self.holding, self.holding.begin(ref))
                if last:
                    raise

    async def read(self, ref: FileRef, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        """The bytes of a file from `start` to before `stop`: no more is fetched than the chunks that hold them.

        Raises:
            As `fetch`.
        """
        stop = ref.size if stop is None else min(stop, ref.size)
        chunks = chunks_between(ref.size, start, stop)
        self._begin(ref, wanted=False)
        async with self._relays() as relays:
            for first in range(chunks.start, chunks.stop, _AHEAD):
                some = range(first, min(first + _AHEAD, chunks.stop))
                until = min(stop, some.stop * CHUNK_BYTES)
                for last in (False, True):
                    await fetch_file(self.holding, relays, ref, some)
                    try:
                        async with self._open(ref) as opener:
                            async for part in opener.read(start, until):
                                start += len(part)
                                yield part
                        break
                    except DamagedError as error:
                        self.holding.drop(self.holding.begin(ref), error.places)
                        if last:
                            raise
        self.holding.store.make_room()

    def _begin(self, ref: FileRef, *, wanted: bool = True) -> ContentRecord:
        contents = self.holding.contents
        record = self.holding.begin(ref)
        with contents.transaction():
            contents.touch(record.number, self._replica.clock())
            if wanted and record.held < length_of_all(ref.size):
                contents.set_wanted(record.number, True)
        return contents.require(record.number)

    async def _fetch_wanted(
        self, relays: OpenRelays, record: ContentRecord, ref: FileRef, tell: Tell | None = None
    ) -> None:
        try:
            await fetch_file(self.holding, relays, ref, tell=tell)
        except (NotYetError, RelayError):
            raise  # it stays wanted
        except CocoonError:
            self._set_wanted(record, wanted=False)
            raise
        self._set_wanted(record, wanted=False)

    def _set_wanted(self, record: ContentRecord, *, wanted: bool) -> None:
        with self.holding.contents.transaction():
            self.holding.contents.set_wanted(record.number, wanted)

    @asynccontextmanager
    async def _open(self, ref: FileRef) -> AsyncIterator[Opener]:
        record = self.holding.begin(ref)
        self.holding.store.hold(record.number)
        file = self.holding.open(record)
        try:
            yield Opener(ref, self.holding.here(record, ref.size), file)
        finally:
            file.close()
            self.holding.store.release(record.number)

    # --- with every sync

    async def run(self, urls: Sequence[str], tell: TellTransfer | None = None) -> TransferReport:
        """Send, renew and fetch what is due, at relays that are level. A relay's failure is told in the report.

        Raises:
            LocalStateError: this device cannot go on.
        """
        report = TransferReport()
        targets = [url for url in self._targets() if url in urls]
        async with self._running:
            self.wake.clear()
            if not self._has_work(targets):
                return report
            is_daily = any(is_round_due(self.holding, url) for url in targets)
            async with self._relays(urls) as relays:
                await run_together([self._run_at(relays, url, report, tell) for url in targets])
                wanted = [record.ref for record in self.holding.contents.wanted() if record.ref is not None]
                await _each(wanted, lambda ref: self._try_fetch(relays, ref, report, tell))
            if is_daily:
                self._tidy()
            self.holding.store.make_room()
        return report

    def _has_work(self, targets: Sequence[str]) -> bool:
        if self._replica.database.query_value("SELECT 1 FROM vault_contents LIMIT 1") is None and (
            self.references is None or next(iter(self.references()), None) is None
        ):
            return False
        holding = self.holding
        due = self.references is not None and any(is_round_due(holding, url) for url in targets)
        return due or holding.transfers.count_queued() > 0 or bool(holding.contents.wanted())

    async def _run_at(self, relays: OpenRelays, url: str, report: TransferReport, tell: TellTransfer | None) -> None:
        try:
            await self._send_queued(relays, url, report, tell)
            if self.references is not None and is_round_due(self.holding, url):
                renewed = await renew(self.holding, relays, url, self.references)
                report.renewed += renewed.files
                if renewed.lacking:
                    await self._send_queued(relays, url, report, tell)
        except RelayError as error:
            report.errors.append(str(error))

    async def _send_queued(
        self, relays: OpenRelays, url: str, report: TransferReport, tell: TellTransfer | None
    ) -> None:
        async def send(ref: FileRef) -> None:
            try:
                lacking = await send_file(self.holding, relays, url, ref, _tell(tell, ref, url))
            except (UntrustedInputError, NotYetError) as error:
                report.errors.append(f"a file cannot be sent: {error}")
                return
            report.lost += bool(lacking)
            report.sent += not lacking

        await _each(self.holding.transfers.queued(url), send)

    async def _try_fetch(
        self, relays: OpenRelays, ref: FileRef, report: TransferReport, tell: TellTransfer | None
    ) -> None:
        try:
            await self._fetch_wanted(relays, self.holding.begin(ref), ref, _tell(tell, ref, ""))
            report.fetched += 1
        except (NotYetError, RelayError, UntrustedInputError) as error:
            report.errors.append(str(error))

    def _tidy(self) -> None:
        """Let go of what no item names and nobody used for a day, and of files that were never sealed to their end."""
        holding, now = self.holding, self._replica.clock()
        gone = holding.contents.sealing_before(now - KEPT_SEALING_DAYS * DAY_MS)
        if self.references is not None:
            old = [one for one in holding.contents.finished() if now - one[3] > DAY_MS]
            gone += [(number, place) for number, file, place, _ in old if not self.is_named(file)]
        for number, place in gone:
            if number not in holding.store.busy:
                holding.store.remove(number, place)

    async def check(
        self, urls: Sequence[str], tell: TellTransfer | None = None, tell_step: TellStep | None = None
    ) -> VaultCheck:
        """Ask every relay for all that items name, put again what it lost, and read all that is here anew.

        Raises:
            LocalStateError: this device cannot go on.
        """
        tell_step = tell_step or (lambda _: None)
        damaged = await self._check_here(tell_step)
        found: list[RelayCheck] = []
        async with self._running, self._relays(urls) as relays:
            for url in [url for url in self._targets() if url in urls]:
                found.append(await self._check_at(relays, url, tell, tell_step))
        return VaultCheck(tuple(found), damaged)

    async def _check_here(self, tell: TellStep) -> int:
        """Read all that is here anew, and forget what the disk damaged; how many blobs that were."""
        holding, damaged = self.holding, 0
        every = holding.contents.sealed()
        meter = Meter(sum(held for _, held in every), lambda far: tell(CheckStep("", far.done, far.total)))
        for number, held in every:
            before = meter.done
            record = holding.contents.get(number)
            if record is not None and record.held:
                damaged += await drop_damaged(holding, record, meter.add)
            meter.add(before + held - meter.done)  # whatever became of it meanwhile
        return damaged

    async def _check_at(
        self, relays: OpenRelays, url: str, tell: TellTransfer | None, tell_step: TellStep
    ) -> RelayCheck:
        report = TransferReport()
        queued = len(self.holding.transfers.queued(url))

        def asked(done: int, total: int) -> None:
            tell_step(CheckStep(url, done, total))

        try:
            references = self.references or (lambda: ())
            renewed = await renew(self.holding, relays, url, references, everything=True, tell=asked)
            await self._send_queued(relays, url, report, tell)
        except RelayError as error:
            return RelayCheck(url, 0, 0, 0, str(error))
        return RelayCheck(url, renewed.files + queued, renewed.lacking, report.lost)

    # --- relays

    def _targets(self) -> list[str]:
        """The relays that files are sent to: not one that the group leaves."""
        replica = self._replica
        urls = replica.groups.relays(replica.record.number)
        return [url for url in urls if not is_left(replica, url) and not is_on_trial(replica, url)]

    def _relays(self, urls: Sequence[str] | None = None) -> OpenRelays:
        every = self._replica.groups.relays(self._replica.record.number) if urls is None else urls
        return OpenRelays(self._access.blobs, every)

    async def _get_alone(self, name: BlobHash) -> bytes:
        async with self._relays() as relays:
            return await relays.get(self.holding.keys, name)


async def _each(refs: Iterable[FileRef], work: Callable[[FileRef], Coroutine[Any, Any, None]]) -> None:
    """The small ones first and several at a time, each of which is one round trip; then the others one by one."""
    every = list(refs)
    small = iter([ref for ref in every if ref.size < CHUNK_BYTES])

    async def work_some() -> None:
        for ref in small:  # shared by all
            await work(ref)

    await run_together([work_some() for _ in range(IN_FLIGHT)])
    for ref in every:
        if ref.size >= CHUNK_BYTES:
            await work(ref)


def _tell(tell: TellTransfer | None, ref: FileRef, url: str) -> Tell | None:
    if tell is None:
        return None
    return lambda progress: tell(Transfer(ref.id(), bool(url), url, progress))
