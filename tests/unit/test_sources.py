"""The user's own modules as an archive: what goes in, what stays out."""

from __future__ import annotations

import importlib
import io
import json
import linecache
import os
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from dagnb_workers import modules

import dagnb
from dagnb import sources
from dagnb.errors import GraphError
from dagnb.protocol.program import Header
from dagnb.session import MEMORY_URL, reopened, wait

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


def held() -> dict[str, str]:
    """name in the archive -> text"""
    data = sources.archive()
    if not data:
        return {}
    with zipfile.ZipFile(io.BytesIO(data)) as bundle:
        return {name: bundle.read(name).decode() for name in bundle.namelist()}


def test_a_module_beside_the_notebook_is_in_the_archive(imported: Imported) -> None:
    imported("helpers_one", **{"helpers_one.py": "def double(x): return 2 * x\n"})

    assert held()["helpers_one.py"] == "def double(x): return 2 * x\n"


def test_a_package_is_in_the_archive_whole_but_for_what_is_no_source(imported: Imported) -> None:
    files = {
        "pack_one/__init__.py": "",
        "pack_one/a.py": "A = 1\n",
        "pack_one/deep/__init__.py": "",
        "pack_one/deep/b.py": "B = 2\n",
        "pack_one/plain/c.py": "C = 3\n",
        "pack_one/data.json": "{}",
        "pack_one/.hidden/d.py": "",
        "pack_one/__pycache__/e.py": "",
    }
    imported("pack_one", **files)

    found = {name for name in held() if name.startswith("pack_one")}

    assert found == {name for name in files if name.endswith(".py") and ".hidden" not in name and "__pyc" not in name}


def test_a_package_without_init_is_in_the_archive(imported: Imported) -> None:
    imported("loose_one.part", **{"loose_one/part.py": "P = 1\n", "loose_one/more/q.py": "Q = 1\n"})

    assert {name for name in held() if name.startswith("loose_one")} == {"loose_one/part.py", "loose_one/more/q.py"}


def test_installed_modules_the_standard_library_and_dagnb_itself_stay_out(imported: Imported) -> None:
    tops = {name.split("/")[0].removesuffix(".py") for name in held()}

    for name in (
        "dagnb",
        "dagnb_workers",
        "dagnb_planners",
        "pytest",
        "_pytest",
        "hypothesis",
        "json",
        "os",
        "zipfile",
    ):
        assert name not in tops
    assert not any(name.startswith("..") or Path(name).is_absolute() for name in held())


def test_equal_sources_give_equal_bytes_and_changed_ones_others(imported: Imported, tmp_path: Path) -> None:
    imported("helpers_two", **{"helpers_two.py": "X = 1\n"})
    first = sources.archive()
    path = tmp_path / "helpers_two.py"

    os.utime(path, (1, 1))
    assert sources.archive() == first

    path.write_text("X = 2\n")
    assert sources.archive() != first
    assert held()["helpers_two.py"] == "X = 2\n"


def test_a_module_whose_file_is_gone_is_left_out(imported: Imported, tmp_path: Path) -> None:
    imported("helpers_gone", **{"helpers_gone.py": ""})
    (tmp_path / "helpers_gone.py").unlink()

    assert "helpers_gone.py" not in held()


def test_modules_made_by_hand_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    made = ModuleType("made_by_hand")
    made.__file__ = __file__
    monkeypatch.setitem(sys.modules, "made_by_hand", made)

    assert "made_by_hand.py" not in held()


def test_more_than_sixteen_megabytes_are_refused_with_the_size(imported: Imported, tmp_path: Path) -> None:
    imported("pack_huge", **{"pack_huge/__init__.py": ""})
    with (tmp_path / "pack_huge" / "table.py").open("wb") as table:
        table.truncate(18_000_000)

    with pytest.raises(GraphError, match=r"come to 1[89] MB of source, more than 16 MB. Install them as a package"):
        sources.archive()


