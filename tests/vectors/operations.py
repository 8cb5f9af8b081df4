"""Vectors for the bodies of roster operations and for what the proofs in them sign (specs/roster.md §2)."""

from __future__ import annotations

from typing import Any

from cocoon_core.protocol.constants import (
    LABEL_ADD_DEVICE,
    LABEL_INVITE_PROOF,
    LABEL_JOIN,
    LABEL_RECOVER,
    LABEL_RECOVERY_PROOF,
    LABEL_REPLACE_DEVICE,
    LABEL_REQUEST,
    LABEL_REQUEST_INVITE,
)
from cocoon_core.protocol.encoding import encode
from cocoon_core.protocol.ids import EntryId, RecoveryId
from cocoon_core.protocol.invite import InviteKeys
from cocoon_core.protocol.operation_forms import Pin, Policy, Role
from cocoon_core.protocol.operations import (
    Invite,
    Join,
    OperationBody,
    RevokeInvite,
    SetPolicy,
    SetRole,
    decode_operation,
)
from cocoon_core.protocol.operations_admission import (
    Admit,
    LostMember,
    Newcomer,
    Recover,
    SetRecovery,
    Vouch,
    request_id,
    sign_recovery,
)
from cocoon_core.protocol.operations_devices import AddDevice, Leave, RemoveDevice, RemoveMember, ReplaceDevice, Suspend
from cocoon_core.protocol.primitives import SigningKey
from tests.support.protocol_story import ANA, BEGIN_MS, CREATE, GROUP, MEMBER, device_keys, named_secret
from tests.support.roster_people import Person, fork, rotation_body
from tests.vectors.sealing import LINK
from tests.vectors.values import Json, refused

BEN = device_keys("ben")
_PHRASE = SigningKey(named_secret("phrase"))
_ID_1, _ID_2 = EntryId(b"\x01" * 32), EntryId(b"\x02" * 32)
_KEYS = InviteKeys(LINK.secret)
_INVITE = Invite.make(
    _KEYS.signing, _KEYS.hpke().public, _KEYS.mailbox_secret, GROUP, ANA.id, uses=3, expires_ms=BEGIN_MS
)
_JOIN = Join.make(_KEYS.signing, GROUP, BEN.id, BEN.hpke_public, "Ben")
_PINS = (Pin(ANA.id, 7, _ID_1),)
_ADD = AddDevice.make(BEN.signing, GROUP, ANA.id, BEN.hpke_public)
_REPLACE = ReplaceDevice.make(ANA.signing, GROUP, BEN.id, BEN.hpke_public, _PINS)
_NEWCOMER = Newcomer.make(BEN.signing, _KEYS.signing, GROUP, BEN.hpke_public, "Ben")
_LOST = LostMember.make(BEN.signing, GROUP, BEN.hpke_public, MEMBER)
_RECOVERY = SetRecovery(
    (RecoveryId(_PHRASE.public), ANA.hpke_public, sign_recovery(_PHRASE, GROUP, ANA.id, ANA.hpke_public)), (MEMBER,), 1
)
_RECOVER = Recover.make(_PHRASE, GROUP, MEMBER, BEN.id, BEN.hpke_public)
_POLICY = Policy(20, Role.ADMIN, ("ws://a", "ws://b"), (("ws://a", "token"),), 2, 7)


