"""Files go to every relay and come from any: over lost connections, relays that lie, lose and change, and leases."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cocoon_core.errors import DecryptionError, MalformedError, NotYetError, RelayError, RelayMisbehaved
from cocoon_core.protocol.constants import CHUNK_BYTES, VAULT_OTHERS_RENEW_DAYS, VAULT_RENEW_DAYS
from cocoon_core.protocol.ids import BlobHash
from cocoon_core.protocol.primitives import Secret
from cocoon_core.protocol.vault_file import FileRef
from cocoon_core.sync.blobs import IN_FLIGHT
from cocoon_core.sync.relay_list import DAY_MS
from cocoon_core.vault.places import length_of_all
from cocoon_core.vault.reports import Transfer
from cocoon_core.vault.sources import BytesSource
from cocoon_core.vault.transfers import Transfers
from tests.support.flips import flip
from tests.support.memory_relay import MemoryRelay
from tests.support.vault import some_bytes
from tests.support.world import Seat, World, make_world  # noqa: F401  a fixture

MIB = CHUNK_BYTES


def transfers(seat: Seat) -> Transfers:
    return seat.group._transfers


async def add(seat: Seat, data: bytes) -> FileRef:
    ref = await transfers(seat).seal(BytesSource(data))
    with seat.replica.database.transaction():
        transfers(seat).send(ref)
    return ref


async def fetched(seat: Seat, ref: FileRef) -> bytes:
    target = seat.home.parent / f"{seat.name}-out"
    await transfers(seat).write_to(ref, target, replace=True)
    return target.read_bytes()


def blobs_at(relay: MemoryRelay, ref: FileRef) -> set[BlobHash]:
    return set(ref.names) & set(relay.blobs.kept)


def puts(relay: MemoryRelay) -> list[str]:
    return [path for method, path in relay.blobs.requests if method == "PUT"]


def gets_at(relay: MemoryRelay) -> list[str]:
    return [path for method, path in relay.blobs.requests if method == "GET" and "/blobs/" in path]


def puts_of(relay: MemoryRelay, ref: FileRef) -> list[str]:
    named = {name.hex() for name in ref.names}
    return [path for path in puts(relay) if path.removeprefix("/v1/blobs/") in named]


def refers(seats: list[Seat], refs: list[FileRef], owner: Seat) -> None:
    def give(is_own: bool) -> Callable[[], Any]:
        return lambda: [(is_own, ref) for ref in refs]

    for seat in seats:
        transfers(seat).references = give(seat is owner)
        transfers(seat).is_named = {ref.id() for ref in refs}.__contains__


@pytest.mark.parametrize("size", [0, 3 * MIB + 5, 34 * MIB])
async def test_a_file_goes_to_every_relay_and_comes_from_any(world: World, size: int) -> None:
    one, two = world.add_relay(), world.add_relay()
    ana, ben = await world.group("ana", "ben", relays=[one, two])
    told: list[Transfer] = []
    ref = await add(ana, data := some_bytes(size))
    assert transfers(ana).state(ref).waits_for == (one.url, two.url)
    report = await ana.group.sync(on_transfer=told.append)
    assert (report.files.sent, report.files.errors) == (2, [])
    assert transfers(ana).state(ref).waits_for == ()
    assert {(one.relay, one.progress.total) for one in told} == {
        (one.url, length_of_all(size)),
        (two.url, length_of_all(size)),
    }
    for relay in (one, two):
        assert len(relay.blobs.kept) >= ref.chunks
        assert len(puts(relay)) == len(set(puts(relay))), "nothing twice"
    one.reachable = False
    assert await fetched(ben, ref) == data
    one.reachable, two.reachable = True, False
    assert transfers(ben).state(ref).is_here
    transfers(ben).let_go(ref)
    assert await fetched(ben, ref) == data
    quiet = len(one.blobs.requests)
    assert (await ana.sync()).files.sent == 0
    assert not [path for method, path in one.blobs.requests[quiet:] if method == "PUT"]


async def test_attack_08_an_upload_that_is_broken_off_goes_on_and_puts_nothing_twice(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every blob, over a restart of the device each time."""
    relay = world.add_relay()
    (ana,) = await world.group("ana")
    ref = await add(ana, some_bytes(7 * MIB))
    kept, honest = 0, relay.blobs.answer

    def answer(method: str, path: str, *rest: Any) -> Any:
        nonlocal kept
        if method == "PUT":
            kept += 1
            if kept % 2 == 0:
                relay.reachable = False
        return honest(method, path, *rest)

    monkeypatch.setattr(relay.blobs, "answer", answer)
    rounds = 0
    while transfers(ana).state(ref).waits_for:
        rounds += 1
        await ana.sync()
        await ana.restart()
        relay.reachable = True
    assert 3 <= rounds <= 9
    assert blobs_at(relay, ref) == set(ref.names)
    assert len(puts_of(relay, ref)) == len(set(puts_of(relay, ref))) == len(ref.names)


