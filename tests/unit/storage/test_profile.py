"""Making, opening and re-keying a profile; what a crash in the middle of it leaves."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import keyring
import pytest

from cocoon_core.errors import (
    CocoonError,
    LocalStateError,
    NoKeyRingError,
    NoProfileError,
    ProfileDamagedError,
    ProfileLockedError,
    StorageFullError,
    UpdateNeededError,
    UsageError,
    WrongPassphraseError,
)
from cocoon_core.storage import paths
from cocoon_core.storage.keystore import SERVICE
from cocoon_core.storage.passphrase import COST_FLOOR, Cost
from cocoon_core.storage.profile import Profile
from tests.support.forks import make_forks
from tests.support.key_ring import MemoryRing, use_key_ring
from tests.support.storage_children import PASSPHRASE, hold_profile


def create(home: Path, passphrase: str | None = PASSPHRASE) -> Profile:
    return Profile.create(home, passphrase, cost=COST_FLOOR)


def names(home: Path) -> list[str]:
    return sorted(path.name for path in home.iterdir())


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A closed profile with one row in it."""
    with create(tmp_path / "home") as profile:
        profile.database.execute("CREATE TABLE t (x)")
        profile.database.execute("INSERT INTO t VALUES (1)")
    return tmp_path / "home"


@pytest.fixture
def key_ring(monkeypatch: pytest.MonkeyPatch) -> MemoryRing:
    return use_key_ring(monkeypatch)


def test_a_profile_is_made_closed_and_opened(home: Path) -> None:
    assert names(home) == ["profile.db", "profile.key", "profile.lock"]
    with Profile.open(home, PASSPHRASE) as profile:
        assert profile.database.query("SELECT x FROM t") == [(1,)]
        assert profile.paths.home == home
        assert len(profile.profile_id) == 16
    profile.close()


def test_every_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    old_mask = os.umask(0)
    try:
        with create(tmp_path / "home") as profile:
            profile.database.execute("CREATE TABLE t (x)")
            assert names(tmp_path / "home") == ["profile.db", "profile.db-wal", "profile.key", "profile.lock"]
            assert {path.stat().st_mode & 0o777 for path in (tmp_path / "home").iterdir()} == {0o600}
    finally:
        os.umask(old_mask)
    assert (tmp_path / "home").stat().st_mode & 0o777 == 0o700


def test_home_may_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COCOON_HOME", str(tmp_path / "elsewhere"))
    Profile.create(passphrase=PASSPHRASE, cost=COST_FLOOR).close()
    assert (tmp_path / "elsewhere" / "profile.key").exists()


def test_no_profile_is_said_and_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(NoProfileError, match="cocoon init"):
        Profile.open(tmp_path / "home", PASSPHRASE)
    with pytest.raises(NoProfileError):
        Profile.open(tmp_path, PASSPHRASE)
    assert names(tmp_path) == []


def test_a_second_profile_is_not_made_over_the_first(home: Path) -> None:
    before = {path.name: path.read_bytes() for path in home.iterdir()}
    with pytest.raises(UsageError):
        create(home)
    assert {path.name: path.read_bytes() for path in home.iterdir()} == before


def test_two_profiles_share_nothing(home: Path, tmp_path: Path) -> None:
    with create(tmp_path / "other") as other, Profile.open(home, PASSPHRASE) as first:
        assert other.profile_id != first.profile_id
    shutil.copy(tmp_path / "other" / "profile.db", home / "profile.db")
    with pytest.raises(ProfileDamagedError):
        Profile.open(home, PASSPHRASE)


@pytest.mark.parametrize(
    ("passphrase", "cost", "expected"),
    [
        ("", None, UsageError),
        ("\udcff", None, UsageError),
        (PASSPHRASE, Cost(1, 8), UsageError),
        (None, None, NoKeyRingError),
    ],
)
def test_what_cannot_be_sealed_is_refused_before_anything_is_written(
    tmp_path: Path, passphrase: str | None, cost: Cost | None, expected: type[CocoonError]
) -> None:
    with pytest.raises(expected):
        Profile.create(tmp_path / "home", passphrase, cost=cost)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("passphrase", "expected"), [("wrong", WrongPassphraseError), (None, WrongPassphraseError), ("", UsageError)]
)
def test_another_passphrase_does_not_open(home: Path, passphrase: str | None, expected: type[CocoonError]) -> None:
    with pytest.raises(expected):
        Profile.open(home, passphrase)
    Profile.open(home, PASSPHRASE).close()


