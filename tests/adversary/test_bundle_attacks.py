"""Bundles that were damaged, cut, joined, forged or swapped: a named error or no effect, and never another state."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from random import Random

import pytest

from cocoon_core.errors import MalformedError, UnknownGroupError, UpdateNeededError, UsageError
from cocoon_core.protocol.bundle import BlobPart, EndPart, EnvelopesPart, Part, TopicPart
from cocoon_core.protocol.constants import MAX_PUT_ENVELOPES
from cocoon_core.protocol.envelope import seal_envelope
from cocoon_core.protocol.ids import TopicId
from cocoon_core.sync.bundle_file import BundleFile, open_bundle
from tests.support.bundle_parsers import write_parts
from tests.support.dying import dies_after
from tests.support.world import Seat, World, make_world, state_of  # noqa: F401  a fixture


def parts_in(path: Path) -> tuple[dict[TopicId, tuple[bool, list[bytes]]], list[bytes]]:
    bundle = open_bundle(path)
    topics = {
        topic: (held.sealed, [envelope for _, part in bundle.envelopes(topic) for envelope in part])
        for topic, held in bundle.topics.items()
    }
    blobs = [data for name in sorted(bundle._blobs) if (data := bundle.blob(name)) is not None]
    bundle.close()
    return topics, blobs


def write(path: Path, topics: dict[TopicId, tuple[bool, list[bytes]]], blobs: list[bytes]) -> Path:
    """A file that is right in form, with this in it."""
    parts: list[Part] = []
    for topic, (sealed, envelopes) in sorted(topics.items()):
        parts.append(TopicPart(topic, sealed))
        for at in range(0, len(envelopes), MAX_PUT_ENVELOPES):
            parts.append(EnvelopesPart(tuple(envelopes[at : at + MAX_PUT_ENVELOPES])))
    count = sum(len(envelopes) for _, envelopes in topics.values())
    path.write_bytes(write_parts(*parts, *map(BlobPart, blobs), EndPart(len(topics), count, len(blobs))))
    return path


async def slept(world: World, tmp_path: Path) -> tuple[Seat, Seat, Path]:
    """Ana wrote and rotated; Ben slept; and the bundle that would wake him."""
    ana, ben = await world.group("ana", "ben")
    await ana.group.feed.post("one")
    await ana.group.rotate()
    await ana.group.feed.post("two")
    await ana.group.export_bundle(tmp_path / "whole")
    return ana, ben, tmp_path / "whole"


async def fingerprint(seat: Seat) -> object:
    """All that a file could have changed: every row of every table."""
    database = seat.replica.database
    tables = [name for (name,) in database.query("SELECT name FROM sqlite_master WHERE type='table' ORDER BY name")]
    return {table: sorted(map(repr, database.query(f"SELECT * FROM {table}"))) for table in tables}


async def test_attack_01_a_bundle_with_any_byte_changed_is_refused_and_changes_nothing(
    world: World, tmp_path: Path
) -> None:
    _, ben, whole = await slept(world, tmp_path)
    raw, chance = whole.read_bytes(), Random(1)
    before = await fingerprint(ben)
    places = {*range(64), *range(len(raw) - 64, len(raw)), *(chance.randrange(len(raw)) for _ in range(200))}
    for place in places:
        bad = tmp_path / "bad"
        bad.write_bytes(raw[:place] + bytes((raw[place] ^ (1 << chance.randrange(8)),)) + raw[place + 1 :])
        with pytest.raises((MalformedError, UpdateNeededError)):
            await ben.running.import_bundle(bad)
    assert await fingerprint(ben) == before


async def test_attack_07_a_bundle_cut_off_anywhere_is_refused_and_changes_nothing(world: World, tmp_path: Path) -> None:
    _, ben, whole = await slept(world, tmp_path)
    raw, chance = whole.read_bytes(), Random(7)
    before = await fingerprint(ben)
    for length in {*range(80), *(chance.randrange(len(raw)) for _ in range(200)), len(raw) - 1}:
        (tmp_path / "cut").write_bytes(raw[:length])
        with pytest.raises(MalformedError):
            await ben.running.import_bundle(tmp_path / "cut")
    assert await fingerprint(ben) == before


async def test_attack_15_what_is_moved_between_topics_groups_and_blobs_is_refused(world: World, tmp_path: Path) -> None:
    ana, ben, whole = await slept(world, tmp_path)
    topics, blobs = parts_in(whole)
    held = set(ben.replica.epochs.held)
    first, *others = topics.values()
    swapped = dict(zip(topics, [*others, first], strict=True))
    await ben.running.import_bundle(write(tmp_path / "swapped", swapped, blobs))
    assert await ben.texts() == []
    assert set(ben.replica.epochs.held) == held
    await ben.running.import_bundle(whole)
    assert await ben.texts() == ["one", "two"]
    assert await state_of(ana) == await state_of(ben)


async def test_attack_12_a_bundle_that_withholds_takes_nothing_from_who_gets_the_whole_one(
    world: World, tmp_path: Path
) -> None:
    ana, ben, whole = await slept(world, tmp_path)
    topics, blobs = parts_in(whole)
    for number, (lacking, kept) in enumerate([(topic, blobs) for topic in topics] + [(None, [])]):
        some = {topic: found for topic, found in topics.items() if topic != lacking}
        for topic, (sealed, envelopes) in list(some.items()):
            some[topic] = sealed, envelopes[len(envelopes) // 2 :]
        file = write(tmp_path / f"some {number}", some, list(kept))
        try:
            await ben.running.import_bundle(file)
        except UnknownGroupError:
            assert lacking == ben.replica.epoch.topic
    kinds = {kind for kind, _, _, _ in ben.replica.groups.alarms(ben.replica.record.number)}
    assert not kinds & {"withheld", "relay-lost", "excluded", "manifest"}
    await ben.running.import_bundle(whole)
    assert await state_of(ana) == await state_of(ben)


async def test_a_forged_seal_neither_ends_an_epoch_nor_stops_the_group(world: World, tmp_path: Path) -> None:
    ana, ben = await world.group("ana", "ben")
    await ana.group.feed.post("x")
    await ana.group.export_bundle(tmp_path / "b")
    topics, blobs = parts_in(tmp_path / "b")
    forged = {topic: (True, envelopes) for topic, (_, envelopes) in topics.items()}
    before = ben.replica.epoch.topic
    await ben.running.import_bundle(write(tmp_path / "forged", forged, blobs))
    assert await ben.texts() == ["x"]
    assert ben.replica.epoch.topic == before
    await world.level()
    assert ben.replica.epoch.topic == before
    assert await state_of(ana) == await state_of(ben)


async def test_attack_16_a_removed_members_file_brings_nothing_in(world: World, tmp_path: Path) -> None:
    ana, ben, cleo = await world.group("ana", "ben", "cleo")
    old = ben.replica.epoch
    await ana.group.remove_member(ana.group.find_member("ben"))
    await world.level([ana, cleo])
    await ben.group.feed.post("from outside")
    ben.replica.form_runs()
    wires = [run.wire for run in ben.replica.log.runs_above({})]
    file = write(tmp_path / "b", {old.topic: (False, [seal_envelope(wire, old) for wire in wires])}, [])
    for seat in (ana, cleo):
        await seat.running.import_bundle(file)
        assert await seat.texts() == []
    await world.level([ana, cleo])
    assert await state_of(ana) == await state_of(cleo)


async def test_attack_19_a_bundle_shows_no_name_and_no_word(world: World, tmp_path: Path) -> None:
    ana, _ = await world.group("wilhelmina", "bartholomew")  # three letters stand in any twenty kilobytes now and then
    canary = "QUINCE-MARMALADE"
    await ana.group.feed.post(canary)
    await ana.group.rotate()
    await ana.group.feed.post(f"{canary} again")
    await ana.group.export_bundle(tmp_path / "b")
    raw = (tmp_path / "b").read_bytes()
    assert {member.name for member in ana.group.members()} == {"Wilhelmina", "Bartholomew"}
    for word in (canary, "Family", "Wilhelmina", "Bartholomew"):
        assert word.encode() not in raw
    assert bytes(ana.replica.group) not in raw
    assert bytes(ana.device) not in raw
    assert ana.replica.epoch.secret.reveal() not in raw


async def test_attack_41_what_is_no_file_is_not_opened(world: World, tmp_path: Path) -> None:
    (ana,) = await world.group("ana")
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "nothing", "."):
        with pytest.raises(UsageError):
            await ana.running.import_bundle(tmp_path / name)


async def test_a_file_that_changes_while_it_is_read_is_noticed(world: World, tmp_path: Path) -> None:
    ana, _ = await world.group("ana", "ben")
    await ana.group.feed.post("x")
    await ana.group.export_bundle(tmp_path / "b")
    with (tmp_path / "b").open("r+b") as file:
        bundle = BundleFile(file)
        file.seek(-200, 2)
        file.write(bytes(100))
        file.flush()
        with pytest.raises(MalformedError):
            for topic in bundle.topics:
                list(bundle.envelopes(topic))


async def test_attack_44_killed_between_any_two_transactions_of_an_import_it_can_be_repeated(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana, ben, whole = await slept(world, tmp_path)
    template = tmp_path / "asleep"
    await ben.stop()
    shutil.copytree(ben.home, template)
    wanted = await state_of(ana)
    for transactions in range(100):
        home = tmp_path / f"try {transactions}"
        shutil.copytree(template, home)
        ben.home = home
        await ben.start()
        died = await dies_after(
            monkeypatch,
            ben,
            transactions,
            lambda: ben.running.import_bundle(whole),
            tmp_path / f"dead {transactions}",
        )
        assert ben.replica.groups.guests(ben.replica.record.number) == []
        if died:
            await ben.running.import_bundle(whole)
        assert await state_of(ben) == wanted
        await ben.stop()
        if not died:
            break
    else:
        raise AssertionError("it dies every time")
    assert transactions > 4
