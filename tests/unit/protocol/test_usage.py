"""Bytes of runs: each content belongs to the run that uses it alone, or is shared."""

from __future__ import annotations

from dagnb.protocol.usage import RunParts, RunUsage, StoreUsage, usage_of
from dagnb.views.store_usage import usage_cells, usage_text


def parts(result_bytes: int, record_bytes: int, *contents: str) -> RunParts:
    return RunParts(
        result_bytes=result_bytes, record_bytes=record_bytes, contents=frozenset(contents)
    )


def test_contents_are_own_or_shared_and_those_of_no_run_are_counted_apart() -> None:
    runs = {"one": parts(1, 2, "a", "b"), "two": parts(10, 20, "b", "c", "gone")}
    contents = {"a": 100, "b": 1_000, "c": 10_000, "d": 100_000}

    usage = usage_of(runs, contents, used_bytes=200_000, limit_bytes=None)

    one = RunUsage(result_bytes=1, own_bytes=100, shared_bytes=1_000, record_bytes=2)
    two = RunUsage(result_bytes=10, own_bytes=10_000, shared_bytes=1_000, record_bytes=20)
    assert usage == StoreUsage(
        used_bytes=200_000,
        limit_bytes=None,
        runs={"one": one, "two": two},
        shared_bytes=1_000,
        unused_bytes=100_000,
    )
    assert two.freed_bytes == 10_030


def test_sentences_say_how_full_a_store_is_and_of_what() -> None:
    runs = {"one": parts(1_500, 200, "a"), "two": parts(0, 20, "a", "b")}

    usage = usage_of(
        runs, {"a": 2_000_000, "b": 30_000, "c": 5_000}, used_bytes=7_000_000, limit_bytes=9_000_000
    )

    assert usage_text(usage) == (
        "The store uses 7 MB of at most 9 MB (maxmemory). It holds 2 runs: 1.5 kB of results, "
        "2.03 MB of code and inputs (2 MB shared by several runs), 220 B of records; "
        "5 kB of code and inputs belong to no run listed."
    )
    assert usage_cells(usage.runs["two"]) == ["0 B", "30 kB", "2 MB", "20 B"]
    assert usage_cells(None) == ["", "", "", ""]


def test_a_store_that_does_not_say_how_full_it_is_is_described_by_what_it_holds() -> None:
    usage = usage_of({}, {}, used_bytes=None, limit_bytes=None)

    assert usage_text(usage) == (
        "The store holds 0 runs: 0 B of results, 0 B of code and inputs "
        "(0 B shared by several runs), 0 B of records."
    )
