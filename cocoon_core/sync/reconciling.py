"""Reads a topic at one relay without being sent again what is here: the relay says by names what stands there.

    still → name what is held here → list → fetch what is lacking → deliver all in its order → open, level with `last`

A place whose name is known counts as served, since only who has all bytes of that envelope can say its name: it goes
the way in like one that was sent, with the cursor behind it. So an outbox, what a relay has shown, and how far a topic
was read are what they would be had everything been sent, and whoever is broken off goes on from there. A device that
holds nothing of a topic reads it whole; of two relays that would send the same, one is asked first (readers.py).
Spec: specs/relay.md §3.7.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from cocoon_core.errors import UsageError
from cocoon_core.protocol.constants import MAX_SEQ
from cocoon_core.protocol.cursor import Cursor
from cocoon_core.protocol.envelope import seal_envelope
from cocoon_core.protocol.epoch import TopicKeys
from cocoon_core.protocol.ids import TopicId
from cocoon_core.sync.replica import Replica
from cocoon_core.sync.session import (
    Deliver,
    Effect,
    NamesListed,
    PlacesFetched,
    Refused,
    Session,
    Tag,
    TopicOpened,
)

SENT_AT_ONCE: Final = 32  # envelopes after the cursor that a relay sends without being asked for names
SENT_BESIDE: Final = 2  # of them, where another relay is about to send the same
FETCHES: Final = 3  # requests for envelopes that are on their way at once
PLACES: Final = 256  # places in one of them
FETCHED_BYTES: Final = 8 * 1024 * 1024  # that came and wait for what is before them, beyond which no more is asked for
DELIVERED: Final = 256  # envelopes that are delivered at once
DELIVERED_BYTES: Final = 1024 * 1024  # bytes of them, if one alone is not more
MOST_NAMED: Final = 100_000  # runs that are looked for by name; what is held beyond them is fetched again
NAMED_AT_LEAST: Final = 512  # runs that are looked for where little is to come; beyond, four for each place
NAMED_AT_ONCE: Final = 128  # runs that are sealed before others have their turn


@dataclass(slots=True)
class _Reading:
    """One still topic.

    Attributes:
        count: places that stood after the cursor when it was opened.
        held: what is here, by name: the number of a run in the log, or a run that stands in no chain; None until named.
        listed: places and names that are not delivered yet, in their order.
        lacking: places of which nobody was asked yet.
        fetched: envelopes that came and are not delivered yet.
        asked: requests that are not answered.
        is_stalled: the relay refused one of them, so all is asked again when it is time.
    """

    keys: TopicKeys
    count: int
    held: dict[bytes, int | bytes] | None = None
    listed: deque[tuple[int, bytes]] = field(default_factory=deque)
    lacking: deque[int] = field(default_factory=deque)
    fetched: dict[int, bytes] = field(default_factory=dict)
    fetched_bytes: int = 0
    asked: int = 0
    is_stalled: bool = False
    is_begun: bool = False


class Reconciling:
    """The still topics of one connection."""

    def __init__(self, replica: Replica, session: Session) -> None:
        self._replica, self._session = replica, session
        self._readings: dict[TopicId, _Reading] = {}
        self._peeked: dict[TopicId, bool] = {}  # topics of which was asked first whether they ended; True: answered
        self.skipped: list[TopicKeys] = []  # those of which only the last envelope was read

    def open(self, keys: TopicKeys, cursor: Cursor | None) -> list[Effect]:
        """Open a topic so that not much is sent that may be here already."""
        self._readings.pop(keys.topic, None)
        replica, topic = self._replica, keys.topic
        reads = replica.readers.begin(topic, self, asyncio.get_running_loop().time())
        if self._comes_new() and topic in replica.epochs.held and cursor is None and topic not in self._peeked:
            self._peeked[topic] = False
            return self._session.open_topic(keys, None, most=0)
        may_hold = topic in replica.epochs.held and (replica.log.has_runs() or not reads)
        most = (SENT_AT_ONCE if reads else SENT_BESIDE) if may_hold and self._session.can_list else None
        return self._session.open_topic(keys, cursor, most=most)

    def _comes_new(self) -> bool:
        """This device has nothing of the group yet, and the relay can say how a topic stands without sending it."""
        return not self._replica.chains and self._session.can_list

    def opened(self, opened: TopicOpened, keys: TopicKeys) -> list[Effect]:
        """A topic is still: it is read by name. Whoever has nothing reads it whole, or if it has ended its end alone:
        the rotation there leads to a manifest that says all of it.
        """
        if self._peeked.get(keys.topic, True):
            cursor = self._session.cursor(opened.topic)
            self._readings[opened.topic] = _Reading(keys, opened.last - (cursor.after if cursor is not None else 0))
            return []
        self._peeked[keys.topic] = True
        if not opened.sealed:
            return self.open(keys, None)
        self.skipped.append(keys)
        return self._session.open_topic(keys, Cursor(opened.incarnation, opened.last - 1))

    def read_skipped(self) -> list[Effect]:
        """Nothing led on from what was skipped: read it whole."""
        skipped, self.skipped = self.skipped, []
        return [effect for keys in skipped for effect in self._session.open_topic(keys, None)]

    def became_live(self, topic: TopicId) -> None:
        """Others may read it from other relays."""
        self._replica.readers.end(self, topic)

    def end(self) -> None:
        """The connection has ended."""
        self._replica.readers.end(self)

    def next_work(self) -> Coroutine[Any, Any, None] | None:
        """What is held must be named before the relay's names say anything, once nobody else brings it: as work to be
        awaited.
        """
        for reading in self._readings.values():
            if reading.held is None:
                return self._name_held(reading)
        return None

    def advance(self) -> list[Effect]:
        """Ask for what is to be asked for now."""
        effects: list[Effect] = []
        for reading in list(self._readings.values()):
            if reading.is_stalled and not reading.asked:
                held = reading.held or {}
                missing = (place for place, name in reading.listed if name not in held and place not in reading.fetched)
                reading.lacking, reading.is_stalled = deque(missing), False
            effects += self._go_on(reading)
        return effects

    def listed(self, listed: NamesListed) -> list[Effect]:
        """Names came: what is unknown is fetched; where all is, the topic is read whole."""
        reading = self._readings.get(listed.topic)
        if reading is None or reading.held is None:
            return []
        reading.asked -= 1
        lacking = [place for place, name in enumerate(listed.names, listed.first) if name not in reading.held]
        if len(lacking) == len(listed.names) and not reading.is_begun:
            return self._open_there(reading)
        reading.is_begun = True
        reading.listed.extend(enumerate(listed.names, listed.first))
        reading.lacking.extend(lacking)
        return self._go_on(reading)

    def fetched(self, fetched: PlacesFetched) -> list[Effect]:
        reading = self._readings.get(fetched.topic)
        if reading is None:
            return []
        reading.asked -= 1
        reading.fetched.update(fetched.envelopes)
        reading.fetched_bytes += sum(len(envelope) for _, envelope in fetched.envelopes)
        if fetched.left:  # what comes first is asked for first: all else waits for it
            reading.lacking = deque(sorted((*fetched.left, *reading.lacking)))
        return self._go_on(reading)

    def refused(self, refused: Refused) -> None:
        """The relay asked to wait."""
        reading = self._readings.get(refused.topic)
        if reading is not None and refused.tag == Tag.READ:
            reading.asked -= 1
            reading.is_stalled = True

    def delivered(self, delivery: Deliver, *, is_new: bool = True) -> list[Effect]:
        """This is stored: of a still topic, what follows can be served.

        Args:
            is_new: something of it was not here. What brings nothing holds nobody else up.
        """
        if is_new:
            self._replica.readers.note(delivery.topic, self, sum(map(len, delivery.envelopes)))
        reading = self._readings.get(delivery.topic)
        return self._go_on(reading) if reading is not None else []

    # --- inside

    def _go_on(self, reading: _Reading) -> list[Effect]:
        """The next requests, and the next envelopes that can be delivered."""
        topic, session = reading.keys.topic, self._session
        if reading.held is None or not session.is_still(topic):
            return []
        ready = self._take_ready(reading)
        effects: list[Effect] = [session.serve(topic, ready)] if ready else []
        if reading.is_stalled:
            return effects
        while reading.lacking and reading.asked < (FETCHES if reading.fetched_bytes < FETCHED_BYTES else 1):
            count = min(PLACES, session.most_places, len(reading.lacking))
            effects += session.fetch(topic, sorted(reading.lacking.popleft() for _ in range(count)))
            reading.asked += 1
        if ready or reading.listed or reading.asked:
            return effects
        if session.is_read(topic):
            return [*effects, *self._open_there(reading)]
        reading.asked += 1
        return [*effects, *session.list_names(topic)]

    def _open_there(self, reading: _Reading) -> list[Effect]:
        """Be sent what follows."""
        del self._readings[reading.keys.topic]
        return self._session.open_topic(reading.keys, self._session.cursor(reading.keys.topic))

    def _take_ready(self, reading: _Reading) -> list[bytes]:
        """The next envelopes in their order, as far as they are here, and not too many at once."""
        ready: list[bytes] = []
        size = 0
        while reading.listed and len(ready) < DELIVERED:
            place, name = reading.listed[0]
            envelope = reading.fetched.get(place)
            if envelope is None:
                envelope = self._find(reading, name)
                if envelope is None:
                    break
            if ready and size + len(envelope) > DELIVERED_BYTES:
                break
            ready.append(envelope)
            size += len(envelope)
            reading.listed.popleft()
            reading.fetched_bytes -= len(reading.fetched.pop(place, b""))
        return ready

    def _find(self, reading: _Reading, name: bytes) -> bytes | None:
        """The envelope with that name, sealed here; what is not here any more is to be fetched."""
        assert reading.held is not None, "its names were listed"
        found = reading.held.get(name)
        if found is None:
            return None
        wire = self._replica.log.find_wire(found) if isinstance(found, int) else found
        envelope = seal_envelope(wire, reading.keys) if wire is not None else b""
        if self._session.name(envelope) == name:
            return envelope
        del reading.held[name]
        reading.lacking.extendleft(place for place, listed in reversed(reading.listed) if listed == name)
        return None

    async def _name_held(self, reading: _Reading) -> None:
        await self._replica.readers.wait(reading.keys.topic, self)
        held: dict[bytes, int | bytes] = {}
        most = min(MOST_NAMED, max(NAMED_AT_LEAST, 4 * reading.count))
        for number, (which, wire) in enumerate(_held_wires(self._replica, reading.keys.topic), start=1):
            with suppress(UsageError):  # too long for an envelope, so it is in none
                held[self._session.name(seal_envelope(wire, reading.keys))] = which
            if number == most:
                break
            if number % NAMED_AT_ONCE == 0:
                await asyncio.sleep(0)
        reading.held = held


def _held_wires(replica: Replica, topic: TopicId) -> Iterator[tuple[int | bytes, bytes]]:
    """The runs that are here and may stand in an epoch's topic, each with its number in the log or as it is: those that
    came last first, since what another relay has just brought is what this one is about to send.

    Of an epoch that ended those above the next manifest's frontier are left out: they stand in the next topic, and most
    of them there alone.
    """
    epochs, log = replica.epochs, replica.log
    stored = epochs.held.get(topic)
    apart = [stored.manifest] if stored is not None and stored.manifest is not None else []
    apart += epochs.carry_all(epochs.handover_from(topic))
    apart += [epochs.carry(run.wire, run.statement) if run.statement else run.wire for run in log.parked()]
    yield from ((wire, wire) for wire in apart)
    first, last = epochs.frontier_of(topic), epochs.frontier_after(topic)
    number = MAX_SEQ
    while page := log.ends_before(number, NAMED_AT_ONCE):
        for number, device, seq in page:
            start, end = first.get(device), last.get(device) if last is not None else None
            after, up_to = start.seq if start is not None else -1, end.seq if end is not None else -1
            wire = log.find_wire(number) if after < seq and (last is None or seq <= up_to) else None
            if wire is not None:
                yield number, wire
    apart = log.side_runs()
    for beside in replica.forks.table.devices():
        apart += [run.wire for run in replica.forks.table.of(beside)]
    yield from ((wire, wire) for wire in apart)
