"""Pure parts of a run, and the sweep of folders."""

from __future__ import annotations

import json
import os
from pathlib import Path

from warren_lab.process import entering, start_time
from warren_lab.run import kept_runs, mounts_below


def test_a_program_enters_its_namespace_without_another_process_around_it() -> None:
    assert entering(["sleep", "1"], "wl1-home") == [
        "nsenter",
        "--net=/run/netns/wl1-home",
        "--",
        "sleep",
        "1",
    ]
    assert entering(["sleep", "1"], None) == ["sleep", "1"]
    assert entering(["sleep", "1"], None, own_mounts=True)[:2] == ["unshare", "--mount"]


def test_a_process_has_a_start_time_and_an_ended_one_has_none() -> None:
    assert start_time(os.getpid()) == start_time(os.getpid())
    assert start_time(2**22 + 1) is None


def test_mounts_are_taken_off_deepest_first_and_only_below_the_folder() -> None:
    mountinfo = "\n".join(
        f"{number} 1 0:1 / {point} rw - tmpfs tmpfs rw"
        for number, point in enumerate(["/", "/lab/1", "/lab/1/pods/x", "/lab/12/data", "/lab/1/pods"])
    )
    assert mounts_below(Path("/lab/1"), mountinfo) == ["/lab/1/pods/x", "/lab/1/pods"]


def test_only_runs_that_were_kept_are_listed(tmp_path: Path) -> None:
    for pid, text in {"11": json.dumps({"start": 1, "kept": True}), "12": '{"start": 1}', "13": "{"}.items():
        (tmp_path / pid).mkdir()
        (tmp_path / pid / "owner").write_text(text)
    assert kept_runs(tmp_path) == ["11"]
    assert kept_runs(tmp_path / "none") == []
