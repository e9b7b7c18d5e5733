"""The user's own modules as an archive: what goes in, what stays out, what is refused."""

from __future__ import annotations

import importlib
import io
import json
import os
import socket
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from dagnb_workers.launchers.inline import Inline
from dagnb_workers.worker import library

import dagnb
from dagnb import archive
from dagnb.errors import GraphError
from dagnb.graph.payload import encode_function
from dagnb.protocol.program import Header
from dagnb.session import MEMORY_URL, reopened, wait


class Apart(Inline):
    """Workers that say nothing of files."""

    shares_files = False


Imported = Callable[..., ModuleType]


@pytest.fixture
def imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Imported]:
    """Writes files (path, text) beside the notebook and imports a module of them."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)

    def write_and_import(name: str, **files: str) -> ModuleType:
        for path, text in files.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(text)
        importlib.invalidate_caches()
        return importlib.import_module(name)

    yield write_and_import
    for name in set(sys.modules) - before:
        del sys.modules[name]


def held(*names: str) -> dict[str, str]:
    """name in the archive -> text, when tasks mention these modules"""
    data = archive.archive((), [name.encode() for name in names])
    if not data:
        return {}
    with zipfile.ZipFile(io.BytesIO(data)) as bundle:
        return {name: bundle.read(name).decode() for name in bundle.namelist()}


def test_a_module_beside_the_notebook_is_in_the_archive(imported: Imported) -> None:
    imported("helpers_one", **{"helpers_one.py": "def double(x): return 2 * x\n"})

    assert held("helpers_one")["helpers_one.py"] == "def double(x): return 2 * x\n"


def test_a_package_is_in_the_archive_whole_with_its_data_but_for_what_is_hidden(
    imported: Imported,
) -> None:
    files = {
        "pack_one/__init__.py": "",
        "pack_one/a.py": "A = 1\n",
        "pack_one/deep/__init__.py": "",
        "pack_one/deep/b.py": "B = 2\n",
        "pack_one/plain/c.py": "C = 3\n",
        "pack_one/plain/rows.csv": "1,2",
        "pack_one/data.json": "{}",
        "pack_one/.hidden/d.py": "",
        "pack_one/.secret": "",
        "pack_one/__pycache__/e.py": "",
    }
    imported("pack_one", **files)

    assert held("pack_one").keys() == {
        name for name in files if "/." not in name and "__pyc" not in name
    }


def test_of_a_package_without_init_the_sources_are_in_the_archive(imported: Imported) -> None:
    imported(
        "loose_one.part",
        **{"loose_one/part.py": "P = 1\n", "loose_one/more/q.py": "", "loose_one/much.bin": ""},
    )

    assert held("loose_one").keys() == {"loose_one/part.py", "loose_one/more/q.py"}


def test_installed_modules_the_standard_library_and_dagnb_itself_stay_out() -> None:
    names = (
        "dagnb",
        "dagnb_workers",
        "dagnb_planners",
        "pytest",
        "hypothesis",
        "numpy",
        "json",
        "os",
        "__main__",
    )

    assert held(*names) == {}


def test_equal_sources_give_equal_bytes_and_changed_ones_others(
    imported: Imported, tmp_path: Path
) -> None:
    imported("helpers_two", **{"helpers_two.py": "X = 1\n"})
    first = archive.archive((), [b"helpers_two"])
    path = tmp_path / "helpers_two.py"

    os.utime(path, (1, 1))
    assert archive.archive((), [b"helpers_two"]) == first

    path.write_text("X = 2\n")
    assert archive.archive((), [b"helpers_two"]) != first
    assert held("helpers_two")["helpers_two.py"] == "X = 2\n"


def test_a_module_whose_file_was_removed_is_left_out(imported: Imported, tmp_path: Path) -> None:
    imported("helpers_gone", **{"helpers_gone.py": ""})
    (tmp_path / "helpers_gone.py").unlink()

    assert held("helpers_gone") == {}


def test_modules_made_by_hand_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    made = ModuleType("made_by_hand")
    made.__file__ = __file__
    monkeypatch.setitem(sys.modules, "made_by_hand", made)

    assert held("made_by_hand") == {}


def test_more_than_sixteen_megabytes_are_refused_with_the_largest_files_and_their_sizes(
    imported: Imported, tmp_path: Path
) -> None:
    imported("pack_huge", **{"pack_huge/__init__.py": "", "pack_huge/small.txt": ""})
    for name, n_bytes in (("table.bin", 12_000_000), ("more.bin", 6_500_000)):
        with (tmp_path / "pack_huge" / name).open("wb") as table:
            table.truncate(n_bytes)

    with pytest.raises(GraphError) as refused:
        held("pack_huge")

    assert (
        "that these tasks need, pack_huge, come to 18.5 MB in 4 files, more than the 16 MB"
        in str(refused.value)
    )
    folder = tmp_path / "pack_huge"
    assert f"{folder}/table.bin (12.0 MB), {folder}/more.bin (6.5 MB)" in str(refused.value)
    assert "Docker(mounts=...)" in str(refused.value)
    assert held("something_else") == {}


def test_what_was_archived_can_be_imported_where_it_is_unpacked(
    imported: Imported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """library.install is the other end."""
    monkeypatch.setenv("DAGNB_HOME", str(tmp_path / "home"))
    files = {
        "pack_two/__init__.py": "from pack_two.inner import VALUE\n",
        "pack_two/inner.py": "VALUE = 42\n",
    }
    imported("pack_two", **files)
    data = archive.archive((), [b"pack_two"])
    for name in ("pack_two", "pack_two.inner"):
        del sys.modules[name]
    sys.path.remove(str(tmp_path))
    before = list(sys.path)

    try:
        library.install("name of this archive", data)
        library.install("name of this archive", data)

        assert importlib.import_module("pack_two").VALUE == 42
        assert len(sys.path) == len(before) + 1
    finally:
        sys.path[:] = before


def test_an_archive_is_unpacked_once_for_all_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGNB_HOME", str(tmp_path))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        bundle.writestr("one_module.py", "ONE = 1")
    before = list(sys.path)

    try:
        library.install("once", buffer.getvalue())
        library.install("once", b"is not even looked at")

        assert [path.name for path in library.folder().iterdir()] == ["once"]
    finally:
        sys.path[:] = before


def test_an_archive_cannot_write_outside_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGNB_HOME", str(tmp_path))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        bundle.writestr("../../outside_of_it.py", "BAD = 1")
        bundle.writestr("fine_module.py", "FINE = 1")
    before = list(sys.path)

    try:
        library.install("name of a bad archive", buffer.getvalue())

        folder = Path(sys.path[0])
        assert [path.name for path in folder.iterdir()] == ["fine_module.py"]
        assert not (folder.parent.parent / "outside_of_it.py").exists()
    finally:
        sys.path[:] = before


def test_a_helper_beside_the_notebook_is_used_by_an_inline_run_as_it_is_here(
    imported: Imported,
) -> None:
    """In one process nothing is unpacked: a copy in front of sys.path would hide later edits."""
    helpers = imported("helpers_three", **{"helpers_three.py": "def double(x): return 2 * x\n"})
    before = list(sys.path)

    assert dagnb.task(helpers.double)(21).run(workers="inline").result() == 42

    assert sys.path == before


def test_the_archive_of_a_run_is_in_its_store(imported: Imported) -> None:
    helpers = imported("helpers_four", **{"helpers_four.py": "def double(x): return 2 * x\n"})
    store = wait(reopened(dagnb.Redis(url=MEMORY_URL)))

    run = dagnb.task(helpers.double)(21).run(workers=Apart(n=1))

    assert run.result() == 42
    (header,) = wait(store.content([json.loads(run.look().meta)["header"]]))
    assert wait(store.content([Header.unpack(header or b"").archive])) == [
        archive.archive((), [b"helpers_four"])
    ]


def test_a_run_of_workers_that_share_files_has_no_archive(imported: Imported) -> None:
    helpers = imported("helpers_five", **{"helpers_five.py": "def double(x): return 2 * x\n"})
    store = wait(reopened(dagnb.Redis(url=MEMORY_URL)))

    run = dagnb.task(helpers.double)(21).run(workers="inline")

    assert run.result() == 42
    (header,) = wait(store.content([json.loads(run.look().meta)["header"]]))
    assert Header.unpack(header or b"").archive == ""


def test_files_that_cannot_be_imported_stay_out_of_the_archive(
    imported: Imported, tmp_path: Path
) -> None:
    imported("pack_odd", **{"pack_odd/__init__.py": "", 'pack_odd/it\'s "one".py': "x = 1\n"})
    (tmp_path / "pack_odd" / os.fsdecode(b"no\xffutf-8.py")).write_text("")
    (tmp_path / "pack_odd" / ".#one.py").symlink_to(
        "me@host.1234:5678"
    )  # as Emacs marks a file that is being edited

    assert list(held("pack_odd")) == ["pack_odd/__init__.py", 'pack_odd/it\'s "one".py']


def test_pipes_sockets_and_links_to_nothing_are_left_out(
    imported: Imported, tmp_path: Path
) -> None:
    imported("pack_pipes", **{"pack_pipes/__init__.py": ""})
    os.mkfifo(tmp_path / "pack_pipes" / "pipe.py")
    with socket.socket(socket.AF_UNIX) as line:
        line.bind(os.path.relpath(tmp_path / "pack_pipes" / "line"))
    (tmp_path / "pack_pipes" / "gone.csv").symlink_to("nowhere")

    assert held("pack_pipes").keys() == {"pack_pipes/__init__.py"}


def test_linked_folders_and_files_are_in_the_archive_and_circles_end(
    imported: Imported, tmp_path: Path
) -> None:
    """elsewhere/rows.csv, linked as pack_links/data; pack_links/again links to pack_links."""
    imported(
        "pack_links",
        **{"pack_links/__init__.py": "", "elsewhere/rows.csv": "1,2", "elsewhere/deep/x.txt": "x"},
    )
    (tmp_path / "pack_links" / "data").symlink_to("../elsewhere")
    (tmp_path / "pack_links" / "again").symlink_to(".")
    (tmp_path / "elsewhere" / "up").symlink_to("../pack_links")
    (tmp_path / "pack_links" / "one.csv").symlink_to("../elsewhere/rows.csv")

    files = held("pack_links")

    assert files.keys() == {
        f"pack_links/{name}"
        for name in ("__init__.py", "data/rows.csv", "data/deep/x.txt", "one.csv")
    }
    assert files["pack_links/data/rows.csv"] == "1,2"


def test_folders_that_are_linked_in_too_many_ways_are_refused(
    imported: Imported, tmp_path: Path
) -> None:
    """Each of nine folders links to all others: 9! ways through them."""
    imported(
        "pack_knot",
        **{"pack_knot/__init__.py": "", **{f"pack_knot/f{i}/x.txt": "" for i in range(9)}},
    )
    for i in range(9):
        for j in range(9):
            (tmp_path / "pack_knot" / f"f{i}" / f"to{j}").symlink_to(f"../f{j}")

    with pytest.raises(
        GraphError, match=r"the package 'pack_knot' in .* holds more than 10,000 files and folders"
    ):
        held("pack_knot")


def test_a_module_that_is_loaded_and_not_needed_stays_out(imported: Imported) -> None:
    imported("needless_one", **{"needless_one.py": ""})
    imported("helpers_six", **{"helpers_six.py": ""})

    assert held("helpers_six").keys() == {"helpers_six.py"}


def test_what_a_needed_module_imports_is_in_the_archive_loaded_or_not(imported: Imported) -> None:
    files = {
        "chain_one.py": "def f():\n    import chain_two\n",
        "chain_two.py": (
            "import importlib\nfrom chain_three import x\nimportlib.import_module('chain_five')\n"
        ),
        "chain_three/__init__.py": "x = 1\n",
        "chain_three/data.txt": "",
        "chain_four.py": "",
        "chain_five.py": "",
    }
    imported("chain_one", **files)

    assert held("chain_one").keys() == files.keys() - {"chain_four.py"}


def test_what_the_code_of_a_task_imports_is_in_the_archive_though_it_is_not_loaded(
    imported: Imported,
) -> None:
    imported("os", **{"lazy_one.py": "V = 1\n", "lazy_two.py": ""})
    space: dict[str, Any] = {"__name__": "__main__"}
    exec("def use():\n    import lazy_one\n    return lazy_one.V\n", space)

    data = archive.archive([encode_function(dagnb.task(space["use"]))])

    with zipfile.ZipFile(io.BytesIO(data)) as bundle:
        assert bundle.namelist() == ["lazy_one.py"]


def test_a_file_that_cannot_be_read_is_left_out_unless_it_is_loaded(
    imported: Imported, tmp_path: Path
) -> None:
    """The memory of a process cannot be read from its beginning, not even by root."""
    imported("pack_shut", **{"pack_shut/__init__.py": "", "pack_shut/fine.txt": ""})
    (tmp_path / "pack_shut" / "secret.txt").symlink_to("/proc/self/mem")

    assert held("pack_shut").keys() == {"pack_shut/__init__.py", "pack_shut/fine.txt"}

    (tmp_path / "pack_shut" / "__init__.py").unlink()
    (tmp_path / "pack_shut" / "__init__.py").symlink_to("/proc/self/mem")
    with pytest.raises(GraphError, match=r"pack_shut/__init__.py.*make it readable"):
        held("pack_shut")


CYTHON = """
import sys
import numpy.random
from dagnb.archive import made_modules
found = [name for name in sys.modules if name.startswith(("_cython_", "cython_runtime"))]
print(bool(found), made_modules())
"""


def test_modules_that_compiled_ones_make_for_themselves_stay_in_their_process() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CYTHON], capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "True b''"
