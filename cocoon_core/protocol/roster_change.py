"""A state of the roster while it is being brought up to date. Spec: specs/roster.md §9.

What one operation does not touch is shared with the state before; each map is copied when it is first asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from types import MappingProxyType
from typing import Any

from cocoon_core.protocol.roster_values import Roster, RotationState


class StateChange:
    """The maps of a state while they are being brought up to date; each is copied when it is first asked for."""

    _MAPS = (
        "members", "devices", "former_members", "former_devices", "invites", "admin_pins", "recoveries", "requests",
        "refused",
    )  # fmt: skip

    def __init__(self, before: Roster) -> None:
        self._before = before
        self._maps: dict[str, dict[Any, Any]] = {}
        self._rotations: list[RotationState] | None = None
        self.renames: set[str] = set()

    def __getattr__(self, name: str) -> dict[Any, Any]:
        if name not in StateChange._MAPS:
            raise AttributeError(name)
        found = self._maps.get(name)
        if found is None:
            found = self._maps[name] = dict(getattr(self._before, name))
        return found

    @property
    def rotations(self) -> list[RotationState]:
        if self._rotations is None:
            self._rotations = list(self._before.rotations)
        return self._rotations

    def sort(self, name: str, key: Callable[[Any], Any]) -> None:
        """Put a map into its order."""
        self._maps[name] = dict(sorted(getattr(self, name).items(), key=lambda pair: key(pair[1])))

    def place_last(self, name: str, key: Callable[[Any], Any]) -> None:
        """Put a map of which only the last items may be new into its order."""
        found = self._maps.get(name)
        if found is None or len(found) <= len(getattr(self._before, name)):
            return
        new = len(found) - len(getattr(self._before, name)) + 1
        last = [key(found[item]) for _, item in zip(range(new), reversed(found), strict=False)]
        if any(later < earlier for later, earlier in pairwise(last)):
            self.sort(name, key)

    def freeze(self, **changed: Any) -> Roster:
        maps: dict[str, Any] = {name: MappingProxyType(found) for name, found in self._maps.items()}
        if self._rotations is not None:
            maps["rotations"] = tuple(self._rotations)
        return replace(self._before, **maps, **changed)