def test_a_profile_is_open_once(home: Path) -> None:
    with Profile.open(home, PASSPHRASE):
        with pytest.raises(ProfileLockedError):
            Profile.open(home, PASSPHRASE)
        with pytest.raises(UsageError):
            create(home)
    forks = make_forks()
    ours, theirs = forks.Pipe()
    child = forks.Process(target=hold_profile, args=(home, theirs))
    child.start()
    theirs.close()
    holder = ours.recv()
    with pytest.raises(ProfileLockedError, match=f"process {holder} has"):
        Profile.open(home, PASSPHRASE)
    child.kill()
    child.join()
    Profile.open(home, PASSPHRASE).close()


def remove(name: str) -> Callable[[Path], object]:
    return lambda home: (home / name).unlink()


def write(name: str, data: bytes) -> Callable[[Path], object]:
    return lambda home: (home / name).write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        remove("profile.db"),
        remove("profile.key"),
        write("profile.db", b""),
        write("profile.db", b"x"),
        write("profile.db", b"SQLite format 3\0" + bytes(4080)),
        write("profile.key", b""),
        write("profile.key", b"{}"),
        write("profile.key", bytes(20_000)),
    ],
)
def test_a_damaged_profile_is_one_clear_error_and_is_left_as_it_is(
    home: Path, damage: Callable[[Path], object]
) -> None:
    damage(home)
    before = {path.name: path.read_bytes() for path in home.iterdir() if path.name != "profile.lock"}
    with pytest.raises(ProfileDamagedError):
        Profile.open(home, PASSPHRASE)
    with pytest.raises(UsageError):
        create(home)
    assert {path.name: path.read_bytes() for path in home.iterdir() if path.name != "profile.lock"} == before


def test_a_profile_of_a_newer_version_is_left_alone(home: Path) -> None:
    with Profile.open(home, PASSPHRASE) as profile:
        profile.database.execute("PRAGMA user_version = 9999")
    with pytest.raises(UpdateNeededError):
        Profile.open(home, PASSPHRASE)
    with pytest.raises(UpdateNeededError):
        Profile.open(home, PASSPHRASE)


# --- keeping the key


def test_without_a_passphrase_the_key_is_in_the_key_ring_alone(tmp_path: Path, key_ring: MemoryRing) -> None:
    with Profile.create(tmp_path) as profile:
        account = profile.profile_id.hex()
    key = key_ring.kept[SERVICE, account]
    assert len(bytes.fromhex(key)) == 32
    assert key not in (tmp_path / "profile.key").read_text()
    Profile.open(tmp_path).close()
    with pytest.raises(UsageError, match="key ring"):
        Profile.open(tmp_path, PASSPHRASE)
    key_ring.kept.clear()
    with pytest.raises(NoKeyRingError):
        Profile.open(tmp_path)


def test_a_changed_passphrase_opens_and_the_old_one_does_not(home: Path) -> None:
    with Profile.open(home, PASSPHRASE) as profile:
        profile.change_passphrase("new one", cost=COST_FLOOR)
        profile.database.execute("INSERT INTO t VALUES (2)")
    with pytest.raises(WrongPassphraseError):
        Profile.open(home, PASSPHRASE)
    with Profile.open(home, "new one") as profile:
        assert profile.database.query("SELECT x FROM t") == [(1,), (2,)]
        for passphrase, cost in (("", None), ("x", Cost(1, 8))):
            with pytest.raises(UsageError):
                profile.change_passphrase(passphrase, cost=cost)
    Profile.open(home, "new one").close()


def test_a_new_passphrase_takes_the_cost_of_today_not_of_the_file(home: Path) -> None:
    with Profile.open(home, PASSPHRASE) as profile:
        profile.change_passphrase("new one")
    assert f'"memory_kib": {Cost().memory_kib}' in (home / "profile.key").read_text()


