"""The measurements of past runs, in one SQLite file.

    samples   of functions: durations and sizes of single tasks     -> prediction
    acts      of platforms: starts, transfers, round trips          -> costs of a platform
    runs      whole runs: description and trace                     -> replays, comparisons

A run is recorded when it is over and its last spans have come: by the client that fetched its
result, or by the process that hosted its workers, where that client has ended. The second call
finds the run recorded and changes nothing.
SQLite because it is in every Python, survives a kill at any moment, and lets several processes
write.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
import sqlite3
import zlib
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgpack

from dagnb.errors import ConfigError, HistoryError, RunMissingError
from dagnb.graph.resources import Resources
from dagnb.planning.plan import Forecast
from dagnb.prediction.observation import Sample, samples
from dagnb.protocol.messages import Observation, RunState
from dagnb.protocol.naming import KnownRun, newest_first
from dagnb.protocol.run_description import RunDescription
from dagnb.run_history.database import Schema, opened
from dagnb.run_history.platform_act import KINDS_OF_START, Act, acts, import_acts
from dagnb.run_history.saved_states import forget_states
from dagnb.storage.home import data_directory
from dagnb.storage.interface import RunLine, Store
from dagnb.trace.chunk import is_last, packed, unpacked
from dagnb.trace.trace import LATE_S, Phase, Span, Trace

T = TypeVar("T")

_log = logging.getLogger(__name__)

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.01, 0.1

# Whole runs stored; older ones are dropped.
RUNS = 1_000
# Bytes of whole runs stored, packed: runs of many tasks are large.
RUN_BYTES = 256 * 2**20
# Samples stored of each function.
SAMPLES = 2_000
# Acts stored of each kind (phase, and whether a start was cold) on each platform.
ACTS = 300


# A mark that stays until everything is forgotten.
_MARK = "insert into birth values (lower(hex(randomblob(8))))"

SCHEMA = Schema(
    version=4,
    tables=("runs", "samples", "acts", "birth"),
    upgrades={3: "alter table samples add column failed text"},
    script=f"""
