"""Who has seen a post: its author is told, by those who wish to, and nobody else can read it."""

from __future__ import annotations

from typing import Any

import pytest

from cocoon_core.errors import DecryptionError, MalformedError, UnknownItemError, UsageError
from cocoon_core.protocol.constants import LABEL_SEEN, MAX_SEEN_POSTS, NONCE_BYTES, WRAP_BYTES
from cocoon_core.protocol.descriptor import Descriptor, DocumentKind
from cocoon_core.protocol.ids import DocumentId, GroupId, MemberId
from cocoon_core.protocol.primitives import HpkeKey, Secret, seal
from cocoon_core.protocol.seen import NOTICE_BYTES, count_wraps, is_box, make_box, open_box, open_notice, seal_notice
from cocoon_core.social import seen
from tests.support.hostile import Forger, inject
from tests.support.linking import link
from tests.support.world import Seat, World, make_world, rebuild_everything, state_of

__all__ = ["make_world"]

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


async def names_of(at: Seat, post: str) -> list[str]:
    """Who is known to have seen an own post."""
    people = {person.id: person.name for person in at.group.people()}
    return sorted(people[member] for member in await at.group.seen.by(post))


async def shown(world: World, *readers: Seat, post: str) -> None:
    """Readers are shown a post, and the hour passes in which it is told."""
    for reader in readers:
        await reader.group.seen.mark(post)
    world.now_ms += HOUR_MS
    await world.level()


def told(at: Seat) -> list[bytes]:
    """What anybody can see of what readers tell: the values in their documents."""
    found: list[bytes] = []
    for record in at.replica.documents.all():
        if record.descriptor.name.startswith("seen/"):
            found += at.replica.shelf.get(record.descriptor).read().to_python().values()
    return found


async def test_its_author_is_told_who_has_seen_a_post_and_nobody_else(world: World) -> None:
    ana, ben, chi = await world.group("ana", "ben", "chi")
    await ben.group.profile.set(tells_seen=True)
    post = await ana.group.feed.post("Who has the ladder?")
    await world.level()
    answer = await chi.group.feed.reply(post.id, "Not I")
    await world.level()
    assert await chi.group.seen.mark(post.id) == 0  # she did not wish to
    assert await ben.group.seen.mark(post.id, answer.id) == 2
    await shown(world, post=post.id)
    assert await names_of(ana, post.id) == ["Ben"]
    assert await names_of(chi, answer.id) == ["Ben"]
    for seat, other in ((chi, post), (ana, answer), (ben, post)):
        with pytest.raises(UsageError, match="only who wrote"):
            await seat.group.seen.by(other.id)
        assert seat.group.seen.view.rows.seen_by(bytes.fromhex(other.id)) == []
    with pytest.raises(UnknownItemError):
        await ana.group.seen.by("00" * 16)
    assert {len(value) for value in told(chi)} == {4 * WRAP_BYTES, NOTICE_BYTES}
    assert not [value for value in told(chi) if bytes.fromhex(post.id) in value]
    person = next(person for person in ana.group.people() if person.name == "Ben")
    assert person.tells_seen


