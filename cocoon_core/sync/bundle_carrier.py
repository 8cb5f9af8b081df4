"""A bundle as a relay: its topics and blobs behind the seams of transport.py and blobs.py. It takes nothing.

What it says comes from a file that anybody may have made, and is judged as what a relay says is. Spec:
specs/bundle.md §5.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence

from cocoon_core.errors import RelayMisbehaved
from cocoon_core.protocol.constants import CHALLENGE_BYTES, FRAME_VERSION
from cocoon_core.protocol.epoch import TopicKeys
from cocoon_core.protocol.frames import (
    Challenge,
    Close,
    Entries,
    Error,
    ErrorCode,
    Live,
    Open,
    Opened,
    Put,
    RelayFrame,
    decode_client_frame,
    encode_frame,
)
from cocoon_core.protocol.ids import BlobHash, Incarnation, TopicId
from cocoon_core.sync.blobs import BlobRefused, BlobStore, Named, OnPut, name_blob
from cocoon_core.sync.bundle_file import BundleFile
from cocoon_core.sync.transport import Connection


class BundleCarrier:
    """The ways to one bundle. Its file stays open as long as it is used."""

    def __init__(self, bundle: BundleFile) -> None:
        self._bundle = bundle

    async def dial(self, url: str) -> Connection:
        return _BundleConnection(self._bundle)

    def blobs(self, url: str) -> BlobStore:
        return _BundleBlobs(self._bundle)


class _BundleConnection:
    """Answers `open` with what the file holds. There is nobody to prove anything to."""

    def __init__(self, bundle: BundleFile) -> None:
        self._bundle = bundle
        self._frames: deque[RelayFrame] = deque([Challenge(FRAME_VERSION, bytes(CHALLENGE_BYTES), {})])
        self._open: deque[tuple[TopicId, Iterator[RelayFrame]]] = deque()
        self._asked = asyncio.Event()
        self._ended = False

    async def send(self, raw: bytes) -> None:
        self._asked.set()
        match decode_client_frame(raw):
            case Open(request, topic, _, _, _):
                held = self._bundle.topics.get(topic)
                last, sealed = (held.envelopes, held.sealed) if held is not None else (0, False)
                self._frames.append(Opened(request, topic, Incarnation(self._bundle.life), last, sealed))
                self._open.append((topic, self._read(topic, last)))
            case Close(topic):
                self._open = deque(reading for reading in self._open if reading[0] != topic)
            case Put(request, _, _, _, _):
                self._frames.append(Error(request, ErrorCode.SEALED, "a file takes nothing", last=0))
            case _:
                pass

    async def receive(self) -> bytes | None:
        while not self._ended:
            if self._frames:
                return encode_frame(self._frames.popleft())
            if self._open:
                frame = next(self._open[0][1], None)
                if frame is None:
                    self._open.popleft()
                else:
                    self._frames.append(frame)
            else:  # a file says nothing by itself
                self._asked.clear()
                await self._asked.wait()
        return None

    async def close(self) -> None:
        self._ended = True
        self._asked.set()

    def _read(self, topic: TopicId, last: int) -> Iterator[RelayFrame]:
        for first, envelopes in self._bundle.envelopes(topic):
            yield Entries(topic, first, envelopes)
        yield Live(topic, last)


class _BundleBlobs:
    """The blobs of a file, whose names were checked when it was opened."""

    def __init__(self, bundle: BundleFile) -> None:
        self._bundle = bundle

    async def put_blobs(self, keys: TopicKeys, blobs: Sequence[bytes]) -> int:
        return 0

    async def put_each(self, keys: TopicKeys, blobs: AsyncIterator[Named], on_put: OnPut | None = None) -> None:
        """Nothing is put into a file that is read."""

    async def get_blob(self, keys: TopicKeys, blob: BlobHash) -> bytes:
        data = self._bundle.blob(blob)
        if data is None:
            raise BlobRefused(ErrorCode.NOT_FOUND, "the file does not hold this blob")
        if name_blob(data) != blob:
            raise RelayMisbehaved("the file was changed while it was read")
        return data

    async def have(self, keys: TopicKeys, blobs: Iterable[BlobHash]) -> set[BlobHash]:
        return {blob for blob in blobs if self._bundle.has_blob(blob)}

    async def close(self) -> None:
        pass
