"""The rules of a group: how many may be in it, who may invite, how newcomers come in, which relays. A part of `Group`.

What the rules do is the roster's (specs/roster.md); this reads and writes them.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace

from cocoon_core.errors import MalformedError, UsageError
from cocoon_core.group_part import GroupPart
from cocoon_core.protocol.frames import normalize_origin
from cocoon_core.protocol.invite import mailbox_keys, require_relays
from cocoon_core.protocol.operation_forms import Policy, Role
from cocoon_core.protocol.operations import SetPolicy
from cocoon_core.protocol.operations_rotation import Reason
from cocoon_core.protocol.primitives import Secret
from cocoon_core.storage.joins import TokenTable
from cocoon_core.sync.mailbox import read_mailbox
from cocoon_core.sync.relay_list import follow_policy

LINKS_SUFFICE = 50  # members up to which a link lets in without being asked, unless the policy says otherwise


def default_vouches(max_members: int) -> int:
    """How many members must want a newcomer, where nobody says: in a large group a link alone lets nobody in."""
    return 1 if max_members > LINKS_SUFFICE else 0


class Rules(GroupPart):
    """The part of a group that is about its policy."""

    @property
    def policy(self) -> Policy:
        """The rules that hold now."""
        return self._roster.policy

    async def set_policy(
        self,
        *,
        max_members: int | None = None,
        inviters: str | None = None,
        vouches: int | None = None,
        epoch_days: int | None = None,
        relays: Sequence[str] | None = None,
        tokens: Mapping[str, str] | None = None,
        force: bool = False,
    ) -> Policy:
        """Change the rules that are given, and leave the others. Only admins can. Gives the rules as they are then.

        Args:
            max_members: members plus open uses of invites. Beyond 50, newcomers ask to be admitted unless `vouches` is
                given too.
            inviters: the least role that may invite: member or admin.
            vouches: members who must want a newcomer. 0: a link suffices; 1: a member admits; more: others vouch too.
            epoch_days: after how many days an epoch ends by itself.
            relays: where the group syncs, from now on these alone: `move_relays` (relays.py) is the same.
            tokens: access tokens by relay; relays that are not named keep theirs, an empty one takes it away. Every
                member learns them.
            force: name relays too that cannot be reached from here.

        Raises:
            UsageError: a value out of range, or this member may not.
            RelayUnavailable, RelayRefused: a relay that would be new cannot be used from here.
        """
        self._require_admin("change the rules of the group")
        now = self.policy
        if vouches is None and max_members is not None and max_members > max(now.max_members, LINKS_SUFFICE):
            vouches = max(now.vouches, default_vouches(max_members))
        try:
            urls = now.relays if relays is None else require_relays([normalize_origin(url) for url in relays])
            wanted = replace(
                now,
                max_members=now.max_members if max_members is None else max_members,
                inviters=now.inviters if inviters is None else _role(inviters),
                vouches=now.vouches if vouches is None else vouches,
                epoch_days=now.epoch_days if epoch_days is None else epoch_days,
                relays=urls,
                tokens=merge_tokens(now.tokens, urls, tokens or {}),
            )
        except MalformedError as error:
            raise UsageError(str(error)) from error
        if wanted != now:
            if not force:
                await self._require_reachable([url for url in urls if url not in now.relays], dict(wanted.tokens))
            self._write_policy(wanted)
        if self.policy != wanted:
            raise UsageError("the rules of the group are changed elsewhere at this moment; sync and try again")
        return self.policy

    async def _require_reachable(self, urls: Sequence[str], tokens: Mapping[str, str]) -> None:
        """Open an empty topic at each, as nobody's: that shows address, origin and access token to be right.

        Raises:
            RelayUnavailable, RelayRefused: one of them cannot be used.
        """
        self._keep_tokens({url: tokens[url] for url in urls if url in tokens})
        for url in urls:
            await read_mailbox(self._dial, url, mailbox_keys(Secret(secrets.token_bytes(32))))

    def _keep_tokens(self, tokens: Mapping[str, str]) -> None:
        """Pass by these where no policy names them yet."""
        table = TokenTable(self._replica.database)
        if tokens:
            with self._replica.transaction():
                for url, token in tokens.items():
                    table.set(url, token)

    def _write_policy(self, wanted: Policy) -> None:
        """The operation and, where relays come or go, a rotation, in one transaction: a new relay gets a topic that
        begins with its manifest, and one that is left a topic that holds nothing but where the group went.

        Raises:
            UsageError: it would not count, or the epoch cannot be ended here.
        """
        replica = self._replica
        moves = set(wanted.relays) != set(self.policy.relays)
        replica.require_writable()
        if moves and not replica.epochs.is_level:
            raise UsageError("somebody else rotated, and this device cannot open that yet; sync, and try again")
        with replica.transaction():
            replica.write_operation(SetPolicy(wanted), inside=True)
            if moves:
                follow_policy(replica, inside=True, between=lambda: replica.epochs.rotate(Reason.REQUEST))


def _role(name: str) -> Role:
    if name not in (Role.ADMIN, Role.MEMBER):
        raise UsageError(f"those who may invite are admin or member, not {name!r}")
    return Role(name)


def merge_tokens(
    now: Sequence[tuple[str, str]], relays: Sequence[str], given: Mapping[str, str]
) -> tuple[tuple[str, str], ...]:
    """The access tokens of the relays that there will be, by URL: those that are known, and those given.

    Raises:
        UsageError: a token for no relay of the group.
        MalformedError: for no relay at all.
    """
    tokens = {url: token for url, token in now if url in relays}
    for url, token in given.items():
        origin = normalize_origin(url)
        if origin not in relays:
            raise UsageError(f"{url} is no relay of the group")
        if token:
            tokens[origin] = token
        else:
            tokens.pop(origin, None)
    return tuple(sorted(tokens.items()))
