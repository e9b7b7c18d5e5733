"""A part of somebody else's JSON that knows its place in the text, so that what is wrong is said where it stands."""

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
    """An object of a JSON text. Every reader raises GraphError for a value of another type, naming the place."""

    values: Mapping[str, Any]
    place: str = ""

    __repr__ = brief

    def __contains__(self, key: str) -> bool:
        """Whether the key is there and holds something."""
        return self.values.get(key) is not None

    def section(self, key: str) -> Section:
        """The object under this key, which must be there."""
        return Section(self._of(key, dict, "an object"), self.at(key))

    def sections(self, key: str) -> list[Section]:
        """The list of objects under this key; empty when it is not there."""
        found = []
        for number, value in enumerate(self._list(key)):
            place = f"{self.at(key)}[{number}]"
            if not isinstance(value, dict):
                raise GraphError(f"{place} is {value!r:.60}, not an object. {_CURE}")
            found.append(Section(value, place))
        return found

    def text(self, key: str) -> str:
        """The text under this key, which must be there and not empty."""
        value: str = self._of(key, str, "a text")
        if not value:
            raise GraphError(f"{self.at(key)} is empty. Give each task and file a name.")
        return value

    def texts(self, key: str) -> list[str]:
        """The list of texts under this key; empty when it is not there."""
        values = self._list(key)
        if not all(isinstance(value, str) for value in values):
            wrong = next(value for value in values if not isinstance(value, str))
            raise GraphError(f"{self.at(key)} holds {wrong!r:.60}, which is no text. {_CURE}")
        return values

    def number(self, key: str) -> float | None:
        """The number under this key, finite and >= 0; None when it is not there."""
        value = self.values.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise GraphError(f"{self.at(key)} is {value!r:.60}, not a number. {_CURE}")
        if not 0 <= value < math.inf:
            raise GraphError(
                f"{self.at(key)} is {value}. Give a number of 0 or more, or leave it out."
            )
        return value

    def at(self, key: str) -> str:
        """The place of a key, as in workflow.specification.tasks[3].id."""
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
    """The object that a JSON text is. Raises GraphError for anything else."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise GraphError(f"the text is not JSON: {error}. Give the whole file, as text.") from error
    if not isinstance(data, dict):
        raise GraphError(f"the text holds {data!r:.60}, not an object. {_CURE}")
    return Section(data)


_CURE = "Is the file whole, and of the format WfFormat (wfcommons.org/format)?"
