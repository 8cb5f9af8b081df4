"""Erases posts and items: retires the author's document of their month, and goes on in its next generation without
them.

Text that is deleted in a document stays in its history; only a document that is left behind can be let go of. What
stays is copied, as it is: ids name the month and not the generation, so replies still find their parents. In the place
of what was erased stands a tombstone. Implements specs/feed.md §4 and specs/vault-items.md §5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from cocoon_core.errors import DocumentUnavailableError, UnknownItemError, UsageError
from cocoon_core.protocol.retire import GONE_PREFIX
from cocoon_core.sync.retiring import retire_document
from cocoon_core.sync.turns import is_turn

if TYPE_CHECKING:
    from cocoon_core.sync.replica import Replica


@dataclass(frozen=True, slots=True)
class Erasable:
    """A table of what members wrote in documents of a month each (`social/owned_view.py`).

    Attributes:
        rule: who may, for the error: "only …".
        erased: the SQL that says of a row that nothing is left to erase.
    """

    table: str
    identity: str
    rule: str
    erased: str = "erased"


POSTS: Final = Erasable("posts", "post", "its author can erase a post", "erased AND NOT deleted")


def erase(replica: Replica, kind: Erasable, ids: Sequence[bytes]) -> None:
    """Erase what the own member wrote, by ids. Of each month that it stands in, a next generation is begun.

    Raises:
        UnknownItemError: one is not here.
        UsageError: one is another member's, or this device may not write. Nothing was erased then.
    """
    member = replica.members.require_member(replica.keys.id)
    by_document: dict[int, list[str]] = {}
    for identity in dict.fromkeys(ids):
        row = replica.database.query_one(
            f"SELECT document_no, key, member, {kind.erased}, lingers FROM {kind.table} "
            f"WHERE group_no=? AND {kind.identity}=?",
            (replica.record.number, identity),
        )
        if row is None:
            raise UnknownItemError
        document_no, key, author, erased, lingers = row
        if author != member:
            raise UsageError(f"only {kind.rule}")
        if lingers or not erased:
            by_document.setdefault(document_no, []).append(key)
    replica.require_writable()
    replica.require_no_edit()
    records = {document_no: replica.documents.get(document_no) for document_no in by_document}
    if any(replica.debts.find(record.document) is not None for record in records.values()):
        raise UsageError("not all of that month is read here yet; sync, and try again")
    for document_no, keys in by_document.items():
        record = records[document_no]
        held = replica.shelf.get(record.descriptor).read().to_python()
        retire_document(replica, record.descriptor, _without(held, keys))


def _without(held: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """What a generation holds, with tombstones in the place of some posts; those that stood in it stay."""
    gone = {key.removeprefix(GONE_PREFIX) for key in held if key.startswith(GONE_PREFIX)} | set(keys)
    kept = {key: value for key, value in held.items() if key not in gone}
    for key in sorted(gone):
        if GONE_PREFIX + key not in kept:
            kept[GONE_PREFIX + key] = tombstone_of(held.get(key))
        elif key in keys:  # what was deleted before is erased now
            kept[GONE_PREFIX + key] = tombstone_of(kept[GONE_PREFIX + key])
    return kept


def tombstone_of(taken: Any) -> dict[str, Any]:
    """What is left of a post or item: where it stood."""
    return {name: taken[name] for name in ("at", "re") if name in taken} if isinstance(taken, dict) else {}


def finish_erasing(replica: Replica, kind: Erasable) -> None:
    """Where another own device copied what this one erased, and each did not know of the other, erase it there too.

    To be called when level, not in an edit or a transaction.
    """
    member = replica.members.member_of(replica.keys.id)
    if member is None or not replica.is_writable:
        return
    lingering = replica.database.query(
        f"SELECT {kind.identity} FROM {kind.table} WHERE group_no=? AND member=? AND lingers",
        (replica.record.number, bytes(member)),
    )
    if not lingering:
        return
    own = sorted(device.id for device in replica.members.roster.devices.values() if device.member == member)
    what = f"erase {min(identity for (identity,) in lingering).hex()}"
    if is_turn(replica, what, own.index(replica.keys.id)):
        with suppress(UsageError, DocumentUnavailableError):
            erase(replica, kind, [identity for (identity,) in lingering])