def make_operations() -> Json:
    """One body of every operation, and what the proofs in them sign; bodies that are refused."""
    target = Person(1)
    first, second = fork(GROUP, target)
    good: list[tuple[str, OperationBody]] = [
        ("create", CREATE),
        ("invite", _INVITE),
        ("revoke_invite", RevokeInvite(_KEYS.id, (_ID_1, _ID_2))),
        ("revoke_invite that names no join", RevokeInvite(_KEYS.id)),
        ("join", _JOIN),
        ("set_role: a promotion", SetRole(MEMBER, Role.ADMIN)),
        ("set_role: a demotion", SetRole(MEMBER, Role.MEMBER, _PINS)),
        ("set_policy", SetPolicy(_POLICY)),
        ("remove_member", RemoveMember(MEMBER, _PINS)),
        ("leave", Leave(_PINS)),
        ("leave that pins nothing", Leave()),
        ("remove_device", RemoveDevice(ANA.id, _PINS)),
        ("add_device", _ADD),
        ("replace_device", _REPLACE),
        ("suspend", Suspend(target.device, first.wire, second.wire)),
        ("vouch for a newcomer", Vouch(_NEWCOMER)),
        ("vouch for a lost member", Vouch(_LOST)),
        ("admit a newcomer", Admit(_NEWCOMER)),
        ("admit a lost member", Admit(_LOST, _PINS)),
        ("set_recovery", _RECOVERY),
        ("set_recovery to neither", SetRecovery(None)),
        ("recover", _RECOVER),
        ("rotation", rotation_body()),
    ]
    return {
        "group_id": {"body": encode(CREATE.encode_body()).hex(), "group_id": GROUP.hex()},
        "proofs": _proofs(),
        "requests": [
            {"request": encode(request.to_value()).hex(), "request_id": request_id(request, GROUP).hex()}
            for request in (_NEWCOMER, _LOST)
        ],
        "good": [{"name": name, "body": encode(body.encode_body()).hex()} for name, body in good],
        "bad": _bad_operations(),
    }


def _proofs() -> list[Json]:
    newcomer = encode([0, GROUP, BEN.id, BEN.hpke_public, _KEYS.id, "Ben"])
    assert _RECOVERY.recovery is not None
    signed: list[tuple[str, bytes, bytes, bytes]] = [
        (LABEL_INVITE_PROOF, _KEYS.id, GROUP + ANA.id, _INVITE.proof),
        (LABEL_JOIN, _KEYS.id, GROUP + BEN.id + BEN.hpke_public, _JOIN.proof),
        (LABEL_ADD_DEVICE, BEN.id, GROUP + ANA.id + BEN.hpke_public, _ADD.proof),
        (LABEL_REPLACE_DEVICE, ANA.id, GROUP + BEN.id + BEN.hpke_public, _REPLACE.proof),
        (LABEL_REQUEST_INVITE, _KEYS.id, newcomer, _NEWCOMER.invite_proof),
        (LABEL_REQUEST, BEN.id, newcomer, _NEWCOMER.proof),
        (LABEL_REQUEST, BEN.id, encode([1, GROUP, BEN.id, BEN.hpke_public, MEMBER]), _LOST.proof),
        (LABEL_RECOVERY_PROOF, _PHRASE.public, GROUP + ANA.id + ANA.hpke_public, _RECOVERY.recovery[2]),
        (LABEL_RECOVER, _PHRASE.public, GROUP + MEMBER + BEN.id + BEN.hpke_public, _RECOVER.proof),
    ]
    return [
        {"label": label, "public": public.hex(), "message": message.hex(), "signature": signature.hex()}
        for label, public, message, signature in signed
    ]


