"""The client of the contract: a script that stands in surroundings of its own and asks tasks what
they see of them.

    python probes.py LAUNCHER FOLDER [ROW...]

It is executed as `__main__`, as a notebook is, so that its functions travel by value. See asking.py
for what it prints.
"""

from __future__ import annotations

import asyncio
import builtins
import csv
import inspect
import locale
import logging
import multiprocessing
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from asking import BUILT, LIMIT_S, asked, probe  # beside this script

import dagnb
from dagnb import task

MARK = "of the notebook"
counted: list[int] = []

# ---- what the client hands over ----


@probe("sys.path")
def _() -> Any:
    return [entry for entry in sys.path if entry.endswith("/beside")]


@probe("imports")
def _() -> Any:
    import mine

    return mine.__file__


@probe("shadow")
def _() -> Any:
    import statistics

    return "cwd" in str(statistics.__file__)


@probe("folder")
def _() -> Any:
    return os.getcwd()


@probe("environment")
def _() -> Any:
    return os.environ.get("DAGNB_PROBE")


@probe("time zone")
def _() -> Any:
    return [time.strftime("%z", time.localtime(0)), os.environ.get("TZ")]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@probe("umask")
def _() -> Any:
    return _umask()


@probe("limits")
def _() -> Any:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


@probe("argv")
def _() -> Any:
    return sys.argv


@probe("log level")
def _() -> Any:
    logger = logging.getLogger("mine")
    logger.info("told as info")
    logger.warning("told as warning")
    return logging.getLogger().level


@probe("hash seed")
def _() -> Any:
    return hash("dagnb")


@probe("warning options")
def _() -> Any:
    return "ignore::FutureWarning" in sys.warnoptions


@probe("X options")
def _() -> Any:
    return sys._xoptions.get("probe")


@probe("optimised")
def _() -> Any:
    return sys.flags.optimize


@probe("recursion limit")
def _() -> Any:
    return sys.getrecursionlimit()


@probe("digits of integers")
def _() -> Any:
    return sys.get_int_max_str_digits()


@probe("locale")
def _() -> Any:
    return [locale.setlocale(locale.LC_NUMERIC), sys.getfilesystemencoding()]


@probe("random state")
def _() -> Any:
    return hash(random.getstate())  # not used up by looking at it


@probe("settings of libraries")
def _() -> Any:
    return csv.field_size_limit()


@probe("context variables")
def _() -> Any:
    import mine

    return mine.VARIABLE.get()


# ---- the interpreter around a task ----


@probe("stdin", in_client=False)
def _() -> Any:
    return sys.stdin.readline()


@probe("stdout")
def _() -> Any:
    print("by print", flush=True)  # noqa: T201  # what tasks print
    os.write(1, b"by descriptor\n")
    subprocess.run([sys.executable, "-c", "print('by child')"], check=True)
    return True


@probe("stderr")
def _() -> Any:
    print("by print", file=sys.stderr, flush=True)  # noqa: T201  # as above
    return True


@probe("name")
def _() -> Any:
    return [__name__, MARK]


@probe("main module")
def _() -> Any:
    return getattr(sys.modules["__main__"], "squared", None) is squared


@probe("source")
def _() -> Any:
    return inspect.getsource(_umask).splitlines()[0]


@probe("running loop")
def _() -> Any:
    async def work() -> str:
        return "ran"

    return asyncio.run(work())


@probe("coroutine")
async def _() -> Any:
    await asyncio.sleep(0)
    return asyncio.get_running_loop().is_running()


@probe("main thread")
def _() -> Any:
    return threading.current_thread() is threading.main_thread()


@probe("signal handlers", in_client=False)
def _() -> Any:
    got: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: got.append(number))
    try:
        signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    return len(got)


@probe("time limit", in_client=False, timeout_s=0.2)
def _() -> Any:
    threading.Event().wait(1.5)
    return "ran on"


@probe("sys.exit", in_client=False)
def _() -> Any:
    sys.exit(3)


@probe("get_ipython")
def _() -> Any:
    return hasattr(builtins, "get_ipython")


@probe("user")
def _() -> Any:
    return os.getuid()


