"""What past runs taught, in one SQLite file: samples of functions, acts of platforms, whole runs for replays.

Written by whoever sees a run end first, the client or the agent; who comes second adds nothing. SQLite because it is in
every Python, survives a kill at any moment, and lets several processes write.
"""

from __future__ import annotations

import contextlib
import functools
import json
import sqlite3
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import msgpack

from dagnb.errors import ConfigError, HistoryError, RunMissingError
from dagnb.graph.resources import Resources
from dagnb.protocol.messages import RunState
from dagnb.protocol.run_description import RunDescription
from dagnb.run_history.act import Act, acts
from dagnb.run_history.database import forget, opened
from dagnb.storage.home import data_directory
from dagnb.trace.sample import Sample, samples
from dagnb.trace.span import Phase, packed, unpacked
from dagnb.trace.trace import Trace

RUNS = 1_000
"""whole runs kept, newest first"""
RUN_BYTES = 256 * 2**20
"""and no more than so many bytes of them, packed"""
SAMPLES = 2_000
"""of each function"""
ACTS = 300
"""of each kind (phase, and whether a start was cold) on each platform"""


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry:
    """One line of the history. makespan_s: real. p10_s, p50_s, p90_s: foretold, None where nobody said."""

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
        """Whether it took as long as was foretold for 8 of 10; None where nobody said, or it did not end well."""
        if self.p10_s is None or self.p90_s is None or self.state != RunState.OK.value:
            return None
        return self.p10_s <= self.makespan_s <= self.p90_s


class History:
    """Opened for each use: no connection is held while nobody reads or writes."""

    def __init__(self, path: Path | None = None) -> None:
        """By default the user's own, in the data directory. Raises HistoryError when there can be none."""
        try:
            self.path = path if path is not None else data_directory() / "history.sqlite"
        except ConfigError as error:
            raise HistoryError(f"there is no history of runs: {error}") from error

    def record(self, run: str, description: RunDescription, state: RunState, trace: Trace) -> bool:
        """Keep a run that is over. False: it is known. Raises HistoryError."""
        if self.knows(run):
            return False
        resources = [description.needs_of(step) for step in range(len(description.names))]
        taught = (
            samples(trace, description.codes, description.functions, resources, description.keys)
            if description.codes
            else ()
        )
        blob = _blob(trace)
        with self._open() as db:
            row = (
                run,
                description.name,
                description.planner,
                description.platform,
                state.value,
                trace.submitted_s,
                trace.makespan_s,
            )
            p50_s = description.forecast.p50_s if description.forecast is not None else None
            kept = db.execute(
                "insert or ignore into runs values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *row,
                    p50_s,
                    len(description.names),
                    description.meta,
                    blob,
                    len(blob) + len(description.meta),
                ),
            )
            if not kept.rowcount:
                return False
            db.executemany(
                "insert into samples values (null, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [(run, *_row(sample)) for sample in taught],
            )
            seen = [_act_row(act) for act in acts(trace, resources)]
            db.executemany(
                "insert into acts values (null, ?, ?, ?, ?, ?, ?, ?)",
                [(run, description.platform, *act) for act in seen],
            )
            _prune(
                db,
                {sample.name for sample in taught},
                description.platform,
                {act[:2] for act in seen},
            )
        return True

    def knows(self, run: str) -> bool:
        """Whether this run is kept. Raises HistoryError."""
        with self._open() as db:
            return db.execute("select 1 from runs where run = ?", (run,)).fetchone() is not None

    def runs(self, limit: int = 100) -> list[HistoryEntry]:
        """The newest runs, newest first."""
        with self._open() as db:
            rows = db.execute(
                "select run, name, planner, platform, state, submitted_at, makespan_s, p50_s, n_steps,"
                " json_extract(story, '$.forecast.p10_s'), json_extract(story, '$.forecast.p90_s')"
                " from runs order by submitted_at desc limit ?",
                (limit,),
            ).fetchall()
        names = [field.name for field in fields(HistoryEntry)]
        return [HistoryEntry(**dict(zip(names, row, strict=True))) for row in rows]

    def run(self, run: str) -> tuple[RunDescription, Trace]:
        """A whole run. Raises RunMissingError, HistoryError."""
        with self._open() as db:
            row = db.execute("select story, trace from runs where run = ?", (run,)).fetchone()
        if row is None:
            raise RunMissingError(run)
        try:
            return RunDescription.read(row[0]), _trace(row[1])
        except (zlib.error, ValueError, KeyError, TypeError) as error:
            raise HistoryError(
                f"run {run} is kept in {self.path} and cannot be read: {error!r}. Run it again."
            ) from error

    def samples(self, names: Sequence[str], after: int = 0) -> tuple[list[list[Sample]], int]:
        """What runs taught of functions of these names, run by run, oldest first; and the number to ask after next."""
        with self._open() as db:
            rows = db.execute(
                "select id, run, function, name, resources, input_bytes, output_bytes, load_s, run_s, dump_s,"
                " ended_at, key from samples where id > ? and name in (select value from json_each(?)) order by id",
                (after, json.dumps(list(names))),
            ).fetchall()
        found: dict[str, list[Sample]] = {}
        for _, run, *row in rows:
            found.setdefault(run, []).append(_sample(row))
        return list(found.values()), rows[-1][0] if rows else after

    def acts(self, platform: str, after: int = 0) -> tuple[list[Act], int]:
        """What is kept of the acts of a platform, newest first; and the number to ask after next."""
        with self._open() as db:
            rows = db.execute(
                "select id, phase, detail, resources, n_bytes, seconds from acts where platform = ? and id > ?"
                " order by id desc",
                (platform, after),
            ).fetchall()
        found = [
            Act(
                phase=Phase(phase),
                detail=detail,
                resources=_resources(told),
                n_bytes=n_bytes,
                seconds=seconds,
            )
            for _, phase, detail, told, n_bytes, seconds in rows
        ]
        return found, rows[0][0] if rows else after

    def functions(self) -> list[tuple[str, int]]:
        """(name, samples kept) of every function known, by name."""
        with self._open() as db:
            return db.execute(
                "select name, count(*) from samples group by name order by name"
            ).fetchall()

    def birth(self) -> str:
        """A mark that stays as long as nothing is forgotten: what was read under another is no longer true."""
        with self._open() as db:
            mark: str = db.execute("select mark from birth").fetchone()[0]
        return mark

    def forget(self) -> None:
        """Delete everything."""
        with self._open() as db:
            forget(db)

    def _open(self) -> contextlib.AbstractContextManager[sqlite3.Connection]:
        return opened(self.path)


