"""Attacks on envelopes, runs, epochs and keys, below the relay and the documents.

Each is the attack, then the same attack on a build that was weakened where the defence is, so that it is seen to find
something.
"""

from __future__ import annotations

from collections.abc import Callable

import nacl.bindings as sodium
import pytest

from cocoon_core.errors import (
    DecryptionError,
    InvalidLinkError,
    MalformedError,
    SignatureError,
    UpdateNeededError,
)
from cocoon_core.protocol import envelope as envelope_module
from cocoon_core.protocol import frames as frames_module
from cocoon_core.protocol import primitives
from cocoon_core.protocol import run as run_module
from cocoon_core.protocol.constants import LABEL_JOIN, LABEL_RUN
from cocoon_core.protocol.encoding import decode, encode
from cocoon_core.protocol.entry import EntryMaker
from cocoon_core.protocol.envelope import open_envelope, pad, seal_envelope
from cocoon_core.protocol.epoch import Epoch, TopicKeys, unwrap_epoch, wrap_epoch
from cocoon_core.protocol.frames import decode_client_frame, decode_relay_frame
from cocoon_core.protocol.ids import DeviceId, EntryId, GroupId, HeadsDigest, HpkePublicKey
from cocoon_core.protocol.invite import InviteKeys, Link, mailbox_keys, open_welcome, read_link, write_link
from cocoon_core.protocol.operations import decode_operation
from cocoon_core.protocol.primitives import Secret, require_good_signing_key, verify, wrap
from cocoon_core.protocol.run import parse_run, sign_run, verify_run
from cocoon_core.sync import linking
from cocoon_core.sync.linking import link_runs
from tests.support.flips import flip
from tests.support.protocol_story import ANA, CREATE, EPOCH, GROUP, RELAYS, Writer, forged, named_secret, parsed
from tests.support.two_keys import two_key_ciphertext
from tests.vectors.basics import MIXED_ORDER, SMALL_ORDER
from tests.vectors.sealing import seal_with_nonce

OTHER = Epoch(named_secret("another epoch"))
OTHER_GROUP = GroupId(b"\x09" * 32)


def flips(raw: bytes) -> list[bytes]:
    """The same bytes, one of them changed: every place, two ways."""
    return [flip(raw, place, mask) for place in range(len(raw)) for mask in (1, 128)]


# --- 1: flip any byte


def test_attack_01_an_envelope_with_any_byte_flipped_does_not_open() -> None:
    for changed in flips(seal_envelope(Writer().write_runs([1])[0].wire, EPOCH)):
        with pytest.raises(DecryptionError):
            open_envelope(changed, EPOCH)


def test_attack_01_a_byte_more_or_less_does_not_open() -> None:
    sealed = seal_envelope(b"value", EPOCH)
    for changed in (sealed[:-1], sealed[1:], sealed + b"\0", b"\0" + sealed, sealed[:296] + sealed[:296], b""):
        with pytest.raises(DecryptionError):
            open_envelope(changed, EPOCH)


def test_attack_01_weakened_a_cipher_without_a_tag_lets_flipped_bytes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    def open_without_tag(key: Secret, nonce: bytes, ciphertext: bytes, ad: bytes) -> bytes:
        zeros = bytes(len(ciphertext) - 16)
        keystream = primitives.seal(key, nonce, zeros, b"")[: len(zeros)]
        return bytes(a ^ b for a, b in zip(keystream, ciphertext[:-16], strict=True))

    monkeypatch.setattr(envelope_module, "open_sealed", open_without_tag)
    monkeypatch.setattr(envelope_module, "constant_time_equal", lambda *_: True)
    sealed = seal_envelope(b"value", EPOCH)
    changed = flip(sealed, 24)
    assert open_envelope(changed, EPOCH) == b"walue"


# --- 5: another version or suite


def test_attack_05_another_version_is_refused_everywhere_and_nothing_falls_back() -> None:
    run = decode(Writer().write_runs([1])[0].wire)
    link = Link(GROUP, named_secret("link"), RELAYS)
    for version in (2, 200, 2**62):
        with pytest.raises(UpdateNeededError):
            parse_run(encode([version, *run[1:]]), GROUP)
        with pytest.raises(UpdateNeededError):
            parse_run(encode([version, "a form of tomorrow"]), GROUP)
        with pytest.raises(MalformedError):
            open_welcome(encode([version, b""]), InviteKeys(link.secret), GROUP)
    for odd in (0, -1, True, None, "1"):
        with pytest.raises(MalformedError):
            parse_run(encode([odd, *run[1:]]), GROUP)
    with pytest.raises(UpdateNeededError):
        decode_operation([77, b"an operation of tomorrow"])
    policy = {**CREATE.policy.to_value(), "a rule of tomorrow": True}
    with pytest.raises(UpdateNeededError):
        decode_operation([*CREATE.encode_body()[:7], policy])
    assert write_link(link).startswith("cocoon:")


