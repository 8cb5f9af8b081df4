"""Asking to be let in by a link, and answering: requests and welcomes in the mailbox of an invite.

    newcomer:  keys → request → (pending) → mailbox
    member:    mailbox → verify → list → vouch, or admit → welcome to the newcomer's own key → mailbox
    newcomer:  mailbox → welcome → the group

What a member's device fetches is kept, so that it can be listed offline; what waits to be answered is durable. Whether
a request is granted is for the roster. Spec: specs/invite.md §6.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from cocoon_core.errors import RelayUnavailable, UntrustedInputError
from cocoon_core.protocol.constants import MAX_RELAYS
from cocoon_core.protocol.envelope import open_envelope, seal_envelope
from cocoon_core.protocol.epoch import TopicKeys
from cocoon_core.protocol.ids import InviteId
from cocoon_core.protocol.invite import (
    InviteKeys,
    Welcome,
    encode_request,
    mailbox_keys,
    open_admission,
    open_welcome,
    read_request,
    wrap_welcome,
)
from cocoon_core.protocol.operations_admission import Admit, Newcomer, request_from, request_id
from cocoon_core.storage.joins import PendingJoin, RequestTable
from cocoon_core.sync.events import RequestMade
from cocoon_core.sync.mailbox import put_mailbox, read_mailbox
from cocoon_core.sync.relay_list import relays_to_tell, usable
from cocoon_core.sync.replica import Replica
from cocoon_core.sync.transport import Dial
from cocoon_core.sync.welcomes import fetch_welcomes

MAX_REQUESTS: Final = 256  # requests by one invite that a device keeps
MAX_MAILBOXES: Final = 32  # invites whose mailboxes one pass reads


@dataclass(frozen=True, slots=True)
class KeptRequest:
    """Somebody asks to be let in: their request, and when this device first saw it."""

    request: Newcomer
    since_ms: int


# --- members


def kept_requests(replica: Replica) -> list[KeptRequest]:
    """The requests that this device fetched, the oldest first. Some may be granted by now."""
    kept = []
    for stored in RequestTable(replica.database, replica.record.number).all():
        request = request_from(stored.body)
        if isinstance(request, Newcomer):
            kept.append(KeptRequest(request, stored.since_ms))
    return kept


async def serve_mailboxes(replica: Replica, dial: Dial, url: str) -> int:
    """Fetch new requests from one relay, and put the welcomes that are still owed there. Once level with it.

    Returns:
        How many requests are new.

    Raises:
        RelayError: the relay could not be used.
    """
    if not replica.members.has_begun:
        return 0  # a device that was linked just now, and no relay showed it the group yet
    await _put_answers(replica, dial, url)
    invites = replica.members.roster.invites.values()
    taking = [invite for invite in invites if invite.by_request and invite.is_open]
    new = 0
    for invite in taking[-MAX_MAILBOXES:]:
        keys = mailbox_keys(invite.mailbox_secret)
        new += _keep(replica, invite.id, keys, await read_mailbox(dial, url, keys))
    return new


def _keep(replica: Replica, invite: InviteId, keys: TopicKeys, envelopes: Iterable[bytes]) -> int:
    table = RequestTable(replica.database, replica.record.number)
    known = {stored.id for stored in table.all()}
    new = 0
    with replica.transaction():
        for envelope in envelopes:
            try:
                request = read_request(open_envelope(envelope, keys), replica.group, invite)
            except UntrustedInputError:
                continue  # a welcome, or what another holder of the link put there
            found = request_id(request, replica.group)
            if found not in known and table.add(found, invite, request.to_value(), replica.clock(), MAX_REQUESTS):
                new += 1
                replica.tell(RequestMade(found, request.name))
    return new


def owe_answers_again(replica: Replica, url: str) -> None:
    """Have the welcomes put there again of those whom this device admitted and of whom nothing came yet. Inside a
    transaction.
    """
    if not replica.members.has_begun:
        return
    table = RequestTable(replica.database, replica.record.number)
    for operation in replica.members.graph.operations():
        body = operation.body
        if operation.device != replica.keys.id or not isinstance(body, Admit) or not isinstance(body.request, Newcomer):
            continue
        if body.request.device in replica.members.roster.devices and body.request.device not in replica.chains:
            table.add_answers([url], request_id(body.request, replica.group))


async def _put_answers(replica: Replica, dial: Dial, url: str) -> None:
    """Welcome those whom this device admitted, with the epoch as it is now."""
    table = RequestTable(replica.database, replica.record.number)
    relays = relays_to_tell(replica)
    for owed in table.answers(url):
        stored = table.find(owed)
        request = None if stored is None else request_from(stored.body)
        if isinstance(request, Newcomer) and request.device in replica.members.roster.devices:
            invite = replica.members.roster.invites.get(request.invite)
            if invite is not None:
                welcome = Welcome(replica.group, replica.record.create, replica.epoch, relays)
                value = wrap_welcome(welcome, request.invite, request.hpke)
                keys = mailbox_keys(invite.mailbox_secret)
                await put_mailbox(dial, url, keys, seal_envelope(value, keys))
        with replica.transaction():
            table.answered(url, owed)


# --- newcomers


def make_request(pending: PendingJoin) -> Newcomer:
    """The request of a pending join: the same each time.

    Raises:
        MalformedError: nobody can have that name.
    """
    invite = InviteKeys(pending.link_secret)
    return Newcomer.make(
        pending.keys.signing, invite.signing, pending.group, pending.keys.hpke_public, pending.member_name
    )


async def ask(dial: Dial, pending: PendingJoin) -> tuple[list[Welcome], tuple[str, ...]]:
    """Look for an answer at every relay of the link, and put the request where it is not shown.

    Returns:
        The welcomes to the newcomer's own key, the newest first: none as long as nobody granted the request. Any member
        can make one, so the caller checks that what it leads to is the group. And the relays that were asked: those of
        the link, and those where the welcomes of the link say that the group is now.

    Raises:
        RelayUnavailable: no relay could be reached.
        UpdateNeededError: the group was created by a later version.
    """
    invite = InviteKeys(pending.link_secret)
    keys = mailbox_keys(invite.mailbox_secret)
    letter = seal_envelope(encode_request(make_request(pending)), keys)
    elsewhere: dict[str, None] = {}

    def open_value(value: bytes) -> Welcome:
        try:
            return open_admission(value, pending.keys.hpke, invite.id, pending.group)
        except UntrustedInputError:
            elsewhere.update(dict.fromkeys(usable(open_welcome(value, invite, pending.group).relays)))
            raise

    found = await fetch_welcomes(dial, pending.relays, keys, open_value, letter=letter)
    more = [url for url in elsewhere if url not in pending.relays][:MAX_RELAYS]
    if more:
        with suppress(RelayUnavailable):
            found += await fetch_welcomes(dial, more, keys, open_value, letter=letter)
    return [welcome for welcome in found if welcome.epoch is not None], (*pending.relays, *more)[: 2 * MAX_RELAYS]
