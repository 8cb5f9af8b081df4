"""What every group of vectors is written with: hex, and a failing case checked while it is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cocoon_core.errors import CocoonError

Json = dict[str, Any]


def refused(name: str, reason: str, given: Json, attempt: Callable[..., object], *inputs: object) -> Json:
    """A negative case, tried here: one that does not fail, or fails with a foreign error, is not written."""
    try:
        attempt(*inputs)
    except CocoonError as error:
        return {"name": name, **given, "error": type(error).__name__, "reason": reason}
    raise AssertionError(f"{name} was not refused")
