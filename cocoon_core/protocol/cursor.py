"""How far one topic was read from one relay."""

from __future__ import annotations

from dataclasses import dataclass

from cocoon_core.protocol.ids import Incarnation


@dataclass(frozen=True, slots=True)
class Cursor:
    """Everything up to place `after` was read, in that life of the topic."""

    incarnation: Incarnation
    after: int
