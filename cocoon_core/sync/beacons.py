"""Beacons of one group on this device: what it tells the others that it has, and what it notes of what they tell.

What is concluded from that, and said to the member, is in withheld.py. Implements specs/beacon.md §2 to §4.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Protocol

from cocoon_core.errors import MalformedError
from cocoon_core.protocol.beacon import Beacon, Ends, choose_ends, read_beacon
from cocoon_core.protocol.constants import BEACON_HOURS, MAX_RELAYS
from cocoon_core.protocol.entry import Entry, EntryKind
from cocoon_core.protocol.frontier import digest_of_ends
from cocoon_core.protocol.ids import DeviceId, EntryId, FrontierDigest
from cocoon_core.protocol.run import UnverifiedRun, parse_run
from cocoon_core.storage.beacons import BeaconTable, LastBeacon, MissingEnd, OwnBeacons
from cocoon_core.sync.events import SyncWanted
from cocoon_core.sync.relay_list import is_left

if TYPE_CHECKING:
    from cocoon_core.sync.replica import Replica

BEACON_MS: Final = BEACON_HOURS * 3_600_000


class ShownRun(Protocol):
    """A run that a relay showed and that stands in the log here."""

    @property
    def device(self) -> DeviceId: ...
    @property
    def first_seq(self) -> int: ...
    @property
    def last_seq(self) -> int: ...


def is_beacon(run: UnverifiedRun) -> bool:
    """True where a run says to be one. An epoch's age does not go by those."""
    return run.has_statement and run.stored().entries[-1].kind is EntryKind.BEACON


