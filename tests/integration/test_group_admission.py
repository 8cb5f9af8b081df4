"""Newcomers who ask to be let in: from the link to the feed, over interruptions, and what a link alone opens."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from cocoon_core.errors import (
    AwaitingAdmissionError,
    DecryptionError,
    InvalidLinkError,
    MalformedError,
    NotYetError,
    RelayUnavailable,
    SignatureError,
    UnknownGroupError,
    UnknownItemError,
    UsageError,
)
from cocoon_core.protocol.encoding import encode
from cocoon_core.protocol.envelope import open_envelope, seal_envelope
from cocoon_core.protocol.epoch import Epoch, TopicKeys
from cocoon_core.protocol.ids import InviteId
from cocoon_core.protocol.invite import (
    InviteKeys,
    Welcome,
    encode_request,
    mailbox_keys,
    open_welcome,
    read_link,
    read_request,
    wrap_welcome,
)
from cocoon_core.protocol.operations_admission import Newcomer
from cocoon_core.protocol.primitives import Secret, SigningKey
from cocoon_core.storage.joins import RequestTable
from tests.support.hostile import inject, topic_log
from tests.support.world import Seat, World, make_world  # noqa: F401  a fixture


async def ask(world: World, link: str, name: str) -> Seat:
    """A newcomer with a profile who asks by that link."""
    seat = await world.seat(name)
    with pytest.raises(AwaitingAdmissionError, match="asked to be admitted to Family"):
        await seat.running.join(link, member_name=name.title())
    return seat


async def asking_group(world: World, *names: str, vouches: int = 1) -> tuple[list[Seat], str]:
    """A group whose members let newcomers in, and a link for it that is at the relay."""
    seats = await world.group(*names)
    await seats[0].group.set_policy(vouches=vouches)
    link = await seats[0].group.invite(uses=3)
    await world.level(seats)
    return seats, link


async def test_a_newcomer_asks_is_let_in_and_has_the_history(world: World) -> None:
    (ana, ben), link = await asking_group(world, "ana", "ben")
    await ana.group.feed.post("before dora came")
    await world.level()
    dora = await ask(world, link, "dora")
    assert dora.running.groups() == []
    assert [p.group_name for p in dora.running.pending_joins()] == ["Family"]
    with pytest.raises(AwaitingAdmissionError):
        await dora.running.join(link, member_name="Dora")  # again: the same request, not another one
    assert await dora.running.finish_joins() == []

    report = await ben.group.sync()
    assert report.requests == 1
    (request,) = ben.group.requests()
    assert (request.name, request.vouchers, request.needed, request.can_be_admitted) == ("Dora", (), 1, True)
    member = await ben.group.admit("dora")
    assert ben.group.requests() == []
    await ben.group.sync()

    (group,) = await dora.running.finish_joins()
    assert group.me == member
    assert dora.running.pending_joins() == []
    await group.feed.post("thank you")
    await world.level()
    assert await dora.texts() == await ana.texts() == await ben.texts() == ["before dora came", "thank you"]
    assert [m.name for m in ana.group.members()] == ["Ana", "Ben", "Dora"]
    assert [(i.used, i.open) for i in ana.group.invites() if i.by_request] == [(1, True)]


async def test_two_must_want_a_newcomer_where_the_policy_says_so(world: World) -> None:
    (ana, ben), link = await asking_group(world, "ana", "ben", vouches=2)
    dora = await ask(world, link, "dora")
    await world.level([ana, ben])
    with pytest.raises(UsageError, match="when one more member vouched"):
        await ana.group.admit("Dora")
    vouched = await ana.group.vouch("Dora")
    assert (vouched.vouched, len(vouched.vouchers)) == (True, 1)
    assert (await ana.group.vouch("Dora")).vouchers == vouched.vouchers  # twice is once
    with pytest.raises(UsageError, match="when one more member vouched"):
        await ana.group.admit("Dora")
    await world.level([ana, ben])
    (request,) = ben.group.requests()
    assert request.can_be_admitted
    await ben.group.admit(request.id.hex()[:8])
    await world.level([ana, ben])
    assert len(await dora.running.finish_joins()) == 1
    await world.level()
    assert [m.name for m in dora.group.members()] == ["Ana", "Ben", "Dora"]


async def test_a_request_is_known_from_those_who_vouched(world: World) -> None:
    """Who has not read the mailbox can admit all the same: a vouch carries the whole request."""
    (ana, ben), link = await asking_group(world, "ana", "ben", vouches=2)
    await ask(world, link, "dora")
    await ana.group.sync()
    await ana.group.vouch("Dora")
    await ana.group.sync()
    topic_log(next(iter(world.relays.values())), _mailbox(link)).envelopes.clear()
    await ben.group.sync()
    (request,) = ben.group.requests()
    assert (request.name, request.since) == ("Dora", None)
    assert await ben.group.admit("Dora")


async def test_a_link_by_which_one_asks_opens_nothing(world: World) -> None:
    (ana, _), link = await asking_group(world, "ana", "ben")
    parsed = read_link(link)
    keys = InviteKeys(parsed.secret)
    relay = next(iter(world.relays.values()))
    envelopes = topic_log(relay, mailbox_keys(keys.mailbox_secret)).envelopes
    assert envelopes
    for envelope in envelopes:
        value = open_envelope(envelope, mailbox_keys(keys.mailbox_secret))
        assert open_welcome(value, keys, parsed.group).epoch is None
        assert ana.replica.epoch.secret.reveal() not in value
    assert keys.id not in {recipient.id for recipient in ana.replica.members.roster.recipients()}


async def test_a_join_by_a_link_that_only_lets_ask_is_refused(world: World) -> None:
    """Even if a member hands out the epoch's secret beside the link: the roster refuses the join."""
    (ana, ben), link = await asking_group(world, "ana", "ben")
    parsed, keys = read_link(link), InviteKeys(read_link(link).secret)
    welcome = Welcome(parsed.group, ben.group._create(), ben.replica.epoch, parsed.relays)
    mailbox = mailbox_keys(keys.mailbox_secret)
    relay = next(iter(world.relays.values()))
    inject(relay, mailbox, seal_envelope(wrap_welcome(welcome, keys.id, keys.hpke().public), mailbox))
    mal = await world.seat("mal")
    with pytest.raises((UsageError, NotYetError)):
        await mal.running.join(link, member_name="Mal")
    await world.level([ana, ben])
    assert [m.name for m in ana.group.members()] == ["Ana", "Ben"]