create table runs (
    run text primary key, name text, planner text, platform text, state text,
    submitted_at real, makespan_s real, p50_s real, n_steps int, story text, trace blob, n_bytes int
) without rowid;
create index runs_by_time on runs (submitted_at, run, n_bytes);
create table samples (
    id integer primary key autoincrement, run text, function text, name text, resources text,
    input_bytes int, output_bytes int, load_s real, run_s real, dump_s real, ended_at real,
    key text, failed text
);
create index samples_by_name on samples (name, id);
create table acts (
    id integer primary key autoincrement, run text, platform text, phase text, detail text,
    resources text, n_bytes int, seconds real
);
create index acts_by_kind on acts (platform, phase, detail, id);
create table birth (mark text);
{_MARK}
""",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry:
    """One run in the history.

    makespan_s: measured. p10_s, p50_s, p90_s: its forecast, None where there was none.
    state: the value of a RunState.
    """

    run: str
    name: str
    planner: str
    platform: str
    state: str
    submitted_at: float
    makespan_s: float
    p50_s: float | None
    n_steps: int
    p10_s: float | None = None
    p90_s: float | None = None

    @property
    def in_band(self) -> bool | None:
        """True if it took as long as forecast for 8 in 10 runs.

        It is None without a forecast, or if the run did not end well.
        """
        if self.p10_s is None or self.p90_s is None or self.state != RunState.OK.value:
            return None
        return self.p10_s <= self.makespan_s <= self.p90_s


class RunSamples(NamedTuple):
    """Samples of one run. number: of the first one; larger for runs that were recorded later."""

    run: str
    number: int
    samples: list[Sample]


class History:
    """The history file; opened for each use, so no connection is held between calls."""

    def __init__(self, path: Path | None = None) -> None:
        """Opens nothing yet. path: of the file; by default that of the user, in the data directory.

        Raises HistoryError when there is no usable data directory.
        """
        try:
            self.path = path if path is not None else data_directory() / "history.sqlite"
        except ConfigError as error:
            raise HistoryError(f"there is no history of runs: {error}") from error

    def record(self, run: str, description: RunDescription, state: RunState, trace: Trace) -> bool:
        """Stores a run that is over. Returns False if it was stored before. Raises HistoryError."""
        # Packing a large trace takes half a second: not for a run that is known.
        if self.knows(run):
            return False
        resources = [description.needs_of(step) for step in range(len(description.names))]
        measured: Sequence[Sample] = ()
        if description.codes:
            measured = samples(
                trace, description.codes, description.functions, resources, description.keys
            )
        # Of a large run most would be deleted again at once.
        newest_samples = first_of_each(reversed(measured), attrgetter("name"), SAMPLES)
        pool = description.pool
        is_agent_gone = pool is not None and pool.is_agent_gone
        run_acts = acts(trace, resources, is_agent_gone=is_agent_gone)
        all_acts = [*run_acts, *import_acts(trace, description.codes)]
        newest_acts = first_of_each(reversed(all_acts), attrgetter("kind"), ACTS)
        platform_acts = list(map(_act_row, reversed(newest_acts)))
        row = _run_row(run, description, state, trace)

        with self._open() as db:
            kept = db.execute(
                "insert or ignore into runs values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row
            )
            # Another process recorded it since.
            if not kept.rowcount:
                return False
            db.executemany(
                "insert into samples values (null, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [(run, *_sample_row(sample)) for sample in reversed(newest_samples)],
            )
            db.executemany(
                "insert into acts values (null, ?, ?, ?, ?, ?, ?, ?)",
                [(run, description.platform, *act) for act in platform_acts],
            )
            names = {sample.name for sample in newest_samples}
            _prune(db, names, description.platform, {act.kind for act in newest_acts})
        return True

    def knows(self, run: str) -> bool:
        """Returns True if this run is stored. Raises HistoryError."""
        with self._open() as db:
            return db.execute("select 1 from runs where run = ?", (run,)).fetchone() is not None

    def runs(self, limit: int = 100) -> list[HistoryEntry]:
        """Returns the newest runs, newest first."""
        with self._open() as db:
            # Lists need two numbers of the description, which may be megabytes: SQLite extracts
            # them.
            rows = db.execute(
                "select run, name, planner, platform, state, submitted_at, makespan_s, p50_s,"
                " n_steps, json_extract(story, '$.forecast.p10_s'),"
                " json_extract(story, '$.forecast.p90_s')"
                " from runs order by submitted_at desc limit ?",
                (limit,),
            ).fetchall()
        names = [field.name for field in fields(HistoryEntry)]
        return [HistoryEntry(**dict(zip(names, row, strict=True))) for row in rows]

    def run(self, run: str) -> tuple[RunDescription, Trace]:
        """Returns a whole run. Raises RunMissingError, HistoryError."""
        with self._open() as db:
            row = db.execute("select story, trace from runs where run = ?", (run,)).fetchone()
        if row is None:
            raise RunMissingError(run)
        try:
            return RunDescription.read(row[0]), _unpacked_trace(row[1])
        except (zlib.error, ValueError, KeyError, TypeError) as error:
            problem = f"run {run} is kept in {self.path} and cannot be read: {error!r}"
            raise HistoryError(f"{problem}. Run it again.") from error

    def samples(self, names: Sequence[str], after: int = 0) -> tuple[list[RunSamples], int]:
        """Returns the samples of functions of these names, run by run, oldest first.

        after: number of the last sample that is known. The second value is that of the last one
        returned, to be passed next time.
        """
        with self._open() as db:
            rows = db.execute(
                "select id, run, function, name, resources, input_bytes, output_bytes, load_s,"
                " run_s, dump_s, ended_at, key, failed from samples"
                " where id > ? and name in (select value from json_each(?)) order by id",
                (after, json.dumps(list(names))),
            ).fetchall()
        runs: dict[str, RunSamples] = {}
        for number, run, *row in rows:
            if run not in runs:
                runs[run] = RunSamples(run, number, [])
            runs[run].samples.append(_sample(row))
        return list(runs.values()), rows[-1][0] if rows else after

    def newest_sample(self) -> int:
        """Returns the number of the sample that was recorded last, 0 before the first."""
        with self._open() as db:
            row = db.execute("select seq from sqlite_sequence where name = 'samples'").fetchone()
        return row[0] if row is not None else 0

    def acts(self, platform: str, after: int = 0) -> tuple[list[Act], int]:
        """Returns the acts of a platform, newest first. after, second value: see `samples`."""
        with self._open() as db:
            rows = db.execute(
                "select id, phase, detail, resources, n_bytes, seconds from acts"
                " where platform = ? and id > ? order by id desc",
                (platform, after),
            ).fetchall()
        platform_acts = []
        for _, phase, detail, text, n_bytes, seconds in rows:
            act = Act(
                phase=Phase(phase),
                detail=detail,
                resources=_resources(text),
                n_bytes=n_bytes,
                seconds=seconds,
            )
            platform_acts.append(act)
        return platform_acts, rows[0][0] if rows else after

    def functions(self) -> list[tuple[str, int]]:
        """Returns (name, samples stored) of every known function, by name."""
        with self._open() as db:
            return db.execute(
                "select name, count(*) from samples group by name order by name"
            ).fetchall()

    def birth(self) -> str:
        """Returns a mark that stays until everything is forgotten.

        Content that was read under another mark is outdated.
        """
        with self._open() as db:
            mark: str = db.execute("select mark from birth").fetchone()[0]
        return mark

    def forget(self) -> None:
        """Deletes everything."""
        with self._open() as db:
            for table in SCHEMA.tables:
                db.execute(f"delete from {table}")  # noqa: S608  # names of ours
            # A new mark: processes that have read the old content must not go on using it.
            db.execute(_MARK)
        forget_states(self.path)

    def _open(self) -> contextlib.AbstractContextManager[sqlite3.Connection]:
        return opened(self.path, SCHEMA)


# ---- runs that are over ----


async def record_finished(
    store: Store, run: str, history: History, forecast: Forecast | None = None
) -> bool:
    """Record a run that is over, once its trace is complete.

    forecast: of its plan, where this process has made one.
    Returns False where nothing was recorded: the run goes on, has no description, or the history
    knows it.
    Raises RunMissingError, StorageError, HistoryError.
    """
    seen, spans = await _settled(store, run)
    if seen.state is RunState.RUNNING or not seen.meta:
        return False

    description = RunDescription.read(seen.meta)
    if forecast is not None:
        description = description.with_forecast(forecast)
    trace = Trace.of(
        spans,
        description.names,
        submitted_s=seen.submitted_at,
        finished_s=seen.finished_at,
    )
    record = functools.partial(history.record, run, description, seen.state, trace)
    try:
        # sqlite blocks, and the loop of this process serves other runs meanwhile.
        recorded = asyncio.get_running_loop().run_in_executor(None, record)
    except RuntimeError:
        # The interpreter is ending, as it does right after the last line of a script: executors
        # take no more work, though this loop still runs, and the exit waits for it.
        return record()
    return await recorded


async def _settled(store: Store, run: str) -> tuple[Observation, list[Span]]:
    """Wait until every instance of a finished run has uploaded its spans, or LATE_S after its end.

    Returns the run as it is now and its spans; at once while it still runs.
    """
    spans: list[Span] = []
    n_chunks = n_left = 0
    pause_s = _FIRST_PAUSE_S
    while True:
        # The state first: spans read before it would lack those that came with the last commit.
        seen = await store.observe(run)
        chunks = await store.spans(run, n_chunks)
        n_chunks += len(chunks)
        n_left += sum(map(is_last, chunks))
        for chunk in chunks:
            spans += unpacked(chunk)

        is_complete = n_left >= seen.n_instances or seen.now - seen.finished_at > LATE_S
        if seen.state is RunState.RUNNING or is_complete:
            return seen, spans
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def kept_runs() -> list[HistoryEntry]:
    """Returns the runs of the user's history; none where it cannot be read."""
    try:
        return History().runs(RUNS)
    except HistoryError as error:
        # Runs of the store can be listed without it.
        _log.warning("the history cannot be read, so only runs in the store are listed: %s", error)
        return []


