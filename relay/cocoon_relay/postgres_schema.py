"""The relay's tables in PostgreSQL, as numbered migrations, and how a connection to them is opened.

They stand in a schema of their own, so the database may hold other things. A step of the migrations only adds: nodes of
the version before go on beside a node that has made it. Every statement finds its rows by key, so every other
plan is switched off for these connections: a planner that has not seen the tables' sizes yet would choose it.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from typing import Any, Final

import asyncpg

from cocoon_core.errors import LocalStateError, ProfileDamagedError
from cocoon_core.protocol.frames import ErrorCode
from cocoon_relay.refusal import Refusal

SCHEMA: Final = "cocoon_relay"
CHANNEL: Final = "cocoon_relay"
CONNECT_SECONDS: Final = 10.0
COMMAND_SECONDS: Final = 20.0
_SHARD_BITS: Final = 6  # low bits of a handle: which of the databases
MOST_SHARDS: Final = 1 << _SHARD_BITS
_PATIENCE: Final = 8.0  # seconds for which something is tried again before it is refused
_PAUSES: Final = (0.0, 0.05, 0.2, 0.5, 1.0)  # seconds before each further try; the last one repeats
_MIGRATION_LOCK: Final = 0x636F636F6F6E  # of this application's, for advisory locks
_X509_HOSTNAME_MISMATCH: Final = 62  # of OpenSSL
_SLOTS: Final = 64  # rows that totals are spread over, so that nodes do not wait for each other's

Connection = Any  # asyncpg's, which is not typed
FAULTS: Final = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncio.IncompleteReadError,
    OSError,
    TimeoutError,
)

MIGRATIONS: Final = (
    f"""
    CREATE TABLE topics (
        number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        topic bytea NOT NULL UNIQUE,
        incarnation bytea NOT NULL,
        first bigint NOT NULL DEFAULT 1,
        last bigint NOT NULL DEFAULT 0,
        bytes bigint NOT NULL DEFAULT 0,
        blob_bytes bigint NOT NULL DEFAULT 0,
        sealed boolean NOT NULL DEFAULT false,
        touched bigint NOT NULL
    ) WITH (fillfactor = 70);
    CREATE INDEX topics_touched ON topics (touched);
    CREATE TABLE entries (
        topic bigint NOT NULL, seq bigint NOT NULL, hash bytea NOT NULL, envelope bytea NOT NULL,
        PRIMARY KEY (topic, seq)
    );
    CREATE UNIQUE INDEX entries_hash ON entries (topic, hash);
    ALTER TABLE entries ALTER COLUMN envelope SET STORAGE EXTERNAL;  -- ciphertext: nothing to compress
    CREATE TABLE blobs (hash bytea PRIMARY KEY, size bigint NOT NULL, touched bigint NOT NULL, place text NOT NULL)
        WITH (fillfactor = 80);
    CREATE UNIQUE INDEX blobs_place ON blobs (place);
    CREATE INDEX blobs_touched ON blobs (touched);
    CREATE TABLE condemned_blobs (place text PRIMARY KEY);
    CREATE TABLE totals (
        slot integer PRIMARY KEY, topics bigint NOT NULL, entries bigint NOT NULL, bytes bigint NOT NULL,
        blobs bigint NOT NULL, blob_bytes bigint NOT NULL
    ) WITH (fillfactor = 20);
    INSERT INTO totals SELECT slot, 0, 0, 0, 0, 0 FROM generate_series(0, {_SLOTS - 1}) AS slot;
    CREATE TABLE secrets (name text PRIMARY KEY, value bytea NOT NULL);
    """,
)


def choose_slot(drawn: int) -> int:
    """The row of `totals` that one node writes to; two that chose the same wait for each other, nothing worse."""
    return drawn % _SLOTS


def handle_of(number: int, shard: int) -> int:
    """A topic's handle by its number in one of the relay's databases."""
    return number << _SHARD_BITS | shard


def number_of(handle: int) -> int:
    return handle >> _SHARD_BITS


def shard_of(handle: int) -> int:
    return handle & ((1 << _SHARD_BITS) - 1)


async def connect(url: str, name: str, **settings: str) -> Connection:
    """One connection to the relay's tables.

    Raises:
        one of FAULTS: there is no reaching it.
    """
    connection: Connection = await asyncpg.connect(
        url, timeout=CONNECT_SECONDS, command_timeout=COMMAND_SECONDS, server_settings=_settings(name) | settings
    )
    return connection


async def connect_pool(url: str, name: str, most: int) -> asyncpg.Pool:
    """Connections to the relay's tables, made when they are needed."""
    pool: asyncpg.Pool = await asyncpg.create_pool(
        url,
        min_size=1,
        max_size=most,
        timeout=CONNECT_SECONDS,
        command_timeout=COMMAND_SECONDS,
        server_settings=_settings(name),
    )
    return pool


