"""Bodies of roster operations: one form each, and everything else is refused by name."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cocoon_core.errors import CocoonError, MalformedError, SignatureError, UpdateNeededError
from cocoon_core.protocol import encoding
from cocoon_core.protocol.constants import LABEL_GROUP, MAX_INVITE_USES, MAX_MEMBERS, MAX_PINS, MAX_RELAYS
from cocoon_core.protocol.ids import EntryId
from cocoon_core.protocol.operations import Create, Invite, Join, Pin, Policy, Role, SetRole, decode_operation
from cocoon_core.protocol.primitives import hash_bytes
from tests.support.roster_story import Person, Story


@pytest.fixture(scope="module")
def bodies() -> dict[str, list[Any]]:
    """One valid body of each kind, as plain values."""
    story = Story(Policy(relays=("wss://relay.example", "ws://127.0.0.1:8787")))
    ben = Person(1)
    link, invite = story.invite(story.ana, uses=3)
    join = story.join(ben, link)
    revoke = story.revoke(story.ana, link, [join])
    role = story.set_role(story.ana, ben, Role.MEMBER, pins=[Pin(ben.device, 4, join.id)])
    kinds = {"create": story.create, "invite": invite, "join": join, "revoke": revoke, "role": role}
    return {kind: encoding.decode(encoding.encode(it.body.encode_body())) for kind, it in kinds.items()}


KINDS = ["create", "invite", "join", "revoke", "role"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_body_decodes_to_what_was_encoded(bodies: dict[str, list[Any]], kind: str) -> None:
    assert decode_operation(bodies[kind]).encode_body() == bodies[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_an_item_too_few_or_too_many_is_malformed(bodies: dict[str, list[Any]], kind: str) -> None:
    for body in (bodies[kind][:-1], [*bodies[kind], 0]):
        with pytest.raises(MalformedError):
            decode_operation(body)


@pytest.mark.parametrize("kind", KINDS)
def test_an_item_of_another_type_is_malformed(bodies: dict[str, list[Any]], kind: str) -> None:
    for place in range(1, len(bodies[kind])):
        for wrong in (None, True, -1, 2**63 - 1, b"", "", [0], {"a": 1}):
            body = [*bodies[kind]]
            body[place] = wrong
            with pytest.raises((MalformedError, UpdateNeededError)):
                decode_operation(body)


@pytest.mark.parametrize("body", [None, [], {}, "create", [b"\x00"], ["0"], [True], [-1], [0]])
def test_what_is_no_operation_is_malformed(body: object) -> None:
    with pytest.raises(MalformedError):
        decode_operation(body)


@pytest.mark.parametrize("code", [5, 6, 99, 2**40])
def test_an_unknown_kind_stops_the_group(code: int) -> None:
    with pytest.raises(UpdateNeededError):
        decode_operation([code, b"x"])


def test_an_unknown_rule_of_the_policy_stops_the_group(bodies: dict[str, list[Any]]) -> None:
    body = [*bodies["create"]]
    body[-1] = {**body[-1], "vouches": 2}
    with pytest.raises(UpdateNeededError):
        decode_operation(body)


@pytest.mark.parametrize(
    "policy",
    [
        {"inviters": "member", "max_members": 12},
        {"inviters": "everyone", "max_members": 12, "relays": []},
        {"inviters": "member", "max_members": 0, "relays": []},
        {"inviters": "member", "max_members": MAX_MEMBERS + 1, "relays": []},
        {"inviters": "member", "max_members": True, "relays": []},
        {"inviters": "member", "max_members": 12, "relays": ["ws://a", "ws://a"]},
        {"inviters": "member", "max_members": 12, "relays": ["ws://a\n"]},
        {"inviters": "member", "max_members": 12, "relays": [""]},
        {"inviters": "member", "max_members": 12, "relays": ["ws://" + "a" * 300]},
        {"inviters": "member", "max_members": 12, "relays": [f"ws://{n}" for n in range(MAX_RELAYS + 1)]},
        {"inviters": "member", "max_members": 12, "relays": [b"ws://a"]},
        {b"inviters": "member", "max_members": 12, "relays": []},
    ],
)
def test_a_policy_out_of_bounds_is_malformed(bodies: dict[str, list[Any]], policy: dict[Any, Any]) -> None:
    with pytest.raises(MalformedError):
        decode_operation([*bodies["create"][:-1], policy])


@pytest.mark.parametrize(
    ("kind", "place", "wrong"),
    [
        ("invite", 4, 0),
        ("invite", 4, MAX_INVITE_USES + 1),
        ("invite", 5, -1),
        ("invite", 6, "owner"),
        ("invite", 3, bytes(31)),
        ("revoke", 2, [bytes(32), bytes(32)]),
        ("revoke", 2, [b"\x02" * 32, b"\x01" * 32]),
        ("revoke", 2, [n.to_bytes(32, "big") for n in range(MAX_INVITE_USES + 1)]),
        ("role", 2, "king"),
        ("role", 3, [[bytes(32), 0]]),
        ("role", 3, [[bytes(32), -1, bytes(32)]]),
        ("role", 3, [[bytes(32), True, bytes(32)]]),
        ("role", 3, [[bytes(32), 0, bytes(32)], [bytes(32), 1, bytes(32)]]),
        ("role", 3, [[n.to_bytes(32, "big"), 0, bytes(32)] for n in range(MAX_PINS + 1)]),
        ("create", 1, bytes(31)),
        ("create", 5, "a\u202eb"),
        ("join", 3, " Ben"),
    ],
)
def test_a_value_out_of_bounds_is_malformed(bodies: dict[str, list[Any]], kind: str, place: int, wrong: object) -> None:
    body = [*bodies[kind]]
    body[place] = wrong
    with pytest.raises(MalformedError):
        decode_operation(body)


def test_a_promotion_pins_nothing() -> None:
    story = Story()
    with pytest.raises(MalformedError):
        SetRole(story.member(story.ana), Role.ADMIN, (Pin(story.ana.device, 0, story.create.id),))


def test_the_group_id_is_the_hash_of_creates_body(bodies: dict[str, list[Any]]) -> None:
    create = decode_operation(bodies["create"])
    assert isinstance(create, Create)
    assert create.group_id() == hash_bytes(LABEL_GROUP, encoding.encode(bodies["create"]))


def test_a_proof_holds_for_its_group_and_device_alone() -> None:
    story, other = Story(), Story(Policy(max_members=3))
    ben, cleo = Person(1), Person(2)
    link, invite = story.invite(story.ana)
    assert isinstance(invite.body, Invite)
    join = Join.make(link.key, story.group, ben.device, ben.hpke, "Ben")
    for proven, author in ((invite.body, story.ana), (join, ben)):
        proven.verify_proof(story.group, author.device)
        for group, device in ((other.group, author.device), (story.group, cleo.device)):
            with pytest.raises(SignatureError):
                proven.verify_proof(group, device)


def test_an_invite_does_not_print_its_mailbox_secret() -> None:
    story = Story()
    _, invite = story.invite(story.ana)
    assert isinstance(invite.body, Invite)
    assert invite.body.mailbox_secret.reveal().hex() not in repr(invite)
    assert str(invite.body.mailbox_secret.reveal()) not in repr(invite)


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.binary(max_size=64) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)


@given(st.integers(0, 4), st.lists(plain, max_size=9))
def test_any_other_value_raises_a_named_error(code: int, items: list[Any]) -> None:
    with pytest.raises(CocoonError):
        decode_operation([code, *items])


def test_ids_in_bodies_have_their_length(bodies: dict[str, list[Any]]) -> None:
    with pytest.raises(MalformedError):
        EntryId(bodies["role"][3][0][2][:-1])
