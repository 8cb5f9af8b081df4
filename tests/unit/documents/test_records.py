"""`Document.plain` says what `read` says, whatever was received, merged or edited since."""

from __future__ import annotations

import math
from typing import Any

import pytest

from cocoon_core.documents import Document
from cocoon_core.protocol.descriptor import Descriptor, DocumentKind, actor_of
from cocoon_core.protocol.ids import DeviceId, GroupId, MemberId

GROUP, MEMBER = GroupId(b"g" * 32), MemberId(b"m" * 32)
WRITER, READER = DeviceId(b"w" * 32), DeviceId(b"r" * 32)
NOTES = Descriptor(DocumentKind.OWNED, "notes", MEMBER)


def documents() -> tuple[Document, Document]:
    """The same document on the writer's device and on a reader's."""
    document = NOTES.document_id(GROUP)
    return (
        Document(NOTES, document, actor_of(WRITER, document)),
        Document(NOTES, document, actor_of(READER, document)),
    )


def write(document: Document, key: str, value: Any) -> bytes:
    edit = document.change()
    with edit as root:
        root[key] = value
    assert edit.change is not None
    return edit.change.raw


@pytest.mark.parametrize(
    "value",
    [
        {"text": "grüße ✓", "at": 1_700_000_000_000},
        {"none": None, "yes": True, "no": False, "bytes": b"\x00\xff", "empty": "", "no bytes": b""},
        {"least": -(2**63), "most": 2**63 - 1, "minus": -1, "zero": 0, "64": 64, "-64": -64, "-65": -65},
        {"pi": math.pi, "tiny": 5e-324, "minus zero": -0.0},
    ],
)
def test_a_record_reads_as_automerge_reads_it(value: dict[str, Any]) -> None:
    writer, reader = documents()
    raw = write(writer, "post:1", value)
    reader.merge([reader.receive(raw, WRITER, MEMBER)])
    assert reader.plain("post:1") == reader.read()["post:1"].to_python() == value


def test_what_was_received_and_not_merged_is_not_shown() -> None:
    writer, reader = documents()
    first = reader.receive(write(writer, "post:1", {"text": "one"}), WRITER, MEMBER)
    second = reader.receive(write(writer, "post:2", {"text": "two"}), WRITER, MEMBER)
    reader.merge([first])
    assert reader.plain("post:1") == {"text": "one"}
    assert reader.plain("post:2") is None
    reader.merge([second])
    assert reader.plain("post:2") == {"text": "two"}


def test_a_record_that_the_same_merge_changes_is_read_as_changed() -> None:
    writer, reader = documents()
    made = write(writer, "post:1", {"text": "one"})
    edit = writer.change()
    with edit as root:
        root["post:1"]["text"] = "other"
    assert edit.change is not None
    reader.merge([reader.receive(raw, WRITER, MEMBER) for raw in (made, edit.change.raw)])
    assert reader.plain("post:1") == {"text": "other"}


def test_an_own_edit_after_a_merge_is_shown() -> None:
    writer, reader = documents()
    reader.merge([reader.receive(write(writer, "post:1", {"text": "one"}), WRITER, MEMBER)])
    with reader.change() as root:
        root["post:1"]["text"] = "mine"
    assert reader.plain("post:1") == {"text": "mine"}


def test_two_devices_that_make_the_same_key_leave_one_winner_everywhere() -> None:
    writer, reader = documents()
    theirs, own = write(writer, "post:1", {"text": "w"}), write(reader, "post:1", {"text": "r"})
    reader.merge([reader.receive(theirs, WRITER, MEMBER)])
    writer.merge([writer.receive(own, READER, MEMBER)])
    assert reader.plain("post:1") == writer.plain("post:1") == reader.read()["post:1"].to_python()


def test_replayed_changes_are_shown() -> None:
    writer, reader = documents()
    made = write(writer, "post:1", {"text": "one"})
    reader.merge([reader.receive(made, WRITER, MEMBER)])
    edit = writer.change()
    with edit as root:
        root["post:1"]["text"] = "other"
    assert edit.change is not None
    reader.replay([edit.change.raw])
    assert reader.plain("post:1") == {"text": "other"}
