"""A fork server as a program, for test_fork_server.py.

argv: descriptor of its connection, "ends_children", or another word.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from typing import Any

from dagnb_workers.hosting.fork_server import ForkServer, run_child


def _exit(args: dict[str, Any], fds: list[int]) -> int:
    code: int = args["code"]
    return code


def _wait(args: dict[str, Any], fds: list[int]) -> int:
    while True:
        signal.pause()


def _write(args: dict[str, Any], fds: list[int]) -> int:
    for fd, text in zip(fds, args["texts"], strict=True):
        os.write(fd, text.encode())
    return 0


def _tell_open(args: dict[str, Any], fds: list[int]) -> int:
    """Returns how many descriptors are open: the three standard ones and those that were passed."""
    return len(
        [name for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")]
    )


def _raise(args: dict[str, Any], fds: list[int]) -> int:
    raise ValueError("no")


def _start_child(args: dict[str, Any], fds: list[int]) -> int:
    pid = os.fork()
    if pid == 0:
        while True:
            signal.pause()
    os.write(fds[0], f"{pid}\n".encode())
    return 0


KINDS = {
    "exit": _exit,
    "wait": _wait,
    "write": _write,
    "open": _tell_open,
    "raise": _raise,
    "child": _start_child,
}

if __name__ == "__main__":
    fork_server = ForkServer(
        socket.socket(fileno=int(sys.argv[1])), KINDS, ends_children=sys.argv[2] == "ends_children"
    )
    child = fork_server.serve()
    if child is not None:
        run_child(child)
    sys.exit(int(fork_server.deserted))
