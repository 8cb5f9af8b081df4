"""How the load speaks to each server: plain sockets, frames made beforehand, and answers counted without decoding them.

A subscriber costs a few operations for a frame of many entries, so that the server is what is measured. What is sent to
a WebSocket is masked with zeros: valid, and the server takes the same trouble.
"""

from __future__ import annotations

import base64
import os
import socket
import struct
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from cocoon_core.protocol.constants import LABEL_OPEN
from cocoon_core.protocol.frames import (
    Ack,
    Challenge,
    Live,
    Open,
    Opened,
    Put,
    Resume,
    decode_relay_frame,
    encode_frame,
    normalize_origin,
    open_message,
)
from cocoon_core.protocol.ids import TopicId
from cocoon_core.protocol.primitives import Secret, SigningKey

ENTRY_BYTES: Final = 300
_HOST: Final = "127.0.0.1"
Count = Callable[[bytearray, int, int], int]


class Flow(Protocol):
    """One connection. `feed` takes what came and says how many deliveries, or acks, it holds."""

    sock: socket.socket

    def feed(self, data: bytes) -> int:
        """Count; what has to be answered at once is answered."""


class Speaker(Protocol):
    """A client of one kind of server."""

    def subscribe(self, topic: int, after: int = 0) -> Flow:
        """A connection that is sent the topic's entries."""

    def publish(self, topic: int) -> Flow:
        """A connection that puts, and is not sent what it put."""

    def make_puts(self, topic: int, count: int, seed: int) -> list[bytes]:
        """Bytes of that many puts, ready to be sent."""


def key_of(topic: int) -> SigningKey:
    """The key of a topic of the load."""
    return SigningKey(Secret(topic.to_bytes(4) * 8))


