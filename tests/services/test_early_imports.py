"""Installed packages are imported once, and tasks do not notice: real scripts, with an environment
of their own that has packages for these tests.
"""

from __future__ import annotations

import json
import os
import site
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dagnb_workers.agent.client import ask_agent, ask_running

from dagnb import session
from tests.conformance.agent import private_agent
from tests.services.processes import await_that
from tests.services.project import Project

pytestmark = [
    pytest.mark.redis,
    pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads cannot be counted"),
]

COUNTING = """
import os
with open(os.environ["COUNTED"], "a") as file:
    file.write(f"{__name__}\\n")
"""
"""Begin of a package: each time that its code runs, it adds a line to a file."""

PACKAGES = {
    "plain_pack/__init__.py": COUNTING + "value = 1\n",
    "plain_pack/sub.py": COUNTING + "value = 2\n",
    "changing_pack.py": COUNTING
    + """
import sys, warnings
os.environ["CHANGING_PACK"] = "set"
warnings.filterwarnings("ignore", message="of changing_pack")
sys.path.append("/of/changing_pack")
def of_changing_pack(entry):
    raise ImportError(entry)
sys.path_hooks.append(of_changing_pack)
threads = os.environ.get("OMP_NUM_THREADS")
""",
    "drawing_pack.py": COUNTING
    + "import random\nfree, seeded = random.Random(), random.Random(7)\n",
    "thread_pack.py": COUNTING
    + "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n",
    "socket_pack.py": COUNTING + "import socket\nends = socket.socketpair()\n",
    "child_pack.py": COUNTING + "import subprocess\nchild = subprocess.Popen(['sleep', '60'])\n",
    "printing_pack.py": COUNTING + "print('hello')\n",
    "moving_pack.py": COUNTING + "os.umask(0o027)\n",
}

UNFIT = {
    "thread_pack": "it starts a thread",
    "socket_pack": "it leaves a file or a socket open",
    "child_pack": "it starts a process",
    "printing_pack": "its import prints",
    "moving_pack": "it changes an aspect of the process: umask",
}

TOOLS = """
import json, sys
import dagnb
from dagnb import task
from dagnb_workers import Processes

def run(function, n=1, times=1, **options):
    @task
    def both(*values):
        return values
    calls = [task(function)(number) for number in range(times)]
    return both(*calls).run(workers=Processes(n=n, **options)).result(60)

def told(value):
    print(json.dumps(value))
"""


class Lab:
    """A folder of one test, and the Python that has the packages."""

    def __init__(self, root: Path, python: str) -> None:
        self.project, self.python = Project(root, {"tools/lab.py": TOOLS}), python
        self.counted = root / "counted"
        self.counted.write_text("")
        (root / "nb").mkdir()

    def run(self, body: str, **environ: str) -> Any:
        """Returns what a script gives to `told`."""
        self.project.write("nb/main.py", "from lab import *\n" + body)
        out = self.project.run(
            "main.py", cwd="nb", python=self.python, COUNTED=str(self.counted), **environ
        )
        return json.loads(out.splitlines()[-1])

    def n_imports(self) -> int:
        """How often the code of a package has run in all processes."""
        return len(self.counted.read_text().splitlines())

    def await_server(self, *modules: str) -> dict[str, Any]:
        """Returns the facts of the server with these modules when it is ready."""
        ready: list[dict[str, Any]] = []

        def is_ready() -> bool:
            wanted = {*modules}
            ready[:] = [each for each in servers() if wanted <= {*each["modules"]}]
            return any(each["is_ready"] for each in ready)

        await_that(is_ready, f"{modules} were imported early")
        return next(each for each in ready if each["is_ready"])


def servers() -> list[dict[str, Any]]:
    """The import servers of the agent."""
    status: list[dict[str, Any]] = session.wait(ask_running("status")).get("import_servers", [])
    return status


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The Python of an environment with PACKAGES, and an agent."""
    root = tmp_path_factory.mktemp("env")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", root], check=True)
    (folder,) = root.glob("lib/*/site-packages")
    here = str(Path(__file__).parents[2])
    parents = [*site.getsitepackages(), *(path for path in sys.path if path.startswith(here))]
    (folder / "parent.pth").write_text("\n".join(dict.fromkeys(parents)))
    for name, text in PACKAGES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    with private_agent():
        yield str(root / "bin/python")


@pytest.fixture
def lab(tmp_path: Path, python: str) -> Lab:
    return Lab(tmp_path, python)


USES = """
def uses(number):
    import plain_pack.sub
    return plain_pack.value + plain_pack.sub.value