def known_runs(stored: Iterable[RunLine], kept: Iterable[HistoryEntry]) -> list[KnownRun]:
    """Returns both lists as one, newest first, each run once."""
    in_history = {entry.run: entry for entry in kept}
    known = []
    for line in stored:
        # If both have a run, the line of the store is used, because its state is the current one.
        run = KnownRun(
            run=line.run,
            name=line.name,
            state=line.state,
            submitted_at=line.submitted_at,
            is_kept=in_history.pop(line.run, None) is not None,
        )
        known.append(run)
    for entry in in_history.values():
        run = KnownRun(
            run=entry.run,
            name=entry.name,
            state=RunState(entry.state),
            submitted_at=entry.submitted_at,
            is_stored=False,
            is_kept=True,
        )
        known.append(run)
    return newest_first(known)


# ---- rows ----


def first_of_each(items: Iterable[T], kind_of: Callable[[T], Hashable], most: int) -> list[T]:
    """Returns the first `most` items of each kind, in their order."""
    counts: Counter[Hashable] = Counter()
    kept = []
    for item in items:
        kind = kind_of(item)
        counts[kind] += 1
        if counts[kind] <= most:
            kept.append(item)
    return kept


def _prune(
    db: sqlite3.Connection,
    names: set[str],
    platform: str,
    kinds: set[tuple[Phase, str]],
) -> None:
    """Deletes all but the newest samples, acts and runs. kinds: of acts."""
    # Only functions and kinds that this run added to: the others were pruned before.
    for name in names:
        db.execute(
            "delete from samples where name = ? and id <= (select id from samples where name = ?"
            " order by id desc limit 1 offset ?)",
            (name, name, SAMPLES),
        )
    for phase, detail in kinds:
        kind = phase.value, detail
        db.execute(
            "delete from acts where platform = ? and phase = ? and detail = ? and id <="
            " (select id from acts where platform = ? and phase = ? and detail = ?"
            " order by id desc limit 1 offset ?)",
            (platform, *kind, platform, *kind, ACTS),
        )
    if (Phase.IMPORT, "") in kinds:
        imports = (platform, Phase.IMPORT.value, *KINDS_OF_START)
        db.execute(
            "delete from acts where platform = ? and phase = ? and detail not in (?, ?, ?)"
            " and id <="
            " (select id from acts where platform = ? and phase = ? and detail not in (?, ?, ?)"
            " order by id desc limit 1 offset ?)",
            (*imports, *imports, ACTS),
        )
    # Counting uses the index runs_by_time; the window over all runs is only needed at a limit.
    count, total = db.execute("select count(*), sum(n_bytes) from runs").fetchone()
    if count > RUNS or total > RUN_BYTES:
        # The newest run stays even if it alone is larger than all may be.
        db.execute(
            "delete from runs where run in (select run from"
            " (select run, row_number() over newest as place, sum(n_bytes) over newest as total"
            " from runs window newest as (order by submitted_at desc, run desc))"
            " where place > ? or (total > ? and place > 1))",
            (RUNS, RUN_BYTES),
        )


