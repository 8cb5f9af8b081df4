"""A device's keys in one group. Implements specs/identity.md.

Keys are fresh for every group and never leave the device, so no two groups can be linked through a key.
"""

from __future__ import annotations

from cocoon_core.protocol.ids import DeviceId, HpkePublicKey
from cocoon_core.protocol.primitives import HpkeKey, Secret, SigningKey


class DeviceKeys:
    """The signing key (its public half is the device id) and the HPKE key that epoch secrets are wrapped to.

    Made from two independent 32-byte seeds, which the caller draws at random and keeps in the profile.
    """

    __slots__ = ("_hpke", "hpke_seed", "id", "signing", "signing_seed")

    def __init__(self, signing_seed: Secret, hpke_seed: Secret) -> None:
        self.signing_seed = signing_seed
        self.hpke_seed = hpke_seed
        self.signing = SigningKey(signing_seed)
        self.id = DeviceId(self.signing.public)
        self._hpke: HpkeKey | None = None

    @property
    def hpke(self) -> HpkeKey:
        """Made when first needed: most runs of a program never unwrap anything."""
        if self._hpke is None:
            self._hpke = HpkeKey(self.hpke_seed)
        return self._hpke

    @property
    def hpke_public(self) -> HpkePublicKey:
        return self.hpke.public

    def __repr__(self) -> str:
        return f"DeviceKeys({self.id!r}, hidden)"

    def __reduce__(self) -> str:
        raise TypeError("a secret is never pickled")
