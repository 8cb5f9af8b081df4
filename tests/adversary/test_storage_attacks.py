"""Attacks on what a device keeps: a searched disk (38), a guessed or cheapened passphrase (39), a disk that fails (44).

Each attack also runs once against a build that was weakened on purpose, where it must be seen to succeed.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import resource
import secrets
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import pytest

from cocoon_core.errors import (
    LocalStateError,
    ProfileDamagedError,
    StorageFullError,
    UsageError,
    WrongPassphraseError,
)
from cocoon_core.protocol.primitives import Secret
from cocoon_core.storage import database as database_module
from cocoon_core.storage import passphrase as passphrase_module
from cocoon_core.storage.database import Database
from cocoon_core.storage.keyfile import compute_check, decode_key_file
from cocoon_core.storage.passphrase import COST_FLOOR, Cost
from cocoon_core.storage.profile import Profile
from tests.support.storage_children import PASSPHRASE, plant, plant_until_killed
from tests.support.watched_disk import WatchedDisk

KEY = Secret(bytes(range(32)))
TEMPORARY = (
    apsw.SQLITE_OPEN_TEMP_DB
    | apsw.SQLITE_OPEN_TRANSIENT_DB
    | apsw.SQLITE_OPEN_TEMP_JOURNAL
    | apsw.SQLITE_OPEN_SUBJOURNAL
    | apsw.SQLITE_OPEN_DELETEONCLOSE
)

# --- 38: search database, WAL, temporary files, logs and caches for canaries → none


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory for temporary files of this process and those it starts, SQLite's among them."""
    directory = tmp_path / "temporary"
    directory.mkdir()
    for name in ("TMPDIR", "SQLITE_TMPDIR", "TEMP", "TMP"):
        monkeypatch.setenv(name, str(directory))
    tempfile.tempdir = None
    yield directory
    tempfile.tempdir = None


def make_canaries() -> list[str]:
    return [f"canary-{secrets.token_hex(8)}-ünïcode" for _ in range(3)]


def forms_of(canary: str) -> list[bytes]:
    return [canary.encode(), canary.encode("utf-16-le"), canary.split("-")[1].encode(), canary.upper().encode()]


def find_canaries(data: bytes, canaries: list[str]) -> list[str]:
    return [canary for canary in canaries if any(form in data for form in forms_of(canary))]


def search(directory: Path, canaries: list[str]) -> dict[str, list[str]]:
    """The files below a directory in which, or in whose names, a canary stands."""
    found = {}
    for path in directory.rglob("*"):
        data = path.name.encode() + (path.read_bytes() if path.is_file() else b"")
        if hits := find_canaries(data, canaries):
            found[path.name] = hits
    return found


def test_attack_38_a_killed_process_leaves_no_canary_on_the_disk(tmp_path: Path, temporary: Path) -> None:
    canaries = make_canaries()
    Profile.create(tmp_path / "home", PASSPHRASE, cost=COST_FLOOR).close()
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=plant_until_killed, args=(tmp_path / "home", canaries, theirs))
    child.start()
    theirs.close()
    process = ours.recv()
    # While it runs: also what is unlinked and still open.
    opened = {link.readlink().name: link for link in Path(f"/proc/{process}/fd").iterdir() if link.is_file()}
    assert {"profile.db", "profile.db-wal", "profile.lock"} <= set(opened)
    assert [name for name, link in opened.items() if find_canaries(link.read_bytes(), canaries)] == []
    assert search(tmp_path, canaries) == {}
    child.kill()
    child.join()
    assert (tmp_path / "home" / "profile.db-wal").stat().st_size > 100_000
    assert search(tmp_path, canaries) == {}
    assert list(temporary.iterdir()) == []
    with Profile.open(tmp_path / "home", PASSPHRASE) as profile:
        assert profile.database.query_value("SELECT count(*) FROM planted WHERE author = ?", (canaries[0],)) > 0
        profile.database.move_log()
        assert search(tmp_path, canaries) == {}
    assert search(tmp_path, canaries) == {}


def plant_watched(path: Path, canaries: list[str]) -> WatchedDisk:
    """Do all that `plant` does on a watched disk."""
    path.touch()
    disk = WatchedDisk()
    database = Database.open(path, KEY, vfs=disk.vfs_name)
    plant(database, canaries)
    database.execute("VACUUM")
    database.close()
    return disk


