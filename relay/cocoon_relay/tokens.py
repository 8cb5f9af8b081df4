"""Access tokens: who may use this relay, and within which class of limits.

A token is 32 random bytes as text. It is shown once; what is kept is its SHA-256, a name of the operator's choosing,
the day it was made, and if so said the day it ends and its class. When it is used is not kept. The file is written
whole and put in its place, so a relay that serves reads the old one or the new one, and follows a change by itself.
Implements specs/relay.md §8.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import date
from hashlib import sha256
from pathlib import Path
from secrets import token_bytes, token_hex, token_urlsafe
from typing import Any, Final

from cocoon_core.errors import ProfileDamagedError, UsageError
from cocoon_core.protocol.constants import LABEL_RELAY_TOKEN, MAX_RELAY_TOKEN
from cocoon_core.protocol.primitives import constant_time_equal, keyed_hash
from cocoon_relay.uploads import sync_path

TOKENS_NAME: Final = "tokens.json"
_LOCK_NAME: Final = "tokens.lock"
_FORM: Final = 1
_LEAST_LENGTH: Final = 20  # characters of a token that the operator brings: hashes of shorter ones can be guessed
_MOST_NAME: Final = 64  # characters
_FIELDS: Final = {"id": str, "name": str, "hash": str, "created": str, "expires": str | None, "kind": str | None}


@dataclass(frozen=True, slots=True)
class Token:
    """What is kept of one token. Days are ISO dates, UTC; `expires` is the last day on which it holds."""

    id: str
    name: str
    hash: str
    created: str
    expires: str | None
    kind: str | None  # its class, if it has one

    def holds(self, today: str) -> bool:
        return self.expires is None or today <= self.expires


class TokenBook:
    """The tokens of a file as they are now. Reading happens in the event loop: a `stat`, and rarely a small file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._key = token_bytes(32)  # of this process: nobody can aim at a place in the index
        self._index: dict[bytes, Token] = {}
        self._seen: tuple[int, int, int] | None = None

    def refresh(self) -> bool:
        """Read the file again if it is another than before; whether it was.

        Raises:
            ProfileDamagedError: it is not a file of tokens; those known until now go on.
            OSError: it cannot be read.
        """
        try:
            found = self._path.stat()
            seen = (found.st_ino, found.st_mtime_ns, found.st_size)
        except FileNotFoundError:
            seen = None
        if seen == self._seen:
            return False
        self._seen = seen  # also if it is damaged: that is said once
        self._index = {self._place(token.hash): token for token in read_tokens(self._path)}
        return True

    def find(self, given: str, today: str) -> Token | None:
        """The token that was given, if it is one and its time is not over."""
        name = sha256(given.encode()).hexdigest()
        token = self._index.get(self._place(name))
        if token is None or not constant_time_equal(token.hash.encode(), name.encode()):
            return None
        return token if token.holds(today) else None

    def holds(self, token: Token) -> bool:
        """Whether a token is kept just as it was."""
        return self._index.get(self._place(token.hash)) == token

    def kinds(self) -> set[str]:
        """The classes that tokens have."""
        return {token.kind for token in self._index.values() if token.kind is not None}

    def __len__(self) -> int:
        return len(self._index)

    def _place(self, name: str) -> bytes:
        return keyed_hash(self._key, LABEL_RELAY_TOKEN, name.encode(), 16)


def today() -> str:
    """The day, UTC."""
    from datetime import UTC, datetime

    return datetime.now(UTC).date().isoformat()


def read_tokens(path: Path) -> list[Token]:
    """All tokens of a file, in the order in which they were made; none if there is no file.

    Raises:
        ProfileDamagedError: it is not a file of tokens.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return []
    try:
        tree = json.loads(raw)
        if tree["form"] != _FORM:
            raise ValueError("another form")
        return [_read_token(item) for item in tree["tokens"]]
    except (ValueError, TypeError, KeyError) as error:
        raise ProfileDamagedError(f"{path} is not a file of this relay's tokens; put a copy of it back") from error


def _read_token(item: Any) -> Token:
    if not isinstance(item, dict) or not all(isinstance(item[key], kind) for key, kind in _FIELDS.items()):
        raise ValueError("a token has another form")
    return Token(**{key: item[key] for key in _FIELDS})


def add_token(
    path: Path, name: str, *, expires: str | None = None, kind: str | None = None, text: str | None = None
) -> tuple[Token, str]:
    """Make a token, or take in one that the operator has; what is kept of it, and the token itself.

    Raises:
        UsageError: the name is another token's or cannot be shown, or the token that was brought cannot serve.
    """
    if not name.isprintable() or not name.strip() or len(name) > _MOST_NAME:
        raise UsageError(f"a token's name is 1 to {_MOST_NAME} characters that can be shown")
    secret = token_urlsafe(32) if text is None else _check_own(text)
    with _changing(path) as tokens:
        if any(name in (token.name, token.id) for token in tokens):
            raise UsageError(f"there is a token of the name {name!r}; revoke it, or choose another name")
        kept = Token(token_hex(4), name, sha256(secret.encode()).hexdigest(), today(), expires, kind)
        if any(token.hash == kept.hash for token in tokens):
            raise UsageError("this token is here already")
        tokens.append(kept)
    return kept, secret


def revoke_token(path: Path, name: str) -> Token:
    """Remove the token of this name or id.

    Raises:
        UsageError: there is none.
    """
    with _changing(path) as tokens:
        for place, token in enumerate(tokens):
            if name in (token.name, token.id):
                return tokens.pop(place)
        raise UsageError(f"there is no token {name!r}; `cocoon-relay token list` shows those that are")


def _check_own(text: str) -> str:
    if not text.isascii() or not text.isprintable() or " " in text or not _LEAST_LENGTH <= len(text) <= MAX_RELAY_TOKEN:
        raise UsageError(
            f"a token is {_LEAST_LENGTH} to {MAX_RELAY_TOKEN} visible ASCII characters; shorter ones can be guessed"
        )
    return text


@contextmanager
def _changing(path: Path) -> Iterator[list[Token]]:
    """The tokens, for one process at a time to change; written if the block ends well."""
    import fcntl

    with path.with_name(_LOCK_NAME).open("a") as lock:
        _give_to_owner(lock.fileno(), path.parent)
        fcntl.flock(lock, fcntl.LOCK_EX)
        tokens = read_tokens(path)
        yield tokens
        _write(path, tokens)


def _write(path: Path, tokens: list[Token]) -> None:
    draft = path.with_name(f"{path.name}.{token_hex(4)}")
    text = json.dumps({"form": _FORM, "tokens": [asdict(token) for token in tokens]}, indent=1)
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text + "\n")
            file.flush()
            _give_to_owner(file.fileno(), path.parent)
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise
    sync_path(path.parent)


def _give_to_owner(descriptor: int, folder: Path) -> None:
    """What root makes in the directory of another user, whose relay reads it, is that user's."""
    owner = folder.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def parse_day(text: str) -> str:
    """The last day of a token, from a date.

    Raises:
        ValueError: it is none.
    """
    return date.fromisoformat(text).isoformat()
