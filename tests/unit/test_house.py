"""The checks of prose, names and rooms find what they are for; this checkout keeps what they ask."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from scripts import house
from scripts.house import Problem, Source

pytest.importorskip("grimp", reason="a tool of developers, left out with --newest and --oldest")
from scripts import rooms

VERB_OR_THING = "Begin with a verb ('Returns ...') or with the thing itself."


def source(text: str, file: str = "dagnb/a.py") -> list[Source]:
    return [Source(file, text)]


def texts(problems: object) -> list[str]:
    return [str(problem) for problem in problems]  # type: ignore[attr-defined]


@pytest.mark.parametrize("first", ["What", "Who", "How", "So", "As", "Where", "When", "Whether"])
def test_a_docstring_that_opens_with_a_question_word_is_a_problem(first: str) -> None:
    code = source(f'def f():\n    """{first} it is."""\n')

    assert texts(house.headless_docstrings(code)) == [
        f"dagnb/a.py:2: the docstring opens with '{first}'. {VERB_OR_THING}"
    ]


def test_a_docstring_that_opens_with_a_verb_or_a_thing_is_none() -> None:
    code = source('"""Whoami is a command."""\ndef f():\n    """Returns what it is."""\n')

    assert texts(house.headless_docstrings(code)) == []


def test_words_without_a_subject_are_problems_in_comments_and_docstrings_not_in_code() -> None:
    code = source('"""It is told."""\nnobody = 1  # Nobody reads it\n')

    assert texts(house.avoided_words(code)) == [
        f"dagnb/a.py:1: 'told': {house.WORDS['told']}.",
        f"dagnb/a.py:2: 'nobody': {house.WORDS['nobody']}.",
    ]


def test_a_class_name_that_is_given_twice_is_a_problem_where_it_comes_second() -> None:
    code = [Source("dagnb/a.py", "class Line: ...\n"), Source("dagnb/b.py", "\nclass Line: ...\n")]

    assert texts(house.doubled_classes(code)) == [
        "dagnb/b.py:2: a class 'Line' is in dagnb/a.py:1 too. One name, one meaning."
    ]


def test_a_variable_called_found_is_a_problem_where_it_is_set() -> None:
    code = source("found = 1\nprint(found)\nself.found = 2\n")

    assert [problem.line for problem in house.unnamed_locals(code)] == [1]


def test_a_document_that_names_a_missing_file_is_a_problem_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "dagnb").mkdir()
    (tmp_path / "dagnb" / "client.py").touch()
    (tmp_path / "README.md").write_text(
        "`client.py`, `dagnb/client`, [here](dagnb/client.py), [out](https://example.org/a.py)\n"
        "`no/such.py`\n```\n`other.py`\n```\n[gone](gone.md)\n"
    )

    assert list(house.missing_files(tmp_path)) == [
        Problem("README.md", 2, "names 'no/such.py', which is not there."),
        Problem("README.md", 6, "names 'gone.md', which is not there."),
    ]


def test_figures_count_code_without_docstrings_and_comments_without_those_for_tools() -> None:
    code = source(
        '"""Counts."""\n\n# why\nx = [a if a else b for a in c]  # noqa: E501\n\n\n'
        "def f():\n    # because\n    return 1\n"
    )

    values = house.figures(code)

    assert values["lines of code"] == 3
    assert values["statements"] == 4
    assert values["characters a line"] == pytest.approx((44 + 8 + 8) / 3)
    assert values["comments per 1,000 lines"] == pytest.approx(2_000 / 3)
    assert values["comprehensions per 1,000 lines"] == pytest.approx(1_000 / 3)
    assert values["conditional expressions per 1,000 lines"] == pytest.approx(1_000 / 3)


def test_comments_have_a_least_figure_and_all_else_a_most() -> None:
    at_limit = dict(house.LIMITS)
    beyond = {
        name: limit + (-1 if name == "comments per 1,000 lines" else 1)
        for name, limit in house.LIMITS.items()
    }

    assert list(house.passed_limits(at_limit)) == []
    assert len(list(house.passed_limits(beyond))) == len(house.LIMITS)


def test_only_files_of_the_product_that_git_knows_or_would_add_are_read(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / ".gitignore").write_text("built.py\n")
    for name in ("dagnb/a.py", "dagnb/built.py", "tests/b.py", "workers/c.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x = 1\n")

    assert [source.file for source in house.sources(tmp_path)] == ["dagnb/a.py", "workers/c.py"]


def test_the_documents_of_this_checkout_name_only_files_that_are_there() -> None:
    assert texts(house.missing_files()) == []


def test_an_arrow_is_left_out_where_a_longer_way_leads() -> None:
    edges = {
        "a": frozenset({"b", "c"}),
        "b": frozenset({"c"}),
        "c": frozenset(),
    }

    assert rooms.reduced(edges) == {"a": {"b"}, "b": {"c"}, "c": frozenset()}


def test_architecture_draws_the_rooms_and_imports_that_there_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert rooms.main([]) == 0, capsys.readouterr().out
    text = rooms.DOCUMENT.read_text("utf-8")

    assert "room_dagnb_storage --> room_dagnb_protocol" in text
    assert "room_dagnb_graph -->" not in text


def test_a_picture_of_other_rooms_is_refused_and_can_be_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    document = tmp_path / "ARCHITECTURE.md"
    document.write_text(f"before\n{rooms.BEGIN}\nold\n{rooms.END}\nafter\n")
    monkeypatch.setattr(rooms, "DOCUMENT", document)

    assert rooms.main([]) == 1
    assert "python -m scripts.rooms --write" in capsys.readouterr().out
    assert rooms.main(["--write"]) == 0
    assert rooms.main([]) == 0
    assert document.read_text().startswith("before\n")
    assert document.read_text().endswith("after\n")
