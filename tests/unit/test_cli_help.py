"""The texts of `dagnb --help` and `dagnb COMMAND --help`, for readers who are new to dagnb."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator

import pytest
from dagnb_workers.agent.agent import main as agent

from dagnb.cli.parser import parser


def commands() -> dict[str, argparse.ArgumentParser]:
    """Every command but the programs, which parse their own arguments."""
    (subparsers,) = [
        action for action in parser()._actions if isinstance(action, argparse._SubParsersAction)
    ]
    return dict(subparsers.choices)


def arguments() -> Iterator[tuple[str, argparse.Action]]:
    for name, command in commands().items():
        for action in command._actions:
            yield name, action


@pytest.mark.parametrize("name", list(commands()))
def test_a_command_says_in_a_sentence_what_it_does(name: str) -> None:
    said = commands()[name].description or ""

    assert re.fullmatch(r"[A-Z][a-z]+,? .+\.", said), (
        f"{said!r} is no sentence that begins with a verb"
    )
    assert said.split()[0] not in {"The", "What", "Where", "How", "Every"}


def test_every_argument_of_every_command_is_explained() -> None:
    silent = [f"{name} {action.dest}" for name, action in arguments() if not action.help]

    assert silent == []


def test_the_agent_explains_itself_and_its_options_in_words(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        agent(["--help"])
    shown = capsys.readouterr().out

    assert ended.value.code == 0
    assert "background process, one for each user" in " ".join(shown.split())
    assert not re.search(r'[{}"]|->', shown), "a protocol is no explanation"
    for option in ("--stop", "--idle-s SECONDS", "--directory DIR", "--detach", "--heir"):
        assert re.search(rf"^  {option}\s+\w+", shown, re.MULTILINE), option
