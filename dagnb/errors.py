"""Every error that dagnb raises on purpose; the class says who can fix it, and where.

    DagnbError
    |- GraphError       the graph you built
    |                   CycleError, ArgumentChangedError, NoNodeError, UnserialisableError
    |- PlanError        a plan, or a name that is unknown
    |                   UnknownNameError, UnknownTaskError, InvalidPlanError,
    |                   ChainRuleError
    |- ConfigError      a setting
    |                   RequirementError, AmbiguousNameError
    |- StorageError     the store
    |                   BlobMissingError, StorageUnavailableError, StorageLostError,
    |                   StorageFullError, StorageLimitError, SharedMemoryError, SignatureError,
    |                   RunMissingError, RunNotStoredError, UnknownRunError
    |- HistoryError     the file of past runs
    |- LaunchError      the start of workers
    |                   VersionMismatchError, ImageBuildError
    |- RunError         your task, your limit
    |                   TaskFailedError, RunTimeoutError, RunCancelledError, ValueUnreadableError
    |- OriginalError    what a failed task raised
    `- ProtocolError    a defect of dagnb itself

The message of an error says what happened, with the values, and ends with the cure. The values are
fields of the error, too, so that a program need not parse the message. All errors can be pickled.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dagnb.failure import Cause as Cause  # noqa: PLC0414  # one of the errors' public names
from dagnb.failure import Frame as Frame  # noqa: PLC0414  # one of the errors' public names
from dagnb.failure import TaskError as TaskError  # noqa: PLC0414  # one of the errors' public names
from dagnb.failure import blank, combined, details, first_failure, without_stop


class DagnbError(Exception):
    """The base class of all errors that dagnb raises on purpose."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Returns what pickle needs to rebuild the error from its fields."""
        # Python would call the constructor with `args`, which is the message alone; the
        # constructors of the subclasses take other arguments.
        return (_rebuild, (type(self), self.args, self.__dict__))


def _rebuild(kind: type[DagnbError], args: tuple[Any, ...], fields: dict[str, Any]) -> DagnbError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(fields)
    return error


class GraphError(DagnbError):
    """The graph is invalid, or a node was used in an invalid way."""


class CycleError(GraphError):
    """The graph has a cycle.

    cycle: names of its tasks, in order.
    """

    def __init__(self, cycle: Sequence[str]) -> None:
        self.cycle = tuple(cycle)
        path = " -> ".join((*self.cycle, self.cycle[0]))
        super().__init__(
            f"the graph has a cycle: {path}. "
            "A task cannot wait for itself: break one of these edges."
        )


class NoNodeError(GraphError):
    """A run was requested for a value that is not a node and contains none."""

    def __init__(self, kind: str, text: str) -> None:
        self.kind, self.text = kind, text
        super().__init__(
            f"{kind} {text} is not a node and contains none. Call a @task function to get a node; "
            "dagnb.run takes nodes, and lists, tuples, dicts and other structures of nodes."
        )


class ArgumentChangedError(GraphError):
    """A large argument was modified in place between the call of the task and the run."""

    def __init__(self, task: str, argument: str, kind: str) -> None:
        self.task, self.argument, self.kind = task, argument, kind
        what = f"argument '{argument}' ({kind})" if argument else "an argument"
        super().__init__(
            f"{what} of task '{task}' was changed in place after the call and before the run. "
            "A run uses arguments as they were at the call, but large arrays are not copied. "
            "Pass a copy to the call (array.copy()), or change it after the run."
        )


class UnserialisableError(GraphError):
    """A function, argument or result cannot be sent to another process.

    what: 'the function', 'the result' or the argument. reason: names the part that cannot be
    pickled, by its path where that is known. cure: for objects of its kind; '' for the general one.
    """

    def __init__(self, task: str, what: str, reason: str, cure: str = "") -> None:
        self.task, self.what, self.reason, self.cure = task, what, reason, cure
        if not cure:
            cure = _RETURN_PLAIN_DATA if what == "the result" else _GIVE_PLAIN_DATA
        super().__init__(f"{what} of task '{task}' cannot be pickled: {reason}. {cure}")


_RETURN_PLAIN_DATA = (
    "Return plain data (a path, a list) instead, "
    "and open or create the object inside the task that needs it."
)
_GIVE_PLAIN_DATA = (
    "Pass plain data (a path instead of an open file) or create the object inside the task."
)


class PlanError(DagnbError):
    """A planner cannot do what was asked, or a name is unknown."""


