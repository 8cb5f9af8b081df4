"""The steps that make a database's schema, in order. Implements specs/storage.md §7.

Each module that owns tables holds the `Migration` that makes them; this one only puts them into a row. A step that was
released is never changed, moved or removed: a new step follows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cocoon_core.errors import UpdateNeededError
from cocoon_core.storage.beacons import BEACONS
from cocoon_core.storage.branches import COUNTING
from cocoon_core.storage.database import Database, Migration
from cocoon_core.storage.device_links import DEVICE_LINKS
from cocoon_core.storage.documents import DOCUMENTS
from cocoon_core.storage.epochs import EPOCHS, WRAPS
from cocoon_core.storage.feed import FEED
from cocoon_core.storage.groups import GROUPS, GUESTS
from cocoon_core.storage.joins import JOINS
from cocoon_core.storage.log import LOG
from cocoon_core.storage.member_profiles import MEMBER_PROFILES
from cocoon_core.storage.meta import META
from cocoon_core.storage.mutes import MUTES
from cocoon_core.storage.notices import NOTICES
from cocoon_core.storage.promised import PROMISED
from cocoon_core.storage.recovery import RECOVERY
from cocoon_core.storage.relays import RELAYS
from cocoon_core.storage.restored import RESTORED
from cocoon_core.storage.retires import RETIRES
from cocoon_core.storage.search import SEARCH
from cocoon_core.storage.seen import SEEN
from cocoon_core.storage.set_aside import SET_ASIDE
from cocoon_core.storage.snapshots import SNAPSHOTS
from cocoon_core.storage.together import TOGETHER
from cocoon_core.storage.vault_contents import VAULT_CONTENTS
from cocoon_core.storage.vault_items import VAULT_ITEMS
from cocoon_core.storage.vault_transfers import VAULT_TRANSFERS
from cocoon_core.storage.verifications import VERIFICATIONS
from cocoon_core.storage.views import VIEWS

# The number of a step is its place, counted from 1; SQLite keeps the last one done as `user_version`.
MIGRATIONS: Final[tuple[Migration, ...]] = (
    META,
    GROUPS,
    LOG,
    DOCUMENTS,
    VIEWS,
    JOINS,
    DEVICE_LINKS,
    VERIFICATIONS,
    RECOVERY,
    COUNTING,
    EPOCHS,
    GUESTS,
    RESTORED,
    RELAYS,
    SNAPSHOTS,
    BEACONS,
    SET_ASIDE,
    RETIRES,
    PROMISED,
    WRAPS,
    VAULT_ITEMS,
    VAULT_CONTENTS,
    VAULT_TRANSFERS,
    FEED,
    TOGETHER,
    MEMBER_PROFILES,
    SEEN,
    SEARCH,
    NOTICES,
    MUTES,
    # New steps go here.
)


def read_version(database: Database) -> int:
    """The number of the last step that was done; 0 for an empty database."""
    version: int = database.query_value("PRAGMA user_version")
    return version


def migrate(database: Database, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """Do the steps that this database lacks, each in a transaction of its own with its number.

    Raises:
        UpdateNeededError: a newer Cocoon made steps that this one does not know.
    """
    version = read_version(database)
    if version > len(migrations):
        raise UpdateNeededError(
            f"this profile has schema {version}, and this version knows {len(migrations)}; install a newer Cocoon"
        )
    for number, migration in enumerate(migrations[version:], start=version + 1):
        with database.transaction():
            if migration.sql:
                database.execute(migration.sql)
            if migration.run is not None:
                migration.run(database)
            database.execute(f"PRAGMA user_version = {number}")
