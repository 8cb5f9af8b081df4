"""Vectors for specs/envelope.md §1 to §3: entries in full form, heads, runs in short form."""

from __future__ import annotations

from typing import Any

from cocoon_core.errors import MalformedError
from cocoon_core.protocol.change import split_change
from cocoon_core.protocol.constants import MAX_ROSTER_HEADS, MAX_SEQ, MAX_TIME_MS, VERSION
from cocoon_core.protocol.encoding import decode, encode
from cocoon_core.protocol.entry import Entry, EntryKind, EntryMaker
from cocoon_core.protocol.heads import DeviceHeads, advance_heads
from cocoon_core.protocol.ids import EntryId
from cocoon_core.protocol.run import Run, parse_run, verify_run
from tests.support.flips import flip
from tests.support.protocol_story import ANA, BEGIN_MS, CREATE, FEED, GROUP, LIST, TAILS, Writer, device_keys
from tests.vectors.values import Json, refused


def tell() -> tuple[Writer, list[Run]]:
    """The story: a create; three posts in one run; a shared document, then both documents in one entry."""
    writer = Writer()
    writer.operate(CREATE)
    runs = [writer.run(1)]
    for tail in TAILS:
        writer.edit(FEED, tail=tail)
    runs.append(writer.run(3))
    writer.edit(LIST)
    writer.edit(LIST, FEED)
    runs.append(writer.run(2))
    return writer, runs


def full_form(entry: Entry) -> bytes:
    """An entry's full form, written as the specification says it, not as the code does."""
    body: Any = entry.body
    if entry.kind is EntryKind.CHANGE:
        body = [[change.document, change.raw] for change in entry.changes]
    heads = list(entry.roster_heads)
    return encode(
        [VERSION, entry.group, entry.device, entry.seq, entry.prev or b"", heads, entry.time_ms, int(entry.kind), body]
    )


def make_entry() -> Json:
    """Entries in full form with their ids, raw changes in short form, and entries that cannot be."""
    writer, _ = tell()
    maker = EntryMaker(GROUP, ANA.id, ())
    first = writer.entries[0].id
    cases = [
        ("seq 0 with a previous entry", "prev is empty at seq 0 and only there", 0, first, 0),
        ("seq 1 without a previous entry", "prev is empty at seq 0 and only there", 1, None, 0),
        ("a negative seq", "seq counts from 0", -1, first, 0),
        ("a seq of 2^53", "a seq is at most 2^53 - 1", MAX_SEQ + 1, first, 0),
        ("a time before 1970", "a time is not negative", 1, first, -1),
        ("a time of 2^53 ms", "a time is at most 2^53 - 1", 1, first, MAX_TIME_MS + 1),
    ]
    rising = tuple(EntryId(bytes((n,)) * 32) for n in range(MAX_ROSTER_HEADS + 1))
    bad = [
        refused(
            name,
            reason,
            {"seq": seq, "prev": (prev or b"").hex(), "time_ms": time_ms, "roster_heads": []},
            maker.operation,
            seq,
            prev,
            time_ms,
            [],
        )
        for name, reason, seq, prev, time_ms in cases
    ] + [
        refused(
            name,
            reason,
            {"seq": 0, "prev": "", "time_ms": 0, "roster_heads": [head.hex() for head in heads]},
            EntryMaker,
            GROUP,
            ANA.id,
            heads,
        )
        for name, reason, heads in (
            ("33 roster heads", "at most 32", rising),
            ("roster heads out of order", "they are sorted", (rising[1], rising[0])),
            ("a roster head twice", "they are unique", (rising[0], rising[0])),
        )
    ]
    return {
        "group_id": GROUP.hex(),
        "device_id": ANA.id.hex(),
        "good": [_shown_entry(entry) for entry in writer.entries],
        "bad": bad,
        "changes": [_shown_change(change.raw) for entry in writer.entries[1:4] for change in entry.changes],
        "bad_changes": _bad_changes(writer.entries[2].changes[0].raw),
    }


def _shown_entry(entry: Entry) -> Json:
    return {
        "seq": entry.seq,
        "prev": (entry.prev or b"").hex(),
        "roster_heads": [head.hex() for head in entry.roster_heads],
        "time_ms": entry.time_ms,
        "kind": int(entry.kind),
        "body": encode(entry.body if entry.body is not None else [[c.document, c.raw] for c in entry.changes]).hex(),
        "full": full_form(entry).hex(),
        "entry_id": entry.id.hex(),
    }


def _shown_change(raw: bytes) -> Json:
    deps, actor, tail = split_change(raw)
    return {"raw": raw.hex(), "dependencies": [dep.hex() for dep in deps], "actor": actor.hex(), "tail": tail.hex()}


