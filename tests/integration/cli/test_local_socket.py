"""While `sync --watch` holds a profile, other commands go through it, and only those of who could open the profile."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import re
import select
import socket
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cocoon_cli import messages
from cocoon_cli.asking import CUT_OFF
from cocoon_cli.demo_cast import RelayProcess
from cocoon_cli.messages import Call
from cocoon_cli.output import Terminal
from cocoon_cli.socket_place import SocketPlace, is_same_user
from cocoon_cli.socket_place import connect as open_connection
from cocoon_core import Cocoon
from tests.integration.cli.conftest import PASSPHRASE, SECONDS, Done, Person, interrupt

NOWHERE = "ws://127.0.0.1:1"


def wait_for(process: subprocess.Popen[str], words: str) -> str:
    """The next line on standard error with these words."""
    assert process.stderr is not None
    while words not in (line := process.stderr.readline()):
        assert line, f"ended before it said {words!r}"
    return line


@contextmanager
def watching(person: Person) -> Iterator[subprocess.Popen[str]]:
    """A watch that runs inside the block and is interrupted at its end, if nobody ended it before."""
    process = person.start("sync", "--watch")
    try:
        wait_for(process, "Ctrl-C")
        yield process
    finally:
        if process.poll() is None:
            ended = interrupt(process)
            assert ended.code == 0, ended


@pytest.fixture
def alone(make_person: Callable[[str], Person]) -> Person:
    """Someone in a group whose relay nobody runs."""
    ana = make_person("ana")

    async def make() -> None:
        async with await Cocoon.open(ana.home, PASSPHRASE) as cocoon:
            await cocoon.create_group("Family", member_name="Ana", relays=[NOWHERE])

    asyncio.run(make())
    return ana


def connect(person: Person, name: str = "profile.sock") -> tuple[socket.socket, bytes]:
    """A connection to whoever holds the profile, and the challenge of its hello."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(SECONDS)
    connection.connect(str(person.home / name))
    hello = receive(connection)
    assert hello is not None
    return connection, messages.decode_hello(hello)


def receive(connection: socket.socket) -> bytes | None:
    """The next frame; None if the other side hung up instead."""
    file = connection.makefile("rb")
    try:
        head = file.read(messages.LENGTH_BYTES)
        return file.read(int.from_bytes(head, "big")) if head else None
    except ConnectionResetError:
        return None


def make_call(*words: str) -> bytes:
    return messages.encode_call(Call(words, None, None, Terminal(False, False, 80, {}), "/", {}))


def test_what_is_typed_beside_a_watch_goes_through_it_and_reaches_others(family: tuple[Person, Person]) -> None:
    ana, ben = family
    his = ben.start("--json", "sync", "--watch")
    assert his.stdout is not None
    with watching(ana) as hers:
        first = ana.do("post", "-", stdin="Soup is ready. ☕".encode())["id"]
        shown = json.loads(his.stdout.readline())["post"]
        assert (shown["id"], shown["author"], shown["text"]) == (first, "Ana", "Soup is ready. ☕")
        answer = ana.do("reply", first[:10], "Hurry.")["id"]
        assert json.loads(his.stdout.readline())["post"]["parent"] == first

        assert [post["id"] for post in ana.do("feed")["posts"]] == [first]
        assert [post["id"] for post in ana.do("thread", answer)["posts"]] == [first, answer]
        assert {member["name"] for member in ana.do("members")["members"]} == {"Ana", "Ben"}
        assert ana.do("invite")["link"].startswith("cocoon:")
        report = ana.do("sync")
        assert [relay["ok"] for relay in report["relays"]] == [True]
        assert ana.type("post", "in words").err == "Sent.\n"

        assert hers.stdout is not None
        assert [hers.stdout.readline() for _ in range(2)][1] == "  Soup is ready. ☕\n"
    assert interrupt(his).code == 0
    assert not (ana.home / "profile.sock").exists()
    assert len(ana.do("feed")["posts"]) == 2


def test_a_group_that_is_joined_through_a_watch_is_watched_too(
    family: tuple[Person, Person], relay: RelayProcess
) -> None:
    ana, ben = family
    ben.do("group", "new", "Band", "--name", "Ben", "--relay", relay.url)
    link = ben.do("invite", "--group", "Band")["link"]
    ben.do("sync")
    with watching(ana) as hers:
        assert ana.do("join", link, "--name", "Ana")["name"] == "Band"
        ben.do("post", "Rehearsal on Friday?", "--group", "Band")
        ben.do("sync", "--group", "Band")
        assert hers.stdout is not None
        assert hers.stdout.readline() == "Band\n"
        assert hers.stdout.readline().startswith("Ben")


