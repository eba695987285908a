"""Settings: every problem at once, with its path."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren_runtime.settings import (
    Listen,
    Problems,
    Section,
    SettingsError,
    from_environment,
    load_yaml,
    overlay,
)

GOOD_LISTENS = [
    ("0.0.0.0:443", Listen("0.0.0.0", 443)),
    ("[::1]:0", Listen("::1", 0)),
    (":9090", Listen("", 9090)),
]


@pytest.mark.parametrize(("text", "listen"), GOOD_LISTENS)
def test_an_address_to_listen_on(text: str, listen: Listen) -> None:
    assert Listen.parse(text) == listen
    assert Listen.parse(str(listen)) == listen


@pytest.mark.parametrize(
    "text", ["", "443", "relay:443", "::1:443", "1.2.3.4:", "1.2.3.4:65536", "[x]:1", ":٣"]
)
def test_what_is_no_address_to_listen_on(text: str) -> None:
    with pytest.raises(ValueError):
        Listen.parse(text)


def test_all_problems_are_reported_with_their_paths() -> None:
    problems = Problems()
    data = {
        "port": "many",
        "tls": {"key": 5, "kee": 1},
        "mode": "odd",
        "tags": "x",
        "regions": [3, {}],
        "on": 7,
    }
    root = Section(data, "", problems)
    assert root.integer("port", 1, low=1, high=9) == 1
    tls = root.section("tls")
    assert tls.text("key") == ""
    tls.finish()
    assert root.choice("mode", ["open", "members"], "members") == "members"
    assert root.texts("tags") == ()
    assert len(root.sections("regions")) == 2
    assert root.boolean("on", True) is True
    assert root.text("name", required=True) == ""
    root.finish()
    with pytest.raises(SettingsError) as caught:
        problems.raise_if_any()
    assert caught.value.problems == (
        "port: must be a whole number from 1 to 9",
        "tls.key: must be a non-empty string",
        "tls.kee: unknown setting",
        "mode: must be one of open, members",
        "tags: must be a list of strings",
        "regions[0]: must be a mapping",
        "on: must be true or false",
        "name: is required",
    )


def test_good_values_are_read() -> None:
    problems = Problems()
    root = Section({"a": "x", "b": "12", "c": "no", "d": ["y"], "e": "/run", "f": ":1"}, "", problems)
    assert root.text("a") == "x"
    assert root.integer("b", 0, low=0, high=20) == 12
    assert root.boolean("c", True) is False
    assert root.texts("d") == ("y",)
    assert root.path("e") == Path("/run")
    assert root.path("missing") is None
    assert root.listen("f") == Listen("", 1)
    assert root.listen("missing") is None
    root.finish()
    problems.raise_if_any()


def test_files_that_are_not_settings(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    with pytest.raises(SettingsError, match="No such file"):
        load_yaml(file)
    for content in (
        b"- a list",
        b"a: [",
        b"\xff\xfe\xfa",
        b"a: !!python/object:os.system x",
        b"x" * (1 << 21),
    ):
        file.write_bytes(content)
        with pytest.raises(SettingsError):
            load_yaml(file)
    file.write_bytes(b"")
    assert load_yaml(file) == {}
    file.write_bytes(b"listen: :443\n")
    assert load_yaml(file) == {"listen": ":443"}


def test_the_environment_is_laid_over_a_file() -> None:
    environ = {"WARREN_X_TLS_KEY": "k", "WARREN_X_LISTEN": ":1", "WARREN_X_OTHER": "?"}
    found = from_environment("WARREN_X", ["tls.key", "listen", "log.level"], environ)
    assert found == {"tls.key": "k", "listen": ":1"}
    file = {"tls": {"certificate": "c", "key": "old"}, "a": 1}
    assert overlay(file, found) == {"tls": {"certificate": "c", "key": "k"}, "a": 1, "listen": ":1"}
    assert file["tls"] == {"certificate": "c", "key": "old"}
    assert overlay({"tls": None}, {"tls.key": "k"}) == {"tls": {"key": "k"}}


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    )
)
def test_any_value_is_read_or_reported(value: object) -> None:
    problems = Problems()
    root = Section({"x": value}, "", problems)
    root.text("x")
    root.integer("x", 0, low=0, high=10)
    root.boolean("x", False)
    root.texts("x")
    root.listen("x")
    root.section("x").finish()
    root.sections("x")
    with contextlib.suppress(SettingsError):
        problems.raise_if_any()
