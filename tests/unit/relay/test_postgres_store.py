"""What is PostgreSQL's own: the plans of its statements, older and newer forms, and what is said when it is away."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import asyncpg
import pytest

from cocoon_core.errors import LocalStateError, ProfileDamagedError, UsageError
from cocoon_core.protocol.frames import ErrorCode
from cocoon_core.protocol.ids import TopicId
from cocoon_relay import postgres_gc, postgres_news, postgres_reads, postgres_writer
from cocoon_relay.config import parse_database
from cocoon_relay.postgres_schema import MIGRATIONS, connect, describe_error, migrate
from cocoon_relay.postgres_store import PostgresStore
from cocoon_relay.refusal import Refusal
from cocoon_relay.settings import read_settings
from cocoon_relay.store import TopicInfo, Totals
from tests.support.certificates import fail_handshake, make_certificates
from tests.support.servers import PostgresServer, free_ports
from tests.support.stores import LIMITS, envelopes, put_into


@pytest.fixture
async def database(postgres: PostgresServer) -> str:
    return await postgres.make_database()


@pytest.fixture
async def store(database: str) -> AsyncIterator[PostgresStore]:
    opened = await PostgresStore.open(database, LIMITS)
    yield opened
    await opened.close()


async def make_topic(store: PostgresStore, name: int = 1) -> TopicInfo:
    info = await store.open_topic(TopicId(name.to_bytes(32)), create=True)
    assert info is not None
    return info


async def test_every_statement_finds_its_rows_by_key(database: str, store: PostgresStore) -> None:
    """No scan grows with topics or entries: neither with tables that are empty, nor with what the planner has seen."""
    statements = {
        postgres_writer._LOCK_TOPICS: 1, postgres_writer._FIND_HASHES: 2, postgres_writer._WRITE: 12,
        postgres_writer._WRITE_IF_UNCHANGED: 13,
        postgres_reads._READ: 4, postgres_reads._PLACES: 3, postgres_news._FIND_BEHIND: 2, postgres_news._READ_NEW: 4,
        postgres_gc._ENDED_TOPIC: 1, postgres_gc._CONDEMN_BLOBS: 2,
    }  # fmt: skip
    for filled in (False, True):
        if filled:
            for number in range(3):
                await put_into(store, await make_topic(store, number), envelopes(200), False, None)
        db = await connect(database, "test")
        await db.execute("ANALYZE")
        for statement, parameters in statements.items():
            await db.execute(f"PREPARE looked AS {statement}")
            rows = await db.fetch(f"EXPLAIN EXECUTE looked({', '.join(['NULL'] * parameters)})")
            await db.execute("DEALLOCATE looked")
            plan = [row[0] for row in rows]
            assert not [line for line in plan if "Seq Scan" in line and "on totals" not in line], plan
        await db.close()


async def test_tables_of_a_newer_relay_are_left_alone(database: str) -> None:
    await migrate(database)
    await migrate(database)
    db = await connect(database, "test")
    assert await db.fetchval("SELECT count(*) FROM form") == len(MIGRATIONS)
    await db.execute("INSERT INTO form VALUES ($1)", len(MIGRATIONS) + 1)
    await db.close()
    with pytest.raises(ProfileDamagedError, match="a newer relay made"):
        await PostgresStore.open(database, LIMITS)


async def test_nodes_that_start_at_once_make_the_tables_once(database: str) -> None:
    await asyncio.gather(*(migrate(database) for _ in range(4)))
    db = await connect(database, "test")
    assert await db.fetchval("SELECT count(*) FROM form") == len(MIGRATIONS)
    await db.close()


async def test_a_database_that_is_not_there_is_told_without_its_address() -> None:
    (port,) = free_ports(1)
    with pytest.raises(LocalStateError, match="cannot be reached") as caught:
        await PostgresStore.open(f"postgresql://somebody@127.0.0.1:{port}/nothing", LIMITS)
    assert str(port) not in str(caught.value)
    assert "somebody" not in str(caught.value)


def test_a_certificate_that_is_not_the_databases_is_told() -> None:
    """An error of a certificate is an error of the system too, whose number means something else there."""
    authority, certificate = make_certificates("db.example")
    trusted = ssl.create_default_context(cadata=authority)
    assert "not trusted" in describe_error(fail_handshake(ssl.create_default_context(), certificate, "db.example"))
    assert "for another name" in describe_error(fail_handshake(trusted, certificate, "localhost"))


async def test_a_file_that_a_url_names_is_missing() -> None:
    with pytest.raises(LocalStateError, match="a file or socket that its URL names is not there"):
        await PostgresStore.open("postgresql://u@127.0.0.1:1/d?sslmode=verify-full&sslrootcert=/none.pem", LIMITS)


async def test_a_database_that_stays_away_refuses_and_goes_on_when_it_is_back(
    postgres: PostgresServer, store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cocoon_relay.postgres_schema._PATIENCE", 0.2)
    info = await make_topic(store)
    assert await put_into(store, info, envelopes(1), False, None) == (1,)
    postgres.stop()
    try:
        for work in (put_into(store, info, envelopes(1), False, None), store.read(info.handle, 0, 9, 10**6)):
            with pytest.raises(Refusal) as caught:
                await work
            assert caught.value.code is ErrorCode.BUSY
            assert caught.value.retry_after_ms is not None
    finally:
        postgres.start()
    monkeypatch.setattr("cocoon_relay.postgres_schema._PATIENCE", 10.0)
    assert await put_into(store, info, envelopes(1), False, 1) == (2,)
    assert (await store.read(info.handle, 0, 9, 10**6)).last == 2


async def test_a_commit_whose_answer_was_lost_is_found_to_be_stored(
    database: str, store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection breaks after COMMIT was sent: the transaction is done again, and adds nothing."""
    info = await make_topic(store)
    honest = postgres_writer.PostgresWriter._try
    lost = 0

    async def lose_the_answer(self: postgres_writer.PostgresWriter, jobs: object) -> object:
        nonlocal lost
        answer = await honest(self, jobs)  # type: ignore[arg-type]
        if lost < 2:
            lost += 1
            raise asyncpg.ConnectionDoesNotExistError("gone")
        return answer

    monkeypatch.setattr(postgres_writer.PostgresWriter, "_try", lose_the_answer)
    items = envelopes(3)
    assert await put_into(store, info, items, True, 0) == (1, 2, 3)
    assert lost == 2
    assert (await store.read(info.handle, 0, 99, 10**6)).envelopes == items
    found = await store.open_topic(info.topic, create=False)
    assert found is not None
    assert (found.last, found.sealed) == (3, True)


