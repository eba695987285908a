"""What the lab says about a machine."""

from __future__ import annotations

import pytest

from warren_lab.errors import LabError
from warren_lab.preflight import NEEDS, Problem, check, missing_packages


def test_packages_are_listed_once_and_only_where_they_help() -> None:
    problems = [
        Problem("the program nsenter is missing", "apt-get install util-linux", ("util-linux",)),
        Problem("the program unshare is missing", "apt-get install util-linux", ("util-linux",)),
        Problem("/dev/net/tun cannot be opened", "modprobe tun"),
    ]
    assert missing_packages(problems) == ["util-linux"]


def test_a_problem_is_one_line_that_says_how_to_fix_it() -> None:
    line = str(Problem("the program nft is missing", "apt-get install nftables"))
    assert line == "the program nft is missing: apt-get install nftables"


def test_an_unknown_need_is_refused_with_the_known_ones() -> None:
    with pytest.raises(LabError, match=f"choose from {', '.join(NEEDS)}"):
        check(["clusters"])
