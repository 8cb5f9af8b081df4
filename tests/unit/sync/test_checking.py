"""What is stored is damaged here, place by place, and found; caches are repaired, and truth is fetched again.

Each case ends with a profile that is as before, or says what is left. A sound profile is only read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cocoon_core import CheckReport
from cocoon_core.protocol.ids import DeviceId
from cocoon_core.storage.database import Database
from cocoon_core.sync import checking
from tests.support.flips import flip
from tests.support.world import SCHEMA, Seat, World, make_world, state_of  # noqa: F401  a fixture

SKIPPED = {"alarms", "set_aside"}


def dump(database: Database) -> dict[str, list[Any]]:
    tables = [name for (name,) in database.query("SELECT name FROM sqlite_schema WHERE type='table' ORDER BY name")]
    return {name: database.query(f'SELECT * FROM "{name}"') for name in tables if not name.startswith("sqlite_")}


def kinds(report: CheckReport) -> set[str]:
    return {finding.what for finding in report.findings}


async def lived(world: World) -> tuple[Seat, Seat]:
    """Ana and Ben with posts, a shared list, a rotation with a manifest, more after it, and something unsent."""
    ana, ben = await world.group("ana", "ben")
    for number in range(4):
        post = await ana.group.feed.post(f"ana {number}")
        await ben.group.feed.post(f"ben {number}")
        await world.level()
        await ben.group.feed.reply(post.id, "answer")
        async with ben.group.document("list", SCHEMA).change() as doc:
            doc["items"][str(number)] = number
            doc["lines"].append("x")
    await ana.group.feed.pin(post.id)
    await world.level()
    await ana.group.rotate()
    await world.level()
    for number in range(3):
        await ana.group.feed.post(f"ana later {number}")
        await ben.group.feed.post(f"ben later {number}")
        await world.level()
    await ana.group.feed.post("unsent")
    for seat in (ana, ben):
        with seat.replica.transaction():
            seat.replica.shelf.save_caches(at_least=1)
    return ana, ben


async def test_a_sound_profile_is_only_read(world: World) -> None:
    for seat in await lived(world):
        before = dump(seat.replica.database)
        report = await seat.running.check()
        assert report.findings == ()
        assert report.sound
        assert dump(seat.replica.database) == before
        assert report.checked["runs"] >= 10
        assert report.checked["documents"] >= 3
        await seat.restart()
        assert (await seat.running.check()).findings == ()


# --- caches: damaged, found, repaired


CACHES: dict[str, tuple[str, str]] = {
    "a post's text": ("view", "UPDATE posts SET text='forged' WHERE rowid=(SELECT min(rowid) FROM posts)"),
    "a post's author": ("view", "UPDATE posts SET member=zeroblob(32) WHERE rowid=(SELECT min(rowid) FROM posts)"),
    "a post's document": (
        "view",
        "UPDATE posts SET document_no=(SELECT max(id) FROM documents) WHERE rowid=(SELECT min(rowid) FROM posts)",
    ),
    "a mark that is missing": ("view", "DELETE FROM post_marks"),
    "a mark that nobody made": (
        "view",
        "INSERT INTO post_marks SELECT group_no, 'hidden', post, document_no, 1 FROM post_marks",
    ),
    "a mark under another document": ("view", "UPDATE post_marks SET document_no=(SELECT min(id) FROM documents)"),
    "a post that is missing": ("view", "DELETE FROM posts WHERE rowid=(SELECT min(rowid) FROM posts)"),
    "a post that nobody wrote": (
        "view",
        "INSERT INTO posts (group_no, post, document_no, key, member, text, time_ms, edited) "
        "SELECT group_no, zeroblob(16), document_no, 'post:x', member, 'forged', 1, 0 FROM posts LIMIT 1",
    ),
    "a post under no feed": (
        "view",
        "INSERT INTO posts (group_no, post, document_no, key, member, text, time_ms, edited) "
        "SELECT 1, zeroblob(16), (SELECT id FROM documents WHERE id NOT IN (SELECT document_no FROM posts)), "
        "'post:x', zeroblob(32), 'forged', 1, 0",
    ),
    "a document's cache": ("cache", "UPDATE documents SET cache=x'8240810100'"),
    "a cache of another document": (
        "cache",
        "UPDATE documents SET cache=(SELECT cache FROM documents d WHERE d.id<>documents.id AND cache IS NOT NULL)",
    ),
    "a cache that claims too much": ("cache", "UPDATE documents SET cached_run=0 WHERE cache IS NOT NULL AND 0"),
    "a refusal that never was": (
        "verdicts",
        "INSERT INTO refused (document_no, change, device, code, reason) "
        "SELECT id, zeroblob(32), zeroblob(32), 'malformed', 'x' FROM documents LIMIT 1",
    ),
    "a change that does not wait": (
        "verdicts",
        "INSERT INTO waiting (document_no, missing, change, run) "
        "SELECT id, zeroblob(32), zeroblob(32), 1 FROM documents LIMIT 1",
    ),
    "a call that never was": (
        "verdicts",
        "INSERT INTO called (document_no, change) SELECT id, zeroblob(32) FROM documents LIMIT 1",
    ),
    "a chain's end": ("chain", "UPDATE chains SET last_seq=last_seq-1 WHERE device=(SELECT min(device) FROM chains)"),
    "a chain's id": ("chain", "UPDATE chains SET last_id=zeroblob(32)"),
    "a chain that is missing": ("chain", "DELETE FROM chains"),
    "heads": ("heads", "UPDATE heads SET change=zeroblob(32)"),
    "heads that are missing": ("heads", "DELETE FROM heads"),
    "the seq beside a run": ("run-index", "UPDATE runs SET last_seq=last_seq+100 WHERE id=(SELECT max(id) FROM runs)"),
    "the id beside a run": ("run-index", "UPDATE runs SET last_id=zeroblob(32) WHERE id=(SELECT min(id) FROM runs)"),
    "the device beside a run": ("run-index", "UPDATE runs SET device=zeroblob(32) WHERE id=(SELECT max(id) FROM runs)"),
    "what a run is": ("run-index", "UPDATE runs SET operation=1-operation WHERE id=(SELECT min(id) FROM runs)"),
    "which document a run changes": (
        "document-runs",
        "DELETE FROM document_runs WHERE run=(SELECT max(run) FROM document_runs)",
    ),
    "a run that is not there": (
        "document-runs",
        "INSERT INTO document_runs (document_no, run) SELECT id, 999999 FROM documents LIMIT 1",
    ),
    "what a document is": (
        "document",
        "UPDATE documents SET descriptor=x'00' WHERE id=(SELECT max(document_no) FROM document_runs)",
    ),
    "what waits for a relay": ("outbox", "UPDATE outbox SET last_id=zeroblob(32)"),
}
DAMAGE_NOTHING = {"a cache that claims too much"}


@pytest.mark.parametrize("name", [name for name in CACHES if name not in DAMAGE_NOTHING])
async def test_a_damaged_cache_is_found_and_repaired(world: World, name: str) -> None:
    what, sql = CACHES[name]
    ana, ben = await lived(world)
    for relay in world.relays.values():
        relay.reachable = False
    ana.replica.form_runs()
    before_feed, before_state = await ana.texts(), await state_of(ana)
    sound = {table: sorted(rows, key=repr) for table, rows in dump(ana.replica.database).items()}
    assert ana.replica.database.execute(sql) or "INSERT" in sql, "nothing was damaged"
    await ana.stop()
    await ana.start()

    told = await ana.running.check(repair=False)
    assert what in kinds(told), told
    assert not told.sound
    report = await ana.running.check()
    assert what in kinds(report), report
    assert report.sound, report
    assert (await ana.running.check()).findings == ()
    await ana.restart()
    assert await ana.texts() == before_feed
    assert await state_of(ana) == before_state
    after = {table: sorted(rows, key=repr) for table, rows in dump(ana.replica.database).items()}
    for table in sound.keys() - SKIPPED - {"documents", "outbox", "posts"}:
        if table == "chains":  # when an entry was written is display alone
            assert [row[:4] for row in after[table]] == [row[:4] for row in sound[table]]
        else:
            assert after[table] == sound[table], table
    for relay in world.relays.values():
        relay.reachable = True
    await world.level([ana, ben])
    assert await state_of(ana) == await state_of(ben)


async def test_nothing_is_written_where_it_is_not_to_be_repaired(world: World) -> None:
    ana, _ = await lived(world)
    database = ana.replica.database
    for name in ("a post's text", "heads", "a chain's id", "the id beside a run"):
        database.execute(CACHES[name][1])
    before = dump(database)
    report = await ana.running.check(repair=False)
    assert {"view", "heads", "chain", "run-index"} <= kinds(report)
    assert dump(database) == before


# --- truth: damaged, found, never taken for something else, fetched again


def damage_wire(seat: Seat, where: str, change: Callable[[bytes], bytes], table: str = "runs") -> int:
    database = seat.replica.database
    (number, wire) = database.query_one(f"SELECT rowid, wire FROM {table} WHERE {where}") or (0, b"")
    assert wire
    database.execute(f"UPDATE {table} SET wire=? WHERE rowid=?", (change(wire), number))
    return int(number)


@pytest.mark.parametrize(
    "change", [flip, lambda wire: wire[:-9], lambda wire: b"", lambda wire: flip(wire, len(wire) // 2)]
)
@pytest.mark.parametrize("whose", ["newest of another", "middle of another", "newest of the own", "middle of the own"])
async def test_a_damaged_run_is_set_aside_and_fetched_again(
    world: World, whose: str, change: Callable[[bytes], bytes]
) -> None:
    ana, ben = await world.group("ana", "ben")
    for number in range(4):
        await ana.group.feed.post(f"ana {number}")
        await ben.group.feed.post(f"ben {number}")
        await world.level()
    before = await state_of(ana)
    device = ana.device if "own" in whose else ben.device
    order = "DESC LIMIT 1" if "newest" in whose else "DESC LIMIT 1 OFFSET 1"
    where = f"id=(SELECT id FROM runs WHERE device=x'{device.hex()}' ORDER BY last_seq {order})"
    damage_wire(ana, where, change)
    own_end = ana.replica.chains[ana.device]
    await ana.stop()
    await ana.start()
    report = await ana.running.check()
    if change is flip and "middle" in whose:  # its own signature is gone, but the next run's names it
        assert report.findings == ()
        return
    assert "run" in kinds(report)
    assert ana.replica.database.query_value("SELECT count(*) FROM set_aside") == 1
    assert ana.replica.chains[ana.device].last_seq == own_end.last_seq  # no place of it is ever used again
    await ana.restart()
    await ana.sync()
    assert (await ana.running.check()).findings == ()
    assert await state_of(ana) == before
    await ana.group.feed.post("goes on")
    await world.level([ana, ben])
    assert await ben.texts() == await ana.texts()
    assert ben.replica.log.forks() == {}
    assert await state_of(ana) == await state_of(ben)


async def test_a_damaged_operation_is_fetched_again(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    before = await state_of(ben)
    damage_wire(ben, "operation AND id=(SELECT max(id) FROM runs WHERE operation)", lambda wire: wire[:-9])
    await ben.stop()
    await ben.start()
    report = await ben.running.check()
    assert "run" in kinds(report)
    await ben.restart()
    await ben.sync()
    await ben.restart()
    assert await state_of(ben) == before
    assert ana.device in ben.replica.members.roster.devices


async def test_a_run_of_a_newer_version_is_no_damage(world: World) -> None:
    ana, _ = await lived(world)
    number = damage_wire(ana, "id=(SELECT min(id) FROM runs)", lambda wire: wire[:1] + b"\x09" + wire[2:])
    report = await ana.running.check()
    assert "newer" in kinds(report)
    assert not report.sound
    assert ana.replica.database.query_value("SELECT count(*) FROM runs WHERE id=?", (number,)) == 1
    assert ana.replica.database.query_value("SELECT count(*) FROM set_aside") == 0


@pytest.mark.parametrize("table", ["side_runs", "rekeys", "parked", "loose_runs"])
async def test_what_stands_beside_the_log_proves_itself(world: World, table: str) -> None:
    ana, ben = await lived(world)
    database = ana.replica.database
    device, last_id, wire = database.query_one("SELECT device, last_id, wire FROM runs ORDER BY id DESC LIMIT 1") or ()
    columns = {
        "side_runs": ("group_no, last_id, wire", (1, last_id, flip(wire))),
        "rekeys": ("group_no, device, seq, wire", (1, device, 3, flip(wire))),
        "parked": ("group_no, device, first_seq, last_id, wire", (1, device, 9, last_id, flip(wire))),
        "loose_runs": ("group_no, device, first_seq, last_id, wire", (1, device, 9, last_id, flip(wire))),
    }
    names, values = columns[table]
    database.execute(f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(values))})", values)
    report = await ana.running.check()
    assert [(finding.what, finding.repaired) for finding in report.findings] == [("run", True)]
    assert table in report.findings[0].where
    assert database.query_value("SELECT value FROM set_aside") == flip(wire)
    await world.level([ana, ben])
    assert (await ana.running.check()).findings == ()


async def test_a_changed_own_entry_that_was_not_sent_is_told(world: World) -> None:
    ana, _ = await lived(world)
    assert ana.replica.log.pending_count()
    ana.replica.database.execute("UPDATE pending SET entry_id=zeroblob(32)")
    report = await ana.running.check()
    assert "pending" in kinds(report)
    assert not report.sound
    assert ana.replica.log.pending_count()  # it is truth: nothing else has it


async def newcomer_of(world: World) -> Seat:
    """Somebody who built the group from what a manifest says."""
    ana, _ = await lived(world)
    newcomer = await world.seat("dan")
    link = await ana.group.invite()
    await ana.sync()
    await newcomer.running.join(link, member_name="Dan")
    await world.level()
    assert (await newcomer.running.check()).findings == ()
    return newcomer


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE pages SET part=x'00' WHERE part IS NOT NULL",
        "UPDATE pages SET part=NULL",
        "UPDATE snapshots SET said=x'00'",
        "DELETE FROM snapshots",
    ],
)
async def test_a_damaged_snapshot_is_set_aside_and_fetched_again(world: World, sql: str) -> None:
    dan = await newcomer_of(world)
    before = await state_of(dan)
    assert dan.replica.database.execute(sql)
    await dan.restart()
    assert "snapshot" in kinds(await dan.running.check(repair=False))
    report = await dan.running.check()
    assert "snapshot" in kinds(report)
    await dan.restart()
    for _ in range(2):
        await dan.sync()
    assert (await dan.running.check()).sound
    assert (await dan.running.check()).findings == ()
    assert await state_of(dan) == before


async def test_months_that_are_left_where_they_are_are_no_damage(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    for _ in range(3):
        await ana.group.feed.post("of that month")
        await world.level([ana, ben])
        world.now_ms += 31 * 86_400_000
    await ana.group.feed.post("of this month")
    await ana.group.rotate()
    await world.level([ana, ben], rounds=12)
    link = await ana.group.invite()
    await ana.sync()
    dan = await world.seat("dan")
    joined = await dan.running.join(link, member_name="Dan", reads_all=False)
    before = dump(joined.replica.database)
    report = await dan.running.check()
    assert report.findings == ()
    assert dump(joined.replica.database) == before
    await world.level()
    with dan.replica.transaction():
        dan.replica.groups.set_kept_months(dan.replica.record.number, 1)
    await dan.restart()
    assert (await dan.running.check()).findings == ()


async def test_an_epoch_that_is_damaged_is_told(world: World) -> None:
    ana, _ = await lived(world)
    database = ana.replica.database
    for sql in ("UPDATE epochs SET secret=zeroblob(32)", "UPDATE epochs SET frontier=x'00' WHERE frontier IS NOT NULL"):
        assert database.execute(sql)
        report = await ana.running.check(repair=False)
        assert "epoch" in kinds(report)
        assert not report.sound


async def test_an_index_that_does_not_fit_is_made_anew(world: World) -> None:
    ana, _ = await lived(world)
    database = ana.replica.database
    database.execute("PRAGMA writable_schema=ON")
    sql = database.query_value("SELECT sql FROM sqlite_schema WHERE name='posts_in_feed'")
    database.execute("UPDATE sqlite_schema SET sql=replace(sql, 'IS NULL', 'IS NOT NULL') WHERE name='posts_in_feed'")
    database.execute("PRAGMA writable_schema=RESET")
    await ana.restart()
    database = ana.replica.database
    database.execute("UPDATE posts SET time_ms=time_ms + 1 WHERE parent IS NULL")
    database.execute("PRAGMA writable_schema=ON")
    database.execute("UPDATE sqlite_schema SET sql=? WHERE name='posts_in_feed'", (sql,))
    database.execute("PRAGMA writable_schema=RESET")
    await ana.restart()
    report = await ana.running.check()
    assert "database" in kinds(report), report
    assert report.sound, report
    assert (await ana.running.check()).findings == ()


async def test_rows_that_name_what_is_not_there_are_told(world: World) -> None:
    ana, _ = await lived(world)
    database = ana.replica.database
    database.execute("PRAGMA foreign_keys=OFF")
    database.execute("INSERT INTO heads (group_no, device, document, seq, change) VALUES (77, x'00', x'00', 1, x'00')")
    report = await ana.running.check()
    assert [(finding.what, finding.where) for finding in report.findings] == [("database", "heads")]


async def test_the_check_without_signatures_would_be_fooled(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run whose signature was exchanged is found by that alone."""
    ana, _ = await lived(world)
    device = DeviceId(ana.device)
    where = f"id=(SELECT id FROM runs WHERE device<>x'{device.hex()}' ORDER BY last_seq DESC LIMIT 1)"
    damage_wire(ana, where, flip)
    monkeypatch.setattr(checking, "verify_run", lambda run: run.stored())
    assert "run" not in kinds(await ana.running.check(repair=False))
    monkeypatch.undo()
    assert "run" in kinds(await ana.running.check(repair=False))
