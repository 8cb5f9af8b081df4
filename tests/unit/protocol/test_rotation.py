"""A rotation wraps for exactly whom it must, beside it or in pages, and everybody opens their own wrap."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import pytest

from cocoon_core.errors import DecryptionError, MalformedError, NotYetError, UsageError
from cocoon_core.protocol import rotation as rotation_module
from cocoon_core.protocol.constants import (
    LABEL_WRAP_PAGE,
    MAX_MEMBERS,
    MAX_PAGE_BYTES,
    MAX_WRAP_PAGES,
    WRAP_BYTES,
    WRAPS_A_PAGE,
)
from cocoon_core.protocol.device import DeviceKeys
from cocoon_core.protocol.encoding import encode
from cocoon_core.protocol.ids import BlobHash, DeviceId, RecipientId, TopicId
from cocoon_core.protocol.operations import decode_operation
from cocoon_core.protocol.operations_rotation import Reason, Rotation, WrapPages, WrapsBeside, ids_in
from cocoon_core.protocol.primitives import Secret
from cocoon_core.protocol.roster_values import Recipient
from cocoon_core.protocol.rotation import check_wraps, find_page, find_wrap, make_rotation, open_rotation
from cocoon_core.protocol.sealed_pages import name_page, seal_page
from tests.support.epoch_story import NEXT, RENEWED, pages_of, told
from tests.support.flips import flip
from tests.support.protocol_story import ANA, EPOCH, GROUP, device_keys, named_secret

KEY = named_secret("page key")
PAGED = 7  # recipients of a rotation whose wraps stand in pages of three


@cache
def people(count: int) -> tuple[DeviceKeys, ...]:
    found = [device_keys(f"recipient {number}") for number in range(count)]
    return tuple(sorted(found, key=lambda keys: keys.id))


def recipients(count: int) -> list[Recipient]:
    return [Recipient(keys.id, keys.hpke_public) for keys in people(count)]


@pytest.fixture
def paged(monkeypatch: pytest.MonkeyPatch) -> tuple[Rotation, Mapping[BlobHash, bytes]]:
    """A rotation to PAGED recipients, three in a page."""
    monkeypatch.setattr(rotation_module, "MAX_WRAPS_BESIDE", 2)
    monkeypatch.setattr(rotation_module, "WRAPS_A_PAGE", 3)
    rotation, blobs = make_rotation(Reason.AGE, [EPOCH.topic], NEXT, recipients(PAGED), GROUP, KEY)
    return rotation, pages_of(blobs)


def own(keys: DeviceKeys) -> RecipientId:
    return RecipientId(keys.id)


def test_wraps_stand_beside_the_rotation_by_rising_id_and_it_commits_to_them() -> None:
    rotation, (records,) = make_rotation(Reason.REMOVAL, [EPOCH.topic], NEXT, reversed(recipients(3)), GROUP, KEY)
    assert rotation.pages == ()
    assert list(ids_in(records)) == [own(keys) for keys in people(3)]
    assert rotation.beside == WrapsBeside.of(records)
    assert decode_operation(rotation.encode_body()) == rotation
    here = pages_of([records])
    for keys in people(3):
        assert open_rotation(rotation, own(keys), [keys.hpke], GROUP, here).secret == NEXT.secret
        assert find_page(rotation, own(keys)) is None
        with pytest.raises(NotYetError):
            open_rotation(rotation, own(keys), [keys.hpke], GROUP, {})
        with pytest.raises(MalformedError):
            open_rotation(rotation, own(keys), [keys.hpke], GROUP, {rotation.beside.name: flip(records, 99)})


def test_a_rotation_stays_small_however_many_wraps_stand_beside_it() -> None:
    made = make_rotation(Reason.AGE, [EPOCH.topic], NEXT, recipients(24), GROUP, KEY)[0]
    assert len(encode(made.encode_body())) < 400
    story = told(lambda epoch, keys: bytes(WRAP_BYTES))
    assert len(story.runs[-1].wire) < 400


def test_names_that_begin_alike_keep_nobody_from_rotating() -> None:
    """Somebody may seek two keys whose first bytes are the same."""
    ids = [b"\7" * 8 + bytes([number]) * 24 for number in range(2)]
    beside = WrapsBeside.of(b"".join(one + bytes(WRAP_BYTES) for one in ids))
    assert beside.named == (b"\7" * 8,) * 2
    rotation = Rotation(Reason.AGE, (EPOCH.topic,), NEXT.topic, beside)
    assert decode_operation(rotation.encode_body()) == rotation


def test_an_older_key_opens_what_was_wrapped_before_the_newest_was_known() -> None:
    rotation, blobs = make_rotation(Reason.AGE, [EPOCH.topic], NEXT, [Recipient(ANA.id, ANA.hpke_public)], GROUP, KEY)
    here = pages_of(blobs)
    assert open_rotation(rotation, own(ANA), [RENEWED.hpke, ANA.hpke], GROUP, here).topic == NEXT.topic
    with pytest.raises(DecryptionError):
        open_rotation(rotation, own(ANA), [RENEWED.hpke], GROUP, here)
    with pytest.raises(DecryptionError):
        open_rotation(rotation, own(ANA), [], GROUP, here)


def test_more_wraps_go_into_pages_and_each_opens_from_one_of_them(
    paged: tuple[Rotation, Mapping[BlobHash, bytes]],
) -> None:
    rotation, pages = paged
    assert len(rotation.pages) == len(pages) == 3
    assert decode_operation(rotation.encode_body()) == rotation
    for number, keys in enumerate(people(PAGED)):
        page = find_page(rotation, own(keys))
        assert page == rotation.pages[number // 3]
        only = {page: pages[page]}
        assert open_rotation(rotation, own(keys), [keys.hpke], GROUP, only).secret == NEXT.secret
        with pytest.raises(NotYetError):
            open_rotation(rotation, own(keys), [keys.hpke], GROUP, {})
    assert not check_wraps(rotation, recipients(PAGED), pages)
    with pytest.raises(NotYetError):
        check_wraps(rotation, recipients(PAGED), {})


def test_whoever_is_not_named_finds_nothing(paged: tuple[Rotation, Mapping[BlobHash, bytes]]) -> None:
    beside, blobs = make_rotation(Reason.AGE, [EPOCH.topic], NEXT, recipients(2), GROUP, KEY)
    for recipient in (RecipientId(bytes(32)), RecipientId(b"\x80" * 32), RecipientId(b"\xff" * 32)):
        assert find_wrap(beside, recipient, pages_of(blobs)) is None
        assert find_wrap(*_with(paged, recipient)) is None
        with pytest.raises(DecryptionError):
            open_rotation(paged[0], recipient, [ANA.hpke], GROUP, paged[1])


def _with(
    paged: tuple[Rotation, Mapping[BlobHash, bytes]], recipient: RecipientId
) -> tuple[Rotation, RecipientId, Mapping[BlobHash, bytes]]:
    return paged[0], recipient, paged[1]


def test_the_check_names_who_is_missing_and_who_is_a_stranger() -> None:
    rotation, blobs = make_rotation(Reason.AGE, [EPOCH.topic], NEXT, recipients(4)[:3], GROUP, KEY)
    assert not check_wraps(rotation, recipients(4)[:3], pages_of(blobs))
    found = check_wraps(rotation, recipients(4)[1:], pages_of(blobs))
    assert found.missing == (own(people(4)[3]),)
    assert found.strangers == (own(people(4)[0]),)


def _page_of(people_in: list[DeviceKeys], rotation: Rotation, place: int = 0) -> bytes:
    records = b"".join(keys.id + bytes(WRAP_BYTES) for keys in people_in)
    return seal_page(records, KEY, place, LABEL_WRAP_PAGE, rotation.topic)


def test_a_page_that_is_not_what_it_should_be_leaves_its_recipients_missing(
    paged: tuple[Rotation, Mapping[BlobHash, bytes]],
) -> None:
    rotation, pages = paged
    assert rotation.paged is not None
    everybody = list(people(PAGED))
    first = [own(keys) for keys in everybody[:3]]
    bad = {
        "records cut off": seal_page(bytes(1000), KEY, 0, LABEL_WRAP_PAGE, rotation.topic),
        "no record": seal_page(b"", KEY, 0, LABEL_WRAP_PAGE, rotation.topic),
        "another first recipient": _page_of(everybody[1:3], rotation),
        "out of order": _page_of([everybody[0], everybody[2], everybody[1]], rotation),
        "beyond the next page": _page_of([everybody[0], everybody[4]], rotation),
        "another place": _page_of(everybody[:3], rotation, 1),
    }
    for name, blob in bad.items():
        index = ((first[0], name_page(blob)), *rotation.paged.pages[1:])
        altered = Rotation(rotation.reason, rotation.parents, rotation.topic, WrapPages(KEY, index))
        found = check_wraps(altered, recipients(PAGED), {**pages, name_page(blob): blob})
        assert found.missing == tuple(first), name
        assert found.bad_pages == (name_page(blob),), name
    swapped = {**pages, rotation.pages[0]: pages[rotation.pages[1]]}
    assert check_wraps(rotation, recipients(PAGED), swapped).missing == tuple(first)


def test_a_full_page_is_a_blob_of_at_most_1_mib_and_there_are_pages_for_everybody() -> None:
    assert WRAPS_A_PAGE * (32 + WRAP_BYTES) <= MAX_PAGE_BYTES
    assert len(seal_page(bytes(MAX_PAGE_BYTES), KEY, 0, LABEL_WRAP_PAGE, b"")) <= 1024 * 1024
    assert MAX_WRAP_PAGES * WRAPS_A_PAGE >= 3 * MAX_MEMBERS, "a device, another, and a phrase for everybody"


@pytest.mark.parametrize(
    ("parents", "records"),
    [
        ((), ANA.id + bytes(WRAP_BYTES)),
        ((NEXT.topic,), ANA.id + bytes(WRAP_BYTES)),
        ((EPOCH.topic, EPOCH.topic), ANA.id + bytes(WRAP_BYTES)),
        ((EPOCH.topic,), b""),
        ((EPOCH.topic,), ANA.id + bytes(WRAP_BYTES - 1)),
        ((EPOCH.topic,), (ANA.id + bytes(WRAP_BYTES)) * 2),
    ],
)
def test_a_body_that_is_none(parents: tuple[TopicId, ...], records: bytes) -> None:
    with pytest.raises(MalformedError):
        Rotation(Reason.AGE, parents, NEXT.topic, WrapsBeside.of(records))


def test_more_recipients_than_a_rotation_can_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotation_module, "MAX_WRAPS_BESIDE", 0)
    monkeypatch.setattr(rotation_module, "WRAPS_A_PAGE", 1)
    monkeypatch.setattr(rotation_module, "MAX_WRAP_PAGES", 2)
    with pytest.raises(UsageError):
        make_rotation(Reason.AGE, [EPOCH.topic], NEXT, recipients(3), GROUP, KEY)


def test_nobody_is_no_recipient() -> None:
    with pytest.raises(MalformedError):
        make_rotation(Reason.AGE, [EPOCH.topic], NEXT, [], GROUP, KEY)
    with pytest.raises(MalformedError):
        WrapPages(Secret(bytes(32)), ())


def test_the_topic_in_the_rotation_is_that_of_the_secret_inside() -> None:
    other = device_keys("other")
    rotation, blobs = make_rotation(Reason.AGE, [EPOCH.topic], NEXT, recipients(1), GROUP, KEY)
    lying = Rotation(Reason.AGE, rotation.parents, type(NEXT.topic)(DeviceId(other.id)), rotation.where)
    with pytest.raises(DecryptionError):
        open_rotation(lying, own(people(1)[0]), [people(1)[0].hpke], GROUP, pages_of(blobs))
