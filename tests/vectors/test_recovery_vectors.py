"""The vectors of specs/recovery.md, read from their file as a stranger would."""

from __future__ import annotations

import hashlib
from typing import Any

from cocoon_core.protocol.circle import (
    CircleCode,
    HelpCode,
    read_circle_code,
    read_help_code,
    read_request,
    request_words,
    write_circle_code,
    write_help_code,
)
from cocoon_core.protocol.encoding import encode
from cocoon_core.protocol.ids import GroupId, MemberId, RequestId
from cocoon_core.protocol.primitives import HpkeKey, Secret, argon2id, derive, hash_bytes, keyed_hash
from cocoon_core.protocol.recovery import (
    PhraseKeys,
    RecoveryKeys,
    index_mailbox,
    open_seed,
    read_phrase,
    write_phrase,
)
from cocoon_core.protocol.recovery_index import open_index
from cocoon_core.protocol.words import word_list
from tests.vectors.test_vectors import read, require_refused, secret, unhex

VECTORS: Any = read("recovery")
KEYS = PhraseKeys(Secret(unhex(VECTORS["phrase"]["secret"]), 16))
GROUP = GroupId(unhex(VECTORS["recovery_keys"]["group_id"]))


def words_by_the_book(raw: bytes) -> str:
    """BIP-39 in five lines, beside the library."""
    bits = int.from_bytes(raw + hashlib.sha256(raw).digest()[:1]) >> 4
    return " ".join(word_list()[bits >> (11 * place) & 2047] for place in reversed(range(12)))


def test_phrases() -> None:
    case = VECTORS["phrase"]
    for one in [case, *VECTORS["phrases"]]:
        assert write_phrase(Secret(unhex(one["secret"]), 16)) == one["words"] == words_by_the_book(unhex(one["secret"]))
        assert read_phrase(one["words"]).reveal().hex() == one["secret"]
    for written in VECTORS["written_otherwise"]:
        assert read_phrase(written).reveal().hex() == case["secret"]
    require_refused(VECTORS["bad_phrases"], lambda case: read_phrase(case["words"]))


def test_keys_of_a_phrase() -> None:
    case = VECTORS["phrase"]
    assert hash_bytes("cocoon/v1/phrase-stretch", b"", 16).hex() == case["salt"]
    stretched = argon2id(unhex(case["secret"]), unhex(case["salt"]), 3, 65536)
    assert stretched.reveal().hex() == case["stretched"]
    assert HpkeKey(derive(stretched, "cocoon/v1/index-hpke")).public.hex() == case["index_public"]
    assert derive(stretched, "cocoon/v1/index-secret").reveal().hex() == case["index_secret"]
    assert (KEYS.opening.public.hex(), KEYS.index_secret.reveal().hex()) == (case["index_public"], case["index_secret"])


def test_mailboxes() -> None:
    for case in VECTORS["mailboxes"]:
        assert index_mailbox(KEYS.index_secret, case["relay"]).topic.hex() == case["topic"]
    origin = "ws://relay.example:8787"
    derived = keyed_hash(KEYS.index_secret.reveal(), "cocoon/v1/index-mailbox", origin.encode())
    assert derived.hex() == VECTORS["mailboxes"][-1]["mailbox_secret"]


def test_seeds() -> None:
    case = VECTORS["recovery_keys"]
    assert case["info"] == (b"cocoon/v1/recovery-seed\0" + GROUP).hex()
    for keys in (RecoveryKeys(secret(case["seed"])), open_seed(unhex(case["sealed"]), KEYS, GROUP)):
        assert (keys.id.hex(), keys.hpke.public.hex()) == (case["recovery_id"], case["hpke_public"])
    require_refused(
        VECTORS["bad_seeds"], lambda case: open_seed(unhex(case["sealed"]), KEYS, GroupId(unhex(case["group_id"])))
    )


def test_indexes() -> None:
    case = VECTORS["index"]
    index = open_index(unhex(case["value"]), KEYS)
    (record,) = index.records
    assert (index.tag.hex(), [tag.hex() for tag in index.superseded]) == (case["tag"], case["superseded"])
    assert encode(record.create.encode_body()).hex() == case["create"]
    assert record.epoch.secret.reveal().hex() == case["epoch_secret"]
    assert (list(record.relays), dict(record.tokens)) == (case["relays"], case["tokens"])
    assert [seed.hex() for seed in record.seeds] == case["seeds"]
    require_refused(VECTORS["bad_indexes"], lambda case: open_index(unhex(case["value"]), KEYS))


def test_codes() -> None:
    case = VECTORS["help_code"]
    tokens = tuple(sorted(case["tokens"].items()))
    helping = HelpCode(GROUP, MemberId(unhex(case["member_id"])), tuple(case["relays"]), tokens)
    assert write_help_code(helping) == case["text"]
    assert read_help_code(case["text"]) == helping
    case = VECTORS["circle_code"]
    code = CircleCode(GROUP, secret(case["mailbox_secret"]), RequestId(unhex(case["request_id"])))
    assert write_circle_code(code) == case["text"]
    assert read_circle_code(case["text"]) == code
    readers: dict[str, Any] = {"help": read_help_code, "circle": read_circle_code}
    require_refused(VECTORS["bad_codes"], lambda case: readers[case["kind"]](case["text"]))


def test_requests_and_their_words() -> None:
    case = VECTORS["circle_code"]
    bits = int.from_bytes(unhex(case["request_id"])) >> (256 - 66)
    words = [word_list()[bits >> (11 * place) & 2047] for place in reversed(range(6))]
    assert request_words(RequestId(unhex(case["request_id"]))) == " ".join(words) == case["words"]
    code = read_circle_code(case["text"])
    request = read_request(unhex(case["value"]), code)
    assert request.member.hex() == VECTORS["help_code"]["member_id"]
    require_refused(
        VECTORS["bad_requests"],
        lambda case: read_request(
            unhex(case["value"]),
            CircleCode(GroupId(unhex(case["group_id"])), code.mailbox_secret, RequestId(unhex(case["request_id"]))),
        ),
    )