async def test_a_request_outlives_restarts_and_lost_relays(world: World) -> None:
    (ana, ben), link = await asking_group(world, "ana", "ben")
    relay = next(iter(world.relays.values()))
    dora = await ask(world, link, "dora")
    topic_log(relay, _mailbox(link)).envelopes.clear()  # the relay lost it
    await dora.restart()
    await ana.group.sync()
    assert ana.group.requests() == []
    relay.reachable = False
    assert await dora.running.finish_joins() == []
    with pytest.raises(RelayUnavailable):
        await dora.running.join(link, member_name="Dora")
    relay.reachable = True
    assert await dora.running.finish_joins() == []  # and put it again
    await ana.group.sync()
    await ana.group.admit("Dora")
    await ana.restart()  # what it owes is durable
    await ana.group.sync()
    await dora.restart()
    assert len(await dora.running.finish_joins()) == 1
    await world.level()
    assert [m.name for m in ben.group.members()] == ["Ana", "Ben", "Dora"]


async def test_a_welcome_that_leads_nowhere_is_passed_over(world: World) -> None:
    """Any member can seal a welcome to a newcomer's key: one to an epoch of its own costs a look."""
    (ana, ben), link = await asking_group(world, "ana", "ben")
    dora = await ask(world, link, "dora")
    await ben.group.sync()
    (pending,) = dora.running._pending_joins.all()
    parsed, keys = read_link(link), InviteKeys(read_link(link).secret)
    mailbox = mailbox_keys(keys.mailbox_secret)
    relay = next(iter(world.relays.values()))

    def welcome(epoch: Epoch) -> bytes:
        value = Welcome(parsed.group, ben.group._create(), epoch, parsed.relays)
        return seal_envelope(wrap_welcome(value, keys.id, pending.keys.hpke_public), mailbox)

    inject(relay, mailbox, welcome(Epoch(Secret(b"\x66" * 32))), welcome(ben.replica.epoch))
    assert await dora.running.finish_joins() == []  # nobody admitted this device
    assert dora.running.groups() == []
    await ana.group.sync()
    await ana.group.admit("Dora")
    await ana.group.sync()
    inject(relay, mailbox, welcome(Epoch(Secret(b"\x67" * 32))))  # the newest of all
    assert len(await dora.running.finish_joins()) == 1
    await world.level()
    assert dora.replica.epoch.topic == ana.replica.epoch.topic


async def test_requests_that_are_none_are_passed_over(world: World) -> None:
    (ana, ben), link = await asking_group(world, "ana", "ben")
    dora = await ask(world, link, "dora")
    (pending,) = dora.running._pending_joins.all()
    parsed, keys = read_link(link), InviteKeys(read_link(link).secret)
    other = InviteKeys(Secret(b"\x01" * 32))
    hpke = pending.keys.hpke_public
    good = Newcomer.make(pending.keys.signing, keys.signing, parsed.group, hpke, "Dora")
    by_other = Newcomer.make(pending.keys.signing, other.signing, parsed.group, hpke, "Dora")
    renamed = Newcomer(good.device, good.hpke, good.invite, "Ben", good.invite_proof, good.proof)
    stranger = SigningKey(Secret(b"\x02" * 32))
    unproved = Newcomer.make(stranger, other.signing, parsed.group, hpke, "Eve")
    unproved = Newcomer(unproved.device, hpke, InviteId(keys.id), "Eve", unproved.invite_proof, unproved.proof)
    for value, error in (
        (encode_request(by_other), MalformedError),
        (encode_request(renamed), SignatureError),
        (encode_request(unproved), SignatureError),
        (encode([1, [0, 1]]), MalformedError),
        (encode([2, good.to_value()]), MalformedError),
    ):
        with pytest.raises(error):
            read_request(value, parsed.group, keys.id)
        mailbox = mailbox_keys(keys.mailbox_secret)
        inject(next(iter(world.relays.values())), mailbox, seal_envelope(value, mailbox))
    assert read_request(encode_request(good), parsed.group, keys.id) == good
    await ana.group.sync()
    assert [request.name for request in ana.group.requests()] == ["Dora"]
    assert ben.group.requests() == []


