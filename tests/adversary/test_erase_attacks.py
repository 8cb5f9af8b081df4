"""Attacks on erasing: to retire what is another's, to leave out what nobody retired, to bring back what was erased.

Each is the attack, then the same attack on a build that was weakened where the defence is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from cocoon_core.errors import CocoonError, MalformedError, NotPermittedError, SignatureError
from cocoon_core.protocol import manifest as manifest_module
from cocoon_core.protocol import manifest_check as check_module
from cocoon_core.protocol.encoding import decode, encode
from cocoon_core.protocol.entry import EntryKind
from cocoon_core.protocol.epoch import wrap_epoch
from cocoon_core.protocol.manifest import DocumentState, Manifest
from cocoon_core.protocol.retire import read_retire, retire_body
from cocoon_core.protocol.run import Run, parse_run, sign_run
from cocoon_core.sync.retiring import Retires
from tests.adversary.test_manifest_attacks import follow
from tests.support.epoch_story import BEN_FEED, EpochStory, told
from tests.support.hostile import Forger, inject
from tests.support.linking import link
from tests.support.protocol_story import ANA, FEED, GROUP, unsigned
from tests.support.world import Seat, World, alarms, make_world, state_of  # noqa: F401  a fixture
from tests.unit.sync.test_erase import CANARY, rows_with, same, shown

EMPTY: dict[Any, Any] = {}


async def with_mal(world: World) -> tuple[Seat, Seat, Forger, list[str]]:
    """Ana has posted, and Mal goes on with his chain by hand."""
    ana, ben, mal = await world.group("ana", "ben", "mal")
    await ana.group.feed.post("hers")
    await world.level()
    return ana, ben, Forger(mal), [relay.url for relay in world.relays.values()]


# --- 27: retire another's document


async def test_attack_27_nobody_retires_what_is_anothers(world: World) -> None:
    ana, ben, forger, _ = await with_mal(world)
    hers = replace(forger.feed(), member=ana.group.me)
    body = retire_body(hers, ana.replica.retires.heads_of(hers))
    inject(world.relays["ws://relay0.test:8787"], forger.epoch, forger.retire(body))
    await world.level([ana, ben])
    assert await shown(ana) == await shown(ben) == ["hers"]
    await ana.group.rotate()
    await world.level([ana, ben])
    await ana.group.feed.post("goes on")
    await world.level([ana, ben])
    assert await shown(ben) == ["hers", "goes on"]
    await same(ana, ben)


async def test_attack_27_weakened_without_asking_for_the_owner_anybody_erases(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Retires, "_counts", lambda self, retire: True)
    ana, ben, forger, _ = await with_mal(world)
    hers = replace(forger.feed(), member=ana.group.me)
    body = retire_body(hers, ana.replica.retires.heads_of(hers))
    inject(world.relays["ws://relay0.test:8787"], forger.epoch, forger.retire(body))
    await world.level([ana, ben])
    assert await shown(ana) == await shown(ben) == []


@pytest.mark.parametrize(
    "body",
    [
        [],
        [[0, bytes(32), "feed/2026-09"]],
        [[1, "list", {"items": "map"}], []],
        [[0, bytes(31), "feed/2026-09"], []],
        [[0, bytes(32), "feed/2026-09", 65_535], []],
        [[0, bytes(32), "feed/2026-09"], [[bytes(32), 0, bytes(32)]]],
        [[0, bytes(32), "feed/2026-09"], [[bytes(32), 1, bytes(32)]] * 2],
    ],
)
async def test_attack_27_a_retire_that_is_none_is_a_link_and_nothing_else(world: World, body: list[Any]) -> None:
    ana, ben, forger, _ = await with_mal(world)
    own = forger.feed()
    relay = world.relays["ws://relay0.test:8787"]
    inject(relay, forger.epoch, forger.retire(body), forger.write((own, forger.post("after it"))))
    await world.level([ana, ben])
    assert await shown(ana) == await shown(ben) == ["hers", "after it"]
    await ana.group.rotate()
    await world.level([ana, ben])
    await same(ana, ben)


async def test_attack_27_a_retire_with_heads_that_are_not_so_harms_its_author_alone(world: World) -> None:
    ana, ben, forger, _ = await with_mal(world)
    own, relay = forger.feed(), world.relays["ws://relay0.test:8787"]
    inject(relay, forger.epoch, forger.write((own, forger.post("his"))))
    await world.level([ana, ben])
    heads = {ana.device: (9, bytes(32)), forger.keys.id: (7, bytes(32))}
    inject(relay, forger.epoch, forger.retire(retire_body(own, heads)))  # type: ignore[arg-type]
    await world.level([ana, ben])
    await ana.group.rotate()
    await world.level([ana, ben])
    assert await shown(ana) == await shown(ben) == ["hers"]
    link_ = await ana.group.invite()
    await ana.sync()
    chi = await world.seat("chi")
    await chi.running.join(link_, member_name="Chi")
    await world.level([ana, ben, chi])
    await same(ana, ben, chi)


async def test_attack_34_a_device_that_was_put_out_retires_nothing_any_more(world: World) -> None:
    """Its retire is no operation, and lies above its pin."""
    laptop, ben = await world.group("ana", "ben")
    phone = await world.seat("phone")
    await link(laptop, phone)
    async with phone.group.document("diary").change() as doc:
        doc["a"] = 1
    await laptop.group.feed.post("stays")
    await world.level()
    thief = Forger(phone)
    await laptop.group.remove_device(phone.device.hex())
    inject(
        world.relays["ws://relay0.test:8787"], thief.epoch, thief.retire(retire_body(thief.feed(), EMPTY))
    )  # into the topic that is about to be sealed
    await world.level([laptop, ben])
    assert await shown(laptop) == await shown(ben) == ["stays"]
    await same(laptop, ben)


# --- 36: leave out what nobody retired


@pytest.fixture
def story() -> EpochStory:
    return told(lambda epoch, keys: wrap_epoch(epoch, keys.hpke_public, GROUP))


def retire_by(story: EpochStory, keys: Any, body: list[Any]) -> Run:
    """A retire, signed by that device as what comes after all that it wrote."""
    writer = story.ana if keys is ANA else story.ben
    entry = writer._maker().statement(EntryKind.RETIRE, *writer._at(), body)
    return sign_run([entry], writer.descriptors.__getitem__, writer.keys.signing, writer.heads.digest())


def _feed_state(manifest: Manifest) -> DocumentState:
    return next(one for one in manifest.documents if one.descriptor == FEED)


def _leave_out(manifest: Manifest, retired: bytes) -> Manifest:
    """The manifest without the changes of Ana's feed."""
    feed = _feed_state(manifest)
    lean = replace(feed, snapshot=None, retired=retired)
    return replace(manifest, documents=tuple(lean if one is feed else one for one in manifest.documents))