class UnknownNameError(PlanError):
    """A name is unknown.

    kind: of thing, such as 'planner'. known: all names. nearest: the most similar of them, or None.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self.kind, self.name, self.known = kind, name, tuple(sorted(known))
        in_lower_case = {known_name.casefold(): known_name for known_name in self.known}
        close = difflib.get_close_matches(name.casefold(), in_lower_case, n=1, cutoff=0.5)
        self.nearest = in_lower_case[close[0]] if close else None
        hint = f"Known: {', '.join(self.known) or 'none'}."
        if self.nearest:
            hint = f"Did you mean '{self.nearest}'?"
        super().__init__(f"unknown {kind} '{name}'. {hint}")


class UnknownTaskError(UnknownNameError, KeyError):
    """A run has no task of this name.

    known: names of tasks that are similar.
    """

    def __init__(self, task: str, known: Iterable[str]) -> None:
        super().__init__("task", task, known)

    def __str__(self) -> str:
        """Returns the message."""
        # KeyError would return its repr, in quotes.
        return str(self.args[0])


class InvalidPlanError(PlanError):
    """A plan does not fit its graph.

    problems: one sentence each.
    """

    def __init__(self, planner: str, problems: Sequence[str]) -> None:
        self.planner, self.problems = planner, tuple(problems)
        super().__init__(
            f"the plan of '{planner}' does not fit its graph: {_shown(problems, 5, '; ')}. "
            "Correct the planner, or take planner='flexible'."
        )


class ChainRuleError(InvalidPlanError):
    """A plan fits its graph, but a worker would leave a branch and open it again, or begin twice.

    tasks: three, the fewest that show it. n_more: further branches that break the rule.
    """

    def __init__(
        self, planner: str, worker: str, tasks: Sequence[str], problem: str, n_more: int
    ) -> None:
        super().__init__(planner, [problem])
        self.worker, self.tasks, self.n_more = worker, tuple(tasks), n_more
        message = (
            f"the plan of '{planner}' breaks the chain rule: {problem} "
            "`plan.chain_break` shows it on the picture of the plan."
        )
        self.args = (message,)


class ConfigError(DagnbError):
    """A setting is wrong or missing."""


class AmbiguousNameError(ConfigError):
    """A name is empty, or several things have it.

    candidates: a line about each of them.
    """

    def __init__(
        self, kind: str, name: str, problem: str, candidates: Sequence[str], cure: str
    ) -> None:
        self.kind, self.name, self.candidates = kind, name, tuple(candidates)
        shown = "".join(f"\n    {line}" for line in self.candidates)
        super().__init__(f"{problem}{shown}\n{cure}")


class RequirementError(ConfigError):
    """A line of requirements that workers cannot install. source: name of the file, '' for a list.

    number: number of the line, from 1.
    """

    def __init__(self, source: str, number: int, line: str, problem: str, cure: str) -> None:
        self.source, self.number, self.line = source, number, line
        self.problem, self.cure = problem, cure
        where = f"{source}, line {number}" if source else f"requirement {number}"
        super().__init__(f"{where}: {line!r} {problem}. {cure}")


class StorageError(DagnbError):
    """The store failed or refused."""


class HistoryError(DagnbError):
    """The history file of past runs cannot be read or written. Runs work without it."""


class StorageUnavailableError(StorageError):
    """The store cannot be reached."""

    def __init__(self, url: str, reason: str) -> None:
        self.url, self.reason = url, reason
        super().__init__(
            f"the store at {url} cannot be reached: {without_stop(reason)}. "
            "Is the server running? `dagnb doctor` checks it."
        )


class StorageLostError(StorageUnavailableError):
    """The embedded server has ended, and the runs that it held in memory are lost."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(url, reason)
        message = (
            f"dagnb's own server at {url} has ended ({reason.rstrip('.')}), "
            "and the runs that it held in memory are lost. Start them again. "
            "A server of your own keeps runs if it writes to disk: store='redis://...'."
        )
        self.args = (message,)


class StorageFullError(StorageError):
    """The store has no memory left for a value."""

    def __init__(self, n_bytes: int, reason: str) -> None:
        self.n_bytes, self.reason = n_bytes, reason
        super().__init__(
            f"the store is full: {n_bytes} bytes were refused ({without_stop(reason)}). "
            "Raise its maxmemory, or forget old runs with `dagnb forget RUN`."
        )


