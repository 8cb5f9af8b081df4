"""The link as people handle it: pasted with line breaks, cut off, mistyped. And the welcome that it opens."""

from __future__ import annotations

import base64
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cocoon_core.errors import DecryptionError, InvalidLinkError, MalformedError, UntrustedInputError, UpdateNeededError
from cocoon_core.protocol.constants import LABEL_GROUP, LABEL_WELCOME, MAX_RELAYS
from cocoon_core.protocol.encoding import encode
from cocoon_core.protocol.ids import GroupId
from cocoon_core.protocol.invite import (
    InviteKeys,
    Link,
    Welcome,
    mailbox_keys,
    open_welcome,
    read_link,
    require_relays,
    wrap_welcome,
    write_link,
)
from cocoon_core.protocol.primitives import hash_bytes, wrap
from tests.support.protocol_story import CREATE, EPOCH, GROUP, RELAYS, named_secret

LINK = Link(GROUP, named_secret("link"), RELAYS)
TEXT = write_link(LINK)
KEYS = InviteKeys(LINK.secret)
ALPHABET = string.ascii_letters + string.digits + "-_"


def test_a_link_comes_back() -> None:
    assert read_link(TEXT) == LINK
    many = Link(GROUP, LINK.secret, tuple(f"wss://relay-{n}.example:443" for n in range(MAX_RELAYS)))
    assert read_link(write_link(many)) == many


@pytest.mark.parametrize("around", ["<>", "‹›", "«»", '""', "''", "“”", "„“", "‘’"])
def test_a_link_in_quotes_or_angle_brackets_is_read(around: str) -> None:
    assert read_link(f" {around[0]}{TEXT}{around[1]}\n") == LINK
    assert read_link(f"{around[0]} {TEXT} {around[1]}") == LINK


@pytest.mark.parametrize("end", range(len(TEXT)))
def test_a_link_cut_off_anywhere_is_refused(end: int) -> None:
    with pytest.raises(InvalidLinkError):
        read_link(TEXT[:end])


@pytest.mark.parametrize("place", range(len(TEXT)))
def test_a_link_with_any_character_changed_is_refused(place: int) -> None:
    """Mended: the last character's unused bits could be changed without effect."""
    for letter in ALPHABET:
        if letter != TEXT[place]:
            with pytest.raises(InvalidLinkError):
                read_link(TEXT[:place] + letter + TEXT[place + 1 :])


@given(st.lists(st.tuples(st.integers(0, len(TEXT)), st.sampled_from([" ", "\n", "\r\n", "\t", "\n    "])), max_size=9))
def test_a_link_pasted_with_white_space_in_it_is_read(breaks: list[tuple[int, str]]) -> None:
    pasted = TEXT
    for place, white in sorted(breaks, reverse=True):
        pasted = pasted[:place] + white + pasted[place:]
    assert read_link(pasted) == LINK


@given(st.text(max_size=200))
def test_any_text_is_a_link_or_refused_by_name(text: str) -> None:
    for attempt in (text, "cocoon:" + text):
        with pytest.raises(InvalidLinkError):
            read_link(attempt)


@pytest.mark.parametrize("text", ["cocoon:", "cocoon:é", "cocoon:\ud800", "cocoon:====", "cocoon:" + "A" * 9999, "\0"])
def test_odd_text_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidLinkError):
        read_link(text)


def test_a_link_of_a_newer_version_says_so() -> None:
    payload = encode([2, "something", b"else"])
    check = hash_bytes("cocoon/v1/link-check", payload, 4)
    text = "cocoon:" + base64.urlsafe_b64encode(payload + check).rstrip(b"=").decode()
    with pytest.raises(InvalidLinkError, match="newer Cocoon"):
        read_link(text)


def test_a_link_does_not_show_its_secret_when_printed() -> None:
    assert LINK.secret.reveal().hex() not in repr(LINK)
    assert "secret" not in repr(LINK)


