"""The pages of an archive: HTML for people, without script, without anything that is fetched.

Members write names and texts, and a member may be hostile. Whatever they wrote passes `_text` or `_name`, and a policy
in every page forbids script, forms, frames and every source but the one style that stands in it.
Implements specs/archive.md §3.
"""

from __future__ import annotations

import base64
import hashlib
import html
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cocoon_core.social.item import Item
from cocoon_core.social.post import Post

DEEPEST: Final = 6  # steps that replies are set in
QUOTED: Final = 300  # characters of a quoted post
COLOURS: Final = 8
_KEPT: Final = "\n\t\u200c\u200d"  # line ends, and the joiners that emoji and some scripts are written with
_INVISIBLE: Final = {"Cc", "Cf", "Cs", "Zl", "Zp"}

STYLE: Final = """
:root{color-scheme:light dark;--ground:#f6f4ef;--card:#fff;--ink:#22211f;--quiet:#6b675f;--line:#e2ded5;--mark:#8a5a00;
--link:#1d5f8a}
@media(prefers-color-scheme:dark){:root{--ground:#191817;--card:#232220;--ink:#ece9e2;--quiet:#a09b90;--line:#3a3834;
--mark:#e0b25c;--link:#8cc4ea}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);font:1rem/1.55 system-ui,-apple-system,"Segoe UI",Roboto,
"Noto Sans",sans-serif;-webkit-text-size-adjust:100%}
main,header,footer{max-width:46rem;margin:0 auto;padding:0 1rem}
header{padding-top:2rem}
h1{font-size:1.7rem;line-height:1.25;margin:.2rem 0 .4rem;overflow-wrap:anywhere}
h2{font-size:1.1rem;margin:2rem 0 .6rem}
a{color:var(--link);text-underline-offset:.15em}
p{margin:.5rem 0}
.quiet,time,footer{color:var(--quiet);font-size:.88rem}
.warn{border-left:.25rem solid var(--mark);background:var(--card);padding:.7rem 1rem;border-radius:.3rem}
nav{display:flex;flex-wrap:wrap;gap:.3rem 1.2rem;margin:.8rem 0}
nav .next{margin-left:auto}
.thread,.box{background:var(--card);border:1px solid var(--line);border-radius:.7rem;padding:.9rem 1.1rem;margin:1rem 0}
article{margin:0}
article+article{margin-top:1rem}
.d1,.d2,.d3,.d4,.d5,.d6{border-left:2px solid var(--line);padding-left:.8rem}
.d1{margin-left:.6rem}.d2{margin-left:1.4rem}.d3{margin-left:2.2rem}.d4{margin-left:3rem}.d5{margin-left:3.8rem}
.d6{margin-left:4.6rem}
.by{display:flex;flex-wrap:wrap;align-items:center;gap:.1rem .55rem}
.by b{overflow-wrap:anywhere}
.face{flex:none;width:1.9rem;height:1.9rem;border-radius:50%;display:inline-flex;align-items:center;
justify-content:center;color:#fff;font-weight:600;font-size:.9rem}
.c0{background:#9b4d3a}.c1{background:#2f6f6d}.c2{background:#6a4c93}.c3{background:#37618e}.c4{background:#7a6a1f}
.c5{background:#8a3d62}.c6{background:#46713a}.c7{background:#5c5c66}
.mark{color:var(--mark);font-size:.82rem}
.words{white-space:pre-wrap;overflow-wrap:anywhere;margin:.35rem 0 0}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.35rem .8rem .35rem 0;border-bottom:1px solid var(--line);vertical-align:top}
th{font-weight:600;color:var(--quiet);font-size:.85rem}
td{overflow-wrap:anywhere}
tr:last-child td{border-bottom:0}
td .by{flex-wrap:nowrap}
td.number{text-align:right;padding-right:0;white-space:nowrap}
ul{padding-left:1.2rem;margin:.4rem 0}
pre{white-space:pre-wrap;overflow-wrap:anywhere;font-size:.85rem;margin:.5rem 0}
footer{padding:2rem 1rem 3rem}
@media(max-width:32rem){.thread,.box{padding:.75rem .8rem}.d2{margin-left:.9rem}.d3{margin-left:1.2rem}
.d4{margin-left:1.5rem}.d5{margin-left:1.8rem}.d6{margin-left:2.1rem}}
@media print{body{background:#fff}.thread,.box{break-inside:avoid}}
"""
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
POLICY: Final = f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'"
WARNING: Final = (
    "Everybody who gets this folder can read all of it. It is not encrypted, and nothing in it proves who wrote what."
)


@dataclass(frozen=True, slots=True)
class MemberRow:
    """A line of the table of members."""

    id: str
    name: str
    note: str


