"""Keeping what items name alive at relays, and finding what a relay lost. Implements specs/vault.md §9.

A relay lets go of what nobody asked for in a long time, and to ask is to renew. A device asks for its member's files
after 30 days, and for those of others after 60: whoever is there does it for those who are not. What a relay lacks then
is put there again, from here or from another relay.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from cocoon_core.errors import RelayError, UntrustedInputError
from cocoon_core.protocol.constants import MAX_HAVE_HASHES, VAULT_OTHERS_RENEW_DAYS, VAULT_RENEW_DAYS
from cocoon_core.protocol.ids import BlobHash
from cocoon_core.protocol.vault_file import FileRef
from cocoon_core.storage.vault_transfers import Lease
from cocoon_core.sync.relay_list import DAY_MS
from cocoon_core.vault.holding import Holding
from cocoon_core.vault.relays import NowhereError, OpenRelays
from cocoon_core.vault.threads import in_lots

MOST_NAMES: Final = 20_000  # names that one run asks one relay for
_HAVE: Final = MAX_HAVE_HASHES  # names in one request
_AT_ONCE: Final = 1_000  # references between two looks at what else is to be done

# All that items name: whether it is the own member's, and what.
References = Callable[[], Iterable[tuple[bool, FileRef]]]


@dataclass(slots=True)
class Renewed:
    """What came of asking one relay.

    Attributes:
        files: how many were asked for.
        lacking: those of which something was missing there; they were queued to be sent again.
    """

    files: int = 0
    lacking: int = 0


def is_round_due(holding: Holding, url: str) -> bool:
    """True where a day passed since all that was due at a relay was renewed."""
    return holding.replica.clock() - holding.transfers.round_ended(url) >= DAY_MS


async def renew(
    holding: Holding,
    relays: OpenRelays,
    url: str,
    references: References,
    *,
    everything: bool = False,
    tell: Callable[[int, int], None] | None = None,
) -> Renewed:
    """Ask a relay for what is due, and queue what it lacks.

    Args:
        everything: whatever is named, due or not.
        tell: called with how many files it was asked for, and how many there are.

    Raises:
        RelayError: it could not be asked to the end. What it was asked for is renewed.
    """
    now, renewed, asked = holding.replica.clock(), Renewed(), 0
    due = await _find_due(holding, url, references, now, everything=everything)
    store = relays.store(url)
    batch: list[tuple[FileRef, Sequence[BlobHash]]] = []

    async def ask() -> None:
        nonlocal asked
        lacking = [0] * len(batch)
        for some in in_lots(((number, name) for number, (_, names) in enumerate(batch) for name in names), _HAVE):
            there = await store.have(holding.keys, [name for _, name in some])
            for number, name in some:
                lacking[number] += name not in there
        with holding.transfers.transaction():
            for (ref, names), count in zip(batch, lacking, strict=True):
                asked += len(names)
                renewed.files += 1
                renewed.lacking += bool(count)
                holding.transfers.set_leases(url, [(ref.id(), Lease(now, count))])
                if count:
                    holding.transfers.queue(url, ref, now)
        batch.clear()
        if tell is not None:
            tell(renewed.files, len(due))

    for ref in due:
        if asked >= MOST_NAMES and not everything:
            return renewed
        try:
            names: Sequence[BlobHash] = await holding.names(ref, partial(relays.get, holding.keys))
        except (NowhereError, UntrustedInputError):
            names = ref.names  # its list is lost or broken: what is known of it is kept alive
        except RelayError:
            continue
        batch.append((ref, names))
        if sum(len(names) for _, names in batch) >= _HAVE:
            await ask()
    await ask()
    with holding.transfers.transaction():
        holding.transfers.end_round(url, now)
    return renewed


async def _find_due(holding: Holding, url: str, references: References, now: int, *, everything: bool) -> list[FileRef]:
    """The files whose turn it is, the longest due first. What no item names any more is forgotten."""
    leases = holding.transfers.leases(url)
    queued = {ref.id() for ref in holding.transfers.queued(url)}
    seen: set[bytes] = set()
    found: list[tuple[int, FileRef]] = []
    met: list[tuple[bytes, Lease]] = []
    for count, (is_own, ref) in enumerate(references()):
        if count % _AT_ONCE == 0:
            await asyncio.sleep(0)
        file = ref.id()
        if file in seen:
            continue
        seen.add(file)
        lease = leases.get(file)
        if lease is None and not is_own and not everything:
            met.append((file, Lease(now)))  # whoever added it sends it
            continue
        days = VAULT_RENEW_DAYS if is_own else VAULT_OTHERS_RENEW_DAYS
        since = 0 if lease is None else lease.renewed_ms
        if not is_own and ref.chunks > MOST_NAMES and not everything:
            continue  # its owner's matter: else few bytes of a hostile member keep all devices asking
        if file not in queued and (everything or now - since >= days * DAY_MS):
            found.append((since, ref))
    with holding.transfers.transaction():
        holding.transfers.set_leases(url, met)
        holding.transfers.forget((leases.keys() | queued) - seen)
    return [ref for _, ref in sorted(found, key=lambda one: one[0])]
