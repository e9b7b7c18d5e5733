"""Which run and which task a text means, and what is refused."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from dagnb.errors import (
    AmbiguousNameError,
    RunMissingError,
    RunNotStoredError,
    UnknownNameError,
    UnknownRunError,
    UnknownTaskError,
)
from dagnb.protocol.messages import RunState
from dagnb.protocol.naming import (
    KnownRun,
    Purpose,
    TaskName,
    find_run,
    find_task,
    is_run_id,
    ordinals_of,
)

ENDING = (Purpose.CANCEL, Purpose.FORGET)
EVERY = tuple(Purpose)


def known(
    run: str,
    name: str,
    at: float = 0.0,
    state: RunState = RunState.OK,
    *,
    stored: bool = True,
    kept: bool = False,
) -> KnownRun:
    return KnownRun(
        run=run.ljust(26, "0"),
        name=name,
        state=state,
        submitted_at=at,
        is_stored=stored,
        is_kept=kept,
    )


OLD = known("01A1", "total", 1.0)
NEW = known("01A2", "total", 3.0)
OTHER = known("01B3", "mean", 2.0)
RUNS = [OLD, OTHER, NEW]


def meant(text: str, purpose: Purpose = Purpose.LOOK, runs: Iterable[KnownRun] = RUNS) -> KnownRun:
    return find_run(text, runs, purpose).run


# ---- runs ----


@pytest.mark.parametrize("purpose", EVERY)
@pytest.mark.parametrize(
    "text",
    [OTHER.run, OTHER.run.lower(), "01B", "01b3", "mean", f"  {OTHER.run} ", "\tmean\n", " 01b "],
)
def test_a_run_is_meant_by_its_id_its_beginning_and_its_name_for_every_purpose(
    text: str, purpose: Purpose
) -> None:
    assert meant(text, purpose) == OTHER


@pytest.mark.parametrize("purpose", EVERY)
@pytest.mark.parametrize("text", ["last", "LAST", " Last "])
def test_last_is_the_newest_run_for_every_purpose(text: str, purpose: Purpose) -> None:
    assert meant(text, purpose) == NEW


def test_last_is_the_newest_run_wherever_it_is_known() -> None:
    in_history = known("01C4", "median", 4.0, stored=False, kept=True)
    only_stored = known("01C5", "median", 5.0)

    assert meant("last", runs=[*RUNS, in_history]) == in_history
    assert meant("last", runs=[*RUNS, in_history, only_stored]) == only_stored


def test_to_look_at_a_name_means_the_newest_run_of_it_and_the_others_are_told() -> None:
    found = find_run("total", RUNS)

    assert (found.run, found.others) == (NEW, (OLD,))


@pytest.mark.parametrize("purpose", EVERY)
@pytest.mark.parametrize("text", ["", " ", "\t\n"])
@pytest.mark.parametrize("runs", [[], [OTHER], RUNS])
def test_an_empty_text_means_no_run_even_when_there_is_one_only(
    text: str, purpose: Purpose, runs: list[KnownRun]
) -> None:
    with pytest.raises(AmbiguousNameError, match="an empty name means no run") as caught:
        meant(text, purpose, runs)

    assert len(caught.value.candidates) == len(runs)


def test_candidates_are_told_with_id_name_state_and_start_newest_first() -> None:
    with pytest.raises(AmbiguousNameError, match=r"'01' begins the ids of 3 runs:\n") as caught:
        meant("01")

    assert [line.split("  ")[:3] for line in caught.value.candidates] == [
        [NEW.run, "total", "ok"],
        [OTHER.run, "mean", "ok"],
        [OLD.run, "total", "ok"],
    ]
    assert caught.value.candidates[0].endswith(":03")
    assert (caught.value.kind, caught.value.name) == ("run", "01")


def test_a_long_list_of_candidates_is_cut() -> None:
    many = [known(f"01{letter}", "total", float(at)) for at, letter in enumerate("ABCDEFGHJK")]

    with pytest.raises(AmbiguousNameError) as caught:
        meant("01", runs=many)

    assert len(caught.value.candidates) == 9
    assert caught.value.candidates[-1] == "and 2 more"


@pytest.mark.parametrize("purpose", ENDING)
def test_a_name_of_several_runs_ends_none_of_them(purpose: Purpose) -> None:
    with pytest.raises(
        AmbiguousNameError, match=f"'total' may mean 2 runs, so that none is chosen to {purpose}"
    ):
        meant("total", purpose)


def test_a_name_of_several_runs_of_which_one_is_running_cancels_that_one_and_forgets_none() -> None:
    running = known("01C4", "total", 2.5, RunState.RUNNING)

    assert meant("total", Purpose.CANCEL, [*RUNS, running]) == running
    with pytest.raises(AmbiguousNameError):
        meant("total", Purpose.FORGET, [*RUNS, running])


def test_a_name_of_two_running_runs_cancels_neither() -> None:
    running = [
        known("01C4", "total", 4.0, RunState.RUNNING),
        known("01C5", "total", 5.0, RunState.RUNNING),
    ]

    with pytest.raises(AmbiguousNameError) as caught:
        meant("total", Purpose.CANCEL, running)

    assert [line.split("  ")[2] for line in caught.value.candidates] == ["running", "running"]


def test_a_beginning_of_several_ids_cancels_none_though_one_alone_is_running() -> None:
    with pytest.raises(AmbiguousNameError, match="begins the ids of 4 runs"):
        meant("0", Purpose.CANCEL, [*RUNS, known("01C4", "total", 4.0, RunState.RUNNING)])


@pytest.mark.parametrize("purpose", ENDING)
def test_a_name_that_begins_another_runs_id_ends_neither(purpose: Purpose) -> None:
    runs = [*RUNS, known("02", "01B", 4.0, RunState.RUNNING)]

    assert meant("01B", runs=runs).name == "01B"
    with pytest.raises(AmbiguousNameError, match="may mean 2 runs"):
        meant("01B", purpose, runs)


@pytest.mark.parametrize("purpose", EVERY)
def test_a_whole_id_means_its_run_though_another_is_named_like_it(purpose: Purpose) -> None:
    runs = [*RUNS, known("02", OTHER.run, 4.0, RunState.RUNNING)]

    assert find_run(OTHER.run, runs, purpose).run == OTHER
    assert find_run(OTHER.run, runs, purpose).others == ()


@pytest.mark.parametrize("purpose", ENDING)
def test_a_run_named_last_keeps_last_from_ending_the_newest(purpose: Purpose) -> None:
    runs = [*RUNS, known("02", "last", 0.5)]

    assert meant("last", runs=runs) == NEW
    with pytest.raises(AmbiguousNameError, match="'last' may mean 2 runs"):
        meant("last", purpose, runs)


@pytest.mark.parametrize("purpose", ENDING)
def test_what_the_history_alone_knows_cannot_be_ended_and_the_one_before_is_not_ended_instead(
    purpose: Purpose,
) -> None:
    gone = known("01C4", "median", 4.0, stored=False, kept=True)

    for text in ("last", "median", gone.run, "01c"):
        with pytest.raises(RunNotStoredError, match=gone.run):
            meant(text, purpose, [*RUNS, gone])


@pytest.mark.parametrize("purpose", ENDING)
def test_runs_of_a_name_that_the_store_no_longer_holds_are_not_in_the_way(purpose: Purpose) -> None:
    gone = known("01C4", "mean", 4.0, stored=False, kept=True)

    assert meant("mean", purpose, [*RUNS, gone]) == OTHER


@pytest.mark.parametrize("purpose", EVERY)
def test_a_name_counts_in_its_own_case_and_the_error_tells_the_right_one(purpose: Purpose) -> None:
    with pytest.raises(UnknownRunError, match=r"unknown run 'TOTAL'. Did you mean 'total'\?"):
        meant("TOTAL", purpose)


def test_an_unknown_run_is_a_missing_run_and_an_unknown_name() -> None:
    with pytest.raises(UnknownRunError) as caught:
        meant("nothing like it")

    assert isinstance(caught.value, RunMissingError)
    assert isinstance(caught.value, UnknownNameError)
    assert caught.value.known == tuple(sorted(("total", "mean", NEW.run, OTHER.run, OLD.run)))
    assert "`dagnb runs` lists" in str(caught.value)


def test_where_no_run_is_known_every_name_is_unknown() -> None:
    for text in ("last", "total", NEW.run):
        with pytest.raises(UnknownRunError, match="there are no runs yet"):
            meant(text, runs=[])


def test_a_run_without_a_name_is_not_meant_by_an_empty_one_and_is_listed_readably() -> None:
    nameless = known("01C4", "", 4.0)

    assert meant("last", runs=[nameless]) == nameless
    assert nameless.line().split("  ")[1] == "(no name)"
    assert known("01C4", "two\nlines", 4.0).line().split("  ")[1] == "two lines"


def test_a_name_in_a_list_is_one_short_line_that_steers_no_terminal() -> None:
    odd = known("01C4", "\x1b[2Jtotal\u202e\nof " + "x" * 200, 4.0)

    assert odd.line().split("  ")[1] == "[2Jtotal of " + "x" * 48 + "..."
    with pytest.raises(UnknownRunError) as caught:
        meant("q", runs=[odd])
    assert "\x1b" not in str(caught.value)
    with pytest.raises(AmbiguousNameError) as several:
        find_task("\x1bf", ("\x1bf-0", "\x1bf-1"))
    assert several.value.candidates == ("f-0", "f-1")


def test_whole_ids_are_told_from_beginnings_and_names() -> None:
    assert is_run_id("01ARZ3NDEKTSV4RRFFQ69G5FAV")
    assert is_run_id("01arz3ndektsv4rrffq69g5fav")
    for text in (
        "",
        "last",
        "01ARZ3NDEKTSV4RRFFQ69G5FA",
        "01ARZ3NDEKTSV4RRFFQ69G5FAU",
        "a_long_name_of_26_letters__",
    ):
        assert not is_run_id(text)


# ---- tasks ----

NAMES = ("count-0", "count-1", "count-2", "count-2'", "merge-0", "merge-0'", "re-count-0")


@pytest.mark.parametrize("text", ["merge", "merge-0", " merge ", "merge-0\n"])
def test_a_task_is_meant_by_its_name_and_by_its_function_that_is_called_once(text: str) -> None:
    assert find_task(text, NAMES) == "merge-0"


def test_copies_that_a_plan_made_are_meant_by_their_own_name_alone() -> None:
    assert find_task("merge-0'", NAMES) == "merge-0'"
    assert find_task("re-count", NAMES) == "re-count-0"


def test_a_function_that_is_called_several_times_is_refused_with_its_tasks() -> None:
    with pytest.raises(AmbiguousNameError, match="'count' is called 3 times") as caught:
        find_task("count", NAMES)

    assert caught.value.candidates == ("count-0", "count-1", "count-2")


def test_of_very_many_tasks_the_first_and_the_last_are_told() -> None:
    with pytest.raises(AmbiguousNameError) as caught:
        find_task("part", [f"part-{n}" for n in range(3_000)])

    assert caught.value.candidates[-2:] == ("part-7", "and 2992 more, up to part-2999")


@pytest.mark.parametrize("text", ["", "  "])
def test_an_empty_text_means_no_task(text: str) -> None:
    with pytest.raises(AmbiguousNameError, match="an empty name means no task"):
        find_task(text, ("only-0",))


def test_an_unknown_task_gets_the_nearest_and_is_a_key_error_too() -> None:
    with pytest.raises(KeyError) as caught:
        find_task("mrge", NAMES)

    assert isinstance(caught.value, UnknownTaskError)
    assert str(caught.value) == "unknown task 'mrge'. Did you mean 'merge-0'?"


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("count-0", ("count", 0, 0)),
        ("re-count-12", ("re-count", 12, 0)),
        ("count-2''", ("count", 2, 2)),
        ("count", ("count", 0, 0)),
        ("count-x", ("count-x", 0, 0)),
        ("-1", ("-1", 0, 0)),
    ],
)
def test_a_task_name_is_a_function_a_number_and_an_apostrophe_for_each_copy(
    name: str, parts: tuple[str, int, int]
) -> None:
    assert TaskName.of(name) == parts
    assert ordinals_of([name]) == (parts[1],)
