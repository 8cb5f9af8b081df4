"""Lets a device follow manifests and not read what they say of documents, as if its relay had no more of the pages."""

from __future__ import annotations

from typing import Any

import pytest

from cocoon_core.sync.following import Following
from cocoon_core.sync.owed import Debts, Lot


def stop_reading(monkeypatch: pytest.MonkeyPatch, after: int = 0) -> None:
    """Let pages be read until so many were; then the relay is as one that has no more."""
    left = [after]
    read_owed = Following._read_owed

    def limited(self: Following) -> Any:
        return read_owed(self) if left[0] > 0 else None

    pay = Debts.pay

    def counted(self: Debts, lot: Lot, blobs: Any) -> None:
        if left[0] > 0:
            left[0] -= 1
            pay(self, lot, blobs)
        else:
            lot.debts.clear()

    monkeypatch.setattr(Following, "_read_owed", limited)
    monkeypatch.setattr(Following, "is_done", property(lambda self: True))
    monkeypatch.setattr(Debts, "pay", counted)
