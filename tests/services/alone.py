"""A program for tests of what tasks leave: it runs tasks of its own `__main__`, and prints what
they say as JSON.

alone.py aspects | threads | pools   [process | inline]
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from enum import Enum
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any, NamedTuple

from dagnb_workers import Inline, Processes

import dagnb
from dagnb import task
from dagnb.errors import TaskFailedError

# ---- aspects: how to see one, and how a task changes it; executed in the task itself ----

ASPECTS: dict[str, tuple[str, str]] = {
    "folder": ("os.getcwd()", "os.chdir('/')"),
    "removed folder": ("os.getcwd()", "d = tempfile.mkdtemp(); os.chdir(d); os.rmdir(d)"),
    "variable set": ("os.environ.get('LEFT')", "os.environ['LEFT'] = 'x'"),
    "variable changed": ("os.environ['DAGNB_HOME']", "os.environ['DAGNB_HOME'] = '/elsewhere'"),
    "variable removed": ("'DAGNB_HOME' in os.environ", "del os.environ['DAGNB_HOME']"),
    "variables cleared": ("sorted(os.environ)", "os.environ.clear()"),
    "variable of the C library": ("sh('echo $LEFT')", "os.putenv('LEFT', 'x')"),
    "environment replaced": (
        "type(os.environ).__name__, 'LEFT' in os.environ",
        "os.environ = {**os.environ, 'LEFT': 'x'}",
    ),
    "umask": ("os.umask(os.umask(0o22))", "os.umask(0)"),
    "sys.path": ("sys.path[:]", "sys.path.insert(0, '/left')"),
    "sys.path replaced": ("sys.path[:]", "sys.path = ['/left']"),
    "sys.argv": ("sys.argv[1:]", "sys.argv[1:] = ['left']"),
    "import hooks": ("len(sys.meta_path), len(sys.path_hooks)", "sys.meta_path.clear(); sys.path_hooks.append(print)"),
    "recursion limit": ("sys.getrecursionlimit()", "sys.setrecursionlimit(5000)"),
    "switch interval": ("sys.getswitchinterval()", "sys.setswitchinterval(1)"),
    "locale": ("locale.setlocale(locale.LC_ALL)", "locale.setlocale(locale.LC_ALL, 'C')"),
    "time zone": ("time.tzname[0]", "os.environ['TZ'] = 'XYZ3'; time.tzset()"),
    "warnings": ("len(warnings.filters)", "warnings.simplefilter('error')"),
    "warnings shown": ("warnings.showwarning.__module__", "warnings.showwarning = functools.partial(print)"),
    "warnings caught again": ("warned()", "warnings.simplefilter('error')"),
    "logging level": ("logging.getLogger().level", "logging.basicConfig(level='DEBUG')"),
    "logging handlers": ("len(logging.getLogger().handlers)", "logging.basicConfig()"),
    "logging disabled": ("logging.getLogger('x').isEnabledFor(50)", "logging.disable(50)"),
    "socket timeout": ("socket.getdefaulttimeout()", "socket.setdefaulttimeout(3)"),
    "decimals": ("decimal.getcontext().prec", "decimal.getcontext().prec = 5"),
    "numpy errors": ("numpy.geterr()['divide']", "numpy.seterr(all='raise')"),
    "context variable": ("variable.get('nothing')", "variable.set('left')"),
    "built-in function": ("str(print)", "sys.modules['builtins'].print = lambda *_: None"),
    "excepthook": ("sys.excepthook is sys.__excepthook__", "sys.excepthook = print"),
    "thread excepthook": (
        "threading.excepthook is threading.__excepthook__", "threading.excepthook = print"
    ),
    "trace function": ("sys.gettrace() is None", "sys.settrace(lambda *_: None)"),
    "profile function": ("sys.getprofile() is None", "sys.setprofile(lambda *_: None)"),
    "garbage collection": ("gc.isenabled()", "gc.disable()"),
    "garbage collection threshold": ("gc.get_threshold()", "gc.set_threshold(5, 5, 5)"),
    "digits of numbers": ("sys.get_int_max_str_digits()", "sys.set_int_max_str_digits(0)"),
    "tracemalloc": ("tracemalloc.is_tracing()", "tracemalloc.start()"),
    "crash reports": ("faulthandler.is_enabled()", "faulthandler.disable()"),
    "crash reports to come": ("time.sleep(0.02), 'lives'", "faulthandler.dump_traceback_later(0.01, exit=True)"),
    "signal handler": ("str(signal.getsignal(signal.SIGTERM))", "signal.signal(signal.SIGTERM, lambda *_: None)"),
    "interrupt handler": (
        "signal.getsignal(signal.SIGINT) is signal.default_int_handler", "signal.signal(signal.SIGINT, signal.SIG_IGN)"
    ),
    "alarm": (
        "str(signal.getsignal(signal.SIGALRM)), signal.alarm(0)",
        "signal.signal(signal.SIGALRM, print); signal.alarm(50)",
    ),
    "blocked signals": (
        "len(signal.pthread_sigmask(signal.SIG_BLOCK, ()))", "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})"
    ),
    "stdin": ("sys.stdin.read()", "sys.stdin.close()"),
    "descriptor 0": ("os.read(0, 9).decode()", "os.close(0)"),
    "stdout replaced": ("shown('stdout')", "sys.stdout = io.StringIO()"),
    "stdout wrapped": ("shown('stdout')", "sys.stdout = io.TextIOWrapper(sys.stdout.buffer); print('wrapped')"),
    "stdout closed": ("shown('stdout')", "sys.stdout.close()"),
    "stdout redirected": (
        "shown('stdout')",
        "exec('with contextlib.redirect_stdout(io.StringIO()): import this'); sys.stdout.close()",
    ),
    "stdout detached": ("shown('stdout')", "sys.stdout.detach()"),
    "stdout deleted": ("shown('stdout')", "sys.stdout = None"),
    "stderr closed": ("shown('stderr')", "sys.stderr.close()"),
    "descriptor 1 closed": ("shown('stdout')", "os.close(1)"),
    "descriptor 2 elsewhere": ("shown('stderr')", "os.dup2(os.open(os.devnull, os.O_WRONLY), 2)"),
    "event loop policy": ("loop_module()", "asyncio.set_event_loop_policy(Loops())"),
    "event loop left": ("asyncio.get_event_loop().is_closed()", "asyncio.set_event_loop(closed_loop())"),
    "event loop of asyncio.run": ("asyncio.get_event_loop().is_closed()", "asyncio.run(asyncio.sleep(0))"),
    "start method of processes": (
        "multiprocessing.get_start_method(allow_none=True)", "multiprocessing.set_start_method('spawn', force=True)"
    ),
    "attribute of __main__": ("hasattr(sys.modules['__main__'], 'left')", "sys.modules['__main__'].left = 1"),
}  # fmt: skip


def names() -> dict[str, Any]:
    """The modules above, and what some aspects need."""
    import contextvars
    import warnings

    class Loops(asyncio.DefaultEventLoopPolicy):
        pass

    def closed_loop() -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        loop.close()
        return loop

    async def module() -> str:
        return type(asyncio.get_event_loop_policy()).__module__

    def shown(stream: str) -> bool:
        print("this is shown", file=getattr(sys, stream))
        return os.fstat({"stdout": 1, "stderr": 2}[stream]).st_size > 0

    def warned() -> str:
        warnings.warn("a warning of the task", UserWarning, stacklevel=1)
        return "went on"

    modules = "asyncio decimal functools gc importlib io locale logging multiprocessing numpy os signal socket sys"
    found: dict[str, Any] = {name: importlib.import_module(name) for name in modules.split()}
    found |= {name: importlib.import_module(name) for name in MORE_MODULES}
    return found | {
        "__name__": "__main__",  # asyncio asks who asks for a loop
        "Loops": Loops,
        "closed_loop": closed_loop,
        "loop_module": lambda: asyncio.run(module()),
        "sh": lambda line: subprocess.check_output(line, shell=True, text=True),
        "shown": shown,
        "warned": warned,
        "variable": VARIABLES.setdefault("one", contextvars.ContextVar("one")),
    }


MORE_MODULES = (
    "contextlib",
    "faulthandler",
    "tempfile",
    "threading",
    "time",
    "tracemalloc",
    "warnings",
)
VARIABLES: dict[str, Any] = {}


@task
def seen(aspect: str, before: object = None) -> Any:
    """What a task sees of it."""
    return eval(ASPECTS[aspect][0], names())


@task
def changed(aspect: str, before: object = None, fails: bool = False) -> None:
    """Change it, as a task may."""
    exec(ASPECTS[aspect][1], names())
    if fails:
        raise ValueError("on purpose")


def aspects(workers: Any) -> dict[str, Any]:
    """name -> what was seen before and after a task that changed it, and after one that then
    failed.
    """
    before = last = None
    nodes = []
    for name in ASPECTS:
        before = seen(name, last)
        changing = changed(name, before)
        last = seen(name, changing)
        nodes += [before, last]
    values = dagnb.run(*nodes, workers=workers).result(100)
    return {name: values[2 * i : 2 * i + 2] for i, name in enumerate(ASPECTS)}


# ---- after failures ----


@task(retries=1, retry_on=(ValueError, TimeoutError), backoff_s=0.0, timeout_s=1.0)
def second_attempt(act: str) -> str:
    """Where the second attempt begins, when the first one has changed the folder and then failed."""
    here = os.getcwd()
    if dagnb.context().attempt == 1:
        os.chdir("/")
        exec(act)
    return here


def after_failures(workers: Any) -> dict[str, Any]:
    """The folder in which the second attempt began, by how the first one ended."""
    acts = {"raised": "raise ValueError", "out of time": "while True: pass"}
    return {
        name: second_attempt(act).run(workers=workers).result(60) == os.getcwd()
        for name, act in acts.items()
    }


# ---- imports ----

OUTER = """
import os, sys, warnings
os.environ["OF_IMPORT"] = "1"
sys.path.append("/of/import")
import of_import_inner
sys.setrecursionlimit(4321)
"""
INNER = """
import os, sys
os.environ["OF_INNER"] = "1"
sys.path.insert(0, "/of/inner")
"""


@task
def importing(folder: str, before: object = None) -> list[str]:
    """Change what an import changes as well, before and after it."""
    os.environ["OF_TASK"] = "1"
    sys.path[:0] = [folder, "/of/task"]
    module = importlib.import_module("of_import_outer")
    os.environ["OF_TASK_AFTER"] = "1"
    sys.path.append("/of/task/after")
    return [type(module.__loader__).__name__, type(module.__spec__.loader).__name__]


@task
def changes(before: object = None) -> list[Any]:
    """What of all that is seen."""
    variables = sorted(name for name in os.environ if name.startswith("OF_"))
    return [
        variables,
        [path for path in sys.path if path.startswith("/of/")],
        sys.getrecursionlimit(),
    ]


def imports(workers: Any) -> list[Any]:
    """What was seen before the import, the kinds of loader, what was seen after it; both again."""
    folder = tempfile.mkdtemp()
    for name, text in {"of_import_outer": OUTER, "of_import_inner": INNER}.items():
        Path(folder, f"{name}.py").write_text(text)
    nodes: list[Any] = [changes()]
    for _ in range(2):
        nodes.append(importing(folder, nodes[-1]))
        nodes.append(changes(nodes[-1]))
    return list(dagnb.run(*nodes, workers=workers).result(60))


# ---- threads ----


@task
def leaving() -> None:
    """Two threads, which print for ever by all ways of Python."""
    handler = logging.StreamHandler()
    logging.getLogger("left").addHandler(handler)

    def tick() -> None:
        while True:
            print("ticking")  # noqa: T201
            sys.stderr.write("ticking")
            logging.getLogger("left").warning("ticking")

    threading.Thread(target=tick, name="ticker", daemon=True).start()
    threading.Thread(target=tick, name="ticker of no daemon").start()


@task
def printing(before: object) -> None:
    """A thread of its own, which it waits for."""
    for _ in range(50):
        thread = threading.Thread(target=print, args=("by a thread",))
        thread.start()
        thread.join()
        print("by the task")  # noqa: T201


@task
def pooled(before: object) -> list[int]:
    """A pool that nobody holds any more."""
    return list(ThreadPoolExecutor(3).map(abs, range(-3, 0)))


def threads(workers: Any) -> dict[str, Any]:
    """The output of each task, as soon as the run is over."""
    first = leaving()
    second = printing(first)
    run = dagnb.run(first, second, pooled(second), workers=workers)
    run.result(60)
    return {name: run.log(name) for name in ("leaving-0", "printing-0", "pooled-0")}


# ---- processes ----


class Pair:
    """A class of this program, which no task names."""

    def __init__(self, left: int, right: int) -> None:
        self.left, self.right = left, right


class Colour(Enum):
    """Of this program."""

    RED = 1


class Point(NamedTuple):
    """Of this program."""

    x: int


class Names(dict[str, int]):
    """Of this program."""


class RefusedError(Exception):
    """Of this program."""


def square(number: int) -> int:
    """Of this program."""
    return number * number


def swapped(pair: Any) -> Any:
    """Of this program, for objects."""
    pair.left, pair.right = pair.right, pair.left
    return pair


@task
def pool_map(how: str, function: Any, items: list[Any]) -> list[Any]:
    """By a pool of processes that are started so."""
    with multiprocessing.get_context(how).Pool(2) as pool:
        return pool.map(function or square, items)


@task
def executor_map(how: str) -> list[int]:
    """By another kind of pool."""
    with ProcessPoolExecutor(2, multiprocessing.get_context(how)) as pool:
        return list(pool.map(square, range(4)))


@task
def one_process() -> list[int]:
    """A function that has no name in the module."""
    queue: Any = multiprocessing.Queue()
    process = multiprocessing.Process(target=lambda: queue.put(square(3)))
    process.start()
    given = queue.get()
    process.join()
    return [given, process.exitcode or 0]


@task
def commands() -> list[Any]:
    """What children print belongs to the output of the task; nobody types."""
    done = subprocess.run("echo by a shell; cat; exit 3", shell=True, check=False)
    pid = os.fork()
    if pid == 0:
        print("by a fork")  # noqa: T201
        sys.exit(4)
    return [
        done.returncode,
        os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]),
        os.system("echo by the system"),
    ]


@task
def left_child() -> int:
    """A process that runs on."""
    return subprocess.Popen(["sleep", "600"]).pid


@task
def left_memory() -> str:
    """Shared memory that nobody removes."""
    return SharedMemory(create=True, size=100).name


def said(node: Any, workers: Any) -> Any:
    """The value, or what the error says."""
    run = node.run(workers=workers)
    try:
        value = run.result(60)
    except TaskFailedError as error:
        return str(error.__cause__)
    if node.task.name == "pool_map" and node.args[1] is swapped:
        return [[pair.left, pair.right] for pair in value]
    log = run.log(f"{node.task.name}-0")
    return [value, log] if log else value


def pools(workers: Any) -> dict[str, Any]:
    """By name what each gave, with what was printed."""
    nodes = {
        "fork": pool_map("fork", None, [1, 2, 3]),
        "fork, function given": pool_map("fork", abs_square, [1, 2, 3]),
        "fork, objects given": pool_map("fork", swapped, [Pair(1, 2)]),
        "executor, fork": executor_map("fork"),
        "process": one_process(),
        "commands": commands(),
        "spawn": pool_map("spawn", None, [1, 2, 3]),
        "forkserver": executor_map("forkserver"),
        "spawn, object": pool_map("spawn", str, [Pair(1, 2)]),
        "spawn, member": pool_map("spawn", str, [Colour.RED]),
        "spawn, tuple": pool_map("spawn", len, [Point(1)]),
        "spawn, dict": pool_map("spawn", len, [Names(a=1)]),
        "spawn, exception": pool_map("spawn", str, [RefusedError("no")]),
        "spawn, importable": pool_map("spawn", abs, [-1, -2]),
        "left child": left_child(),
        "left memory": left_memory(),
    }
    return {name: said(node, workers) for name, node in nodes.items()}


def abs_square(number: int) -> int:
    """Named by no task."""
    return abs(number) ** 2


# ---- alike everywhere ----

ACTS = {
    "running loop": "asyncio.get_running_loop()",
    "asyncio.run": "asyncio.run(asyncio.sleep(0, 'slept'))",
    "new loop": "asyncio.new_event_loop().run_until_complete(asyncio.sleep(0, 'slept'))",
    "sys.exit": "sys.exit(3)",
    "SystemExit": "raiser(SystemExit('told'))",
    "KeyboardInterrupt": "raiser(KeyboardInterrupt())",
    "StopIteration": "next(iter(()))",
    "GeneratorExit": "raiser(GeneratorExit())",
    "CancelledError": "raiser(asyncio.CancelledError())",
    "decimals": "str(decimal.Decimal(1) / 3), setattr(decimal.getcontext(), 'prec', 3)",
    "context variable": "variable.get('nothing'), variable.set('left') and None",
    "numpy errors": "numpy.geterr()['over'], numpy.seterr(all='raise') and None",
    "trace function": "sys.gettrace() is None, sys.settrace(lambda *_: None)",
    "event loop policy": "loop_module(), asyncio.set_event_loop(asyncio.new_event_loop())",
}


@task
def acting(act: str) -> Any:
    """What it gives, or raises."""

    def raiser(error: BaseException) -> None:
        raise error

    return eval(ACTS[act], names() | {"raiser": raiser})


@task
async def coroutine() -> list[str]:
    """What is left behind in the loop ends with the task."""
    ended = []

    async def left() -> None:
        try:
            await asyncio.sleep(600)
        finally:
            print("the coroutine that was left has ended")  # noqa: T201

    task = asyncio.create_task(left())
    await asyncio.sleep(0)
    ended.append(str(task.done()))
    return ended


@task
def giving_a_coroutine() -> Any:
    """A plain function whose value is to be awaited."""
    return asyncio.sleep(0, "awaited")


def alike(workers: Any) -> dict[str, Any]:
    """By name what each act gives, the second time it is done on the same worker."""
    found = {}
    for act in ACTS:
        run = dagnb.run(
            acting(act),
            acting(act),
            workers=workers,
        )
        found[act] = outcome(run, "acting-1")
    found["coroutine"] = coroutine().run(workers=workers).result(60)
    found["gives a coroutine"] = giving_a_coroutine().run(workers=workers).result(60)
    return found


@task
def emptied(words: dict[int, str], before: object = None) -> int:
    """Take everything out of a dictionary, and say how much that was."""
    n_words = len(words)
    words.clear()
    return n_words


def arguments(workers: Any) -> list[int]:
    """Return how much three tasks of one worker take out of one large dictionary."""
    words = {number: f"word {number}" for number in range(20_000)}
    first = emptied(words)
    second = emptied(words, first)
    return list(dagnb.run(first, second, emptied(words, second), workers=workers).result(60))


def outcome(run: Any, name: str) -> Any:
    try:
        return run.result(60)[1]
    except TaskFailedError as error:
        return str(error.__cause__)


PROGRAMS: dict[str, Callable[[Any], Any]] = {
    "arguments": arguments,
    "aspects": aspects,
    "after_failures": after_failures,
    "imports": imports,
    "threads": threads,
    "pools": pools,
    "alike": alike,
}

if __name__ == "__main__":
    what, *where = sys.argv[1:]
    told = PROGRAMS[what](Inline(n=1) if where else Processes(n=1))
    sys.stdout.write(json.dumps(told))
