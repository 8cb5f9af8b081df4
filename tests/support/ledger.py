"""What a story's posts must have come to: who wrote each, and what had been seen of those who were put out.

Of a member, every post that was acknowledged to its author counts for ever. Of a device that was put out, at least what
was here seen of it by whoever put it out, if that operation counts: its pin names the newest of it (specs/roster.md).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from cocoon_core.protocol.ids import DeviceId, EntryId, MemberId
from cocoon_core.social.post import Post
from tests.support.world import Seat


@dataclass(frozen=True, slots=True)
class Written:
    """A post or reply, as its author was told that it is durable."""

    device: DeviceId
    member: MemberId
    text: str


class Ledger:
    def __init__(self) -> None:
        self.written: dict[bytes, Written] = {}
        self._seen_by: dict[EntryId, frozenset[bytes]] = {}

    def wrote(self, seat: Seat, post: Post) -> None:
        self.written[bytes.fromhex(post.id)] = Written(seat.device, post.author_id, post.text)

    def put_out(self, seat: Seat, operation: EntryId, devices: Collection[DeviceId]) -> None:
        """A seat put devices out: what it shows of them stays."""
        shown = self._shown(seat)
        self._seen_by[operation] = frozenset(
            post for post in shown if post in self.written and self.written[post].device in devices
        )

    def check(self, seat: Seat) -> None:
        """Compare with what a seat of the group shows in the end."""
        roster, shown = seat.replica.members.roster, self._shown(seat)
        graph = seat.replica.members.graph
        expected = {post for post, written in self.written.items() if written.device in roster.devices}
        for operation, seen in self._seen_by.items():
            if operation in graph and operation not in roster.refused:
                expected |= seen
        lost = expected - shown.keys()
        assert not lost, f"{len(lost)} of {len(expected)} posts are lost: {self._tell(lost)}"
        made_up = shown.keys() - self.written.keys()
        assert not made_up, f"{len(made_up)} posts that nobody wrote"
        for post, (member, text) in shown.items():
            assert (member, text) == (self.written[post].member, self.written[post].text)

    @staticmethod
    def _shown(seat: Seat) -> dict[bytes, tuple[bytes, str]]:
        rows = seat.replica.database.query("SELECT post, member, text FROM posts")
        return {row[0]: (row[1], row[2]) for row in rows}

    def _tell(self, posts: Collection[bytes]) -> str:
        devices = {self.written[post].device.hex()[:8] for post in posts}
        return f"of devices {sorted(devices)}, the first {min(self.written[post].text for post in posts)!r}"
