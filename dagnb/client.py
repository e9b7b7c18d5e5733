"""From nodes to a run: plan, put in the store, launch. The verbs of the package."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import sys
import time
from dataclasses import replace
from typing import Any

from dagnb import archive, registry, session, sources
from dagnb.errors import (
    ConfigError,
    DagnbError,
    HistoryError,
    LaunchError,
    RunMissingError,
    RunNotStoredError,
    StorageError,
)
from dagnb.forecast.costs import expected_costs
from dagnb.forecast.knowledge import knowledge
from dagnb.forecast.plan_forecast import forecast_of
from dagnb.graph import node as graph_node
from dagnb.graph.dag import Dag
from dagnb.graph.node import Node
from dagnb.graph.payload import Signer
from dagnb.graph.resources import Resources
from dagnb.graph.targets import Targets
from dagnb.handle import Run, viewers
from dagnb.planning.costs import Costs
from dagnb.planning.forecast import Forecast
from dagnb.planning.plan import Plan
from dagnb.planning.planner import Problem
from dagnb.protocol import naming, program
from dagnb.protocol.invocation import INLINE_DAG_BYTES, Invocation, versions
from dagnb.protocol.launcher import Launcher, WorkerSlot, shares_files
from dagnb.protocol.run_description import RunDetails, describe
from dagnb.run_history.known_runs import kept_runs, known_runs
from dagnb.simulation.simulate import simulate as simulate_plan
from dagnb.storage.interface import RunLine
from dagnb.trace.span import Phase, Span
from dagnb.trace.trace import Trace
from dagnb.trace.upload import Upload
from dagnb.views.show import bundle

_BASE32 = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
START_S = 60.0
"""if this process ends between submitting and launching, the run is told as cancelled after so long"""

PREDICTED_STEPS = 1_000
"""plans up to this size are foretold before they are submitted"""

PRINTED_STEPS = PREDICTED_STEPS
"""the makespan of plans up to this size is predicted when they are printed, which takes a fifth of a second"""

_LEARNING_S = 1.0
"""a plan waits so long for the history to take in the run before"""

_log = logging.getLogger(__name__)
_ON_ERROR = ("fail", "continue")


def run(
    *targets: Any,
    name: str = "",
    planner: Any = None,
    workers: Any = None,
    store: Any = None,
    metrics: Any = None,
    percentile: float | None = None,
    deadline_s: float | None = None,
    on_error: str = "fail",
) -> Run[Any]:
    """Start the targets and all they need; returns at once.

    targets: nodes, or structures that hold nodes. The result of one node is its value, of several a tuple of values, of
    a structure such as [a, b] or {"x": a} the same structure with the values in the places of the nodes.
    planner, workers, store, metrics, percentile: instead of the session's defaults, see Settings. deadline_s: end the
    run after so many seconds. on_error: 'fail' ends the run at the first failed task; 'continue' runs every task that
    does not need a failed one, also where its only reader is skipped.
    Raises GraphError, PlanError, ConfigError, LaunchError or StorageError; nothing is left behind then.
    """
    if on_error not in _ON_ERROR:
        raise ConfigError(f"on_error={on_error!r}: must be 'fail' or 'continue'.")
    if deadline_s is not None and not deadline_s > 0:
        raise ConfigError(
            f"deadline_s={deadline_s!r}: must be more than 0 seconds; leave it out for no deadline."
        )
    chosen = session.settings(
        planner=planner, workers=workers, store=store, metrics=metrics, percentile=percentile
    )
    launcher, upload = chosen.launcher(), chosen.upload()
    asked = Targets.of(*targets)
    made = _planned(asked, chosen, launcher)
    session.wait(launcher.prepare(_needs(made), _tell))
    terms = {"deadline_s": deadline_s, "on_error": on_error, "start_s": START_S}
    details = RunDetails(
        deadline_s=deadline_s,
        platform=launcher.name,
        pool=_problem(made).pool,
        forecast=_forecast(made),
        structure=asked.structure,
    )
    name = name or made.dag.calls[made.dag.sinks[-1]].function
    started = session.wait(_start(made, chosen, launcher, name, upload, terms, details))
    for show in viewers:
        show(started)
    return started


async def _start(
    made: Plan,
    chosen: session.Settings,
    launcher: Launcher,
    name: str,
    upload: Upload,
    terms: dict[str, Any],
    details: RunDetails,
) -> Run[Any]:
    began = time.monotonic()
    _check_folder()
    opened, address = await session.store_for(chosen, launcher)
    key = session.key_for(opened)
    run_id = new_run_id()
    ready = program.build(
        made,
        run_id,
        Signer(key),
        cap=launcher.cap,
        by_kind=launcher.by_kind,
        archive=None if shares_files(launcher) else archive.archive,
        modules=archive.made_modules(),
        cells=sources.cells,
        **terms,
    )
    description = describe(made, name, ready, Signer(key), run_id, details)
    submission = replace(ready.submission, meta=description)
    try:
        n_bytes = ready.n_bytes + await opened.share(
            ready.contents, run=run_id, ttl_s=submission.ttl_s
        )
        now = await opened.submit(submission)
        submitted = Span(-1, "", Phase.SUBMIT, now - (time.monotonic() - began), now, n_bytes)
        invocation = Invocation(
            run=run_id,
            store=address.url,
            namespace=address.namespace,
            key=key,
            header=ready.header,
            n_workers=min(launcher.cap, len(made.steps)),
            records=submission.records if ready.n_bytes <= INLINE_DAG_BYTES else (),
            asked_at=now,
            versions=versions(),
            metrics=upload.text,
        )
        await launcher.launch(invocation, _needs(made))
    except BaseException:
        with contextlib.suppress(StorageError):
            await opened.forget(run_id)
        raise
    handle: Run[Any] = Run(run_id, opened, plan=made, launcher=launcher, name=name)
    await handle.record(submitted)  # which also says that workers were launched
    return handle


def _check_folder() -> None:
    """Tell when the folder in which tasks on this machine would run was removed."""
    try:
        os.getcwd()
    except OSError:
        _tell(
            "the current folder was removed, so tasks do not run in it: a relative path in them means another place. "
            "Go to a folder that exists with os.chdir(...)."
        )


def plan(
    *targets: Any, planner: Any = None, workers: Any = None, percentile: float | None = None
) -> Plan:
    """Who would run what; nothing runs. The plan shows itself as the planning image."""
    chosen = session.settings(planner=planner, workers=workers, percentile=percentile)
    return _planned(Targets.of(*targets), chosen, chosen.launcher())


def problem_for(dag: Dag, chosen: session.Settings, launcher: Launcher) -> Problem:
    """What a planner is asked for these nodes: what acts are expected to cost, and who could run them."""
    pool = session.wait(launcher.pool({call.options.needs for call in dag.calls}))
    return Problem(dag=dag, costs=_costs(dag, launcher), pool=pool, percentile=chosen.percentile)


def _planned(asked: Targets, chosen: session.Settings, launcher: Launcher) -> Plan:
    problem = problem_for(Dag.of(*asked.nodes), chosen, launcher)
    made = chosen.chosen_planner().plan(problem)
    made.check(problem.dag)
    return replace(made, problem=problem)


def _costs(dag: Dag, launcher: Launcher) -> Costs:
    """What past runs on this platform taught; the hints of @task alone where the history cannot be read."""
    session.wait_for_pending(_LEARNING_S)
    try:
        return expected_costs(dag, knowledge(), launcher.name)
    except HistoryError as error:
        session.warn_once(error)
        return Costs.hinted(dag)


def _problem(made: Plan) -> Problem:
    assert made.problem is not None
    return made.problem


def _forecast(made: Plan) -> Forecast | None:
    """None for a large plan: nobody waits for its start while it is simulated; `makespans` does it afterwards."""
    outlook = forecast_of(made)
    return outlook.forecast if outlook is not None and len(made.steps) <= PREDICTED_STEPS else None


def _needs(made: Plan) -> set[Resources]:
    return {step.resources for step in made.steps}


def _tell(line: str) -> None:
    """What is prepared before a run, where it takes long."""
    sys.stderr.write(f"dagnb: {line}\n")
    sys.stderr.flush()


def workers(*, workers: Any = None) -> tuple[WorkerSlot, ...]:
    """The processes and containers where tasks run now, or could at once."""
    launcher = session.settings(workers=workers).launcher()
    return session.wait(launcher.seats())


def everywhere() -> list[WorkerSlot]:
    """The seats of the session's own launcher, then those of every other that is installed and can tell."""
    seats = list(workers())
    for name in registry.names("launcher"):
        if name != session.settings().launcher().name:
            with contextlib.suppress(DagnbError, ImportError):
                seats += workers(workers=name)
    return seats