def hits_in_writes(disk: WatchedDisk, canaries: list[str]) -> list[str]:
    return [event.name for event in disk.events if find_canaries(event.data, canaries)]


def test_attack_38_no_write_that_ever_reached_the_disk_held_a_canary(tmp_path: Path) -> None:
    canaries = make_canaries()
    disk = plant_watched(tmp_path / "profile.db", canaries)
    assert sum(event.kind == "write" for event in disk.events) > 100
    assert {event.name for event in disk.events} == {"profile.db", "profile.db-journal", "profile.db-wal"}
    assert not [flags for flags in disk.opened_flags if flags & TEMPORARY]
    assert hits_in_writes(disk, canaries) == []


def test_attack_38_is_seen_to_succeed_where_the_key_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "_set_key", lambda connection, key: None)
    canaries = make_canaries()
    disk = plant_watched(tmp_path / "profile.db", canaries)
    assert {"profile.db", "profile.db-wal"} <= set(hits_in_writes(disk, canaries))
    assert search(tmp_path, canaries)["profile.db"] == canaries


def test_attack_38_no_key_and_no_passphrase_stands_in_any_file(tmp_path: Path, temporary: Path) -> None:
    with Profile.create(tmp_path / "home", "a passphrase to look for", cost=COST_FLOOR) as profile:
        key = profile._key.reveal()
        profile.database.execute("CREATE TABLE t (x)")
        files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    files += [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) >= 7
    for data in files:
        assert key not in data
        assert key.hex().encode() not in data.lower()
        assert b"passphrase to look for" not in data
    for shown in (repr(profile), repr(profile._key), repr(profile.database), str(vars(Profile))):
        assert key.hex() not in shown


# --- 39: wrong passphrase → one clear error; the cost has a floor and cannot be lowered by editing the file


@pytest.fixture
def home(tmp_path: Path) -> Path:
    with Profile.create(tmp_path / "home", PASSPHRASE, cost=COST_FLOOR) as profile:
        profile.database.execute("CREATE TABLE t (x)")
    return tmp_path / "home"


def edit_key_file(home: Path, **changes: object) -> None:
    """Change fields as someone would who knows the format: the check holds again."""
    fields = json.loads((home / "profile.key").read_text()) | changes
    (home / "profile.key").write_text(json.dumps(fields | {"check": compute_check(fields)}))


def test_attack_39_a_wrong_passphrase_is_one_clear_error(home: Path) -> None:
    before = {path.name: path.read_bytes() for path in home.iterdir()}
    messages = set()
    for guess in ("wrong", PASSPHRASE + " ", PASSPHRASE[:-1], PASSPHRASE.upper(), "x" * 10_000):
        with pytest.raises(WrongPassphraseError) as caught:
            Profile.open(home, guess)
        messages.add(str(caught.value))
    assert messages == {"The passphrase does not open this profile."}
    assert {path.name: path.read_bytes() for path in home.iterdir()} == before
    Profile.open(home, PASSPHRASE).close()


CHEAPER = [
    {"ops": COST_FLOOR.ops - 1},
    {"memory_kib": COST_FLOOR.memory_kib - 1},
    {"ops": 1, "memory_kib": 8},
    {"ops": 0, "memory_kib": 0},
    {"ops": 2**31 - 1, "memory_kib": 8},
]


@pytest.mark.parametrize("changes", CHEAPER)
def test_attack_39_a_cost_lowered_by_editing_is_refused_before_anything_is_computed(
    home: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object]
) -> None:
    edit_key_file(home, **changes)
    monkeypatch.setattr(passphrase_module, "argon2id", lambda *_: pytest.fail("it computed"))
    with pytest.raises(ProfileDamagedError, match=r"profile\.key was changed"):
        Profile.open(home, PASSPHRASE)


def test_attack_39_a_cost_raised_to_hang_or_exhaust_the_device_is_refused(home: Path) -> None:
    for changes in ({"ops": 2**31 - 1}, {"memory_kib": 2**31 - 1}):
        edit_key_file(home, **changes)
        with pytest.raises(ProfileDamagedError):
            Profile.open(home, PASSPHRASE)
        edit_key_file(home, ops=COST_FLOOR.ops, memory_kib=COST_FLOOR.memory_kib)
    Profile.open(home, PASSPHRASE).close()


