"""What derives from an epoch's secret, and wraps of it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cocoon_core.errors import DecryptionError
from cocoon_core.protocol.constants import LABEL_WRAP
from cocoon_core.protocol.epoch import Epoch, unwrap_epoch, wrap_epoch
from cocoon_core.protocol.ids import GroupId, TopicId
from cocoon_core.protocol.invite import mailbox_keys
from cocoon_core.protocol.primitives import Secret, wrap
from tests.support.protocol_story import ANA, EPOCH, GROUP, device_keys, named_secret

INFO = LABEL_WRAP.encode() + b"\0" + GROUP + EPOCH.topic


def test_no_two_keys_of_an_epoch_are_the_same() -> None:
    keys = [EPOCH.secret, EPOCH.seal_key, EPOCH.nonce_key, EPOCH.cast_key, EPOCH.repair_secret]
    assert len({key.reveal() for key in keys} | {EPOCH.topic}) == 6


def test_the_topic_commits_to_the_secret() -> None:
    assert Epoch(Secret(EPOCH.secret.reveal())).topic == EPOCH.topic
    assert Epoch(named_secret("another epoch")).topic != EPOCH.topic


def test_a_mailbox_is_another_topic_with_keys_of_its_own() -> None:
    mailbox = mailbox_keys(named_secret("a mailbox"))
    assert mailbox.topic != EPOCH.topic
    assert mailbox.seal_key != EPOCH.seal_key
    assert mailbox.seal_key != mailbox.nonce_key


def test_a_wrap_opens_for_its_device_group_and_topic_alone() -> None:
    wrapped = wrap_epoch(EPOCH, ANA.hpke_public, GROUP)
    assert len(wrapped) == 1168
    assert unwrap_epoch(wrapped, ANA.hpke, GROUP, EPOCH.topic).secret == EPOCH.secret
    other = GroupId(b"\x09" * 32)
    for key, group, topic in (
        (device_keys("ben").hpke, GROUP, EPOCH.topic),
        (ANA.hpke, other, EPOCH.topic),
        (ANA.hpke, GROUP, TopicId(bytes(ANA.id))),
    ):
        with pytest.raises(DecryptionError):
            unwrap_epoch(wrapped, key, group, topic)


@pytest.mark.parametrize("inside", [b"", bytes(31), bytes(33), named_secret("another epoch").reveal()])
def test_a_wrap_of_anything_but_that_epoch_is_refused(inside: bytes) -> None:
    with pytest.raises(DecryptionError):
        unwrap_epoch(wrap(ANA.hpke_public, inside, INFO), ANA.hpke, GROUP, EPOCH.topic)


@settings(max_examples=60)
@given(st.data())
def test_a_wrap_with_any_byte_changed_does_not_open(data: st.DataObject) -> None:
    wrapped = wrap_epoch(EPOCH, ANA.hpke_public, GROUP)
    place = data.draw(st.integers(0, len(wrapped) - 1))
    changed = wrapped[:place] + bytes((wrapped[place] ^ data.draw(st.integers(1, 255)),)) + wrapped[place + 1 :]
    with pytest.raises(DecryptionError):
        unwrap_epoch(changed, ANA.hpke, GROUP, EPOCH.topic)