told(run(uses))
"""


def test_a_package_is_imported_once_for_all_runs_after_the_first(lab: Lab) -> None:
    first = lab.run(USES)
    lab.await_server("plain_pack", "plain_pack.sub")
    n_before = lab.n_imports()

    later = [lab.run(USES) for _ in range(3)]

    assert first == [3]
    assert n_before == 4  # two modules, in the worker and in the server
    assert later == [[3]] * 3
    assert lab.n_imports() == n_before


LOOKS = """
def look():
    import os, sys, warnings
    filters = any("changing_pack" in str(entry[1]) for entry in warnings.filters)
    return ["changing_pack" in sys.modules, os.environ.get("CHANGING_PACK"), filters,
            "/of/changing_pack" in sys.path,
            any("of_changing_pack" in str(hook) for hook in sys.path_hooks),
            len(sys.path), len(sys.meta_path), len(sys.path_hooks)]

def looks(number):
    before = look()
    import changing_pack, importlib.util, sys
    spec = importlib.util.find_spec("changing_pack")
    return [before, look(), type(spec.loader).__name__, spec.origin == changing_pack.__file__]

told(run(looks, n=1, times=2))
"""


def test_a_task_finds_its_process_as_if_nothing_had_been_imported_early(lab: Lab) -> None:
    first = lab.run(LOOKS)
    lab.await_server("changing_pack")
    n_before = lab.n_imports()

    later = lab.run(LOOKS)

    (before, after, loader, is_same), (next_before, _, _, _) = later
    assert before[:5] == [False, None, False, False, False]
    assert after[:5] == next_before[:5] == [True, "set", True, True, True]
    assert (loader, is_same) == ("SourceFileLoader", True)
    for seen, seen_later in zip(first[0][:2], later[0][:2], strict=True):
        # All but sys.meta_path, which has one finder more.
        assert (seen[:6], seen[-1]) == (seen_later[:6], seen_later[-1])
    assert lab.n_imports() == n_before


def test_a_task_that_imports_something_else_sees_no_trace_of_early_imports(lab: Lab) -> None:
    lab.run(LOOKS)
    lab.await_server("changing_pack")
    other = LOOKS.partition("def looks")[0] + "told(run(lambda number: look()))"

    (seen,) = lab.run(other)

    assert seen[:5] == [False, None, False, False, False]


def test_generators_without_a_seed_give_other_numbers_in_each_worker(lab: Lab) -> None:
    """Both tasks open a pipe, which waits for the other end, so each has a worker of its own."""
    os.mkfifo(lab.project.root / "pipe")
    draws = """
def draws(number):
    import drawing_pack, random
    open("../pipe", "rw"[number]).close()
    return [drawing_pack.free.random(), random.random(), drawing_pack.seeded.random()]

told(run(draws, n=2, times=2))
"""
    lab.run(draws)
    lab.await_server("drawing_pack")
    n_before = lab.n_imports()

    rows = lab.run(draws) + lab.run(draws)

    free, plain, seeded = zip(*rows, strict=True)
    assert len({*free}) == len({*plain}) == 4
    assert len({*seeded}) == 1
    assert lab.n_imports() == n_before


READS = """
def reads(number):
    import changing_pack
    return changing_pack.threads

told(run(reads))
"""


def test_a_package_reads_the_variables_of_the_run_that_imports_it(lab: Lab) -> None:
    lab.run(READS, OMP_NUM_THREADS="1")
    lab.await_server("changing_pack")

    values = [lab.run(READS, OMP_NUM_THREADS=number) for number in ("1", "2", "1")]

    assert values == [["1"], ["2"], ["1"]]


def test_a_file_of_the_user_hides_a_package_that_was_imported_early(lab: Lab) -> None:
    lab.run(USES)
    lab.await_server("plain_pack")

    lab.project.write("nb/plain_pack/__init__.py", "value = 40\n")
    lab.project.write("nb/plain_pack/sub.py", "value = 2\n")

    assert lab.run(USES) == [42]


def test_a_package_that_was_changed_since_is_imported_again(lab: Lab, python: str) -> None:
    (folder,) = Path(python).parents[1].glob("lib/*/site-packages")
    (folder / "upgraded_pack.py").write_text("value = 1\n")
    upgraded = (
        "def of(number):\n    import upgraded_pack\n    return upgraded_pack.value\ntold(run(of))"
    )
    assert lab.run(upgraded) == [1]
    lab.await_server("upgraded_pack")

    (folder / "upgraded_pack.py").write_text("value = 2, 'longer'\n")

    assert lab.run(upgraded) == [[2, "longer"]]


def test_packages_that_cannot_be_shared_are_left_out_and_others_are_not(lab: Lab) -> None:
    uses = f"""
