"""What the client can import, a task imports, from the same file, no more and no less. Real scripts
in real folders.
"""

from __future__ import annotations

import os
import py_compile
import shutil
import site
import subprocess
import sys
import sysconfig
import zipapp
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.agent import private_agent
from tests.services.project import Project, asking

pytestmark = pytest.mark.redis


@pytest.fixture(scope="module", autouse=True)
def _agent() -> Iterator[None]:
    with private_agent():
        yield


def where(*modules: str) -> str:
    """A script that compares the files of modules here and there."""
    files = ", ".join(f"os.path.realpath({name}.__file__)" for name in modules)
    return asking(f"import os, {', '.join(modules)}\nreturn ({files},)")


def test_a_module_on_pythonpath(tmp_path: Path) -> None:
    project = Project(tmp_path, {"lib/far.py": "", "nb/main.py": where("far")})

    out = project.run("main.py", cwd="nb", PYTHONPATH=f"{tmp_path}/lib{os.pathsep}{tmp_path}/tools")

    assert out == f"same ('{tmp_path}/lib/far.py',)"


def test_a_module_beside_a_script_that_is_started_from_elsewhere(tmp_path: Path) -> None:
    """`far` in the current folder is another one, and `only` there is none the client could import."""
    script = (
        where("far")
        + "compared(lambda: __import__('importlib.util').util.find_spec('only') is None)\n"
    )
    project = Project(
        tmp_path, {"app/far.py": "", "app/main.py": script, "here/far.py": "", "here/only.py": ""}
    )

    out = project.run("../app/main.py", cwd="here")

    assert out == f"same ('{tmp_path}/app/far.py',)\nsame True"


def test_a_relative_entry_keeps_its_meaning_when_the_folder_changes(tmp_path: Path) -> None:
    begin = "import os, sys\nsys.path.append('../lib')\nimport far\nos.chdir('/')\n"
    project = Project(
        tmp_path,
        {"lib/far.py": "", "lib/later.py": "", "nb/main.py": begin + where("far", "later")},
    )

    out = project.run("main.py", cwd="nb")

    assert out == f"same ('{tmp_path}/lib/far.py', '{tmp_path}/lib/later.py')"


def test_names_of_the_standard_library_in_the_current_folder_hide_nothing(tmp_path: Path) -> None:
    wrong = "raise SystemExit('the wrong module')"
    names = ("statistics", "logging", "json", "resource", "argparse")
    files = {f"data/{name}.py": wrong for name in names}
    project = Project(
        tmp_path,
        {**files, "nb/main.py": where("statistics", "logging", "json", "resource", "argparse")},
    )

    assert project.run("../nb/main.py", cwd="data").startswith("same")


@pytest.mark.parametrize(
    "name", ["mmap", "resource", "code", "argparse", "page", "tracemalloc", "sched"]
)
def test_a_module_beside_the_script_hides_what_the_worker_itself_has_imported_under_its_name(
    tmp_path: Path, name: str
) -> None:
    project = Project(tmp_path, {f"nb/{name}.py": "", "nb/main.py": where(name)})

    assert project.run("main.py", cwd="nb") == f"same ('{tmp_path}/nb/{name}.py',)"


def test_a_module_that_was_loaded_before_the_path_changed_is_the_one_of_before(
    tmp_path: Path,
) -> None:
    begin = "import sys, colorsys\nsys.path.insert(0, '../lib')\n"
    project = Project(tmp_path, {"lib/colorsys.py": "", "nb/main.py": begin + where("colorsys")})

    library = os.path.realpath(sysconfig.get_path("stdlib"))
    assert project.run("main.py", cwd="nb") == f"same ('{library}/colorsys.py',)"


def test_a_module_that_was_loaded_by_the_path_of_its_file(tmp_path: Path) -> None:
    begin = """
from importlib import util
import sys
spec = util.spec_from_file_location("by_path", "../elsewhere/other name.py")
sys.modules["by_path"] = util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["by_path"])
"""
    project = Project(
        tmp_path, {"elsewhere/other name.py": "", "nb/main.py": begin + where("by_path")}
    )

    assert project.run("main.py", cwd="nb") == f"same ('{tmp_path}/elsewhere/other name.py',)"


def test_packages_whose_folder_has_left_the_path(tmp_path: Path) -> None:
    """One with __init__.py, one without."""
    begin = "import sys\nsys.path.insert(0, '../away')\nimport whole, loose.part\nsys.path.pop(0)\n"
    files = {"away/whole/__init__.py": "", "away/whole/sub.py": "", "away/loose/part.py": ""}
    project = Project(tmp_path, {**files, "nb/main.py": begin + where("whole.sub", "loose.part")})

    out = project.run("main.py", cwd="nb")

    assert out == f"same ('{tmp_path}/away/whole/sub.py', '{tmp_path}/away/loose/part.py')"


