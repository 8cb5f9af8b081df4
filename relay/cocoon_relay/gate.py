"""Who may come in, and within which limits: by access token, by class, by address.

The operator says who is served (`access`): anyone, those with a token alone, or guests too, within small limits. A
token may have a class with limits of its own. Each class keeps its own accounts of addresses, so guests behind one
address take nothing from members behind it. Implements specs/relay.md §8.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from cocoon_core.errors import ProfileDamagedError
from cocoon_core.protocol.frames import ErrorCode
from cocoon_relay.config import Access
from cocoon_relay.limits import GUEST, Address, AddressBook, Limits
from cocoon_relay.logs import log_event
from cocoon_relay.refusal import Refusal
from cocoon_relay.tokens import Token, TokenBook, today


@dataclass(frozen=True, slots=True)
class Grant:
    """What one request or connection may do. `token` is what it came in by; `address` its account within its class."""

    limits: Limits
    address: Address
    token: Token | None


class Gate:
    """All accounts, and the tokens as they are now."""

    def __init__(self, access: Access, limits: Limits, classes: Mapping[str, Limits], tokens: TokenBook | None) -> None:
        self._access = access
        self._limits = limits
        self._classes = classes
        self._tokens = tokens
        self.addresses = AddressBook(limits)  # for what holds before anybody says who they are
        self._books = {name: AddressBook(own) for name, own in classes.items()}

    @property
    def tokens(self) -> int:
        """How many tokens there are."""
        return 0 if self._tokens is None else len(self._tokens)

    @property
    def asks_for_token(self) -> bool:
        """Whether nobody is served without one."""
        return self._access is Access.TOKEN

    def count_request(self, address: str, now: float) -> None:
        """Count one request of an address, whoever it is.

        Raises:
            Refusal: it has made too many.
        """
        self.addresses.find(address, now).requests.require(1, now, ErrorCode.RATE, "requests from this address")

    def admit(self, given: str | None, address: str, now: float) -> Grant:
        """Let in, or refuse.

        Raises:
            Refusal: a token is needed and none was given, or one that is not of this relay or has ended.
        """
        token = self._find(given)
        if token is None and self._access is not Access.ANYONE and (given is not None or self.asks_for_token):
            raise Refusal(ErrorCode.TOKEN, "this relay asks for an access token")
        kind = token.kind if token is not None else GUEST if self._access is Access.GUEST else None
        if kind is None:
            return Grant(self._limits, self.addresses.find(address, now), token)
        if kind not in self._classes:
            kind = GUEST  # it was told when the tokens were read
        return Grant(self._classes[kind], self._books[kind].find(address, now), token)

    def refresh(self) -> None:
        """Follow the file of tokens. If it is damaged, those known until now go on."""
        if self._tokens is None:
            return
        try:
            if not self._tokens.refresh():
                return
        except (OSError, ProfileDamagedError):
            log_event("access tokens unreadable", level=logging.ERROR, note="those known until now go on")
            return
        for kind in sorted(self._tokens.kinds() - self._classes.keys()):
            note = "the settings have no such class; its tokens have the limits of guests"
            log_event("access tokens", level=logging.WARNING, kind=kind, note=note)

    def still_holds(self, token: Token) -> bool:
        """Whether what somebody came in by still lets them in, as what they are."""
        if self._tokens is None or not token.holds(today()):
            return False
        return self._tokens.holds(token)

    def _find(self, given: str | None) -> Token | None:
        if given is None or self._tokens is None:
            return None
        self.refresh()
        return self._tokens.find(given, today())
