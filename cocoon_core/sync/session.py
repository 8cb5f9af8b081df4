"""One connection to a relay, as a state machine without sockets: frames in, effects out. Implements specs/relay.md §8.

The relay is not trusted. It can only withhold, delay or repeat: what it serves must continue the cursor without a
gap, a life of a topic never gets shorter, and every acknowledged envelope must be shown at the place that was
acknowledged. Whatever breaks that becomes an effect that the driver records (sync/driver.py), and nothing it says is
believed further than that.

    topic:  closed ──open_topic──▶ opening ──opened──▶ catching up ──live──▶ live
                  └───────────────▶ opening ──opened──▶ still: asked for names and places (still.py) ──open_topic──▶ …
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum, auto

from cocoon_core.errors import MalformedError, RelayError, RelayMisbehaved, RelayRefused
from cocoon_core.protocol.constants import (
    FRAME_VERSION,
    LABEL_OPEN,
    MAX_FETCH_PLACES,
    MAX_FRAME_BYTES,
    MAX_NAMES,
    MAX_PUT_ENVELOPES,
)
from cocoon_core.protocol.cursor import Cursor
from cocoon_core.protocol.epoch import TopicKeys
from cocoon_core.protocol.frames import (
    Ack,
    Cast,
    CastReceived,
    Challenge,
    ClientFrame,
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
    Resume,
    decode_relay_frame,
    encode_frame,
    name_envelope,
    open_message,
)
from cocoon_core.protocol.ids import Incarnation, TopicId
from cocoon_core.protocol.primitives import SigningKey
from cocoon_core.sync.still import StillTopic

PUT_BYTES = MAX_FRAME_BYTES // 2  # envelope bytes that one put frame carries at most
JOINED = 256  # envelopes in one transaction, beyond which none are joined to them
JOINED_BYTES = 1024 * 1024  # bytes of them


class Tag(IntEnum):
    """What was asked or put, beside the runs of an outbox, whose tags count from 1."""

    HANDOVER = -1
    MANIFEST = -2
    OPERATIONS = -3  # that are in no chain; they are told once
    SIGNPOST = -4
    REPAIR = -5
    READ = -6  # for names and places


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
    start. `still` says that nothing comes by itself: it is to be asked for names and places from the cursor on.
    """

    topic: TopicId
    incarnation: Incarnation
    last: int
    sealed: bool
    lost: bool
    still: bool = False


@dataclass(frozen=True, slots=True)
class NamesListed:
    """What a still topic holds from place `first` on, by name."""

    topic: TopicId
    first: int
    names: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class PlacesFetched:
    """The envelopes at some places of a still topic; each has the name that was listed. `left` was not answered."""

    topic: TopicId
    envelopes: tuple[tuple[int, bytes], ...]
    left: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Deliver:
    """Envelopes that continue the cursor. Store them with the cursor at `cursor` before asking for more."""

    topic: TopicId
    first: int
    envelopes: tuple[bytes, ...]
    cursor: Cursor

    @property
    def has_room(self) -> bool:
        """True where more may be stored in the same transaction."""
        return len(self.envelopes) < JOINED and sum(map(len, self.envelopes)) < JOINED_BYTES


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


Effect = (
    Send
    | Ready
    | TopicOpened
    | NamesListed
    | PlacesFetched
    | Deliver
    | BecameLive
    | Acked
    | Refused
    | CastArrived
    | Broken
)


class _Phase(Enum):
    OPENING = auto()
    STILL = auto()
    CATCHING_UP = auto()
    LIVE = auto()


@dataclass(slots=True)
class _Topic:
    keys: TopicKeys
    cursor: Cursor | None
    phase: _Phase = _Phase.OPENING
    sealed: bool = False
    may_begin_late: bool = False  # sealed, and nothing came yet: only its end may be kept
    most: int | None = None  # envelopes that a resumed topic is sent at once; None: all
    still: StillTopic | None = None


