"""The function library: its parts, joined."""

from __future__ import annotations

import re
from importlib.resources import files

from dagnb.storage import redis_link
from dagnb.storage.redis_link import LIBRARY, SOURCE


def test_every_script_is_a_part_of_the_library() -> None:
    scripts = {file.name for file in files("dagnb.storage").joinpath("scripts").iterdir()}

    assert scripts == {f"{part}.lua" for part in redis_link._PARTS}


def test_the_library_begins_with_its_name_and_uses_no_function_before_it_is_there() -> None:
    code = re.sub(r"--[^\n]*", lambda comment: " " * len(comment[0]), SOURCE)
    functions = re.finditer(r"^local function (\w+)", code, re.MULTILINE)
    began = {function[1]: function.start() for function in functions}

    assert SOURCE.startswith(f"#!lua name={LIBRARY}\n")
    assert f"local LIBRARY = '{LIBRARY}'\n" in SOURCE
    for name, begin in began.items():
        assert not re.search(rf"(?<![\w.:'])\b{name}\(", code[:begin]), name
