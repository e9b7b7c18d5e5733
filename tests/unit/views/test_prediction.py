"""The picture of what a function is predicted from."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest

from dagnb.forecast.function_forecast import CurvePoint, Expected, FunctionForecast
from dagnb.graph.resources import DEFAULT
from dagnb.planning.planner import Basis
from dagnb.prediction.estimate import Estimate, Sigma, normal
from dagnb.views.prediction import coverage, function_svg, prediction_svg
from dagnb.views.show import bundle
from tests.unit.views.samples import HOSTILE, SVG, parsed, texts, titles

CURVE = ((1_000, 0.5, 1.0, 2.0), (1_000_000, 5.0, 10.0, 20.0))


def dots(root: ET.Element) -> dict[str, tuple[float, float]]:
    """what a dot says -> its middle"""
    group = next(g for g in root.iter(f"{SVG}g") if (g.get("class") or "").startswith("dots"))
    found = {}
    for path in group.iter(f"{SVG}path"):
        x, y = map(float, re.findall(r"[\d.]+", path.get("d", ""))[:2])
        found[path[0].text or ""] = (x + 2.5, y)
    return found


def test_every_sample_is_a_dot_that_says_its_size_and_time() -> None:
    root = parsed(prediction_svg("count", [(1_000, 1.0), (1_000_000, 9.0)], CURVE, "hint of @task"))

    assert set(dots(root)) == {"1 kB: 1 s", "1 MB: 9 s"}
    assert texts(root)[:2] == [
        "count",
        "hint of @task · 100 % of 2 past calls in the predicted range",
    ]


def test_wide_axes_are_logarithmic_and_narrow_ones_begin_at_nothing() -> None:
    wide = dots(
        parsed(prediction_svg("f", [(1_000, 1.0), (100_000, 10.0), (10_000_000, 100.0)], (), ""))
    )
    narrow = dots(parsed(prediction_svg("f", [(0, 1.0), (10, 2.0), (20, 3.0)], (), "")))

    (x0, y0), (x1, y1), (x2, y2) = wide.values()
    assert (x1 - x0, y0 - y1) == pytest.approx((x2 - x1, y1 - y2), abs=0.02)
    (x0, y0), (x1, y1), (x2, y2) = narrow.values()
    assert (x1 - x0, y0 - y1) == pytest.approx((x2 - x1, y1 - y2), abs=0.02)
    assert {"0 B", "0 s"} <= set(texts(parsed(prediction_svg("f", [(10, 2.0), (20, 3.0)], (), ""))))


def test_the_median_runs_through_the_band() -> None:
    root = parsed(prediction_svg("f", [], CURVE, ""))

    paths = {
        path.get("class"): re.findall(r"[\d.]+ [\d.]+", path.get("d", ""))
        for path in root.iter(f"{SVG}path")
    }
    median, band = paths["median stroke-running"], paths["band fill-cold"]
    assert (len(median), len(band)) == (2, 4)
    heights = [float(place.split()[1]) for place in (band[0], median[0], band[-1])]
    assert heights == sorted(heights, reverse=True)


def test_coverage_is_the_share_between_the_quantiles() -> None:
    curve = ((0, 1.0, 2.0, 3.0), (10, 2.0, 3.0, 4.0))

    assert coverage([(5, 1.6), (5, 1.4), (20, 4.0), (20, 4.1)], curve) == 0.5


def test_thousands_of_samples_are_a_small_picture() -> None:
    svg = prediction_svg("f", [(i, 1.0 + i % 7) for i in range(20_000)], CURVE, "20,000 samples")

    assert len(dots(parsed(svg))) <= 500
    assert len(svg) < 100_000


@pytest.mark.parametrize(
    "points", [[], [(0, 0.0)], [(5, 1.0)] * 3], ids=["none", "nothing", "equal"]
)
def test_almost_no_samples_have_a_picture(points: list[tuple[int, float]]) -> None:
    assert texts(parsed(prediction_svg("f", points, (), "")))[0] == "f"


def test_a_function_shows_what_it_rests_on() -> None:
    run = Estimate(1.0, normal(0.2), 3.0, Basis("3 samples, usual value", expert="usual value"))
    line = Expected(resources=DEFAULT, n=1, n_bytes=1_000, run=run, output=run)
    outlook = FunctionForecast(
        name="count",
        lines=(line,),
        sigma=Sigma(),
        codes=1,
        points=(CurvePoint(n_bytes=1_000, run_s=1.0, output_bytes=9),),
        curve=CURVE,
    )

    assert (
        texts(parsed(function_svg(outlook)))[1]
        == "3 samples, usual value · 100 % of 1 past call in the predicted range"
    )
    assert bundle(outlook)["image/svg+xml"] == function_svg(outlook)
    assert bundle(outlook)["text/plain"] == str(outlook)


def test_hostile_names_stay_text() -> None:
    for name in HOSTILE:
        svg = prediction_svg(name, [(1, 1.0)], CURVE, name)
        assert parsed(svg).tag == f"{SVG}svg"
        assert "<img" not in svg
        assert titles(parsed(svg)) == ["1 B: 1 s"]