def _bad_operations() -> list[Json]:
    create, invited, joined = CREATE.encode_body(), _INVITE.encode_body(), _JOIN.encode_body()
    role = SetRole(MEMBER, Role.MEMBER, _PINS).encode_body()
    policy = CREATE.policy.to_value()
    asked, returned = _NEWCOMER.to_value(), _RECOVERY.encode_body()

    def edited(body: list[Any], place: int, value: Any) -> list[Any]:
        return [*body[:place], value, *body[place + 1 :]]

    def ruled(**changed: Any) -> list[Any]:
        return edited(create, 7, {**policy, **changed})

    cases: list[tuple[str, str, Any]] = [
        ("not an array", "an array that starts with its code", {}),
        ("empty", "an array that starts with its code", []),
        ("a code that is true", "true is not a number", [True]),
        ("a negative code", "codes count from 0", [-1]),
        ("an unknown code", "an operation of a later version stops the group", [200, b""]),
        ("create with an item more", "exactly its items", [*create, 0]),
        ("create with a short salt", "the salt has 32 bytes", edited(create, 1, bytes(31))),
        ("create with a short device id", "an id has its length", edited(create, 2, bytes(31))),
        ("create with a short HPKE key", "1,216 bytes", edited(create, 3, bytes(1215))),
        ("create with an empty group name", "a name has 1 to 128 bytes", edited(create, 5, "")),
        ("create with a control in a name", "names show", edited(create, 6, "Ana\n")),
        ("a policy with an unknown rule", "a rule of a later version stops the group", ruled(curfew=1)),
        ("a policy without a rule", "every rule is there", edited(create, 7, {"inviters": "member", "relays": []})),
        ("a policy for nobody", "1 to 5,000", ruled(max_members=0)),
        ("a policy for true members", "true is not a number", ruled(max_members=True)),
        ("a policy of too many vouches", "0 to 16", ruled(vouches=17)),
        ("a policy of epochs without end", "1 to 365", ruled(epoch_days=366)),
        ("a token of a relay that is not listed", "tokens are of the listed relays", ruled(tokens={"ws://x": "t"})),
        ("a token with a space", "visible ASCII characters", ruled(relays=["ws://x"], tokens={"ws://x": "a b"})),
        ("invite with 0 uses", "1 to 1,000", edited(invited, 4, 0)),
        ("invite with true uses", "true is not a number", edited(invited, 4, True)),
        ("invite before 1970", "a time is not negative", edited(invited, 5, -1)),
        ("invite for an owner", "a role is member or admin", edited(invited, 6, "owner")),
        ("invite with a short proof", "64 bytes", edited(invited, 7, bytes(63))),
        ("revoke_invite with joins out of order", "rising", [2, _INVITE.invite, [_ID_2, _ID_1]]),
        ("revoke_invite with a join twice", "rising", [2, _INVITE.invite, [_ID_1, _ID_1]]),
        ("join without a proof", "exactly its items", joined[:-1]),
        ("join with a name like an id", "a name is not like an id", edited(joined, 3, "deadbeef")),
        ("set_role: a promotion with pins", "a promotion pins nothing", edited(role, 2, "admin")),
        ("set_role with a pin of two items", "a pin is [device id, seq, entry id]", edited(role, 3, [[ANA.id, 7]])),
        ("set_role with a pin at true", "true is not a number", edited(role, 3, [[ANA.id, True, _ID_1]])),
        ("remove_member with a device twice", "rising", [6, MEMBER, [[ANA.id, 1, _ID_1], [ANA.id, 2, _ID_2]]]),
        ("remove_device that pins another", "its own device alone", [8, BEN.id, [[ANA.id, 1, _ID_1]]]),
        ("replace_device that pins another", "its old device alone", edited(_REPLACE.encode_body(), 1, BEN.id)),
        ("suspend with an empty run", "a run has bytes", [11, ANA.id, b"", b"\x80", []]),
        ("vouch for an unknown kind", "0 or 1", [12, [2, *asked[1:]]]),
        ("vouch for a kind that is false", "false is not a number", [12, [False, *asked[1:]]]),
        ("vouch for a request without a proof", "exactly its items", [12, asked[:-1]]),
        ("admit a newcomer with pins", "nobody is put out", [13, asked, [[ANA.id, 1, _ID_1]]]),
        ("set_recovery with a key alone", "all three or none", edited(returned, 1, [_PHRASE.public])),
        ("set_recovery with a threshold above the guardians", "not more than guardians", edited(returned, 3, 2)),
        ("set_recovery with guardians and no threshold", "at least 1", edited(returned, 3, 0)),
        ("recover with a short proof", "64 bytes", edited(_RECOVER.encode_body(), 4, bytes(63))),
        ("rotation of no epoch", "one parent at least", edited(rotation_body().encode_body(), 2, [])),
    ]
    return [refused(name, reason, {"body": encode(body).hex()}, decode_operation, body) for name, reason, body in cases]
