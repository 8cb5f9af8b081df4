"""Documents of a made-up group, random edits on them, and schedules of delivery between several devices."""

from __future__ import annotations

import random
from typing import Any

from cocoon_core.documents import AdmittedChange, Document, Gate, MissingDependencyError, Text, encode_schema_change
from cocoon_core.documents.columns import encode_uint
from cocoon_core.documents.proxies import ListEdit, MapEdit, TextEdit, container_kind
from cocoon_core.protocol.descriptor import Descriptor, DocumentKind, actor_of
from cocoon_core.protocol.ids import DeviceId, GroupId, MemberId

GROUP = GroupId(b"\x01" * 32)
ANA = MemberId(b"\x0a" * 32)
BEN = MemberId(b"\x0b" * 32)
OWNED = Descriptor(DocumentKind.OWNED, "posts", member=ANA)
SHARED = Descriptor(DocumentKind.SHARED, "list", schema=(("items", "map"), ("lines", "list"), ("notes", "text")))
ADMIN = Descriptor(DocumentKind.ADMIN, "group", schema=(("profile", "map"),))

Signed = tuple[bytes, DeviceId]  # a raw change and the device that signs it


def device(number: int) -> DeviceId:
    return DeviceId(bytes([number]) * 32)


def new_document(descriptor: Descriptor, number: int) -> Document:
    """The document as device `number` begins it."""
    document_id = descriptor.document_id(GROUP)
    return Document(descriptor, document_id, actor_of(device(number), document_id))


def new_gate(descriptor: Descriptor, changes: list[Signed] | None = None, gate: Gate | None = None) -> Gate:
    """A gate that has admitted these changes, in this order."""
    gate = gate or Gate(descriptor, descriptor.document_id(GROUP))
    for raw, signer in changes or []:
        gate.admit(raw, signer, ANA)
    return gate


def edit(document: Document, **values: Any) -> bytes:
    """Make one edit that sets root keys, and give its raw change."""
    begun = document.change()
    with begun as root:
        root.update(values)
    assert begun.change is not None
    return begun.change.raw


def first_changes(descriptor: Descriptor) -> list[bytes]:
    if descriptor.kind is DocumentKind.OWNED:
        return []
    return [encode_schema_change(descriptor.schema, descriptor.document_id(GROUP))]


def sync_message(raws: list[bytes]) -> bytes:
    """automerge's own sync message with these changes and nothing else."""
    return b"\x42\0\0\0" + encode_uint(len(raws)) + b"".join(encode_uint(len(raw)) + raw for raw in raws)


def random_text(rng: random.Random) -> str:
    return "".join(rng.choice("abé😀x ") for _ in range(rng.randrange(1, 6)))


def random_value(rng: random.Random, depth: int = 0) -> Any:
    match rng.randrange(11 if depth < 3 else 8):
        case 0:
            return rng.randrange(-70, 70)
        case 1:
            return rng.randrange(-(2**63), 2**63)
        case 2:
            return rng.random() * 10.0 ** rng.randrange(-300, 300)
        case 3 | 4:
            return rng.choice((True, False))
        case 5:
            return None
        case 6:
            return random_text(rng)
        case 7:
            return rng.randbytes(rng.randrange(4))
        case 8:
            return {random_text(rng): random_value(rng, depth + 1) for _ in range(rng.randrange(3))}
        case 9:
            return [random_value(rng, depth + 1) for _ in range(rng.randrange(4))]
        case _:
            return Text(random_text(rng))


def random_edit(rng: random.Random, root: MapEdit) -> None:
    """A few writes anywhere in the document, as a program could make them."""
    declared = root._draft.declared
    for _ in range(rng.randrange(1, 6)):
        place: Any = root[rng.choice(sorted(root))] if declared is not None else root
        while True:
            inner = [item for item in _items(place) if isinstance(item, (MapEdit, ListEdit, TextEdit))]
            if not inner or rng.random() < 0.4:
                break
            place = rng.choice(inner)
        if isinstance(place, MapEdit):
            _edit_map(rng, place, is_root=place is root)
        elif isinstance(place, ListEdit):
            _edit_list(rng, place)
        else:
            _edit_text(rng, place)


def _items(place: Any) -> list[Any]:
    if isinstance(place, MapEdit):
        return list(place.values())
    return list(place) if isinstance(place, ListEdit) else []


def _edit_map(rng: random.Random, place: MapEdit, is_root: bool) -> None:
    keys = list(place)
    if keys and rng.random() < 0.25:
        del place[rng.choice(keys)]
        return
    if is_root and rng.random() < 0.3:
        place[f"post:{rng.getrandbits(64):016x}"] = {"text": random_text(rng), "at": rng.getrandbits(40), "re": None}
        return
    key, value = rng.choice("abcdefgh"), random_value(rng)
    if is_root and key in place and container_kind(value) is not None:
        del place[key]
    place[key] = value


def _edit_list(rng: random.Random, place: ListEdit) -> None:
    length = len(place)
    if length and rng.random() < 0.25:
        del place[rng.randrange(length)]
    elif length and rng.random() < 0.3:
        place[rng.randrange(length)] = random_value(rng)
    else:
        place.insert(rng.randrange(length + 1), random_value(rng))


def _edit_text(rng: random.Random, place: TextEdit) -> None:
    length = len(place)
    if length and rng.random() < 0.3:
        start = rng.randrange(length)
        place.delete(start, rng.randrange(1, min(3, length - start) + 1))
    else:
        place.insert(rng.randrange(length + 1), random_text(rng))


def deliver(document: Document, changes: list[Signed], own: DeviceId) -> list[Signed]:
    """Receive and merge what can be, in the order given; what still waits for others is given back."""
    received: list[AdmittedChange] = []
    waiting: list[Signed] = []
    for raw, signer in changes:
        if signer == own:
            continue
        try:
            received.append(document.receive(raw, signer, ANA))
        except MissingDependencyError:
            waiting.append((raw, signer))
    document.merge(received)
    return waiting


def deliver_all(document: Document, changes: list[Signed], own: DeviceId) -> None:
    """Deliver until nothing waits."""
    while changes:
        waiting = deliver(document, changes, own)
        assert len(waiting) < len(changes)
        changes = waiting


def random_session(
    seed: int, steps: int = 20, devices: int | None = None
) -> tuple[Descriptor, list[Document], list[Signed]]:
    """Some devices that edit one document while changes reach them late, in parts and out of order.

    Returns the descriptor, each device's document, and all changes in the order in which they were made.
    """
    rng = random.Random(seed)
    descriptor = OWNED if seed % 2 else SHARED
    count = devices or rng.randrange(1, 4)
    documents = [new_document(descriptor, number + 1) for number in range(count)]
    made: list[Signed] = []
    for _ in range(steps):
        number = rng.randrange(count)
        if rng.random() < 0.65:
            begun = documents[number].change()
            with begun as root:
                random_edit(rng, root)
            if begun.change is not None:
                made.append((begun.change.raw, device(number + 1)))
        else:
            some = rng.sample(made, rng.randrange(len(made) + 1))
            deliver(documents[number], some, device(number + 1))
    return descriptor, documents, made
