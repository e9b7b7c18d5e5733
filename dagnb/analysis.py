"""What would be if: other planners and other prices on runs of the past, functions as they are known, the history."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

from dagnb import client, registry, session
from dagnb.errors import ConfigError, RunError, UnknownNameError
from dagnb.exchange.chrome import chrome_trace
from dagnb.exchange.wfformat import read, write
from dagnb.exchange.workflow import Workflow
from dagnb.forecast.compare import Comparison, compare_plans
from dagnb.forecast.function_forecast import FunctionForecast, function_forecast
from dagnb.forecast.knowledge import knowledge
from dagnb.forecast.past import Past, changed
from dagnb.forecast.plan_forecast import forecast_of
from dagnb.graph.dag import Dag
from dagnb.graph.identity import identity
from dagnb.graph.node import Node
from dagnb.graph.targets import Targets
from dagnb.graph.task import Task
from dagnb.handle import Run
from dagnb.planning.planner import Planner, Problem
from dagnb.protocol.messages import RunState
from dagnb.run_history.history import RUNS, History, HistoryEntry

EXACT_TASKS = 40
"""where there are more tasks, planners that prove their plan to be the best are left out, unless asked for"""
FORMATS = ("chrome", "wfformat")

_COSTS = ("measured", "predicted")
_HURRIED = {"exact": {"limit_s": 5.0}}
"""planners that would let one wait long -> how they are kept short where nobody asked for them by name"""
_LEARNING_S = 1.0
"""so long for the run before to be kept"""
_WORKFLOW = ".json"


def compare(
    of: Any,
    *,
    planners: Iterable[str | Planner] | None = None,
    workers: Any = None,
    costs: str = "measured",
    cap: int | None = None,
    cold_s: float | None = None,
    bytes_per_s: float | None = None,
) -> Comparison:
    """What several planners make of the same work, side by side; nothing runs.

    of: a node or several; a run, its name, its id, the beginning of that, or 'last'; a workflow in WfFormat or the path
    of its .json file. planners: names or objects, all that are installed by default. costs: of a run, what it measured,
    or what is 'predicted' now. cap, cold_s, bytes_per_s: what if there were so many workers at a time, cold starts took
    so long, transfers were so fast?
    Raises UnknownNameError, ConfigError, RunMissingError.
    """
    if costs not in _COSTS:
        raise ConfigError(f"costs={costs!r}: must be 'measured' or 'predicted'.")
    session.wait_for_pending(_LEARNING_S)
    name, problem = _asked(of, workers, costs)
    problem = changed(problem, cap=cap, cold_s=cold_s, bytes_per_s=bytes_per_s)
    return compare_plans(problem, _planners(planners, len(problem.dag)), name, perf_counter)


def predict(function: str | Task[..., Any], *, n_bytes: int | None = None) -> FunctionForecast:
    """How long a function is expected to run and how much it gives, by resources; n_bytes: for so much to read.

    Raises UnknownNameError for the name of a function that never ran.
    """
    if n_bytes is not None and n_bytes < 0:
        raise ConfigError(
            f"n_bytes={n_bytes!r}: must be 0 or more; leave it out for what is usual."
        )
    session.wait_for_pending(_LEARNING_S)
    if isinstance(function, Task):
        code, options = identity(function.function), function.options
        return function_forecast(
            function.name, knowledge(), code=code, options=options, n_bytes=n_bytes
        )
    return function_forecast(function, knowledge(), n_bytes=n_bytes)


def history(limit: int = 100) -> list[HistoryEntry]:
    """The runs that are kept to learn from, newest first."""
    session.wait_for_pending(_LEARNING_S)
    return History().runs(limit)


def export(run: Run[Any] | Past | str, to: str = "chrome") -> str:
    """A run as JSON for others: 'chrome' for Perfetto and chrome://tracing, 'wfformat' for simulators of workflows."""
    if to not in FORMATS:
        raise UnknownNameError("format", to, FORMATS)
    found = past(run)
    if to == "wfformat":
        return write(found.description.dag, found.trace, name=found.description.name)
    outlook = forecast_of(run.plan) if isinstance(run, Run) and run.plan is not None else None
    planned = outlook.trace if outlook is not None else None
    return chrome_trace(
        found.trace,
        planned=planned,
        name=found.description.name,
        upstream=found.description.upstream,
    )