def test_a_linked_package_is_imported_by_its_link(tmp_path: Path) -> None:
    script = asking("import linked.sub\nreturn linked.sub.__file__")
    project = Project(tmp_path, {"real/__init__.py": "", "real/sub.py": "", "nb/main.py": script})
    (tmp_path / "nb" / "linked").symlink_to("../real")

    assert project.run("main.py", cwd="nb") == f"same '{tmp_path}/nb/linked/sub.py'"


def test_python_with_m_and_its_relative_imports(tmp_path: Path) -> None:
    script = asking(
        "from . import helper\nimport sys\nreturn helper.__file__, sys.path[0], sys.argv[1:]"
    )
    project = Project(
        tmp_path, {"nb/pack/__init__.py": "", "nb/pack/helper.py": "", "nb/pack/main.py": script}
    )

    out = project.run("-m", "pack.main", "--flag", cwd="nb")

    assert out == f"same ('{tmp_path}/nb/pack/helper.py', '{tmp_path}/nb', ['--flag'])"


def test_python_with_c_has_the_current_folder_first_as_a_notebook_has(tmp_path: Path) -> None:
    project = Project(tmp_path, {"nb/helper.py": ""})

    out = project.run(
        "-c",
        asking("import helper, sys\nreturn helper.__file__, sys.path[0], sys.argv"),
        "x",
        cwd="nb",
    )

    assert out == f"same ('{tmp_path}/nb/helper.py', '', ['-c', 'x'])"


def test_a_zip_application_and_a_zip_file_on_the_path(tmp_path: Path) -> None:
    body = (
        "import inside, mmap, os, other, pkgutil\n"
        "return inside.f(), os.path.realpath(mmap.__file__), other.__file__, "
    )
    main = "import sys\nsys.path.append('lib.zip')\n" + asking(
        body + "pkgutil.get_data('packed', 'd.txt')"
    )
    project = Project(
        tmp_path, {"app/__main__.py": main, "app/inside.py": "f = lambda: 5", "app/mmap.py": ""}
    )
    zipapp.create_archive(tmp_path / "app", tmp_path / "app.pyz")
    with zipfile.ZipFile(tmp_path / "lib.zip", "w") as bundle:
        for name, text in {
            "other.py": "",
            "packed/__init__.py": "",
            "packed/d.txt": "data",
        }.items():
            bundle.writestr(name, text)

    assert (
        project.run("app.pyz")
        == f"same (5, '{tmp_path}/app.pyz/mmap.py', 'lib.zip/other.py', b'data')"
    )


def test_compiled_modules(tmp_path: Path) -> None:
    """Bytecode without its source, and a shared library under its own name."""
    project = Project(tmp_path, {"nb/main.py": where("bytes_only", "_heapq")})
    py_compile.compile(
        str(project.write("nb/bytes_only.py", "")), cfile=str(tmp_path / "nb/bytes_only.pyc")
    )
    (tmp_path / "nb/bytes_only.py").unlink()
    import _heapq

    shutil.copy(str(_heapq.__file__), tmp_path / "nb")

    out = project.run("main.py", cwd="nb")

    assert (
        out
        == f"same ('{tmp_path}/nb/bytes_only.pyc', '{tmp_path}/nb/{Path(str(_heapq.__file__)).name}')"
    )


FINDER = """
import sys, importlib.util
class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "edited":
            place = {place!r}
            file = place + "/__init__.py"
            return importlib.util.spec_from_file_location(name, file, submodule_search_locations=[place])
def install():
    sys.meta_path.append(Finder)
"""


def test_a_package_installed_in_the_editable_way_after_the_fork_server_started(
    tmp_path: Path,
) -> None:
    """A .pth file makes a finder, in an environment of the project's own."""
    script = asking("import importlib.util as u\nreturn u.find_spec('edited').origin")
    files = {
        "src/edited/__init__.py": "",
        "src/edited/d.txt": "data",
        "nb/first.py": asking("return 1"),
    }
    project = Project(tmp_path, {**files, "nb/main.py": script})
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "env"], check=True)
    python = str(tmp_path / "env/bin/python")
    (folder,) = tmp_path.glob("env/lib/*/site-packages")
    parents = [
        *site.getsitepackages(),
        *(path for path in sys.path if path.startswith(str(Path(__file__).parents[2]))),
    ]
    (folder / "parent.pth").write_text("\n".join(dict.fromkeys(parents)))
    assert project.run("first.py", cwd="nb", python=python) == "same 1"

    (folder / "edited_finder.py").write_text(FINDER.format(place=str(tmp_path / "src/edited")))
    (folder / "edited.pth").write_text(
        "import edited_finder, sys; sys.meta_path.append(edited_finder.Finder())"
    )

    assert (
        project.run("main.py", cwd="nb", python=python)
        == f"same '{tmp_path}/src/edited/__init__.py'"
    )


