"""What `sync --watch` shows of a group as it comes: posts whole, all else in short lines, a burst as one summary."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from cocoon_cli.events import draw_event, event_data, reply_data
from cocoon_cli.lists import info_data
from cocoon_cli.notes import note_data
from cocoon_cli.notice_words import REPLIES
from cocoon_cli.output import Output, Screen
from cocoon_cli.post_drawing import draw_post, post_data
from cocoon_cli.text import count, shorten, shorten_id
from cocoon_cli.vault_items import draw_items, item_data
from cocoon_core import AlarmRaised, DocumentChanged, PostsMarked, RosterChanged

if TYPE_CHECKING:
    from cocoon_core import CalendarEvent, EventReply, Group, GroupEvent, ListInfo, Note, Post, VaultItem

MOST_AT_ONCE: Final = 30  # things that are shown each for itself; of more, how many there are
REMEMBERED: Final = 2_000  # posts whose last form is kept in mind
MOST_EVENTS: Final = 10_000  # that wait to be shown
MOST_NAMED: Final = 4  # items of a list in one line
EXCERPT: Final = 60  # characters of a post in one line

Items = Mapping[str, tuple[str, bool]]  # of a list: what each says, and whether it is done


@dataclass(slots=True)
class Came:
    """What came since it was last shown, each once, as it is now."""

    alarms: list[AlarmRaised] = field(default_factory=list)
    posts: dict[str, Post] = field(default_factory=dict)
    marks: dict[str, str] = field(default_factory=dict)  # what an admin did, by post
    items: dict[str, VaultItem] = field(default_factory=dict)
    lists: dict[str, ListInfo] = field(default_factory=dict)
    notes: dict[str, Note] = field(default_factory=dict)
    events: dict[str, CalendarEvent] = field(default_factory=dict)
    replies: dict[tuple[str, str], tuple[CalendarEvent, EventReply]] = field(default_factory=dict)
    people: dict[tuple[str, str], tuple[str, str, str]] = field(default_factory=dict)  # kind, id, name, what they say

    def counted(self) -> str:
        """How many of what."""
        found = Counter({
            "post": len(self.posts), "item": len(self.items), "list": len(self.lists), "note": len(self.notes),
            "event": len(self.events), "reply": len(self.replies), "member": len(self.people),
        })  # fmt: skip
        return ", ".join(count(number, noun) for noun, number in found.items() if number)

    def __len__(self) -> int:
        together = len(self.lists) + len(self.notes) + len(self.events) + len(self.replies)
        return len(self.posts) + len(self.items) + together + len(self.people)


class Arrivals:
    """Shows what comes in one group.

    Args:
        groups: all that are watched; the name of one stands before what comes in it where there are several.
    """

    def __init__(self, output: Output, groups: Sequence[Group], group: Group) -> None:
        self._output, self._groups, self._group = output, groups, group
        self._screen: Screen | None = None if output.as_json else output.screen()
        self._posts: OrderedDict[str, Post] = OrderedDict()  # as they were last shown
        self._lists: dict[str, Items] = {}
        self._notes: set[str] = set()
        self._waiting: deque[GroupEvent] = deque(maxlen=MOST_EVENTS)
        self._woken = asyncio.Event()

    async def run(self) -> None:
        """Go on for ever."""
        pump = asyncio.create_task(self._pump())
        pump.add_done_callback(lambda _: self._woken.set())
        try:
            if self._screen is not None:
                self._lists = {one.id: await self._read_items(one.id) for one in await self._group.lists.all()}
                self._notes = {one.id for one in await self._group.notes.all()}
            while not pump.done():
                await self._woken.wait()
                self._woken.clear()
                events = [self._waiting.popleft() for _ in range(len(self._waiting))]
                if events:
                    await self._tell(events)
            pump.result()
        finally:
            pump.cancel()

    async def _pump(self) -> None:
        async for event in self._group.events():
            self._waiting.append(event)
            self._woken.set()

    async def _read_items(self, identifier: str) -> Items:
        found = await self._group.lists.get(identifier)
        return {item.id: (item.text, item.done is not None) for item in found.items}

    # --- gathering

    async def _tell(self, events: Sequence[GroupEvent]) -> None:
        came = Came()
        for event in events:
            await self._gather(event, came)
        for alarm in came.alarms:
            self._tell_alarm(alarm)
        if not came:
            return
        if self._screen is None:
            self._emit(came)
            return
        if len(self._groups) > 1:
            self._screen.line((self._group.name, "dim"))
        if len(came) > MOST_AT_ONCE:
            self._screen.line(
                "Much came: ", (came.counted(), "bold"), ("  `cocoon feed --new` shows the posts.", "dim")
            )
            self._posts.update(came.posts)
            self._lists |= {one: await self._read_items(one) for one in came.lists}
            self._notes |= came.notes.keys()
        else:
            await self._draw(self._screen, came)
        while len(self._posts) > REMEMBERED:
            self._posts.popitem(last=False)
        self._output.out.flush()

    async def _gather(self, event: GroupEvent, came: Came) -> None:
        group = self._group
        came.posts |= {post.id: post for post in await group.feed.changed(event)}
        if isinstance(event, AlarmRaised):
            came.alarms.append(event)
        elif isinstance(event, PostsMarked):
            came.marks |= _say_marks(event)
        elif isinstance(event, RosterChanged):
            joined = {str(member) for member in event.joined}
            for member in group.members():
                if str(member.id) in joined:
                    came.people["newcomer", str(member.id)] = "newcomer", member.name, ""
        elif isinstance(event, DocumentChanged):
            came.items |= {item.id: item for item in await group.vault.changed(event)}
            if not event.own:
                await self._gather_together(event, came)

    async def _gather_together(self, event: DocumentChanged, came: Came) -> None:
        group = self._group
        came.lists |= {one.id: one for one in await group.lists.changed(event)}
        came.notes |= {one.id: one for one in await group.notes.changed(event)}
        came.events |= {one.id: one for one in await group.calendar.changed(event)}
        for one, reply in await group.calendar.replied(event):
            came.replies[one.id, str(reply.member_id)] = one, reply
        for member in group.profile.changed(event):
            name = next((one.name for one in group.members() if one.id == member), "")
            if name:
                came.people["profile", str(member)] = "profile", name, group.profile.get(member).about

    # --- for scripts

    def _emit(self, came: Came) -> None:
        found: list[tuple[str, Any]] = [("post", post_data(post)) for post in came.posts.values()]
        found += [("item", item_data(item)) for item in came.items.values()]
        found += [("list", info_data(one)) for one in came.lists.values()]
        found += [("note", note_data(one)) for one in came.notes.values()]
        found += [("event", event_data(one)) for one in came.events.values()]
        found += [("reply", {"event": one.id, **reply_data(reply)}) for one, reply in came.replies.values()]
        found += [
            (kind, {"id": identifier, "name": name} | ({"about": said} if kind == "profile" else {}))
            for (kind, identifier), (_, name, said) in came.people.items()
        ]
        for kind, data in found:
            self._output.emit({"group": str(self._group.id), kind: data})

    def _tell_alarm(self, alarm: AlarmRaised) -> None:
        if self._output.as_json:
            found = {"kind": alarm.kind, "message": alarm.message}
            self._output.emit({"group": str(self._group.id), "alarm": found})
        else:
            self._output.note(f"Warning ({self._group.name}): {alarm.message}")

    # --- for people

    async def _draw(self, screen: Screen, came: Came) -> None:
        for post in came.posts.values():
            self._draw_post(screen, post, came.marks.get(post.id))
        for item in came.items.values():
            screen.line((f"{item.author} in the vault of {self._group.name}", "dim"))
            draw_items(screen, [item])
        for one in came.lists.values():
            items = await self._read_items(one.id)
            self._draw_line(screen, one.name, _say_list(one, self._lists.get(one.id), items), one.id)
            self._lists[one.id] = items
        for note in came.notes.values():
            what = "put aside" if note.removed else "changed" if note.id in self._notes else "new"
            lines = count(len(note.text.splitlines()), "line")
            self._draw_line(screen, note.name, f"note {what} · {lines}", note.id)
            self._notes.add(note.id)
        for event in came.events.values():
            draw_event(screen, event)
        for event, reply in came.replies.values():
            words = f"{REPLIES[reply.answer]} {event.name}{f' ({reply.words})' if reply.words else ''}"
            self._draw_line(screen, reply.member, " ".join(words.split()), event.id)
        for (_, identifier), (kind, name, said) in came.people.items():
            words = "is a member now" if kind == "newcomer" else f"says: {said}" if said else "changed the profile"
            self._draw_line(screen, name, words, identifier)

    def _draw_post(self, screen: Screen, post: Post, mark: str | None) -> None:
        before = self._posts.pop(post.id, None)
        self._posts[post.id] = post
        words = " ".join(post.text.split())
        if post.deleted or post.erased:
            draw_post(screen, post, 0, datetime.now(UTC), elsewhere=post.parent is not None)
        elif mark is not None:
            self._draw_line(screen, post.author, mark, post.id, shorten(words, EXCERPT))
        elif before is not None and set(post.solved) - set(before.solved):
            self._draw_line(screen, post.author, "marked what answers the question", post.id, shorten(words, EXCERPT))
        elif before is not None and post.edited_at != before.edited_at:
            self._draw_line(screen, post.author, "edited", post.id)
            screen.body(post.text, 2)
        else:
            draw_post(screen, post, 0, datetime.now(UTC), elsewhere=post.parent is not None)

    @staticmethod
    def _draw_line(screen: Screen, who: str, what: str, identifier: str, more: str = "") -> None:
        screen.line(
            (who, "bold"), (f"  {what}  ", "dim"), (shorten_id(identifier), "cyan"), f"  {more}" if more else ""
        )


def _say_marks(event: PostsMarked) -> dict[str, str]:
    """What admins did, by post."""
    sides = (
        (event.hidden, "hidden by an admin"),
        (event.shown, "shown again"),
        (event.pinned, "pinned at the top"),
        (event.unpinned, "pinned no longer"),
    )
    return {post: words for posts, words in sides for post in posts}


def _say_list(one: ListInfo, before: Items | None, items: Items) -> str:
    """What became of a list: `list · + eggs, salt · ✓ milk · 3 open, 1 done`."""
    parts = ["list put aside" if one.removed else "list" if before is not None else "new list"]
    stood = before or {}
    changes = (
        ("+ ", [text for key, (text, _) in items.items() if key not in stood]),
        ("✓ ", [text for key, (text, done) in items.items() if done and not stood.get(key, ("", False))[1]]),
        ("− ", [text for key, (text, _) in stood.items() if key not in items]),
    )
    for sign, texts in changes:
        if texts:
            more = f" and {len(texts) - MOST_NAMED} more" if len(texts) > MOST_NAMED else ""
            parts.append(sign + ", ".join(shorten(text, EXCERPT // 2) for text in texts[:MOST_NAMED]) + more)
    return " · ".join([*parts, f"{one.open} open, {one.done} done"])
