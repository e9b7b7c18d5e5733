"""Files of modules, as one process describes them and another one obeys."""

from __future__ import annotations

import importlib
import importlib.util
import os
import site
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from importlib.machinery import BuiltinImporter, FrozenImporter, PathFinder
from pathlib import Path

import pytest
from dagnb_workers.surroundings import findable

from dagnb.sources import Place


@pytest.fixture(autouse=True)
def _restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Enter the folder of the test; at the end, path, finders and modules are as before."""
    before = dict(sys.modules)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    monkeypatch.chdir(tmp_path)
    yield
    for name in [name for name in sys.modules if name not in before]:
        del sys.modules[name]
    sys.modules.update(before)


def write(name: str, text: str = "") -> str:
    """Write a file; returns its absolute path."""
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    importlib.invalidate_caches()
    return str(path.absolute())


def test_what_the_path_gives_needs_no_place() -> None:
    write("lib/given_one.py")
    write("lib/given_pack/__init__.py")
    write("lib/given_pack/sub.py")
    sys.path.insert(0, "lib")
    for name in ("given_one", "given_pack.sub"):
        importlib.import_module(name)

    assert not {"given_one", "given_pack", "given_pack.sub"} & findable.places().keys()


def test_what_the_path_does_not_give_any_more_is_told_with_its_place() -> None:
    one, pack = write("lib/left_one.py"), write("lib/left_pack/__init__.py")
    write("lib/left_loose/part.py")
    sys.path.insert(0, "lib")
    for name in ("left_one", "left_pack", "left_loose.part"):
        importlib.import_module(name)
    sys.path.pop(0)

    places = findable.places()

    assert (places["left_one"], places["left_pack"]) == (
        (one, None),
        (pack, (os.path.dirname(pack),)),
    )
    assert places["left_loose"][0] == ""


LEFT = """
import sys
import sysconfig
sys.path.insert(0, sys.argv[1])
import left_library
from dagnb_workers.surroundings import findable
sys.path.pop(0)
print(findable.places().get("left_library"))
"""


def test_a_library_in_a_folder_that_has_left_the_path_is_told_with_its_place() -> None:
    file = write("other/site-packages/left_library.py")

    command = [sys.executable, "-c", LEFT, os.path.dirname(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == str((file, None))


def test_a_library_that_is_hidden_since_it_was_loaded_is_told_with_its_place() -> None:
    import colorsys

    write("lib/colorsys.py")
    sys.path.insert(0, "lib")

    assert findable.places()["colorsys"] == (colorsys.__file__, None)


def test_a_module_without_a_file_or_whose_file_is_gone_has_no_place() -> None:
    gone = write("lib/gone_one.py")
    sys.path.insert(0, "lib")
    importlib.import_module("gone_one")
    os.unlink(gone)
    sys.path.pop(0)

    assert not {"gone_one", "sys", "os"} & findable.places().keys()


def test_a_relative_entry_is_told_by_the_folder_it_was_used_in(tmp_path: Path) -> None:
    """FileFinder keeps the absolute folder, which is not documented."""
    write("lib/moved_one.py")
    os.mkdir("other")
    sys.path[:0] = ["lib", "unused"]
    importlib.import_module("moved_one")

    assert findable.path_of_this_process()[:2] == ("lib", "unused")
    os.chdir("other")

    assert findable.path_of_this_process()[:2] == (str(tmp_path / "lib"), "unused")


def test_entering_a_path_gives_its_modules_and_those_with_a_place() -> None:
    write("lib/entered_one.py", "V = 1")
    write("far/entered_two/__init__.py", "V = 2")
    inner = write("far/entered_two/inner.py", "V = 3")
    write("loose/entered_three/part.py", "V = 4")
    places: dict[str, Place] = {
        "entered_two": (
            os.path.abspath("far/entered_two/__init__.py"),
            (os.path.abspath("far/entered_two"),),
        ),
        "entered_three": ("", (os.path.abspath("loose/entered_three"),)),
        "entered_two.alias": (inner, None),
    }

    findable.set_path([os.path.abspath("lib"), *sys.path], places)

    names = (
        "entered_one",
        "entered_two",
        "entered_two.inner",
        "entered_three.part",
        "entered_two.alias",
    )
    assert [importlib.import_module(name).V for name in names] == [1, 2, 3, 4, 3]


def test_a_loaded_module_that_the_path_hides_is_forgotten_and_others_are_kept() -> None:
    import colorsys

    importlib.import_module("wsgiref.types")
    mine = write("lib/wsgiref/__init__.py")
    write("lib/os.py", "raise SystemExit")  # built in, or frozen: nothing can hide it
    write("lib/dagnb.py", "raise SystemExit")
    kept = {name: sys.modules[name] for name in ("os", "dagnb", "colorsys")}

    findable.set_path([os.path.abspath("lib"), *sys.path], {})

    assert "wsgiref.types" not in sys.modules
    assert importlib.import_module("wsgiref").__file__ == mine
    assert {name: sys.modules[name] for name in kept} == kept
    assert sys.modules["colorsys"] is colorsys


def test_a_loaded_library_that_the_client_had_before_it_was_hidden_is_kept() -> None:
    import colorsys

    write("lib/colorsys.py")

    findable.set_path(
        [os.path.abspath("lib"), *sys.path], {"colorsys": (str(colorsys.__file__), None)}
    )

    assert importlib.import_module("colorsys") is colorsys


def test_finders_of_the_users_are_told_and_pythons_own_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write("lib/given_finder.py", "class Finder:\n    find_spec = staticmethod(lambda *what: None)")
    sys.path.insert(0, "lib")
    own = [BuiltinImporter, FrozenImporter, PathFinder]
    monkeypatch.setattr(sys, "meta_path", [*own, importlib.import_module("given_finder").Finder])

    assert findable.finders() == ("given_finder:Finder",)
    findable.add_finders(["given_finder:Finder", "no_such_module:Finder"])
    assert len(sys.meta_path) == len(own) + 1


def test_files_of_packages_are_installed_and_those_of_the_user_are_not(tmp_path: Path) -> None:
    folders = [
        sysconfig.get_path("purelib"),
        sysconfig.get_path("stdlib"),
        site.getusersitepackages(),
    ]

    assert [findable.is_installed(f"{folder}/pack/__init__.py") for folder in folders] == [True] * 3
    assert not findable.is_installed(str(tmp_path / "pack.py"))
