"""The demo: its tasks against Python's own tokenizer, and the whole of it on a few sources."""

from __future__ import annotations

import io
import keyword
import tokenize
from collections import Counter
from pathlib import Path

import pytest

from dagnb import session
from dagnb.cli import main
from dagnb.demo import identifiers, job
from dagnb.demo.identifiers import chunks, count_identifiers, library_sources, merge, merged, top
from dagnb.demo.job import Choice, run_demo
from dagnb.graph.dag import Dag
from dagnb.trace.trace import Trace


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGNB_HOME", str(tmp_path / "home"))
    monkeypatch.delenv(session.STORE_VARIABLE, raising=False)


def names_by_tokenizer(text: str) -> Counter[str]:
    """Names outside of strings, f-strings included, as Python's tokenizer sees them."""
    found: Counter[str] = Counter()
    depth = 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        kind = tokenize.tok_name[token.type]
        depth += (kind == "FSTRING_START") - (kind == "FSTRING_END")
        if kind == "NAME" and depth == 0 and not keyword.iskeyword(token.string):
            found[token.string] += 1
    return found


def test_counts_are_those_of_pythons_tokenizer_on_its_own_library() -> None:
    texts = library_sources()[::24]

    assert len(texts) > 25
    for text in texts:
        assert count_identifiers.function([text]) == names_by_tokenizer(text)


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("a = b'x' + rb\"y\" + Rb'''z''' # c", {"a": 1}),
        ("a = 'it\\'s' + \"b\\\\\" + c", {"a": 1, "c": 1}),
        ("'''d \" ' \\''' e''' + f", {"f": 1}),
        ('"""d""" + g + """h\n"""', {"g": 1}),
        ("0xFF + 1e5 + 1.e5 + 10j + n", {"n": 1}),
        ("if x: return None", {"x": 1}),
        ("größe = größe + _1", {"größe": 2, "_1": 1}),
        ("'a\\\nb' + c", {"c": 1}),
    ],
)
def test_strings_comments_numbers_and_keywords_hold_no_names(source: str, names: dict[str, int]) -> None:
    assert count_identifiers.function([source]) == names


def test_counts_of_parts_merge_to_the_count_of_the_whole() -> None:
    texts = ["a b", "b c", "c c"]
    parts = [count_identifiers.function([text]) for text in texts]

    assert merge.function(parts) == count_identifiers.function(texts)


def test_equal_counts_are_ordered_by_alphabet() -> None:
    assert top.function(Counter(c=1, b=2, a=1), 2) == [("b", 2), ("a", 1)]


def test_chunks_hold_every_text_once_in_about_equal_parts() -> None:
    texts = ["x" * n for n in range(1, 200)]

    lists = chunks(texts, 7)

    assert sorted(len(text) for part in lists for text in part) == list(range(1, 200))
    sizes = [sum(map(len, part)) for part in lists]
    assert max(sizes) - min(sizes) < 10


def test_fewer_texts_than_chunks_give_no_empty_chunk() -> None:
    assert chunks(["a", "bb"], 7) == [["bb"], ["a"]]


def test_the_tree_of_merges_reads_every_count_once_with_a_limited_fan_in() -> None:
    """28 counts -> 7 merges -> 2 merges -> 1 merge."""
    dag = Dag.of(merged([count_identifiers([]) for _ in range(28)], 4))

    assert [call.function for call in dag.calls].count("merge") == 10
    assert max(len(call.upstream) for call in dag.calls) == 4
    assert sorted(u for call in dag.calls for u in call.upstream) == list(range(len(dag) - 1))


def test_sources_are_the_librarys_own_and_can_be_limited() -> None:
    some = library_sources(300_000)

    assert 300_000 <= sum(len(text.encode()) for text in some) < 2_000_000
    assert some == library_sources()[: len(some)]


def test_the_demo_counts_as_one_process_does_and_leaves_a_report(tmp_path: Path) -> None:
    out, said = tmp_path / "out", io.StringIO()

    assert run_demo(Choice(workers="inline", limit_mb=0.3, out=out), said)

    alone = count_identifiers.function(library_sources(300_000))
    text = said.getvalue()
    assert f"EQUAL: all {len(alone):,} identifiers, {alone.total():,} occurrences." in text
    assert f"  {top.function(alone, 1)[0][0]} " in text
    assert "took part: ~/1 ran " in text
    assert (out / "report.html").as_uri() in text
    assert "count_identifiers" in (out / "report.html").read_text(encoding="utf-8")
    assert "top-0" in Trace.from_json((out / "trace.json").read_text(encoding="utf-8")).names


def test_a_run_that_loses_a_part_is_found_out_and_exits_with_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(job, "merged", lambda counts, fan_in: identifiers.merged(counts[1:], fan_in))

    code = main(["demo", "--workers", "inline", "--limit-mb", "0.3", "--out", str(tmp_path)])

    assert code == 1
    assert "DIFFERENT: the run counted " in capsys.readouterr().out
