"""The spec of a container and the arguments that shut it in."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
from dagnb_workers.launchers.docker.container import container_name
from dagnb_workers.launchers.docker.spec import Mount, Spec, create_arguments

SPEC = Spec(
    image="dagnb-worker:0123456789abcdef",
    cpus=1.5,
    memory_mb=512,
    network="none",
    user="1000:1000",
    mounts=(
        Mount(source="/home/me/run/store", target="/run/dagnb"),
        Mount(source="/o", target="/out", is_writable=True),
    ),
    environment=(("LANG", "C.UTF-8"),),
    pids=64,
    tmp_mb=32,
)
OTHERS: dict[str, Any] = {
    "image": "i", "cpus": 1.0, "memory_mb": 513, "network": "bridge", "user": "0:0", "mounts": (), "environment": (),
    "pids": 65, "tmp_mb": 33,
}  # fmt: skip


def test_every_setting_that_shuts_a_container_in_reaches_the_engine() -> None:
    assert create_arguments(SPEC, "dagnb-x", {"dagnb.name": "x"}) == {
        "image": "dagnb-worker:0123456789abcdef",
        "name": "dagnb-x",
        "labels": {"dagnb.name": "x"},
        "stdin_open": True,
        "detach": True,
        "auto_remove": True,
        "use_config_proxy": False,
        "log_config": {"type": "none", "config": {}},
        "network_mode": "none",
        "user": "1000:1000",
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "read_only": True,
        "tmpfs": {"/tmp": "size=32m,mode=1777"},
        "ipc_mode": "private",
        "pids_limit": 64,
        "mem_limit": "512m",
        "memswap_limit": "512m",
        "nano_cpus": 1_500_000_000,
        "ulimits": [{"name": "core", "soft": 0, "hard": 0}],
        "environment": {"HOME": "/tmp", "PYTHONHASHSEED": "0", "LANG": "C.UTF-8"},
        "working_dir": "/tmp",
        "mounts": [
            {
                "Type": "bind",
                "Source": "/home/me/run/store",
                "Target": "/run/dagnb",
                "ReadOnly": True,
            },
            {"Type": "bind", "Source": "/o", "Target": "/out", "ReadOnly": False},
        ],
    }


def test_by_default_a_container_has_no_network_no_rights_and_no_folder_of_this_machine() -> None:
    made = create_arguments(Spec(image="i", cpus=1.0, memory_mb=100), "n", {})

    assert (made["network_mode"], made["user"], made["mounts"]) == ("none", "65534:65534", [])
    assert (made["cap_drop"], made["read_only"], made["pids_limit"]) == (["ALL"], True, 256)
    assert not {
        "privileged",
        "cap_add",
        "devices",
        "pid_mode",
        "volumes",
        "ports",
        "command",
        "entrypoint",
    } & set(made)


def test_a_spec_comes_through_json_and_equal_ones_have_equal_keys() -> None:
    again = Spec.from_json(SPEC.to_json())

    assert again == SPEC
    assert (again.to_json(), again.key) == (SPEC.to_json(), SPEC.key)
    assert "\n" not in SPEC.to_json()


@pytest.mark.parametrize("name", OTHERS)
def test_specs_that_differ_in_anything_have_other_keys(name: str) -> None:
    other = replace(SPEC, **{name: OTHERS[name]})

    assert other.key != SPEC.key
    assert Spec.from_json(other.to_json()) == other


def test_every_field_of_a_spec_was_tried() -> None:
    assert {field.name for field in fields(Spec)} == set(OTHERS)


@pytest.mark.parametrize(
    ("run", "worker", "name"),
    [
        ("01M80RNZSJMPW00N6QBC74JHNR", "default", "dagnb-74jhnr-default-ab12"),
        ("01M80RNZSJMPW00N6QBC74JHNR", "~2cpu-512mb/1", "dagnb-74jhnr-2cpu-512mb-1-ab12"),
        ("01M80RNZSJMPW00N6QBC74JHNR", "w 0; rm -rf /", "dagnb-74jhnr-w-0-rm-rf-ab12"),
        ("", "", "dagnb-ab12"),
        ("", "~/1", "dagnb-1-ab12"),
        ("01M80RNZSJMPW00N6QBC74JHNR", "größe", "dagnb-74jhnr-gr-e-ab12"),
    ],
)
def test_a_container_is_called_after_run_worker_and_itself_in_letters_the_engine_takes(
    run: str, worker: str, name: str
) -> None:
    assert container_name("ab12", run, worker) == name
