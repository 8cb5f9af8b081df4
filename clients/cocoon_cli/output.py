"""Where a command's outcome goes: one JSON object for scripts, or lines for people.

Results go to standard output; notes, warnings, progress and errors to standard error, so a result can be piped. With
`--json` nothing but the object is printed, and text is ASCII with escapes, harmless in any terminal.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from cocoon_cli.bars import ByteProgress
from cocoon_cli.text import as_sentence, columns, display_width, neutralise, neutralise_lines, wrap_words
from cocoon_core.errors import CocoonError, LocalStateError

if TYPE_CHECKING:
    from rich.console import Console

HANGING = 2  # columns by which the rest of a line that is too long stands further in
_LINES_AT_ONCE = 500  # of a text that are printed together: each time costs more than a line
UNPIPED_WIDTH = 100_000  # columns where no terminal says its own: never wrap what a program reads


VARIABLES = ("TERM", "COLORTERM", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")  # that style reads


@dataclass(frozen=True, slots=True)
class Terminal:
    """What a call of another process prints to: whether these are terminals, how wide, and how they are styled."""

    out: bool
    err: bool
    width: int
    variables: Mapping[str, str]

    @classmethod
    def of_this_process(cls) -> Terminal:
        """Where this process prints."""
        width = 80
        if sys.stdout.isatty():
            from rich.console import Console

            width = Console(file=sys.stdout).width
        variables = {name: os.environ[name] for name in VARIABLES if name in os.environ}
        return cls(sys.stdout.isatty(), sys.stderr.isatty(), width, variables)


class Screen:
    """Lines for people on standard output. Everything that passes is made harmless here."""

    def __init__(self, out: TextIO | None = None, terminal: Terminal | None = None) -> None:
        from rich.console import Console

        class PlainConsole(Console):
            def on_broken_pipe(self) -> None:
                raise BrokenPipeError  # for `main` to end quietly; rich would exit here with 1

        stream = sys.stdout if out is None else out
        own_width = None if terminal is None else terminal.width
        self._wraps = stream.isatty()
        self._console: Console = PlainConsole(
            file=stream,
            width=own_width if stream.isatty() else UNPIPED_WIDTH,
            highlight=False,
            markup=False,
            emoji=False,
            legacy_windows=False,
            _environ=None if terminal is None else terminal.variables,
        )

    def line(self, *parts: str | tuple[str, str], indent: int = 0, hanging: int = HANGING) -> None:
        """One line of parts, each a string or (string, style), joined by nothing.

        Args:
            hanging: columns by which that stands further in which does not fit the terminal, and so stands below.
        """
        from rich.text import Text

        text = Text()
        for part in parts:
            words, style = (part, "") if isinstance(part, str) else part
            text.append(neutralise(words), style)
        room = max(20, self._console.width - indent)
        lines = [text]
        if self._wraps and text.cell_len > room:
            lines = [text.wrap(self._console, room)[0]]
            rest = text[len(lines[0].plain) :]
            rest = rest[len(rest.plain) - len(rest.plain.lstrip()) :]
            further = hanging if hanging <= room // 2 else HANGING
            lines += rest.wrap(self._console, room - further) if rest else []
        for number, one in enumerate(lines):
            one.rstrip()
            margin = " " * (indent + (further if number else 0)) if one else ""
            self._console.print(Text(margin) + one, soft_wrap=True)

    def body(self, words: str, indent: int) -> None:
        """A text of many lines, each indented, wrapped to the terminal; of many empty ones in a row two are shown."""
        from rich.text import Text

        width, shown = max(20, self._console.width - indent), [""]
        for line in neutralise_lines(words):
            is_short = len(line) <= width and line.isascii()
            for wrapped in [line] if is_short else [part.plain for part in Text(line).wrap(self._console, width)]:
                part = wrapped.rstrip()
                if part or shown[-2:] != ["", ""]:
                    shown.append(" " * indent + part if part else "")
        for at in range(1, len(shown), _LINES_AT_ONCE):
            self._console.print(Text("\n".join(shown[at : at + _LINES_AT_ONCE])), soft_wrap=True)

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Aligned columns under a quiet header."""
        head, *lines = columns([header, *rows])
        self.line((head, "dim"))
        last = display_width(head) - display_width(header[-1])  # where the last column begins
        for line in lines:
            self.line(line, hanging=last)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command did: `data` for scripts, `draw` for people, `notes` for what they should know beside it.

    It is printed after the profile was closed: whatever it shows was read before.
    """

    data: Mapping[str, Any]
    draw: Callable[[Screen], None]
    notes: Sequence[str] = ()
    exit_code: int = 0


@dataclass(frozen=True, slots=True)
class Printed:
    """What a command printed and ended with where it was run by another process."""

    out: str
    err: str
    exit_code: int


class Output:
    """Prints outcomes and errors in the one form that was asked for.

    Args:
        terminal: of the process that asked, where that is another one; else of this one.
    """

    def __init__(
        self, as_json: bool, out: TextIO | None = None, err: TextIO | None = None, terminal: Terminal | None = None
    ) -> None:
        self.as_json = as_json
        self.out = sys.stdout if out is None else out
        self.err = sys.stderr if err is None else err
        self._terminal = terminal

    def screen(self) -> Screen:
        """Where lines for people go."""
        return Screen(self.out, self._terminal)

    def progress(self, label: str) -> Progress:
        """A bar, where a person of this process sees it as it moves."""
        return Progress(label, self.err.isatty() and not self.as_json and self._terminal is None)

    def byte_progress(self, label: str) -> ByteProgress:
        """A bar of bytes, where a person of this process sees it as it moves."""
        return ByteProgress(label, self.err.isatty() and not self.as_json and self._terminal is None)

    def finish(self, outcome: Outcome | Printed) -> int:
        """Print an outcome and give the exit code.

        Raises:
            LocalStateError: standard output takes nothing.
            BrokenPipeError: whoever read it has gone.
        """
        try:
            if isinstance(outcome, Printed):
                self.out.write(outcome.out)
                self.out.flush()
                self.err.write(outcome.err)
            elif self.as_json:
                self.emit(outcome.data)
            else:
                outcome.draw(self.screen())
                self.out.flush()
                self.note(*outcome.notes)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise LocalStateError(f"What was asked is done, but it cannot be printed: {error.strerror}.") from error
        return outcome.exit_code

    def emit(self, data: Mapping[str, Any]) -> None:
        """One JSON object on a line of its own, flushed."""
        self.out.write(json.dumps(data) + "\n")
        self.out.flush()

    def note(self, *sentences: str) -> None:
        """What people should know beside the result; scripts are not told."""
        if not self.as_json:
            for sentence in sentences:
                self.err.write("\n".join(self._wrap(neutralise(sentence))) + "\n")

    def _wrap(self, sentence: str) -> list[str]:
        """A sentence as a terminal shows it without cutting words; a program gets it whole."""
        if self._terminal is not None:
            return wrap_words(sentence, self._terminal.width) if self._terminal.err else [sentence]
        return wrap_words(sentence, shutil.get_terminal_size().columns) if self.err.isatty() else [sentence]

    def fail(self, error: CocoonError) -> int:
        """Print an error as one sentence, or as one object, and give the exit code."""
        if self.as_json:
            try:
                self.emit({"error": {"code": error.code, "message": str(error)}})
                return error.exit_code
            except OSError:
                pass  # standard output takes nothing: say it to people
        with contextlib.suppress(OSError):
            self.err.write("\n".join(self._wrap(f"cocoon: {neutralise(as_sentence(str(error)))}")) + "\n")
            self.err.flush()
        return error.exit_code


class Progress:
    """A bar on standard error while something is fetched: only in a terminal, only for people, gone at the end."""

    def __init__(self, label: str, wanted: bool) -> None:
        self._label = label
        self._wanted = wanted
        self._bar: Any = None
        self._task: Any = None

    def __call__(self, done: int, total: int) -> None:
        if not self._wanted:
            return
        if self._bar is None:
            from rich.console import Console
            from rich.progress import Progress as Bar

            self._bar = Bar(console=Console(file=sys.stderr), transient=True)
            self._bar.start()
            self._task = self._bar.add_task(neutralise(self._label), total=total)
        self._bar.update(self._task, completed=done, total=total)

    def end(self) -> None:
        """It is done; nothing of it is shown any more."""
        self._wanted = False
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
