"""What a search finds, and as much of it as is shown."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from cocoon_core.protocol.ids import MemberId
from cocoon_core.social.search_words import find_places

_LOOKED_AT: Final = 20_000  # characters of a text in which the first place is looked for
_BEFORE: Final = 40  # characters of an excerpt that stand before it


@dataclass(frozen=True, slots=True)
class SearchResult:
    """A thing in which all that was sought stands.

    Attributes:
        kind: post, reply, file, photo, video, audio, link, list, list-item, note or event.
        author: whose it is; empty, and no `author_id`, where it is written together.
        text: all that was searched of it: of an item its name, caption, album and address, a line each.
        parent: the post that a reply answers; the list that an item stands in.
    """

    id: str
    kind: str
    author: str
    author_id: MemberId | None
    time: datetime
    text: str
    parent: str | None
    needles: tuple[str, ...] = field(default=(), repr=False, compare=False)

    def excerpt(self, width: int = 160) -> list[tuple[str, bool]]:
        """A part of the text on one line, around the first place of what was sought: pieces, each with whether it is
        that. Longer texts end, or begin, with an ellipsis.
        """
        text = " ".join(self.text[:_LOOKED_AT].split())
        places = find_places(text, self.needles)
        start = max(0, places[0][0] - _BEFORE) if places and len(text) > width else 0
        start = min(start, max(0, len(text) - width))
        end = min(len(text), start + width)
        pieces: list[tuple[str, bool]] = [("…", False)] if start else []
        at = start
        for first, last in places:
            first, last = max(first, at), min(last, end)  # noqa: PLW2901 - cut to what is shown
            if first < last:
                pieces += [(text[at:first], False), (text[first:last], True)]
                at = last
        pieces.append((text[at:end], False))
        if end < len(text) or len(self.text) > _LOOKED_AT:
            pieces.append(("…", False))
        return [piece for piece in pieces if piece[0]]
