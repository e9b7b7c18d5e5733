"""Questions that need no run: other planners or costs, the forecast of a function, the history."""

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
from dagnb.graph.dag import Dag, Targets
from dagnb.graph.identity import identity
from dagnb.graph.task import Node, Task
from dagnb.handle import Run
from dagnb.planning.planner import Basis, Planner, Problem
from dagnb.protocol.messages import RunState
from dagnb.run_history.history import RUNS, History, HistoryEntry

# Above this many tasks, planners that search for an optimal plan must be requested by name.
EXACT_TASKS = 40
FORMATS = ("chrome", "wfformat")

_COSTS = ("measured", "predicted")
# Planner -> settings that limit its planning time, unless it was requested by name.
_HURRIED = {"exact": {"limit_s": 5.0}}
# Seconds to wait at most until the previous run is recorded in the history.
_LEARNING_S = 1.0
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
    """Compares planners on the same work, side by side; nothing runs.

    of: one or several nodes; a run, its name, its id, the beginning of its id, or 'last'; a
    workflow in WfFormat or the path of its .json file.
    planners: names or objects; by default all that are installed.
    costs: of a past run, as it 'measured' them or as they are 'predicted' now. Of a workflow, the
    file gives what was measured; the rest has defaults, or is 'predicted' from your own runs. Costs
    of nodes are always predicted.
    workers: to plan for, as in `run`. cap: limit of workers at a time. cold_s: seconds of a cold
    start. bytes_per_s: speed of transfers.
    Raises UnknownNameError, ConfigError, GraphError, RunMissingError.
    """
    if costs not in _COSTS:
        raise ConfigError(f"costs={costs!r}: must be 'measured' or 'predicted'.")
    session.wait_for_pending(_LEARNING_S)
    name, problem = _named_problem(of, workers, costs)
    problem = changed(problem, cap=cap, cold_s=cold_s, bytes_per_s=bytes_per_s)
    return compare_plans(problem, _planners(planners, len(problem.dag)), name, perf_counter)


def predict(function: str | Task[..., Any], *, n_bytes: int | None = None) -> FunctionForecast:
    """Returns the expected duration and output size of a function, by resources.

    n_bytes: size of its input in bytes; the median of past runs by default.
    Raises UnknownNameError for the name of a function that never ran, ConfigError, HistoryError.
    """
    if n_bytes is not None and n_bytes < 0:
        raise ConfigError(
            f"n_bytes={n_bytes!r}: must be 0 or more; leave it out for the usual size."
        )
    session.wait_for_pending(_LEARNING_S)
    if not isinstance(function, Task):
        return function_forecast(function, knowledge(), n_bytes=n_bytes)
    # A task has code and hints, so even a function that never ran has a forecast.
    code, options = identity(function.function), function.options
    return function_forecast(
        function.name, knowledge(), code=code, options=options, n_bytes=n_bytes
    )


def history(limit: int = 100) -> list[HistoryEntry]:
    """Returns the runs in the history, newest first. Raises HistoryError."""
    session.wait_for_pending(_LEARNING_S)
    return History().runs(limit)


def export(run: Run[Any] | Past | str, to: str = "chrome") -> str:
    """Returns a run as JSON for other programs.

    to: 'chrome' for Perfetto and chrome://tracing, 'wfformat' for simulators of workflows.
    Raises UnknownNameError for another format, and what `past` raises.
    """
    if to not in FORMATS:
        raise UnknownNameError("format", to, FORMATS)
    finished = past(run)
    description = finished.description
    if to == "wfformat":
        return write(description.dag, finished.trace, name=description.name)

    # Only the process that planned a run has its plan; the timeline then shows it beside the run.
    planned = None
    if isinstance(run, Run) and run.plan is not None:
        expected = forecast_of(run.plan)
        planned = expected.trace if expected is not None and expected.is_known else None
    return chrome_trace(
        finished.trace, planned=planned, name=description.name, upstream=description.upstream
    )


def past(run: Run[Any] | Past | str, *, store: Any = None, workers: Any = None) -> Past:
    """Returns a run that is over, from the history, else from the store.

    run: its id, the beginning of that, its name, or 'last'. store, workers: where to look for runs
    that are not in the history yet.
    Raises RunError while it is running, RunMissingError when neither has it, AmbiguousNameError.
    """
    if isinstance(run, Past):
        return run
    if isinstance(run, str):
        session.wait_for_pending(_LEARNING_S)
        # Ids first: they need no store, which may be out of reach.
        return _in_history(run.strip().upper()) or _past_named(run, store, workers)
    snapshot = run.snapshot()
    if snapshot.seen.state is RunState.RUNNING:
        raise RunError(
            f"run {run.id} is still running: it can be analysed when it is over. Wait for it."
        )
    return Past(
        run=run.id,
        description=snapshot.description,
        state=snapshot.seen.state,
        trace=snapshot.trace,
    )


