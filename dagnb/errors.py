"""Every error dagnb raises on purpose; the class says whose move it is.

    DagnbError
    |- GraphError        CycleError, ArgumentChangedError, NoNodeError,         the graph you drew
    |                    UnserialisableError
    |- PlanError         UnknownNameError, UnknownTaskError, InvalidPlanError   what was asked for, of a planner too
    |- ConfigError       RequirementError, AmbiguousNameError                   a setting, a name
    |- StorageError      BlobMissingError, StorageUnavailableError,             the store
    |                    StorageLostError, StorageFullError, StorageLimitError,
    |                    SignatureError, RunMissingError, RunNotStoredError,
    |                    UnknownRunError
    |- HistoryError                                                             what past runs taught
    |- LaunchError       VersionMismatchError, ImageBuildError                  starting workers
    |- RunError          TaskFailedError, RunTimeoutError, RunCancelledError,   your task, your limit
    |                    ValueUnreadableError
    |- OriginalError                                                            what a failed task raised
    `- ProtocolError                                                            a defect of dagnb itself

An error carries fields; its message is a template of them and ends with the cure. All of them can be pickled.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dagnb.catchable import blank, combined
from dagnb.failure import Cause as Cause  # noqa: PLC0414  # one of the errors' public names
from dagnb.failure import Frame as Frame  # noqa: PLC0414  # one of the errors' public names
from dagnb.failure import TaskError as TaskError  # noqa: PLC0414  # one of the errors' public names
from dagnb.failure import details, first_failure, without_stop


class DagnbError(Exception):
    """Root of the tree: catch this to catch whatever dagnb raises on purpose."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Rebuild from the fields, whatever the signature of the subclass."""
        return (_rebuild, (type(self), self.args, self.__dict__))


def _rebuild(kind: type[DagnbError], args: tuple[Any, ...], fields: dict[str, Any]) -> DagnbError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(fields)
    return error


class GraphError(DagnbError):
    """The graph, or the use of a node, makes no sense."""


class CycleError(GraphError):
    """The graph has a cycle; `cycle` names its tasks in order."""

    def __init__(self, cycle: Sequence[str]) -> None:
        self.cycle = tuple(cycle)
        path = " -> ".join((*self.cycle, self.cycle[0]))
        super().__init__(
            f"the graph has a cycle: {path}. A task cannot wait for itself: break one of these edges."
        )


class NoNodeError(GraphError):
    """A run was asked for something that is no node, and holds none."""

    def __init__(self, kind: str, text: str) -> None:
        self.kind, self.text = kind, text
        super().__init__(
            f"{kind} {text} is no node, and holds none. Call a @task function to get one; dagnb.run takes nodes, and "
            "lists, tuples, dicts and other structures of nodes."
        )


class ArgumentChangedError(GraphError):
    """Large memory of an argument was written to after the call and before the run."""

    def __init__(self, task: str, argument: str, kind: str) -> None:
        self.task, self.argument, self.kind = task, argument, kind
        what = f"argument '{argument}' ({kind})" if argument else "an argument"
        super().__init__(
            f"{what} of task '{task}' was changed in place after the call and before the run. The call took it as it "
            "was, but large arrays are not copied. Give the call a copy (array.copy()), or change it after the run."
        )


class UnserialisableError(GraphError):
    """A function, argument or result cannot travel to another process.

    reason: names the part of it that cannot, by its path, where that could be found. cure: of its kind, where known.
    """

    def __init__(self, task: str, what: str, reason: str, cure: str = "") -> None:
        self.task, self.what, self.reason, self.cure = task, what, reason, cure
        if not cure and what == "the result":
            returned = (
                "Return plain data (a path, a list) instead, and let whoever needs it open or"
            )
            cure = f"{returned} create the object inside the task."
        elif not cure:
            cure = "Pass plain data (a path instead of an open file) or create the object inside the task."
        super().__init__(f"{what} of task '{task}' cannot be pickled: {reason}. {cure}")


class PlanError(DagnbError):
    """A planner was asked for something impossible."""


