"""The schema of WfFormat 1.5, after github.com/wfcommons/WfFormat."""

from __future__ import annotations

from typing import Any

TEXT = {"type": "string", "minLength": 1}
NUMBER = {"type": "number"}
SIZE = {"type": "integer", "minimum": 0}
TASK_IDS = {"type": "array", "items": {"type": "string", "pattern": "^[0-9a-zA-Z_.-]*$"}}
FILE_IDS = {"type": "array", "items": {**TEXT, "pattern": "^[0-9a-zA-Z_.-]*$"}}
HOST = {**TEXT, "pattern": "^[0-9a-zA-Z.-]*$"}


def thing(required: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required.split(), "properties": properties}


def some(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "minItems": 1, "items": items}


SPECIFICATION = thing(
    "tasks",
    tasks=some(
        thing(
            "name id parents children",
            name=TEXT,
            id=TEXT,
            parents=TASK_IDS,
            children=TASK_IDS,
            inputFiles=FILE_IDS,
            outputFiles=FILE_IDS,
        )
    ),
    files={"type": "array", "items": thing("id sizeInBytes", id=TEXT, sizeInBytes=SIZE)},
)
EXECUTION = thing(
    "makespanInSeconds executedAt tasks",
    makespanInSeconds=NUMBER,
    executedAt=TEXT,
    tasks=some(
        thing(
            "id runtimeInSeconds",
            id=TEXT,
            runtimeInSeconds=NUMBER,
            executedAt=TEXT,
            command=thing("", program=TEXT, arguments={"type": "array", "items": TEXT}),
            coreCount={"type": "number", "minimum": 1},
            avgCPU=NUMBER,
            readBytes=NUMBER,
            writtenBytes=NUMBER,
            memoryInBytes=NUMBER,
            machines={"type": "array", "items": TEXT},
        )
    ),
    machines=some(thing("nodeName", nodeName=HOST)),
)
WFFORMAT_1_5 = thing(
    "name schemaVersion workflow",
    name=TEXT,
    schemaVersion={"enum": ["1.5"]},
    description=TEXT,
    createdAt=TEXT,
    runtimeSystem=thing("name version", name=TEXT, version=TEXT, url=TEXT),
    author=thing("name email", name=TEXT, email=TEXT),
    workflow=thing("specification", specification=SPECIFICATION, execution=EXECUTION),
)
