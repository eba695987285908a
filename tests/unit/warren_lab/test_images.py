"""What goes into the lab's images, and the archives they leave in."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from warren_lab.images import PRODUCTS, ImageError, archive, base, build, ensure, recipes, wheels
from warren_lab.images.retention import Retention

REPOSITORY = Path(__file__).resolve().parents[3]


def test_a_package_list_has_one_name_a_line_and_comments() -> None:
    assert recipes.packages("# all\npython3\n\nnftables # rules\n") == ["python3", "nftables"]


def test_the_base_has_python_and_what_the_agent_loads() -> None:
    listed = recipes.packages((REPOSITORY / base.PACKAGES).read_text())
    assert {"python3", "libnftables1", "ca-certificates"} <= set(listed)


@pytest.mark.parametrize("name", PRODUCTS)
def test_each_containerfile_copies_only_its_own_packages(name: str) -> None:
    product = PRODUCTS[name]
    text = (REPOSITORY / product.containerfile).read_text()
    copied = {
        line.split()[1] for line in text.splitlines() if line.startswith("COPY ") and "/app/src/" in line
    }
    assert copied == set(product.sources)
    assert (f"COPY {product.requirements} " in text) == (name != recipes.COMMON)
    assert f'ENTRYPOINT ["warren-{name}"]' in text


@pytest.mark.parametrize("name", PRODUCTS)
def test_only_the_agent_runs_as_root(name: str) -> None:
    text = (REPOSITORY / PRODUCTS[name].containerfile).read_text()
    assert ("\nUSER 65532:65532\n" in text) == (name != "agent")


def test_an_image_s_name_changes_with_its_sources_and_not_with_compiled_files(tmp_path: Path) -> None:
    product = PRODUCTS["relay"]
    for folder in product.sources:
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "__init__.py").write_text("")
    first = recipes.source_fingerprint(product, tmp_path, "runtime")
    compiled = tmp_path / product.sources[0] / "__pycache__"
    compiled.mkdir()
    (compiled / "__init__.cpython-311.pyc").write_bytes(b"x")
    assert recipes.source_fingerprint(product, tmp_path, "runtime") == first
    (tmp_path / product.sources[0] / "__init__.py").write_text("VALUE = 1\n")
    assert recipes.source_fingerprint(product, tmp_path, "runtime") != first
    assert recipes.source_fingerprint(product, tmp_path, "other") != first


def test_a_stage_can_be_replaced_by_a_finished_image() -> None:
    one, two, last = "RUN make\n\n", "COPY --from=one /a /b\n\n", "FROM two\nUSER 1\n"
    text = f"ARG BASE\nFROM ${{BASE}} AS one\n{one}FROM ${{BASE}} AS two\n{two}{last}"
    assert recipes.with_stage(text, "one", "made:1") == (
        f"ARG BASE\nFROM made:1 AS one\n\nFROM ${{BASE}} AS two\n{two}{last}"
    )
    assert recipes.with_stage(text, "two", "made:2").endswith("FROM made:2 AS two\n\nFROM two\nUSER 1\n")
    with pytest.raises(ImageError, match="no stage 'three'"):
        recipes.with_stage(text, "three", "made:3")


def test_parts_of_a_fingerprint_do_not_run_into_each_other() -> None:
    assert recipes.fingerprint(["ab", "c"]) != recipes.fingerprint(["a", "bc"])


def test_wheels_are_fetched_for_the_images_python_with_hashes() -> None:
    command = wheels.download_command(Path("requirements/relay.txt"), Path("/wheels"), "x86_64")
    assert "--require-hashes" in command
    assert "--python-version=3.11" in command
    assert "--platform=manylinux_2_28_x86_64" in command


def test_merged_archives_hold_each_layer_once(tmp_path: Path) -> None:
    first = write_archive(tmp_path / "first.tar", "localhost/first:1", ["base.tar", "first-layer.tar"])
    second = write_archive(tmp_path / "second.tar", "localhost/second:1", ["base.tar", "second-layer.tar"])
    archive.merge([first, second], tmp_path / "both.tar")
    with tarfile.open(tmp_path / "both.tar") as merged:
        names = merged.getnames()
        listing = merged.extractfile("manifest.json")
        assert listing is not None
        tags = [image["RepoTags"] for image in json.load(listing)]
    assert tags == [["localhost/first:1"], ["localhost/second:1"]]
    assert sorted(names) == sorted(set(names))
    assert {"base.tar", "first-layer.tar", "second-layer.tar"} <= set(names)


def test_the_versions_used_last_are_kept(tmp_path: Path) -> None:
    retention = Retention(tmp_path, kept=2)
    assert retention.use("relay", "one") == []
    os.utime(tmp_path / "relay" / "one", (1, 1))
    assert retention.use("relay", "two") == []
    os.utime(tmp_path / "relay" / "two", (2, 2))
    assert retention.use("relay", "three") == ["one"]
    assert retention.use("relay", "two") == []
    assert retention.use("agent", "one") == []


def test_an_unknown_image_is_refused_before_anything_is_built(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no image is called mystery"):
        ensure(("mystery",), toolbox=NoPrograms(), cache=tmp_path)


def test_asking_for_an_image_that_was_not_made_says_which_there_are() -> None:
    made = build.Images(Path("all.tar"), {"web": "localhost/web:1"}, {"web": Path("web.tar")})
    with pytest.raises(ImageError, match="not among web"):
        made.reference("pause")


class NoPrograms:
    def path(self, program: str, /) -> Path:
        raise AssertionError(program)


def write_archive(path: Path, tag: str, layers: list[str]) -> Path:
    config = tag.replace("/", "-").replace(":", "-") + ".json"
    files = {name: name.encode() for name in layers} | {config: b"{}"}
    files["manifest.json"] = json.dumps([{"Config": config, "RepoTags": [tag], "Layers": layers}]).encode()
    with tarfile.open(path, "w") as out:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            out.addfile(member, io.BytesIO(content))
    return path
