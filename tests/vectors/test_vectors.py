"""The vectors are those that the code makes, and the code agrees with the vectors, read from their files as a stranger
would: forwards from the inputs, backwards from the outputs, and every negative case fails as it is said to.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import cbor2
import pytest

from cocoon_core import errors
from cocoon_core.protocol import constants
from cocoon_core.protocol.change import join_change, split_change
from cocoon_core.protocol.descriptor import Descriptor, DocumentKind, actor_of, descriptor_from_value
from cocoon_core.protocol.device import DeviceKeys
from cocoon_core.protocol.encoding import decode, encode
from cocoon_core.protocol.entry import EntryMaker
from cocoon_core.protocol.envelope import envelope_hash, open_envelope, pad, padded_size, seal_envelope, unpad
from cocoon_core.protocol.epoch import Epoch, unwrap_epoch
from cocoon_core.protocol.frames import (
    blob_message,
    decode_client_frame,
    decode_relay_frame,
    encode_frame,
    name_envelope,
    open_message,
)
from cocoon_core.protocol.heads import DeviceHeads, advance_heads
from cocoon_core.protocol.ids import (
    ActorId,
    DeviceId,
    DocumentId,
    EntryId,
    GroupId,
    HpkePublicKey,
    InviteId,
    MemberId,
    TopicId,
)
from cocoon_core.protocol.invite import (
    InviteKeys,
    Link,
    encode_request,
    mailbox_keys,
    open_welcome,
    read_link,
    read_request,
    write_link,
)
from cocoon_core.protocol.operations import Create, Invite, Join, decode_operation, member_id_of
from cocoon_core.protocol.operations_admission import request_id
from cocoon_core.protocol.primitives import (
    HpkeKey,
    Secret,
    SigningKey,
    hash_bytes,
    keyed_hash,
    open_bulk,
    open_sealed,
    require_good_hpke_key,
    require_good_signing_key,
    seal,
    seal_bulk,
    verify,
)
from cocoon_core.protocol.requests import digest_body, get_message, join_frames, post_message, split_frames
from cocoon_core.protocol.run import parse_run, verify_run
from tests.vectors.generate import DIRECTORY, FILES, vector_file

Case = dict[str, Any]


def read(name: str) -> Case:
    value: Case = json.loads((DIRECTORY / f"{name}.json").read_text("utf-8"))
    return value


def unhex(text: str) -> bytes:
    return bytes.fromhex(text)


def secret(text: str) -> Secret:
    return Secret(unhex(text))


def require_refused(cases: list[Case], attempt: Callable[[Case], object]) -> None:
    """Every one of these fails with exactly the error class that it names."""
    assert cases
    for case in cases:
        with pytest.raises(errors.CocoonError) as caught:
            attempt(case)
        assert type(caught.value).__name__ == case["error"], case["name"]


# --- the files themselves


@pytest.mark.parametrize("name", FILES)
def test_the_file_is_what_the_generator_writes(name: str) -> None:
    assert (DIRECTORY / f"{name}.json").read_bytes() == vector_file(name)


def test_there_is_no_file_that_the_generator_does_not_write() -> None:
    assert {path.stem for path in DIRECTORY.glob("*.json")} == set(FILES)


def test_every_negative_case_names_an_error_of_the_tree_and_a_reason() -> None:
    for name in FILES:
        for key, cases in read(name).items():
            for case in cases if key.startswith("bad") else []:
                assert issubclass(getattr(errors, case["error"]), errors.CocoonError)
                assert case["reason"]
                assert case["name"]


# --- encoding


def from_shown(value: Any) -> Any:
    if isinstance(value, dict):
        if "bytes" in value:
            return unhex(value["bytes"])
        return {from_shown(key): from_shown(item) for key, item in value["map"]}
    return [from_shown(item) for item in value] if isinstance(value, list) else value


def test_encoding() -> None:
    for case in read("encoding")["good"]:
        value = from_shown(case["value"])
        assert encode(value).hex() == case["cbor"], case["name"]
        decoded = decode(unhex(case["cbor"]))
        assert decoded == value, case["name"]
        assert type(decoded) is type(value), case["name"]
        assert cbor2.loads(unhex(case["cbor"])) == value, "another reader of CBOR sees the same"
    require_refused(read("encoding")["bad"], lambda case: decode(unhex(case["cbor"])))


# --- primitives


def test_hashes() -> None:
    cases = read("primitives")["hash"]
    assert [case["label"] for case in cases] == sorted(
        value for name, value in vars(constants).items() if name.startswith("LABEL_")
    )
    for case in cases:
        label, data, key = case["label"], unhex(case["data"]), unhex(case["key"])
        person = hashlib.blake2b(label.encode(), digest_size=16).digest()
        assert person.hex() == case["person"]
        assert hashlib.blake2b(data, digest_size=32, person=person).hexdigest() == case["hash_32"]
        assert hash_bytes(label, data).hex() == case["hash_32"]
        assert hash_bytes(label, data, 16).hex() == case["hash_16"]
        assert keyed_hash(key, label, data).hex() == case["keyed_hash_32"]


def test_signatures() -> None:
    vectors = read("primitives")
    case = vectors["signing"]
    key = SigningKey(secret(case["seed"]))
    assert key.public.hex() == case["public"]
    assert key.sign(case["label"], unhex(case["message"])).hex() == case["signature"]
    assert unhex(case["signed"]) == case["label"].encode() + b"\0" + unhex(case["message"])
    verify(unhex(case["public"]), case["label"], unhex(case["message"]), unhex(case["signature"]))
    for case in vectors["signing_keys"]:
        assert SigningKey(secret(case["seed"])).public.hex() == case["public"], case["origin"]
        require_good_signing_key(unhex(case["public"]))
    require_refused(
        vectors["bad_signatures"],
        lambda case: verify(unhex(case["public"]), case["label"], unhex(case["message"]), unhex(case["signature"])),
    )
    require_refused(vectors["bad_signing_keys"], lambda case: require_good_signing_key(unhex(case["public"])))


# Copied from the documents that the vectors name, not from the files.
XCHACHA_DRAFT = (
    "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c216"
    "cb96b72e1213b4522f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff921f9664c97637da9768812f615c68b13"
    "b52ec0875924c1c7987947deafd8780acf49"
)
RFC_8439 = (
    "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d63dbea45e8ca9671282fafb69da92728b1a71de0a9e060b29"
    "05d6a5b67ecd3b3692ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc3ff4def08e4b7a9de576d26586cec64b"
    "61161ae10b594f09e26a7e902ecbd0600691"
)


def test_sealing() -> None:
    vectors = read("primitives")
    for name, shut, unshut, published in (
        ("xchacha20poly1305", seal, open_sealed, XCHACHA_DRAFT),
        ("chacha20poly1305", seal_bulk, open_bulk, RFC_8439),
    ):
        case = vectors[name]
        key, nonce, ad = secret(case["key"]), unhex(case["nonce"]), unhex(case["ad"])
        assert shut(key, nonce, unhex(case["plaintext"]), ad).hex() == case["ciphertext"] == published
        assert unshut(key, nonce, unhex(case["ciphertext"]), ad).hex() == case["plaintext"]
    key = secret(vectors["xchacha20poly1305"]["key"])

    def attempt(case: Case) -> bytes:
        unshut = open_sealed if len(case["nonce"]) == 48 else open_bulk
        return unshut(key, unhex(case["nonce"]), unhex(case["ciphertext"]), unhex(case["ad"]))

    require_refused(vectors["bad_ciphertexts"], attempt)


def test_hpke_keys() -> None:
    require_refused(
        read("primitives")["bad_hpke_keys"], lambda case: require_good_hpke_key(HpkePublicKey(unhex(case["public"])))
    )


# --- identity


def test_identity() -> None:
    vectors = read("identity")
    device = vectors["device"]
    keys = DeviceKeys(secret(device["signing_seed"]), secret(device["hpke_seed"]))
    assert (keys.id.hex(), keys.hpke_public.hex()) == (device["device_id"], device["hpke_public"])
    seed = unhex(device["hpke_seed"])
    assert keyed_hash(seed, "cocoon/v1/hpke-mlkem", b"", 64).hex() == device["mlkem_seed"]
    assert keyed_hash(seed, "cocoon/v1/hpke-x25519", b"").hex() == device["x25519_private"]
    require_good_signing_key(keys.id)
    require_good_hpke_key(keys.hpke_public)
    member = vectors["member"]
    group = GroupId(unhex(member["group_id"]))
    assert member_id_of(group, DeviceId(unhex(member["first_device_id"]))).hex() == member["member_id"]
    document = vectors["document"]
    descriptor = Descriptor(DocumentKind.OWNED, document["name"], MemberId(unhex(document["member_id"])))
    assert descriptor_from_value(decode(unhex(document["descriptor_cbor"]))) == descriptor
    assert descriptor.document_id(group).hex() == document["document_id"]
    assert hash_bytes("cocoon/v1/document", group + unhex(document["descriptor_cbor"])).hex() == document["document_id"]
    actor = vectors["actor"]
    named = DeviceId(unhex(actor["device_id"])), DocumentId(unhex(actor["document_id"]))
    assert actor_of(*named).hex() == actor["actor_id"]


# --- entry and run


def test_entries() -> None:
    vectors = read("entry")
    group, device = GroupId(unhex(vectors["group_id"])), DeviceId(unhex(vectors["device_id"]))
    for case in vectors["good"]:
        full = decode(unhex(case["full"]))
        assert full == [
            1,
            group,
            device,
            case["seq"],
            unhex(case["prev"]),
            [unhex(head) for head in case["roster_heads"]],
            case["time_ms"],
            case["kind"],
            decode(unhex(case["body"])),
        ]
        assert hash_bytes("cocoon/v1/entry", unhex(case["full"])).hex() == case["entry_id"]

    def attempt(case: Case) -> object:
        heads = tuple(EntryId(unhex(head)) for head in case["roster_heads"])
        prev = EntryId(unhex(case["prev"])) if case["prev"] else None
        return EntryMaker(group, device, heads).operation(case["seq"], prev, case["time_ms"], [])

    require_refused(vectors["bad"], attempt)


def test_changes_in_short_form() -> None:
    vectors = read("entry")
    for case in vectors["changes"]:
        deps, actor, tail = split_change(unhex(case["raw"]))
        assert [dep.hex() for dep in deps] == case["dependencies"]
        assert (actor.hex(), tail.hex()) == (case["actor"], case["tail"])
        assert join_change(deps, ActorId(actor), tail).raw.hex() == case["raw"]
    require_refused(vectors["bad_changes"], lambda case: split_change(unhex(case["raw"])))


def test_runs() -> None:
    vectors = read("run")
    group = GroupId(unhex(vectors["group_id"]))
    heads = DeviceHeads()
    for case in vectors["good"]:
        run = verify_run(parse_run(unhex(case["wire"]), group))
        assert [entry.id.hex() for entry in run.entries] == case["entry_ids"]
        assert [hash_bytes("cocoon/v1/entry", unhex(full)).hex() for full in case["full"]] == case["entry_ids"]
        assert [document.hex() for document in run.descriptors] == case["documents"]
        for entry in run.entries:
            advance_heads(heads, entry.changes)
        shown = [
            {"document": document.hex(), "seq": seq, "hash": change.hex()}
            for document, seq, change in sorted(heads.items())
        ]
        assert shown == case["heads"]
        assert heads.digest().hex() == heads_digest_by_the_book(case["heads"]) == case["heads_digest"]
        assert run.signature.hex() == case["signature"]
        assert unhex(case["signed"]) == run.last_id + run.heads_digest
        verify(run.device, "cocoon/v1/run", unhex(case["signed"]), unhex(case["signature"]))


def heads_digest_by_the_book(heads: list[Case]) -> str:
    """The digest as the specification says it, without the code's shortcuts."""
    buckets: dict[int, list[list[Any]]] = {}
    for head in heads:
        document = unhex(head["document"])
        place = hash_bytes("cocoon/v1/heads-place", document, 1)[0]
        buckets.setdefault(place, []).append([document, head["seq"], unhex(head["hash"])])
    digests = [
        hash_bytes("cocoon/v1/heads-bucket", encode(sorted(buckets[place]))) if place in buckets else bytes(32)
        for place in range(256)
    ]
    return hash_bytes("cocoon/v1/heads", b"".join(digests)).hex()


