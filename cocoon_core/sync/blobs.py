"""Blobs at one relay: put what is absent, get and check what is there, renew leases. Implements specs/relay.md §6.

A blob is ciphertext, named by its SHA-256, so a relay can only withhold or lose it: what it serves is hashed before it
counts. Every request is safe to repeat and every put asks first what is there, so what was broken off goes on where it
stopped. Sockets are behind `Exchange` (sync/http_exchange.py); who may read and write is said by a topic's proof (§4).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable, Sequence, Set
from contextlib import aclosing
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, Protocol

from cocoon_core.errors import MalformedError, RelayError, RelayMisbehaved, RelayRefused, RelayUnavailable, UsageError
from cocoon_core.protocol.constants import CHALLENGE_BYTES, LABEL_BLOB, MAX_BLOB_BYTES, MAX_HAVE_HASHES
from cocoon_core.protocol.encoding import decode, encode
from cocoon_core.protocol.epoch import TopicKeys
from cocoon_core.protocol.frames import ErrorCode, blob_message
from cocoon_core.protocol.ids import BlobHash, TopicId

IN_FLIGHT = 8  # blobs on their way at once; memory is bounded by this many and what the caller holds
CHALLENGE_SECONDS = 300.0  # a challenge holds for 600 at an honest relay
RETRY_LEAST, RETRY_MOST = 0.5, 60.0  # seconds that a relay can ask a client to wait
WAIT_MOST = 120.0  # seconds of such waiting for one request in all
LOST_MOST = 2  # times that one request is sent again because the connection was lost
_ANSWER_BYTES: Final = 64 * 1024  # of every answer but a blob
_MESSAGE_CHARACTERS: Final = 512  # of a relay's own words
_PATIENT: Final = (ErrorCode.RATE, ErrorCode.BUSY)


class BlobRefused(RelayRefused):
    """The relay refused this. `said` are its own words, `retry_after` is in seconds."""

    def __init__(self, reason: ErrorCode, message: str, said: str = "", retry_after: float | None = None) -> None:
        super().__init__(message)
        self.reason, self.said, self.retry_after = reason, said, retry_after


class ConnectionLost(RelayUnavailable):
    """The connection to the relay was lost; the request can be sent again."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer. `retry_after` is in seconds."""

    status: int
    body: bytes
    retry_after: float | None = None


class Exchange(Protocol):
    """Requests to one relay. `path` begins with `/v1/`."""

    async def ask(self, method: str, path: str, headers: dict[str, str], body: bytes | None, most: int) -> Answer:
        """Send one request and read its answer, of `most` bytes at most.

        Raises:
            ConnectionLost: sending it again may help.
            RelayUnavailable: it does not.
            RelayMisbehaved: the answer is longer, or is none.
        """
        ...

    async def close(self) -> None: ...


class BlobStore(Protocol):
    """The blobs of one relay. `keys` are of a topic that this relay holds: a sealed one reads and writes nothing."""

    async def put_blobs(self, keys: TopicKeys, blobs: Sequence[bytes]) -> int:
        """Put those that the relay has not, and renew the leases of the others; how many were put.

        Raises:
            BlobRefused: by the topic (`not_open`: open it and put again; `sealed`), or for want of room (`quota`,
                `full`). What was put so far stays, and is not sent again.
            RelayUnavailable, RelayMisbehaved: this relay cannot be used now.
            UsageError: a blob is empty or too large.
        """
        ...

    async def put_each(self, keys: TopicKeys, blobs: AsyncIterator[Named], on_put: OnPut | None = None) -> None:
        """Put all of these without asking what is there, IN_FLIGHT at once; no more of them is taken before.

        Args:
            on_put: called with each that the relay took.

        Raises:
            As `put_blobs`.
        """
        ...

    async def get_blob(self, keys: TopicKeys, blob: BlobHash) -> bytes:
        """One blob, whose hash was checked.

        Raises:
            BlobRefused: with reason `not_found`, it is not here.
            RelayMisbehaved: what it served is not that blob.
            RelayUnavailable: this relay cannot be used now.
        """
        ...

    async def have(self, keys: TopicKeys, blobs: Iterable[BlobHash]) -> set[BlobHash]:
        """Those that the relay says it has. Renews their leases, unless the topic is sealed.

        Raises:
            BlobRefused, RelayUnavailable, RelayMisbehaved: as above.
        """
        ...

    async def close(self) -> None: ...


Named = tuple[BlobHash, bytes]  # a blob with its name
OnPut = Callable[[BlobHash], None]
DialBlobs = Callable[[str], BlobStore]  # by a relay's address; nothing is sent before the first request


