"""Running a command through the process that has the profile open. Implements specs/local-socket.md §4, asking side.

The asking process proves that it could open the profile itself, sends its call, and prints what comes back.
"""

from __future__ import annotations

import hmac
import socket
from typing import TYPE_CHECKING

from cocoon_cli import messages
from cocoon_cli.messages import Call
from cocoon_cli.output import Printed, Terminal
from cocoon_cli.socket_place import connect
from cocoon_core.errors import LocalStateError, MalformedError, UsageError

if TYPE_CHECKING:
    from cocoon_cli.context import Context
    from cocoon_core import LocalProof

HELLO_SECONDS = 30.0  # a holder that is merging much answers late
CUT_OFF = (
    "The process that has this profile open ended before it answered. What was asked may or may not have been done."
)


def ask_holder(context: Context) -> Printed | None:
    """Have this call run by the process that has the profile open; None if nobody listens there.

    Raises:
        WrongPassphraseError, NoKeyRingError, UsageError: this process could not open the profile.
        UsageError: the call is too large to be passed on.
        LocalStateError: what listens there ended before it answered, or is no Cocoon of this version.
    """
    from cocoon_core import Cocoon

    home = Cocoon.find_home(context.home)
    listener = connect(home, HELLO_SECONDS)
    if listener is None:
        return None
    listener.close()  # a person may take long to type a passphrase, and nobody waits for that
    proof = context.derive_proof()
    connection = connect(home, HELLO_SECONDS)
    return None if connection is None else _exchange(connection, context, proof)


def _exchange(connection: socket.socket, context: Context, proof: LocalProof) -> Printed:
    with connection:
        call = messages.encode_call(
            Call(
                tuple(context.words),
                context.group,
                context.stdin.taken,
                Terminal.of_this_process(),
                str(context.folder),
                context.answers,
            )
        )
        if len(call) + messages.PROOF_BYTES > messages.MAX_CALL_BYTES:
            raise UsageError("This is too large to pass to the process that has this profile open; end that first.")
        try:
            challenge = messages.decode_hello(_receive(connection, messages.MAX_HELLO_BYTES))
            asked = proof.prove_call(challenge, call)
            connection.sendall(messages.encode_frame(asked + call))
            connection.settimeout(None)  # a command may take as long as it takes
            given, answer = messages.split_proof(_receive(connection, messages.MAX_ANSWER_BYTES))
            if not hmac.compare_digest(given, proof.prove_answer(asked, answer)):
                raise MalformedError("the proof of an answer does not hold")
            return messages.decode_answer(answer)
        except MalformedError as error:
            raise LocalStateError(f"What listens at this profile is not a Cocoon of this version: {error}.") from error
        except OSError as error:
            raise LocalStateError(CUT_OFF) from error


def _receive(connection: socket.socket, most: int) -> bytes:
    length = messages.decode_length(_receive_exactly(connection, messages.LENGTH_BYTES), most)
    return _receive_exactly(connection, length)


def _receive_exactly(connection: socket.socket, length: int) -> bytes:
    data = bytearray()
    while len(data) < length:
        part = connection.recv(min(length - len(data), 1 << 20))
        if not part:
            raise ConnectionError
        data += part
    return bytes(data)
