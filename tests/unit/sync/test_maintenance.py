"""Invites are closed by whoever's turn it is: at once by the first, later by the others, and only once."""

from __future__ import annotations

from datetime import timedelta

import pytest

from cocoon_core.errors import UsageError
from cocoon_core.protocol.epochs import rank_of
from cocoon_core.protocol.ids import InviteId
from cocoon_core.sync.maintenance import close_ended_invites
from cocoon_core.sync.turns import RANK_WAIT_MS, TURN_DAYS, is_turn
from tests.support.world import Seat, World, make_world  # noqa: F401  a fixture


def rank_for(seat: Seat, invite: InviteId) -> int:
    return rank_of(seat.device, invite, seat.replica.members.roster.devices)


def revokes(seat: Seat) -> int:
    return sum(invite.revoked for invite in seat.replica.members.roster.invites.values())


async def spend(world: World) -> list[Seat]:
    """A group whose invite is used up, before anybody closed it."""
    seats = await world.group("ana", "ben", "chi", "dee")
    invite = next(iter(seats[0].replica.members.roster.invites.values()))
    return sorted(seats, key=lambda seat: rank_for(seat, invite.id))


async def test_ranks_are_the_places_of_all_devices(world: World) -> None:
    seats = await world.group("ana", "ben", "chi", "dee")
    (invite,) = seats[0].replica.members.roster.invites.values()
    assert sorted(rank_for(seat, invite.id) for seat in seats) == [0, 1, 2, 3]


async def test_an_expired_invite_is_closed_by_the_first_at_once_and_by_the_others_in_turn(world: World) -> None:
    seats = await world.group("ana", "ben", "chi")
    await seats[0].group.invite(expires_in=timedelta(minutes=1))
    await world.level()
    (invite,) = [i for i in seats[0].replica.members.roster.invites.values() if not i.revoked and not i.is_spent]
    ranked = sorted(seats, key=lambda seat: rank_for(seat, invite.id))
    open_before = revokes(seats[0])
    world.now_ms = invite.expires_ms - 1_000
    assert [close_ended_invites(seat.replica) for seat in ranked] == [0, 0, 0]
    world.now_ms = invite.expires_ms
    assert close_ended_invites(ranked[1].replica) == 0
    world.now_ms = invite.expires_ms + RANK_WAIT_MS
    assert close_ended_invites(ranked[1].replica) == 1  # the first did not come
    assert close_ended_invites(ranked[1].replica) == 0
    assert close_ended_invites(ranked[0].replica) == 1  # it comes at last, and knows of nothing
    await world.level()
    assert revokes(seats[2]) == open_before + 1
    world.now_ms += 10 * RANK_WAIT_MS
    assert [close_ended_invites(seat.replica) for seat in ranked] == [0, 0, 0]


async def test_a_spent_invite_is_closed_in_time_and_keeps_its_winners(world: World) -> None:
    seats = await spend(world)
    world.now_ms += 10 * RANK_WAIT_MS
    await world.level()
    for seat in seats:
        (invite,) = seat.replica.members.roster.invites.values()
        assert invite.revoked
        assert len(invite.joins) == 3
        assert len(seat.group.members()) == 4


async def test_who_is_no_member_or_was_stopped_closes_nothing(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    await ana.group.invite(expires_in=timedelta(seconds=1))
    await world.level()
    world.now_ms += 10**9
    from cocoon_core.errors import ChainAheadError

    with ben.replica.transaction():
        ben.replica.stop(ChainAheadError())
    assert close_ended_invites(ben.replica) == 0
    assert close_ended_invites(ana.replica) > 0


async def test_a_revoke_that_would_not_count_stops_no_sync(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    (ana,) = await world.group("ana")
    await ana.group.invite(expires_in=timedelta(minutes=1))
    world.now_ms += 3_600_000

    def refuse(*_: object, **__: object) -> None:
        raise UsageError("it would not count")

    monkeypatch.setattr(ana.replica, "write_operation", refuse)
    assert close_ended_invites(ana.replica) == 0
    assert all(relay.ok for relay in (await ana.sync()).relays)


async def test_a_profile_closes_whatever_a_group_of_it_says(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    (ana,) = await world.group("ana")

    def refuse() -> None:
        raise UsageError("an edit is open")

    monkeypatch.setattr(ana.replica.shelf, "save_caches", refuse)
    await ana.restart()  # which no one could do while the profile is held
    assert ana.group.name == "Family"


async def test_since_when_something_waited_long_ago_is_forgotten_and_nothing_else(world: World) -> None:
    (ana,) = await world.group("ana")
    table, day = ana.replica.epochs.table, 86_400_000
    old, ahead = world.now_ms - (TURN_DAYS + 1) * day, world.now_ms + 10 * day
    kept = {"signpost ab": old, "relay ab ws://one": old, "rekey ab 1": old, "erase 03": world.now_ms - day}
    with ana.replica.transaction():
        for what, since in {**kept, "erase 01": old, "age ab": old, "carry ab": ahead}.items():
            table.note_due(what, since)
    world.now_ms += 2 * day
    await ana.sync()
    there = table.all_due()
    assert kept.items() <= there.items()
    assert not there.keys() & {"erase 01", "age ab", "carry ab"}
    assert not is_turn(ana.replica, "erase 01", 1), "it waits its turn once more"
    world.now_ms += RANK_WAIT_MS
    assert is_turn(ana.replica, "erase 01", 1)
