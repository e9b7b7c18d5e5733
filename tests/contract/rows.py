"""What a task may rely on, as rows: what a probe must see on each launcher, and how the page tells
it.

    python -m tests.contract.said    writes docs/contract.md

Each row names a probe of probes.py. A cell is the text of the page and the check of what was seen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "contract.md"
LAUNCHERS = ("inline", "process", "docker")

Seen = dict[str, Any]
"""What the client saw, what the task saw or failed of, what it printed"""


@dataclass(frozen=True)
class Cell:
    """text: for the page. holds: whether what was seen is as the text says."""

    text: str
    holds: Callable[[Seen], bool]


@dataclass(frozen=True, kw_only=True)
class Row:
    """probe: its name in probes.py. topic, reason: for the page; reason where the launchers differ."""

    probe: str
    topic: str
    inline: Cell
    process: Cell
    docker: Cell
    reason: str = ""

    def cell(self, launcher: str) -> Cell:
        found: Cell = getattr(self, launcher)
        return found


SAME = Cell("as in the client", lambda seen: "error" not in seen and seen["task"] == seen["client"])


def value(text: str, expected: Any) -> Cell:
    """The task gave this."""
    return Cell(text, lambda seen: "error" not in seen and seen["task"] == expected)


def other(text: str) -> Cell:
    """The task gave something else than the client."""
    return Cell(text, lambda seen: "error" not in seen and seen["task"] != seen["client"])


def fails(text: str, *beginnings: str) -> Cell:
    """The run failed of an error that begins so."""
    return Cell(text, lambda seen: seen.get("error", "").startswith(beginnings))


def alike(probe: str, topic: str, cell: Cell = SAME) -> Row:
    """The same on every launcher."""
    return Row(probe=probe, topic=topic, inline=cell, process=cell, docker=cell)


def isolated(probe: str, topic: str, docker: Cell, reason: str) -> Row:
    """As in the client wherever the machine is the client's own."""
    return Row(probe=probe, topic=topic, inline=SAME, process=SAME, docker=docker, reason=reason)


def put_back(probe: str, topic: str, *, seen: Any, unseen: Any) -> Row:
    """Of the next task: as the first task of that worker found it, where the worker is a process of
    its own.
    """
    return Row(
        probe=probe,
        topic=topic,
        inline=value("seen", seen),
        process=value("not seen", unseen),
        docker=value("not seen", unseen),
        reason=OWN_PROCESS,
    )


OWN_FILES = "a container has file systems of its own"
OWN_START = "a container starts an interpreter of its own, before the client is known"
OWN_MODULE = (
    "inline `__main__` is the notebook's own, and pickle takes the copies for other functions"
)
OWN_PROCESS = "inline it is the client's own process, in which other tasks or the client may have changed it meanwhile"
KEPT = "what is printed is kept with the task's result where workers are processes of their own"

HANDED_OVER = (
    isolated(
        "sys.path",
        "folders on `sys.path`",
        value("those of the container and of the sources that travel", []),
        OWN_FILES,
    ),
    isolated("imports", "a module of yours", other("a copy of its source"), OWN_FILES),
    alike(
        "shadow", "a module of the standard library, with a file of its name in the current folder"
    ),
    isolated("folder", "current folder", value("`/tmp`", "/tmp"), OWN_FILES),
    isolated(
        "environment",
        "environment variables",
        value("those of `Docker(environment=...)`", None),
        "they often hold secrets",
    ),
    isolated(
        "time zone",
        "`TZ` and local time",
        Cell(
            "`TZ` as in the client; UTC where the image has no tzdata",
            lambda seen: seen["task"][1] == seen["client"][1],
        ),
        OWN_FILES,
    ),
    alike("umask", "umask"),
    isolated(
        "limits", "limits of processes (`ulimit -n`)", other("those of the engine"), OWN_START
    ),
    alike("argv", "`sys.argv`"),
    alike("log level", "level of the root logger"),
    isolated(
        "hash seed",
        "hashes of text, with `PYTHONHASHSEED` set",
        other("one seed for all containers"),
        OWN_START,
    ),
    alike("warning options", "filters given with `-W`"),
    isolated("X options", "options given with `-X`", value("none", None), OWN_START),
    isolated("optimised", "optimisation with `-O`", value("off", 0), OWN_START),
    alike("recursion limit", "recursion limit"),
    alike("digits of integers", "longest integer that becomes text"),
    alike("locale", "locale and encoding of file names"),
    alike("python", "version of Python"),
    alike("clock", "clock"),
)