def test_attack_05_a_label_of_another_version_neither_verifies_nor_opens() -> None:
    signature = ANA.signing.sign("cocoon/v2/run", b"message")
    with pytest.raises(SignatureError):
        verify(ANA.id, LABEL_RUN, b"message", signature)
    info = b"cocoon/v2/wrap\0" + GROUP + EPOCH.topic
    with pytest.raises(DecryptionError):
        unwrap_epoch(wrap(ANA.hpke_public, EPOCH.secret.reveal(), info), ANA.hpke, GROUP, EPOCH.topic)


def test_attack_05_weakened_a_parser_that_takes_any_version_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "VERSION", 2)
    run = decode(Writer().write_runs([1])[0].wire)
    assert run[0] == 2
    assert parse_run(encode(run), GROUP).device == ANA.id


# --- 7: truncate at every boundary


def test_attack_07_what_is_cut_off_anywhere_is_refused() -> None:
    run = Writer().write_runs([3])[0]
    link = write_link(Link(GROUP, named_secret("link"), RELAYS))
    sealed, wrapped = seal_envelope(run.wire, EPOCH), wrap_epoch(EPOCH, ANA.hpke_public, GROUP)
    frame = encode([2, 1, EPOCH.topic, [sealed], False, None])
    whole: list[tuple[bytes, Callable[[bytes], object]]] = [
        (run.wire, lambda raw: parse_run(raw, GROUP)),
        (sealed, lambda raw: open_envelope(raw, EPOCH)),
        (frame, decode_client_frame),
    ]
    for raw, read in whole:
        read(raw)
        for end in range(len(raw)):
            with pytest.raises((MalformedError, DecryptionError)):
                read(raw[:end])
    for end in (*range(0, len(wrapped), 7), len(wrapped) - 1):
        with pytest.raises(DecryptionError):
            unwrap_epoch(wrapped[:end], ANA.hpke, GROUP, EPOCH.topic)
    for end in range(len(link)):
        with pytest.raises(InvalidLinkError):
            read_link(link[:end])


def test_attack_07_entries_cut_off_the_end_of_a_run_break_its_signature() -> None:
    fields = decode(Writer().write_runs([3])[0].wire)
    for length in (1, 2):
        shorter = encode([*fields[:7], fields[7][:length], *fields[8:]])
        with pytest.raises(SignatureError):
            verify_run(parse_run(shorter, GROUP))


def test_attack_07_a_chain_cut_off_in_the_middle_shows_as_a_gap() -> None:
    runs = Writer().write_runs([1, 1, 1])
    linked = link_runs({}, lambda *_: None, [parsed(runs[0]), parsed(runs[2])])
    assert linked.accepted == runs[:1]
    assert [run.last_id for run in linked.early] == [runs[2].last_id]


def test_attack_07_weakened_a_signature_over_the_first_entry_lets_the_end_go() -> None:
    def verify_first(unverified: run_module.UnverifiedRun) -> None:
        inner = unverified.stored()
        verify(inner.device, LABEL_RUN, inner.entries[0].id + inner.heads_digest, inner.signature)

    run = Writer().write_runs([3])[0]
    fields = decode(run.wire)
    fields[9] = bytes(ANA.signing.sign(LABEL_RUN, run.entries[0].id + run.heads_digest))
    shorter = parse_run(encode([*fields[:7], fields[7][:2], *fields[8:]]), GROUP)
    verify_first(shorter)
    with pytest.raises(SignatureError):
        verify_run(shorter)


# --- 9: sizes on the wire


BUCKETS = sorted({envelope_module.padded_size(length) for length in range(70_000)})


def test_attack_09_sizes_on_the_wire_are_only_those_of_the_published_classes() -> None:
    sizes = set()
    for length in [*range(3000), *range(3000, 65_000, 97)]:
        sizes.add(len(seal_envelope(bytes(length), EPOCH)) - 40)
    assert sizes <= set(BUCKETS)
    for run in Writer().write_runs([1, 2, 5, 40]):
        assert len(seal_envelope(run.wire, EPOCH)) - 40 in BUCKETS


