"""Having a person change a text in the editor of their choice, in a file that is there no longer than that.

What the editor itself keeps (undo files, a list of recent files, copies elsewhere) is the editor's.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from cocoon_core.errors import UsageError

_NOTHING = "Nothing was changed."


def edit_text(text: str) -> str:
    """The text as a person left it. VISUAL, else EDITOR, else `vi` (`notepad` on Windows) says by which program.

    The file lies in a folder of its own that nobody else may enter, in memory where the system has such a place
    (XDG_RUNTIME_DIR), and the whole folder goes when the editor has ended.

    Raises:
        UsageError: the editor cannot be started, ended with an error, or left no text.
    """
    on_windows = os.name == "nt"
    named = os.environ.get("VISUAL") or os.environ.get("EDITOR") or ("notepad" if on_windows else "vi")
    folder = Path(tempfile.mkdtemp(prefix="cocoon-", dir=_memory()))
    path = folder / "note.txt"
    try:
        path.touch(0o600)
        path.write_bytes(text.encode())
        code = subprocess.run([*shlex.split(named, posix=not on_windows), str(path)], check=False).returncode
        if code:
            raise UsageError(f"The editor ended with {code}. {_NOTHING}")
        return _as_before(text, path.read_bytes().decode())
    except (OSError, ValueError) as error:
        raise UsageError(f"The text could not be edited with {named!r} ({type(error).__name__}). {_NOTHING}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _memory() -> str | None:
    folder = os.environ.get("XDG_RUNTIME_DIR")
    return folder if folder and os.access(folder, os.W_OK | os.X_OK) else None


def _as_before(before: str, after: str) -> str:
    """Without the line end that editors put at the end of a file."""
    return after[:-1] if after.endswith("\n") and not before.endswith("\n") else after
