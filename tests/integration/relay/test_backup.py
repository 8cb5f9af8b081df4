"""Backups of a relay: made beside one that serves, brought back as other lives of its topics, never over anything."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from io import BytesIO
from pathlib import Path

import aiohttp
import pytest

from cocoon_core import Cocoon
from cocoon_core.errors import BackupDamagedError, UsageError
from cocoon_core.protocol.frames import Ack
from cocoon_relay import sqlite_backup, sqlite_known
from cocoon_relay.server import Relay
from cocoon_relay.sqlite_backup import DESCRIPTION_NAME, back_up, restore
from cocoon_relay.sqlite_schema import DATABASE_NAME
from cocoon_relay.tokens import TOKENS_NAME, add_token, read_tokens
from tests.integration.relay.test_cli import run
from tests.support.flips import flip
from tests.support.relay_client import authorize, connect, http_url, make_envelope, make_key
from tests.support.relay_process import RelayProcess

Serve = Callable[..., Awaitable[Relay]]


async def put_blob(http: aiohttp.ClientSession, relay: Relay, headers: dict[str, str], body: bytes) -> str:
    name = hashlib.sha256(body).hexdigest()
    async with http.put(f"{http_url(relay.url)}/v1/blobs/{name}", data=BytesIO(body), headers=headers) as answer:
        assert answer.status == 201
    return name


async def test_a_backup_is_made_while_puts_go_on_and_comes_back_as_another_life(
    serve: Serve, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    relay = await serve()
    key = make_key()
    client, beside = await connect(http, relay.url), await connect(http, relay.url)
    opened, _ = await client.open(key)
    await beside.open(key)
    headers = await authorize(http, relay.url, key)
    body = os.urandom(5000)
    blob = await put_blob(http, relay, headers, body)
    add_token(tmp_path / "data" / TOKENS_NAME, "ours")
    before = [make_envelope() for _ in range(20)]
    for envelope in before:
        assert isinstance(await client.put(key, envelope), Ack)
    acked = 0

    async def go_on() -> None:
        nonlocal acked
        while True:
            assert isinstance(await beside.put(key, make_envelope(5_000)), Ack)
            acked += 1

    task = asyncio.create_task(go_on())
    done = await asyncio.to_thread(back_up, tmp_path / "data", tmp_path / "copy")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert isinstance(await client.put(key, make_envelope()), Ack)
    assert (done.topics, done.blobs, done.blob_bytes, done.left_out) == (1, 1, 5000, 0)
    assert 20 <= done.entries <= 21 + acked
    with closing(sqlite3.connect(tmp_path / "copy" / DATABASE_NAME)) as db, db:
        db.execute("UPDATE topics SET touched = 0")  # a backup may be older than any lease
        db.execute("UPDATE blobs SET touched = 0")
    fresh = json.loads((tmp_path / "copy" / DESCRIPTION_NAME).read_text())
    fresh["database"] = sqlite_backup._hash_file(tmp_path / "copy" / DATABASE_NAME)
    (tmp_path / "copy" / DESCRIPTION_NAME).write_text(json.dumps(fresh))
    back = await asyncio.to_thread(restore, tmp_path / "copy", tmp_path / "again")
    assert back == done
    assert [token.name for token in read_tokens(tmp_path / "again" / TOKENS_NAME)] == ["ours"]
    for folder in ("copy", "again"):
        assert (tmp_path / folder).stat().st_mode & 0o777 == 0o700
    again = await serve(tmp_path / "again")
    await again._store.gc()
    reader = await connect(http, again.url)
    reopened, found = await reader.open(key, after=opened.last, incarnation=opened.incarnation)
    assert reopened.incarnation != opened.incarnation
    assert [envelope for _, envelope in found][:20] == before
    assert [seq for seq, _ in found] == list(range(1, done.entries + 1))
    headers = await authorize(http, again.url, key)
    async with http.get(f"{http_url(again.url)}/v1/blobs/{blob}", headers=headers) as answer:
        assert await answer.read() == body
    # What is put again keeps its place, and more can be put.
    assert (await reader.put(key, before[3])).seqs == (4,)  # type: ignore[union-attr]
    assert isinstance(await reader.put(key, make_envelope()), Ack)


async def test_blobs_that_are_gone_or_damaged_are_left_out_and_told(
    serve: Serve, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    relay = await serve()
    key = make_key()
    client = await connect(http, relay.url)
    await client.open(key)
    headers = await authorize(http, relay.url, key)
    bodies = [os.urandom(900) for _ in range(4)]
    names = [await put_blob(http, relay, headers, body) for body in bodies]
    await relay.stop()
    files = {path.name[:64]: path for path in (tmp_path / "data" / "blobs").rglob("*") if path.is_file()}
    files[names[0]].unlink()
    files[names[1]].write_bytes(b"other bytes")
    assert back_up(tmp_path / "data", tmp_path / "copy").left_out == 2
    files = {path.name[:64]: path for path in (tmp_path / "copy" / "blobs").rglob("*") if path.is_file()}
    assert set(files) == set(names[2:])
    files[names[2]].write_bytes(flip(bodies[2]))
    back = restore(tmp_path / "copy", tmp_path / "again")
    assert (back.blobs, back.blob_bytes, back.left_out) == (1, 900, 1)
    again = await serve(tmp_path / "again")
    headers = await authorize(http, again.url, key)
    assert await put_blob(http, again, headers, bodies[2])  # so it is taken in again


def test_nothing_is_written_over_and_what_is_no_backup_is_refused(tmp_path: Path) -> None:
    data, copy = tmp_path / "data", tmp_path / "copy"
    with RelayProcess(data):
        pass
    copy.mkdir()
    (copy / "mine").write_text("mine")
    cases = [
        (("backup", str(copy), "--data", str(data)), 2, "there is something at"),
        (("backup", str(data), "--data", str(data)), 2, "there is something at"),
        (("backup", str(tmp_path / "new"), "--data", str(tmp_path / "none")), 2, "is not the data directory"),
        (("restore", str(copy), "--data", str(tmp_path / "new")), 2, "is not a backup"),
        (("restore", str(tmp_path / "none"), "--data", str(tmp_path / "new")), 2, "is not a backup"),
        (("backup", "--data", str(data)), 2, "DEST"),
        (("backup", "/proc/nowhere/copy", "--data", str(data)), 6, "cannot be used"),
    ]
    for words, code, text in cases:
        done = run(*words)
        assert (done.returncode, done.stdout) == (code, ""), done
        assert text in done.stderr
    assert [path.name for path in copy.iterdir()] == ["mine"]
    assert not (tmp_path / "new").exists()
    shown = json.loads(run("backup", str(tmp_path / "b"), "--data", str(data), "--json").stdout)
    assert (shown["backed_up"], shown["topics"], shown["left_out"]) == (str(tmp_path / "b"), 0, 0)
    assert "there is something at" in run("restore", str(tmp_path / "b"), "--data", str(data)).stderr
    (tmp_path / "empty").mkdir()
    done = run("restore", str(tmp_path / "b"), "--data", str(tmp_path / "empty"))
    assert (done.returncode, done.stdout.splitlines()[1]) == (0, "0 blobs, 0 bytes")


def test_a_link_where_the_data_directory_was_stays_one(tmp_path: Path) -> None:
    """As systemd makes it for DynamicUser: what is put in its place must be where it leads."""
    (tmp_path / "private").mkdir()
    (tmp_path / "data").symlink_to("private/data")
    with RelayProcess(tmp_path / "private" / "data"):
        pass
    back_up(tmp_path / "data", tmp_path / "copy")
    (tmp_path / "private" / "data").rename(tmp_path / "old")
    done = run("restore", str(tmp_path / "copy"), "--data", str(tmp_path / "data"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "data").readlink() == Path("private/data")
    assert (tmp_path / "private" / "data" / DATABASE_NAME).is_file()
    assert not list(tmp_path.glob("**/*.part"))


@pytest.mark.parametrize("damage", ["cut", "swapped", "description"])
def test_a_damaged_backup_restores_nothing(tmp_path: Path, damage: str) -> None:
    with RelayProcess(tmp_path / "data"):
        pass
    back_up(tmp_path / "data", tmp_path / "copy")
    database = tmp_path / "copy" / DATABASE_NAME
    if damage == "cut":
        database.write_bytes(database.read_bytes()[:-100])
    elif damage == "swapped":
        raw = bytearray(database.read_bytes())
        raw[len(raw) // 2] ^= 1
        database.write_bytes(raw)
    else:
        (tmp_path / "copy" / DESCRIPTION_NAME).write_text("{}")
    with pytest.raises(BackupDamagedError):
        restore(tmp_path / "copy", tmp_path / "again")
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["copy", "data"]


async def test_an_envelope_that_is_not_the_one_that_was_put_is_found(
    serve: Serve, http: aiohttp.ClientSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As far as its hash is in the table."""
    monkeypatch.setattr(sqlite_known, "_TAIL_NAMES", 0)
    relay = await serve()
    client, key = await connect(http, relay.url), make_key()
    await client.open(key)
    assert isinstance(await client.put(key, make_envelope()), Ack)
    await relay.stop()
    with closing(sqlite3.connect(tmp_path / "data" / DATABASE_NAME)) as db, db:
        db.execute("UPDATE entries SET envelope = ?", (make_envelope(),))
    back_up(tmp_path / "data", tmp_path / "copy")
    with pytest.raises(BackupDamagedError, match="not the one that was put"):
        restore(tmp_path / "copy", tmp_path / "again")


