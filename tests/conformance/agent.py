"""An agent of one's own, with its embedded server, for tests that start real processes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from dagnb import session
from tests.home import own_home


@contextlib.contextmanager
def private_agent() -> Iterator[None]:
    """Everything lives in a short folder of its own; the agent is told to leave at the end. Skips
    when it cannot be.
    """
    client = pytest.importorskip("dagnb_workers.agent.client", exc_type=ImportError)
    pytest.importorskip("dagnb_workers.launchers.process", exc_type=ImportError)
    with own_home(), pytest.MonkeyPatch.context() as patch:
        for name in (session.STORE_VARIABLE, session.NAMESPACE_VARIABLE):
            patch.delenv(name, raising=False)
        url = session.wait(client.store_url())
        store = session.wait(session.reopened(session.Redis(url=url)))
        try:
            yield
        finally:
            session.wait(store.close())
