"""Follows rotations at one relay: opens the own wrap of the chosen one, then its manifest, and takes in what was missed

What needs no blobs is done at once. Blobs are fetched by work that the driver awaits beside the connection; `advance`
goes on when they are there. A manifest that cannot serve is noted, and is a reason to rotate. Spec: specs/epoch.md §7.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import suppress
from typing import Any

from cocoon_core.errors import NotYetError, UntrustedInputError
from cocoon_core.protocol.entry import EntryKind
from cocoon_core.protocol.epoch import Epoch, TopicKeys
from cocoon_core.protocol.epochs import rank_of
from cocoon_core.protocol.frames import ErrorCode
from cocoon_core.protocol.ids import BlobHash, DocumentId, EntryId, RecipientId, TopicId
from cocoon_core.protocol.invite import InviteKeys
from cocoon_core.protocol.manifest import ManifestBody, open_manifest, read_manifest_body
from cocoon_core.protocol.manifest_check import verify_manifest
from cocoon_core.protocol.operations import decode_operation
from cocoon_core.protocol.operations_rotation import Rotation
from cocoon_core.protocol.primitives import HpkeKey
from cocoon_core.protocol.rotation import find_page, find_wrap, open_rotation
from cocoon_core.protocol.run import Run, parse_run, verify_run
from cocoon_core.sync.adopting import (
    ProvedManifest,
    adopt_manifest,
    queue_missing,
)
from cocoon_core.sync.blobs import IN_FLIGHT, BlobRefused, BlobStore, run_together
from cocoon_core.sync.owed import Lot
from cocoon_core.sync.receiving import retake_parked
from cocoon_core.sync.recovering import unwrap_keys
from cocoon_core.sync.repairing import Repairing, open_repairs
from cocoon_core.sync.replica import Replica

Work = Coroutine[Any, Any, None]
FETCHED_TOGETHER = 8  # pages of documents that are asked for at once, if one document has no more
CHECKERS = 3  # devices, the first by rank, that look whether the blobs of a manifest are there


class Following:
    """What this device has yet to follow, with the help of one relay.

    Args:
        progress: called with (documents read, documents there).
        reads_all: read all that is owed; else the newest months alone.
    """

    def __init__(
        self,
        replica: Replica,
        url: str,
        blobs: BlobStore,
        repairing: Repairing,
        progress: Callable[[int, int], None] | None = None,
        *,
        reads_all: bool = True,
    ) -> None:
        self._replica, self._url, self._blobs, self._repairing = replica, url, blobs, repairing
        self._progress, self._read = progress, 0
        self._reads_all = reads_all
        self._first: set[DocumentId] | None = None  # what is read where not all is
        self._fetched: dict[BlobHash, bytes] = {}
        self._lost: set[BlobHash] = set()
        self._is_guest = url in replica.guests
        self._closed_here: set[EntryId] = set()  # rotations that do not open by what this guest has
        self._unread: set[EntryId] = set()  # rotations beside the chosen one without a wrap for this device
        self._proved: ProvedManifest | None = None  # the manifest whose blobs are on their way

    def advance(self) -> Work | None:
        """Follow as far as it goes. Gives work to be awaited where blobs are needed first."""
        return self._open_chosen() or self._hop() or self._open_beside() or self._open_manifest() or self._read_owed()

    @property
    def is_done(self) -> bool:
        """Nothing that this relay could give is owed."""
        return next(self._open_lots(), None) is None

    def look_again(self) -> None:
        """Something came: a guest is given blobs before what names them, so what lacked may be there now."""
        if self._is_guest:
            self._lost.clear()

    # --- the secret

    def _own_keys(self) -> list[tuple[RecipientId, list[HpkeKey]]]:
        """The ids under which a rotation may name this device, with the keys that open such a wrap."""
        replica = self._replica
        own = [HpkeKey(seed) for _, seed in replica.epochs.table.hpke_seeds()]
        keys = [(RecipientId(replica.keys.id), [*own, replica.keys.hpke])]
        if replica.record.link_secret is not None:
            invite = InviteKeys(replica.record.link_secret)
            keys.append((RecipientId(invite.id), [invite.hpke()]))
        return keys + [(recipient, [key]) for recipient, key in unwrap_keys(replica)]

    def _open_chosen(self) -> Work | None:
        epochs = self._replica.epochs
        choice = epochs.choice
        if choice is None:
            return None
        keys = next(reversed(epochs.held.values())).epoch
        for node in (choice.epoch, *choice.forks):  # what was written beside the chosen one must be read, and ended
            if node.topic in epochs.held or node.rotation is None:
                continue
            if open_repairs(self._replica, self._own_keys()[0][1]):
                return None
            if not self._is_closed(node.id) or epochs.take_closed_early(node.id):
                work = self._open_wrap(node.id, node.rotation, keys)
                if work is not None or node.topic in epochs.held:
                    return work
        return None

    def _open_beside(self) -> Work | None:
        """Open what does not stand as far as is known here: its manifest may say what makes it stand for others.

        No page is fetched for that, and nobody is told where no wrap is found. The wraps of one that is known by a
        manifest alone are not here.
        """
        epochs = self._replica.epochs
        for node in epochs.unknown():
            is_here = node.rotation is not None and not node.rotation.paged and not epochs.lacks_wraps(node)
            if is_here and node.rotation is not None and node.id not in self._unread:
                self._open_wrap(node.id, node.rotation, self._replica.epoch, tell=False)
                if node.topic in epochs.held:
                    return None
                self._unread.add(node.id)
        return None

    def _hop(self) -> Work | None:
        """Follow rotations that name operations which are not here, for who comes with nothing or where some were lost.

        The manifest holds them all, and proves whether it was a rotation that counts.
        """
        replica = self._replica
        held = replica.epochs.held
        if replica.epochs.left_out_early() and open_repairs(replica, self._own_keys()[0][1]):
            return None
        for parked in replica.log.parked():
            if parked.statement is None or self._is_closed(parked.statement):
                continue
            run = parse_run(parked.wire, replica.group).stored()
            with suppress(UntrustedInputError):
                body = decode_operation(run.entries[-1].body) if run.entries[-1].kind is EntryKind.ROSTER else None
                if isinstance(body, Rotation) and body.topic not in held:
                    ended = [held[topic].epoch for topic in body.parents if topic in held]
                    reads = ended[0] if ended else replica.epoch
                    work = self._open_wrap(run.last_id, body, reads)
                    if work is not None or body.topic in held:
                        return work
                    if not self._is_guest:
                        replica.epochs.note_closed_early(run.last_id, body)
        return None

    def _open_wrap(self, operation: EntryId, rotation: Rotation, reads: TopicKeys, *, tell: bool = True) -> Work | None:
        replica = self._replica
        records = replica.epochs.table.wraps(operation) if rotation.beside is not None else None
        if rotation.beside is not None and records is None and self._is_guest:
            return None  # they may still come, or be elsewhere
        here = {rotation.beside.name: records} if rotation.beside is not None and records is not None else self._fetched
        for recipient, keys in self._own_keys():
            page = find_page(rotation, recipient)
            if page is not None and page not in self._fetched:
                if page in self._lost:
                    continue
                return self._fetch(reads, [page])
            with suppress(UntrustedInputError, NotYetError):
                if find_wrap(rotation, recipient, here) is not None:
                    epoch = open_rotation(rotation, recipient, keys, replica.group, here)
                    with replica.transaction():
                        if recipient == RecipientId(replica.keys.id):  # the link's key is needed no more
                            replica.groups.forget_link(replica.record.number)
                        replica.epochs.hold(epoch, operation if replica.members.knows((operation,)) else None)
                    return None
        if tell:
            (self._closed_here if self._is_guest else replica.epochs.closed).add(operation)
            self._tell_closed(operation)
        return None

    def _is_closed(self, operation: EntryId) -> bool:
        return operation in self._replica.epochs.closed or operation in self._closed_here

    def _tell_closed(self, operation: EntryId) -> None:
        replica = self._replica
        if not replica.members.has_begun or not replica.members.knows((operation,)):
            return
        is_out = replica.members.member_of(replica.keys.id) is None
        if self._is_guest and not is_out:
            return  # it may only lack the page with this device's wrap
        self._repairing.complain_of(operation)
        with replica.transaction():
            if is_out:
                message = "this device was put out of the group: what is written from now on cannot be read here"
                replica.alarm("out", replica.keys.id.hex(), message)
            else:
                message = "a rotation left this device out; others are asked to repair it"
                replica.alarm("excluded", operation.hex(), message)

    # --- the manifest

    def _open_manifest(self) -> Work | None:
        replica = self._replica
        for stored in list(replica.epochs.held.values()):
            topic = stored.epoch.topic
            is_needed = topic == replica.epoch.topic or stored.rotation is None
            if stored.followed or (not is_needed and stored.frontier is not None):
                continue
            for entry, wire in replica.epochs.table.candidates(topic):
                if stored.rotation is not None and parse_run(wire, replica.group).prev != stored.rotation:
                    self._drop(topic, entry, None)
                    continue
                try:
                    work = self._follow(stored.epoch, wire, adopts=is_needed)
                except (UntrustedInputError, NotYetError) as error:
                    if isinstance(error, NotYetError) and self._is_guest:
                        continue  # a guest need not hold all of it
                    self._drop(topic, entry, error if stored.rotation is not None and is_needed else None)
                    continue
                if work is not None:
                    return work
                break
        return None

    def _follow(self, epoch: Epoch, wire: bytes, *, adopts: bool) -> Work | None:
        """Verify a manifest and take it in; work to be awaited where pages of it are not here yet.

        Args:
            adopts: else its epoch is not written to, and only what it says to be final is noted.

        Raises:
            UntrustedInputError: it cannot serve.
            NotYetError: the relay does not have a page of it.
        """
        replica = self._replica
        run = verify_run(parse_run(wire, replica.group))
        body = read_manifest_body(run.entries[-1].body)
        missing = self._missing(body.pages)
        if missing:
            return self._fetch(epoch, missing)
        proved = self._prove(epoch, run, body)
        if not adopts:
            with replica.transaction():
                replica.epochs.note_told(epoch.topic, proved.write_final())
            return None
        was_member = replica.members.has_begun
        self._adopt(proved)
        if was_member:
            self._have_checked(epoch)
        return None

    def _prove(self, epoch: Epoch, run: Run, body: ManifestBody) -> ProvedManifest:
        """Check all signatures of a manifest, once, though it may have to wait for blobs after that.

        Raises:
            UntrustedInputError: one does not hold, or it is no manifest of this topic.
            NotYetError: a page of it is not here.
        """
        proved, topic = self._proved, epoch.topic
        if proved is None or (proved.topic, proved.run.wire) != (topic, run.wire):
            unverified = open_manifest(body, self._replica.group, topic, self._fetched)
            known = {operation.id for operation in self._replica.members.graph.operations()}
            known |= self._replica.retires.known
            proved = ProvedManifest(topic, run, verify_manifest(unverified, run.entries[-1], topic, known))
            self._proved = proved
        return proved

    def _adopt(self, proved: ProvedManifest) -> None:
        replica = self._replica
        with replica.transaction():
            adopt_manifest(replica, proved)
            queue_missing(replica)
            retake_parked(replica, self._url)
        self._fetched.clear()
        self._proved = None

    def _drop(self, topic: TopicId, entry: EntryId, error: Exception | None) -> None:
        """This run is no manifest of this topic; or with an error, it is, and cannot serve who comes anew: another must
        be made, by a rotation.
        """
        replica = self._replica
        with replica.transaction():
            replica.epochs.table.drop_candidate(topic, entry)
            if error is None:
                return
            replica.epochs.broken.add(topic)
            replica.alarm("manifest", entry.hex(), f"a manifest cannot be used ({error}); the epoch is ended")

    # --- what is owed

    def _open_lots(self) -> Iterator[Lot]:
        """What can be asked of this relay, the newest month first."""
        debts = self._replica.debts
        if self._first is None and debts and not self._reads_all:
            shown = self._replica.snapshots.has_any()
            self._first = set() if shown else {debt.record.document for lot in debts.newest() for debt in lot.debts}
        for lot in debts.lots():
            is_wanted = self._reads_all or any(debt.record.document in (self._first or ()) for debt in lot.debts)
            if is_wanted and not any(self._is_out_of_reach(page.name) for page in lot.pages):
                yield lot

    def _is_out_of_reach(self, page: BlobHash) -> bool:
        """This relay does not have it, or another one is asked for it at this moment."""
        return page in self._lost or self._replica.debts.claims.get(page, self._url) != self._url

    def _unfetched(self, lot: Lot) -> list[BlobHash]:
        """The pages of a lot that are neither stored nor just fetched."""
        return [page.name for page in self._replica.debts.to_fetch(lot) if page.name not in self._fetched]

    def _read_owed(self) -> Work | None:
        """Read the documents whose pages came; work to be awaited where others are to be fetched.

        Pages are let go as soon as they are read, so no more than a few are in memory.
        """
        replica = self._replica
        while (lot := next(self._open_lots(), None)) is not None:
            if self._unfetched(lot):
                break
            ready = self._ready_lots()
            with replica.transaction():
                for lot in ready:
                    replica.debts.pay(lot, self._fetched)
            for lot in ready:
                for page in lot.pages:
                    self._fetched.pop(page.name, None)
                self._read += len(lot.debts)
            if self._progress is not None:
                self._progress(self._read, self._read + len(list(replica.debts.all())))
        else:
            return None
        names: list[BlobHash] = []
        topic = None
        for lot in self._open_lots():
            wanted = self._unfetched(lot)
            if names and (len(names) + len(wanted) > FETCHED_TOGETHER or lot.topic != topic):
                break
            topic = lot.topic
            names += wanted
        held = replica.epochs.held.get(topic) if topic is not None else None
        return self._fetch_claimed(held.epoch if held is not None else replica.epoch, list(dict.fromkeys(names)))

    def _ready_lots(self) -> list[Lot]:
        """The next lots whose pages are here, to be read in one transaction: an index that is not in the order of time
        is written once for all of them. As many as are fetched together, so that it stays short.
        """
        ready: list[Lot] = []
        pages = 0
        for lot in self._open_lots():
            pages += len(lot.pages)
            if self._unfetched(lot) or (ready and pages > FETCHED_TOGETHER):
                break
            ready.append(lot)
        return ready

    async def _fetch_claimed(self, keys: TopicKeys, names: list[BlobHash]) -> None:
        """Fetch pages that no other relay is asked for in the meantime."""
        claims = self._replica.debts.claims
        claims.update(dict.fromkeys(names, self._url))
        try:
            await self._fetch(keys, names)
        finally:
            for name in names:
                claims.pop(name, None)

    # --- blobs

    def _have_checked(self, epoch: Epoch) -> None:
        """Have it seen whether the relays have what a newcomer needs: its author may have put nothing there."""
        replica = self._replica
        if not self._is_guest and rank_of(replica.keys.id, epoch.topic, replica.seen_lately()) < CHECKERS:
            with replica.transaction():
                replica.relays.note_restock(replica.groups.relays(replica.record.number), epoch.topic)

    def _missing(self, names: Iterable[BlobHash]) -> list[BlobHash]:
        """Those that are not here yet.

        Raises:
            NotYetError: the relay does not have one of them.
        """
        wanted = [name for name in dict.fromkeys(names) if name not in self._fetched]
        if not self._lost.isdisjoint(wanted):
            raise NotYetError(f"{len(self._lost)} blobs of it are not at the relay")
        return wanted

    async def _fetch(self, keys: TopicKeys, names: list[BlobHash]) -> None:
        """Fetch a few at once; those that the relay does not have are noted."""
        waiting = iter(names)

        async def fetch_some() -> None:
            for name in waiting:  # shared by all that fetch
                try:
                    self._fetched[name] = await self._blobs.get_blob(keys, name)
                except BlobRefused as error:
                    if error.reason is not ErrorCode.NOT_FOUND:
                        raise
                    self._lost.add(name)

        await run_together([fetch_some() for _ in range(min(IN_FLIGHT, len(names)))])
