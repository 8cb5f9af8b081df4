"""Writes specs/vectors/, byte for byte the same each time: `python -m tests.vectors.generate [--check | --wraps]`.

Without an option it writes the files. `--check` writes nothing and says which differ. `--wraps` first makes the random
HPKE ciphertexts anew (ciphertexts.json), which changes the files that hold them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.vectors.basics import make_encoding, make_identity, make_primitives
from tests.vectors.chains import make_entry, make_run
from tests.vectors.sealing import (
    CIPHERTEXTS,
    make_ciphertexts,
    make_envelope,
    make_epoch,
    make_invite,
    make_padding,
)
from tests.vectors.values import Json
from tests.vectors.wire import make_frames, make_operations

DIRECTORY: Final = Path(__file__).resolve().parents[2] / "specs" / "vectors"
FILES: Final[dict[str, tuple[str, Callable[[], Json]]]] = {
    "encoding": ("specs/encoding.md", make_encoding),
    "primitives": ("specs/conventions.md", make_primitives),
    "identity": ("specs/identity.md", make_identity),
    "entry": ("specs/envelope.md §1 and §2", make_entry),
    "run": ("specs/envelope.md §2 and §3", make_run),
    "envelope": ("specs/envelope.md §4", make_envelope),
    "padding": ("specs/envelope.md §5", make_padding),
    "epoch": ("specs/epoch.md", make_epoch),
    "invite": ("specs/invite.md", make_invite),
    "operations": ("specs/roster.md §2", make_operations),
    "frames": ("specs/relay.md", make_frames),
}


def vector_file(name: str) -> bytes:
    """The bytes that specs/vectors/<name>.json must have."""
    spec, make = FILES[name]
    return _json({"spec": spec, "about": (make.__doc__ or "").strip(), **make()})


def _json(value: Json) -> bytes:
    return json.dumps(value, indent=1, ensure_ascii=True).encode() + b"\n"


def main(options: list[str]) -> int:
    if options not in ([], ["--check"], ["--wraps"]):
        print(__doc__, file=sys.stderr)
        return 2
    if options == ["--wraps"]:
        CIPHERTEXTS.write_bytes(_json(make_ciphertexts()))
    differing = []
    for name in FILES:
        path = DIRECTORY / f"{name}.json"
        raw = vector_file(name)
        if not path.exists() or path.read_bytes() != raw:
            differing.append(path.name)
            if options != ["--check"]:
                path.write_bytes(raw)
    print(f"{'differ' if options == ['--check'] else 'written'}: {', '.join(differing) or 'none'}")
    return 1 if differing and options == ["--check"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
