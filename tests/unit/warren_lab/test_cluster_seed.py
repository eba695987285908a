"""Nodes share the unpacked images of a seed and nothing else."""

from __future__ import annotations

from pathlib import Path

from warren_lab.cluster import seed


def make_seed(folder: Path) -> Path:
    (folder / "snapshots" / "1" / "fs").mkdir(parents=True)
    (folder / "snapshots" / "1" / "fs" / "program").write_bytes(b"code")
    (folder / "snapshots" / "1" / "fs" / "link").symlink_to("program")
    (folder / "metadata").mkdir()
    (folder / "metadata" / "meta.db").write_bytes(b"images")
    return folder


def test_a_planted_folder_shares_files_but_has_its_own_databases(tmp_path: Path) -> None:
    origin = make_seed(tmp_path / "seed")
    target = tmp_path / "node"
    target.mkdir()
    seed.plant(origin, target)
    shared = Path("snapshots", "1", "fs", "program")
    assert (target / shared).samefile(origin / shared)
    assert (target / "snapshots" / "1" / "fs" / "link").readlink() == Path("program")
    (target / "metadata" / "meta.db").write_bytes(b"changed by the node")
    assert (origin / "metadata" / "meta.db").read_bytes() == b"images"
    assert sorted(path.name for path in (target / "metadata").iterdir()) == ["meta.db"]
