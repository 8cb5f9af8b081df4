"""Attacks of members, and of whoever holds a group's link, on the way in: what they sign or seal by hand.

Each is also run against a build from which the defence was taken out, to see that it would succeed there.
"""

from __future__ import annotations

import asyncio
import json
from argparse import Namespace
from contextlib import suppress
from copy import deepcopy
from datetime import timedelta
from hashlib import sha256
from io import StringIO
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from cocoon_cli.context import Context
from cocoon_cli.output import Output
from cocoon_cli.standard_input import StandardInput
from cocoon_cli.sync import synchronise
from cocoon_cli.watch import Watch
from cocoon_core import joining as joining_module
from cocoon_core.documents import gate as gate_module
from cocoon_core.documents.rules import Rule
from cocoon_core.errors import (
    CocoonError,
    InvalidLinkError,
    NotYetError,
    RelayUnavailable,
    UpdateNeededError,
    UsageError,
)
from cocoon_core.protocol import encoding, roster_joins, roster_judge
from cocoon_core.protocol.constants import MAX_TIME_MS
from cocoon_core.protocol.descriptor import Descriptor
from cocoon_core.protocol.device import DeviceKeys
from cocoon_core.protocol.entry import EntryMaker
from cocoon_core.protocol.envelope import open_envelope, seal_envelope
from cocoon_core.protocol.epoch import Epoch
from cocoon_core.protocol.heads import DeviceHeads
from cocoon_core.protocol.ids import DocumentId, EntryId, HeadsDigest, Incarnation
from cocoon_core.protocol.invite import InviteKeys, Welcome, mailbox_keys, read_link, wrap_welcome
from cocoon_core.protocol.operation_forms import Role
from cocoon_core.protocol.operations import Invite, Join, RevokeInvite, SetRole
from cocoon_core.protocol.primitives import Secret
from cocoon_core.protocol.run import Run, parse_run, sign_run
from cocoon_core.storage.groups import MAX_ALARMS
from cocoon_core.sync import linking, maintenance, receiving
from cocoon_core.sync.packing import _Packer
from cocoon_core.sync.reading import read_topic
from tests.support.changes import mutate
from tests.support.flips import flip
from tests.support.hostile import Forger, inject, put_item, put_root, tampered_signature, topic_log
from tests.support.world import (
    SHARED,
    Seat,
    World,
    make_world,  # noqa: F401  a fixture
    roster_of,
    state_of,
)

KEYS = [DeviceKeys(Secret(bytes([n]) * 32), Secret(bytes([n + 100]) * 32)) for n in range(1, 6)]


async def three(world: World) -> tuple[Seat, Seat, Seat]:
    ana, ben, mal = await world.group("ana", "ben", "mal")
    return ana, ben, mal


def relay_of(world: World) -> Any:
    return next(iter(world.relays.values()))


async def sync_all(*seats: Seat) -> None:
    for seat in seats:
        await seat.sync()


async def assert_agree(*seats: Seat) -> None:
    first = await state_of(seats[0])
    for seat in seats[1:]:
        assert await state_of(seat) == first


# --- 2, 3: replay, reorder, delay, duplicate


async def test_attack_02_replayed_envelopes_change_nothing(world: World) -> None:
    ana, ben, _ = await three(world)
    await ana.group.feed.post("once")
    await world.level()
    before = await state_of(ben)
    log = topic_log(relay_of(world), ben.replica.epoch)
    inject(relay_of(world), ben.replica.epoch, *log.envelopes, *log.envelopes)
    assert (await ben.sync()).received == 0
    assert await state_of(ben) == before
    assert ben.group.alarms() == []


