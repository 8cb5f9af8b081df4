"""What one relay does not have yet of the current epoch's topic: puts it, and believes it stored only when it is shown.

Spec: specs/relay.md §8 and specs/storage.md §4.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cocoon_core.errors import RelayMisbehaved
from cocoon_core.protocol.ids import EntryId, TopicId
from cocoon_core.protocol.run import count_entries
from cocoon_core.storage.log import StoredRun
from cocoon_core.sync.replica import Replica
from cocoon_core.sync.session import Effect, Session, Tag, split_puts
from cocoon_core.sync.withheld import note_not_shown

WINDOW = 256  # runs that are on their way to the relay at once
RESEND_ROUNDS = 3  # times that a relay may lose what it acknowledged before it is given up for this pass


class Outbox:
    """The runs that are queued for one relay, on their way into the topic that is written to.

    Args:
        alarm: tells the member, by kind and message.
    """

    def __init__(self, replica: Replica, url: str, session: Session, alarm: Callable[[str, str], None]) -> None:
        self._replica, self._url, self._session, self._alarm = replica, url, session, alarm
        self._topic: TopicId | None = None
        self._in_flight: dict[int, list[StoredRun]] = {}
        self._telling: list[EntryId] = []
        self._next_tag = 1
        self._last_acked = 0
        self._acked_before: list[int] = []
        self._rounds = 0
        self._looked_from: int | None = None  # the place from which it was read once more

    def begin(self, topic: TopicId) -> None:
        """Write into this topic from now on. What the relay acknowledged in another one is no matter here."""
        if topic != self._topic:
            self._topic, self._last_acked, self._looked_from = topic, 0, None
            self._in_flight.clear()
            self._telling.clear()
            self._acked_before = self._replica.log.acked(self._url)

    @property
    def is_done(self) -> bool:
        """All is acknowledged, and what was acknowledged was shown."""
        return not (self._in_flight or self._telling or self.lacks_what_was_acked or self.has_more)

    def is_done_in(self, topic: TopicId) -> bool:
        """All that is queued stands in that topic, and was shown there."""
        return topic == self._topic and self.is_done

    @property
    def has_more(self) -> bool:
        replica = self._replica
        return replica.log.unsent_count(self._url) > 0 or bool(replica.epochs.table.untold(self._url, 1))

    @property
    def lacks_what_was_acked(self) -> bool:
        """The relay acknowledged own entries at a place that it has not come to yet."""
        cursor = self._session.cursor(self._topic) if self._topic is not None else None
        return cursor is not None and cursor.after < self._last_acked

    def became_live(self) -> None:
        """The relay showed all that it has: what it had acknowledged and did not show, it has lost."""
        with self._replica.transaction():
            lost = self._replica.log.requeue(self._url, self._acked_before)
        self._note_lost(lost)

    def push(self) -> list[Effect]:
        """Put what this relay has not acknowledged, as far as the window allows."""
        replica, session, topic = self._replica, self._session, self._topic
        if topic is None:
            return []
        self._requeue_what_was_lost(topic)
        effects = self._tell_operations(topic)
        if self._in_flight:
            return effects
        runs = replica.log.unsent(self._url, WINDOW)
        envelopes = [replica.seal(run.wire, run.last_id) for run in runs]
        sizes = [len(envelope) for envelope in envelopes]
        for cut in split_puts(sizes, session.most_put_envelopes, session.most_put_bytes):
            tag, self._next_tag = self._next_tag, self._next_tag + 1
            self._in_flight[tag] = [runs[place] for place in cut]
            effects += session.put(topic, tag, [envelopes[place] for place in cut])
        return effects

    def _tell_operations(self, topic: TopicId) -> list[Effect]:
        """Put operations that came from another topic and are in no chain here: own entries may name them as known."""
        if self._telling:
            return []
        untold = self._replica.epochs.table.untold(self._url, WINDOW)
        envelopes = [self._replica.seal(wire, operation) for operation, wire in untold]
        session = self._session
        cuts = split_puts([len(one) for one in envelopes], session.most_put_envelopes, session.most_put_bytes)
        cut = next(iter(cuts), ())
        self._telling = [untold[place][0] for place in cut]
        return session.put(topic, Tag.OPERATIONS, [envelopes[place] for place in cut]) if self._telling else []

    def acked(self, tag: int, seqs: Sequence[int]) -> int:
        """Take note of where the relay says that it stored a put; the number of entries in it."""
        if tag == Tag.OPERATIONS:
            told, self._telling = self._telling, []
            with self._replica.transaction():
                self._replica.epochs.table.told(told, self._url)
            return len(told)
        runs = self._in_flight.pop(tag, [])
        if len(runs) != len(seqs):
            raise RelayMisbehaved("the relay acknowledged another number of envelopes than were put")
        with self._replica.transaction():
            for run, seq in zip(runs, seqs, strict=True):
                self._replica.log.note_acked(self._url, run.number, seq)
            self._look_again(runs, seqs)
        self._last_acked = max(self._last_acked, *seqs) if seqs else self._last_acked
        return sum(count_entries(run.wire) for run in runs)

    def _look_again(self, runs: Sequence[StoredRun], seqs: Sequence[int]) -> None:
        """The relay says that it has runs at places that were read before they were queued: have them read once more.

        Inside a transaction. A later answer may name an earlier place; then all is read, and that is enough.
        """
        cursor = self._session.cursor(self._topic) if self._topic is not None else None
        if cursor is None or self._topic is None:
            return
        unshown = set(self._replica.log.acked(self._url))
        passed = [seq for run, seq in zip(runs, seqs, strict=True) if run.number in unshown and seq <= cursor.after]
        if passed and (self._looked_from is None or min(passed) < self._looked_from):
            self._looked_from = min(passed) if self._looked_from is None else 1
            self._replica.log.note_missed(self._url, self._topic, self._looked_from)
            self._replica.epochs.to_reread.add(self._url)

    def refused(self, tag: int) -> None:
        if tag == Tag.OPERATIONS:
            self._telling.clear()
        self._in_flight.pop(tag, None)

    def _requeue_what_was_lost(self, topic: TopicId) -> None:
        """What was acknowledged at a place that has passed by without it was lost: say so and put it again."""
        cursor = self._session.cursor(topic)
        if cursor is not None:
            self._note_lost(self._replica.log.requeue_lost(self._url, cursor.after))

    def _set_others_aside(self) -> bool:
        """Where nothing but others' entries is not shown, go on without: the next beacon has them put again.

        Returns:
            False where own ones are among it.
        """
        replica = self._replica
        runs = replica.log.unsent(self._url, WINDOW)
        if not runs or any(run.device == replica.keys.id for run in runs):
            return False
        with replica.transaction():
            replica.log.note_shown(self._url, [run.last_id for run in runs])
            note_not_shown(replica, self._url, {run.device for run in runs})
        return True

    def _note_lost(self, lost: int) -> None:
        if not lost:
            return
        self._rounds += 1
        self._alarm(
            "relay-lost", f"the relay {self._url} acknowledged entries and did not keep them; they are put again"
        )
        if self._rounds > RESEND_ROUNDS and self._set_others_aside():
            self._rounds = 0
        elif self._rounds > RESEND_ROUNDS and self._topic is not None:
            with self._replica.transaction():  # or it did show them, damaged: then reading anew settles it
                self._replica.log.note_missed(self._url, self._topic, 1)
            raise RelayMisbehaved(f"the relay {self._url} keeps losing what it acknowledges")
