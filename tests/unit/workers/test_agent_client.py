"""`dagnb agent --stop`, with an agent that does as a test says."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import pytest
from dagnb_workers.agent import client


class Leaving:
    """A connection to an agent that is asked to leave."""

    asked: list[str]

    def __init__(self) -> None:
        self.asked = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *raised: object) -> None: ...

    async def ask(self, op: str, **arguments: Any) -> dict[str, Any]:
        self.asked.append(op)
        return {}


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Leaving:
    """An agent that answers, and holds its lock until a test says otherwise."""
    leaving = Leaving()

    async def connect(directory: Path) -> Leaving:
        return leaving

    monkeypatch.setattr(client, "_connect", connect)
    monkeypatch.setattr(client, "runtime_directory", lambda: tmp_path)
    return leaving


def test_an_agent_that_keeps_its_lock_is_said_to_be_there(
    agent: Leaving, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(client, "is_locked", lambda path: True)
    monkeypatch.setattr(client, "START_S", 0.0)

    assert client.stop() == 1

    printed = capsys.readouterr()
    assert agent.asked == ["leave"]
    assert printed.out == ""
    assert "the agent has not ended within 0 s. Its log: " in printed.err


def test_an_agent_that_gives_up_its_lock_has_ended(
    agent: Leaving, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(client, "is_locked", lambda path: False)

    assert client.stop() == 0

    assert capsys.readouterr().out == "the agent, its server and its runs have ended\n"