def simulate(
    *targets: Any, planner: Any = None, workers: Any = None, costs: Costs | None = None
) -> Trace:
    """The run in virtual time, by the real worker's code; costs: what past runs taught, by default."""
    chosen = session.settings(planner=planner, workers=workers)
    made = _planned(Targets.of(*targets), chosen, chosen.launcher())
    problem = _problem(made)
    return simulate_plan(made, costs or problem.costs, problem.pool)


def attach(run: str, *, store: Any = None, workers: Any = None) -> Run[Any]:
    """A run that an earlier kernel started: by its id, the beginning of it, its name, or 'last'.

    Raises RunMissingError, AmbiguousNameError.
    """
    chosen = session.settings(store=store, workers=workers)
    launcher = chosen.launcher()

    async def found(run_id: str) -> Run[Any]:
        opened, _ = await session.store_for(chosen, launcher)
        handle: Run[Any] = Run(run_id, opened, launcher=launcher)
        await opened.observe(run_id)
        return handle

    if naming.is_run_id(run.strip()):  # the common case, which needs no list of all runs
        with contextlib.suppress(RunMissingError):
            return session.wait(found(run.strip().upper()))
    return session.wait(found(find_run(run, store=store, workers=workers).run))


def find_run(
    text: str,
    *,
    purpose: naming.Purpose = naming.Purpose.LOOK,
    store: Any = None,
    workers: Any = None,
    needs_store: bool = True,
) -> naming.KnownRun:
    """The run meant by an id, the beginning of one, a name or 'last'; see protocol.naming for the rules.

    Of several runs with one name it says on stderr which was taken. needs_store: when False, a run of the history is
    enough, also when the store is out of reach.
    Raises AmbiguousNameError, UnknownRunError, RunNotStoredError.
    """
    known = known_runs(_stored(store, workers, needs_store=needs_store), kept_runs())
    found = naming.find_run(text, known, purpose)
    if needs_store and not found.run.is_stored:
        instead = [other.run for other in found.others if other.is_stored]
        raise RunNotStoredError(found.run.run, *instead[:1])
    if found.others:
        _tell(
            f"{len(found.others) + 1} runs are named '{text.strip()}'. The newest is taken: {found.run.line()}"
        )
    return found.run


