"""Draw the rooms of ARCHITECTURE.md from the imports: `python -m scripts.rooms --write`.

The picture (Mermaid, which GitHub and JupyterLab draw) has an arrow from a room to each room it
imports, unless another way leads there already; the table below it has the first line of each
room's docstring. Without `--write` it exits with 1 when ARCHITECTURE.md holds something else, so
that the picture cannot drift from the code.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "ARCHITECTURE.md"
BEGIN, END = "<!-- rooms: written by scripts/rooms.py -->", "<!-- rooms: end -->"

PACKAGES = {
    "dagnb": ROOT / "dagnb",
    "dagnb_kernel_ext": ROOT / "kernel_ext" / "dagnb_kernel_ext",
    "dagnb_workers": ROOT / "workers" / "dagnb_workers",
    "dagnb_planners": ROOT / "planners" / "dagnb_planners",
}

WHOLE = {"dagnb_kernel_ext", "dagnb_planners"}
"""packages that are one room each"""

LEAVES = {
    "dagnb.errors",
    "dagnb.units",
    "dagnb.registry",
    "dagnb.failure",
    "dagnb.worker_label",
}
"""modules that any room may import: no arrows lead to them, or the picture would show little else
"""

Edges = Mapping[str, frozenset[str]]
"""room -> the rooms it imports"""


def imports() -> Edges:
    """Returns which room imports which, leaves and the packages' own __init__ left out."""
    graph = grimp.build_graph(
        *PACKAGES, exclude_type_checking_imports=True, cache_dir=str(ROOT / ".import_linter_cache")
    )
    rooms = {room for package in PACKAGES for room in _rooms_of(graph, package)}
    edges: dict[str, set[str]] = {room: set() for room in rooms}
    for module in graph.modules:
        importer = _room_of(module, rooms)
        if importer is None:
            continue
        for imported_module in graph.find_modules_directly_imported_by(module):
            imported = _room_of(imported_module, rooms)
            if imported is not None and imported != importer and imported not in LEAVES:
                edges[importer].add(imported)
    return {room: frozenset(imported) for room, imported in edges.items()}


def _rooms_of(graph: grimp.ImportGraph, package: str) -> set[str]:
    if package in WHOLE:
        return {package}
    return {room for room in graph.find_children(package) if not room.endswith(".__main__")}


def _room_of(module: str, rooms: set[str]) -> str | None:
    """Returns the room in which a module stands; None for the __init__ of a package."""
    name = module
    while name not in rooms:
        name, _, last = name.rpartition(".")
        if not last:
            return None
    return name


def reduced(edges: Edges) -> Edges:
    """Returns the edges without those that a longer way stands for. Precondition: no cycle."""
    below = {room: _below(room, edges) for room in edges}
    return {
        room: frozenset(
            target
            for target in targets
            if not any(target in below[other] for other in targets - {target})
        )
        for room, targets in edges.items()
    }


def _below(room: str, edges: Edges) -> set[str]:
    reached: set[str] = set()
    waiting = list(edges[room])
    while waiting:
        target = waiting.pop()
        if target not in reached:
            reached.add(target)
            waiting.extend(edges[target])
    return reached


def drawing(edges: Edges) -> str:
    """Returns the picture and the table, as they stand in ARCHITECTURE.md."""
    ordered = _by_depth(edges)
    lines = ["```mermaid", "flowchart TD"]
    for package in PACKAGES:
        rooms = [room for room in ordered if room.partition(".")[0] == package]
        nodes = [f'{_id(room)}["{_short(room)}"]' for room in rooms if room not in LEAVES]
        if package in WHOLE:
            lines += [f"    {node}" for node in nodes]
        else:
            lines += [f"    subgraph {package}", *(f"        {node}" for node in nodes), "    end"]

    arrows = reduced(edges)
    for room in ordered:
        if room not in LEAVES:
            lines += [f"    {_id(room)} --> {_id(target)}" for target in sorted(arrows[room])]

    lines += ["```", "", "| room | what it is |", "|---|---|"]
    lines += [f"| `{_short(room)}` | {_first_line(room)} |" for room in ordered]
    return "\n".join(lines)


def _id(room: str) -> str:
    """Returns a name for Mermaid: without dots, and never one of its own words, such as 'graph'."""
    return f"room_{room.replace('.', '_')}"


def _by_depth(edges: Edges) -> list[str]:
    """Returns the rooms from the top down: what imports most of the others comes first."""
    return sorted(edges, key=lambda room: (-len(_below(room, edges)), room))


def _short(room: str) -> str:
    package, _, rest = room.partition(".")
    if package == "dagnb":
        return rest
    arm = package.removeprefix("dagnb_")
    return f"{package}/{rest}" if rest else arm


def _first_line(room: str) -> str:
    package, _, rest = room.partition(".")
    place = PACKAGES[package] / rest if rest else PACKAGES[package]
    path = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    text = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    return text.splitlines()[0]


def main(arguments: Sequence[str]) -> int:
    """Compare ARCHITECTURE.md with the imports, or write it. Returns the exit code."""
    text = DOCUMENT.read_text("utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    new = f"{before}{BEGIN}\n{drawing(imports())}\n{END}{after}"
    if new == text:
        return 0
    if "--write" not in arguments:
        print("ARCHITECTURE.md shows other rooms or imports than the code has. Write it anew:")
        print("    python -m scripts.rooms --write")
        return 1
    DOCUMENT.write_text(new, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
