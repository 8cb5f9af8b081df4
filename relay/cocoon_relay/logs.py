"""What the relay writes of itself, on standard error: events with fields, as text or as one JSON object a line.

No line carries a topic, hash, token or byte of a request, ever. No line carries an address unless the operator asks for
it (`log_addresses`), to find a fault: then who connects, goes and is refused is written with theirs, and the relay says
so when it starts. Implements specs/relay.md §9.
"""

from __future__ import annotations

import json
import logging
import sys
from time import gmtime, strftime
from typing import Any, Final

_log = logging.getLogger("cocoon_relay")
_EVENT: Final = "relay_event"


def set_up(form: str, level: str, *, addresses: bool) -> None:
    """Write to standard error from now on."""
    handler = logging.StreamHandler(sys.stderr)
    text = logging.Formatter("%(levelname)s %(message)s")
    handler.setFormatter(_JsonLines() if form == "json" else text)
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    # Its lines quote addresses and the server's words; what of it needs an operator is said here, in other words.
    logging.getLogger("asyncpg").setLevel(logging.CRITICAL + 1)
    _log.setLevel(logging.INFO if addresses else level.upper())
    if addresses:
        log_event("log_addresses", level=logging.WARNING, note="addresses of clients are written to this log")


def log_event(event: str, *, level: int = logging.INFO, **fields: Any) -> None:
    """Write that something happened, with its fields."""
    if _log.isEnabledFor(level):
        said = [f"{name}={json.dumps(value) if ' ' in str(value) else value}" for name, value in fields.items()]
        _log.log(level, "%s", " ".join([event, *said]), extra={_EVENT: {"event": event, **fields}})


class AddressLog:
    """Writes who connects, goes and is refused; without the operator's wish it writes nothing."""

    def __init__(self, *, wanted: bool) -> None:
        self._wanted = wanted

    def connected(self, address: str) -> None:
        if self._wanted:
            log_event("connected", address=address)

    def gone(self, address: str, seconds: float) -> None:
        if self._wanted:
            log_event("gone", address=address, seconds=round(seconds, 1))

    def refused(self, address: str, code: str) -> None:
        if self._wanted:
            log_event("refused", address=address, code=code)


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        said = getattr(record, _EVENT, None) or {"event": "message", "text": record.getMessage()}
        when = strftime("%Y-%m-%dT%H:%M:%S", gmtime(record.created))
        return json.dumps({"time": f"{when}.{int(record.msecs):03}Z", "level": record.levelname.lower(), **said})
