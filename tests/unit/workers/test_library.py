"""A library gives cells of its header to inspect, and their names to people."""

from __future__ import annotations

import inspect
import io
import linecache
import shutil
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dagnb_workers.worker.library import Library, folder

from dagnb.graph.payload import Signer
from dagnb.protocol.program import Header, pack_cells
from dagnb.session import MEMORY_URL
from dagnb.storage.open import open_store

SIGNER = Signer(b"k" * 32)
FILE = "/tmp/ipykernel_1/123.py"
TEXT = "def first(n):\n    return n\n"


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    yield
    linecache.cache.pop(FILE, None)


async def opened(*, unpacks: bool, archive: bytes = b"") -> Library:
    store = await open_store(MEMORY_URL)
    cells = pack_cells({FILE: ("Cell In[4]", TEXT)})
    kept = SIGNER.content_name(archive) if archive else ""
    header = Header(functions=(), archive=kept, cells=SIGNER.content_name(cells)).pack()
    name = SIGNER.content_name(header)
    await store.share(
        {name: header, SIGNER.content_name(cells): cells, kept: archive}, run="run", ttl_s=60
    )
    library = Library(store, SIGNER, name, unpacks=unpacks)
    await library.open()
    return library


async def test_inspect_finds_the_source_of_a_function_of_a_cell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await opened(unpacks=True)
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(TEXT, FILE, "exec"), space)
    monkeypatch.setitem(sys.modules, "__main__", sys.modules[__name__])

    assert inspect.getsource(space["first"]) == TEXT


async def test_what_is_known_of_a_file_already_stays() -> None:
    linecache.cache[FILE] = (4, None, ["own\n"], FILE)

    await opened(unpacks=True)

    assert linecache.getline(FILE, 1) == "own\n"


async def test_in_the_users_own_process_nothing_is_put_beside_what_it_knows() -> None:
    library = await opened(unpacks=False)

    assert FILE not in linecache.cache
    assert library.label(FILE) == "Cell In[4]"


async def test_files_are_called_as_people_call_them() -> None:
    library = await opened(unpacks=True)

    assert (library.label(FILE), library.label("/home/a.py")) == ("Cell In[4]", "/home/a.py")
    assert library.labelled(f'File "{FILE}", line 2\n{FILE}:2: UserWarning') == (
        'File "Cell In[4]", line 2\nCell In[4]:2: UserWarning'
    )


async def test_a_module_of_the_user_is_called_by_its_place_beside_the_notebook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGNB_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "path", [*sys.path])
    bundle = io.BytesIO()
    with zipfile.ZipFile(bundle, "w") as packed:
        packed.writestr("helpers/rows.py", "def first(): pass\n")

    library = await opened(unpacks=True, archive=bundle.getvalue())

    (file,) = folder().glob("*/helpers/rows.py")
    assert library.label(str(file)) == "helpers/rows.py"
    shutil.rmtree(folder())
