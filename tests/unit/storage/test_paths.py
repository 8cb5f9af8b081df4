"""Where a profile lives, and how its small files are written."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from cocoon_core.errors import CocoonError, LocalStateError, ProfileDamagedError, StorageFullError
from cocoon_core.storage import paths


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_home_is_the_argument_then_the_variable_then_the_platform(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert paths.resolve_home().name == "cocoon"
    monkeypatch.setenv("COCOON_HOME", str(tmp_path / "variable"))
    assert paths.resolve_home() == tmp_path / "variable"
    assert paths.resolve_home(tmp_path / "argument") == tmp_path / "argument"
    monkeypatch.setenv("COCOON_HOME", "")
    assert paths.resolve_home().name == "cocoon"


def test_home_may_be_relative_or_start_at_the_users_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    assert paths.resolve_home("here") == tmp_path / "here"
    assert paths.resolve_home("~/there") == tmp_path / "me" / "there"


def test_a_new_home_is_for_its_owner_alone(tmp_path: Path) -> None:
    old_mask = os.umask(0)
    try:
        paths.make_home(tmp_path / "a" / "b")
    finally:
        os.umask(old_mask)
    assert mode(tmp_path / "a" / "b") == 0o700


def test_an_empty_home_is_closed_and_one_with_other_things_keeps_its_mode(tmp_path: Path) -> None:
    empty, shared = tmp_path / "empty", tmp_path / "shared"
    for home in (empty, shared):
        home.mkdir()
        home.chmod(0o755)
    (shared / "letter").touch()
    paths.make_home(empty)
    paths.make_home(shared)
    assert (mode(empty), mode(shared)) == (0o700, 0o755)


def test_private_files_are_0600_and_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "file"
    old_mask = os.umask(0)
    try:
        paths.write_private(target, b"old")
        paths.write_private(target, b"new")
        paths.create_private(tmp_path / "empty")
    finally:
        os.umask(old_mask)
    assert target.read_bytes() == b"new"
    assert (mode(target), mode(tmp_path / "empty")) == (0o600, 0o600)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file"]


def test_a_link_planted_under_the_new_name_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "file.new").symlink_to(victim)
    paths.write_private(tmp_path / "file", b"data")
    assert victim.read_text() == "mine"
    assert not (tmp_path / "file").is_symlink()


def test_create_private_takes_no_file_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LocalStateError):
        paths.create_private(tmp_path / "file")


def test_a_file_that_grew_too_large_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(11))
    with pytest.raises(ProfileDamagedError):
        paths.read_private(tmp_path / "file", 10)
    assert paths.read_private(tmp_path / "file", 11) == bytes(11)


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ENOSPC, StorageFullError),
        (errno.EDQUOT, StorageFullError),
        (errno.EIO, StorageFullError),
        (errno.EROFS, StorageFullError),
        (errno.EFBIG, StorageFullError),
        (errno.EACCES, LocalStateError),
        (errno.EMFILE, LocalStateError),
    ],
)
def test_errors_of_the_system_become_ours(number: int, expected: type[CocoonError]) -> None:
    error = paths.convert_os_error(OSError(number, "secret path"), "profile.key")
    assert type(error) is expected
    assert errno.errorcode[number] in str(error)
    assert "secret" not in str(error)


def test_a_failing_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "file"
    paths.write_private(target, b"old")

    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StorageFullError):
        paths.write_private(target, b"new")
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_missing_file_is_not_confused_with_one_that_cannot_be_looked_at(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    assert not paths.exists(tmp_path / "none")
    assert not paths.exists(tmp_path / "plain" / "below")
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(LocalStateError):
        paths.exists(loop)
