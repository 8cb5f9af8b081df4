"""The code against specs/vectors/backup.json, each step from the values in the file."""

from __future__ import annotations

import json

import pytest
from nacl.bindings import crypto_aead_chacha20poly1305_ietf_decrypt

from cocoon_core import errors
from cocoon_core.protocol.backup import BackupKey, decode_head
from cocoon_core.protocol.constants import LABEL_BACKUP_COMMITMENT, LABEL_BACKUP_STREAM
from cocoon_core.protocol.primitives import Secret, argon2id, keyed_hash
from cocoon_core.storage.backup import seal_chunks
from cocoon_core.storage.dump import read_records
from tests.vectors.backups import open_all
from tests.vectors.generate import DIRECTORY

VECTORS = json.loads((DIRECTORY / "backup.json").read_text("utf-8"))


def unhex(name: str) -> bytes:
    return bytes.fromhex(VECTORS[name])


def test_head_and_keys() -> None:
    head = decode_head(unhex("head"))
    assert (head.ops, head.memory_kib, head.salt) == (VECTORS["ops"], VECTORS["memory_kib"], unhex("salt"))
    assert head.encode() == unhex("head")
    stretched = argon2id(unhex("passphrase_bytes"), head.salt, head.ops, head.memory_kib)
    assert stretched.reveal() == unhex("stretched")
    assert keyed_hash(unhex("stretched"), LABEL_BACKUP_COMMITMENT, unhex("head")) == unhex("commitment")
    assert keyed_hash(unhex("stretched"), LABEL_BACKUP_STREAM, unhex("head")) == unhex("stream_key")


def test_chunks_and_records() -> None:
    """The chunk opens by another library too, with a nonce that is written out here."""
    key = BackupKey(Secret(unhex("stretched")), unhex("head"))
    assert b"".join(seal_chunks(key, [unhex("payload")])) == unhex("chunks")
    assert open_all(key, unhex("chunks")) == unhex("payload")
    nonce = bytes(11) + b"\x01"
    assert crypto_aead_chacha20poly1305_ietf_decrypt(unhex("chunks"), b"", nonce, unhex("stream_key")) == unhex(
        "payload"
    )
    assert unhex("file") == unhex("head") + unhex("commitment") + unhex("chunks")
    for size in (1, 3, 1000):
        pieces = [unhex("payload")[at : at + size] for at in range(0, len(unhex("payload")), size)]
        records = list(read_records(pieces))
        assert [record[0] for record in records] == [0, 1, 2, 3]
    for case in VECTORS["cuts"]:
        chunks = list(seal_chunks(key, [bytes(case["zeros"])]))
        assert [len(chunk) for chunk in chunks] == case["lengths"]
        assert [chunk[-16:].hex() for chunk in chunks] == case["tags"]
        assert open_all(key, b"".join(chunks)) == bytes(case["zeros"])


@pytest.mark.parametrize("case", VECTORS["bad_heads"], ids=lambda case: str(case["name"]))
def test_heads_that_are_refused(case: dict[str, str]) -> None:
    with pytest.raises(getattr(errors, case["error"])):
        decode_head(bytes.fromhex(case["head"]))


@pytest.mark.parametrize("case", VECTORS["bad_chunks"], ids=lambda case: str(case["name"]))
def test_chunks_that_are_refused(case: dict[str, str]) -> None:
    with pytest.raises(getattr(errors, case["error"])):
        open_all(BackupKey(Secret(unhex("stretched")), unhex("head")), bytes.fromhex(case["chunks"]))
