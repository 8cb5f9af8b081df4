"""`cocoon-relay backup` and `restore`: a copy of a data directory, and a data directory from a copy."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from cocoon_core.errors import UsageError
from cocoon_relay.cli_data import find_data
from cocoon_relay.settings import FILES
from cocoon_relay.sqlite_backup import Copied, back_up, restore


def make(options: argparse.Namespace) -> int:
    """Copy the data directory, also beside a relay that serves it."""
    _require_files(options)
    return _tell(options, "backed up", options.folder, back_up(find_data(options), options.folder))


def bring_back(options: argparse.Namespace) -> int:
    """Make a data directory from a copy."""
    _require_files(options)
    data: Path = options.settings["data"]
    return _tell(options, "restored", data, restore(options.folder, data))


def _require_files(options: argparse.Namespace) -> None:
    if options.settings["database"] or options.settings["blobs"] != FILES:
        raise UsageError("a relay on a database or a bucket is backed up by their own means; relay/README.md says how")


def _tell(options: argparse.Namespace, done: str, folder: Path, copied: Copied) -> int:
    if options.json:
        print(json.dumps({done.replace(" ", "_"): str(folder), **asdict(copied)}))
        return 0
    print(f"{done} to {folder}: {copied.topics} topics, {copied.entries} entries, {copied.bytes} bytes")
    print(f"{copied.blobs} blobs, {copied.blob_bytes} bytes")
    if copied.left_out:
        print(f"{copied.left_out} blobs were gone or damaged, and are left out: members who have them put them again")
    return 0
