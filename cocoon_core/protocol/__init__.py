"""The specs in code: pure functions and values. No I/O, no clock, no randomness; they arrive as arguments."""
