"""Sign, parse, verify: a run comes back whole or is refused, and a linked one is taken without its signature."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cocoon_core.errors import CocoonError, MalformedError, SignatureError, UpdateNeededError, UsageError
from cocoon_core.protocol.constants import MAX_CHANGE_DEPS
from cocoon_core.protocol.descriptor import Descriptor
from cocoon_core.protocol.encoding import decode, encode
from cocoon_core.protocol.entry import EntryKind, EntryMaker, require_known_kind
from cocoon_core.protocol.envelope import open_envelope, seal_envelope
from cocoon_core.protocol.ids import EntryId, GroupId
from cocoon_core.protocol.operations import RevokeInvite
from cocoon_core.protocol.primitives import hash_bytes
from cocoon_core.protocol.run import Run, accept_linked, parse_run, sign_run, verify_run
from tests.support.protocol_story import (
    ANA,
    CREATE,
    EPOCH,
    FEED,
    GROUP,
    LIST,
    Writer,
    device_keys,
    parsed,
)
from tests.vectors.chains import full_form

steps = st.lists(st.sampled_from(["feed", "list", "both", "operation", "sign"]), min_size=1, max_size=14)
EDITS: dict[str, tuple[Descriptor, ...]] = {"feed": (FEED,), "list": (LIST,), "both": (LIST, FEED)}


def runs_of(story: list[str]) -> list[Run]:
    """Signed runs of that story; a run ends at "sign", and every operation stands in one of its own."""
    writer, runs, unsigned = Writer(), [], 0
    for step in [*story, "sign"]:
        if step in EDITS:
            writer.edit(*EDITS[step])
            unsigned += 1
        elif step == "operation":
            if unsigned:
                runs.append(writer.run(unsigned))
            writer.operate(RevokeInvite(CREATE.topic))  # type: ignore[arg-type]
            runs.append(writer.run())
            unsigned = 0
        elif unsigned:
            runs.append(writer.run(unsigned))
            unsigned = 0
    return runs


@given(steps)
def test_what_is_signed_and_sealed_opens_parses_and_verifies_to_the_same(story: list[str]) -> None:
    for run in runs_of(story):
        arrived = parse_run(open_envelope(seal_envelope(run.wire, EPOCH), EPOCH), GROUP)
        assert verify_run(arrived) == run
        assert arrived.size == len(run.wire)
        assert [entry.id for entry in run.entries] == [arrived.id_at(entry.seq) for entry in run.entries]


@given(steps)
def test_ids_are_hashes_of_the_full_form(story: list[str]) -> None:
    for run in runs_of(story):
        for entry in verify_run(parsed(run)).entries:
            assert entry.id == hash_bytes("cocoon/v1/entry", full_form(entry))


@given(steps, st.data())
def test_any_changed_byte_is_refused(story: list[str], data: st.DataObject) -> None:
    runs = runs_of(story)
    if not runs:
        return
    wire = data.draw(st.sampled_from(runs)).wire
    place = data.draw(st.integers(0, len(wire) - 1))
    changed = wire[:place] + bytes((wire[place] ^ data.draw(st.integers(1, 255)),)) + wire[place + 1 :]
    with pytest.raises((MalformedError, SignatureError, UpdateNeededError)):
        verify_run(parse_run(changed, GROUP))


def test_every_byte_of_a_run_counts() -> None:
    wire = Writer().write_runs([2])[0].wire
    for place in range(len(wire)):
        for mask in (0x01, 0x20, 0x80):
            changed = wire[:place] + bytes((wire[place] ^ mask,)) + wire[place + 1 :]
            with pytest.raises((MalformedError, SignatureError, UpdateNeededError)):
                verify_run(parse_run(changed, GROUP))


def plain_fields(run: Run) -> list[Any]:
    fields: list[Any] = decode(run.wire)
    return fields


mutations: list[Callable[[Any], Any]] = [
    lambda value: True,
    lambda value: None,
    lambda value: 2**63 - 1,
    lambda value: -1,
    lambda value: b"",
    lambda value: "",
    lambda value: [],
    lambda value: {},
    lambda value: [value],
    lambda value: bytes(32),
    lambda value: value[::-1] if isinstance(value, bytes | list) else 0,
]


@given(steps, st.data())
def test_any_item_replaced_by_any_type_is_refused_by_name(story: list[str], data: st.DataObject) -> None:
    runs = runs_of(story)
    if not runs:
        return
    fields = plain_fields(data.draw(st.sampled_from(runs)))
    parent: Any = fields
    while True:
        place = data.draw(st.integers(0, len(parent) - 1))
        if not isinstance(parent[place], list) or not parent[place] or data.draw(st.booleans()):
            break
        parent = parent[place]
    parent[place] = data.draw(st.sampled_from(mutations))(parent[place])
    try:
        run = verify_run(parse_run(encode(fields), GROUP))
    except (MalformedError, SignatureError, UpdateNeededError):
        return
    assert run.wire in [other.wire for other in runs], "only what was signed verifies"


@given(steps)
def test_a_run_has_one_short_form(story: list[str]) -> None:
    for run in runs_of(story):
        again = sign_run(run.entries, run.descriptors.__getitem__, ANA.signing, run.heads_digest)
        assert again.wire == run.wire


def test_a_run_of_another_group_does_not_verify() -> None:
    run = Writer().write_runs([1])[0]
    with pytest.raises(SignatureError):
        verify_run(parse_run(run.wire, GroupId(b"\x09" * 32)))


def test_nothing_can_be_read_of_a_run_before_it_was_verified() -> None:
    run = parsed(Writer().write_runs([1])[0])
    assert not hasattr(run, "entries")
    assert "feed" not in repr(run)


# --- linked runs


def test_a_run_before_a_verified_one_is_taken_without_its_signature() -> None:
    first, second = Writer().write_runs([2, 3])
    assert accept_linked(parsed(first), verify_run(parsed(second))) == first


def test_a_run_inside_a_longer_one_is_linked() -> None:
    writer = Writer()
    for _ in range(4):
        writer.edit(FEED)
    longer = writer.run(4)
    shorter = sign_run(writer.entries[:2], writer.descriptors.__getitem__, ANA.signing, longer.heads_digest)
    assert accept_linked(parsed(shorter), longer).entries == shorter.entries


def test_a_run_that_is_not_linked_is_refused() -> None:
    writer, other = Writer(), Writer()
    first, second, third = writer.write_runs([1, 1, 1])
    other.edit(LIST)
    branch = other.run(1)
    for run, later in ((first, third), (branch, second), (second, first), (third, third)):
        with pytest.raises(SignatureError):
            accept_linked(parsed(run), later)


def test_another_device_cannot_link_a_run() -> None:
    first = Writer().write_runs([1])[0]
    ben = device_keys("ben")
    maker = EntryMaker(GROUP, ben.id, ())
    entry = maker.operation(1, first.last_id, 0, [2])
    later = sign_run([entry], dict[Any, Any]().__getitem__, ben.signing, first.heads_digest)
    assert later.entries[0].prev == first.last_id
    with pytest.raises(SignatureError):
        accept_linked(parsed(first), later)


# --- signing


def test_entries_that_do_not_follow_each_other_are_not_signed() -> None:
    writer = Writer()
    for _ in range(3):
        writer.edit(FEED)
    one, two, three = writer.entries
    heads = writer.heads.digest()

    def attempt(entries: list[Any], keys: Any = ANA) -> None:
        with pytest.raises(UsageError):
            sign_run(entries, writer.descriptors.__getitem__, keys.signing, heads)

    attempt([one, three])
    attempt([two, one])
    attempt([one, two], device_keys("ben"))
    attempt([one, two._replace(roster_heads=(EntryId(bytes(32)),))])
    attempt([one, two._replace(seq=7)])
    attempt([one, two._replace(changes=one.changes)])
    operation = EntryMaker(GROUP, ANA.id, ()).operation(0, None, 0, [0])
    attempt([operation, one._replace(seq=1, prev=operation.id)])
    attempt([one, EntryMaker(GROUP, ANA.id, ()).operation(1, one.id, 0, [0])])


def test_over_1024_entries_are_not_signed() -> None:
    writer = Writer()
    for _ in range(1025):
        writer.edit(FEED)
    with pytest.raises(UsageError):
        writer.run(1025)
    assert writer.run(1024).last_seq == 1024


@pytest.mark.parametrize("kind", [True, None, "0", -1, b""])
def test_a_kind_that_is_no_number_is_malformed(kind: Any) -> None:
    with pytest.raises(MalformedError):
        require_known_kind(kind)


@pytest.mark.parametrize("kind", [6, 2**63])
def test_a_kind_of_a_later_version_stops_the_group(kind: int) -> None:
    with pytest.raises(UpdateNeededError):
        require_known_kind(kind)
    assert require_known_kind(1) is EntryKind.ROSTER


def test_roster_heads_are_sorted_unique_and_few() -> None:
    heads = tuple(EntryId(bytes((n,)) * 32) for n in range(33))
    for bad in (heads, heads[1::-1], (heads[0], heads[0])):
        with pytest.raises(CocoonError):
            EntryMaker(GROUP, ANA.id, bad)


def test_a_run_is_frozen() -> None:
    run = Writer().write_runs([1])[0]
    with pytest.raises(dataclasses.FrozenInstanceError):
        run.signature = run.signature  # type: ignore[misc]


def test_a_change_names_a_bounded_number_of_dependencies() -> None:
    (run,) = runs_of(["feed"])
    fields = decode(run.wire)
    many = [number.to_bytes(32) for number in range(MAX_CHANGE_DEPS + 1)]
    fields[7][0][2][0][1] = many[1:]
    parse_run(encode(fields), GROUP)
    fields[7][0][2][0][1] = many
    with pytest.raises(MalformedError, match="too many dependencies"):
        parse_run(encode(fields), GROUP)