def test_what_is_broken_off_leaves_nothing_that_looks_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with RelayProcess(tmp_path / "data"):
        pass

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device", "somewhere")

    with monkeypatch.context() as broken:
        broken.setattr(sqlite_backup, "_sync_tree", fail)
        with pytest.raises(OSError, match="No space"):
            back_up(tmp_path / "data", tmp_path / "copy")
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["data"]
    (tmp_path / "copy.part").mkdir()
    with pytest.raises(UsageError, match="in the way"):
        back_up(tmp_path / "data", tmp_path / "copy")


async def test_a_group_fills_up_a_relay_that_was_restored_and_accuses_nobody(tmp_path: Path) -> None:
    for name in ("ana", "ben", "cem"):
        Cocoon.init(tmp_path / name, "secret")
    relay = RelayProcess(tmp_path / "data")
    async with (
        await Cocoon.open(tmp_path / "ana", "secret") as ana,
        await Cocoon.open(tmp_path / "ben", "secret") as ben,
    ):
        group = await ana.create_group("Family", member_name="Ana", relays=[relay.url])
        link = await group.invite()
        await group.sync()
        his = await ben.join(link, member_name="Ben")
        await his.feed.post("before")
        for one in (his, group, his):
            await one.sync()
        back_up(tmp_path / "data", tmp_path / "copy")
        await his.feed.post("after")
        await group.feed.post("after, too")
        link = await group.invite()
        for one in (his, group, his, group):
            await one.sync()
        relay.stop()
        restore(tmp_path / "copy", tmp_path / "again")
        with RelayProcess(tmp_path / "again", port=relay.port):
            for one in (group, his, group, his):
                report = await one.sync()
                assert report.relays[0].ok
                assert not one.withheld()
                assert all("given everything again" in alarm for alarm in one.alarms())  # which is so
            async with await Cocoon.open(tmp_path / "cem", "secret") as cem:
                theirs = await cem.join(link, member_name="Cem")
                await theirs.sync()
                assert {post.text for post in await theirs.feed.list()} == {"before", "after", "after, too"}
