"""What every command starts from: the settings of this call, the opened profile and the chosen group.

`with_profile` and `with_group` turn a coroutine over the façade into a handler that `main` can call, and that goes
through another process of this user if that has the profile open.
"""

from __future__ import annotations

import argparse
import asyncio
import getpass
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cocoon_cli.asking import ask_holder
from cocoon_cli.hints import add_hint
from cocoon_cli.output import Outcome, Output, Printed
from cocoon_cli.standard_input import StandardInput
from cocoon_cli.text import neutralise
from cocoon_core.errors import ProfileLockedError, UsageError, WrongPassphraseError

if TYPE_CHECKING:
    from cocoon_core import Cocoon, Group, LocalProof

NO_GROUP = (
    "This profile is in no group yet: `cocoon group new NAME --name YOU --relay URL` or `cocoon join LINK --name YOU`."
)


def current_folder() -> Path:
    """Where this process stands; nowhere in particular, if that was removed."""
    try:
        return Path.cwd()
    except OSError:
        return Path()


NOT_SENT = "Not sent yet: `cocoon sync` sends it."


@dataclass(frozen=True, slots=True)
class Context:
    """The settings of one call, from its options and the environment, and the call itself."""

    home: Path | None
    passphrase: str | None
    group: str | None
    output: Output
    words: Sequence[str]
    stdin: StandardInput
    parse: Callable[[Sequence[str]], argparse.Namespace]
    sending: Callable[[Group], Awaitable[str]] | None = None  # of the watch that runs this call, if one does
    stay_for: Callable[[Coroutine[Any, Any, None]], None] | None = None  # of that watch: goes on with something beside
    folder: Path = field(default_factory=current_folder)  # where the call was typed, which need not be where it is run
    answers: Mapping[str, str] = field(default_factory=dict)  # what was asked for there; see `ProfileCommand.prepare`

    @property
    def watched(self) -> bool:
        """Whether this call runs through a watch."""
        return self.sending is not None

    async def notes_on_sending(self, group: Group) -> list[str]:
        """When what was written just now is sent, for people."""
        if self.output.as_json:
            return []
        return [NOT_SENT if self.sending is None else await self.sending(group)]

    async def wrote(self, group: Group, data: dict[str, Any], words: str) -> Outcome:
        """What a command says that wrote something: a line, and when it is sent."""
        return Outcome(data, lambda screen: screen.line(words), await self.notes_on_sending(group))

    def locate(self, path: Path) -> Path:
        """A file or folder as it was meant where the call was typed."""
        return self.folder / path.expanduser()

    async def open(self) -> Cocoon:
        """Open the profile; where its passphrase is neither set nor in a key ring, ask a person for it."""
        from cocoon_core import Cocoon  # loads the whole core, which --help and mistakes do without

        try:
            return await Cocoon.open(self.home, passphrase=self.passphrase)
        except WrongPassphraseError as error:
            return await Cocoon.open(self.home, passphrase=self._ask_passphrase(error))

    def derive_proof(self) -> LocalProof:
        """What shows the process that has the profile open that this one could open it too; asks as `open` does."""
        from cocoon_core import Cocoon

        try:
            return Cocoon.derive_proof(self.home, self.passphrase)
        except WrongPassphraseError as error:
            return Cocoon.derive_proof(self.home, self._ask_passphrase(error))

    def unlock(self) -> Context:
        """Make sure that this process can open the profile, whoever has it open, and know how from now on.

        Raises:
            NoProfileError, WrongPassphraseError, UsageError, NoKeyRingError, ProfileDamagedError: it cannot.
        """
        from cocoon_core import Cocoon

        try:
            Cocoon.derive_proof(self.home, self.passphrase)
        except WrongPassphraseError as error:
            asked = self._ask_passphrase(error)
            Cocoon.derive_proof(self.home, asked)
            return replace(self, passphrase=asked)
        return self

    def _ask_passphrase(self, error: WrongPassphraseError) -> str:
        if self.passphrase is not None or self.output.as_json or not sys.stdin.isatty():
            raise error
        return getpass.getpass("Passphrase: ")

    def choose_groups(self, cocoon: Cocoon) -> list[Group]:
        """The group that was named, else all there are."""
        groups = [cocoon.group(self.group)] if self.group is not None else cocoon.groups()
        if not groups:
            raise UsageError(NO_GROUP)
        return groups

    def choose_group(self, cocoon: Cocoon) -> Group:
        """The group that was named, else the only one."""
        groups = self.choose_groups(cocoon)
        if len(groups) > 1:
            names = ", ".join(f"“{group.name}” ({str(group.id)[:8]})" for group in groups)
            raise UsageError(f"Which group? Say --group with a name or the beginning of an id: {names}.")
        return groups[0]


