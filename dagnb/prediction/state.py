"""What a predictor knows, as JSON. Floats survive exactly: they are written so that they are read as they were."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from dagnb.errors import ConfigError
from dagnb.prediction.batch import Batch, Point
from dagnb.prediction.calls import Calls
from dagnb.prediction.experts import EXPERTS
from dagnb.prediction.function_model import FunctionModel
from dagnb.prediction.prior import Prior
from dagnb.prediction.target import Target
from dagnb.prediction.totals import Total

VERSION = 2


def dumped(
    banks: Mapping[tuple[Target, str], FunctionModel],
    newest: Mapping[str, str],
    runs: Iterable[Mapping[str, Total]],
) -> str:
    """The text of these banks, and of what whole runs came to."""
    rows = [[function, _row(bank)] for (_, function), bank in banks.items()]
    known = {"newest": dict(newest), "banks": rows, "runs": [dict(run) for run in runs]}
    return json.dumps({"version": VERSION, "experts": list(EXPERTS), **known})


def loaded(
    text: str,
) -> tuple[dict[tuple[Target, str], FunctionModel], dict[str, str], list[dict[str, Total]]]:
    """What was dumped. Raises ConfigError for a text of other experts or another version."""
    found = json.loads(text)
    if not isinstance(found, dict) or (found.get("version"), found.get("experts")) != (
        VERSION,
        list(EXPERTS),
    ):
        raise ConfigError(
            "this state of predictions is of another version of dagnb. Learn again from the history."
        )
    banks = ((function, _model(row)) for function, row in found["banks"])
    runs = [{name: Total(*total) for name, total in run.items()} for run in found["runs"]]
    return {(bank.target, function): bank for function, bank in banks}, found["newest"], runs


def _row(bank: FunctionModel) -> dict[str, Any]:
    prior = bank.prior
    return {
        "target": bank.target.value,
        "prior": [prior.relation, prior.slope, prior.slope_sd, prior.level, prior.count],
        "losses": bank.losses,
        "weight": bank.weight,
        "calls": [bank.calls.loss, bank.calls.otherwise, dict(bank.calls.seen)],
        "batches": [[batch.n, batch.ended_at, batch.points] for batch in bank.batches],
    }


def _model(row: Mapping[str, Any]) -> FunctionModel:
    loss, otherwise, seen = row["calls"]
    calls = {key: tuple(Point(*point) for point in points) for key, points in seen.items()}
    batches = (
        Batch(tuple(Point(*point) for point in points), n, at) for n, at, points in row["batches"]
    )
    return FunctionModel(
        target=Target(row["target"]),
        prior=Prior(*row["prior"]),
        batches=tuple(batches),
        losses=tuple(row["losses"]),
        weight=row["weight"],
        calls=Calls(calls, loss, otherwise),
    )
