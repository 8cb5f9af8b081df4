"""Recovery for a whole profile: the phrase on paper, and asking one's guardians. A part of `Cocoon`.

What a group's members do for each other is in circle.py. Formats and order: specs/recovery.md.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cocoon_core.cocoon_part import CocoonPart
from cocoon_core.errors import (
    CocoonError,
    MalformedError,
    NotPermittedError,
    NotYetError,
    RelayError,
    UpdateNeededError,
    UsageError,
)
from cocoon_core.group import Group
from cocoon_core.joining import new_keys, require_own_epoch, sync_any
from cocoon_core.protocol.circle import read_help_code, write_circle_code
from cocoon_core.protocol.constants import MAX_INDEX_TAGS, PHRASE_BYTES
from cocoon_core.protocol.frames import normalize_origin
from cocoon_core.protocol.ids import GroupId
from cocoon_core.protocol.invite import Welcome, require_relays
from cocoon_core.protocol.primitives import Secret
from cocoon_core.protocol.recovery import PhraseKeys, RecoveryKeys, read_phrase, write_phrase
from cocoon_core.protocol.recovery_index import Indexes, IndexRecord
from cocoon_core.storage.groups import ACTIVE, JOINING
from cocoon_core.storage.recovery import LostRequest, RecoveryTable, SealedSeed
from cocoon_core.sync.circle import ask, circle_code, words_of
from cocoon_core.sync.driver import Progress
from cocoon_core.sync.recovering import (
    fetch_indexes,
    is_covered,
    make_writer,
    open_seeds,
    queue_indexes,
    recovery_of,
    write_recover,
    write_recovery,
)

Seeds = Sequence[tuple[bytes, RecoveryKeys]]  # each as it stands in the index, and the keys that it yields

HINT_PAUSE_MS: Final = 86_400_000  # between two times that the phrase is recommended
NO_INDEX: Final = (
    "no index of this phrase is there; give the --relay that your groups use. If it is the right one, the words are "
    "those of another phrase, no group was synced since it was made, or the relay has let the index expire"
)


@dataclass(frozen=True, slots=True)
class NewPhrase:
    """A phrase that was just made: shown once and kept nowhere. `covered` and `left_out` are names of groups."""

    phrase: str
    covered: tuple[str, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RecoveredGroup:
    """A group that the phrase named. `group` is None where it could not be entered, for the reason in `error`."""

    id: GroupId
    name: str
    group: Group | None
    error: CocoonError | None = None


@dataclass(frozen=True, slots=True)
class LostRequestInfo:
    """An own request to the guardians: the code that they are given, the words that they are told, and since when."""

    group: GroupId
    code: str
    words: str
    since: datetime


class ProfileRecovery(CocoonPart):
    """The part of a profile that is about coming back."""

    # --- the phrase

    async def new_recovery_phrase(self) -> NewPhrase:
        """Make a phrase that brings back every group of this profile, those of later days too.

        It is returned once and kept nowhere. It works once each group has synced. A phrase made before stops working.

        Raises:
            LocalStateError: it could not be stored; nothing was changed.
        """
        secret = Secret(secrets.token_bytes(PHRASE_BYTES), PHRASE_BYTES)
        table, database = RecoveryTable(self._profile.database), self._profile.database
        writer = make_writer(PhraseKeys(secret))
        with database.transaction():
            table.set_writer(writer)
        covered: list[str] = []
        left_out: list[str] = []
        for group in self._all_groups():
            try:
                if group.me is None:
                    raise UsageError("this device is not a member of the group")
                write_recovery(group.replica)
                covered.append(group.name)
            except CocoonError:
                left_out.append(group.name)
        return NewPhrase(write_phrase(secret), tuple(covered), tuple(left_out))

    @property
    def has_recovery_phrase(self) -> bool:
        """Whether this profile covers its groups with a phrase. It cannot show it."""
        return RecoveryTable(self._profile.database).writer() is not None

    def uncovered_groups(self) -> list[Group]:
        """The groups that would be lost with this device: its member has no other, no phrase and no guardians."""
        return [group for group in self._all_groups() if _hangs_on_this_device(group)]

    def take_recovery_hint(self) -> str | None:
        """A sentence for the member, if some group would be lost with this device; once a day at most."""
        groups = self.uncovered_groups()
        if not groups or not RecoveryTable(self._profile.database).hint_is_due("phrase", self._clock(), HINT_PAUSE_MS):
            return None
        names = ", ".join(f"“{group.name}”" for group in groups[:3]) + (" and others" if len(groups) > 3 else "")
        return (
            f"This device is your only way into {names}: if it is lost, so is that. `cocoon recovery new` gives you a "
            "phrase to write down on paper."
        )

    async def use_recovery_phrase(
        self,
        phrase: str,
        relays: Sequence[str],
        *,
        tokens: Mapping[str, str] | None = None,
        progress: Progress | None = None,
    ) -> list[RecoveredGroup]:
        """Come back into every group that the phrase covers, as a new device of one's own, with the history.

        What could not be done because a relay could not be reached is done when this is called again. The devices that
        there were stay; those that are lost should be removed.

        Args:
            relays: where the index of the phrase is looked for: relays that the groups used.
            tokens: access tokens by relay, for relays that ask for one.

        Raises:
            InvalidPhraseError: a word or the order of the words is wrong.
            UsageError: an address is none.
            RelayUnavailable: no relay could be reached.
            NotYetError: no relay has an index of this phrase.
        """
        keys = PhraseKeys(read_phrase(phrase))
        try:
            urls = require_relays([normalize_origin(url) for url in relays])
            self._keep_tokens((tokens or {}).items())
        except MalformedError as error:
            raise UsageError(str(error)) from error
        indexes = await fetch_indexes(self._dial, urls, keys)
        if not indexes.current:
            raise NotYetError(NO_INDEX)
        merged = indexes.records()
        seeds = {group: open_seeds(indexes, keys, group) for group in merged}
        done = [await self._recover(group, merged[group], seeds[group], progress) for group in merged]
        missing = {found.id for found in done if isinstance(found.error, RelayError)}
        named = {record.group for index in indexes.current for record in index.records}
        done = [one for one in done if one.id in named | missing or one.group is not None]  # the rest was left long ago
        self._take_over(
            keys, indexes, missing, {found.id: seeds[found.id] for found in done if found.group is not None}
        )
        for found in done:
            if found.group is not None:
                with suppress(RelayError):  # everything is durable: the next sync sends it
                    await found.group.sync(progress)
        return done

    def _take_over(
        self, keys: PhraseKeys, indexes: Indexes, missing: set[GroupId], seeds: Mapping[GroupId, Seeds]
    ) -> None:
        """Keep the index from now on, unless this profile has a phrase of its own: then that covers the groups too.

        Indexes that lead to a group which is not here yet go on counting.
        """
        table, database = RecoveryTable(self._profile.database), self._profile.database
        held = table.writer()
        if held is not None and held.secret != keys.index_secret:
            for record in filter(None, map(self._find, seeds)):
                with suppress(UsageError):
                    write_recovery(self._replica(record))
            return
        kept = {record.group: table.seeds(record.group) for record in self._table.all()}
        tags = {i.tag for i in indexes.current if missing.isdisjoint(record.group for record in i.records)}
        if held is not None:
            tags |= {held.tag, *held.superseded}
        with database.transaction():
            table.set_writer(make_writer(keys, sorted(tags)[:MAX_INDEX_TAGS]))
            for group, sealed, key in self._named_seeds(seeds):
                table.add_seed(group, SealedSeed(key.id, key.hpke.public, sealed))
            for group, stored in kept.items():
                for seed in reversed(stored):  # these know what this device signed with them
                    table.add_seed(group, seed)
            queue_indexes(database, self._clock())

    def _named_seeds(self, seeds: Mapping[GroupId, Seeds]) -> Iterator[tuple[GroupId, bytes, RecoveryKeys]]:
        """The seed of each group that its roster names: anybody who could write the index could add others."""
        for record in filter(None, map(self._find, seeds)):
            named = recovery_of(self._replica(record)).id
            yield from ((record.group, sealed, key) for sealed, key in seeds[record.group] if key.id == named)

    async def _recover(
        self, group: GroupId, records: Sequence[IndexRecord], seeds: Seeds, progress: Progress | None
    ) -> RecoveredGroup:
        """Try the records of one group, the newest first."""
        name = records[0].create.group_name
        error: CocoonError = NotPermittedError("the index holds no key of this phrase for the group")
        found = self._find(group)
        if found is not None and found.state != JOINING:
            here = self._group(found)
            if here.me is not None:
                return RecoveredGroup(group, name, here)
            return RecoveredGroup(
                group, name, None, UsageError("this device was put out of it; forget the group first")
            )
        for record in records:
            try:
                return RecoveredGroup(group, name, await self._enter(record, seeds, progress))
            except (NotPermittedError, NotYetError, RelayError, UpdateNeededError, UsageError) as failure:
                error = error if isinstance(error, RelayError) else failure
        return RecoveredGroup(group, name, None, error)

    async def _enter(self, record: IndexRecord, seeds: Seeds, progress: Progress | None) -> Group:
        """Catch up with a group under fresh device keys, and enrol them.

        Raises:
            NotPermittedError: this phrase leads into the group no more.
            NotYetError: the relays do not show the group.
            RelayUnavailable: none could be reached.
            UpdateNeededError: what that epoch holds is of a later version.
        """
        table = RecoveryTable(self._profile.database)
        begun = self._find(record.group)
        if begun is not None:  # and never finished: those keys have signed nothing
            self._forget(begun)
        stored = self._add(record.create, new_keys(), record.epoch, JOINING, "", record.relays, None)
        self._keep_tokens(record.tokens)
        with self._profile.database.transaction():
            table.set_recovering(stored.number, [key.seed for _, key in seeds])
        replica = self._replica(stored)
        try:
            await sync_any(replica, self._dial, progress)
            if not replica.members.has_begun:
                raise NotYetError("the relays of the group do not show it; they may have let it expire")
            require_own_epoch(replica)
            write_recover(replica)
        except (NotPermittedError, NotYetError, RelayError, UpdateNeededError, UsageError):
            self._forget(stored)
            raise
        return self._group(self._record(stored.number))

    # --- asking the guardians

    async def ask_guardians(self, help_code: str) -> LostRequestInfo:
        """Ask to come back into a group as the member whom a guardian named: the first step on a bare device.

        Called again with the same code, it gives the same request.

        Raises:
            InvalidLinkError: not a help code, or not all of it.
            UsageError: this profile is in that group already.
            RelayUnavailable: no relay could be reached; the request is kept, and put by the next call or sync.
        """
        code = read_help_code(help_code)
        if self._find(code.group) is not None:
            raise UsageError("this profile has that group already")
        self._keep_tokens(code.tokens)
        table = RecoveryTable(self._profile.database)
        lost = next((kept for kept in table.lost_requests() if kept.group == code.group), None)
        if lost is None or lost.member != code.member:
            mailbox = Secret(secrets.token_bytes(32))
            lost = LostRequest(code.group, code.member, code.relays, new_keys(), mailbox, self._clock())
            with self._profile.database.transaction():
                table.add_lost_request(lost)
        await ask(self._dial, lost)
        return _info(lost)

    def lost_requests(self) -> list[LostRequestInfo]:
        """Own requests that no guardian's device has granted yet, as far as this device knows."""
        return [_info(lost) for lost in RecoveryTable(self._profile.database).lost_requests()]

    async def finish_lost_requests(self, progress: Progress | None = None) -> list[Group]:
        """Enter the groups whose guardians have admitted this device. What cannot be reached waits on."""
        entered = []
        for lost in RecoveryTable(self._profile.database).lost_requests():
            with suppress(RelayError):
                for welcome in await ask(self._dial, lost):
                    group = await self._enter_by_welcome(lost, welcome, progress)
                    if group is not None:
                        entered.append(group)
                        break
        return entered

    async def _enter_by_welcome(self, lost: LostRequest, welcome: Welcome, progress: Progress | None) -> Group | None:
        """The group that a welcome leads to; None if it does not lead to one in which this device was enrolled."""
        assert welcome.epoch is not None, "those without one are not among them"
        stored = self._find(lost.group)
        if stored is None:
            stored = self._add(welcome.create, lost.keys, welcome.epoch, JOINING, "", lost.relays, None)
        replica = self._replica(stored)
        try:
            await sync_any(replica, self._dial, progress)
            device = replica.members.roster.devices.get(lost.keys.id) if replica.members.has_begun else None
            if device is None or device.member != lost.member:
                raise NotYetError("this device is not enrolled there yet")
            require_own_epoch(replica)
        except NotYetError:
            self._forget(stored)
            return None
        with replica.transaction():
            replica.groups.set_state(stored.number, ACTIVE)
            RecoveryTable(self._profile.database).forget_lost_request(lost.group)
        return self._group(self._record(stored.number))

    # --- inside

    def _keep_tokens(self, tokens: Iterable[tuple[str, str]]) -> None:
        with self._profile.database.transaction():
            for url, token in tokens:
                self._tokens.set(normalize_origin(url), token)

    def _all_groups(self) -> list[Group]:
        """Every group that can be opened and was entered."""
        groups = []
        for record in self._table.all():
            if record.state != JOINING:
                with suppress(CocoonError):  # one that is damaged takes no other with it
                    groups.append(self._group(record))
        return groups


def _hangs_on_this_device(group: Group) -> bool:
    me = group.me
    if me is None or is_covered(group.replica) or recovery_of(group.replica).guardians:
        return False
    return len(group.replica.members.roster.members[me].devices) == 1


def _info(lost: LostRequest) -> LostRequestInfo:
    code = circle_code(lost)
    since = datetime.fromtimestamp(lost.asked_ms / 1000, UTC)
    return LostRequestInfo(lost.group, write_circle_code(code), words_of(code.request), since)