def test_attack_09_an_envelope_of_any_other_size_is_refused_though_its_author_has_the_keys() -> None:
    for length in (*range(257, 600), 1025, 4097):
        if length not in BUCKETS:
            padded = (b"value" + b"\x80").ljust(length, b"\0")
            nonce = primitives.keyed_hash(EPOCH.nonce_key.reveal(), "cocoon/v1/envelope-nonce", padded, 24)
            with pytest.raises(MalformedError):
                open_envelope(seal_with_nonce(padded, EPOCH, nonce), EPOCH)


def test_attack_09_weakened_without_padding_sizes_tell_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envelope_module, "padded_size", lambda length: max(256, length + 1))
    sizes = {len(seal_envelope(bytes(length), EPOCH)) - 40 for length in range(300, 310)}
    assert len(sizes) == 10
    assert not sizes <= set(BUCKETS)


# --- 15: move ciphertext between topics, epochs, groups


def moved_topic() -> TopicKeys:
    """Another topic that, against all rules, has the same keys: what is left is the topic in the associated data."""
    twin = Epoch(EPOCH.secret)
    twin.topic = OTHER.topic
    return twin


def test_attack_15_an_envelope_opens_in_its_own_topic_alone() -> None:
    sealed = seal_envelope(Writer().write_runs([1])[0].wire, EPOCH)
    for elsewhere in (OTHER, mailbox_keys(named_secret("a mailbox")), mailbox_keys(EPOCH.secret), moved_topic()):
        if elsewhere.topic != EPOCH.topic:
            with pytest.raises(DecryptionError):
                open_envelope(sealed, elsewhere)


def test_attack_15_a_run_put_into_another_group_by_a_member_of_both_is_refused() -> None:
    wire = Writer().write_runs([1])[0].wire
    sealed_again = seal_envelope(wire, OTHER)
    with pytest.raises(SignatureError):
        verify_run(parse_run(open_envelope(sealed_again, OTHER), OTHER_GROUP))


def test_attack_15_an_older_run_sealed_again_in_a_later_epoch_is_the_same_run_and_changes_nothing() -> None:
    """Whoever holds an epoch may seal again what a device signed; that is how history moves on. It forges nothing."""
    run = Writer().write_runs([1])[0]
    again = parse_run(open_envelope(seal_envelope(run.wire, OTHER), OTHER), GROUP)
    ends = {run.device: (run.last_seq, run.last_id)}
    linked = link_runs(ends, lambda *_: run.last_id, [again])
    assert linked.accepted == []
    assert [known.last_id for known in linked.known] == [run.last_id]


def test_attack_15_a_wrap_opens_for_its_group_and_topic_alone() -> None:
    wrapped = wrap_epoch(EPOCH, ANA.hpke_public, GROUP)
    for group, topic in ((OTHER_GROUP, EPOCH.topic), (GROUP, OTHER.topic)):
        with pytest.raises(DecryptionError):
            unwrap_epoch(wrapped, ANA.hpke, group, topic)


def test_attack_15_weakened_without_associated_data_a_moved_envelope_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envelope_module, "_ad", lambda keys: b"")
    assert open_envelope(seal_envelope(b"value", EPOCH), moved_topic()) == b"value"


def test_attack_15_weakened_ids_without_the_group_let_a_run_be_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    real = EntryMaker.__init__

    def without_group(self: EntryMaker, group: GroupId, device: DeviceId, heads: tuple[EntryId, ...]) -> None:
        real(self, GroupId(bytes(32)), device, heads)

    monkeypatch.setattr(EntryMaker, "__init__", without_group)
    entry = EntryMaker(GROUP, ANA.id, ()).operation(0, None, 0, [1])
    run = sign_run([entry], Writer().descriptors.__getitem__, ANA.signing, HeadsDigest(bytes(32)))
    assert verify_run(parse_run(run.wire, OTHER_GROUP)).last_id == run.last_id


# --- 30: one ciphertext, two keys


def twin_topic() -> TopicKeys:
    """A second epoch with the first one's topic in the associated data: the best that an attacker could hope for."""
    twin = Epoch(OTHER.secret)
    twin.topic = EPOCH.topic
    return twin


def test_attack_30_the_cipher_alone_commits_to_no_key_and_the_nonce_makes_the_envelope_do_so() -> None:
    ad = b"cocoon/v1/envelope\0" + EPOCH.topic
    nonce = bytes(24)
    ciphertext = two_key_ciphertext(EPOCH.seal_key, OTHER.seal_key, nonce, ad, 256)
    one = primitives.open_sealed(EPOCH.seal_key, nonce, ciphertext, ad)
    two = primitives.open_sealed(OTHER.seal_key, nonce, ciphertext, ad)
    assert one != two, "the cipher opens it under both keys, to different texts"
    for keys in (EPOCH, twin_topic()):
        with pytest.raises(DecryptionError):
            open_envelope(nonce + ciphertext, keys)


