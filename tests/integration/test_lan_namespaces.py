"""Two machines on one cable: network namespaces joined by a pair of devices, and the command as it is typed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cocoon_cli.demo_cast import RelayProcess
from tests.integration.cli.conftest import Person, family, make_person, relay  # noqa: F401  fixtures


def run(*words: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(words, capture_output=True, timeout=30, check=False)


@pytest.fixture
def namespaces() -> Iterator[tuple[str, str]]:
    """Two names of network namespaces with a cable between them: 10.77.0.1 and 10.77.0.2."""
    if shutil.which("ip") is None:
        pytest.skip("there is no command `ip` to make network namespaces with")
    one, two = (f"cocoon-{os.getpid()}-{end}" for end in "ab")
    cable = [f"cn{os.getpid() % 100_000}{end}" for end in "ab"]
    made = [run("ip", "netns", "add", name) for name in (one, two)]
    made.append(run("ip", "link", "add", cable[0], "type", "veth", "peer", "name", cable[1]))
    for number, (name, end) in enumerate(zip((one, two), cable, strict=True), start=1):
        made.append(run("ip", "link", "set", end, "netns", name))
        made.append(run("ip", "-n", name, "addr", "add", f"10.77.0.{number}/24", "dev", end))
        made.append(run("ip", "-n", name, "link", "set", end, "up"))
        made.append(run("ip", "-n", name, "link", "set", "lo", "up"))
        made.append(run("ip", "-n", name, "link", "set", end, "multicast", "on"))
    try:
        failed = next((done for done in made if done.returncode), None)
        if failed is not None:
            pytest.skip(f"network namespaces are not permitted here: {failed.stderr.decode().strip()}")
        yield one, two
    finally:
        for name in (one, two):
            run("ip", "netns", "del", name)


def sync_in(namespace: str, person: Person) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["ip", "netns", "exec", namespace, sys.executable, "-m", "cocoon_cli", "--json", "sync", "--lan"],
        env=person.environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_two_machines_on_one_cable_find_each_other_and_exchange_everything(
    family: tuple[Person, Person],  # noqa: F811
    relay: RelayProcess,  # noqa: F811
    namespaces: tuple[str, str],
    tmp_path: Path,
) -> None:
    ana, ben = family
    relay.stop()
    ana.do("post", "By cable.")
    ben.do("post", "And back.")
    with ThreadPoolExecutor(2) as both:
        hers, his = both.map(sync_in, namespaces, (ana, ben))
    assert (hers.returncode, his.returncode) == (0, 0), (hers, his)
    for person in (ana, ben):
        assert {post["text"] for post in person.do("feed")["posts"]} == {"By cable.", "And back."}