Handler = Callable[[Context, argparse.Namespace], Outcome | Printed]


@dataclass(frozen=True, slots=True)
class ProfileCommand:
    """A handler that runs a command on the opened profile: here, or through the process that has it open."""

    command: Callable[[Cocoon, Context, argparse.Namespace], Awaitable[Outcome]]
    stays: Callable[[argparse.Namespace], bool]  # whether it holds the profile itself, for as long as it runs
    question: Callable[[argparse.Namespace], str] | None = None  # that a person answers before anything is done
    prepare: Callable[[Context, argparse.Namespace], Context] | None = None  # asks for more, where the call was typed

    def __call__(self, context: Context, args: argparse.Namespace) -> Outcome | Printed:
        """Open the profile, run the command and close the profile again.

        Raises:
            ProfileLockedError: another process has it open, and runs no commands of others.
            UsageError: a person was asked, and did not want it.
        """
        if self.question is not None:
            confirm(context, args, self.question(args))
        if self.prepare is not None:
            context = self.prepare(context, args)
        try:
            return asyncio.run(self._run_here(context, args))
        except _OpenElsewhere as found:
            if self.stays(args):
                raise found.error from None
        printed = ask_holder(context)
        if printed is not None:
            return printed
        try:
            return asyncio.run(self._run_here(context, args))  # whoever had it open may have ended just now
        except _OpenElsewhere as found:
            raise found.error from None

    async def _run_here(self, context: Context, args: argparse.Namespace) -> Outcome:
        try:
            cocoon = await context.open()
        except ProfileLockedError as error:
            raise _OpenElsewhere(error) from None
        async with cocoon:
            outcome = await self.command(cocoon, context, args)
            return outcome if self.stays(args) else add_hint(outcome, cocoon, context, args)


class _OpenElsewhere(Exception):
    """The profile could not be opened because another process has it, and nothing was done yet."""

    def __init__(self, error: ProfileLockedError) -> None:
        super().__init__()
        self.error = error


def with_profile(
    command: Callable[[Cocoon, Context, argparse.Namespace], Awaitable[Outcome]],
    stays: Callable[[argparse.Namespace], bool] = lambda args: False,
    question: Callable[[argparse.Namespace], str] | None = None,
    prepare: Callable[[Context, argparse.Namespace], Context] | None = None,
) -> Handler:
    """A handler for a command on the profile."""
    return ProfileCommand(command, stays, question, prepare)


def with_group(
    command: Callable[[Group, Context, argparse.Namespace], Awaitable[Outcome]],
    question: Callable[[argparse.Namespace], str] | None = None,
    prepare: Callable[[Context, argparse.Namespace], Context] | None = None,
) -> Handler:
    """A handler for a command on the chosen group."""

    async def run(cocoon: Cocoon, context: Context, args: argparse.Namespace) -> Outcome:
        return await command(context.choose_group(cocoon), context, args)

    return with_profile(run, question=question, prepare=prepare)


def confirm(context: Context, args: argparse.Namespace, question: str) -> None:
    """Ask a person at a terminal before what cannot be undone; `--yes` answers, and scripts are not asked.

    Raises:
        UsageError: the answer is not yes.
    """
    if args.yes or context.output.as_json or not sys.stdin.isatty():
        return
    sys.stderr.write(f"{neutralise(question)} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().casefold() not in ("y", "yes"):
        raise UsageError("Nothing was done.")
