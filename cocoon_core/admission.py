"""Newcomers who ask to be let in: who asks, wanting them in, letting them in. A part of `Group`.

The way of a request through the mailbox is in sync/admission.py; who may do what, and how many must want it, is the
roster's (specs/roster.md, specs/invite.md §6).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from cocoon_core.errors import UnknownItemError, UsageError
from cocoon_core.group_part import GroupPart
from cocoon_core.protocol.ids import InviteId, MemberId, RequestId
from cocoon_core.protocol.operations import member_id_of
from cocoon_core.protocol.operations_admission import Admit, Newcomer, Vouch, request_id
from cocoon_core.storage.joins import RequestTable
from cocoon_core.sync.admission import kept_requests


@dataclass(frozen=True, slots=True)
class RequestInfo:
    """Somebody who asks to be let in.

    `vouchers` are the members who want it, `needed` how many must, the one who admits among them. `since` is when this
    device first saw it; None where it knows of the request only from those who vouched.
    """

    id: RequestId
    name: str
    invite: InviteId
    vouchers: tuple[MemberId, ...]
    needed: int
    since: datetime | None
    vouched: bool

    @property
    def can_be_admitted(self) -> bool:
        """Whether this member can let them in now: counting this member, enough want it."""
        return len(self.vouchers) + (not self.vouched) >= self.needed


class Admission(GroupPart):
    """The part of a group that is about those who want to be members."""

    def requests(self) -> list[RequestInfo]:
        """Who asks to be let in and is not in yet, the first seen first. `sync` fetches them."""
        return [self._info(request) for request in self._open_requests().values()]

    def _open_requests(self) -> dict[RequestId, Newcomer]:
        """Requests by invites that are open, of devices that are not in."""
        roster, group = self._roster, self._replica.group
        asked = [kept.request for kept in kept_requests(self._replica)]
        asked += [state.request for state in roster.requests.values() if isinstance(state.request, Newcomer)]
        invites = {invite.id for invite in roster.invites.values() if invite.by_request and invite.is_open}
        return {
            request_id(request, group): request
            for request in asked
            if request.invite in invites and self._replica.members.member_of(request.device) is None
        }

    def _info(self, request: Newcomer) -> RequestInfo:
        found = request_id(request, self._replica.group)
        state = self._roster.requests.get(found)
        vouchers = () if state is None else tuple(state.vouchers)
        since = next((kept.since_ms for kept in kept_requests(self._replica) if kept.request == request), None)
        return RequestInfo(
            found,
            request.name,
            request.invite,
            vouchers,
            max(1, self.policy_vouches),
            None if since is None else datetime.fromtimestamp(since / 1000, UTC),
            self.me in vouchers,
        )

    @property
    def policy_vouches(self) -> int:
        """How many members must want a newcomer, by the rules that hold now."""
        return self._roster.policy.vouches

    def _find_request(self, reference: str) -> Newcomer:
        wanted = reference.strip()
        open_requests = self._open_requests()
        named = [r for r in open_requests.values() if r.name.casefold() == wanted.casefold()]
        by_id = [r for i, r in open_requests.items() if len(wanted) >= 4 and i.hex().startswith(wanted.lower())]
        found = named or by_id
        if len(found) == 1:
            return found[0]
        if found:
            raise UnknownItemError(f"{reference!r} means more than one request; give the beginning of an id")
        raise UnknownItemError(f"nobody who asks to be let in is called {reference!r} or has an id that begins so")

    async def vouch(self, reference: str) -> RequestInfo:
        """Tell all members that this member wants somebody in. It lets nobody in by itself.

        Args:
            reference: the request's id, a unique beginning of it (4 characters at least), or the unique name in it.

        Raises:
            UnknownItemError: no such request.
            UsageError: this member may not, or the invite was closed.
        """
        self._require_me()
        request = self._find_request(reference)
        if not self._info(request).vouched:
            self._replica.write_operation(Vouch(request))
        return self._info(request)

    async def admit(self, reference: str) -> MemberId:
        """Let somebody in who asked, and welcome them. Gives the new member's id. They are in when they next sync.

        Raises:
            UnknownItemError: no such request.
            UsageError: too few members want it yet, the group is full, or this member may not.
        """
        self._require_me()
        request = self._find_request(reference)
        info = self._info(request)
        if not info.can_be_admitted:
            lacking = info.needed - len(info.vouchers) - (not info.vouched)
            more = "one more member" if lacking == 1 else f"{lacking} more members"
            raise UsageError(f"{request.name} can be admitted when {more} vouched for them")
        replica = self._replica
        table = RequestTable(replica.database, replica.record.number)
        with replica.transaction():
            replica.write_operation(Admit(request), inside=True)
            table.add(info.id, request.invite, request.to_value(), replica.clock(), most=1 << 30)
            table.add_answers(self.relays, info.id)
        member = member_id_of(replica.group, request.device)
        if member not in self._roster.members:
            raise UsageError(f"the rules of the group do not let {request.name} in")
        return member
