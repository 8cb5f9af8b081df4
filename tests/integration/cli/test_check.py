"""`check`, typed: a sound profile, one that is damaged, and through a watch."""

from __future__ import annotations

from pathlib import Path

from cocoon_core.storage.profile import Profile
from tests.integration.cli.conftest import PASSPHRASE, Person
from tests.integration.cli.test_local_socket import alone, watching  # noqa: F401  a fixture


def spoil(home: Path, sql: str) -> None:
    with Profile.open(home, PASSPHRASE) as profile:
        assert profile.database.execute(sql)


def test_a_profile_is_checked_repaired_and_sound_again(alone: Person) -> None:  # noqa: F811
    alone.do("post", "Soup is ready.")
    with watching(alone):
        done = alone.do("check")
        assert (done["sound"], done["findings"]) == (True, [])
        assert done["checked"]["documents"] == 1
    spoil(alone.home, "UPDATE posts SET text='forged'")
    told = alone.type("--json", "check", "--no-repair")
    assert told.code == 6
    (finding,) = told.json["findings"]
    assert (finding["what"], finding["repaired"]) == ("view", False)
    assert alone.do("feed")["posts"][0]["text"] == "forged"
    shown = alone.type("check")
    assert shown.code == 0
    assert "repaired" in shown.out
    assert alone.do("feed")["posts"][0]["text"] == "Soup is ready."
    assert "all is sound" in alone.type("check").out


def test_what_cannot_be_repaired_is_left_and_told(alone: Person) -> None:  # noqa: F811
    spoil(alone.home, "UPDATE epochs SET secret=zeroblob(32)")
    told = alone.type("--json", "check")
    assert told.code == 6
    assert told.json["sound"] is False
    assert any("restore a backup" in finding["advice"] for finding in told.json["findings"])


def test_a_page_that_does_not_authenticate_is_told(alone: Person) -> None:  # noqa: F811
    for number in range(12):
        spoil(alone.home, f"INSERT INTO meta (key, value) VALUES ('filler {number}', zeroblob(4000))")
    path = alone.home / "profile.db"
    raw = bytearray(path.read_bytes())
    raw[-2000] ^= 1
    path.write_bytes(raw)
    told = alone.type("--json", "check")
    assert told.code == 6
    assert "damaged" in str(told.json)