def test_runs_that_are_refused() -> None:
    vectors = read("run")
    group = GroupId(unhex(vectors["group_id"]))

    def wire(case: Case) -> bytes:
        if case["wire"] is not None:
            return unhex(case["wire"])
        fields = decode(unhex(case["of"]))
        return encode([*fields[:7], fields[7][:1] * case["repeat_first_entry"], *fields[8:]])

    malformed = [case for case in vectors["bad"] if case["step"] == "parse"]
    require_refused(malformed, lambda case: parse_run(wire(case), group))
    unsigned = [case for case in vectors["bad"] if case["step"] == "verify"]
    parsed = [parse_run(unhex(case["wire"]), GroupId(unhex(case["group_id"]))) for case in unsigned]
    assert len(parsed) == len(unsigned), "each of these parses, and fails only at its signature"
    require_refused(unsigned, lambda case: verify_run(parse_run(wire(case), GroupId(unhex(case["group_id"])))))


# --- envelope, epoch, invite


def test_padding() -> None:
    vectors = read("padding")
    for case in vectors["sizes"]:
        assert padded_size(case["value_bytes"]) == case["padded_bytes"]
        assert len(pad(bytes(case["value_bytes"]))) == case["padded_bytes"]
    for case in vectors["good"]:
        assert pad(unhex(case["value"])).hex() == case["padded"]
        assert unpad(unhex(case["padded"])).hex() == case["value"]
    require_refused(vectors["bad"], lambda case: unpad(unhex(case["padded"])))