def test_results_and_mistakes_are_the_same_as_without_a_watch(alone: Person) -> None:
    alone.do("post", "kept")
    calls = [
        ("feed", "--json"),
        ("members",),
        ("thread", "ffffffffffff"),
        ("--json", "role", "Bert", "admin"),
        ("--group", "Famly", "feed"),
        ("post", " "),
        ("sync",),
        ("init",),
        ("--home", str(alone.home), "group", "list", "--json", "--group", "fam"),
    ]
    styled = alone.with_settings(FORCE_COLOR="1", TERM="xterm-256color")
    before = [alone.type(*words) for words in calls] + [styled.type("group", "show")]
    with watching(alone):
        through = [alone.type(*words) for words in calls] + [styled.type("group", "show")]
    assert through == before
    assert {done.code for done in before} == {0, 2, 5}
    assert "\x1b[1m" in through[-1].out


def type_in_a_terminal(person: Person, columns: int, *words: str) -> str:
    """What a terminal of that width shows."""
    outer, inner = pty.openpty()
    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 25, columns, 0, 0))
    settings = {**person.environment, "TERM": "xterm-256color"}
    settings.pop("COLUMNS", None)
    process = subprocess.Popen(
        [sys.executable, "-m", "cocoon_cli", *words], env=settings, stdin=inner, stdout=inner, stderr=inner
    )
    os.close(inner)
    shown = b""
    while select.select([outer], [], [], SECONDS)[0]:
        try:
            shown += os.read(outer, 65536)
        except OSError:  # Linux says so when the last writer is gone
            break
    os.close(outer)
    assert process.wait(SECONDS) == 0
    return re.sub("just now|1 min ago", "AGE", shown.decode())


def test_a_terminal_gets_its_own_width_and_colours_through_a_watch(alone: Person) -> None:
    post = alone.do("post", "a word " * 20)["id"]
    before = type_in_a_terminal(alone, 40, "thread", post)
    assert before.count("\n") > 3
    assert "\x1b[" in before
    with watching(alone):
        assert type_in_a_terminal(alone, 40, "thread", post) == before


def test_a_second_watch_is_refused_and_the_first_goes_on(alone: Person) -> None:
    with watching(alone) as first:
        refused = alone.type("--json", "sync", "--watch")
        assert (refused.code, refused.error["code"]) == (6, "profile_locked")
        assert str(first.pid) in refused.error["message"]
        connection, challenge = connect(alone)
        call = make_call("--json", "sync", "--watch")
        with connection:
            connection.sendall(
                messages.encode_frame(Cocoon.derive_proof(alone.home, PASSPHRASE).prove_call(challenge, call) + call)
            )
            answer = receive(connection)
        assert answer is not None
        printed = messages.decode_answer(messages.split_proof(answer)[1])
        assert (printed.exit_code, json.loads(printed.out)["error"]["code"]) == (6, "profile_locked")
        assert "the `cocoon sync --watch` that runs sends it" in alone.type("post", "still here").err


def test_attack_39_a_wrong_passphrase_does_not_get_through_a_watch(alone: Person) -> None:
    with watching(alone):
        for guess in ("a guess", ""):
            refused = alone.with_settings(COCOON_PASSPHRASE=guess).type("--json", "post", "forged")
            assert (refused.code, refused.error["code"]) == (6, "wrong_passphrase")
        assert alone.do("feed")["posts"] == []


def test_attack_39_what_proves_nothing_or_is_malformed_or_huge_is_hung_up_on(alone: Person, tmp_path: Path) -> None:
    Cocoon.init(tmp_path / "other", PASSPHRASE)
    stranger = Cocoon.derive_proof(tmp_path / "other", PASSPHRASE)
    own = Cocoon.derive_proof(alone.home, PASSPHRASE)
    post = make_call("post", "forged")
    with watching(alone) as process:
        connection, old = connect(alone)
        connection.close()
        replayed = own.prove_call(old, post) + post

        def frames(challenge: bytes) -> Iterator[bytes]:
            yield messages.encode_frame(bytes(32) + post)
            yield messages.encode_frame(replayed)
            yield messages.encode_frame(stranger.prove_call(challenge, post) + post)
            yield messages.encode_frame(own.prove_call(challenge, post) + post.replace(b"forged", b"f0rged"))
            yield messages.encode_frame(b"short")
            yield messages.encode_frame(b"")
            yield b"\xff\xff\xff\xff"
            yield (messages.MAX_CALL_BYTES + 1).to_bytes(4, "big")
            for junk in (b"", b"\xff", b"[]", b"[" * 100_000, b'{"words": 1}', post.replace(b"80", b"0")):
                yield messages.encode_frame(own.prove_call(challenge, junk) + junk)

        many = len(list(frames(old)))
        for number in range(many):
            connection, challenge = connect(alone)
            with connection:
                connection.sendall(list(frames(challenge))[number])
                assert receive(connection) is None, number
        connection, _ = connect(alone)
        connection.sendall(b"\x00")
        connection.close()  # in the middle of a frame
        assert alone.do("feed")["posts"] == []
        assert alone.type("--json", "post", "x" * 100_000, "extra").error["code"] == "usage"
        too_large = alone.type("--json", "post", "-", stdin=b"x" * messages.MAX_CALL_BYTES).error
        assert (too_large["code"], "too large" in too_large["message"]) == ("usage", True)
        assert alone.do("post", "after all that")
        assert process.poll() is None


