"""Builds every document of a group anew from the truth, and compares it with what is kept of it.

A document's cache, its verdicts (what waits, is called, was refused) and the rows of views that it gives are computed
from runs and snapshots; where they differ, what was computed stays. Where they do not, the transaction is rolled back,
so a sound profile is only read. Implements specs/check.md §2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from typing import Any, Final

from cocoon_core.errors import CocoonError, LocalStateError, MalformedError
from cocoon_core.protocol.descriptor import DocumentKind
from cocoon_core.protocol.ids import DocumentId, TopicId
from cocoon_core.protocol.manifest import DocumentState, decode_manifest
from cocoon_core.protocol.part import Said
from cocoon_core.protocol.primitives import Secret
from cocoon_core.protocol.snapshot import seal_part
from cocoon_core.storage.documents import DocumentRecord
from cocoon_core.storage.set_aside import set_aside
from cocoon_core.sync.checking import AGAIN, RESTORE, Checked, Finding
from cocoon_core.sync.owed import changes_in
from cocoon_core.sync.replica import Replica
from cocoon_core.sync.shelf import NOT_SAVED

VIEWS: Final = {  # of each table: the kind of its documents, what their names begin with, and words for both
    "posts": (DocumentKind.OWNED, "feed/", "posts", "feed"),
    "post_marks": (DocumentKind.ADMIN, "circle", "marks of posts", "document of admins"),
    "vault_items": (DocumentKind.OWNED, "vault/", "items", "vault"),
    "lists": (DocumentKind.SHARED, "list/", "lists", "list"),
    "list_items": (DocumentKind.SHARED, "list/", "items of lists", "list"),
    "notes": (DocumentKind.SHARED, "note/", "notes", "note"),
    "events": (DocumentKind.OWNED, "event/", "events", "document of events"),
    "event_replies": (DocumentKind.OWNED, "reply/", "replies to events", "document of replies"),
    "member_profiles": (DocumentKind.OWNED, "profile", "profiles", "profile"),
    "seen_posts": (DocumentKind.OWNED, "seen/", "what others have seen", "what others tell"),
}
_TABLES: Final = {
    "waiting": "SELECT missing, change FROM waiting WHERE document_no=? ORDER BY 1, 2",
    "called": "SELECT change FROM called WHERE document_no=? ORDER BY 1",
    "refused": "SELECT change, device, code FROM refused WHERE document_no=? ORDER BY 1",
    "posts": "SELECT group_no, post, key, member, text, time_ms, parent, edited, erased, files, quote, mentions, ask, "
    "until_ms, answer, solved, deleted FROM posts WHERE document_no=? ORDER BY post",
    "post_marks": "SELECT kind, post, time_ms FROM post_marks WHERE document_no=? ORDER BY 1, 2",
    "vault_items": "SELECT group_no, item, key, member, erased, kind, time_ms, name, type, size, width, height, "
    "duration, album, caption, url, digest, has_thumb, blur, site, about, sought, thumb, file FROM vault_items "
    "WHERE document_no=? ORDER BY item",
    "lists": "SELECT group_no, list, name, time_ms, gone_ms FROM lists WHERE document_no=?",
    "list_items": "SELECT group_no, item, text, time_ms, done_ms, place FROM list_items WHERE document_no=? ORDER BY 2",
    "notes": "SELECT group_no, note, name, time_ms, gone_ms, edited_ms, text FROM notes WHERE document_no=?",
    "events": "SELECT group_no, event, key, member, erased, time_ms, name, begins_ms, ends_ms, over_ms, days, "
    "edited_ms, place, about, cancelled FROM events WHERE document_no=? ORDER BY event",
    "event_replies": "SELECT group_no, reply, key, member, erased, time_ms, event, says, words FROM event_replies "
    "WHERE document_no=? ORDER BY reply",
    "member_profiles": "SELECT group_no, member, generation, about, picture, quiet, tells_seen FROM member_profiles "
    "WHERE document_no=?",
    "seen_posts": "SELECT group_no, key, post, member FROM seen_posts WHERE document_no=? ORDER BY key, post",
}
_REPAIR: Final = "run `cocoon check` without --no-repair"


class _RollBack(Exception):
    """Nothing is to be changed."""


class _Missing(Exception):
    """What is here was built on changes that are not here any more: what was computed would be less, not right."""


class DocumentCheck:
    """Checks the documents of one open group. No edit may be open while it goes on.

    Args:
        holed: numbers of documents of which a run was set aside.
        repair: let stand what was computed where it differs; else nothing is written.
    """

    def __init__(self, replica: Replica, checked: Checked, holed: Set[int] = frozenset(), *, repair: bool) -> None:
        self._replica, self._repair, self._holed = replica, repair, holed
        self._topic: TopicId | None = None
        self._states: dict[DocumentId, DocumentState] = {}
        self._besides: Mapping[DocumentId, list[Said]] = {}
        self.checked = checked

    def run(self) -> Iterator[None]:
        """Check everything; gives others a turn after each document."""
        replica = self._replica
        self._check_pending()
        for table in VIEWS:
            self._drop_strays(table)
        self._read_manifest()
        self._check_pages()
        for record in replica.documents.all():
            self.checked.count("documents")
            try:
                self._check_snapshot(record)
                self._check_document(record)
            except CocoonError as error:
                self._tell("document", record, f"it cannot be built: {error}", False)
            replica.shelf.discard(record.document)
            yield

    # --- truth that no run holds

    def _check_pending(self) -> None:
        """Own entries that were not sent are still what was written."""
        try:
            self.checked.count("pending", sum(1 for _ in self._replica.own_chain.pending_entries()))
        except CocoonError as error:
            self.checked.findings.append(
                Finding(
                    "pending",
                    "own entries that were not sent",
                    str(error),
                    False,
                    "the group can be read and not written to; restore a backup, or link this device anew",
                )
            )

    def _read_manifest(self) -> None:
        """What the newest manifest that was followed says of documents."""
        epochs = self._replica.epochs
        last = epochs.last_followed()
        content = epochs.table.content(last.topic) if last is not None else None
        if last is None or content is None:
            return
        try:
            manifest = decode_manifest(content, self._replica.group)
        except CocoonError:
            return  # told of by the check of the log
        self._topic, self._besides = last.topic, changes_in(manifest.stored_runs())
        self._states = {
            state.descriptor.document_id(self._replica.group): state for state in manifest.stored_documents()
        }

    def _check_pages(self) -> None:
        """Stored pages of snapshots are what they are named after: the name is the hash of the sealed page."""
        replica = self._replica
        rows = replica.database.query_each(
            "SELECT id, name, key, part FROM pages WHERE group_no=? AND part IS NOT NULL", (replica.record.number,)
        )
        damaged = []
        for number, name, key, part in rows:
            self.checked.count("pages")
            try:
                if seal_part(part, Secret(key), replica.group)[0].name == name:
                    continue
            except (CocoonError, ValueError, TypeError):
                pass
            damaged.append((number, name, part))
        for number, name, part in damaged:
            problem = "it is not what its name says"
            advice = AGAIN if self._repair else _REPAIR
            self.checked.findings.append(Finding("snapshot", f"page {name.hex()[:16]}", problem, self._repair, advice))
            if self._repair:
                with replica.transaction():
                    set_aside(replica.database, replica.record.number, f"pages {number}", part, replica.clock())
                    replica.database.execute("UPDATE pages SET part=NULL WHERE id=?", (number,))

    def _check_snapshot(self, record: DocumentRecord) -> None:
        """What a manifest's snapshot said can be read, and all that its signed heads name is here; else it is owed."""
        replica = self._replica
        if replica.debts.find(record.document) is not None:
            return  # it is on its way already
        if replica.members.is_retired(record.descriptor):
            return  # nothing of it counts, and it may have been let go of
        state = self._states.get(record.document)
        problem = "a run that changed it is missing" if record.number in self._holed else None
        try:
            here = {arrival.change.hash for arrival in replica.shelf.arrivals.of(record)}
        except (LocalStateError, MalformedError, ValueError, TypeError) as error:
            problem = f"what a manifest said of it cannot be read ({type(error).__name__})"
        else:
            heads = {} if state is None else {d: c for d, (_, c) in state.heads.items() if d not in state.ended}
            missing = sum(change not in here for change in heads.values())
            if missing:
                problem = f"{missing} changes are not here that a manifest names"
        if problem is None:
            return
        if record.number not in self._holed or (state is not None and state.snapshot is not None):
            self._fetch(record, problem)  # where no manifest speaks of it, the run itself is fetched

    def _fetch(self, record: DocumentRecord, problem: str) -> None:
        """Have a manifest's pages of the document read again, if there is one that speaks of it."""
        state, topic = self._states.get(record.document), self._topic
        if topic is None or state is None or state.snapshot is None:
            self._tell("document", record, problem, False)
            return
        if self._repair and self._replica.debts.find(record.document) is None:
            self._owe(record, topic, state)
        self._tell("snapshot", record, problem, self._repair)

    def _owe(self, record: DocumentRecord, topic: TopicId, state: DocumentState) -> None:
        """Have the document's pages fetched again, and what is damaged of it set aside."""
        replica, number = self._replica, record.number
        with replica.transaction():
            said = replica.database.query_value("SELECT said FROM snapshots WHERE document_no=?", (number,))
            if said is not None:
                set_aside(replica.database, replica.record.number, f"snapshots {number}", said, replica.clock())
            replica.database.execute("DELETE FROM snapshots WHERE document_no=?", (number,))
            replica.database.execute("DELETE FROM document_pages WHERE document_no=?", (number,))
            replica.debts.owe(topic, [state], self._besides)
            replica.debts.load()
        replica.shelf.discard(record.document)

    # --- caches

    def _check_document(self, record: DocumentRecord) -> None:
        replica = self._replica
        replica.shelf.discard(record.document)
        problems: list[tuple[str, str]] = []
        try:
            with replica.database.transaction():
                cached = self._read_cached(record, problems)
                before = self._read_tables(record)
                opened = replica.shelf.rebuild(record)
                after = self._read_tables(record)
                if cached is not None and cached != opened.document.heads:
                    problems.append(("cache", "its cache is not what its changes give"))
                for table, rows in after.items():
                    if rows != before[table]:
                        problems.append(
                            (
                                "view" if table in VIEWS else "verdicts",
                                f"its rows in {table} are not what its changes give",
                            )
                        )
                if {row[0] for row in after["waiting"]} - {row[0] for row in before["waiting"]}:
                    raise _Missing
                if not problems or not self._repair:
                    raise _RollBack
        except _RollBack:
            pass
        except _Missing:
            problems = []
            self._fetch(record, "changes are not here that others depend on")
        finally:
            replica.shelf.discard(record.document)
            replica.drop_events()
        for what, problem in problems:
            self._tell(what, record, problem, self._repair)

    def _read_cached(self, record: DocumentRecord, problems: list[tuple[str, str]]) -> frozenset[bytes] | None:
        """The heads of the document as its cache gives it; None where there is none, or one that cannot be used."""
        replica = self._replica
        cache, _ = replica.documents.cache(record.number)
        if cache is None or cache == NOT_SAVED:
            return None
        try:
            return replica.shelf.load_cached(record).heads
        except (LocalStateError, MalformedError, ValueError, TypeError):
            problems.append(("cache", "its cache cannot be used"))
            return None

    def _read_tables(self, record: DocumentRecord) -> dict[str, list[Any]]:
        return {table: self._replica.database.query(sql, (record.number,)) for table, sql in _TABLES.items()}

    def _drop_strays(self, table: str) -> None:
        """Rows of a view that stand under no document of its group that the view is computed from."""
        replica = self._replica
        kind, prefix, what, source = VIEWS[table]
        sources = {
            record.number
            for record in replica.documents.all()
            if record.descriptor.kind is kind and record.descriptor.name.startswith(prefix)
        }
        number = replica.record.number
        rows = replica.database.query(
            f"SELECT DISTINCT v.document_no, v.group_no FROM {table} v LEFT JOIN documents d ON d.id=v.document_no "
            "WHERE v.group_no=? OR d.group_no=?",
            (number, number),
        )
        stray = [row for row in rows if row[0] not in sources or row[1] != number]
        if not stray:
            return
        problem = f"{what} stand under what is no {source}"
        self.checked.findings.append(Finding("view", what, problem, self._repair, _advise(self._repair)))
        if self._repair:
            replica.database.executemany(f"DELETE FROM {table} WHERE document_no=? AND group_no=?", stray)

    def _tell(self, what: str, record: DocumentRecord, problem: str, repaired: bool) -> None:
        where = f"document {record.document.hex()[:16]} ({record.descriptor.name})"
        advice = _advise(repaired)
        if what in ("document", "snapshot"):
            advice = AGAIN if repaired else f"sync; if it stays so: {RESTORE}"
        self.checked.findings.append(Finding(what, where, problem, repaired, advice))


def _advise(repaired: bool) -> str:
    return "nothing is to be done" if repaired else _REPAIR
