"""The evidence that a predicted number rests on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Basis:
    """The evidence of one estimate; as text, its words.

    text: in words, as users see it. is_known: False where nothing was measured or hinted.
    expert: the way to predict that was chosen, one of `prediction.experts.EXPERTS`; '' for none.
    """

    text: str
    is_known: bool = True
    expert: str = ""

    def __str__(self) -> str:
        return self.text


UNKNOWN = Basis("unknown", is_known=False)
HINTED = Basis("hint of @task")
