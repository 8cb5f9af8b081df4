"""Showing another process of this user that one can open a profile, without opening it. Spec: specs/local-socket.md §3.

The proof key is derived from the database key, so whoever lacks the passphrase or the key ring has none. A proof says
nothing of either key.
"""

from __future__ import annotations

from cocoon_core.protocol.constants import LABEL_LOCAL_ANSWER, LABEL_LOCAL_CALL, LABEL_LOCAL_KEY
from cocoon_core.protocol.primitives import Secret, derive, keyed_hash


class LocalProof:
    """Makes the proofs of one profile: both processes make them, and compare in constant time."""

    __slots__ = ("_key",)

    def __init__(self, database_key: Secret, profile_id: bytes) -> None:
        self._key = derive(database_key, LABEL_LOCAL_KEY, profile_id)

    def prove_call(self, challenge: bytes, call: bytes) -> bytes:
        """32 bytes: whoever made them for this challenge can open the profile and asks for exactly this call."""
        return keyed_hash(self._key.reveal(), LABEL_LOCAL_CALL, challenge + call)

    def prove_answer(self, call_proof: bytes, answer: bytes) -> bytes:
        """32 bytes: whoever made them can open the profile and answers exactly the call with that proof."""
        return keyed_hash(self._key.reveal(), LABEL_LOCAL_ANSWER, call_proof + answer)

    def __repr__(self) -> str:
        return "LocalProof(…)"