def _settings(name: str) -> dict[str, str]:
    return {
        "application_name": f"cocoon-relay {name}",
        "search_path": SCHEMA,
        "synchronous_commit": "on",
        "plan_cache_mode": "force_generic_plan",
        "enable_hashjoin": "off",
        "enable_mergejoin": "off",
        "enable_bitmapscan": "off",
        "enable_seqscan": "off",
        "jit": "off",
        "idle_in_transaction_session_timeout": "60s",  # no lock is held for ever by a node that was stopped
        "tcp_keepalives_idle": "30",
        "tcp_keepalives_interval": "10",
        "tcp_keepalives_count": "3",
    }


async def migrate(url: str) -> None:
    """Bring the tables to the newest form, each step in a transaction of its own; nodes that start at once take turns.

    Raises:
        ProfileDamagedError: a newer relay made them.
        LocalStateError: the database is not to be reached, or does not let this user make tables.
    """
    try:
        connection = await connect(url, "migration")
    except (*FAULTS, ValueError) as error:
        raise LocalStateError(f"the database cannot be reached: {describe_error(error)}") from error
    try:
        await connection.execute(f"SELECT pg_advisory_lock({_MIGRATION_LOCK})")
        await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
        await connection.execute("CREATE TABLE IF NOT EXISTS form (number integer NOT NULL)")
        version = await connection.fetchval("SELECT coalesce(max(number), 0) FROM form")
        if version > len(MIGRATIONS):
            raise ProfileDamagedError(
                f"a newer relay made the tables in this database: they have form {version}, and this relay knows"
                f" {len(MIGRATIONS)} at most; start the newer one, or put a dump back that was made before"
            )
        for number, script in enumerate(MIGRATIONS[version:], start=version + 1):
            async with connection.transaction():
                await connection.execute(script)
                await connection.execute("INSERT INTO form VALUES ($1)", number)
    except FAULTS as error:
        raise LocalStateError(f"the database cannot be used: {describe_error(error)}") from error
    finally:
        await connection.close()


def describe_error(error: BaseException) -> str:
    """What is wrong, for the operator: the server's code or the system's word. No message of the server's: it may quote
    an address, a user or a value.
    """
    if isinstance(error, asyncpg.PostgresError):
        return f"{type(error).__name__} ({error.sqlstate})"
    if isinstance(error, ssl.SSLCertVerificationError):  # an OSError too, with numbers of its own
        mismatch = error.verify_code == _X509_HOSTNAME_MISMATCH
        return f"its certificate is {'for another name' if mismatch else f'not trusted: {error.verify_message}'}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed ({error.reason or type(error).__name__})"
    if isinstance(error, FileNotFoundError):
        return "a file or socket that its URL names is not there"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return type(error).__name__


def refuse_database(error: BaseException) -> Refusal:
    """What a client is told when the database did not do what was asked."""
    if isinstance(error, asyncpg.DiskFullError):
        return Refusal(ErrorCode.FULL, "the relay's disk is full", retry_after_ms=60_000)
    return Refusal(ErrorCode.BUSY, "the relay's store cannot be reached", retry_after_ms=1_000)


def is_passing(error: BaseException) -> bool:
    """Whether the same transaction may succeed on a fresh connection: the server went away, or two stood in each
    other's way.
    """
    if isinstance(error, asyncpg.PostgresError):
        state: Any = error.sqlstate or ""
        # connection, rollback (deadlock, serialization), operator intervention; a standby that was promoted over
        return state[:2] in {"08", "40", "57"} or state == "25006"
    return isinstance(error, FAULTS)


class Patience:
    """How long something is tried again while the database is away: a restart or a failover goes by unnoticed."""

    def __init__(self) -> None:
        self._end = time.monotonic() + _PATIENCE
        self._pauses = iter(_PAUSES)

    async def waits_out(self, error: BaseException) -> bool:
        """Wait a moment before the next try; False if there is none."""
        if not is_passing(error) or time.monotonic() > self._end:
            return False
        await asyncio.sleep(next(self._pauses, _PAUSES[-1]))
        return True
