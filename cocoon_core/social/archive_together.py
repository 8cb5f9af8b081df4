"""Lists, notes and events in an archive: as pages, as JSON, and the events as a calendar file.

Removed lists and notes are in it too, marked: their documents are here, and nobody may take what the device knew out of
an archive. Implements specs/archive.md §2 and §3.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from cocoon_core.protocol.descriptor import Descriptor, DocumentKind
from cocoon_core.social.archive_files import stamp, writing
from cocoon_core.social.archive_pages import attribute, begin_page, end_page, name_text, page_text, when_text
from cocoon_core.social.calendar import Calendar
from cocoon_core.social.event import CalendarEvent
from cocoon_core.social.event_view import EVENT_PREFIX, REPLY_PREFIX
from cocoon_core.social.icalendar import calendar_pieces
from cocoon_core.social.list_view import ListsView
from cocoon_core.social.lists import Lists, SharedList
from cocoon_core.social.note_view import NotesView
from cocoon_core.social.notes import Note, Notes

PAGE: Final = "together.html"
_JSON: Final = "together.json"
_CALENDAR: Final = "events.ics"
_ANSWERS: Final = ("yes", "no", "maybe")


def stands_here(descriptor: Descriptor) -> bool:
    """Whether what a document says is on these pages, and so not among the other documents."""
    if descriptor.kind is DocumentKind.OWNED:
        return descriptor.name.startswith((EVENT_PREFIX, REPLY_PREFIX))
    views = (ListsView, NotesView)
    return descriptor.kind is DocumentKind.SHARED and any(
        descriptor.name.startswith(view.documents) and descriptor.schema == view.schema for view in views
    )


async def write_together(
    folder: Path, group: str, lists: Lists, notes: Notes, calendar: Calendar, exported: datetime
) -> list[str]:
    """Write what there is; give the names of the files, the page first. None where there is nothing."""
    found_lists = [await lists.get(one.id) for one in await lists.all(removed=True)]
    found_notes = await notes.all(removed=True)
    events = list(calendar.everything())
    if not (found_lists or found_notes or events):
        return []
    value = {
        "lists": [_list_data(one) for one in found_lists],
        "notes": [_note_data(note) for note in found_notes],
        "events": [_event_data(event) for event in events],
    }
    with writing(folder / _JSON) as file:
        json.dump(value, file, indent=1)
        file.write("\n")
    with writing(folder / PAGE) as file:
        nav = f'<nav><a href="index.html">{name_text(group)}</a></nav>'
        file.write(begin_page(f"Lists, notes and events · {group}", f"{nav}<h1>Lists, notes and events</h1>"))
        file.writelines(_section("Events", map(_event_box, events)))
        file.writelines(_section("Lists", map(_list_box, found_lists)))
        file.writelines(_section("Notes", map(_note_box, found_notes)))
        file.write(end_page(exported))
    if not events:
        return [PAGE, _JSON]
    with writing(folder / _CALENDAR) as file:
        file.writelines(calendar_pieces(events))
    return [PAGE, _JSON, _CALENDAR]


# --- JSON


def _list_data(found: SharedList) -> dict[str, Any]:
    items = [
        {"id": item.id, "text": item.text, "time": stamp(item.time), "done": _stamp(item.done)} for item in found.items
    ]
    named = {"id": found.id, "name": found.name, "time": stamp(found.time), "removed": found.removed}
    return {**named, "items": items}


def _note_data(note: Note) -> dict[str, Any]:
    return {
        "id": note.id,
        "name": note.name,
        "text": note.text,
        "time": stamp(note.time),
        "edited": stamp(note.edited),
        "removed": note.removed,
    }


def _event_data(event: CalendarEvent) -> dict[str, Any]:
    replies = [
        {
            "member": reply.member,
            "member_id": str(reply.member_id),
            "answer": reply.answer,
            "words": reply.words,
            "time": stamp(reply.time),
        }
        for reply in event.replies
    ]
    return {
        "id": event.id,
        "name": event.name,
        "author": event.author,
        "author_id": str(event.author_id),
        "begins": stamp(event.begins),
        "ends": _stamp(event.ends),
        "days": event.days,
        "place": event.place,
        "about": event.about,
        "cancelled": event.cancelled,
        "time": stamp(event.time),
        "edited": _stamp(event.edited),
        "replies": replies,
    }


def _stamp(time: datetime | None) -> str | None:
    return None if time is None else stamp(time)


# --- the page


def _section(title: str, boxes: Iterable[str]) -> Iterable[str]:
    head = f"<h2>{title}</h2>"
    for box in boxes:
        yield head + box
        head = ""


def _box(identity: str, name: str, marks: Sequence[str], body: str) -> str:
    quiet = " · ".join(name_text(mark) for mark in marks if mark)
    return (
        f'<div class="box" id="{attribute(identity)}"><b dir="auto">{name_text(name)}</b> '
        f'<span class="quiet">{quiet}</span>{body}</div>\n'
    )


def _list_box(found: SharedList) -> str:
    lines = "".join(
        f'<li dir="auto">{"☐" if item.done is None else "☑"} {name_text(item.text)}</li>' for item in found.items
    )
    return _box(f"l{found.id}", found.name, ["put aside"] if found.removed else [], f"<ul>{lines}</ul>")


def _note_box(note: Note) -> str:
    marks = [f"changed {when_text(note.edited)}", "put aside" if note.removed else ""]
    return _box(f"n{note.id}", note.name, marks, f'<p class="words" dir="auto">{page_text(note.text)}</p>')


def _event_box(event: CalendarEvent) -> str:
    marks = [_time_text(event), event.place, f"by {event.author}", "called off" if event.cancelled else ""]
    body = f'<p class="words" dir="auto">{page_text(event.about)}</p>' if event.about else ""
    for answer in _ANSWERS:
        named = [
            f"{reply.member} ({reply.words})" if reply.words else reply.member
            for reply in event.replies
            if reply.answer == answer
        ]
        if named:
            body += f'<p class="quiet" dir="auto">{answer}: {name_text(", ".join(named))}</p>'
    return _box(f"e{event.id}", event.name, marks, body)


def _time_text(event: CalendarEvent) -> str:
    if event.days:
        last = event.last_day
        shown = f"{event.begins.day} {event.begins:%b %Y}"
        return shown if event.days == 1 else f"{shown} – {last.day} {last:%b %Y}"
    shown = when_text(event.begins)
    return shown if event.ends is None else f"{shown} – {when_text(event.ends)}"