class Session:
    """The client's half of one connection.

    Args:
        origin: the relay's address as dialled, normalised (frames.normalize_origin). Proofs are bound to it, so one
        relay cannot
            pass them on to another.
        salt: 32 random bytes, fresh for this connection, under which the relay is asked for names; None asks for none.
    """

    def __init__(self, origin: str, salt: bytes | None = None) -> None:
        self._origin, self._salt = origin, salt
        self._challenge: bytes | None = None
        self._topics: dict[TopicId, _Topic] = {}
        self._requests: dict[int, tuple[TopicId, int | None]] = {}
        self._next_request = 1
        self._broken = False
        self.most_put_envelopes, self.most_put_bytes = MAX_PUT_ENVELOPES, PUT_BYTES  # the relay's, where it has less
        self.most_names = self.most_places = 0  # the relay's; 0 where it is not to be asked

    # --- what the driver asks for

    def open_topic(self, keys: TopicKeys, cursor: Cursor | None, *, most: int | None = None) -> list[Effect]:
        """Subscribe from the cursor on. To be called after Ready.

        Args:
            most: if more envelopes than this are to come, be sent none: the topic is still. Only where `can_list`.
        """
        if self._challenge is None or self._broken:
            return []
        topic = keys.topic
        self._topics[topic] = _Topic(keys, cursor, most=most)
        proof = keys.signing.sign(LABEL_OPEN, open_message(self._origin, self._challenge, topic))
        incarnation, after = (cursor.incarnation, cursor.after) if cursor else (None, 0)
        request = self._request(topic, None)
        if most is None:
            return [self._send(Open(request, topic, incarnation, after, proof))]
        return [self._send(Resume(request, topic, incarnation, after, proof, most))]

    @property
    def can_list(self) -> bool:
        """True where the relay can be asked for names and places."""
        return self.most_names > 0 and self.most_places > 0

    def name(self, envelope: bytes) -> bytes:
        """By which this relay would list the envelope on this connection."""
        assert self._salt is not None, "only where `can_list`"
        return name_envelope(self._salt, envelope)

    def list_names(self, topic: TopicId) -> list[Effect]:
        """Ask a still topic for the names of what follows its cursor; there is something."""
        return [self._send(self._still(topic).ask_names(self._request(topic, Tag.READ), self.most_names))]

    def fetch(self, topic: TopicId, places: Sequence[int]) -> list[Effect]:
        """Ask a still topic for envelopes whose names were listed, by rising places: at most `most_places`."""
        return [self._send(self._still(topic).ask_places(self._request(topic, Tag.READ), places))]

    def serve(self, topic: TopicId, envelopes: Sequence[bytes]) -> Deliver:
        """Take these as what stands in a still topic after its cursor: each has the name that was listed there, whether
        it was fetched or was here already.
        """
        still, state = self._still(topic), self._topics[topic]
        assert state.cursor is not None, "it was opened"
        first = still.deliver(len(envelopes))
        state.cursor = Cursor(state.cursor.incarnation, still.after)
        return Deliver(topic, first, tuple(envelopes), state.cursor)

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

    def key_of(self, topic: TopicId) -> SigningKey:
        """What proves a topic that is open or about to be, where each request is proven by itself."""
        return self._topics[topic].keys.signing

    def is_open(self, topic: TopicId) -> bool:
        """True from the call of `open_topic` on, until it was closed or refused."""
        return topic in self._topics

    def is_sealed(self, topic: TopicId) -> bool:
        """True where the relay said so when it opened the topic."""
        state = self._topics.get(topic)
        return state is not None and state.sealed

    def is_still(self, topic: TopicId) -> bool:
        """True where nothing comes by itself: it is to be asked for names and places."""
        state = self._topics.get(topic)
        return state is not None and state.phase is _Phase.STILL

    def is_read(self, topic: TopicId) -> bool:
        """True where everything of a still topic was delivered, up to the place that was told when it was opened."""
        still = self._still(topic)
        return still.after >= still.last

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
            case Listed():
                return self._listed(frame)
            case Fetched():
                return self._fetched(frame)

    def _challenged(self, frame: Challenge) -> list[Effect]:
        if self._challenge is not None:
            raise RelayMisbehaved("the relay sent a second challenge")
        if frame.version != FRAME_VERSION:
            raise RelayRefused(f"the relay speaks version {frame.version}, this device {FRAME_VERSION}")
        self._challenge = frame.challenge
        self.most_put_envelopes = max(1, min(MAX_PUT_ENVELOPES, frame.limits.get("put_envelopes", MAX_PUT_ENVELOPES)))
        self.most_put_bytes = min(PUT_BYTES, frame.limits.get("frame_bytes", MAX_FRAME_BYTES) // 2)
        if self._salt is not None:
            self.most_names = min(MAX_NAMES, frame.limits.get("names", 0))
            self.most_places = min(MAX_FETCH_PLACES, frame.limits.get("fetch_places", 0))
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
        after = known.after if known is not None and same_life and not rolled_back else 0
        is_still = state.most is not None and frame.last - after > state.most
        state.phase, state.sealed, state.may_begin_late = _Phase.CATCHING_UP, frame.sealed, frame.sealed
        if is_still:
            state.phase = _Phase.STILL
            state.still = StillTopic(frame.topic, self._salt or b"", after, frame.last, frame.sealed)
        if rolled_back and not is_still:
            # The relay will send from its own idea of our place; only a fresh open from the start is well defined.
            return [
                TopicOpened(frame.topic, frame.incarnation, frame.last, frame.sealed, lost=True),
                *self.close_topic(frame.topic),
                *self.open_topic(state.keys, None, most=state.most),
            ]
        if not same_life or rolled_back:
            state.cursor = Cursor(frame.incarnation, 0)
        lost = rolled_back or (known is not None and not same_life)
        return [TopicOpened(frame.topic, frame.incarnation, frame.last, frame.sealed, lost, is_still)]

    def _entries(self, frame: Entries) -> list[Effect]:
        state = self._topics.get(frame.topic)
        if state is None:
            return []
        if state.phase in (_Phase.OPENING, _Phase.STILL) or state.cursor is None:
            return []  # of a subscription that was closed and opened anew
        if frame.first != state.cursor.after + 1 and not (state.may_begin_late and frame.first > state.cursor.after):
            raise RelayMisbehaved(f"the relay went from place {state.cursor.after} to {frame.first}")
        state.may_begin_late = False
        state.cursor = Cursor(state.cursor.incarnation, frame.first + len(frame.envelopes) - 1)
        return [Deliver(frame.topic, frame.first, frame.envelopes, state.cursor)]

    def _live(self, topic: TopicId, last: int) -> list[Effect]:
        state = self._topics.get(topic)
        if state is None or state.phase in (_Phase.OPENING, _Phase.STILL) or state.cursor is None:
            return []
        if last > state.cursor.after:
            raise RelayMisbehaved(f"the relay says that it is level at {last}, but served up to {state.cursor.after}")
        if state.phase is _Phase.LIVE:
            return []  # said again
        state.phase = _Phase.LIVE
        return [BecameLive(topic, state.cursor.after)]

    def _listed(self, frame: Listed) -> list[Effect]:
        state = self._read(frame)
        if state is None or state.still is None or not state.still.listed(frame):
            return []
        assert state.cursor is not None, "it was opened"
        state.cursor = Cursor(state.cursor.incarnation, state.still.after)
        return [NamesListed(frame.topic, frame.first, frame.names)]

    def _fetched(self, frame: Fetched) -> list[Effect]:
        state = self._read(frame)
        answer = state.still.fetched(frame) if state is not None and state.still is not None else None
        return [PlacesFetched(frame.topic, *answer)] if answer is not None else []

    def _read(self, frame: Listed | Fetched) -> _Topic | None:
        """The topic of which something was asked; None where it was closed since."""
        if self._answered(frame.request) != (frame.topic, Tag.READ):
            raise RelayMisbehaved("the relay listed or served what was not asked for")
        return self._topics.get(frame.topic)

    def _refused(self, frame: Error) -> list[Effect]:
        if frame.request is None:
            raise RelayRefused(f"the relay ended the connection: {frame.message} ({frame.code})")
        topic, tag = self._answered(frame.request)
        if tag is None:
            self._topics.pop(topic, None)
        elif tag == Tag.READ and (state := self._topics.get(topic)) is not None and state.still is not None:
            state.still.refused(frame.request)
        return [Refused(topic, tag, frame.code, frame.message, frame.retry_after_ms, frame.last)]

    # --- inside

    def _still(self, topic: TopicId) -> StillTopic:
        still = self._topics[topic].still
        assert still is not None, "asked for names and places where everything comes by itself"
        return still

    def _answered(self, request: int) -> tuple[TopicId, int | None]:
        try:
            return self._requests.pop(request)
        except KeyError:
            raise RelayMisbehaved("the relay answered what was not asked") from None

    def _request(self, topic: TopicId, tag: int | None) -> int:
        request, self._next_request = self._next_request, self._next_request + 1
        self._requests[request] = (topic, tag)
        return request

    def _send(self, frame: ClientFrame) -> Send:
        return Send(encode_frame(frame))

    def _break(self, error: RelayError) -> list[Effect]:
        self._broken = True
        return [Broken(error)]


def join_deliveries(delivery: Deliver, effects: list[Effect]) -> list[Effect]:
    """A delivery and what follows from the next message: one delivery, where that is one which continues it."""
    match effects:
        case [Deliver(topic, first, envelopes, cursor)]:
            if topic == delivery.topic and first == delivery.cursor.after + 1:
                return [Deliver(topic, delivery.first, delivery.envelopes + envelopes, cursor)]
    return [delivery, *effects]


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
