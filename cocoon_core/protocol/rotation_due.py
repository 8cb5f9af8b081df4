"""When an epoch should end though nobody was put out: by age and size. Implements specs/epoch.md §4.

Nothing that members must agree on: it only moves a device to rotate, in the order of ranks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cocoon_core.protocol.constants import EPOCH_BYTES, EPOCH_ENVELOPES, EPOCH_ENVELOPES_EACH
from cocoon_core.protocol.epochs import Gone
from cocoon_core.protocol.operations_rotation import Reason

_DAY_MS: Final = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class EpochUse:
    """What one device saw of an epoch. Manifest, rotation, beacons and what did not open are not counted."""

    began_ms: int  # when this device first opened it, by its own clock
    envelopes: int
    size: int  # bytes of these envelopes


def find_reason(
    use: EpochUse, gone: Gone, forked: bool, recipients: int, epoch_days: int, now_ms: int
) -> Reason | None:
    """Why a device should end an epoch, or None.

    Args:
        gone: `Choice.gone`. With a device in it nothing may be sealed before the epoch was ended.
        forked: whether other ends of the graph of epochs stand beside this one.
        recipients: how many the epoch has.
        epoch_days: of the policy.
        now_ms: the device's clock.
    """
    if gone.devices or gone.others:
        return Reason.REMOVAL
    if gone.invites:
        return Reason.INVITE
    if forked:
        return Reason.FORK
    if use.size >= EPOCH_BYTES or use.envelopes >= max(EPOCH_ENVELOPES, EPOCH_ENVELOPES_EACH * recipients):
        return Reason.SIZE
    if now_ms - use.began_ms >= epoch_days * _DAY_MS:
        return Reason.AGE
    return None
