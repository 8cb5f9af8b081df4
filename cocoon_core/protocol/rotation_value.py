"""A rotation in its envelope, with the wraps beside it. Implements specs/epoch.md §4.

    value = CBOR [version, "rotation", run, records]

The run is what is signed, stored and carried by manifests; it commits to the records. They travel with it where it ends
an epoch, in the one envelope that a relay keeps longest, so whoever finds the rotation finds their wrap.
"""

from __future__ import annotations

from typing import Final

from cocoon_core.errors import MalformedError, UpdateNeededError
from cocoon_core.protocol import encoding
from cocoon_core.protocol.constants import VERSION
from cocoon_core.protocol.entry import EntryKind
from cocoon_core.protocol.ids import GroupId
from cocoon_core.protocol.operations import decode_operation
from cocoon_core.protocol.operations_rotation import Rotation
from cocoon_core.protocol.run import Run, UnverifiedRun
from cocoon_core.protocol.statement import parse_statement

KIND: Final = "rotation"
_FIELDS: Final = 4
_ARRAY: Final = 0x80 + _FIELDS  # how such a value begins, so that other ones are not read twice


def add_wraps(wire: bytes, records: bytes) -> bytes:
    """The value to seal, of a rotation's run and its wraps."""
    return encoding.encode([VERSION, KIND, wire, records])


def split_wraps(raw: bytes, group: GroupId) -> tuple[UnverifiedRun, bytes] | None:
    """The run of a rotation and the wraps beside it; None where the value is something else, such as a run alone.

    Raises:
        MalformedError: the wraps are not those that the rotation commits to.
        UpdateNeededError: of a later version.
    """
    if not raw or raw[0] != _ARRAY:
        return None
    match encoding.decode(raw):
        case [version, "rotation", bytes() as wire, bytes() as records] if type(version) is int:
            if version > VERSION:
                raise UpdateNeededError(f"a rotation is of version {version}; install a newer Cocoon")
            run = parse_statement(wire, group)
            beside = _rotation_of(run.stored()).beside if version == VERSION else None
            if beside is None or not beside.matches(records):
                raise MalformedError("these are not the wraps of the rotation beside which they stand")
            return run, records
    return None


def _rotation_of(run: Run) -> Rotation:
    """What a run says; only which wraps belong to it is asked, which proves itself."""
    entry = run.entries[-1]
    body = decode_operation(entry.body) if entry.kind is EntryKind.ROSTER else None
    if not isinstance(body, Rotation):
        raise MalformedError("wraps stand beside a rotation")
    return body