def test_attack_39_no_call_seals_under_the_floor(home: Path, tmp_path: Path) -> None:
    cheap = Cost(COST_FLOOR.ops, COST_FLOOR.memory_kib - 1)
    with pytest.raises(UsageError):
        Profile.create(tmp_path / "other", PASSPHRASE, cost=cheap)
    with Profile.open(home, PASSPHRASE) as profile, pytest.raises(UsageError):
        profile.change_passphrase("new", cost=cheap)


def test_attack_39_another_cost_above_the_floor_does_not_open_it_either(home: Path) -> None:
    edit_key_file(home, ops=COST_FLOOR.ops + 1)
    with pytest.raises(WrongPassphraseError):
        Profile.open(home, PASSPHRASE)


def test_attack_39_an_edit_that_leaves_the_check_is_damage_and_not_a_wrong_passphrase(home: Path) -> None:
    text = (home / "profile.key").read_text()
    (home / "profile.key").write_text(text.replace(f'"ops": {COST_FLOOR.ops}', f'"ops": {COST_FLOOR.ops + 1}'))
    with pytest.raises(ProfileDamagedError):
        Profile.open(home, PASSPHRASE)


def test_attack_39_is_seen_to_succeed_where_the_floor_is_removed(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passphrase_module, "COST_FLOOR", Cost(0, 0))
    cheap = Cost(1, 8)
    Profile.create(tmp_path / "cheap", PASSPHRASE, cost=cheap).close()
    Profile.open(tmp_path / "cheap", PASSPHRASE).close()
    sealed = decode_key_file((tmp_path / "cheap" / "profile.key").read_bytes()).sealed
    assert sealed is not None
    assert sealed.cost == cheap
    edit_key_file(home, ops=1, memory_kib=8)
    with pytest.raises(WrongPassphraseError):  # it was computed at the edited cost
        Profile.open(home, PASSPHRASE)


# --- 44: disk full, EIO, no file descriptors, at each call → clear refusal; nothing acknowledged is lost

ROWS = 6


class Store:
    """A writer that meets a failing disk as the product would: told clearly, it tries again when there is room."""

    def __init__(self, path: Path, disk: WatchedDisk, mend: Callable[[], None]) -> None:
        self.path, self.disk, self.mend = path, disk, mend
        self.database: Database | None = None
        self.refusals: list[LocalStateError] = []

    def attempt(self, work: Callable[[Database], None]) -> None:
        """Do one transaction; refused, mend the disk and do it again in the same process."""
        try:
            self._try(work)
        except LocalStateError as error:
            self.refusals.append(error)
            self.mend()
            self._try(work)

    def _try(self, work: Callable[[Database], None]) -> None:
        if self.database is None:
            self.database = Database.open(self.path, KEY, vfs=self.disk.vfs_name)
        try:
            work(self.database)
        except LocalStateError as error:
            if "closed" in str(error):
                self.database = None
            raise


def add_pair(number: int) -> Callable[[Database], None]:
    def work(database: Database) -> None:
        with database.transaction():
            database.execute("INSERT INTO left_half VALUES (?, ?)", (number, bytes([number]) * 6_000))
            database.execute("INSERT INTO right_half VALUES (?)", (number,))

    return work


def make_tables(path: Path) -> None:
    path.touch()
    with contextlib.closing(Database.open(path, KEY)) as database:
        database.execute("CREATE TABLE left_half (number INTEGER PRIMARY KEY, raw BLOB)")
        database.execute("CREATE TABLE right_half (number INTEGER PRIMARY KEY)")


def work_through(path: Path, fail: Callable[[int, str], Exception | None], lasting: bool) -> Store:
    """Commit all rows on a disk that fails, moving the log half way, and close; in the end all are acknowledged."""
    make_tables(path)
    disk = WatchedDisk()

    def mend() -> None:
        disk.fail = lambda number, kind: None

    store = Store(path, disk, mend if lasting else lambda: None)
    disk.fail = fail
    for number in range(ROWS):
        store.attempt(add_pair(number))
        if number == ROWS // 2:
            store.attempt(lambda database: database.move_log())
    if store.database is not None:
        store.database.close()
    return store


