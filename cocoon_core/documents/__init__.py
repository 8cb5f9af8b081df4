"""The documents of a group, and the only importer of automerge.

A foreign change passes the admission gate before automerge sees a byte of it; an own edit is written like a dict and
becomes one change that every gate admits. `Document` joins both. What this package leaves to others: signatures and
entries (protocol), who counts (roster), storing and parking (storage, sync). Implements specs/documents.md.
"""

from __future__ import annotations

from cocoon_core.documents.change import ParsedChange, parse_change
from cocoon_core.documents.document import Document, Edit, OwnChange, Saved
from cocoon_core.documents.gate import Gate, MissingDependencyError
from cocoon_core.documents.history import AdmittedChange
from cocoon_core.documents.records import Record, Records
from cocoon_core.documents.rules import Rule
from cocoon_core.documents.schema import encode_schema_change, normalise_schema, schema_actor
from cocoon_core.documents.views import ListView, MapView, Text, TextView

__all__ = [
    "AdmittedChange",
    "Document",
    "Edit",
    "Gate",
    "ListView",
    "MapView",
    "MissingDependencyError",
    "OwnChange",
    "ParsedChange",
    "Record",
    "Records",
    "Rule",
    "Saved",
    "Text",
    "TextView",
    "encode_schema_change",
    "normalise_schema",
    "parse_change",
    "schema_actor",
]
