"""What counts: standings, finality, what others built on, snapshots; and that only what is concerned is built anew."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cocoon_core.documents import Document
from cocoon_core.errors import MalformedError, NotPermittedError, UsageError
from cocoon_core.protocol.descriptor import Descriptor, actor_of
from cocoon_core.protocol.entry import EntryKind
from cocoon_core.protocol.operation_forms import Pin, Role
from cocoon_core.protocol.operations import SetRole
from cocoon_core.protocol.operations_devices import Leave, RemoveDevice, RemoveMember, ReplaceDevice
from cocoon_core.protocol.part import PackedChange, open_part, pack_parts, read_sections
from cocoon_core.protocol.primitives import Secret
from cocoon_core.protocol.snapshot import seal_part
from cocoon_core.storage.documents import DocumentRecord
from cocoon_core.sync import shelf
from cocoon_core.sync.arrivals import hash_of
from cocoon_core.sync.events import EntriesWithdrawn
from cocoon_core.sync.members import ALL, NONE, Members
from cocoon_core.sync.pins import pin_devices
from cocoon_core.sync.shelf import Said, Shelf
from tests.support.flips import flip
from tests.support.peers import Peer, Peers
from tests.support.world import ADMIN, SHARED


@pytest.fixture
def peers(tmp_path: Path) -> Iterator[Peers]:
    made = Peers(tmp_path)
    yield made
    made.close()


def remove(by: Peer, target: Peer, pins: tuple[Pin, ...] | None = None) -> None:
    chosen = pin_devices(by.replica, [target.device]) if pins is None else pins
    by.replica.write_operation(RemoveMember(target.member, chosen))


def record_of(peer: Peer, descriptor: Descriptor) -> DocumentRecord:
    record = peer.replica.documents.find(descriptor.document_id(peer.replica.group))
    assert record is not None
    return record


def count_rebuilds(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    built: list[Any] = []
    rebuild = Shelf.rebuild

    def counted(self: Shelf, record: DocumentRecord, *, tell: bool = True) -> Any:
        built.append(record.descriptor.name)
        return rebuild(self, record, tell=tell)

    monkeypatch.setattr(Shelf, "rebuild", counted)
    return built


# --- standings


def test_a_device_that_is_out_counts_up_to_its_pin(peers: Peers) -> None:
    ana, ben, mal = peers.found("Ana", "Ben", "Mal")
    mal.edit(mal.diary(), "known", 1)
    peers.level()
    mal.edit(mal.diary(), "unknown", 2)
    remove(ana, mal)
    peers.level()
    end = ana.replica.members.roster.former_devices[mal.device].pin
    assert end is not None
    for peer in (ana, ben, mal):
        assert peer.plain(mal.diary()) == {"known": 1}
        assert peer.replica.members.standing(mal.device) == (mal.member, end.seq, NONE)
        assert peer.replica.members.standing(ana.device) == (ana.member, ALL, ALL)
        assert peer.replica.members.standing(ben.device) == (ben.member, ALL, NONE)


def test_who_was_an_admin_when_removed_keeps_what_an_admin_wrote(peers: Peers) -> None:
    ana, ben, mal = peers.found("Ana", "Ben", "Mal", admins=["Mal"])
    with mal.replica.change(ADMIN) as root:
        root["rules"]["quiet"] = "after ten"
    peers.level()
    remove(ana, mal)
    peers.level()
    for peer in (ana, ben):
        assert peer.plain(ADMIN)["rules"] == {"quiet": "after ten"}


def test_a_removal_that_knew_everything_builds_nothing_anew(peers: Peers, monkeypatch: pytest.MonkeyPatch) -> None:
    ana, ben, mal = peers.found("Ana", "Ben", "Mal")
    for number in range(3):
        mal.edit(mal.diary(), str(number), number)
        mal.edit(SHARED, str(number), number)
    peers.level()
    built = count_rebuilds(monkeypatch)
    remove(ana, mal)
    peers.level()
    assert built == []
    assert ben.plain(SHARED)["items"] == {"0": 0, "1": 1, "2": 2}


def test_only_the_documents_beyond_the_pin_are_built_anew(peers: Peers, monkeypatch: pytest.MonkeyPatch) -> None:
    ana, ben, mal = peers.found("Ana", "Ben", "Mal")
    mal.edit(mal.diary(), "known", 1)
    peers.level()
    mal.edit(SHARED, "unknown", 2)
    ben.take(run.wire for run in mal.runs())
    events: list[Any] = []
    ben.replica.listen(events.append)
    remove(ana, mal)
    built = count_rebuilds(monkeypatch)
    ben.take(run.wire for run in ana.runs())
    assert built == ["list"]
    (withdrawn,) = [event for event in events if isinstance(event, EntriesWithdrawn)]
    assert withdrawn == EntriesWithdrawn(mal.device, mal.member, 1, frozenset({record_of(ben, SHARED).document}))


def test_a_demotion_concerns_admin_documents_alone(peers: Peers, monkeypatch: pytest.MonkeyPatch) -> None:
    ana, ben, mal = peers.found("Ana", "Ben", "Mal", admins=["Mal"])
    mal.edit(SHARED, "shared", 1)
    with mal.replica.change(ADMIN) as root:
        root["rules"]["of mal"] = 1
    ben.take(run.wire for run in mal.runs())
    ana.replica.write_operation(SetRole(mal.member, Role.MEMBER))
    built = count_rebuilds(monkeypatch)
    ben.take(run.wire for run in ana.runs())
    assert built == ["rules"]
    assert ben.plain(SHARED)["items"] == {"shared": 1}
    assert ben.plain(ADMIN)["rules"] == {}


def test_a_chain_begins_with_what_lets_its_device_in_or_after_somebody_elses_word(peers: Peers) -> None:
    ana, ben = peers.found("Ana", "Ben")
    other = peers.add_device(ben, "other")
    other.edit(SHARED, "of the other", 1)
    peers.level()
    assert ana.plain(SHARED)["items"] == {"of the other": 1}
    assert ana.replica.members.member_of(other.device) == ben.member
    first = other.runs()[0].entries[0]
    assert first.seq == 0
    assert first.kind is EntryKind.CHANGE
    assert ana.replica.members.introduces(first)
    fresh = Members(ana.replica.group)
    assert not fresh.introduces(first)
    for runs in (ana.runs(), ben.runs()):
        entry = runs[0].entries[0]
        assert fresh.introduces(entry)  # create, join
    replace = ReplaceDevice.make(ben.keys.signing, ana.replica.group, other.device, other.keys.hpke_public)
    assert fresh.introduces(first._replace(kind=EntryKind.ROSTER, body=replace.encode_body(), changes=()))
    leave = Leave()
    assert not fresh.introduces(first._replace(kind=EntryKind.ROSTER, body=leave.encode_body(), changes=()))


# --- chains of dependencies


@pytest.mark.parametrize("order", [0, 1])
def test_a_members_other_device_keeps_what_it_built_on(peers: Peers, order: int) -> None:
    """Two devices of Ben; one is removed by Ana, who lacks its last entry, on which the other one built."""
    ana, ben, chi = peers.found("Ana", "Ben", "Chi")
    other = peers.add_device(ben, "other")
    diary = ben.diary()
    ben.edit(diary, "known", 1)
    peers.level()
    ben.edit(diary, "unknown", 2)
    other.take(run.wire for run in ben.runs())
    other.edit(diary, "of the other", 3)
    ben.edit(diary, "after that", 4)
    ana.replica.write_operation(RemoveDevice(ben.device, pin_devices(ana.replica, [ben.device])))
    parts = [[run.wire for run in peer.runs()] for peer in (ben, other)]
    for part in (parts, list(reversed(parts)))[order]:
        chi.take(part)
    chi.take(run.wire for run in ana.runs())
    peers.level()
    for peer in (ana, chi, other):
        assert peer.plain(diary) == {"known": 1, "unknown": 2, "of the other": 3}, peer.name
    assert ana.documents() == chi.documents() == other.documents()


def test_what_a_counting_change_calls_late_is_there_after_a_crash(peers: Peers) -> None:
    """The cache was written before: what it lacks is in an earlier run than the one that it names."""
    ana, ben, mal = peers.found("Ana", "Ben", "Mal")
    ana.edit(SHARED, "first", 1)
    peers.level()
    mal.edit(SHARED, "of mal", 2)
    ben.take(run.wire for run in mal.runs())
    ben.edit(SHARED, "of ben", 3)
    remove(ana, mal)
    ana.take(run.wire for run in mal.runs())
    with ana.replica.transaction():
        ana.replica.shelf.save_caches(at_least=1)
    assert ana.plain(SHARED)["items"] == {"first": 1}
    ana.take(run.wire for run in ben.runs())
    assert ana.plain(SHARED)["items"] == {"first": 1, "of mal": 2, "of ben": 3}
    ana.open()  # without a close, as after a crash
    assert ana.plain(SHARED)["items"] == {"first": 1, "of mal": 2, "of ben": 3}


def test_what_waited_when_the_cache_was_written_is_there_after_a_crash(peers: Peers) -> None:
    ana, ben, chi = peers.found("Ana", "Ben", "Chi")
    ben.edit(SHARED, "of ben", 1)
    chi.take(run.wire for run in ben.runs())
    chi.edit(SHARED, "of chi", 2)
    ana.edit(SHARED, "of ana", 3)
    ana.replica.form_runs()
    ana.take(run.wire for run in chi.runs())  # waits for ben's
    with ana.replica.transaction():
        ana.replica.shelf.save_caches(at_least=1)
    ana.take(run.wire for run in ben.runs())
    assert ana.plain(SHARED)["items"] == {"of ana": 3, "of ben": 1, "of chi": 2}
    ana.open()
    assert ana.plain(SHARED)["items"] == {"of ana": 3, "of ben": 1, "of chi": 2}


# --- finality


def test_what_is_final_is_not_withdrawn_by_a_lower_pin(peers: Peers) -> None:
    ana, ben, mal = peers.found("Ana", "Ben", "Mal")
    pins = pin_devices(ana.replica, [mal.device])
    mal.edit(mal.diary(), "final", 1)
    peers.level()
    end = ana.replica.chains[mal.device]
    mal.edit(mal.diary(), "not final", 2)
    peers.level()
    for peer in (ana, ben):
        with peer.replica.transaction():
            peer.replica.members.set_final({mal.device: end.last_seq}, frozenset(), {mal.device: end.last_id})
    remove(ana, mal, pins)
    ben.take(run.wire for run in ana.runs())
    for peer in (ana, ben):
        assert peer.plain(mal.diary()) == {"final": 1}
    before = ana.replica.members.standings()
    with ana.replica.transaction():  # another path is chosen, where that is not final
        ana.replica.members.set_final({})
        ana.replica.follow_standings(before)
    assert ana.plain(mal.diary()) == {}


# --- snapshots


def pack(peer: Peer, descriptor: Descriptor) -> list[Said]:
    counting = peer.replica.shelf.counting_changes(record_of(peer, descriptor))
    return [Said(arrival.device, arrival.change.raw, arrival.seq) for arrival in counting]


def adopt(peer: Peer, descriptor: Descriptor, changes: list[Said]) -> bool:
    """Take what a page says, as it would be read of a manifest; what cannot be packed is said without a page."""
    replica = peer.replica
    document = descriptor.document_id(replica.group)
    with replica.transaction():
        try:
            (part,) = pack_parts([(document, changes)])
        except UsageError:
            packed = [PackedChange(one.device, one.raw, hash_of(one.raw), 1, one.seq) for one in changes]
            return replica.shelf.adopt_snapshot(descriptor, packed)
        ref, _ = seal_part(part.data, Secret(bytes(32)), replica.group)
        packed = read_sections(document, [open_part(part.data)[document]])
        number = replica.snapshots.add_page(ref, len(packed), part.data)
        return replica.shelf.adopt_snapshot(descriptor, packed, [number])


def newcomer(peers: Peers) -> tuple[Peer, Peer, Peer]:
    """Ana and Ben wrote; Chi has their operations, and nothing of what they wrote."""
    ana, ben, chi = peers.found("Ana", "Ben", "Chi")
    for number in range(4):
        ana.edit(SHARED, f"a{number}", number)
        ben.take(run.wire for run in ana.runs())
        ben.edit(SHARED, f"b{number}", number)
        ana.take(run.wire for run in ben.runs())
    return ana, ben, chi


def test_a_snapshot_is_the_document_and_survives(peers: Peers) -> None:
    ana, _, chi = newcomer(peers)
    changes = pack(ana, SHARED)
    assert adopt(chi, SHARED, changes)
    assert chi.plain(SHARED) == ana.plain(SHARED)
    assert pack(chi, SHARED) == changes
    with chi.replica.transaction():
        chi.replica.shelf.rebuild(record_of(chi, SHARED))
    chi.open()
    assert chi.plain(SHARED) == ana.plain(SHARED)
    chi.edit(SHARED, "of chi", 1)
    ana.take(run.wire for run in chi.runs())
    assert ana.plain(SHARED)["items"]["of chi"] == 1
    with chi.replica.transaction():
        chi.replica.shelf.save_caches(at_least=1)
    chi.open()
    assert chi.plain(SHARED) == ana.plain(SHARED)


def test_runs_that_say_what_a_snapshot_said_change_nothing(peers: Peers) -> None:
    ana, ben, chi = newcomer(peers)
    changes = pack(ana, SHARED)
    adopt(chi, SHARED, changes)
    ben.edit(SHARED, "later", 9)
    peers.level()
    assert chi.documents() == ana.documents() == ben.documents()
    assert not adopt(chi, SHARED, changes)
    assert not adopt(ben, SHARED, changes)
    assert ben.replica.snapshots.get(record_of(ben, SHARED).number) is None  # its runs say it all
    assert chi.documents() == ben.documents()


@pytest.mark.parametrize("final", [-1, 1, 9], ids=["nothing final", "a part final", "all final"])
def test_what_a_snapshot_said_counts_as_its_entries_do_whoever_is_removed_later(peers: Peers, final: int) -> None:
    """Whoever has the entries and whoever has the snapshot alone must show the same."""
    ana, ben, chi = newcomer(peers)
    adopt(chi, SHARED, pack(ana, SHARED))
    operations = [run for run in ben.runs() if run.entries[-1].kind is EntryKind.ROSTER]
    chi.take(run.wire for run in operations)
    end = min(final, ana.replica.chains[ben.device].last_seq)
    entry = ana.replica.known_id(ben.device, end)
    for peer in (ana, chi):
        with peer.replica.transaction():
            peer.replica.members.set_final({ben.device: end} if entry else {}, ids={ben.device: entry} if entry else {})
    with chi.replica.transaction():  # as whoever follows the manifest has them
        chi.replica.set_heads(ben.device, ana.replica.heads_of(ben.device))
    before = ana.plain(SHARED)["items"]
    remove(ana, ben, ())
    chi.take(run.wire for run in ana.runs())
    assert chi.plain(SHARED)["items"] == ana.plain(SHARED)["items"]
    assert (ana.plain(SHARED)["items"] == before) == (final == 9)


def test_what_an_earlier_snapshot_said_besides_stays(peers: Peers) -> None:
    ana, _, chi = newcomer(peers)
    changes = pack(ana, SHARED)
    adopt(chi, SHARED, changes)
    adopt(chi, SHARED, changes[:3])
    assert sorted(pack(chi, SHARED)) == sorted(changes)


def test_who_was_no_admin_changes_no_admin_document_by_way_of_a_snapshot(peers: Peers) -> None:
    """A member signed a change that nobody counts, and another packs it: a newcomer must not count it either."""
    ana, ben, chi = newcomer(peers)
    with ana.replica.change(ADMIN) as root:
        root["rules"]["of ana"] = 1
    document = ADMIN.document_id(ana.replica.group)
    forged = Document(ADMIN, document, actor_of(ben.device, document))
    edit = forged.change()
    with edit as root:
        root["rules"]["of ben"] = 1
    assert edit.change is not None
    assert adopt(chi, ADMIN, [*pack(ana, ADMIN), Said(ben.device, edit.change.raw, 0)])
    assert chi.plain(ADMIN)["rules"] == {"of ana": 1}


@pytest.mark.parametrize("spoil", ["gap", "twin", "another's", "too large"])
def test_a_snapshot_that_the_gate_refuses_changes_nothing(
    peers: Peers, spoil: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana, ben, chi = newcomer(peers)
    changes = pack(ana, SHARED)
    bad = {
        "gap": changes[:2] + changes[3:],
        "twin": [*changes, changes[-1]._replace(raw=flip(changes[-1].raw))],
        "another's": [changes[0]._replace(device=ben.device), *changes[1:]],
        "too large": changes,
    }[spoil]
    if spoil == "too large":
        monkeypatch.setattr(shelf, "MAX_SNAPSHOT_BYTES", 100)
    with pytest.raises((MalformedError, NotPermittedError)):
        adopt(chi, SHARED, bad)
    assert chi.documents() == {}
    peers.level()
    assert chi.documents() == ana.documents()
