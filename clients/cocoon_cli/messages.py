"""What two processes of one user say to each other over the local socket. Implements specs/local-socket.md §2.

Values and their bytes alone: `holder` and `asking` move them. A frame is its length in four bytes, then that many
bytes. Every size is bounded before anything is read.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from cocoon_cli.output import Printed, Terminal
from cocoon_core.errors import MalformedError

VERSION = 2
LENGTH_BYTES = 4
CHALLENGE_BYTES = 32
PROOF_BYTES = 32
MAX_HELLO_BYTES = 1024
MAX_CALL_BYTES = 1024 * 1024  # with its proof
MAX_ANSWER_BYTES = 64 * 1024 * 1024  # with its proof
MOST_WORDS = 1024
MOST_VARIABLES = 16
MOST_ANSWERS = 16


@dataclass(frozen=True, slots=True)
class Call:
    """A command to be run by the process that has the profile open, as if it were run where it was typed."""

    words: tuple[str, ...]
    group: str | None
    stdin: bytes | None
    terminal: Terminal
    folder: str  # where it was typed; names of files in the words are from there
    answers: Mapping[str, str]  # what a person, or the environment, answered there


def encode_frame(data: bytes) -> bytes:
    """A frame."""
    return len(data).to_bytes(LENGTH_BYTES, "big") + data


def decode_length(data: bytes, most: int) -> int:
    """The length that a frame announces.

    Raises:
        MalformedError: it is over the bound.
    """
    length = int.from_bytes(data, "big")
    if length > most:
        raise MalformedError(f"a message of {length} bytes is over {most}")
    return length


def split_proof(frame: bytes) -> tuple[bytes, bytes]:
    """The proof that a call or an answer begins with, and the rest."""
    if len(frame) < PROOF_BYTES:
        raise MalformedError("a message is shorter than its proof")
    return frame[:PROOF_BYTES], frame[PROOF_BYTES:]


def encode_hello(challenge: bytes) -> bytes:
    """What the holder says first."""
    return json.dumps({"version": VERSION, "challenge": challenge.hex()}).encode()


def decode_hello(data: bytes) -> bytes:
    """The challenge in a hello.

    Raises:
        MalformedError: it is none, or of another version.
    """
    fields = _decode(data)
    challenge = fields.get("challenge")
    try:
        raw = bytes.fromhex(challenge) if isinstance(challenge, str) else b""
    except ValueError:
        raw = b""
    if fields.get("version") != VERSION or len(raw) != CHALLENGE_BYTES:
        raise MalformedError("not a hello of this version")
    return raw


def encode_call(call: Call) -> bytes:
    """A call, as JSON."""
    stdin = None if call.stdin is None else base64.b64encode(call.stdin).decode()
    terminal = asdict(call.terminal)
    fields = {"words": call.words, "group": call.group, "stdin": stdin, "terminal": terminal}
    return json.dumps({**fields, "folder": call.folder, "answers": dict(call.answers)}).encode()


def decode_call(data: bytes) -> Call:
    """Read a call.

    Raises:
        MalformedError: it is not one.
    """
    fields = _decode(data)
    words, group, stdin = fields.get("words"), fields.get("group"), fields.get("stdin")
    if not isinstance(words, list) or len(words) > MOST_WORDS or not all(isinstance(word, str) for word in words):
        raise MalformedError("words are not texts")
    if not isinstance(group, str | None) or not isinstance(stdin, str | None):
        raise MalformedError("group and stdin are texts or nothing")
    try:
        raw = None if stdin is None else base64.b64decode(stdin, validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedError("stdin is not base64") from error
    folder, answers = fields.get("folder"), fields.get("answers")
    if not isinstance(folder, str) or not isinstance(answers, dict) or len(answers) > MOST_ANSWERS:
        raise MalformedError("no folder, or no answers")
    if not all(isinstance(answer, str) for answer in answers.values()):
        raise MalformedError("answers are texts")
    return Call(tuple(words), group, raw, _read_terminal(fields.get("terminal")), folder, answers)


def encode_answer(printed: Printed) -> bytes:
    """What a command printed and ended with, as JSON."""
    return json.dumps(asdict(printed)).encode()


def decode_answer(data: bytes) -> Printed:
    """Read an answer.

    Raises:
        MalformedError: it is not one.
    """
    match _decode(data):
        case {"out": str(out), "err": str(err), "exit_code": int(code)} if 0 <= code <= 255:
            return Printed(out, err, code)
    raise MalformedError("not an answer")


def _read_terminal(value: Any) -> Terminal:
    match value:
        case {"out": bool(out), "err": bool(err), "width": int(width), "variables": dict(variables)}:
            pairs = [*variables, *variables.values()]
            if 1 <= width <= 10_000 and len(variables) <= MOST_VARIABLES and all(isinstance(p, str) for p in pairs):
                return Terminal(out, err, width, variables)
    raise MalformedError("not a terminal")


def _decode(data: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise MalformedError("not JSON") from error
    if not isinstance(fields, dict):
        raise MalformedError("not an object")
    return fields
