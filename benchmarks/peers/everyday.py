"""The rows of `everyday.py`: pipelines of pandas, scikit-learn and numpy, as notebooks hold them."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.peers import everyday_tasks as tasks
from benchmarks.peers.graphs import Row
from benchmarks.peers.system import Graph, Pipelines

FOLDER = Path(tempfile.gettempdir()) / "dagnb-benchmark-csv"
ALPHAS = [10 ** (-4 + 4 * step / 9) for step in range(10)]
RATIOS = [0.05, 0.2, 0.4, 0.6, 0.8, 0.95]


def imports(repetition: int) -> Graph:
    """Four small fits and the best of them."""
    items = tuple(range(4 * repetition, 4 * repetition + 4))
    return Pipelines(items, (tasks.fit_line,), tasks.best_score).graph()


def months(repetition: int) -> Graph:
    """Twelve CSV files: load, clean, add columns, fit a forest; then one table."""
    items = tuple(str(path) for path in csv_files())
    steps = (tasks.load_month, tasks.clean, tasks.add_features, tasks.fit_forest)
    return Pipelines(items, steps, tasks.report).graph()


def elastic_nets(repetition: int) -> Graph:
    """Sixty fits on one set of data and the best of them."""
    items = tuple((alpha, ratio) for alpha in ALPHAS for ratio in RATIOS)
    return Pipelines(items, (tasks.fit_elastic_net,), tasks.best_fit).graph()


def monte_carlo(repetition: int) -> Graph:
    """Forty times two million points, and pi."""
    return Pipelines(tuple(range(40)), (tasks.points_inside,), tasks.pi).graph()


def csv_files() -> list[Path]:
    """Returns a file a month of a year, 20,000 lines each; made when they are not there."""
    import numpy as np  # noqa: PLC0415  # so that rows can be listed without it
    import pandas as pd  # noqa: PLC0415

    FOLDER.mkdir(exist_ok=True)
    paths = []
    for month in range(1, 13):
        path = FOLDER / f"m{month:02d}.csv"
        paths.append(path)
        if path.exists():
            continue
        random, n = np.random.default_rng(month), 20_000
        times = pd.date_range(f"2025-{month:02d}-01", periods=n, freq="2min")
        temperature, humidity = random.normal(15, 8, n), random.uniform(20, 90, n)
        wind = random.weibull(2, n) * 6
        power = 50 * wind**2 + 3 * temperature + random.normal(0, 40, n)
        power[random.integers(0, n, 40)] = 9_999
        temperature[random.integers(0, n, 60)] = np.nan
        columns = {"time": times, "temp": temperature, "hum": humidity, "wind": wind}
        part = path.with_suffix(".part")
        pd.DataFrame({**columns, "power": power}).to_csv(part, index=False)
        part.rename(path)
    return paths


ROWS = (
    Row(
        name="imports",
        title="four runs in a row with `import sklearn` in the tasks",
        build=imports,
        aim_s=0.15,
        aim_cold_s=2.5,
        is_cold=True,
    ),
    Row(
        name="months",
        title="12 CSVs, a forest a month, 49 tasks",
        build=months,
        aim_s=2.2,
        is_cold=True,
    ),
    Row(
        name="nets",
        title="60 ElasticNet fits, 61 tasks",
        build=elastic_nets,
        aim_s=0.35,
        is_cold=True,
    ),
    Row(name="pi", title="Monte-Carlo pi, 41 tasks", build=monte_carlo, aim_s=0.45, is_cold=True),
)
