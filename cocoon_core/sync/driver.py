"""Performs a session's effects for one group at one relay: stores before it sends, and asks for more only when stored.

One pass (`sync_once`) pulls until level, then pushes until everything is acknowledged and shown again. It pulls
first, so a device that is an old copy of itself finds out before it signs anything. `watch` stays connected and backs
off when it cannot.

    open every epoch that is not finished here → read (by name, where much is here already: reconciling.py)
    → follow rotations → rotate where that is due
    → end old topics (handover.py) → push what is queued (outbox.py) and welcomes (letters.py)
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from cocoon_core.errors import CocoonError, RelayError, RelayMisbehaved, RelayRefused, RelayUnavailable
from cocoon_core.protocol.constants import CAST_SECONDS, NAME_SALT_BYTES, SIGNPOST_DAYS
from cocoon_core.protocol.cursor import Cursor
from cocoon_core.protocol.epoch import TopicKeys
from cocoon_core.protocol.frames import ErrorCode, head_of_entries, normalize_origin
from cocoon_core.protocol.ids import TopicId
from cocoon_core.sync.blobs import BlobStore, DialBlobs
from cocoon_core.sync.casting import Casting
from cocoon_core.sync.events import GroupEvent
from cocoon_core.sync.following import Following
from cocoon_core.sync.handover import Fills, Handover
from cocoon_core.sync.http_connection import dial_for
from cocoon_core.sync.letters import Letters
from cocoon_core.sync.maintenance import tend
from cocoon_core.sync.outbox import Outbox
from cocoon_core.sync.receiving import receive
from cocoon_core.sync.reconciling import Reconciling
from cocoon_core.sync.refilling import refill
from cocoon_core.sync.relay_list import DAY_MS, is_left, is_on_trial, usable
from cocoon_core.sync.repairing import Repairing
from cocoon_core.sync.replica import Replica
from cocoon_core.sync.session import (
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
    join_deliveries,
)
from cocoon_core.sync.transport import Connection, Dial, send_in_time
from cocoon_core.sync.turns import since_when

SILENCE_SECONDS = 60.0  # a pass in which the relay owes an answer and says nothing of use ends after this
FRUITLESS_SECONDS = 600.0  # a pass in which nothing new comes and nothing is acknowledged ends after this
RETRY_LEAST, RETRY_MOST, RETRY_MOST_WATCHING = 0.5, 60.0, 3600.0  # seconds that a relay can ask a client to wait
BACKOFF_FIRST, BACKOFF_MOST = 0.5, 60.0  # seconds
LEISURE_SECONDS = 5.0  # until it is looked what is to be done, where nothing came but what others wrote
TEND_SECONDS = 60.0  # until it is looked in any case: some things are due by the clock

Progress = Callable[[int, int], None]


@dataclass(slots=True)
class Pass:
    """What one pass did: entries that the relay acknowledged, entries that came, and what was refused.

    Attributes:
        leads_to: relays to which the group went, if what ends the current topic here is true.
    """

    sent: int = 0
    received: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    leads_to: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Woken:
    """There may be something to do: a local edit, blobs that arrived, or the time to try again."""


class RelayDriver:
    """One group at one relay.

    Args:
        progress: called with (envelopes read, envelopes there) while catching up, and then with (documents read,
            documents there).
        reads_all: read all documents that are owed; else the newest months alone.
        reads_only: put nothing there, and prove nothing to it: it is a file.
        first: a topic that must be open before others may be: a host on the local network asks for one that it holds.
        fills: which epochs a guest is given the blobs of.
    """

    def __init__(
        self,
        replica: Replica,
        url: str,
        dial: Dial,
        dial_blobs: DialBlobs,
        progress: Progress | None = None,
        *,
        reads_all: bool = True,
        reads_only: bool = False,
        first: TopicId | None = None,
        fills: Fills = Fills.NONE,
    ) -> None:
        self._replica, self._url, self._dial, self._progress = replica, url, dial, progress
        self._reads_all, self._reads_only = reads_all, reads_only
        self._first, self._fills = first, fills
        self._dial_blobs = dial_blobs
        self._wake = asyncio.Event()
        self._reading: asyncio.Task[bytes | None] | None = None  # what comes next, where it is read ahead
        self._reset()

    def _reset(self) -> None:
        replica, url = self._replica, self._url
        self.result = Pass()
        origin = url if self._reads_only else normalize_origin(url)
        self._session = Session(origin, secrets.token_bytes(NAME_SALT_BYTES))
        self._reconciling = Reconciling(replica, self._session)
        self._letters = Letters(replica, url, self._session, self._alarm)
        self._outbox = Outbox(replica, url, self._session, self._alarm)
        self._handover = Handover(replica, url, self._session, self._outbox, fills=self._fills)
        self._blobs: BlobStore = self._dial_blobs(url)
        self._repairing = Repairing(replica, url, self._session)
        self._following = Following(
            replica, url, self._blobs, self._repairing, self._progress, reads_all=self._reads_all
        )
        self._task: asyncio.Task[object] | None = None
        self._there = 0
        self._refilled = False
        self._retry_at: float | None = None
        self._watching = self._is_reacting = False
        self._rests = False  # nothing is to be done here, as of when it was last looked
        self._looked_at = 0.0
        self._leisure: asyncio.TimerHandle | None = None
        self._casting = Casting(replica, url, self._session, self._now)
        self._useful_at = self._fruitful_at = self._shown_at = 0.0

    # --- running

    async def sync_once(self) -> Pass:
        """Pull, push, and end when both sides are level.

        Raises:
            RelayUnavailable, RelayRefused, RelayMisbehaved: this relay could not be used to the end.
            LocalStateError: this device could not go on.
        """
        self._reset()
        connection = await dial_for(self._session, self._dial, self._url)
        self._useful_at = self._fruitful_at = self._shown_at = self._now()
        unlisten = self._replica.listen(self._note_event)  # another relay may bring what is to be done here
        try:
            while not self._is_level():
                await self._step(connection)
            self.result.leads_to = self._leads_to()
        finally:
            unlisten()
            await self._end(connection)
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
        connection = await dial_for(self._session, self._dial, self._url)
        self._watching = True
        self._useful_at = self._fruitful_at = self._shown_at = self._now()
        level = False
        unlisten = self._replica.listen(self._note_event)
        ticking = asyncio.create_task(self._tick())
        try:
            while True:
                await self._step(connection, patient=level)
                if not level and self._is_level():
                    level = True
                    self._replica.presence.connections.add(self._url)
                    if on_state is not None:
                        on_state(None)
        finally:
            unlisten()
            ticking.cancel()
            await self._end(connection)

    async def _tick(self) -> None:
        """Some casts are due some time after what they tell of, and some work by the clock."""
        while True:
            await asyncio.sleep(CAST_SECONDS)
            self._replica.presence.tell()
            if self._casting.is_due() or self._now() - self._looked_at >= TEND_SECONDS:
                self._wake.set()

    def _note_event(self, event: GroupEvent) -> None:
        """What this driver did itself it goes on from by itself."""
        if not self._is_reacting:
            self._wake.set()

    async def _end(self, connection: Connection) -> None:
        self._replica.level_relays.discard(self._url)
        if self._watching:
            self._replica.presence.connections.discard(self._url)
        self._reconciling.end()
        self._end_leisure()
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
            self._reading = None
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError, CocoonError):
                await self._task
        await self._blobs.close()
        await connection.close()

    async def _step(self, connection: Connection, *, patient: bool = False) -> None:
        """Wait for a message, a local edit or the time to try again, and do what follows from it.

        Args:
            patient: who only watches may hear nothing for ever; who asked, or is owed something, may not.
        """
        receiving, self._reading = self._reading or self._read(connection), None
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
                    if timeout is None:
                        self._allow_from(self._now())  # nothing was owed until now
                    self._wake.clear()
                    waking = asyncio.ensure_future(self._wake.wait())
                elif self._retry_at is None or self._now() < self._retry_at:
                    continue  # its patience is at its end, and says so
                if self._retry_at is not None and self._now() >= self._retry_at:
                    self._retry_at = None
                    self._useful_at = self._now()  # it had asked for this silence
                await self._perform(connection, [_Woken()])
                if not patient and self._is_level():
                    return
            raw = receiving.result()
        finally:
            receiving.cancel()
            waking.cancel()
        if raw is None:
            raise RelayUnavailable(f"the relay {self._url} closed the connection")
        effects = self._session.frame_received(raw)
        if patient:
            effects = await self._join_what_is_here(connection, raw, effects)
        await self._perform(connection, effects)

    def _read(self, connection: Connection) -> asyncio.Task[bytes | None]:
        return asyncio.ensure_future(self._next_message(connection))

    async def _join_what_is_here(self, connection: Connection, raw: bytes, effects: list[Effect]) -> list[Effect]:
        """Entries of one topic that came together are stored together. Whatever else is here waits for the next step.

        Args:
            effects: of the message `raw`.
        """
        head = head_of_entries(raw)
        while head is not None:
            match effects:
                case [Deliver() as delivery] if delivery.has_room:
                    pass
                case _:
                    break
            self._reading = reading = self._read(connection)
            await asyncio.sleep(0)  # what is here already is read in this turn of the loop
            if not reading.done() or reading.exception() is not None:
                break
            following = reading.result()
            if following is None or not following.startswith(head):
                break
            self._reading = None
            effects = join_deliveries(delivery, self._session.frame_received(following))
        return effects

    def _patience(self, patient: bool) -> float | None:
        """Seconds until something of use must have come; None where nothing is owed.

        Of use is what was asked for. Frames that bring nothing buy no time, else one relay could hold a pass for ever.

        Raises:
            RelayUnavailable: that time has passed.
        """
        now = self._now()
        if patient and self._is_at_rest():
            self._allow_from(now)
            return None
        lacks_own = self._outbox.lacks_what_was_acked
        if not lacks_own:
            self._shown_at = now
        if self._task is not None:  # the blobs' own patience bounds that
            self._allow_from(now)
            return None
        if patient and not self._session.unanswered and not lacks_own and self._handover.is_done:
            self._useful_at = self._fruitful_at = now
            return None if self._retry_at is None else max(0.0, self._retry_at - now)
        ends = min(self._fruitful_at + FRUITLESS_SECONDS, self._shown_at + SILENCE_SECONDS)
        if self._retry_at is None:
            ends = min(ends, self._useful_at + SILENCE_SECONDS)
        if now >= ends:
            raise RelayUnavailable(f"the relay {self._url} does not answer")
        return max(0.0, min(ends, self._retry_at or ends) - now)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    async def _next_message(self, connection: Connection) -> bytes | None:
        return await connection.receive()

    def look_again(self) -> None:
        """Blobs that lacked at this guest may be there now."""
        self._following.look_again()
        self._wake.set()

    @property
    def is_level(self) -> bool:
        """Nothing is owed, by either side, as far as is known here."""
        return self._is_level()

    def _is_level(self) -> bool:
        """Everything was read, everything is acknowledged, and what was acknowledged was shown."""
        return (
            self._all_live()
            and self._task is None
            and self._following.is_done
            and (self._reads_only or self._has_put_all())
            and self._session.unanswered == 0
            and self._retry_at is None
        )

    def _has_put_all(self) -> bool:
        if not self._handover.is_done:
            return False
        if self._handover.may_push() and not self._outbox.is_done:
            return False
        return not self._handover.may_write_letters() or self._letters.is_done

    def _topics(self) -> list[TopicKeys]:
        """What is to be read here: every epoch that is not finished, and where one is a dead end, what repairs it."""
        return [*self._replica.epochs.to_read(self._url), *self._handover.repair_topics()]

    def _all_live(self) -> bool:
        """Every topic that is to be read was read to its end."""
        return all(self._session.is_live(epoch.topic) for epoch in self._topics())

    # --- effects

    async def _perform(self, connection: Connection, effects: Sequence[Effect | _Woken]) -> None:
        """Perform effects in their order, and those that follow from them. What is done here counts for no silence."""
        queue = list(reversed(effects))
        while queue:
            effect = queue.pop()
            if isinstance(effect, Send):
                await send_in_time(connection, effect.raw, SILENCE_SECONDS)
            else:
                started = self._now()
                await self._replica.edits_ended()
                self._is_reacting = True
                try:
                    queue.extend(reversed(self._advance() if isinstance(effect, _Woken) else self._react(effect)))
                finally:
                    self._is_reacting = False
                self._allow(self._now() - started)

    def _allow(self, seconds: float) -> None:
        self._useful_at += seconds
        self._fruitful_at += seconds
        self._shown_at += seconds

    def _allow_from(self, now: float) -> None:
        self._useful_at = self._fruitful_at = self._shown_at = now

    def _react(self, effect: Effect) -> list[Effect]:
        match effect:
            case Ready():
                return self._advance()
            case TopicOpened():
                return self._opened(effect)
            case NamesListed() | PlacesFetched():
                return self._read_by_name(effect)
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
            case CastArrived(topic, payload):
                if not self._watching:
                    return []
                if self._casting.heard(topic, payload) or not self._is_at_rest():
                    return self._advance()
                return [] if self._is_guest else self._casting.advance()
            case Send():
                return [effect]

    def _open(self, epoch: TopicKeys) -> list[Effect]:
        replica, topic = self._replica, epoch.topic
        cursor = replica.groups.cursor(replica.record.number, self._url, topic)
        with replica.transaction():
            missed = replica.log.take_missed(self._url, topic)
            if missed is not None and missed <= 1 and topic == replica.epoch.topic and not self._on_trial():
                replica.epochs.queue_all(self._url)
            if cursor is not None and missed is not None and missed <= cursor.after:
                cursor = Cursor(cursor.incarnation, missed - 1)
                replica.groups.set_cursor(replica.record.number, self._url, topic, cursor)
        return self._reconciling.open(epoch, cursor)

    def _opened(self, opened: TopicOpened) -> list[Effect]:
        self._useful_at = self._now()
        replica = self._replica
        if opened.topic == replica.epoch.topic:
            self._there = opened.last
        if opened.lost and opened.topic in replica.epochs.held and not self._on_trial():
            if not self._refilled:
                self._refilled = True
                with replica.transaction():
                    refill(replica, self._url)
            if opened.topic == replica.epoch.topic:
                self._alarm(
                    "relay-lost", f"the relay {self._url} no longer has what it had shown; it is given everything again"
                )
        keys = replica.epochs.keys(opened.topic)
        if not opened.still or keys is None:
            return []
        return [*self._reconciling.opened(opened, keys), *self._advance()]

    def _read_by_name(self, answer: NamesListed | PlacesFetched) -> list[Effect]:
        """A still topic said what it holds, or served what is lacking."""
        self._useful_at = self._now()
        if isinstance(answer, NamesListed):
            return self._reconciling.listed(answer)
        return self._reconciling.fetched(answer)

    def _on_trial(self) -> bool:
        return is_on_trial(self._replica, self._url)

    def _deliver(self, delivery: Deliver) -> list[Effect]:
        self._useful_at = self._now()
        replica = self._replica
        if self._letters.holds(delivery.topic):
            self._letters.delivered(delivery)
            return []
        if replica.epochs.keys(delivery.topic) is None:
            return []
        self._following.look_again()
        received = receive(replica, self._url, delivery)
        if received.entries:
            self._fruitful_at = self._now()
        if received.shown:
            self._shown_at = self._now()
        self.result.received += received.entries
        for code, count in received.refused.items():
            self.result.refused[code] = self.result.refused.get(code, 0) + count
        if self._progress is not None:
            self._progress(delivery.cursor.after, max(self._there, delivery.cursor.after))
        next_ones = self._reconciling.delivered(delivery, is_new=received.entries > 0)
        if not self._session.is_live(delivery.topic):
            return next_ones
        if received.is_plain and self._is_at_rest():
            self._look_at_leisure()
            return next_ones
        return [*next_ones, *self._advance()]

    def _is_at_rest(self) -> bool:
        """There was nothing to do when it was last looked, and since then nothing came but what others wrote."""
        return self._rests and not self._wake.is_set() and self._task is None and self._session.unanswered == 0

    def _look_at_leisure(self) -> None:
        """What others wrote gives nothing to do but what has time: to count how old the epoch is, to take it into the
        search. That is not asked after each of their posts.
        """
        if self._leisure is None:
            self._leisure = asyncio.get_running_loop().call_later(LEISURE_SECONDS, self._wake.set)

    def _end_leisure(self) -> None:
        if self._leisure is not None:
            self._leisure.cancel()
            self._leisure = None

    def _became_live(self, topic: TopicId) -> list[Effect]:
        if self._letters.holds(topic):
            return [*self._letters.became_live(topic), *self._advance()]
        self._reconciling.became_live(topic)
        if topic == self._replica.epoch.topic:
            self._outbox.begin(topic)
            self._outbox.became_live()
            if not self._is_guest:
                self._replica.level_relays.add(self._url)
        return self._advance()

    def _acked(self, topic: TopicId, tag: int, seqs: tuple[int, ...]) -> list[Effect]:
        self._useful_at = self._now()
        if self._letters.holds(topic):
            return [*self._letters.acked(topic), *self._advance()]
        self._fruitful_at = self._now()
        effects: list[Effect] = []
        if self._handover.awaits(topic, tag):
            effects = self._handover.acked(topic, tag)
        if tag > 0 or tag == Tag.OPERATIONS:
            self.result.sent += self._outbox.acked(tag, seqs)
        else:
            self.result.sent += len(seqs)
        return [*effects, *self._advance()]

    def _refused(self, refused: Refused) -> list[Effect]:
        self._outbox.refused(refused.tag or 0)
        is_mail = self._letters.holds(refused.topic)
        if refused.retry_after_ms is not None and refused.code in (ErrorCode.RATE, ErrorCode.BUSY):
            most = RETRY_MOST_WATCHING if self._watching else RETRY_MOST
            seconds = refused.retry_after_ms / 1000
            if seconds <= most:
                self._retry_at = self._now() + max(RETRY_LEAST, seconds)
                self._handover.set_aside(refused)
                self._reconciling.refused(refused)
                return self._letters.set_aside(refused.topic) if is_mail else []
        if is_mail:
            return [*self._letters.refused(refused), *self._advance()]
        if refused.code in (ErrorCode.SEALED, ErrorCode.EXPECT) and refused.tag is not None:
            return [*self._handover.refused(refused), *self._advance()]
        raise RelayRefused(f"the relay {self._url} refused: {refused.message} ({refused.code})")

    # --- what is to be done next

    def _advance(self) -> list[Effect]:
        """Whatever can be done now; nothing as long as something else must come first."""
        self._rests = False
        self._looked_at = self._now()
        self._end_leisure()
        effects = self._find_work()
        self._rests = self._rests and self._is_level()
        return effects

    def _find_work(self) -> list[Effect]:
        if self._retry_at is not None or self._is_working():
            return []
        if (naming := self._reconciling.next_work()) is not None:
            self._begin(naming)
            return []
        if self._first is not None and not self._session.is_live(self._first):
            keys = self._replica.epochs.keys(self._first)
            if keys is not None:
                return self._reconciling.advance() if self._session.is_open(self._first) else self._open(keys)
        topics = self._topics()
        closed = [epoch for epoch in topics if not self._session.is_open(epoch.topic)]
        if closed or not all(self._session.is_live(epoch.topic) for epoch in topics):
            opens = [effect for epoch in closed for effect in self._open(epoch)]
            return [*self._reconciling.advance(), *opens]
        replica = self._replica
        before = replica.epoch.topic
        if self._url in replica.epochs.to_reread:
            replica.epochs.to_reread.discard(self._url)
            return [*self._session.close_topic(before), *self._open(replica.epoch)]
        held = len(replica.epochs.held)
        work: Coroutine[Any, Any, object] | None = self._following.advance()
        is_settled = work is None and len(replica.epochs.held) == held and replica.epoch.topic == before
        if is_settled and self._reads_only:
            return []
        if is_settled:
            if not self._holds_back():
                counts = not self._is_guest and not is_left(replica, self._url)
                tend(replica, sealed=self._session.is_sealed(before) and counts)
            work = self._handover.next_upload(self._blobs, self._dial_blobs) if replica.epoch.topic == before else None
        if work is not None:
            self._begin(work)
            return []
        if len(replica.epochs.held) != held or replica.epoch.topic != before:
            return self._find_work()  # there is another topic now, which comes first
        if not replica.chains and self._reconciling.skipped:
            return self._reconciling.read_skipped()
        self._outbox.begin(replica.epoch.topic)
        repairs = self._repairing.advance(self._handover.repair_topics())
        effects = [*repairs, *self._handover.advance(), *self._push()]
        self._rests = self._watching and not effects
        if self._watching and self._outbox.is_done and not self._is_guest:
            effects += self._casting.advance()
        return effects

    @property
    def _is_guest(self) -> bool:
        """A relay for a while: nothing that lacks there is lacking (guests.py)."""
        return self._url in self._replica.guests

    def _push(self) -> list[Effect]:
        """Put what this relay has not acknowledged of what was written, then welcomes."""
        if not self._handover.may_push():
            return self._letters.push() if self._handover.may_write_letters() else []
        self._replica.form_runs()
        return self._outbox.push() or (self._letters.push() if self._outbox.is_done else [])

    def _holds_back(self) -> bool:
        """True where what is here may be behind what the group did elsewhere: nothing is rotated or closed then."""
        if self._on_trial():
            return True
        topic, replica = self._replica.epoch.topic, self._replica
        if not self._leads_to(tried=True):
            return is_left(replica, self._url) and self._session.is_sealed(topic)
        return replica.clock() - since_when(replica, f"signpost {topic}") < SIGNPOST_DAYS * DAY_MS

    def _leads_to(self, *, tried: bool = False) -> list[str]:
        """The relays that the end of the current topic names, where nothing that is known here says whether it is true.

        Args:
            tried: also those that were tried.
        """
        replica, current = self._replica, self._replica.epochs.current
        signpost = replica.relays.signpost(self._url, current.epoch.topic)
        if signpost is None or current.followed or not self._handover.is_signposted(current.epoch.topic):
            return []
        operation, urls = signpost
        if replica.members.knows((operation,)):
            return []
        known = [] if tried else [state.url for state in replica.relays.all()]
        return [url for url in usable(urls) if url not in known]

    def _begin(self, work: Coroutine[Any, Any, object]) -> None:
        """Have blobs fetched or put while the connection goes on; `_advance` follows when they are there."""
        self._task = asyncio.create_task(work)
        self._task.add_done_callback(lambda _: self._wake.set())

    def _is_working(self) -> bool:
        """True while blobs are on their way.

        Raises:
            RelayError: they did not come, or were not taken.
        """
        task = self._task
        if task is None or not task.done():
            return task is not None
        self._task = None
        task.result()
        return False

    def _alarm(self, kind: str, message: str) -> None:
        if self._is_guest:
            return  # whoever goes by; it ends the pass, and nobody need be told for good
        with self._replica.transaction():
            self._replica.alarm(kind, self._url, message)
