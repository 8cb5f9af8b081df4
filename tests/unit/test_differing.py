"""What is printed of replicas that differ names what one has and the other lacks."""

from __future__ import annotations

from tests.support.differing import describe_difference, describe_seats
from tests.support.world import World, make_world  # noqa: F401  a fixture


async def test_a_post_that_one_lacks_is_named_with_its_document(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    await world.level()
    assert list(describe_difference(ana, ben)) == []
    await ben.group.feed.post("first of the month")
    await world.level()
    await ana.group.feed.post("of ana alone")
    (line,) = describe_difference(ana, ben)
    assert line.startswith("only ana: document feed/")
    await world.level()
    await ana.group.feed.post("more of ana")
    (line,) = describe_difference(ana, ben)
    assert "counts for ana alone, in feed/" in line
    assert "ben has nothing of it" in line
    assert [line.split()[0] for line in describe_seats([ana, ben])] == ["ana", "ben"]
