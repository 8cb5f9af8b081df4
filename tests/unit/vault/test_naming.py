"""Names and texts of strangers: shown as what they are, saved where the user says, and nowhere else."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cocoon_core.errors import UsageError
from cocoon_core.protocol.names import is_hidden
from cocoon_core.vault import naming
from cocoon_core.vault.naming import MAX_FILE_NAME_BYTES, clean_file_name, clean_text, create_new, local_file_name

any_text = st.text(st.characters(), max_size=300)
nasty = st.lists(
    st.sampled_from(
        [
            "..",
            "/",
            "\\",
            ".",
            " ",
            "-",
            "CON",
            "nul",
            ".lnk",
            "a",
            "é",
            "\u0301",
            "\u200d",
            "\u202e",
            "😀",
            "\0",
            "\n",
            "\ud800",
        ]
    )
    | st.text(st.characters(), max_size=3),
    max_size=90,
).map("".join)


@pytest.mark.parametrize(
    ("given_name", "clean"),
    [
        ("Holiday 2024 (3).jpg", "Holiday 2024 (3).jpg"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("..\\..\\windows\\system.ini", "_.._windows_system.ini"),
        ("/etc/shadow", "_etc_shadow"),
        ("C:\\x.txt", "C__x.txt"),
        ("a\u2215b\uff0fc.txt", "a_b_c.txt"),
        (".bashrc", "bashrc"),
        ("..", "file"),
        ("", "file"),
        (". . .", "file"),
        ("-rf .jpg", "rf .jpg"),
        ("report.pdf. . ", "report.pdf"),
        ("photo\u202egpj.exe", "photogpj.exe"),
        ("a\x00b\nc\td.txt", "a b c d.txt"),
        ("photo.jpg" + " " * 80 + ".exe", "photo.jpg .exe"),
        ("CON", "_CON"),
        ("nul.txt", "_nul.txt"),
        ("com\u00b9 .tar.gz", "_com\u00b9 .tar.gz"),
        ("console.txt", "console.txt"),
        ("x.txt:stream", "x.txt_stream"),
        ("what?*|<>\".txt", "what______.txt"),
        ("desktop.ini", "desktop.ini_"),
        ("Photos.LNK", "Photos.LNK_"),
        ("a.library-ms", "a.library-ms_"),
        ("caf\udce9.jpg", "caf_.jpg"),
        ("e\u0301te\u0301.txt", "été.txt"),
        ("می‌خواهم.txt", "می‌خواهم.txt"),
        ("👩‍👩‍👧 us.png", "👩‍👩‍👧 us.png"),
        ("pho\u200dto.ex\u200de", "photo.exe"),
        ("x" + "\u0335" * 100, "x" + "\u0335" * 4),
    ],
)  # fmt: skip
def test_attack_21_a_name_becomes_one_plain_file_name(given_name: str, clean: str) -> None:
    assert clean_file_name(given_name) == clean


@given(any_text | nasty)
@example("a" * 190 + ".\u0301jpeg" * 8)
@example("-" * 5000)
@example("con" + "\u0301" * 300)
def test_attack_21_whatever_the_name_it_is_bounded_visible_and_stays_as_it_is(name: str) -> None:
    clean = clean_file_name(name)
    assert 0 < len(clean.encode()) <= MAX_FILE_NAME_BYTES
    assert clean == Path(clean).name == unicodedata.normalize("NFC", clean)
    assert not set(clean) & set('/\\<>:"|?*\0\n')
    assert clean[0] not in ". -"
    assert clean[-1] not in ". "
    assert not [c for c in clean if is_hidden(ord(c)) and c not in "\u200c\u200d"]
    assert clean_file_name(clean) == clean


def test_a_long_name_keeps_its_extension_and_whole_letters() -> None:
    assert clean_file_name("ß" * 300 + ".jpeg") == "ß" * 97 + ".jpeg"
    assert clean_file_name("x" * 300) == "x" * MAX_FILE_NAME_BYTES
    assert clean_file_name("a." + "x" * 300) == "a." + "x" * (MAX_FILE_NAME_BYTES - 2)
    assert clean_file_name("x" + "q\u0323" * 300).endswith("q\u0323")


def test_a_long_name_takes_no_longer_than_a_short_one(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    honest = naming._show
    monkeypatch.setattr(naming, "_show", lambda text: seen.append(len(text)) or honest(text))  # type: ignore[func-returns-value]
    clean_file_name("../" * 10**6)
    clean_text("\u202e" * 10**6, 200)
    assert max(seen) <= 4096


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("  two\n\n words ", "two words"),
        ("pay \u202eevil\u202c", "pay evil"),
        ("\x1b]0;owned\x07", "]0;owned"),
        ("a/b: c?", "a/b: c?"),
        ("\u200b\u2800\u3164", ""),
    ],
)
def test_attack_21_a_title_is_one_harmless_line(text: str, clean: str) -> None:
    assert clean_text(text, 200) == clean


def test_a_caption_keeps_its_lines_and_is_cut_with_an_ellipsis() -> None:
    assert clean_text("a\r\n\r\n\r\n\r\nb\x1b \rc", 200, lines=True) == "a\n\nb\nc"
    assert clean_text("größer als erlaubt", 12) == "größer…"
    assert len(clean_text("ß" * 500, 101).encode()) <= 101


@given(any_text | nasty, st.integers(0, 60), st.booleans())
def test_attack_21_whatever_the_text_it_is_bounded_and_nothing_in_it_is_hidden(
    text: str, limit: int, lines: bool
) -> None:
    clean = clean_text(text, limit, lines=lines)
    assert len(clean.encode()) <= limit
    assert not [c for c in clean if is_hidden(ord(c)) and c not in ("\u200c", "\u200d", "\n" if lines else "")]


def test_names_of_this_device_are_taken_from_the_end_of_the_path() -> None:
    assert local_file_name("/home/ana/../x/photo.jpg") == "photo.jpg"
    assert local_file_name(os.fsdecode(b"/tmp/caf\xe9.jpg")) == "caf_.jpg"


def test_attack_21_a_file_is_made_in_the_folder_and_takes_the_place_of_nothing(tmp_path: Path) -> None:
    folder, secret = tmp_path / "folder", tmp_path / "secret.txt"
    folder.mkdir()
    secret.write_text("kept")
    (folder / "link.txt").symlink_to(secret)
    (folder / "dangling.txt").symlink_to(tmp_path / "nowhere")
    (folder / "dir.txt").mkdir()
    made = []
    for name in ("../secret.txt", "/etc/x", "link.txt", "dangling.txt", "dir.txt", "a.txt", "a.txt", "..", ".."):
        path, file = create_new(folder, name)
        with file:
            file.write(b"x")
        made.append(path.name)
    assert made == [
        *("_secret.txt", "_etc_x", "link (2).txt", "dangling (2).txt", "dir (2).txt", "a.txt", "a (2).txt"),
        *("file", "file (2)"),
    ]
    assert secret.read_text() == "kept"
    assert not (tmp_path / "nowhere").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"folder", "secret.txt"}
    assert not [path for path in folder.glob("*_*") if path.stat().st_mode & 0o111]


def test_a_folder_that_cannot_take_the_file_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="is no folder"):
        create_new(tmp_path / "none", "a.txt")
    monkeypatch.setattr(naming, "MAX_SAME_NAMES", 2)
    for _ in range(2):
        create_new(tmp_path, "a.txt")[1].close()
    with pytest.raises(UsageError, match="already"):
        create_new(tmp_path, "a.txt")
