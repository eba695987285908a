"""TCP through the kernel's WireGuard as agents set it up, against WireGuard set by hand on the same hosts.

Both run in the emulated machine, so only the ratio says something.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from pathlib import Path
from typing import Final

from warren_bench import frame
from warren_bench.frame import Row
from warren_lab import patience, preflight
from warren_lab.errors import LabError
from warren_lab.vm import ensure_image, run

ROOT: Final = Path(__file__).parents[2]
FOLDERS: Final = ("wire", "runtime", "node-agent", "control-server", "lab", "bench")
PATIENCE: Final = 10
LIMIT_SECONDS: Final = 1800.0


def rows(runs: int) -> list[Row]:
    """`runs` transfers of each, in turns. Raises `LabError`."""
    if problems := preflight.ensure(("network", "vm", "bench")):
        raise LabError("; ".join(str(problem) for problem in problems))
    command = (
        f"export {patience.VARIABLE}={PATIENCE}\n"
        f"python3 -m warren_bench.kernel_plane_guest {runs} >/dev/ttyS1\n"
    )
    with tempfile.TemporaryDirectory(prefix="warren-bench-") as logs:
        finished = run(
            ensure_image(print),
            {ROOT / name: name for name in FOLDERS},
            command,
            logs=Path(logs),
            timeout_seconds=LIMIT_SECONDS,
        )
    turns = [json.loads(line) for line in finished.results if line.startswith("{")]
    if len(turns) != runs:
        raise LabError(
            f"the virtual machine measured {len(turns)} of {runs} turns: {finished.console[-3000:]}"
        )
    ours, by_hand = (statistics.median(turn[side] for turn in turns) for side in ("agents", "by_hand"))
    return [
        frame.row(
            "TCP direct, kernel, in the emulated machine",
            ours,
            "Gbit/s",
            peer=by_hand,
            peer_name="wg by hand",
            goal=">= 0.98",
        )
    ]
