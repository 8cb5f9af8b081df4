"""Linking a further device of a member, in all chosen groups at once. A part of `Cocoon`.

The new device shows a code and waits; the old one takes it. Both show words, and only once both people have seen that
they are the same do the groups' secrets move. Nothing is written in a group before the new device has stored its keys
for it; what is stored stays hidden until the old device has enrolled it. Spec: specs/device-link.md.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from cocoon_core.cocoon_part import CocoonPart
from cocoon_core.errors import CocoonError, LinkingError, MalformedError, RelayError, UsageError
from cocoon_core.group import Group
from cocoon_core.joining import new_keys, sync_any
from cocoon_core.protocol.constants import MAX_LINK_GROUPS
from cocoon_core.protocol.device_code import DeviceCode, read_code, write_code
from cocoon_core.protocol.device_link import (
    Answered,
    CompareWords,
    Done,
    LinkEffect,
    LinkKeys,
    LinkSession,
    Offered,
)
from cocoon_core.protocol.epoch import Epoch
from cocoon_core.protocol.frames import normalize_origin
from cocoon_core.protocol.ids import GroupId
from cocoon_core.protocol.invite import require_relays
from cocoon_core.protocol.link_letters import Enrolled, Enrolment, GroupOffer, Side
from cocoon_core.protocol.operations_devices import AddDevice
from cocoon_core.protocol.primitives import Secret
from cocoon_core.storage.device_links import DeviceLinkTable
from cocoon_core.storage.epochs import EpochTable
from cocoon_core.storage.groups import ACTIVE, JOINING, GroupRecord
from cocoon_core.sync.link_conversation import PATIENCE_SECONDS, LinkConversation
from cocoon_core.sync.relay_list import relays_to_tell

Confirm = Callable[[tuple[str, ...]], Awaitable[bool]]
PENDING_MS = 24 * 3_600_000  # that a group waits to be enrolled in before it is forgotten


@dataclass(slots=True)
class AcceptReport:
    """What became of the groups that were offered to a new device.

    Attributes:
        added: groups in which it was enrolled.
        left_out: groups that it did not want, since it is in them already.
        failed: groups in which it could not be enrolled, and why.
        told: False where the new device could not be told; it finds out when it looks again.
    """

    added: list[Group] = field(default_factory=list)
    left_out: list[Group] = field(default_factory=list)
    failed: dict[GroupId, str] = field(default_factory=dict)
    told: bool = True


class DeviceLinking(CocoonPart):
    """The part of a profile that is about linking devices."""

    async def link_device(
        self,
        relays: Sequence[str] = (),
        *,
        show_code: Callable[[str], None],
        confirm: Confirm,
        patience: float = PATIENCE_SECONDS,
    ) -> list[Group]:
        """On the new device: show a code, and come into the groups that the old device chooses, with their history.

        Args:
            relays: where the two meet; the relays of this profile's groups if none is given.
            show_code: called once, when the relay holds the first letter. Whoever sees the code can answer it.
            confirm: shows the words and says whether the old device shows the same.
            patience: seconds that the other side may be silent.

        Raises:
            LinkingError: it did not come about; the code is used up, and nothing can be seen of it here.
            RelayUnavailable: none of the relays can be reached.
            UsageError: no relay is known.
        """
        code = DeviceCode(Secret(secrets.token_bytes(32)), self._meeting_relays(relays))
        joining = _NewSide(self, LinkSession(Side.NEW, code.mailbox().topic, _link_keys()), confirm)
        conversation = LinkConversation(code, joining.session, self._dial, joining.perform)
        await conversation.begin()
        show_code(write_code(code))
        try:
            await conversation.run(patience)
        except (LinkingError, RelayError) as error:
            if joining.asked:
                raise LinkingError(
                    f"{error}. The old device may have enrolled this one: link again on this device, and it looks first"
                ) from error
            raise
        return await self._sync_new([self._group(self._record(number)) for number in joining.numbers])

    async def accept_device(
        self, code: str, *, confirm: Confirm, groups: Sequence[Group] = (), patience: float = PATIENCE_SECONDS
    ) -> AcceptReport:
        """On the old device: enrol the device that shows this code in the given groups, else in all.

        Args:
            confirm: shows the words and says whether the new device shows the same.

        Raises:
            InvalidLinkError: the code is not whole.
            LinkingError: it did not come about, and the code is used up.
            RelayUnavailable: none of the code's relays can be reached.
            UsageError: this device is in no group, or not a member of a given one.
        """
        parsed = read_code(code)
        offering = self._choose(groups)
        session = LinkSession(Side.OLD, parsed.mailbox().topic, _link_keys())
        side = _OldSide(session, offering, confirm)
        conversation = LinkConversation(parsed, session, self._dial, side.perform)
        if not await conversation.is_waited_at():
            raise LinkingError("no device waits at this code; it may have ended, so show a new code there")
        with self._profile.database.transaction():
            is_new = DeviceLinkTable(self._profile.database).note_answered(parsed.mailbox().topic, self._clock())
        if not is_new:
            raise LinkingError("this code was answered before; begin again with a new code")
        try:
            await conversation.run(patience)
        except (LinkingError, RelayError):
            if not side.report.added:
                raise
            side.report.told = False
        return side.report

    async def finish_linking(self) -> list[Group]:
        """On the new device: look whether a linking that was cut off came about after all. Gives the groups it brought.

        Those that wait for longer than a day are forgotten.
        """
        found: list[Group] = []
        table = DeviceLinkTable(self._profile.database)
        records = {record.number: record for record in self._table.all()}
        for number, since_ms in table.pending().items():
            record = records[number]
            replica = self._replica(record)
            with suppress(RelayError):
                await sync_any(replica, self._dial, None)
            if replica.members.has_begun and replica.keys.id in replica.members.roster.devices:
                self._activate(record)
                found.append(self._group(self._record(number)))
            elif self._clock() - since_ms > PENDING_MS:
                self._forget(record)
        return await self._sync_new(found)

    # --- inside

    def _meeting_relays(self, relays: Sequence[str]) -> tuple[str, ...]:
        known = list(relays) or list(dict.fromkeys(url for group in self._active_groups() for url in group.relays))[:3]
        if not known:
            raise UsageError("say at which relay the two devices meet: one that the old device can reach too")
        try:
            return require_relays([normalize_origin(url) for url in known])
        except MalformedError as error:
            raise UsageError(str(error)) from error

    def _active_groups(self) -> list[Group]:
        return [self._group(record) for record in self._table.all() if record.state == ACTIVE]

    def _choose(self, groups: Sequence[Group]) -> list[Group]:
        chosen = list(groups) or [group for group in self._active_groups() if group.me is not None]
        if not chosen:
            raise UsageError("this device is in no group that a new one could come into")
        if len(chosen) > MAX_LINK_GROUPS:
            raise UsageError(f"one linking takes {MAX_LINK_GROUPS} groups; name some, and link again for the rest")
        for group in chosen:
            if group.me is None:
                raise UsageError(f"this device is not a member of {group.name}")
            group.replica.require_writable()
        return chosen

    async def _sync_new(self, groups: list[Group]) -> list[Group]:
        for group in groups:
            with suppress(RelayError):  # enrolled it is: the next sync brings the history
                await group.sync()
        return groups

    def store_offers(self, offers: Sequence[GroupOffer]) -> tuple[list[int], list[Enrolment]]:
        """Make keys for each offered group that this profile is not in, and keep them, hidden. All or nothing."""
        records = {record.group: record for record in self._table.all()}
        table = DeviceLinkTable(self._profile.database)
        numbers: list[int] = []
        enrolments: list[Enrolment] = []
        with self._profile.database.transaction():
            for offer in offers:
                known = records.get(offer.group)
                if known is not None and known.state != JOINING:
                    continue
                if known is not None:
                    self._forget(known)  # of a linking or a join that was never finished
                keys = new_keys()
                number = self._insert(offer.create, keys, offer.epoch, JOINING, offer.member_name, offer.relays, None)
                table.add_pending(number, self._clock())
                numbers.append(number)
                proof = AddDevice.make(keys.signing, offer.group, offer.author, keys.hpke_public)
                enrolments.append(Enrolment(offer.group, proof))
        return numbers, enrolments

    def take_enrolled(self, enrolled: Sequence[Enrolled], numbers: Sequence[int]) -> list[int]:
        """Show the groups in which this device was enrolled; forget the others that were stored for this linking."""
        epochs = {one.group: one.epoch for one in enrolled}
        kept: list[int] = []
        for record in self._table.all():
            if record.number not in numbers:
                continue
            if record.group in epochs:
                self._activate(record, epochs[record.group])
                kept.append(record.number)
            else:
                self._forget(record)
        return kept

    def _activate(self, record: GroupRecord, epoch: Epoch | None = None) -> None:
        self._groups.pop(record.number, None)
        with self._profile.database.transaction():
            if epoch is not None:
                EpochTable(self._profile.database, record.number).add(epoch, self._clock())
            self._table.set_state(record.number, ACTIVE)
            DeviceLinkTable(self._profile.database).end_pending(record.number)


class _NewSide:
    """What the new device does as the conversation goes on."""

    def __init__(self, profile: DeviceLinking, session: LinkSession, confirm: Confirm) -> None:
        self._profile, self.session, self._confirm = profile, session, confirm
        self.numbers: list[int] = []
        self.asked = False

    async def perform(self, effect: LinkEffect) -> list[LinkEffect]:
        match effect:
            case CompareWords(words):
                return self.session.words_confirmed(same=await self._confirm(words))
            case Offered(offers):
                self.numbers, enrolments = self._profile.store_offers(offers)
                self.asked = bool(enrolments)
                return self.session.answer(enrolments)
            case Done(enrolled):
                self.numbers = self._profile.take_enrolled(enrolled, self.numbers)
        return []


class _OldSide:
    """What the old device does as the conversation goes on."""

    def __init__(self, session: LinkSession, groups: Sequence[Group], confirm: Confirm) -> None:
        self._session, self._confirm = session, confirm
        self._groups = {group.id: group for group in groups}
        self.report = AcceptReport()

    async def perform(self, effect: LinkEffect) -> list[LinkEffect]:
        match effect:
            case CompareWords(words):
                confirmed = self._session.words_confirmed(same=await self._confirm(words))
                return [*confirmed, *self._session.offer([_offer(group) for group in self._groups.values()])]
            case Answered(enrolments):
                return self._session.enrolled(await self._enrol(enrolments))
        return []

    async def _enrol(self, enrolments: Sequence[Enrolment]) -> list[Enrolled]:
        wanted = {enrolment.group: enrolment.operation for enrolment in enrolments}
        for identifier, group in self._groups.items():
            operation = wanted.get(identifier)
            if operation is None:
                self.report.left_out.append(group)
                continue
            try:
                operation.verify_proof(identifier, group.replica.keys.id)
                group.replica.write_operation(operation)
            except CocoonError as error:
                self.report.failed[identifier] = str(error)
                continue
            self.report.added.append(group)
        for group in self.report.added:
            with suppress(RelayError):  # it is written: the next sync sends it
                await group.sync()
        return [Enrolled(group.id, group.replica.epoch) for group in self.report.added]


def _offer(group: Group) -> GroupOffer:
    replica = group.replica
    member = replica.members.roster.member_of(replica.keys.id)
    return GroupOffer(replica.record.create, replica.epoch, relays_to_tell(replica), member.name, replica.keys.id)


def _link_keys() -> LinkKeys:
    return LinkKeys(*(Secret(secrets.token_bytes(32)) for _ in range(3)))
