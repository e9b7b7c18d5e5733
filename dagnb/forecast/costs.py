"""The expected costs of a run, from history: sizes first, task by task down the DAG, then times.

    bytes read ---> output size ---> bytes that the next tasks read ---> ...
        |               |
        v               v
    run, unpickle     pickle

Sizes and times are medians of predictions, bytes and seconds.

They are predicted from what a process knows of the history, see knowledge.py.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from statistics import median, pstdev
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from dagnb.forecast.failures import failure_laws, usual_failures
from dagnb.graph.brief import brief
from dagnb.graph.dag import Call, Dag
from dagnb.graph.identity import identity
from dagnb.graph.lineage import lineage
from dagnb.graph.resources import Resources
from dagnb.planning.planner import Costs, LinearCost, StartCost, Uncertainty
from dagnb.prediction.estimate import Estimate, equally_likely
from dagnb.prediction.observation import Target
from dagnb.prediction.platform_model import (
    DEFAULT_START_SPREAD,
    START_FLOOR_S,
    MeasuredStart,
    Starts,
    Transfer,
    starts,
    transfer,
)
from dagnb.prediction.predictor import Predictor
from dagnb.prediction.run_errors import TaskContribution
from dagnb.run_history.platform_act import AGENT_GONE, Act
from dagnb.trace.trace import STARTING, Phase

if TYPE_CHECKING:
    from dagnb.forecast.knowledge import Knowledge


@dataclass(frozen=True, kw_only=True)
class Platform:
    """The costs of one platform's own acts.

    starts: whole ones, by resources. acts: (phase, 'cold' or 'warm') -> median seconds of that part
    of a start. imports: lasting hash of a function -> seconds that its tasks import in each worker,
    as in the latest run. start_residuals, import_residuals: logs of real over predicted time, for
    starts by whether they are warm, for imports by function; ascending and equally likely.
    is_agent_gone: cold starts are those that wait for the agent, too.
    n: number of measured acts behind these costs.
    """

    fetch: LinearCost = Costs.fetch
    store: LinearCost = Costs.store
    commit: LinearCost = field(default_factory=lambda: LinearCost(Costs.commit_s))
    program_s: float = Costs.program_s
    submit_s: float = Costs.submit_s
    return_s: float = Costs.return_s
    transfer_spread: float = 0.5
    starts: Starts = field(default_factory=Starts)
    acts: Mapping[tuple[Phase, str], float] = field(default_factory=dict)
    imports: Mapping[str, float] = field(default_factory=dict)
    start_residuals: Mapping[bool, Sequence[float]] = field(default_factory=dict)
    import_residuals: Mapping[str, Sequence[float]] = field(default_factory=dict)
    is_agent_gone: bool = False
    n: int = 0

    __repr__ = brief

    def start(self, resources: Resources, *, is_warm: bool) -> StartCost:
        """Returns the cost of a start by act: each has its median, INVOKE the rest of the whole."""
        total_s = self.starts.seconds(resources, is_cold=not is_warm).p50
        detail = "warm" if is_warm else "cold"
        usual = {phase: self.acts.get((phase, detail), 0.0) for phase in STARTING[1:]}
        usual_s = sum(usual.values())
        # The medians of the parts are over all resources, the whole is for these: the parts may
        # exceed it.
        part = min(1.0, total_s / usual_s) if usual_s else 1.0
        return StartCost(
            invoke_s=total_s - part * usual_s,
            create_s=part * usual[Phase.CREATE],
            boot_s=part * usual[Phase.BOOT],
            import_s=part * usual[Phase.IMPORT],
            register_s=part * usual[Phase.REGISTER],
        )


def platform(acts: Sequence[Act], *, is_agent_gone: bool = False) -> Platform:
    """Returns the model of measured acts, newest first; those never measured keep their default.

    is_agent_gone: cold starts are those for which the agent was started, too.
    """
    acts = _with_starts_of(acts, is_agent_gone=is_agent_gone)
    by_phase: dict[Phase, list[Act]] = {}
    by_start: dict[tuple[Phase, str], list[float]] = {}
    imports: dict[str, list[float]] = {}
    for act in acts:
        by_phase.setdefault(act.phase, []).append(act)
        if act.imports_for:
            imports.setdefault(act.imports_for, []).append(act.seconds)
        elif act.phase in STARTING[1:]:
            by_start.setdefault((act.phase, act.detail), []).append(act.seconds)

    fetch, store = _transfer(by_phase, Phase.FETCH), _transfer(by_phase, Phase.STORE)
    commit = _transfer(by_phase, Phase.COMMIT, RELEASE_S_PER_BYTE)
    spreads = [model.spread for model in (fetch, store) if model is not None]
    measured_starts = []
    for act in by_phase.get(Phase.INVOKE, ()):
        is_cold = act.detail == "cold"
        measured_starts.append(MeasuredStart(act.resources, is_cold, act.seconds))
    start_models = starts(measured_starts)
    start_residuals = _start_residuals(measured_starts, start_models)
    if is_agent_gone and False not in start_residuals:
        start_residuals[False] = equally_likely((), DEFAULT_START_SPREAD)
    return Platform(
        fetch=_cost(fetch, Costs.fetch),
        store=_cost(store, Costs.store),
        commit=_cost(commit, LinearCost(Costs.commit_s)),
        program_s=_typical_s(by_phase, Phase.PROGRAM, Costs.program_s),
        submit_s=_typical_s(by_phase, Phase.SUBMIT, Costs.submit_s),
        return_s=_typical_s(by_phase, Phase.RETURN, Costs.return_s),
        # At most a factor of e: a few odd transfers must not dominate all scenarios.
        transfer_spread=min(1.0, max(spreads, default=Platform.transfer_spread)),
        starts=start_models,
        acts={kind: median(seconds) for kind, seconds in by_start.items()},
        # The latest, not a median: from the second run on, an import server may have the modules,
        # and then the imports of all later runs take as little as those of that run.
        imports={function: seconds[0] for function, seconds in imports.items()},
        start_residuals=start_residuals,
        is_agent_gone=is_agent_gone,
        import_residuals=_import_residuals(imports),
        n=len(acts),
    )


def _with_starts_of(acts: Sequence[Act], *, is_agent_gone: bool) -> list[Act]:
    """Returns the acts with the cold starts of one state of the agent, all others left out."""
    other = "cold" if is_agent_gone else AGENT_GONE
    kept = []
    for act in acts:
        if act.detail == AGENT_GONE and is_agent_gone:
            kept.append(replace(act, detail="cold"))
        elif act.detail != other:
            kept.append(act)
    return kept


def _start_residuals(
    measured: Sequence[MeasuredStart], models: Starts
) -> dict[bool, tuple[float, ...]]:
    """Returns how measured starts differ from what is expected of their resources: warm, cold."""
    expected_s: dict[tuple[str, bool], float] = {}
    errors: dict[bool, list[tuple[float, float]]] = {}
    for start in measured:
        kind = start.resources.kind, start.is_cold
        if kind not in expected_s:
            expected_s[kind] = models.seconds(start.resources, is_cold=start.is_cold).p50
        error = math.log(max(START_FLOOR_S, start.seconds) / expected_s[kind])
        errors.setdefault(not start.is_cold, []).append((error, 1.0))
    residuals = {}
    for is_warm, pairs in errors.items():
        residuals[is_warm] = equally_likely(pairs, START_SIGMA)
    return residuals


def _import_residuals(imports: Mapping[str, Sequence[float]]) -> dict[str, tuple[float, ...]]:
    """Returns how imports differ from those of the latest run, by function. Newest first.

    They are as those of one of the runs before: an import server that has them comes and goes.
    """
    by_function = {}
    for function, seconds in imports.items():
        errors: list[tuple[float, float]] = []
        weight = 1.0
        for past_s in seconds:
            if past_s > 0 and seconds[0] > 0:
                error = math.log(past_s / seconds[0])
                # A kernel, as imports that take as long to the millisecond are chance.
                errors += [(error + IMPORT_SIGMA * score, weight) for score in (-0.5, 0.0, 0.5)]
            weight *= _RECENT_IMPORTS
        by_function[function] = equally_likely(errors, IMPORT_SIGMA)
    return by_function


def _transfer(
    by_phase: Mapping[Phase, Sequence[Act]], phase: Phase, usual: float = Costs.fetch.s_per_byte
) -> Transfer | None:
    acts = by_phase.get(phase)
    if not acts:
        return None
    return transfer([(act.n_bytes, act.seconds) for act in acts], usual)


def _cost(model: Transfer | None, default: LinearCost) -> LinearCost:
    if model is None:
        return default
    return LinearCost(model.latency_s, model.s_per_byte)


def _typical_s(by_phase: Mapping[Phase, Sequence[Act]], phase: Phase, default_s: float) -> float:
    acts = by_phase.get(phase)
    if not acts:
        return default_s
    # A median: one slow submission after a pause must not become the cost of all.
    return median(act.seconds for act in acts)


# A commit also frees what its task held: memory is given back at about 10 GB/s.
RELEASE_S_PER_BYTE = 1e-10
# Standard deviations of log times while few were measured: starts and imports of one platform are
# mostly alike.
START_SIGMA, IMPORT_SIGMA = 0.2, 0.3
# The weight of a run's imports, relative to the next newer one.
_RECENT_IMPORTS = 0.7


@dataclass(slots=True)
class _TaskCosts:
    """The costs of tasks, collected in the order of the DAG."""

    run: dict[int, Estimate] = field(default_factory=dict)
    run_s: dict[int, float] = field(default_factory=dict)
    output_bytes: dict[int, int] = field(default_factory=dict)
    argument_bytes: dict[int, int] = field(default_factory=dict)
    known_s: dict[tuple[int, str], float] = field(default_factory=dict)

    def add(self, task: int, predicted: _Predicted) -> None:
        """Add what is predicted of a task."""
        self.run[task], self.run_s[task] = predicted.run, predicted.run.p50
        self.output_bytes[task] = predicted.output_bytes
        self.known_s[task, "load"] = predicted.load_s
        self.known_s[task, "dump"] = predicted.dump_s


class _Predicted(NamedTuple):
    """The predictions of one task: run time, bytes of its result, seconds of pickling."""

    run: Estimate
    output_bytes: int
    load_s: float
    dump_s: float


class _Predictions:
    """The predictions of the tasks of one DAG. Equal tasks, of which a wide DAG has many, share."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self._known_calls: dict[tuple[str, str], Set[str]] = {}
        self._made: dict[tuple[object, ...], _Predicted] = {}

    def of(self, call: Call, code: str, key: str, input_bytes: int) -> _Predicted:
        """Returns the predictions of a task. code, key: see expected_costs."""
        function = (code, call.function)
        if function not in self._known_calls:
            self._known_calls[function] = self._predictor.known_calls(*function)
        # Keys differ from task to task. Most are new, and a new one changes no prediction.
        if key not in self._known_calls[function]:
            key = ""
        kind = (code, call.function, id(call.options), input_bytes, key)
        predicted = self._made.get(kind)
        if predicted is None:
            predicted = self._made[kind] = self._new(call, code, key, input_bytes)
        return predicted

    def _new(self, call: Call, code: str, key: str, input_bytes: int) -> _Predicted:
        options = call.options

        def estimate(target: Target, n_bytes: int) -> Estimate:
            needs, name = options.needs, call.function
            return self._predictor.predict(target, code, name, n_bytes, needs, options, key)

        output_bytes = round(estimate(Target.OUTPUT, input_bytes).p50)
        return _Predicted(
            run=estimate(Target.RUN, input_bytes),
            output_bytes=output_bytes,
            load_s=estimate(Target.LOAD, input_bytes).p50,
            dump_s=estimate(Target.DUMP, output_bytes).p50,
        )


