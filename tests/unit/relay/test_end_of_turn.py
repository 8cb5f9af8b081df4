"""What is added in one turn of the loop is called at its end, in order, whatever one of them does."""

from __future__ import annotations

import asyncio
from typing import Any

from cocoon_relay.end_of_turn import EndOfTurn


async def test_calls_come_in_order_with_those_that_they_add_and_a_fault_is_in_nobodys_way() -> None:
    reported: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["exception"]))
    end, called = EndOfTurn(), list[str]()

    def fail() -> None:
        raise ValueError("no")

    def add() -> None:
        called.append("adds")
        end.add(lambda: called.append("added"))

    for call in (add, fail, lambda: called.append("last")):
        end.add(call)
    assert called == []
    await asyncio.sleep(0)
    assert called == ["adds", "last", "added"]
    assert [type(error) for error in reported] == [ValueError]
    end.add(lambda: called.append("again"))
    await asyncio.sleep(0)
    assert called[3:] == ["again"]
