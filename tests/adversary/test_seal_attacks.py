"""Seals: what a removed member can still do at an honest relay, and how far a lying relay gets with a rotation.

Against an honest relay each attack is also run on a build with the defence taken out. A lying relay cannot be kept from
lying: there the tests state what a client's session can tell from it (specs/relay.md §3 and §5.2).
"""

from __future__ import annotations

import asyncio
import os
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from cocoon_core.errors import DecryptionError, RelayMisbehaved
from cocoon_core.protocol.constants import LABEL_BLOB, LABEL_OPEN
from cocoon_core.protocol.envelope import open_envelope
from cocoon_core.protocol.epoch import Epoch
from cocoon_core.protocol.frames import Ack, CastReceived, Error, ErrorCode, Put, open_message
from cocoon_core.protocol.primitives import Secret
from cocoon_core.sync import session as session_module
from cocoon_core.sync.blobs import BlobRefused, BlobStore, name_blob
from cocoon_core.sync.http_exchange import dial_blobs
from cocoon_core.sync.session import Acked, Broken, Refused
from cocoon_relay import connection as connection_module
from cocoon_relay import proofs
from cocoon_relay.server import Relay
from cocoon_relay.sqlite_writer import SqliteWriter
from tests.support.lying_seals import KEPT, FalselySealed, Look, LosingSeals, NeverLevel, OldLife, SealLiar, SelfSealing
from tests.support.relay_client import connect, make_envelope, make_http, topic_of  # noqa: F401  a fixture
from tests.support.relay_process import RelayProcess, serve_relay

Http = aiohttp.ClientSession


def make_epoch() -> Epoch:
    return Epoch(Secret(os.urandom(32)))


async def rotate(http: Http, url: str, old: Epoch, new: Epoch) -> list[bytes]:
    """Put an envelope and a blob into the new topic, and seal the old one with two; what is in the old one."""
    client = await connect(http, url)
    last = (await client.open(old.signing))[0].last
    await client.open(new.signing)
    assert isinstance(await client.put(new.signing, make_envelope(), expect=0), Ack)
    both = [make_envelope(), make_envelope()]
    assert isinstance(await client.put(old.signing, *both, seal=True, expect=last), Ack)
    await client.close()
    return both


# --- 22: the removed member reads


async def _attack_read_after(http: Http, relay: Relay) -> None:
    """With the old epoch's keys, the new topic's id, and a connection from before."""
    old, new = make_epoch(), make_epoch()
    removed = await connect(http, relay.url)
    await removed.open(old.signing)
    rotation = await rotate(http, relay.url, old, new)
    assert [item for _, item in await removed.entries(2)] == rotation
    forged = old.signing.sign(LABEL_OPEN, open_message(removed.origin, removed.challenge, new.topic))
    await removed.send(replace(removed.make_open(new.signing), proof=forged))
    answer = await removed.next(Error)
    assert answer.code is ErrorCode.BAD_PROOF
    assert isinstance(await removed.put(new.signing, make_envelope()), Error)
    # What is written from now on reaches whoever proves the new topic, and nobody else.
    friend = await connect(http, relay.url)
    await friend.open(new.signing)
    assert isinstance(await friend.put(new.signing, make_envelope()), Ack)
    opened, found = await removed.open(old.signing)
    assert (opened.sealed, [item for _, item in found]) == (True, rotation)
    thief = make_epoch()
    thief.topic, thief.signing = new.topic, old.signing
    store = dial_blobs(relay.url)
    try:
        with pytest.raises(BlobRefused) as caught:
            await store.have(thief, [name_blob(b"x")])
        assert caught.value.reason is ErrorCode.BAD_PROOF
    finally:
        await store.close()


async def test_attack_22_old_keys_open_no_new_topic(tmp_path: Path, http: Http) -> None:
    async with serve_relay(tmp_path / "data") as relay:
        await _attack_read_after(http, relay)


async def test_attack_22_is_seen_when_proofs_are_not_checked(
    tmp_path: Path, http: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "check_open", lambda *_: None)
    async with serve_relay(tmp_path / "data") as relay:
        with pytest.raises((AssertionError, TimeoutError)):
            async with asyncio.timeout(2):
                await _attack_read_after(http, relay)