AROUND = (
    Row(
        probe="stdin",
        topic="standard input",
        inline=value("the client's", "typed\n"),
        process=value("empty", ""),
        docker=value("empty", ""),
        reason="nobody types there",
    ),
    Row(
        probe="stdout",
        topic="what is printed, by C code and child processes too",
        inline=Cell("the client's output", lambda seen: seen["log"] == ""),
        process=Cell(
            "`run.log(task)`", lambda seen: seen["log"] == "by print\nby descriptor\nby child\n"
        ),
        docker=Cell(
            "`run.log(task)`", lambda seen: seen["log"] == "by print\nby descriptor\nby child\n"
        ),
        reason=KEPT,
    ),
    Row(
        probe="stderr",
        topic="what is written to `sys.stderr`",
        inline=Cell("the client's", lambda seen: seen["log"] == ""),
        process=Cell("`run.log(task)`", lambda seen: seen["log"] == "by print\n"),
        docker=Cell("`run.log(task)`", lambda seen: seen["log"] == "by print\n"),
        reason=KEPT,
    ),
    alike("name", "`__name__` and other globals of the notebook"),
    Row(
        probe="main module",
        topic="functions of the notebook, looked up in `__main__`",
        inline=value("those of the notebook, of which the task has copies", False),
        process=SAME,
        docker=SAME,
        reason=OWN_MODULE,
    ),
    isolated(
        "source",
        "source of a function of a script (`inspect.getsource`)",
        fails(
            "not there", "OSError: could not get source code", "OSError: source code not available"
        ),
        OWN_FILES,
    ),
    alike("running loop", "`asyncio.run` in a plain function"),
    alike("coroutine", "`async def`: it runs in a loop"),
    Row(
        probe="main thread",
        topic="main thread",
        inline=value("another thread", False),
        process=SAME,
        docker=SAME,
        reason="inline tasks share the client's process, whose main thread is busy",
    ),
    Row(
        probe="signal handlers",
        topic="setting a signal handler",
        inline=fails("refused by Python", "ValueError: signal only works in main thread"),
        process=value("works", 1),
        docker=value("works", 1),
        reason="Python allows it in the main thread alone",
    ),
    Row(
        probe="time limit",
        topic="`timeout_s`",
        inline=value("not enforced", "ran on"),
        process=fails("the task is interrupted, then killed", "TimeLimit: "),
        docker=fails("the task is interrupted, then killed", "TimeLimit: "),
        reason="a thread cannot be interrupted",
    ),
    alike(
        "sys.exit",
        "`sys.exit()`",
        fails("fails the task alone", "SystemExit: the task called sys.exit(3)"),
    ),
    alike("get_ipython", "`get_ipython`, outside a notebook", value("not there", False)),
    isolated("user", "user id", value("nobody", 65534), "a container has no rights"),
    isolated(
        "network",
        "network, servers on this machine included",
        fails("none, unless one is granted", "ConnectionRefusedError", "OSError"),
        "a container reaches nobody",
    ),
    isolated(
        "temporary folder",
        "files in `/tmp`",
        fails("its own `/tmp`", "FileNotFoundError"),
        OWN_FILES,
    ),
    isolated(
        "memory limit",
        "limit of memory",
        value("that of the task's resources", str(160 << 20)),
        "only containers can be limited",
    ),
    Row(
        probe="random state",
        topic="state of `random`",
        inline=SAME,
        process=other("one of each worker's own"),
        docker=other("one of each worker's own"),
        reason="equal numbers in every worker would be wrong; `dagnb.context().seed` is equal in every attempt",
    ),
    Row(
        probe="settings of libraries",
        topic="settings that the client made in libraries",
        inline=SAME,
        process=value("those of a library that is just imported", 131072),
        docker=value("those of a library that is just imported", 131072),
        reason="inline it is the client's own process",
    ),
    alike("context variables", "context variables set in the client", value("not seen", "default")),
)

