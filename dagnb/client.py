"""From nodes to a run: plan, store, launch. The functions of `import dagnb`.

run:       targets -> plan -> prepare workers -> store the run -> launch -> handle
plan:      targets -> plan
simulate:  targets -> plan -> virtual time -> trace
attach, runs, find_run, workers: look up existing runs and workers
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import secrets
import sys
import time
from collections.abc import Iterator
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
from dagnb.forecast.background import PREDICTED_STEPS, BackgroundForecast
from dagnb.forecast.costs import costs_without_history, expected_costs
from dagnb.forecast.knowledge import knowledge
from dagnb.forecast.plan_forecast import forecast_of
from dagnb.graph import client_hook
from dagnb.graph.dag import Dag, Targets
from dagnb.graph.payload import Signer
from dagnb.handle import Run, viewers
from dagnb.planning.plan import Plan
from dagnb.planning.planner import Costs, Planner, Problem, needs_costs
from dagnb.protocol import naming, program
from dagnb.protocol.invocation import INLINE_DAG_BYTES, Invocation, versions
from dagnb.protocol.launcher import (
    Launcher,
    SharedArrays,
    SharingMemory,
    WorkerSlot,
    shares_files,
)
from dagnb.protocol.run_description import RunDetails, describe
from dagnb.run_history.history import kept_runs, known_runs
from dagnb.simulation.simulate import simulate as simulate_plan
from dagnb.storage.interface import RunLine
from dagnb.trace.trace import Phase, Span, Trace
from dagnb.trace.upload import Upload
from dagnb.views.show import bundle

_BASE32 = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's: without I, L, O, U
START_S = 60.0
"""seconds after which a run is cancelled whose client ended before it launched workers"""

PRINTED_STEPS = PREDICTED_STEPS
"""plans of at most this many steps are simulated for their repr: up to a fifth of a second"""

# Seconds that costs wait at most until the previous runs are recorded in the history.
_LEARNING_S = 1.0

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

    targets: nodes, or structures that hold nodes. The result of one node is its value, of several a
        tuple of values, of a structure such as [a, b] or {"x": a} the same structure with values in
        the places of the nodes.
    planner, workers, store, metrics, percentile: instead of the session's defaults, see Settings.
    deadline_s: seconds after the submission at which the run is ended.
    on_error: 'fail' ends the run at the first failed task; 'continue' runs every task that does not
        need a failed one, also where its only reader is skipped.
    Raises GraphError, PlanError, ConfigError, LaunchError or StorageError; then the store holds
    nothing of the run.
    """
    _check_ending(on_error, deadline_s)
    chosen = session.settings(
        planner=planner,
        workers=workers,
        store=store,
        metrics=metrics,
        percentile=percentile,
    )
    launcher = chosen.launcher()
    upload = chosen.upload()  # before planning: a wrong name should fail at once

    requested = Targets.of(*targets)
    recorded = session.pending()  # runs before this one, from which its costs are learnt
    planner = chosen.chosen_planner()
    with _nothing_collected():
        dag = Dag.of(*requested.nodes)
        problem = _unpriced(dag, chosen, launcher)
        priced = _priced(problem, launcher, recorded) if needs_costs(planner) else None
        planned = _plan_of(planner, priced or problem)
    # Images are built here, which may take minutes, before anything of the run is stored.
    session.wait(launcher.prepare(planned.needs, _report))

    last_sink = dag.calls[dag.sinks[-1]]
    ending = {"deadline_s": deadline_s, "on_error": on_error, "start_s": START_S}
    details = RunDetails(
        deadline_s=deadline_s,
        platform=launcher.name,
        pool=problem.pool,
        structure=requested.structure,
    )
    name = name or last_sink.function
    started = session.wait(_start(planned, chosen, launcher, name, upload, ending, details))
    # Nothing of the run waits for what is known of it: its workers have started.
    started.complete(
        BackgroundForecast(planned, lambda: priced or _priced(problem, launcher, recorded))
    )
    for show in viewers:
        show(started)
    return started


