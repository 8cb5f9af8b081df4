"""Making a rotation's wraps, checking that they name exactly whom they must, and opening one's own. Implements
specs/epoch.md §4 and §5.

Nobody chooses the recipients: they are those that the roster gives, as the rotation's author knew it. Which rotation is
followed is in epochs.py; what to do about one that fails these checks in repair.py.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cocoon_core.errors import DecryptionError, MalformedError, NotYetError, UntrustedInputError, UsageError
from cocoon_core.protocol.constants import (
    LABEL_WRAP_PAGE,
    MAX_WRAP_PAGES,
    MAX_WRAPS_BESIDE,
    WRAPS_A_PAGE,
)
from cocoon_core.protocol.epoch import Epoch, unwrap_epoch, wrap_epoch
from cocoon_core.protocol.ids import BlobHash, GroupId, RecipientId, TopicId
from cocoon_core.protocol.operation_forms import require_rising
from cocoon_core.protocol.operations_rotation import RECORD_BYTES, Reason, Rotation, WrapPages, WrapsBeside, ids_in
from cocoon_core.protocol.primitives import HpkeKey, Secret
from cocoon_core.protocol.roster_values import Recipient
from cocoon_core.protocol.sealed_pages import name_page, open_page, seal_page

Pages = Mapping[BlobHash, bytes]  # by their names; the wraps beside a rotation are there by theirs


def make_rotation(
    reason: Reason,
    parents: Iterable[TopicId],
    epoch: Epoch,
    recipients: Iterable[Recipient],
    group: GroupId,
    page_key: Secret,
) -> tuple[Rotation, list[bytes]]:
    """Wrap a new epoch's secret for these recipients.

    Args:
        parents: the topics of every epoch that this one ends.
        epoch: from a fresh random secret.
        recipients: exactly those that the roster gives, each with the newest HPKE key that is known.
        page_key: fresh and random. It is used only if there are more wraps than stand beside a rotation.

    Returns:
        The operation's body, and where the wraps are: one item, that stands beside it in its envelope; or where it has
        pages, the blobs that must be at the relay before it. A page shows how many wraps it holds within a length class
        (at most WRAPS_A_PAGE), and not whose.

    Raises:
        MalformedError: there is no recipient, or one of their keys is none of this suite.
        UsageError: more recipients than a rotation can name.
    """
    wraps = sorted((RecipientId(one.id), wrap_epoch(epoch, one.hpke, group)) for one in recipients)
    topics = tuple(sorted(parents))
    if len(wraps) <= MAX_WRAPS_BESIDE:
        records = b"".join(map(b"".join, wraps))
        return Rotation(reason, topics, epoch.topic, WrapsBeside.of(records)), [records]
    if len(wraps) > WRAPS_A_PAGE * MAX_WRAP_PAGES:
        raise UsageError(f"a rotation cannot name {len(wraps)} recipients")
    chunks = [wraps[at : at + WRAPS_A_PAGE] for at in range(0, len(wraps), WRAPS_A_PAGE)]
    blobs = [
        seal_page(b"".join(map(b"".join, chunk)), page_key, place, LABEL_WRAP_PAGE, epoch.topic)
        for place, chunk in enumerate(chunks)
    ]
    index = tuple((chunk[0][0], name_page(blob)) for chunk, blob in zip(chunks, blobs, strict=True))
    return Rotation(reason, topics, epoch.topic, WrapPages(page_key, index)), blobs


def find_page(rotation: Rotation, recipient: RecipientId) -> BlobHash | None:
    """The one blob that holds this recipient's wrap, if it has one; None where the wraps stand beside the rotation."""
    place = _place_of(rotation.paged, recipient) if rotation.paged is not None else None
    return rotation.pages[place] if place is not None else None


def find_wrap(rotation: Rotation, recipient: RecipientId, pages: Pages) -> bytes | None:
    """This recipient's wrap, or None where the rotation names another set of recipients.

    Raises:
        NotYetError: the page that would hold it, or what stands beside the rotation, is not among `pages`.
        DecryptionError, MalformedError: that is not what the rotation's author was to put there.
    """
    if isinstance(rotation.where, WrapsBeside):
        records = _records_beside(rotation.where, pages)
    else:
        place = _place_of(rotation.where, recipient)
        if place is None:
            return None
        records = _open(rotation.where, place, rotation.topic, pages)
    at = bisect_left(range(_count(records)), recipient, key=lambda number: _id_at(records, number))
    if at == _count(records) or _id_at(records, at) != recipient:
        return None
    return records[at * RECORD_BYTES + RecipientId.LENGTH : (at + 1) * RECORD_BYTES]