async def test_attack_02_succeeds_where_the_chain_is_not_asked(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ana, ben, _ = await three(world)
    await ana.group.feed.post("once")
    await world.level()
    log = topic_log(relay_of(world), ben.replica.epoch)

    def link_anything(ends: Any, known: Any, runs: Any) -> Any:
        begins = {run.device: (run.first_seq - 1, run.prev) for run in reversed(runs)}
        return linking.link_runs(begins, lambda *_: None, runs)

    monkeypatch.setattr(receiving, "link_runs", link_anything)
    inject(relay_of(world), ben.replica.epoch, *log.envelopes)
    runs = ben.replica.log.run_count()
    with pytest.raises(Exception):  # noqa: B017  whatever breaks first: an entry without anything new in it
        await ben.sync()
        assert ben.replica.log.run_count() == runs


@pytest.mark.parametrize("seed", range(6))
async def test_attack_03_any_order_and_number_of_envelopes_gives_the_same_state(world: World, seed: int) -> None:
    print(f"seed {seed}")
    chance = Random(seed)
    ana, ben, mal = await three(world)
    for number in range(4):
        for seat in (ana, ben, mal):
            await seat.group.feed.post(f"{seat.name} {number}")
            async with seat.group.document("list", dict(SHARED_SCHEMA)).change() as doc:
                doc["items"][str(chance.randrange(3))] = seat.name
        await sync_all(*chance.sample([ana, ben, mal], 2))
    await ana.group.set_role("Ben", "admin")
    link = await ana.group.invite(uses=3)
    await world.level()
    relay = relay_of(world)
    log = topic_log(relay, ana.replica.epoch)
    shuffled = [envelope for envelope in log.envelopes for _ in range(chance.randint(1, 3))]
    chance.shuffle(shuffled)
    log.envelopes[:] = shuffled
    late = await world.seat("late")
    await late.running.join(link, member_name="Late")
    await world.level()
    await assert_agree(ana, ben, mal, late)
    assert late.replica.log.parked() == []


SHARED_SCHEMA = {"items": dict, "lines": list, "note": str}


async def test_attack_03_succeeds_where_nothing_is_parked(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ana, ben = await world.group("ana", "ben")
    link = await ana.group.invite(uses=3)
    await ben.group.feed.post("one")
    await world.level()
    await ben.group.feed.post("two")
    await world.level()
    topic_log(relay_of(world), ana.replica.epoch).envelopes.reverse()
    monkeypatch.setattr("cocoon_core.storage.log.Log.park", lambda *_: None)
    late = await world.seat("late")
    with pytest.raises(NotYetError):
        await late.running.join(link, member_name="Late")


# --- 6: someone in the middle of an invite


async def test_attack_06_a_link_pins_group_and_relays(world: World) -> None:
    ana, mal = await world.group("ana", "mal")
    link = await ana.group.invite()
    await ana.sync()
    for place in range(0, len(link), 7):
        other = "A" if link[place] != "A" else "B"
        joiner = await world.seat(f"joiner{place}")
        with pytest.raises((InvalidLinkError, NotYetError)):
            await joiner.running.join(link[:place] + other + link[place + 1 :], member_name="Joy")
        assert joiner.running.groups() == []
    relay = relay_of(world)
    parsed = read_link(link)
    keys = InviteKeys(parsed.secret)
    mailbox = mailbox_keys(keys.mailbox_secret)
    create = mal.group._create()
    evil_epoch = Epoch(Secret(b"\x66" * 32))
    wrong = [
        Welcome(mal.replica.group, create, evil_epoch, parsed.relays),
        Welcome(mal.replica.group, create, mal.replica.epoch, ("ws://evil.test:1",)),
    ]
    inject(relay, mailbox, b"\x00" * 400, seal_envelope(b"rubbish", mailbox))
    inject(relay, mailbox, *(seal_envelope(wrap_welcome(w, keys.id, keys.hpke().public), mailbox) for w in wrong))
    joiner = await world.seat("joiner")
    group = await joiner.running.join(link, member_name="Joy")
    assert group.relays == list(parsed.relays)
    assert evil_epoch.topic not in joiner.replica.epochs.held
    await world.level()
    assert joiner.replica.epoch.topic == ana.replica.epoch.topic
    await assert_agree(ana, mal, joiner)


async def test_attack_06_a_substituted_welcome_alone_lets_nobody_in(world: World) -> None:
    ana, mal = await world.group("ana", "mal")
    link = await ana.group.invite()
    await ana.sync()
    keys = InviteKeys(read_link(link).secret)
    mailbox = mailbox_keys(keys.mailbox_secret)
    epoch = Epoch(Secret(b"\x66" * 32))
    welcome = Welcome(mal.replica.group, mal.group._create(), epoch, read_link(link).relays)
    topic_log(relay_of(world), mailbox).envelopes[:] = [
        seal_envelope(wrap_welcome(welcome, keys.id, keys.hpke().public), mailbox)
    ]
    joiner = await world.seat("joiner")
    with pytest.raises(NotYetError):
        await joiner.running.join(link, member_name="Joy")
    assert joiner.running.groups() == []


async def lead_astray(world: World, mal: Seat, link: str) -> Epoch:
    """Copy the group's history into a topic of the attacker's own, and welcome whoever has the link to that one."""
    relay, epoch = relay_of(world), Epoch(Secret(b"\x66" * 32))
    await read_topic(mal.dial, relay.url, epoch)  # opening it makes it
    for stored in mal.replica.epochs.held.values():
        for envelope in list(topic_log(relay, stored.epoch).envelopes):
            inject(relay, epoch, seal_envelope(open_envelope(envelope, stored.epoch), epoch))
    keys = InviteKeys(read_link(link).secret)
    welcome = Welcome(mal.replica.group, mal.group._create(), epoch, read_link(link).relays)
    mailbox = mailbox_keys(keys.mailbox_secret)
    inject(relay, mailbox, seal_envelope(wrap_welcome(welcome, keys.id, keys.hpke().public), mailbox))
    return epoch


async def test_attack_06_the_groups_history_in_another_topic_leads_nobody_astray(world: World) -> None:
    ana, mal = await world.group("ana", "mal", uses=3)
    link = await ana.group.invite()
    await ana.sync()
    evil = await lead_astray(world, mal, link)
    joiner = await world.seat("joiner")
    await joiner.running.join(link, member_name="Joy")
    assert evil.topic not in joiner.replica.epochs.held
    await world.level()
    await assert_agree(ana, mal, joiner)


async def test_attack_06_succeeds_where_the_epoch_is_not_asked_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana, mal = await world.group("ana", "mal", uses=3)
    link = await ana.group.invite()
    await ana.sync()
    evil = await lead_astray(world, mal, link)
    monkeypatch.setattr(joining_module, "require_own_epoch", lambda replica: None)
    joiner = await world.seat("joiner")
    with suppress(RelayUnavailable):
        await joiner.running.join(link, member_name="Joy")
    assert joiner.replica.epoch.topic == evil.topic
    await world.level([ana, mal])
    assert [member.name for member in ana.group.members()] == ["Ana", "Mal"]


# --- 13, 14: inject a device or member, substitute a key


def no_document(document: DocumentId) -> Descriptor:
    raise AssertionError("an operation changes no document")


def stranger_joins(forger: Forger, keys: DeviceKeys, invite: InviteKeys) -> Run:
    """A join by keys that nobody invited, with a proof by another invite."""
    body = Join.make(invite.signing, forger.group, keys.id, keys.hpke_public, "Stranger").encode_body()
    entry = EntryMaker(forger.group, keys.id, forger.roster_heads).operation(0, None, forger.time_ms, body)
    return sign_run([entry], no_document, keys.signing, DeviceHeads().digest())


async def test_attack_13_a_device_that_nobody_invited_is_nobody(world: World) -> None:
    ana, ben, mal = await three(world)
    forger = Forger(mal)
    before = roster_of(ben)["members"]
    uninvited = stranger_joins(forger, KEYS[0], InviteKeys(Secret(b"\x01" * 32)))
    speaking = Forger(mal)
    speaking.keys = KEYS[1]
    speaking.seq, speaking.prev = 0, None  # type: ignore[assignment]
    post = speaking.write((SHARED, speaking.change(SHARED, put_item("a", 1))))
    inject(relay_of(world), ana.replica.epoch, forger.seal(uninvited), post)
    await sync_all(ana, ben)
    assert roster_of(ben)["members"] == before == roster_of(ana)["members"]
    assert ben.shared() == {"items": {}, "lines": [], "note": ""}
    assert any("does not begin with a join" in alarm for alarm in ben.group.alarms())
    await ben.restart()
    assert roster_of(ben)["members"] == before


async def test_attack_13_succeeds_where_a_join_needs_no_proof(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ana, ben, mal = await three(world)
    await ana.group.invite()
    await world.level()
    (invite,) = [invite for invite in ana.replica.members.roster.invites.values() if invite.is_open]
    forger = Forger(mal)
    real = InviteKeys(Secret(b"\x01" * 32))
    forged = SimpleNamespace(signing=SimpleNamespace(public=invite.id, sign=real.signing.sign))
    run = stranger_joins(forger, KEYS[0], forged)  # type: ignore[arg-type]
    inject(relay_of(world), ana.replica.epoch, forger.seal(run))
    await ben.sync()
    assert len(ben.group.members()) == 3  # the proof does not hold
    await ana.stop()
    monkeypatch.setattr(Join, "verify_proof", lambda *_: None)
    await ana.start()
    await ana.sync()
    assert "Stranger" in [member.name for member in ana.group.members()]


async def test_attack_14_a_key_put_in_place_of_a_joiners_own_is_refused(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    link = await ana.group.invite(uses=2)
    await world.level()
    relay = relay_of(world)
    log = topic_log(relay, ana.replica.epoch)
    joiner = await world.seat("joiner")
    await joiner.running.join(link, member_name="Joy")
    run = joiner.replica.log.run_covering(joiner.device, 0)
    assert run is not None
    real = seal_envelope(run.wire, ana.replica.epoch)
    changed = run.wire.replace(joiner.replica.keys.hpke_public, KEYS[0].hpke_public)
    assert changed != run.wire
    log.envelopes[log.envelopes.index(real) :] = [seal_envelope(changed, ana.replica.epoch)]
    await ana.sync()
    assert len(ana.group.members()) == 2
    inject(relay, ana.replica.epoch, real)
    await sync_all(ana, ben)
    assert ana.replica.members.roster.devices[joiner.device].hpke == joiner.replica.keys.hpke_public
    assert len(ben.group.members()) == 3


async def test_attack_14_succeeds_where_signatures_are_not_checked(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana, _ = await world.group("ana", "ben")
    link = await ana.group.invite()
    await world.level()
    log = topic_log(relay_of(world), ana.replica.epoch)
    joiner = await world.seat("joiner")
    await joiner.running.join(link, member_name="Joy")
    run = joiner.replica.log.run_covering(joiner.device, 0)
    assert run is not None
    changed = run.wire.replace(joiner.replica.keys.hpke_public, KEYS[0].hpke_public)
    at = log.envelopes.index(seal_envelope(run.wire, ana.replica.epoch))
    log.envelopes[at:] = [seal_envelope(changed, ana.replica.epoch)]
    monkeypatch.setattr(linking, "verify_run", lambda run: run.stored())
    monkeypatch.setattr(Join, "verify_proof", lambda *_: None)
    await ana.sync()
    assert ana.replica.members.roster.devices[joiner.device].hpke == KEYS[0].hpke_public


# --- 21: text is only data


async def test_attack_21_script_in_a_text_is_text(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    text = "<script>alert(1)</script> \x1b[2J \u202e'; DROP TABLE posts; -- {{7*7}} ${x} \x00 end"
    post = await ana.group.feed.post(text)
    async with ana.group.document("list", SHARED_SCHEMA).change() as doc:
        doc["items"][text] = text
    await world.level()
    assert (await ben.group.feed.get(post.id)).text == text
    assert ben.shared()["items"] == {text: text}


# --- 27: write under another's name, or in another's document


async def test_attack_27_nothing_is_written_in_anothers_document(world: World) -> None:
    ana, ben, mal = await three(world)
    await ana.group.feed.post("by ana")
    await world.level()
    forger = Forger(mal)
    anas = Forger(ana).feed()
    raw = forger.change(anas, lambda root: root.__setitem__("post:00", {"at": 1, "text": "not by ana"}))
    inject(relay_of(world), ana.replica.epoch, forger.write((anas, raw)))
    await mal.stop()
    await ana.group.feed.post("still ana")
    await sync_all(ana, ben, ana)
    for seat in (ana, ben):
        assert await seat.texts() == ["by ana", "still ana"]
        record = seat.replica.documents.find(anas.document_id(ana.replica.group))
        assert record is not None
        ((device, code, _),) = seat.replica.documents.refused(record.number).values()
        assert (device, code) == (forger.keys.id, "not_permitted")
    await ben.restart()
    await ana.group.feed.post("and again")
    await sync_all(ana, ben)
    assert await ben.texts() == ["by ana", "still ana", "and again"]


async def test_attack_27_succeeds_where_the_gate_does_not_ask_whose_document_it_is(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana, ben, mal = await three(world)
    await ana.group.feed.post("by ana")
    await world.level()
    forger = Forger(mal)
    anas = Forger(ana).feed()
    raw = forger.change(anas, lambda root: root.__setitem__("post:00", {"at": 1, "text": "not by ana"}))
    inject(relay_of(world), ana.replica.epoch, forger.write((anas, raw)))
    refuse = gate_module.Gate._refuse
    monkeypatch.setattr(
        gate_module.Gate, "_refuse", lambda self, rule, what: rule is Rule.OWNER or refuse(self, rule, what)
    )
    await ben.sync()
    assert "not by ana" in await ben.texts()


@pytest.mark.parametrize("apart", [False, True], ids=["in_one_delivery", "one_by_one"])
async def test_attack_27_a_run_under_anothers_name_keeps_the_other_out_of_nothing(world: World, apart: bool) -> None:
    """The forged runs stand before the real ones: they must neither take their place nor accuse anybody."""
    ana, ben, _mal = await three(world)
    relay, epoch = relay_of(world), ana.replica.epoch
    forged: list[bytes] = []
    for forger in (Forger(ana), Forger(ana), Forger(ana)):
        if len(forged) == 2:
            forger.seq, forger.prev = forger.seq + 5, EntryId(b"\x07" * 32)
        invite = InviteKeys(Secret(b"1" * 32)).id
        entry = (
            forger.operation(RevokeInvite(invite)) if forged else forger.entry((forger.feed(), forger.post("forged")))
        )
        forged.append(tampered_signature(forger.run(entry)))
    log = topic_log(relay, epoch)
    at = Forger(ana).seq
    await ana.group.feed.post("real one")
    await ana.sync()
    await ana.group.feed.post("real two")
    await ana.sync()
    first, second = log.envelopes[-2:]
    copies = [tampered_signature_of(ana, seq) for seq in (at, at + 1)]
    order = [*(seal_envelope(wire, epoch) for wire in (*forged, *copies)), first, second]
    log.envelopes[-2:] = []
    if apart:
        for envelope in order:
            inject(relay, epoch, envelope)
            await ben.sync()
    else:
        inject(relay, epoch, *order)
        await ben.sync()
    assert (await ben.texts())[-2:] == ["real one", "real two"]
    assert not any("two histories" in alarm or "heads" in alarm for alarm in ben.group.alarms())
    assert ben.replica.log.forks() == {}
    assert ben.replica.log.parked() == []


def tampered_signature_of(seat: Seat, seq: int) -> bytes:
    stored = seat.replica.log.run_covering(seat.device, seq)
    assert stored is not None
    return flip(stored.wire)


async def test_attack_27_succeeds_where_signatures_are_not_checked(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana, ben, _mal = await three(world)
    victim = Forger(ana)
    forged = tampered_signature(victim.run(victim.entry((victim.feed(), victim.post("forged")))))
    inject(relay_of(world), ana.replica.epoch, seal_envelope(forged, ana.replica.epoch))
    monkeypatch.setattr(linking, "verify_run", lambda run: run.stored())
    await ben.sync()
    assert await ben.texts() == ["forged"]


# --- 31: operations without the right


async def unauthorised(mal: Seat, ana: Seat) -> list[bytes]:
    """Envelopes with operations of a plain member that must not count, each a link of the chain."""
    forger = Forger(mal)
    member, other = forger.member, ana.group.me
    assert other is not None
    keys = InviteKeys(Secret(b"\x21" * 32))
    bodies: list[Any] = [
        SetRole(member, Role.ADMIN),
        SetRole(other, Role.MEMBER),
        Invite.make(keys.signing, keys.hpke().public, keys.mailbox_secret, forger.group, forger.keys.id, uses=500,
                    expires_ms=2**50),
        Invite.make(keys.signing, keys.hpke().public, keys.mailbox_secret, forger.group, forger.keys.id, uses=1,
                    expires_ms=2**50, role=Role.ADMIN),
        RevokeInvite(InviteKeys(Secret(b"\x22" * 32)).id),
        mal.group._create().encode_body(),
        Join.make(keys.signing, forger.group, forger.keys.id, forger.keys.hpke_public, "Again"),
        [3],
        [4, member, "emperor", []],
        [1, b"", b"", b"", True, 0, "member", b""],
        [0, b"\0" * 32],
    ]  # fmt: skip
    return [forger.operate(body) for body in bodies]


async def test_attack_31_operations_without_the_right_count_nowhere(world: World) -> None:
    ana, ben, mal = await three(world)
    before = [(m.id, m.role) for m in ana.group.members()]
    inject(relay_of(world), ana.replica.epoch, *(await unauthorised(mal, ana)))
    await mal.stop()
    await sync_all(ana, ben)
    for seat in (ana, ben):
        assert [(m.id, m.role) for m in seat.group.members()] == before
        assert not [invite for invite in seat.group.invites() if invite.open]
    assert roster_of(ana) == roster_of(ben)
    assert len(roster_of(ana)["refused"]) >= 5
    await ana.restart()
    await ben.restart()
    await ana.group.feed.post("after all that")
    await ana.group.set_role("Ben", "admin")
    await sync_all(ana, ben)
    await assert_agree(ana, ben)
    assert {m.name: m.role for m in ben.group.members()} == {"Ana": "admin", "Ben": "admin", "Mal": "member"}


async def test_attack_31_succeeds_where_no_operation_needs_an_admin(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana, ben, mal = await three(world)
    inject(relay_of(world), ana.replica.epoch, *(await unauthorised(mal, ana)))
    monkeypatch.setattr(roster_judge.Judge, "_needs_admin", lambda *_: False)
    await ben.sync()
    assert {m.name: m.role for m in ben.group.members()}["Mal"] == "admin"


@pytest.mark.parametrize("body", [[], [3], [3, 1, 2, 3], [0, b""], ["join"], [-1], [4, {}, [], None]], ids=ascii)
async def test_attack_31_a_first_entry_that_is_no_operation_stops_nobody(world: World, body: list[Any]) -> None:
    """A stranger with the link can seal it; whoever opens it must go on."""
    ana, ben, mal = await three(world)
    forger = Forger(mal)
    forger.keys, forger.seq, forger.prev = KEYS[2], 0, None  # type: ignore[assignment]
    inject(relay_of(world), ana.replica.epoch, forger.operate(body))
    await ana.group.feed.post("goes on")
    await sync_all(ana, ben)
    assert await ben.texts() == ["goes on"]
    await ben.restart()
    await ben.sync()


async def test_attack_31_an_unknown_operation_stops_the_group_and_loses_nothing(world: World) -> None:
    ana, ben, mal = await three(world)
    forger = Forger(mal)
    await ana.group.feed.post("before")
    await ana.sync()
    inject(relay_of(world), ana.replica.epoch, forger.operate([99, "of a later version"]))
    for _ in range(2):
        with pytest.raises(UpdateNeededError):
            await ben.sync()
    with pytest.raises(UpdateNeededError):
        await ben.group.feed.post("no longer")
    await ben.restart()
    with pytest.raises(UpdateNeededError):
        await ben.group.feed.post("no longer")


async def test_attack_43_a_group_that_was_stopped_keeps_no_other_from_its_sync(world: World) -> None:
    _, ben, mal = await three(world)
    inject(relay_of(world), ben.replica.epoch, Forger(mal).operate([99, "of a later version"]))
    (stopped,) = ben.running.groups()
    other = await ben.running.create_group("Band", member_name="Ben", relays=[relay_of(world).url])
    await other.feed.post("reaches the relay")
    out = StringIO()
    args = Namespace(watch=False, lan=False, beacon=False, away=False, desktop=None)
    context = Context(None, None, None, Output(True, out, out), (), StandardInput(), lambda _: args)
    outcome = await synchronise(ben.running, context, args)
    assert not other.unsent()
    assert outcome.exit_code == UpdateNeededError.exit_code
    told = {relay["group"]: relay["error"] for relay in outcome.data["relays"]}
    assert told[str(other.id)] is None
    assert "does not know" in told[str(stopped.id)]


async def test_attack_43_a_group_that_is_stopped_while_watching_ends_the_watch_of_no_other(world: World) -> None:
    ana, ben, mal = await three(world)
    (stopped,) = ben.running.groups()
    other = await ben.running.create_group("Band", member_name="Ben", relays=[relay_of(world).url])
    out, asked = StringIO(), asyncio.Event()
    context = Context(None, None, None, Output(True, out, out), (), StandardInput(), lambda _: Namespace())
    async with asyncio.timeout(20), Watch(ben.running, context) as watch:
        await watch.add_groups()
        running = asyncio.create_task(watch.run(asked))
        inject(relay_of(world), stopped.replica.epoch, Forger(mal).operate([99, "of a later version"]))
        await ana.group.feed.post("which brings it to those who watch")
        with suppress(UpdateNeededError):
            await ana.group.sync()
        while '"error"' not in out.getvalue():
            assert not running.done(), running.result()
            await asyncio.sleep(0)
        await other.feed.post("reaches the relay")
        while other.unsent():
            assert not running.done(), running.result()
            await asyncio.sleep(0)
        asked.set()
        await running
    told = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [(line["group"], line["error"]["code"]) for line in told if "error" in line] == [
        (str(stopped.id), UpdateNeededError.code)
    ]


async def test_watching_ends_when_the_only_group_is_stopped(world: World) -> None:
    _, ben, mal = await three(world)
    inject(relay_of(world), ben.replica.epoch, Forger(mal).operate([99, "of a later version"]))
    context = Context(
        None, None, None, Output(True, StringIO(), StringIO()), (), StandardInput(), lambda _: Namespace()
    )
    async with asyncio.timeout(20), Watch(ben.running, context) as watch:
        await watch.add_groups()
        with pytest.raises(UpdateNeededError):
            await watch.run(asyncio.Event())


# --- 33: time


async def test_attack_33_no_time_breaks_the_display_or_gives_a_right(world: World) -> None:
    ana, ben, mal = await three(world)
    times = [0, -1, -(2**63), 2**53, 2**62, 2**63 - 1, 253_402_300_799_999, "soon", None, 1.5, True]
    for place, at in enumerate(times):
        forger = Forger(mal)
        raw = forger.change(forger.feed(), put_root(f"post:{place:02}", {"at": at, "text": f"{at!r}"}))
        inject(relay_of(world), ana.replica.epoch, forger.write((forger.feed(), raw)))
        await mal.sync()  # its own program stops writing here, and shows the forgery for the next one
    for time_ms in (0, MAX_TIME_MS):
        forger = Forger(mal)
        forger.time_ms = time_ms
        inject(relay_of(world), ana.replica.epoch, forger.operate(RevokeInvite(InviteKeys(Secret(b"3" * 32)).id)))
    await sync_all(ana, ben)
    for seat in (ana, ben):
        posts = await seat.group.feed.list()
        assert all(0 <= post.time.timestamp() <= 253_402_300_799 for post in posts)
        assert all(member.last_seen is not None for member in seat.group.members())
    await assert_agree(ana, ben)


async def test_attack_33_a_clock_that_is_years_off_takes_no_right(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    for skew_days in (-20_000, -365, 365, 100 * 365):
        ben.skew_ms = skew_days * 86_400_000
        await ben.group.feed.post(f"{skew_days} days off")
        link = await ben.group.invite(expires_in=timedelta(days=3650))
        await world.level()
        assert len(ben.group.members()) == 2 == len(ana.group.members())
        assert ana.group.invites()
        await ben.group.revoke_invite(read_invite_id(link))
        await world.level()
        await assert_agree(ana, ben)
    assert len(await ana.texts()) == 4


def read_invite_id(link: str) -> str:
    return InviteKeys(read_link(link).secret).id.hex()


# --- 35: poison


@pytest.mark.parametrize("seed", range(3))
async def test_attack_35_poison_spoils_nothing(world: World, seed: int) -> None:
    print(f"seed {seed}")
    chance = Random(seed)
    ana, ben, mal = await three(world)
    async with ana.group.document("list", SHARED_SCHEMA).change() as doc:
        doc["items"]["sound"] = [1, {"deep": "value"}]
        doc["lines"].extend(["a", "b", "c"])
        doc["note"].insert(0, "text")
    await world.level()
    forger = Forger(mal)

    def edit(root: Any) -> None:
        root["items"]["mal"] = {"a": [1, 2], "b": "x"}
        root["lines"].append(True)
        root["note"].insert(1, "more")

    good = forger.change(SHARED, edit)
    record = ana.replica.documents.find(SHARED.document_id(ana.replica.group))
    assert record is not None
    known = [bytes(change) for change in ana.replica.shelf.get(SHARED).heads]
    poison = 0
    while poison < 120:
        raw = mutate(good, known, [good[:16]], chance)
        attempt = forger.copy()
        try:
            run = attempt.run(attempt.entry((SHARED, raw)))
            if parse_run(run.wire, attempt.group).last_id != run.last_id:
                continue  # in short form it is another change
        except (CocoonError, IndexError):  # it cannot even stand in an entry
            continue
        forger = attempt
        inject(relay_of(world), ana.replica.epoch, forger.seal(run))
        poison += 1
    await mal.stop()
    for seat in (ana, ben):
        await seat.sync()
        async with seat.group.document("list", SHARED_SCHEMA).change() as doc:
            doc["items"][seat.name] = 1
    await sync_all(ana, ben, ana)
    await ben.restart()
    await assert_agree(ana, ben)
    assert {"ana": 1, "ben": 1, "sound": [1, {"deep": "value"}]}.items() <= ben.shared()["items"].items()
    assert len(ben.replica.documents.refused(record.number)) > 50


async def test_attack_35_succeeds_where_the_gate_asks_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ana, ben, mal = await three(world)
    forger = Forger(mal)
    raws = [forger.change(SHARED, put_item(f"mal {n}", n)) for n in range(2)]
    inject(relay_of(world), ana.replica.epoch, *(forger.write((SHARED, raw)) for raw in raws))
    refuse = gate_module.Gate._refuse
    monkeypatch.setattr(
        gate_module.Gate,
        "_refuse",
        lambda self, rule, what: rule in (Rule.EQUIVOCATION, Rule.SEQ) or refuse(self, rule, what),
    )
    await ben.sync()
    assert any("cannot be shown" in alarm for alarm in ben.group.alarms())


# --- 36: a member whose signed heads are wrong, in the manifests of others


async def sign_wrong_heads(world: World) -> tuple[Seat, Seat, Seat]:
    """Ben signs a post under heads that are not his; Ana rotates. Ana, Cleo and a newcomer."""
    ana, ben, cleo = await world.group("ana", "ben", "cleo")
    await ben.group.feed.post("sound")
    await world.level()
    forger = Forger(ben)
    run = forger.run(forger.entry((forger.feed(), forger.post("of ben"))), digest=HeadsDigest(bytes(32)))
    inject(next(iter(world.relays.values())), ben.replica.epoch, forger.seal(run))
    await ana.sync()
    await ana.group.rotate()
    link = await ana.group.invite()
    await ana.sync()
    newcomer = await world.seat("dan")
    with suppress(NotYetError):
        await newcomer.running.join(link, member_name="Dan")
    await cleo.sync()
    return ana, cleo, newcomer


async def test_attack_36_a_member_who_signs_wrong_heads_spoils_no_manifest(world: World) -> None:
    ana, cleo, newcomer = await sign_wrong_heads(world)
    await world.level([ana, cleo, newcomer])
    assert sorted(await ana.texts()) == sorted(await cleo.texts()) == sorted(await newcomer.texts())
    assert "of ben" in await newcomer.texts()
    assert not any("manifest" in alarm for alarm in cleo.group.alarms())


async def test_attack_36_succeeds_where_signed_heads_are_not_compared_before_they_are_packed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = _Packer._take_heads
    monkeypatch.setattr(_Packer, "_take_heads", lambda self, device, end: honest(self, device, end) or True)
    _, cleo, newcomer = await sign_wrong_heads(world)
    assert any("manifest" in alarm for alarm in cleo.group.alarms())
    assert not newcomer.has_group


# --- 37: more joins than uses


async def race_for_a_link(world: World) -> list[Seat]:
    ana, ben = await world.group("ana", "ben")
    link = await ana.group.invite(uses=1)
    await world.level()
    relay = relay_of(world)
    racers = [await world.seat(name) for name in ("cid", "dot", "eve")]
    for racer in racers:  # each joins without having heard of the others
        racer.relays[relay.url] = deepcopy(relay)
        await racer.running.join(link, member_name=racer.name.title())
    for racer in racers:
        racer.relays.clear()
    for log in relay.logs.values():
        log.incarnation = Incarnation(world.now_ms.to_bytes(Incarnation.LENGTH, "big"))  # all is read anew
    for _ in range(4):  # who comes later by rank waits for the others
        await world.level(rounds=16)
        world.now_ms += 3_600_000
    return [ana, ben, *racers]


async def test_attack_37_a_link_used_too_often_lets_the_same_one_in_everywhere(world: World) -> None:
    ana, ben, *racers = await race_for_a_link(world)
    names = [member.name for member in ana.group.members()]
    winners = [racer for racer in racers if racer.name.title() in names]
    losers = [racer for racer in racers if racer not in winners]
    assert (len(winners), len(losers)) == (1, 2)
    await assert_agree(ana, ben, *winners)
    for loser in losers:
        assert any("left this device out" in alarm for alarm in loser.group.alarms()) or loser.group.me is None
        with suppress(UsageError):
            await loser.group.feed.post("let me in")
        await loser.sync()
    await sync_all(ana, ben, *winners, ana)
    assert "let me in" not in await ana.texts() + await ben.texts()
    await assert_agree(ana, ben, *winners)


async def test_attack_37_succeeds_where_uses_are_not_counted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roster_joins.InviteUses, "loses", lambda *_: None)
    monkeypatch.setattr(maintenance, "close_ended_invites", lambda *_: 0)
    seats = await race_for_a_link(world)
    assert len(seats[0].group.members()) >= 4, "more than one of them got in"


# --- 41: what does not parse


async def test_attack_41_sealed_rubbish_changes_nothing(world: World) -> None:
    ana, ben, mal = await three(world)
    chance = Random(41)
    epoch = ana.replica.epoch
    good = Forger(mal)
    run = good.run(good.entry((good.feed(), good.post("good"))))
    rubbish = [chance.randbytes(chance.randrange(1, 600)) for _ in range(50)]
    rubbish += [run.wire[:at] for at in range(1, len(run.wire), 11)]
    rubbish += [run.wire[:at] + chance.randbytes(1) + run.wire[at + 1 :] for at in range(2, len(run.wire), 5)]
    values: list[Any] = [([], {}, [1], [1, *[None] * 9], [[[]]], "text", b"", [0] * 10)]
    rubbish += [encoding.encode(value) for value in values[0]]
    rubbish += [b"\x9f" * 600, b"\x81" * 600, run.wire + b"\x00"]
    envelopes = [seal_envelope(value, epoch) for value in rubbish if value != run.wire]
    envelopes += [chance.randbytes(chance.choice([296, 400, 1000])) for _ in range(20)]
    before = await state_of(ben)
    inject(relay_of(world), epoch, *envelopes)
    await ben.sync()
    after = await state_of(ben)
    assert after == before
    inject(relay_of(world), epoch, good.seal(run))
    await sync_all(ana, ben)
    assert await ben.texts() == ["good"]


# --- 42, 43: floods


async def test_attack_43_a_flood_of_refused_runs_hides_no_other_alarm(world: World) -> None:
    ana, mal = await world.group("ana", "mal")
    (relay,) = world.relays.values()
    with ana.replica.transaction():
        ana.replica.alarm("fork", mal.device.hex(), "what matters")
    author = Forger(mal)
    feed, post = author.feed(), author.post("x")
    envelopes = []
    for number in range(MAX_ALARMS + 20):
        stranger = author.copy()
        stranger.keys = DeviceKeys(Secret(number.to_bytes(32, "big")), Secret(bytes(32)))
        vars(stranger).update(seq=0, prev=None)
        envelopes.append(stranger.write((feed, post)))
    inject(relay, ana.replica.epoch, *envelopes)
    await ana.sync()
    alarms = ana.group.alarms()
    assert "what matters" in alarms
    assert len(alarms) == MAX_ALARMS


async def test_attack_43_a_flood_that_cannot_be_placed_is_bounded_and_delays_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiving, "PARK_DEVICE_BYTES", 4_000)
    monkeypatch.setattr(receiving, "PARK_TOTAL_BYTES", 9_000)
    ana, ben, mal = await three(world)
    epoch = ana.replica.epoch
    held: list[bytes] = []
    log = topic_log(relay_of(world), epoch)
    there = len(log.envelopes)
    for number in range(12):
        await ana.group.feed.post(f"post {number}")
        await ana.sync()
    held, log.envelopes[there:] = log.envelopes[there:], []
    for keys in KEYS:  # the devices that a member can make up
        flood = Forger(mal)
        flood.keys = keys
        for number in range(20):
            flood.seq, flood.prev = 1_000 + number, EntryId(bytes([number + 1]) * 32)
            inject(relay_of(world), epoch, flood.write((SHARED, flood.change(SHARED, lambda r: r["lines"].append(1)))))
    inject(relay_of(world), epoch, *reversed(held))  # all of them early, but for the last
    await ben.sync()
    sizes = ben.replica.log.parked_bytes()
    assert max(sizes.values()) <= 4_000
    assert sum(sizes.values()) <= 9_000
    for _ in range(14):  # what there was no room for is fetched again
        await ben.sync()
    assert await ben.texts() == [f"post {number}" for number in range(12)]


async def test_attack_43_succeeds_where_nothing_bounds_what_is_parked(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiving, "PARK_DEVICE_BYTES", 10**9)
    monkeypatch.setattr(receiving, "PARK_TOTAL_BYTES", 10**9)
    ana, ben, mal = await three(world)
    flood = Forger(mal)
    for number in range(60):
        flood.seq, flood.prev = 1_000 + number, EntryId(bytes([number + 1]) * 32)
        change = flood.change(SHARED, lambda r: r["lines"].append(1))
        inject(relay_of(world), ana.replica.epoch, flood.write((SHARED, change)))
    await ben.sync()
    assert sum(ben.replica.log.parked_bytes().values()) > 9_000


async def test_attack_43_changes_whose_past_never_comes_delay_nobody(world: World) -> None:
    ana, ben, mal = await three(world)
    forger = Forger(mal)
    good = forger.change(SHARED, put_item("x", 1))
    (dep,) = ana.replica.shelf.get(SHARED).heads
    chance = Random(43)
    for _ in range(150):
        raw = good.replace(dep, chance.randbytes(32))
        raw = raw[:4] + sha_check(raw) + raw[8:]
        inject(relay_of(world), ana.replica.epoch, forger.write((SHARED, raw)))
    await mal.stop()
    async with ana.group.document("list", SHARED_SCHEMA).change() as doc:
        doc["items"]["ana"] = 1
    await sync_all(ana, ben)
    assert ben.shared()["items"] == {"ana": 1}
    assert ben.replica.documents.waiting_count() == 150
    await ben.restart()
    assert ben.shared()["items"] == {"ana": 1}


def sha_check(raw: bytes) -> bytes:
    return sha256(raw[8:]).digest()[:4]