def past(run: Run[Any] | Past | str, *, store: Any = None, workers: Any = None) -> Past:
    """A run that is over: by its id, the beginning of it, its name, or 'last'; from the history, else from the store.

    store, workers: where the runs are that the history does not know yet.
    Raises RunError while it goes on, RunMissingError when neither knows it, AmbiguousNameError.
    """
    if isinstance(run, Past):
        return run
    if isinstance(run, str):
        session.wait_for_pending(_LEARNING_S)
        return _kept(run.strip().upper()) or _called(run, store, workers)
    now = run.snapshot()
    if now.seen.state is RunState.RUNNING:
        raise RunError(
            f"run {run.id} is still running: there is nothing to look back on. Wait for it."
        )
    return Past(run=run.id, description=now.description, state=now.seen.state, trace=now.trace)


def _called(text: str, store: Any, workers: Any) -> Past:
    """The run meant by a text that is not the id of a run of the history."""
    known = client.find_run(text, store=store, workers=workers, needs_store=False)
    kept = _kept(known.run)
    return (
        kept if kept is not None else past(client.attach(known.run, store=store, workers=workers))
    )


def _kept(run: str) -> Past | None:
    """The run of the history with this id; None where there is none."""
    line = next((line for line in History().runs(RUNS) if line.run == run), None)
    if line is None:
        return None
    description, trace = History().run(run)
    return Past(run=run, description=description, state=RunState(line.state), trace=trace)


def workflow(path: Path) -> Workflow:
    """What a file in WfFormat holds. Raises ConfigError when it cannot be read, GraphError when it makes no sense."""
    try:
        return read(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} cannot be read: {error}. Give a file in WfFormat, or the id of a run."
        ) from error


# ---- what is asked about ----


def _asked(of: Any, workers: Any, costs: str) -> tuple[str, Problem]:
    """The name of the work, and the problem that planners are given."""
    match of:
        case Node() | list() | tuple() | dict():
            return _of_nodes(Targets.of(of).nodes, workers)
        case Workflow():
            return of.name, _of_workflow(of, workers)
        case Path():
            return _asked(workflow(of), workers, costs)
        case str() if of.endswith(_WORKFLOW):
            return _asked(Path(of), workers, costs)
        case str() | Run():
            return _asked(past(of), workers, costs)
        case Past():
            problem = of.measured(knowledge()) if costs == "measured" else of.predicted(knowledge())
            return of.description.name, problem if workers is None else _elsewhere(problem, workers)
    raise ConfigError(
        f"{of!r:.80} cannot be compared: give a node, a list or dict of nodes, a run or its id, or a WfFormat file."
    )


def _of_nodes(nodes: tuple[Node[Any], ...], workers: Any) -> tuple[str, Problem]:
    dag = Dag.of(*nodes)
    return dag.calls[dag.sinks[-1]].function, _here(dag, workers)


def _of_workflow(of: Workflow, workers: Any) -> Problem:
    """Times and sizes as the file tells them; what it leaves out is as past runs here lead to expect."""
    problem = _here(of.dag, workers)
    costs = problem.costs.with_(
        run_s={**problem.costs.run_s, **of.run_s},
        output_bytes={**problem.costs.output_bytes, **of.output_bytes},
        edge_bytes=of.edge_bytes,
        external_bytes=of.external_bytes,
        known_s={},
        doubt=replace(problem.costs.doubt, run=dict.fromkeys(of.run_s, 0.0), batch=0.0),
        basis={**problem.costs.basis, **dict.fromkeys(of.run_s, f"measured in {of.name}")},
    )
    return replace(problem, costs=costs)


def _here(dag: Dag, workers: Any) -> Problem:
    chosen = session.settings(workers=workers)
    return client.problem_for(dag, chosen, chosen.launcher())


def _elsewhere(problem: Problem, workers: Any) -> Problem:
    """The same tasks on other workers, which start as those do."""
    there = _here(problem.dag, workers)
    starts = {"cold": there.costs.cold, "warm": there.costs.warm, "starts": there.costs.starts}
    costs = problem.costs.with_(start_series=(), program_s=there.costs.program_s, **starts)
    return replace(problem, costs=costs, pool=there.pool)


def _planners(asked: Iterable[str | Planner] | None, n_tasks: int) -> dict[str, Planner]:
    """Label -> planner; all that are installed by default."""
    if isinstance(asked, str):
        raise ConfigError(f"planners={asked!r}: that is one name. Write planners=[{asked!r}].")
    found: dict[str, Planner] = {}
    for one in _fitting(n_tasks) if asked is None else asked:
        planner: Any = session.settings(planner=one).chosen_planner()
        if asked is None and planner.name in _HURRIED:
            planner = replace(planner, **_HURRIED[planner.name])
        found[planner.name if planner.name not in found else repr(planner)] = planner
    return found


def _fitting(n_tasks: int) -> list[str]:
    return [
        name for name in registry.names("planner") if name not in _HURRIED or n_tasks <= EXACT_TASKS
    ]