def open_rotation(
    rotation: Rotation, recipient: RecipientId, keys: Sequence[HpkeKey], group: GroupId, pages: Pages
) -> Epoch:
    """Open one's own wrap, and check that the rotation's topic derives from what was inside.

    Args:
        keys: one's HPKE keys, the newest first: the author may not have known the newest.

    Raises:
        NotYetError: what holds the wrap is not among `pages`.
        DecryptionError: there is no wrap for this recipient, or none of the keys opens it to this topic's secret.
        MalformedError: the page, or what stands beside it, is not one.
    """
    wrapped = find_wrap(rotation, recipient, pages)
    if wrapped is None:
        raise DecryptionError(f"rotation to topic {rotation.topic.hex()[:12]} holds no wrap for this recipient")
    return unwrap_with_any(wrapped, keys, group, rotation.topic)


def unwrap_with_any(wrapped: bytes, keys: Sequence[HpkeKey], group: GroupId, topic: TopicId) -> Epoch:
    """Open a wrap with whichever of one's HPKE keys it was made for.

    Raises:
        DecryptionError: none of them opens it to this topic's secret.
    """
    failure = DecryptionError("there is no HPKE key to open a wrap with")
    for key in keys:
        try:
            return unwrap_epoch(wrapped, key, group, topic)
        except DecryptionError as error:
            failure = error
    raise failure


@dataclass(frozen=True, slots=True)
class WrapCheck:
    """What is wrong with whom a rotation names. True where something is."""

    missing: tuple[RecipientId, ...] = ()
    strangers: tuple[RecipientId, ...] = ()
    bad_pages: tuple[BlobHash, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.missing or self.strangers or self.bad_pages)


def check_wraps(rotation: Rotation, recipients: Iterable[Recipient], pages: Pages) -> WrapCheck:
    """Compare whom a rotation names with whom it must name, by ids; whether a wrap opens only its recipient can tell.

    Args:
        recipients: what the roster gave to its author: of `RosterGraph.roster_at(its parents)`.

    Raises:
        NotYetError: not all of its pages, or of what stands beside it, are among `pages`.
    """
    due = {RecipientId(one.id) for one in recipients}
    named: set[RecipientId] = set()
    bad = []
    if isinstance(rotation.where, WrapsBeside):
        try:
            named.update(ids_in(_records_beside(rotation.where, pages)))
        except UntrustedInputError:
            bad.append(rotation.where.name)
    else:
        for place, (_, name) in enumerate(rotation.where.pages):
            try:
                named.update(_read_ids(rotation.where, place, rotation.topic, pages))
            except UntrustedInputError:
                bad.append(name)
    return WrapCheck(tuple(sorted(due - named)), tuple(sorted(named - due)), tuple(bad))


def _place_of(paged: WrapPages, recipient: RecipientId) -> int | None:
    """The page that holds this recipient's wrap, if any does."""
    place = bisect_right(paged.pages, recipient, key=lambda page: page[0]) - 1
    return place if place >= 0 else None


def _records_beside(beside: WrapsBeside, pages: Pages) -> bytes:
    """The wraps that stand beside a rotation.

    Raises:
        NotYetError: they are not here.
        MalformedError: these are others.
    """
    records = pages.get(beside.name)
    if records is None:
        raise NotYetError("the wraps of a rotation are not here")
    if not beside.matches(records):
        raise MalformedError("these are not the wraps of this rotation")
    return records


def _open(paged: WrapPages, place: int, topic: TopicId, pages: Pages) -> bytes:
    """The records of one page: id ‖ wrap, the first of them the recipient that the rotation says.

    Raises:
        NotYetError: it is not here.
        DecryptionError, MalformedError: it is not that.
    """
    first, name = paged.pages[place]
    blob = pages.get(name)
    if blob is None:
        raise NotYetError(f"page {name.hex()[:12]} of a rotation's wraps is not here")
    records = open_page(blob, name, paged.key, place, LABEL_WRAP_PAGE, topic)
    count, rest = divmod(len(records), RECORD_BYTES)
    if rest or not 0 < count <= WRAPS_A_PAGE:
        raise MalformedError(f"a page of wraps does not have {len(records)} bytes")
    if _id_at(records, 0) != first:
        raise MalformedError("a page of wraps begins with another recipient than the rotation says")
    return records


def _read_ids(paged: WrapPages, place: int, topic: TopicId, pages: Pages) -> list[RecipientId]:
    """All recipients of one page, which must rise up to the next page, or not everybody would find their wrap."""
    records = _open(paged, place, topic, pages)
    ids = [_id_at(records, number) for number in range(_count(records))]
    following = [first for first, _ in paged.pages[place + 1 : place + 2]]
    require_rising((*ids, *following), WRAPS_A_PAGE + 1, "the recipients of a page")
    return ids


def _count(records: bytes) -> int:
    return len(records) // RECORD_BYTES


def _id_at(records: bytes, number: int) -> RecipientId:
    return RecipientId(records[number * RECORD_BYTES : number * RECORD_BYTES + RecipientId.LENGTH])
