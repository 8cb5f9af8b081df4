"""Linking a further device of a member: one side's half of the conversation, letters in and effects out. Pure.

Both sides hold the code's secret, and so may a thief of the code. Each commits to fresh linking keys and random bytes
before it sees the other's, then opens the commitment, and both compute words over everything that was said. A man in
the middle has two transcripts, whose words he cannot steer: they are equal with probability 2⁻⁴⁴, and he has one try,
because a code serves one conversation. Only what both people confirmed is spoken of under the linking keys.

    new:  COMMITTED ── their commitment ──▶ OPENED ── their opening ──▶ COMPARING ── confirmed ──▶ CONFIRMED
    old:  (reads the commitment first) COMMITTED ── their opening ──▶ COMPARING ── confirmed ──▶ CONFIRMED

    then  old → new: the groups offered;  new → old: keys for each, with proofs;  old → new: enrolled.

Any letter that cannot belong to this conversation ends it: somebody else has the code. Implements specs/device-link.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, NoReturn, TypeVar

from cocoon_core.errors import DecryptionError, LinkingError, MalformedError, SignatureError, UsageError
from cocoon_core.protocol import encoding
from cocoon_core.protocol.constants import (
    LABEL_LINK_LETTER,
    LABEL_LINK_TRANSCRIPT,
    LABEL_LINK_WORDS,
    LINK_WORDS,
    MAX_LINK_GROUPS,
    VERSION,
)
from cocoon_core.protocol.ids import TopicId
from cocoon_core.protocol.link_letters import (
    CommitLetter,
    EndLetter,
    Enrolled,
    Enrolment,
    GroupOffer,
    Letter,
    Opening,
    OpenLetter,
    Reason,
    SealedLetter,
    Side,
    decode_enrolled,
    decode_enrolments,
    decode_letter,
    decode_offers,
    encode_enrolled,
    encode_enrolments,
    encode_letter,
    encode_offers,
)
from cocoon_core.protocol.primitives import HpkeKey, Secret, SigningKey, constant_time_equal, hash_bytes, verify, wrap
from cocoon_core.protocol.words import to_words

_REASONS: Final = {
    Reason.STOPPED: "the other device stopped; begin again with a new code",
    Reason.WORDS_DIFFER: "the words differed: somebody may have the code; nothing was shared, and the code is used up",
    Reason.CODE_USED: "this code was answered twice: somebody else may have it; begin again with a new code",
    Reason.REFUSED: "the other device could not accept what this one sent; begin again with a new code",
}


_Item = TypeVar("_Item", Enrolment, Enrolled)


class LinkKeys:
    """A side's fresh keys for one linking, and the random bytes that it commits to with them."""

    __slots__ = ("hpke", "nonce", "signing")

    def __init__(self, signing_seed: Secret, hpke_seed: Secret, nonce: Secret) -> None:
        self.signing = SigningKey(signing_seed)
        self.hpke = HpkeKey(hpke_seed)
        self.nonce = nonce

    @property
    def opening(self) -> Opening:
        return Opening(self.signing.public, self.hpke.public, self.nonce.reveal())

    def __reduce__(self) -> str:
        raise TypeError("a secret is never pickled")


# --- effects


@dataclass(frozen=True, slots=True)
class PutLetter:
    """Put this value, sealed, into the mailbox."""

    value: bytes


@dataclass(frozen=True, slots=True)
class CompareWords:
    """Show these words, and ask whether the other device shows the same."""

    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Offered:
    """On the new device: make keys for each group, store them, and answer."""

    offers: tuple[GroupOffer, ...]


@dataclass(frozen=True, slots=True)
class Answered:
    """On the old device: write the operations, and tell which."""

    enrolments: tuple[Enrolment, ...]


@dataclass(frozen=True, slots=True)
class Done:
    """On the new device: it is enrolled in these groups."""

    enrolled: tuple[Enrolled, ...]


LinkEffect = PutLetter | CompareWords | Offered | Answered | Done


class _Phase(Enum):
    WAITING = auto()  # old: for the new device's commitment
    COMMITTED = auto()  # new: for the commitment; old: for the opening
    OPENED = auto()  # new: for the opening
    COMPARING = auto()
    CONFIRMED = auto()  # new: for the offer; old: for the answer
    ANSWERING = auto()  # the own answer is due
    ANSWERED = auto()  # new: for the end
    DONE = auto()
    ENDED = auto()


