"""A key ring that lives in this process, and that can pose as any other: no test touches the user's own."""

from __future__ import annotations

from typing import Any

import keyring
import keyring.backend
import pytest


class MemoryRing(keyring.backend.KeyringBackend):
    """Keeps passwords in `kept`, by service and account."""

    priority = 5

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.kept[service, username]


def posing_as(module: str, **members: Any) -> MemoryRing:
    """A ring whose class says that it comes from this module, with some members of its own."""
    ring: MemoryRing = type("Keyring", (MemoryRing,), {"__module__": module, **members})()
    return ring


def use_key_ring(monkeypatch: pytest.MonkeyPatch, ring: MemoryRing | None = None) -> MemoryRing:
    """Make it this system's key ring; by default one that passes for the Secret Service."""
    chosen = ring if ring is not None else posing_as("keyring.backends.SecretService")
    monkeypatch.setattr(keyring, "get_keyring", lambda: chosen)
    return chosen
