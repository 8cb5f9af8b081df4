"""One ciphertext that opens under two keys: what XChaCha20-Poly1305 by itself does not prevent.

The attack is that of Dodis, Grubbs, Ristenpart and Woodage (CRYPTO 2018) on Poly1305: the tag is a polynomial in each
key's r, so one free block is solved for such that both keys give the same tag. ChaCha20 is written out here, because
the library does not give out the block that the one-time key is made of.
"""

from __future__ import annotations

from cocoon_core.protocol.primitives import Secret

_P = 2**130 - 5
_CLAMP = 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
_COLUMNS = ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15))
_DIAGONALS = ((0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14))


def two_key_ciphertext(one: Secret, two: Secret, nonce: bytes, ad: bytes, length: int) -> bytes:
    """A ciphertext of `length` bytes and its tag, which open under both keys. The plaintexts are not chosen."""
    (r1, s1), (r2, s2) = _one_time_key(one, nonce), _one_time_key(two, nonce)
    text = bytearray(length)
    free = -(-len(ad) // 16)  # the place, among Poly1305's blocks, of the first block of the ciphertext
    for salt in range(1 << 20):
        text[:16], text[16:20] = bytes(16), salt.to_bytes(4, "little")
        blocks = _blocks(ad, bytes(text))
        after = len(blocks) - free
        slope = (pow(r1, after, _P) - pow(r2, after, _P)) % _P
        block = (_sum(r2, blocks) + s2 - _sum(r1, blocks) - s1) * pow(slope, -1, _P) % _P
        if block >= 2**128:
            continue
        text[:16] = block.to_bytes(16, "little")
        blocks = _blocks(ad, bytes(text))
        tag = (_sum(r1, blocks) + s1) % 2**128
        if tag == (_sum(r2, blocks) + s2) % 2**128:  # the sums may differ by a carry out of 128 bits
            return bytes(text) + tag.to_bytes(16, "little")
    raise AssertionError("no block was found")


def _sum(r: int, blocks: list[int]) -> int:
    total = 0
    for block in blocks:
        total = (total + block) * r % _P
    return total


def _blocks(ad: bytes, ciphertext: bytes) -> list[int]:
    padded = [raw + bytes(-len(raw) % 16) for raw in (ad, ciphertext)]
    message = b"".join(padded) + len(ad).to_bytes(8, "little") + len(ciphertext).to_bytes(8, "little")
    return [int.from_bytes(message[i : i + 16] + b"\x01", "little") for i in range(0, len(message), 16)]


def _one_time_key(key: Secret, nonce: bytes) -> tuple[int, int]:
    block = _chacha20_block(_hchacha20(key.reveal(), nonce[:16]), bytes(4) + nonce[16:])
    return int.from_bytes(block[:16], "little") & _CLAMP, int.from_bytes(block[16:32], "little")


def _hchacha20(key: bytes, nonce: bytes) -> bytes:
    words = [*_words(b"expand 32-byte k"), *_words(key), *_words(nonce)]
    _rounds(words)
    return b"".join(word.to_bytes(4, "little") for word in (*words[:4], *words[12:]))


def _chacha20_block(key: bytes, nonce: bytes) -> bytes:
    begin = [*_words(b"expand 32-byte k"), *_words(key), 0, *_words(nonce)]
    words = list(begin)
    _rounds(words)
    return b"".join(((a + b) & 0xFFFFFFFF).to_bytes(4, "little") for a, b in zip(words, begin, strict=True))


def _words(raw: bytes) -> list[int]:
    return [int.from_bytes(raw[i : i + 4], "little") for i in range(0, len(raw), 4)]


def _rounds(words: list[int]) -> None:
    for _ in range(10):
        for a, b, c, d in _COLUMNS + _DIAGONALS:
            for p, q, r, turn in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
                words[p] = (words[p] + words[q]) & 0xFFFFFFFF
                words[r] ^= words[p]
                words[r] = (words[r] << turn | words[r] >> (32 - turn)) & 0xFFFFFFFF
