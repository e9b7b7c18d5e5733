"""Errors that stop nothing are logged once, in whatever thread they occur."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from dagnb import session
from dagnb.errors import HistoryError


def test_an_error_that_many_threads_meet_at_once_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Slow(set[str]):
        """Lets another thread look, too, before the first one notes what it said."""

        def __contains__(self, text: object) -> bool:
            is_known = super().__contains__(text)
            with contextlib.suppress(threading.BrokenBarrierError):
                both_looked.wait(0.2)
            return is_known

    both_looked = threading.Barrier(2)
    monkeypatch.setattr(session, "_warned", Slow())

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(session.warn_once, [HistoryError("no room")] * 2))

    assert [record.getMessage() for record in caplog.records] == ["no room"]
