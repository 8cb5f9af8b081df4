"""Recovery by phrase, as a device does it: covering groups, keeping the index at the relays, and coming back.

    covered:  group → fresh recovery keys → set_recovery, and their seed sealed to the phrase → index → letters → relays
    back:     phrase → index → group under fresh device keys → synced → recover

The phrase is never here but while somebody types it. Spec: specs/recovery.md §3 to §6.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from cocoon_core.errors import NotPermittedError, RelayError, RelayUnavailable, UntrustedInputError, UsageError
from cocoon_core.protocol import encoding
from cocoon_core.protocol.constants import INDEX_TAG_BYTES, LABEL_INDEX, MAX_INDEX_KEYS, MAX_RELAYS
from cocoon_core.protocol.frames import normalize_origin
from cocoon_core.protocol.ids import GroupId, MemberId, RecipientId
from cocoon_core.protocol.operations_admission import Recover, SetRecovery, sign_recovery
from cocoon_core.protocol.primitives import HpkeKey, Secret, hash_bytes, keyed_hash
from cocoon_core.protocol.recovery import (
    PhraseKeys,
    RecoveryKeys,
    index_mailbox,
    index_mailbox_secret,
    open_seed,
    seal_seed,
)
from cocoon_core.protocol.recovery_index import Index, Indexes, IndexRecord, read_indexes, seal_index
from cocoon_core.protocol.roster_values import Recovery
from cocoon_core.storage.database import Database
from cocoon_core.storage.epochs import EpochTable
from cocoon_core.storage.groups import ACTIVE, JOINING, GroupTable
from cocoon_core.storage.joins import TokenTable
from cocoon_core.storage.recovery import IndexWriter, RecoveryTable, SealedSeed, StoredIndex
from cocoon_core.storage.relays import RelayTable
from cocoon_core.sync.mailbox import read_mailbox
from cocoon_core.sync.replica import Replica
from cocoon_core.sync.transport import Dial

DAY_MS: Final = 86_400_000
EPOCH_PUT_MS: Final = 7 * DAY_MS  # a new epoch alone waits so long, and up to as long again
RENEW_MS: Final = 30 * DAY_MS  # an index that says what it said is looked for at its relay after this

NO_RECOVERY: Final = Recovery(None, None, (), 0)


def make_writer(keys: PhraseKeys, superseded: Sequence[bytes] = ()) -> IndexWriter:
    """What a device keeps of a phrase: enough to write the index, not to read it."""
    tag = secrets.token_bytes(INDEX_TAG_BYTES)
    return IndexWriter(keys.opening.public, keys.index_secret, tag, tuple(superseded))


# --- covering a group


def recovery_of(replica: Replica) -> Recovery:
    """How the own member comes back, as the roster counts it now."""
    me = replica.members.member_of(replica.keys.id)
    return NO_RECOVERY if me is None else replica.members.roster.recoveries.get(me, NO_RECOVERY)


def is_covered(replica: Replica) -> bool:
    """Whether the roster names a phrase for the own member, of this profile or of another device's."""
    return recovery_of(replica).id is not None


def cover_group(replica: Replica) -> bool:
    """Have this profile's phrase bring the own member back into a group that no phrase covers yet.

    Returns:
        Whether an operation was written.
    """
    if not replica.is_writable or replica.members.member_of(replica.keys.id) is None or is_covered(replica):
        return False
    if RecoveryTable(replica.database).writer() is None:
        return False
    write_recovery(replica)
    return True


def write_recovery(
    replica: Replica, circle: tuple[tuple[MemberId, ...], int] | None = None, *, may_drop_phrase: bool = False
) -> None:
    """Say how the own member comes back: by this profile's phrase if it has one, and by these guardians.

    Args:
        circle: guardians and how many of them it takes; those that count now, if not given.
        may_drop_phrase: even where another device holds the phrase, which that device then names again.

    Raises:
        UsageError: it would drop a phrase that another device holds, or would not count.
    """
    now = recovery_of(replica)
    guardians, threshold = (now.guardians, now.threshold) if circle is None else circle
    with replica.transaction():
        seed = _seed_to_name(replica)
        if seed is None and now.id is not None and not may_drop_phrase:
            raise UsageError("another of your devices holds the recovery phrase; do this there, or make a new phrase")
        named = None if seed is None or seed.proof is None else (seed.recovery, seed.hpke, seed.proof)
        replica.write_operation(SetRecovery(named, tuple(sorted(guardians)), threshold), inside=True)
        queue_indexes(replica.database, replica.clock(), replica.record.number)


