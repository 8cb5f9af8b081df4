"""A bundle as a file: written whole or not at all, read part by part, never held in memory. Spec: specs/bundle.md §4.

A file is checked from its head to its end before anything of it is used; what is kept of it in memory is where each
topic and each blob begins. Every part is checked again when it is read.
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from cocoon_core.errors import LocalStateError, MalformedError, StorageFullError, UsageError
from cocoon_core.protocol.bundle import (
    DIGEST_BYTES,
    HEAD,
    LENGTH_BYTES,
    BlobPart,
    EndPart,
    EnvelopesPart,
    Order,
    Part,
    TopicPart,
    check_head,
    fill_parts,
    first_digest,
    frame_part,
    read_length,
    read_part,
)
from cocoon_core.protocol.ids import BlobHash, TopicId
from cocoon_core.storage.positioned import open_descriptor

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Progress = Callable[[int, int], None]  # bytes done, bytes in all


class BundleWriter:
    """Writes a bundle beside its place, and puts it there when it is whole and on the disk. For a `with` block.

    Args:
        replaces: even if there is a file of that name.
    """

    def __init__(self, path: Path, *, replaces: bool = False) -> None:
        self._path, self._replaces = path, replaces
        self._order = Order()
        self._digest = first_digest()
        self._file: IO[bytes] | None = None
        self._name = ""
        self.size = 0  # bytes written

    def __enter__(self) -> Self:
        """Raises:
        UsageError: there is such a file already, or no such folder.
        LocalStateError: nothing can be written there.
        """
        if not self._path.parent.is_dir():
            raise UsageError(f"there is no folder {self._path.parent}")
        if self._path.is_dir():
            raise UsageError(f"{self._path} is a folder; give the name of a file")
        if self._path.exists() and not self._replaces:
            raise UsageError(f"there is a file {self._path} already; --force replaces it")
        with told_of(self._path):
            number, self._name = tempfile.mkstemp(prefix=f".{self._path.name}.", dir=self._path.parent)
            self._file = os.fdopen(number, "wb")
            self._write(HEAD)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
        if self._name:
            with suppress(OSError):
                os.unlink(self._name)

    def add_topic(self, topic: TopicId, envelopes: Iterable[bytes], *, sealed: bool) -> int:
        """Write a topic, if it has an envelope; each topic's id above the one before. How many envelopes it has."""
        count = 0
        for part in fill_parts(envelopes):
            if not count:
                self._add(TopicPart(topic, sealed))
            self._add(part)
            count += len(part.envelopes)
        return count

    def add_blob(self, data: bytes) -> None:
        """Write a blob; after all topics, each name above the one before."""
        self._add(BlobPart(data))

    def finish(self) -> EndPart:
        """Write the end, and put the file in its place.

        Raises:
            StorageFullError, LocalStateError: it could not be; there is no file of it then.
        """
        end = EndPart(self._order.topics, self._order.envelopes, self._order.blobs)
        self._add(end)
        assert self._file is not None, "inside the block"
        with told_of(self._path):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            if self._path.exists() and not self._replaces:
                raise UsageError(f"there is a file {self._path} already; --force replaces it")
            os.replace(self._name, self._path)
        self._name = ""
        _settle_folder(self._path.parent)
        return end

    def _add(self, part: Part) -> None:
        self._order.take(part)
        raw, self._digest = frame_part(part, self._digest)
        with told_of(self._path):
            self._write(raw)

    def _write(self, raw: bytes) -> None:
        assert self._file is not None, "inside the block"
        self._file.write(raw)
        self.size += len(raw)


@contextmanager
def told_of(path: Path) -> Iterator[None]:
    """Say what the operating system refused, in our words."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFullError(f"there is no room for {path.name}; free some, or take another disk") from error
        raise LocalStateError(f"{path} cannot be written: {error.strerror}") from error


def _settle_folder(folder: Path) -> None:
    """Have the disk keep the name too. A file system that cannot is none that keeps it otherwise."""
    with suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a part begins in the file, and the digest that its own goes on from."""

    at: int
    before: bytes