OF_A_TASK = (
    alike("subprocess", "`subprocess`"),
    Row(
        probe="fork",
        topic="process pools by fork, with functions of the notebook",
        inline=fails(
            "refused; with functions of modules as in the client", "PicklingError: Can't pickle"
        ),
        process=SAME,
        docker=SAME,
        reason=OWN_MODULE,
    ),
    Row(
        probe="spawn",
        topic="process pools by spawn, with functions of the notebook",
        inline=fails(
            "refused; with functions of modules as in the client", "PicklingError: Can't pickle"
        ),
        process=Cell("refused: take fork", lambda seen: "spawn" in seen["error"]),
        docker=Cell("refused: take fork", lambda seen: "spawn" in seen["error"]),
        reason="a process that is started anew has no functions of the notebook",
    ),
    Row(
        probe="threads",
        topic="output of a thread that a task left, while the next one runs",
        inline=Cell("the client's output", lambda seen: seen["log"] == ""),
        process=Cell("not in the next one's", lambda seen: seen["log"] == "of the next task\n"),
        docker=Cell("not in the next one's", lambda seen: seen["log"] == "of the next task\n"),
        reason=KEPT,
    ),
    Row(
        probe="children",
        topic="processes that a task left, after the run",
        inline=value("go on", False),
        process=value("ended", True),
        docker=value("ended", True),
        reason="inline they are children of the client",
    ),
)

NEXT = (
    put_back("folder of the next", "current folder", seen=False, unseen=True),
    put_back("environment of the next", "environment variables", seen="left", unseen=None),
    put_back("umask of the next", "umask", seen=False, unseen=True),
    put_back("sys.path of the next", "`sys.path`", seen=True, unseen=False),
    alike("signal handlers of the next", "signal handlers", value("not seen", True)),
    Row(
        probe="stdout of the next",
        topic="`sys.stdout`, closed",
        inline=fails("seen", "ValueError: I/O operation on closed file"),
        process=value("not seen", True),
        docker=value("not seen", True),
        reason=OWN_PROCESS,
    ),
    alike(
        "numeric state of the next",
        "error state of numpy, context of decimal",
        value("not seen", True),
    ),
    alike("context variables of the next", "context variables", value("not seen", "default")),
    alike(
        "globals",
        "globals of the notebook",
        Cell(
            "seen by later calls of that function on that worker; not by the client",
            lambda seen: seen["task"] == 2 and seen["globals"] == 0,
        ),
    ),
)

VALUES = (
    alike(
        "arguments before the run",
        "a list changed between the call and the run",
        value("as it was at the call", [1]),
    ),
    alike(
        "sharing within a call", "one list given to a task twice", value("is one list there", True)
    ),
    alike(
        "sharing between tasks",
        "a list changed by one of its readers",
        value("the other reads it unchanged", [2, 1]),
    ),
    alike("retries", "arguments of a second attempt", value("as in the first", [2])),
    alike(
        "unpicklable",
        "a result that cannot be pickled",
        fails(
            "`UnserialisableError` of its task",
            "UnserialisableError: the result of task '_lock-0' cannot",
        ),
    ),
    alike(
        "unreadable by a task",
        "a result that cannot be unpickled, read by a task",
        fails(
            "the failure of the reader",
            "ValueError: the value of task '_give-0', which task '_read-0' takes, cannot",
        ),
    ),
    alike(
        "unreadable by the client",
        "a result that cannot be unpickled, read by `run.result()`",
        fails(
            "`ValueUnreadableError`",
            "ValueUnreadableError: the value of task '_give-0' cannot be read here",
        ),
    ),
    alike(
        "exceptions",
        "an exception of the notebook's own class, and its cause",
        Cell(
            "caught as that class; the cause is reported",
            lambda seen: (
                seen["error"] == "OwnError: 4: from a key"
                and {"TaskFailedError", "OwnError"} <= {*seen["caught"]}
                and seen["causes"] == ["KeyError: 'left'"]
            ),
        ),
    ),
    alike(
        "open file",
        "an open file as argument",
        fails("`UnserialisableError` before anything runs", "UnserialisableError: "),
    ),
    alike("context", "`dagnb.context()`", value("task, attempt, key", ["_told-0", 1, True])),
    alike("nested", "a task called inside a task", value("an ordinary call", [4, 9])),
)

GROUPS: dict[str, tuple[Row, ...]] = {
    "What the client hands over": HANDED_OVER,
    "The interpreter around a task": AROUND,
    "Processes and threads of a task's own": OF_A_TASK,
    "What one task changed, seen by the next task on that worker": NEXT,
    "Arguments, values and errors": VALUES,
}
ROWS = {row.probe: row for rows in GROUPS.values() for row in rows}
