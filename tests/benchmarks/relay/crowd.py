"""A crowd: many connections in small groups, each of which puts now and then, and what became of every put."""

from __future__ import annotations

import heapq
import selectors
import struct
import time
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Final

from cocoon_core.protocol.frames import Ack, Entries, Error, Put, decode_relay_frame, encode_frame
from cocoon_core.protocol.ids import TopicId
from tests.benchmarks.relay.speaking import ENTRY_BYTES, RelaySpeaker, WebSocketFlow, key_of, mask

_FIRST_TOPIC: Final = 10_000_000
_GRACE_SECONDS: Final = 30.0


@dataclass(slots=True)
class Outcome:
    """Of all puts: how many there were, and how long until each was acknowledged and had reached each member, in ms."""

    puts: int = 0
    deliveries: int = 0
    lost: int = 0
    twice: int = 0
    acks: list[float] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.puts} puts, {self.deliveries} deliveries, {self.lost} lost, {self.twice} twice; to the ack p50"
            f" {_part(self.acks, 50):.1f} ms, p99 {_part(self.acks, 99):.1f} ms; to each member p50"
            f" {_part(self.arrivals, 50):.1f} ms, p99 {_part(self.arrivals, 99):.1f} ms"
        )


def _part(values: list[float], percent: int) -> float:
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)] if values else 0.0


class _Member:
    __slots__ = ("flow", "got", "group", "topic")

    def __init__(self, flow: WebSocketFlow, group: int, topic: TopicId) -> None:
        self.flow = flow
        self.group = group
        self.topic = topic
        self.got: Counter[int] = Counter()  # numbers of puts


def run_crowd(ports: list[int], *, groups: int, each: int, every: float, seconds: float, seed: int = 5) -> Outcome:
    """`groups` groups of `each` members; every member puts once in `every` seconds, at a time of its own.

    A put that has no ack, or that a member was not sent once all is quiet, is lost.
    """
    chance = Random(seed)
    speaker = RelaySpeaker(ports)
    selector = selectors.DefaultSelector()
    members: list[_Member] = []
    outcome = Outcome()
    sent: dict[int, float] = {}
    acked: set[int] = set()
    put_by: Counter[int] = Counter()  # puts of each group

    def hear(member: _Member, buffer: bytearray, start: int, end: int) -> int:
        now = time.perf_counter()
        frame = decode_relay_frame(bytes(buffer[start:end]))
        if isinstance(frame, Entries):
            for envelope in frame.envelopes:
                number: int = struct.unpack("!Q", envelope[:8])[0]
                member.got[number] += 1
                outcome.arrivals.append((now - sent[number]) * 1000)
        elif isinstance(frame, Ack):
            acked.add(frame.request - 10)
            outcome.acks.append((now - sent[frame.request - 10]) * 1000)
        elif isinstance(frame, Error):
            raise RuntimeError(f"the relay refuses: {frame}")
        return 1

    def read(timeout: float) -> bool:
        ready = selector.select(timeout)
        for key, _ in ready:
            member: _Member = key.data
            data = member.flow.sock.recv(1 << 16)
            if not data:
                raise RuntimeError("the relay ended a connection")
            member.flow.feed(data)
        return bool(ready)

    for group in range(groups):
        for _ in range(each):
            flow = speaker.subscribe(_FIRST_TOPIC + group)
            speaker.wait_live(flow)
            member = _Member(flow, group, TopicId(key_of(_FIRST_TOPIC + group).public))
            flow.listen(lambda buffer, start, end, member=member: hear(member, buffer, start, end))  # type: ignore[misc]
            flow.sock.settimeout(30)
            selector.register(flow.sock, selectors.EVENT_READ, member)
            members.append(member)
        read(0)

    began = time.perf_counter()
    due = [(began + chance.random() * every, place) for place in range(len(members))]
    heapq.heapify(due)
    while due:
        when, place = due[0]
        wait = when - time.perf_counter()
        if wait > 0:
            read(min(wait, 0.5))
            continue
        heapq.heappop(due)
        if when + every < began + seconds:
            heapq.heappush(due, (when + every, place))
        member = members[place]
        number = len(sent)
        body = struct.pack("!Q", number) + chance.randbytes(ENTRY_BYTES - 8)
        sent[number] = time.perf_counter()
        put_by[member.group] += 1
        member.flow.sock.sendall(mask(encode_frame(Put(number + 10, member.topic, (body,)))))
        read(0)

    def missing() -> int:
        return len(sent) - len(acked) + sum(put_by[member.group] - len(member.got) for member in members)

    deadline = time.monotonic() + _GRACE_SECONDS
    while missing() and time.monotonic() < deadline:
        read(0.5)
    outcome.puts = len(sent)
    outcome.deliveries = sum(member.got.total() for member in members)
    outcome.lost = missing()
    outcome.twice = sum(count - 1 for member in members for count in member.got.values())
    for member in members:
        member.flow.sock.close()
    return outcome
