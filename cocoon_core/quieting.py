"""Quiet hours of a profile: when hooks of its groups are told nothing. A part of `Cocoon`. Spec: specs/events.md §6."""

from __future__ import annotations

from cocoon_core.cocoon_part import CocoonPart
from cocoon_core.errors import UsageError
from cocoon_core.social.mutes import QuietHours, hours_of
from cocoon_core.storage.mutes import read_quiet_hours, write_quiet_hours


class Quieting(CocoonPart):
    """The part of a profile that is about quiet hours."""

    @property
    def quiet_hours(self) -> QuietHours | None:
        """From when to when, by the wall clock of this device; None where there are none."""
        found = read_quiet_hours(self._profile.database)
        return None if found is None else hours_of(*found)

    async def set_quiet_hours(self, hours: QuietHours | None) -> None:
        """Set them, to the minute, or have none. What they hold back is told when they end; who looks sees it before.

        Raises:
            UsageError: they begin when they end.
        """
        value = None
        if hours is not None:
            value = hours.start.hour * 60 + hours.start.minute, hours.end.hour * 60 + hours.end.minute
            if value[0] == value[1]:
                raise UsageError("quiet hours that begin when they end are none, or all day; mute the group instead")
        with self._profile.database.transaction():
            write_quiet_hours(self._profile.database, value)
        for group in self._groups.values():
            group.notices.wake()
