"""A device's heads: the digest depends on the newest change of every document, and on nothing else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cocoon_core.protocol.heads import DeviceHeads
from cocoon_core.protocol.ids import ChangeHash, DocumentId

documents = st.binary(min_size=32, max_size=32).map(DocumentId)
advances = st.lists(
    st.tuples(documents, st.integers(1, 1000), st.binary(min_size=32, max_size=32).map(ChangeHash)), max_size=40
)
Advances = list[tuple[DocumentId, int, ChangeHash]]


def heads_after(steps: Advances, *, ask: bool = False) -> DeviceHeads:
    heads = DeviceHeads()
    for document, seq, change in steps:
        heads.advance(document, seq, change)
        if ask:
            heads.digest()
    return heads


@given(advances)
def test_only_the_newest_change_of_each_document_counts(steps: Advances) -> None:
    newest = {document: (seq, change) for document, seq, change in steps}
    heads = heads_after(steps)
    assert {document: (seq, change) for document, seq, change in heads.items()} == newest
    assert all(heads.get(document) == newest[document] for document in newest)
    assert heads.digest() == heads_after([(d, s, c) for d, (s, c) in newest.items()]).digest()


@given(advances)
def test_a_digest_kept_up_to_date_is_that_of_starting_over(steps: Advances) -> None:
    assert heads_after(steps, ask=True).digest() == heads_after(steps).digest()


@given(advances, st.tuples(documents, st.integers(1, 1000), st.binary(min_size=32, max_size=32).map(ChangeHash)))
def test_any_difference_shows(steps: Advances, step: tuple[DocumentId, int, ChangeHash]) -> None:
    heads = heads_after(steps)
    before = heads.digest()
    if heads.get(step[0]) != step[1:]:
        heads.advance(*step)
        assert heads.digest() != before


@given(advances, advances)
def test_a_copy_goes_its_own_way(steps: Advances, more: Advances) -> None:
    heads = heads_after(steps)
    before = heads.digest()
    twin = heads.copy()
    for step in more:
        twin.advance(*step)
    twin.digest()
    assert heads.digest() == before
    assert twin.digest() == heads_after([*steps, *more]).digest()


def test_no_heads_have_a_digest_too() -> None:
    assert len(DeviceHeads().digest()) == 32
    assert DeviceHeads().get(DocumentId(bytes(32))) is None
