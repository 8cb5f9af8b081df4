"""What one still topic was asked for and told: names after a place, and the envelopes at single places.

A topic is still where the relay sends nothing by itself (specs/relay.md §3.7). The relay is not trusted: its names go
on without a gap up to the place that it told when it opened the topic, and every envelope that it serves has the name
that it listed. Pure: the session (session.py) sends what is asked here and hands over what is answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from cocoon_core.errors import RelayMisbehaved
from cocoon_core.protocol.frames import Fetch, Fetched, List, Listed, name_envelope
from cocoon_core.protocol.ids import TopicId


@dataclass(slots=True)
class StillTopic:
    """One of them, on one connection.

    Attributes:
        after: the place up to which everything was delivered.
        last: the place up to which it is read in this way.
        may_begin_late: it is sealed, and nothing of it was listed yet: only its end may be kept.
    """

    topic: TopicId
    salt: bytes
    after: int
    last: int
    may_begin_late: bool
    _names: dict[int, bytes] = field(default_factory=dict)  # that were listed, by place, and are not delivered
    _asked: dict[int, List | Fetch] = field(default_factory=dict)  # by request

    def ask_names(self, request: int, most: int) -> List:
        """For what follows `after`; there is something, and nothing of it was listed."""
        asked = self._asked[request] = List(
            request, self.topic, self.after, min(most, self.last - self.after), self.salt
        )
        return asked

    def ask_places(self, request: int, places: Sequence[int]) -> Fetch:
        """For envelopes at rising places whose names were listed."""
        asked = self._asked[request] = Fetch(request, self.topic, tuple(places))
        return asked

    def refused(self, request: int) -> None:
        self._asked.pop(request, None)

    def listed(self, frame: Listed) -> bool:
        """Take names; False where they were asked for before this topic was opened anew.

        Raises:
            RelayMisbehaved: they leave a place out, end early, or are more than was asked for.
        """
        asked = self._asked.pop(frame.request, None)
        if asked is None:
            return False
        if not isinstance(asked, List):
            raise RelayMisbehaved("the relay listed what it was to serve")
        begins_late = self.may_begin_late and asked.after < frame.first <= self.last
        end = frame.first + len(frame.names) - 1
        if not frame.names or end > self.last or len(frame.names) > asked.most:
            raise RelayMisbehaved(f"the relay lists up to place {end}, having told of {self.last}")
        if frame.first != asked.after + 1 and not begins_late:
            raise RelayMisbehaved(f"the relay went from place {asked.after} to {frame.first}")
        self.may_begin_late = False
        self.after = frame.first - 1
        self._names = dict(enumerate(frame.names, frame.first))
        return True

    def fetched(self, frame: Fetched) -> tuple[tuple[tuple[int, bytes], ...], tuple[int, ...]] | None:
        """Take envelopes: (place, envelope) of what was served, and the places that were not answered. None as above.

        Raises:
            RelayMisbehaved: one of them is not what was listed there, or is kept no more.
        """
        asked = self._asked.pop(frame.request, None)
        if asked is None:
            return None
        if not isinstance(asked, Fetch) or len(frame.envelopes) > len(asked.places):
            raise RelayMisbehaved("the relay served what was not asked for")
        served: list[tuple[int, bytes]] = []
        for place, envelope in zip(asked.places, frame.envelopes, strict=False):
            if envelope is None or name_envelope(self.salt, envelope) != self._names.get(place):
                raise RelayMisbehaved(f"the relay does not serve at place {place} what it listed there")
            served.append((place, envelope))
        return tuple(served), asked.places[len(served) :]

    def deliver(self, count: int) -> int:
        """So many of the next places are delivered; the first of them."""
        first = self.after + 1
        self.after += count
        for place in range(first, self.after + 1):
            del self._names[place]
        return first
