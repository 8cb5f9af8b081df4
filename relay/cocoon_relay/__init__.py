"""cocoon-relay: stores and forwards what it cannot read.

Dumb on purpose: it verifies one signature (the topic's), counts bytes, and stores opaque envelopes and blobs. The way
of a put: doorman → connection → store → hub → subscription. Implements specs/relay.md; of the core it imports
`protocol.frames`, `protocol.primitives` and what those need, and nothing that opens an envelope.
"""

from typing import Final

__version__: Final = "0.1.0"