async def test_it_is_told_once_an_hour_each_post_once(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    await ben.group.profile.set(tells_seen=True)
    first, second = await ana.group.feed.post("one"), await ana.group.feed.post("two")
    await world.level()
    await ben.group.seen.mark(first.id)
    await world.level()
    assert await names_of(ana, first.id) == ["Ben"]
    await ben.group.seen.mark(first.id, second.id)
    await world.level()
    assert await names_of(ana, second.id) == []
    before = len(told(ana))
    await ben.restart()
    world.now_ms += HOUR_MS
    await world.level()
    assert await names_of(ana, second.id) == ["Ben"]
    assert len(told(ana)) == before + 1  # no second box, and nothing of what was told
    await shown(world, ben, post=second.id)
    assert len(told(ana)) == before + 1


async def test_many_posts_go_into_few_notices(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    await ben.group.profile.set(tells_seen=True)
    posts = [await ana.group.feed.post(str(number)) for number in range(MAX_SEEN_POSTS + 1)]
    await world.level()
    await ben.group.seen.mark(*(post.id for post in posts))
    await world.level()
    assert [await names_of(ana, post.id) for post in posts] == [["Ben"]] * len(posts)
    assert sorted(map(len, told(ana))) == [NOTICE_BYTES, NOTICE_BYTES, 4 * WRAP_BYTES]


async def test_every_device_of_the_author_is_told_and_it_stays_when_its_keys_are_others(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    second = await world.seat("ana2")
    await link(ana, second)
    await ben.group.profile.set(tells_seen=True)
    post = await ana.group.feed.post("hello")
    await world.level()
    await shown(world, ben, post=post.id)
    assert await names_of(ana, post.id) == await names_of(second, post.id) == ["Ben"]
    old = ana.replica.keys.hpke_public
    world.now_ms += 31 * DAY_MS  # keys are renewed, and the old ones erased
    await world.level()
    await ben.group.rotate()
    await world.level()
    assert ana.replica.keys.hpke_public != old
    for seat in (ana, second):
        rebuild_everything(seat)
        await seat.restart()
        assert await names_of(seat, post.id) == ["Ben"]
    later = await second.group.feed.post("later")
    await world.level()
    await shown(world, ben, post=later.id)
    assert await names_of(ana, later.id) == await names_of(second, later.id) == ["Ben"]
    assert (await state_of(ana))["documents"] == (await state_of(ben))["documents"]


async def test_nothing_waits_of_who_ends_to_wish_it(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    await ben.group.profile.set(tells_seen=True)
    post = await ana.group.feed.post("hello")
    await world.level()
    await ben.group.seen.mark(post.id)
    await ben.group.profile.set(tells_seen=False)
    await world.level()
    await ben.group.profile.set(tells_seen=True)
    world.now_ms += HOUR_MS
    await world.level()
    assert await names_of(ana, post.id) == []


async def test_in_large_groups_nobody_tells(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ana, ben = await world.group("ana", "ben")
    await ben.group.profile.set(tells_seen=True)
    post = await ana.group.feed.post("hello")
    await world.level()
    monkeypatch.setattr(seen, "MAX_CAST_MEMBERS", 1)
    assert await ben.group.seen.mark(post.id) == 0


async def test_what_a_reader_takes_back_is_seen_no_more(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    await ben.group.profile.set(tells_seen=True)
    post = await ana.group.feed.post("hello")
    await world.level()
    await shown(world, ben, post=post.id)
    assert await names_of(ana, post.id) == ["Ben"]
    (record,) = [one for one in ben.replica.documents.all() if one.descriptor.name.startswith("seen/")]
    with ben.replica.change(record.descriptor) as root:
        for key in [key for key in root if len(root[key]) == NOTICE_BYTES]:
            del root[key]
    await world.level()
    assert await names_of(ana, post.id) == []
    rebuild_everything(ana)
    assert await names_of(ana, post.id) == []


async def test_a_clock_that_was_ahead_once_keeps_nobody_from_telling(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    await ben.group.profile.set(tells_seen=True)
    first, second = await ana.group.feed.post("one"), await ana.group.feed.post("two")
    await world.level()
    ben.skew_ms = 365 * DAY_MS
    await shown(world, ben, post=first.id)
    ben.skew_ms = 0
    await shown(world, ben, post=second.id)
    assert await names_of(ana, second.id) == ["Ben"]


# --- what hostile members write


def put(world: World, mal: Seat, at: Seat, values: dict[str, Any]) -> None:
    """Mal tells what it likes."""
    forger = Forger(mal)
    descriptor = Descriptor(DocumentKind.OWNED, "seen/2026-09", forger.member)

    def write(root: Any) -> None:
        for key, value in values.items():
            root[key] = value

    change = forger.change(descriptor, write)
    inject(next(iter(world.relays.values())), at.replica.epoch, forger.write((descriptor, change)))


async def test_attack_27_what_another_told_is_nobodys_word_when_copied(world: World) -> None:
    ana, ben, mal = await world.group("ana", "ben", "mal")
    await ben.group.profile.set(tells_seen=True)
    post = await ana.group.feed.post("hello")
    await world.level()
    await shown(world, ben, post=post.id)
    (record,) = [one for one in mal.replica.documents.all() if one.descriptor.name.startswith("seen/")]
    put(world, mal, ana, mal.replica.shelf.get(record.descriptor).read().to_python())
    await ana.sync()
    assert await names_of(ana, post.id) == ["Ben"]


async def test_attack_43_what_is_no_box_and_no_notice_costs_little_and_harms_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana, ben, mal = await world.group("ana", "ben", "mal")
    await ben.group.profile.set(tells_seen=True)
    post = await ana.group.feed.post("hello")
    await world.level()
    monkeypatch.setattr(seen, "MAX_SEEN_BOXES", 2)
    junk: dict[str, Any] = {f"seen:{number}": bytes([number]) * 4 * WRAP_BYTES for number in range(5)}
    junk |= {"seen:a": "text", "seen:b": 5, "seen:c": {"a": b""}, "seen:d": b"", "seen:e": bytes(NOTICE_BYTES)}
    put(world, mal, ana, junk | {"other": bytes(NOTICE_BYTES)})
    await ana.sync()
    tried: list[bytes] = []

    def count(value: bytes, *given: Any) -> Secret:
        tried.append(value)
        return open_box(value, *given)

    monkeypatch.setattr(seen, "open_box", count)
    rebuild_everything(ana)
    assert len(tried) == 2
    await shown(world, ben, post=post.id)
    assert await names_of(ana, post.id) == ["Ben"]


async def test_attack_43_no_more_secrets_of_a_document_are_kept_than_are_worth_trying(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them is tried for each notice of that document."""
    ana, mal = await world.group("ana", "mal")
    monkeypatch.setattr(seen, "MAX_SEEN_BOXES", 3)
    group, own, to = ana.replica.group, ana.replica.keys.hpke.public, ana.group.me
    assert to is not None
    assert mal.group.me is not None
    boxes = {
        f"seen:{number}": make_box(Secret(bytes([number]) * 32), [own] * 4, group, mal.group.me, to)
        for number in range(5)
    }
    put(world, mal, ana, boxes)
    await ana.sync()
    rebuild_everything(ana)
    assert ana.replica.database.query_value("SELECT count(*) FROM seen_keys") == 3


# --- the two kinds of values

GROUP, READER, AUTHOR = GroupId(b"g" * 32), MemberId(b"r" * 32), MemberId(b"a" * 32)
DOCUMENT, SECRET, NONCE = DocumentId(b"d" * 32), Secret(b"s" * 32), bytes(NONCE_BYTES)
KEYS = [HpkeKey(Secret(bytes([number]) * 32)) for number in range(5)]


def test_a_box_opens_for_each_device_of_the_author_and_for_nobody_else() -> None:
    box = make_box(SECRET, [key.public for key in KEYS[:4]], GROUP, READER, AUTHOR)
    assert is_box(box)
    for key in KEYS[:4]:
        assert open_box(box, [key], GROUP, READER, AUTHOR) == SECRET
    others = [
        ([KEYS[4]], GROUP, READER, AUTHOR),
        (KEYS, GroupId(b"h" * 32), READER, AUTHOR),
        (KEYS, GROUP, MemberId(b"m" * 32), AUTHOR),
        (KEYS, GROUP, READER, MemberId(b"m" * 32)),
        ([], GROUP, READER, AUTHOR),
    ]
    for keys, group, reader, author in others:
        with pytest.raises(DecryptionError):
            open_box(box, keys, group, reader, author)
    with pytest.raises(MalformedError):
        open_box(box[:-1], KEYS, GROUP, READER, AUTHOR)


def test_boxes_are_of_three_sizes() -> None:
    assert [count_wraps(devices) for devices in (1, 4, 5, 8, 9, 16, 40)] == [4, 4, 8, 8, 16, 16, 16]
    sizes = [WRAP_BYTES * wraps for wraps in range(20)]
    assert [size // WRAP_BYTES for size in sizes if is_box(bytes(size))] == [4, 8, 16]


def test_a_notice_is_of_one_size_and_opens_where_it_stood() -> None:
    for number in (1, 2, MAX_SEEN_POSTS):
        posts = [bytes([place]) * 16 for place in range(number)]
        notice = seal_notice(posts, SECRET, NONCE, DOCUMENT, "seen:1")
        assert len(notice) == NOTICE_BYTES
        assert open_notice(notice, SECRET, DOCUMENT, "seen:1") == posts
    for secret, document, key in (
        (Secret(b"t" * 32), DOCUMENT, "seen:1"),
        (SECRET, DocumentId(b"e" * 32), "seen:1"),
        (SECRET, DOCUMENT, "seen:2"),
    ):
        with pytest.raises(DecryptionError):
            open_notice(notice, secret, document, key)


@pytest.mark.parametrize("plain", [b"", b"\x80", bytes(15) + b"\x80", bytes(17) + b"\x80", b"\xff" * 256])
def test_a_notice_names_whole_ids(plain: bytes) -> None:
    ad = LABEL_SEEN.encode() + b"\0" + DOCUMENT + b"seen:1"
    notice = NONCE + seal(SECRET, NONCE, plain.ljust(256, b"\0"), ad)
    with pytest.raises(MalformedError):
        open_notice(notice, SECRET, DOCUMENT, "seen:1")