def _seed_to_name(replica: Replica) -> SealedSeed | None:
    """The recovery keys that this device names for the group: those it named before, else fresh ones, sealed."""
    table = RecoveryTable(replica.database)
    writer = table.writer()
    if writer is None:
        return None
    for seed in table.seeds(replica.group):
        if seed.author == replica.keys.id:
            return seed
    keys = RecoveryKeys(Secret(secrets.token_bytes(32)))
    proof = sign_recovery(keys.signing, replica.group, replica.keys.id, keys.hpke.public)
    sealed = seal_seed(keys, writer.key, replica.group)
    seed = SealedSeed(keys.id, keys.hpke.public, sealed, replica.keys.id, proof)
    table.add_seed(replica.group, seed)
    return seed


def drop_settled_seeds(replica: Replica) -> None:
    """Forget seeds that lead nowhere: those that the roster has long ceased to name; all where the member is out."""
    table = RecoveryTable(replica.database)
    seeds = table.seeds(replica.group)
    if not seeds or not replica.members.has_begun:
        return
    roster = replica.members.roster
    member = roster.member_ever(replica.keys.id)
    if member in roster.former_members:
        with replica.transaction():
            table.forget_seeds(replica.group)
    elif len(seeds) > MAX_INDEX_KEYS:
        named = recovery_of(replica).id
        keep = {seed.recovery for seed in seeds[: MAX_INDEX_KEYS - 1]} | ({named} if named is not None else set())
        with replica.transaction():
            table.forget_seeds(replica.group, keep=tuple(keep))


# --- keeping the index


def keep_tokens(replica: Replica) -> None:
    """Keep the access tokens that the policy names where whoever has no roster yet finds them."""
    table = TokenTable(replica.database)
    new = [(url, token) for url, token in replica.members.roster.policy.tokens if table.find(url) != token]
    if new:
        with replica.transaction():
            for url, token in new:
                table.set(url, token)


def leads_on(replica: Replica) -> bool:
    """Whether the rotation that began the current epoch wrapped for the phrase: its author knew that there is one."""
    choice, named = replica.epochs.choice, recovery_of(replica).id
    if choice is None or choice.epoch.rotation is None or named is None:
        return True
    graph = replica.members.graph
    return any(
        isinstance(one.body, SetRecovery)
        and one.body.recovery is not None
        and one.body.recovery[0] == named
        and graph.knows(choice.epoch.id, one.id)
        for one in graph.operations()
    )


def queue_indexes(
    database: Database, now_ms: int, through: int | None = None, may_wait: Callable[[], bool] = lambda: True
) -> int:
    """Have the index put at every relay where it is out of date. Inside a transaction.

    A change of groups, relays or keys is put with the next sync. A new epoch alone waits a week or two, by a delay that
    each relay cannot foresee: an older epoch leads to the newer ones, and an index that followed each rotation at once
    would show the relay whose it is.

    Args:
        through: the number of the group whose sync takes it along, where that group uses the relay.
        may_wait: whether an older epoch leads to the one that the group has now; asked where one is newer.

    Returns:
        At how many relays.
    """
    table = RecoveryTable(database)
    writer = table.writer()
    if writer is None:
        return 0
    records, relays = _list_groups(database, table, through)
    digest = _digest(
        [[record.group, list(record.relays), dict(record.tokens), list(record.seeds)] for record in records], writer
    )
    epochs = _digest([record.epoch.topic for record in records], writer)
    value: bytes | None = None
    queued = 0
    for relay, group_no in relays.items():
        stored = table.index_at(relay)
        if stored is not None and stored.digest == digest:
            age, delay = now_ms - stored.put_ms, _delay(stored, epochs, writer, relay)
            if -DAY_MS <= age < delay and (stored.epochs == epochs or may_wait()):  # a clock can be set back
                continue
        if stored is not None and stored.digest == digest and stored.epochs == epochs:
            put = StoredIndex(digest, epochs, stored.value, now_ms)  # the same bytes: only the lease is renewed
        else:
            if value is None:
                value, _ = seal_index(Index(writer.tag, writer.superseded, tuple(records)), writer.key)
            put = StoredIndex(digest, epochs, value, now_ms)
        table.set_index(relay, put)
        table.replace_letters(group_no, relay, index_mailbox_secret(writer.secret, relay), put.value)
        queued += 1
    return queued