def _by_a_stranger(story: EpochStory) -> bytes:
    return retire_by(story, None, retire_body(FEED, EMPTY)).wire


def _of_another(story: EpochStory) -> bytes:
    return retire_by(story, ANA, retire_body(replace(FEED, name="feed/2023-12"), EMPTY)).wire


def _unsigned(story: EpochStory) -> bytes:
    return unsigned(retire_by(story, ANA, retire_body(FEED, EMPTY))).wire


def _a_rekey(story: EpochStory) -> bytes:
    return next(run for run in story.runs if run.entries[-1].kind is EntryKind.REKEY).wire


LIES: dict[str, tuple[Callable[[EpochStory], bytes], type[CocoonError]]] = {
    "another member's retire": (_by_a_stranger, NotPermittedError),
    "the retire of another document": (_of_another, MalformedError),
    "a retire that nobody signed": (_unsigned, SignatureError),
    "another statement": (_a_rekey, MalformedError),
}


def test_attack_36_a_document_is_left_out_by_its_owners_word_alone(story: EpochStory) -> None:
    honest = story.manifest()
    follow(story, _leave_out(honest, retire_by(story, ANA, retire_body(FEED, EMPTY)).wire))


@pytest.mark.parametrize("name", LIES)
def test_attack_36_no_other_word_leaves_a_document_out(story: EpochStory, name: str) -> None:
    lie, error = LIES[name]
    with pytest.raises(error):
        follow(story, _leave_out(story.manifest(), lie(story)))


def test_attack_36_nor_does_silence(story: EpochStory) -> None:
    with pytest.raises(MalformedError):
        _leave_out(story.manifest(), b"")


