"""Verifies one group's log anew, from the signed bytes alone, and repairs what can be computed from them.

Runs are the truth: none is changed, and none is thrown away. One that does not prove itself is set aside, and fetched
again. Chains, heads, the columns beside a run, and which document it changes are caches of it. Documents and views are
checking_documents.py's. Needs no replica, so that a group which cannot be opened can be repaired.
Implements specs/check.md §2 and §3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from cocoon_core.errors import CocoonError, MalformedError, SignatureError, UntrustedInputError, UpdateNeededError
from cocoon_core.protocol import encoding
from cocoon_core.protocol.descriptor import Descriptor, descriptor_from_value
from cocoon_core.protocol.entry import EntryKind
from cocoon_core.protocol.epoch import Epoch
from cocoon_core.protocol.frontier import RunEnd
from cocoon_core.protocol.heads import DeviceHeads, advance_heads
from cocoon_core.protocol.ids import ChangeHash, DeviceId, DocumentId, EntryId
from cocoon_core.protocol.manifest import decode_manifest
from cocoon_core.protocol.primitives import Secret
from cocoon_core.protocol.run import Run, UnverifiedRun, parse_run, verify_run
from cocoon_core.storage.database import Database
from cocoon_core.storage.groups import GroupRecord
from cocoon_core.storage.log import ChainEnd, Log
from cocoon_core.storage.set_aside import set_aside
from cocoon_core.sync.final import read_final

AGAIN: Final = "sync, and what a relay or member still has comes again"
RESTORE: Final = "restore a backup, or link this device anew from another one of yours"
_NOTHING: Final = "nothing is to be done"

Step = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be.

    Attributes:
        what: which kind, for scripts: specs/check.md §4.
        where: of which run, device, document or table.
        problem: what is wrong with it.
        repaired: it is right again, or set aside and to be fetched.
        advice: what to do.
    """

    what: str
    where: str
    problem: str
    repaired: bool
    advice: str


@dataclass(slots=True)
class Checked:
    """What was looked at, and what was found."""

    counts: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def count(self, what: str, number: int = 1) -> None:
        self.counts[what] = self.counts.get(what, 0) + number


@dataclass(slots=True)
class _Chain:
    """What the runs of one device say, read from the newest to the oldest."""

    newest: tuple[int, EntryId, int] | None = None  # seq, id, time
    end: RunEnd | None = None  # of the newest run, where it stands whole and its own signature holds
    later: Run | None = None
    lost: bool = False


