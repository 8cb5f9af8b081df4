"""The load: one process on the processors that the server has not.

`python -m tests.benchmarks.relay.load` reads one JSON order from standard input and prints one JSON result.

Puts are made before the clock runs, and answers are counted, not decoded (speaking). Every result says how much of the
time this process was busy, so that it can be seen that the server was what took the time.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from tests.benchmarks.relay.speaking import (
    BareSpeaker,
    Flow,
    HocuspocusSpeaker,
    MqttSpeaker,
    RelaySpeaker,
    Speaker,
)

_READ: Final = 1 << 20  # bytes
_STALLED_SECONDS: Final = 60.0


class Publishing:
    """One publisher with at most `window` puts that have no ack yet."""

    def __init__(self, flow: Flow, puts: list[bytes], window: int) -> None:
        self.flow = flow
        self.puts = puts
        self.window = window
        self.sent = self.acked = 0
        self._out = memoryview(b"")

    @property
    def done(self) -> bool:
        return self.acked >= len(self.puts)

    @property
    def blocked(self) -> bool:
        return len(self._out) > 0

    def push(self) -> None:
        """Send as much as the window and the socket take."""
        while True:
            if not self._out:
                upto = min(len(self.puts), self.acked + self.window)
                if upto <= self.sent:
                    return
                self._out = memoryview(b"".join(self.puts[self.sent : upto]))
                self.sent = upto
            try:
                self._out = self._out[self.flow.sock.send(self._out) :]
            except BlockingIOError:
                return


class Loop:
    """Reads whatever comes until a condition holds."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def watch(
        self, sock: socket.socket, react: Callable[[bytes], None], push: Callable[[], None] | None = None
    ) -> None:
        sock.setblocking(False)
        self._selector.register(sock, selectors.EVENT_READ, (react, push))

    def want_write(self, sock: socket.socket, wanted: bool) -> None:
        key = self._selector.get_key(sock)
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if wanted else 0)
        if key.events != events:
            self._selector.modify(sock, events, key.data)

    def run_until(self, done: Callable[[], bool], timeout: Callable[[], float] | None = None) -> None:
        heard = time.monotonic()
        while not done():
            ready = self._selector.select(timeout() if timeout is not None else 5.0)
            if ready:
                heard = time.monotonic()
            elif time.monotonic() - heard > _STALLED_SECONDS:
                raise RuntimeError("the server has stopped answering")
            for key, events in ready:
                react, push = key.data
                if events & selectors.EVENT_READ:
                    try:
                        data = key.fileobj.recv(_READ)  # type: ignore[union-attr]
                    except BlockingIOError:
                        continue
                    if not data:
                        raise RuntimeError("the server ended a connection")
                    react(data)
                if events & selectors.EVENT_WRITE and push is not None:
                    push()


class Counter:
    """Deliveries of one subscriber."""

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self.count = 0

    def react(self, data: bytes) -> None:
        self.count += self.flow.feed(data)


def _add_publisher(loop: Loop, publishing: Publishing) -> None:
    def push() -> None:
        publishing.push()
        loop.want_write(publishing.flow.sock, publishing.blocked)

    def react(data: bytes) -> None:
        publishing.acked += publishing.flow.feed(data)
        push()

    loop.watch(publishing.flow.sock, react, push)


def _subscribe_all(loop: Loop, speaker: Speaker, topic: int, readers: int) -> list[Counter]:
    counters = [Counter(speaker.subscribe(topic)) for _ in range(readers)]
    for counter in counters:
        loop.watch(counter.flow.sock, counter.react)
    return counters


def _warm_up(loop: Loop, publisher: Publishing, counters: list[Counter], puts: list[bytes]) -> None:
    """One put reaches everyone: so all are subscribed."""
    publisher.puts = puts
    publisher.push()
    loop.run_until(lambda: publisher.done and all(counter.count >= len(puts) for counter in counters))
    for counter in counters:
        counter.count = 0
    publisher.sent = publisher.acked = 0


def fan_out(speaker: Speaker, topic: int, readers: int, count: int, window: int) -> dict[str, Any]:
    """One publisher, `readers` subscribers: deliveries a second."""
    loop = Loop()
    made = speaker.make_puts(topic, count + 20, topic)
    publisher = Publishing(speaker.publish(topic), [], window)
    _add_publisher(loop, publisher)
    counters = _subscribe_all(loop, speaker, topic, readers)
    _warm_up(loop, publisher, counters, made[:20])
    publisher.puts = made[20:]
    with _Timed() as timed:
        publisher.push()
        loop.run_until(lambda: publisher.done and all(counter.count >= count for counter in counters))
    if any(counter.count != count for counter in counters):
        raise RuntimeError(f"{[counter.count for counter in counters]} deliveries of {count}")
    return {"rate": count * readers / timed.seconds, **timed.result()}


