"""The devices of a group's members: who has which, and putting one out. A part of `Group`.

A device is added by linking (device_linking.py). Rights are the roster's (specs/roster.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cocoon_core.errors import UnknownItemError, UsageError
from cocoon_core.group_part import GroupPart
from cocoon_core.protocol.ids import DeviceId, MemberId
from cocoon_core.protocol.operations_devices import RemoveDevice
from cocoon_core.sync.pins import pin_devices


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """A device of a member. `last_seen` is the hour of its newest entry that is here, in UTC; None of somebody else's
    who wants nobody to be told.
    """

    id: DeviceId
    member: MemberId
    member_name: str
    mine: bool
    this: bool
    last_seen: datetime | None


class Devices(GroupPart):
    """The part of a group that is about devices."""

    def devices(self) -> list[DeviceInfo]:
        """All devices that are valid now: one's own first, then those of the others by seniority."""
        roster, me, quiet = self._roster, self.me, self._quiet()
        members = sorted(roster.members.values(), key=lambda member: (member.id != me, member.seniority))
        return [
            DeviceInfo(
                device,
                member.id,
                member.shown_name,
                member.id == me,
                device == self._replica.keys.id,
                None if member.id in quiet and member.id != me else self._last_seen([device]),
            )
            for member in members
            for device in member.devices
        ]

    async def remove_device(self, reference: str) -> DeviceInfo:
        """Put a device out: another one of one's own, or as an admin anybody's. Gives what it was.

        The epoch ends with it, as with the removal of a member. What it wrote and this device knows goes on counting.

        Raises:
            UnknownItemError: no device begins with that, or more than one.
            UsageError: it is this very device, or one of somebody else and this member is no admin.
        """
        wanted = reference.strip().lower()
        found = [device for device in self.devices() if len(wanted) >= 4 and device.id.hex().startswith(wanted)]
        if len(found) != 1:
            raise UnknownItemError(f"{'no' if not found else 'more than one'} device's id begins with {reference!r}")
        device = found[0]
        if device.this:
            raise UsageError("that is this device; remove it from another one of yours, or leave the group")
        if not device.mine:
            self._require_admin("remove somebody else's device")
        self._require_me()
        self._replica.write_operation(RemoveDevice(device.id, pin_devices(self._replica, [device.id])))
        return device
