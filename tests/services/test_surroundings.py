"""What tasks on processes see around them is what their client has. Real scripts, real processes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dagnb_workers.agent.client import ask_agent, ensure_agent
from dagnb_workers.agent.hosts import MAX_UNUSED
from dagnb_workers.hosting.interpreter import PythonStart, own_folders, python_path

from dagnb import session
from tests.conformance.agent import private_agent
from tests.home import own_home
from tests.services.project import Project, asking
from tests.services.stage import eventually

pytestmark = pytest.mark.redis


@pytest.fixture(scope="module", autouse=True)
def _agent() -> Iterator[None]:
    with private_agent():
        yield


SET = """
import locale, os, resource, sys, time, warnings
os.umask(0o027)
sys.setrecursionlimit(4321)
sys.set_int_max_str_digits(5000)
resource.setrlimit(resource.RLIMIT_NOFILE, (222, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
os.environ.update(TZ="JST-9", ODD="x\\udcff")
time.tzset()
os.environ.pop("HOME", None)
sys.argv = ["me", "--flag"]
warnings.filterwarnings("error", message="strict")
locale.setlocale(locale.LC_ALL, "C.UTF-8")
os.chdir("folder")
"""

SEEN = """
import locale, os, resource, sys, time, warnings
mask = os.umask(0)
os.umask(mask)
try:
    strict = warnings.warn("strict one")
except UserWarning as warning:
    strict = str(warning)
return (
    mask,
    sys.getrecursionlimit(),
    sys.get_int_max_str_digits(),
    resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    time.localtime(0).tm_hour,
    os.environ["ODD"],
    "HOME" in os.environ,
    sys.argv,
    strict,
    locale.setlocale(locale.LC_ALL),
    os.path.basename(os.getcwd()),
)
"""


def test_a_task_sees_what_was_set_in_the_client(tmp_path: Path) -> None:
    project = Project(tmp_path, {"main.py": SET + asking(SEEN), "folder/empty": ""})

    assert project.run("main.py") == (
        "same (23, 4321, 5000, 222, 9, 'x\\udcff', False, ['me', '--flag'], 'strict one', 'C.UTF-8', 'folder')"
    )


def test_the_next_client_of_the_same_fork_server_meets_nothing_of_the_one_before(
    tmp_path: Path,
) -> None:
    asked = asking(
        "import os, sys, time\nreturn time.localtime(0).tm_hour, sys.argv, 'ODD' in os.environ, sys.path[0]"
    )
    project = Project(tmp_path, {"main.py": asked})

    first = project.run("main.py", "a", TZ="JST-9", ODD="1")
    second = project.run("-c", asked, TZ="UTC0")

    assert first == f"same (9, ['main.py', 'a'], True, '{tmp_path}')"
    assert second == "same (0, ['-c'], False, '')"


STARTED = """
import sys
flags = sys.flags
return (
    hash("a"), flags.optimize, flags.dont_write_bytecode, flags.dev_mode, flags.isolated, flags.no_user_site,
    flags.utf8_mode, flags.safe_path, sys.warnoptions, sys._xoptions, __debug__,
)
"""


@pytest.mark.parametrize(
    ("options", "environ"),
    [
        ((), {"PYTHONHASHSEED": "0"}),
        (("-O",), {"PYTHONHASHSEED": "1"}),
        (("-OO", "-B", "-s"), {"PYTHONHASHSEED": "1"}),
        (("-W", "error", "-Wignore::UserWarning"), {"PYTHONHASHSEED": "1"}),
        (("-X", "dev", "-P"), {"PYTHONHASHSEED": "1"}),
        (("-Xutf8=1",), {"PYTHONHASHSEED": "1", "LC_ALL": "C"}),
        (
            (),
            {"PYTHONHASHSEED": "1", "PYTHONOPTIMIZE": "1", "PYTHONWARNINGS": "error::UserWarning"},
        ),
    ],
    ids=lambda told: " ".join(told) or "none",
)
def test_the_interpreter_of_a_task_was_started_as_that_of_the_client(
    tmp_path: Path, options: tuple[str, ...], environ: dict[str, str]
) -> None:
    project = Project(tmp_path, {"main.py": asking(STARTED)})

    assert project.run("main.py", options=options, **environ).startswith("same (")


def test_nothing_of_how_the_agent_was_started_reaches_the_tasks_of_another_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`argparse` and `mmap` on the PYTHONPATH of who started the agent would end the agent and its
    fork servers.
    """
    wrong = {
        f"bad/{name}.py": "raise SystemExit('the wrong module')" for name in ("argparse", "mmap")
    }
    project = Project(tmp_path, {"main.py": asking(STARTED), **wrong})
    with own_home(), monkeypatch.context() as starting:
        for name, value in {
            "PYTHONPATH": str(tmp_path / "bad"),
            "PYTHONOPTIMIZE": "2",
            "PYTHONDEVMODE": "1",
        }.items():
            starting.setenv(name, value)
        session.wait(ask_agent("ping"))
        starting.undo()

        out = project.run("main.py", PYTHONHASHSEED="1", PYTHONOPTIMIZE="", PYTHONDEVMODE="")

    assert out.startswith("same (")
    assert out.endswith("True)")


def test_an_isolated_client_has_isolated_tasks(tmp_path: Path) -> None:
    begin = "import sys\nsys.path.insert(0, 'tools')\n"
    project = Project(
        tmp_path, {"main.py": begin + asking("import sys\nreturn sys.flags.isolated, sys.path[0]")}
    )

    assert project.run("main.py", options=("-I",)) == "same (1, 'tools')"


def test_warnings_as_errors_are_errors_in_tasks_and_end_no_worker(tmp_path: Path) -> None:
    body = """
import warnings
try:
    warnings.warn("old", DeprecationWarning)
except DeprecationWarning as error:
    return f"raised {error}"
"""
    project = Project(tmp_path, {"main.py": asking(body)})

    assert project.run("main.py", options=("-W", "error")) == "same 'raised old'"


LOGGING = """
import logging
import dagnb
logging.basicConfig(level=logging.DEBUG, format="%(levelname)s|%(message)s")
logging.getLogger("noisy").setLevel(logging.ERROR)

@dagnb.task
def work():
    import logging
    logging.debug("one")
    logging.getLogger("noisy").warning("two")
    logging.getLogger("fine").info("three")

run = work().run(workers="process")
run.result(60)
print(repr(run.log("work-0")))
"""


def test_messages_of_tasks_have_the_level_and_the_form_of_the_client_and_the_worker_adds_none(
    tmp_path: Path,
) -> None:
    project = Project(tmp_path, {"main.py": LOGGING})

    assert project.run("main.py") == repr("DEBUG|one\nINFO|three\n")


def test_fork_servers_of_many_ways_to_start_do_not_pile_up(tmp_path: Path) -> None:
    project = Project(tmp_path, {"main.py": asking("return 1")})

    for seed in range(MAX_UNUSED + 2):
        assert project.run("main.py", PYTHONHASHSEED=str(100 + seed)) == "same 1"

    eventually(lambda: session.wait(ask_agent("status"))["hosts"] <= MAX_UNUSED)


async def test_a_fork_server_that_nobody_used_for_long_ends_but_for_the_one_that_was_used_last(
    tmp_path: Path,
) -> None:
    def whose(seed: str) -> dict[str, Any]:
        start = PythonStart(variables=(("PYTHONHASHSEED", seed),), folders=own_folders())
        return {"host": "process", "python": python_path(), "code": "", **start.to_dict()}

    with own_home():
        async with await ensure_agent(idle_s=0.5) as agent:  # it stays as long as this connection
            for seed in ("1", "2", "1"):
                await agent.ask("ready", **whose(seed))
            assert (await agent.ask("status"))["hosts"] == 2

            async with asyncio.timeout(30):
                while (await agent.ask("status"))["hosts"] != 1:
                    pass
