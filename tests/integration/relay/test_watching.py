"""What an operator sees of a relay: metrics that any Prometheus reads, and a log that names nobody unless asked to."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest

from cocoon_core.protocol.frames import Ack, ErrorCode
from cocoon_relay import logs
from cocoon_relay.limits import DAY
from cocoon_relay.server import Relay
from tests.support.relay_client import connect, http_url, make_envelope, make_key, topic_of
from tests.support.relay_process import RelayProcess

Serve = Callable[..., Awaitable[Relay]]
README = Path(__file__).resolve().parents[3] / "relay" / "README.md"


def read_metrics(text: str) -> dict[str, float]:
    """Strictly, by Prometheus' text format 0.0.4: each family described once, then its samples, and nothing else."""
    values: dict[str, float] = {}
    kinds: dict[str, str] = {}
    family = None
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("# HELP "):
            name, _, words = line.removeprefix("# HELP ").partition(" ")
            assert re.fullmatch("cocoon_relay_[a-z_]+", name)
            assert words
            assert name not in kinds
            family = name
        elif line.startswith("# TYPE "):
            name, kind = line.removeprefix("# TYPE ").split(" ")
            assert name == family
            assert kind == ("counter" if name.endswith("_total") else "gauge")
            kinds[name] = kind
        else:
            found = re.fullmatch(r'([a-z_]+)(\{code="([a-z_]+)"\})? ([0-9]+(?:\.[0-9]+)?)', line)
            assert found, line
            assert found[1] == family
            assert found[3] is None or found[3] in set(ErrorCode)
            assert found[1] + (found[2] or "") not in values
            values[found[1] + (found[2] or "")] = float(found[4])
    assert {name.partition("{")[0] for name in values} == set(kinds)
    return values


async def fetch_metrics(http: aiohttp.ClientSession, relay: Relay | RelayProcess) -> dict[str, float]:
    async with http.get(f"{http_url(relay.url)}/metrics") as answer:
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        return read_metrics(await answer.text())


async def test_metrics_are_what_prometheus_reads_and_the_readme_lists(
    serve: Serve, http: aiohttp.ClientSession
) -> None:
    relay = await serve()
    values = await fetch_metrics(http, relay)
    names = {name.partition("{")[0].removeprefix("cocoon_relay_").removesuffix("_total") for name in values}
    listed = README.read_text().partition("## Metrics and logs")[2].partition("To be woken for")[0]
    assert names == set(re.findall("`([a-z_]+)`", listed))
    assert sum(name.startswith("cocoon_relay_refused_total{") for name in values) == len(ErrorCode)


async def test_rounds_of_gc_can_be_watched(serve: Serve, http: aiohttp.ClientSession) -> None:
    relay = await serve(empty_topic_lease=-7200, gc_seconds=0.05)
    client, key = await connect(http, relay.url), make_key()
    await client.open(key)
    await client.close()
    values = await fetch_metrics(http, relay)
    while not values["cocoon_relay_gc_topics_total"]:
        values = await fetch_metrics(http, relay)
    assert values["cocoon_relay_gc_rounds_total"] >= 1
    assert values["cocoon_relay_gc_failures_total"] == 0
    assert values["cocoon_relay_gc_last_timestamp_seconds"] > 50 * 365 * DAY
    assert values["cocoon_relay_free_bytes"] > 0


async def use(relay: RelayProcess, http: aiohttp.ClientSession) -> str:
    client, key = await connect(http, relay.url), make_key()
    await client.open(key)
    assert isinstance(await client.put(key, make_envelope()), Ack)
    async with http.get(f"{http_url(relay.url)}/v1/blobs/{os.urandom(32).hex()}") as answer:
        assert answer.status == 401
    while not (await fetch_metrics(http, relay))["cocoon_relay_gc_rounds_total"]:
        pass  # the first round is in the log too
    await client.close()
    assert relay.stop() == 0
    return topic_of(key).hex()


@pytest.mark.parametrize("form", ["text", "json"])
async def test_the_log_names_no_address_and_no_topic(tmp_path: Path, http: aiohttp.ClientSession, form: str) -> None:
    relay = RelayProcess(tmp_path / "data", "--log", form, "--log-level", "info")
    topic = await use(relay, http)
    lines = relay.errors.splitlines()
    events = [json.loads(line)["event"] for line in lines] if form == "json" else [line.split()[1] for line in lines]
    assert (events[0], events[-2:]) == ("ready", ["draining", "stopped"])
    assert "gc" in events
    assert "127.0.0.1" not in relay.errors
    assert topic not in relay.errors
    if form == "json":
        assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", json.loads(line)["time"]) for line in lines)


async def test_addresses_are_logged_where_the_operator_asks_and_topics_never(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    relay = RelayProcess(tmp_path / "data", "--log", "json", "--log-addresses")
    topic = await use(relay, http)
    lines = [json.loads(line) for line in relay.errors.splitlines()]
    assert (lines[0]["event"], lines[0]["level"]) == ("log_addresses", "warning")
    seen = {(line["event"], line.get("code")) for line in lines if line.get("address") == "127.0.0.1"}
    assert seen == {("connected", None), ("gone", None), ("refused", "bad_proof")}
    assert topic not in relay.errors


def test_what_a_library_says_of_the_database_is_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    """It quotes addresses, users and the words of the server."""
    before = logging.getLogger().handlers, logging.getLogger().level
    try:
        logs.set_up("text", "warning", addresses=False)
        logging.getLogger("asyncpg.pool").warning("connection to 10.0.0.5 as somebody failed", exc_info=True)
        logging.getLogger("cocoon_relay.postgres_news").warning("the database is not heard: X")
    finally:
        logging.basicConfig(handlers=before[0], level=before[1], force=True)
    assert capsys.readouterr().err == "WARNING the database is not heard: X\n"
