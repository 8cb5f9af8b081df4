"""The rules of specs/relay.md, each on the relay in memory, on the real one, on the real one as a process and as two
nodes; and those that do not belong to a socket also by single requests.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from typing import Any

import pytest

from cocoon_core.errors import RelayUnavailable
from cocoon_core.protocol.constants import (
    FRAME_VERSION,
    LABEL_BLOB,
    MAX_ENVELOPE_BYTES,
    MAX_NAMES,
    MAX_PUT_ENVELOPES,
    MAX_SEQ,
)
from cocoon_core.protocol.encoding import encode
from cocoon_core.protocol.frames import (
    Ack,
    Cast,
    CastReceived,
    Close,
    Entries,
    Error,
    ErrorCode,
    Fetched,
    Listed,
    Live,
    Opened,
    Put,
    encode_frame,
    name_envelope,
    open_message,
)
from cocoon_core.protocol.ids import Incarnation, Signature
from cocoon_core.protocol.primitives import SigningKey
from tests.integration.relay.conftest import SOCKETS, AnyRelay, Connect
from tests.support.relay_client import RelayClient, make_envelope, make_key, topic_of

on_sockets = pytest.mark.parametrize("relay_any", SOCKETS, indirect=True)  # test_requests.py has what is else there


async def refused(client: RelayClient, *envelopes: bytes, key: object, **how: object) -> Error:
    answer = await client.put(key, *envelopes, **how)  # type: ignore[arg-type]
    assert isinstance(answer, Error), answer
    return answer


async def stored(client: RelayClient, *envelopes: bytes, key: object, **how: object) -> tuple[int, ...]:
    answer = await client.put(key, *envelopes, **how)  # type: ignore[arg-type]
    assert isinstance(answer, Ack), answer
    return answer.seqs


async def ends(client: RelayClient) -> None:
    """The relay ends the connection."""
    with pytest.raises(RelayUnavailable):
        while True:
            await client.wire.receive()


class TestOpening:
    @on_sockets
    async def test_the_first_frame_is_a_challenge_of_this_version(self, connect_any: Connect) -> None:
        one, other = await connect_any(), await connect_any()
        assert one.challenge != other.challenge
        assert FRAME_VERSION == 1

    async def test_a_new_topic_is_empty_and_live_at_once(self, connect_any: Connect) -> None:
        client = await connect_any()
        key = make_key()
        opened, found = await client.open(key)
        assert (opened.topic, opened.last, opened.sealed, found) == (topic_of(key), 0, False, [])

    async def test_an_incarnation_stays_across_connections(self, connect_any: Connect) -> None:
        key = make_key()
        one, other = await connect_any(), await connect_any()
        assert (await one.open(key))[0].incarnation == (await other.open(key))[0].incarnation

    @on_sockets
    async def test_a_proof_for_another_connection_is_refused(self, connect_any: Connect) -> None:
        key = make_key()
        one, other = await connect_any(), await connect_any()
        await other.send(one.make_open(key))
        assert (await other.next(Error)).code is ErrorCode.BAD_PROOF

    @on_sockets
    async def test_a_proof_by_another_key_is_refused(self, connect_any: Connect) -> None:
        client = await connect_any()
        frame = replace(client.make_open(make_key()), topic=topic_of(make_key()))
        await client.send(frame)
        error = await client.next(Error)
        assert (error.request, error.code) == (frame.request, ErrorCode.BAD_PROOF)

    @on_sockets
    async def test_a_proof_for_another_relay_is_refused(self, connect_any: Connect) -> None:
        client = await connect_any()
        client.origin = "wss://elsewhere.example:443"
        await client.send(client.make_open(make_key()))
        assert (await client.next(Error)).code is ErrorCode.BAD_PROOF

    @on_sockets
    async def test_a_proof_under_another_label_is_refused(self, connect_any: Connect) -> None:
        client = await connect_any()
        key = make_key()
        frame = client.make_open(key)
        proof = key.sign(LABEL_BLOB, open_message(client.origin, client.challenge, frame.topic))
        await client.send(replace(frame, proof=proof))
        assert (await client.next(Error)).code is ErrorCode.BAD_PROOF

    @on_sockets
    async def test_a_refused_open_does_not_end_the_connection(self, connect_any: Connect) -> None:
        client = await connect_any()
        key = make_key()
        await client.send(replace(client.make_open(key), proof=Signature(bytes(64))))
        await client.next(Error)
        assert (await client.open(key))[0].last == 0

    async def test_everything_after_the_cursor_is_sent_and_nothing_before(self, connect_any: Connect) -> None:
        key = make_key()
        one, other = await connect_any(), await connect_any()
        opened, _ = await one.open(key)
        envelopes = [make_envelope() for _ in range(5)]
        await stored(one, *envelopes, key=key)
        _, found = await other.open(key, after=3, incarnation=opened.incarnation)
        assert found == [(4, envelopes[3]), (5, envelopes[4])]

    @pytest.mark.parametrize("incarnation", [None, Incarnation(bytes(16))])
    async def test_a_cursor_of_another_incarnation_starts_over(
        self, connect_any: Connect, incarnation: Incarnation | None
    ) -> None:
        key = make_key()
        one, other = await connect_any(), await connect_any()
        await one.open(key)
        envelope = make_envelope()
        await stored(one, envelope, key=key)
        _, found = await other.open(key, after=1, incarnation=incarnation)
        assert found == [(1, envelope)]

    async def test_a_cursor_beyond_the_end_starts_over(self, connect_any: Connect) -> None:
        key = make_key()
        one, other = await connect_any(), await connect_any()
        opened, _ = await one.open(key)
        envelope = make_envelope()
        await stored(one, envelope, key=key)
        again, found = await other.open(key, after=7, incarnation=opened.incarnation)
        assert (again.last, found) == (1, [(1, envelope)])

    async def test_a_second_open_replaces_the_first(self, connect_any: Connect) -> None:
        key = make_key()
        client, other = await connect_any(), await connect_any()
        opened, _ = await client.open(key)
        await other.open(key)
        first, second = make_envelope(), make_envelope()
        await stored(other, first, key=key)
        assert await client.entries(1) == [(1, first)]
        _, found = await client.open(key, after=0, incarnation=opened.incarnation)
        assert found == [(1, first)]
        await stored(other, second, key=key)
        assert await client.entries(1) == [(2, second)]
        assert not any(isinstance(frame, Entries) for frame in client.held)

    async def test_live_comes_once_and_after_what_was_stored(self, connect_any: Connect) -> None:
        key = make_key()
        one, other = await connect_any(), await connect_any()
        await one.open(key)
        for _ in range(3):
            await stored(one, *(make_envelope() for _ in range(MAX_PUT_ENVELOPES)), key=key)
        await other.send(other.make_open(key))
        seen: list[Opened | Entries | Live | Error] = []
        while not seen or not isinstance(seen[-1], Live):
            seen.append(await other.next(Opened, Entries, Live, Error))
        assert isinstance(seen[0], Opened)
        assert seen[0].last == 3 * MAX_PUT_ENVELOPES
        assert seen[-1] == Live(topic_of(key), 3 * MAX_PUT_ENVELOPES)
        assert sum(len(frame.envelopes) for frame in seen if isinstance(frame, Entries)) == 3 * MAX_PUT_ENVELOPES


class TestPutting:
    async def test_sequence_numbers_count_from_one_in_the_order_of_the_put(self, connect_any: Connect) -> None:
        client = await connect_any()
        key = make_key()
        await client.open(key)
        assert await stored(client, make_envelope(), make_envelope(), key=key) == (1, 2)
        assert await stored(client, make_envelope(), key=key) == (3,)

    async def test_putter_and_others_get_the_same_entries(self, connect_any: Connect) -> None:
        key = make_key()
        one, other = await connect_any(), await connect_any()
        await one.open(key)
        await other.open(key)
        first, second = make_envelope(), make_envelope(600)
        await stored(one, first, second, key=key)
        assert await one.entries(2) == await other.entries(2) == [(1, first), (2, second)]

    async def test_what_is_stored_keeps_its_number(self, connect_any: Connect) -> None:
        key = make_key()
        one, other = await connect_any(), await connect_any()
        await one.open(key)
        await other.open(key)
        first, second = make_envelope(), make_envelope()
        assert await stored(one, first, key=key) == (1,)
        assert await stored(other, second, first, key=key) == (2, 1)
        assert await stored(one, second, second, key=key) == (2, 2)
        assert await other.entries(2) == [(1, first), (2, second)]
        assert (await (await connect_any()).open(key))[0].last == 2

    async def test_an_envelope_twice_in_one_put_is_stored_once(self, connect_any: Connect) -> None:
        client = await connect_any()
        key = make_key()
        await client.open(key)
        envelope = make_envelope()
        assert await stored(client, envelope, envelope, key=key) == (1, 1)

    async def test_the_same_envelope_in_two_topics_is_two_entries(self, connect_any: Connect) -> None:
        client = await connect_any()
        one, other = make_key(), make_key()
        envelope = make_envelope()
        for key in (one, other):
            await client.open(key)
            assert await stored(client, envelope, key=key) == (1,)

    @on_sockets
    async def test_a_topic_that_is_not_open_is_refused(self, connect_any: Connect) -> None:
        client = await connect_any()
        assert (await refused(client, make_envelope(), key=make_key())).code is ErrorCode.NOT_OPEN

    @on_sockets
    async def test_opening_on_one_connection_opens_on_no_other(self, connect_any: Connect) -> None:
        one, other = await connect_any(), await connect_any()
        key = make_key()
        await one.open(key)
        assert (await refused(other, make_envelope(), key=key)).code is ErrorCode.NOT_OPEN

    async def test_many_puts_at_once_are_acknowledged_in_order(self, connect_any: Connect) -> None:
        client = await connect_any()
        key = make_key()
        await client.open(key)
        for request in range(1000, 1200):
            await client.send(Put(request, topic_of(key), (make_envelope(),)))
        answers = [await client.next(Ack, Error) for _ in range(200)]
        assert answers == [Ack(1000 + index, topic_of(key), (index + 1,)) for index in range(200)]

    async def test_putters_at_once_share_one_order(self, connect_any: Connect) -> None:
        seed = random.randrange(2**32)
        print(f"seed {seed}")
        choose = random.Random(seed)
        key = make_key()
        clients = [await connect_any() for _ in range(4)]
        for client in clients:
            await client.open(key)
        sizes = [[choose.randrange(1, 6) for _ in range(15)] for _ in clients]

        async def put_all(client: RelayClient, counts: list[int]) -> dict[int, bytes]:
            given: dict[int, bytes] = {}
            for count in counts:
                envelopes = [make_envelope() for _ in range(count)]
                given.update(zip(await stored(client, *envelopes, key=key), envelopes, strict=True))
            return given

        given = await asyncio.gather(*(put_all(*pair) for pair in zip(clients, sizes, strict=True)))
        log = {seq: envelope for part in given for seq, envelope in part.items()}
        total = sum(map(sum, sizes))
        assert sorted(log) == list(range(1, total + 1))
        for client in clients:
            assert await client.entries(total) == sorted(log.items())


class TestSealing:
    async def test_seal_and_envelopes_are_one_step(self, connect_any: Connect) -> None:
        key = make_key()
        one, other = await connect_any(), await connect_any()
        await one.open(key)
        assert await stored(one, make_envelope(), make_envelope(), key=key, seal=True, expect=0) == (1, 2)
        assert (await other.open(key))[0].sealed
        error = await refused(other, make_envelope(), key=key)
        assert (error.code, error.last) == (ErrorCode.SEALED, 2)
        assert (await (await connect_any()).open(key))[0].last == 2

    async def test_another_expect_changes_nothing_and_tells_the_last(self, connect_any: Connect) -> None:
        key = make_key()
        client = await connect_any()
        await client.open(key)
        await stored(client, make_envelope(), key=key)
        error = await refused(client, make_envelope(), make_envelope(), key=key, seal=True, expect=0)
        assert (error.code, error.last) == (ErrorCode.EXPECT, 1)
        opened, _ = await (await connect_any()).open(key)
        assert (opened.last, opened.sealed) == (1, False)

    async def test_a_retry_after_a_lost_ack_succeeds(self, connect_any: Connect) -> None:
        key = make_key()
        one, other = await connect_any(), await connect_any()
        await one.open(key)
        removal, rotation = make_envelope(), make_envelope()
        seqs = await stored(one, removal, rotation, key=key, seal=True, expect=0)
        await other.open(key)
        assert await stored(other, removal, rotation, key=key, seal=True, expect=0) == seqs

    async def test_new_beside_stored_in_a_sealed_topic_is_refused_whole(self, connect_any: Connect) -> None:
        key = make_key()
        client = await connect_any()
        await client.open(key)
        old = make_envelope()
        await stored(client, old, key=key, seal=True)
        assert (await refused(client, old, make_envelope(), key=key)).code is ErrorCode.SEALED
        assert (await (await connect_any()).open(key))[0].last == 1

    async def test_expect_holds_without_seal_too(self, connect_any: Connect) -> None:
        key = make_key()
        client = await connect_any()
        await client.open(key)
        assert await stored(client, make_envelope(), key=key, expect=0) == (1,)
        assert (await refused(client, make_envelope(), key=key, expect=0)).last == 1
        assert await stored(client, make_envelope(), key=key, expect=1) == (2,)

    async def test_sealing_what_is_stored_unsealed_is_subject_to_expect(self, connect_any: Connect) -> None:
        key = make_key()
        client = await connect_any()
        await client.open(key)
        envelope = make_envelope()
        await stored(client, envelope, key=key)
        assert (await refused(client, envelope, key=key, seal=True, expect=0)).last == 1
        assert await stored(client, envelope, key=key, seal=True, expect=1) == (1,)
        assert (await (await connect_any()).open(key))[0].sealed

    async def test_of_two_who_seal_at_once_one_wins(self, connect_any: Connect) -> None:
        key = make_key()
        clients = [await connect_any() for _ in range(3)]
        for client in clients:
            await client.open(key)
        answers = await asyncio.gather(*(c.put(key, make_envelope(), seal=True, expect=0) for c in clients))
        assert sorted(type(answer).__name__ for answer in answers) == ["Ack", "Error", "Error"]
        assert {a.code for a in answers if isinstance(a, Error)} == {ErrorCode.SEALED}

    async def test_whoever_has_it_open_is_shown_what_sealed_it(self, connect_any: Connect) -> None:
        key = make_key()
        one, other = await connect_any(), await connect_any()
        await one.open(key)
        await other.open(key)
        removal, rotation = make_envelope(), make_envelope()
        await stored(one, removal, rotation, key=key, seal=True, expect=0)
        assert await other.entries(2) == [(1, removal), (2, rotation)]
        assert (await refused(other, make_envelope(), key=key, expect=2)).code is ErrorCode.SEALED

    async def test_an_empty_topic_is_sealed_by_its_first_put_alone(self, connect_any: Connect) -> None:
        key = make_key()
        one, other = await connect_any(), await connect_any()
        await one.open(key)
        assert (await refused(one, make_envelope(), key=key, seal=True, expect=1)).last == 0
        opened, found = await other.open(key)
        assert (opened.last, opened.sealed, found) == (0, False, [])
        rotation = make_envelope()
        assert await stored(one, rotation, key=key, seal=True, expect=0) == (1,)
        opened, found = await (await connect_any()).open(key, after=0, incarnation=opened.incarnation)
        assert (opened.last, opened.sealed, found) == (1, True, [(1, rotation)])

    async def test_a_connection_lost_before_the_ack_leaves_all_or_nothing(self, connect_any: Connect) -> None:
        for _ in range(8):
            key = make_key()
            one = await connect_any()
            await one.open(key)
            first, removal, rotation = (make_envelope() for _ in range(3))
            await stored(one, first, key=key)
            await one.send(Put(77, topic_of(key), (removal, rotation), True, 1))
            await one.close()
            other = await connect_any()
            opened, _ = await other.open(key)
            assert (opened.last, opened.sealed) in {(1, False), (3, True)}
            assert await stored(other, removal, rotation, key=key, seal=True, expect=1) == (2, 3)
            opened, found = await (await connect_any()).open(key)
            assert (opened.sealed, found) == (True, [(1, first), (2, removal), (3, rotation)])

    async def test_a_retry_is_acknowledged_in_whatever_part_and_order(self, connect_any: Connect) -> None:
        key = make_key()
        client = await connect_any()
        await client.open(key)
        removal, rotation = make_envelope(), make_envelope()
        await stored(client, removal, rotation, key=key, seal=True, expect=0)
        assert await stored(client, rotation, removal, rotation, key=key, seal=True, expect=0) == (2, 1, 2)
        assert await stored(client, rotation, key=key, expect=9) == (2,)
        assert await stored(client, removal, key=key) == (1,)
        opened, found = await (await connect_any()).open(key)
        assert (opened.sealed, found) == (True, [(1, removal), (2, rotation)])

    async def test_of_two_rotations_with_one_expect_exactly_one_is_there_and_whole(self, connect_any: Connect) -> None:
        seed = random.randrange(2**32)
        print(f"seed {seed}")
        choose = random.Random(seed)
        one, other = await connect_any(), await connect_any()
        for _ in range(12):
            key = make_key()
            for client in (one, other):
                await client.open(key)
            before = [make_envelope() for _ in range(choose.randrange(3))]
            if before:
                await stored(one, *before, key=key)
            puts = [[make_envelope() for _ in range(choose.randrange(1, 4))] for _ in range(2)]
            pair = list(zip((one, other), puts, strict=True))
            choose.shuffle(pair)
            last = len(before)
            answers = await asyncio.gather(*(c.put(key, *put, seal=True, expect=last) for c, put in pair))
            (won,) = [put for (_, put), answer in zip(pair, answers, strict=True) if isinstance(answer, Ack)]
            (lost,) = [answer for answer in answers if isinstance(answer, Error)]
            assert (lost.code, lost.last) == (ErrorCode.SEALED, last + len(won))
            opened, found = await (await connect_any()).open(key)
            assert (opened.sealed, [item for _, item in found]) == (True, before + won)

    async def test_what_races_a_seal_is_before_it_or_refused(self, connect_any: Connect) -> None:
        key = make_key()
        sealer, *writers = [await connect_any() for _ in range(4)]
        for client in (sealer, *writers):
            await client.open(key)

        async def write(client: RelayClient) -> list[int]:
            places: list[int] = []
            while isinstance(answer := await client.put(key, make_envelope()), Ack):
                places += answer.seqs
            assert answer.code is ErrorCode.SEALED
            return places

        async def seal() -> int:
            last = 0
            while True:
                answer = await sealer.put(key, make_envelope(), seal=True, expect=last)
                if isinstance(answer, Ack):
                    return answer.seqs[0]
                assert (answer.code, answer.last is not None) == (ErrorCode.EXPECT, True)
                last = answer.last or 0
                if last > 20:  # whoever writes without end would win each round
                    (place,) = await stored(sealer, make_envelope(), key=key, seal=True)
                    return place

        written = [asyncio.create_task(write(client)) for client in writers]
        place = await seal()
        places = sorted([seq for part in await asyncio.gather(*written) for seq in part])
        assert places == list(range(1, place))
        assert (await (await connect_any()).open(key))[0].last == place


class TestLeases:
    async def test_a_topic_that_nobody_touched_comes_back_as_another(self, relay_any: AnyRelay) -> None:
        key, kept = make_key(), make_key()
        client = await relay_any.connect()
        for one in (key, kept):
            before, _ = await client.open(one)
            await stored(client, make_envelope(), make_envelope(), key=one)
        before, _ = await client.open(key)
        await client.close()
        await relay_any.age(80)
        client = await relay_any.connect()
        await client.open(kept)
        await client.close()
        await relay_any.age(20)
        client = await relay_any.connect()
        assert (await client.open(kept))[0].last == 2
        opened, found = await client.open(key, after=2, incarnation=before.incarnation)
        assert (opened.last, opened.sealed, found) == (0, False, [])
        assert opened.incarnation != before.incarnation
        envelope = make_envelope()
        assert await stored(client, envelope, key=key, expect=0) == (1,)
        other = await relay_any.connect()
        assert (await other.open(key, after=2, incarnation=before.incarnation))[1] == [(1, envelope)]

    async def test_a_topic_that_nothing_was_put_into_goes_after_a_day(self, relay_any: AnyRelay) -> None:
        key = make_key()
        client = await relay_any.connect()
        before, _ = await client.open(key)
        await client.close()
        await relay_any.age(2)
        client = await relay_any.connect()
        assert (await client.open(key))[0].incarnation != before.incarnation

    async def test_of_a_sealed_topic_the_last_envelope_is_kept_for_two_years(self, relay_any: AnyRelay) -> None:
        key = make_key()
        client = await relay_any.connect()
        before, _ = await client.open(key)
        first, removal, rotation = (make_envelope() for _ in range(3))
        await stored(client, first, key=key)
        await stored(client, removal, rotation, key=key, seal=True, expect=1)
        await client.close()
        await relay_any.age(720)
        client = await relay_any.connect()
        for after in (0, 1, 2):
            opened, found = await client.open(key, after=after, incarnation=before.incarnation)
            assert (opened.incarnation, opened.last, opened.sealed) == (before.incarnation, 3, True)
            assert found == [(3, rotation)]
        assert (await client.open(key))[1] == [(3, rotation)]
        assert (await client.open(key, after=3, incarnation=before.incarnation))[1] == []
        # What is gone is not "already stored" any more; what is kept still is, and nothing new is taken.
        assert await stored(client, rotation, key=key, seal=True, expect=1) == (3,)
        error = await refused(client, removal, rotation, key=key, seal=True, expect=1)
        assert (error.code, error.last) == (ErrorCode.SEALED, 3)
        assert (await refused(client, make_envelope(), key=key)).code is ErrorCode.SEALED

    async def test_whoever_opens_a_sealed_topic_keeps_all_of_it(self, relay_any: AnyRelay) -> None:
        key = make_key()
        envelopes = [make_envelope() for _ in range(3)]
        client = await relay_any.connect()
        await client.open(key)
        await stored(client, *envelopes, key=key, seal=True)
        await client.close()
        for _ in range(3):
            await relay_any.age(80)
            client = await relay_any.connect()
            opened, found = await client.open(key)
            assert (opened.sealed, [item for _, item in found]) == (True, envelopes)
            await client.close()

    async def test_after_two_years_a_sealed_topic_comes_back_as_another(self, relay_any: AnyRelay) -> None:
        key = make_key()
        client = await relay_any.connect()
        before, _ = await client.open(key)
        await stored(client, make_envelope(), make_envelope(), key=key, seal=True)
        await client.close()
        await relay_any.age(100)
        await relay_any.age(640)
        client = await relay_any.connect()
        opened, found = await client.open(key, after=2, incarnation=before.incarnation)
        assert (opened.last, opened.sealed, found) == (0, False, [])
        assert opened.incarnation != before.incarnation


class TestNamesAndPlaces:
    """What is asked for by name and place, by who has most of a topic already (§3.7)."""

    SALT = b"\x5a" * 32

    async def filled(self, connect: Connect, count: int = 5, size: int = 296) -> tuple[RelayClient, SigningKey, Any]:
        """A topic with envelopes in it, another client that has resumed it, and they."""
        key = make_key()
        writer, reader = await connect(), await connect()
        await writer.open(key)
        envelopes = [make_envelope(size) for _ in range(count)]
        for envelope in envelopes:
            await stored(writer, envelope, key=key)
        assert (await reader.resume(key)).last == count
        return reader, key, envelopes

    async def test_resuming_without_a_cursor_sends_nothing_until_it_is_opened(self, connect_any: Connect) -> None:
        reader, key, envelopes = await self.filled(connect_any)
        other = await connect_any()
        await other.open(key)
        late = make_envelope()
        await stored(other, late, key=key)
        listed = await reader.list_names(key, 0, MAX_NAMES, self.SALT)
        assert isinstance(listed, Listed)
        assert [frame for frame in reader.held if isinstance(frame, Entries | Live)] == []
        opened, found = await reader.open(key)
        assert found == list(enumerate([*envelopes, late], start=1))
        _, found = await reader.open(key, after=5, incarnation=opened.incarnation)
        assert found == [(6, late)]

    @pytest.mark.parametrize(
        ("after", "most", "streams"),
        [(5, 0, True), (4, 0, False), (3, 2, True), (3, 1, False), (6, 4, False), (6, 5, True), (0, 5, True)],
    )
    async def test_resuming_from_a_near_place_is_opening_it(
        self, connect_any: Connect, after: int, most: int, streams: bool
    ) -> None:
        reader, key, envelopes = await self.filled(connect_any)
        life = (await reader.resume(key)).incarnation
        await reader.resume(key, after, life, most)
        await reader.cast(key, b"a frame that has no answer")
        listed = await reader.list_names(key, 0, 1, self.SALT)
        assert isinstance(listed, Listed)
        if not streams:
            assert [frame for frame in reader.held if isinstance(frame, Entries | Live)] == []
            return
        assert (await reader.next(Live)).last == 5
        found = [one for frame in reader.held if isinstance(frame, Entries) for one in frame.envelopes]
        assert found == envelopes[after if after <= 5 else 0 :]

    async def test_another_incarnation_is_not_resumed(self, connect_any: Connect) -> None:
        reader, key, _ = await self.filled(connect_any)
        for incarnation in (None, Incarnation(bytes(16))):
            await reader.resume(key, 5, incarnation, most=4)
            await reader.list_names(key, 0, 1, self.SALT)
            assert [frame for frame in reader.held if isinstance(frame, Entries | Live)] == []

    async def test_names_are_those_of_the_envelopes_under_the_salt(self, connect_any: Connect) -> None:
        reader, key, envelopes = await self.filled(connect_any)
        names = [name_envelope(self.SALT, envelope) for envelope in envelopes]
        listed = await reader.list_names(key, 0, MAX_NAMES, self.SALT)
        assert isinstance(listed, Listed)
        assert (listed.first, list(listed.names)) == (1, names)
        listed = await reader.list_names(key, 2, 2, self.SALT)
        assert isinstance(listed, Listed)
        assert (listed.first, list(listed.names)) == (3, names[2:4])
        listed = await reader.list_names(key, 4, 9, bytes(32))
        assert isinstance(listed, Listed)
        assert listed.names == (name_envelope(bytes(32), envelopes[4]),)
        for after in (5, 6, MAX_SEQ):
            listed = await reader.list_names(key, after, 9, self.SALT)
            assert isinstance(listed, Listed)
            assert (listed.first, listed.names) == (6, ())

    async def test_places_are_answered_in_their_order_as_far_as_they_fit(self, connect_any: Connect) -> None:
        reader, key, envelopes = await self.filled(connect_any, count=9, size=100_000)
        fetched = await reader.fetch(key, 1, 4, 6, 8, 9)
        assert isinstance(fetched, Fetched)
        assert 1 <= len(fetched.envelopes) < 5
        assert list(fetched.envelopes) == [envelopes[n - 1] for n in (1, 4, 6, 8, 9)][: len(fetched.envelopes)]
        fetched = await reader.fetch(key, 9, 10, MAX_SEQ)
        assert isinstance(fetched, Fetched)
        assert fetched.envelopes == (envelopes[8], None, None)

    async def test_the_greatest_envelope_is_fetched_alone(self, connect_any: Connect) -> None:
        reader, key, envelopes = await self.filled(connect_any, count=2, size=MAX_ENVELOPE_BYTES)
        fetched = await reader.fetch(key, 1, 2)
        assert isinstance(fetched, Fetched)
        assert fetched.envelopes == (envelopes[0],)

    @on_sockets
    async def test_a_topic_that_is_not_open_names_and_serves_nothing(self, connect_any: Connect) -> None:
        reader, key, _ = await self.filled(connect_any)
        for client, which in ((reader, make_key()), (await connect_any(), key)):
            for answer in (await client.list_names(which, 0, 1, self.SALT), await client.fetch(which, 1)):
                assert isinstance(answer, Error)
                assert answer.code is ErrorCode.NOT_OPEN

    async def test_what_is_left_of_a_sealed_topic_is_named_from_its_place(self, relay_any: AnyRelay) -> None:
        key = make_key()
        writer = await relay_any.connect()
        await writer.open(key)
        envelopes = [make_envelope() for _ in range(4)]
        await stored(writer, *envelopes, key=key, seal=True)
        await writer.close()
        await relay_any.age(91)
        reader = await relay_any.connect()
        opened = await reader.resume(key)
        assert (opened.last, opened.sealed) == (4, True)
        listed = await reader.list_names(key, 0, MAX_NAMES, self.SALT)
        assert isinstance(listed, Listed)
        assert (listed.first, listed.names) == (4, (name_envelope(self.SALT, envelopes[3]),))
        fetched = await reader.fetch(key, 1, 4)
        assert isinstance(fetched, Fetched)
        assert fetched.envelopes == (None, envelopes[3])

    async def test_puts_go_on_beside_it(self, connect_any: Connect) -> None:
        reader, key, envelopes = await self.filled(connect_any)
        assert await stored(reader, envelopes[1], make_envelope(), key=key) == (2, 6)


@on_sockets
class TestCasting:
    async def test_others_get_a_cast_and_nobody_keeps_it(self, connect_any: Connect) -> None:
        key = make_key()
        one, other = await connect_any(), await connect_any()
        await one.open(key)
        await other.open(key)
        await one.cast(key, b"typing")
        assert await other.next(CastReceived) == CastReceived(topic_of(key), b"typing")
        await other.cast(key, b"back")
        # The caster's own cast would have come before the answer.
        assert await one.next(CastReceived) == CastReceived(topic_of(key), b"back")
        opened, found = await (await connect_any()).open(key)
        assert (opened.last, found) == (0, [])

    async def test_a_cast_to_a_topic_that_is_not_open_is_refused(self, connect_any: Connect) -> None:
        client = await connect_any()
        await client.cast(make_key(), b"x")
        error = await client.next(Error)
        assert (error.request, error.code) == (None, ErrorCode.NOT_OPEN)


class TestClosing:
    @on_sockets
    async def test_a_closed_topic_sends_nothing_more(self, connect_any: Connect) -> None:
        key, kept = make_key(), make_key()
        one, other = await connect_any(), await connect_any()
        for client in (one, other):
            await client.open(key)
            await client.open(kept)
        await one.close_topic(key)
        assert (await refused(one, make_envelope(), key=key)).code is ErrorCode.NOT_OPEN
        await stored(other, make_envelope(), key=key)
        await stored(other, make_envelope(), key=kept)
        assert (await one.next(Entries)).topic == topic_of(kept)

    async def test_closing_what_is_not_open_does_nothing(self, connect_any: Connect) -> None:
        client = await connect_any()
        await client.close_topic(make_key())
        assert (await client.open(make_key()))[0].last == 0


@on_sockets
class TestMalformedFrames:
    @pytest.mark.parametrize(
        "raw",
        [
            b"",
            b"\xff",
            encode([]),
            encode([5, bytes(32)]),
            b"\xa1\x01\x02",
            encode([1]),
            encode([2, 1, bytes(32), [], False, None]),
            encode([2, 1, bytes(32), [bytes(295)], False, None]),
            encode([2, 1, bytes(32), [bytes(296)] * 65, False, None]),
            encode([2, 1, bytes(31), [bytes(296)], False, None]),
            encode([2, -1, bytes(32), [bytes(296)], False, None]),
            encode([2, 1, bytes(32), [bytes(296)], 0, None]),
            encode([3, bytes(32), bytes(4097)]),
            encode_frame(Close(topic_of(make_key(bytes(32))))) + b"\0",
            b"\x9f\x04\xff",
            b"\x82\x18\x04\x58\x20" + bytes(32),
        ],
        ids=lambda raw: raw[:8].hex() or "empty",
    )
    async def test_a_malformed_frame_ends_the_connection(self, connect_any: Connect, raw: bytes) -> None:
        client = await connect_any()
        await client.wire.send(raw)
        error = await client.next(Error)
        assert (error.request, error.code) == (None, ErrorCode.BAD_FRAME)
        await ends(client)

    async def test_frames_before_a_malformed_one_count_and_others_go_on(self, connect_any: Connect) -> None:
        key = make_key()
        bad, good = await connect_any(), await connect_any()
        await bad.open(key)
        await good.open(key)
        envelope = make_envelope()
        await bad.send(Put(9, topic_of(key), (envelope,)))
        await bad.wire.send(b"\0")
        await ends(bad)
        assert await good.entries(1) == [(1, envelope)]
        assert await stored(good, make_envelope(), key=key) == (2,)

    async def test_a_cast_frame_of_the_greatest_size_passes(self, connect_any: Connect) -> None:
        key = make_key()
        one, other = await connect_any(), await connect_any()
        await one.open(key)
        await other.open(key)
        await one.send(Cast(topic_of(key), bytes(4096)))
        assert len((await other.next(CastReceived)).payload) == 4096
