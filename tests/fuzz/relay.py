"""Coverage-guided fuzzing of the relay's parsers: `python tests/fuzz/relay.py TARGET [libFuzzer options]`.

Needs the package `atheris`, which is no dependency of the project: `make fuzz` installs it beside it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris  # type: ignore[import-not-found,import-untyped,unused-ignore]  # not installed for the type checker

sys.path.insert(0, str(Path(__file__).parents[1]))
with atheris.instrument_imports(include=["warren_wire", "warren_runtime"]):
    from support import fuzzing


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in fuzzing.TARGETS:
        sys.exit(f"choose a target: {' '.join(fuzzing.TARGETS)}")
    target = fuzzing.TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, lambda data: target(bytes(data)))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
