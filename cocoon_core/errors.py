"""Every error that Cocoon raises, in one tree, branched by what the caller should do.

    CocoonError
    ├── UsageError                fix the call
    │   ├── UnknownGroupError
    │   ├── UnknownMemberError
    │   ├── UnknownItemError
    │   ├── FileChangedError
    │   ├── InvalidLinkError
    │   ├── InvalidPhraseError
    │   ├── MetadataError
    │   ├── MissingLibraryError
    │   └── PageError
    ├── UntrustedInputError       drop it, record it, go on
    │   ├── MalformedError
    │   ├── SignatureError
    │   ├── DecryptionError
    │   ├── NotPermittedError
    │   ├── LinkingError
    │   └── EquivocationError
    ├── NotYetError               park it, try again when more has arrived
    │   └── AwaitingAdmissionError
    ├── RelayError                back off, try again
    │   ├── RelayUnavailable
    │   ├── RelayRefused
    │   └── RelayMisbehaved
    └── LocalStateError           stop, tell the user
        ├── WrongPassphraseError
        ├── NoProfileError
        ├── NoKeyRingError
        ├── ProfileLockedError
        ├── ProfileDamagedError
        ├── BackupDamagedError
        ├── StorageFullError
        ├── ChainAheadError
        │   └── RestoredError
        ├── UpdateNeededError
        └── DocumentUnavailableError

The first line of a class's docstring is the sentence that a user reads when the error carries no message of its own;
`exit_code` is what the command line ends with, `code` what `--json` prints, `retry` whether the same call is worth
making again (specs/events.md §8). Messages carry ids and lengths, never secrets or plaintext. Foreign exceptions are
converted in the module that imports their library.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar, Final


class Retry(StrEnum):
    """Whether the call that raised an error is worth making again, as it was."""

    NEVER = "never"  # not before something else is changed, as the message says
    LATER = "later"  # after a while, and after longer each time
    AFTER_SYNC = "after_sync"  # when more of the group has arrived


class CocoonError(Exception):
    """Something went wrong."""

    exit_code: ClassVar[int] = 1
    code: ClassVar[str] = "error"
    retry: ClassVar[Retry] = Retry.NEVER

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message if message is not None else self._sentence())

    @classmethod
    def _sentence(cls) -> str:
        return (cls.__doc__ or "").strip().splitlines()[0]


class UsageError(CocoonError):
    """That cannot be done as asked."""

    exit_code = 2
    code = "usage"


class UnknownGroupError(UsageError):
    """There is no such group in this profile; `cocoon group list` shows those there are."""

    code = "unknown_group"


class UnknownMemberError(UsageError):
    """There is no such member in this group; `cocoon members` shows those there are."""

    code = "unknown_member"


class UnknownItemError(UsageError):
    """There is nothing with that id in this group, or it has not arrived yet; `cocoon sync` may bring it."""

    code = "unknown_item"
    retry = Retry.AFTER_SYNC


class FileChangedError(UsageError):
    """The file was changed while it was read; add it again when nothing writes to it."""

    code = "file_changed"
    retry = Retry.LATER


class InvalidLinkError(UsageError):
    """This is not a whole Cocoon link; copy it again, from `cocoon:` to its last character."""

    code = "invalid_link"


class InvalidPhraseError(UsageError):
    """This is not a whole recovery phrase; type its words again, in their order."""

    code = "invalid_phrase"


class MetadataError(UsageError):
    """What this file says of its maker cannot be taken out of it. It was not added; with its metadata it can be."""

    code = "metadata"


class MissingLibraryError(UsageError):
    """A library that this needs is not installed."""

    code = "missing_library"


class PageError(UsageError):
    """This page cannot be previewed; the link can be added without."""

    code = "page"


class UntrustedInputError(CocoonError):
    """Something that was received cannot be accepted."""

    exit_code = 3
    code = "untrusted_input"


class MalformedError(UntrustedInputError):
    """Bytes that were received are not what the specification says they must be."""

    code = "malformed"


class SignatureError(UntrustedInputError):
    """A signature does not match what it is said to sign."""

    code = "signature"


class DecryptionError(UntrustedInputError):
    """A ciphertext does not open under the key that it should."""

    code = "decryption"


class NotPermittedError(UntrustedInputError):
    """Its author has not the right to do this."""

    code = "not_permitted"


class LinkingError(UntrustedInputError):
    """The devices could not be linked, and this code is used up; begin again with a new one."""

    code = "linking"


class EquivocationError(UntrustedInputError):
    """A device signed two different histories."""

    code = "equivocation"


class NotYetError(CocoonError):
    """This needs something that has not arrived yet."""

    exit_code = 4
    code = "not_yet"
    retry = Retry.AFTER_SYNC


class AwaitingAdmissionError(NotYetError):
    """You asked to be admitted to the group; a member has to let you in."""

    code = "awaiting_admission"

    def __init__(self, message: str | None = None, group: bytes | None = None) -> None:
        """`group` is the id of the group that was asked."""
        super().__init__(message)
        self.group = group


class RelayError(CocoonError):
    """The relay could not do what was asked."""

    exit_code = 5
    code = "relay"
    retry = Retry.LATER


class RelayUnavailable(RelayError):
    """No relay of this group could be reached; nothing is lost, `cocoon sync` sends it later."""

    code = "relay_unavailable"


class RelayRefused(RelayError):
    """The relay refused this."""

    code = "relay_refused"


class RelayMisbehaved(RelayError):
    """The relay answered something that it never should."""

    code = "relay_misbehaved"


class LocalStateError(CocoonError):
    """This profile cannot be used as it is."""

    exit_code = 6
    code = "local_state"


class WrongPassphraseError(LocalStateError):
    """The passphrase does not open this profile."""

    code = "wrong_passphrase"


class NoProfileError(LocalStateError):
    """There is no profile here yet; `cocoon init` makes one."""

    code = "no_profile"


class NoKeyRingError(LocalStateError):
    """There is no safe key ring here: set COCOON_PASSPHRASE, and the profile is sealed under it instead."""

    code = "no_key_ring"


class ProfileLockedError(LocalStateError):
    """Another process has this profile open; end it, or use another --home."""

    code = "profile_locked"
    retry = Retry.LATER


class ProfileDamagedError(LocalStateError):
    """The files of this profile are damaged or are not a profile."""

    code = "profile_damaged"


class BackupDamagedError(LocalStateError):
    """This file is not a whole backup: it is damaged, cut off, or something else. Nothing was restored."""

    code = "backup_damaged"


class StorageFullError(LocalStateError):
    """The disk is read-only or full; nothing was changed. Free some space and try again."""

    code = "storage_full"
    retry = Retry.LATER


class ChainAheadError(LocalStateError):
    """This profile is an older copy: others have later entries of this very device, so it must not write again."""

    code = "chain_ahead"


class RestoredError(ChainAheadError):
    """This profile was restored from a backup: `cocoon sync` first, and this device goes on as a new one."""

    code = "restored"
    retry = Retry.AFTER_SYNC


class UpdateNeededError(LocalStateError):
    """This group uses something that this version does not know; install a newer Cocoon."""

    code = "update_needed"


class DocumentUnavailableError(LocalStateError):
    """A document cannot be shown on this device now; nothing of it is lost, and nobody else is affected."""

    code = "document_unavailable"
    retry = Retry.LATER


# No group of the profile could go on after one of these; after another `LocalStateError` the others can.
OF_THE_PROFILE: Final = (ProfileDamagedError, ProfileLockedError, StorageFullError)
