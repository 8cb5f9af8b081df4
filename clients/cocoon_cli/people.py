"""`who`, `me`, `seen`: the people of a group, what they say of themselves, when they were here, what they have seen."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cocoon_cli.arguments import Commands
from cocoon_cli.context import Context, with_group
from cocoon_cli.output import Outcome, Screen
from cocoon_cli.text import hour_age, shorten_id, timestamp
from cocoon_core.errors import UsageError

if TYPE_CHECKING:
    from cocoon_core import Group, MemberProfile, Person

_SWITCH = {"on": True, "off": False}


def add_commands(commands: Commands) -> None:
    """Add `who`, `me` and `seen`."""
    who = commands.add(
        "who",
        with_group(show_people),
        "the people of the group: who they are, and when they last signed on",
        "The hour is that of the newest entry which their device signed and which is here. Of those who wish so "
        "it is not shown. While `cocoon sync --watch` runs, it is also shown who is here now, or typing.",
        examples=["cocoon who", "cocoon who Ben", "cocoon who Ben --picture ben.webp"],
    )
    who.add_argument("member", metavar="MEMBER", nargs="?", help="name, id or the beginning of it; all without one")
    who.add_argument("--picture", type=Path, metavar="PATH", help="save this member's picture there")
    me = commands.add(
        "me",
        with_group(show_me),
        "what you say of yourself in this group: a line, a picture",
        "It is for this group alone; nothing of it stands in another one. Of a picture, a small one is drawn, without "
        "what the file says of place, device and maker. What you take back stays in the history of all devices.",
        examples=[
            "cocoon me",
            "cocoon me --about 'Bakes on Sundays'",
            "cocoon --group Band me --picture drums.jpg",
            "cocoon me --quiet on      (nobody is shown when you were here)",
        ],
    )
    me.add_argument("--about", metavar="TEXT", help="a line about yourself; an empty one takes it away")
    picture = me.add_mutually_exclusive_group()
    picture.add_argument("--picture", type=Path, metavar="PATH", help="a photo, which is made small")
    picture.add_argument("--no-picture", action="store_true", help="show none any more")
    me.add_argument("--quiet", choices=_SWITCH, help="whether others are not shown when you were here")
    me.add_argument("--seen", choices=_SWITCH, help="whether authors are told which of their posts you have seen")
    seen = commands.add(
        "seen",
        with_group(show_seen),
        "who has seen a post of yours, of those who tell",
        "Members tell it if they wish (`cocoon me --seen on`): once an hour, and so that only the author can read it. "
        "Whoever does not tell may have seen it or not.",
        examples=["cocoon seen 4f1c93"],
    )
    seen.add_argument("post", metavar="ID", help="the id of a post or reply of your own, or the beginning of it")


def person_data(person: Person) -> dict[str, Any]:
    """A member as scripts see one."""
    return {
        "id": str(person.id),
        "name": person.name,
        "role": person.role,
        "me": person.me,
        "about": person.about,
        "picture": person.picture,
        "last_seen": timestamp(person.last_seen) if person.last_seen else None,
        "quiet": person.quiet,
        "online": person.online,
        "typing": person.typing,
        "tells_seen": person.tells_seen,
    }


def profile_data(group: Group, profile: MemberProfile) -> dict[str, Any]:
    """One's own profile as scripts see it."""
    me = group.me
    return {
        "id": str(me) if me is not None else None,
        "about": profile.about,
        "picture": group.profile.pictures().get(me) if me is not None else None,
        "quiet": profile.quiet,
        "tells_seen": profile.tells_seen,
    }


async def show_people(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Who is here, or one of them."""
    people = group.people()
    notes = []
    data: dict[str, Any] = {}
    if args.member is not None:
        wanted = group.find_member(args.member)
        people = [person for person in people if person.id == wanted]
    if args.picture is not None:
        if args.member is None:
            raise UsageError("Whose picture? Name a member: cocoon who MEMBER --picture PATH.")
        path = await _save_picture(group, people[0], context.locate(args.picture))
        data["path"] = str(path)
        notes.append(f"The picture is in {path}.")
    now = datetime.now(UTC)
    data["people"] = [person_data(person) for person in people]

    def draw(screen: Screen) -> None:
        rows = [[_name(person), _when(person, now), person.about] for person in people]
        screen.table(["NAME", "LAST SIGNED ON", "ABOUT"], rows)

    return Outcome(data=data, draw=draw, notes=notes)


async def _save_picture(group: Group, person: Person, path: Path) -> Path:
    """Write a member's picture to a new file."""
    picture = await group.profile.picture(person.id)
    if path.is_dir():
        raise UsageError(f"{path} is a folder; give the name of a file.")
    try:
        with path.open("xb") as file:
            file.write(picture)
    except FileExistsError:
        raise UsageError(f"There is a file {path} already.") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.") from error
    return path


async def show_me(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Change what was given of the own profile, and show it."""
    picture = None if args.picture is None else context.locate(args.picture)
    sets = any(wish is not None for wish in (args.about, picture, args.quiet, args.seen))
    if args.no_picture:
        await group.profile.remove_picture()
    if sets:
        quiet, tells_seen = _SWITCH.get(args.quiet), _SWITCH.get(args.seen)
        await group.profile.set(about=args.about, picture=picture, quiet=quiet, tells_seen=tells_seen)
    profile = group.profile.get()
    data = profile_data(group, profile)
    name = next((person.name for person in group.people() if person.me), None)

    def draw(screen: Screen) -> None:
        screen.line((name or "(no member)", "bold"), ("  in ", "dim"), group.name)
        item = data["picture"]
        lines = [
            ("about", profile.about or "nothing"),
            ("picture", f"item {shorten_id(item)} of the vault" if item else "none"),
            ("last signed on", "not shown to others" if profile.quiet else "shown to others, by the hour"),
            ("what you saw", "told to authors" if profile.tells_seen else "told to nobody"),
        ]
        for label, value in lines:
            screen.line((f"{label:<16}", "dim"), value, indent=2)

    return Outcome(data=data, draw=draw, notes=await context.notes_on_sending(group) if sets or args.no_picture else [])


async def show_seen(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Who told that they have seen an own post."""
    post = await group.feed.get(args.post)
    told = set(await group.seen.by(post.id))
    others = [person for person in group.people() if not person.me]
    seen = [person for person in others if person.id in told]
    rest = [person for person in others if person.id not in told]
    silent, waited = [one for one in rest if not one.tells_seen], [one for one in rest if one.tells_seen]

    def draw(screen: Screen) -> None:
        for label, some in (("seen by", seen), ("not told yet by", waited), ("who does not tell", silent)):
            if some:
                screen.line((f"{label:<19}", "dim"), ", ".join(one.name for one in some))
        if not others:
            screen.line("There is nobody else in the group.")

    return Outcome(
        data={
            "id": post.id,
            "seen": [{"id": str(one.id), "name": one.name} for one in seen],
            "silent": [{"id": str(one.id), "name": one.name} for one in silent],
        },
        draw=draw,
    )


def _name(person: Person) -> str:
    return f"{person.name} (you)" if person.me else person.name


def _when(person: Person, now: datetime) -> str:
    if person.quiet:
        return "not shown"
    if person.typing is not None:
        return "typing"
    if person.online and not person.me:
        return "here now"
    return "never" if person.last_seen is None else hour_age(person.last_seen, now)