class StorageLimitError(StorageError):
    """A value is larger than the server accepts in one piece.

    limit_bytes: the proto-max-bulk-len of the server.
    """

    def __init__(self, url: str, n_bytes: int, limit_bytes: int) -> None:
        self.url, self.n_bytes, self.limit_bytes = url, n_bytes, limit_bytes
        super().__init__(
            f"{n_bytes} bytes must be sent in one piece, and the store at {url} accepts at most "
            f"{limit_bytes}, its proto-max-bulk-len. "
            "Raise it with `CONFIG SET proto-max-bulk-len`, or pass large data as one array, "
            "bytes object or string, which is sent in pieces, or as the result of a task."
        )


class SharedMemoryError(StorageError):
    """A value in shared memory is there, but this process cannot map it."""

    def __init__(self, n_bytes: int, reason: str) -> None:
        self.n_bytes, self.reason = n_bytes, reason
        super().__init__(
            f"{n_bytes} bytes of shared memory cannot be mapped: {without_stop(reason)}. "
            "Raise the limits of this process (`ulimit -v`, `ulimit -n`), "
            "or take workers=Processes(shared_memory_mb=0)."
        )


class BlobMissingError(StorageError):
    """A value that should be in the store is missing."""

    def __init__(self, blobs: Sequence[str]) -> None:
        self.blobs = tuple(blobs)
        super().__init__(
            f"{len(self.blobs)} value(s) are missing from the store: {_shown(blobs, 3, ', ')}. "
            "Run the DAG again."
        )


class SignatureError(StorageError):
    """Bytes from the store lack this user's signature, and were not unpickled."""

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(
            f"{what} does not carry this user's signature and was not unpickled. "
            "Another user wrote to the store, or the key file changed: "
            "compare DAGNB_HOME of both sides."
        )


class RunMissingError(StorageError):
    """The store has no run of this id, or no longer."""

    def __init__(self, run: str) -> None:
        self.run = run
        super().__init__(
            f"the store knows no run '{run}': it was forgotten, it expired, "
            "or the server restarted without its data. `dagnb runs` lists the runs that are there."
        )


class RunNotStoredError(RunMissingError):
    """The history has this run, but the store does not.

    instead: id of the newest run of the same name that the store holds, or ''.
    """

    def __init__(self, run: str, instead: str = "") -> None:
        super().__init__(run)
        self.instead = instead
        next_step = "`dagnb runs` lists the runs in this store."
        if instead:
            next_step = f"The newest run of that name in this store is {instead}."
        message = (
            f"run {run} is over and kept in the history, but this store has nothing of it: "
            "it was forgotten, it expired, or it ran on another store. "
            f"`dagnb simulate` and `dagnb export` still work on it. {next_step}"
        )
        self.args = (message,)


class UnknownRunError(RunMissingError, UnknownNameError):
    """Neither the store nor the history has a run of this name or id.

    known: names of runs that are similar.
    """

    def __init__(self, run: str, known: Iterable[str]) -> None:
        self.run = run
        UnknownNameError.__init__(self, "run", run, known)
        if not self.known:
            self.args = (f"unknown run '{run}': there are no runs yet.",)
        elif self.nearest is None:
            lists = "`dagnb runs` lists the runs in the store, `dagnb history` those of the past."
            self.args = (f"{self.args[0]} {lists}",)


class LaunchError(DagnbError):
    """Workers could not be started."""


class VersionMismatchError(LaunchError):
    """The client and the worker of a run have incompatible versions."""

    def __init__(
        self,
        ours: str,
        theirs: str,
        cure: str = "Install the same versions on both sides, then run again.",
    ) -> None:
        self.ours, self.theirs = ours, theirs
        super().__init__(f"the run was made with {theirs}, but this side has {ours}. {cure}")


class ImageBuildError(LaunchError):
    """The image of Docker workers could not be built.

    lines: the last errors of pip, or of the step that failed.
    """

    def __init__(
        self, base: str, requirements: Sequence[str], lines: Sequence[str], cure: str
    ) -> None:
        self.base, self.requirements = base, tuple(requirements)
        self.lines, self.cure = tuple(lines), cure
        packages = f" with {', '.join(requirements)}" if requirements else ""
        output = "".join(f"\n    {line}" for line in lines)
        super().__init__(
            f"the image of workers on {base}{packages} could not be built:{output}\n{cure}"
        )


class RunError(DagnbError):
    """A run has no result because of its user: a task failed, a limit passed, it was cancelled."""


