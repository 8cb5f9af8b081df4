"""What the relays hold of a group, and whether they keep to the end of an epoch. A part of `Group`."""

from __future__ import annotations

import secrets
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from cocoon_core.errors import RelayError, RelayRefused, RelayUnavailable, UntrustedInputError
from cocoon_core.group_part import GroupPart
from cocoon_core.protocol.envelope import seal_envelope
from cocoon_core.protocol.epoch import Epoch, TopicKeys
from cocoon_core.protocol.ids import BlobHash
from cocoon_core.protocol.invite import mailbox_keys
from cocoon_core.protocol.manifest import open_manifest, read_manifest_body
from cocoon_core.protocol.run import parse_run
from cocoon_core.sync.blobs import BlobStore
from cocoon_core.sync.mailbox import put_mailbox
from cocoon_core.sync.reading import read_topic

PROBE_BYTES = 64  # of an append that should be refused


@dataclass(frozen=True, slots=True)
class RelayAudit:
    """What one relay holds and shows of this group: (topic id in hex, envelopes, bytes) and the number of blobs."""

    url: str
    topics: tuple[tuple[str, int, int], ...]
    blobs: int


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What every relay holds of this group."""

    relays: tuple[RelayAudit, ...]


@dataclass(frozen=True, slots=True)
class AppendProbe:
    """Whether a relay refused to append to a topic (its id in hex) whose epoch has ended, and with which words."""

    url: str
    topic: str
    refused: bool
    reason: str


class Auditing(GroupPart):
    """The part of a group that asks relays what they hold."""

    async def audit(self) -> AuditReport:
        """Ask every relay for all that it holds of this group, and count it.

        It counts what this device has the keys of: the topics of the epochs that it knows and the mailboxes of invites.

        Raises:
            RelayUnavailable: no relay could be reached.
        """
        audits: list[RelayAudit] = []
        errors: list[RelayError] = []
        for url in self.relays:
            try:
                audits.append(await self._audit_relay(url))
            except RelayError as error:
                errors.append(error)
        if not audits:
            raise RelayUnavailable("; ".join(map(str, errors)))
        return AuditReport(tuple(audits))

    async def _audit_relay(self, url: str) -> RelayAudit:
        epochs = [stored.epoch for stored in self._replica.epochs.held.values()]
        repairs = [self._replica.epochs.repair_of(epoch) for epoch in epochs]
        invites = self._roster.invites.values() if self._replica.members.has_begun else ()
        keys: list[TopicKeys] = [*epochs, *repairs, *(mailbox_keys(invite.mailbox_secret) for invite in invites)]
        topics = []
        for topic in keys:
            envelopes = await read_topic(self._dial, url, topic)
            if envelopes:
                topics.append((topic.topic.hex(), len(envelopes), sum(map(len, envelopes))))
        return RelayAudit(url, tuple(topics), await self._count_blobs(url))

    async def _count_blobs(self, url: str) -> int:
        """How many blobs the relay has of those that manifests of the epochs known here, and items, name."""
        found: set[BlobHash] = set()
        store = self._dial.blobs(url)
        try:
            for stored in self._replica.epochs.held.values():
                if stored.manifest is not None:
                    with suppress(RelayError):  # the relay no longer has that topic
                        found |= await self._blobs_of(store, stored.epoch, stored.manifest)
            return len(found) + await self._count_chunks(store)
        finally:
            await store.close()

    async def _count_chunks(self, store: BlobStore) -> int:
        """How many chunks of files the relay has, lists and small pictures among them."""
        keys, names = self._replica.epoch, set[BlobHash]()
        for _, ref in self._transfers.references() if self._transfers.references is not None else ():
            with suppress(RelayError, UntrustedInputError):  # its list is not there, or is broken
                names.update((await self._transfers.holding.names(ref, partial(store.get_blob, keys)))[:])
        return len(await store.have(keys, names)) if names else 0

    async def _blobs_of(self, store: BlobStore, epoch: Epoch, wire: bytes) -> set[BlobHash]:
        """Pages and snapshots of one manifest that the relay has."""
        group = self._replica.group
        body = read_manifest_body(parse_run(wire, group).stored().entries[-1].body)
        pages = await store.have(epoch, body.pages) if body.pages else set()
        if len(pages) < len(body.pages):
            return pages
        held = {page: await store.get_blob(epoch, page) for page in pages}
        documents = open_manifest(body, group, epoch.topic, held).stored_documents()
        snapshots = [page.name for state in documents if state.snapshot is not None for page in state.snapshot.pages]
        return pages | (await store.have(epoch, snapshots) if snapshots else set())

    async def probe_ended(self) -> list[AppendProbe]:
        """Try to append to every topic whose epoch has ended, with its own keys, as a removed member could.

        What is appended is random bytes, which no device would take in.

        Raises:
            RelayUnavailable: a relay could not be reached.
        """
        epochs = self._replica.epochs
        ended = [stored.epoch for topic, stored in epochs.held.items() if epochs.is_before_current(topic)]
        return [await self._probe(url, epoch) for url in self.relays for epoch in ended]

    async def _probe(self, url: str, epoch: TopicKeys) -> AppendProbe:
        junk = seal_envelope(secrets.token_bytes(PROBE_BYTES), epoch)
        try:
            await put_mailbox(self._dial, url, epoch, junk)
        except RelayRefused as error:
            return AppendProbe(url, epoch.topic.hex(), True, str(error))
        return AppendProbe(url, epoch.topic.hex(), False, "")
