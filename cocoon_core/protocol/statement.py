"""A statement: a run of one entry that carries no change, under its own signature. Implements specs/manifest.md §4.

Operations and rekeys are such runs (specs/envelope.md §2), so they travel whole in manifests and repair topics, apart
from the rest of their chain.
"""

from __future__ import annotations

from cocoon_core.errors import MalformedError
from cocoon_core.protocol.ids import GroupId
from cocoon_core.protocol.run import UnverifiedRun, parse_run


def parse_statement(wire: bytes, group: GroupId) -> UnverifiedRun:
    """Read a run of one entry that carries no change.

    Raises:
        MalformedError: not that.
        UpdateNeededError: of a later version or kind.
    """
    run = parse_run(wire, group)
    if run.first_seq != run.last_seq or not run.has_statement:
        raise MalformedError("a statement is a run of one entry that carries no change")
    return run
