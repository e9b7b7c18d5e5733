"""Requirement lines: one canonical form, and what is refused with which cure."""

from __future__ import annotations

import os
import pickle
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement

from dagnb.errors import ConfigError, RequirementError
from dagnb.graph.requirements import LONGEST_LINE, masked, parse, read
from tests import strategies  # noqa: F401  # its profile

NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9]{0,5}([._-]{1,2}[A-Za-z0-9]{1,5}){0,2}", fullmatch=True)
VERSIONS = st.builds("{}.{}".format, st.integers(0, 30), st.integers(0, 30))
CLAUSES = st.lists(
    st.builds("{}{}".format, st.sampled_from(["==", ">=", "<", "!=", "~="]), VERSIONS), max_size=3
)
MARKERS = st.sampled_from(
    [
        "",
        "; python_version < '3.13'",
        ";sys_platform=='linux' and extra == \"x\"",
        " ; os_name=='nt'",
    ]
)


@st.composite
def requirement_lines(draw: st.DrawFn) -> str:
    extras = draw(st.lists(NAMES, max_size=2))
    space = draw(st.sampled_from(["", " "]))
    line = draw(NAMES) + (f"[{','.join(extras)}]" if extras else "") + space
    return (
        line
        + f"{space},{space}".join(draw(CLAUSES))
        + draw(MARKERS)
        + draw(st.sampled_from(["", "  # why"]))
    )


@given(st.lists(requirement_lines(), max_size=6))
def test_what_was_parsed_parses_to_itself(lines: list[str]) -> None:
    once = parse(lines)

    assert parse(once) == once
    assert list(once) == sorted(set(once))


@given(st.lists(requirement_lines(), max_size=6), st.randoms(use_true_random=False))
def test_order_repetition_and_comments_make_no_difference(
    lines: list[str], chance: random.Random
) -> None:
    others = [*lines, *lines[:2], "", "   ", "# a comment", "\t# another"]
    chance.shuffle(others)

    assert parse(others) == parse(lines)


@given(requirement_lines())
def test_the_canonical_line_means_what_was_written(line: str) -> None:
    (canonical,) = parse([line])

    written, kept = Requirement(line.partition("  #")[0]), Requirement(canonical)
    assert kept.specifier == written.specifier
    assert kept.marker == written.marker
    assert len(kept.extras) <= len(written.extras)


def test_names_are_canonical_sorted_and_unique_and_markers_stay() -> None:
    lines = [
        "Zope.Interface [Test_X, a] == 5.0 ; python_version<'3.12'",
        "pandas >= 2, <3  # the tables",
        "",
        "# nothing",
        "PANDAS<3,>=2",
    ]

    assert parse(lines) == (
        "pandas<3,>=2",
        'zope-interface[a,test-x]==5.0; python_version < "3.12"',
    )


def test_a_backslash_continues_a_line_also_over_a_comment_and_at_the_end_of_the_file() -> None:
    assert parse(["pandas \\", "  >=2 \\", "# not this", "numpy", "six \\"]) == (
        "numpy",
        "pandas>=2",
        "six",
    )


def test_two_versions_of_one_package_are_left_to_pip() -> None:
    assert parse(["six==1", "six==2"]) == ("six==1", "six==2")


def test_one_text_is_split_into_its_lines() -> None:
    assert parse("six\nnumpy>=2\n") == ("numpy>=2", "six")