class TaskFailedError(RunError):
    """Tasks failed, retries included.

    A run raises a subclass that is also a subclass of what the first task raised: `except KeyError`
    catches it, too. See task_failed.
    errors: the last attempt of each failed task, in order of failure.
    """

    run: str
    errors: tuple[TaskError, ...]

    def __init__(self, run: str, errors: Sequence[TaskError]) -> None:
        self.run, self.errors = run, tuple(errors)
        # Not by super(), which might call the constructor of the user's class in a combined one.
        message = f"{first_failure(self.errors)} `dagnb errors {run}` shows everything."
        BaseException.__init__(self, message)

        first = self.errors[0]
        if first.traceback:  # a worker that died raised nothing
            self.__cause__ = OriginalError(first.type, first.message, first.traceback)

    def __init_subclass__(cls) -> None:
        """Keeps this hook of the user's class from running when both are combined."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Returns what pickle needs; the combined class is made anew where it is unpickled."""
        notes = {name: value for name, value in vars(self).items() if name not in {"run", "errors"}}
        return task_failed, (self.run, self.errors), notes or None

    def __str__(self) -> str:
        """Returns the message, then traceback and output of the first failures."""
        return "\n\n".join([str(self.args[0]), *details(self.errors)])


def task_failed(run: str, errors: Sequence[TaskError]) -> TaskFailedError:
    """Returns a TaskFailedError that can also be caught as the exception of the first failed task.

    Its second base is the most specific class of that exception that this process has loaded: a
    built-in one, one of an imported module, or one of the notebook.
    """
    # Never one of dagnb's own: a StorageError raised in a task says nothing about the store of this
    # run.
    error = blank(combined(TaskFailedError, errors[0].mro, never=(DagnbError,)))
    # `blank` skips the constructors of foreign classes.
    error.__init__(run, errors)  # type: ignore[misc]  # a method, but the only one that sets fields
    return error


class OriginalError(DagnbError):
    """The cause of a TaskFailedError: describes the exception, which is not sent to the client.

    type: name of the exception's class. message: its text. lines: its traceback as Python prints
    it.
    """

    def __init__(self, kind: str, message: str, lines: Sequence[str]) -> None:
        self.type, self.message, self.lines = kind, message, tuple(lines)
        super().__init__(f"{kind}: {message}" if message else kind)


class RunTimeoutError(RunError, TimeoutError):
    """A run gave no result within the time limit of a wait, or passed its own deadline."""

    def __init__(
        self,
        run: str,
        limit_s: float,
        reason: str = "the run goes on; wait again with run.result()",
    ) -> None:
        self.run, self.limit_s, self.reason = run, limit_s, reason
        super().__init__(f"run {run} gave no result within {limit_s:g} s: {reason}.")


class RunCancelledError(RunError):
    """The run was cancelled."""

    def __init__(self, run: str, reason: str = "cancelled") -> None:
        self.run, self.reason = run, reason
        why = f" ({reason})" if reason and reason != "cancelled" else ""
        super().__init__(f"run {run} was cancelled{why}. Start it again with .run().")


class ValueUnreadableError(RunError):
    """The run succeeded, but this process cannot unpickle one of its values.

    pickles: task -> (pickle, buffers), with a valid signature of this user.
        `pickle.loads(pickle, buffers=buffers)` reads it once its classes are defined.
    values: task -> value, of those that could be read.
    reason: message of the first error.
    """

    def __init__(
        self,
        run: str,
        reason: str,
        pickles: Mapping[str, tuple[bytes, tuple[bytes, ...]]],
        values: Mapping[str, Any],
    ) -> None:
        self.run, self.reason, self.pickles, self.values = run, reason, dict(pickles), dict(values)
        first = next(iter(self.pickles))
        n_more = len(self.pickles) - 1
        more = f" (and {n_more} more)" if n_more else ""
        readable = f", and .values those of {', '.join(list(self.values)[:3])}" if values else ""
        super().__init__(
            f"the value of task '{first}'{more} cannot be read here: "
            f"{reason[:2_000].rstrip('.')}. Define its class as the task had it and ask again with "
            f"run.value('{first}'), or have the task return plain data. "
            f"Nothing is lost: .pickles of this error holds the bytes{readable}."
        )


class ProtocolError(DagnbError):
    """A defect of dagnb: one of its invariants broke. Please report it with `dagnb show RUN`."""


def _shown(names: Sequence[str], most: int, separator: str) -> str:
    """Returns the first names as one text, with an ellipsis for the others."""
    shown = list(names[:most])
    if len(names) > most:
        shown.append("...")
    return separator.join(shown)
