"""Pins for every operation that takes rights away: the last entry of each device that this one knows and counts.

The one place where they are made, so that no two operations pin differently. What a pin means is for the roster
(specs/roster.md §6): of a device that is put out, entries up to its pin go on counting, later ones do not.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from cocoon_core.protocol.ids import DeviceId
from cocoon_core.protocol.operation_forms import Pin

if TYPE_CHECKING:
    from cocoon_core.sync.replica import Replica


def pin_devices(replica: Replica, devices: Iterable[DeviceId]) -> tuple[Pin, ...]:
    """The pins of these devices, by rising id; a device of which nothing is known here has none.

    Only devices that count now: of one that is out already its own removal says how far it counts. Every linked entry
    of such a device counts, so its pin is the end of its chain as it is here; what is parked was not linked yet, and is
    not in.
    """
    pins = []
    for device in sorted(set(devices) & replica.members.roster.devices.keys()):
        end = replica.chains.get(device)
        if end is not None:
            pins.append(Pin(device, end.last_seq, end.last_id))
    return tuple(pins)
