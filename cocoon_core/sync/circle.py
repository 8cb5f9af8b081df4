"""Circle recovery, as devices do it: telling everybody of a request, vouching, the delay, admitting, and coming back.

A guardian's device writes `admit` by itself, once enough guardians have vouched and the delay that this device keeps
has passed since it first saw that somebody did. The clock decides when it writes, never whether it counts.
Spec: specs/recovery.md §7.
"""

from __future__ import annotations

from contextlib import suppress

from cocoon_core.errors import (
    NotYetError,
    RelayError,
    RelayUnavailable,
    UntrustedInputError,
    UsageError,
)
from cocoon_core.protocol.circle import CircleCode, encode_request, read_request, request_words, welcome_name
from cocoon_core.protocol.envelope import open_envelope, seal_envelope
from cocoon_core.protocol.epochs import rank_of
from cocoon_core.protocol.ids import MemberId, RequestId
from cocoon_core.protocol.invite import Welcome, mailbox_keys, open_admission, wrap_welcome
from cocoon_core.protocol.operations_admission import Admit, LostMember, Vouch, request_id
from cocoon_core.protocol.roster_values import RequestState
from cocoon_core.storage.recovery import LostRequest, RecoveryTable, SeenRequest
from cocoon_core.sync.mailbox import read_mailbox
from cocoon_core.sync.pins import pin_devices
from cocoon_core.sync.relay_list import relays_to_tell
from cocoon_core.sync.replica import Replica
from cocoon_core.sync.transport import Dial
from cocoon_core.sync.turns import RANK_WAIT_MS
from cocoon_core.sync.welcomes import fetch_welcomes

# --- everybody


def note_requests(replica: Replica) -> int:
    """Tell the member of every request for a lost member that is new here. Gives how many are."""
    if not replica.members.has_begun:
        return 0
    waiting = [state for state in replica.members.roster.requests.values() if isinstance(state.request, LostMember)]
    table, number = RecoveryTable(replica.database), replica.record.number
    known = table.seen_requests(number).keys() if waiting else ()
    new = [state for state in waiting if state.id not in known]
    if new:
        with replica.transaction():
            for state in new:
                table.note_request(number, state.id, replica.clock())
                replica.alarm("vouch", state.id.hex(), _tell(replica, state))
    return len(new)


def _tell(replica: Replica, state: RequestState) -> str:
    request = state.request
    assert isinstance(request, LostMember)
    members = replica.members.roster.members
    vouching = ", ".join(members[member].shown_name for member in state.vouchers if member in members) or "a guardian"
    whose = members[request.member].shown_name if request.member in members else request.member.hex()[:12]
    if request.member == replica.members.member_of(replica.keys.id):
        return (
            f"{vouching} vouched that you lost your devices: a new one is to take the place of this and all others. If "
            "you did not ask for that, `cocoon recovery object` stops it"
        )
    return f"{vouching} vouched that {whose} lost all devices: a new one is to take their place"


# --- guardians


async def fetch_request(replica: Replica, dial: Dial, code: CircleCode) -> LostMember:
    """The request that a code names, from whichever relay has it.

    Raises:
        UsageError: the code is of another group.
        NotYetError: no relay has the request.
        RelayUnavailable: no relay could be reached.
    """
    if code.group != replica.group:
        raise UsageError("this code is for another group; choose it with --group")
    keys = code.mailbox()
    failures: list[str] = []
    relays = replica.groups.relays(replica.record.number)
    for url in relays:
        try:
            envelopes = await read_mailbox(dial, url, keys)
        except RelayError as error:
            failures.append(str(error))
            continue
        for envelope in envelopes:
            with suppress(UntrustedInputError):
                return read_request(open_envelope(envelope, keys), code)
    if len(failures) == len(relays):
        raise RelayUnavailable("; ".join(failures))
    raise NotYetError("no relay of this group has that request yet; whoever gave you the code must be online once")


def vouch(replica: Replica, request: LostMember, code: CircleCode, delay_ms: int) -> None:
    """Vouch for a lost member, and have this device admit them when it is time.

    Raises:
        UsageError: this member is no guardian of theirs, or the request was granted already.
    """
    me = replica.members.member_of(replica.keys.id)
    roster = replica.members.roster
    recovery = roster.recoveries.get(request.member)
    if me is None or recovery is None or me not in recovery.guardians:
        raise UsageError("you are not one of the guardians whom this member chose")
    state = roster.requests.get(code.request)
    if state is not None and state.granted:
        raise UsageError("this request was granted already")
    table, number = RecoveryTable(replica.database), replica.record.number
    with replica.transaction():
        if state is None or me not in state.vouchers:
            replica.write_operation(Vouch(request), inside=True)
        table.note_request(number, code.request, replica.clock())
        table.note_vouched(number, code.request, delay_ms, code.mailbox_secret)


