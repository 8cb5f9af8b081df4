"""Coverage-guided fuzzing of one parser: `python -m tests.fuzz.fuzz_parsers NAME [libFuzzer options]`.

Needs atheris (`pip install atheris`), which no other test needs. Any exception that the parser does not name is a
finding, and so is an input that takes longer than `-timeout` seconds. Without a name it lists the parsers.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import tempfile
from pathlib import Path


def main(arguments: list[str]) -> None:
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["cocoon_core"]):
        parsers = {parser.name: parser for parser in importlib.import_module("tests.support.parsers").all_parsers()}
    if not arguments or arguments[0] not in parsers:
        sys.exit("parsers: " + ", ".join(parsers))
    parser = parsers[arguments[0]]

    def try_one(raw: bytes) -> None:
        with contextlib.suppress(*parser.allowed):
            parser.read(raw)

    with tempfile.TemporaryDirectory() as corpus:
        for number, raw in enumerate(parser.inputs):
            (Path(corpus) / str(number)).write_bytes(raw)
        atheris.Setup([sys.argv[0], *arguments[1:], corpus], try_one)
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