def _past_named(text: str, store: Any, workers: Any) -> Past:
    """Returns the run meant by a text that is not the id of a run in the history."""
    known = client.find_run(text, store=store, workers=workers, needs_store=False)
    kept = _in_history(known.run)
    if kept is not None:
        return kept
    return past(client.attach(known.run, store=store, workers=workers))


def _in_history(run: str) -> Past | None:
    """Returns the run of the history with this id, None where there is none."""
    for entry in History().runs(RUNS):
        if entry.run == run:
            description, trace = History().run(run)
            return Past(run=run, description=description, state=RunState(entry.state), trace=trace)
    return None


def workflow(path: Path) -> Workflow:
    """Returns the workflow in a WfFormat file.

    Raises ConfigError when it cannot be read, GraphError when it is no DAG.
    """
    try:
        return read(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} cannot be read: {error}. Give a file in WfFormat, or the id of a run."
        ) from error


# ---- the problem ----


def _named_problem(of: Any, workers: Any, costs: str) -> tuple[str, Problem]:
    """Returns the name of the work, and the problem that planners are given."""
    match of:
        case Node() | list() | tuple() | dict():
            dag = Dag.of(*Targets.of(of).nodes)
            return dag.calls[dag.sinks[-1]].function, _problem(dag, workers)
        case Workflow():
            return of.name, _problem_of_workflow(of, workers, costs)
        case Path():
            return _named_problem(workflow(of), workers, costs)
        case str() if of.endswith(_WORKFLOW):
            return _named_problem(Path(of), workers, costs)
        case str() | Run():
            return _named_problem(past(of), workers, costs)
        case Past():
            make = of.measured if costs == "measured" else of.predicted
            problem = make(knowledge())
            if workers is not None:
                problem = _on_other_workers(problem, workers)
            return of.description.name, problem
    raise ConfigError(
        f"{of!r:.80} cannot be compared: give a node, a list or dict of nodes, a run or its id,"
        " or a WfFormat file."
    )


def _problem_of_workflow(of: Workflow, workers: Any, costs: str) -> Problem:
    """Returns a problem with the times and sizes of a file.

    The rest has its defaults, so that a file gives the same figures on any machine, or is predicted
    from the runs of this one.
    """
    problem = _problem(of.dag, workers, uses_history=costs == "predicted")
    expected = problem.costs
    measured = dict.fromkeys(of.run_s, Basis(f"measured in {of.name}"))
    # A file has no failed attempts: those of functions with the same name are of other work.
    failures = {task: failed for task, failed in expected.failures.items() if task not in measured}
    priced = expected.with_(
        run_s={**expected.run_s, **of.run_s},
        output_bytes={**expected.output_bytes, **of.output_bytes},
        failures=failures,
        edge_bytes=of.edge_bytes,
        external_bytes=of.external_bytes,
        # Times to pickle were predicted for other sizes.
        known_s={},
        uncertainty=expected.uncertainty.of_tasks_known(of.run_s),
        basis={**expected.basis, **measured},
    )
    return replace(problem, costs=priced)


def _problem(dag: Dag, workers: Any, *, uses_history: bool = True) -> Problem:
    """Returns the problem that a run of this DAG would give its planner now."""
    chosen = session.settings(workers=workers)
    return client.problem_for(dag, chosen, chosen.launcher(), uses_history=uses_history)


def _on_other_workers(problem: Problem, workers: Any) -> Problem:
    """Returns the same tasks on other workers, with the starts of those."""
    other = _problem(problem.dag, workers)
    costs = problem.costs.with_(
        start_series=(),
        program_s=other.costs.program_s,
        cold=other.costs.cold,
        warm=other.costs.warm,
        starts=other.costs.starts,
    )
    return replace(problem, costs=costs, pool=other.pool)


def _planners(asked: Iterable[str | Planner] | None, n_tasks: int) -> dict[str, Planner]:
    """Returns label -> planner; all that are installed by default."""
    if isinstance(asked, str):
        raise ConfigError(f"planners={asked!r}: that is one name. Write planners=[{asked!r}].")
    chosen: dict[str, Planner] = {}
    for name in registry.names("planner") if asked is None else asked:
        is_hurried = asked is None and name in _HURRIED
        if is_hurried and n_tasks > EXACT_TASKS:
            continue
        planner: Any = session.settings(planner=name).chosen_planner()
        if is_hurried:
            planner = replace(planner, **_HURRIED[planner.name])
        # Two planners with one name differ in their settings, which the repr shows.
        chosen[planner.name if planner.name not in chosen else repr(planner)] = planner
    return chosen
