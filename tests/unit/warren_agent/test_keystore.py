"""Keys on disk."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from warren_agent.errors import StateError
from warren_agent.keystore import (
    FILE_NAME,
    load,
    load_or_create,
    save,
    with_accepted_node_key,
    with_new_node_key,
)


def test_keys_are_made_once_and_found_again(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    made = load_or_create(folder)
    assert load_or_create(folder) == made
    assert len({made.machine.raw, made.node.raw, made.disco.raw}) == 3


def test_only_the_owner_may_read_them(tmp_path: Path) -> None:
    load_or_create(tmp_path / "state")
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "state" / FILE_NAME).stat().st_mode) == 0o600


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    load_or_create(tmp_path)
    (tmp_path / FILE_NAME).chmod(0o640)
    with pytest.raises(StateError, match="chmod 600"):
        load(tmp_path)


def test_a_damaged_file_is_refused_and_never_replaced(tmp_path: Path) -> None:
    made = load_or_create(tmp_path)
    path = tmp_path / FILE_NAME
    for damaged in (b"", b"{}", b"[]", b"null", path.read_bytes()[:-80], b"{" * 20000):
        path.write_bytes(damaged)
        with pytest.raises(StateError, match="damaged") as caught:
            load_or_create(tmp_path)
        assert made.node.raw.hex() not in str(caught.value)
        assert path.read_bytes() == damaged


def test_nothing_but_the_keys_is_left_in_the_folder(tmp_path: Path) -> None:
    save(tmp_path, load_or_create(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


def test_a_rotated_key_remembers_the_one_before_until_it_is_accepted(tmp_path: Path) -> None:
    old = load_or_create(tmp_path)
    new = with_new_node_key(old)
    save(tmp_path, new)
    assert load(tmp_path) == new
    assert (new.machine, new.disco, new.previous_node) == (old.machine, old.disco, old.node)
    assert with_accepted_node_key(new).previous_node is None


def test_keys_never_show(tmp_path: Path) -> None:
    made = load_or_create(tmp_path)
    assert made.machine.raw.hex() not in repr(made)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="state_dir"):
        load_or_create(tmp_path / "file" / "state")
