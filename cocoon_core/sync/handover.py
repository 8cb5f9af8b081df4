"""Ends the topics of earlier epochs at one relay, so that whoever still reads them finds the way on.

For every epoch that is held, not written to any more and not finished at this relay:

    blobs of the new epoch → manifest into the new topic → what stands above its frontier
    → rotations into the old topic, with `seal` and `expect`

At a relay that is being left, once another holds everything, the current topic is given the signpost alone, the change
of policy that names the others, and is sealed with it (specs/relays.md §3). From one on trial is only read.

Any device that followed does this, not the rotator alone: the bytes are the same, and a relay stores them once. A topic
that somebody sealed without a rotation leads on through its repair topic, that one's repair topic if it too was sealed,
and so on. Spec: specs/epoch.md.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Coroutine, Set
from enum import Enum, auto
from typing import Any, Final

from cocoon_core.errors import RelayMisbehaved
from cocoon_core.protocol.envelope import seal_envelope
from cocoon_core.protocol.epoch import Epoch, TopicKeys
from cocoon_core.protocol.frames import ErrorCode
from cocoon_core.protocol.ids import BlobHash, TopicId
from cocoon_core.sync.blobs import BlobStore, DialBlobs, Named, name_blob, put_lacking
from cocoon_core.sync.epochs import REPAIR_DEPTH
from cocoon_core.sync.manifest_blobs import fill_blobs
from cocoon_core.sync.outbox import Outbox
from cocoon_core.sync.refilling import restock
from cocoon_core.sync.relay_list import deciding_change, has_signpost, is_left, is_on_trial, may_leave
from cocoon_core.sync.replica import Replica
from cocoon_core.sync.session import Effect, Refused, Session, Tag

ROUNDS: Final = 5  # times that a relay may go back on what it said of one topic before it is given up for this pass
REPAIR_TOPICS: Final = 64  # repair topics that are read at once


class Fills(Enum):
    """Which epochs a guest is given the blobs of: none, those that begin there, or the current one in any case."""

    NONE = auto()
    NEW = auto()
    ALL = auto()


class Handover:
    """The ends of old topics and the beginning of the current one, at one relay."""

    def __init__(
        self, replica: Replica, url: str, session: Session, outbox: Outbox, *, fills: Fills = Fills.NONE
    ) -> None:
        self._replica, self._url, self._session, self._outbox = replica, url, session, outbox
        self._putting: set[tuple[TopicId, int]] = set()
        self._reopened: set[TopicId] = set()
        self._expected: dict[TopicId, int] = {}  # topic -> place up to which it must be read before it is put to again
        self._rounds: dict[TopicId, int] = {}
        self._stocked: set[TopicId] = set()  # epochs whose blobs were put here or looked for in this pass
        self._fills = fills
        self._filled: set[TopicId] = set()

    # --- what to read

    def repair_topics(self) -> list[TopicKeys]:
        """Repair topics to be read: of topics that somebody sealed without a rotation, and of epochs that ended lately,
        where who comes late tells of theirs and who was left out complains.
        """
        epochs, session = self._replica.epochs, self._session
        found: list[TopicKeys] = []
        for ended in epochs.watched():
            repair = epochs.repair_of(ended)
            found.append(repair)
            while len(found) < REPAIR_TOPICS and session.is_live(repair.topic) and session.is_sealed(repair.topic):
                repair = epochs.repair_of(repair)
                found.append(repair)
        for epoch in epochs.to_read(self._url):
            place: TopicKeys = epoch
            for _ in range(REPAIR_DEPTH):
                if not self._is_dead_end(place, epoch):
                    break
                place = epochs.repair_of(place)
                found.append(place)
        return list({keys.topic: keys for keys in found}.values())

    def _is_dead_end(self, place: TopicKeys, epoch: TopicKeys) -> bool:
        """Read to its end, sealed, and nothing in it leads on from the epoch."""
        session = self._session
        live = session.is_live(place.topic) and session.is_sealed(place.topic)
        return live and not self._replica.epochs.leads_on(self._url, place.topic, epoch.topic)

    # --- what to do

    @property
    def is_done(self) -> bool:
        """Nothing of it is left that can be done now. Old topics wait where the current one is empty here, and its
        manifest is still to come from another relay; or where others have left it, and cannot be followed.
        """
        epochs = self._replica.epochs
        if self._putting:
            return False
        if is_on_trial(self._replica, self._url):
            return True
        if self.is_parting:
            return self._signpost() is None and not any(epochs.handover_from(one.topic) for one in self._to_end())
        if self._is_closed():
            return True
        if not self._is_begun():
            return epochs.current.manifest is None
        if self._is_left():
            return True
        return not any(epochs.handover_from(epoch.topic) for epoch in self._to_end())

    def may_push(self) -> bool:
        """True where the current topic is begun and goes on here, and everybody who can read it is in the roster."""
        if is_on_trial(self._replica, self._url) or self._is_closed() or self.is_parting:
            return False
        return self._is_begun() and self._replica.epochs.may_seal() and not self._is_left()

    def may_write_letters(self) -> bool:
        """A relay that is being left is still told in mailboxes where the group went."""
        return self.may_push() or (self.is_parting and not is_on_trial(self._replica, self._url))

    @property
    def is_parting(self) -> bool:
        """Nothing goes to this relay any more but the signpost."""
        return may_leave(self._replica, self._url)

    def is_signposted(self, topic: TopicId) -> bool:
        """True where the topic was ended here by a change of policy, and by no rotation."""
        session, replica = self._session, self._replica
        if not session.is_live(topic) or not session.is_sealed(topic):
            return False
        return has_signpost(replica, self._url, topic) and not replica.epochs.table.shown_rotations(self._url, topic)

    def _is_closed(self) -> bool:
        """The policy does not name this relay, and the current topic takes nothing more here."""
        return self._session.is_sealed(self._replica.epoch.topic) and is_left(self._replica, self._url)

    def next_upload(self, blobs: BlobStore, dial: DialBlobs) -> Coroutine[Any, Any, object] | None:
        """Blobs of the current epoch that this relay has not taken yet, as work to be awaited; its topic is open."""
        replica = self._replica
        epochs, current = replica.epochs, replica.epochs.current
        topic = current.epoch.topic
        if topic not in self._filled and current.manifest is not None and self._is_to_fill():
            self._filled.add(topic)
            return fill_blobs(replica, blobs, current)
        if self._is_left() or is_on_trial(replica, self._url) or self._is_closed() or self.is_parting:
            return None
        if epochs.table.has_uploads(self._url, topic):
            return self._upload(blobs, current.epoch)
        if topic in self._stocked or current.manifest is None or not epochs.may_seal() or self._url in replica.guests:
            return None
        if self._is_begun() and not replica.relays.lacks_restock(self._url, topic):
            return None
        self._stocked.add(topic)
        return restock(replica, self._url, blobs, dial)

    def _is_to_fill(self) -> bool:
        return self._fills is Fills.ALL or (self._fills is Fills.NEW and not self._is_begun())

    async def _upload(self, blobs: BlobStore, epoch: Epoch) -> None:
        """Put what this relay lacks."""
        replica, table = self._replica, self._replica.epochs.table

        async def find(lacking: Set[BlobHash]) -> AsyncGenerator[Named, None]:
            for data in table.waiting_blobs(epoch.topic, lacking):
                yield name_blob(data), data

        await put_lacking(blobs, epoch, table.uploads(self._url, epoch.topic), find)
        await replica.edits_ended()
        if not replica.relays.lacks_restock(self._url, epoch.topic):
            self._stocked.add(epoch.topic)
        with replica.transaction():
            table.drop_uploads(self._url, epoch.topic)

    def advance(self) -> list[Effect]:
        """The next puts. To be called when all that is to be read here was read."""
        epochs, session = self._replica.epochs, self._session
        current = epochs.current
        if is_on_trial(self._replica, self._url):
            return []
        if self.is_parting:
            return self._part()
        if self._is_closed():
            return []
        if not self._is_begun():
            key = current.epoch.topic, Tag.MANIFEST
            if current.manifest is None or key in self._putting:
                return []
            self._putting.add(key)
            return session.put(*key, [seal_envelope(current.manifest, current.epoch)])
        effects: list[Effect] = []
        for epoch in self._to_end():
            effects += self._end(epoch)
        if epochs.may_seal():
            for epoch in epochs.watched():
                effects += self._answer_fork(epoch)
        return effects

    def _part(self) -> list[Effect]:
        """The signpost, and then the ends of the topics before it: whoever follows those finds it there."""
        effects: list[Effect] = []
        wire, topic, key = self._signpost(), self._replica.epoch.topic, (self._replica.epoch.topic, Tag.SIGNPOST)
        cursor = self._session.cursor(topic)
        if any(self.is_signposted(one) for one in self._replica.epochs.held) or self._session.is_sealed(topic):
            with self._replica.transaction():
                self._replica.relays.set_signposted(self._url)
        elif wire is not None and cursor is not None and self._session.is_live(topic) and key not in self._putting:
            if cursor.after < self._expected.get(topic, 0):
                return []
            self._putting.add(key)
            envelope = seal_envelope(wire, self._replica.epoch)
            effects += self._session.put(*key, [envelope], seal=True, expect=cursor.after)
        for epoch in self._to_end():
            effects += self._end(epoch)
        return effects

    def _signpost(self) -> bytes | None:
        """The run that names the group's relays, if this one is still to be given it.

        Not before a manifest holds it: until then it may stand in the topic itself, and what stands there already
        cannot be made its last envelope.
        """
        replica, state = self._replica, self._replica.relays.find(self._url)
        change = deciding_change(replica)
        if state is None or state.signposted or change is None or not replica.epochs.may_seal():
            return None
        return replica.log.operation_wire(change.id) if replica.epochs.has_final(change.id) else None

    def _answer_fork(self, epoch: Epoch) -> list[Effect]:
        """Where somebody told of a rotation of an ended epoch that is not followed here, tell of ours.

        They may not know what decides between the two.
        """
        epochs, session = self._replica.epochs, self._session
        place: TopicKeys = epochs.repair_of(epoch)
        shown = epochs.table.shown_rotations(self._url, epoch.topic)
        while session.is_live(place.topic):
            shown |= epochs.table.shown_rotations(self._url, place.topic)
            if not session.is_sealed(place.topic):
                break
            place = epochs.repair_of(place)
        key = place.topic, Tag.HANDOVER
        if not session.is_live(place.topic) or key in self._putting:
            return []
        if shown <= epochs.held_path() or epochs.leads_on(self._url, place.topic, epoch.topic):
            return []
        wires = epochs.handover_from(epoch.topic)
        if not wires or self._rounds.get(place.topic, 0) >= ROUNDS:
            return []
        self._putting.add(key)
        self._rounds[place.topic] = self._rounds.get(place.topic, 0) + 1
        return session.put(*key, [seal_envelope(value, place) for value in epochs.carry_all(wires)])

    def _is_begun(self) -> bool:
        """The current topic holds something here; the group's first needs no manifest."""
        current = self._replica.epochs.current
        cursor = self._session.cursor(current.epoch.topic)
        return current.rotation is None or (cursor is not None and cursor.after > 0)

    def _is_left(self) -> bool:
        """The current topic is sealed here, with a rotation that this device does not follow: it rotates if it may, and
        else it waits. Where nothing is with the seal, the relay is asked to explain itself, by a put.
        """
        topic = self._replica.epochs.current.epoch.topic
        return self._session.is_sealed(topic) and bool(self._replica.epochs.table.shown_rotations(self._url, topic))

    def _to_end(self) -> list[Epoch]:
        epochs = self._replica.epochs
        return epochs.ended(self._url) if epochs.may_seal() else []

    def _end(self, epoch: Epoch) -> list[Effect]:
        epochs, session = self._replica.epochs, self._session
        place: TopicKeys = epoch
        while self._is_dead_end(place, epoch):
            place = epochs.repair_of(place)
        topic = place.topic
        cursor = session.cursor(topic)
        if not session.is_live(topic) or cursor is None or cursor.after < self._expected.get(topic, 0):
            return []
        if epochs.leads_on(self._url, topic, epoch.topic):
            if session.is_sealed(topic) or place is not epoch:
                return self._finish(epoch, for_now=not epochs.is_before_current(epoch.topic))
            if topic not in self._reopened:
                self._reopened.add(topic)
                return self._reopen(place)
        key = topic, Tag.HANDOVER
        wires = epochs.handover_from(epoch.topic)
        is_there = self.is_parting or self._outbox.is_done_in(epochs.current.epoch.topic)
        if key in self._putting or not wires or not is_there:
            return []  # what stands above the manifest must be in the new topic before the old one is ended
        self._putting.add(key)
        seals = place is epoch and epochs.is_before_current(epoch.topic)
        envelopes = [seal_envelope(value, place) for value in epochs.carry_all(wires)]
        return session.put(*key, envelopes, seal=seals, expect=cursor.after if seals else None)

    def _finish(self, epoch: TopicKeys, *, for_now: bool = False) -> list[Effect]:
        with self._replica.transaction():
            self._replica.epochs.table.finish(self._url, epoch.topic, for_now=for_now)
        return self._session.close_topic(epoch.topic)

    def _reopen(self, place: TopicKeys) -> list[Effect]:
        """Ask again whether a topic is sealed."""
        cursor = self._session.cursor(place.topic)
        return [*self._session.close_topic(place.topic), *self._session.open_topic(place, cursor)]

    # --- what the relay answers

    def awaits(self, topic: TopicId, tag: int) -> bool:
        return (topic, tag) in self._putting

    def acked(self, topic: TopicId, tag: int) -> list[Effect]:
        """Which proves nothing: read on, and see whether it is there."""
        self._putting.discard((topic, tag))
        keys = self._replica.epochs.keys(topic)
        if tag == Tag.MANIFEST or keys is None:
            return []
        if tag == Tag.SIGNPOST:
            self._count_round(topic)
            return self._reopen(keys)
        if topic in self._replica.epochs.held and not self._replica.epochs.is_before_current(topic):
            return self._finish(keys, for_now=True)  # a fork that was not chosen: told, and not sealed
        if topic not in self._replica.epochs.held:
            return []  # of a repair topic; it shows what it holds
        self._count_round(topic)
        return self._reopen(keys)

    def refused(self, refused: Refused) -> list[Effect]:
        """The topic has gone on (`expect`) or is sealed: read what came and decide again."""
        self.set_aside(refused)
        keys = self._replica.epochs.keys(refused.topic)
        if keys is None:
            return []
        cursor = self._session.cursor(refused.topic)
        if refused.code is ErrorCode.EXPECT and refused.last is not None and cursor is not None:
            if refused.last <= cursor.after:
                self._count_round(refused.topic)
            self._expected[refused.topic] = refused.last
            return []
        self._count_round(refused.topic)
        return self._reopen(keys)

    def set_aside(self, refused: Refused) -> None:
        """The put was not taken; it is made again."""
        if refused.tag is not None:
            self._putting.discard((refused.topic, refused.tag))

    def _count_round(self, topic: TopicId) -> None:
        self._rounds[topic] = self._rounds.get(topic, 0) + 1
        if self._rounds[topic] > ROUNDS:
            raise RelayMisbehaved(f"the relay {self._url} goes back on what it says of a topic")