async def test_a_holder_of_a_link_cannot_fill_a_member_with_requests(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    (ana, _), link = await asking_group(world, "ana", "ben")
    monkeypatch.setattr("cocoon_core.sync.admission.MAX_REQUESTS", 5)
    parsed, keys = read_link(link), InviteKeys(read_link(link).secret)
    mailbox = mailbox_keys(keys.mailbox_secret)
    for n in range(9):
        key = SigningKey(Secret(bytes([n]) * 32))
        request = Newcomer.make(key, keys.signing, parsed.group, ana.replica.keys.hpke_public, f"Mal {n}")
        inject(next(iter(world.relays.values())), mailbox, seal_envelope(encode_request(request), mailbox))
    assert (await ana.group.sync()).requests == 5
    assert (await ana.group.sync()).requests == 0
    assert len(RequestTable(ana.replica.database, ana.replica.record.number).all()) == 5
    assert len(ana.group.requests()) == 5


async def test_mistakes_about_requests_are_said(world: World) -> None:
    (ana, ben), link = await asking_group(world, "ana", "ben")
    for act in (ana.group.vouch, ana.group.admit):
        with pytest.raises(UnknownItemError, match="nobody who asks"):
            await act("Dora")
    dora = await ask(world, link, "dora")
    await ask(world, link, "dora2")
    await world.level([ana, ben])
    (pending,) = dora.running.pending_joins()
    dora.running.withdraw_join(pending.group)
    assert dora.running.pending_joins() == []
    with pytest.raises(UnknownGroupError):
        dora.running.withdraw_join(pending.group)
    await ana.group.revoke_invite(next(i.id.hex() for i in ana.group.invites() if i.by_request))
    assert ana.group.requests() == []
    seat = await world.seat("late")
    await world.level([ana, ben])
    with pytest.raises((AwaitingAdmissionError, InvalidLinkError)):
        await seat.running.join(link, member_name="Late")
    with pytest.raises(DecryptionError):
        open_welcome(encode([1, b"\x00" * 1200]), InviteKeys(read_link(link).secret), pending.group)


async def test_large_groups_admit_unless_they_say_otherwise(world: World) -> None:
    seat = await world.seat("ana")
    relay = world.add_relay().url

    async def made(**rules: Any) -> int:
        group = await seat.running.create_group("Street", member_name="Ana", relays=[relay], **rules)
        return group.policy.vouches

    assert [await made(), await made(max_members=50), await made(max_members=51)] == [0, 0, 1]
    assert [await made(max_members=51, vouches=0), await made(vouches=2)] == [0, 2]
    group = await seat.running.create_group("Lane", member_name="Ana", relays=[relay])
    assert (await group.set_policy(max_members=40)).vouches == 0
    assert (await group.set_policy(max_members=60)).vouches == 1
    assert (await group.set_policy(vouches=0)).vouches == 0
    assert (await group.set_policy(max_members=60)).vouches == 0
    assert (await group.invite(uses=2, expires_in=timedelta(hours=1))).startswith("cocoon:")


def _mailbox(link: str) -> TopicKeys:
    return mailbox_keys(InviteKeys(read_link(link).secret).mailbox_secret)


async def test_an_invite_made_beside_a_rotation_still_lets_in(world: World) -> None:
    """The rotation does not know of the invite, so nobody could hop on from the welcome that was made with it."""
    ana, ben = await world.group("ana", "ben")
    link = await ana.group.invite()
    made_for = ana.replica.epoch.topic
    await ben.group.rotate()
    await ben.group.sync()
    await world.level([ana, ben])
    assert ana.replica.epoch.topic != made_for
    seat = await world.seat("chi")
    await seat.running.join(link, member_name="Chi")
    await world.level()
    assert [member.name for member in ben.group.members()] == ["Ana", "Ben", "Chi"]


async def test_that_invite_lets_nobody_in_where_welcomes_are_not_renewed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cocoon_core.sync.maintenance.renew_welcomes", lambda replica: 0)
    ana, ben = await world.group("ana", "ben")
    link = await ana.group.invite()
    await ben.group.rotate()
    await ben.group.sync()
    await world.level([ana, ben])
    seat = await world.seat("chi")
    with pytest.raises(NotYetError):
        await seat.running.join(link, member_name="Chi")
