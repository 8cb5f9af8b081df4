"""The relays of a group: which there are, adding, removing, moving. A part of `Group`.

The policy names them, so every device follows; what follows from a change is in sync/relay_list.py and
sync/handover.py. Spec: specs/relays.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from cocoon_core.errors import MalformedError, UsageError
from cocoon_core.policy import Rules
from cocoon_core.protocol.frames import normalize_origin
from cocoon_core.protocol.operation_forms import Policy
from cocoon_core.sync.driver import Progress
from cocoon_core.sync.passes import sync_relays
from cocoon_core.sync.relay_list import named_relays, try_relay


class RelayStanding(StrEnum):
    """How the group stands to a relay, as far as this device knows."""

    USED = "used"
    LEFT = "left"  # named no more; this device has yet to see that who comes late is told so there


@dataclass(frozen=True, slots=True)
class RelayInfo:
    """One relay. `unsent` counts runs that it has not acknowledged yet; `has_token`: the policy has an access token."""

    url: str
    standing: RelayStanding
    unsent: int
    has_token: bool


class Relays(Rules):
    """The part of a group that is about its relays."""

    def list_relays(self) -> list[RelayInfo]:
        """The relays that the policy names, then those that this device is still leaving."""
        named, tokens = named_relays(self._replica), dict(self.policy.tokens)
        left = [url for url in self.relays if url not in named] if named else []
        return [
            RelayInfo(
                url,
                RelayStanding.LEFT if url in left else RelayStanding.USED,
                self._replica.log.unsent_count(url),
                url in tokens,
            )
            for url in (*(named or self.relays), *left)
        ]

    async def add_relay(self, url: str, *, token: str | None = None, force: bool = False) -> Policy:
        """Use one more relay. Every device follows; the next syncs bring everything there.

        Args:
            token: the access token that it asks for; every member learns it.
            force: also if it cannot be reached from here.

        Raises:
            UsageError: not an admin, no address, named already, or there are too many.
            RelayUnavailable, RelayRefused: it cannot be used from here.
        """
        origin, named = _origin(url), self._named()
        if origin in named:
            raise UsageError(f"{origin} is a relay of the group already")
        tokens = None if token is None else {origin: token}
        return await self.set_policy(relays=[*named, origin], tokens=tokens, force=force)

    async def remove_relay(self, url: str) -> Policy:
        """Use a relay no more. Who knows it alone is told there where the group is.

        Raises:
            UsageError: not an admin, it is none of the group's, or the only one.
        """
        origin, named = _origin(url), self._named()
        if origin not in named:
            raise UsageError(f"{origin} is no relay of the group; `cocoon relays list` shows them")
        if len(named) == 1:
            raise UsageError(f"{origin} is the group's only relay; move to another one, or add that first")
        return await self.set_policy(relays=[one for one in named if one != origin])

    async def move_relays(
        self, urls: Sequence[str], *, tokens: Mapping[str, str] | None = None, force: bool = False
    ) -> Policy:
        """Use these relays and no others from now on. The next syncs bring everything to them, and leave at those
        before where the group went, for members who come months later.

        Args:
            tokens: access tokens by relay, for those that ask for one.
            force: also to relays that cannot be reached from here.

        Raises:
            UsageError: not an admin, no address, or too many.
            RelayUnavailable, RelayRefused: a relay cannot be used from here.
        """
        return await self.set_policy(relays=[_origin(url) for url in urls], tokens=tokens, force=force)

    def find_token(self, origin: str) -> str | None:
        """The access token of a relay: the policy's, or what `use_relay` was given in place of that very one."""
        named = dict(self.policy.tokens).get(origin)
        given = self._given_tokens.get(origin)
        return given[0] if given is not None and given[1] == named else named

    async def use_relay(self, url: str, *, token: str | None = None, progress: Progress | None = None) -> bool:
        """Look for the group at a relay that somebody named, where the relays that this device knows are gone, or ask
        for a new access token that this device has yet to learn.

        The relay is read and given nothing; nothing that it shows is believed which does not prove itself. Once the
        policy is known to name it, it is used like any other.

        Returns:
            Whether the group is there: the policy, as it is known now, names that relay.

        Raises:
            UsageError: no address.
            RelayUnavailable, RelayRefused: it cannot be used.
        """
        origin = _origin(url)
        was_named = origin in named_relays(self._replica)
        if token is not None:
            named = dict(self.policy.tokens).get(origin) if was_named else None
            if named is None:
                self._keep_tokens({origin: token})
            else:
                self._given_tokens[origin] = token, named
        try_relay(self._replica, origin)
        passes = {done.url: done for done in await sync_relays(self._replica, self._dial, progress)}
        found = origin in named_relays(self._replica)
        error = passes[origin].error if origin in passes else None
        if error is not None and (was_named or not found):
            raise error
        return found

    def _named(self) -> list[str]:
        """The relays that a change of policy starts from."""
        return named_relays(self._replica) or self.relays


def _origin(url: str) -> str:
    try:
        return normalize_origin(url)
    except MalformedError as error:
        raise UsageError(str(error)) from error
