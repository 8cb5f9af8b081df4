"""What members say of themselves: the view of all profiles, and writing this member's. Implements specs/people.md §1.

A profile is the owned document `profile` of a member, so nobody else can write into it, and it says nothing of any
other group. Who wrote it may be hostile: what is odd in it is made harmless here, once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final

from cocoon_core.protocol.constants import MAX_ABOUT_BYTES, VAULT_ITEM_ID_BYTES
from cocoon_core.protocol.descriptor import Descriptor, DocumentKind
from cocoon_core.protocol.ids import MemberId
from cocoon_core.social.stale import compute_if_stale
from cocoon_core.storage.documents import DocumentRecord
from cocoon_core.storage.member_profiles import NOTHING_SAID, MemberProfile, MemberProfileTable
from cocoon_core.sync.replica import Replica
from cocoon_core.sync.shelf import Readable
from cocoon_core.vault.naming import clean_text

PROFILE_NAME: Final = "profile"
ABOUT, PICTURE, QUIET, SEEN = "about", "picture", "quiet", "seen"  # root keys


def read_profile(plain: Callable[[str], Any]) -> MemberProfile:
    """What a document says, by its root keys; what is odd is as if absent."""
    about, picture = plain(ABOUT), plain(PICTURE)
    return MemberProfile(
        clean_text(about, MAX_ABOUT_BYTES) if type(about) is str else "",
        picture if type(picture) is bytes and len(picture) == VAULT_ITEM_ID_BYTES else None,
        plain(QUIET) is True,
        plain(SEEN) is True,
    )


class MemberProfiles:
    """The table `member_profiles` of one group, kept level with its documents. Implements `sync.shelf.View`."""

    table: ClassVar = "member_profiles"

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self.rows = MemberProfileTable(replica.database, replica.record.number)
        replica.add_view(self)

    # --- following the documents

    def merged(self, record: DocumentRecord, document: Readable, touched: set[str]) -> None:
        self.rebuilt(record, document)

    def rebuilt(self, record: DocumentRecord, document: Readable) -> None:
        if not self.is_mine(record):
            return
        owner, said = record.descriptor.member, read_profile(document.plain)
        assert owner is not None, "the document is owned"
        if said != NOTHING_SAID:
            self.rows.set(owner, record.number, record.descriptor.generation, said)
        elif self.rows.drop(record.number):
            self._look_below(record.descriptor)

    def _look_below(self, descriptor: Descriptor) -> None:
        """What a generation says no more, an earlier one may still, if it goes on: the newest of these counts."""
        replica = self._replica
        earlier = [
            record
            for record in replica.documents.all()
            if record.descriptor.generation < descriptor.generation
            and record.descriptor.at(0) == descriptor.at(0)
            and not replica.members.is_retired(record.descriptor)
        ]
        for record in earlier:
            self.rebuilt(record, replica.shelf.get(record.descriptor))

    def adopted(self, record: DocumentRecord, document: Readable) -> None:
        self.rebuilt(record, document)

    def let_go(self, record: DocumentRecord) -> None:
        """A profile is of no month, and stays."""

    def is_mine(self, record: DocumentRecord) -> bool:
        return record.descriptor.kind is DocumentKind.OWNED and record.descriptor.name == PROFILE_NAME

    def catch_up(self) -> None:
        """Compute the table anew where a step of the schema asked for that. Not inside a transaction."""
        compute_if_stale(self._replica, self)

    # --- writing

    def own_document(self) -> Descriptor:
        """The document that the own member writes in.

        Raises:
            UsageError: this device is not a member's.
            DocumentUnavailableError: what this member's other devices wrote in it was not read here yet.
        """
        replica = self._replica
        member: MemberId = replica.members.require_member(replica.keys.id)
        descriptor = replica.retires.current(Descriptor(DocumentKind.OWNED, PROFILE_NAME, member))
        replica.debts.require_read(descriptor)
        return descriptor

    def write(self, descriptor: Descriptor, changes: Mapping[str, str | bytes | bool | None]) -> None:
        """Set root keys of the own document; None takes one away. Inside `Replica.changing`."""

        def edit(root: Any) -> None:
            for key, value in changes.items():
                if value is None and key in root:
                    del root[key]
                elif value is not None and (key not in root or root[key] != value):
                    root[key] = value

        self._replica.change_inside(descriptor, edit)
