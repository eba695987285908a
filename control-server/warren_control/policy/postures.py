"""Device postures: conditions on what a node tells about itself, such as `node:os == 'linux'`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from warren_control.policy.network import AttributeValue


class Operator(Enum):
    EQUAL = "=="
    DIFFERENT = "!="
    AT_LEAST = ">="
    AT_MOST = "<="
    ABOVE = ">"
    BELOW = "<"
    IN = "IN"
    NOT_IN = "NOT IN"
    IS_SET = "IS SET"
    NOT_SET = "NOT SET"


@dataclass(frozen=True, slots=True)
class Assertion:
    attribute: str
    operator: Operator
    values: tuple[AttributeValue, ...]

    def holds(self, attributes: Mapping[str, AttributeValue]) -> bool:
        """Whether the condition is met. An attribute that is not known meets only `NOT SET`."""
        found = attributes.get(self.attribute)
        match self.operator:
            case Operator.IS_SET:
                return found is not None
            case Operator.NOT_SET:
                return found is None
            case Operator.IN:
                return found is not None and any(_equal(found, one) for one in self.values)
            case Operator.NOT_IN:
                return found is not None and not any(_equal(found, one) for one in self.values)
            case Operator.EQUAL:
                return found is not None and _equal(found, self.values[0])
            case Operator.DIFFERENT:
                return found is not None and not _equal(found, self.values[0])
            case _:
                return found is not None and self._ordered(found)

    def _ordered(self, found: AttributeValue) -> bool:
        left, right = _version(found), _version(self.values[0])
        match self.operator:
            case Operator.AT_LEAST:
                return left >= right
            case Operator.AT_MOST:
                return left <= right
            case Operator.ABOVE:
                return left > right
            case _:
                return left < right


_VALUE: Final = r"""'[^']{0,200}'|"[^"]{0,200}"|true|false|-?[0-9]{1,15}(?:\.[0-9]{1,15})?"""
_COMPARISON: Final = re.compile(rf"([A-Za-z]\w*:[\w.-]+)\s*(==|!=|>=|<=|>|<)\s*({_VALUE})")
_MEMBERSHIP: Final = re.compile(
    rf"([A-Za-z]\w*:[\w.-]+)\s+(IN|NOT\s+IN)\s*\[\s*({_VALUE})((?:\s*,\s*(?:{_VALUE})){{0,100}})\s*,?\s*\]"
)
_PRESENCE: Final = re.compile(r"([A-Za-z]\w*:[\w.-]+)\s+(IS\s+SET|NOT\s+SET)")
EXPECTED: Final = (
    "a condition like node:os == 'linux', node:tsVersion >= '1.60' or node:os IN ['linux', 'macos']"
)


def parse_assertion(text: str) -> Assertion:
    """The condition, or `ValueError`."""
    text = text.strip()
    if len(text) > 4000:
        raise ValueError("a condition of more than 4000 characters")
    found = _COMPARISON.fullmatch(text)
    if found is not None:
        return Assertion(found.group(1), Operator(found.group(2)), (_value(found.group(3)),))
    found = _MEMBERSHIP.fullmatch(text)
    if found is not None:
        values = tuple(_value(one) for one in re.findall(_VALUE, found.group(3) + found.group(4)))
        return Assertion(found.group(1), Operator(" ".join(found.group(2).split())), values)
    found = _PRESENCE.fullmatch(text)
    if found is not None:
        return Assertion(found.group(1), Operator(" ".join(found.group(2).split())), ())
    raise ValueError("not a condition")


def _value(text: str) -> AttributeValue:
    if text[0] in "'\"":
        return text[1:-1]
    if text in ("true", "false"):
        return text == "true"
    return float(text) if "." in text else int(text)


def _equal(left: AttributeValue, right: AttributeValue) -> bool:
    return left == right if type(left) is type(right) else _shown(left) == _shown(right)


def _shown(value: AttributeValue) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _version(value: AttributeValue) -> tuple[tuple[int, str], ...]:
    """Parts compare as numbers where they are numbers, so that 1.9 is below 1.10."""
    parts = re.findall(r"[0-9]{1,15}|[A-Za-z]+", _shown(value))
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in parts)