def test_envelopes() -> None:
    vectors = read("envelope")
    epoch = Epoch(secret(vectors["epoch_secret"]))
    assert epoch.topic.hex() == vectors["topic"]
    for case in vectors["good"]:
        value, sealed = unhex(case["value"]), unhex(case["envelope"])
        assert seal_envelope(value, epoch) == sealed
        assert open_envelope(sealed, epoch) == value
        assert len(sealed) == case["padded_bytes"] + 40
        assert keyed_hash(epoch.nonce_key.reveal(), "cocoon/v1/envelope-nonce", pad(value), 24).hex() == case["nonce"]
        assert open_sealed(epoch.seal_key, sealed[:24], sealed[24:], unhex(case["ad"])) == pad(value)
        assert envelope_hash(sealed).hex() == case["envelope_hash"]

    def attempt(case: Case) -> object:
        return open_envelope(bytes(case["zeros"]) if case["envelope"] is None else unhex(case["envelope"]), epoch)

    require_refused(vectors["bad"], attempt)


def test_epochs() -> None:
    vectors = read("epoch")
    raw = unhex(vectors["secret"])
    epoch = Epoch(Secret(raw))
    derived = {name: keyed_hash(raw, f"cocoon/v1/epoch-{name}", b"") for name in ("seal", "nonce", "cast", "repair")}
    assert derived["seal"] == epoch.seal_key.reveal() == unhex(vectors["seal_key"])
    assert derived["nonce"] == epoch.nonce_key.reveal() == unhex(vectors["nonce_key"])
    assert derived["cast"] == epoch.cast_key.reveal() == unhex(vectors["cast_key"])
    assert derived["repair"] == epoch.repair_secret.reveal() == unhex(vectors["repair_secret"])
    topic = SigningKey(Secret(keyed_hash(raw, "cocoon/v1/epoch-topic", b""))).public
    assert topic == epoch.topic == unhex(vectors["topic"])
    case = vectors["wrap"]
    opened = unwrap_epoch(
        unhex(case["wrapped"]), HpkeKey(secret(case["hpke_seed"])), GroupId(unhex(case["group_id"])), epoch.topic
    )
    assert opened.secret == epoch.secret
    assert HpkeKey(secret(case["hpke_seed"])).open(unhex(case["wrapped"]), unhex(case["info"])) == raw
    require_refused(
        vectors["bad_wraps"],
        lambda case: unwrap_epoch(
            unhex(case["wrapped"]),
            HpkeKey(secret(case["hpke_seed"])),
            GroupId(unhex(case["group_id"])),
            TopicId(unhex(case["topic"])),
        ),
    )


