"""`cocoon-relay check-config` and `default-config`: what a relay would serve with."""

from __future__ import annotations

import argparse
import json
from textwrap import wrap
from typing import Final

from cocoon_relay.limits import GUEST, GUEST_CHANGES, Scope
from cocoon_relay.settings import ALL_SETTINGS, LIMIT_SETTINGS, SETTINGS, Settings

_HEAD: Final = """\
# The settings of cocoon-relay, each at its default. `cocoon-relay check-config --config FILE` checks such a file.
# The command line (--topic-bytes) counts before the environment (COCOON_RELAY_TOPIC_BYTES), and that before the file.
# Sizes are written as 512 MiB, times as 90 days, 2 h or 30 s, rates as 20/s or 1000/day.
"""
_CLASSES: Final = """
# Limits of those who come with a token of a class (`cocoon-relay token new NAME --class band`): those above, but for
# what stands here. Of topic, message and address a class may have its own, and of the rates of a connection; and
# stored_bytes and free_bytes: beyond them its members put nothing, and the rest is for the others.
#[classes.band]
#topic_bytes = "2 GiB\""""


def check(options: argparse.Namespace) -> int:
    """Say what is in force; that something is wrong has been said before this is reached."""
    settings: Settings = options.settings
    if options.json:
        given = {
            key: {"value": ALL_SETTINGS[key].show(one.value).strip('"'), "from": one.place}
            for key, one in sorted(settings.given.items())
        }
        print(json.dumps({"ok": True, "given": given, "classes": sorted(settings.classes)}))
        return 0
    print(show_settings(settings), end="")
    print(f"these settings are good; {len(settings.values) - len(settings.given)} others stand at their defaults")
    return 0


def show_default(options: argparse.Namespace) -> int:
    """Print a whole file."""
    print(json.dumps({"config": show_default_file()}) if options.json else show_default_file(), end="")
    return 0


def show_default_file() -> str:
    """A whole configuration file with every setting at its default, commented out."""
    lines = [_HEAD]
    for setting in SETTINGS:
        shown = '"./relay-data"' if setting.default is None else setting.show(setting.default)
        lines += [*(f"# {line}" for line in wrap(setting.text, 116)), f"#{setting.key} = {shown}", ""]
    lines.append("[limits]")
    for scope in Scope:
        lines += ["", f"# {scope}"]
        for setting in LIMIT_SETTINGS:
            if setting.limit is not None and setting.limit.scope is scope:
                lines.append(f"#{setting.key} = {setting.show(setting.default)}  # {setting.text}")
    lines += [_CLASSES, "", "# Limits of those who come without a token, where access is guest.", f"#[classes.{GUEST}]"]
    lines += [f"#{key} = {ALL_SETTINGS[key].show(value)}" for key, value in GUEST_CHANGES.items()]
    return "\n".join(lines) + "\n"


def show_settings(settings: Settings) -> str:
    """What is in force and was not left at its default, with where it comes from."""
    lines = [
        f"{key} = {ALL_SETTINGS[key].show(one.value)}  # from {one.place}"
        for key, one in sorted(settings.given.items())
    ]
    return "\n".join(lines) + "\n" if lines else ""
