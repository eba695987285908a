"""Coverage-guided fuzzing: `python tests/fuzz/run.py TARGET FOLDER [libFuzzer options]`.

FOLDER is for seeds, the words of the dictionary, and inputs that fail. Needs the package `atheris`, which is
no dependency of the project: `make fuzz` installs it beside it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import atheris  # type: ignore[import-not-found,import-untyped,unused-ignore]  # not installed for the type checker

sys.path.insert(0, str(Path(__file__).parents[1]))
with atheris.instrument_imports(include=["warren_wire", "warren_runtime", "warren_control.policy"]):
    from support import fuzzing, policy_attempts

TARGETS: Final[dict[str, Callable[[bytes], object]]] = {
    **fuzzing.TARGETS,
    "policy": policy_attempts.attempt,
}


def main() -> None:
    if len(sys.argv) < 3 or sys.argv[1] not in TARGETS:
        sys.exit(f"give one of these and a folder: {' '.join(TARGETS)}")
    program, name, folder, *options = sys.argv
    target = TARGETS[name]
    arguments = [*_prepared(name, Path(folder)), *options, f"-artifact_prefix={folder}/{name}-"]
    atheris.Setup([program, *arguments], lambda data: _try(target, data))
    atheris.Fuzz()


def _try(target: Callable[[bytes], object], data: bytes) -> None:
    target(bytes(data))


def _prepared(name: str, folder: Path) -> list[str]:
    """Seeds and dictionary where a target has some; what libFuzzer finds is kept beside the seeds."""
    corpus = folder / f"{name}.corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    if name != "policy":
        return [str(corpus)]
    for number, seed in enumerate(policy_attempts.SEEDS):
        (corpus / f"seed{number}").write_bytes(seed)
    words = folder / f"{name}.dict"
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in policy_attempts.WORDS))
    return [f"-dict={words}", str(corpus)]


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


if __name__ == "__main__":
    main()
