"""The facts that a running task has about itself."""

from __future__ import annotations

import threading

import pytest

from dagnb.errors import GraphError
from dagnb.graph.context import TaskContext, context, entered, is_inside

HERE = TaskContext(run="01RUN", task="resize-3", attempt=2, seed=99, worker="w1")


def seen_by_a_thread() -> bool:
    answers = []
    thread = threading.Thread(target=lambda: answers.append(is_inside()))
    thread.start()
    thread.join(timeout=10)
    return answers == [True]


def test_inside_the_block_the_task_knows_itself_and_outside_nothing() -> None:
    with entered(HERE, whole_process=False):
        assert context() is HERE
        assert is_inside()

    assert not is_inside()
    with pytest.raises(GraphError, match=r"outside a task. Call it inside a function marked @task"):
        context()


def test_the_idempotency_key_is_of_the_run_and_task_and_not_of_the_attempt() -> None:
    assert HERE.idempotency_key == "01RUN/resize-3"


def test_blocks_nest_and_the_outer_task_comes_back() -> None:
    inner = TaskContext(run="01RUN", task="inner-0", attempt=1, seed=1, worker="w1")

    with entered(HERE, whole_process=True):
        with entered(inner, whole_process=True):
            assert context() is inner
        assert context() is HERE


@pytest.mark.parametrize("whole_process", [True, False])
def test_threads_of_the_task_are_inside_only_if_the_whole_process_is(whole_process: bool) -> None:
    with entered(HERE, whole_process=whole_process):
        assert seen_by_a_thread() is whole_process

    assert not seen_by_a_thread()


@pytest.mark.parametrize("whole_process", [True, False])
def test_an_exception_leaves_the_block(whole_process: bool) -> None:
    with pytest.raises(KeyError), entered(HERE, whole_process=whole_process):
        raise KeyError

    assert not is_inside()
