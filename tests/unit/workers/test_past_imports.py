"""Past imports: what is kept of the runs of one folder."""

from __future__ import annotations

import json
from pathlib import Path

from dagnb_workers.hosting.past_imports import MAX_MODULES, Imports, PastImports


def launch(run: str = "r", python: str = "/usr/bin/python3", folder: str = "/nb") -> dict[str, str]:
    """A launch request."""
    invocation = {"run": run, "surroundings": {"folder": folder}}
    return {"python": python, "invocation": json.dumps(invocation)}


def test_the_modules_of_all_runs_are_kept_and_those_of_the_latest_are_known(tmp_path: Path) -> None:
    first, second = (PastImports.of(tmp_path, launch(run)) for run in ("first", "second"))
    first.add({"slow": 2.0, "quick": 0.1})
    second.begin()
    second.add({"other": 0.5})

    imports = second.read()

    assert imports.modules == ("quick", "other", "slow")
    assert (imports.latest, imports.latest_s) == (("other",), 0.5)


def test_an_early_import_does_not_make_the_module_a_quick_one() -> None:
    imports = Imports().joined("first", {"slow": 2.0}).joined("second", {"slow": 0.001})

    assert (imports.seconds, imports.latest_s) == ({"slow": 2.0}, 2.0)


def test_a_run_that_imports_nothing_is_the_latest_all_the_same(tmp_path: Path) -> None:
    PastImports.of(tmp_path, launch("first")).add({"slow": 2.0})
    PastImports.of(tmp_path, launch("second")).begin()

    imports = PastImports.of(tmp_path, launch("third")).read()

    assert (imports.modules, imports.latest_s) == (("slow",), 0.0)


def test_imports_of_one_run_add_up() -> None:
    imports = Imports().joined("r", {"a": 1.0}).joined("r", {"b": 2.0})

    assert (imports.latest, imports.latest_s) == (("a", "b"), 3.0)


def test_the_modules_that_were_imported_last_are_kept() -> None:
    imports = Imports()
    for number in range(MAX_MODULES + 2):
        imports = imports.joined(f"run {number}", {f"module_{number}": 1.0, "often": 1.0})

    assert len(imports.seconds) == MAX_MODULES
    assert "module_2" not in imports.seconds
    assert {"often", "module_3", f"module_{MAX_MODULES + 1}"} <= imports.seconds.keys()


def test_each_python_and_folder_has_its_own(tmp_path: Path) -> None:
    PastImports.of(tmp_path, launch()).add({"a": 1.0})

    others = [launch(python="/opt/python3"), launch(folder="/elsewhere")]

    assert [PastImports.of(tmp_path, other).read() for other in others] == [Imports(), Imports()]
    assert PastImports.of(tmp_path, launch("another")).read().modules == ("a",)


def test_an_unreadable_file_is_an_empty_one_and_a_missing_folder_stays_missing(
    tmp_path: Path,
) -> None:
    past = PastImports.of(tmp_path, launch())
    past.add({"a": 1.0})
    past.file.write_text("[]")
    gone = PastImports.of(tmp_path / "gone", launch())

    gone.add({"a": 1.0})
    gone.begin()

    assert past.read() == gone.read() == Imports()
    assert not (tmp_path / "gone").exists()


def test_a_first_run_without_imports_writes_no_file(tmp_path: Path) -> None:
    PastImports.of(tmp_path, launch()).begin()

    assert list(tmp_path.iterdir()) == []