def test_invites() -> None:
    vectors = read("invite")
    case = vectors["link"]
    group = GroupId(unhex(case["group_id"]))
    link = Link(group, secret(case["secret"]), tuple(case["relays"]))
    assert write_link(link) == case["text"]
    assert read_link(case["text"]) == link
    keys = InviteKeys(link.secret)
    mailbox = mailbox_keys(keys.mailbox_secret)
    shown = vectors["keys"]
    assert (keys.id.hex(), keys.hpke().public.hex()) == (shown["invite_id"], shown["hpke_public"])
    assert keys.mailbox_secret.reveal().hex() == shown["mailbox_secret"]
    assert mailbox.topic.hex() == shown["mailbox"]["topic"]
    assert mailbox.seal_key.reveal().hex() == shown["mailbox"]["seal_key"]
    assert mailbox.nonce_key.reveal().hex() == shown["mailbox"]["nonce_key"]
    proof = vectors["proof"]
    verify(keys.id, "cocoon/v1/invite-proof", unhex(proof["signed"]), unhex(proof["signature"]))
    require_refused(vectors["bad_links"], lambda case: read_link(case["text"]))
    guarded = vectors["link_with_token"]
    assert read_link(guarded["text"]) == replace(link, tokens=tuple(sorted(guarded["tokens"].items())))
    assert write_link(read_link(guarded["text"])) == guarded["text"]


