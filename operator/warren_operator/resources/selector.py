"""Label selectors, matched as the API server matches them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from warren_operator.resources.reading import Reader


@dataclass(frozen=True, slots=True)
class Requirement:
    key: str
    operator: str
    values: tuple[str, ...]

    def matches(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.key)
        match self.operator:
            case "In":
                return value in self.values
            case "NotIn":
                return value not in self.values
            case "Exists":
                return value is not None
            case _:
                return value is None


@dataclass(frozen=True, slots=True)
class LabelSelector:
    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all(requirement.matches(labels) for requirement in self.requirements)


def read_selector(selector: Reader) -> LabelSelector:
    requirements = [
        Requirement(key, "In", (value,)) for key, value in sorted(selector.text_map("matchLabels").items())
    ]
    for index, item in enumerate(selector.value.get("matchExpressions") or []):
        part = Reader(item, f"{selector.path}.matchExpressions[{index}]", selector.problems)
        operator = part.text("operator")
        if operator not in ("In", "NotIn", "Exists", "DoesNotExist"):
            part.problem("operator", "must be In, NotIn, Exists or DoesNotExist")
        requirements.append(Requirement(part.text("key"), operator, part.texts("values")))
    return LabelSelector(tuple(requirements))
