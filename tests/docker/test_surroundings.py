"""What of the client's surroundings reaches containers, which share no files: modules with their
data, and settings.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import dagnb
from dagnb.errors import TaskFailedError
from tests.docker.made_containers import LIMIT_S, Containers

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]  # an image may have to be built

HERE = """
from pathlib import Path
def rows():
    import here_lazy
    return (Path(__file__).parent / "rows.txt").read_text(), here_lazy.V
"""


@pytest.fixture
def _beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package with data, a module that it imports late, one that is made in memory."""
    (tmp_path / "here_pack").mkdir()
    (tmp_path / "here_pack" / "__init__.py").write_text(HERE)
    (tmp_path / "here_pack" / "rows.txt").write_text("1,2")
    (tmp_path / "here_pack" / ".#rows.txt").symlink_to("me@host.1234:5678")
    (tmp_path / "here_lazy.py").write_text("V = 7")
    monkeypatch.syspath_prepend(tmp_path)
    made = ModuleType("here_made")
    exec("def f(): return 'made'", vars(made))
    monkeypatch.setitem(sys.modules, "here_made", made)
    importlib.invalidate_caches()
    yield
    for name in ("here_pack", "here_lazy"):
        sys.modules.pop(name, None)


@pytest.mark.usefixtures("_beside")
def test_modules_with_their_data_and_those_made_in_memory_come_along(yard: Containers) -> None:
    def look() -> object:
        import here_made  # type: ignore[import-not-found]  # made above
        import here_pack  # type: ignore[import-not-found]

        return here_pack.rows(), here_made.f()

    assert dagnb.task(look)().run(workers=yard.docker()).result(LIMIT_S) == (("1,2", 7), "made")


def test_settings_that_mean_the_same_there_are_those_of_the_client(
    yard: Containers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look() -> object:
        import os
        import sys
        import time

        mask = os.umask(0)
        os.umask(mask)
        return (
            mask,
            time.localtime(0).tm_hour,
            sys.argv,
            sys.getrecursionlimit(),
            "SECRET" in os.environ,
        )

    monkeypatch.setenv("TZ", "JST-9")
    monkeypatch.setenv("SECRET", "1")
    monkeypatch.setattr(sys, "argv", ["me", "--flag"])
    before, limit = os.umask(0o027), sys.getrecursionlimit()
    sys.setrecursionlimit(limit + 321)
    try:
        seen = dagnb.task(look)().run(workers=yard.docker()).result(LIMIT_S)
    finally:
        os.umask(before)
        sys.setrecursionlimit(limit)
        monkeypatch.undo()
        time.tzset()

    assert seen == (0o027, 9, ["me", "--flag"], limit + 321, False)


def test_a_module_that_is_not_there_is_told_with_the_cure(yard: Containers) -> None:
    def needs() -> None:
        import surely_not_there  # type: ignore[import-not-found]  # noqa: F401

    run = dagnb.task(needs)().run(workers=yard.docker())

    with pytest.raises(TaskFailedError) as failed:
        run.result(LIMIT_S)
    (note,) = failed.value.errors[0].notes
    assert "no module 'surely_not_there'" in note
    assert "requirements=[...]" in note