def paced(speaker: Speaker, topic: int, readers: int, count: int, rate: float) -> dict[str, Any]:
    """`rate` puts a second from one publisher: milliseconds from a put to its deliveries."""
    loop = Loop()
    made = speaker.make_puts(topic, count + 20, topic)
    publisher = Publishing(speaker.publish(topic), [], count)
    _add_publisher(loop, publisher)
    counters = _subscribe_all(loop, speaker, topic, readers)
    _warm_up(loop, publisher, counters, made[:20])
    sent: list[float] = []
    took: list[float] = []

    def note(counter: Counter) -> Callable[[bytes], None]:
        def react(data: bytes) -> None:
            now = time.perf_counter()
            before = counter.count
            counter.react(data)
            took.extend((now - sent[number]) * 1000 for number in range(before, counter.count))

        return react

    for counter in counters:
        loop._selector.unregister(counter.flow.sock)
        loop.watch(counter.flow.sock, note(counter))
    with _Timed() as timed:
        began = time.perf_counter()
        for number in range(count):
            due = began + number / rate
            loop.run_until(lambda: time.perf_counter() >= due, lambda: max(0.0, due - time.perf_counter()))  # noqa: B023
            sent.append(time.perf_counter())
            publisher.puts = made[20 : 21 + number]
            publisher.push()
        loop.run_until(lambda: all(counter.count >= count for counter in counters))
    took.sort()
    return {"p50": took[len(took) // 2], "p99": took[len(took) * 99 // 100], **timed.result()}


def acked(speaker: Speaker, topics: list[int], count: int, window: int) -> dict[str, Any]:
    """A publisher for each topic, nobody else: durable puts a second in all."""
    loop = Loop()
    publishers = []
    for topic in topics:
        made = speaker.make_puts(topic, count + 1, time.time_ns() & 0xFFFFFF)
        publisher = Publishing(speaker.publish(topic), [], window)
        _add_publisher(loop, publisher)
        _warm_up(loop, publisher, [], made[:1])
        publisher.puts = made[1:]
        publishers.append(publisher)
    with _Timed() as timed:
        for publisher in publishers:
            publisher.push()
        loop.run_until(lambda: all(publisher.done for publisher in publishers))
    return {"rate": count * len(topics) / timed.seconds, **timed.result()}


def fill(speaker: Speaker, topic: int, count: int) -> dict[str, Any]:
    """Put entries for `fresh`."""
    return acked(speaker, [topic], count - 2 if isinstance(speaker, RelaySpeaker) else count - 1, 256)


def fresh(speaker: Speaker, topic: int, count: int) -> dict[str, Any]:
    """Milliseconds from the request of a new subscriber to the last of `count` stored entries."""
    loop = Loop()
    with _Timed() as timed:
        (counter,) = _subscribe_all(loop, speaker, topic, 1)
        loop.run_until(lambda: counter.count >= count)
    counter.flow.sock.close()
    return {"ms": timed.seconds * 1000, **timed.result()}


def idle(speaker: Speaker, pid: int, connections: int, group: int, first: int) -> dict[str, Any]:
    """Bytes of the server's memory for each of many connections that do nothing, `group` of them in a topic."""
    warm = [speaker.subscribe(first) for _ in range(20)]
    before = resident(pid)
    held = []
    for number in range(connections):
        flow = speaker.subscribe(first + 1 + number // group)
        if isinstance(speaker, RelaySpeaker):
            speaker.wait_live(flow)  # type: ignore[arg-type]
        held.append(flow)
    after = resident(pid)
    for flow in (*warm, *held):
        flow.sock.close()
    return {"bytes": (after - before) / connections}


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class _Timed:
    def __enter__(self) -> _Timed:
        self._used = time.process_time()
        self._began = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self._began
        self.used = time.process_time() - self._used

    def result(self) -> dict[str, float]:
        return {"seconds": self.seconds, "busy": self.used / self.seconds}


def _speaker(order: dict[str, Any]) -> Speaker:
    ports = order["ports"]
    match order["server"]:
        case "relay":
            return RelaySpeaker(ports, one_node_each=order.get("one_node_each", False))
        case "bare":
            return BareSpeaker(ports[0])
        case "mosquitto":
            return MqttSpeaker(ports[0])
        case "hocuspocus":
            return HocuspocusSpeaker(ports[0], _read_updates(Path(order["updates"])))
        case name:
            raise ValueError(f"no server is called {name}")


def _read_updates(path: Path) -> list[bytes]:
    """Each after its length, 4 bytes."""
    raw = path.read_bytes()
    updates = []
    at = 0
    while at < len(raw):
        size = int.from_bytes(raw[at : at + 4])
        updates.append(raw[at + 4 : at + 4 + size])
        at += 4 + size
    return updates


WHAT: Final[dict[str, Callable[..., dict[str, Any]]]] = {
    "fan_out": fan_out, "paced": paced, "acked": acked, "fill": fill, "fresh": fresh, "idle": idle,
}  # fmt: skip


def main() -> None:
    order = json.load(sys.stdin)
    print(json.dumps(WHAT[order["what"]](_speaker(order), **order["with"])))


if __name__ == "__main__":
    main()