def _list_groups(
    database: Database, table: RecoveryTable, through: int | None
) -> tuple[list[IndexRecord], dict[str, int]]:
    """A record for every group that a seed leads back into, and for each relay a group that is synced with it."""
    groups, known_tokens = GroupTable(database), TokenTable(database)
    records: list[IndexRecord] = []
    relays: dict[str, int] = {}
    for record in groups.all():
        seeds = table.seeds(record.group)[:MAX_INDEX_KEYS]
        if record.state == JOINING or not seeds:
            continue
        states = [state for state in RelayTable(database, record.number).all() if not state.on_trial]
        urls = [state.url for state in sorted(states, key=lambda state: state.left_ms is not None)]
        epoch = EpochTable(database, record.number).all()[-1].epoch
        told = tuple(urls[:MAX_RELAYS])
        tokens = tuple((url, token) for url in sorted(told) if (token := known_tokens.find(normalize_origin(url))))
        records.append(IndexRecord(record.create, epoch, told, tuple(seed.sealed for seed in seeds), tokens))
        for url in urls:
            if record.number == through or url not in relays:
                relays[url] = record.number
    return records, relays


def _digest(value: list[object], writer: IndexWriter) -> bytes:
    return hash_bytes(LABEL_INDEX, encoding.encode([writer.tag, list(writer.superseded), value]))


def _delay(stored: StoredIndex, epochs: bytes, writer: IndexWriter, relay: str) -> int:
    """How long an index stays that names the right groups."""
    if stored.epochs == epochs:
        return RENEW_MS
    chance = keyed_hash(writer.secret.reveal(), LABEL_INDEX, encoding.encode([relay, stored.put_ms]), 8)
    return EPOCH_PUT_MS + int.from_bytes(chance, "big") % EPOCH_PUT_MS


# --- coming back


async def fetch_indexes(dial: Dial, relays: Sequence[str], keys: PhraseKeys) -> Indexes:
    """The indexes of this phrase at every relay, the newest of each relay first.

    Raises:
        RelayUnavailable: no relay could be read.
    """
    found = Indexes()
    failures: list[str] = []
    for url in relays:
        mailbox = index_mailbox(keys.index_secret, url)
        try:
            found += read_indexes(await read_mailbox(dial, url, mailbox), keys, mailbox)
        except RelayError as error:
            failures.append(str(error))
    if failures and len(failures) == len(relays):
        raise RelayUnavailable("; ".join(failures))
    return found


def open_seeds(indexes: Indexes, keys: PhraseKeys, group: GroupId) -> list[tuple[bytes, RecoveryKeys]]:
    """Every sealed seed of a group that opens, with the keys that it yields."""
    found: list[tuple[bytes, RecoveryKeys]] = []
    for sealed in indexes.seeds(group):
        with suppress(UntrustedInputError):
            found.append((sealed, open_seed(sealed, keys, group)))
    return found


def unwrap_keys(replica: Replica) -> list[tuple[RecipientId, HpkeKey]]:
    """The recovery keys that open this group's wraps while it is being recovered: beside those of the own device."""
    seeds = RecoveryTable(replica.database).recovering(replica.record.number)
    keys = [RecoveryKeys(seed) for seed in seeds]
    return [(RecipientId(key.id), key.hpke) for key in keys]


def write_recover(replica: Replica) -> MemberId:
    """Enrol this device by the phrase, once the group was synced. Gives whose device it is.

    Raises:
        NotPermittedError: the roster names none of these recovery keys: another phrase counts, or the member is out.
    """
    table = RecoveryTable(replica.database)
    keys = {key.id: key for key in map(RecoveryKeys, table.recovering(replica.record.number))}
    roster = replica.members.roster
    for member, recovery in roster.recoveries.items():
        key = keys.get(recovery.id) if recovery.id is not None else None
        if key is not None and member in roster.members:
            operation = Recover.make(key.signing, replica.group, member, replica.keys.id, replica.keys.hpke_public)
            with replica.transaction():
                replica.write_operation(operation, inside=True)
                replica.groups.set_state(replica.record.number, ACTIVE)
                table.end_recovering(replica.record.number)
            return member
    raise NotPermittedError(
        "this phrase leads back into this group no more: a newer one does, or you are no member now"
    )