async def test_attack_08_a_download_that_is_broken_off_goes_on_at_another_relay(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = world.add_relay(), world.add_relay()
    ana, ben = await world.group("ana", "ben", relays=[one, two])
    ref = await add(ana, data := some_bytes(4 * IN_FLIGHT * MIB))
    await ana.sync()
    for relay in (one, two):
        relay.blobs.requests.clear()

    def breaking(relay: MemoryRelay) -> Callable[..., Any]:
        honest, served = relay.blobs.answer, 0

        def answer(method: str, path: str, *rest: Any) -> Any:
            nonlocal served
            if method == "GET" and path.startswith("/v1/blobs/"):
                served += 1
                relay.reachable = served != IN_FLIGHT + 2
            return honest(method, path, *rest)

        return answer

    for relay in (one, two):
        monkeypatch.setattr(relay.blobs, "answer", breaking(relay))
    with pytest.raises(RelayError):
        await transfers(ben).fetch(ref)
    held = transfers(ben).state(ref).held
    assert 0 < held < length_of_all(ref.size)
    await ben.restart()
    assert transfers(ben).state(ref).held == held
    one.reachable = two.reachable = True
    report = await ben.sync()
    assert report.files.fetched == 1, "a sync goes on with it"
    assert await fetched(ben, ref) == data
    gets = [
        path for relay in (one, two) for method, path in relay.blobs.requests if method == "GET" and "blobs" in path
    ]
    assert len(gets) <= ref.chunks + len(ref.names) + IN_FLIGHT, "what came before is not fetched again"


async def test_attack_18_chunks_that_are_swapped_dropped_or_altered_are_taken_from_elsewhere(world: World) -> None:
    """By one of two relays; and by both, when nothing of it is written anywhere."""
    one, two = world.add_relay(), world.add_relay()
    ana, ben = await world.group("ana", "ben", relays=[one, two])
    ref = await add(ana, data := some_bytes(5 * MIB + 9))
    await ana.sync()
    kept, names = dict(one.blobs.kept), ref.names
    lies: list[Callable[[BlobHash], bytes | None]] = [
        lambda blob: kept[names[(names.index(blob) + 1) % 5]] if blob in names[:5] else kept.get(blob),  # swapped
        lambda blob: kept[names[0]] if blob in names else kept.get(blob),  # doubled
        lambda blob: None if blob == names[2] else kept.get(blob),  # dropped
        lambda blob: flip(kept[blob]) if blob == names[3] else kept.get(blob),  # altered
        lambda blob: kept[blob][:-1] if blob == names[3] else kept.get(blob),  # cut off: attack 7
        lambda blob: kept[blob] + b"\0" if blob == names[3] else kept.get(blob),  # longer
    ]
    honest = one.blobs.serve
    for lie in lies:
        one.blobs.serve = lie  # type: ignore[method-assign, assignment]
        assert await fetched(ben, ref) == data
        transfers(ben).let_go(ref)
    target = ben.home.parent / "none"
    for lie in lies:
        one.blobs.serve = two.blobs.serve = lie  # type: ignore[method-assign, assignment]
        with pytest.raises((RelayMisbehaved, NotYetError)):
            await transfers(ben).write_to(ref, target)
        assert not target.exists()
        transfers(ben).let_go(ref)
    one.blobs.serve = two.blobs.serve = honest  # type: ignore[method-assign]
    assert await fetched(ben, ref) == data


async def test_attack_15_blobs_of_another_file_or_group_do_not_open(world: World) -> None:
    """A member names the blobs of others in an item of their own: it fails, and shows nothing."""
    world.add_relay()
    ana, ben = await world.group("ana", "ben")
    ref = await add(ana, some_bytes(2 * MIB))
    await ana.sync()
    for bad in (
        FileRef(Secret(bytes(32)), ref.size, ref.names),
        FileRef(ref.key, ref.size, tuple(reversed(ref.names))),
        FileRef(ref.key, ref.size, (ref.names[1], ref.names[1], ref.names[2])),
    ):
        with pytest.raises((DecryptionError, MalformedError)):
            await fetched(ben, bad)
        report = await ben.sync()
        assert report.files.fetched == 0, "it is not fetched for ever"


async def test_a_file_that_was_not_sent_yet_is_told_as_such(world: World) -> None:
    world.add_relay()
    ana, ben = await world.group("ana", "ben")
    ref = await add(ana, data := some_bytes(2 * MIB))
    with pytest.raises(NotYetError):
        await transfers(ben).fetch(ref)
    await ana.sync()
    assert (await ben.sync()).files.fetched == 1
    assert await fetched(ben, ref) == data


async def test_a_part_fetches_no_more_than_it_needs(world: World) -> None:
    relay = world.add_relay()
    ana, ben = await world.group("ana", "ben")
    ref = await add(ana, data := some_bytes(40 * MIB))
    await ana.sync()
    relay.blobs.requests.clear()
    start, stop = 20 * MIB - 7, 21 * MIB + 7
    assert b"".join([part async for part in transfers(ben).read(ref, start, stop)]) == data[start:stop]
    gets = gets_at(relay)
    assert len(gets) == 3 + 1, "three chunks and one of the list"
    assert b"".join([part async for part in transfers(ben).read(ref, start, stop)]) == data[start:stop]
    assert gets_at(relay) == gets


async def test_a_new_relay_is_given_what_it_lacks_though_it_is_not_here_any_more(world: World) -> None:
    one = world.add_relay()
    ana, ben = await world.group("ana", "ben", relays=[one])
    ref = await add(ana, data := some_bytes(3 * MIB))
    await ana.sync()
    refers([ana, ben], [ref], ana)
    transfers(ana).let_go(ref)
    two = world.add_relay()
    await ana.group.set_policy(relays=(one.url, two.url))
    report = await ana.sync()
    assert blobs_at(two, ref) == set(ref.names), report.files
    await ben.sync()
    one.reachable = False
    assert await fetched(ben, ref) == data


async def test_leases_are_renewed_by_the_owner_and_later_by_others(world: World) -> None:
    relay = world.add_relay()
    ana, ben = await world.group("ana", "ben")
    refs = [await add(ana, some_bytes(1000, seed)) for seed in range(3)]
    refers([ana, ben], refs, ana)
    await world.level([ana, ben])

    def pass_days(days: int) -> None:
        world.now_ms += days * DAY_MS
        relay.age(days)

    async def renewals(seat: Seat) -> int:
        return (await seat.sync()).files.renewed

    assert await renewals(ana) == await renewals(ben) == 0
    pass_days(VAULT_RENEW_DAYS - 1)
    assert await renewals(ana) == await renewals(ben) == 0
    pass_days(2)
    assert (await renewals(ana), await renewals(ben)) == (3, 0)
    pass_days(VAULT_OTHERS_RENEW_DAYS - VAULT_RENEW_DAYS)
    assert await renewals(ben) == 3, "whoever is there does it for who is not"
    refers([ana, ben], refs[:1], ana)
    for _ in range(4):
        pass_days(50)
        await ana.sync()
    assert [len(blobs_at(relay, ref)) for ref in refs] == [1, 0, 0], "what no item names any more is let go of"
    assert [transfers(ana).state(ref).held > 0 for ref in refs] == [True, False, False]


async def test_check_finds_what_a_relay_lost_and_puts_it_again(world: World) -> None:
    """Attack 20 for files: from whoever has it, and said where nobody has."""
    relay = world.add_relay()
    ana, ben = await world.group("ana", "ben")
    kept, lost, gone = [await add(ana, some_bytes(2 * MIB, seed)) for seed in range(3)]
    refers([ana, ben], [kept, lost, gone], ana)
    await world.level([ana, ben])
    await transfers(ben).fetch(lost)
    for ref in (lost, gone):
        transfers(ana).let_go(ref)
        for name in ref.names[:2]:
            del relay.blobs.kept[name]
    (found,) = (await transfers(ana).check([relay.url])).relays
    assert (found.files, found.lacking, found.still_lacking, found.error) == (3, 2, 2, None)
    (found,) = (await transfers(ben).check([relay.url])).relays
    assert (found.lacking, found.still_lacking) == (2, 1)
    assert blobs_at(relay, lost) == set(lost.names)
    with pytest.raises(NotYetError):
        await fetched(ben, gone)


async def test_a_damaged_disk_is_mended_from_a_relay_and_never_sent(world: World) -> None:
    one, two = world.add_relay(), world.add_relay()
    ana, ben = await world.group("ana", "ben", relays=[one, two])
    ref = await add(ana, data := some_bytes(3 * MIB))
    await ana.sync()

    def damage(seat: Seat) -> None:
        record = transfers(seat).holding.find(ref)
        assert record is not None
        with (transfers(seat).holding.store.folder / record.place).open("r+b") as file:
            file.seek(MIB + 100)
            file.write(b"damage")

    damage(ana)
    for name in ref.names:
        two.blobs.kept.pop(name)
    refers([ana], [ref], ana)
    check = await transfers(ana).check([one.url, two.url])
    assert check.damaged == 1
    assert blobs_at(two, ref) == set(ref.names)
    await ben.sync()
    assert await fetched(ben, ref) == data
    damage(ben)
    assert await fetched(ben, ref) == data, "what the disk damaged is fetched again"
    fresh = await add(ana, some_bytes(2 * MIB, seed=5))
    record = transfers(ana).holding.find(fresh)
    assert record is not None
    path: Path = transfers(ana).holding.store.folder / record.place
    path.write_bytes(path.read_bytes()[:-9] + b"damage...")
    report = await ana.sync()
    assert report.files.lost == 2, "both relays were told all that is left"


async def test_a_relay_that_is_full_is_told_and_tried_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from cocoon_core.protocol.frames import ErrorCode
    from cocoon_relay.refusal import Refusal

    relay = world.add_relay()
    (ana,) = await world.group("ana")
    ref = await add(ana, some_bytes(2 * MIB))
    honest = relay.blobs.keep

    def full(blob: BlobHash, data: bytes) -> bool:
        raise Refusal(ErrorCode.QUOTA, "this topic has used up its share")

    monkeypatch.setattr(relay.blobs, "keep", full)
    report = await ana.sync()
    assert report.relays[0].ok
    assert len(report.files.errors) == 1
    assert transfers(ana).state(ref).waits_for == (relay.url,)
    monkeypatch.setattr(relay.blobs, "keep", honest)
    assert (await ana.sync()).files.sent == 1


async def test_an_upload_goes_on_after_a_rotation(world: World) -> None:
    """The proof is that of the epoch which is written to."""
    relay = world.add_relay()
    ana, ben = await world.group("ana", "ben")
    ref = await add(ana, data := some_bytes(2 * MIB))
    await ana.group.rotate()
    await ana.sync()
    assert blobs_at(relay, ref) == set(ref.names)
    await ben.sync()
    assert await fetched(ben, ref) == data


async def test_the_same_file_again_is_stored_once(world: World) -> None:
    relay = world.add_relay()
    ana, ben = await world.group("ana", "ben")
    ref = await add(ana, data := some_bytes(34 * MIB))
    await ana.sync()
    await ben.sync()
    before = puts_of(relay, ref)
    again = await transfers(ben).seal(BytesSource(data), [ref])
    assert again == ref
    with ben.replica.database.transaction():
        transfers(ben).send(again)
    assert (await ben.sync()).files.sent == 1
    assert puts_of(relay, ref) == before
    other = await transfers(ben).seal(BytesSource(flip(data)), [ref])
    assert other.key != ref.key
    assert not set(other.names) & set(ref.names)


async def test_many_small_files_go_and_come_in_one_run(world: World) -> None:
    relay = world.add_relay()
    ana, ben = await world.group("ana", "ben")
    refs = [await add(ana, some_bytes(500, seed)) for seed in range(30)]
    refers([ana, ben], refs, ana)
    assert (await ana.sync()).files.sent == 30
    await ben.sync()
    report = await transfers(ben).fetch_all(refs)
    assert (report.fetched, report.errors) == (30, [])
    before = len(gets_at(relay))
    assert (await transfers(ben).fetch_all(refs)).fetched == 0
    assert len(gets_at(relay)) == before == 30


async def test_what_a_hostile_member_names_keeps_nobody_asking(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of others with very many chunks is renewed by its owner alone, and one run asks for so much."""
    relay = world.add_relay()
    ana, ben = await world.group("ana", "ben")
    large = await add(ana, some_bytes(6 * MIB))
    small = [await add(ana, some_bytes(100, seed)) for seed in range(9)]
    refers([ana, ben], [large, *small], ana)
    await world.level([ana, ben])
    monkeypatch.setattr("cocoon_core.vault.leases.MOST_NAMES", 3)
    monkeypatch.setattr("cocoon_core.vault.leases._HAVE", 2)
    days = VAULT_OTHERS_RENEW_DAYS + 1
    world.now_ms += days * DAY_MS
    relay.age(days)
    counts = [(await ben.sync()).files.renewed for _ in range(5)]
    assert sum(counts) == len(small), counts
    assert counts[0] <= 4, "the rest waits for the next sync"
    owner = sum([(await ana.sync()).files.renewed for _ in range(5)])
    assert owner == len(small) + 1
