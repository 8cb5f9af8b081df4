"""The code against specs/vectors/people.json."""

from __future__ import annotations

from cocoon_core.protocol.encoding import decode
from cocoon_core.protocol.ids import DocumentId, GroupId, MemberId
from cocoon_core.protocol.primitives import HpkeKey, Secret
from cocoon_core.protocol.seen import open_box, open_notice, seal_notice
from tests.vectors.people import read_as_json
from tests.vectors.test_vectors import read, require_refused, secret, unhex
from tests.vectors.values import Json


def test_what_is_read_of_profiles() -> None:
    for case in read("people")["profiles"]:
        assert read_as_json(decode(unhex(case["map"]))) == case["profile"], case["name"]


def test_a_box() -> None:
    vectors = read("people")
    group, reader, author = (unhex(vectors[name]) for name in ("group", "reader", "author"))
    case = vectors["box"]
    own = [HpkeKey(secret(seed)) for seed in case["hpke_seeds"]]
    for key in own:
        found = open_box(unhex(case["box"]), [key], GroupId(group), MemberId(reader), MemberId(author))
        assert found == secret(case["secret"])

    def attempt(bad: Json) -> None:
        keys = [HpkeKey(Secret(b"\x09" * 32))] if bad["strangers"] else own
        open_box(unhex(bad["box"]), keys, GroupId(group), MemberId(unhex(bad["reader"])), MemberId(author))

    require_refused(vectors["bad_boxes"], attempt)


def test_a_notice() -> None:
    vectors = read("people")
    case, under = vectors["notice"], secret(vectors["box"]["secret"])
    document, posts = DocumentId(unhex(case["document"])), [unhex(post) for post in case["posts"]]
    assert seal_notice(posts, under, unhex(case["nonce"]), document, case["key"]).hex() == case["notice"]
    assert open_notice(unhex(case["notice"]), under, document, case["key"]) == posts
    require_refused(vectors["bad_notices"], lambda bad: open_notice(unhex(bad["notice"]), under, document, bad["key"]))
