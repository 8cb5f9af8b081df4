"""Performs a session's effects for one group at one relay: stores before it sends, and asks for more only when stored.

One pass (`sync_once`) pulls until level, then pushes until everything is acknowledged and shown again. It pulls
first, so a device that is an old copy of itself finds out before it signs anything. `watch` stays connected and backs
off when it cannot.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cocoon_core.errors import CocoonError, RelayError, RelayMisbehaved, RelayRefused, RelayUnavailable
from cocoon_core.protocol.cursor import Cursor
from cocoon_core.protocol.envelope import seal_envelope
from cocoon_core.protocol.epoch import TopicKeys
from cocoon_core.protocol.frames import ErrorCode, normalize_origin
from cocoon_core.protocol.ids import TopicId
from cocoon_core.protocol.invite import mailbox_keys
from cocoon_core.protocol.run import count_entries
from cocoon_core.storage.groups import Letter
from cocoon_core.storage.log import StoredRun
from cocoon_core.sync.maintenance import close_ended_invites
from cocoon_core.sync.receiving import receive
from cocoon_core.sync.replica import Replica
from cocoon_core.sync.session import (
    Acked,
    BecameLive,
    Broken,
    CastArrived,
    Deliver,
    Effect,
    Ready,
    Refused,
    Send,
    Session,
    TopicOpened,
    split_puts,
)
from cocoon_core.sync.transport import Connection, Dial, send_in_time

SILENCE_SECONDS = 60.0  # a pass in which the relay owes an answer and says nothing of use ends after this
FRUITLESS_SECONDS = 600.0  # a pass in which nothing new comes and nothing is acknowledged ends after this
RETRY_LEAST, RETRY_MOST, RETRY_MOST_WATCHING = 0.5, 60.0, 3600.0  # seconds that a relay can ask a client to wait
LETTERS = 4  # mailboxes that are open at once
TEMPORARY = (  # refusals of a welcome that may be none later
    ErrorCode.RATE,
    ErrorCode.BUSY,
    ErrorCode.FULL,
    ErrorCode.TOO_MANY_TOPICS,
    ErrorCode.NOT_OPEN,
    ErrorCode.SHUTTING_DOWN,
)
WINDOW = 256  # runs that are on their way to the relay at once
RESEND_ROUNDS = 3  # times that a relay may lose what it acknowledged before it is given up for this pass
BACKOFF_FIRST, BACKOFF_MOST = 0.5, 60.0  # seconds

Progress = Callable[[int, int], None]


@dataclass(slots=True)
class Pass:
    """What one pass did: entries that the relay acknowledged, entries that came, and what was refused."""

    sent: int = 0
    received: int = 0
    refused: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Woken:
    """There may be something to push: a local edit, or the time to try again."""


@dataclass(slots=True)
class _Mail:
    """A welcome on its way into its mailbox: gone only when the relay has shown it there."""

    letter: Letter
    keys: TopicKeys
    envelope: bytes
    was_shown: bool = False
    was_acked: bool = False


class RelayDriver:
    """One group at one relay.

    Args:
        progress: called with (envelopes read, envelopes there) while catching up.
    """

    def __init__(self, replica: Replica, url: str, dial: Dial, progress: Progress | None = None) -> None:
        self._replica, self._url, self._dial, self._progress = replica, url, dial, progress
        self._wake = asyncio.Event()
        self._reset()

    def _reset(self) -> None:
        self.result = Pass()
        self._session = Session(normalize_origin(self._url))
        self._in_flight: dict[int, list[StoredRun]] = {}
        self._mails: dict[TopicId, _Mail] = {}
        self._left_letters: set[int] = set()  # that this relay does not take now
        self._next_tag = 1
        self._last_acked = 0
        self._acked_before: list[int] = []
        self._rounds = 0
        self._there = 0
        self._retry_at: float | None = None
        self._watching = False
        self._useful_at = self._fruitful_at = self._shown_at = 0.0

    # --- running

    async def sync_once(self) -> Pass:
        """Pull, push, and end when both sides are level.

        Raises:
            RelayUnavailable, RelayRefused, RelayMisbehaved: this relay could not be used to the end.
            LocalStateError: this device could not go on.
        """
        self._reset()
        connection = await self._dial(self._url)
        self._useful_at = self._fruitful_at = self._shown_at = self._now()
        try:
            while not self._is_level():
                await self._step(connection)
        finally:
            self._replica.level_relays.discard(self._url)
            await connection.close()
        return self.result

    async def watch(self, on_state: Callable[[RelayError | None], None] | None = None) -> None:
        """Stay level until cancelled, over every loss of the connection.

        Args:
            on_state: called with None when level, and with the error when the connection was lost.
        """
        delay = BACKOFF_FIRST
        while True:
            try:
                await self._watch_one_connection(on_state)
            except RelayError as error:
                if on_state is not None:
                    on_state(error)
                if self._there:
                    delay = BACKOFF_FIRST
            await asyncio.sleep(delay * random.uniform(0.5, 1.5))
            delay = min(delay * 2, BACKOFF_MOST)

    async def _watch_one_connection(self, on_state: Callable[[RelayError | None], None] | None) -> None:
        self._reset()
        connection = await self._dial(self._url)
        self._watching = True
        self._useful_at = self._fruitful_at = self._shown_at = self._now()
        level = False
        unlisten = self._replica.listen(lambda _: self._wake.set())
        try:
            while True:
                await self._step(connection, patient=level)
                if self._is_level() and not level:
                    level = True
                    if on_state is not None:
                        on_state(None)
        finally:
            unlisten()
            self._replica.level_relays.discard(self._url)
            await connection.close()

    async def _step(self, connection: Connection, *, patient: bool = False) -> None:
        """Wait for a message, a local edit or the time to try again, and do what follows from it.

        Args:
            patient: who only watches may hear nothing for ever; who asked, or is owed something, may not.
        """
        receiving = asyncio.ensure_future(self._next_message(connection))
        waking = asyncio.ensure_future(self._wake.wait())
        try:
            while not receiving.done():
                try:
                    timeout = self._patience(patient)
                except RelayUnavailable:
                    await asyncio.sleep(0)
                    if receiving.done():  # it had answered: this process was held up, not the relay
                        break
                    raise
                done, _ = await asyncio.wait({receiving, waking}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
                if receiving in done:
                    break
                if waking in done:
                    self._wake.clear()
                    waking = asyncio.ensure_future(self._wake.wait())
                elif self._retry_at is None or self._now() < self._retry_at:
                    continue  # its patience is at its end, and says so
                if self._retry_at is not None and self._now() >= self._retry_at:
                    self._retry_at = None
                    self._useful_at = self._now()  # it had asked for this silence
                await self._perform(connection, [_Woken()])
                if self._is_level() and not patient:
                    return
            raw = receiving.result()
        finally:
            receiving.cancel()
            waking.cancel()
        if raw is None:
            raise RelayUnavailable(f"the relay {self._url} closed the connection")
        await self._perform(connection, self._session.frame_received(raw))

    def _patience(self, patient: bool) -> float | None:
        """Seconds until something of use must have come; None where nothing is owed.

        Of use is what was asked for. Frames that bring nothing buy no time, else one relay could hold a pass for ever.

        Raises:
            RelayUnavailable: that time has passed.
        """
        now = self._now()
        lacks_own = self._lacks_what_was_acked()
        if not lacks_own:
            self._shown_at = now
        if patient and not self._session.unanswered and not lacks_own:
            self._useful_at = self._fruitful_at = now
            return None if self._retry_at is None else max(0.0, self._retry_at - now)
        ends = min(self._fruitful_at + FRUITLESS_SECONDS, self._shown_at + SILENCE_SECONDS)
        if self._retry_at is None:
            ends = min(ends, self._useful_at + SILENCE_SECONDS)
        if now >= ends:
            raise RelayUnavailable(f"the relay {self._url} does not answer")
        return max(0.0, min(ends, self._retry_at or ends) - now)

    def _lacks_what_was_acked(self) -> bool:
        """The relay acknowledged own entries at a place that it has not come to yet."""
        cursor = self._session.cursor(self._replica.epoch.topic)
        return cursor is not None and cursor.after < self._last_acked

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    async def _next_message(self, connection: Connection) -> bytes | None:
        return await connection.receive()

    def _is_level(self) -> bool:
        """Everything was read, everything is acknowledged, and what was acknowledged was shown."""
        topic = self._replica.epoch.topic
        cursor = self._session.cursor(topic)
        return (
            self._session.is_live(topic)
            and cursor is not None
            and cursor.after >= self._last_acked
            and not self._in_flight
            and not self._mails
            and self._session.unanswered == 0
            and self._retry_at is None
            and not self._has_more()
        )

    def _has_more(self) -> bool:
        return self._replica.log.unsent_count(self._url) > 0 or bool(self._waiting_letters())

    def _waiting_letters(self) -> list[Letter]:
        letters = self._replica.groups.letters(self._replica.record.number, self._url)
        return [letter for letter in letters if letter.number not in self._left_letters]

    # --- effects

    async def _perform(self, connection: Connection, effects: Sequence[Effect | _Woken]) -> None:
        """Perform effects in their order, and those that follow from them. What is done here counts for no silence."""
        queue = list(reversed(effects))
        while queue:
            effect = queue.pop()
            if isinstance(effect, Send):
                await send_in_time(connection, effect.raw, SILENCE_SECONDS)
            elif not isinstance(effect, CastArrived):
                started = self._now()
                await self._replica.edits_ended()
                queue.extend(reversed(self._push() if isinstance(effect, _Woken) else self._react(effect)))
                self._allow(self._now() - started)

    def _allow(self, seconds: float) -> None:
        self._useful_at += seconds
        self._fruitful_at += seconds
        self._shown_at += seconds

    def _react(self, effect: Effect) -> list[Effect]:
        match effect:
            case Ready():
                return self._open_epoch()
            case TopicOpened():
                return self._opened(effect)
            case Deliver():
                return self._deliver(effect)
            case BecameLive(topic, _):
                return self._became_live(topic)
            case Acked(topic, tag, seqs):
                return self._acked(topic, tag, seqs)
            case Refused():
                return self._refused(effect)
            case Broken(error):
                if isinstance(error, RelayMisbehaved):
                    self._alarm("relay", str(error))
                raise error
            case CastArrived():
                return []
            case Send():
                return [effect]

    def _open_epoch(self) -> list[Effect]:
        replica, epoch = self._replica, self._replica.epoch
        cursor = replica.groups.cursor(replica.record.number, self._url, epoch.topic)
        self._acked_before = replica.log.acked(self._url)
        with replica.transaction():
            missed = replica.log.take_missed(self._url, epoch.topic)
            if cursor is not None and missed is not None and missed <= cursor.after:
                cursor = Cursor(cursor.incarnation, missed - 1)
                replica.groups.set_cursor(replica.record.number, self._url, epoch.topic, cursor)
        return self._session.open_topic(epoch, cursor)

    def _opened(self, opened: TopicOpened) -> list[Effect]:
        self._useful_at = self._now()
        if opened.topic == self._replica.epoch.topic:
            self._there = opened.last
            if opened.lost:
                with self._replica.transaction():
                    self._replica.log.enqueue_all(self._url)
                self._alarm(
                    "relay-lost", f"the relay {self._url} no longer has what it had shown; it is given everything again"
                )
        return []

    def _deliver(self, delivery: Deliver) -> list[Effect]:
        self._useful_at = self._now()
        mail = self._mails.get(delivery.topic)
        if mail is not None:
            mail.was_shown = mail.was_shown or mail.envelope in delivery.envelopes
        if delivery.topic not in self._replica.epochs:
            return []
        queued = self._replica.log.outbox_size(self._url)
        received = receive(self._replica, self._url, delivery)
        if received.entries:
            self._fruitful_at = self._now()
        if self._replica.log.outbox_size(self._url) < queued:
            self._shown_at = self._now()
        self.result.received += received.entries
        for code, count in received.refused.items():
            self.result.refused[code] = self.result.refused.get(code, 0) + count
        if self._progress is not None:
            self._progress(delivery.cursor.after, max(self._there, delivery.cursor.after))
        if self._session.is_live(delivery.topic):
            return self._push()
        return []

    def _became_live(self, topic: TopicId) -> list[Effect]:
        mail = self._mails.get(topic)
        if mail is not None:
            return self._mailbox_read(topic, mail)
        if topic == self._replica.epoch.topic:
            with self._replica.transaction():
                lost = self._replica.log.requeue(self._url, self._acked_before)
            self._note_lost(lost)
            self._replica.level_relays.add(self._url)
        return self._push()

    def _acked(self, topic: TopicId, tag: int, seqs: tuple[int, ...]) -> list[Effect]:
        self._useful_at = self._now()
        mail = self._mails.get(topic)
        if mail is not None:
            mail.was_acked = True  # which proves nothing: read the mailbox again
            if mail.was_shown:
                return self._mailbox_read(topic, mail)
            return [*self._session.close_topic(topic), *self._session.open_topic(mail.keys, None)]
        self._fruitful_at = self._now()
        runs = self._in_flight.pop(tag, [])
        if len(runs) != len(seqs):
            raise RelayMisbehaved("the relay acknowledged another number of envelopes than were put")
        with self._replica.transaction():
            for run, seq in zip(runs, seqs, strict=True):
                self._replica.log.note_acked(self._url, run.number, seq)
        self.result.sent += sum(count_entries(run.wire) for run in runs)
        self._last_acked = max(self._last_acked, *seqs) if seqs else self._last_acked
        return self._push()

    def _refused(self, refused: Refused) -> list[Effect]:
        self._in_flight.pop(refused.tag or 0, None)
        mail = self._mails.pop(refused.topic, None)
        closing = [] if mail is None else self._session.close_topic(refused.topic)
        if refused.retry_after_ms is not None and refused.code in (ErrorCode.RATE, ErrorCode.BUSY):
            most = RETRY_MOST_WATCHING if self._watching else RETRY_MOST
            seconds = refused.retry_after_ms / 1000
            if seconds <= most:
                self._retry_at = self._now() + max(RETRY_LEAST, seconds)
                return closing
        if mail is not None:
            self._refuse_letter(mail.letter, refused)
            return [*closing, *self._push()]
        raise RelayRefused(f"the relay {self._url} refused: {refused.message} ({refused.code})")

    # --- pushing

    def _push(self) -> list[Effect]:
        """Put what this relay has not acknowledged, as far as the window allows. Only when level."""
        replica, topic = self._replica, self._replica.epoch.topic
        if not self._session.is_live(topic) or self._retry_at is not None:
            return []
        close_ended_invites(replica)
        replica.form_runs()
        self._requeue_what_was_lost(topic)
        if self._in_flight:
            return []
        runs = replica.log.unsent(self._url, WINDOW)
        if not runs:
            return self._push_letters()
        envelopes = [replica.seal(run) for run in runs]
        effects: list[Effect] = []
        session = self._session
        sizes = [len(envelope) for envelope in envelopes]
        for cut in split_puts(sizes, session.most_put_envelopes, session.most_put_bytes):
            tag, self._next_tag = self._next_tag, self._next_tag + 1
            self._in_flight[tag] = [runs[place] for place in cut]
            effects += self._session.put(topic, tag, [envelopes[place] for place in cut])
        return effects

    def _requeue_what_was_lost(self, topic: TopicId) -> None:
        """What was acknowledged at a place that has passed by without it was lost: say so and put it again."""
        cursor = self._session.cursor(topic)
        if cursor is None:
            return
        self._note_lost(self._replica.log.requeue_lost(self._url, cursor.after))

    def _note_lost(self, lost: int) -> None:
        if not lost:
            return
        self._rounds += 1
        self._alarm(
            "relay-lost", f"the relay {self._url} acknowledged entries and did not keep them; they are put again"
        )
        if self._rounds > RESEND_ROUNDS:
            with self._replica.transaction():  # or it did show them, damaged: then reading anew settles it
                self._replica.log.note_missed(self._url, self._replica.epoch.topic, 1)
            raise RelayMisbehaved(f"the relay {self._url} keeps losing what it acknowledges")

    def _push_letters(self) -> list[Effect]:
        """Put welcomes into their mailboxes, once the invites that they belong to are at the relay."""
        effects: list[Effect] = []
        for letter in self._waiting_letters():
            keys: TopicKeys = mailbox_keys(letter.mailbox_secret)
            if self._has_ended(letter):
                self._drop_letter(letter)
            elif keys.topic not in self._mails and len(self._mails) < LETTERS:
                self._mails[keys.topic] = _Mail(letter, keys, seal_envelope(letter.value, keys))
                effects += self._session.open_topic(keys, None)
        return effects

    def _mailbox_read(self, topic: TopicId, mail: _Mail) -> list[Effect]:
        """All that the mailbox holds was read: the welcome is there, or is put, or was lost after it was put."""
        if not mail.was_shown and not mail.was_acked:
            return self._session.put(topic, 0, [mail.envelope])
        del self._mails[topic]
        if mail.was_shown:
            self._drop_letter(mail.letter)
        else:
            self._left_letters.add(mail.letter.number)
            self._alarm("letter-lost", f"the relay {self._url} acknowledged an invite's welcome and did not keep it")
        return [*self._session.close_topic(topic), *self._push()]

    def _refuse_letter(self, letter: Letter, refused: Refused) -> None:
        """One invite that does not work at this relay stops nothing else."""
        self._alarm(
            "letter-refused",
            f"the relay {self._url} refused an invite's welcome, so its link may not work there: "
            f"{refused.message} ({refused.code})",
        )
        if refused.code in TEMPORARY:
            self._left_letters.add(letter.number)
        else:
            self._drop_letter(letter)

    def _drop_letter(self, letter: Letter) -> None:
        with self._replica.transaction():
            self._replica.groups.letter_sent(letter.number)

    def _has_ended(self, letter: Letter) -> bool:
        """Whether the invite was closed or used up: nobody can join by that welcome any more."""
        secret = letter.mailbox_secret.reveal()
        invites = self._replica.members.roster.invites.values()
        return any(not invite.is_open for invite in invites if invite.mailbox_secret.reveal() == secret)

    def _alarm(self, kind: str, message: str) -> None:
        with self._replica.transaction():
            self._replica.alarm(kind, self._url, message)


async def sync_relay(replica: Replica, url: str, dial: Dial, progress: Progress | None = None) -> Pass | CocoonError:
    """One pass at one relay; its failure is a value, so that other relays go on."""
    try:
        return await RelayDriver(replica, url, dial, progress).sync_once()
    except RelayError as error:
        return error
