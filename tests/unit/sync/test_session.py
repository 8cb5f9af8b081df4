"""The client's half of a connection, frame by frame: what each gives, and what a relay cannot make it believe."""

from __future__ import annotations

from random import Random

import pytest

from cocoon_core.errors import MalformedError, RelayMisbehaved, RelayRefused, SignatureError
from cocoon_core.protocol.constants import LABEL_OPEN, MAX_FRAME_BYTES, MAX_PUT_ENVELOPES
from cocoon_core.protocol.cursor import Cursor
from cocoon_core.protocol.epoch import Epoch
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
    open_message,
)
from cocoon_core.protocol.ids import Incarnation, TopicId
from cocoon_core.protocol.primitives import Secret, verify
from cocoon_core.sync.session import (
    PUT_BYTES,
    Acked,
    BecameLive,
    Broken,
    CastArrived,
    Deliver,
    Effect,
    NamesListed,
    PlacesFetched,
    Ready,
    Refused,
    Send,
    Session,
    Tag,
    TopicOpened,
    split_puts,
)

ORIGIN = "wss://relay.test"
KEYS = Epoch(Secret(b"\x01" * 32))
OTHER = Epoch(Secret(b"\x02" * 32))
TOPIC = KEYS.topic
LIFE, NEXT_LIFE = Incarnation(b"\xaa" * Incarnation.LENGTH), Incarnation(b"\xbb" * Incarnation.LENGTH)
NONCE = b"\x09" * 32
ENVELOPES = tuple(bytes([n]) * 300 for n in range(5))


def greeted() -> Session:
    session = Session(ORIGIN)
    assert say(session, Challenge(1, NONCE, {})) == [Ready()]
    return session


def say(session: Session, frame: RelayFrame) -> list[Effect]:
    return session.frame_received(encode_frame(frame))


def sent(effects: list[Effect]) -> list[ClientFrame]:
    return [decode_client_frame(effect.raw) for effect in effects if isinstance(effect, Send)]


def opened(cursor: Cursor | None = None, last: int = 3, life: Incarnation = LIFE) -> Session:
    session = greeted()
    (frame,) = sent(session.open_topic(KEYS, cursor))
    assert isinstance(frame, Open)
    say(session, Opened(frame.request, TOPIC, life, last, False))
    return session


def live(last: int = 3) -> Session:
    session = opened(last=last)
    if last:
        say(session, Entries(TOPIC, 1, ENVELOPES[:last]))
    assert say(session, Live(TOPIC, last)) == [BecameLive(TOPIC, last)]
    return session


# --- the way it goes


def test_a_challenge_makes_it_ready_and_an_open_proves_the_topic_to_this_origin() -> None:
    session = greeted()
    (frame,) = sent(session.open_topic(KEYS, Cursor(LIFE, 7)))
    assert isinstance(frame, Open)
    assert (frame.topic, frame.incarnation, frame.after) == (TOPIC, LIFE, 7)
    verify(TOPIC, LABEL_OPEN, open_message(ORIGIN, NONCE, TOPIC), frame.proof)
    with pytest.raises(SignatureError):
        verify(TOPIC, LABEL_OPEN, open_message("wss://other.test", NONCE, TOPIC), frame.proof)


def test_nothing_is_opened_before_the_challenge() -> None:
    assert Session(ORIGIN).open_topic(KEYS, None) == []


def test_entries_are_delivered_with_the_cursor_behind_them() -> None:
    session = opened()
    assert say(session, Entries(TOPIC, 1, ENVELOPES[:2])) == [Deliver(TOPIC, 1, ENVELOPES[:2], Cursor(LIFE, 2))]
    assert not session.is_live(TOPIC)
    assert say(session, Entries(TOPIC, 3, ENVELOPES[2:3])) == [Deliver(TOPIC, 3, ENVELOPES[2:3], Cursor(LIFE, 3))]
    assert say(session, Live(TOPIC, 3)) == [BecameLive(TOPIC, 3)]
    assert session.is_live(TOPIC)
    assert say(session, Entries(TOPIC, 4, ENVELOPES[3:4])) == [Deliver(TOPIC, 4, ENVELOPES[3:4], Cursor(LIFE, 4))]
    assert session.cursor(TOPIC) == Cursor(LIFE, 4)


def test_it_goes_on_from_a_cursor_of_the_same_life() -> None:
    session = opened(Cursor(LIFE, 2))
    assert say(session, Entries(TOPIC, 3, ENVELOPES[:1])) == [Deliver(TOPIC, 3, ENVELOPES[:1], Cursor(LIFE, 3))]