class UnknownNameError(PlanError):
    """A name nobody registered; `known` lists what there is, `nearest` the likeliest meant."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self.kind, self.name, self.known = kind, name, tuple(sorted(known))
        in_lower_case = {each.casefold(): each for each in self.known}
        close = difflib.get_close_matches(name.casefold(), in_lower_case, n=1, cutoff=0.5)
        self.nearest = in_lower_case[close[0]] if close else None
        hint = (
            f"Did you mean '{self.nearest}'?"
            if self.nearest
            else f"Known: {', '.join(self.known) or 'none'}."
        )
        super().__init__(f"unknown {kind} '{name}'. {hint}")


class UnknownTaskError(UnknownNameError, KeyError):
    """A run has no such task; `known` lists names that are near."""

    def __init__(self, task: str, known: Iterable[str]) -> None:
        super().__init__("task", task, known)

    def __str__(self) -> str:
        """Give the message as it is, which a KeyError would put in quotes."""
        return str(self.args[0])


class InvalidPlanError(PlanError):
    """The plan does not fit its graph; `problems` says where, one sentence each."""

    def __init__(self, planner: str, problems: Sequence[str]) -> None:
        self.planner, self.problems = planner, tuple(problems)
        shown = "; ".join(self.problems[:5]) + ("; ..." if len(self.problems) > 5 else "")
        super().__init__(
            f"the plan of '{planner}' does not fit its graph: {shown}. Correct the planner, or take planner='flexible'."
        )


class ConfigError(DagnbError):
    """A setting is wrong or missing; the message names it and the cure."""


class AmbiguousNameError(ConfigError):
    """A name that may mean several things, or is empty; `candidates` lists them, a line each."""

    def __init__(
        self, kind: str, name: str, problem: str, candidates: Sequence[str], cure: str
    ) -> None:
        self.kind, self.name, self.candidates = kind, name, tuple(candidates)
        shown = "".join(f"\n    {line}" for line in self.candidates)
        super().__init__(f"{problem}{shown}\n{cure}")


class RequirementError(ConfigError):
    """A line is no requirement that workers can have; `number` counts the lines of `source` from 1."""

    def __init__(self, source: str, number: int, line: str, problem: str, cure: str) -> None:
        self.source, self.number, self.line, self.problem, self.cure = (
            source,
            number,
            line,
            problem,
            cure,
        )
        where = f"{source}, line {number}" if source else f"requirement {number}"
        super().__init__(f"{where}: {line!r} {problem}. {cure}")


class StorageError(DagnbError):
    """The store said no."""


class HistoryError(DagnbError):
    """The file of past runs cannot be read or written; runs do without it."""


class StorageUnavailableError(StorageError):
    """The store cannot be reached."""

    def __init__(self, url: str, reason: str) -> None:
        self.url, self.reason = url, reason
        super().__init__(
            f"the store at {url} cannot be reached: {without_stop(reason)}. "
            "Is the server up? `dagnb doctor` tells more."
        )


class StorageLostError(StorageUnavailableError):
    """The embedded server has ended, and the runs it held in memory with it: waiting for it is of no use."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(url, reason)
        message = (
            f"dagnb's own server at {url} was ended ({reason.rstrip('.')}), and with it the runs it held in memory. "
            "Start them again; a server of yours keeps them if it writes to disk: store='redis://...'."
        )
        self.args = (message,)


class StorageFullError(StorageError):
    """The store has no room left for a value."""

    def __init__(self, n_bytes: int, reason: str) -> None:
        self.n_bytes, self.reason = n_bytes, reason
        super().__init__(
            f"the store is full: {n_bytes} bytes were refused ({without_stop(reason)}). "
            "Raise its maxmemory, or forget old runs with `dagnb forget RUN`."
        )


class StorageLimitError(StorageError):
    """The server takes nothing so large in one piece; `limit_bytes` is its proto-max-bulk-len."""

    def __init__(self, url: str, n_bytes: int, limit_bytes: int) -> None:
        self.url, self.n_bytes, self.limit_bytes = url, n_bytes, limit_bytes
        super().__init__(
            f"{n_bytes} bytes must travel in one piece, and the store at {url} takes at most {limit_bytes}: that is "
            "its proto-max-bulk-len. Raise it with `CONFIG SET proto-max-bulk-len`, or pass large data as one array, "
            "bytes object or string, which travels in pieces, or as the result of a task."
        )


class BlobMissingError(StorageError):
    """A value that should be in the store is not."""

    def __init__(self, blobs: Sequence[str]) -> None:
        self.blobs = tuple(blobs)
        shown = ", ".join(self.blobs[:3]) + (", ..." if len(self.blobs) > 3 else "")
        super().__init__(
            f"{len(self.blobs)} value(s) are missing from the store: {shown}. Run the DAG again."
        )


class SignatureError(StorageError):
    """Bytes from the store do not carry our signature: they are refused before they are unpickled."""

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(
            f"{what} does not carry this user's signature and was not unpickled. "
            "Somebody else wrote to the store, or the key file changed: compare DAGNB_HOME of both sides."
        )


class RunMissingError(StorageError):
    """The store knows no such run (any more)."""

    def __init__(self, run: str) -> None:
        self.run = run
        super().__init__(
            f"the store knows no run '{run}': it was forgotten, it expired, or the server restarted without its data. "
            "`dagnb runs` lists what is there."
        )


class RunNotStoredError(RunMissingError):
    """A run that the history keeps and this store does not hold; `instead`: one of that name which it does, or ''."""

    def __init__(self, run: str, instead: str = "") -> None:
        super().__init__(run)
        self.instead = instead
        older = (
            f"The newest of that name in this store is {instead}."
            if instead
            else "`dagnb runs` lists what it holds."
        )
        told = (
            f"run {run} is over and kept in the history, but this store holds nothing of it: it was forgotten, it "
            f"expired, or it ran on another store. `dagnb simulate` and `dagnb export` still work on it. {older}"
        )
        self.args = (told,)