def expected_costs(
    dag: Dag,
    knowledge: Knowledge,
    platform: str,
    codes: Sequence[str] = (),
    keys: Sequence[str] = (),
    argument_bytes: Mapping[int, int] = MappingProxyType({}),
    *,
    is_agent_gone: bool = False,
) -> Costs:
    """Returns the expected cost of every act of a run of this DAG. O(tasks + edges).

    codes, keys, argument_bytes: by task, for a DAG without nodes: the lasting hash of its function
    (graph/identity.py), the hash of its call (graph/lineage.py), the bytes of its arguments that
    are no nodes. is_agent_gone: see Pool.
    Raises HistoryError.
    """
    predictor = knowledge.predictor({call.function for call in dag.calls})
    acts = knowledge.platform(platform, is_agent_gone=is_agent_gone)
    return _costs(dag, predictor, acts, codes, keys, argument_bytes)


def costs_without_history(dag: Dag) -> Costs:
    """Returns the expected costs as long as nothing has run: hints of @task, and defaults."""
    return _costs(dag, Predictor(), Platform())


def _costs(
    dag: Dag,
    predictor: Predictor,
    acts: Platform,
    codes: Sequence[str] = (),
    keys: Sequence[str] = (),
    argument_bytes: Mapping[int, int] = MappingProxyType({}),
) -> Costs:
    # If there are neither nodes nor codes, functions are recognised by their names alone.
    unknown = [""] * len(dag)
    codes, keys = codes or codes_of(dag) or unknown, keys or lineage(dag) or unknown
    predictions = _Predictions(predictor)
    tasks = _TaskCosts(argument_bytes=dict(argument_bytes))
    for task, call in enumerate(dag.calls):
        if dag.nodes:
            tasks.argument_bytes[task] = dag.nodes[task].packed.n_bytes
        # Tasks come in topological order, so the sizes of all upstream values are predicted by now.
        input_bytes = tasks.argument_bytes.get(task, 0)
        for u in call.upstream:
            input_bytes += tasks.output_bytes[u]
        tasks.add(task, predictions.of(call, codes[task], keys[task], input_bytes))

    import_s = {}
    for task, code in enumerate(codes):
        if code in acts.imports:
            import_s[task] = acts.imports[code]
    laws = failure_laws(dag, codes, predictor.failure_model)
    uncertainty = _uncertainty(tasks, predictor, dag, codes, acts)
    return Costs(
        run_s=tasks.run_s,
        output_bytes=tasks.output_bytes,
        argument_bytes=tasks.argument_bytes,
        known_s=tasks.known_s,
        import_s=import_s,
        failures=usual_failures(laws, tasks.run_s),
        fetch=acts.fetch,
        store=acts.store,
        commit_s=acts.commit.base_s,
        release=LinearCost(0.0, acts.commit.s_per_byte),
        program_s=acts.program_s,
        submit_s=acts.submit_s,
        return_s=acts.return_s,
        **_starts(acts, dag.all_needs),
        uncertainty=replace(uncertainty, failures=laws),
        basis={task: estimate.basis for task, estimate in tasks.run.items()},
    )


