"""The text of the user's own sources: of cells, which are no files, and of frames."""

from __future__ import annotations

import importlib
import linecache
from collections.abc import Callable

import pytest

from dagnb import sources


@pytest.fixture
def cell(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Lets this process know the text of a file that is none."""

    def know(file: str, text: str) -> None:
        monkeypatch.setitem(
            linecache.cache, file, (len(text), None, text.splitlines(keepends=True), file)
        )

    return know


def test_a_cell_comes_with_its_text_and_its_name_for_people(
    cell: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    cell("<one>", "a = 1\nb = 2\n")
    cell("<two>", "c = 3\n")
    monkeypatch.setattr(sources, "labellers", [{"<one>": "Cell In[1]"}.get])

    assert sources.cells({"<one>", "<two>"}) == {
        "<one>": ("Cell In[1]", "a = 1\nb = 2\n"),
        "<two>": ("<two>", "c = 3\n"),
    }


def test_files_on_disk_and_unknown_texts_are_left_out() -> None:
    assert sources.cells({__file__, "<string>", "/nowhere/at/all.py"}) == {}


def test_the_name_that_all_executed_strings_share_is_left_out(
    cell: Callable[[str, str], None],
) -> None:
    """Generated code of dataclasses has this name, too, and would be shown with other lines."""
    cell("<string>", "a = 1\n")

    assert sources.cells({"<string>"}) == {}


def test_of_more_than_a_megabyte_the_largest_cells_are_left_out(
    cell: Callable[[str, str], None],
) -> None:
    sizes = {"<small>": 10, "<large>": 700_000, "<larger>": 800_000}
    for file, size in sizes.items():
        cell(file, "x" * size)

    assert sources.cells(sizes).keys() == {"<small>", "<large>"}


def test_frames_of_pythons_frozen_modules_are_a_librarys() -> None:
    with pytest.raises(ModuleNotFoundError) as missing:
        importlib.import_module("dagnb.there_is_no_such_module")

    frames = sources.frames(missing.value.__traceback__)

    assert [frame.is_library for frame in frames if "_bootstrap" in frame.file] != []
    assert all(frame.is_library for frame in frames if frame.file != __file__)
    assert not frames[0].is_library
