"""What is wrong with an operation by its own form, keys, proofs and references into its past. Spec: specs/roster.md §3.

A flaw is for good: it hangs on the operation and its past alone. Whether its author had the right is not asked here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cocoon_core.errors import MalformedError, NotPermittedError, UntrustedInputError
from cocoon_core.protocol.ids import DeviceId, HpkePublicKey, MemberId
from cocoon_core.protocol.operations import Create, Invite, Join, RevokeInvite, SetPolicy, SetRole
from cocoon_core.protocol.operations_admission import Admit, LostMember, Newcomer, Recover, Request, SetRecovery, Vouch
from cocoon_core.protocol.operations_devices import AddDevice, Leave, RemoveDevice, RemoveMember, ReplaceDevice, Suspend
from cocoon_core.protocol.operations_rotation import Rotation
from cocoon_core.protocol.primitives import require_good_hpke_key, require_good_signing_key
from cocoon_core.protocol.roster_proofs import read_contradiction
from cocoon_core.protocol.roster_values import Operation, Refusal

if TYPE_CHECKING:
    from cocoon_core.protocol.roster_log import OperationLog

_Entering = Create | Join | ReplaceDevice | Recover  # the first entry of their device's chain


def find_flaw(log: OperationLog, operation: Operation, past: int) -> Refusal | None:
    """The flaw of an operation with that past, or None.

    Raises:
        UpdateNeededError: it carries a run of a later version.
    """
    try:
        _require_place(log, operation, past)
        _require_sound(log, operation, past)
    except UntrustedInputError as error:
        return Refusal(type(error).__name__, str(error))
    return None


def _require_place(log: OperationLog, operation: Operation, past: int) -> None:
    """Parents and seq fit the kind of operation."""
    if isinstance(operation.body, Create) == bool(operation.parents):
        raise MalformedError("create has no parents, and every other operation has")
    if isinstance(operation.body, _Entering):
        if operation.seq != 0:
            raise MalformedError("an operation by which a device enters is the first of its chain")
    elif operation.seq == 0:
        enrolments = [log.operations[it] for it in log.enrolments.get(operation.device, ()) if past >> it & 1]
        if not any(it.device != operation.device for it in enrolments):
            raise MalformedError("a chain starts with the operation by which its device enters, unless another's did")


def _require_sound(log: OperationLog, operation: Operation, past: int) -> None:
    body, author = operation.body, operation.device
    match body:
        case Create():
            if body.group_id() != log.group_id or body.device != author:
                raise MalformedError("create is of another group or device")
            _require_good_keys(author, body.hpke)
            require_good_signing_key(body.topic)
        case Invite():
            if log.invite_at(body.invite, past) is not None:
                raise NotPermittedError("its invite id was in use before")
            _require_good_keys(body.invite, body.hpke)
            body.verify_proof(log.group_id, author)
        case RevokeInvite():
            if log.invite_at(body.invite, past) is None:
                raise NotPermittedError("it revokes an invite that its author did not know")
        case Join():
            _require_fresh(log, author, past)
            if log.invite_at(body.invite, past) is None:
                raise NotPermittedError("it uses an invite that it did not know")
            _require_good_keys(author, body.hpke)
            body.verify_proof(log.group_id, author)
        case SetRole() | RemoveMember():
            _require_member(log, body.member, past)
        case SetPolicy() | Rotation():
            pass
        case Vouch() | Admit():
            _require_author(log, author, past)
            _require_request(log, body.request, past)
        case _:
            _require_sound_device(log, operation, past)


def _require_sound_device(log: OperationLog, operation: Operation, past: int) -> None:
    body, author = operation.body, operation.device
    match body:
        case Leave():
            _require_author(log, author, past)
        case RemoveDevice():
            _require_device(log, body.device, past)
        case AddDevice():
            _require_author(log, author, past)
            _require_fresh(log, body.device, past)
            _require_good_keys(body.device, body.hpke)
            body.verify_proof(log.group_id, author)
        case ReplaceDevice():
            _require_fresh(log, author, past)
            _require_device(log, body.old, past)
            _require_good_keys(author, body.hpke)
            body.verify_proof(log.group_id, author)
        case Suspend():
            _require_author(log, author, past)
            _require_device(log, body.device, past)
            read_contradiction(body, log.group_id)
        case SetRecovery():
            _require_author(log, author, past)
            if body.recovery is not None:
                _require_good_keys(body.recovery[0], body.recovery[1])
                body.verify_proof(log.group_id, author)
        case Recover():
            _require_fresh(log, author, past)
            _require_member(log, body.member, past)
            _require_good_keys(author, body.hpke)
            body.verify_proof(log.group_id, author)


def _require_request(log: OperationLog, request: Request, past: int) -> None:
    others = [it for it in log.enrolments.get(request.device, ()) if past >> it & 1]
    if not all(_grants(log.operations[it], request) for it in others):
        raise NotPermittedError("its device is enrolled already")
    match request:
        case Newcomer():
            if log.invite_at(request.invite, past) is None:
                raise NotPermittedError("its request uses an invite that its author did not know")
        case LostMember():
            _require_member(log, request.member, past)
    _require_good_keys(request.device, request.hpke)
    request.verify_proofs(log.group_id)


def _grants(operation: Operation, request: Request) -> bool:
    """Whether it is an admission by this request, which may come to nothing and be written again."""
    return isinstance(operation.body, Admit) and operation.body.request == request


def _require_good_keys(signing: bytes, hpke: HpkePublicKey) -> None:
    require_good_signing_key(signing)
    require_good_hpke_key(hpke)


def _require_author(log: OperationLog, device: DeviceId, past: int) -> None:
    if not any(past >> it & 1 for it in log.enrolments.get(device, ())):
        raise NotPermittedError("its device was enrolled by nothing that it knew")


def _require_device(log: OperationLog, device: DeviceId, past: int) -> None:
    if not any(past >> it & 1 for it in log.enrolments.get(device, ())):
        raise NotPermittedError("it names a device that was enrolled by nothing that its author knew")


def _require_fresh(log: OperationLog, device: DeviceId, past: int) -> None:
    if any(past >> it & 1 for it in log.enrolments.get(device, ())):
        raise NotPermittedError("its device is enrolled already")


def _require_member(log: OperationLog, member: MemberId, past: int) -> None:
    if not any(past >> it & 1 for it in log.admissions.get(member, ())):
        raise NotPermittedError("it names who was no member")