@probe("network")
def _() -> Any:
    with socket.create_connection(("127.0.0.1", PORT), timeout=5):
        return "connected"


@probe("temporary folder")
def _() -> Any:
    return Path(IN_TMP).read_text()


@probe("memory limit")
def _() -> Any:
    for place in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        if os.path.exists(place):
            return Path(place).read_text().strip()
    return "unknown"


@probe("clock")
def _() -> Any:
    return abs(time.time() - STARTED_AT) < 600


@probe("python")
def _() -> Any:
    return list(sys.version_info)


# ---- processes and threads of a task's own ----


def squared(number: int) -> int:
    """A function of the notebook."""
    return number * number


@probe("subprocess")
def _() -> Any:
    return subprocess.run(
        [sys.executable, "-c", "print(6 * 7)"], capture_output=True, text=True, check=True
    ).stdout


@probe("fork")
def _() -> Any:
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as pool:
        return list(pool.map(squared, [2, 3], timeout=20))


@probe("spawn")
def _() -> Any:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(squared, [2, 3], timeout=20))


def _leave_a_thread() -> None:
    builtins.go = threading.Event()  # type: ignore[attr-defined]

    def late() -> None:
        builtins.go.wait(LIMIT_S)  # type: ignore[attr-defined]
        print("printed late", flush=True)  # noqa: T201  # what tasks print

    builtins.left = threading.Thread(target=late, daemon=True)  # type: ignore[attr-defined]
    builtins.left.start()  # type: ignore[attr-defined]


@probe("threads", _leave_a_thread)
def _(before: Any) -> Any:
    print("of the next task", flush=True)  # noqa: T201  # what tasks print
    builtins.go.set()  # type: ignore[attr-defined]
    builtins.left.join()  # type: ignore[attr-defined]
    return True


@probe("children", in_client=False)
def _() -> Any:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    builtins.child = child  # type: ignore[attr-defined]  # else Python warns when it is collected
    return child.pid


# ---- what one task changed, seen by the next ----


def _wander() -> str:
    before = os.getcwd()
    os.chdir("/")
    return before


@probe("folder of the next", _wander, in_client=False)
def _(before: str) -> Any:
    return os.getcwd() == before


def _set_variable() -> None:
    os.environ["DAGNB_LEFT"] = "left"


@probe("environment of the next", _set_variable, in_client=False)
def _(before: None) -> Any:
    return os.environ.get("DAGNB_LEFT")


def _mask() -> int:
    return os.umask(0o077)


@probe("umask of the next", _mask, in_client=False)
def _(before: int) -> Any:
    return _umask() == before


def _append() -> None:
    sys.path.append("/left/by/a/task")


@probe("sys.path of the next", _append, in_client=False)
def _(before: None) -> Any:
    return "/left/by/a/task" in sys.path


def _handle() -> None:
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGUSR2, lambda number, frame: None)


@probe("signal handlers of the next", _handle, in_client=False)
def _(before: None) -> Any:
    return signal.getsignal(signal.SIGUSR2) is signal.SIG_DFL


def _close() -> None:
    sys.stdout.close()


@probe("stdout of the next", _close, in_client=False)
def _(before: None) -> Any:
    print("printed after it was closed", flush=True)  # noqa: T201  # what tasks print
    return True


def _numeric() -> list[Any]:
    import decimal

    before = decimal.getcontext().prec
    decimal.getcontext().prec = 3
    try:
        import numpy as np
    except ImportError:
        return [before, None]
    return [before, np.seterr(all="ignore")["divide"]]


@probe("numeric state of the next", _numeric, in_client=False)
def _(before: list[Any]) -> Any:
    import decimal

    now: list[Any] = [decimal.getcontext().prec, None]
    if "numpy" in sys.modules:
        now[1] = sys.modules["numpy"].geterr()["divide"]
    return now == before


def _leave_context() -> None:
    import mine

    mine.VARIABLE.set("left")


@probe("context variables of the next", _leave_context, in_client=False)
def _(before: None) -> Any:
    import mine

    return mine.VARIABLE.get()


def _count(before: int = 0) -> int:
    counted.append(1)
    return len(counted)


probe("globals", _count, in_client=False)(_count)


# ---- arguments, values, errors ----


