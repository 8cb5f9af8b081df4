"""A scene of `demo`: a photo and a film go into the vault. The upload is killed and goes on, another member gets both.

What is claimed of them is checked to the byte: the demo made both, and knows what is to be left of them (demo_media).
"""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Final

from cocoon_cli.demo_cast import CommandFailed
from cocoon_cli.demo_media import TAGS, film_head, make_photo, write_film
from cocoon_cli.demo_scenes import Scenes
from cocoon_cli.text import count, size

PICTURES: Final = 200  # of the film, a MiB each
PHOTO, FILM = "gooseberry-harvest.jpg", "greenhouse-rehearsal.mp4"
CAPTION, ALBUM = "Before the opening, seen from the beehives", "Greenhouse opening"
TYPES: Final = ("image/jpeg", "video/mp4")
STARTED: Final = 12  # chunks at the relay when the upload is killed
WAIT_SECONDS: Final = 60.0
_CHUNK: Final = 1024 * 1024  # bytes, of which a file of the relay that holds one has a little more
_LOOK_SECONDS: Final = 0.005


class Vaulting(Scenes):
    """Large files, the death of a process, and what is left of the metadata."""

    vault_words: tuple[str, ...] = (PHOTO, FILM, CAPTION, ALBUM, *TYPES, *TAGS)  # all that says something of them

    def _keep_files(self) -> None:
        """Up, killed, up again; down, and compared."""
        ana, tell = self._members[0], self._narrator
        tell.chapter(f"A photo with its place and a film of {PICTURES} MB go into the vault")
        pictures = self._root / "pictures"
        pictures.mkdir()
        (pictures / PHOTO).write_bytes(make_photo(tagged=True))
        write_film(pictures / FILM, PICTURES)
        self._names += [PHOTO, FILM, CAPTION, ALBUM, *TAGS]
        paths = [str(pictures / name) for name in (PHOTO, FILM)]
        for item in ana.run("vault", "add", *paths, "--caption", CAPTION, "--album", ALBUM)["items"]:
            tell.say(f"{item['name']}: {size(item['size'])}; taken out: {', '.join(item['removed'])}")
        total = PICTURES + 1
        before = self._kill_upload()
        tell.say(f"the upload is killed (SIGKILL) when {count(len(before), 'chunk')} of {total} are at the relay")
        tell.check("it was in the middle", 0 < len(before) < total - 1)
        ana.run("sync")
        after = self._chunks()
        once = len({path.stem for path in after}) == len(after)  # a file is named by the blob's hash and a suffix
        is_kept = before.items() <= after.items()
        tell.check("the next sync goes on: all are there, and none was put twice", once and is_kept)
        tell.check("nothing waits to be sent", ana.run("vault", "status")["waiting"]["files"] == 0)
        self._compare(pictures)

    def _kill_upload(self) -> dict[Path, int]:
        """Begin a sync and kill it when some of the film is at the relay; the chunks that are there then."""
        sync = self._members[0].start("sync")
        ends = time.monotonic() + WAIT_SECONDS
        while len(self._chunks()) < STARTED:
            if time.monotonic() > ends:
                sync.stop()
                raise CommandFailed(f"Nothing of the film came to the relay within {WAIT_SECONDS:.0f} seconds.")
            time.sleep(_LOOK_SECONDS)
        sync.stop()
        return self._chunks()

    def _chunks(self) -> dict[Path, int]:
        """The chunks that are blobs at the relay, and when each was written; not what is only on its way in."""
        found = {}
        for path in (self._relay.folder / "data" / "blobs").glob("*/*"):
            seen = path.stat()
            if _CHUNK < seen.st_size <= _CHUNK + 64:
                found[path] = seen.st_mtime_ns
        return found

    def _compare(self, pictures: Path) -> None:
        """Another member saves both; they are what was added, to the byte, without what was taken out."""
        member, tell = self._members[-1], self._narrator
        member.run("sync")
        saved = self._root / "saved"
        got = member.run("vault", "get", "--album", ALBUM, "-o", str(saved))
        paths = {Path(item["path"]).name: Path(item["path"]) for item in got["items"]}
        tell.check(f"{member.name} has both", sorted(paths) == [PHOTO, FILM])
        photo = paths[PHOTO].read_bytes()
        tell.check("the photo is the same to the byte, without its EXIF", photo == make_photo(tagged=False))
        head = film_head(PICTURES, tagged=False)
        wanted = hashlib.sha256(head)
        with (pictures / FILM).open("rb") as film:
            film.seek(len(head))
            while part := film.read(_CHUNK):
                wanted.update(part)
        with paths[FILM].open("rb") as film:
            found = hashlib.file_digest(film, "sha256")
            film.seek(0)
            said = photo + film.read(len(head))
        tell.check("so is the film, without its tags and times", wanted.digest() == found.digest())
        tell.check("nothing of place, device or maker is left", not any(tag.encode() in said for tag in TAGS))