async def test_one_statement_does_it_while_nobody_else_puts(
    database: str, store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a node believes of a topic is never acted on: it is checked in the statement that writes."""
    honest = postgres_writer.PostgresWriter._try_looking_first
    looked: list[object] = []

    async def look(self: postgres_writer.PostgresWriter, *words: Any) -> Any:
        looked.append(self)
        return await honest(self, *words)

    monkeypatch.setattr(postgres_writer.PostgresWriter, "_try_looking_first", look)
    other = await PostgresStore.open(database, LIMITS)
    try:
        info = await make_topic(store)
        items = [envelopes(1) for _ in range(12)]
        for seq, item in enumerate(items[:6], start=1):
            assert await put_into(store, info, item, False, seq - 1) == (seq,)
        assert looked == [store._writer]
        assert await put_into(other, info, items[6], False, 6) == (7,)
        assert await put_into(other, info, items[7], False, None) == (8,)
        assert looked == [store._writer, other._writer]
        # It is behind now: its own put goes after those of the other; what is stored is found; a seal is seen.
        assert await put_into(store, info, items[8], False, None) == (9,)
        assert await put_into(store, info, items[7] + items[8], False, None) == (8, 9)
        assert await put_into(other, info, items[9], True, 9) == (10,)
        with pytest.raises(Refusal) as caught:
            await put_into(store, info, items[10], False, None)
        assert (caught.value.code, caught.value.last) == (ErrorCode.SEALED, 10)
        assert await other.drop({info.topic}) is not None
        with pytest.raises(Refusal) as caught:
            await put_into(other, info, items[11], False, None)
        assert caught.value.code is ErrorCode.NOT_OPEN
        assert await store.totals() == Totals(0, 0, 0, 0, 0)
    finally:
        await other.close()


async def test_the_operators_ceiling_holds_for_entries_too(database: str) -> None:
    store = await PostgresStore.open(database, replace(LIMITS, stored_bytes=600))
    try:
        info = await make_topic(store)
        await put_into(store, info, envelopes(2), False, None)
        store._writer._stored_checked = -1e9
        with pytest.raises(Refusal) as caught:
            await put_into(store, info, envelopes(1), False, None)
        assert caught.value.code is ErrorCode.FULL
    finally:
        await store.close()


@pytest.mark.parametrize("url", ["postgresql://a:geheim@h/d", "postgresql://h/d?password=geheim", "mysql://a:geheim@h"])
def test_a_url_with_a_password_is_refused_and_not_shown(url: str) -> None:
    for words, environment in (({"database": [url]}, {}), ({}, {"COCOON_RELAY_DATABASE": url})):
        with pytest.raises(UsageError, match="PGPASSFILE") as caught:
            read_settings(words, environment, None, needs_data=False)
        assert "geheim" not in str(caught.value)


@pytest.mark.parametrize("url", ["", "h/d", "postgresql://h", "mysql://h/d"])
def test_what_is_no_database_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="postgresql://"):
        parse_database(url)