def _build_argument() -> Any:
    box = [1]
    node = task(_listed)(box)
    box.append(2)
    return node


def _listed(values: list[Any]) -> list[Any]:
    return values


def _build_sharing() -> Any:
    both: list[int] = []
    return task(_shared)(both, [both])


def _shared(one: list[int], other: list[list[int]]) -> bool:
    return one is other[0]


def _build_reader_twice() -> Any:
    given = task(_listed)([1])
    return task(_grown)(task(_grow)(given), given)


def _grow(values: list[int]) -> int:
    values.append(2)
    return len(values)


def _grown(before: int, values: list[int]) -> list[int]:
    return [before, len(values)]


def _build_retry() -> Any:
    return task(_flaky).with_options(retries=1, backoff_s=0.0)([])


def _flaky(values: list[int]) -> list[int]:
    values.append(dagnb.context().attempt)
    if dagnb.context().attempt == 1:
        raise ConnectionError("the first attempt")
    return values


class NoWayBack:
    """Unpickling it raises."""

    def __init__(self) -> None:
        self.size = 3

    def __setstate__(self, state: Any) -> None:
        raise ValueError("it does not come back")


def _give() -> Any:
    return NoWayBack()


def _lock() -> Any:
    return threading.Lock()


def _read(value: Any) -> Any:
    return value


class OwnError(Exception):
    """Of the notebook, with a constructor of its own."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")


def _raise() -> None:
    try:
        {}["left"]  # it is there to raise
    except KeyError as error:
        raise OwnError(4, "from a key") from error


def _build_open_file() -> Any:
    return task(_read)(open(__file__))  # it is refused


def _told() -> list[Any]:
    here = dagnb.context()
    return [here.task, here.attempt, here.idempotency_key == f"{here.run}/{here.task}"]


@task
def inner(number: int) -> int:
    """A task that another one calls."""
    return number + 1


def _outer(number: int) -> Any:
    return [inner(number), squared(number)]


BUILT.update(
    {
        "arguments before the run": _build_argument,
        "sharing within a call": _build_sharing,
        "sharing between tasks": _build_reader_twice,
        "retries": _build_retry,
        "unpicklable": task(_lock),
        "unreadable by a task": lambda: task(_read)(task(_give)()),
        "unreadable by the client": task(_give),
        "exceptions": task(_raise),
        "open file": _build_open_file,
        "context": task(_told),
        "nested": lambda: task(_outer)(3),
    }
)

# ---- the script ----

PORT, STARTED_AT, IN_TMP = 0, 0.0, ""
MODULE = """\
import contextvars

VARIABLE = contextvars.ContextVar("VARIABLE", default="default")
"""


def _prepare(folder: Path) -> socket.socket:
    """Stand in surroundings that nobody else has."""
    global PORT, STARTED_AT, IN_TMP  # noqa: PLW0603  # what probes are given as globals of a notebook
    for name in ("cwd", "beside"):
        (folder / name).mkdir(exist_ok=True)
    (folder / "beside" / "mine.py").write_text(MODULE)
    (folder / "cwd" / "statistics.py").write_text("raise SystemExit('the wrong module')\n")
    os.chdir(folder / "cwd")
    sys.path.append(str(folder / "beside"))
    import mine  # loaded, so that it travels

    mine.VARIABLE.set("set by the client")
    os.environ["DAGNB_PROBE"], os.environ["TZ"] = "set by the client", "Asia/Kathmandu"
    time.tzset()
    os.umask(0o027)
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (1000, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    )
    sys.argv.append("an argument")
    logging.basicConfig(level=logging.INFO, format="FORMAT %(message)s")
    sys.setrecursionlimit(2345)
    csv.field_size_limit(123456)
    sys.set_int_max_str_digits(9999)
    random.seed(7)
    listening = socket.create_server(("127.0.0.1", 0))
    PORT, STARTED_AT = listening.getsockname()[1], time.time()
    with tempfile.NamedTemporaryFile("w", delete=False, dir="/tmp") as file:
        file.write("in /tmp")
        IN_TMP = file.name
    return listening


if __name__ == "__main__":
    with _prepare(Path(sys.argv[2])):
        asked()