@dataclass(frozen=True, slots=True)
class Shown:
    """A document as it is shown: its title, whose it is, its file, and its content if that is short."""

    title: str
    whose: str
    file: str
    content: str | None


def index_page(groups: Sequence[Mapping[str, str]], exported: datetime) -> str:
    """The page of the whole archive. Each group has `name`, `folder` and `posts`."""
    rows = "".join(
        f'<tr><td><a href="{attribute(group["folder"])}/index.html">{name_text(group["name"])}</a></td>'
        f'<td class="number">{name_text(group["posts"])}</td></tr>'
        for group in groups
    )
    table = f'<table><tr><th>Group</th><th class="number">Posts</th></tr>{rows}</table>' if groups else "<p>None.</p>"
    body = f'<p class="warn">{html.escape(WARNING)}</p><h2>Groups</h2><div class="box">{table}</div>'
    return _page("Cocoon archive", f'<p class="quiet">Written {when_text(exported)}</p>', body, exported)


def group_page(
    name: str,
    members: Iterable[MemberRow],
    months: Sequence[tuple[str, str, int]],
    documents: Sequence[Shown],
    notices: Sequence[str],
    exported: datetime,
    items: int,
    together: str | None,
) -> str:
    """The page of a group. `months` are (title, file, posts); `items` are in its vault; `together` is a page."""
    parts = [f'<p class="warn">{html.escape(WARNING)}</p>', "<h2>Posts</h2>"]
    if months:
        rows = "".join(
            f'<tr><td><a href="{attribute(file)}">{name_text(title)}</a></td><td class="number">{count}</td></tr>'
            for title, file, count in months
        )
        parts.append(f'<div class="box"><table>{rows}</table></div>')
    else:
        parts.append("<p>Nobody wrote anything yet.</p>")
    if items:
        box = f'<a href="vault.html">Files, photos and links</a> <span class="quiet">{items}</span>'
        parts.append(f'<h2>Vault</h2><div class="box">{box}</div>')
    if together is not None:
        box = f'<a href="{attribute(together)}">Lists, notes and events</a>'
        parts.append(f'<h2>Written together</h2><div class="box">{box}</div>')
    rows = "".join(
        f'<tr><td><span class="by">{_face(member.id, member.name)}'
        f'<b dir="auto">{name_text(member.name)}</b></span></td>'
        f'<td>{name_text(member.note)}</td><td class="number quiet">{name_text(member.id[:12])}</td></tr>'
        for member in members
    )
    parts.append(f'<h2>Members</h2><div class="box"><table>{rows}</table></div>')
    if documents:
        parts.append("<h2>Documents</h2>" + "".join(map(_document, documents)))
    if notices:
        told = "".join(f'<li dir="auto">{name_text(notice)}</li>' for notice in notices)
        parts.append(f'<h2>What the device was told</h2><div class="box"><ul>{told}</ul></div>')
    head = f'<nav><a href="../index.html">All groups</a></nav><h1 dir="auto">{name_text(name)}</h1>'
    return _page(name, head, "".join(parts), exported, has_title=True)


class MonthPage:
    """One page of threads, in pieces: `head`, a `thread` after the other, `tail`."""

    def __init__(
        self, group: str, title: str, before: str | None, exported: datetime, link: Callable[[Item], str]
    ) -> None:
        """Args:
        link: how what is attached is shown.
        """
        self._group, self._title, self._before, self._exported = group, title, before, exported
        self._link = link

    def head(self) -> str:
        back = f'<a href="{attribute(self._before)}">← Before</a>' if self._before else ""
        nav = f'<nav><a href="index.html">{name_text(self._group)}</a>{back}</nav>'
        return begin_page(f"{self._title} · {self._group}", f"{nav}<h1>{name_text(self._title)}</h1>")

    def thread(self, posts: Sequence[Post]) -> str:
        """A root and its replies, each under what it answers."""
        answers: dict[str, list[Post]] = {}
        here = {post.id for post in posts}
        root, *rest = posts
        for post in rest:
            answers.setdefault(post.parent if post.parent in here else root.id, []).append(post)
        parts = ['<section class="thread">']
        todo, done = [(root, 0)], {root.id}
        while todo:
            post, depth = todo.pop()
            parts.append(_post(post, depth, self._link, is_root=post is root))
            fresh = [answer for answer in answers.get(post.id, ()) if answer.id not in done]
            done.update(answer.id for answer in fresh)
            todo.extend((answer, depth + 1) for answer in reversed(fresh))
        return "".join([*parts, "</section>\n"])

    def tail(self, following: str | None) -> str:
        link = f'<nav><a class="next" href="{attribute(following)}">After →</a></nav>' if following else ""
        return link + end_page(self._exported)


