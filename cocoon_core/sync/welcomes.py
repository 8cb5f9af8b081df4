"""Welcomes: read from a mailbox, made with an invite, and made again where an epoch began that does not know of it.

Whoever holds a link hops from the epoch of its welcome along the rotations, each of which is wrapped for the invites
that its author knew to be open. One that was begun at the same time as the invite, by a device that did not know of it,
is not: there the joiner could not hop on, and the inviter's device puts another welcome into the mailbox.
Spec: specs/invite.md §5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from cocoon_core.errors import RelayError, RelayUnavailable, UntrustedInputError, UpdateNeededError
from cocoon_core.protocol.envelope import open_envelope
from cocoon_core.protocol.epoch import TopicKeys
from cocoon_core.protocol.ids import TopicId
from cocoon_core.protocol.invite import Welcome, wrap_welcome
from cocoon_core.protocol.roster_values import InviteState
from cocoon_core.storage.joins import WelcomeTable
from cocoon_core.sync.mailbox import put_mailbox, read_mailbox
from cocoon_core.sync.relay_list import relays_to_tell
from cocoon_core.sync.replica import Replica
from cocoon_core.sync.transport import Dial

MOST_WELCOMES: Final = 8  # that are tried: whoever has the secret of a mailbox can put one into it


# --- who enters


async def fetch_welcomes(
    dial: Dial,
    relays: Sequence[str],
    mailbox: TopicKeys,
    open_value: Callable[[bytes], Welcome],
    *,
    letter: bytes | None = None,
) -> list[Welcome]:
    """The welcomes that every relay shows of a mailbox; a letter is put there where it is not shown.

    Args:
        mailbox: whose envelopes are opened; what does not open, or holds no welcome, is passed over.
        open_value: opens what an envelope holds.

    Returns:
        Of each relay the newest first, and of all those with an epoch first. No two of one epoch, and no more than are
        tried: anybody with the secret of the mailbox can have made them, so the caller checks what they lead to.

    Raises:
        RelayUnavailable: no relay could be used.
        UpdateNeededError: there is none that can be read, and the group was created by a later version.
    """
    found: list[Welcome] = []
    failures: list[str] = []
    newer: UpdateNeededError | None = None
    for url in relays:
        try:
            envelopes = await read_mailbox(dial, url, mailbox)
            if letter is not None and letter not in envelopes:
                await put_mailbox(dial, url, mailbox, letter)
        except RelayError as error:
            failures.append(str(error))
            continue
        for envelope in reversed(envelopes):
            try:
                found.append(open_value(open_envelope(envelope, mailbox)))
            except UntrustedInputError:
                continue
            except UpdateNeededError as error:
                newer = error
    if len(failures) == len(relays):
        raise RelayUnavailable("; ".join(failures))
    if not found and newer is not None:
        raise newer
    return _distinct(found)


def _distinct(welcomes: Iterable[Welcome]) -> list[Welcome]:
    found: dict[TopicId | None, Welcome] = {}
    for welcome in welcomes:
        found.setdefault(None if welcome.epoch is None else welcome.epoch.topic, welcome)
    return sorted(found.values(), key=lambda welcome: welcome.epoch is None)[:MOST_WELCOMES]


# --- who invites


def queue_welcome(replica: Replica, invite: InviteState) -> None:
    """Have a welcome to the present epoch put into an invite's mailbox at every relay. Inside a transaction."""
    number = replica.record.number
    value = _make_welcome(replica, invite)
    replica.groups.add_letters(number, replica.groups.relays(number), invite.mailbox_secret, value)
    WelcomeTable(replica.database, number).set(invite.id, replica.epoch.topic)


def queue_welcomes_at(replica: Replica, url: str, *, replaces: bool = False) -> None:
    """Have a welcome put into the mailbox of every open invite at one relay: one that is new, or that lost what it had.
    Of others' invites only where none is there: their devices may have come first. Inside a transaction.

    Args:
        replaces: those that are there lead nowhere soon; the own ones and those of members who sleep are told anew.
    """
    if not replica.members.has_begun:
        return
    me, number = replica.members.member_of(replica.keys.id), replica.record.number
    for invite in replica.members.roster.open_invites():
        spare = not replaces and invite.inviter != me
        value = _make_welcome(replica, invite)
        replica.groups.add_letters(number, [url], invite.mailbox_secret, value, spare=spare)


def _make_welcome(replica: Replica, invite: InviteState) -> bytes:
    epoch = None if invite.by_request else replica.epoch
    welcome = Welcome(replica.group, replica.record.create, epoch, relays_to_tell(replica))
    return wrap_welcome(welcome, invite.id, invite.hpke)


def renew_welcomes(replica: Replica) -> int:
    """Queue a welcome for each open invite of the own member from whose last one nobody can hop to the present epoch.

    Returns:
        How many.
    """
    me = replica.members.member_of(replica.keys.id)
    if replica.epochs.choice is None or me is None:
        return 0
    table = WelcomeTable(replica.database, replica.record.number)
    lacking = []
    for invite in replica.members.roster.open_invites():
        if invite.inviter == me and not invite.by_request:
            welcomed = table.find(invite.id)
            if welcomed is None or not _leads_on(replica, invite, welcomed):
                lacking.append(invite)
    if lacking:
        with replica.transaction():
            for invite in lacking:
                queue_welcome(replica, invite)
    return len(lacking)


def _leads_on(replica: Replica, invite: InviteState, welcomed: TopicId) -> bool:
    """Whether every rotation from that epoch to the present one knew the invite."""
    choice = replica.epochs.choice
    if choice is None:
        return True
    for node in choice.path:
        if node.topic == welcomed:
            return True
        if not replica.members.graph.knows(node.id, invite.operation):
            return False
    return False