def name_blob(data: bytes) -> BlobHash:
    """The name of a blob: the SHA-256 of its ciphertext."""
    return BlobHash(hashlib.sha256(data).digest())


async def get_blobs(store: BlobStore, keys: TopicKeys, blobs: Iterable[BlobHash]) -> AsyncIterator[bytes]:
    """Blobs in the order asked, IN_FLIGHT of them read ahead. Raises as `get_blob` does. Close it if left early."""
    names = iter(blobs)
    ahead: deque[asyncio.Task[bytes]] = deque()

    def fill() -> None:
        ahead.extend(asyncio.create_task(store.get_blob(keys, name)) for name in islice(names, IN_FLIGHT - len(ahead)))

    try:
        fill()
        while ahead:
            yield await ahead[0]
            ahead.popleft()
            fill()
    finally:
        await _cancel(ahead)


async def put_lacking(
    store: BlobStore,
    keys: TopicKeys,
    names: Iterable[BlobHash],
    find: Callable[[Set[BlobHash]], AsyncGenerator[Named, None]],
    on_there: OnPut | None = None,
) -> set[BlobHash]:
    """Have a relay hold these blobs: ask which it has, and put the others as far as they are found.

    Args:
        find: gives those of the names that it is asked for, as far as it can, in any order, each once.
        on_there: called with each that the relay has, or took.

    Returns:
        The names of those that it still lacks.

    Raises:
        As BlobStore.put_blobs.
    """
    wanted = set(names)
    there = await store.have(keys, wanted) if wanted else set[BlobHash]()
    lacking = wanted - there

    def note(name: BlobHash) -> None:
        lacking.discard(name)
        if on_there is not None:
            on_there(name)

    if on_there is not None:
        for name in there:
            on_there(name)
    if lacking:
        async with aclosing(find(frozenset(lacking))) as found:
            await store.put_each(keys, found, note)
    return lacking


async def get_found(store: BlobStore, keys: TopicKeys, names: Iterable[BlobHash]) -> AsyncGenerator[Named, None]:
    """Those of these blobs that a relay serves; it ends where that one cannot be used any more."""
    for name in names:
        try:
            yield name, await store.get_blob(keys, name)
        except BlobRefused:
            continue
        except RelayError:
            return


async def each(blobs: Iterable[Named]) -> AsyncGenerator[Named, None]:
    """What is at hand, for where it is waited for."""
    for one in blobs:
        yield one