def _prune(
    db: sqlite3.Connection, names: set[str], platform: str, kinds: set[tuple[object, ...]]
) -> None:
    """Only the newest stay. kinds: (phase, detail) of acts."""
    for name in names:
        db.execute(
            "delete from samples where name = ? and id <= (select id from samples where name = ?"
            " order by id desc limit 1 offset ?)",
            (name, name, SAMPLES),
        )
    for kind in kinds:
        db.execute(
            "delete from acts where platform = ? and phase = ? and detail = ? and id <= (select id from acts"
            " where platform = ? and phase = ? and detail = ? order by id desc limit 1 offset ?)",
            (platform, *kind, platform, *kind, ACTS),
        )
    count, total = db.execute("select count(*), sum(n_bytes) from runs").fetchone()
    if count > RUNS or total > RUN_BYTES:
        db.execute(
            "delete from runs where run in (select run from (select run, row_number() over newest as place,"
            " sum(n_bytes) over newest as total from runs"
            " window newest as (order by submitted_at desc, run desc)) where place > ? or (total > ? and place > 1))",
            (RUNS, RUN_BYTES),
        )


def _blob(trace: Trace) -> bytes:
    """A tenth of what its JSON takes, in a tenth of the time."""
    told = [trace.names, trace.submitted_s, trace.finished_s, packed(trace.spans)]
    return zlib.compress(msgpack.packb(told), 6)


def _trace(blob: bytes) -> Trace:
    names, submitted_s, finished_s, spans = msgpack.unpackb(zlib.decompress(blob))
    return Trace.of(unpacked(spans), names, submitted_s=submitted_s, finished_s=finished_s)


def _row(sample: Sample) -> tuple[object, ...]:
    times = (sample.load_s, sample.run_s, sample.dump_s, sample.ended_at, sample.key)
    sizes = (sample.input_bytes, sample.output_bytes)
    return (sample.function, sample.name, _told(sample.resources), *sizes, *times)


def _act_row(act: Act) -> tuple[object, ...]:
    return act.phase.value, act.detail, _told(act.resources), act.n_bytes, act.seconds


def _sample(row: Sequence[Any]) -> Sample:
    names = [field.name for field in fields(Sample)]
    told: dict[str, Any] = dict(zip(names, row, strict=True))
    return Sample(**told | {"resources": _resources(told["resources"])})


def _told(resources: Resources) -> str:
    return json.dumps(
        [resources.cpus, resources.memory_mb, resources.requirements, resources.network]
    )


@functools.lru_cache(maxsize=1_000)
def _resources(told: str) -> Resources:
    cpus, memory_mb, requirements, network = json.loads(told)
    return Resources(
        cpus=cpus, memory_mb=memory_mb, requirements=tuple(requirements), network=network
    )