class Beacons:
    """Notes news, writes beacons, reads those of others. All but `write` inside the caller's transaction."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self.table = BeaconTable(replica.database, replica.record.number)
        self.load()

    def load(self) -> None:
        """What is kept in memory was rolled back."""
        self._news = set(self.table.news())
        self._shown: dict[str, dict[DeviceId, int]] = {}
        self._content: tuple[EntryId | None, int] = (None, -1)  # end of the own chain, and its last entry but beacons

    # --- what happens here

    def note_news(self, devices: Iterable[DeviceId]) -> None:
        """These devices have entries that are new here and no beacons."""
        fresh = set(devices) - self._news
        if not fresh:
            return
        self.table.add_news(fresh)
        self._news |= fresh
        if self.table.own() is None:
            self.table.set_own(OwnBeacons(0, self._replica.clock(), -1))

    def note_shown(self, relay: str, runs: Iterable[ShownRun]) -> None:
        """A relay showed these runs in the topic that is written to."""
        ends = self._shown_by(relay)
        changed: dict[DeviceId, int] = {}
        for run in sorted(runs, key=lambda one: one.first_seq):
            end = ends[run.device] if run.device in ends else self._final_end(run.device)
            if run.first_seq <= end + 1 and run.last_seq > end:
                ends[run.device] = changed[run.device] = run.last_seq
        self.table.set_shown_ends(relay, changed.items())

    def forget_shown(self, relay: str | None = None) -> None:
        """Another topic is written to from now on; or this relay lost what it had shown."""
        self.table.forget_shown_ends(relay)
        self._shown.clear()

    def shown_end(self, relay: str, device: DeviceId) -> int:
        """The last entry of a device up to which a relay showed all that is not in the manifest."""
        return max(self._shown_by(relay).get(device, -1), self._final_end(device))

    def _shown_by(self, relay: str) -> dict[DeviceId, int]:
        if relay not in self._shown:
            self._shown[relay] = self.table.shown_ends(relay)
        return self._shown[relay]

    def _final_end(self, device: DeviceId) -> int:
        end = self._replica.epochs.frontier().get(device)
        return end.seq if end is not None else -1

    # --- writing

    def is_due(self) -> bool:
        """There is news, and the last beacon, or the first news, is long enough ago."""
        own = self.table.own()
        return own is not None and bool(self._news) and abs(self._replica.clock() - own.since_ms) >= BEACON_MS

    def write(self, level: Sequence[str], *, asked: bool = False) -> bool:
        """Write a beacon, if one is due. Not inside a transaction.

        Args:
            level: the relays that were read to their ends just now.
            asked: the member wants one now.
        """
        replica = self._replica
        if not level or not (asked or self.is_due()):
            return False
        if replica.members.member_of(replica.keys.id) is None or not replica.is_writable:
            return False
        if not replica.epochs.may_seal():
            return False
        with replica.transaction():
            self._write(level)
        return True

    def _write(self, level: Sequence[str]) -> None:
        replica = self._replica
        own, device = self.table.own(), replica.keys.id
        number = own.next if own is not None else 0
        ends = self.ends()
        news = [other for other in self._news if other in ends and other != device]
        told = choose_ends(device, number, news)
        digest = digest_of_ends(ends)
        read = tuple(
            sorted(level, key=lambda url: is_left(replica, url))[:MAX_RELAYS]
        )  # while it moves, there may be more
        beacon = Beacon(number, digest, len(news) - len(told), read, {other: ends[other] for other in told})
        for relay in replica.groups.relays(replica.record.number):
            self.put_again(relay, ends)
        replica.own_chain.append_statement(EntryKind.BEACON, beacon.encode_body())
        self._look_at_ended(level)
        kept = set(news) - set(told)
        self.table.drop_news(self._news - kept)
        self._news = kept
        self.table.set_own(OwnBeacons(number + 1, replica.clock(), own.settled if own is not None else -1))
        replica.tell(SyncWanted())

    def _look_at_ended(self, level: Sequence[str]) -> None:
        """Where a relay lets an ended epoch go on for others, a removal among what it keeps from them, its topic shows
        it to whoever opens that once more.
        """
        epochs = self._replica.epochs
        ended = [epoch.topic for epoch in epochs.watched() if epoch.topic != epochs.current.epoch.topic]
        for relay in level:
            epochs.table.look_again(relay, ended)

    def put_again(self, relay: str, devices: Iterable[DeviceId]) -> None:
        """Queue for a relay what it has not shown of these devices: who reads the beacon there must find it there."""
        replica = self._replica
        for device in devices:
            end, shown = replica.chains.get(device), self.shown_end(relay, device)
            if end is not None and device != replica.keys.id and shown < end.last_seq:
                replica.log.enqueue_above(relay, device, shown)

    def ends(self) -> dict[DeviceId, tuple[int, EntryId]]:
        """The last entry of every device that belongs to the group."""
        devices = self._replica.members.roster.devices
        return {
            device: (end.last_seq, end.last_id) for device, end in self._replica.chains.items() if device in devices
        }

    def digest(self) -> FrontierDigest:
        return digest_of_ends(self.ends())

    # --- reading

    def note(self, entry: Entry) -> None:
        """A verified beacon of another device came, and all that came with it was taken in."""
        try:
            beacon = read_beacon(entry)
        except MalformedError:
            return  # a link like any other
        device, own = entry.device, self._replica.keys.id
        if device == own:
            return
        self._note_own_end(device, beacon)
        self.note_ends(device, entry.seq, beacon.ends)

    def note_ends(self, teller: DeviceId, at_seq: int, ends: Ends) -> None:
        """Keep what a device says that there is, in a beacon or manifest, and that is not here."""
        devices = self._replica.members.roster.devices
        lacking = {
            device: end for device, end in ends.items() if device in devices and not self.holds(device, end[0], end[1])
        }
        before = {end.device: end for end in self.table.missing() if end.teller == teller} if lacking else {}
        for device, (seq, entry) in lacking.items():
            known = before.get(device)
            since = known.since_ms if known is not None else self._replica.clock()
            fresh = MissingEnd(device, teller, at_seq, seq, entry, since)
            if known is not None:
                fresh = replace(fresh, asked_ms=known.asked_ms, relays=known.relays)
            self.table.set_missing(fresh)

    def holds(self, device: DeviceId, seq: int, entry: EntryId) -> bool:
        """True where nothing that is here contradicts that this is an entry of the device's chain here."""
        end = self._replica.chains.get(device)
        return end is not None and seq <= end.last_seq and self._replica.known_id(device, seq) in (None, entry)

    def _note_own_end(self, device: DeviceId, beacon: Beacon) -> None:
        """What a device says, or by its silence shows, that it has of this one's entries.

        What it lacks although relays that it had read to their ends held it before its beacon before this one came, it
        was not shown: specs/beacon.md §4 says why.
        """
        replica, own = self._replica, self.table.own()
        last = self.table.last_beacon(device)
        settled = own.settled if own is not None else -1
        named = replica.keys.id in beacon.ends
        has = self._own_end_in(beacon, last)
        wanted = last.wanted if last is not None else -1
        lacking: tuple[str, ...] = last.lacking if last is not None else ()
        if has is not None and (named or not beacon.rest):
            read = tuple(relay for relay in beacon.relays if relay in replica.groups.relays(replica.record.number))
            lacking = (read or lacking) if has < wanted else ()
            for relay in read if lacking else ():  # it may have lost it: then this mends it
                replica.log.enqueue_above(relay, replica.keys.id, max(has, self._final_end(replica.keys.id)))
        self.table.set_last_beacon(device, LastBeacon(beacon.number, has, max(wanted, settled), lacking))

    def _own_end_in(self, beacon: Beacon, last: LastBeacon | None) -> int | None:
        named = beacon.ends.get(self._replica.keys.id)
        if named is not None:
            return named[0]
        if beacon.number == 0:
            return -1 if not beacon.rest else None
        return last.own_seq if last is not None and beacon.number == last.number + 1 else None

    def has_unsettled(self) -> bool:
        """Something was written here since `note_settled`."""
        own = self.table.own()
        return own is not None and self._own_content() > own.settled

    def note_settled(self) -> None:
        """Every relay was read to its end, and showed all that was written here."""
        own = self.table.own()
        if own is not None:
            self.table.set_own(OwnBeacons(own.next, own.since_ms, self._own_content()))

    def _own_content(self) -> int:
        """The last own entry that is no beacon: of those, others say nothing."""
        replica = self._replica
        end = replica.chains.get(replica.keys.id)
        if end is None:
            return -1
        if self._content[0] == end.last_id:
            return self._content[1]
        for stored in replica.log.runs_before(replica.keys.id, end.last_seq):
            if parse_run(stored.wire, replica.group).stored().entries[-1].kind is not EntryKind.BEACON:
                self._content = end.last_id, stored.last_seq
                return stored.last_seq
        return -1
