"""Invites: making a link, listing, closing. A part of `Group`. The formats and the way of a link: specs/invite.md."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cocoon_core.errors import UnknownItemError, UsageError
from cocoon_core.group_part import GroupPart
from cocoon_core.protocol.constants import MAX_INVITE_USES
from cocoon_core.protocol.ids import InviteId
from cocoon_core.protocol.invite import InviteKeys, Link, write_link
from cocoon_core.protocol.operations import Invite, RevokeInvite
from cocoon_core.protocol.primitives import Secret
from cocoon_core.protocol.roster import InviteState
from cocoon_core.sync.relay_list import relays_to_tell
from cocoon_core.sync.welcomes import queue_welcome

LAST_YEAR_MS = 253_402_300_799_000  # the last instant that a datetime can hold


@dataclass(frozen=True, slots=True)
class InviteInfo:
    """An invite. `used` counts those who came in by it.

    By a link that is `by_request` nobody is in at once: a member admits them.
    """

    id: InviteId
    uses: int
    used: int
    expires: datetime
    open: bool
    by_request: bool = False


class Invites(GroupPart):
    """The part of a group that is about its invites."""

    async def invite(self, uses: int = 1, expires_in: timedelta = timedelta(days=7)) -> str:
        """Make a link that lets up to `uses` people join, or ask to, where the policy wants members to vouch.

        Whoever has a link that lets in at once can read the group until it is used, closed or expired, and a member's
        device has ended the epoch since. A link by which one asks reads nothing. The link works once this device has
        synced.

        Raises:
            UsageError: too many uses for the group's size, or this member may not invite.
        """
        if not 1 <= uses <= MAX_INVITE_USES or expires_in <= timedelta(0):
            raise UsageError(f"a link has 1 to {MAX_INVITE_USES} uses and expires later than now")
        self._require_me()
        replica = self._replica
        secret = Secret(secrets.token_bytes(32))
        keys = InviteKeys(secret)
        hpke = keys.hpke().public
        expires_ms = replica.clock() + int(expires_in.total_seconds() * 1000)
        operation = Invite.make(
            keys.signing, hpke, keys.mailbox_secret, replica.group, replica.keys.id, uses=uses, expires_ms=expires_ms
        )
        relays = relays_to_tell(replica)
        with replica.transaction():
            replica.write_operation(operation, inside=True)
            queue_welcome(replica, replica.members.roster.invites[keys.id])
        tokens = tuple(pair for pair in self._roster.policy.tokens if pair[0] in relays)
        return write_link(Link(replica.group, secret, relays, tokens))

    def invites(self) -> list[InviteInfo]:
        """All invites that count, the newest last."""
        return [
            InviteInfo(
                invite.id,
                invite.uses,
                len(invite.joins),
                datetime.fromtimestamp(min(invite.expires_ms, LAST_YEAR_MS) / 1000, UTC),
                invite.is_open,
                invite.by_request,
            )
            for invite in self._roster.invites.values()
        ]

    async def revoke_invite(self, reference: str) -> None:
        """Close an invite, named by a unique beginning of its id. Those who joined by it stay.

        Raises:
            UnknownItemError: there is no such invite.
        """
        found = [i for i in self._roster.invites.values() if i.id.hex().startswith(reference.lower())]
        if len(found) != 1:
            raise UnknownItemError(f"{'no' if not found else 'more than one'} invite begins with {reference!r}")
        self._revoke(found[0])

    def _revoke(self, invite: InviteState) -> None:
        if not invite.revoked:
            self._replica.write_operation(RevokeInvite(invite.id, tuple(sorted(invite.joins))))