async def test_attack_22_is_seen_when_proofs_of_blobs_are_not_checked(
    tmp_path: Path, http: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve_relay(tmp_path / "data") as relay:
        honest = proofs._holds
        monkeypatch.setattr(proofs, "_holds", lambda t, label, *a: label == LABEL_BLOB or honest(t, label, *a))
        with pytest.raises(pytest.fail.Exception):
            await _attack_read_after(http, relay)


# --- 23: the removed member writes


async def _attack_write_after(http: Http, relay: Relay, store: BlobStore) -> None:
    """Every way in with the old topic's key: put, seal, blobs, and leases."""
    old, new = make_epoch(), make_epoch()
    removed = await connect(http, relay.url)
    await removed.open(old.signing)
    data = os.urandom(100)
    await store.put_blobs(old, [data])
    rotation = await rotate(http, relay.url, old, new)
    fresh = make_envelope()
    for envelopes in ([fresh], [rotation[0], fresh], [fresh, *rotation]):
        for how in ({}, {"seal": True}, {"expect": 2}, {"seal": True, "expect": 2}):
            answer = await removed.put(old.signing, *envelopes, **how)
            assert isinstance(answer, Error)
            assert (answer.code, answer.last) == (ErrorCode.SEALED, 2)
    # It may say again what is there; it gets the old places, and nobody is told.
    watcher = await connect(http, relay.url)
    await watcher.open(old.signing)
    answer = await removed.put(old.signing, *rotation, expect=0)
    assert isinstance(answer, Ack)
    assert answer.seqs == (1, 2)
    with pytest.raises(BlobRefused) as caught:
        await store.put_blobs(old, [os.urandom(100)])
    assert caught.value.reason is ErrorCode.SEALED
    assert await store.get_blob(old, name_blob(data)) == data
    opened, found = await watcher.open(old.signing)
    assert (opened.last, opened.sealed, [item for _, item in found]) == (2, True, rotation)
    assert (await relay._store.log.totals()).blobs == 1


@pytest.mark.parametrize("weak", [None, "seal", "blobs"])
async def test_attack_23_a_sealed_topic_takes_nothing_by_any_way(
    tmp_path: Path, http: Http, monkeypatch: pytest.MonkeyPatch, weak: str | None
) -> None:
    async with serve_relay(tmp_path / "data") as relay:
        store = dial_blobs(relay.url)
        try:
            if weak is None:
                await _attack_write_after(http, relay, store)
                return
            if weak == "seal":
                honest = SqliteWriter._plan

                def forget(self: SqliteWriter, log: Any, job: Any) -> Any:
                    log.sealed = False
                    return honest(self, log, job)

                monkeypatch.setattr(SqliteWriter, "_plan", forget)
            else:
                monkeypatch.setattr(type(relay._store.log), "open_topic", _say_open(relay))
                monkeypatch.setattr("cocoon_relay.sqlite_store._require_writable", lambda *_: None)
            with pytest.raises((AssertionError, pytest.fail.Exception)):
                await _attack_write_after(http, relay, store)
        finally:
            await store.close()


def _say_open(relay: Relay) -> Any:
    honest = type(relay._store.log).open_topic

    async def open_topic(self: Any, topic: Any, *, create: bool) -> Any:
        info = await honest(self, topic, create=create)
        return info if create or info is None else replace(info, sealed=False)

    return open_topic


async def test_attack_23_a_seal_survives_a_power_cut_whole(tmp_path: Path, http: Http) -> None:
    """Killed anywhere around a put that seals: all of it or nothing is there, and the same bytes put again succeed."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    choose = random.Random(seed)
    outcomes = set()
    for _ in range(5):
        epoch = make_epoch()
        before, removal, rotation = (make_envelope() for _ in range(3))
        with RelayProcess(tmp_path / "data") as relay:
            client = await connect(http, relay.url)
            await client.open(epoch.signing)
            assert isinstance(await client.put(epoch.signing, before), Ack)
            await client.send(Put(9, topic_of(epoch.signing), (removal, rotation), True, 1))
            acked = None
            if choose.random() < 0.5:
                acked = await client.next(Ack)
            relay.kill()
        with RelayProcess(tmp_path / "data") as relay:
            client = await connect(http, relay.url)
            opened, found = await client.open(epoch.signing)
            outcomes.add((opened.sealed, len(found)))
            if acked is not None:
                assert (opened.sealed, acked.seqs) == (True, (2, 3))
            again = await client.put(epoch.signing, removal, rotation, seal=True, expect=1)
            assert isinstance(again, Ack)
            assert again.seqs == (2, 3)
            opened, found = await client.open(epoch.signing)
            assert (opened.sealed, [item for _, item in found]) == (True, [before, removal, rotation])
            answer = await client.put(epoch.signing, make_envelope())
            assert isinstance(answer, Error)
            assert answer.code is ErrorCode.SEALED
            await client.close()
    assert outcomes <= {(False, 1), (True, 3)}


async def test_attack_23_whoever_was_removed_can_still_cast_to_those_who_stayed_behind_and_to_nobody_else(
    tmp_path: Path, http: Http
) -> None:
    """A cast is not stored; on the new topic there is no way in for it."""
    old, new = make_epoch(), make_epoch()
    async with serve_relay(tmp_path / "data") as relay:
        removed, behind, ahead = [await connect(http, relay.url) for _ in range(3)]
        for client in (removed, behind):
            await client.open(old.signing)
        await rotate(http, relay.url, old, new)
        await ahead.open(new.signing)
        await removed.cast(new.signing, b"boo")
        assert (await removed.next(Error)).code is ErrorCode.NOT_OPEN
        await removed.cast(old.signing, b"boo")
        assert await behind.next(CastReceived) == CastReceived(old.topic, b"boo")
        assert isinstance(await ahead.put(new.signing, make_envelope()), Ack)
        assert not any(isinstance(frame, CastReceived) for frame in ahead.held)


def test_attack_22_an_envelope_of_the_new_epoch_opens_under_no_old_one() -> None:
    from cocoon_core.protocol.envelope import seal_envelope

    new = make_epoch()
    envelope = seal_envelope(b"what came after", new)
    assert open_envelope(envelope, new) == b"what came after"
    for old in [make_epoch() for _ in range(5)]:
        with pytest.raises(DecryptionError):
            open_envelope(envelope, old)
    # Not even under the old keys with the new topic's name.
    for old in [make_epoch() for _ in range(5)]:
        old.topic = new.topic
        with pytest.raises(DecryptionError):
            open_envelope(envelope, old)


# --- a lying relay and a rotation


async def look(relay: SealLiar, keys: Epoch, cursor: Any = None) -> Look:
    relay.lies = True
    found = Look(relay, keys, cursor)
    await found.open()
    return found


@pytest.mark.parametrize("kept", KEPT)
async def test_attack_20_a_seal_that_was_acknowledged_and_lost_shows_when_the_topic_is_opened_again(kept: str) -> None:
    relay, epoch = LosingSeals(kept, times=1), make_epoch()
    first = await look(relay, epoch)
    assert isinstance(await first.put([make_envelope()]), Acked)
    both = [make_envelope(), make_envelope()]
    answer = await first.put(both, seal=True, expect=1)
    assert isinstance(answer, Acked)
    assert answer.seqs == (2, 3)
    # The acknowledgement alone proves nothing. Opened again, one of the two is missing.
    again = await look(relay, epoch, first.session.cursor(epoch.topic))
    shown = first.shown | again.shown
    assert not (again.session.is_sealed(epoch.topic) and [shown.get(2), shown.get(3)] == both)
    cursor = again.session.cursor(epoch.topic)
    assert cursor is not None
    if kept != "seal":  # the same bytes after what is there now; a topic of which the seal alone was kept is past help
        assert isinstance(await again.put(both, seal=True, expect=cursor.after), Acked)
        last = await look(relay, epoch)
        assert last.session.is_sealed(epoch.topic)
        assert [last.shown[2], last.shown[3]] == both
    else:
        refused = await again.put(both, seal=True, expect=1)
        assert isinstance(refused, Refused)
        assert (refused.code, refused.last) == (ErrorCode.SEALED, 1)


async def test_attack_17_a_relay_that_seals_by_itself_shows_a_seal_without_a_rotation() -> None:
    relay, epoch = SelfSealing(after=2), make_epoch()
    first = await look(relay, epoch)
    for _ in range(2):
        assert isinstance(await first.put([make_envelope()]), Acked)
    refused = await first.put([make_envelope()], seal=True, expect=2)
    assert isinstance(refused, Refused)
    assert (refused.code, refused.last, refused.retry_after_ms) == (ErrorCode.SEALED, 2, None)
    # Everything up to its last place was shown, so the client knows that no rotation is among it.
    assert sorted(first.shown) == [1, 2]
    other = await look(relay, epoch)
    assert other.session.is_sealed(epoch.topic)
    assert (other.is_level, sorted(other.shown)) == (True, [1, 2])


async def test_attack_17_a_relay_that_calls_an_open_topic_sealed_is_level_with_no_rotation() -> None:
    relay, epoch = FalselySealed(), make_epoch()
    first = await look(relay, epoch)
    assert first.session.is_sealed(epoch.topic)
    refused = await first.put([make_envelope()], seal=True, expect=0)
    assert isinstance(refused, Refused)
    assert refused.code is ErrorCode.SEALED
    assert first.is_level


async def test_attack_17_a_topic_that_is_called_sealed_may_begin_late_and_that_is_no_proof_of_anything() -> None:
    """With "sealed" a relay can hide what came before; so a late beginning is a hole until a manifest covers it."""

    class Hiding(FalselySealed):
        def _catch_up(self, connection: Any, topic: Any) -> None:
            connection.cursors[topic] = max(connection.cursors[topic], self.logs[topic].last - 1)
            super()._catch_up(connection, topic)

    relay, epoch = Hiding(), make_epoch()
    await (await look(relay, epoch)).put([make_envelope() for _ in range(5)])
    seen = await look(relay, epoch)
    assert (sorted(seen.shown), seen.is_level) == ([5], True)
    # A topic that is not called sealed may not.
    relay.outgoing = lambda connection, frame: (frame,)  # type: ignore[method-assign]
    seen = Look(relay, epoch)
    await seen.open()
    (broken,) = [effect for effect in seen.told if isinstance(effect, Broken)]
    assert isinstance(broken.error, RelayMisbehaved)


@pytest.mark.parametrize("claims_more", [True, False])
async def test_attack_17_an_expect_that_never_holds_contradicts_what_the_relay_shows(claims_more: bool) -> None:
    relay, epoch = NeverLevel(claims_more=claims_more), make_epoch()
    first = await look(relay, epoch)
    assert isinstance(await first.put([make_envelope()]), Acked)
    both = [make_envelope(), make_envelope()]
    expect = 1
    for _ in range(5):
        refused = await first.put(both, seal=True, expect=expect)
        assert isinstance(refused, Refused)
        assert refused.code is ErrorCode.EXPECT
        assert refused.retry_after_ms is None
        # An honest relay has gone on: opened again it shows more than was expected. This one does not.
        again = await look(relay, epoch, first.session.cursor(epoch.topic))
        cursor = again.session.cursor(epoch.topic)
        assert cursor is not None
        assert again.is_level
        assert cursor.after <= expect
        expect = refused.last or 0


@pytest.mark.parametrize("same_life", [True, False])
async def test_attack_16_an_old_life_of_a_sealed_topic_is_told_apart_by_who_saw_the_seal(same_life: bool) -> None:
    relay, epoch = OldLife(), make_epoch()
    first = await look(relay, epoch)
    await first.put([make_envelope()])
    await first.put([make_envelope(), make_envelope()], seal=True, expect=1)
    cursor = first.session.cursor(epoch.topic)
    relay.go_back(epoch.topic, 1, same_life=same_life)
    again = Look(relay, epoch, cursor)
    opened = await again.open()
    assert (opened.lost, opened.sealed) == (True, False)
    # Who never saw the seal cannot know; what it then puts there, the others put again by the rule of the manifest.
    stranger = await look(relay, epoch)
    assert not stranger.session.is_sealed(epoch.topic)
    assert isinstance(await stranger.put([make_envelope()]), Acked)


async def test_attack_16_succeeds_where_a_shorter_log_is_not_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = session_module.Session._opened

    def trust(self: Any, frame: Any) -> Any:
        state = self._topics.get(frame.topic)
        if state is not None and state.cursor is not None:
            state.cursor = None
        return honest(self, frame)

    monkeypatch.setattr(session_module.Session, "_opened", trust)
    with pytest.raises(AssertionError):
        await test_attack_16_an_old_life_of_a_sealed_topic_is_told_apart_by_who_saw_the_seal(True)
