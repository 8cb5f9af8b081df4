"""Which names may be chosen, and how those that look alike are told apart."""

from __future__ import annotations

import pytest

from cocoon_core.errors import MalformedError
from cocoon_core.protocol.constants import MAX_NAME_BYTES
from cocoon_core.protocol.ids import MemberId
from cocoon_core.protocol.names import clean_name, require_good_name, show_names, skeleton


@pytest.mark.parametrize(
    "name",
    [
        "Ana",
        "Ana Maria",
        "李雷",
        "राम",
        "Søren",
        "Zoë",
        "O'Neil",
        "R2-D2",
        "👨‍👩‍👧",
        "❤️",
        "deadbee",
        "x" * MAX_NAME_BYTES,
    ],
)
def test_ordinary_names_are_good(name: str) -> None:
    require_good_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        " Ana",
        "Ana ",
        "\u3000Ana",
        "x" * (MAX_NAME_BYTES + 1),
        "é" * (MAX_NAME_BYTES // 2 + 1),
        "A\nna",
        "A\x00",
        "A\x7f",
        "A\x85",
        "A\u200bna",
        "\u202eanA",
        "\u2066Ana",
        "A\ufeffna",
        "\u2800",
        "\u3164",
        "\u200d",
        "\ue000",
        "A\ufffe",
        "A\U000e0041",
        "A\ud800",
        "deadbeef",
        "DEADBEEF12",
        "12345678",
        "Ana #3fa81b2c",
        "Ana #3fa8",
        "Ana # 3fa8",
    ],
)
def test_names_that_hide_or_mimic_are_malformed(name: str) -> None:
    with pytest.raises(MalformedError):
        require_good_name(name)


def test_a_typed_name_is_composed_and_trimmed() -> None:
    assert clean_name("  Zoe\u0308 \t Maria\n") == "Zoë Maria"
    with pytest.raises(MalformedError):
        clean_name("   ")


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("Ana", "ana"),
        ("Ana", "Аnа"),  # Cyrillic А and а
        ("Ana", "Ａｎａ"),  # full width
        ("Jill", "JiII"),
        ("Cory", "C0ry"),
        ("Peter", "Ρeter"),  # Greek Rho
        ("Emile", "Émile"),
        ("Warner", "Wamer"),
        ("Ann-Marie", "annmarie"),
        ("Ana", "A\u200dna"),
        ("Iris", "lris"),
    ],
)
def test_names_that_look_alike_share_a_skeleton(left: str, right: str) -> None:
    assert skeleton(left) == skeleton(right)


@pytest.mark.parametrize(
    ("left", "right"), [("Ana", "Ben"), ("Ana", "Anna"), ("राम", "रीम"), ("李", "雷"), ("🙂", "🙃")]
)
def test_names_that_differ_have_other_skeletons(left: str, right: str) -> None:
    assert skeleton(left) != skeleton(right)


def test_whoever_comes_later_is_shown_with_their_id() -> None:
    first, second, third, digits = (MemberId(bytes([n]) * 32) for n in range(1, 5))
    shown = show_names([(first, "Ana"), (second, "Аna"), (third, "Ben"), (digits, "１２３４５６７８")])
    assert shown == {
        first: "Ana",
        second: "Аna #02020202",
        third: "Ben",
        digits: "１２３４５６７８ #04040404",
    }
    with pytest.raises(MalformedError):
        require_good_name(shown[second])
