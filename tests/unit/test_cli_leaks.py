"""The search for words in a relay's files finds them in every form it claims; so an empty result means something."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from cocoon_cli.leaks import SHORTEST, forms, id_forms, needles_of, search_tree

TEXT = "gooseberries"
STORED = {
    "plain": TEXT.encode(),
    "utf-16-le": TEXT.encode("utf-16-le"),
    "utf-16-be": TEXT.encode("utf-16-be"),
    "hex": TEXT.encode().hex().encode(),
    "HEX": TEXT.encode().hex().upper().encode(),
}


@pytest.mark.parametrize("form", STORED)
def test_a_word_is_found_in_each_encoding(tmp_path: Path, form: str) -> None:
    (tmp_path / "file").write_bytes(b"\xff\x00" + STORED[form] + b"\x00\xff")
    found = search_tree(tmp_path, needles_of([TEXT]))
    assert form in {hit.form for hit in found.hits}
    assert found.files == 1


@pytest.mark.parametrize("before", range(3))
@pytest.mark.parametrize("after", range(3))
@pytest.mark.parametrize("url", [False, True])
def test_a_word_is_found_in_base64_wherever_it_stood(tmp_path: Path, before: int, after: int, url: bool) -> None:
    raw = "»gooseberries?«".encode()
    encode = base64.urlsafe_b64encode if url else base64.b64encode
    (tmp_path / "file").write_bytes(encode(b"\x80" * before + raw + b"\x81" * after))
    assert search_tree(tmp_path, {"raw": forms(raw)}).hits


def test_a_word_is_found_in_the_name_of_a_file_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / f"{TEXT}.db").touch()
    assert search_tree(tmp_path, needles_of([TEXT])).hits


def test_a_text_that_was_cut_in_two_is_found_by_its_pieces(tmp_path: Path) -> None:
    (tmp_path / "page1").write_bytes(b"the goosebe")
    (tmp_path / "page2").write_bytes(b"rries are ripe, bring baskets!")
    found = search_tree(tmp_path, needles_of(["the gooseberries are ripe, bring baskets!"]))
    assert {hit.needle for hit in found.hits} == {"are ripe, br", "ripe, bring ", "bring basket", "baskets!"}


@pytest.mark.parametrize("stored", [b"\xab" * 16, b"ab" * 16, b"AB" * 16, base64.b64encode(b"\xab" * 16)])
def test_an_id_is_found_as_bytes_and_as_text(tmp_path: Path, stored: bytes) -> None:
    (tmp_path / "file").write_bytes(b"\x00" + stored + b"\x00")
    assert search_tree(tmp_path, {"id": id_forms("ab" * 16)}).hits


def test_what_would_be_found_by_chance_is_not_searched_for() -> None:
    assert set(needles_of(["a tiny word", "x" * SHORTEST, "short"])) == {"a tiny word", "tiny word", "x" * SHORTEST}


def test_random_bytes_hold_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(range(256)) * 64)
    assert search_tree(tmp_path, needles_of([TEXT])).hits == ()