def test_what_was_archived_can_be_imported_where_it_is_unpacked(
    imported: Imported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """modules.install is the other end."""
    monkeypatch.setenv("DAGNB_HOME", str(tmp_path / "home"))
    files = {"pack_two/__init__.py": "from pack_two.inner import VALUE\n", "pack_two/inner.py": "VALUE = 42\n"}
    imported("pack_two", **files)
    data = sources.archive()
    for name in ("pack_two", "pack_two.inner"):
        del sys.modules[name]
    sys.path.remove(str(tmp_path))
    before = list(sys.path)

    try:
        modules.install("name of this archive", data)
        modules.install("name of this archive", data)

        assert importlib.import_module("pack_two").VALUE == 42
        assert len(sys.path) == len(before) + 1
    finally:
        sys.path[:] = before


def test_an_archive_is_unpacked_once_for_all_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGNB_HOME", str(tmp_path))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        bundle.writestr("one_module.py", "ONE = 1")
    before = list(sys.path)

    try:
        modules.install("once", buffer.getvalue())
        modules.install("once", b"is not even looked at")

        assert [path.name for path in modules.folder().iterdir()] == ["once"]
    finally:
        sys.path[:] = before


def test_an_archive_cannot_write_outside_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGNB_HOME", str(tmp_path))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        bundle.writestr("../../outside_of_it.py", "BAD = 1")
        bundle.writestr("fine_module.py", "FINE = 1")
    before = list(sys.path)

    try:
        modules.install("name of a bad archive", buffer.getvalue())

        folder = Path(sys.path[0])
        assert [path.name for path in folder.iterdir()] == ["fine_module.py"]
        assert not (folder.parent.parent / "outside_of_it.py").exists()
    finally:
        sys.path[:] = before


def test_a_helper_beside_the_notebook_is_used_by_an_inline_run_as_it_is_here(imported: Imported) -> None:
    """In one process nothing is unpacked: a copy in front of sys.path would hide later edits."""
    helpers = imported("helpers_three", **{"helpers_three.py": "def double(x): return 2 * x\n"})
    before = list(sys.path)

    assert dagnb.task(helpers.double)(21).run(workers="inline").result() == 42

    assert sys.path == before


def test_the_archive_of_a_run_is_in_its_store(imported: Imported) -> None:
    helpers = imported("helpers_four", **{"helpers_four.py": "def double(x): return 2 * x\n"})
    store = wait(reopened(dagnb.Redis(url=MEMORY_URL)))

    run = dagnb.task(helpers.double)(21).run(workers="inline")

    assert run.result() == 42
    (header,) = wait(store.content([json.loads(run.look().meta)["header"]]))
    assert wait(store.content([Header.unpack(header or b"").archive])) == [sources.archive()]


# ---- cells ----


@pytest.fixture
def cell(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Lets this process know the text of a file that is none."""

    def know(file: str, text: str) -> None:
        monkeypatch.setitem(linecache.cache, file, (len(text), None, text.splitlines(keepends=True), file))

    return know


def test_a_cell_is_told_with_its_text_and_as_people_call_it(
    cell: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    cell("<one>", "a = 1\nb = 2\n")
    cell("<two>", "c = 3\n")
    monkeypatch.setattr(sources, "labellers", [{"<one>": "Cell In[1]"}.get])

    assert sources.cells({"<one>", "<two>"}) == {
        "<one>": ("Cell In[1]", "a = 1\nb = 2\n"),
        "<two>": ("<two>", "c = 3\n"),
    }


def test_files_on_disk_and_texts_that_nobody_knows_are_left_out() -> None:
    assert sources.cells({__file__, "<string>", "/nowhere/at/all.py"}) == {}


def test_the_name_that_all_executed_strings_share_is_left_out(cell: Callable[[str, str], None]) -> None:
    """Generated code of dataclasses and named tuples is called so, too, and would be shown with lines of others."""
    cell("<string>", "a = 1\n")

    assert sources.cells({"<string>"}) == {}


def test_of_more_than_a_megabyte_the_largest_cells_are_left_out(cell: Callable[[str, str], None]) -> None:
    sizes = {"<small>": 10, "<large>": 700_000, "<larger>": 800_000}
    for file, size in sizes.items():
        cell(file, "x" * size)

    assert sources.cells(sizes).keys() == {"<small>", "<large>"}


def test_files_that_cannot_be_imported_stay_out_of_the_archive(imported: Imported, tmp_path: Path) -> None:
    imported("pack_odd", **{"pack_odd/__init__.py": "", 'pack_odd/it\'s "one".py': "x = 1\n"})
    (tmp_path / "pack_odd" / os.fsdecode(b"no\xffutf-8.py")).write_text("")
    (tmp_path / "pack_odd" / ".#one.py").symlink_to("me@host.1234:5678")  # as Emacs marks a file that is being edited

    assert [name for name in held() if name.startswith("pack_odd")] == [
        "pack_odd/__init__.py",
        'pack_odd/it\'s "one".py',
    ]


def test_frames_of_pythons_frozen_modules_are_a_librarys() -> None:
    with pytest.raises(ModuleNotFoundError) as missing:
        importlib.import_module("dagnb.there_is_no_such_module")

    frames = sources.frames(missing.value.__traceback__)

    assert [frame.is_library for frame in frames if "_bootstrap" in frame.file] != []
    assert all(frame.is_library for frame in frames if frame.file != __file__)
    assert not frames[0].is_library
