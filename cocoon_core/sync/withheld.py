"""What is missing here though it is known to exist, and what of this device's own is missing elsewhere: ask, and tell.

It is known from later entries of the same chain, which wait for what lacks, and from beacons, which say what others
have. Before it is told, every relay is read anew from its start, once; whatever is told ends by itself when it comes.
Implements specs/beacon.md §3 and §4.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from cocoon_core.protocol.ids import DeviceId
from cocoon_core.storage.beacons import LastBeacon, MissingEnd
from cocoon_core.sync.events import SyncWanted
from cocoon_core.sync.ranges import SeqRange, missing_ranges, name_device, name_ranges

if TYPE_CHECKING:
    from cocoon_core.sync.replica import Replica

WITHHELD: Final = "withheld"  # kinds of alarms
HISTORIES: Final = "histories"
NOT_SHOWN: Final = "not-shown"
Told = Mapping[tuple[str, str], str]  # the alarms that stand: message by kind and subject
ASK_AGAIN_MS: Final = 86_400_000  # between two times that relays are read anew for what is missing


@dataclass(frozen=True, slots=True)
class Withheld:
    """Entries of a device that exist and are not here.

    Attributes:
        tellers: the devices that say in a beacon that they have them; none where the gap itself shows it.
        relays: those that were read to their ends and did not show them.
    """

    device: DeviceId
    ranges: tuple[SeqRange, ...]
    since_ms: int
    tellers: tuple[DeviceId, ...]
    relays: tuple[str, ...]

    @property
    def count(self) -> int:
        return sum(one.count for one in self.ranges)


def report_withheld(replica: Replica, level: Sequence[str], *, complete: bool) -> bool:
    """To be called after a sync: put again, ask again, and tell of what is still missing then.

    Args:
        level: the relays that were read to their ends.
        complete: these are all.

    Returns:
        Whether there is something to be read or put now.
    """
    if replica.members.member_of(replica.keys.id) is None:
        _end_all(replica)  # what is written since is for the others
        return False
    if complete:
        _note_settled(replica)
    rows, parked, told = replica.beacons.table.missing(), _waiting_devices(replica), _told(replica)
    if not (rows or parked or told or replica.beacons.table.lacking()):
        return False
    with replica.transaction():
        return _Report(replica, level, complete).make(rows, parked, told)


def find_withheld(replica: Replica) -> list[Withheld]:
    """What the member was told of: entries of others that exist and are not here."""
    told = {subject: since for kind, subject, _, since in _alarms(replica) if kind == WITHHELD}
    rows: dict[DeviceId, list[MissingEnd]] = {}
    for row in replica.beacons.table.missing():
        if row.device.hex() in told:
            rows.setdefault(row.device, []).append(row)
    devices = {*rows, *(device for device in _waiting_devices(replica) if device.hex() in told)}
    return _describe(replica, devices, rows, {device: told[device.hex()] for device in devices})


def note_not_shown(replica: Replica, relay: str, devices: Iterable[DeviceId]) -> None:
    """A relay says that it has entries of these devices, and does not show them. Inside a transaction."""
    for device in devices:
        replica.alarm(
            NOT_SHOWN,
            f"{relay} {device.hex()}",
            f"the relay {relay} acknowledges entries of {name_device(replica, device)} and does not show them",
        )


class _Report:
    """One look at what is missing. Inside a transaction."""

    def __init__(self, replica: Replica, level: Sequence[str], complete: bool) -> None:
        self._replica, self._level, self._complete = replica, level, complete
        self._now = replica.clock()
        self._work = False  # there is something to be read or put

    def make(self, rows: Sequence[MissingEnd], parked: Collection[DeviceId], told: Told) -> bool:
        missing, contrary = self._sort(rows)
        current = {(WITHHELD, device.hex()) for device in [*missing, *parked]}
        current |= {(HISTORIES, device.hex()) for device in contrary}
        self._ask(missing)
        due = [device for device, ends in missing.items() if self._is_certain(ends)]
        self._tell_missing([*due, *self._certain_gaps(parked)], missing, told)
        self._show_histories(contrary)
        current |= self._tell_own()
        current |= {(kind, subject) for kind, subject in told if kind == NOT_SHOWN and not self._is_shown(subject)}
        for kind, subject in told.keys() - current:
            self._replica.groups.end_alarm(self._replica.record.number, kind, subject)
        if self._work:
            self._replica.tell(SyncWanted())
        return self._work

    # --- what beacons said

    def _sort(self, rows: Sequence[MissingEnd]) -> tuple[dict[DeviceId, list[MissingEnd]], dict[DeviceId, MissingEnd]]:
        """What is still missing, and what contradicts what is here, by device. The rest is dropped."""
        replica, beacons = self._replica, self._replica.beacons
        missing: dict[DeviceId, list[MissingEnd]] = {}
        contrary: dict[DeviceId, MissingEnd] = {}
        over, came = [], set()
        for row in rows:
            if beacons.holds(row.device, row.seq, row.entry):
                came.add(row.device)
                over.append(row)
            elif not self._matters(row) or (self._is_contrary(row) and replica.log.has_fork(row.device)):
                over.append(row)
            elif self._is_contrary(row):
                contrary.setdefault(row.device, row)
            else:
                missing.setdefault(row.device, []).append(row)
        beacons.table.drop_missing(over)
        for relay in replica.groups.relays(replica.record.number) if came else ():
            if any(beacons.shown_end(relay, device) < replica.chains[device].last_seq for device in came):
                beacons.put_again(relay, came)
                self._work = self._work or relay in self._level
        return missing, contrary

    def _matters(self, row: MissingEnd) -> bool:
        """Both belong to the group still: of one that was put out nothing later counts, nor does its word."""
        members = self._replica.members
        return members.member_of(row.device) is not None and members.member_of(row.teller) is not None

    def _is_contrary(self, row: MissingEnd) -> bool:
        end = self._replica.chains.get(row.device)
        return end is not None and row.seq <= end.last_seq

    def _ask(self, missing: dict[DeviceId, list[MissingEnd]]) -> None:
        """Have relays read anew for what nobody was asked for yet, or a day ago; note who did not show the rest."""
        table, ask = self._replica.beacons.table, False
        for device, ends in missing.items():
            asked = max((end.asked_ms for end in ends if end.asked_ms is not None), default=None)
            again = bool(self._level) and (asked is None or abs(self._now - asked) >= ASK_AGAIN_MS)
            ask = ask or again
            for place, end in enumerate(ends):
                relays = end.relays if again else tuple(dict.fromkeys((*end.relays, *self._level)))
                ends[place] = replace(end, asked_ms=self._now if again else asked, relays=relays)
                table.set_missing(ends[place])
            missing[device] = ends
        if ask:
            self._read_again()
            self._work = True

    def _read_again(self) -> None:
        replica = self._replica
        for relay in replica.groups.relays(replica.record.number):
            replica.log.note_missed(relay, replica.epoch.topic, 1)
            if relay in replica.level_relays:
                replica.epochs.to_reread.add(relay)
                replica.level_relays.discard(relay)  # until it was read

    def _is_certain(self, ends: Sequence[MissingEnd]) -> bool:
        """Every relay was read anew and lacks it; or some were, and a day went by."""
        read = any(end.relays for end in ends)
        return read and (self._complete or any(abs(self._now - end.since_ms) >= ASK_AGAIN_MS for end in ends))

    def _certain_gaps(self, parked: Collection[DeviceId]) -> list[DeviceId]:
        """Devices of which runs wait for what no relay showed: all were read; or some were, and a day went by."""
        if self._complete:
            return list(parked)
        table, found = self._replica.epochs.table, []
        for device in parked if self._level else ():
            end = self._replica.chains.get(device)
            beginning = f"gap {device.hex()} "
            what = f"{beginning}{end.last_seq if end is not None else -1}"
            since = table.due_since(what)
            if since is None:
                for before in [one for one in table.all_due() if one.startswith(beginning)]:
                    table.forget_due(before)  # that gap was filled
                table.note_due(what, self._now)
            elif abs(self._now - since) >= ASK_AGAIN_MS:
                found.append(device)
        return found

    # --- telling

    def _tell_missing(
        self,
        devices: Iterable[DeviceId],
        missing: Mapping[DeviceId, Sequence[MissingEnd]],
        told: Told,
    ) -> None:
        replica = self._replica
        since = {device: self._since(device, missing.get(device, ())) for device in devices}
        new = False
        for one in _describe(replica, since.keys(), missing, since, self._level):
            message = _message(replica, one)
            key = (WITHHELD, one.device.hex())
            if key not in told:
                new |= replica.alarm(*key, message) and replica.members.member_of(one.device) is not None
            elif told[key] != message:
                replica.groups.reword_alarm(replica.record.number, *key, message)
        if new:
            self._read_again()  # at the next sync once more

    def _since(self, device: DeviceId, ends: Sequence[MissingEnd]) -> int:
        key = WITHHELD, device.hex()
        known = [since for kind, subject, _, since in _alarms(self._replica) if (kind, subject) == key]
        return min([*known, *(end.since_ms for end in ends)], default=self._now)

    def _show_histories(self, contrary: Mapping[DeviceId, MissingEnd]) -> None:
        """Somebody has another entry at a place that is filled here. Put what is here again: whoever has the other one
        finds the proof by it. Where that does not come, tell.
        """
        replica, number = self._replica, self._replica.record.number
        for device, end in contrary.items():
            if self._level and (end.asked_ms is None or abs(self._now - end.asked_ms) >= ASK_AGAIN_MS):
                for relay in replica.groups.relays(number):
                    replica.log.enqueue_above(relay, device, end.seq - 1)
                replica.beacons.table.set_missing(replace(end, asked_ms=self._now))
                self._read_again()
                self._work = True
            elif end.asked_ms is not None:
                whose, who = name_device(replica, device), name_device(replica, end.teller)
                replica.alarm(
                    HISTORIES,
                    device.hex(),
                    f"{who} says that entry {end.seq} of {whose} is another one than here: either that device signed "
                    "two histories, of which somebody shows one here and the other one there, or this is not so",
                )

    def _tell_own(self) -> set[tuple[str, str]]:
        """Others lack own entries though relays that they read to their ends hold them."""
        replica = self._replica
        members = replica.members
        lacking = {
            device: last
            for device, last in replica.beacons.table.lacking().items()
            if members.member_of(device) is not None and members.member_of(replica.keys.id) is not None
        }
        if not lacking:
            return set()
        subject = f"own {replica.keys.id.hex()}"
        message = _own_message(replica, lacking)
        if not replica.alarm(WITHHELD, subject, message):
            replica.groups.reword_alarm(replica.record.number, WITHHELD, subject, message)
        return {(WITHHELD, subject)}

    def _is_shown(self, subject: str) -> bool:
        relay, _, device = subject.rpartition(" ")
        end = self._replica.chains.get(DeviceId(bytes.fromhex(device)))
        known = relay in self._replica.groups.relays(self._replica.record.number)
        return (
            not known
            or end is None
            or self._replica.beacons.shown_end(relay, DeviceId(bytes.fromhex(device))) >= (end.last_seq)
        )


# --- inside


def _note_settled(replica: Replica) -> None:
    """Every relay was read to its end: if each showed what was written here, others must find it there."""
    relays = replica.groups.relays(replica.record.number)
    if replica.log.pending_count() or any(replica.log.outbox_size(relay) for relay in relays):
        return
    if replica.beacons.has_unsettled():
        with replica.transaction():
            replica.beacons.note_settled()


def _end_all(replica: Replica) -> None:
    told = _told(replica)
    if told:
        with replica.transaction():
            for kind, subject in told:
                replica.groups.end_alarm(replica.record.number, kind, subject)


def _waiting_devices(replica: Replica) -> list[DeviceId]:
    """Devices of which runs wait for what is before them; not those that were put out and of which no more counts."""
    found = []
    for device in sorted(replica.log.parked_bytes()):
        end = replica.chains.get(device)
        if end is None or end.last_seq < replica.members.standing(device).limit:
            found.append(device)
    return found


def _alarms(replica: Replica) -> list[tuple[str, str, str, int]]:
    return replica.groups.alarms(replica.record.number)


def _told(replica: Replica) -> Told:
    """The alarms of this module that stand."""
    kinds = (WITHHELD, HISTORIES, NOT_SHOWN)
    return {(kind, subject): message for kind, subject, message, _ in _alarms(replica) if kind in kinds}


def _describe(
    replica: Replica,
    devices: Collection[DeviceId],
    missing: Mapping[DeviceId, Sequence[MissingEnd]],
    since: Mapping[DeviceId, int],
    level: Sequence[str] = (),
) -> list[Withheld]:
    if not devices:
        return []
    gaps = missing_ranges(replica, {device: max(end.seq for end in ends) for device, ends in missing.items()})
    found = []
    for device in sorted(devices):
        ends = missing.get(device, ())
        relays = dict.fromkeys(relay for end in ends for relay in end.relays)
        tellers = dict.fromkeys(end.teller for end in ends)
        shown = tuple(relays) if ends else tuple(level)
        found.append(Withheld(device, gaps.get(device, ()), since[device], tuple(tellers), shown))
    return found


def _message(replica: Replica, one: Withheld) -> str:
    """What is missing, since when, who has it, and which relays do not show it."""
    what = name_ranges(replica, one.device, one.ranges)
    if not one.ranges:
        what = f"operations that {name_device(replica, one.device)} knew"
    words = [f"{what} are missing: withheld, damaged or never sent"]
    count = f"{one.count} in all, " if one.count > 1 else ""
    words.append(f"{count}noticed {datetime.fromtimestamp(one.since_ms / 1000, UTC):%Y-%m-%d %H:%M} UTC")
    if one.relays:
        words.append(f"{_listed(one.relays)} {'does' if len(one.relays) == 1 else 'do'} not show them")
    if one.tellers:
        names = list(dict.fromkeys(_name(replica, teller) for teller in one.tellers))
        words.append(f"{_listed(names)} {'says' if len(names) == 1 else 'say'} that they exist")
    return "; ".join(words)


def _own_message(replica: Replica, lacking: Mapping[DeviceId, LastBeacon]) -> str:
    names = list(dict.fromkeys(_name(replica, device) for device in lacking))
    relays = list(dict.fromkeys(relay for last in lacking.values() for relay in last.lacking))
    least = min(last.own_seq if last.own_seq is not None else -1 for last in lacking.values())
    first = SeqRange(least + 1, max(last.wanted for last in lacking.values()))
    return (
        f"{first} of this device did not reach {_listed(names)}, as their beacons say: {_listed(relays)} showed them "
        "here, and withheld them there, or what those say is not so"
    )


def _name(replica: Replica, device: DeviceId) -> str:
    member = replica.members.member_ever(device)
    known = replica.members.roster.members.get(member) if member is not None else None
    return known.shown_name if known is not None else name_device(replica, device)


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