class LogCheck:
    """Checks one group.

    Args:
        repair: put right what can be; else nothing is written.
    """

    def __init__(self, database: Database, record: GroupRecord, clock: Callable[[], int], *, repair: bool) -> None:
        self._db, self._no, self._group, self._clock = database, record.number, record.group, clock
        self._own = record.keys.id
        self._repair = repair
        self._log = Log(database, record.number)
        self._frontier: dict[DeviceId, tuple[RunEnd, bytes]] = {}
        self._unreadable: dict[DocumentId, int] = {}
        self._fetch = False
        self.holed: set[int] = set()  # numbers of documents that a run changed which was set aside
        self.checked = Checked()

    def run(self) -> Iterator[None]:
        """Check everything; gives others a turn after each part. Every repair is a transaction."""
        self._check_epochs()
        self._find_unreadable_documents()
        yield
        # Those first of which no chain is known: what stands under a wrong device is put right before it is missed.
        devices = self._db.query(
            "SELECT DISTINCT device, EXISTS (SELECT 1 FROM chains c WHERE c.group_no=r.group_no AND c.device=r.device) "
            "FROM runs r WHERE group_no=? ORDER BY 2, 1",
            (self._no,),
        )
        for device, _ in devices:
            yield from self._check_device(device)
        for table in ("side_runs", "loose_runs", "parked", "rekeys"):
            self._check_apart(table)
            yield
        self._check_ends_without_runs()
        self._tell_unreadable_documents()
        self._check_names_of_runs()
        self._check_outbox()
        if self._fetch:
            self._do([self._fetch_again])

    # --- epochs

    def _check_epochs(self) -> None:
        rows = self._db.query(
            "SELECT topic, secret, manifest, frontier, content, followed FROM epochs WHERE group_no=?", (self._no,)
        )
        for topic, secret, manifest, frontier, content, followed in rows:
            self.checked.count("epochs")
            where = f"epoch {topic.hex()[:16]}"
            try:
                if Epoch(Secret(secret)).topic != topic:
                    self._tell("epoch", where, "its secret is not that of its topic", RESTORE)
            except MalformedError:
                self._tell("epoch", where, "its secret is not one", RESTORE)
            try:
                if manifest is not None:
                    verify_run(parse_run(manifest, self._group))
                if frontier is not None:
                    ends, _ = read_final(frontier)
                    if followed and content is not None:
                        decode_manifest(content, self._group)
                        self._take_frontier(ends.values(), content)
            except UpdateNeededError:
                continue
            except (UntrustedInputError, CocoonError, ValueError, TypeError) as error:
                problem = f"what it says is damaged ({type(error).__name__})"
                self._tell("epoch", where, problem, "`cocoon rotate` begins another")

    def _take_frontier(self, ends: object, content: bytes) -> None:
        for end in list(ends):  # type: ignore[call-overload]
            known = self._frontier.get(end.device)
            if known is None or known[0].seq < end.seq:
                self._frontier[end.device] = end, content

    # --- the runs of one device

    def _check_device(self, raw_device: bytes) -> Iterator[None]:
        chain, steps = _Chain(), list[Step]()
        try:
            device = DeviceId(raw_device)
        except MalformedError:
            device = None
        rows = self._db.query_each(
            "SELECT id, last_seq, last_id, operation, wire FROM runs WHERE group_no=? AND device=? "
            "ORDER BY last_seq DESC, id DESC",
            (self._no, raw_device),
        )
        for number, last_seq, last_id, operation, wire in rows:
            self.checked.count("runs")
            run = self._read_run(number, wire, chain, steps)
            if run is None:
                continue
            self._check_columns(number, run, raw_device, last_seq, last_id, operation, chain, steps)
            self._check_documents_of(number, run, steps)
        self._do(steps)
        if device is not None:
            self._check_end(device, chain)
            self._check_heads(device, chain)
        yield

    def _read_run(self, number: int, wire: bytes, chain: _Chain, steps: list[Step]) -> Run | None:
        """The run, if it proves itself: by its own signature, or by the link of a later one that does."""
        where = f"run {number}"
        try:
            unverified = parse_run(wire, self._group)
        except UpdateNeededError as error:
            self._tell("newer", where, str(error), "install a newer Cocoon")
            return None
        except MalformedError as error:
            self._lose_run(number, wire, f"it cannot be read: {error}", chain, steps)
            return None
        run = _verified(unverified)
        signed = run is not None
        if run is None:
            run = self._linked(unverified, chain)
        if run is None:
            self._lose_run(number, wire, "its signature does not hold", chain, steps)
            return None
        later = chain.later
        if later is not None and run.first_seq < later.first_seq <= run.last_seq + 1:
            place = later.first_seq - 1 - run.first_seq
            if run.entries[place].id != later.entries[0].prev:
                self._tell("link", where, "the run after it names another entry before it", AGAIN)
        if chain.end is None and chain.newest is None and signed:
            chain.end = RunEnd(run.device, run.last_seq, run.last_id, run.heads_digest, run.signature)
        chain.later = run
        return run

    def _linked(self, unverified: UnverifiedRun, chain: _Chain) -> Run | None:
        later = chain.later
        if later is None or not unverified.first_seq < later.first_seq <= unverified.last_seq + 1:
            return None
        is_named = unverified.id_at(later.first_seq - 1) == later.entries[0].prev
        return unverified.stored() if is_named else None

    def _lose_run(self, number: int, wire: bytes, problem: str, chain: _Chain, steps: list[Step]) -> None:
        self._tell("run", f"run {number}", problem, AGAIN, repaired=self._repair)
        chain.lost = True
        chain.later = None

        def lose() -> None:
            named = self._db.query("SELECT document_no FROM document_runs WHERE run=?", (number,))
            self.holed.update(document for (document,) in named)
            set_aside(self._db, self._no, f"runs {number}", wire, self._clock())
            self._db.execute("DELETE FROM document_runs WHERE run=?", (number,))
            self._db.execute("DELETE FROM runs WHERE id=?", (number,))

        steps.append(lose)
        self._fetch = True

    def _check_columns(
        self,
        number: int,
        run: Run,
        device: bytes,
        last_seq: int,
        last_id: bytes,
        operation: int,
        chain: _Chain,
        steps: list[Step],
    ) -> None:
        """What stands beside a run for finding it. A run of which only the beginning stands keeps its lower end."""
        is_operation = run.entries[-1].kind is EntryKind.ROSTER
        seq = last_seq if run.first_seq <= last_seq <= run.last_seq else run.last_seq
        by_id = next((entry.seq for entry in run.entries if entry.id == last_id), None)
        if by_id is not None and by_id != seq:
            seq = by_id
        entry = run.entries[seq - run.first_seq]
        if chain.newest is None and run.device == device:
            chain.newest = seq, entry.id, entry.time_ms
            if seq != run.last_seq:
                chain.end = None
        wanted = bytes(run.device), seq, bytes(entry.id), int(is_operation)
        if wanted != (device, last_seq, last_id, operation):
            self._tell("run-index", f"run {number}", "what stands beside it is not what it says", repaired=self._repair)
            steps.append(
                lambda: self._run_sql(
                    "UPDATE runs SET device=?, last_seq=?, last_id=?, operation=? WHERE id=?", (*wanted, number)
                )
            )

    def _check_documents_of(self, number: int, run: Run, steps: list[Step]) -> None:
        for document, descriptor in run.descriptors.items():
            broken = self._unreadable.pop(document, None)
            if broken is not None:
                self._mend_descriptor(broken, document, descriptor, steps)
            row = self._db.query_one(
                "SELECT id, (SELECT count(*) FROM document_runs r WHERE r.document_no=d.id AND r.run=?) "
                "FROM documents d WHERE group_no=? AND document=?",
                (number, self._no, bytes(document)),
            )
            if (row is not None and row[1]) or self._is_covered(run, document, number):
                continue
            problem = f"run {number}, which changes it, is not named among its runs"
            self._tell("document-runs", f"document {document.hex()[:16]}", problem, repaired=self._repair)
            steps.append(lambda document=document, descriptor=descriptor: self._name_run(number, document, descriptor))  # type: ignore[misc]

    def _is_covered(self, run: Run, document: DocumentId, number: int) -> bool:
        """Whether other runs of the device, which this one overlaps, bring all that it says of the document."""
        seqs = [entry.seq for entry in run.entries if any(change.document == document for change in entry.changes)]
        others = self._db.query(
            "SELECT r.wire, r.last_seq FROM runs r JOIN document_runs d ON d.run=r.id JOIN documents x "
            "ON x.id=d.document_no WHERE r.group_no=? AND r.device=? AND r.id<>? AND x.document=? AND r.last_seq>=? "
            "ORDER BY r.last_seq LIMIT 4",
            (self._no, bytes(run.device), number, bytes(document), min(seqs, default=0)),
        )
        covered: set[int] = set()
        for wire, last_seq in others:
            try:
                other = parse_run(wire, self._group)
            except (MalformedError, UpdateNeededError):
                continue
            covered.update(range(other.first_seq, last_seq + 1))
        return covered.issuperset(seqs)

    def _name_run(self, number: int, document: DocumentId, descriptor: Descriptor) -> None:
        self._run_sql(
            "INSERT INTO documents (group_no, document, descriptor) VALUES (?,?,?) ON CONFLICT DO NOTHING",
            (self._no, bytes(document), encoding.encode(descriptor.to_value())),
        )
        self._run_sql(
            "INSERT OR IGNORE INTO document_runs (document_no, run) "
            "SELECT id, ? FROM documents WHERE group_no=? AND document=?",
            (number, self._no, bytes(document)),
        )

    # --- chains and heads

    def _check_end(self, device: DeviceId, chain: _Chain) -> None:
        """The end of a chain: the newest entry that a run, a manifest or an own pending entry proves."""
        found = chain.newest
        pinned = self._frontier.get(device)
        if pinned is not None and (found is None or pinned[0].seq > found[0]):
            found = pinned[0].seq, pinned[0].entry, 0
        if device == self._own:
            for seq, entry in self._db.query("SELECT seq, entry_id FROM pending WHERE group_no=?", (self._no,)):
                if found is None or seq > found[0]:
                    found = seq, EntryId(entry), self._clock()
        row = self._db.query_one(
            "SELECT last_seq, last_id, last_time_ms FROM chains WHERE group_no=? AND device=?",
            (self._no, bytes(device)),
        )
        self.checked.count("chains")
        if found is None or (row is not None and (row[0], row[1]) == (found[0], bytes(found[1]))):
            return
        where = f"device {device.hex()[:16]}"
        if row is not None and row[0] > found[0] and (device == self._own or not chain.lost):
            # An own chain is never shortened: its next entry would be a second one at that place. Nor is another's,
            # where no run was lost here: something else stands for what is between.
            if device == self._own:
                problem = f"its runs end at {found[0]}, and its chain at {row[0]}"
                self._tell("chain", where, problem, f"{AGAIN}; if it does not: {RESTORE}")
            return
        self._tell("chain", where, f"its chain does not end where its runs do, at {found[0]}", repaired=self._repair)
        end = ChainEnd(found[0], found[1], found[2])
        self._do([lambda: self._log.set_chain(device, end)])

    def _check_ends_without_runs(self) -> None:
        """Devices whose chain stands on a manifest alone, or is not there at all."""
        known = {raw for (raw,) in self._db.query("SELECT DISTINCT device FROM runs WHERE group_no=?", (self._no,))}
        for device in sorted(self._frontier):
            if bytes(device) not in known:
                chain = _Chain()
                self._check_end(device, chain)
                self._check_heads(device, chain)
        if bytes(self._own) not in known:
            self._check_end(self._own, _Chain())

    def _check_heads(self, device: DeviceId, chain: _Chain) -> None:
        """The heads of a device hash to what it signed at its newest end."""
        pinned = self._frontier.get(device)
        end = chain.end
        if pinned is not None and (end is None or pinned[0].seq > end.seq) and not self._is_above(chain, pinned[0].seq):
            end = pinned[0]
        if end is None:
            return
        try:
            if self._log.heads(device).digest() == end.digest:
                return
        except (MalformedError, CocoonError):
            pass
        if not self._is_level(device, end.seq):  # an entry that is missing here has its part in them
            return
        heads = self._compute_heads(device, end.seq)
        where = f"device {device.hex()[:16]}"
        if heads is None or heads.digest() != end.digest:
            if heads is None or sorted(heads.items()) != sorted(self._log.heads(device).items()):
                self._tell("heads", where, "its heads are not those that it signed, and cannot be computed here", AGAIN)
            return
        self._tell("heads", where, "its heads are not those that it signed", repaired=self._repair)

        def mend() -> None:
            self._db.execute("DELETE FROM heads WHERE group_no=? AND device=?", (self._no, bytes(device)))
            self._log.set_heads(device, heads.items())

        self._do([mend])

    def _is_level(self, device: DeviceId, seq: int) -> bool:
        """Whether the chain of a device goes no further than that, but for own entries that are in no run yet."""
        pending = self._db.query_value("SELECT min(seq) FROM pending WHERE group_no=?", (self._no,))
        if device == self._own and pending is not None:
            return bool(pending == seq + 1)
        last = self._db.query_value(
            "SELECT last_seq FROM chains WHERE group_no=? AND device=?", (self._no, bytes(device))
        )
        return bool(last == seq)

    def _is_above(self, chain: _Chain, seq: int) -> bool:
        return chain.newest is not None and chain.newest[0] > seq

    def _compute_heads(self, device: DeviceId, seq: int) -> DeviceHeads | None:
        """From a manifest's heads and the runs after it; None where a run between is not here."""
        heads, after = DeviceHeads(), -1
        pinned = self._frontier.get(device)
        if pinned is not None and pinned[0].seq <= seq:
            after = pinned[0].seq
            for state in decode_manifest(pinned[1], self._group).stored_documents():
                if device in state.heads:
                    number, change = state.heads[device]
                    heads.advance(state.descriptor.document_id(self._group), number, ChangeHash(change))
        for (wire,) in self._db.query_each(
            "SELECT wire FROM runs WHERE group_no=? AND device=? AND last_seq>? ORDER BY last_seq, id",
            (self._no, bytes(device), after),
        ):
            try:
                run = parse_run(wire, self._group).stored()
            except (MalformedError, UpdateNeededError):
                return None
            for entry in run.entries:
                if entry.seq == after + 1 and entry.seq <= seq:
                    advance_heads(heads, entry.changes)
                    after = entry.seq
        return heads if after == seq else None

    # --- what stands beside the log

    def _check_apart(self, table: str) -> None:
        """Runs apart, parked ones, operations in no chain, rekeys: each proves itself by its own signature."""
        key = {"side_runs": "last_id", "loose_runs": "id", "parked": "id", "rekeys": "seq || '-' || hex(device)"}[table]
        steps: list[Step] = []
        for name, wire in self._db.query_each(f"SELECT {key}, wire FROM {table} WHERE group_no=?", (self._no,)):
            self.checked.count(table)
            shown = name.hex()[:16] if isinstance(name, bytes) else str(name)
            try:
                run = verify_run(parse_run(wire, self._group))
                if table != "side_runs" or bytes(run.last_id) == name:
                    continue
                problem = "it is under the name of another"
            except UpdateNeededError:
                continue
            except (MalformedError, SignatureError) as error:
                problem = f"it does not prove itself: {error}"
            self._tell("run", f"{table} {shown}", problem, AGAIN, repaired=self._repair)
            steps.append(lambda name=name, wire=wire: self._lose_apart(table, key, name, wire))  # type: ignore[misc]
            self._fetch = True
        self._do(steps)

    def _lose_apart(self, table: str, key: str, name: object, wire: bytes) -> None:
        set_aside(self._db, self._no, f"{table} {name!r}"[:80], wire, self._clock())
        if table == "loose_runs":
            self._run_sql("DELETE FROM document_runs WHERE run=-?", (name,))
        self._run_sql(f"DELETE FROM {table} WHERE group_no=? AND {key}=?", (self._no, name))

    def _check_names_of_runs(self) -> None:
        """Documents name no run that is not here."""
        where_sql = (
            "FROM document_runs WHERE document_no IN (SELECT id FROM documents WHERE group_no=?) AND ((run>0 AND NOT "
            "EXISTS (SELECT 1 FROM runs r WHERE r.id=run AND r.group_no=?)) OR (run<=0 AND NOT EXISTS (SELECT 1 FROM "
            "loose_runs l WHERE l.id=-run AND l.group_no=?)))"
        )
        values = (self._no, self._no, self._no)
        number = int(self._db.query_value(f"SELECT count(*) {where_sql}", values))
        if number:
            self._tell(
                "document-runs", "documents", f"they name {number} runs that are not here", repaired=self._repair
            )
            self._do([lambda: self._run_sql(f"DELETE {where_sql}", values)])

    def _check_outbox(self) -> None:
        """What waits for a relay is found by the id of its last entry."""
        steps: list[Step] = []
        rows = self._db.query(
            "SELECT o.relay, o.run, o.last_id, r.wire FROM outbox o JOIN runs r ON r.id=o.run "
            "WHERE o.group_no=? AND o.last_id<>r.last_id",
            (self._no,),
        )
        self.checked.count(
            "outbox", int(self._db.query_value("SELECT count(*) FROM outbox WHERE group_no=?", (self._no,)))
        )
        for relay, number, last_id, wire in rows:
            try:
                wanted = bytes(parse_run(wire, self._group).last_id)  # of one that was cut, the whole is sent
            except (MalformedError, UpdateNeededError):
                continue
            if wanted != last_id:
                self._tell("outbox", f"run {number}", "it waits under another name", repaired=self._repair)
                steps.append(
                    lambda wanted=wanted, relay=relay, number=number: self._run_sql(  # type: ignore[misc]
                        "UPDATE outbox SET last_id=?, acked=NULL WHERE group_no=? AND relay=? AND run=?",
                        (wanted, self._no, relay, number),
                    )
                )
        self._do(steps)

    # --- descriptors

    def _find_unreadable_documents(self) -> None:
        rows = self._db.query_each("SELECT id, document, descriptor FROM documents WHERE group_no=?", (self._no,))
        for number, document, raw in rows:
            try:
                if descriptor_from_value(encoding.decode(raw)).document_id(self._group) == document:
                    continue
            except (MalformedError, ValueError, TypeError):
                pass
            try:
                self._unreadable[DocumentId(document)] = number
            except MalformedError:
                self._tell("document", f"document {number}", "its id is none", RESTORE)

    def _tell_unreadable_documents(self) -> None:
        """Those that no run describes may stand in a manifest."""
        steps: list[Step] = []
        contents = {content for _, content in self._frontier.values()}
        for content in contents if self._unreadable else ():
            for state in decode_manifest(content, self._group).stored_documents():
                document = state.descriptor.document_id(self._group)
                broken = self._unreadable.pop(document, None)
                if broken is not None:
                    self._mend_descriptor(broken, document, state.descriptor, steps)
        self._do(steps)
        for document in self._unreadable:
            self._tell("document", f"document {document.hex()[:16]}", "what it is cannot be read", RESTORE)

    def _mend_descriptor(self, number: int, document: DocumentId, descriptor: Descriptor, steps: list[Step]) -> None:
        where = f"document {document.hex()[:16]}"
        self._tell("document", where, "what it is cannot be read", repaired=self._repair)
        raw = encoding.encode(descriptor.to_value())
        steps.append(lambda: self._run_sql("UPDATE documents SET descriptor=? WHERE id=?", (raw, number)))

    # --- inside

    def _fetch_again(self) -> None:
        """Have every relay show its topics from their start at the next sync."""
        topics = [topic for (topic,) in self._db.query("SELECT topic FROM epochs WHERE group_no=?", (self._no,))]
        for (relay,) in self._db.query("SELECT url FROM relays WHERE group_no=?", (self._no,)):
            for topic in topics:
                self._log.note_missed(relay, topic, 1)

    def _tell(self, what: str, where: str, problem: str, advice: str = _NOTHING, *, repaired: bool = False) -> None:
        shown = advice if repaired or advice != _NOTHING else "run `cocoon check` without --no-repair"
        self.checked.findings.append(Finding(what, where, problem, repaired, shown))

    def _do(self, steps: list[Step]) -> None:
        if self._repair and steps:
            with self._db.transaction():
                for step in steps:
                    step()

    def _run_sql(self, sql: str, values: tuple[object, ...]) -> None:
        self._db.execute(sql, values)  # type: ignore[arg-type]


def _verified(unverified: UnverifiedRun) -> Run | None:
    try:
        return verify_run(unverified)
    except SignatureError:
        return None