@pytest.mark.parametrize(
    "relays",
    [
        [],
        ["http://relay.example"],
        ["ws://relay.example", "ws://relay.example"],
        [f"ws://{n}.example" for n in range(MAX_RELAYS + 1)],
        ["ws://" + "a" * 300],
        ["ws://relay.example\n"],
        ["ws://relay example"],
        ["ws://\x1b[2Jrelay.example"],
        ["ws://rélay.example"],
        [b"ws://relay.example"],
        [["ws://relay.example"]],
        [None],
        [1],
    ],
)
def test_relays_that_cannot_be_dialled_or_shown_are_refused(relays: list[Any]) -> None:
    with pytest.raises(MalformedError):
        require_relays(relays)


# --- welcome


def welcome_with(fields: list[Any]) -> bytes:
    info = LABEL_WELCOME.encode() + b"\0" + GROUP + KEYS.id
    return encode([1, wrap(KEYS.hpke().public, encode(fields), info)])


def test_a_welcome_opens_for_its_link_alone() -> None:
    value = wrap_welcome(Welcome(GROUP, CREATE, EPOCH, RELAYS), KEYS.id, KEYS.hpke().public)
    welcome = open_welcome(value, KEYS, GROUP)
    assert welcome.epoch is not None
    assert (welcome.create, welcome.epoch.secret, welcome.relays) == (CREATE, EPOCH.secret, RELAYS)
    with pytest.raises(DecryptionError):
        open_welcome(value, InviteKeys(named_secret("another link")), GROUP)
    with pytest.raises(DecryptionError):
        open_welcome(value, KEYS, GroupId(b"\x09" * 32))


def test_two_welcomes_of_one_invite_differ_and_both_open() -> None:
    welcome = Welcome(GROUP, CREATE, EPOCH, RELAYS)
    one, two = (wrap_welcome(welcome, KEYS.id, KEYS.hpke().public) for _ in range(2))
    assert one != two
    assert open_welcome(one, KEYS, GROUP).create == open_welcome(two, KEYS, GROUP).create


def test_only_the_group_that_the_link_pins_can_ask_for_an_update() -> None:
    """Mended: a create of a later version was reported as such before its hash was compared with the link."""
    later = CREATE.encode_body()
    later[7] = {**later[7], "a rule of tomorrow": 1}
    rest = [EPOCH.secret.reveal(), list(RELAYS)]
    with pytest.raises(MalformedError):
        open_welcome(welcome_with([1, later, *rest]), KEYS, GROUP)
    pinned = GroupId(hash_bytes(LABEL_GROUP, encode(later)))
    info = LABEL_WELCOME.encode() + b"\0" + pinned + KEYS.id
    value = encode([1, wrap(KEYS.hpke().public, encode([1, later, *rest]), info)])
    with pytest.raises(UpdateNeededError):
        open_welcome(value, KEYS, pinned)


@pytest.mark.parametrize(
    "fields",
    [
        [],
        {},
        [True, CREATE.encode_body(), EPOCH.secret.reveal(), list(RELAYS)],
        [2, CREATE.encode_body(), EPOCH.secret.reveal(), list(RELAYS)],
        [1, CREATE.encode_body(), EPOCH.secret.reveal(), []],
        [1, CREATE.encode_body(), bytes(31), list(RELAYS)],
        [1, CREATE.encode_body(), EPOCH.secret.reveal()],
        [1, [], EPOCH.secret.reveal(), list(RELAYS)],
        [1, [0], EPOCH.secret.reveal(), list(RELAYS)],
        [1, {}, EPOCH.secret.reveal(), list(RELAYS)],
    ],
)
def test_a_welcome_of_another_form_is_refused(fields: list[Any]) -> None:
    with pytest.raises(UntrustedInputError):
        open_welcome(welcome_with(fields), KEYS, GROUP)


def test_a_mailbox_is_derived_by_members_and_link_holders_alike() -> None:
    assert mailbox_keys(KEYS.mailbox_secret).topic == mailbox_keys(InviteKeys(LINK.secret).mailbox_secret).topic
