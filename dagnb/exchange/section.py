"""A part of a JSON text that knows its place there, so that an error can name it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dagnb.errors import GraphError
from dagnb.graph.brief import brief


@dataclass(frozen=True)
class Section:
    """An object of a JSON text. Methods raise GraphError for values of another type."""

    values: Mapping[str, Any]
    place: str = ""

    __repr__ = brief

    def __contains__(self, key: str) -> bool:
        """Tells whether the key exists and is not null."""
        return self.values.get(key) is not None

    def section(self, key: str) -> Section:
        """Returns the object under this key; an empty one if there is none."""
        if key not in self:
            return Section({}, self.at(key))
        return self.required(key)

    def required(self, key: str) -> Section:
        """Returns the object under this key, which must exist."""
        return Section(self._of(key, dict, "an object"), self.at(key))

    def sections(self, key: str) -> list[Section]:
        """Returns the list of objects under this key; empty if there is none."""
        sections = []
        for number, value in enumerate(self._list(key)):
            place = f"{self.at(key)}[{number}]"
            if not isinstance(value, dict):
                raise GraphError(f"{place} is {value!r:.60}, not an object. {_CURE}")
            sections.append(Section(value, place))
        return sections

    def text(self, key: str, default: str | None = None) -> str:
        """Returns the text under this key, which must not be empty, and exist without a default."""
        if default is not None and key not in self:
            return default
        value: str = self._of(key, str, "a text")
        if not value:
            raise GraphError(f"{self.at(key)} is empty. Give each task and file a name.")
        return value

    def texts(self, key: str) -> list[str]:
        """Returns the list of texts under this key; empty if there is none."""
        values = self._list(key)
        for value in values:
            if not isinstance(value, str):
                raise GraphError(f"{self.at(key)} holds {value!r:.60}, not a text. {_CURE}")
        return values

    def number(self, key: str) -> float | None:
        """Returns the number under this key, finite and >= 0; None if there is none."""
        value = self.values.get(key)
        if value is None:
            return None
        # JSON's true and false are numbers for Python.
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise GraphError(f"{self.at(key)} is {value!r:.60}, not a number. {_CURE}")
        if not 0 <= value < math.inf:
            raise GraphError(
                f"{self.at(key)} is {value}. Give a number of 0 or more, or leave it out."
            )
        return value

    def at(self, key: str) -> str:
        """Returns the place of a key, such as workflow.specification.tasks[3].id."""
        return f"{self.place}.{key}" if self.place else key

    def _of(self, key: str, kind: type, called: str) -> Any:
        if key not in self:
            raise GraphError(f"{self.at(key)} is missing. {_CURE}")
        value = self.values[key]
        if not isinstance(value, kind):
            raise GraphError(f"{self.at(key)} is {value!r:.60}, not {called}. {_CURE}")
        return value

    def _list(self, key: str) -> list[Any]:
        return list(self._of(key, list, "a list")) if key in self else []


def parsed(text: str) -> Section:
    """Returns the object of a JSON text. Raises GraphError for anything else."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:  # a deeply nested text exhausts the stack
        raise GraphError(f"the text is not JSON: {error}. Give the whole file, as text.") from error
    if not isinstance(data, dict):
        raise GraphError(f"the text holds {data!r:.60}, not an object. {_CURE}")
    return Section(data)


_CURE = "Is the file complete, and in WfFormat (wfcommons.org/format)?"