def test_a_sealed_topic_may_begin_late_once_and_no_other_may() -> None:
    for sealed in (True, False):
        session = greeted()
        (frame,) = sent(session.open_topic(KEYS, None))
        assert isinstance(frame, Open)
        say(session, Opened(frame.request, TOPIC, LIFE, 9, sealed))
        effects = say(session, Entries(TOPIC, 8, ENVELOPES[:1]))
        if not sealed:
            assert isinstance(effects[0], Broken)
            continue
        assert effects == [Deliver(TOPIC, 8, ENVELOPES[:1], Cursor(LIFE, 8))]
        (gap,) = say(session, Entries(TOPIC, 10, ENVELOPES[:1]))
        assert isinstance(gap, Broken)


def test_puts_respect_what_the_relay_says_of_itself_and_no_more_than_the_own_bounds() -> None:
    for stated, envelopes, size in ((3, 3, 500), (10**9, MAX_PUT_ENVELOPES, PUT_BYTES), (0, 1, 0)):
        session = Session(ORIGIN)
        say(session, Challenge(1, NONCE, {"put_envelopes": stated, "frame_bytes": stated * 1000 // 3}))
        assert (session.most_put_envelopes, session.most_put_bytes) == (envelopes, size)
    assert split_puts([300] * 7, 3, 10**6) == [range(3), range(3, 6), range(6, 7)]
    assert split_puts([300] * 3, 64, 0) == [range(1), range(1, 2), range(2, 3)]


def test_a_level_that_is_said_twice_counts_once() -> None:
    assert say(live(), Live(TOPIC, 3)) == []


def test_an_ack_names_the_tag_of_its_put() -> None:
    session = live()
    (frame,) = sent(session.put(TOPIC, 42, ENVELOPES[:2]))
    assert isinstance(frame, Put)
    assert frame.envelopes == ENVELOPES[:2]
    assert session.unanswered == 1
    assert say(session, Ack(frame.request, TOPIC, (4, 5))) == [Acked(TOPIC, 42, (4, 5))]
    assert session.unanswered == 0


def test_a_refused_put_and_a_refused_open_are_told_apart() -> None:
    session = live()
    (frame,) = sent(session.put(TOPIC, 42, ENVELOPES[:1]))
    assert isinstance(frame, Put)
    refusal = Error(frame.request, ErrorCode.RATE, "slow down", 500)
    assert say(session, refusal) == [Refused(TOPIC, 42, ErrorCode.RATE, "slow down", 500)]
    assert session.is_live(TOPIC)
    (again,) = sent(session.open_topic(OTHER, None))
    assert isinstance(again, Open)
    refusal = Error(again.request, ErrorCode.BAD_PROOF, "no")
    assert say(session, refusal) == [Refused(OTHER.topic, None, ErrorCode.BAD_PROOF, "no", None)]
    assert session.cursor(OTHER.topic) is None


def test_casts_pass_for_open_topics_alone() -> None:
    session = live()
    assert sent(session.cast(TOPIC, b"hi")) == [Cast(TOPIC, b"hi")]
    assert say(session, CastReceived(TOPIC, b"yo")) == [CastArrived(TOPIC, b"yo")]
    assert say(session, CastReceived(OTHER.topic, b"yo")) == []


def test_a_closed_topic_gives_nothing_more() -> None:
    session = live()
    assert sent(session.close_topic(TOPIC)) == [Close(TOPIC)]
    assert session.close_topic(TOPIC) == []
    assert say(session, Entries(TOPIC, 4, ENVELOPES[:1])) == []
    assert say(session, Live(TOPIC, 4)) == []
    assert say(session, CastReceived(TOPIC, b"late")) == []


def test_an_answer_that_comes_after_the_close_opens_nothing() -> None:
    session = greeted()
    (frame,) = sent(session.open_topic(KEYS, None))
    assert isinstance(frame, Open)
    session.close_topic(TOPIC)
    assert say(session, Opened(frame.request, TOPIC, LIFE, 3, False)) == []
    assert say(session, Entries(TOPIC, 1, ENVELOPES)) == []


# --- a relay that forgot


def test_another_life_of_the_topic_is_read_from_its_start_and_reported_lost() -> None:
    session = greeted()
    (frame,) = sent(session.open_topic(KEYS, Cursor(LIFE, 9)))
    assert isinstance(frame, Open)
    effects = say(session, Opened(frame.request, TOPIC, NEXT_LIFE, 2, False))
    assert effects == [TopicOpened(TOPIC, NEXT_LIFE, 2, False, lost=True)]
    assert session.cursor(TOPIC) == Cursor(NEXT_LIFE, 0)
    assert say(session, Entries(TOPIC, 1, ENVELOPES[:2])) == [Deliver(TOPIC, 1, ENVELOPES[:2], Cursor(NEXT_LIFE, 2))]


def test_a_first_opening_reports_nothing_lost() -> None:
    session = greeted()
    (frame,) = sent(session.open_topic(KEYS, None))
    assert isinstance(frame, Open)
    assert say(session, Opened(frame.request, TOPIC, LIFE, 0, False)) == [TopicOpened(TOPIC, LIFE, 0, False, False)]
    assert say(session, Live(TOPIC, 0)) == [BecameLive(TOPIC, 0)]


def test_a_life_that_became_shorter_is_opened_anew_and_what_came_of_the_first_is_dropped() -> None:
    session = greeted()
    (frame,) = sent(session.open_topic(KEYS, Cursor(LIFE, 9)))
    assert isinstance(frame, Open)
    effects = say(session, Opened(frame.request, TOPIC, LIFE, 2, False))
    assert effects[0] == TopicOpened(TOPIC, LIFE, 2, False, lost=True)
    close, again = sent(effects)
    assert close == Close(TOPIC)
    assert isinstance(again, Open)
    assert (again.incarnation, again.after) == (None, 0)
    assert say(session, Entries(TOPIC, 1, ENVELOPES[:2])) == []
    assert say(session, Live(TOPIC, 2)) == []
    assert say(session, Opened(again.request, TOPIC, LIFE, 2, False)) == [TopicOpened(TOPIC, LIFE, 2, False, False)]
    assert say(session, Entries(TOPIC, 1, ENVELOPES[:2])) == [Deliver(TOPIC, 1, ENVELOPES[:2], Cursor(LIFE, 2))]


# --- lies


def opening(frame_for: str) -> tuple[Session, RelayFrame]:
    """A session and a frame that no honest relay says then."""
    session = greeted()
    (request,) = sent(session.open_topic(KEYS, None))
    assert isinstance(request, Open)
    frames: dict[str, RelayFrame] = {
        "opened for another topic": Opened(request.request, OTHER.topic, LIFE, 0, False),
        "opened that was not asked for": Opened(99, TOPIC, LIFE, 0, False),
        "ack of an open": Ack(request.request, TOPIC, (1,)),
        "error for nothing": Error(99, ErrorCode.RATE, "?", 1),
        "second challenge": Challenge(1, NONCE, {}),
    }
    return session, frames[frame_for]


@pytest.mark.parametrize(
    "lie",
    [
        "opened for another topic",
        "opened that was not asked for",
        "ack of an open",
        "error for nothing",
        "second challenge",
    ],
)
def test_what_was_not_asked_for_ends_the_connection(lie: str) -> None:
    session, frame = opening(lie)
    (broken,) = say(session, frame)
    assert isinstance(broken, Broken)
    assert isinstance(broken.error, RelayMisbehaved)
    assert say(session, Live(TOPIC, 0)) == []
    assert session.open_topic(OTHER, None) == []


LIES: dict[str, RelayFrame] = {
    "a gap": Entries(TOPIC, 5, ENVELOPES[:1]),
    "a step back": Entries(TOPIC, 3, ENVELOPES[:1]),
    "from the start again": Entries(TOPIC, 1, ENVELOPES[:1]),
    "level where nothing was shown": Live(TOPIC, 4),
    "an ack of nothing": Ack(77, TOPIC, (1,)),
    "the end of the connection": Error(None, ErrorCode.SHUTTING_DOWN, "bye"),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_a_live_topic_takes_no_lie(lie: RelayFrame) -> None:
    session = live()
    (broken,) = say(session, lie)
    assert isinstance(broken, Broken)
    assert session.cursor(TOPIC) == Cursor(LIFE, 3)


def test_an_ack_for_another_topic_is_a_lie() -> None:
    session = live()
    (frame,) = sent(session.put(TOPIC, 1, ENVELOPES[:1]))
    assert isinstance(frame, Put)
    (broken,) = say(session, Ack(frame.request, OTHER.topic, (1,)))
    assert isinstance(broken, Broken)


def test_an_answer_twice_is_a_lie() -> None:
    session = live()
    (frame,) = sent(session.put(TOPIC, 1, ENVELOPES[:1]))
    assert isinstance(frame, Put)
    say(session, Ack(frame.request, TOPIC, (4,)))
    (broken,) = say(session, Ack(frame.request, TOPIC, (4,)))
    assert isinstance(broken, Broken)


def test_entries_of_topics_that_are_not_open_are_dropped() -> None:
    session = live()
    assert say(session, Entries(OTHER.topic, 1, ENVELOPES)) == []
    assert say(session, Live(OTHER.topic, 9)) == []


def test_frames_before_the_challenge_end_the_connection() -> None:
    (broken,) = say(Session(ORIGIN), Live(TOPIC, 0))
    assert isinstance(broken, Broken)
    (refused,) = say(Session(ORIGIN), Error(None, ErrorCode.BUSY, "full"))
    assert isinstance(refused, Broken)
    assert isinstance(refused.error, RelayRefused)


def test_another_version_is_refused_with_both_numbers() -> None:
    (broken,) = say(Session(ORIGIN), Challenge(2, NONCE, {}))
    assert isinstance(broken, Broken)
    assert "version 2" in str(broken.error)
    assert "1" in str(broken.error)


@pytest.mark.parametrize("raw", [b"", b"\x00", b"\x80", b"\x83\x18\x42", b"\xff" * 10, b"\x81" * 100])
def test_bytes_that_are_no_frame_end_the_connection(raw: bytes) -> None:
    (broken,) = live().frame_received(raw)
    assert isinstance(broken, Broken)
    assert isinstance(broken.error, RelayMisbehaved)


def test_a_frame_of_a_client_that_comes_back_is_refused() -> None:
    session = live()
    (broken,) = session.frame_received(encode_frame(Cast(TOPIC, b"mine")))
    assert isinstance(broken, Broken)


@pytest.mark.parametrize("seed", range(5))
def test_no_sequence_of_frames_raises_or_moves_a_cursor_back(seed: int) -> None:
    """Whatever a relay says in whatever order: effects, never an exception, and the cursor of one life only grows."""
    print(f"seed {seed}")
    chance = Random(seed)
    for _ in range(300):
        session = greeted()
        session.open_topic(KEYS, chance.choice([None, Cursor(LIFE, 2)]))
        last: Cursor | None = None
        for _ in range(20):
            topic = chance.choice([TOPIC, TOPIC, TOPIC, OTHER.topic])
            number = chance.randrange(1, 6)
            frames: list[RelayFrame] = [
                Opened(number, topic, chance.choice([LIFE, NEXT_LIFE]), chance.randrange(4), False),
                Entries(topic, number, ENVELOPES[: chance.randrange(1, 3)]),
                Live(topic, chance.randrange(4)),
                Ack(number, topic, (1,)),
                Error(number, ErrorCode.RATE, "?", 1),
            ]
            for effect in say(session, chance.choice(frames)):
                if isinstance(effect, TopicOpened):
                    last = None
                if isinstance(effect, Deliver):
                    if last is not None:
                        assert effect.first == last.after + 1
                    last = effect.cursor
            if chance.random() < 0.1:
                session.put(TOPIC, 1, ENVELOPES[:1])


# --- cutting


@pytest.mark.parametrize(
    ("sizes", "cuts"),
    [
        ([], []),
        ([300], [range(0, 1)]),
        ([300] * MAX_PUT_ENVELOPES, [range(0, MAX_PUT_ENVELOPES)]),
        (
            [300] * (MAX_PUT_ENVELOPES + 1),
            [range(0, MAX_PUT_ENVELOPES), range(MAX_PUT_ENVELOPES, MAX_PUT_ENVELOPES + 1)],
        ),
        ([PUT_BYTES], [range(0, 1)]),
        ([PUT_BYTES, 1], [range(0, 1), range(1, 2)]),
        ([PUT_BYTES // 2, PUT_BYTES // 2, 1], [range(0, 2), range(2, 3)]),
    ],
)
def test_puts_are_cut_by_number_and_bytes(sizes: list[int], cuts: list[range]) -> None:
    assert split_puts(sizes) == cuts


def test_any_cut_holds_every_envelope_once_and_fits_a_frame() -> None:
    chance = Random(1)
    for _ in range(50):
        sizes = [chance.choice([300, 5_000, 200_000, 600_000]) for _ in range(chance.randrange(200))]
        cuts = split_puts(sizes)
        assert [place for cut in cuts for place in cut] == list(range(len(sizes)))
        for cut in cuts:
            assert len(cut) <= MAX_PUT_ENVELOPES
            assert sum(sizes[place] for place in cut) <= PUT_BYTES < MAX_FRAME_BYTES


def test_a_put_frame_at_the_limit_decodes() -> None:
    session = live()
    envelopes = [bytes([n]) * 16_000 for n in range(MAX_PUT_ENVELOPES)]
    (frame,) = sent(session.put(TOPIC, 1, envelopes))
    assert isinstance(frame, Put)
    with pytest.raises(MalformedError):
        decode_client_frame(encode_frame(Put(1, TopicId(TOPIC), (*envelopes, b"\0" * 300))))


# --- still topics: names and places

SALT = b"\x77" * 32
NAMES = tuple(name_envelope(SALT, envelope) for envelope in ENVELOPES)


def still(cursor: Cursor | None = None, last: int = 5, *, sealed: bool = False, most: int = 1) -> Session:
    session = Session(ORIGIN, SALT)
    assert say(session, Challenge(1, NONCE, {"names": 3, "fetch_places": 2})) == [Ready()]
    assert session.can_list
    (frame,) = sent(session.open_topic(KEYS, cursor, most=most))
    assert isinstance(frame, Resume)
    assert (frame.most, frame.after) == (most, cursor.after if cursor else 0)
    verify(TOPIC, LABEL_OPEN, open_message(ORIGIN, NONCE, TOPIC), frame.proof)
    (told,) = say(session, Opened(frame.request, TOPIC, LIFE, last, sealed))
    assert isinstance(told, TopicOpened)
    assert told.still == session.is_still(TOPIC)
    return session


def test_a_relay_without_names_is_not_asked_for_any() -> None:
    for limits in ({}, {"names": 3}, {"fetch_places": 2}, {"names": 0, "fetch_places": 2}):
        session = Session(ORIGIN, SALT)
        say(session, Challenge(1, NONCE, limits))
        assert not session.can_list
    assert not greeted().can_list
    without_salt = Session(ORIGIN)
    say(without_salt, Challenge(1, NONCE, {"names": 3, "fetch_places": 2}))
    assert not without_salt.can_list


@pytest.mark.parametrize(
    ("cursor", "last", "is_still"),
    [
        (None, 1, False),
        (None, 2, True),
        (Cursor(LIFE, 4), 5, False),
        (Cursor(LIFE, 3), 5, True),
        (Cursor(LIFE, 5), 5, False),
        (Cursor(NEXT_LIFE, 5), 5, True),
        (Cursor(LIFE, 6), 5, True),
    ],
)
def test_a_topic_is_still_where_more_is_to_come_than_was_asked_for(
    cursor: Cursor | None, last: int, is_still: bool
) -> None:
    session = still(cursor, last)
    assert session.is_still(TOPIC) == is_still
    if is_still:
        assert say(session, Entries(TOPIC, 1, ENVELOPES)) == []  # of a subscription before
        assert say(session, Live(TOPIC, 5)) == []


def test_a_relay_that_went_back_is_still_from_its_start_and_lost_what_it_had() -> None:
    session = still(None, 0)
    (frame,) = sent(session.open_topic(KEYS, Cursor(LIFE, 9), most=1))
    assert isinstance(frame, Resume)
    assert say(session, Opened(frame.request, TOPIC, LIFE, 5, False)) == [
        TopicOpened(TOPIC, LIFE, 5, False, lost=True, still=True)
    ]
    assert session.cursor(TOPIC) == Cursor(LIFE, 0)


def test_names_and_places_are_asked_for_and_delivered_in_their_order() -> None:
    session = still(Cursor(LIFE, 1))
    (asked,) = sent(session.list_names(TOPIC))
    assert isinstance(asked, List)
    assert (asked.after, asked.most, asked.salt) == (1, 3, SALT)
    listed = NAMES[1:4]
    assert say(session, Listed(asked.request, TOPIC, 2, listed)) == [NamesListed(TOPIC, 2, listed)]
    (fetch,) = sent(session.fetch(TOPIC, [2, 4]))
    assert isinstance(fetch, Fetch)
    assert fetch.places == (2, 4)
    assert say(session, Fetched(fetch.request, TOPIC, ENVELOPES[1:2])) == [
        PlacesFetched(TOPIC, ((2, ENVELOPES[1]),), (4,))
    ]
    assert session.serve(TOPIC, ENVELOPES[1:3]) == Deliver(TOPIC, 2, ENVELOPES[1:3], Cursor(LIFE, 3))
    assert not session.is_read(TOPIC)
    assert session.serve(TOPIC, ENVELOPES[3:4]) == Deliver(TOPIC, 4, ENVELOPES[3:4], Cursor(LIFE, 4))
    (asked,) = sent(session.list_names(TOPIC))
    assert isinstance(asked, List)
    assert (asked.after, asked.most) == (4, 1)
    say(session, Listed(asked.request, TOPIC, 5, NAMES[4:]))
    session.serve(TOPIC, ENVELOPES[4:])
    assert session.is_read(TOPIC)
    assert not session.unanswered
    (frame,) = sent(session.open_topic(KEYS, session.cursor(TOPIC)))
    assert isinstance(frame, Open)
    assert (frame.incarnation, frame.after) == (LIFE, 5)
    assert not session.is_still(TOPIC)


@pytest.mark.parametrize("first", [2, 5])
def test_only_the_end_of_a_sealed_topic_may_be_listed(first: int) -> None:
    for sealed in (True, False):
        session = still(sealed=sealed)
        (asked,) = sent(session.list_names(TOPIC))
        assert isinstance(asked, List)
        (effect,) = say(session, Listed(asked.request, TOPIC, first, NAMES[first - 1 :][:3]))
        assert isinstance(effect, NamesListed if sealed else Broken)
        if sealed:
            assert session.cursor(TOPIC) == Cursor(LIFE, first - 1)


@pytest.mark.parametrize(
    ("first", "names"),
    [(1, ()), (2, NAMES[1:2]), (1, NAMES[:4]), (6, NAMES[:1]), (4, NAMES[:3])],
    ids=["none", "a gap", "more than asked for", "beyond the last", "over the last"],
)
def test_names_that_cannot_be_end_the_connection(first: int, names: tuple[bytes, ...]) -> None:
    session = still()
    (asked,) = sent(session.list_names(TOPIC))
    assert isinstance(asked, List)
    (broken,) = say(session, Listed(asked.request, TOPIC, first, names))
    assert isinstance(broken, Broken)
    assert isinstance(broken.error, RelayMisbehaved)


@pytest.mark.parametrize(
    "envelopes",
    [(None,), (ENVELOPES[1],), (ENVELOPES[0], ENVELOPES[1]), (ENVELOPES[0], ENVELOPES[2], ENVELOPES[2])],
    ids=["nothing there", "of another place", "the second of another place", "more than asked for"],
)
def test_envelopes_that_were_not_listed_there_end_the_connection(envelopes: tuple[bytes | None, ...]) -> None:
    session = still()
    (asked,) = sent(session.list_names(TOPIC))
    assert isinstance(asked, List)
    say(session, Listed(asked.request, TOPIC, 1, NAMES[:3]))
    (fetch,) = sent(session.fetch(TOPIC, [1, 3]))
    assert isinstance(fetch, Fetch)
    (broken,) = say(session, Fetched(fetch.request, TOPIC, envelopes))
    assert isinstance(broken, Broken)


def test_answers_to_a_topic_that_was_closed_or_opened_since_are_dropped() -> None:
    for again in (False, True):
        session = still()
        (asked,) = sent(session.list_names(TOPIC))
        assert isinstance(asked, List)
        session.close_topic(TOPIC)
        if again:
            session.open_topic(KEYS, None, most=1)
        assert say(session, Listed(asked.request, TOPIC, 1, NAMES[:3])) == []
        assert isinstance(say(session, Listed(asked.request, TOPIC, 1, NAMES[:3]))[0], Broken)  # and once alone


def test_a_refused_question_leaves_the_topic_still() -> None:
    session = still()
    (asked,) = sent(session.list_names(TOPIC))
    assert isinstance(asked, List)
    assert say(session, Error(asked.request, ErrorCode.RATE, "", 5)) == [
        Refused(TOPIC, Tag.READ, ErrorCode.RATE, "", 5)
    ]
    assert session.is_still(TOPIC)
    (asked,) = sent(session.list_names(TOPIC))
    assert isinstance(asked, List)
    assert say(session, Listed(asked.request, TOPIC, 1, NAMES[:3])) == [NamesListed(TOPIC, 1, NAMES[:3])]