class LinkSession:
    """One side of one linking.

    Args:
        mailbox: the topic that the code yields; part of the transcript.
    """

    def __init__(self, side: Side, mailbox: TopicId, keys: LinkKeys) -> None:
        self.side, self._mailbox, self._keys = side, mailbox, keys
        self._phase = _Phase.WAITING
        self._own: dict[tuple[int, int], bytes] = {}  # letters by step and place
        self._theirs: dict[tuple[int, int], Letter] = {}
        self._transcript = b""
        self.was_ended_by_other = False
        self._offered: frozenset[bytes] = frozenset()

    @property
    def is_done(self) -> bool:
        return self._phase is _Phase.DONE

    @property
    def heard(self) -> int:
        """How many letters of the other side were taken."""
        return len(self._theirs)

    # --- what the façade asks for

    def start(self) -> list[LinkEffect]:
        """Begin. The new device commits at once, before anybody has the code; the old one once it read that."""
        if self.side is Side.NEW:
            self._phase = _Phase.COMMITTED
            return [self._put((0, 0), CommitLetter(self.side, self._keys.opening.commitment(self.side)))]
        return []

    def words_confirmed(self, *, same: bool) -> list[LinkEffect]:
        """The person compared the words.

        Raises:
            LinkingError: they differ. `end_letter` tells the other side.
            UsageError: there are none to compare.
        """
        if self._phase is not _Phase.COMPARING:
            raise UsageError("there are no words to compare now")
        if not same:
            self._end(Reason.WORDS_DIFFER)
        self._phase = _Phase.CONFIRMED
        return self._advance()

    def offer(self, offers: Sequence[GroupOffer]) -> list[LinkEffect]:
        """On the old device, once the words were confirmed: offer groups, at most MAX_LINK_GROUPS."""
        if self.side is not Side.OLD or self._phase is not _Phase.CONFIRMED or self._offered:
            raise UsageError("groups are offered once, after the words were confirmed")
        if not 0 < len(offers) <= MAX_LINK_GROUPS:
            raise UsageError(f"one linking takes 1 to {MAX_LINK_GROUPS} groups; name some, and link again for the rest")
        self._offered = frozenset(offer.group for offer in offers)
        return [self._put_sealed(0, encode_offers(offers)), *self._advance()]

    def answer(self, enrolments: Sequence[Enrolment]) -> list[LinkEffect]:
        """On the new device, once its keys for the offered groups are stored: ask to be enrolled with them."""
        self._require_due(Side.NEW)
        self._phase = _Phase.ANSWERED
        return [self._put_sealed(0, encode_enrolments(enrolments)), *self._advance()]

    def enrolled(self, enrolled: Sequence[Enrolled]) -> list[LinkEffect]:
        """On the old device, once the operations are written: say in which groups."""
        self._require_due(Side.OLD)
        self._phase = _Phase.DONE
        return [self._put_sealed(1, encode_enrolled(enrolled))]

    def end_letter(self, reason: Reason) -> bytes:
        """The letter that tells the other side that this one ended. It proves nothing."""
        self._phase = _Phase.ENDED
        return encode_letter(EndLetter(self.side, reason))

    # --- what the mailbox shows

    def letter_received(self, value: bytes) -> list[LinkEffect]:
        """Take a letter; its order and repetitions do no harm.

        Raises:
            LinkingError: the linking is over. `reason` of it says why, for `end_letter`.
            UpdateNeededError: the other device has a newer Cocoon.
        """
        if self._phase in (_Phase.DONE, _Phase.ENDED):
            return []
        try:
            letter = decode_letter(value)
        except MalformedError:
            self._end(Reason.REFUSED, "a letter that is not one came with this code; begin again with a new code")
        if isinstance(letter, EndLetter):
            if letter.side is self.side:
                return []  # left by whoever shares the code; the other side judges by its own
            self.was_ended_by_other = True
            self._end(letter.reason)
        place = _place_of(letter)
        if letter.side is self.side:
            if self._own.get(place) != value:
                self._end(Reason.CODE_USED)
            return []
        if self._theirs.setdefault(place, letter) != letter:
            self._end(Reason.CODE_USED)
        return self._advance()

    # --- inside

    def _advance(self) -> list[LinkEffect]:
        """Take what came, as far as it goes."""
        effects: list[LinkEffect] = []
        while (step := self._step()) is not None:
            effects += step
        return effects

    def _step(self) -> list[LinkEffect] | None:
        match self._phase:
            case _Phase.WAITING if (0, 0) in self._theirs:
                self._phase = _Phase.COMMITTED
                return [self._put((0, 0), CommitLetter(self.side, self._keys.opening.commitment(self.side)))]
            case _Phase.COMMITTED if self.side is Side.NEW and (0, 0) in self._theirs:
                self._phase = _Phase.OPENED
                return [self._put((1, 0), OpenLetter(self.side, self._keys.opening))]
            case _Phase.COMMITTED if self.side is Side.OLD and (1, 0) in self._theirs:
                self._check_opening()
                opened = self._put((1, 0), OpenLetter(self.side, self._keys.opening))
                return [opened, self._compare()]
            case _Phase.OPENED if (1, 0) in self._theirs:
                self._check_opening()
                return [self._compare()]
            case _Phase.CONFIRMED if (2, 0) in self._theirs and (self.side is Side.NEW or self._offered):
                self._phase = _Phase.ANSWERING
                return [self._read_first()]
            case _Phase.ANSWERED if (2, 1) in self._theirs:
                self._phase = _Phase.DONE
                return [Done(self._only_offered(decode_enrolled, self._open(1)))]
        return None

    def _check_opening(self) -> None:
        """The other side's opening is the one that it committed to, with keys that can be used."""
        opening = self._their_opening()
        committed = self._theirs[0, 0]
        assert isinstance(committed, CommitLetter), "places are by kind"
        if not constant_time_equal(opening.commitment(self.side.other), committed.commitment):
            self._end(Reason.REFUSED, "the other device's keys are not those that it committed to; the code is used up")
        try:
            opening.require_good()
        except MalformedError:
            self._end(Reason.REFUSED, "the other device's keys cannot be used; the code is used up")

    def _compare(self) -> CompareWords:
        own, theirs = self._keys.opening, self._their_opening()
        new, old = (own, theirs) if self.side is Side.NEW else (theirs, own)
        self._transcript = make_transcript(self._mailbox, new, old)
        self._phase = _Phase.COMPARING
        return CompareWords(words_of(self._transcript))

    def _their_opening(self) -> Opening:
        letter = self._theirs[1, 0]
        assert isinstance(letter, OpenLetter), "places are by kind"
        return letter.opening

    def _read_first(self) -> LinkEffect:
        value = self._open(0)
        try:
            if self.side is Side.NEW:
                offers = decode_offers(value)
                self._offered = frozenset(offer.group for offer in offers)
                return Offered(offers)
        except MalformedError as error:
            self._end(Reason.REFUSED, f"what the other device offers cannot be accepted: {error}")
        return Answered(self._only_offered(decode_enrolments, value))

    def _only_offered(self, decode: Callable[[bytes], tuple[_Item, ...]], value: bytes) -> tuple[_Item, ...]:
        try:
            items = decode(value)
        except MalformedError as error:
            self._end(Reason.REFUSED, f"what the other device wrote cannot be accepted: {error}")
        if not {item.group for item in items} <= self._offered:
            self._end(Reason.REFUSED, "the other device names a group that was not offered")
        return items

    def _require_due(self, side: Side) -> None:
        if self.side is not side or self._phase is not _Phase.ANSWERING:
            raise UsageError("that is not due now")

    def _put(self, place: tuple[int, int], letter: Letter) -> PutLetter:
        value = self._own[place] = encode_letter(letter)
        return PutLetter(value)

    def _put_sealed(self, place: int, content: bytes) -> PutLetter:
        info = _letter_info(self._transcript, self.side, place)
        wrapped = wrap(self._their_opening().hpke, content, info)
        signature = self._keys.signing.sign(LABEL_LINK_LETTER, info + wrapped)
        return self._put((2, place), SealedLetter(self.side, place, wrapped, signature))

    def _open(self, place: int) -> bytes:
        """Open the other side's sealed letter; only whom the words vouch for could have made it."""
        letter = self._theirs[2, place]
        assert isinstance(letter, SealedLetter), "places are by kind"
        info = _letter_info(self._transcript, letter.side, place)
        try:
            verify(self._their_opening().signing, LABEL_LINK_LETTER, info + letter.wrapped, letter.signature)
            return self._keys.hpke.open(letter.wrapped, info)
        except (SignatureError, DecryptionError):
            self._end(Reason.CODE_USED)

    def _end(self, reason: Reason, sentence: str | None = None) -> NoReturn:
        self._phase = _Phase.ENDED
        raise LinkEnded(reason, sentence or _REASONS[reason])


class LinkEnded(LinkingError):
    """The linking is over, and its code is used up."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def make_transcript(mailbox: TopicId, new: Opening, old: Opening) -> bytes:
    """32 bytes over all that both sides said before the words: mailbox, commitments and openings."""
    value = [
        VERSION,
        mailbox,
        [new.commitment(Side.NEW), new.signing, new.hpke, new.nonce],
        [old.commitment(Side.OLD), old.signing, old.hpke, old.nonce],
    ]
    return hash_bytes(LABEL_LINK_TRANSCRIPT, encoding.encode(value))


def words_of(transcript: bytes) -> tuple[str, ...]:
    """The words that both screens show: LINK_WORDS of 11 bits each."""
    return to_words(hash_bytes(LABEL_LINK_WORDS, transcript), LINK_WORDS)


def _letter_info(transcript: bytes, side: Side, place: int) -> bytes:
    return LABEL_LINK_LETTER.encode() + b"\0" + transcript + bytes((side, place))


def _place_of(letter: Letter) -> tuple[int, int]:
    match letter:
        case CommitLetter():
            return 0, 0
        case OpenLetter():
            return 1, 0
        case SealedLetter(_, place, _, _):
            return 2, place
        case EndLetter():
            return 3, 0