class RelayBlobs:
    """A BlobStore over any exchange.

    Args:
        origin: the relay's address as configured, normalised (frames.normalize_origin). Proofs are bound to it.
    """

    def __init__(self, exchange: Exchange, origin: str) -> None:
        self._exchange, self._origin = exchange, origin
        self._challenge = b""
        self._challenge_at = 0.0
        self._proofs: dict[TopicId, str] = {}  # under the challenge
        self._asking = asyncio.Lock()

    async def close(self) -> None:
        await self._exchange.close()

    async def put_blobs(self, keys: TopicKeys, blobs: Sequence[bytes]) -> int:
        named = {name_blob(data): data for data in blobs}
        for data in named.values():
            if not 0 < len(data) <= MAX_BLOB_BYTES:
                raise UsageError(f"a blob is 1 to {MAX_BLOB_BYTES} bytes, not {len(data)}")
        there = await self.have(keys, named)
        absent = {name: data for name, data in named.items() if name not in there}
        await self.put_each(keys, each(absent.items()))
        return len(absent)

    async def put_each(self, keys: TopicKeys, blobs: AsyncIterator[Named], on_put: OnPut | None = None) -> None:
        taking = asyncio.Lock()

        async def put_some() -> None:
            while True:
                async with taking:
                    taken = await anext(blobs, None)
                if taken is None:
                    return
                name, data = taken
                if not 0 < len(data) <= MAX_BLOB_BYTES:
                    raise UsageError(f"a blob is 1 to {MAX_BLOB_BYTES} bytes, not {len(data)}")
                await self._ask("PUT", f"/v1/blobs/{name.hex()}", keys, data)
                if on_put is not None:
                    on_put(name)

        await run_together([put_some() for _ in range(IN_FLIGHT)])

    async def get_blob(self, keys: TopicKeys, blob: BlobHash) -> bytes:
        data = await self._ask("GET", f"/v1/blobs/{blob.hex()}", keys, None, MAX_BLOB_BYTES)
        if name_blob(data) != blob:
            raise RelayMisbehaved("the relay served bytes that are not the blob")
        return data

    async def have(self, keys: TopicKeys, blobs: Iterable[BlobHash]) -> set[BlobHash]:
        asked = list(dict.fromkeys(blobs))
        found: set[BlobHash] = set()
        for start in range(0, len(asked), MAX_HAVE_HASHES):
            some = asked[start : start + MAX_HAVE_HASHES]
            found |= _read_have(await self._ask("POST", "/v1/blobs/have", keys, encode(some)), some)
        return found

    # --- one request

    async def _ask(
        self, method: str, path: str, keys: TopicKeys, body: bytes | None, most: int = _ANSWER_BYTES
    ) -> bytes:
        """Send one request until it is answered with success, or with a refusal that waiting does not mend."""
        lost, waited, proved_anew = 0, 0.0, False
        while True:
            challenge = await self._current_challenge()
            headers = {"Authorization": self._prove(keys, challenge)}
            try:
                answer = await self._exchange.ask(method, path, headers, body, max(most, _ANSWER_BYTES))
            except ConnectionLost:
                lost += 1
                if lost > LOST_MOST:
                    raise
                continue
            if answer.status in (200, 201):
                return answer.body
            refusal = read_refusal(answer)
            wait = None if answer.retry_after is None else max(answer.retry_after, RETRY_LEAST)
            if refusal.reason is ErrorCode.BAD_PROOF and not proved_anew:
                proved_anew = True
                if self._challenge == challenge:
                    self._challenge = b""  # the relay has started anew, or it is older than this device thinks
            elif refusal.reason in _PATIENT and wait is not None and wait <= min(RETRY_MOST, WAIT_MOST - waited):
                waited += wait
                await asyncio.sleep(wait)
            else:
                raise refusal

    async def _current_challenge(self) -> bytes:
        async with self._asking:
            now = asyncio.get_running_loop().time()
            if not self._challenge or now - self._challenge_at > CHALLENGE_SECONDS:
                self._challenge = await self._fetch_challenge()
                self._challenge_at = now
                self._proofs.clear()
            return self._challenge

    async def _fetch_challenge(self) -> bytes:
        for _ in range(LOST_MOST):
            try:
                return _read_challenge(await self._exchange.ask("GET", "/v1/challenge", {}, None, _ANSWER_BYTES))
            except ConnectionLost:
                continue
        return _read_challenge(await self._exchange.ask("GET", "/v1/challenge", {}, None, _ANSWER_BYTES))

    def _prove(self, keys: TopicKeys, challenge: bytes) -> str:
        """The Authorization header of a topic under the current challenge."""
        proof = self._proofs.get(keys.topic)
        if proof is None:
            signature = keys.signing.sign(LABEL_BLOB, blob_message(self._origin, challenge, keys.topic))
            proof = f"Cocoon {keys.topic.hex()}.{challenge.hex()}.{signature.hex()}"
            self._proofs[keys.topic] = proof
        return proof


# --- what a relay answers


def _read_challenge(answer: Answer) -> bytes:
    if answer.status != 200:
        raise read_refusal(answer)
    try:
        challenge = bytes.fromhex(json.loads(answer.body)["challenge"])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise RelayMisbehaved("the relay sent a challenge that is none") from error
    if len(challenge) != CHALLENGE_BYTES:
        raise RelayMisbehaved(f"the relay sent a challenge of {len(challenge)} bytes")
    return challenge


def _read_have(body: bytes, asked: Sequence[BlobHash]) -> set[BlobHash]:
    try:
        names = decode(body)
        if type(names) is not list or len(names) > len(asked):
            raise MalformedError("the answer to a have is an array of what was asked for")
        found = {BlobHash(name) for name in names}
    except (MalformedError, TypeError) as error:
        raise RelayMisbehaved("the relay sent an answer to a have that is none") from error
    if not found <= set(asked):
        raise RelayMisbehaved("the relay says that it has blobs that it was not asked for")
    return found


def read_refusal(answer: Answer) -> BlobRefused:
    """The refusal that an answer is, of whatever was asked for.

    Raises:
        RelayUnavailable: it is not a relay's, but for example that of a proxy whose relay is down.
    """
    try:
        error = json.loads(answer.body)["error"]
        reason, message = ErrorCode(error["code"]), str(error["message"])[:_MESSAGE_CHARACTERS]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise RelayUnavailable(f"the relay answered {answer.status}, which is not what a relay answers") from None
    if reason is ErrorCode.SHUTTING_DOWN:
        raise RelayUnavailable("the relay is shutting down")
    return BlobRefused(reason, f"the relay refused: {message} ({reason})", message, answer.retry_after)


# --- several at once


async def run_together(work: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Run all at once; the first failure ends the others and is raised as it is."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        await _cancel(tasks)


async def _cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    left = list(tasks)
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