def _packed_trace(trace: Trace) -> bytes:
    """Returns the trace in a tenth of the bytes of its JSON, in a tenth of the time."""
    parts = [trace.names, trace.submitted_s, trace.finished_s, packed(trace.spans)]
    return zlib.compress(msgpack.packb(parts), 6)


def _unpacked_trace(blob: bytes) -> Trace:
    names, submitted_s, finished_s, spans = msgpack.unpackb(zlib.decompress(blob))
    return Trace.of(unpacked(spans), names, submitted_s=submitted_s, finished_s=finished_s)


def _run_row(
    run: str, description: RunDescription, state: RunState, trace: Trace
) -> tuple[object, ...]:
    """Returns the columns of the table `runs`, in their order."""
    blob = _packed_trace(trace)
    p50_s = description.forecast.p50_s if description.forecast is not None else None
    n_bytes = len(blob) + len(description.meta)
    times = (trace.submitted_s, trace.makespan_s, p50_s)
    texts = (run, description.name, description.planner, description.platform, state.value)
    return (*texts, *times, len(description.names), description.meta, blob, n_bytes)


def _sample_row(sample: Sample) -> tuple[object, ...]:
    times = (sample.load_s, sample.run_s, sample.dump_s, sample.ended_at, sample.key)
    sizes = (sample.input_bytes, sample.output_bytes)
    # Most tasks never failed.
    failed = json.dumps(sample.failed) if sample.failed else ""
    resources = _resources_text(sample.resources)
    return (sample.function, sample.name, resources, *sizes, *times, failed)


def _act_row(act: Act) -> tuple[object, ...]:
    return act.phase.value, act.detail, _resources_text(act.resources), act.n_bytes, act.seconds


def _sample(row: Sequence[Any]) -> Sample:
    names = [field.name for field in fields(Sample)]
    values: dict[str, Any] = dict(zip(names, row, strict=True))
    failed = json.loads(values["failed"]) if values["failed"] else ()
    resources = _resources(values["resources"])
    return Sample(**values | {"resources": resources, "failed": tuple(map(tuple, failed))})


@functools.lru_cache(maxsize=1_000)
def _resources_text(resources: Resources) -> str:
    return json.dumps(
        [resources.cpus, resources.memory_mb, resources.requirements, resources.network]
    )


# Thousands of samples name the same few resources.
@functools.lru_cache(maxsize=1_000)
def _resources(text: str) -> Resources:
    cpus, memory_mb, requirements, network = json.loads(text)
    return Resources(
        cpus=cpus, memory_mb=memory_mb, requirements=tuple(requirements), network=network
    )