def _post(post: Post, depth: int, link: Callable[[Item], str], *, is_root: bool) -> str:
    marks = _marks(post)
    if is_root and post.parent is not None:
        marks.append("answers a post that is not here")
    shown = "".join(f'<span class="mark">{mark}</span>' for mark in marks)
    attached = "".join(f'<p class="quiet">Attached: {link(item)}</p>' for item in post.attachments)
    if post.missing:
        attached += f'<p class="quiet">Attached, and not here any more: {post.missing}</p>'
    words = f'{_quote(post)}<p class="words" dir="auto">{page_text(post.text)}</p>{attached}'
    if post.hidden:
        words = f"<details><summary>Show what an admin hid</summary>{words}</details>"
    return (
        f'<article id="p{attribute(post.id)}" class="d{min(depth, DEEPEST)}"><div class="by">'
        f'{_face(str(post.author_id), post.author)}<b dir="auto">{name_text(post.author)}</b>'
        f'<time datetime="{post.time.isoformat(timespec="milliseconds")}">{when_text(post.time)}</time>{shown}</div>'
        f"{'' if post.erased or post.deleted else words}</article>"
    )


def _marks(post: Post) -> list[str]:
    said = {"call": "calls everybody", "question": "question", "yes": "yes", "no": "no"}
    told = {
        "pinned": post.pinned,
        "edited": post.edited,
        "hidden by an admin": post.hidden,
        "deleted by its author": post.deleted,
        "erased by its author": post.erased,
    }
    marks = [said[word] for word in (post.ask, post.answer) if word is not None]
    if post.until is not None:
        marks.append(f"until {when_text(post.until)}")
    return [*marks, *(mark for mark, holds in told.items() if holds)]


def _quote(post: Post) -> str:
    """What a post quotes, if it can be shown."""
    quoted = post.quoted
    if quoted is None:
        return ""
    if quoted.author is None or quoted.hidden or quoted.gone:
        return '<p class="quiet">Quotes a post that is not shown</p>'
    words = quoted.text if len(quoted.text) <= QUOTED else f"{quoted.text[:QUOTED]}…"
    return f'<p class="quiet words" dir="auto">“{page_text(words)}” {name_text(quoted.author)}</p>'


def _document(document: Shown) -> str:
    content = ""
    if document.content is not None:
        content = f'<details><summary>Show</summary><pre dir="auto">{page_text(document.content)}</pre></details>'
    return (
        f'<div class="box"><b dir="auto">{name_text(document.title)}</b> '
        f'<span class="quiet">{name_text(document.whose)} · '
        f'<a href="{attribute(document.file)}">JSON</a></span>{content}</div>'
    )


def _face(identifier: str, name: str) -> str:
    first = next((letter for letter in harmless(name) if letter.isalnum()), "?")
    colour = int(hashlib.sha256(identifier.encode()).hexdigest()[:4], 16) % COLOURS
    return f'<span class="face c{colour}" aria-hidden="true">{html.escape(first.upper()[:1])}</span>'


# --- the frame of a page


def _page(title: str, head: str, body: str, exported: datetime, *, has_title: bool = False) -> str:
    shown = head if has_title else f"<h1>{name_text(title)}</h1>{head}"
    return begin_page(title, shown) + body + end_page(exported)


def begin_page(title: str, head: str) -> str:
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{html.escape(POLICY)}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="referrer" content="no-referrer">'
        f'<meta name="robots" content="noindex"><title>{name_text(title)}</title><style>{STYLE}</style></head>\n'
        f"<body><header>{head}</header>\n<main>\n"
    )


def end_page(exported: datetime) -> str:
    return (
        f"</main>\n<footer>Archive of a Cocoon group, written {when_text(exported)}. Times are what the authors’ "
        "clocks said, in UTC.</footer></body></html>\n"
    )


# --- what members wrote


def harmless(text: str) -> str:
    """The same text, and every character that could reorder, hide or end something made visible."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_visible(character) for character in text)


def _visible(character: str) -> str:
    if character in _KEPT or unicodedata.category(character) not in _INVISIBLE:
        return character
    return chr(0x2400 + ord(character)) if character < " " else f"<U+{ord(character):04X}>"


def page_text(text: str) -> str:
    """A text of many lines."""
    return html.escape(harmless(text.replace("\r\n", "\n")))


def name_text(text: str) -> str:
    """A text of one line."""
    return html.escape(harmless(" ".join(text.split("\n"))))


def attribute(text: str) -> str:
    """A name that this archive chose itself, in an attribute."""
    return html.escape(text, quote=True)


def when_text(time: datetime) -> str:
    return f"{time.day} {time:%b %Y, %H:%M} UTC"
