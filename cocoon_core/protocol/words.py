"""Bytes as words that people read to each other: the English list of BIP-39, 11 bits a word.

The list is that of the `mnemonic` package, which the recovery phrase uses too: 2,048 words, no two alike in their first
four letters. Spec: specs/device-link.md §5.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from mnemonic import Mnemonic

BITS_A_WORD: Final = 11


@lru_cache(maxsize=1)
def word_list() -> tuple[str, ...]:
    """The 2,048 words, in the order of the list."""
    return tuple(Mnemonic("english").wordlist)


def to_words(data: bytes, count: int) -> tuple[str, ...]:
    """The first 11 × count bits, the highest first, as words."""
    words = word_list()
    number = int.from_bytes(data, "big") >> (len(data) * 8 - count * BITS_A_WORD)
    places = [(number >> (BITS_A_WORD * place)) & 2047 for place in reversed(range(count))]
    return tuple(words[place] for place in places)
