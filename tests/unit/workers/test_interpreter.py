"""Settings that an interpreter takes at its start: those handed over, and the others."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from dagnb_workers.hosting.interpreter import (
    PythonStart,
    options_of,
    own_folders,
    plain_environment,
    program,
    site_mark,
)


@pytest.mark.parametrize(
    ("typed", "handed"),
    [
        ("python script.py -O -B", ()),
        ("python -O script.py", ("-O",)),
        ("python -OO -m module -B", ("-O", "-O")),
        ("python -OBc code", ("-O", "-B")),
        ("python -BO - -s", ("-B", "-O")),
        ("python -I -E -s -S -P -bb -d -", ("-I", "-E", "-s", "-S", "-P", "-b", "-b", "-d")),
        ("python -iuqvR -x script.py", ()),
        ("python -X dev -Xutf8=0 script.py", ("-Xdev", "-Xutf8=0")),
        ("python -OX dev -B script.py", ("-O", "-Xdev", "-B")),
        ("python -W error -Wignore -OWonce -B script.py", ("-O", "-B")),
        ("python -X importtime -B script.py", ("-B",)),
        (
            "python --check-hash-based-pycs always -O script.py",
            ("--check-hash-based-pycs", "always", "-O"),
        ),
        ("python", ()),
        ("", ()),
    ],
)
def test_options_are_read_as_python_reads_them(typed: str, handed: tuple[str, ...]) -> None:
    """Filters of warnings are not among them: those are handed over when a run starts."""
    assert options_of(typed.split()) == handed


def test_variables_that_python_or_the_loader_reads_at_the_start_are_taken_and_no_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = {
        "PYTHONHASHSEED": "7",
        "LC_ALL": "C",
        "LANG": "C",
        "LD_LIBRARY_PATH": "/l",
        "MALLOC_ARENA_MAX": "2",
    }
    others = {
        "PYTHONPATH": "/p",
        "PYTHONWARNINGS": "error",
        "PYTHONSTARTUP": "/s",
        "TZ": "UTC",
        "OTHER": "1",
    }
    for name, value in (expected | others).items():
        monkeypatch.setenv(name, value)

    variables = dict(PythonStart.of_this_process().variables)

    assert expected.items() <= variables.items()
    assert not others.keys() & variables.keys()


def test_no_variable_of_the_start_is_left_of_whoever_started_the_agent() -> None:
    agents = {
        "PYTHONPATH": "/a",
        "PYTHONOPTIMIZE": "2",
        "LANG": "de",
        "LD_PRELOAD": "x.so",
        "HOME": "/a",
        "KEPT": "1",
    }

    expected = (("PYTHONHASHSEED", "0"), ("HOME", "/b"), ("DOCKER_HOST", ""))

    assert PythonStart(variables=expected, is_client=True).environment(agents) == {
        "PYTHONHASHSEED": "0", "HOME": "/b", "KEPT": "1",
    }  # fmt: skip
    del agents["PYTHONPATH"]
    assert PythonStart(variables=expected).environment(agents) == {
        **agents,
        "PYTHONHASHSEED": "0",
        "HOME": "/b",
    }


def test_a_start_reads_back_from_what_it_told() -> None:
    start = PythonStart(options=("-O",), variables=(("A", "1"),), folders=("/x",), site="5")

    assert (PythonStart.of(start.to_dict()), PythonStart.of({})) == (start, PythonStart())


def test_starts_differ_when_anything_does_that_a_fork_server_cannot_change() -> None:
    starts = {
        PythonStart(),
        PythonStart(options=("-O",)),
        PythonStart(variables=(("PYTHONHASHSEED", "0"),)),
        PythonStart(folders=("/x",)),
        PythonStart(site="5"),
    }

    assert len(starts) == 5


def test_a_program_finds_dagnb_and_neither_the_current_folder_nor_what_lies_beside_dagnb_first(
    tmp_path: Path,
) -> None:
    """`json` there would end the program; `only_here` is found there."""
    (tmp_path / "json.py").write_text("raise SystemExit('the wrong json')")
    (tmp_path / "only_here.py").write_text(
        "import code, json\n"
        "def main(arguments):\n"
        "    print(arguments, hasattr(code, 'InteractiveConsole'))\n"
    )
    command = program("only_here", ["a", "b"], folders=(str(tmp_path),))

    done = subprocess.run(
        command, cwd=tmp_path, env=plain_environment(), capture_output=True, text=True, check=False
    )

    assert (done.stdout, done.stderr) == ("['a', 'b'] True\n", "")


def test_a_program_of_dagnb_starts_where_dagnb_is_on_pythonpath_alone(tmp_path: Path) -> None:
    """-S leaves the folders of packages out, as if nothing were installed."""
    command = program(
        "dagnb_workers.agent.agent", ["--help"], python=sys.executable, options=("-S",)
    )

    done = subprocess.run(
        command, cwd=tmp_path, env=plain_environment(), capture_output=True, text=True, check=False
    )

    assert done.stdout.startswith("usage: dagnb agent"), done.stderr
    assert str(Path(__file__).parents[3]) in own_folders()


def test_the_mark_of_the_site_changes_with_its_pth_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "site.getsitepackages", lambda: [str(tmp_path), str(tmp_path / "is not there")]
    )
    before = site_mark()

    (tmp_path / "other.txt").write_text("")
    assert site_mark() == before

    (tmp_path / "editable.pth").write_text("/src")
    after = site_mark()
    os.utime(tmp_path / "editable.pth", (1, 1))

    assert len({before, after, site_mark()}) == 3