def connect(port: int) -> socket.socket:
    sock = socket.create_connection((_HOST, port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.settimeout(30)
    return sock


# --- WebSocket

_CONTROL: Final = 0x08  # in the first byte of a message: pings of a server, which are neither counted nor answered


def mask(payload: bytes) -> bytes:
    """A client's binary message, masked with zeros."""
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", 0x82, 0x80 | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", 0x82, 0xFE, size)
    else:
        head = struct.pack("!BBQ", 0x82, 0xFF, size)
    return head + bytes(4) + payload


class WebSocketFlow:
    """Counts by `count(buffer, start, end)` of each message."""

    def __init__(self, sock: socket.socket, path: str, count: Count) -> None:
        self.sock = sock
        self._buffer = bytearray()
        self._count = count
        key = base64.b64encode(os.urandom(16)).decode()
        sock.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {_HOST}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        head = b""
        while b"\r\n\r\n" not in head:
            head += _receive(sock)
        if not head.startswith(b"HTTP/1.1 101"):
            raise RuntimeError(f"the server does not take a WebSocket: {head[:200]!r}")
        self._buffer += head.partition(b"\r\n\r\n")[2]

    def next(self) -> bytes:
        """The next message, waited for."""
        while True:
            found = _frame_at(self._buffer, 0)
            if found is not None:
                start, end = found
                control = self._buffer[0] & _CONTROL
                message = bytes(self._buffer[start:end])
                del self._buffer[:end]
                if not control:
                    return message
                continue
            self._buffer += _receive(self.sock)

    def listen(self, count: Count) -> None:
        """Count what comes from now on by another function."""
        self._count = count

    def feed(self, data: bytes) -> int:
        buffer = self._buffer
        buffer += data
        at = counted = 0
        while (found := _frame_at(buffer, at)) is not None:
            start, end = found
            if not buffer[at] & _CONTROL:
                counted += self._count(buffer, start, end)
            at = end
        del buffer[:at]
        return counted


def _frame_at(buffer: bytearray, at: int) -> tuple[int, int] | None:
    """Where the payload of the message at `at` begins and ends, if it is whole."""
    if len(buffer) < at + 2:
        return None
    size = buffer[at + 1]
    start = at + 2
    if size == 126:
        if len(buffer) < at + 4:
            return None
        size = buffer[at + 2] << 8 | buffer[at + 3]
        start = at + 4
    elif size == 127:
        if len(buffer) < at + 10:
            return None
        size = int.from_bytes(buffer[at + 2 : at + 10])
        start = at + 10
    return (start, start + size) if len(buffer) >= start + size else None


def _receive(sock: socket.socket) -> bytes:
    data = sock.recv(1 << 16)
    if not data:
        raise RuntimeError("the server ended the connection")
    return data


def _one(_buffer: bytearray, _start: int, _end: int) -> int:
    return 1


# --- the relay


def count_frame(buffer: bytearray, start: int, end: int) -> int:
    """The entries of an `entries` frame [67, topic, first, […]], 1 for an `ack`, and 0 for others."""
    kind = buffer[start + 2]
    if kind == 69:
        return 1
    if kind != 67:
        if kind == 71:
            raise RuntimeError(f"the relay refuses: {decode_relay_frame(bytes(buffer[start:end]))}")
        return 0
    _, at = _number(buffer, start + 3 + 34)
    return _number(buffer, at)[0]


def _number(buffer: bytearray, at: int) -> tuple[int, int]:
    """The number in a CBOR head, and where what follows begins."""
    low = buffer[at] & 31
    if low < 24:
        return low, at + 1
    size = 1 << (low - 24)
    return int.from_bytes(buffer[at + 1 : at + 1 + size]), at + 1 + size


class RelaySpeaker:
    """Opens with proofs, as every client does. `ports` are those of the nodes; topics and readers take turns."""

    def __init__(self, ports: Sequence[int], *, one_node_each: bool = False) -> None:
        self._ports = ports
        self._each = one_node_each
        self._opened = 0

    def subscribe(self, topic: int, after: int = 0) -> WebSocketFlow:
        flow, challenge, origin = self._connect(topic)
        key = key_of(topic)
        proof = key.sign(LABEL_OPEN, open_message(origin, challenge, TopicId(key.public)))
        flow.sock.sendall(mask(encode_frame(Open(1, TopicId(key.public), None, after, proof))))
        return flow

    def publish(self, topic: int) -> WebSocketFlow:
        """Resumed without entries, which needs one in the topic."""
        flow, challenge, origin = self._connect(topic)
        key = key_of(topic)
        name = TopicId(key.public)
        proof = key.sign(LABEL_OPEN, open_message(origin, challenge, name))
        opened = self._ask(flow, Resume(1, name, None, 0, proof, 0))
        if not isinstance(opened, Opened):
            raise RuntimeError(f"the relay refuses: {opened}")
        if opened.last == 0:
            first = Put(2, name, (topic.to_bytes(4) * (ENTRY_BYTES // 4),))
            answer = self._ask(flow, first)
            if not isinstance(answer, Ack):
                raise RuntimeError(f"the relay refuses: {answer}")
            self._ask(flow, Resume(3, name, None, 0, proof, 0))
        flow._buffer.clear()
        return flow

    def make_puts(self, topic: int, count: int, seed: int) -> list[bytes]:
        name = TopicId(key_of(topic).public)
        bodies = make_bodies(count, seed)
        return [mask(encode_frame(Put(10 + number, name, (body,)))) for number, body in enumerate(bodies)]

    def wait_live(self, flow: WebSocketFlow) -> None:
        """Read up to `live`."""
        while not isinstance(decode_relay_frame(flow.next()), Live):
            pass

    def _connect(self, topic: int) -> tuple[WebSocketFlow, bytes, str]:
        self._opened += 1
        port = self._ports[(topic if self._each else self._opened) % len(self._ports)]
        flow = WebSocketFlow(connect(port), "/v1/sync", count_frame)
        challenge = decode_relay_frame(flow.next())
        assert isinstance(challenge, Challenge)
        return flow, challenge.challenge, normalize_origin(f"ws://{_HOST}:{port}")

    def _ask(self, flow: WebSocketFlow, frame: Any) -> Any:
        flow.sock.sendall(mask(encode_frame(frame)))
        while True:
            answer = decode_relay_frame(flow.next())
            if not hasattr(answer, "request"):
                continue
            if answer.request in (None, frame.request):
                return answer


def make_bodies(count: int, seed: int) -> list[bytes]:
    """Entries that differ."""
    filler = bytes(ENTRY_BYTES - 12)
    return [struct.pack("!IQ", seed, number) + filler for number in range(count)]


# --- the bare loop


class BareSpeaker:
    """Messages are entries; an ack is an empty message; what is delivered is the entry itself."""

    def __init__(self, port: int) -> None:
        self._port = port

    def subscribe(self, topic: int, after: int = 0) -> WebSocketFlow:
        return WebSocketFlow(connect(self._port), f"/read/{topic}/{after}", _one)

    def publish(self, topic: int) -> WebSocketFlow:
        return WebSocketFlow(connect(self._port), f"/write/{topic}", _one)

    def make_puts(self, topic: int, count: int, seed: int) -> list[bytes]:
        return [mask(body) for body in make_bodies(count, seed)]


# --- MQTT 3.1.1 at QoS 1


class MqttFlow:
    """Every packet that a subscriber gets has the same length, so a run of them is counted and answered by slices."""

    def __init__(self, sock: socket.socket, name: str, *, length: int) -> None:
        self.sock = sock
        self._buffer = bytearray()
        self._length = length  # of each packet that comes
        body = _text("MQTT") + bytes((4, 2, 0, 0)) + _text(name)
        sock.sendall(b"\x10" + _varint(len(body)) + body)
        self.wait(4)

    def wait(self, size: int) -> bytes:
        """An answer of that many bytes."""
        data = b""
        while len(data) < size:
            data += self.sock.recv(size - len(data))
        return data

    def feed(self, data: bytes) -> int:
        raise NotImplementedError


class MqttSubscriber(MqttFlow):
    def feed(self, data: bytes) -> int:
        buffer = self._buffer
        buffer += data
        length = self._length
        whole = len(buffer) // length
        if not whole:
            return 0
        end = whole * length
        at = length - ENTRY_BYTES - 2  # of the packet's number
        answers = bytearray(4 * whole)
        answers[0::4] = b"\x40" * whole
        answers[1::4] = b"\x02" * whole
        answers[2::4] = buffer[at:end:length]
        answers[3::4] = buffer[at + 1 : end : length]
        del buffer[:end]
        self.sock.setblocking(True)
        self.sock.sendall(answers)
        self.sock.setblocking(False)
        return whole


class MqttPublisher(MqttFlow):
    def feed(self, data: bytes) -> int:
        self._buffer += data
        whole = len(self._buffer) // self._length
        del self._buffer[: whole * self._length]
        return whole


class MqttSpeaker:
    def __init__(self, port: int) -> None:
        self._port = port
        self._made = 0

    def subscribe(self, topic: int, after: int = 0) -> MqttFlow:
        flow = MqttSubscriber(connect(self._port), self._name(), length=len(self._packet(topic, 1, bytes(ENTRY_BYTES))))
        body = struct.pack("!H", 1) + _text(f"t{topic:04}") + b"\x01"
        flow.sock.sendall(b"\x82" + _varint(len(body)) + body)
        flow.wait(5)
        return flow

    def publish(self, topic: int) -> MqttFlow:
        return MqttPublisher(connect(self._port), self._name(), length=4)

    def make_puts(self, topic: int, count: int, seed: int) -> list[bytes]:
        bodies = make_bodies(count, seed)
        return [self._packet(topic, number % 65_535 + 1, body) for number, body in enumerate(bodies)]

    def _packet(self, topic: int, number: int, body: bytes) -> bytes:
        rest = _text(f"t{topic:04}") + struct.pack("!H", number) + body
        return b"\x32" + _varint(len(rest)) + rest

    def _name(self) -> str:
        self._made += 1
        return f"load{os.getpid()}x{self._made}"


def _text(text: str) -> bytes:
    return struct.pack("!H", len(text)) + text.encode()


def _varint(number: int) -> bytes:
    out = bytearray()
    while True:
        number, low = number >> 7, number & 127
        out.append(low | (128 if number else 0))
        if not number:
            return bytes(out)


# --- hocuspocus


class HocuspocusSpeaker:
    """Yjs updates of one document, which `updates` holds: made beforehand by yjs itself, each of 300 bytes of text."""

    def __init__(self, port: int, updates: Sequence[bytes]) -> None:
        self._port = port
        self._updates = updates

    def subscribe(self, topic: int, after: int = 0) -> WebSocketFlow:
        return self._connect(topic, (0, 2))

    def publish(self, topic: int) -> WebSocketFlow:
        return self._connect(topic, (8, 1))  # it is sent its own updates too, which are not counted

    def make_puts(self, topic: int, count: int, seed: int) -> list[bytes]:
        head = self._head(topic)
        return [mask(head + b"\x00\x02" + _varint(len(one)) + one) for one in self._updates[:count]]

    def _connect(self, topic: int, counted: tuple[int, int]) -> WebSocketFlow:
        """`counted` is an update, or the word that an update was taken in."""

        def count(buffer: bytearray, start: int, end: int) -> int:
            return int(self._kind(buffer, start, end) == counted)

        flow = WebSocketFlow(connect(self._port), "/", count)
        head = self._head(topic)
        flow.sock.sendall(mask(head + b"\x02\x00" + _varint(1) + b"x"))
        flow.sock.sendall(mask(head + b"\x00\x00\x01\x00"))  # sync step 1: an empty state vector
        while self._kind(message := flow.next(), 0, len(message)) != (0, 1):
            pass  # up to step 2
        return flow

    @staticmethod
    def _kind(buffer: bytearray | bytes, start: int, end: int) -> tuple[int, int]:
        at = start + 1 + buffer[start]
        return buffer[at], buffer[at + 1] if at + 1 < end else -1

    def _head(self, topic: int) -> bytes:
        name = f"t{topic:04}".encode()
        return _varint(len(name)) + name
