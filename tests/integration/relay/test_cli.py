"""`cocoon-relay` as a process: ready lines, statistics, gc, and errors a person can act on."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from pathlib import Path

import aiohttp
import pytest

from cocoon_core.protocol.frames import Ack
from tests.support.relay_client import connect, make_envelope, make_key, topic_of
from tests.support.relay_process import RelayProcess, relay_command, relay_environment


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        relay_command(*arguments), env=relay_environment(), capture_output=True, text=True, timeout=60, check=False
    )


async def test_serve_says_where_it_listens_and_ends_with_0(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    with RelayProcess(tmp_path / "data") as relay:
        assert relay.ready_line == f"relay ready at ws://127.0.0.1:{relay.port}"
        key = make_key()
        client = await connect(http, relay.url)
        await client.open(key)
        assert isinstance(await client.put(key, make_envelope(), seal=True), Ack)
        beside = json.loads(run("stats", "--data", str(relay.data), "--json").stdout)
        assert relay.stop() == 0
        assert relay.errors == ""
    after = json.loads(run("stats", "--data", str(relay.data), "--json").stdout)
    assert beside == after
    (topic,) = after["topics"]
    assert (topic["id"], topic["entries"], topic["bytes"], topic["sealed"]) == (topic_of(key).hex(), 1, 296, True)
    assert topic["touched"].endswith("Z")
    assert after["blobs"] == {"count": 0, "bytes": 0}
    shown = run("stats", "--data", str(relay.data)).stdout
    assert topic_of(key).hex() in shown
    assert "1 topics, 1 entries, 296 bytes" in shown
    removed = json.loads(run("gc", "--data", str(relay.data), "--json").stdout)
    assert removed == {"removed": {"topics": 0, "entries": 0, "blobs": 0, "files": 0}}
    assert (relay.data.stat().st_mode & 0o777) == 0o700


async def test_a_relay_answers_to_every_name_of_loopback(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    with RelayProcess(tmp_path / "data") as relay:
        client = await connect(http, relay.url)
        client.origin = f"ws://localhost:{relay.port}"
        await client.open(make_key())
        await client.close()


async def test_a_given_origin_replaces_the_default(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    with RelayProcess(tmp_path / "data", "--origin", "https://relay.example") as relay:
        client = await connect(http, relay.url)
        client.origin = "wss://relay.example:443"
        await client.open(make_key())
        await client.close()


def test_mistakes_are_explained_in_one_line_with_an_exit_code(tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    file = tmp_path / "file"
    file.write_text("")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        busy = f"127.0.0.1:{taken.getsockname()[1]}"
        cases = [
            (("serve", "--listen", busy, "--data", data), 6, f"{busy} is in use"),
            (("serve", "--listen", "8787", "--data", data), 2, "--listen is HOST:PORT"),
            (("serve", "--listen", "nowhere.invalid:1", "--data", data), 2, "nowhere.invalid is not an address"),
            (("serve", "--listen", "192.0.2.1:1", "--data", data), 6, "192.0.2.1:1 is not an address of this machine"),
            (("serve", "--data", data, "--origin", "relay.example"), 2, "--origin is the URL"),
            (("serve", "--data", str(file)), 6, "cannot be used"),
            (("serve", "--data", data, "--config", str(tmp_path / "none")), 6, "none cannot be used"),
            (("serve", "--data", data, "--topic-lease", "0"), 2, "--topic-lease is at least 1 day"),
            (("gc", "--data", data, "--sealed-topic-lease", "1h"), 2, "--sealed-topic-lease is at least 1 day"),
            (("serve", "--data", data, "--stored-bytes", "-1"), 2, "--stored-bytes begins with a number"),
            (("serve", "--data", data, "--access", "members"), 2, "--access is one of anyone, token, guest"),
            (("serve", "--data", ""), 2, "--data is the name of a folder"),
            (("token", "list", "--data", str(tmp_path / "none")), 2, "is not the data directory of a relay"),
            (("token", "revoke", "ana", "--data", str(tmp_path)), 2, "there is no token 'ana'"),
            (("token", "new", "ana", "--data", data, "--class", "band"), 2, "no class 'band'"),
            (("token", "new", "ana", "--data", data, "--expires", "soon"), 2, "neither a date"),
            (("token", "new", "ana", "--data", data, "--expires", "2001-01-01"), 2, "2001-01-01 is over"),
            (("token",), 2, "new|list|revoke"),
            (("stats", "--data", str(tmp_path / "none")), 2, "is not the data directory of a relay"),
            (("gc", "--data", str(tmp_path / "none")), 2, "is not the data directory of a relay"),
            (("drop", "--data", str(tmp_path / "none"), "--sealed"), 2, "is not the data directory of a relay"),
            (("serve",), 2, "--data"),
            (("dance",), 2, "dance"),
            ((), 2, "COMMAND"),
        ]
        for arguments, code, text in cases:
            done = run(*arguments)
            assert done.returncode == code, (arguments, done.stderr)
            assert text in done.stderr, (arguments, done.stderr)
            assert "Traceback" not in done.stderr
            assert done.stdout == ""
            assert not done.stderr.startswith("usage")


def test_scripts_get_the_ready_line_and_errors_as_objects(tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    words = relay_command("serve", "--json", "--listen", "127.0.0.1:0", "--data", data)
    process = subprocess.Popen(words, env=relay_environment(), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert json.loads(process.stdout.readline())["ready"].startswith("ws://127.0.0.1:")
        beside = run("serve", "--json", "--listen", "127.0.0.1:0", "--data", data)
        assert (beside.returncode, beside.stderr) == (6, "")
        assert json.loads(beside.stdout)["error"]["code"] == "profile_locked"
    finally:
        process.terminate()
        assert process.wait(60) == 0
        process.stdout.close()
    wrong = run("serve", "--json")
    assert (wrong.returncode, wrong.stderr) == (2, "")
    assert json.loads(wrong.stdout)["error"]["code"] == "usage"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    done = run("serve", "--listen", "127.0.0.1:0", "--data", str(tmp_path / "data"))
    tmp_path.chmod(0o700)
    assert done.returncode == 6
    assert "cannot be used: Permission denied" in done.stderr


def test_two_relays_never_share_a_directory(tmp_path: Path) -> None:
    with RelayProcess(tmp_path / "data") as relay:
        done = run("serve", "--listen", "127.0.0.1:0", "--data", str(relay.data))
        assert done.returncode == 6
        assert "another relay is serving" in done.stderr


async def test_drop_lets_go_of_what_is_named_and_of_all_that_have_ended(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    keys = [make_key() for _ in range(4)]
    with RelayProcess(tmp_path / "data") as relay:
        for place, key in enumerate(keys):
            client = await connect(http, relay.url)
            await client.open(key)
            assert isinstance(await client.put(key, make_envelope(), seal=place < 2), Ack)
            await client.close()
        beside = run("drop", "--data", str(relay.data), "--sealed")
        assert (beside.returncode, beside.stdout) == (6, "")
        assert "another relay is serving" in beside.stderr
    data = str(relay.data)

    def left() -> set[str]:
        return {topic["id"] for topic in json.loads(run("stats", "--data", data, "--json").stdout)["topics"]}

    ids = [topic_of(key).hex() for key in keys]
    for wrong in ((), ("--sealed", ids[0]), ("not-hex",), (ids[0][:-1],)):
        done = run("drop", "--data", data, *wrong)
        assert (done.returncode, done.stdout) == (2, "")
        assert left() == set(ids)
    assert run("drop", "--data", data, ids[2], topic_of(make_key()).hex()).stdout == "removed 1 topics\n"
    assert left() == {ids[0], ids[1], ids[3]}
    assert json.loads(run("drop", "--data", data, "--sealed", "--json").stdout) == {"removed": {"topics": 2}}
    assert left() == {ids[3]}
    assert json.loads(run("gc", "--data", data, "--json").stdout)["removed"]["entries"] == 3
    with RelayProcess(relay.data) as again:  # what was let go is another life
        client = await connect(http, again.url)
        assert (await client.open(keys[0]))[0].last == 0
        assert (await client.open(keys[3]))[0].last == 1
        await client.close()


async def test_a_second_signal_ends_at_once_and_the_supervisor_is_told(
    tmp_path: Path, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(str(place))
        supervisor.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", str(place))
        relay = RelayProcess(tmp_path / "data", "--drain-seconds", "1 h")
        assert supervisor.recv(100) == b"READY=1"
        os.kill(relay.pid, signal.SIGTERM)
        assert supervisor.recv(100) == b"STOPPING=1"
        client = await connect(http, relay.url)  # it serves on
        await client.open(make_key())
        await client.close()
        assert relay.stop() == 128 + signal.SIGTERM
    assert relay.errors == ""
