"""Devices that hand each other runs directly, without relays: what counting and branches do in any order of arrival.

Every peer is a whole replica with a database of its own. Runs go from hand to hand in the envelopes of the group's
first epoch, which all of them hold, and nobody begins another: what is final is said by hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from random import Random
from typing import Any

from cocoon_core.protocol.cursor import Cursor
from cocoon_core.protocol.descriptor import Descriptor, DocumentKind
from cocoon_core.protocol.device import DeviceKeys
from cocoon_core.protocol.envelope import seal_envelope
from cocoon_core.protocol.epoch import Epoch
from cocoon_core.protocol.ids import DeviceId, Incarnation, MemberId
from cocoon_core.protocol.invite import InviteKeys
from cocoon_core.protocol.operation_forms import Policy, Role
from cocoon_core.protocol.operations import Create, Invite, Join, SetRole
from cocoon_core.protocol.operations_devices import AddDevice
from cocoon_core.protocol.primitives import Secret
from cocoon_core.protocol.run import Run, parse_run
from cocoon_core.storage.database import Database
from cocoon_core.storage.epochs import EpochTable
from cocoon_core.storage.groups import ACTIVE, GroupTable
from cocoon_core.storage.migrations import migrate
from cocoon_core.sync.receiving import Received, receive
from cocoon_core.sync.replica import Replica
from cocoon_core.sync.session import Deliver
from tests.support.hostile import Forger

KEY = Secret(bytes(32))
INCARNATION = Incarnation(bytes(16))


class Peer:
    """One device. `replica` is whole; `wires` are all runs of its own chain, in their order."""

    def __init__(self, peers: Peers, name: str, keys: DeviceKeys | None = None) -> None:
        self.peers, self.name = peers, name
        keys = keys or DeviceKeys(Secret(peers.random_bytes(32)), Secret(peers.random_bytes(32)))
        path = peers.folder / f"{name}.db"
        path.touch()
        self.database = Database.open(path, KEY)
        self.database.execute("PRAGMA synchronous=OFF")
        migrate(self.database)
        self.keys = keys
        self.replica: Replica

    def begin(self, create: Create) -> None:
        table = GroupTable(self.database)
        with self.database.transaction():
            number = table.add(create.group_id(), ACTIVE, self.keys, create.encode_body(), self.name, (), 1)
            EpochTable(self.database, number).add(self.peers.epoch, 1)
        self.open()

    def open(self) -> None:
        self.replica = Replica(self.database, GroupTable(self.database).all()[0], self.clock)
        self.replica.epochs.rotate_after = lambda operation: None  # type: ignore[method-assign]

    def clock(self) -> int:
        """As seats of a world have it, so that a Forger works for both."""
        self.peers.now_ms += 1
        return self.peers.now_ms

    @property
    def device(self) -> DeviceId:
        return self.replica.keys.id

    @property
    def member(self) -> MemberId:
        member = self.replica.members.member_ever(self.device)
        assert member is not None
        return member

    def runs(self) -> list[Run]:
        """The runs of the chain that stands here of its own device."""
        self.replica.form_runs()
        rows = self.replica.forks.table.standing(self.device, 0)
        return [parse_run(wire, self.replica.group).stored() for _, _, _, wire in rows]

    def take(self, wires: Iterable[bytes]) -> Received:
        """Receive runs in one delivery."""
        epoch = self.peers.epoch
        envelopes = tuple(seal_envelope(wire, epoch) for wire in wires)
        self.peers.place += len(envelopes)
        cursor = Cursor(INCARNATION, self.peers.place)
        return receive(
            self.replica, "peers", Deliver(epoch.topic, self.peers.place - len(envelopes), envelopes, cursor)
        )

    def edit(self, descriptor: Descriptor, key: str, value: Any) -> None:
        with self.replica.change(descriptor) as root:
            target = root["items"] if descriptor.schema else root
            target[key] = value

    def diary(self) -> Descriptor:
        return Descriptor(DocumentKind.OWNED, "diary", self.member)

    def plain(self, descriptor: Descriptor) -> Any:
        return self.replica.shelf.get(descriptor).read().to_python()

    def forger(self) -> Forger:
        self.replica.form_runs()
        return Forger(self)  # type: ignore[arg-type]  # it asks for replica, device and clock

    def documents(self) -> dict[Any, Any]:
        """Every document in which something counts: what counts, and what it shows."""
        found = {}
        for record in self.replica.documents.all():
            counting = self.replica.shelf.counting_changes(record)
            if counting:
                shown = self.replica.shelf.get(record.descriptor)
                counts = frozenset((arrival.device, arrival.change.raw) for arrival in counting)
                found[record.document] = (counts, shown.heads, shown.read().to_python())
        return found

    def chains(self) -> dict[DeviceId, Any]:
        return {device: (end.last_seq, end.last_id) for device, end in self.replica.chains.items()}

    def close(self) -> None:
        self.database.close()


class Peers:
    """A group of peers, each a member with one device unless added otherwise. The seed decides all keys and ids."""

    def __init__(self, folder: Path, seed: int = 0) -> None:
        self.random_bytes = Random(~seed).randbytes
        self.folder, self.now_ms, self.place = folder, 1_790_000_000_000, 1
        self.epoch = Epoch(Secret(self.random_bytes(32)))
        self.all: list[Peer] = []

    def found(self, *names: str, admins: Sequence[str] = ()) -> list[Peer]:
        """A group with these members, all level; the first is its creator."""
        first, *others = [Peer(self, name) for name in names]
        keys = first.keys
        self.create = Create(
            self.random_bytes(32), keys.id, keys.hpke_public, self.epoch.topic, "Family", first.name, Policy()
        )
        first.begin(self.create)
        first.replica.write_operation(self.create)
        invite = InviteKeys(Secret(self.random_bytes(32)))
        first.replica.write_operation(
            Invite.make(
                invite.signing, invite.hpke().public, invite.mailbox_secret, first.replica.group, first.device, uses=11,
                expires_ms=0,
            )
        )  # fmt: skip
        for peer in others:
            peer.begin(self.create)
            peer.take(run.wire for run in first.runs())
            keys = peer.keys
            peer.replica.write_operation(
                Join.make(invite.signing, peer.replica.group, keys.id, keys.hpke_public, peer.name)
            )
        self.all = [first, *others]
        self.level()
        for peer in others:
            if peer.name in admins:
                first.replica.write_operation(SetRole(peer.member, Role.ADMIN))
        self.level()
        return self.all

    def add_device(self, owner: Peer, name: str) -> Peer:
        """A second device of a member, all level."""
        peer = Peer(self, name)
        body = AddDevice.make(peer.keys.signing, owner.replica.group, owner.device, peer.keys.hpke_public)
        owner.replica.write_operation(body)
        peer.begin(self.create)
        self.all.append(peer)
        self.level()
        return peer

    def wires(self) -> list[bytes]:
        """All runs of all chains."""
        return [run.wire for peer in self.all for run in peer.runs()]

    def level(self, rounds: int = 3) -> None:
        """Hand everything to everybody until nothing moves."""
        for _ in range(rounds):
            wires = self.wires()
            if not sum(peer.take(wires).entries for peer in self.all):
                return

    def close(self) -> None:
        for peer in self.all:
            peer.close()
