"""What one device keeps on its disk: a profile, encrypted whole. Implements specs/storage.md.

`Profile` opens and closes it, `Database` is what the tables' modules speak to. Importing this package loads no key
ring library; that happens when a profile without a passphrase is made or opened.
"""

from __future__ import annotations

from cocoon_core.storage.database import Database, Migration
from cocoon_core.storage.passphrase import Cost
from cocoon_core.storage.profile import Profile

__all__ = ["Cost", "Database", "Migration", "Profile"]
