"""Safety numbers: the same from both sides, another one for any other device, and read back as people write them."""

from __future__ import annotations

import pytest

from cocoon_core.errors import UsageError
from cocoon_core.protocol.ids import DeviceId, GroupId, MemberId
from cocoon_core.protocol.safety_number import SafetyNumber, make_safety_number

GROUP = GroupId(b"\x01" * 32)
ANA, BEN = MemberId(b"\x0a" * 32), MemberId(b"\x0b" * 32)
D = [DeviceId(bytes((number,)) * 32) for number in range(1, 6)]
NUMBER = make_safety_number(GROUP, (ANA, D[:2]), (BEN, D[2:4]))


def test_it_is_the_same_from_both_sides_and_in_any_order() -> None:
    assert make_safety_number(GROUP, (BEN, [D[3], D[2]]), (ANA, [D[1], D[0]])) == NUMBER


@pytest.mark.parametrize(
    ("group", "one", "other"),
    [
        (GroupId(b"\x02" * 32), (ANA, D[:2]), (BEN, D[2:4])),
        (GROUP, (ANA, D[:1]), (BEN, D[2:4])),
        (GROUP, (ANA, D[:2]), (BEN, D[2:5])),
        (GROUP, (ANA, D[:2]), (BEN, [D[2], D[4]])),
        (GROUP, (ANA, D[2:4]), (BEN, D[:2])),
        (GROUP, (ANA, D[:3]), (BEN, D[3:4])),
        (GROUP, (ANA, D[:2]), (MemberId(b"\x0c" * 32), D[2:4])),
    ],
)
def test_any_other_group_member_or_device_gives_another(
    group: GroupId, one: tuple[MemberId, list[DeviceId]], other: tuple[MemberId, list[DeviceId]]
) -> None:
    number = make_safety_number(group, one, other)
    assert number.digits != NUMBER.digits
    assert number.words != NUMBER.words


def test_it_is_for_two() -> None:
    with pytest.raises(UsageError):
        make_safety_number(GROUP, (ANA, D[:1]), (ANA, D[1:2]))


def test_its_forms_have_their_lengths() -> None:
    assert len(NUMBER.words) == 12
    assert [len(part) for part in NUMBER.digits.split(" ")] == [5] * 12
    zero = SafetyNumber(bytes(60))
    assert zero.digits.replace(" ", "") == "0" * 60
    assert set(zero.words) == {"abandon"}


def test_either_form_matches_as_people_type_it() -> None:
    assert NUMBER.matches(NUMBER.digits)
    assert NUMBER.matches(NUMBER.digits.replace(" ", "\n"))
    assert NUMBER.matches("  ".join(NUMBER.words).upper())
    assert not NUMBER.matches("")
    assert not NUMBER.matches(NUMBER.digits[:-1])
    assert not NUMBER.matches(" ".join(NUMBER.words[:-1]))
    assert not NUMBER.matches("é")
