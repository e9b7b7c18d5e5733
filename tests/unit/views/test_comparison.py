"""Planners side by side."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest

from dagnb.errors import ConfigError
from dagnb.forecast.compare import Comparison, compare_plans
from dagnb.planning.plan import Plan
from dagnb.planning.planner import Costs, Pool, Problem, StartCost
from dagnb.views.comparison import comparison_html, comparison_svg
from dagnb.views.palette import colours
from dagnb.views.show import bundle
from tests import graphs
from tests.unit.known_costs import known
from tests.unit.views.samples import HOSTILE, SVG, Tags, job, parsed, pinned, texts


@dataclass(frozen=True)
class Dealer:
    """Deals the tasks to some workers; none: finds no plan."""

    n_workers: int
    name: str = "dealer"

    def plan(self, problem: Problem) -> Plan:
        if not self.n_workers:
            raise ConfigError("nobody to deal to.")
        return pinned(problem.dag, [f"w{i}" for i in range(self.n_workers)])


def compared(name: str = "total", **planners: int) -> Comparison:
    dag = job(8)
    problem = Problem(
        dag=dag,
        costs=known(Costs(default_run_s=1.0, cold=StartCost(invoke_s=0.5))),
        pool=Pool(cap=4),
    )
    ticks = iter(range(100))
    return compare_plans(
        problem, {n: Dealer(k) for n, k in planners.items()}, name, lambda: 0.25 * next(ticks)
    )


def test_a_row_a_planner_the_best_first_and_who_failed_last_with_the_reason() -> None:
    page = comparison_html(compared(one=1, four=4, none=0))

    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", page)][
        1:
    ]
    assert [row[0] for row in rows] == ["<b>four, shortest</b>", "one", "none"]
    assert rows[1][1:5] == ["12.5 s", "12.5 s", "50 GB·s", "4"]
    assert [row[7] for row in rows] == ["250 ms"] * 3
    assert rows[2][1:7] == ["-"] * 6
    assert "none: nobody to deal to." in Tags(page).text


def test_all_timelines_share_one_time_axis() -> None:
    root = parsed(comparison_svg(compared(one=1, four=4)))

    ends = [
        path.get("d", "")
        for path in root.iter(f"{SVG}path")
        if (path.get("class") or "").startswith("mark")
    ]
    found = [float(re.match(r"M([\d.]+)", d)[1]) - 16 for d in ends]  # type: ignore[index]  # every mark moves first
    moments = [float(word.split()[1]) for word in texts(root) if word.startswith("end ")]
    assert len(found) == 2
    assert found[0] / found[1] == pytest.approx(moments[0] / moments[1], rel=0.01)
    assert texts(root).count("0 s") == 1


def test_a_function_wears_one_colour_in_all_of_them_and_one_legend_names_it() -> None:
    root = parsed(comparison_svg(compared(one=1, two=2, four=4)))

    fills = {
        (g.get("data-function") or "", g.get("fill"))
        for g in root.iter(f"{SVG}g")
        if g.get("data-kind") == "run"
    }
    functions = {function for function, _ in fills}
    assert fills == set(colours(functions).items())
    assert all(texts(root).count(name) == 1 for name in functions)


def test_without_any_plan_there_is_the_table_alone() -> None:
    assert comparison_svg(compared(none=0)) == ""
    assert "<svg" not in comparison_html(compared(none=0))


def test_a_notebook_shows_the_page_and_a_terminal_the_table() -> None:
    found = compared(one=1)

    assert bundle(found) == {"text/html": comparison_html(found), "text/plain": str(found)}


def test_hundreds_of_workers_are_a_small_timeline() -> None:
    dag = graphs.fan_out(500)
    problem = Problem(dag=dag, costs=known(Costs(), len(dag)), pool=Pool(cap=300))
    svg = comparison_svg(compare_plans(problem, {"p": Dealer(300)}, "wide"))

    assert float(parsed(svg).get("height", "")) < 300
    assert len(svg) < 150_000


def test_hostile_names_stay_text() -> None:
    page = comparison_html(compared(HOSTILE[0], **{name: i % 2 for i, name in enumerate(HOSTILE)}))

    assert "img" not in Tags(page).tags
    assert "script" not in Tags(page).tags
