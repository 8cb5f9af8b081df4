"""Bytes that are surely not what they were: a constant put in their place is, once in 256, what stood there."""

from __future__ import annotations


def flip(raw: bytes, place: int = -1, mask: int = 1) -> bytes:
    """One byte changed, whatever it was."""
    place %= len(raw)
    return raw[:place] + bytes((raw[place] ^ mask,)) + raw[place + 1 :]