def test_welcomes() -> None:
    vectors = read("invite")
    case, link = vectors["welcome"], read_link(vectors["link"]["text"])
    welcome = open_welcome(unhex(case["value"]), InviteKeys(link.secret), link.group)
    assert encode(welcome.create.encode_body()).hex() == case["create"]
    assert welcome.epoch is not None
    assert welcome.epoch.secret.reveal().hex() == case["epoch_secret"]
    assert list(welcome.relays) == case["relays"]
    assert hash_bytes("cocoon/v1/group", unhex(case["create"])) == link.group
    require_refused(
        vectors["bad_welcomes"],
        lambda case: open_welcome(
            unhex(case["value"]), InviteKeys(secret(case["link_secret"])), GroupId(unhex(case["group_id"]))
        ),
    )


def test_requests() -> None:
    vectors = read("invite")
    case, link = vectors["request"], read_link(vectors["link"]["text"])
    keys = InviteKeys(link.secret)
    request = read_request(unhex(case["value"]), link.group, keys.id)
    assert (request.device.hex(), request.hpke.hex(), request.name) == (
        case["device_id"],
        case["hpke_public"],
        case["name"],
    )
    verify(keys.id, "cocoon/v1/request-invite", unhex(case["meant"]), unhex(case["invite_proof"]))
    verify(request.device, "cocoon/v1/request", unhex(case["meant"]), unhex(case["proof"]))
    assert request_id(request, link.group).hex() == case["id"]
    assert encode_request(request).hex() == case["value"]
    assert open_welcome(unhex(vectors["welcome_by_request"]["value"]), keys, link.group).epoch is None
    require_refused(
        vectors["bad_requests"],
        lambda case: read_request(
            unhex(case["value"]), GroupId(unhex(case["group_id"])), InviteId(unhex(case["invite_id"]))
        ),
    )


