"""What a file is said to be follows from its bytes; what is claimed opens and shows nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cocoon_core.vault.file_types import (
    TYPES,
    UNKNOWN,
    Handling,
    Kind,
    claimed_type,
    extension_of,
    name_for_opening,
    type_of,
)


@pytest.mark.parametrize(
    ("head", "name", "mime"),
    [
        (b"\xff\xd8\xff\xe0\0\x10JFIF\0", "a.png", "image/jpeg"),
        (b"\x89PNG\r\n\x1a\n\0\0", "", "image/png"),
        (b"RIFF\0\0\0\0WEBPVP8X", "a", "image/webp"),
        (b"RIFF\0\0\0\0WAVEfmt ", "a", "audio/wav"),
        (b"RIFF\0\0\0\0ACON", "a.wav", "application/octet-stream"),
        (b"\0\0\0\x18ftypheic", "IMG.HEIC", "image/heic"),
        (b"\0\0\0\x18ftypavif", "a", "image/avif"),
        (b"\0\0\0\x18ftypqt  ", "a", "video/quicktime"),
        (b"\0\0\0\x18ftypisom", "a", "video/mp4"),
        (b"\0\0\0\x18ftypM4A ", "a.mp4", "audio/mp4"),
        (b"\0\0\0\x18ftyp3gp5", "a", "video/3gpp"),
        (b"\x1aE\xdf\xa3\x9fB\x86\x81\x01B\x82\x84webm", "a", "video/webm"),
        (b"\x1aE\xdf\xa3\x9fB\x86\x81\x01B\x82\x88matroska", "a", "video/x-matroska"),
        (b"ID3\4\0\0", "x", "audio/mpeg"),
        (b"\xff\xfb\x90\x64", "x", "audio/mpeg"),
        (b"\xff\xf1\x50\x80", "x", "audio/aac"),
        (b"\xff\xff\xff\xff", "x.mp3", "application/octet-stream"),
        (b"OggS\0\2", "x.opus", "audio/ogg"),
        (b"%PDF-1.7", "x.txt", "application/pdf"),
        (b"PK\3\4\x14\0", "x.docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        (b"PK\3\4\x14\0", "x.jpg", "application/zip"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "x.xls", "application/vnd.ms-excel"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "x.msi", "application/octet-stream"),
        (b"MZ\x90\0", "x.jpg", "application/octet-stream"),
        (b"\x7fELF\2\1", "x.jpg", "application/octet-stream"),
        (b"rubbish \0\1", "x.jpg", "application/octet-stream"),
        (b"some words", "x.jpg", "text/plain"),
        (b"some words", "x.md", "text/markdown"),
        ("größer".encode() * 700, "x", "text/plain"),
        (b"\xff\xfes\0o\0", "x.txt", "application/octet-stream"),
        (b"", "empty.txt", "text/plain"),
        (b" \n<!DOCTYPE html><p>", "x.txt", "text/html"),
        (b"<script>alert(1)</script>", "x.md", "text/html"),
        (b"<!-- x --><b>", "x.csv", "text/html"),
        (b"<?xml version='1.0'?>\n<svg xmlns='x'><script/>", "x.png", "image/svg+xml"),
        (b"<?xml version='1.0'?><gpx>", "x.gpx", "application/gpx+xml"),
        (b"a < b, and <b> too", "x.txt", "text/plain"),
    ],
)
def test_attack_21_the_bytes_say_what_a_file_is(head: bytes, name: str, mime: str) -> None:
    assert type_of(head, name).mime == mime


@given(st.binary(max_size=600), st.text(st.characters(), max_size=30))
def test_attack_21_whatever_the_bytes_the_type_is_one_of_the_table(head: bytes, name: str) -> None:
    assert type_of(head, name) in TYPES.values()


@pytest.mark.parametrize(
    "claim", ["text/html; x", "TEXT/HTML", "image/jpeg\n", "", None, 7, b"image/jpeg", ["image/jpeg"], "x"]
)
def test_attack_21_a_claim_that_is_not_in_the_table_is_of_no_known_type(claim: object) -> None:
    assert claimed_type(claim) is UNKNOWN


def test_a_claim_of_the_table_is_read() -> None:
    assert claimed_type("video/mp4").kind is Kind.VIDEO


def test_attack_21_no_type_that_may_hold_script_is_shown_or_opened() -> None:
    active = {"text/html", "image/svg+xml", "application/xml", "application/octet-stream", "application/msword"}
    assert {mime for mime in active if TYPES[mime].handling is not Handling.SAVE} == set()
    inline = [row for row in TYPES.values() if row.handling is Handling.INLINE]
    assert inline
    assert all(row.kind is not Kind.FILE for row in inline)


@pytest.mark.parametrize(
    ("name", "opened"),
    [
        ("a.jpg", "a.jpg"),
        ("A.JPEG", "A.JPEG"),
        ("holiday.jpg.exe", "holiday.jpg.exe.jpg"),
        ("x.html", "x.html.jpg"),
        ("a.lnk", "a.lnk_.jpg"),
        ("", "file.jpg"),
        ("x" * 300 + ".exe", "x" * 196 + ".jpg"),
    ],
)
def test_attack_21_a_file_is_opened_under_the_extension_of_its_bytes(name: str, opened: str) -> None:
    assert name_for_opening(name, TYPES["image/jpeg"]) == opened


def test_an_extension_is_what_follows_the_last_dot() -> None:
    assert [extension_of(n) for n in ("a.JPG", "a.tar.gz", ".bashrc", "a", "a.")] == ["jpg", "gz", "", "", ""]