class UnknownRunError(RunMissingError, UnknownNameError):
    """Neither the store nor the history knows a run that could be meant; `known` lists names that are near."""

    def __init__(self, run: str, known: Iterable[str]) -> None:
        self.run = run
        UnknownNameError.__init__(self, "run", run, known)
        if not self.known:
            self.args = (f"unknown run '{run}': there are no runs yet.",)
        elif self.nearest is None:
            self.args = (
                f"{self.args[0]} `dagnb runs` lists what the store holds, `dagnb history` what is kept.",
            )


class LaunchError(DagnbError):
    """Workers could not be started."""


class VersionMismatchError(LaunchError):
    """Two sides of a run have versions that do not fit."""

    def __init__(
        self,
        ours: str,
        theirs: str,
        cure: str = "Install the same versions on both sides, then run again.",
    ) -> None:
        self.ours, self.theirs = ours, theirs
        super().__init__(f"the run was made by {theirs}, this side is {ours}. {cure}")


class ImageBuildError(LaunchError):
    """The image of Docker workers could not be built; `lines` are the last errors of pip, or of whatever failed."""

    def __init__(
        self, base: str, requirements: Sequence[str], lines: Sequence[str], cure: str
    ) -> None:
        self.base, self.requirements, self.lines, self.cure = (
            base,
            tuple(requirements),
            tuple(lines),
            cure,
        )
        wanted = f" with {', '.join(requirements)}" if requirements else ""
        told = "".join(f"\n    {line}" for line in lines)
        super().__init__(
            f"the image of workers on {base}{wanted} could not be built:{told}\n{cure}"
        )


class RunError(DagnbError):
    """A run did not give its result, for a reason of yours: your task, your limit, your cancel."""


class TaskFailedError(RunError):
    """Tasks failed for good; `errors` holds their last attempts, the first failure first.

    A run raises one that is of the first failure's own class, too: `except KeyError` catches it. See task_failed.
    """

    run: str
    errors: tuple[TaskError, ...]

    def __init__(self, run: str, errors: Sequence[TaskError]) -> None:
        self.run, self.errors = run, tuple(errors)
        # Not by super(): the class that this one is combined with may have a constructor of its own.
        BaseException.__init__(
            self, f"{first_failure(self.errors)} `dagnb errors {run}` shows everything."
        )
        if (first := self.errors[0]).traceback:  # a worker that died raised nothing
            self.__cause__ = OriginalError(first.type, first.message, first.traceback)

    def __init_subclass__(cls) -> None:
        """Keep such a hook of the class that this one is combined with from running."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Rebuild from the fields; the class is looked up again where it is unpickled."""
        notes = {name: value for name, value in vars(self).items() if name not in {"run", "errors"}}
        return task_failed, (self.run, self.errors), notes or None

    def __str__(self) -> str:
        """Give the message, then what is known of the first failures: the user's own lines, and what was printed."""
        return "\n\n".join([str(self.args[0]), *details(self.errors)])


def task_failed(run: str, errors: Sequence[TaskError]) -> TaskFailedError:
    """A TaskFailedError that can also be caught as the exception that the first failed task raised.

    Of the exception's class and its bases, the first counts that this process has loaded: built in, of an imported
    module, or of the notebook. dagnb's own errors are left out: they would say something about this run.
    """
    error = blank(combined(TaskFailedError, errors[0].mro, never=(DagnbError,)))
    error.__init__(run, errors)  # type: ignore[misc]  # `blank` skips the constructors of foreign classes
    return error


class OriginalError(DagnbError):
    """Stands for the exception that a task raised, as the cause of TaskFailedError; it did not travel itself.

    type: the name of its class. message: its own. lines: its traceback as Python writes it.
    """

    def __init__(self, kind: str, message: str, lines: Sequence[str]) -> None:
        self.type, self.message, self.lines = kind, message, tuple(lines)
        super().__init__(f"{kind}: {message}" if message else kind)


class RunTimeoutError(RunError, TimeoutError):
    """Waiting took longer than asked, or the run passed its deadline; see `run` for which."""

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
    """The run went well, but this process cannot unpickle a value of it.

    pickles: task -> (pickle, buffers), signed by this user: `pickle.loads(pickle, buffers=buffers)` reads it once its
    classes are here. values: task -> value of the others asked for, which could be read. reason: of the first.
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
        also = f" (and {len(self.pickles) - 1} more)" if len(self.pickles) > 1 else ""
        kept = f", and .values those of {', '.join(list(self.values)[:3])}" if self.values else ""
        super().__init__(
            f"the value of task '{first}'{also} cannot be read here: {reason[:2_000].rstrip('.')}. Define its class "
            f"as the task had it and ask again with run.value('{first}'), or have the task return plain data. "
            f"Nothing is lost: .pickles of this error holds the bytes{kept}."
        )


class ProtocolError(DagnbError):
    """Our own invariant broke: a defect of dagnb. Please report it with `dagnb show RUN`."""
