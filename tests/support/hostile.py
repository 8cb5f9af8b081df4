"""Relays that misbehave, and members that sign what no honest program would."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from random import Random
from typing import Any

from cocoon_core.documents import Document
from cocoon_core.errors import DecryptionError, RelayUnavailable, UntrustedInputError
from cocoon_core.protocol.descriptor import Descriptor, DocumentKind, actor_of
from cocoon_core.protocol.device import DeviceKeys
from cocoon_core.protocol.entry import DocumentChange, Entry, EntryKind, EntryMaker, document_change
from cocoon_core.protocol.envelope import open_envelope, seal_envelope
from cocoon_core.protocol.epoch import TopicKeys
from cocoon_core.protocol.frames import (
    Ack,
    Entries,
    Fetch,
    Fetched,
    List,
    Listed,
    Live,
    Open,
    Opened,
    Put,
    RelayFrame,
    Resume,
    decode_client_frame,
    encode_frame,
    name_envelope,
)
from cocoon_core.protocol.heads import advance_heads
from cocoon_core.protocol.ids import DeviceId, HeadsDigest, TopicId
from cocoon_core.protocol.operations import OperationBody
from cocoon_core.protocol.run import Run, parse_run, sign_run
from tests.support.flips import flip
from tests.support.memory_relay import MemoryConnection, MemoryLog, MemoryRelay
from tests.support.world import Seat

# --- relays


class UnreliableRelay(MemoryRelay):
    """While `wild`: acknowledges and forgets, stores late, twice and in another order, and cuts connections anywhere.

    Calm again, it is honest, and everything that it held back comes. One that does not `lie` forgets nothing that it
    acknowledged: it only stores twice and in another order, and cuts connections.
    """

    lies = True

    def __init__(self, url: str, seed: int) -> None:
        super().__init__(url, seed=seed)
        self.wild = True
        self.chance = Random(seed ^ 0x5EED)
        self._late: list[tuple[MemoryLog, bytes]] = []
        self._cut: list[MemoryConnection] = []

    def connect(self) -> MemoryConnection:
        if self.wild and self.chance.random() < 0.05:
            raise RelayUnavailable("it does not answer now")
        return super().connect()

    def outgoing(self, connection: MemoryConnection, frame: RelayFrame) -> Iterable[RelayFrame]:
        if connection in self._cut:
            return ()
        if self.wild and self.chance.random() < 0.03:
            self._cut.append(connection)
            asyncio.get_running_loop().call_soon(connection.end)
            return ()
        return (frame,)

    def store(self, log: MemoryLog, put: Put) -> bool:
        if not self.wild:
            return True
        if self._late and self.chance.random() < 0.5:
            self._store_late()
        fate = self.chance.random() if self.lies else max(0.25, self.chance.random())
        fresh = [envelope for envelope in put.envelopes if envelope not in log.envelopes]
        if fate < 0.1:  # forgotten
            return False
        if fate < 0.25:  # stored later
            self._late += [(log, envelope) for envelope in fresh]
            return False
        if fate < 0.5:  # stored now, some twice, in any order
            fresh += [envelope for envelope in fresh if self.chance.random() < 0.3]
            self.chance.shuffle(fresh)
            log.envelopes += fresh
            log.sealed = log.sealed or (put.seal and not self.lies)
            return False
        return True

    def calm(self) -> None:
        self.wild = False
        self._store_late()

    def _store_late(self) -> None:
        for log, envelope in self._late:
            log.envelopes.append(envelope)
        self._late.clear()


class CuttingRelay(MemoryRelay):
    """Ends the connection at the frame, of either direction, whose number is `cut_at`; counted since `arm`."""

    def __init__(self, url: str = "ws://relay0.test:8787", seed: int = 0) -> None:
        super().__init__(url, seed)
        self.cut_at: int | None = None
        self.frames = 0
        self._dead: list[MemoryConnection] = []

    def arm(self, cut_at: int | None) -> None:
        self.cut_at, self.frames = cut_at, 0

    def _cuts(self, connection: MemoryConnection) -> bool:
        if connection in self._dead:
            return True
        self.frames += 1
        if self.cut_at is None or self.frames <= self.cut_at:
            return False
        self._dead.append(connection)
        asyncio.get_running_loop().call_soon(connection.end)
        return True

    def outgoing(self, connection: MemoryConnection, frame: RelayFrame) -> Iterable[RelayFrame]:
        return () if self._cuts(connection) else (frame,)

    def handle(self, connection: MemoryConnection, raw: bytes) -> None:
        if not self._cuts(connection):
            super().handle(connection, raw)


class RecordingRelay(MemoryRelay):
    """Honest, and keeps every byte that it hears or says, in `heard`."""

    def __init__(self, url: str = "ws://relay0.test:8787", seed: int = 0) -> None:
        super().__init__(url, seed)
        self.heard: list[bytes] = []

    def handle(self, connection: MemoryConnection, raw: bytes) -> None:
        self.heard.append(raw)
        super().handle(connection, raw)

    def everything(self) -> bytes:
        return b"".join([*self.heard, *(envelope for log in self.logs.values() for envelope in log.envelopes)])


class EditingRelay(MemoryRelay):
    """Sends what `edit` makes of each frame."""

    def __init__(self, url: str = "ws://relay0.test:8787", seed: int = 0) -> None:
        super().__init__(url, seed)
        self.edit: Callable[[RelayFrame], Iterable[RelayFrame]] = lambda frame: (frame,)

    def outgoing(self, connection: MemoryConnection, frame: RelayFrame) -> Iterable[RelayFrame]:
        return self.edit(frame)


class HidingRelay(MemoryRelay):
    """The same relay as another, as one of its clients sees it: envelopes for which `hides` is true are left out, and
    the others numbered as if nothing were missing. What is put is stored, and acknowledged at the number it would have.
    """

    def __init__(self, base: MemoryRelay, hides: Callable[[bytes], bool]) -> None:
        super().__init__(base.url, seed=1)
        self.logs, self.connections, self.blobs = base.logs, base.connections, base.blobs
        self.hides = hides

    def handle(self, connection: MemoryConnection, raw: bytes) -> None:
        frame = decode_client_frame(raw)
        if isinstance(frame, Resume) and frame.topic in self.logs:
            opened = Open(frame.request, frame.topic, frame.incarnation, frame.after, frame.proof)
            shown, log = self._shown(frame.topic), self.logs[frame.topic]
            known = frame.after if frame.incarnation == log.incarnation and frame.after <= len(shown) else 0
            is_still = len(shown) - known > frame.most
            frame = replace(frame, incarnation=None, after=0, most=0) if is_still else opened
            raw = encode_frame(frame)
        if isinstance(frame, Open) and frame.topic in self.logs:
            places = [place for place, _ in self._shown(frame.topic)]
            after = places[frame.after - 1] if 0 < frame.after <= len(places) else frame.after
            raw = encode_frame(replace(frame, after=after))
        elif isinstance(frame, List):
            named = self._shown(frame.topic)[frame.after : frame.after + frame.most]
            names = tuple(name_envelope(frame.salt, envelope) for _, envelope in named)
            connection.deliver(Listed(frame.request, frame.topic, frame.after + 1, names))
            return
        elif isinstance(frame, Fetch):
            there = [envelope for _, envelope in self._shown(frame.topic)]
            connection.deliver(Fetched(frame.request, frame.topic, tuple(there[place - 1] for place in frame.places)))
            return
        elif isinstance(frame, Put) and frame.expect is not None:
            last = self.logs[frame.topic].last
            if frame.expect == self._number(frame.topic, last):
                raw = encode_frame(replace(frame, expect=last))
        super().handle(connection, raw)

    def outgoing(self, connection: MemoryConnection, frame: RelayFrame) -> Iterable[RelayFrame]:
        match frame:
            case Entries(topic, first, envelopes):
                kept = tuple(envelope for envelope in envelopes if not self.hides(envelope))
                return (Entries(topic, self._number(topic, first - 1) + 1, kept),) if kept else ()
            case Live(topic, last) | Opened(topic=topic, last=last):
                return (replace(frame, last=self._number(topic, last)),)
            case Ack(topic=topic, seqs=seqs):
                return (replace(frame, seqs=tuple(self._number(topic, seq) for seq in seqs)),)
        return (frame,)

    def _shown(self, topic: TopicId) -> list[tuple[int, bytes]]:
        return [(place, one) for place, one in enumerate(self.logs[topic].envelopes, 1) if not self.hides(one)]

    def _number(self, topic: TopicId, place: int) -> int:
        return sum(not self.hides(envelope) for envelope in self.logs[topic].envelopes[:place])


def hide_device(seat: Seat, relay: MemoryRelay, device: DeviceId, above: int = -1) -> HidingRelay:
    """Let a relay show this seat nothing of a device above that seq, by what the seat can open."""

    def hides(envelope: bytes) -> bool:
        for stored in seat.replica.epochs.held.values():
            with suppress(DecryptionError, UntrustedInputError):
                run = parse_run(open_envelope(envelope, stored.epoch), seat.replica.group)
                return run.device == device and run.last_seq > above
        return False

    seat.relays[relay.url] = hiding = HidingRelay(relay, hides)
    return hiding


def topic_log(relay: MemoryRelay, keys: TopicKeys) -> MemoryLog:
    return relay.logs[keys.topic]


def inject(relay: MemoryRelay, keys: TopicKeys, *envelopes: bytes) -> None:
    """Append envelopes to a topic without asking anybody, and serve them."""
    relay.logs[keys.topic].envelopes += envelopes
    for connection in relay.connections:
        if keys.topic in connection.cursors:
            relay._catch_up(connection, keys.topic)


# --- members


class Forger:
    """Goes on with a device's chain by hand: every entry is signed with its key, and nothing is checked."""

    def __init__(self, seat: Seat) -> None:
        replica = seat.replica
        end = replica.chains[seat.device]
        self.seat, self.group, self.epoch = seat, replica.group, replica.epoch
        self.keys: DeviceKeys = replica.keys
        self.seq, self.prev = end.last_seq + 1, end.last_id
        self.roster_heads = tuple(sorted(replica.members.roster.heads))
        self.heads = replica.heads_of(seat.device).copy()
        self.time_ms = seat.clock()
        self.descriptors: dict[bytes, Descriptor] = {}

    def copy(self) -> Forger:
        """Another one at the same place of the chain, for a second history."""
        twin = Forger.__new__(Forger)
        twin.__dict__.update(self.__dict__)
        twin.heads = self.heads.copy()
        twin.descriptors = dict(self.descriptors)
        return twin

    @property
    def member(self) -> Any:
        return self.seat.replica.members.member_of(self.keys.id)

    # --- changes

    def change(self, descriptor: Descriptor, edit: Callable[[Any], None]) -> bytes:
        """A sound change on what the seat shows of the document, which it does not notice."""
        replica = self.seat.replica
        record = replica.documents.ensure(descriptor.document_id(self.group), descriptor)
        stored = list(replica.shelf.admitted_changes(record, 0))
        document = Document(descriptor, record.document, actor_of(self.keys.id, record.document), lambda: iter(stored))
        editing = document.change()
        with editing as root:
            edit(root)
        assert editing.change is not None
        return editing.change.raw

    def feed(self, month: str = "2026-09") -> Descriptor:
        return Descriptor(DocumentKind.OWNED, f"feed/{month}", self.member)

    def post(self, text: str, key: str = "post:00", at: Any = None, **more: Any) -> bytes:
        value = {"at": self.time_ms if at is None else at, "text": text, **more}
        return self.change(self.feed(), lambda root: root.__setitem__(key, value))

    # --- entries and runs

    def entry(self, *changes: tuple[Descriptor, bytes]) -> Entry:
        named: list[DocumentChange] = []
        for descriptor, raw in changes:
            document = descriptor.document_id(self.group)
            self.descriptors[document] = descriptor
            named.append(document_change(document, raw))
        return self._advance(self._maker().change(self.seq, self.prev, self.time_ms, tuple(named)))

    def operation(self, body: OperationBody | list[Any]) -> Entry:
        value = body if isinstance(body, list) else body.encode_body()
        entry = self._maker().operation(self.seq, self.prev, self.time_ms, value)
        if len(self.roster_heads) < 32:
            self.roster_heads = (entry.id,)
        return self._advance(entry)

    def statement(self, kind: int, body: list[Any]) -> Entry:
        """An entry of any other kind, whatever its body is."""
        return self._advance(self._maker().statement(EntryKind(kind), self.seq, self.prev, self.time_ms, body))

    def retire(self, body: list[Any]) -> bytes:
        """A retire with this body, in a run, in an envelope."""
        return self.seal(self.run(self.statement(EntryKind.RETIRE, body)))

    def _maker(self) -> EntryMaker:
        return EntryMaker(self.group, self.keys.id, self.roster_heads)

    def _advance(self, entry: Entry) -> Entry:
        self.seq, self.prev = entry.seq + 1, entry.id
        return entry

    def run(self, *entries: Entry, digest: HeadsDigest | None = None) -> Run:
        for entry in entries:
            advance_heads(self.heads, entry.changes)
        return sign_run(
            entries, lambda document: self.descriptors[document], self.keys.signing, digest or self.heads.digest()
        )

    def write(self, *changes: tuple[Descriptor, bytes]) -> bytes:
        """One entry with these changes, in a run, in an envelope."""
        return self.seal(self.run(self.entry(*changes)))

    def operate(self, body: OperationBody | list[Any]) -> bytes:
        return self.seal(self.run(self.operation(body)))

    def seal(self, run: Run | bytes) -> bytes:
        return seal_envelope(run if isinstance(run, bytes) else run.wire, self.epoch)


def tampered_signature(run: Run) -> bytes:
    """The same run as its wire form, under a signature that does not hold."""
    return flip(run.wire)


def put_item(key: str, value: Any) -> Callable[[Any], None]:
    """An edit of the shared document: one item."""

    def edit(root: Any) -> None:
        root["items"][key] = value

    return edit


def put_root(key: str, value: Any) -> Callable[[Any], None]:
    """An edit of an owned document: one root key."""

    def edit(root: Any) -> None:
        root[key] = value

    return edit


def count_in(log: Sequence[bytes], envelope: bytes) -> int:
    return sum(stored == envelope for stored in log)
