"""Two devices that link, without relays: sessions, and a mailbox that is a list. What vectors and tests are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from cocoon_core.protocol.device_code import DeviceCode
from cocoon_core.protocol.device_link import CompareWords, LinkEffect, LinkKeys, LinkSession, PutLetter
from cocoon_core.protocol.link_letters import GroupOffer, Side
from tests.support.protocol_story import ANA, CREATE, EPOCH, named_secret

CODE = DeviceCode(named_secret("device code"), ("wss://relay.example:443",))
OFFER = GroupOffer(CREATE, EPOCH, ("wss://relay.example:443",), "Ana", ANA.id)


def link_keys(name: str) -> LinkKeys:
    return LinkKeys(
        named_secret(f"{name} link signing"), named_secret(f"{name} link hpke"), named_secret(f"{name} nonce")
    )


def make_session(side: Side, name: str | None = None) -> LinkSession:
    return LinkSession(side, CODE.mailbox().topic, link_keys(name or side.name.lower()))


@dataclass
class Mailbox:
    """Letters in the order in which they were put. `deliver` shows a session what it has not seen yet."""

    letters: list[bytes] = field(default_factory=list)
    others: dict[int, list[LinkEffect]] = field(default_factory=dict)
    _seen: dict[int, int] = field(default_factory=dict)

    def do(self, session: LinkSession, effects: Sequence[LinkEffect]) -> list[LinkEffect]:
        """Put the letters; give the other effects, and keep them under the session."""
        rest: list[LinkEffect] = []
        for effect in effects:
            if isinstance(effect, PutLetter):
                self.letters.append(effect.value)
            else:
                rest.append(effect)
        self.others.setdefault(id(session), []).extend(rest)
        return rest

    def deliver(self, session: LinkSession) -> list[LinkEffect]:
        """Show everything new."""
        found: list[LinkEffect] = []
        while (at := self._seen.get(id(session), 0)) < len(self.letters):
            self._seen[id(session)] = at + 1
            found += self.do(session, session.letter_received(self.letters[at]))
        return found

    def settle(self, *sessions: LinkSession) -> None:
        """Deliver until nothing is new to anybody."""
        while any(self._seen.get(id(session), 0) < len(self.letters) for session in sessions):
            for session in sessions:
                self.deliver(session)

    def words(self, session: LinkSession) -> tuple[str, ...]:
        """The words that a session wants compared."""
        (found,) = [effect for effect in self.others[id(session)] if isinstance(effect, CompareWords)]
        return found.words


def meet(new: LinkSession, old: LinkSession, mailbox: Mailbox) -> None:
    """From nothing to the words on both sides."""
    mailbox.do(new, new.start())
    mailbox.do(old, old.start())
    mailbox.settle(new, old)
