"""What the relay counts of itself, in Prometheus' text form. No number belongs to a topic, a member or an address.

The names are listed in relay/README.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

from cocoon_core.protocol.frames import ErrorCode

_COUNTERS: Final = {
    "opens": "topics opened",
    "requests": "requests for sync without a WebSocket",
    "puts": "puts acknowledged",
    "envelopes": "envelopes acknowledged, those already stored included",
    "entries": "envelopes sent to subscribers",
    "names": "names of envelopes sent",
    "fetched": "envelopes sent by their places",
    "casts": "casts forwarded",
    "casts_dropped": "casts not forwarded because the reader was slow",
    "blobs_put": "blobs stored",
    "blobs_sent": "blobs sent",
    "failures": "requests that ended with a fault of the relay itself",
    "commits": "transactions of the store",
    "connections_turned_away": "connections over a limit of the relay or their address",
    "connections_cut_off": "connections of readers that did not read",
    "gc_rounds": "rounds of gc that were finished",
    "gc_failures": "rounds of gc that were put off or failed",
    "gc_topics": "topics removed by gc",
    "gc_entries": "envelopes removed by gc",
    "gc_blobs": "blobs removed by gc",
    "gc_files": "files removed by gc that a crash had left without a row",
}
_GAUGES: Final = {
    "connections": "connections open",
    "topics_open": "topics that somebody has open",
    "topics": "topics kept",
    "stored_entries": "envelopes kept",
    "stored_bytes": "bytes of envelopes kept",
    "stored_blobs": "blobs kept",
    "stored_blob_bytes": "bytes of blobs kept",
    "backlog_bytes": "bytes of puts that wait for the disk",
    "free_bytes": "bytes that the disk of the blobs has left",
    "access_tokens": "access tokens",
    "draining": "1 once the relay was told to end",
    "gc_last_seconds": "how long the last round of gc took",
    "gc_last_timestamp_seconds": "when the last round of gc ended, in seconds since 1970",
}
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Counters since the start."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter(dict.fromkeys(_COUNTERS, 0))
        self._refused: Counter[str] = Counter(dict.fromkeys(ErrorCode, 0))

    def count(self, name: str, amount: int = 1) -> None:
        self._counts[name] += amount

    def count_refusal(self, code: str) -> None:
        self._refused[code] += 1

    def render(self, now: Mapping[str, float]) -> str:
        """The text that /metrics answers; `now` are gauges, and counters that are kept elsewhere."""
        lines: list[str] = []
        counts = self._counts | {name: now[name] for name in _COUNTERS.keys() & now.keys()}
        for name, value in sorted(counts.items()):
            lines += _describe(f"{name}_total", "counter", _COUNTERS[name])
            lines.append(f"cocoon_relay_{name}_total {value}")
        lines += _describe("refused_total", "counter", "refusals by code")
        lines += [
            f'cocoon_relay_refused_total{{code="{code}"}} {value}' for code, value in sorted(self._refused.items())
        ]
        for name in sorted(_GAUGES.keys() & now.keys()):
            lines += _describe(name, "gauge", _GAUGES[name])
            lines.append(f"cocoon_relay_{name} {now[name]}")
        return "\n".join(lines) + "\n"


def _describe(name: str, kind: str, text: str) -> list[str]:
    return [f"# HELP cocoon_relay_{name} {text}", f"# TYPE cocoon_relay_{name} {kind}"]