@dataclass(frozen=True, slots=True)
class HeldTopic:
    """A topic of a bundle: how many envelopes stand in it."""

    sealed: bool
    envelopes: int
    first: _Place


class BundleFile:
    """A bundle that was checked whole. Close it.

    Attributes:
        life: 16 bytes that name this content, for its topics' incarnations.
    """

    def __init__(self, file: IO[bytes], progress: Progress | None = None) -> None:
        """Check the whole file.

        Raises:
            MalformedError: it is no bundle, or cut off, or damaged.
            UpdateNeededError: it is of a later version.
            LocalStateError: it cannot be read.
        """
        self._file = file
        self.topics: dict[TopicId, HeldTopic] = {}
        self._blobs: dict[BlobHash, _Place] = {}
        size = os.fstat(file.fileno()).st_size
        order, place = Order(), _Place(len(HEAD), first_digest())
        check_head(self._read_at(0, len(HEAD)))
        started: tuple[TopicPart, _Place, int] | None = None
        while not order.is_whole:
            part, after = self._part_at(place)
            order.take(part)
            match part:
                case TopicPart():
                    self._keep(started)
                    started = part, after, 0
                case EnvelopesPart(envelopes):
                    assert started is not None, "the order was checked"
                    started = started[0], started[1], started[2] + len(envelopes)
                case BlobPart():
                    self._blobs[part.name] = place
                case EndPart():
                    self._keep(started)
            place = after
            if progress is not None:
                progress(place.at, size)
        if self._read_at(place.at, 1):
            raise MalformedError("the bundle goes on after its end")
        self.life = place.before[:16]

    def _keep(self, started: tuple[TopicPart, _Place, int] | None) -> None:
        if started is not None:
            part, first, count = started
            self.topics[part.topic] = HeldTopic(part.sealed, count, first)

    def envelopes(self, topic: TopicId, after: int = 0) -> Iterator[tuple[int, tuple[bytes, ...]]]:
        """The envelopes of a topic behind that place, as (place of the first, envelopes).

        Raises:
            MalformedError: the file was changed since it was opened.
        """
        held = self.topics.get(topic)
        if held is None:
            return
        place, done = held.first, 0
        while done < held.envelopes:
            part, place = self._part_at(place)
            assert isinstance(part, EnvelopesPart), "its digest is the one that was checked"
            first, done = done + 1, done + len(part.envelopes)
            if done > after:
                kept = part.envelopes[max(0, after - first + 1) :]
                yield done - len(kept) + 1, kept

    def has_blob(self, name: BlobHash) -> bool:
        return name in self._blobs

    def blob(self, name: BlobHash) -> bytes | None:
        """A blob, or None where there is none.

        Raises:
            MalformedError: the file was changed since it was opened.
        """
        place = self._blobs.get(name)
        if place is None:
            return None
        part, _ = self._part_at(place)
        assert isinstance(part, BlobPart), "its digest is the one that was checked"
        return part.data

    def close(self) -> None:
        self._file.close()

    def _part_at(self, place: _Place) -> tuple[Part, _Place]:
        length = read_length(self._read_at(place.at, LENGTH_BYTES))
        raw = self._read_at(place.at + LENGTH_BYTES, length + DIGEST_BYTES)
        part, digest = read_part(raw, length, place.before)
        return part, _Place(place.at + LENGTH_BYTES + length + DIGEST_BYTES, digest)

    def _read_at(self, at: int, size: int) -> bytes:
        try:
            self._file.seek(at)
            return self._file.read(size)
        except OSError as error:
            raise LocalStateError(f"the file cannot be read: {error.strerror}") from error


def open_bundle(path: Path, progress: Progress | None = None) -> BundleFile:
    """Open a bundle and check all of it.

    Raises:
        UsageError: there is no such file, or it is none that can be read.
        MalformedError, UpdateNeededError, LocalStateError: as BundleFile.
    """
    try:
        number = open_descriptor(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise UsageError(f"{path} is not a file")
    file = os.fdopen(number, "rb")
    try:
        return BundleFile(file, progress)
    except BaseException:
        file.close()
        raise