def test_a_watch_that_was_killed_leaves_a_socket_that_stops_nobody(alone: Person) -> None:
    with watching(alone) as process:
        process.kill()
        process.communicate()
    assert (alone.home / "profile.sock").is_socket()
    assert alone.do("post", "after the crash")
    with watching(alone):
        assert (alone.home / "profile.sock").stat().st_mode & 0o777 == 0o600
        assert alone.do("post", "through the next watch")
    assert len(alone.do("feed")["posts"]) == 2


def test_a_home_with_a_long_path_has_its_socket_elsewhere(make_person: Callable[[str], Person], tmp_path: Path) -> None:
    runtime = Path("/tmp") / f"cocoon-test-{os.getpid()}"
    runtime.mkdir(mode=0o700)
    try:
        made = make_person("a" * 90)
        ana = made.with_settings(XDG_RUNTIME_DIR=str(runtime))
        ana.do("group", "new", "Family", "--name", "Ana", "--relay", NOWHERE)
        pointer = ana.home / "profile.sock.path"
        with watching(ana) as process:
            place = Path(pointer.read_text())
            assert place.is_socket()
            assert place.is_relative_to(runtime)
            assert [path.stat().st_mode & 0o777 for path in (place.parent, place, pointer)] == [0o700, 0o600, 0o600]
            assert ana.do("post", "through")
            process.kill()
            process.communicate()
        with watching(ana):
            assert not place.exists()  # what the killed one left is removed by the next
            assert ana.do("post", "again")
        assert list(runtime.iterdir()) == []
        assert not pointer.exists()
    finally:
        for leftover in sorted(runtime.rglob("*"), reverse=True):
            leftover.rmdir() if leftover.is_dir() else leftover.unlink()
        runtime.rmdir()


def test_several_at_once_are_all_served(alone: Person) -> None:
    with watching(alone):
        started = [alone.start("--json", "post", f"number {number}") for number in range(4)]
        ends = [process.communicate(timeout=SECONDS) for process in started]
        assert [process.returncode for process in started] == [0] * 4, ends
        assert len(alone.do("feed")["posts"]) == 4


def test_ctrl_c_ends_a_command_that_goes_through_and_the_end_of_the_watch_is_told(
    make_person: Callable[[str], Person],
) -> None:
    ana = make_person("ana")
    with socket.create_server(("127.0.0.1", 0)) as mute:  # takes connections and never says a word
        mute.settimeout(SECONDS)
        ana.do("group", "new", "Family", "--name", "Ana", "--relay", f"ws://127.0.0.1:{mute.getsockname()[1]}")
        with watching(ana) as process:
            watch_connection, _ = mute.accept()
            first = ana.start("sync")
            connection, _ = mute.accept()  # so the command runs, inside the watch
            assert interrupt(first).code == 130
            connection.settimeout(SECONDS)
            while connection.recv(4096):
                pass  # until the watch hangs up, since nobody wants the pass any more
            second = ana.start("--json", "sync")
            other, _ = mute.accept()
            assert interrupt(process).code == 0
            out, err = second.communicate(timeout=SECONDS)
            cut = Done(second.returncode, out, err)
            assert (cut.code, cut.error) == (6, {"code": "local_state", "message": CUT_OFF})
            for accepted in (watch_connection, connection, other):
                accepted.close()


def test_attack_39_a_process_of_another_user_is_refused_on_both_sides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = SocketPlace.claim(tmp_path)
    own = open_connection(tmp_path, SECONDS)
    assert own is not None
    accepted, _ = place.listening.accept()
    assert is_same_user(accepted)
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    assert not is_same_user(accepted)
    assert open_connection(tmp_path, SECONDS) is None
    own.close()
    accepted.close()
    place.release()
    assert list(tmp_path.iterdir()) == []