def test_a_key_moves_between_passphrase_and_key_ring(home: Path, key_ring: MemoryRing) -> None:
    with Profile.open(home, PASSPHRASE) as profile:
        profile.change_passphrase(None)
        assert len(key_ring.kept) == 1
    with Profile.open(home) as profile:
        profile.change_passphrase("back", cost=COST_FLOOR)
    assert key_ring.kept == {}
    with Profile.open(home, "back") as profile:
        assert profile.database.query("SELECT x FROM t") == [(1,)]


def test_a_passphrase_that_cannot_be_written_changes_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Profile.open(home, PASSPHRASE) as profile:
        monkeypatch.setattr(os, "fsync", broken_disk)
        with pytest.raises(StorageFullError):
            profile.change_passphrase("new one", cost=COST_FLOOR)
        monkeypatch.undo()
    Profile.open(home, PASSPHRASE).close()


def broken_disk(*_: Any) -> None:
    raise OSError(5, "broken")


def test_a_failed_create_leaves_no_profile_and_no_key(
    tmp_path: Path, key_ring: MemoryRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", broken_disk)
    with pytest.raises(StorageFullError):
        Profile.create(tmp_path)
    monkeypatch.undo()
    use_key_ring(monkeypatch, key_ring)
    assert key_ring.kept == {}
    with pytest.raises(NoProfileError):
        Profile.open(tmp_path)
    Profile.create(tmp_path).close()
    assert keyring.get_keyring() is key_ring


# --- a crash in the middle


def snapshots_of(work: Callable[[], Any], home: Path, into: Path) -> list[Path]:
    """Copies of the home directory as it stood before every line of the storage package that `work` runs.

    Each is what a process that is killed there leaves behind. Equal ones are kept once.
    """
    seen: dict[tuple[tuple[str, bytes], ...], Path] = {}
    package = str(Path(paths.__file__).parent)

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if not frame.f_code.co_filename.startswith(package):
            return None
        if event == "line":
            files = sorted((path.name, path.read_bytes()) for path in home.iterdir()) if home.exists() else []
            content = tuple((name, data) for name, data in files if name != "profile.lock")
            if content not in seen:
                seen[content] = into / str(len(seen))
                seen[content].mkdir(parents=True)
                for name, data in files:
                    (seen[content] / name).write_bytes(data)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return list(seen.values())


def test_a_crash_at_any_line_of_create_leaves_no_profile_or_a_whole_one(tmp_path: Path) -> None:
    found = {"none": 0, "whole": 0}
    copies = snapshots_of(lambda: create(tmp_path / "home").close(), tmp_path / "home", tmp_path / "copies")
    for copy in copies:
        try:
            Profile.open(copy, PASSPHRASE).close()
            found["whole"] += 1
        except NoProfileError:
            found["none"] += 1
            create(copy).close()
        with Profile.open(copy, PASSPHRASE) as profile:
            assert profile.database.query_value("PRAGMA integrity_check") == "ok"
        assert names(copy) == ["profile.db", "profile.key", "profile.lock"]
    assert found["none"] >= 5, found
    assert found["whole"] >= 3, found  # among them the one with the database still under its first name


def test_a_crash_at_any_line_of_a_change_of_passphrase_leaves_the_old_or_the_new_one(
    home: Path, tmp_path: Path
) -> None:
    opened_by = set()
    with Profile.open(home, PASSPHRASE) as profile:
        copies = snapshots_of(lambda: profile.change_passphrase("new one", cost=COST_FLOOR), home, tmp_path / "copies")
    copies.append(home)
    for copy in copies:
        for passphrase in (PASSPHRASE, "new one"):
            try:
                Profile.open(copy, passphrase).close()
            except WrongPassphraseError:
                continue
            opened_by.add(passphrase)
            break
        else:
            pytest.fail(f"{copy.name} opens under neither")
    assert opened_by == {PASSPHRASE, "new one"}
    assert len(copies) >= 3


def test_a_home_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LocalStateError):
        create(tmp_path / "file" / "home")
