"""One process at a time holds a profile."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cocoon_core.errors import LocalStateError, ProfileLockedError
from cocoon_core.storage.lock import ProfileLock

ROOT = Path(__file__).resolve().parents[3]


def test_the_lock_is_held_once_and_free_again(tmp_path: Path) -> None:
    path = tmp_path / "profile.lock"
    lock = ProfileLock.acquire(path)
    with pytest.raises(ProfileLockedError, match="this process"):
        ProfileLock.acquire(path)
    lock.release()
    lock.release()
    ProfileLock.acquire(path).release()
    assert path.stat().st_mode & 0o777 == 0o600


def test_another_process_is_named_and_its_death_frees_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "profile.lock"
    code = (
        "import sys; from pathlib import Path; from cocoon_core.storage.lock import ProfileLock\n"
        f"lock = ProfileLock.acquire(Path({str(path)!r})); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ProfileLockedError, match=f"process {holder.pid} has"):
            ProfileLock.acquire(path)
        holder.kill()
        holder.wait()
    ProfileLock.acquire(path).release()


def test_a_holder_that_did_not_write_its_number_is_not_guessed(tmp_path: Path) -> None:
    path = tmp_path / "profile.lock"
    lock = ProfileLock.acquire(path)
    path.write_text("nonsense")
    with pytest.raises(ProfileLockedError, match="another process"):
        ProfileLock.acquire(path)
    lock.release()


def test_what_an_earlier_holder_wrote_does_not_lock(tmp_path: Path) -> None:
    path = tmp_path / "profile.lock"
    path.write_text("999999999999\n")
    lock = ProfileLock.acquire(path)
    assert path.read_text() == f"{os.getpid()}\n"
    lock.release()


def test_a_file_system_without_locks_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", fail)
    before = set(os.listdir("/proc/self/fd")) if sys.platform == "linux" else set()
    with pytest.raises(LocalStateError, match="ENOLCK"):
        ProfileLock.acquire(tmp_path / "profile.lock")
    if sys.platform == "linux":
        assert len(set(os.listdir("/proc/self/fd"))) == len(before)


def test_a_missing_directory_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(LocalStateError, match="ENOENT"):
        ProfileLock.acquire(tmp_path / "none" / "profile.lock")
