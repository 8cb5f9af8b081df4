"""What the relay counts of itself, in Prometheus' text form. No number belongs to a topic, a member or an address.

The names are listed in relay/README.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

_HELP: Final = {
    "opens": "topics opened",
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
}


class Metrics:
    """Counters since the start."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter(dict.fromkeys(_HELP, 0))
        self._refused: Counter[str] = Counter()

    def count(self, name: str, amount: int = 1) -> None:
        self._counts[name] += amount

    def count_refusal(self, code: str) -> None:
        self._refused[code] += 1

    def render(self, gauges: Mapping[str, int]) -> str:
        """The text that /metrics answers; `gauges` are the values of now."""
        lines: list[str] = []
        for name, value in sorted(self._counts.items()):
            lines += [
                f"# HELP cocoon_relay_{name}_total {_HELP[name]}",
                f"# TYPE cocoon_relay_{name}_total counter",
                f"cocoon_relay_{name}_total {value}",
            ]
        lines += ["# HELP cocoon_relay_refused_total refusals by code", "# TYPE cocoon_relay_refused_total counter"]
        lines += [
            f'cocoon_relay_refused_total{{code="{code}"}} {value}' for code, value in sorted(self._refused.items())
        ]
        for name, value in sorted(gauges.items()):
            lines += [f"# TYPE cocoon_relay_{name} gauge", f"cocoon_relay_{name} {value}"]
        return "\n".join(lines) + "\n"
