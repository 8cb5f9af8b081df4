"""Renewing the database key: what opened the profile before opens nothing of what is written from then on."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from cocoon_core.errors import ProfileDamagedError, StorageFullError, WrongPassphraseError
from cocoon_core.storage.passphrase import COST_FLOOR
from cocoon_core.storage.profile import Profile
from tests.support.key_ring import use_key_ring
from tests.support.storage_children import PASSPHRASE
from tests.unit.storage.test_profile import names, snapshots_of


def rows(home: Path, passphrase: str | None) -> list[Any]:
    with Profile.open(home, passphrase) as profile:
        assert profile.database.query_value("PRAGMA integrity_check") == "ok"
        return profile.database.query("SELECT x FROM t")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A closed profile with one row in it."""
    with Profile.create(tmp_path / "home", PASSPHRASE, cost=COST_FLOOR) as profile:
        profile.database.execute("CREATE TABLE t (x)")
        profile.database.execute("INSERT INTO t VALUES (1)")
    return tmp_path / "home"


def test_attack_39_a_renewed_key_makes_an_old_key_file_useless(home: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    shutil.copytree(home, old)
    Profile.open(home, PASSPHRASE).renew_key("new one", cost=COST_FLOOR)
    assert rows(home, "new one") == [(1,)]
    with pytest.raises(WrongPassphraseError):
        Profile.open(home, PASSPHRASE)
    shutil.copy(old / "profile.key", home / "profile.key")  # the thief kept it, and knows the old passphrase
    with pytest.raises(ProfileDamagedError):
        Profile.open(home, PASSPHRASE)
    assert rows(old, PASSPHRASE) == [(1,)]  # what the thief had whole stays open to the thief


def test_attack_39_an_old_key_file_still_opens_where_only_the_passphrase_was_changed(home: Path) -> None:
    """Said so by the command and by specs/storage.md §2: the weaker promise is not taken for the stronger one."""
    old = (home / "profile.key").read_bytes()
    with Profile.open(home, PASSPHRASE) as profile:
        profile.change_passphrase("new one", cost=COST_FLOOR)
    (home / "profile.key").write_bytes(old)
    assert rows(home, PASSPHRASE) == [(1,)]


def test_a_renewed_key_moves_to_the_key_ring_and_back(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ring = use_key_ring(monkeypatch)
    assert Profile.open(home, PASSPHRASE).renew_key(None)
    (before,) = ring.kept.values()
    assert rows(home, None) == [(1,)]
    assert Profile.open(home).renew_key(None)
    (after,) = ring.kept.values()
    assert before != after
    assert Profile.open(home).renew_key("back", cost=COST_FLOOR)
    assert ring.kept == {}
    assert rows(home, "back") == [(1,)]


def test_a_key_ring_that_keeps_what_it_should_give_up_is_told_of(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ring = use_key_ring(monkeypatch)
    with Profile.open(home, PASSPHRASE) as profile:
        assert profile.change_passphrase(None)
    monkeypatch.setattr(type(ring), "delete_password", lambda *_: None)
    with Profile.open(home) as profile:
        assert not profile.change_passphrase("back", cost=COST_FLOOR)


def test_a_crash_at_any_line_of_renewing_leaves_the_old_or_the_new_way(home: Path, tmp_path: Path) -> None:
    profile = Profile.open(home, PASSPHRASE)
    copies = snapshots_of(lambda: profile.renew_key("new one", cost=COST_FLOOR), home, tmp_path / "copies")
    opened_by = set()
    for copy in [*copies, home]:
        for passphrase in (PASSPHRASE, "new one"):
            try:
                assert rows(copy, passphrase) == [(1,)]
            except WrongPassphraseError:
                continue
            opened_by.add(passphrase)
            assert "profile.db.new" not in names(copy), copy
            break
        else:
            pytest.fail(f"{copy.name} opens under neither")
    assert opened_by == {PASSPHRASE, "new one"}
    assert len(copies) >= 6


def test_a_disk_that_fails_leaves_the_old_way(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken_disk(*_: Any) -> None:
        raise OSError(28, "full")

    profile = Profile.open(home, PASSPHRASE)
    monkeypatch.setattr(os, "fsync", broken_disk)
    with pytest.raises(StorageFullError):
        profile.renew_key("new one", cost=COST_FLOOR)
    monkeypatch.undo()
    assert rows(home, PASSPHRASE) == [(1,)]
    assert names(home) == ["profile.db", "profile.key", "profile.lock"]
