"""Posts that read like English and are the same on every machine: syllables make words, words make sentences."""

from __future__ import annotations

import random
from typing import Final

_ONSETS: Final = ("b", "br", "c", "ch", "d", "f", "g", "gr", "h", "l", "m", "n", "p", "r", "s", "st", "t", "th", "w")
_VOWELS: Final = ("a", "e", "i", "o", "u", "ea", "ou", "ai")
_CODAS: Final = ("", "", "n", "r", "s", "t", "ll", "nd", "ck", "m")
_SHORT: Final = ("the", "a", "to", "of", "and", "in", "is", "it", "for", "on", "we", "at", "was", "my", "so", "do")
_WORDS: Final = 1500  # words that a writer knows


class Writer:
    """Writes posts from a seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._words = [self._make_word() for _ in range(_WORDS)]

    def _make_word(self) -> str:
        pick = self._random.choice
        return "".join(pick(_ONSETS) + pick(_VOWELS) + pick(_CODAS) for _ in range(pick((1, 1, 2, 2, 3))))

    def write_post(self) -> str:
        """A post of 60 to 140 bytes, 100 on average."""
        return self.write_exactly(self._random.randint(60, 140))

    def write_exactly(self, size: int) -> str:
        """A post of exactly `size` bytes of UTF-8."""
        text = ""
        begins = True
        while len(text) < size:
            word = self._random.choice(_SHORT if self._random.random() < 0.4 else self._words)
            text += word.capitalize() if begins else word
            begins = self._random.random() < 0.1
            text += ". " if begins else " "
        return text[: size - 1].rstrip(" .").ljust(size - 1, "e") + "."
