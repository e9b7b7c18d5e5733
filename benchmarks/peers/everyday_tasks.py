"""Computations of notebooks, as plain functions; packages are imported where they are used."""

# ruff: noqa: PLC0415  # imports are the subject: workers make them, not the client

from __future__ import annotations

from typing import Any


def fit_line(seed: int) -> float:
    import numpy as np
    from sklearn.linear_model import LinearRegression

    random = np.random.default_rng(seed)
    inputs = random.normal(size=(200, 5))
    outputs = inputs.sum(axis=1) + random.normal(size=200)
    return float(LinearRegression().fit(inputs, outputs).score(inputs, outputs))


def best_score(*scores: float) -> float:
    return max(scores)


def load_month(path: str) -> Any:
    import pandas as pd

    return pd.read_csv(path, parse_dates=["time"])


def clean(frame: Any) -> Any:
    frame = frame.dropna()
    return frame[frame.power < 9_000]


def add_features(frame: Any) -> Any:
    return frame.assign(hour=frame.time.dt.hour, wind2=frame.wind**2, th=frame.temp * frame.hum)


def fit_forest(frame: Any) -> dict[str, Any]:
    from sklearn.ensemble import RandomForestRegressor

    inputs = frame[["temp", "hum", "wind", "hour", "wind2", "th"]].to_numpy()[:6_000]
    outputs = frame.power.to_numpy()[:6_000]
    forest = RandomForestRegressor(n_estimators=20, random_state=0, n_jobs=1)
    forest.fit(inputs[:5_000], outputs[:5_000])
    month = int(frame.time.dt.month.iloc[0])
    r2 = float(forest.score(inputs[5_000:], outputs[5_000:]))
    return {"month": month, "r2": r2, "n": len(frame)}


def report(*rows: dict[str, Any]) -> Any:
    import pandas as pd

    return pd.DataFrame(list(rows)).sort_values("month")


def fit_elastic_net(parameters: tuple[float, float]) -> tuple[float, float, float]:
    import numpy as np
    from sklearn.linear_model import ElasticNet

    alpha, ratio = parameters
    random = np.random.default_rng(0)
    inputs = random.normal(size=(4_000, 60))
    outputs = inputs @ random.normal(size=60) + random.normal(size=4_000)
    model = ElasticNet(alpha=alpha, l1_ratio=ratio, max_iter=300, tol=1e-9)
    return alpha, ratio, float(model.fit(inputs, outputs).score(inputs, outputs))


def best_fit(*fits: tuple[float, float, float]) -> tuple[float, float, float]:
    return max(fits, key=lambda fit: fit[2])


def points_inside(seed: int) -> int:
    import numpy as np

    random = np.random.default_rng(seed)
    return int((random.random(2_000_000) ** 2 + random.random(2_000_000) ** 2 < 1).sum())


def pi(*inside: int) -> float:
    return 4 * sum(inside) / (2_000_000 * len(inside))
