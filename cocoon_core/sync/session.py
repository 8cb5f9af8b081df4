"""One connection to a relay, as a state machine without sockets: frames in, effects out. Implements specs/relay.md §8.

The relay is not trusted. It can only withhold, delay or repeat: what it serves must continue the cursor without a
gap, a life of a topic never gets shorter, and every acknowledged envelope must be shown at the place that was
acknowledged. Whatever breaks that becomes an effect that the driver records (sync/driver.py), and nothing it says is
believed further than that.

    topic:  closed ──open_topic──▶ opening ──opened──▶ catching up ──live──▶ live
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from cocoon_core.errors import MalformedError, RelayError, RelayMisbehaved, RelayRefused
from cocoon_core.protocol.constants import FRAME_VERSION, LABEL_OPEN, MAX_FRAME_BYTES, MAX_PUT_ENVELOPES
from cocoon_core.protocol.cursor import Cursor
from cocoon_core.protocol.epoch import TopicKeys
from cocoon_core.protocol.frames import (
    Ack,
    Cast,
    CastReceived,
    Challenge,
    Close,
    Entries,
    Error,
    ErrorCode,
    Fetched,
    Listed,
    Live,
    Open,
    Opened,
    Put,
    RelayFrame,
    decode_relay_frame,
    encode_frame,
    open_message,
)
from cocoon_core.protocol.ids import Incarnation, TopicId

PUT_BYTES = MAX_FRAME_BYTES // 2  # envelope bytes that one put frame carries at most


@dataclass(frozen=True, slots=True)
class Send:
    """Write these bytes as one message."""

    raw: bytes


@dataclass(frozen=True, slots=True)
class Ready:
    """The relay greeted: topics can be opened."""


@dataclass(frozen=True, slots=True)
class TopicOpened:
    """The relay opened a topic. `lost` says that it forgot what it had shown: it must be read and filled from its
    start.
    """

    topic: TopicId
    incarnation: Incarnation
    last: int
    sealed: bool
    lost: bool


@dataclass(frozen=True, slots=True)
class Deliver:
    """Envelopes that continue the cursor. Store them with the cursor at `cursor` before asking for more."""

    topic: TopicId
    first: int
    envelopes: tuple[bytes, ...]
    cursor: Cursor


@dataclass(frozen=True, slots=True)
class BecameLive:
    """All that the relay has of this topic was delivered."""

    topic: TopicId
    last: int


@dataclass(frozen=True, slots=True)
class Acked:
    """The relay says that it stored what was put under this tag, at these places."""

    topic: TopicId
    tag: int
    seqs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """The relay refused an open (tag None) or a put. `retry_after_ms` is None where trying again is no use.

    `last` is where the topic stands, beside the codes `expect` and `sealed`.
    """

    topic: TopicId
    tag: int | None
    code: ErrorCode
    message: str
    retry_after_ms: int | None
    last: int | None = None


@dataclass(frozen=True, slots=True)
class CastArrived:
    """A live message. It was not stored anywhere."""

    topic: TopicId
    payload: bytes


@dataclass(frozen=True, slots=True)
class Broken:
    """This connection is of no further use: close it, and back off."""

    error: RelayError


Effect = Send | Ready | TopicOpened | Deliver | BecameLive | Acked | Refused | CastArrived | Broken


class _Phase(Enum):
    OPENING = auto()
    CATCHING_UP = auto()
    LIVE = auto()


@dataclass(slots=True)
class _Topic:
    keys: TopicKeys
    cursor: Cursor | None
    phase: _Phase = _Phase.OPENING
    sealed: bool = False
    may_begin_late: bool = False  # sealed, and nothing came yet: only its end may be kept


class Session:
    """The client's half of one connection.

    Args:
        origin: the relay's address as dialled, normalised (frames.normalize_origin). Proofs are bound to it, so one
        relay cannot
            pass them on to another.
    """

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._challenge: bytes | None = None
        self._topics: dict[TopicId, _Topic] = {}
        self._requests: dict[int, tuple[TopicId, int | None]] = {}
        self._next_request = 1
        self._broken = False
        self.most_put_envelopes, self.most_put_bytes = MAX_PUT_ENVELOPES, PUT_BYTES  # the relay's, where it has less

    # --- what the driver asks for

    def open_topic(self, keys: TopicKeys, cursor: Cursor | None) -> list[Effect]:
        """Subscribe from the cursor on. To be called after Ready."""
        if self._challenge is None or self._broken:
            return []
        self._topics[keys.topic] = _Topic(keys, cursor)
        proof = keys.signing.sign(LABEL_OPEN, open_message(self._origin, self._challenge, keys.topic))
        incarnation, after = (cursor.incarnation, cursor.after) if cursor else (None, 0)
        return [self._send(Open(self._request(keys.topic, None), keys.topic, incarnation, after, proof))]

    def close_topic(self, topic: TopicId) -> list[Effect]:
        """End a subscription; what still comes of it is dropped."""
        if self._topics.pop(topic, None) is None:
            return []
        return [self._send(Close(topic))]

    def put(
        self, topic: TopicId, tag: int, envelopes: Sequence[bytes], *, seal: bool = False, expect: int | None = None
    ) -> list[Effect]:
        """Append envelopes to an open topic. They must be durable here. `tag` comes back with the answer.

        At most `most_put_envelopes` envelopes and `most_put_bytes` bytes; `split_puts` cuts longer lists.

        Args:
            seal: let nothing be appended after these.
            expect: refuse all of it unless this is the topic's last place.
        """
        return [self._send(Put(self._request(topic, tag), topic, tuple(envelopes), seal, expect))]

    def cast(self, topic: TopicId, payload: bytes) -> list[Effect]:
        """Send a live message to whoever has the topic open now."""
        return [self._send(Cast(topic, payload))]

    def is_open(self, topic: TopicId) -> bool:
        """True from the call of `open_topic` on, until it was closed or refused."""
        return topic in self._topics

    def is_sealed(self, topic: TopicId) -> bool:
        """True where the relay said so when it opened the topic."""
        state = self._topics.get(topic)
        return state is not None and state.sealed

    def is_live(self, topic: TopicId) -> bool:
        state = self._topics.get(topic)
        return state is not None and state.phase is _Phase.LIVE

    def cursor(self, topic: TopicId) -> Cursor | None:
        state = self._topics.get(topic)
        return state.cursor if state else None

    @property
    def unanswered(self) -> int:
        """Requests that the relay has not answered yet."""
        return len(self._requests)

    # --- what the relay says

    def frame_received(self, raw: bytes) -> list[Effect]:
        """Take one message from the relay."""
        if self._broken:
            return []
        try:
            frame = decode_relay_frame(raw)
            if self._challenge is None and not isinstance(frame, Challenge | Error):
                raise RelayMisbehaved("the relay spoke before its challenge")
            return self._react(frame)
        except MalformedError as error:
            return self._break(RelayMisbehaved(f"the relay sent a frame that is not one: {error}"))
        except RelayError as error:
            return self._break(error)

    def _react(self, frame: RelayFrame) -> list[Effect]:
        match frame:
            case Challenge():
                return self._challenged(frame)
            case Opened():
                return self._opened(frame)
            case Entries():
                return self._entries(frame)
            case Live(topic, last):
                return self._live(topic, last)
            case Ack(request, topic, seqs):
                named, tag = self._answered(request)
                if named != topic or tag is None:
                    raise RelayMisbehaved("the relay acknowledged what was not put")
                return [Acked(topic, tag, seqs)]
            case CastReceived(topic, payload):
                return [CastArrived(topic, payload)] if topic in self._topics else []
            case Error():
                return self._refused(frame)
            case Listed() | Fetched():
                raise RelayMisbehaved("the relay answered what was not asked")

    def _challenged(self, frame: Challenge) -> list[Effect]:
        if self._challenge is not None:
            raise RelayMisbehaved("the relay sent a second challenge")
        if frame.version != FRAME_VERSION:
            raise RelayRefused(f"the relay speaks version {frame.version}, this device {FRAME_VERSION}")
        self._challenge = frame.challenge
        self.most_put_envelopes = max(1, min(MAX_PUT_ENVELOPES, frame.limits.get("put_envelopes", MAX_PUT_ENVELOPES)))
        self.most_put_bytes = min(PUT_BYTES, frame.limits.get("frame_bytes", MAX_FRAME_BYTES) // 2)
        return [Ready()]

    def _opened(self, frame: Opened) -> list[Effect]:
        named, tag = self._answered(frame.request)
        state = self._topics.get(frame.topic)
        if named != frame.topic or tag is not None:
            raise RelayMisbehaved("the relay opened what was not asked for")
        if state is None:
            return []
        known = state.cursor
        same_life = known is not None and known.incarnation == frame.incarnation
        rolled_back = same_life and known is not None and frame.last < known.after
        state.phase, state.sealed, state.may_begin_late = _Phase.CATCHING_UP, frame.sealed, frame.sealed
        if rolled_back:
            # The relay will send from its own idea of our place; only a fresh open from the start is well defined.
            return [
                TopicOpened(frame.topic, frame.incarnation, frame.last, frame.sealed, lost=True),
                *self.close_topic(frame.topic),
                *self.open_topic(state.keys, None),
            ]
        if not same_life:
            state.cursor = Cursor(frame.incarnation, 0)
        lost = known is not None and not same_life
        return [TopicOpened(frame.topic, frame.incarnation, frame.last, frame.sealed, lost)]

    def _entries(self, frame: Entries) -> list[Effect]:
        state = self._topics.get(frame.topic)
        if state is None:
            return []
        if state.phase is _Phase.OPENING or state.cursor is None:
            return []  # of a subscription that was closed and opened anew
        if frame.first != state.cursor.after + 1 and not (state.may_begin_late and frame.first > state.cursor.after):
            raise RelayMisbehaved(f"the relay went from place {state.cursor.after} to {frame.first}")
        state.may_begin_late = False
        state.cursor = Cursor(state.cursor.incarnation, frame.first + len(frame.envelopes) - 1)
        return [Deliver(frame.topic, frame.first, frame.envelopes, state.cursor)]

    def _live(self, topic: TopicId, last: int) -> list[Effect]:
        state = self._topics.get(topic)
        if state is None or state.phase is _Phase.OPENING or state.cursor is None:
            return []
        if last > state.cursor.after:
            raise RelayMisbehaved(f"the relay says that it is level at {last}, but served up to {state.cursor.after}")
        if state.phase is _Phase.LIVE:
            return []  # said again
        state.phase = _Phase.LIVE
        return [BecameLive(topic, state.cursor.after)]

    def _refused(self, frame: Error) -> list[Effect]:
        if frame.request is None:
            raise RelayRefused(f"the relay ended the connection: {frame.message} ({frame.code})")
        topic, tag = self._answered(frame.request)
        if tag is None:
            self._topics.pop(topic, None)
        return [Refused(topic, tag, frame.code, frame.message, frame.retry_after_ms, frame.last)]

    # --- inside

    def _answered(self, request: int) -> tuple[TopicId, int | None]:
        try:
            return self._requests.pop(request)
        except KeyError:
            raise RelayMisbehaved("the relay answered what was not asked") from None

    def _request(self, topic: TopicId, tag: int | None) -> int:
        request, self._next_request = self._next_request, self._next_request + 1
        self._requests[request] = (topic, tag)
        return request

    def _send(self, frame: Open | Put | Cast | Close) -> Send:
        return Send(encode_frame(frame))

    def _break(self, error: RelayError) -> list[Effect]:
        self._broken = True
        return [Broken(error)]


def split_puts(
    sizes: Sequence[int], most_envelopes: int = MAX_PUT_ENVELOPES, most_bytes: int = PUT_BYTES
) -> list[range]:
    """Cut a list of envelopes, given by their sizes, into what single put frames can carry."""
    cuts: list[range] = []
    start = used = 0
    for place, size in enumerate(sizes):
        if place > start and (place - start >= most_envelopes or used + size > most_bytes):
            cuts.append(range(start, place))
            start, used = place, 0
        used += size
    if start < len(sizes):
        cuts.append(range(start, len(sizes)))
    return cuts
