"""How many jobs a writer waits a moment for."""

from __future__ import annotations

from cocoon_relay.company import Company


def take(company: Company, waiting: int, later: int = 0) -> tuple[int, bool]:
    """One transaction: how many go into it, and whether the writer waited in vain for more."""
    waited = company.lacks(waiting)
    number = waiting + later if waited else waiting
    in_vain = company.lacks(number)
    company.came(number)
    return number, in_vain


def test_two_halves_that_take_turns_become_one() -> None:
    company = Company()
    taken = [take(company, 5, 5)[0] for _ in range(20)]
    assert taken[-10:] == [10] * 10
    assert sum(take(company, 0, 10)[1] for _ in range(1_000)) <= 12, "nobody is left to wait for"


def test_who_is_alone_is_seldom_made_to_wait() -> None:
    company = Company()
    in_vain = [take(company, 1)[1] for _ in range(2_000)]
    assert any(in_vain), "it is asked for now and then"
    assert sum(in_vain) <= 16


def test_when_the_others_have_gone_it_is_learned_at_once() -> None:
    company = Company()
    for _ in range(50):
        take(company, 5, 5)
    assert [take(company, 1)[1] for _ in range(20)].count(True) <= 2


def test_when_others_come_they_are_waited_for_soon() -> None:
    company = Company()
    for _ in range(5_000):
        take(company, 1)
    taken = [take(company, 5, 5)[0] for _ in range(20)]
    assert taken[-5:] == [10] * 5
