"""`profile passphrase`: what opens the profile is changed, or moved to or from the key ring."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from cocoon_cli.arguments import Commands
from cocoon_cli.context import Context, ProfileCommand
from cocoon_cli.output import Outcome, Printed
from cocoon_cli.passphrases import read_new_passphrase

if TYPE_CHECKING:
    from cocoon_core import Cocoon

NEW_VARIABLE = "COCOON_NEW_PASSPHRASE"
OLD_COPIES = (
    "Copies of profile.key that were made before still open this profile the old way; `--new-key` ends that for all"
    " that is written from then on."
)
LEFT_IN_KEY_RING = (
    "The key ring did not give up the old key: remove the entry `cocoon-sync` there yourself, or it opens this profile"
    " still."
)


def add_commands(commands: Commands) -> None:
    """Add `profile passphrase`."""
    parser = commands.add(
        "passphrase",
        PassphraseCommand(change_passphrase, lambda args: bool(args.new_key), prepare=ask_passphrases),
        "change the passphrase, or move the key to or from the key ring",
        f"Asks for the present passphrase and twice for the new one; {NEW_VARIABLE} answers instead of a person. What "
        "opened the profile before opens it no more. With --new-key it must not be open elsewhere.",
    )
    way = parser.add_mutually_exclusive_group()
    way.add_argument(
        "--passphrase",
        dest="key_ring",
        action="store_false",
        help="seal the key under a new passphrase, wherever it is kept now (the default)",
    )
    way.add_argument(
        "--key-ring", dest="key_ring", action="store_true", help="keep the key in the key ring of the system"
    )
    parser.add_argument(
        "--new-key",
        action="store_true",
        help="also write the whole database anew under a fresh key, so that old copies of profile.key are useless",
    )
    parser.set_defaults(key_ring=False)


class PassphraseCommand(ProfileCommand):
    """A change goes through whoever has the profile open; a new key for the database needs it closed."""

    def __call__(self, context: Context, args: argparse.Namespace) -> Outcome | Printed:
        if args.new_key:
            return renew_key(ask_passphrases(context, args), args)
        return super().__call__(context, args)


def ask_passphrases(context: Context, args: argparse.Namespace) -> Context:
    """Make sure of the present passphrase, and then get the new one."""
    context = context.unlock()
    if args.key_ring:
        return context
    return replace(context, answers={"new_passphrase": read_new_passphrase(context, NEW_VARIABLE, "New passphrase: ")})


async def change_passphrase(cocoon: Cocoon, context: Context, args: argparse.Namespace) -> Outcome:
    """Keep the key of the open profile in another way."""
    gone = cocoon.change_passphrase(context.answers.get("new_passphrase"))
    return _tell(args.key_ring, renewed=False, gone=gone)


def renew_key(context: Context, args: argparse.Namespace) -> Outcome:
    """Write the closed profile anew under a fresh key."""
    from cocoon_core import Cocoon

    gone = Cocoon.renew_key(context.home, context.passphrase, context.answers.get("new_passphrase"))
    return _tell(args.key_ring, renewed=True, gone=gone)


def _tell(key_ring: bool, *, renewed: bool, gone: bool) -> Outcome:
    where = "in the key ring" if key_ring else "under the new passphrase"
    notes = [] if renewed else [OLD_COPIES]
    return Outcome(
        data={"kept": "key_ring" if key_ring else "passphrase", "new_key": renewed, "removed_from_key_ring": gone},
        draw=lambda screen: screen.line(f"The key of this profile is {where} now."),
        notes=notes if gone else [*notes, LEFT_IN_KEY_RING],
    )
