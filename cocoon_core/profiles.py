"""What members say of themselves in one group: a line, a picture, what they want to be told of them. `group.profile`.

A profile is for one group. It holds nothing that stands in another group too: what one writes and shows in two groups
can be compared by whoever is in both, and by nobody else. Spec: specs/people.md §1.
"""

from __future__ import annotations

from pathlib import Path

from cocoon_core.errors import UnknownItemError, UsageError
from cocoon_core.protocol.constants import MAX_ABOUT_BYTES
from cocoon_core.protocol.ids import MemberId
from cocoon_core.social.member_profiles import ABOUT, PICTURE, PROFILE_NAME, QUIET, SEEN, MemberProfiles
from cocoon_core.storage.member_profiles import MemberProfile
from cocoon_core.sync.events import DocumentChanged, GroupEvent
from cocoon_core.sync.replica import Replica
from cocoon_core.vault.naming import clean_text
from cocoon_core.vault_adding import PICTURE_NAME
from cocoon_core.vaulting import Vault


class Profiles:
    """The profiles of one group: `group.profile`. Get it from `Group`, do not make it."""

    def __init__(self, replica: Replica, vault: Vault) -> None:
        self._replica, self._vault = replica, vault
        self.view = MemberProfiles(replica)

    # --- reading

    def get(self, member: MemberId | None = None) -> MemberProfile:
        """What a member says, or oneself if none is named."""
        wanted = member or self._replica.members.member_of(self._replica.keys.id)
        return MemberProfile() if wanted is None else self.view.rows.get(wanted)

    def changed(self, event: GroupEvent) -> list[MemberId]:
        """The member whose profile an event of `Group.events` is about; none for others."""
        if not isinstance(event, DocumentChanged) or event.name != PROFILE_NAME:
            return []
        record = self._replica.documents.find(event.document)
        if record is None or record.descriptor.member is None or not event.keys & {ABOUT, PICTURE}:
            return []
        return [record.descriptor.member]

    def pictures(self) -> dict[MemberId, str]:
        """The items of the vault that are members' pictures, by member; of those whose picture can be shown."""
        return {member: item.hex() for member, item in self.view.rows.pictures().items()}

    async def picture(self, member: MemberId | None = None) -> bytes:
        """A member's picture, or one's own: a WebP or JPEG of at most 512 pixels a side, whoever sent it.

        Raises:
            UnknownItemError: this member has none.
            RelayError, NotYetError: it is not here, and cannot be had now.
            MalformedError, DecryptionError: whoever made it broke it.
        """
        wanted = member or self._replica.members.member_of(self._replica.keys.id)
        item = self.pictures().get(wanted) if wanted is not None else None
        if item is None:
            raise UnknownItemError("there is no picture of this member")
        return await self._vault.thumbnail(item)

    # --- writing one's own

    async def set(
        self,
        *,
        about: str | None = None,
        picture: str | Path | None = None,
        quiet: bool | None = None,
        tells_seen: bool | None = None,
    ) -> MemberProfile:
        """Change what one says of oneself in this group; what is not given stays.

        Args:
            about: a line; an empty one takes it away.
            picture: a photo, of which a small picture is drawn, without anything that the file says of its maker. The
                picture before goes out of the vault.
            quiet: no device of a member shows when one was last here, or that one is here or typing; and one's own
                devices do not say the latter. Who reads the entries themselves still sees when they were signed.
            tells_seen: authors are told which posts of theirs one has seen.

        Raises:
            UsageError: the line is too long, or the file is no photo.
            StorageFullError: there is no room here. Nothing was changed.
        """
        if about is not None and len(about.encode(errors="replace")) > MAX_ABOUT_BYTES:
            raise UsageError(f"what one says of oneself is at most {MAX_ABOUT_BYTES} bytes of text")
        self._replica.members.require_member(self._replica.keys.id)
        changes: dict[str, str | bytes | bool | None] = {}
        if about is not None:
            changes[ABOUT] = clean_text(about, MAX_ABOUT_BYTES) or None
        for key, wish in ((QUIET, quiet), (SEEN, tells_seen)):
            if wish is not None:
                changes[key] = wish or None
        write_item = None if picture is None else await self._vault.attach_picture(picture)
        before = self.get().picture
        descriptor = self.view.own_document()
        with self._replica.changing():  # the item and the profile, or nothing
            if write_item is not None:
                changes[PICTURE] = write_item()
            self.view.write(descriptor, changes)
        if write_item is not None and before is not None:
            await self._let_go(before)
        return self.get()

    async def remove_picture(self) -> MemberProfile:
        """Show no picture any more; it goes out of the vault.

        Raises:
            UsageError: this device is not a member's.
        """
        before = self.get().picture
        descriptor = self.view.own_document()
        with self._replica.changing():
            self.view.write(descriptor, {PICTURE: None})
        if before is not None:
            await self._let_go(before)
        return self.get()

    async def _let_go(self, item: bytes) -> None:
        """Take a picture that was drawn for the profile out of the vault; what dies here leaves it there."""
        index, me = self._vault.index, self._replica.members.member_of(self._replica.keys.id)
        if any(one.author_id == me and one.name == PICTURE_NAME for one in index.among([item])):
            await self._vault.remove(item.hex())