@contextlib.contextmanager
def _nothing_collected() -> Iterator[None]:
    """Makes objects without a search for reference cycles: a quarter of the time of a large plan.

    All that is made within the block is still in use at its end, so a search would find nothing.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _check_ending(on_error: str, deadline_s: float | None) -> None:
    if on_error not in _ON_ERROR:
        raise ConfigError(f"on_error={on_error!r}: must be 'fail' or 'continue'.")
    if deadline_s is not None and not deadline_s > 0:
        raise ConfigError(
            f"deadline_s={deadline_s!r}: must be more than 0 seconds; leave it out for no deadline."
        )


async def _start(
    planned: Plan,
    chosen: session.Settings,
    launcher: Launcher,
    name: str,
    upload: Upload,
    ending: dict[str, Any],
    details: RunDetails,
) -> Run[Any]:
    """Store the run and launch workers for it. ending: fields of Submission that end a run."""
    began = time.monotonic()
    _warn_of_missing_folder()
    store, address = await session.store_for(chosen, launcher)
    key = session.key_for(store)
    run_id = new_run_id()
    arrays = None
    if isinstance(launcher, SharingMemory):
        arrays = launcher.shared_arrays(run_id, address.url)

    try:
        with _nothing_collected():
            ready = _build(planned, run_id, launcher, Signer(key), arrays, ending)
            description = describe(planned, name, ready, Signer(key), run_id, details)
        submission = replace(ready.submission, meta=description)
        # Contents first: a submitted run may be started by workers that wait already.
        n_shared = await store.share(ready.contents, run=run_id, ttl_s=submission.ttl_s)
        submitted_at = await store.submit(submission)  # by the store's clock, as every span
        begin_s = submitted_at - (time.monotonic() - began)
        n_bytes = ready.n_bytes + n_shared + (arrays.n_bytes if arrays else 0)
        span = Span(-1, "", Phase.SUBMIT, begin_s, submitted_at, n_bytes)

        # A small DAG is sent with the invocation, which saves its workers a round trip.
        is_small = ready.n_bytes <= INLINE_DAG_BYTES
        invocation = Invocation(
            run=run_id,
            store=address.url,
            namespace=address.namespace,
            key=key,
            header=ready.header,
            n_workers=min(launcher.cap, len(planned.steps)),
            records=submission.records if is_small else (),
            asked_at=submitted_at,
            versions=versions(),
            metrics=upload.text,
            segment_bytes=arrays.limit_bytes if arrays else 0,
            arrays=arrays.close() if arrays else {},
        )
        await launcher.launch(invocation, planned.needs)
    except BaseException:
        # Also after an interrupt: the caller has no handle, so nothing of the run must stay.
        if arrays:
            arrays.remove()
        with contextlib.suppress(StorageError):
            await store.forget(run_id)
        raise

    handle: Run[Any] = Run(run_id, store, plan=planned, launcher=launcher, name=name)
    # Recording a span tells the store that the client takes part, so START_S no longer ends the
    # run.
    await handle.record(span)
    return handle


def _build(
    planned: Plan,
    run_id: str,
    launcher: Launcher,
    signer: Signer,
    arrays: SharedArrays | None,
    ending: dict[str, Any],
) -> program.Program:
    """Pickle and sign everything that workers of this launcher need. arrays: see SharingMemory."""
    return program.build(
        planned,
        run_id,
        signer,
        cap=launcher.cap,
        by_kind=launcher.by_kind,
        write_array=arrays.write if arrays else None,
        archive=None if shares_files(launcher) else archive.archive,
        modules=archive.made_modules(),
        cells=sources.cells,
        **ending,
    )


def _warn_of_missing_folder() -> None:
    """Warn if the current folder, in which tasks on this machine would run, was removed."""
    try:
        os.getcwd()
    except OSError:
        _report(
            "the current folder was removed, so tasks do not run in it: "
            "relative paths in them lead to other files. "
            "Go to a folder that exists with os.chdir(...)."
        )


def plan(
    *targets: Any,
    planner: Any = None,
    workers: Any = None,
    percentile: float | None = None,
) -> Plan:
    """Plan which worker runs which task; nothing runs. A notebook shows the plan as a picture.

    Raises GraphError, PlanError, ConfigError.
    """
    chosen = session.settings(planner=planner, workers=workers, percentile=percentile)
    return _planned(Targets.of(*targets), chosen, chosen.launcher())


def problem_for(
    dag: Dag, chosen: session.Settings, launcher: Launcher, *, uses_history: bool = True
) -> Problem:
    """Returns the problem that a planner is asked to solve for this DAG.

    The problem holds the expected costs, and the workers that the launcher has or may start.
    uses_history: False for costs that do not depend on past runs.
    """
    problem = _unpriced(dag, chosen, launcher)
    if not uses_history:
        return replace(problem, costs=costs_without_history(dag))
    return _priced(problem, launcher, session.pending())


def _unpriced(dag: Dag, chosen: session.Settings, launcher: Launcher) -> Problem:
    """Returns the problem at default costs."""
    pool = session.wait(launcher.pool(dag.all_needs))
    return Problem(dag=dag, costs=Costs(), pool=pool, percentile=chosen.percentile)


def _planned(requested: Targets, chosen: session.Settings, launcher: Launcher) -> Plan:
    """Returns the plan of these targets, with its problem."""
    problem = problem_for(Dag.of(*requested.nodes), chosen, launcher)
    return replace(_plan_of(chosen.chosen_planner(), problem), problem=problem)


def _plan_of(planner: Planner, problem: Problem) -> Plan:
    planned = planner.plan(problem)
    planned.check(problem.dag)
    return planned


def _priced(problem: Problem, launcher: Launcher, recorded: session.Pending) -> Problem:
    """Returns the problem at costs learned from past runs on this platform.

    recorded: records of earlier runs to wait for. If the history cannot be read, costs are from the
    hints of @task alone, because a broken history must not stop a run.
    """
    session.wait_for(recorded, _LEARNING_S)
    try:
        is_agent_gone = problem.pool.is_agent_gone
        costs = expected_costs(problem.dag, knowledge(), launcher.name, is_agent_gone=is_agent_gone)
    except HistoryError as error:
        session.warn_once(error)
        costs = Costs.hinted(problem.dag)
    return replace(problem, costs=costs)


def _report(line: str) -> None:
    """Write a line about a preparation that takes long, or a choice that was made."""
    sys.stderr.write(f"dagnb: {line}\n")
    sys.stderr.flush()  # else a notebook shows the line only after the image is built


def workers(*, workers: Any = None) -> tuple[WorkerSlot, ...]:
    """Returns the processes and containers where tasks run now, or could at once.

    Starts nothing. Raises ConfigError, LaunchError.
    """
    launcher = session.settings(workers=workers).launcher()
    return session.wait(launcher.seats())


def everywhere() -> list[WorkerSlot]:
    """Returns the processes and containers of all installed launchers, the session's own first.

    Launchers that cannot be reached are left out.
    """
    slots = list(workers())
    for name in registry.names("launcher"):
        if name != session.settings().launcher().name:
            # A launcher whose Docker or agent is missing has no workers to show.
            with contextlib.suppress(DagnbError, ImportError):
                slots += workers(workers=name)
    return slots


def simulate(
    *targets: Any,
    planner: Any = None,
    workers: Any = None,
    costs: Costs | None = None,
) -> Trace:
    """Simulate the run in virtual time, with the code of real workers.

    costs: instead of those learned from past runs. Raises GraphError, PlanError, ConfigError.
    """
    chosen = session.settings(planner=planner, workers=workers)
    planned = _planned(Targets.of(*targets), chosen, chosen.launcher())
    problem = planned.problem
    assert problem is not None, "it was made for one"
    return simulate_plan(planned, costs or problem.costs, problem.pool)


def attach(run: str, *, store: Any = None, workers: Any = None) -> Run[Any]:
    """Returns a handle on a run that an earlier kernel started.

    run: its id, the beginning of it, its name, or 'last'.
    Raises RunMissingError, AmbiguousNameError.
    """
    chosen = session.settings(store=store, workers=workers)
    launcher = chosen.launcher()

    async def handle_of(run_id: str) -> Run[Any]:
        opened, _ = await session.store_for(chosen, launcher)
        handle: Run[Any] = Run(run_id, opened, launcher=launcher)
        await opened.observe(run_id)  # raises if there is no such run
        return handle

    if naming.is_run_id(run.strip()):  # the common case, which needs no list of all runs
        with contextlib.suppress(RunMissingError):
            return session.wait(handle_of(run.strip().upper()))
    return session.wait(handle_of(find_run(run, store=store, workers=workers).run))


def find_run(
    text: str,
    *,
    purpose: naming.Purpose = naming.Purpose.LOOK,
    store: Any = None,
    workers: Any = None,
    needs_store: bool = True,
) -> naming.KnownRun:
    """Returns the run meant by an id, the beginning of one, a name or 'last'; see protocol.naming.

    Of several runs with one name the newest is taken, and a line on stderr says so.
    needs_store: when False, a run of the history is enough, also when the store is out of reach.
    Raises AmbiguousNameError, UnknownRunError, RunNotStoredError.
    """
    known = known_runs(_stored(store, workers, needs_store=needs_store), kept_runs())
    match = naming.find_run(text, known, purpose)
    if needs_store and not match.run.is_stored:
        instead = [other.run for other in match.others if other.is_stored]
        raise RunNotStoredError(match.run.run, *instead[:1])
    if match.others:
        n_runs = len(match.others) + 1
        _report(
            f"{n_runs} runs are named '{text.strip()}'. The newest is taken: {match.run.line()}"
        )
    return match.run


def _stored(store: Any, workers: Any, *, needs_store: bool) -> list[RunLine]:
    try:
        return runs(store=store, workers=workers)
    except (StorageError, LaunchError) as error:
        if needs_store:
            raise
        _log.warning(
            "the store cannot be read, so only runs of the history are looked at: %s",
            error,
        )
        return []


def runs(*, store: Any = None, workers: Any = None) -> list[RunLine]:
    """Returns the runs that the store holds, newest first. Raises StorageError, LaunchError."""
    chosen = session.settings(store=store, workers=workers)

    async def listed() -> list[RunLine]:
        opened, _ = await session.store_for(chosen, chosen.launcher())
        return await opened.runs()

    return session.wait(listed())


def new_run_id() -> str:
    """Returns a ULID: 26 characters, sortable by time of creation.

    Source: github.com/ulid/spec.
    """
    # 48 bits of milliseconds, then 80 random ones.
    number = (int(time.time() * 1000) << 80) | secrets.randbits(80)
    return "".join(_BASE32[(number >> shift) & 31] for shift in range(125, -5, -5))


def _predicted_s(planned: Plan) -> float | None:
    """Returns the median makespan of a plan, seconds.

    Returns None where it is unknown, or where a simulation would take long.
    """
    plan_forecast = forecast_of(planned)
    if plan_forecast is None or not plan_forecast.is_known:
        return None
    # A cached property: a forecast that was computed before costs nothing.
    is_known = "forecast" in vars(plan_forecast)
    if len(planned.steps) > PRINTED_STEPS and not is_known:
        return None
    try:
        return plan_forecast.forecast.p50_s
    except DagnbError:  # a plan that does not fit its DAG
        return None


# Nodes, DAGs, plans and traces call the client by this hook: their rooms may not import it.
client_hook.set_client(
    client_hook.Client(
        run=run,
        plan=plan,
        simulate=simulate,
        show=bundle,
        predicted_s=_predicted_s,
    )
)