def stored_rows(path: Path) -> tuple[list[int], list[int], str]:
    with contextlib.closing(Database.open(path, KEY)) as database:
        entries = [number for (number,) in database.query("SELECT number FROM left_half ORDER BY number")]
        chain = [number for (number,) in database.query("SELECT number FROM right_half ORDER BY number")]
        return entries, chain, database.query_value("PRAGMA integrity_check")


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "until mended"])
@pytest.mark.parametrize("error", [apsw.FullError, apsw.IOError])
def test_attack_44_each_call_fails_in_turn_and_nothing_acknowledged_is_lost(
    tmp_path: Path, error: type[apsw.Error], lasting: bool
) -> None:
    whole = work_through(tmp_path / "whole.db", lambda number, kind: None, lasting)
    assert whole.refusals == []
    assert whole.disk.calls > 50
    refused = 0
    for place in range(whole.disk.calls):

        def fail(number: int, kind: str, place: int = place) -> Exception | None:
            hit = number >= place if lasting else number == place
            return error("no") if hit else None

        path = tmp_path / f"{place}.db"
        store = work_through(path, fail, lasting)
        assert all(isinstance(refusal, LocalStateError) for refusal in store.refusals)
        refused += bool(store.refusals)
        assert stored_rows(path) == (list(range(ROWS)), list(range(ROWS)), "ok"), place
    assert refused > 20


def test_attack_44_a_full_disk_refuses_whole_transactions_and_the_process_goes_on(home: Path) -> None:
    acknowledged, blob = [], bytes(2_000)
    with Profile.open(home, PASSPHRASE) as profile:
        database = profile.database
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, limits[1]))
        try:
            refusals = 0
            for number in range(400):
                try:
                    with database.transaction():
                        database.execute("INSERT INTO t VALUES (?)", (number,))
                        database.executemany("INSERT INTO t VALUES (?)", [(blob,)] * 5)
                    acknowledged.append(number)
                except StorageFullError:
                    refusals += 1
                    assert database.query_value("SELECT count(*) FROM t") == 6 * len(acknowledged)
            with pytest.raises(StorageFullError):
                # Room for no file at all: the key file stays the old one.
                resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
                profile.change_passphrase("new", cost=COST_FLOOR)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert refusals > 10
        assert len(acknowledged) > 10
        with database.transaction():
            database.execute("INSERT INTO t VALUES (-1)")
    with Profile.open(home, PASSPHRASE) as profile:
        kept = [x for (x,) in profile.database.query("SELECT x FROM t WHERE typeof(x) = 'integer'")]
        assert kept == [*acknowledged, -1]
        assert profile.database.query_value("SELECT count(*) FROM t WHERE typeof(x) = 'blob'") == 5 * len(acknowledged)


def test_attack_44_a_full_disk_makes_no_half_profile(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    refused = 0
    for room in (0, 3, 100, 380, 600, 5_000, 9_000, 20_000):
        target = tmp_path / str(room)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
        try:
            Profile.create(target, PASSPHRASE, cost=COST_FLOOR).close()
        except StorageFullError:
            refused += 1
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        if not (target / "profile.key").exists():
            Profile.create(target, PASSPHRASE, cost=COST_FLOOR).close()
        Profile.open(target, PASSPHRASE).close()
    assert refused >= 4


@contextlib.contextmanager
def all_descriptors_taken_but(spare: int) -> Iterator[None]:
    """Leave this process only so many file descriptors."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, limits[1]))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        for _ in range(spare):
            os.close(taken.pop())
        yield
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_attack_44_without_file_descriptors_it_refuses_and_opens_later(home: Path) -> None:
    outcomes = []
    for spare in range(8):
        with all_descriptors_taken_but(spare):
            try:
                with Profile.open(home, PASSPHRASE) as profile:
                    profile.database.execute("INSERT INTO t VALUES (?)", (spare,))
                outcomes.append(spare)
            except LocalStateError:
                pass
        with Profile.open(home, PASSPHRASE) as profile:
            assert [x for (x,) in profile.database.query("SELECT x FROM t")] == outcomes
    assert 0 < len(outcomes) < 8


def test_attack_44_is_seen_to_succeed_where_a_commit_is_acknowledged_before_it_is_done(tmp_path: Path) -> None:
    make_tables(tmp_path / "profile.db")
    disk = WatchedDisk()
    database = Database.open(tmp_path / "profile.db", KEY, vfs=disk.vfs_name)
    acknowledged = []
    disk.fail = lambda number, kind: apsw.FullError("no") if kind == "write" else None
    for number in range(3):
        with contextlib.suppress(LocalStateError):
            add_pair(number)(database)
        acknowledged.append(number)  # the weakness: the refusal is not heeded
    database.close()
    assert stored_rows(tmp_path / "profile.db")[0] != acknowledged
