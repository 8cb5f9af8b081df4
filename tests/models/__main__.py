"""`python -m tests.models [--long] [MODULE…]`: check the models, and print one line for each configuration."""

from __future__ import annotations

import sys

from tests.models.test_models import BREAKS
from tests.models.tlc import Config, ToolMissingError, all_configs, run_config


def check_config(config: Config, expected: str | None) -> bool:
    outcome = run_config(config, workers=2, memory="6g") if config.long else run_config(config)
    verdict = "holds" if outcome.violated is None else f"violates {outcome.violated}"
    right = outcome.violated == expected and (expected is not None or outcome.left == 0)
    print(
        f"{config.module + '.' + config.name:34} {verdict:38} {outcome.distinct:>9,} distinct {outcome.generated:>10,} "
        f"generated {outcome.seconds:7.1f} s{'' if right else '   NOT AS EXPECTED'}",
        flush=True,
    )
    return right


def main(arguments: list[str]) -> int:
    long = "--long" in arguments
    modules = {word for word in arguments if not word.startswith("--")}
    wanted = [c for c in all_configs() if c.long == long and (not modules or c.module in modules)]
    try:
        right = [check_config(config, BREAKS.get((config.module, config.broken))) for config in wanted]
    except ToolMissingError as error:
        print(error, file=sys.stderr)
        return 1
    return 0 if right and all(right) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