def codes_of(dag: Dag) -> tuple[str, ...]:
    """Returns the lasting hash of each task's function; nothing for a DAG without nodes."""
    # Hashing a function is slow, and a wide DAG calls few functions often.
    by_task: dict[int, str] = {}
    for node in dag.nodes:
        if id(node.task) not in by_task:
            by_task[id(node.task)] = identity(node.task.function)
    return tuple(by_task[id(node.task)] for node in dag.nodes)


def _uncertainty(
    tasks: _TaskCosts,
    predictor: Predictor,
    dag: Dag,
    codes: Sequence[str],
    acts: Platform,
) -> Uncertainty:
    """Returns the spread of run times, starts, imports and transfers."""
    contributions = []
    own: dict[int, float] = {}
    new_code: dict[int, float] = {}
    new_sizes: dict[int, float] = {}
    residuals: dict[int, tuple[float, ...]] = {}
    imports: dict[str, Sequence[float]] = {}
    # Equal functions share their residuals, which cost as much as a prediction.
    laws: dict[tuple[str, str, bool], tuple[tuple[float, ...], float]] = {}
    spread_of = functools.cache(pstdev)  # functions never measured have one law
    for task, call in enumerate(dag.calls):
        name, estimate = call.function, tasks.run[task]
        is_same_call = estimate.is_same_call
        kind = (codes[task], name, is_same_call)
        if kind not in laws:
            law = predictor.residuals(codes[task], name, is_same_call=is_same_call)
            laws[kind] = law, spread_of(law)
            if codes[task] in acts.import_residuals:
                imports[name] = acts.import_residuals[codes[task]]
        residuals[task], own[task] = laws[kind]
        if estimate.code_sigma:
            new_code[task] = estimate.code_sigma
        if estimate.size_sigma:
            new_sizes[task] = estimate.size_sigma
        # Unmeasured functions have no past errors.
        if estimate.is_known:
            contributions.append(TaskContribution(name, tasks.run_s[task], own[task], is_same_call))

    past, noise = predictor.past_errors(contributions)
    return Uncertainty(
        run=own,
        residuals=residuals,
        batch=noise,
        past=past,
        functions={task: call.function for task, call in enumerate(dag.calls)},
        new_code=new_code,
        new_sizes=new_sizes,
        imports=imports,
        start=START_SIGMA,
        start_residuals=acts.start_residuals,
        transfer=acts.transfer_spread,
    )


def _starts(acts: Platform, needs: Set[Resources]) -> dict[str, Any]:
    """Returns the fields of Costs about starts; those never measured keep their defaults."""
    starts: dict[tuple[Resources, bool], StartCost] = {}
    fields: dict[str, Any] = {"starts": starts}
    for is_warm, name in ((True, "warm"), (False, "cold")):
        is_measured = (not is_warm) in acts.starts.models
        # Of the agent's start something is known without a measurement: it takes long.
        if not is_measured and (is_warm or not acts.is_agent_gone):
            continue
        for resources in needs:
            starts[resources, is_warm] = acts.start(resources, is_warm=is_warm)
        fields[name] = acts.start(Resources(), is_warm=is_warm)
    return fields
