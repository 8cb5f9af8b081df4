"""Settings: one table, three places, and errors that name both."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from cocoon_core.errors import UsageError
from cocoon_relay.cli_settings import show_default_file
from cocoon_relay.limits import GIB, MIB, Limits
from cocoon_relay.settings import ALL_SETTINGS, SETTINGS, read_settings

DEPLOY = Path(__file__).resolve().parents[3] / "relay" / "deploy"


def write(folder: Path, text: str) -> Path:
    path = folder / "relay.toml"
    path.write_text(text)
    return path


def test_the_command_line_counts_before_the_environment_and_that_before_the_file(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        'data = "from-file"\nlisten = "127.0.0.1:1"\norigin = ["wss://one.example", "wss://two.example"]\n'
        '[limits]\ntopic_bytes = "1 GiB"\ntopic_entries = 5\nfree_bytes = 0\n',
    )
    environment = {"COCOON_RELAY_LISTEN": "127.0.0.1:2", "COCOON_RELAY_TOPIC_BYTES": "2 GiB", "HOME": "/nobody"}
    settings = read_settings({"topic_bytes": "3 GiB", "data": None}, environment, path)
    assert settings.limits.topic_bytes == 3 * GIB
    assert settings["listen"] == "127.0.0.1:2"
    assert settings["data"] == Path("from-file")
    assert settings["origin"] == ("wss://one.example:443", "wss://two.example:443")
    assert (settings.limits.topic_entries, settings.limits.free_bytes) == (5, 0)
    assert settings.limits.blob_lease == Limits().blob_lease
    # A list is not joined with that of another place.
    again = read_settings({}, environment | {"COCOON_RELAY_ORIGIN": "wss://a.example, wss://b.example"}, path)
    assert again["origin"] == ("wss://a.example:443", "wss://b.example:443")
    assert {key: one.place for key, one in settings.given.items()}["topic_bytes"] == "the command line"


def test_the_environment_can_name_the_file_and_the_command_line_another(tmp_path: Path) -> None:
    path = write(tmp_path, 'data = "here"\n')
    other = tmp_path / "other.toml"
    other.write_text('data = "there"\n')
    environment = {"COCOON_RELAY_CONFIG": str(path)}
    assert read_settings({}, environment, None)["data"] == Path("here")
    assert read_settings({}, environment, other)["data"] == Path("there")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("listen = ", "relay.toml is not TOML"),
        ('listen = "8787"', "relay.toml: listen is HOST:PORT"),
        ("listen = 8787", "relay.toml: listen is text"),
        ('liste = "127.0.0.1:1"', "relay.toml: liste is no setting of this relay; did you mean listen?"),
        ('behind_proxy = "maybe"', "relay.toml: behind_proxy is true or false"),
        ('origin = "relay.example"', "relay.toml: origin is the URL"),
        ("origin = [1]", "relay.toml: origin is a list of URLs"),
        ('access = "members"', "relay.toml: access is one of anyone, token, guest"),
        ("topic_bytes = 1", "relay.toml: topic_bytes is written as limits.topic_bytes"),
        ('[limits]\nlisten = "127.0.0.1:1"', "relay.toml: limits.listen is written as listen, above the tables"),
        ('[limits]\ntopic_bytes = "huge"', "relay.toml: limits.topic_bytes begins with a number"),
        ("[limits]\nblob_bytes = 3000000", "relay.toml: limits.blob_bytes is at most 2 MiB"),
        ("[limits]\nconnection_topics = 0", "relay.toml: limits.connection_topics is at least 1"),
        ('[limits]\ntopic_lease = "1 h"', "relay.toml: limits.topic_lease is at least 1 day"),
        ("[limits]\ntopic_entrys = 1", "relay.toml: limits.topic_entrys is no setting of this relay; did you mean"),
        ("limits = 1", "relay.toml: limits and classes are tables"),
        ("[classes]\nband = 1", "relay.toml: classes.band is a table"),
        ('[classes.band]\nblob_lease = "9 days"', "classes.band.blob_lease is not a limit that a class may have"),
        ("[classes.band]\ntopic_entries = 0", "relay.toml: classes.band.topic_entries is at least 1"),
    ],
)
def test_a_mistake_in_the_file_is_told_with_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_settings({"data": "x"}, {}, write(tmp_path, text))
    assert message in str(caught.value)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("COCOON_RELAY_TOPIC_BITES", "1", "COCOON_RELAY_TOPIC_BITES is no setting of this relay; did you mean"),
        ("COCOON_RELAY_TOPIC_BYTES", "many", "COCOON_RELAY_TOPIC_BYTES begins with a number"),
        ("COCOON_RELAY_BEHIND_PROXY", "", "COCOON_RELAY_BEHIND_PROXY is true or false"),
    ],
)
def test_a_mistake_in_the_environment_is_told_with_the_variable(variable: str, value: str, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        read_settings({"data": "x"}, {variable: value}, None)


def test_where_everything_is_kept_must_be_said() -> None:
    with pytest.raises(UsageError, match="--data DIR"):
        read_settings({}, {}, None)


def test_a_class_has_what_it_names_and_else_what_holds_for_all(tmp_path: Path) -> None:
    path = write(tmp_path, '[limits]\ntopic_entries = 70\n[classes.band]\ntopic_bytes = "1 GiB"\n')
    settings = read_settings({"data": "x"}, {}, path)
    assert settings.classes["band"].topic_bytes == GIB
    assert settings.classes["band"].topic_entries == 70
    guest = settings.classes["guest"]
    assert guest.topic_bytes == 16 * MIB
    assert guest.topic_entries == 70  # never more than those who were let in
    assert guest.free_bytes > settings.limits.free_bytes
    own = read_settings({"data": "x"}, {}, write(tmp_path, '[classes.guest]\ntopic_bytes = "1 MiB"\n')).classes["guest"]
    assert (own.topic_bytes, own.connection_topics) == (MIB, guest.connection_topics)


def test_the_printed_file_is_the_one_in_deploy_and_holds_every_setting_at_its_default(tmp_path: Path) -> None:
    text = show_default_file()
    assert (DEPLOY / "cocoon-relay.toml").read_text() == text
    assert read_settings({"data": "x"}, {}, write(tmp_path, text)).limits == Limits()
    whole = re.sub(r"(?m)^#(?! )", "", text)
    tree = tomllib.loads(whole)
    classes = tree.pop("classes")
    assert set(tree.pop("limits")) | set(tree) == set(ALL_SETTINGS)
    settings = read_settings({}, {}, write(tmp_path, whole.replace("./relay-data", "x")))
    plain = read_settings({"data": "x"}, {}, None)
    assert settings.values == plain.values
    assert (settings.limits, settings.classes["guest"]) == (Limits(), plain.classes["guest"])
    assert set(classes) == {"guest", "band"}


@pytest.mark.parametrize("setting", ALL_SETTINGS.values(), ids=lambda one: one.key)
def test_every_setting_is_shown_as_the_file_writes_it(setting: Any, tmp_path: Path) -> None:
    if setting.default is None:
        return
    table = "" if setting in SETTINGS else "[limits]\n"
    path = write(tmp_path, f"{table}{setting.key} = {setting.show(setting.default)}\n")
    assert read_settings({"data": "x"}, {}, path)[setting.key] == setting.default
