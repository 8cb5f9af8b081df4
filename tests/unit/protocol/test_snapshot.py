"""A page opens for its group and under its key alone, and signed heads name exactly what a snapshot holds."""

from __future__ import annotations

import pytest

from cocoon_core.errors import DecryptionError, MalformedError, NotYetError, UsageError
from cocoon_core.protocol.change import join_change
from cocoon_core.protocol.constants import MAX_SNAPSHOT_PARTS
from cocoon_core.protocol.descriptor import actor_of
from cocoon_core.protocol.ids import BlobHash, ChangeHash, DeviceId, DocumentId, GroupId
from cocoon_core.protocol.part import PackedChange, Said, open_part, pack_parts, read_sections
from cocoon_core.protocol.snapshot import (
    PageRef,
    SnapshotRef,
    check_heads,
    open_snapshot,
    read_snapshot,
    seal_part,
    unseal_part,
)
from tests.support.epoch_story import BEN
from tests.support.protocol_story import ANA, FEED, GROUP, LIST, named_secret, whole_tail

DOCUMENT = LIST.document_id(GROUP)
OTHER = FEED.document_id(GROUP)
DEVICES = (ANA.id, BEN.id, DeviceId(bytes(32)))
KEY = named_secret("page key")
ANOTHER = named_secret("another")


def make_changes(count: int, document: DocumentId = DOCUMENT) -> list[Said]:
    """Changes of three devices by turns, each upon the one before."""
    changes: list[Said] = []
    before: list[bytes] = []
    for place in range(count):
        device = DEVICES[place % 3]
        made = join_change(before, actor_of(device, document), whole_tail(place // 3 + 1))
        changes.append(Said(device, made.raw, place // 3))
        before = [made.hash]
    return changes


def packed_from(changes: list[Said], document: DocumentId = DOCUMENT) -> list[PackedChange]:
    (part,) = pack_parts([(document, changes)])
    return read_sections(document, [open_part(part.data)[document]])


def test_a_page_opens_under_its_key_and_for_its_group_alone() -> None:
    changes = make_changes(20)
    (part,) = pack_parts([(DOCUMENT, changes)])
    page, blob = seal_part(part.data, KEY, GROUP)
    assert unseal_part(page, blob, GROUP) == part.data
    for wrong, given, group in (
        (page, blob, GroupId(bytes(32))),
        (PageRef(page.name, ANOTHER), blob, GROUP),
        (page, blob + b"\0", GROUP),
        (page, seal_part(part.data, ANOTHER, GROUP)[1], GROUP),
    ):
        with pytest.raises(DecryptionError):
            unseal_part(wrong, given, group)


def test_the_same_part_under_the_same_key_is_the_same_page_and_else_another() -> None:
    data = pack_parts([(DOCUMENT, make_changes(5))])[0].data
    assert seal_part(data, KEY, GROUP) == seal_part(data, KEY, GROUP)
    assert seal_part(data, ANOTHER, GROUP)[0].name != seal_part(data, KEY, GROUP)[0].name


def test_documents_share_a_page_and_each_is_read_for_itself() -> None:
    documents = {DOCUMENT: make_changes(9), OTHER: make_changes(4, OTHER)}
    (part,) = pack_parts(sorted(documents.items()))
    page, blob = seal_part(part.data, KEY, GROUP)
    for document, changes in documents.items():
        found = open_snapshot(SnapshotRef((page,)), document, GROUP, {page.name: blob})
        assert [Said(one.device, one.raw, one.entry) for one in found] == changes
    with pytest.raises(MalformedError, match="holds nothing of its document"):
        open_snapshot(SnapshotRef((page,)), DocumentId(bytes(32)), GROUP, {page.name: blob})
    with pytest.raises(NotYetError):
        open_snapshot(SnapshotRef((page,)), DOCUMENT, GROUP, {})


def test_one_spoiled_section_leaves_the_others_of_its_page() -> None:
    spoiled, good = make_changes(9), make_changes(4, OTHER)
    opened = open_part(pack_parts([(DOCUMENT, spoiled), (OTHER, good)])[0].data)
    opened[DOCUMENT] = opened[DOCUMENT][:-1]
    with pytest.raises(MalformedError):
        read_snapshot(DOCUMENT, [opened])
    assert len(read_snapshot(OTHER, [opened])) == 4


def test_a_snapshot_has_pages_and_each_once() -> None:
    page = PageRef(BlobHash(bytes(32)), KEY)
    for pages in (
        (),
        (page, page),
        tuple(PageRef(BlobHash(n.to_bytes(32)), KEY) for n in range(MAX_SNAPSHOT_PARTS + 1)),
    ):
        with pytest.raises(MalformedError):
            SnapshotRef(pages)


def test_another_actor_cannot_be_packed() -> None:
    ((_, raw, _),) = make_changes(1)
    with pytest.raises(UsageError):
        pack_parts([(DOCUMENT, [Said(BEN.id, raw, 0)])])


def heads_of(packed: list[PackedChange]) -> dict[DeviceId, tuple[int, ChangeHash]]:
    return {one.device: (one.seq, ChangeHash(one.hash)) for one in packed}


def test_the_signed_heads_name_exactly_its_changes() -> None:
    packed = packed_from(make_changes(60))
    heads = heads_of(packed)
    check_heads(packed, heads)
    for place in range(60):
        with pytest.raises(MalformedError):
            check_heads(packed[:place] + packed[place + 1 :], heads)
    with pytest.raises(MalformedError, match="signed none"):
        check_heads(packed, {device: head for device, head in heads.items() if device != ANA.id})
    with pytest.raises(MalformedError):
        check_heads(packed, {**heads, ANA.id: (heads[ANA.id][0], ChangeHash(bytes(32)))})
    with pytest.raises(MalformedError):
        check_heads(packed, {**heads, ANA.id: (heads[ANA.id][0] + 1, heads[ANA.id][1])})


def test_a_device_that_the_gate_ended_may_stop_before_its_head_and_nobody_else() -> None:
    packed = packed_from(make_changes(60))
    heads = heads_of(packed)
    of_ana = [place for place, one in enumerate(packed) if one.device == ANA.id]
    for kept in (0, 1, len(of_ana) - 1):
        fewer = [one for place, one in enumerate(packed) if place not in of_ana[kept:]]
        check_heads(fewer, heads, ended={ANA.id})
        with pytest.raises(MalformedError):
            check_heads(fewer, heads, ended={BEN.id})
    with pytest.raises(MalformedError):
        check_heads(packed, {**heads, ANA.id: (1, heads[ANA.id][1])}, ended={ANA.id})
