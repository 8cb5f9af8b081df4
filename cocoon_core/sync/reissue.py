"""Makes own edits again whose changes cannot count any more, because what they stood on does not decide.

An edit is lost where its device had to leave its chain, or where it was built on a history that does not decide and of
which the other one has the numbers. What it did is the difference between two states of its document: with what was
lost, and without. That difference is written anew, key by key, where nobody changed the same since.
Implements specs/counting.md §8.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from cocoon_core.documents import Document, ListView, MapView, TextView
from cocoon_core.errors import DocumentUnavailableError, LocalStateError, UsageError
from cocoon_core.protocol.change import read_deps, read_seq, split_change
from cocoon_core.protocol.descriptor import Descriptor, actor_of
from cocoon_core.protocol.retire import GONE_PREFIX
from cocoon_core.storage.documents import DocumentRecord
from cocoon_core.sync.arrivals import ancestors_of, hash_of, in_causal_order
from cocoon_core.sync.members import ALL

if TYPE_CHECKING:
    from cocoon_core.sync.replica import Replica

UNITS_A_CHANGE: Final = 32  # places that one new change writes

_ABSENT: Final = object()
Place = tuple[str, ...]


@dataclass(slots=True)
class Reissued:
    """How many places of documents were written again, and how many could not be: somebody changed them since."""

    written: int = 0
    left: int = 0


def reissue_lost(replica: Replica) -> Reissued:
    """Make lost own edits again, if this device may write. Not in an edit or a transaction.

    What a crash interrupts is done again; what is there already is not written twice.
    """
    done = Reissued()
    if not replica.is_writable or replica.members.member_of(replica.keys.id) is None:
        return done
    _find_refused(replica)
    table = replica.forks.table
    for number, rows in groupby(table.lost(), key=lambda lost: lost.document_no):
        lost = list(rows)
        record = replica.documents.find(lost[0].document)
        assert record is not None, "a change is lost in a document that is known"
        _reissue_in(replica, record, [change.raw for change in lost], done)
        with replica.transaction():
            table.settle_lost(number)
    if done.left:
        with replica.transaction():
            replica.alarm(
                "edits-left",
                replica.keys.id.hex(),
                f"{done.left} of your edits could not be made again: others changed the same since, or you may not",
            )
    return done


def carry_difference(replica: Replica, record: DocumentRecord, base: Iterable[bytes], old: Iterable[bytes]) -> Reissued:
    """Write in the generation that goes on what a retired document's changes do beyond some of them.

    Args:
        base: raw changes that the generation that goes on is known to reflect.
        old: those, and all others.
    """
    done = Reissued()
    _write_all(replica, record, _plain(replica, record, base), _plain(replica, record, old), done)
    return done


def _find_refused(replica: Replica) -> None:
    """Own changes that the gate came to refuse, since what they were built on was displaced.

    Histories may come to decide in turns: what was made again and is shown after all may be lost a second time.
    """
    back = replica.forks.table.shown_again()
    if back:
        with replica.transaction():
            replica.forks.table.forget_lost(back)
    refused = replica.forks.table.own_refused(replica.keys.id)
    if not refused:
        return
    by_number = {record.number: record for record in replica.documents.all()}
    with replica.transaction():
        for number, rows in groupby(sorted(refused), key=lambda item: item[0]):
            wanted = {change for _, change in rows}
            for arrival in replica.shelf.arrivals.of(by_number[number]):
                if arrival.change.hash in wanted:
                    replica.forks.table.lose(number, [(arrival.change.hash, arrival.change.raw)])


def _reissue_in(replica: Replica, record: DocumentRecord, lost: list[bytes], done: Reissued) -> None:
    arrivals = replica.shelf.arrivals.of(record)
    here = {bytes(arrival.change.hash): arrival.change.raw for arrival in arrivals}
    seqs = {arrival.change.raw: arrival.seq for arrival in arrivals}
    for group in _consistent(sorted(lost, key=lambda raw: (seqs.get(raw, ALL), _number(raw))), here):
        try:
            base, old = _states(replica, record, group, here)
        except DocumentUnavailableError:
            done.left += len(group)
            continue
        _write_all(replica, record, base, old, done)


def _write_all(replica: Replica, record: DocumentRecord, base: Any, old: Any, done: Reissued) -> None:
    places = list(_changed_places(record.descriptor, base, old))
    for start in range(0, len(places), UNITS_A_CHANGE):
        batch = places[start : start + UNITS_A_CHANGE]
        try:
            written = _write(replica, record.descriptor, batch, base, old)
        except UsageError:  # too much for one change, or not allowed any more
            written = sum(_write_one(replica, record.descriptor, place, base, old) for place in batch)
        done.written += written
        done.left += len(batch) - written


def _write_one(replica: Replica, descriptor: Descriptor, place: Place, base: Any, old: Any) -> int:
    try:
        return _write(replica, descriptor, [place], base, old)
    except UsageError:
        return 0


def _write(replica: Replica, descriptor: Descriptor, places: list[Place], base: Any, old: Any) -> int:
    """One change with these places; how many of them are as they were meant to be.

    Of a retired document they are written in the generation that goes on, where nothing is written again that was
    erased.
    """
    with replica.change(replica.retires.current(descriptor)) as root:
        written = 0
        for place in places:
            if _is_taken(root, place[0], old):
                written += 1
                continue
            target: Any = root
            before, after = base, old
            for key in place[:-1]:
                target, before, after = target[key], before.get(key, {}), after.get(key, {})
            key = place[-1]
            written += _write_again(target, key, before.get(key, _ABSENT), after.get(key, _ABSENT))
        return written
    raise LocalStateError("an edit ended before it was written")  # pragma: no cover


def _is_taken(root: Mapping[str, Any], key: str, old: Mapping[str, Any]) -> bool:
    """Whether what stood under a key was erased, or it is a tombstone that stands: nothing is written there then.

    Of what was deleted the tombstone is made first, by the order of keys; the key itself has still to go.
    """
    tombstone = root.get(GONE_PREFIX + key)
    if isinstance(tombstone, Mapping) and "deleted" in tombstone and key not in old:
        return False
    return tombstone is not None or (key.startswith(GONE_PREFIX) and key in root)


# --- what the lost edits did


def _consistent(lost: list[bytes], here: dict[bytes, bytes]) -> Iterator[list[bytes]]:
    """Lost changes in the order of their chain, cut where they do not fit into one document with all before them.

    Two that were lost one after the other may stand on two histories of somebody's, with one number twice.
    """
    group: list[bytes] = []
    taken: dict[tuple[bytes, int], bytes] = {}
    places: dict[bytes, tuple[bytes, int]] = {}
    for raw in lost:
        past = ancestors_of([raw], here)
        for digest in past.keys() - places.keys():
            places[digest] = split_change(past[digest])[1], _number(past[digest])
        numbers = {places[digest]: one for digest, one in past.items()}
        if any(taken.get(key, one) != one for key, one in numbers.items()):
            yield group
            group, taken = [], {}
        group.append(raw)
        taken |= numbers
    yield group


def _number(raw: bytes) -> int:
    return read_seq(split_change(raw)[2]) or 0


def _states(
    replica: Replica, record: DocumentRecord, lost: list[bytes], here: dict[bytes, bytes]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The document as it was without the lost changes, and with them."""
    past = ancestors_of(lost, here)
    gone = {hash_of(raw) for raw in lost}
    kept: dict[bytes, bytes] = {}
    for raw in in_causal_order(past.values()):
        digest = hash_of(raw)
        if digest not in gone and all(dep in kept or dep not in past for dep in read_deps(raw)):
            kept[digest] = raw
    return _plain(replica, record, kept.values()), _plain(replica, record, past.values())


