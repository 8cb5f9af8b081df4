"""The code against specs/vectors/vault-file.json, each step from the values in the file."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from nacl.bindings import crypto_aead_chacha20poly1305_ietf_decrypt

from cocoon_core import errors
from cocoon_core.protocol.constants import LABEL_VAULT_CHUNK, LABEL_VAULT_LIST
from cocoon_core.protocol.ids import BlobHash, GroupId
from cocoon_core.protocol.primitives import Secret, keyed_hash
from cocoon_core.protocol.vault_file import (
    FileRef,
    blob_length,
    chunk_key,
    data_length,
    digest_file,
    digest_places,
    make_ref,
    open_chunk,
    open_list,
)
from tests.vectors.generate import DIRECTORY
from tests.vectors.vault_files import content, list_names, piece, seal_all, unshown

VECTORS = json.loads((DIRECTORY / "vault-file.json").read_text("utf-8"))
FILE_KEY = Secret(bytes.fromhex(VECTORS["file_key"]))


def test_keys() -> None:
    assert keyed_hash(FILE_KEY.reveal(), LABEL_VAULT_CHUNK, b"").hex() == VECTORS["chunk_key"]
    assert keyed_hash(FILE_KEY.reveal(), LABEL_VAULT_LIST, b"").hex() == VECTORS["list_key"]


@pytest.mark.parametrize("case", VECTORS["files"], ids=lambda case: str(case["size"]))
def test_a_file_chunk_by_chunk(case: dict[str, Any]) -> None:
    """Every blob opens by another library too, with nonce, name and padding written out here."""
    size, data = case["size"], content(case["size"])
    key = chunk_key(FILE_KEY)
    blobs = seal_all(key, data)
    assert len(blobs) == len(case["chunks"]) == FileRef.from_value(unshown(case["value"])).chunks
    ref, made = make_ref(FILE_KEY, size, [BlobHash(hashlib.sha256(blob).digest()) for blob in blobs])
    assert (ref.to_value(), made, ref.id().hex()) == (unshown(case["value"]), [], case["id"])
    for number, (blob, said) in enumerate(zip(blobs, case["chunks"], strict=True)):
        assert len(blob) == said["length"] == blob_length(size, number)
        assert (blob[-16:].hex(), blob.hex()) == (said["tag"], said.get("blob", blob.hex()))
        assert hashlib.sha256(blob).hexdigest() == said["name"] == ref.names[number].hex()
        nonce = bytes.fromhex(said["nonce"])
        plain = crypto_aead_chacha20poly1305_ietf_decrypt(blob, b"", nonce, bytes.fromhex(VECTORS["chunk_key"]))
        assert said["data_length"] == data_length(size, number)
        assert plain[: said["data_length"]] == piece(size, number)
        assert plain[said["data_length"] :].rstrip(b"\0") == (b"\x80" if nonce[-1] else b"")
        assert open_chunk(key, size, number, blob, ref.names[number]) == piece(size, number)


@pytest.mark.parametrize("case", VECTORS["lists"], ids=lambda case: str(case["chunks"]))
def test_a_list_of_names(case: dict[str, Any]) -> None:
    names = list_names(case["chunks"])
    ref, blobs = make_ref(FILE_KEY, case["size"], names)
    assert (ref.to_value(), ref.id().hex()) == (unshown(case["value"]), case["id"])
    assert FileRef.from_value(unshown(case["value"])) == ref
    for blob, said in zip(blobs, case["blobs"], strict=True):
        assert (len(blob), blob[-16:].hex()) == (said["length"], said["tag"])
        assert hashlib.sha256(blob).hexdigest() == said["name"]
    assert [one for number, blob in enumerate(blobs) for one in open_list(ref, number, blob)] == names


@pytest.mark.parametrize("case", VECTORS["digests"], ids=lambda case: str(case["size"]))
def test_a_digest(case: dict[str, Any]) -> None:
    places, data = digest_places(case["size"]), content(case["size"])
    assert [start for start, _ in places] == case["starts"]
    sample = b"".join(data[start : start + length] for start, length in places)
    assert digest_file(GroupId(bytes.fromhex(VECTORS["group_id"])), case["size"], sample).hex() == case["digest"]


@pytest.mark.parametrize("case", VECTORS["bad_chunks"], ids=lambda case: str(case["name"]))
def test_chunks_that_are_refused(case: dict[str, Any]) -> None:
    name = BlobHash(bytes.fromhex(case["name_of"]))
    with pytest.raises(getattr(errors, case["error"])):
        open_chunk(chunk_key(FILE_KEY), case["size"], case["number"], bytes.fromhex(case["blob"]), name)


@pytest.mark.parametrize("case", VECTORS["bad_lists"], ids=lambda case: str(case["name"]))
def test_lists_that_are_refused(case: dict[str, Any]) -> None:
    with pytest.raises(getattr(errors, case["error"])):
        open_list(FileRef.from_value(unshown(case["value"])), 0, bytes.fromhex(case["blob"]))


@pytest.mark.parametrize("case", VECTORS["bad_refs"], ids=lambda case: str(case["name"]))
def test_references_that_are_refused(case: dict[str, Any]) -> None:
    with pytest.raises(getattr(errors, case["error"])):
        FileRef.from_value(unshown(case["value"]))
