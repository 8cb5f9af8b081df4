"""The names of the gate's rules and the class of error that each raises. Spec: specs/documents.md §3."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Final

from cocoon_core.errors import EquivocationError, MalformedError, NotPermittedError, UntrustedInputError


class Rule(StrEnum):
    """The rules of the gate after the form, in the order in which they are asked."""

    OWNER = "owner"
    ACTOR = "actor"
    REFUSED_PAST = "refused past"
    EQUIVOCATION = "equivocation"
    SEQ = "seq"
    START_OP = "start op"
    DEPENDENCIES = "dependencies"
    ROOT = "root"
    CONTAINER = "container"
    KEY = "key"
    TEXT = "text"
    PREDECESSORS = "predecessors"
    NESTING = "nesting"


ERRORS: Final[dict[Rule, type[UntrustedInputError]]] = {
    Rule.OWNER: NotPermittedError,
    Rule.ACTOR: NotPermittedError,
    Rule.REFUSED_PAST: NotPermittedError,
    Rule.EQUIVOCATION: EquivocationError,
    Rule.SEQ: MalformedError,
    Rule.START_OP: MalformedError,
    Rule.DEPENDENCIES: MalformedError,
    Rule.ROOT: NotPermittedError,
    Rule.CONTAINER: MalformedError,
    Rule.KEY: MalformedError,
    Rule.TEXT: MalformedError,
    Rule.PREDECESSORS: MalformedError,
    Rule.NESTING: MalformedError,
}

Refuse = Callable[[Rule, str], None]
