"""How the script of the contract asks: each probe in the client, then in tasks on one worker of a
launcher.

A probe is one function, or several of which each gets what the one before gave; what the last one
gives is compared.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagnb
from dagnb import registry, task
from dagnb.errors import DagnbError, TaskFailedError

LIMIT_S = 60.0
LOOKS = 100
"""so often it is looked whether a process that a task left has ended"""

BUILT: dict[str, Callable[[], Any]] = {}
"""probe -> what builds its node, where it is about the call itself"""

_STEPS: dict[str, tuple[Callable[..., Any], ...]] = {}
_OPTIONS: dict[str, dict[str, Any]] = {}
_NOT_IN_CLIENT: set[str] = set()


def probe(
    name: str, *before: Callable[..., Any], in_client: bool = True, **options: Any
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the last function of a probe. in_client: it may be called in the client, too.
    options: of its task.
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        _STEPS[name], _OPTIONS[name] = (*before, function), options
        if not in_client:
            _NOT_IN_CLIENT.add(name)
        return function

    return register


def asked() -> None:
    """Ask all that the command line says, and print JSON: row -> what the client and a task saw,
    and what it printed.

    The client is asked first: inline, a task may change it.
    """
    launcher, seen = _launcher(sys.argv[1]), {}
    rows = [name for name in sys.argv[3:] if name in _STEPS or name in BUILT] or [*_STEPS, *BUILT]
    with os.fdopen(os.dup(1), "w") as out:  # a task may close the client's own
        for row in rows:
            told = {"client": _in_client(row), **_in_tasks(row, launcher)}
            told["globals"] = len(vars(sys.modules["__main__"])["counted"])
            if row == "children":
                told["task"] = _is_ended(told["task"], launcher)
            seen[row] = told
        out.write(f"\nSEEN {json.dumps(seen, default=repr)}\n")


def _launcher(name: str) -> Any:
    kind = registry.find("launcher", name)
    return kind(cap=1, memory_mb=160) if name == "docker" else kind(n=1)


def _in_client(row: str) -> Any:
    if row in BUILT or row in _NOT_IN_CLIENT:
        return None
    value = None
    for i, step in enumerate(_STEPS[row]):
        value = step(value) if i else step()
    return asyncio.run(value) if inspect.iscoroutine(value) else value


def _in_tasks(row: str, launcher: Any) -> dict[str, Any]:
    try:
        node = BUILT[row]() if row in BUILT else _chained(row)
        run = dagnb.run(node, workers=launcher)
    except DagnbError as error:
        return {"error": f"{type(error).__name__}: {error}"}
    seen: dict[str, Any] = {}
    try:
        seen["task"] = run.result(LIMIT_S)
    except TaskFailedError as error:
        told = error.errors[0]
        seen["error"] = f"{told.type}: {told.message}"
        seen["causes"] = [f"{cause.type}: {cause.message}" for cause in told.causes]
        seen["caught"] = [kind.__name__ for kind in type(error).__mro__]
    except DagnbError as error:
        seen["error"] = f"{type(error).__name__}: {error}"
    seen["log"] = run.log(run.description.names[-1])
    return seen


def _chained(row: str) -> Any:
    steps = [task(step) for step in _STEPS[row]]
    node = steps[0].with_options(**_OPTIONS[row])()
    for step in steps[1:]:
        node = step(node)
    return node


def _lives(pid: int) -> bool:
    """Whether there is such a process, and it does not only wait to be collected."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _is_ended(pid: int, launcher: Any) -> bool:
    """Whether a process that a task left ends once its run is over, as tasks of later runs see it;
    else it is ended.
    """
    if any(not task(_lives)(pid).run(workers=launcher).result(LIMIT_S) for _ in range(LOOKS)):
        return True
    os.kill(pid, signal.SIGKILL)
    return False