def _plain(replica: Replica, record: DocumentRecord, raws: Iterable[bytes]) -> dict[str, Any]:
    ordered = list(in_causal_order(raws))
    actor = actor_of(replica.keys.id, record.document)
    return Document(record.descriptor, record.document, actor, lambda: ordered).read().to_python()


def _changed_places(descriptor: Descriptor, base: Mapping[str, Any], old: Mapping[str, Any]) -> Iterator[Place]:
    """Where they differ: root keys, and in a document with a schema the keys of its maps."""
    for key in sorted(base.keys() | old.keys()):
        before, after = base.get(key, _ABSENT), old.get(key, _ABSENT)
        if _same(before, after):
            continue
        if descriptor.schema and isinstance(before, dict) and isinstance(after, dict):
            inner = sorted(before.keys() | after.keys())
            yield from ((key, k) for k in inner if not _same(before.get(k, _ABSENT), after.get(k, _ABSENT)))
        else:
            yield (key,)


# --- writing it again


def _write_again(target: Any, key: str, base: Any, old: Any) -> bool:
    """Bring what stands under a key from `base` to `old`; False where it is something else now."""
    holder = target.get(key, _ABSENT)
    now = holder.to_python() if isinstance(holder, (MapView, ListView, TextView)) else holder
    if _same(now, old):
        return True
    if isinstance(holder, MapView) and isinstance(old, dict):
        before = base if isinstance(base, dict) else {}
        keys = [k for k in sorted(before.keys() | old.keys()) if not _same(before.get(k, _ABSENT), old.get(k, _ABSENT))]
        results = [_write_again(holder, k, before.get(k, _ABSENT), old.get(k, _ABSENT)) for k in keys]
        return all(results)
    if isinstance(holder, (ListView, TextView)) and isinstance(old, type(now)) and isinstance(base, type(now)):
        return _splice(holder, base, old, now)
    if not _same(now, base):
        return False
    if holder is not _ABSENT:
        del target[key]
    if old is not _ABSENT:
        target[key] = old
    return True


def _splice(holder: Any, base: Any, old: Any, now: Any) -> bool:
    """Change what differs between `base` and `old`; in a list that others changed too, what was added comes last."""
    start, end = 0, 0
    while start < min(len(base), len(old)) and _same(base[start], old[start]):
        start += 1
    while end < min(len(base), len(old)) - start and _same(base[len(base) - 1 - end], old[len(old) - 1 - end]):
        end += 1
    added = old[start : len(old) - end]
    if _same(now, base):
        holder[start : len(base) - end] = added
        return True
    if isinstance(holder, TextView):
        return False
    holder.extend(item for item in added if not any(_same(item, known) for known in base))
    return len(base) - end <= start


def _same(left: Any, right: Any) -> bool:
    """Equal, and of the same type all the way down: True is not 1."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(_same(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(_same, left, right))
    return bool(left == right)
