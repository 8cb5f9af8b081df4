"""Syncing over the local network, with no relay in reach. A part of `Cocoon`: one host serves all its groups."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from cocoon_core.cocoon_part import CocoonPart
from cocoon_core.errors import UsageError
from cocoon_core.group import Group
from cocoon_core.protocol.ids import GroupId
from cocoon_core.sync.lan import Exchanged, Lan, StartHost, open_lan
from cocoon_core.sync.mdns import Finder, MdnsFinder, local_addresses

LAN_FOLDER = "lan"  # in the profile's home, while a host runs; what is in it is ciphertext


@dataclass(frozen=True, slots=True)
class LanReport:
    """What a look around the local network did for each group. `met` says that some device of a group was there."""

    groups: dict[GroupId, Exchanged]
    met: bool


class LocalNetwork(CocoonPart):
    """The part of a profile that is about devices of the same network."""

    _hosts = False

    async def sync_lan(
        self,
        start_host: StartHost,
        groups: Sequence[Group],
        *,
        addresses: Sequence[str] = (),
        finder: Finder | None = None,
    ) -> LanReport:
        """Find other devices of these groups on this network, and exchange everything with each. Takes some seconds.

        Nobody is told which groups these are: only a device of a group recognises another one. Nothing is believed of
        a device that would not be believed of a relay.

        Args:
            start_host: makes the relay that others reach this device by: cocoon_cli.lan_host.start_host, for example.
            addresses: own IPv4 addresses to use; all on local networks, if not given.
            finder: another way to find devices than multicast DNS, for tests.

        Raises:
            UsageError: there is no group, or zeroconf is not installed.
            LocalStateError: this machine is on no local network, or this device cannot go on.
        """
        async with self._open_lan(start_host, groups, addresses, finder) as lan:
            await lan.run_once()
        found = {group.id: lan.exchanged[group.replica.record.number] for group in groups}
        met = lan.visited > 0 or any(visit.ok for exchanged in found.values() for visit in exchanged.visits)
        return LanReport(found, met)

    @asynccontextmanager
    async def watch_lan(
        self,
        start_host: StartHost,
        groups: Sequence[Group],
        *,
        addresses: Sequence[str] = (),
        finder: Finder | None = None,
    ) -> AsyncIterator[Lan]:
        """Stay in exchange with devices of these groups inside the block, as they come and go; `stay` ends by failure.

        Args, Raises: as `sync_lan`.
        """
        async with self._open_lan(start_host, groups, addresses, finder) as lan:
            yield lan

    @asynccontextmanager
    async def _open_lan(
        self, start_host: StartHost, groups: Sequence[Group], addresses: Sequence[str], finder: Finder | None
    ) -> AsyncIterator[Lan]:
        if not groups:
            raise UsageError("there is no group to be synced")
        if self._hosts:
            raise UsageError("this profile is in exchange with devices of the network already, by a watch that runs")
        own = list(addresses) or local_addresses()
        folder = self._profile.paths.home / LAN_FOLDER
        shutil.rmtree(folder, ignore_errors=True)  # of one that was killed
        self._hosts = True
        try:
            replicas = [group.replica for group in groups]
            async with open_lan(replicas, finder or MdnsFinder(own), start_host, folder, own, self._clock) as lan:
                yield lan
        finally:
            self._hosts = False
            shutil.rmtree(folder, ignore_errors=True)
