"""Gates with one rule taken out: each attack must succeed against one of these, or its test proves nothing."""

from __future__ import annotations

from collections.abc import Callable

from cocoon_core.documents.change import ParsedChange, parse_change
from cocoon_core.documents.gate import Gate
from cocoon_core.documents.rules import Rule
from cocoon_core.protocol.descriptor import Descriptor
from cocoon_core.protocol.ids import DocumentId
from cocoon_core.protocol.primitives import sha256


class WeakenedGate(Gate):
    """A gate that does not enforce some of its rules."""

    def __init__(self, descriptor: Descriptor, document: DocumentId, *without: Rule) -> None:
        self._without = frozenset(without)
        super().__init__(descriptor, document)

    def _refuse(self, rule: Rule, what: str) -> None:
        if rule not in self._without:
            super()._refuse(rule, what)


class CarelessGate(Gate):
    """A gate that reads a change after `mend` has taken out of it what the real parser would have refused."""

    def __init__(self, descriptor: Descriptor, document: DocumentId, mend: Callable[[bytes], bytes]) -> None:
        self._mend: Callable[[bytes], bytes] | None = None
        super().__init__(descriptor, document)
        self._mend = mend

    def _parse(self, raw: bytes, digest: bytes | None = None) -> ParsedChange:
        if self._mend is None:
            return parse_change(raw)
        return parse_change(self._mend(raw))._replace(raw=raw, hash=sha256(raw[8:]))