# --- operations and frames


def test_operations() -> None:
    vectors = read("operations")
    kinds = set()
    for case in vectors["good"]:
        body = decode_operation(decode(unhex(case["body"])))
        assert encode(body.encode_body()).hex() == case["body"], case["name"]
        kinds.add(type(body).__name__)
    assert len(kinds) == 17
    group = vectors["group_id"]
    assert hash_bytes("cocoon/v1/group", unhex(group["body"])).hex() == group["group_id"]
    for proof in vectors["proofs"]:
        verify(unhex(proof["public"]), proof["label"], unhex(proof["message"]), unhex(proof["signature"]))
    require_refused(vectors["bad"], lambda case: decode_operation(decode(unhex(case["body"]))))


def test_the_proofs_in_the_operations_hold_for_their_authors() -> None:
    group = GroupId(unhex(read("operations")["group_id"]["group_id"]))
    bodies = {
        type(body).__name__: body
        for body in (decode_operation(decode(unhex(case["body"]))) for case in read("operations")["good"])
    }
    create, invite, join = bodies["Create"], bodies["Invite"], bodies["Join"]
    assert isinstance(create, Create)
    assert isinstance(invite, Invite)
    assert isinstance(join, Join)
    invite.verify_proof(group, create.device)
    with pytest.raises(errors.SignatureError):
        invite.verify_proof(group, DeviceId(bytes(32)))
    with pytest.raises(errors.SignatureError):
        join.verify_proof(group, create.device)


def test_frames() -> None:
    vectors = read("frames")
    for side, read_frame, other in (
        ("client", decode_client_frame, decode_relay_frame),
        ("relay", decode_relay_frame, decode_client_frame),
    ):
        for case in vectors[side]:
            raw = unhex(case["frame"])
            assert encode_frame(read_frame(raw)) == raw, case["name"]
            with pytest.raises(errors.MalformedError):
                other(raw)
    for proof in vectors["proofs"]:
        topic, challenge = TopicId(unhex(proof["topic"])), unhex(proof["challenge"])
        digest = unhex(vectors["bodies"][0]["digest"]) if proof["label"] == "cocoon/v1/relay-post" else b""
        makers: dict[str, Callable[[str, bytes, TopicId], bytes]] = {
            "cocoon/v1/relay-open": open_message,
            "cocoon/v1/relay-blob": blob_message,
            "cocoon/v1/relay-get": get_message,
            "cocoon/v1/relay-post": partial(post_message, digest=digest),
        }
        message = makers[proof["label"]](proof["origin"], challenge, topic)
        assert message.hex() == proof["message"] == (proof["origin"].encode() + challenge + topic + digest).hex()
        verify(topic, proof["label"], unhex(proof["message"]), unhex(proof["signature"]))
    for case in vectors["bodies"]:
        body, frames = unhex(case["body"]), [unhex(frame) for frame in case["frames"]]
        assert (split_frames(body), join_frames(frames), digest_body(body).hex()) == (frames, body, case["digest"])
    require_refused(vectors["bad_bodies"], lambda case: split_frames(unhex(case["body"])))
    for named in vectors["names"]:
        assert name_envelope(unhex(named["salt"]), unhex(named["envelope"])).hex() == named["name"]
    require_refused(vectors["bad_for_relay"], lambda case: decode_client_frame(unhex(case["frame"])))
    require_refused(vectors["bad_for_client"], lambda case: decode_relay_frame(unhex(case["frame"])))