def _stored(store: Any, workers: Any, *, needs_store: bool) -> list[RunLine]:
    try:
        return runs(store=store, workers=workers)
    except (StorageError, LaunchError) as error:
        if needs_store:
            raise
        _log.warning("only runs of the history are looked at: %s", error)
        return []


def runs(*, store: Any = None, workers: Any = None) -> list[RunLine]:
    """What the store knows, newest first."""
    chosen = session.settings(store=store, workers=workers)

    async def listed() -> list[RunLine]:
        opened, _ = await session.store_for(chosen, chosen.launcher())
        return await opened.runs()

    return session.wait(listed())


def new_run_id() -> str:
    """A ULID: 26 characters, sortable by the moment of making. Source: github.com/ulid/spec."""
    number = (int(time.time() * 1000) << 80) | secrets.randbits(80)
    return "".join(_BASE32[(number >> shift) & 31] for shift in range(125, -5, -5))


def _show(thing: object) -> dict[str, str]:
    return bundle(Dag.of(thing) if isinstance(thing, Node) else thing)


def _predicted_s(made: Plan) -> float | None:
    """The median makespan of a plan; None where it is not known and would take long to find out."""
    outlook = forecast_of(made)
    if outlook is None or (len(made.steps) > PRINTED_STEPS and "forecast" not in vars(outlook)):
        return None
    try:
        return outlook.forecast.p50_s
    except DagnbError:  # a plan that does not fit its DAG
        return None


graph_node.verbs.update(run=run, plan=plan, simulate=simulate, show=_show, predicted=_predicted_s)
