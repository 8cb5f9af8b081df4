"""Two linking devices over relays in memory: the ways it can be cut off, and that both sides are told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from cocoon_core.errors import LinkingError, RelayUnavailable
from cocoon_core.protocol.device_code import DeviceCode
from cocoon_core.protocol.device_link import Answered, CompareWords, LinkEffect, LinkEnded, LinkSession, Offered
from cocoon_core.protocol.link_letters import Enrolled, Enrolment, Reason, Side
from cocoon_core.protocol.operations_devices import AddDevice
from cocoon_core.sync.link_conversation import LinkConversation
from cocoon_core.sync.transport import Connection
from tests.support.link_story import OFFER, link_keys
from tests.support.memory_relay import DisorderlyRelay, MemoryRelay
from tests.support.protocol_story import ANA, EPOCH, GROUP, device_keys, named_secret

PHONE = device_keys("phone")

Confirm = Callable[[tuple[str, ...]], Awaitable[bool]]


class Party:
    """One side, with the simplest of façades."""

    def __init__(self, side: Side, code: DeviceCode, relays: list[MemoryRelay], confirm: Confirm | None = None) -> None:
        self.session = LinkSession(side, code.mailbox().topic, link_keys(side.name))
        self.words: tuple[str, ...] = ()
        self.enrolled: list[Enrolled] = []
        self._confirm = confirm
        self._relays = {relay.url: relay for relay in relays}
        self.conversation = LinkConversation(code, self.session, self._dial, self._perform)

    async def _dial(self, url: str) -> Connection:
        return self._relays[url].connect()

    async def _perform(self, effect: LinkEffect) -> list[LinkEffect]:
        match effect:
            case CompareWords(words):
                self.words = words
                same = True if self._confirm is None else await self._confirm(words)
                effects = self.session.words_confirmed(same=same)
                return [*effects, *self.session.offer([OFFER])] if self.session.side is Side.OLD else effects
            case Offered():
                operation = AddDevice.make(PHONE.signing, GROUP, ANA.id, PHONE.hpke_public)
                return self.session.answer([Enrolment(GROUP, operation)])
            case Answered():
                return self.session.enrolled([Enrolled(GROUP, EPOCH)])
        self.enrolled = list(getattr(effect, "enrolled", ()))
        return []

    async def go(self, patience: float = 30.0) -> None:
        await self.conversation.begin()
        await self.conversation.run(patience)


def code_at(*relays: MemoryRelay) -> DeviceCode:
    return DeviceCode(named_secret("device code"), tuple(relay.url for relay in relays))


async def link(relays: list[MemoryRelay]) -> tuple[Party, Party]:
    code = code_at(*relays)
    new, old = Party(Side.NEW, code, relays), Party(Side.OLD, code, relays)
    await asyncio.gather(new.go(), old.go())
    return new, old


@pytest.mark.parametrize("count", [1, 3])
async def test_it_comes_about_over_any_number_of_relays(count: int) -> None:
    relays = [MemoryRelay(f"ws://relay{number}.test:1", seed=number) for number in range(count)]
    new, old = await link(relays)
    assert new.words == old.words
    assert [one.group for one in new.enrolled] == [GROUP]
    assert not any(relay.connections for relay in relays)


async def test_one_relay_of_two_suffices() -> None:
    dead, alive = MemoryRelay("ws://dead.test:1"), MemoryRelay("ws://alive.test:1")
    dead.switch_off()
    new, _ = await link([dead, alive])
    assert new.enrolled


async def test_a_relay_that_loses_its_connections_meanwhile_only_delays_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cocoon_core.sync.link_conversation.RECONNECT_SECONDS", 0.0)
    relay = MemoryRelay()

    async def drop_all(words: tuple[str, ...]) -> bool:
        for connection in list(relay.connections):
            connection.end()
        return True

    code = code_at(relay)
    new, old = Party(Side.NEW, code, [relay], drop_all), Party(Side.OLD, code, [relay], drop_all)
    await asyncio.gather(new.go(), old.go())
    assert new.enrolled


async def test_letters_that_come_twice_and_disordered_do_no_harm() -> None:
    relay = DisorderlyRelay(seed=5, lose=0.0, duplicate=0.5)
    new, old = await link([relay])
    assert new.words == old.words


async def test_without_a_relay_it_does_not_begin() -> None:
    relay = MemoryRelay()
    relay.switch_off()
    with pytest.raises(RelayUnavailable):
        await Party(Side.NEW, code_at(relay), [relay]).conversation.begin()
    with pytest.raises(RelayUnavailable):
        await Party(Side.OLD, code_at(relay), [relay]).conversation.is_waited_at()


async def test_the_old_side_sees_whether_somebody_waits() -> None:
    relay = MemoryRelay()
    code = code_at(relay)
    old = Party(Side.OLD, code, [relay])
    assert not await old.conversation.is_waited_at()
    await Party(Side.NEW, code, [relay]).conversation.begin()
    assert await old.conversation.is_waited_at()


async def test_silence_ends_it_and_the_other_side_is_told() -> None:
    relay = MemoryRelay()
    code = code_at(relay)
    new = Party(Side.NEW, code, [relay])
    with pytest.raises(LinkEnded, match="no other device answered"):
        await new.go(patience=0.0)
    old = Party(Side.OLD, code, [relay])
    with pytest.raises(LinkEnded, match="other device stopped"):
        await old.go()
    assert not relay.connections


async def test_a_no_on_either_side_ends_both() -> None:
    async def differ(words: tuple[str, ...]) -> bool:
        return False

    for saying, other in ((Side.NEW, Side.OLD), (Side.OLD, Side.NEW)):
        relay = MemoryRelay()
        code = code_at(relay)
        parties = {side: Party(side, code, [relay], differ if side is saying else None) for side in (saying, other)}
        results = await asyncio.gather(*(party.go() for party in parties.values()), return_exceptions=True)
        assert all(isinstance(result, LinkEnded) and result.reason is Reason.WORDS_DIFFER for result in results)
        assert not parties[Side.NEW].enrolled


async def test_an_end_of_the_other_side_is_heard_while_a_person_still_compares() -> None:
    never = asyncio.Event()

    async def wait(words: tuple[str, ...]) -> bool:
        await never.wait()
        return True

    async def differ(words: tuple[str, ...]) -> bool:
        return False

    relay = MemoryRelay()
    code = code_at(relay)
    new, old = Party(Side.NEW, code, [relay], wait), Party(Side.OLD, code, [relay], differ)
    results = await asyncio.gather(new.go(), old.go(), return_exceptions=True)
    assert [type(result) for result in results] == [LinkEnded, LinkEnded]


async def test_ctrl_c_ends_it_and_the_other_side_is_told() -> None:
    relay = MemoryRelay()
    code = code_at(relay)
    asked = asyncio.Event()

    async def ask(words: tuple[str, ...]) -> bool:
        asked.set()
        await asyncio.Event().wait()
        return True

    new, old = Party(Side.NEW, code, [relay], ask), Party(Side.OLD, code, [relay])
    waiting, other = asyncio.create_task(new.go()), asyncio.create_task(old.go())
    await asked.wait()
    waiting.cancel()
    with suppress(asyncio.CancelledError):
        await waiting
    with pytest.raises(LinkingError, match="other device stopped"):
        await other
    assert not relay.connections


async def test_a_fault_while_asking_is_not_swallowed() -> None:
    async def fail(words: tuple[str, ...]) -> bool:
        raise RuntimeError("no terminal")

    relay = MemoryRelay()
    code = code_at(relay)
    new, old = Party(Side.NEW, code, [relay], fail), Party(Side.OLD, code, [relay])
    results = await asyncio.gather(new.go(), old.go(), return_exceptions=True)
    assert isinstance(results[0], RuntimeError)
    assert isinstance(results[1], LinkEnded)
