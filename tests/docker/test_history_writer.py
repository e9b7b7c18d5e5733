"""A run on containers is kept in the history though nobody ever asks for its result."""

from __future__ import annotations

import pytest

import dagnb
from dagnb.run_history.history import History
from dagnb.trace.trace import Phase
from tests.docker.chores import squared
from tests.docker.made_containers import LIMIT_S, Containers
from tests.services.processes import await_that

pytestmark = [pytest.mark.docker, pytest.mark.redis]


def test_the_host_of_containers_keeps_a_run_that_nobody_waits_for(yard: Containers) -> None:
    run = dagnb.run(*[dagnb.task(squared)(n) for n in range(3)], workers=yard.docker(linger_s=0.1))

    await_that(lambda: History().knows(run.id), "the run is kept", LIMIT_S)

    description, trace = History().run(run.id)
    (kept,), _ = History().samples(["squared"])
    assert description.platform == "docker"
    assert len({sample.key for sample in kept.samples}) == len(kept.samples) == 3
    assert sum(span.phase is Phase.RUN for span in trace.spans) == 3
    assert [act.detail for act in History().acts("docker")[0] if act.phase is Phase.INVOKE]
    yard.forgotten(run)
