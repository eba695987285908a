"""Reading settings from YAML files and the environment; every problem is collected and reported at once.

Knows no component: a component builds its frozen dataclass from a `Section` and then calls
`Problems.raise_if_any`.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

MAX_FILE_BYTES: Final = 1 << 20
"""Settings are small; anything larger is the wrong file."""


class SettingsError(Exception):
    """Settings that cannot be used. `problems` has one line each, beginning with the path of the field."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Listen:
    """Where to listen. An empty host means every address of both families."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Listen:
        """`0.0.0.0:443`, `[::1]:443`, `:443`; ValueError otherwise."""
        host, colon, port_text = text.rpartition(":")
        if not colon or not port_text.isascii() or not port_text.isdigit() or int(port_text) > 65535:
            raise ValueError("must be ADDRESS:PORT")
        if host.startswith("[") and host.endswith("]"):
            return cls(str(ipaddress.IPv6Address(host[1:-1])), int(port_text))
        if host:
            host = str(ipaddress.IPv4Address(host))
        return cls(host, int(port_text))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def load_yaml(path: Path | str) -> dict[str, Any]:
    """The mapping in a YAML file; an empty file is an empty mapping."""
    file = Path(path)
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise SettingsError([f"{file}: {error.strerror}"]) from error
    if len(data) > MAX_FILE_BYTES:
        raise SettingsError([f"{file}: larger than {MAX_FILE_BYTES} bytes"])
    try:
        value = yaml.safe_load(data)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise SettingsError([f"{file}: not YAML: {_first_line(error)}"]) from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise SettingsError([f"{file}: must be a mapping"])
    return value


def from_environment(
    prefix: str, fields: Collection[str], environ: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """Set fields of the environment by dotted path: `tls.key` is `PREFIX_TLS_KEY`."""
    found = {}
    for field in fields:
        name = f"{prefix}_{field.replace('.', '_')}".upper()
        if name in environ:
            found[field] = environ[name]
    return found


def overlay(data: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of `data` with values put at dotted paths; what is no mapping on the way is replaced."""
    result = dict(data)
    for path, value in values.items():
        first, _, rest = path.partition(".")
        if rest:
            inner = result.get(first)
            result[first] = overlay(inner if isinstance(inner, Mapping) else {}, {rest: value})
        else:
            result[first] = value
    return result


class Problems:
    """Collects what is wrong, so that a person sees it all in one run."""

    def __init__(self) -> None:
        self._found: list[str] = []

    def add(self, path: str, text: str) -> None:
        self._found.append(f"{path}: {text}" if path else text)

    def raise_if_any(self) -> None:
        if self._found:
            raise SettingsError(self._found)


class Section:
    """Typed reading of one mapping. A wrong value is a problem and reads as its default."""

    def __init__(self, data: object, path: str, problems: Problems) -> None:
        self._path = path
        self._problems = problems
        self._known: set[str] = set()
        if isinstance(data, Mapping):
            self._data: Mapping[object, object] = data
        else:
            self._data = {}
            if data is not None:
                problems.add(path, "must be a mapping")

    def problem(self, name: str, text: str) -> None:
        """Report a problem of a field of this section."""
        self._problems.add(self._at(name), text)

    def has(self, name: str) -> bool:
        return self._data.get(name) is not None

    def raw(self, name: str) -> object:
        self._known.add(name)
        return self._data.get(name)

    def text(self, name: str, default: str | None = None, *, required: bool = False) -> str:
        """A non-empty string."""
        value = self._value(name, required=required and default is None)
        if value is None:
            return default or ""
        if isinstance(value, str) and value:
            return value
        self.problem(name, "must be a non-empty string")
        return default or ""

    def choice(self, name: str, allowed: Collection[str], default: str) -> str:
        value = self.text(name, default)
        if value not in allowed:
            self.problem(name, f"must be one of {', '.join(allowed)}")
            return default
        return value

    def boolean(self, name: str, default: bool) -> bool:
        value = self._value(name)
        match value:
            case None:
                return default
            case bool():
                return value
            case "true" | "True" | "1" | "yes":
                return True
            case "false" | "False" | "0" | "no":
                return False
        self.problem(name, "must be true or false")
        return default

    def integer(self, name: str, default: int, *, low: int, high: int) -> int:
        value = self._value(name)
        if value is None:
            return default
        if isinstance(value, str) and value.lstrip("-").isascii() and value.lstrip("-").isdigit():
            value = int(value[:20])
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        self.problem(name, f"must be a whole number from {low} to {high}")
        return default

    def listen(self, name: str, default: str | None = None, *, required: bool = False) -> Listen | None:
        """`ADDRESS:PORT`; None when left out without a default."""
        value = self.text(name, default, required=required)
        if not value:
            return None
        try:
            return Listen.parse(value)
        except ValueError:
            self.problem(name, "must be ADDRESS:PORT, such as 0.0.0.0:443 or [::]:443")
            return None

    def path(self, name: str, default: str | None = None, *, required: bool = False) -> Path | None:
        value = self.text(name, default, required=required)
        return Path(value) if value else None

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of strings; left out means empty."""
        value = self._value(name)
        if value is None:
            return ()
        if isinstance(value, list) and all(isinstance(item, str) and item for item in value):
            return tuple(value)
        self.problem(name, "must be a list of strings")
        return ()

    def list_of_texts(self, name: str) -> tuple[str, ...]:
        """A list of strings, or one text with commas, as flags and variables give it."""
        value = self._value(name)
        if value is None:
            return ()
        found = value.split(",") if isinstance(value, str) else value
        if not isinstance(found, list) or not all(isinstance(each, str) and each.strip() for each in found):
            self.problem(name, "must be a list of texts")
            return ()
        return tuple(each.strip() for each in found)

    def section(self, name: str) -> Section:
        return Section(self.raw(name), self._at(name), self._problems)

    def sections(self, name: str) -> list[Section]:
        """A list of mappings."""
        value = self.raw(name)
        if value is None:
            return []
        if not isinstance(value, list):
            self.problem(name, "must be a list")
            return []
        return [
            Section(item if item is not None else "", f"{self._at(name)}[{index}]", self._problems)
            for index, item in enumerate(value)
        ]

    def finish(self) -> None:
        """Report keys that nothing asked for: a misspelt setting must not be ignored silently."""
        for name in self._data:
            if name not in self._known:
                self._problems.add(self._at(str(name)), "unknown setting")

    def _value(self, name: str, *, required: bool = False) -> object:
        value = self.raw(name)
        if value is None and required:
            self.problem(name, "is required")
        return value

    def _at(self, name: str) -> str:
        return f"{self._path}.{name}" if self._path else name


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return " ".join(line.strip() for line in lines[:3]) if lines else type(error).__name__
