"""Where the time of catching up goes: functions wrapped from outside, each second counted for the innermost step.

For a run of its own, never for the one that is measured: the wrapping costs time too.
"""

from __future__ import annotations

import inspect
import time
from collections import defaultdict
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

# step -> module:name of what belongs to it; a class means all of its public methods
_STEPS: Final[dict[str, tuple[str, ...]]] = {
    "relay": (
        "cocoon_core.sync.session:Session",
        "cocoon_core.sync.websocket:WebSocketConnection.send",
        "cocoon_core.sync.websocket:WebSocketConnection.receive",
    ),
    "open": ("cocoon_core.sync.receiving:_Reception._open",),
    "link + verify": (
        "cocoon_core.sync.receiving:link_runs",
        "cocoon_core.sync.receiving:_Reception._check_heads",
    ),
    "roster": ("cocoon_core.sync.members:Members", "cocoon_core.sync.receiving:_Reception._follow_roster"),
    "gate": ("cocoon_core.documents.document:Document.receive",),
    "apply": ("cocoon_core.documents.document:Document.merge", "cocoon_core.documents.adapter:Replica.apply"),
    "store": (
        "cocoon_core.storage.database:Database",
        "cocoon_core.storage.database:Database._run",
        "cocoon_core.storage.log:Log",
        "cocoon_core.storage.documents:DocumentTable",
        "cocoon_core.storage.groups:GroupTable",
        "cocoon_core.sync.shelf:Shelf.save_caches",
        "cocoon_core.documents.document:Document.save",
    ),
    "view": ("cocoon_core.social.post_view:PostView",),
}
_HOLDS: Final = {("view", "store"), ("open", "roster")}  # (outer, inner): what the outer calls of it is its own


class Split:
    """Seconds by step, once installed. What no step claims is `other`."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.missing: list[str] = []
        self._stack = ["other"]
        self._since = time.perf_counter()

    def install(self) -> None:
        for step, names in _STEPS.items():
            for name in names:
                try:
                    self._wrap_named(step, name)
                except AttributeError:
                    self.missing.append(name)

    def begin(self) -> None:
        self.seconds.clear()
        self._since = time.perf_counter()

    def end(self) -> dict[str, float]:
        self._turn()
        return dict(self.seconds)

    def _turn(self) -> None:
        now = time.perf_counter()
        self.seconds[self._stack[-1]] += now - self._since
        self._since = now

    def _wrap_named(self, step: str, name: str) -> None:
        module_name, _, path = name.partition(":")
        owner: Any = import_module(module_name)
        *holders, last = path.split(".")
        for holder in holders:
            owner = getattr(owner, holder)
        target = getattr(owner, last)
        if inspect.isclass(target):
            for method, function in vars(target).items():
                if inspect.isfunction(function) and not method.startswith("_"):
                    setattr(target, method, self._wrap(step, function))
        else:
            setattr(owner, last, self._wrap(step, target))

    def _wrap(self, step: str, function: Callable[..., Any]) -> Callable[..., Any]:
        if hasattr(function, "__wrapped__") or inspect.isgeneratorfunction(function):
            return function  # a context manager's body is not its own time: what it runs is wrapped by itself
        stack = self._stack

        def enter() -> bool:
            if stack[-1] == step or (stack[-1], step) in _HOLDS:
                return False
            self._turn()
            stack.append(step)
            return True

        def leave() -> None:
            self._turn()
            stack.pop()

        if inspect.iscoroutinefunction(function):

            async def wrapped_later(*args: Any, **kwargs: Any) -> Any:
                entered = enter()
                try:
                    return await function(*args, **kwargs)
                finally:
                    if entered:
                        leave()

            return wrapped_later

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            entered = enter()
            try:
                return function(*args, **kwargs)
            finally:
                if entered:
                    leave()

        return wrapped
