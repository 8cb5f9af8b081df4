"""Bodies of roster operations: one form each, and everything else is refused by name."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cocoon_core.errors import CocoonError, MalformedError, SignatureError, UpdateNeededError
from cocoon_core.protocol import encoding
from cocoon_core.protocol.constants import (
    LABEL_GROUP,
    MAX_EPOCH_DAYS,
    MAX_INVITE_USES,
    MAX_MEMBERS,
    MAX_PINS,
    MAX_RELAY_TOKEN,
    MAX_RELAYS,
    MAX_RUN_BYTES,
    MAX_VOUCHES,
)
from cocoon_core.protocol.ids import EntryId
from cocoon_core.protocol.operation_forms import Pin, Policy, Role
from cocoon_core.protocol.operations import Create, Invite, Join, SetRole, decode_operation
from cocoon_core.protocol.primitives import hash_bytes
from tests.support.roster_people import fork
from tests.support.roster_story import Person, Story, pin


@pytest.fixture(scope="module")
def bodies() -> dict[str, list[Any]]:
    """One valid body of each kind, as plain values."""
    story = Story(Policy(relays=("wss://relay.example", "ws://127.0.0.1:8787")))
    ana, ben = story.ana, Person(1)
    link, invite = story.invite(ana, uses=3)
    join = story.join(ben, link)
    second = ben.on(1)
    kinds = {
        "create": story.create,
        "invite": invite,
        "revoke": story.revoke(ana, link, [join]),
        "join": join,
        "role": story.set_role(ana, ben, Role.MEMBER, pins=[Pin(ben.device, 4, join.id)]),
        "policy": story.set_policy(ana, Policy(vouches=2, relays=("ws://a",), tokens=(("ws://a", "t"),))),
        "remove": story.remove(ana, ben, [pin(ben, 3)]),
        "leave": story.leave(ben, [pin(second, 3)]),
        "remove_device": story.remove_device(ben, second, [pin(second, 3)]),
        "add_device": story.add_device(ben, second),
        "replace_device": story.replace_device(ben, second, [pin(ben, 3)]),
        "suspend": story.suspend(ana, ben, fork(story.group, ben), [pin(ben, 3)]),
        "vouch": story.vouch(ana, story.newcomer(Person(2), link)),
        "admit": story.admit(ana, story.lost(second), [pin(ben, 3)]),
        "recovery": story.set_recovery(ben, phrase=ben.phrase(), guardians=[ana], threshold=1),
        "recover": story.recover(second, ben.phrase()),
        "rotation": story.rotate(ana),
    }
    return {kind: encoding.decode(encoding.encode(it.body.encode_body())) for kind, it in kinds.items()}


KINDS = [
    "create", "invite", "revoke", "join", "role", "policy", "remove", "leave", "remove_device", "add_device",
    "replace_device", "suspend", "vouch", "admit", "recovery", "recover", "rotation",
]  # fmt: skip


def test_every_code_from_0_on_is_an_operation(bodies: dict[str, list[Any]]) -> None:
    assert [bodies[kind][0] for kind in KINDS] == list(range(17))


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
            if body == bodies[kind]:
                continue
            with pytest.raises((MalformedError, UpdateNeededError)):
                decode_operation(body)


@pytest.mark.parametrize("body", [None, [], {}, "create", [b"\x00"], ["0"], [True], [-1], [0]])
def test_what_is_no_operation_is_malformed(body: object) -> None:
    with pytest.raises(MalformedError):
        decode_operation(body)


@pytest.mark.parametrize("code", [17, 99, 2**40])
def test_an_unknown_kind_stops_the_group(code: int) -> None:
    with pytest.raises(UpdateNeededError):
        decode_operation([code, b"x"])


def test_an_unknown_rule_of_the_policy_stops_the_group(bodies: dict[str, list[Any]]) -> None:
    body = [*bodies["create"]]
    body[-1] = {**body[-1], "curfew": 2}
    with pytest.raises(UpdateNeededError):
        decode_operation(body)


@pytest.mark.parametrize(
    "changed",
    [
        {"inviters": "everyone"},
        {"max_members": 0},
        {"max_members": MAX_MEMBERS + 1},
        {"max_members": True},
        {"vouches": -1},
        {"vouches": MAX_VOUCHES + 1},
        {"epoch_days": 0},
        {"epoch_days": MAX_EPOCH_DAYS + 1},
        {"relays": ["ws://a", "ws://a"]},
        {"relays": ["ws://a\n"]},
        {"relays": [""]},
        {"relays": ["ws://" + "a" * 300]},
        {"relays": [f"ws://{n}" for n in range(MAX_RELAYS + 1)]},
        {"relays": [b"ws://a"]},
        {"relays": [], "tokens": {"ws://a": "t"}},
        {"relays": ["ws://a"], "tokens": {"ws://a": ""}},
        {"relays": ["ws://a"], "tokens": {"ws://a": "t" * (MAX_RELAY_TOKEN + 1)}},
        {"relays": ["ws://a"], "tokens": {"ws://a": b"t"}},
        {"tokens": []},
    ],
)
@pytest.mark.parametrize("kind", ["create", "policy"])
def test_a_policy_out_of_bounds_is_malformed(bodies: dict[str, list[Any]], kind: str, changed: dict[str, Any]) -> None:
    good = {**bodies[kind][-1], "tokens": {}}
    decode_operation([*bodies[kind][:-1], good])
    with pytest.raises(MalformedError):
        decode_operation([*bodies[kind][:-1], {**good, **changed}])


@pytest.mark.parametrize("rule", ["epoch_days", "inviters", "max_members", "relays", "tokens", "vouches"])
def test_a_policy_has_every_rule(bodies: dict[str, list[Any]], rule: str) -> None:
    policy = {key: value for key, value in bodies["policy"][-1].items() if key != rule}
    for wrong in (policy, {**policy, rule.encode(): bodies["policy"][-1][rule]}):
        with pytest.raises(MalformedError):
            decode_operation([5, wrong])


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
        ("remove", 2, [[bytes(32), 0, bytes(32)]] * 2),
        ("remove_device", 2, [[bytes(32), 0, bytes(32)]]),
        ("replace_device", 4, [[bytes(32), 0, bytes(32)]]),
        ("suspend", 4, [[bytes(32), 0, bytes(32)]]),
        ("suspend", 2, b""),
        ("suspend", 3, bytes(MAX_RUN_BYTES + 1)),
        ("vouch", 1, [2, bytes(32)]),
        ("vouch", 1, [False, *[bytes(32)] * 6]),
        ("admit", 1, [1, bytes(32), bytes(1216), bytes(31), bytes(64)]),
        ("recovery", 1, [bytes(32)]),
        ("recovery", 2, [bytes(32), bytes(32)]),
        ("recovery", 3, 0),
        ("recovery", 3, 2),
        ("recover", 4, bytes(63)),
        ("rotation", 1, "because"),
        ("rotation", 2, []),
    ],
)
def test_a_value_out_of_bounds_is_malformed(bodies: dict[str, list[Any]], kind: str, place: int, wrong: object) -> None:
    body = [*bodies[kind]]
    body[place] = wrong
    with pytest.raises(MalformedError):
        decode_operation(body)


def test_admitting_a_newcomer_pins_nobody(bodies: dict[str, list[Any]]) -> None:
    with pytest.raises(MalformedError):
        decode_operation([13, bodies["vouch"][1], [[bytes(32), 0, bytes(32)]]])


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


@given(st.integers(0, 16), st.lists(plain, max_size=9))
def test_any_value_is_read_whole_or_raises_a_named_error(code: int, items: list[Any]) -> None:
    try:
        read = decode_operation([code, *items])
    except CocoonError:
        return
    assert read.encode_body() == [code, *items], "a leave that pins nobody is as short as that"


def test_ids_in_bodies_have_their_length(bodies: dict[str, list[Any]]) -> None:
    with pytest.raises(MalformedError):
        EntryId(bodies["role"][3][0][2][:-1])
