"""Notices on the desktop, through the notification service of the system.

What members wrote reaches a program that is not ours, which may read markup, fetch what that names, and keep what it
shows. So words are plain, nothing in them can be markup, and texts of posts are shown only where that was asked for.
Where the service fails, that is said once, and nothing else is held up. Spec: specs/events.md §5.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from cocoon_cli.notice_words import say, shows_text
from cocoon_cli.text import count, neutralise
from cocoon_core.errors import MissingLibraryError, UsageError

if TYPE_CHECKING:
    from cocoon_cli.output import Output
    from cocoon_core import Group, Notice

READER: Final = "desktop"  # under which the profile keeps what was shown
SINGLY: Final = 3  # notices of a group that are shown each for itself; more are counted in one
NAMES, WORDS = "names", "words"  # what is shown: who did what, or with the beginning of the post
_LOOK_ALIKES: Final = str.maketrans({"<": "‹", ">": "›", "&": "＆"})


def add_desktop(parser: argparse.ArgumentParser) -> None:
    """The option of a command that can watch."""
    parser.add_argument(
        "--desktop",
        nargs="?",
        const=NAMES,
        choices=(NAMES, WORDS),
        help="with --watch, show notices on the desktop too: who did what, or with `words` the beginning of the post",
    )


def require_watch(args: argparse.Namespace) -> None:
    """Raises:
    UsageError: the option was given to a command that does not stay.
    """
    if args.desktop is not None and not args.watch:
        raise UsageError("--desktop goes with --watch: notices are shown on the desktop as long as that runs.")


def desktop_of(output: Output, args: argparse.Namespace) -> Callable[[Group], Coroutine[Any, Any, None]] | None:
    """What is to go on beside a watch in each group; None where nothing was asked for.

    Raises:
        MissingLibraryError: the library that speaks to the service is not installed.
    """
    if args.desktop is None:
        return None
    desktop = Desktop(output, args.desktop)
    return lambda group: group.notices.deliver(partial(desktop.show, group), READER)


class Desktop:
    """Shows notices on the desktop.

    Args:
        shown: NAMES or WORDS.
    """

    def __init__(self, output: Output, shown: str) -> None:
        self._output, self._shown = output, shown
        self._notifier = _load()
        self._has_failed = False

    async def show(self, group: Group, notices: Sequence[Notice]) -> None:
        """Show what came in a group, in few notices."""
        title = plain(group.name)
        if len(notices) > SINGLY:
            loud = [notice for notice in notices if str(notice.kind) == "alarm"]
            await self._send(title, f"{count(len(notices), 'notice')}{', with a warning' if loud else ''}", bool(loud))
            return
        for notice in notices:
            words = say(notice)
            if self._shown == WORDS and shows_text(notice):
                words = f"{words}: {notice.text}"
            await self._send(title, plain(words), str(notice.kind) == "alarm")

    async def _send(self, title: str, words: str, is_alarm: bool) -> None:
        from desktop_notifier import Urgency

        try:
            await self._notifier.send(title, words, urgency=Urgency.Critical if is_alarm else Urgency.Normal)
        except Exception as error:  # whatever a service of another program does must not end a watch
            if not self._has_failed:
                self._output.note(f"Notices cannot be shown on the desktop ({type(error).__name__}); here they are.")
            self._has_failed = True
        else:
            self._has_failed = False


def plain(words: str) -> str:
    """Words on one line in which no notification service finds markup, nor anything that steers or hides."""
    return neutralise(words).translate(_LOOK_ALIKES)


def _load() -> Any:
    """The system's notification service.

    Raises:
        MissingLibraryError: the library that speaks to it is not installed.
    """
    try:
        from desktop_notifier import DesktopNotifier
    except ImportError as error:
        raise MissingLibraryError(
            "notices on the desktop need the library desktop-notifier: install cocoon-sync[desktop]"
        ) from error
    return DesktopNotifier(app_name="Cocoon", app_icon=None)
