"""From a relay's envelopes to documents and back: linking, the replica, the sans-I/O session and the transports."""
