"""Welcomes on their way into their mailboxes, at one relay. A welcome is done when the relay has shown it there.

One invite that does not work at this relay stops nothing else. Spec: specs/invite.md §4.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cocoon_core.errors import UntrustedInputError
from cocoon_core.protocol.encoding import decode
from cocoon_core.protocol.envelope import open_envelope, seal_envelope
from cocoon_core.protocol.epoch import TopicKeys
from cocoon_core.protocol.frames import ErrorCode
from cocoon_core.protocol.ids import TopicId
from cocoon_core.protocol.invite import mailbox_keys
from cocoon_core.storage.groups import Letter
from cocoon_core.sync.replica import Replica
from cocoon_core.sync.session import Deliver, Effect, Refused, Session

LETTERS = 4  # mailboxes that are open at once
TEMPORARY = (  # refusals of a welcome that may be none later
    ErrorCode.RATE,
    ErrorCode.BUSY,
    ErrorCode.FULL,
    ErrorCode.TOO_MANY_TOPICS,
    ErrorCode.NOT_OPEN,
    ErrorCode.SHUTTING_DOWN,
)


@dataclass(slots=True)
class _Mail:
    """One welcome, and what the relay said of it."""

    letter: Letter
    keys: TopicKeys
    envelope: bytes
    was_shown: bool = False
    was_acked: bool = False


class Letters:
    """The welcomes that one relay does not have yet.

    Args:
        alarm: tells the member, by kind and message.
    """

    def __init__(self, replica: Replica, url: str, session: Session, alarm: Callable[[str, str], None]) -> None:
        self._replica, self._url, self._session, self._alarm = replica, url, session, alarm
        self._mails: dict[TopicId, _Mail] = {}
        self._left: set[int] = set()  # that this relay does not take now

    def holds(self, topic: TopicId) -> bool:
        """True where this topic is a mailbox that was opened for a welcome."""
        return topic in self._mails

    @property
    def is_done(self) -> bool:
        return not self._mails and not self.waiting()

    def waiting(self) -> list[Letter]:
        letters = self._replica.groups.letters(self._replica.record.number, self._url)
        return [letter for letter in letters if letter.number not in self._left]

    def push(self) -> list[Effect]:
        """Open the mailboxes of the next few. To be called once the invites that they belong to are at the relay."""
        effects: list[Effect] = []
        for letter in self.waiting():
            keys: TopicKeys = mailbox_keys(letter.mailbox_secret)
            if self._has_ended(letter):
                self._drop(letter)
            elif keys.topic not in self._mails and len(self._mails) < LETTERS:
                self._mails[keys.topic] = _Mail(letter, keys, seal_envelope(letter.value, keys))
                effects += self._session.open_topic(keys, None)
        return effects

    def delivered(self, delivery: Deliver) -> None:
        mail = self._mails[delivery.topic]
        mail.was_shown = mail.was_shown or mail.envelope in delivery.envelopes
        if mail.letter.spare:
            mail.was_shown = mail.was_shown or any(_is_welcome(one, mail.keys) for one in delivery.envelopes)

    def became_live(self, topic: TopicId) -> list[Effect]:
        """All that the mailbox holds was read: the welcome is there, or is put, or was lost after it was put."""
        mail = self._mails[topic]
        if not mail.was_shown and not mail.was_acked:
            return self._session.put(topic, 0, [mail.envelope])
        del self._mails[topic]
        if mail.was_shown:
            self._drop(mail.letter)
        else:
            self._left.add(mail.letter.number)
            name = self._name(mail.letter)
            self._alarm("letter-lost", f"the relay {self._url} acknowledged {name}, and did not keep it")
        return self._session.close_topic(topic)

    def acked(self, topic: TopicId) -> list[Effect]:
        """Which proves nothing: read the mailbox again."""
        mail = self._mails[topic]
        mail.was_acked = True
        if mail.was_shown:
            return self.became_live(topic)
        return [*self._session.close_topic(topic), *self._session.open_topic(mail.keys, None)]

    def set_aside(self, topic: TopicId) -> list[Effect]:
        """The relay asked to wait: the mailbox is opened again later."""
        del self._mails[topic]
        return self._session.close_topic(topic)

    def refused(self, refused: Refused) -> list[Effect]:
        mail = self._mails.pop(refused.topic)
        self._alarm(
            "letter-refused",
            f"the relay {self._url} refused {self._name(mail.letter)}, which may not work there: "
            f"{refused.message} ({refused.code})",
        )
        if refused.code in TEMPORARY:
            self._left.add(mail.letter.number)
        else:
            self._drop(mail.letter)
        return self._session.close_topic(refused.topic)

    def _name(self, letter: Letter) -> str:
        """What waits in that mailbox, for people."""
        secrets = {invite.mailbox_secret for invite in self._replica.members.roster.invites.values()}
        return "an invite's welcome" if letter.mailbox_secret in secrets else "what was to be kept for a recovery"

    def _drop(self, letter: Letter) -> None:
        with self._replica.transaction():
            self._replica.groups.letter_sent(letter.number)

    def _has_ended(self, letter: Letter) -> bool:
        """Whether the invite was closed or used up: nobody can join by that welcome any more."""
        secret = letter.mailbox_secret.reveal()
        invites = self._replica.members.roster.invites.values()
        return any(not invite.is_open for invite in invites if invite.mailbox_secret.reveal() == secret)


def _is_welcome(envelope: bytes, keys: TopicKeys) -> bool:
    """True of what has a welcome's form (specs/invite.md §3); only whoever has the link can open it."""
    try:
        value = decode(open_envelope(envelope, keys))
    except UntrustedInputError:
        return False
    return type(value) is list and len(value) == 2 and type(value[1]) is bytes
