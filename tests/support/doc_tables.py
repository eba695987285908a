"""Tables, code blocks and links of the Markdown documents, so that tests can compare them with the code."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).parents[2]
DOCS: Final = ROOT / "docs"

_CODE: Final = re.compile(r"`([^`]+)`")
_FENCE: Final = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Table:
    """One table: the names of its columns and the text of its cells."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def column(self, name: str) -> dict[str, str]:
        """The cells of a column by the name in `code` of their row's first cell."""
        index = self.columns.index(name)
        found = {_name(row[0]): row[index] for row in self.rows}
        assert len(found) == len(self.rows), "a name is given twice"
        return found

    @property
    def names(self) -> set[str]:
        return set(self.column(self.columns[0]))


def table(document: str, first_column: str, heading: str = "") -> Table:
    """The table of a document (below `heading`, if given) whose first column has this title."""
    text = (DOCS / document).read_text()
    if heading:
        text = text.split(f"\n{heading}\n", 1)[1]
    for found in _tables(text):
        if found.columns[0] == first_column:
            return found
    raise AssertionError(f"{document} has no table of {first_column}s {heading and f'below {heading!r}'}")


def given(cell: str) -> str | None:
    """The text in `code` of a cell that is nothing else, or None where it is words or a dash."""
    found = _CODE.fullmatch(cell)
    return found[1] if found else None


def value(cell: str) -> Any:
    """The YAML value in `code` of a cell."""
    text = given(cell)
    assert text is not None, cell
    return yaml.safe_load(text)


def blocks(document: Path, language: str) -> list[str]:
    """The code blocks of a language, also of those inside a list."""
    return [
        textwrap.dedent(text) for found, text in _FENCE.findall(document.read_text()) if found == language
    ]


def without_blocks(document: Path) -> str:
    return _FENCE.sub("", document.read_text())


def _tables(text: str) -> Iterator[Table]:
    lines: list[str] = []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            lines.append(line)
        elif lines:
            yield Table(_cells(lines[0]), tuple(_cells(each) for each in lines[2:]))
            lines = []


def _cells(line: str) -> tuple[str, ...]:
    return tuple(cell.strip() for cell in line.strip().strip("|").split("|"))


def _name(cell: str) -> str:
    found = _CODE.match(cell)
    assert found, f"{cell!r} does not begin with a name in `code`"
    return found[1]