def _bad_changes(raw: bytes) -> list[Json]:
    cases = [
        ("another magic", "a change begins with 85 6f 4a 83", flip(raw, 0)),
        ("a wrong checksum", "the checksum is the beginning of the hash", flip(raw, 4)),
        ("a compressed chunk", "only chunk type 1", raw[:8] + b"\x02" + raw[9:]),
        ("a document chunk", "only chunk type 1", raw[:8] + b"\x00" + raw[9:]),
        ("a byte more", "a change fills its bytes", raw + b"\0"),
        ("a byte less", "a change fills its bytes", raw[:-1]),
        ("eleven bytes", "too short for a header", raw[:11]),
    ]
    return [refused(name, reason, {"raw": data.hex()}, split_change, data) for name, reason, data in cases]


def make_run() -> Json:
    """Runs in short form with all that they stand for; runs that are refused, and in which step."""
    _, runs = tell()
    heads = DeviceHeads()
    shown = []
    for run in runs:
        for entry in run.entries:
            advance_heads(heads, entry.changes)
        shown.append(_shown_run(run, heads))
    return {"group_id": GROUP.hex(), "good": shown, "bad": _malformed_runs(runs) + _unsigned_runs(runs)}


def _shown_run(run: Run, heads: DeviceHeads) -> Json:
    return {
        "wire": run.wire.hex(),
        "entry_ids": [entry.id.hex() for entry in run.entries],
        "full": [full_form(entry).hex() for entry in run.entries],
        "documents": [document.hex() for document in run.descriptors],
        "heads": [
            {"document": document.hex(), "seq": seq, "hash": change.hex()}
            for document, seq, change in sorted(heads.items())
        ],
        "heads_digest": run.heads_digest.hex(),
        "signed": (run.last_id + run.heads_digest).hex(),
        "signature": run.signature.hex(),
    }


_DEVICE, _SEQ, _PREV, _HEADS, _DESCRIPTORS, _TIME, _ENTRIES, _DIGEST, _SIGNATURE = range(1, 10)


