"""Running other processes' commands on the profile that this one has open. Implements specs/local-socket.md §4.

A command that comes over the local socket is parsed by the same parser, run by the same coroutine and printed by the
same output as if it were alone; what it prints goes back. One runs at a time, for the façade is not for several at
once; who has not proved to be able to open the profile runs nothing.
"""

from __future__ import annotations

import asyncio
import hmac
import io
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cocoon_cli import messages
from cocoon_cli.context import Context, ProfileCommand
from cocoon_cli.faults import tell_error
from cocoon_cli.messages import Call
from cocoon_cli.output import Output, Printed
from cocoon_cli.socket_place import SocketPlace, is_same_user
from cocoon_cli.standard_input import STANDARD_INPUT, StandardInput
from cocoon_core.errors import LocalStateError, MalformedError, ProfileLockedError

if TYPE_CHECKING:
    from cocoon_core import Cocoon

CALL_SECONDS = 30.0  # for one that connects to prove itself and say what it wants
MOST_CONNECTIONS = 32
TOO_LONG = "This would print more than can be passed on; ask for less at a time."


@asynccontextmanager
async def serve_commands(cocoon: Cocoon, context: Context, after_each: Callable[[], None]) -> AsyncIterator[None]:
    """Listen on the profile's local socket inside the block.

    Args:
        after_each: called when a command has been run.

    Raises:
        LocalStateError: no socket can be made.
    """
    from cocoon_cli.main import build_parser  # which knows this module

    build_parser()  # loads all commands now, so that what is installed meanwhile does not mix with what runs
    place = SocketPlace.claim(cocoon.home)
    holder = Holder(cocoon, context, after_each)
    try:
        server = await asyncio.start_unix_server(holder.serve, sock=place.listening)
        try:
            yield
        finally:
            server.close()
            await holder.end()
    finally:
        place.release()


class Holder:
    """Serves the connections of one socket."""

    def __init__(self, cocoon: Cocoon, context: Context, after_each: Callable[[], None]) -> None:
        self._cocoon, self._context, self._after_each = cocoon, context, after_each
        self._proof = cocoon.proof
        self._turn = asyncio.Lock()
        self._connections: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection: hello, call, answer. Whoever breaks the rules is hung up on."""
        task = asyncio.current_task()
        assert task is not None, "asyncio runs this in a task"
        self._connections.add(task)
        try:
            if len(self._connections) <= MOST_CONNECTIONS and is_same_user(writer.get_extra_info("socket")):
                await self._converse(reader, writer)
        except (OSError, EOFError, MalformedError):  # gone, too slow, or no Cocoon: nothing to do for it
            pass
        finally:
            self._connections.discard(task)
            writer.close()

    async def end(self) -> None:
        """Stop what runs, as Ctrl-C would, and hang up."""
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        challenge = secrets.token_bytes(messages.CHALLENGE_BYTES)
        writer.write(messages.encode_frame(messages.encode_hello(challenge)))
        async with asyncio.timeout(CALL_SECONDS):
            head = await reader.readexactly(messages.LENGTH_BYTES)
            frame = await reader.readexactly(messages.decode_length(head, messages.MAX_CALL_BYTES))
        asked, data = messages.split_proof(frame)
        if not hmac.compare_digest(asked, self._proof.prove_call(challenge, data)):
            raise MalformedError("the proof of a call does not hold")
        answer = messages.encode_answer(await self._run_while_connected(messages.decode_call(data), reader))
        if len(answer) + messages.PROOF_BYTES > messages.MAX_ANSWER_BYTES:
            answer = messages.encode_answer(Printed("", f"cocoon: {TOO_LONG}\n", LocalStateError.exit_code))
        writer.write(messages.encode_frame(self._proof.prove_answer(asked, answer) + answer))
        await writer.drain()

    async def _run_while_connected(self, call: Call, reader: asyncio.StreamReader) -> Printed:
        """Run a call; if who asked goes away, stop it, as Ctrl-C stops a command that runs alone."""
        running = asyncio.create_task(self._take_turn(call))
        gone = asyncio.create_task(reader.read(1))
        try:
            await asyncio.wait({running, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not running.done():
                raise ConnectionError("whoever asked is gone")
            return running.result()
        finally:
            for task in (running, gone):
                task.cancel()
            await asyncio.gather(running, gone, return_exceptions=True)

    async def _take_turn(self, call: Call) -> Printed:
        out, err = Captured(call.terminal.out), Captured(call.terminal.err)
        output = Output("--json" in call.words, out, err, call.terminal)
        async with self._turn:
            exit_code = await self._run(call, output)
        self._after_each()
        return Printed(out.getvalue(), err.getvalue(), exit_code)

    async def _run(self, call: Call, output: Output) -> int:
        stdin = StandardInput(call.stdin or b"")
        STANDARD_INPUT.set(stdin)  # of this task alone
        try:
            with redirect_stdout(output.out):
                args = self._context.parse(call.words)
            if not isinstance(args.run, ProfileCommand) or args.run.stays(args):
                raise ProfileLockedError
            context = replace(
                self._context,
                group=call.group,
                output=output,
                words=call.words,
                stdin=stdin,
                folder=Path(call.folder),
                answers=call.answers,
            )
            return output.finish(await args.run.command(self._cocoon, context, args))
        except SystemExit as stop:  # --help and --version end so
            return int(stop.code or 0)
        except Exception as error:
            return tell_error(error, output, call.words)


class Captured(io.StringIO):
    """What a command prints for another process, which says whether it is a terminal there."""

    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal
