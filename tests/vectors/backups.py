"""Vectors for specs/backup.md: a small backup, byte by byte, and what is refused."""

from __future__ import annotations

import io
from pathlib import Path

from cocoon_core.protocol.backup import MAGIC, BackupHead, BackupKey, decode_head
from cocoon_core.protocol.constants import ARGON2_MIN_MEMORY_KIB, ARGON2_MIN_OPS, BACKUP_CHUNK_BYTES, BACKUP_SUM_BYTES
from cocoon_core.protocol.encoding import encode
from cocoon_core.protocol.primitives import argon2id
from cocoon_core.storage.backup import open_chunks, seal_chunks
from cocoon_core.storage.passphrase import normalise_passphrase
from tests.support.flips import flip
from tests.vectors.values import Json, refused

PASSPHRASE = "ro\u0302ti et chapeau \u2126"  # not in NFC
HEAD = BackupHead(ARGON2_MIN_OPS, ARGON2_MIN_MEMORY_KIB, bytes(range(16)))
RECORDS: tuple[list[object], ...] = (
    [0, 1, 1_790_000_000_000],
    [1, "meta", ["key", "value"]],
    [2, ["answer", b"\x2a"]],
    [3, 1],
)


def frame(record: list[object]) -> bytes:
    raw = encode(record)
    return len(raw).to_bytes(4, "big") + raw


def make_backup() -> Json:
    """A head, the keys that follow from passphrase and head, a payload of four records, its one chunk, and the file;
    how a payload of more than one chunk is cut; heads and files that are refused.
    """
    raw = HEAD.encode()
    stretched = argon2id(normalise_passphrase(PASSPHRASE), HEAD.salt, HEAD.ops, HEAD.memory_kib)
    key = BackupKey(stretched, raw)
    payload = b"".join(frame(record) for record in RECORDS)
    chunks = b"".join(seal_chunks(key, [payload]))
    return {
        "passphrase": PASSPHRASE,
        "passphrase_bytes": normalise_passphrase(PASSPHRASE).hex(),
        "ops": HEAD.ops,
        "memory_kib": HEAD.memory_kib,
        "salt": HEAD.salt.hex(),
        "head": raw.hex(),
        "stretched": stretched.reveal().hex(),
        "commitment": key.commitment.hex(),
        "stream_key": key._key.reveal().hex(),
        "records": [encode(record).hex() for record in RECORDS],
        "payload": payload.hex(),
        "chunks": chunks.hex(),
        "file": (raw + key.commitment + chunks).hex(),
        "cuts": [
            _cut(key, size) for size in (0, 1, BACKUP_CHUNK_BYTES, BACKUP_CHUNK_BYTES + 1, 2 * BACKUP_CHUNK_BYTES)
        ],
        "bad_heads": _bad_heads(raw),
        "bad_chunks": _bad_chunks(key, payload),
    }


def _cut(key: BackupKey, size: int) -> Json:
    """A payload of so many zeros: the lengths of its chunks, and the tag of each."""
    chunks = list(seal_chunks(key, [bytes(size)]))
    return {"zeros": size, "lengths": [len(chunk) for chunk in chunks], "tags": [chunk[-16:].hex() for chunk in chunks]}


def _bad_heads(raw: bytes) -> list[Json]:
    newer = raw.replace(b"backup/1\n", b"backup/2\n")
    cases = (
        ("of a newer version", newer, "the magic says version 2"),
        ("not a backup", b"x" + raw[1:], "the magic is another one"),
        ("empty", b"", "there is nothing"),
        ("cut off", raw[:-1], "the sum is one byte short"),
        ("altered", flip(raw, len(MAGIC) + 4), "the sum does not hold"),
        ("altered sum", flip(raw, -BACKUP_SUM_BYTES), "the sum does not hold"),
        ("another salt", _summed([HEAD.ops, HEAD.memory_kib, bytes(15)]), "a salt has 16 bytes"),
        ("a cost that is true", _summed([True, HEAD.memory_kib, HEAD.salt]), "a cost is a number"),
        ("one more member", _summed([HEAD.ops, HEAD.memory_kib, HEAD.salt, 1]), "a head has three members"),
        ("too long", MAGIC + (257).to_bytes(2, "big"), "a head's CBOR has 256 bytes at most"),
    )
    return [refused(name, reason, {"head": head.hex()}, decode_head, head) for name, head, reason in cases]


def _summed(value: list[object]) -> bytes:
    """A head whose sum holds, whatever is in it."""
    from cocoon_core.protocol.constants import LABEL_BACKUP_SUM
    from cocoon_core.protocol.primitives import hash_bytes

    body = encode(value)
    raw = MAGIC + len(body).to_bytes(2, "big") + body
    return raw + hash_bytes(LABEL_BACKUP_SUM, raw, BACKUP_SUM_BYTES)


def _bad_chunks(key: BackupKey, payload: bytes) -> list[Json]:
    whole = b"".join(seal_chunks(key, [payload]))
    not_last = key.seal_chunk(0, payload, last=False)
    second = key.seal_chunk(1, payload, last=True)
    cases = (
        ("altered", flip(whole, 3), "the tag does not hold"),
        ("cut off inside a chunk", whole[:-1], "the tag does not hold"),
        ("cut off after a chunk", not_last, "no chunk says that it is the last"),
        ("in another place", second, "it was sealed as the chunk after"),
        ("added to", whole + second, "what was the last is not"),
        ("nothing", b"", "even an empty payload has a chunk"),
    )
    return [refused(name, reason, {"chunks": raw.hex()}, open_all, key, raw) for name, raw, reason in cases]


def open_all(key: BackupKey, raw: bytes) -> bytes:
    return b"".join(open_chunks(key, io.BytesIO(raw), Path("vector")))
