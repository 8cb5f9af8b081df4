"""`sync --lan`: with devices of the same network, where no relay can be reached or none is wanted."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from cocoon_cli.context import Context
from cocoon_cli.output import Outcome, Screen
from cocoon_core.errors import LocalStateError, RelayUnavailable

if TYPE_CHECKING:
    from cocoon_core import Cocoon, Group

NOBODY = (
    "No device of your groups was found on this network. On another one `cocoon sync --lan` has to run at the same "
    "time, and nothing may keep the two apart (a guest network, a firewall)."
)


async def sync_network(cocoon: Cocoon, context: Context, addresses: Sequence[str]) -> Outcome:
    """Find devices of the chosen groups on this network and exchange everything with each."""
    from cocoon_cli.lan_host import start_host

    groups = context.choose_groups(cocoon)
    context.output.note("Looking for devices on this network …")
    report = await cocoon.sync_lan(start_host, groups, addresses=addresses)
    if not report.met:
        raise RelayUnavailable(NOBODY)
    lines: list[tuple[str, str]] = []
    devices: list[dict[str, Any]] = []
    notes: list[str] = []
    for group in groups:
        done = report.groups[group.id]
        stop = f" Not in sync: {done.error.rstrip('.')}." if done.error is not None else ""
        lines.append((group.name, f": sent {done.sent}, received {done.received}.{stop}"))
        reached = {visit.device for visit in done.visits if visit.ok}
        for visit in done.visits:
            devices.append(
                {
                    "group": str(group.id),
                    "device": visit.device,
                    "url": visit.url,
                    "ok": visit.ok,
                    "error": visit.error,
                    "sent": visit.sent,
                }
            )
            if not visit.ok and visit.device not in reached:
                notes.append(
                    f"{group.name}: the device at {visit.url} was left before all was exchanged: {visit.error}"
                )
        notes += [f"Warning ({group.name}): {alarm}" for alarm in group.alarms()]

    def draw(screen: Screen) -> None:
        for title, words in lines:
            screen.line((title, "bold"), words)

    data = {
        "sent": sum(done.sent for done in report.groups.values()),
        "received": sum(done.received for done in report.groups.values()),
        "devices": devices,
        "stopped": {str(group): done.error for group, done in report.groups.items() if done.error is not None},
        "alarms": [alarm for group in groups for alarm in group.alarms()],
    }
    return Outcome(data, draw, notes, LocalStateError.exit_code if data["stopped"] else 0)


@contextlib.asynccontextmanager
async def watch_network(
    cocoon: Cocoon, groups: Sequence[Group], addresses: Sequence[str]
) -> AsyncIterator[Coroutine[Any, Any, None]]:
    """Stay in exchange with devices of this network inside the block; gives the work that fails if that does."""
    from cocoon_cli.lan_host import start_host

    async with cocoon.watch_lan(start_host, groups, addresses=addresses) as lan:
        yield lan.stay()