def _malformed_runs(runs: list[Run]) -> list[Json]:
    posts, mixed = decode(runs[1].wire), decode(runs[2].wire)

    def edited(fields: list[Any], *changes: tuple[int, Any]) -> bytes:
        copy = list(fields)
        for place, value in changes:
            copy[place] = value
        return encode(copy)

    def with_entry(fields: list[Any], place: int, entry: Any) -> bytes:
        entries = list(fields[_ENTRIES])
        entries[place] = entry
        return edited(fields, (_ENTRIES, entries))

    first = posts[_ENTRIES][0]
    change = first[2][0]
    hash_of_first = runs[1].entries[0].changes[0].hash
    operation = decode(runs[0].wire)[_ENTRIES][0]
    second = posts[_ENTRIES][1]
    cases: list[tuple[str, str, bytes]] = [
        ("not an array", "a run is an array of ten fields", encode({})),
        ("an empty array", "a run begins with its version", encode([])),
        ("version true", "true is not a number", edited(posts, (0, True))),
        ("version 0", "there is no version 0", edited(posts, (0, 0))),
        ("version 2", "a later version stops the group", edited(posts, (0, 2))),
        ("nine fields", "a run is an array of ten fields", encode(posts[:-1])),
        ("eleven fields", "a run is an array of ten fields", encode([*posts, 0])),
        ("a device id of 31 bytes", "an id has its length", edited(posts, (_DEVICE, bytes(31)))),
        ("a seq that is true", "true is not a number", edited(posts, (_SEQ, True))),
        ("a negative seq", "seq counts from 0", edited(posts, (_SEQ, -1))),
        ("seq 0 with a previous entry", "prev is empty at seq 0 and only there", edited(posts, (_SEQ, 0))),
        ("no previous entry at seq 1", "prev is empty at seq 0 and only there", edited(posts, (_PREV, b""))),
        ("a seq that passes 2^53 - 1 within the run", "a seq is at most 2^53 - 1", edited(posts, (_SEQ, MAX_SEQ - 1))),
        ("roster heads out of order", "sorted", edited(posts, (_HEADS, [b"\x02" * 32, b"\x01" * 32]))),
        ("a roster head twice", "unique", edited(posts, (_HEADS, [b"\x02" * 32] * 2))),
        ("33 roster heads", "at most 32", edited(posts, (_HEADS, [bytes((n,)) * 32 for n in range(33)]))),
        ("no entries", "one entry at least", edited(posts, (_ENTRIES, []), (_DESCRIPTORS, []))),
        ("1,025 entries", "at most 1,024", edited(posts, (_ENTRIES, [first] * 1025))),
        ("a descriptor twice", "each document once", edited(posts, (_DESCRIPTORS, posts[_DESCRIPTORS] * 2))),
        (
            "a descriptor that no entry uses",
            "only what is used",
            edited(posts, (_DESCRIPTORS, [*posts[_DESCRIPTORS], LIST.to_value()])),
        ),
        ("no descriptor", "every document has one", edited(posts, (_DESCRIPTORS, []))),
        (
            "descriptors not in order of first use",
            "one short form",
            edited(
                mixed,
                (_DESCRIPTORS, mixed[_DESCRIPTORS][::-1]),
                (_ENTRIES, [[0, 0, [[1, *mixed[_ENTRIES][0][2][0][1:]]]], mixed[_ENTRIES][1]]),
            ),
        ),
        (
            "a descriptor of kind false",
            "false is not a number",
            edited(posts, (_DESCRIPTORS, [[False, *posts[_DESCRIPTORS][0][1:]]])),
        ),
        (
            "a time that is not its first entry's",
            "the first entry's time is the run's",
            with_entry(posts, 0, [1, *first[1:]]),
        ),
        (
            "a time before 1970 after adding",
            "a time is not negative",
            with_entry(posts, 1, [-BEGIN_MS - 10_000, *second[1:]]),
        ),
        ("an entry of two fields", "three fields", with_entry(posts, 0, first[:2])),
        ("a kind that is true", "true is not a number", with_entry(posts, 0, [0, True, first[2]])),
        ("kind 2", "a kind of a later version stops the group", with_entry(posts, 0, [0, 2, first[2]])),
        ("no change", "one change at least", with_entry(posts, 0, [0, 0, []])),
        (
            "an operation that is not the last",
            "an operation ends its run",
            edited(posts, (_ENTRIES, [operation, *posts[_ENTRIES]])),
        ),
        ("a change of two fields", "three fields", with_entry(posts, 0, [0, 0, [change[:2]]])),
        ("a change in document 1 of 1", "places count from 0", with_entry(posts, 0, [0, 0, [[1, *change[1:]]]])),
        ("a change in document false", "false is not a number", with_entry(posts, 0, [0, 0, [[False, *change[1:]]]])),
        ("a dependency of 31 bytes", "32 bytes", with_entry(posts, 0, [0, 0, [[0, [bytes(31)], change[2]]]])),
        (
            "a dependency on a later change",
            "numbers name earlier changes",
            with_entry(posts, 0, [0, 0, [[0, [0], change[2]]]]),
        ),
        (
            "a dependency given by hash though it is in the run",
            "one short form",
            with_entry(posts, 1, [second[0], 0, [[0, [hash_of_first], second[2][0][2]]]]),
        ),
        ("a change twice", "its number would not be unique", with_entry(posts, 1, [second[0], 0, first[2]])),
        ("a heads digest of 33 bytes", "32 bytes", edited(posts, (_DIGEST, bytes(33)))),
        ("a signature of 63 bytes", "64 bytes", edited(posts, (_SIGNATURE, bytes(63)))),
        ("a byte after the run", "one value", runs[1].wire + b"\0"),
        ("not the shortest head", "one encoding", runs[1].wire[:1] + b"\x18\x01" + runs[1].wire[2:]),
    ]
    return [
        refused(
            name,
            reason,
            {"step": "parse", "wire": wire.hex() if len(wire) < 8192 else None, **_repeated(wire, posts)},
            parse_run,
            wire,
            GROUP,
        )
        for name, reason, wire in cases
    ]


def _repeated(wire: bytes, posts: list[Any]) -> Json:
    """A run too long to print is told by what it is made of."""
    if len(wire) < 8192:
        return {}
    return {"repeat_first_entry": 1025, "of": encode(posts).hex()}


def _unsigned_runs(runs: list[Run]) -> list[Json]:
    posts = decode(runs[1].wire)
    ben = device_keys("ben")

    def edited(place: int, value: Any) -> bytes:
        copy = list(posts)
        copy[place] = value
        return encode(copy)

    shorter = [*posts[_ENTRIES][:2]]
    cases = [
        ("a flipped bit in the signature", "changed", edited(_SIGNATURE, flip(posts[_SIGNATURE], 5)), GROUP),
        ("another heads digest", "the digest is signed", edited(_DIGEST, flip(posts[_DIGEST], 0)), GROUP),
        ("another device's id", "the device is part of every entry", edited(_DEVICE, bytes(ben.id)), GROUP),
        ("another time", "the time is part of the entry", edited(_TIME, posts[_TIME] + 1), GROUP),
        ("other roster heads", "they are part of the entry", edited(_HEADS, [b"\x07" * 32]), GROUP),
        ("the last entry left out", "the signature is over the last id", edited(_ENTRIES, shorter), GROUP),
        ("read as another group's", "the group is part of the entry", runs[1].wire, type(GROUP)(b"\x09" * 32)),
    ]
    shown = []
    for name, reason, wire, group in cases:
        try:
            parse_run(wire, group)
        except MalformedError as error:  # a case of another step must not stand here
            raise AssertionError(name) from error
        shown.append(
            refused(
                name,
                reason,
                {"step": "verify", "wire": wire.hex(), "group_id": group.hex()},
                verify_run,
                parse_run(wire, group),
            )
        )
    return shown
