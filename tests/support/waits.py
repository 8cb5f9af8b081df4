"""How long a test waits: for what must come as long as it takes; where a defence was taken out, for a moment only."""

from __future__ import annotations

from typing import Final

COMES: Final = 60.0  # seconds after which a thing that must come has not come, however busy this machine is
NEVER: Final = 2.0  # seconds in which a weakened relay does not do what the real one does in a fraction of them