def uses(number):
    import {", ".join(UNFIT)}, plain_pack
    return plain_pack.value

told(run(uses))
"""
    lab.run(uses)

    server = lab.await_server("plain_pack", *UNFIT)
    n_before = lab.n_imports()
    later = lab.run(uses)

    assert server["left_out"] == UNFIT
    assert later == [1]
    assert lab.n_imports() == n_before + len(UNFIT)


@pytest.mark.usefixtures("python")
def test_a_library_that_ends_its_threads_at_forks_is_imported_early(tmp_path: Path) -> None:
    """OpenBLAS, which numpy uses, starts threads when it is loaded, unless it may have only one."""
    pytest.importorskip("numpy")
    lab = Lab(tmp_path, sys.executable)
    product = """
def product(number):
    import numpy
    ones = numpy.ones((400, 400))
    return float((ones @ ones).sum())

told(run(product))
"""
    threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), "2")
    lab.run(product, **threads)
    server = lab.await_server("numpy")

    value = lab.run(product, **threads)

    assert server["left_out"] == {}
    assert value == [400.0**3]


def test_modules_that_the_client_names_are_imported_before_its_first_run(lab: Lab) -> None:
    named = USES.replace("run(uses)", "run(uses, preload=['plain_pack.sub'], idle_s=60)")

    assert lab.run(named) == [3]

    # Servers of other tests may have it too, with the package before it.
    assert ["plain_pack.sub"] in [server["modules"] for server in servers() if server["is_ready"]]
    assert lab.n_imports() == 2


def test_nothing_is_imported_early_where_the_client_names_nothing(lab: Lab) -> None:
    none = USES.replace("run(uses)", "run(uses, preload=())")
    before = {server["pid"] for server in servers()}

    assert [lab.run(none), lab.run(none)] == [[3], [3]]

    assert {server["pid"] for server in servers()} <= before  # one too many may have been ended
    assert lab.n_imports() == 4


def test_a_named_module_that_cannot_be_imported_early_is_a_warning(lab: Lab) -> None:
    named = """
import warnings
def uses(number):
    import thread_pack
    return number
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    values = [run(uses, preload=["thread_pack"]) for _ in range(2)]
told([values, sorted({str(each.message) for each in caught if "preload" in str(each.message)})])
"""

    values, texts = lab.run(named)

    assert values == [[0], [0]]
    assert texts == [
        "Processes(preload=...): thread_pack is not preloaded: it starts a thread. Leave it out there."
    ]


@pytest.mark.parametrize("moment", ["in a run", "between runs"])
def test_a_server_that_is_killed_loses_nothing_and_is_started_again(lab: Lab, moment: str) -> None:
    lab.run(USES)
    pid = lab.await_server("plain_pack", "plain_pack.sub")["pid"]
    body = USES
    if moment == "in a run":
        body = USES.replace("    return", f"    import os\n    os.kill({pid}, 9)\n    return")
    else:
        os.kill(pid, 9)

    assert lab.run(body) == [3]
    again = [lab.run(USES), lab.run(USES)]

    assert again == [[3], [3]]
    assert lab.await_server("plain_pack", "plain_pack.sub")["pid"] != pid


def test_an_unused_server_ends(lab: Lab) -> None:
    modules = ["plain_pack.sub", "drawing_pack"]
    lab.run(USES.replace("run(uses)", f"run(uses, preload={modules}, idle_s=0.2)"))

    def is_there() -> bool:
        return any(server["modules"] == modules for server in servers())

    await_that(lambda: not is_there(), "the server ended")


def test_another_agent_knows_what_earlier_runs_imported(lab: Lab) -> None:
    lab.run(USES)
    lab.await_server("plain_pack", "plain_pack.sub")
    pid = session.wait(ask_agent("status"))["pid"]
    os.kill(pid, 9)

    assert lab.run(USES) == [3]

    assert session.wait(ask_agent("status"))["pid"] != pid
    lab.await_server("plain_pack", "plain_pack.sub")