@pytest.mark.parametrize(
    ("name", "defence"),
    [
        ("another member's retire", "require_counted"),
        ("a retire that nobody signed", "verify_run"),
        ("the retire of another document", "_read_retire"),
    ],
)
def test_attack_36_weakened_each_lie_passes_without_its_check(
    story: EpochStory, name: str, defence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    believing: dict[str, Any] = {
        "require_counted": lambda *_: None,
        "verify_run": lambda run: run.stored(),
        "_read_retire": lambda state, group, _: read_retire(parse_run(state.retired, group).stored().entries[-1]),
    }
    monkeypatch.setattr(check_module, defence, believing[defence])
    follow(story, _leave_out(story.manifest(), LIES[name][0](story)))


def test_attack_36_weakened_without_the_rule_silence_leaves_a_document_out(
    story: EpochStory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest_module.DocumentState, "__post_init__", lambda self: None)
    follow(story, _leave_out(story.manifest(), b""))


def test_attack_36_the_owner_of_one_document_leaves_out_no_other(story: EpochStory) -> None:
    ben = next(one for one in story.manifest().documents if one.descriptor == BEN_FEED)
    wire = retire_by(story, ANA, retire_body(BEN_FEED, EMPTY)).wire
    lean = replace(ben, snapshot=None, retired=wire)
    manifest = story.manifest()
    with pytest.raises(NotPermittedError):
        follow(
            story,
            replace(
                manifest, documents=tuple(lean if one.descriptor == BEN_FEED else one for one in manifest.documents)
            ),
        )


# --- 16, 20: what was erased is offered again


async def erased_and_rotated(world: World) -> tuple[list[Seat], list[bytes]]:
    """Ana, Ben and Mal after an erase and a rotation, and the runs that Mal kept, sealed for the new epoch."""
    ana, ben, mal = await world.group("ana", "ben", "mal")
    gone = await ana.group.feed.post(CANARY)
    await world.level()
    table = mal.replica.forks.table
    kept = [(last_id, wire) for _, _, last_id, wire in table.standing(ana.device, 0) if CANARY.encode() in wire]
    assert kept
    await ana.group.feed.erase(gone.id)
    await ana.group.rotate()
    await world.level()
    assert rows_with(ben, CANARY) == []
    return [ana, ben, mal], [mal.replica.seal(wire, last_id) for last_id, wire in kept]


async def test_attack_16_runs_that_were_let_go_of_are_not_taken_again(world: World) -> None:
    (ana, ben, mal), kept = await erased_and_rotated(world)
    inject(world.relays["ws://relay0.test:8787"], ben.replica.epoch, *kept)
    await world.level()
    for seat in (ana, ben, mal):
        assert rows_with(seat, CANARY) == []
        assert await shown(seat) == ["-"]
    await same(ana, ben, mal)


async def test_attack_16_weakened_if_gaps_below_the_frontier_were_filled_it_would_be_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    (_, ben, _), kept = await erased_and_rotated(world)
    monkeypatch.setattr(type(ben.replica.epochs), "frontier", lambda self: {})
    inject(world.relays["ws://relay0.test:8787"], ben.replica.epoch, *kept)
    await ben.sync()
    assert "runs" in rows_with(ben, CANARY)


async def test_attack_36_a_manifest_that_still_holds_what_was_retired_is_not_followed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mal packs as if he had never heard of the retire, to bring the text to newcomers."""
    newcomer, ben, ana = await _packed_with_the_text(world, monkeypatch)
    assert alarms(ben, "manifest") or alarms(ana, "manifest")
    assert rows_with(newcomer, CANARY) == []
    assert await shown(newcomer) == ["-"]
    await world.level([ana, ben, newcomer], rounds=16)
    await same(ana, ben, newcomer)


async def test_attack_36_weakened_without_comparing_it_with_the_retire_it_would_be(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Retires.take_in

    def trusting(self: Retires, verified: Any) -> None:
        self._counted, counted = frozenset(), self._counted
        try:
            real(self, verified)
        finally:
            self._counted = counted

    monkeypatch.setattr(Retires, "take_in", trusting)
    newcomer, _, _ = await _packed_with_the_text(world, monkeypatch)
    assert rows_with(newcomer, CANARY)


async def _packed_with_the_text(world: World, monkeypatch: pytest.MonkeyPatch) -> tuple[Seat, Seat, Seat]:
    ana, ben, mal = await world.group("ana", "ben", "mal")
    gone = await ana.group.feed.post(CANARY)
    await world.level()
    await ana.group.feed.erase(gone.id)
    await world.level()
    with monkeypatch.context() as patch:
        patch.setattr(Retires, "proof_of", lambda self, document: b"")
        patch.setattr(mal.replica.members, "is_retired", lambda descriptor: False)
        record = next(one for one in mal.replica.documents.all() if one.descriptor == Forger(ana).feed())
        with mal.replica.transaction():
            mal.replica.shelf.rebuild(record)
        await mal.group.rotate()
        await mal.sync()
    for _ in range(4):
        for seat in (ana, ben):
            await seat.sync()
        world.now_ms += 3_600_000
    link_ = await ben.group.invite()
    await ben.sync()
    newcomer = await world.seat("newcomer")
    await newcomer.running.join(link_, member_name="Newcomer")
    return newcomer, ben, ana


def test_a_retire_in_a_manifest_has_one_form(story: EpochStory) -> None:
    """An empty byte string is not one."""
    manifest = _leave_out(story.manifest(), retire_by(story, ANA, retire_body(FEED, EMPTY)).wire)
    value = decode(manifest_module.encode_manifest(manifest, GROUP))
    for document in value[7]:
        if isinstance(document[2], bytes):
            document[2] = b""
    with pytest.raises(MalformedError):
        manifest_module.decode_manifest(encode(value), GROUP)