@pytest.mark.parametrize(
    ("line", "problem", "cure"),
    [
        ("--index-url https://here/simple", "the option --index-url", "pip config set"),
        ("-i https://here/simple", "the option -i", "pip config set"),
        ("--extra-index-url=https://here", "the option --extra-index-url", "pip config set"),
        ("-f wheels", "the option -f", "pip config set"),
        ("-r other.txt", "the option -r", "lines of that file"),
        ("--constraint=c.txt", "the option --constraint", "lines of that file"),
        ("-e .", "editable", "wheel"),
        ("--pre", "the option --pre", "Leave the option out"),
        ("six==1 --hash=sha256:00", "the option --hash", "Leave the option out"),
        (
            "six --global-option=x ; os_name == 'nt'",
            "the option --global-option",
            "Leave the option out",
        ),
        (".", "a path", "wheel"),
        ("./here", "a path", "wheel"),
        ("../here[extra]", "a path", "wheel"),
        ("/opt/here", "a path", "wheel"),
        ("~/here", "a path", "wheel"),
        ("C:\\here", "a path", "wheel"),
        ("here/there", "a path", "wheel"),
        ("file:///opt/here", "a URL", "allow_urls=True"),
        ("here-1.0-py3-none-any.whl", "a path", "wheel"),
        ("here-1.0.tar.gz", "a path", "wheel"),
        ("https://here/six.whl", "a URL", "allow_urls=True"),
        ("git+https://here/six", "a URL", "allow_urls=True"),
        ("git+ssh://git@here/six.git", "a URL", "allow_urls=True"),
        ("six @ https://here/six.whl", "names a URL", "allow_urls=True"),
        ("six @ file:///opt/six.whl", "names a URL", "allow_urls=True"),
        ("two words", "no requirement", "name==1.2"),
        ("six=1", "no requirement", "name==1.2"),
        ("six; python_version", "no requirement", "name==1.2"),
        ("$(rm -r here)", "", ""),
        ("`id`", "no requirement", "name==1.2"),
        ("six; import os", "no requirement", "name==1.2"),
        ("${HOME}", "no requirement", "name==1.2"),
    ],
)
def test_a_line_that_names_no_package_of_an_index_is_refused_with_the_cure(
    line: str, problem: str, cure: str
) -> None:
    with pytest.raises(RequirementError) as refused:
        parse(["numpy", "", line], "requirements.txt")

    error = refused.value
    assert (error.source, error.number) == ("requirements.txt", 3)
    assert str(error).startswith("requirements.txt, line 3: ")
    assert repr(error.line) in str(error)
    assert problem in error.problem
    assert cure in error.cure
    assert isinstance(error, ConfigError)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize(
    "name", ["py-e", "foo-r", "foo-i", "foo--pre", "zip", "tar.gz2", "file", "a.whl2"]
)
def test_a_name_that_looks_a_little_like_an_option_or_a_file_is_a_name(name: str) -> None:
    assert parse([f"{name}==1"])[0].endswith("==1")


@pytest.mark.parametrize("line", ["a\0b", "a # \x1b[2J", "a\nb", "a\rb", "a\x85b", "a\x7f"])
def test_control_characters_are_refused(line: str) -> None:
    with pytest.raises(RequirementError, match="control character"):
        parse([line])


def test_overlong_lines_are_refused_also_when_they_were_continued() -> None:
    with pytest.raises(RequirementError, match="long") as refused:
        parse(["six" + " " * LONGEST_LINE])
    assert len(str(refused.value)) < 200

    with pytest.raises(RequirementError, match="long"):
        parse(["six, \\"] * LONGEST_LINE)


def test_a_url_of_https_passes_where_urls_are_allowed() -> None:
    lines = ["Six_x [b,a] @ https://here/six-1.whl#sha256=00 ; os_name=='posix'"]

    once = parse(lines, allow_urls=True)

    assert once == ('six-x[a,b] @ https://here/six-1.whl#sha256=00 ; os_name == "posix"',)
    assert parse(once, allow_urls=True) == once


@pytest.mark.parametrize(
    "url", ["http://here/six.whl", "file:///opt/six.whl", "git+ssh://git@here/six.git"]
)
def test_other_urls_never_pass(url: str) -> None:
    with pytest.raises(RequirementError, match="https://"):
        parse([f"six @ {url}"], allow_urls=True)


def test_credentials_are_not_shown() -> None:
    for line in (
        "--index-url https://me:hunter2@here/simple",
        "six @ https://me:hun@ter2@here/six.whl",
    ):
        with pytest.raises(RequirementError) as refused:
            parse([line])
        assert "ter2" not in str(refused.value)
        assert "https://***@here/" in str(refused.value)


def test_masking_leaves_what_has_no_credentials() -> None:
    assert masked("six @ https://here/a@b") == "six @ https://here/a@b"


def test_a_file_is_read_whatever_its_line_ends_and_named_in_errors(tmp_path: Path) -> None:
    path = tmp_path / "requirements.txt"
    path.write_bytes("\ufeff# für alle\r\npandas>=2 \\\r\n ,<3\r\nsix".encode())
    assert read(path) == ("pandas<3,>=2", "six")

    path.write_text("six\n-r more.txt\n")
    with pytest.raises(RequirementError) as refused:
        read(path)
    assert str(refused.value).startswith(f"{path}, line 2: ")


def test_a_file_that_is_not_there_or_no_text_is_a_wrong_setting(tmp_path: Path) -> None:
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")

    for name in ("nothing.txt", "binary.txt", "."):
        with pytest.raises(ConfigError, match="cannot be read"):
            read(tmp_path / name)


def test_packaging_is_imported_for_the_first_requirement_only() -> None:
    code = (
        "import sys, dagnb.graph.requirements as r; "
        "print('packaging' in sys.modules); r.parse(['a'])"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}

    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env
    )

    assert told.stdout == "False\n"
