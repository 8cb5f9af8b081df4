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

from tests.vectors.backups import make_backup
from tests.vectors.basics import make_encoding, make_identity, make_primitives
from tests.vectors.beacons import make_beacon
from tests.vectors.carriers import make_bundle, make_lan
from tests.vectors.chains import make_entry, make_run
from tests.vectors.epochs import KEPT as EPOCH_CIPHERTEXTS
from tests.vectors.epochs import make_epochs, make_repair, make_rotation_vectors
from tests.vectors.epochs import make_kept as make_epoch_ciphertexts
from tests.vectors.feed import make_feed
from tests.vectors.linking import make_device_link, make_verification
from tests.vectors.manifests import make_manifest, make_snapshot
from tests.vectors.operations import make_operations
from tests.vectors.people import CIPHERTEXTS as PEOPLE_CIPHERTEXTS
from tests.vectors.people import make_ciphertexts as make_people_ciphertexts
from tests.vectors.people import make_people
from tests.vectors.recovery import CIPHERTEXTS as RECOVERY_CIPHERTEXTS
from tests.vectors.recovery import make_ciphertexts as make_recovery_ciphertexts
from tests.vectors.recovery import make_recovery
from tests.vectors.retires import make_retire
from tests.vectors.rosters import make_rosters
from tests.vectors.sealing import (
    CIPHERTEXTS,
    make_ciphertexts,
    make_envelope,
    make_epoch,
    make_invite,
    make_padding,
)
from tests.vectors.together import make_together
from tests.vectors.values import Json
from tests.vectors.vault_files import make_vault_file
from tests.vectors.vault_items import make_vault_items
from tests.vectors.wire import make_frames

DIRECTORY: Final = Path(__file__).resolve().parents[2] / "specs" / "vectors"
FILES: Final[dict[str, tuple[str, Callable[[], Json]]]] = {
    "encoding": ("specs/encoding.md", make_encoding),
    "primitives": ("specs/conventions.md", make_primitives),
    "identity": ("specs/identity.md", make_identity),
    "entry": ("specs/envelope.md §1 and §2", make_entry),
    "run": ("specs/envelope.md §2 and §3", make_run),
    "envelope": ("specs/envelope.md §4", make_envelope),
    "padding": ("specs/envelope.md §5", make_padding),
    "epoch": ("specs/epoch.md §1 to §3", make_epoch),
    "rotation": ("specs/epoch.md §4 and §5", make_rotation_vectors),
    "epoch-choice": ("specs/epoch.md §6 and §7", make_epochs),
    "repair": ("specs/epoch.md §9", make_repair),
    "snapshot": ("specs/manifest.md §5", make_snapshot),
    "manifest": ("specs/manifest.md", make_manifest),
    "beacon": ("specs/beacon.md", make_beacon),
    "retire": ("specs/retire.md", make_retire),
    "invite": ("specs/invite.md", make_invite),
    "device-link": ("specs/device-link.md", make_device_link),
    "verification": ("specs/verification.md", make_verification),
    "recovery": ("specs/recovery.md", make_recovery),
    "operations": ("specs/roster.md §2", make_operations),
    "rosters": ("specs/roster.md §3 to §11", make_rosters),
    "frames": ("specs/relay.md", make_frames),
    "bundle": ("specs/bundle.md", make_bundle),
    "backup": ("specs/backup.md", make_backup),
    "lan": ("specs/lan.md", make_lan),
    "feed": ("specs/feed.md", make_feed),
    "vault-items": ("specs/vault-items.md", make_vault_items),
    "together": ("specs/together.md", make_together),
    "people": ("specs/people.md", make_people),
    "vault-file": ("specs/vault.md §2 to §5", make_vault_file),
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
        EPOCH_CIPHERTEXTS.write_bytes(_json(make_epoch_ciphertexts()))
        RECOVERY_CIPHERTEXTS.write_bytes(_json(make_recovery_ciphertexts()))
        PEOPLE_CIPHERTEXTS.write_bytes(_json(make_people_ciphertexts()))
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