def admit_ripe(replica: Replica) -> int:
    """Admit the lost members for whom enough guardians vouched long enough ago, where it is this device's turn.

    Returns:
        How many were admitted.
    """
    if not replica.members.has_begun or not replica.is_writable:
        return 0
    roster, me = replica.members.roster, replica.members.member_of(replica.keys.id)
    if me is None or not any(isinstance(state.request, LostMember) for state in roster.requests.values()):
        return 0
    admitted = 0
    for seen in RecoveryTable(replica.database).seen_requests(replica.record.number).values():
        state = replica.members.roster.requests.get(seen.request)
        if state is None or not isinstance(state.request, LostMember) or not _is_ripe(replica, state, seen, me):
            continue
        with suppress(UsageError):  # it would not count as things stand: a sync is not stopped by that
            _admit(replica, state.request, seen)
            admitted += 1
    return admitted


def ripe_at(replica: Replica, state: RequestState, seen: SeenRequest) -> int | None:
    """When this device will admit, by its own clock, if enough have vouched by then; None where it never will."""
    me = replica.members.member_of(replica.keys.id)
    if state.granted or seen.delay_ms is None or me is None or me not in state.vouchers:
        return None
    return seen.seen_ms + seen.delay_ms + rank_of(me, state.id, state.vouchers) * RANK_WAIT_MS


def _is_ripe(replica: Replica, state: RequestState, seen: SeenRequest, me: MemberId) -> bool:
    request = state.request
    recovery = replica.members.roster.recoveries.get(request.member) if isinstance(request, LostMember) else None
    if recovery is None or me not in recovery.guardians:
        return False
    if len(set(state.vouchers) & set(recovery.guardians)) < recovery.threshold:
        return False
    at = ripe_at(replica, state, seen)
    return at is not None and replica.clock() >= at


def _admit(replica: Replica, request: LostMember, seen: SeenRequest) -> None:
    assert seen.mailbox_secret is not None, "kept with the delay"
    number = replica.record.number
    member = replica.members.roster.members.get(request.member)
    devices = member.devices if member is not None else ()
    with replica.transaction():
        replica.write_operation(Admit(request, pin_devices(replica, devices)), inside=True)
        relays = replica.groups.relays(number)
        welcome = Welcome(replica.group, replica.record.create, replica.epoch, relays_to_tell(replica))
        value = wrap_welcome(welcome, welcome_name(seen.request), request.hpke)
        replica.groups.add_letters(number, relays, seen.mailbox_secret, value)


# --- the lost member


def make_request(lost: LostRequest) -> LostMember:
    """The request of this device: the same each time."""
    return LostMember.make(lost.keys.signing, lost.group, lost.keys.hpke_public, lost.member)


def circle_code(lost: LostRequest) -> CircleCode:
    """What the guardians are given."""
    return CircleCode(lost.group, lost.mailbox_secret, request_id(make_request(lost), lost.group))


def words_of(request: RequestId) -> str:
    """What the lost member reads to the guardians, and they type."""
    return request_words(request)


async def ask(dial: Dial, lost: LostRequest) -> list[Welcome]:
    """Look for an answer at every relay, and put the request where it is not shown.

    Returns:
        The welcomes, the newest first: none as long as nobody admitted this device. Whoever has the code can put one
        there, but only the group's own can lead to the group; the caller checks that it enrolled this device.

    Raises:
        RelayUnavailable: no relay could be reached.
        UpdateNeededError: the group was created by a later version.
    """
    keys = mailbox_keys(lost.mailbox_secret)
    letter = seal_envelope(encode_request(make_request(lost)), keys)
    name = welcome_name(circle_code(lost).request)
    found = await fetch_welcomes(
        dial,
        lost.relays,
        keys,
        lambda value: open_admission(value, lost.keys.hpke, name, lost.group),
        letter=letter,
    )
    return [welcome for welcome in found if welcome.epoch is not None]