def test_a_package_that_a_finder_of_a_folder_of_packages_gives_and_nobody_has_loaded(
    tmp_path: Path,
) -> None:
    """site.addsitedir does for a folder what Python does at its start for those it knows."""
    begin = "import site\nsite.addsitedir('packages')\n"
    script = begin + asking("import importlib.util as u\nreturn u.find_spec('edited').origin")
    project = Project(tmp_path, {"src/edited/__init__.py": "", "main.py": script})
    project.write("packages/edited_finder.py", FINDER.format(place=str(tmp_path / "src/edited")))
    project.write("packages/edited.pth", "import edited_finder; edited_finder.install()")

    assert project.run("main.py") == f"same '{tmp_path}/src/edited/__init__.py'"


def test_entries_of_the_path_that_python_passes_over_are_passed_over(tmp_path: Path) -> None:
    begin = "import pathlib, sys\nsys.path.insert(0, pathlib.Path('../lib'))\nsys.argv.append(3)\n"
    project = Project(tmp_path, {"lib/colorsys.py": "", "nb/main.py": begin + where("colorsys")})

    assert project.run("main.py", cwd="nb").startswith("same")


MADE = """
import sys, types
import dagnb
from compared import compared
made = sys.modules["made"] = types.ModuleType("made")
exec('''
N = 0
class Row:
    def __init__(self, x): self.x = x
    def more(self): return self.x + N
def bump():
    global N
    N += 1
    return N
''', vars(made))
from made import bump
@dagnb.task
def work(row):
    import made as again
    bump()
    again.N += 10
    return again.bump(), row.more(), type(row) is again.Row, again is made, row
run = work(made.Row(1)).run(workers="process")
print(run.result(60)[:-1], type(run.result(60)[-1]) is made.Row, made.N)
"""


def test_a_module_made_in_memory(tmp_path: Path) -> None:
    project = Project(tmp_path, {"nb/main.py": MADE})

    assert project.run("main.py", cwd="nb") == "(12, 13, True, True) True 0"


def test_a_module_made_in_memory_that_cannot_travel_says_so_where_it_is_imported(
    tmp_path: Path,
) -> None:
    script = """
    import sys, threading, types
    from dagnb import task
    from dagnb.errors import TaskFailedError
    made = sys.modules["made"] = types.ModuleType("made")
    made.lock = threading.Lock()
    @task
    def needs():
        import made
    try:
        print(task(int)("7").run(workers="process").result(60))
        needs().run(workers="process").result(60)
    except TaskFailedError as error:
        print(error.errors[0].type, error.errors[0].message)
    """
    project = Project(tmp_path, {"nb/main.py": script})

    first, second = project.run("main.py", cwd="nb").splitlines()

    assert first == "7"
    assert second.startswith(
        "ImportError the module 'made' was made in memory, and its content cannot be pickled: "
    )


def test_dagnb_that_is_importable_through_pythonpath_alone(tmp_path: Path) -> None:
    """Beside it lies a module named like one that workers import: it hides that from the user's
    code, not from them.
    """
    project = Project(tmp_path, {"nb/main.py": where("mmap"), "all/mmap.py": ""})
    for folder in dict.fromkeys([*site.getsitepackages(), *sys.path]):
        for found in (
            Path(folder).glob("*")
            if "site-packages" in folder or (Path(folder) / "dagnb").is_dir()
            else ()
        ):
            if found.suffix != ".pth" and not (tmp_path / "all" / found.name).is_symlink():
                (tmp_path / "all" / found.name).symlink_to(found)
    for arm in ("workers/dagnb_workers", "planners/dagnb_planners", "kernel_ext/dagnb_kernel_ext"):
        if not (tmp_path / "all" / Path(arm).name).exists():
            (tmp_path / "all" / Path(arm).name).symlink_to(Path(__file__).parents[2] / arm)
    bare = os.path.realpath(sys.executable)

    with private_agent():
        out = project.run(
            "main.py",
            cwd="nb",
            python=bare,
            PYTHONPATH=f"{tmp_path}/all{os.pathsep}{tmp_path}/tools",
        )

    assert out == f"same ('{tmp_path}/all/mmap.py',)"
