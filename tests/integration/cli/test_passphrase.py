"""`profile passphrase`, typed: alone, through a watch, and what is refused."""

from __future__ import annotations

from collections.abc import Callable

from cocoon_core import Cocoon
from cocoon_core.errors import LocalStateError, UsageError, WrongPassphraseError
from tests.integration.cli.conftest import PASSPHRASE, Person
from tests.integration.cli.test_local_socket import alone, watching  # noqa: F401  a fixture

NEW = "another one, just as good"


def renamed(person: Person) -> Person:
    return person.with_settings(COCOON_PASSPHRASE=NEW)


def test_a_changed_passphrase_opens_and_the_old_one_does_not(alone: Person) -> None:  # noqa: F811
    done = alone.with_settings(COCOON_NEW_PASSPHRASE=NEW).do("profile", "passphrase")
    assert done == {"kept": "passphrase", "new_key": False, "removed_from_key_ring": True}
    assert alone.type("--json", "members").error["code"] == WrongPassphraseError.code
    assert [member["name"] for member in renamed(alone).do("members")["members"]] == ["Ana"]


def test_a_new_key_opens_and_no_old_key_file_does(alone: Person) -> None:  # noqa: F811
    old = (alone.home / "profile.key").read_bytes()
    assert alone.with_settings(COCOON_NEW_PASSPHRASE=NEW).do("profile", "passphrase", "--new-key")["new_key"]
    assert [member["name"] for member in renamed(alone).do("members")["members"]] == ["Ana"]
    (alone.home / "profile.key").write_bytes(old)
    assert alone.type("--json", "members").error["code"] == "profile_damaged"


def test_a_watch_that_runs_changes_it_and_goes_on(alone: Person) -> None:  # noqa: F811
    with watching(alone):
        told = alone.with_settings(COCOON_NEW_PASSPHRASE=NEW).type("profile", "passphrase")
        assert told.code == 0
        assert "still open this profile the old way" in told.err
        assert NEW not in told.out + told.err
        assert alone.type("--json", "feed").error["code"] == WrongPassphraseError.code
        renamed(alone).do("post", "after the change")
        refused = (
            renamed(alone).with_settings(COCOON_NEW_PASSPHRASE="x").type("--json", "profile", "passphrase", "--new-key")
        )
        assert refused.error["code"] == "profile_locked"
    assert [post["text"] for post in renamed(alone).do("feed")["posts"]] == ["after the change"]


def test_what_cannot_be_changed_is_said_and_changes_nothing(make_person: Callable[[str], Person]) -> None:
    ana = make_person("ana")
    before = (ana.home / "profile.key").read_bytes()
    nobody = ana.type("--json", "profile", "passphrase")
    assert nobody.code == UsageError.exit_code
    assert "COCOON_NEW_PASSPHRASE" in nobody.error["message"]
    wrong = ana.with_settings(COCOON_PASSPHRASE="wrong", COCOON_NEW_PASSPHRASE=NEW)
    assert wrong.type("--json", "profile", "passphrase").error["code"] == WrongPassphraseError.code
    both = ana.type("--json", "profile", "passphrase", "--key-ring", "--passphrase")
    assert both.code == UsageError.exit_code
    no_ring = ana.with_settings(PYTHON_KEYRING_BACKEND="keyring.backends.null.Keyring")
    refused = no_ring.type("--json", "profile", "passphrase", "--key-ring")
    assert refused.code == LocalStateError.exit_code
    assert refused.error["code"] == "no_key_ring"
    assert (ana.home / "profile.key").read_bytes() == before
    Cocoon.derive_proof(ana.home, PASSPHRASE)