def test_attack_30_weakened_without_the_check_of_the_nonce_one_envelope_opens_under_two_epochs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(envelope_module, "constant_time_equal", lambda *_: True)
    monkeypatch.setattr(envelope_module, "unpad", lambda padded: padded)
    ad, nonce = b"cocoon/v1/envelope\0" + EPOCH.topic, bytes(24)
    sealed = nonce + two_key_ciphertext(EPOCH.seal_key, OTHER.seal_key, nonce, ad, 256)
    assert open_envelope(sealed, EPOCH) != open_envelope(sealed, twin_topic())


def test_attack_30_a_member_who_picks_the_nonce_is_refused() -> None:
    padded = pad(b"value")
    for nonce in (bytes(24), b"\xff" * 24, seal_envelope(b"other", EPOCH)[:24]):
        with pytest.raises(DecryptionError):
            open_envelope(seal_with_nonce(padded, EPOCH, nonce), EPOCH)


# --- 28 and 12, as far as links go: who can seal but not sign keeps nobody out and accuses nobody


def test_attack_12_a_forged_run_in_the_first_place_does_not_withhold_the_true_one() -> None:
    runs = Writer().write_runs([1, 1])
    linked = link_runs({}, lambda *_: None, [forged(runs[0]), *map(parsed, runs)])
    assert linked.accepted == runs
    assert linked.forks == []


def test_attack_12_weakened_when_the_first_to_come_keeps_its_place_the_true_run_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(linking._DeviceBatch, "_drop_unsound_end", lambda self: False)
    runs = Writer().write_runs([1])
    with pytest.raises(KeyError):
        link_runs({}, lambda *_: None, [forged(runs[0]), parsed(runs[0])])


# --- 32: small-order and mixed-order keys


@pytest.mark.parametrize("raw", SMALL_ORDER)
def test_attack_32_a_key_of_small_order_verifies_nothing_and_is_not_enrolled(raw: str) -> None:
    public = bytes.fromhex(raw)
    with pytest.raises(MalformedError):
        require_good_signing_key(public)
    for signature in (public + bytes(32), bytes(64), public + b"\x01" + bytes(31)):
        with pytest.raises(SignatureError):
            verify(public, LABEL_JOIN, b"message", signature)


@pytest.mark.parametrize("raw", MIXED_ORDER)
def test_attack_32_a_key_of_mixed_order_is_not_enrolled(raw: str) -> None:
    with pytest.raises(MalformedError):
        require_good_signing_key(bytes.fromhex(raw))


def test_attack_32_weakened_a_check_for_small_order_alone_lets_mixed_order_in() -> None:
    """Why the check is for the prime-order group: these are points, and not of small order."""
    for raw in MIXED_ORDER:
        assert raw not in SMALL_ORDER
        assert sodium.crypto_core_ed25519_add(bytes.fromhex(raw), bytes.fromhex(raw)) != bytes(32)


def test_attack_32_a_share_of_small_order_in_a_wrap_does_not_open() -> None:
    wrapped = wrap_epoch(EPOCH, ANA.hpke_public, GROUP)
    for share in (bytes(32), b"\x01" + bytes(31)):
        with pytest.raises(DecryptionError):
            unwrap_epoch(wrapped[:1088] + share + wrapped[1120:], ANA.hpke, GROUP, EPOCH.topic)


def test_attack_32_nothing_is_wrapped_to_a_key_of_small_order() -> None:
    for share in (bytes(32), b"\x01" + bytes(31)):
        with pytest.raises(MalformedError):
            wrap_epoch(EPOCH, HpkePublicKey(ANA.hpke_public[:1184] + share), GROUP)


# --- 4, at the frames: what a side sent is refused when it comes back


def test_attack_04_a_frame_sent_back_to_its_author_is_refused() -> None:
    close, live = encode([4, EPOCH.topic]), encode([68, EPOCH.topic, 1])
    decode_client_frame(close)
    decode_relay_frame(live)
    with pytest.raises(MalformedError):
        decode_relay_frame(close)
    with pytest.raises(MalformedError):
        decode_client_frame(live)


def test_attack_04_weakened_with_one_table_for_both_a_frame_is_read_by_its_author(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(frames_module, "_RELAY", {**frames_module._RELAY, **frames_module._CLIENT})
    assert decode_relay_frame(encode([4, EPOCH.topic])) is not None
