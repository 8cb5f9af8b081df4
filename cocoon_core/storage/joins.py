"""What waits while somebody asks to be admitted: own requests to groups one is not in yet, and others' to one's own.

Decides nothing: whether a request is granted is for the roster. Spec: specs/storage.md §3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from cocoon_core.protocol import encoding
from cocoon_core.protocol.device import DeviceKeys
from cocoon_core.protocol.ids import GroupId, InviteId, RequestId, TopicId
from cocoon_core.protocol.primitives import Secret
from cocoon_core.storage.database import Database, Migration

JOINS: Final = Migration(
    "joins",
    """
CREATE TABLE pending_joins (
    group_id     BLOB PRIMARY KEY,
    link_secret  BLOB NOT NULL,
    signing_seed BLOB NOT NULL,
    hpke_seed    BLOB NOT NULL,
    group_name   TEXT NOT NULL,
    member_name  TEXT NOT NULL,
    relays       BLOB NOT NULL,
    since_ms     INTEGER NOT NULL
) STRICT;
CREATE TABLE requests (
    group_no INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    request  BLOB NOT NULL,
    invite   BLOB NOT NULL,
    value    BLOB NOT NULL,
    since_ms INTEGER NOT NULL,
    PRIMARY KEY (group_no, request)
) STRICT, WITHOUT ROWID;
CREATE TABLE relay_tokens (
    url   TEXT PRIMARY KEY,
    token TEXT NOT NULL
) STRICT;
CREATE TABLE welcomes (
    group_no INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    invite   BLOB NOT NULL,
    topic    BLOB NOT NULL,
    PRIMARY KEY (group_no, invite)
) STRICT, WITHOUT ROWID;
CREATE TABLE answers (
    group_no INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    relay    TEXT NOT NULL,
    request  BLOB NOT NULL,
    PRIMARY KEY (group_no, relay, request)
) STRICT, WITHOUT ROWID;
""",
)


@dataclass(frozen=True, slots=True)
class PendingJoin:
    """An own request to be admitted, with the device keys that it names."""

    group: GroupId
    link_secret: Secret = field(repr=False)
    keys: DeviceKeys = field(repr=False)
    group_name: str
    member_name: str
    relays: tuple[str, ...]
    since_ms: int


@dataclass(frozen=True, slots=True)
class StoredRequest:
    """A request that lay in an invite's mailbox; `body` is its form in an operation."""

    id: RequestId
    body: list[Any]
    since_ms: int


class TokenTable:
    """Access tokens of relays that links brought, by the relay's address in its normal form."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def set(self, url: str, token: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO relay_tokens (url, token) VALUES (?,?)", (url, token))

    def find(self, url: str) -> str | None:
        row = self._db.query_one("SELECT token FROM relay_tokens WHERE url=?", (url,))
        return None if row is None else str(row[0])


class PendingJoinTable:
    """Own requests, one a group."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def add(self, pending: PendingJoin) -> None:
        self._db.execute(
            "INSERT INTO pending_joins (group_id, link_secret, signing_seed, hpke_seed, group_name, member_name, "
            "relays, since_ms) VALUES (?,?,?,?,?,?,?,?)",
            (
                bytes(pending.group),
                pending.link_secret.reveal(),
                pending.keys.signing_seed.reveal(),
                pending.keys.hpke_seed.reveal(),
                pending.group_name,
                pending.member_name,
                encoding.encode(list(pending.relays)),
                pending.since_ms,
            ),
        )

    def all(self) -> list[PendingJoin]:
        """The oldest first."""
        rows = self._db.query(
            "SELECT group_id, link_secret, signing_seed, hpke_seed, group_name, member_name, relays, since_ms "
            "FROM pending_joins ORDER BY since_ms, group_id"
        )
        return [
            PendingJoin(
                GroupId(group),
                Secret(link),
                DeviceKeys(Secret(signing), Secret(hpke)),
                group_name,
                member_name,
                tuple(encoding.decode(relays)),
                since,
            )
            for group, link, signing, hpke, group_name, member_name, relays, since in rows
        ]

    def set_relays(self, group: GroupId, relays: Sequence[str]) -> None:
        """Where the request is put and the answer is looked for, from now on."""
        self._db.execute(
            "UPDATE pending_joins SET relays=? WHERE group_id=?", (encoding.encode(list(relays)), bytes(group))
        )

    def remove(self, group: GroupId) -> None:
        self._db.execute("DELETE FROM pending_joins WHERE group_id=?", (bytes(group),))


class WelcomeTable:
    """The epoch of the newest welcome that this device made for each of its member's invites, in one group."""

    def __init__(self, database: Database, group_no: int) -> None:
        self._db, self._no = database, group_no

    def set(self, invite: InviteId, topic: TopicId) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO welcomes (group_no, invite, topic) VALUES (?,?,?)",
            (self._no, bytes(invite), bytes(topic)),
        )

    def find(self, invite: InviteId) -> TopicId | None:
        row = self._db.query_one("SELECT topic FROM welcomes WHERE group_no=? AND invite=?", (self._no, bytes(invite)))
        return None if row is None else TopicId(row[0])


class RequestTable:
    """Others' requests to one group, and the welcomes that are still to be put for those that this device granted."""

    def __init__(self, database: Database, group_no: int) -> None:
        self._db, self._no = database, group_no

    def add(self, request: RequestId, invite: InviteId, body: list[Any], now_ms: int, most: int) -> bool:
        """Keep a request, unless that many of its invite are kept already; true if it is new."""
        held = self._db.query_value(
            "SELECT count(*) FROM requests WHERE group_no=? AND invite=?", (self._no, bytes(invite))
        )
        if held >= most or self.find(request) is not None:
            return False
        self._db.execute(
            "INSERT INTO requests (group_no, request, invite, value, since_ms) VALUES (?,?,?,?,?)",
            (self._no, bytes(request), bytes(invite), encoding.encode(body), now_ms),
        )
        return True

    def find(self, request: RequestId) -> StoredRequest | None:
        return next((stored for stored in self.all() if stored.id == request), None)

    def all(self) -> list[StoredRequest]:
        """The oldest first."""
        rows = self._db.query(
            "SELECT request, value, since_ms FROM requests WHERE group_no=? ORDER BY since_ms, request", (self._no,)
        )
        return [StoredRequest(RequestId(request), encoding.decode(value), since) for request, value, since in rows]

    def remove(self, request: RequestId) -> None:
        self._db.execute("DELETE FROM requests WHERE group_no=? AND request=?", (self._no, bytes(request)))

    # --- answers

    def add_answers(self, relays: Sequence[str], request: RequestId) -> None:
        self._db.executemany(
            "INSERT OR IGNORE INTO answers (group_no, relay, request) VALUES (?,?,?)",
            [(self._no, relay, bytes(request)) for relay in relays],
        )

    def answers(self, relay: str) -> list[RequestId]:
        rows = self._db.query("SELECT request FROM answers WHERE group_no=? AND relay=?", (self._no, relay))
        return [RequestId(request) for (request,) in rows]

    def answered(self, relay: str, request: RequestId) -> None:
        self._db.execute(
            "DELETE FROM answers WHERE group_no=? AND relay=? AND request=?", (self._no, relay, bytes(request))
        )
