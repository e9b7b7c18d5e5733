"""Functions for tasks of tests: they stand apart, because a container has no pytest."""

from __future__ import annotations

import pickle
from typing import Any


def after(text: str) -> str:
    """What comes after the gate."""
    return f"{text} and on"


def squared(value: int) -> int:
    """A small task."""
    return value * value


def greedy(text: str) -> int:
    """More than any container here may have."""
    return len(text) + len(bytearray(400 << 20))


def selfish(text: str) -> int:
    """The same, and no reason for the kernel to take this process first."""
    from pathlib import Path

    Path("/proc/self/oom_score_adj").write_text("0")
    return len(text) + len(bytearray(400 << 20))


def wasteful(text: str) -> int:
    """Have a process of its own run out of memory, and go on: for so long that what follows has
    another cause.
    """
    import subprocess
    import sys
    import time

    subprocess.call([sys.executable, "-c", "bytearray(400 << 20)"])
    time.sleep(3)  # what happened just before would be the cause
    return len(text)


def bomb() -> None:
    """Fork until nothing more can be forked."""
    import contextlib
    import os
    import signal

    while True:
        if os.fork() == 0:
            with contextlib.suppress(OSError):
                while True:
                    os.fork()
            signal.pause()


def leave_things() -> tuple[str, int]:
    """Leave a file and processes of sessions of their own. Returns its name, and how many processes
    there are.
    """
    import os
    import subprocess
    import sys
    from pathlib import Path

    Path("/tmp/left/deep").mkdir(parents=True)
    Path("/tmp/left/deep/file").write_bytes(bytes(1_000_000))
    Path("/tmp/left/deep").chmod(0)
    for _ in range(3):
        subprocess.Popen(
            [sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True
        )
    return "left", sum(name.isdigit() for name in os.listdir("/proc"))


def look_around() -> tuple[list[str], list[str], int]:
    """Files in /tmp, and again with what lies there, and how many processes there are."""
    import os

    found = [name for _, folders, files in os.walk("/tmp") for name in (*folders, *files)]
    return os.listdir("/tmp"), found, sum(name.isdigit() for name in os.listdir("/proc"))


def reach_the_first_process() -> list[str]:
    """Descriptors and secrets of the first process that a task may open."""
    import os

    reached = []
    for place in ("/proc/1/fd", "/proc/1/environ", "/proc/1/mem"):
        try:
            found = (
                [f"{place}/{name}" for name in os.listdir(place)]
                if place.endswith("fd")
                else [place]
            )
        except OSError:
            continue
        for path in found:
            try:
                os.close(os.open(path, os.O_WRONLY if "fd" in path else os.O_RDONLY))
                reached.append(path)
            except OSError:
                pass
    return reached


class Block:
    """Memory that travels out of band, as that of arrays does: containers have no numpy."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __reduce_ex__(self, protocol: Any) -> tuple[type[Block], tuple[pickle.PickleBuffer]]:
        return Block, (pickle.PickleBuffer(self.data),)


def block(n_bytes: int, *_: str) -> Block:
    """A block that begins with 1."""
    return Block(bytearray(b"\1") + bytearray(n_bytes - 1))


def grown(value: Block, *_: str) -> Block:
    """Change a block in place, and give it on."""
    value.data[0] += 1
    return value


def first(value: Block, *_: str) -> int:
    """Returns the first byte of a block; then changes it."""
    number = int(value.data[0])
    value.data[0] = 99
    return number


def summed(value: Block) -> int:
    """Read every page of a block, and change none."""
    import zlib

    return zlib.crc32(value.data)


def overwritten(value: Block) -> int:
    """Change every page of a block."""
    for page in range(0, len(value.data), 4096):
        value.data[page] = 7
    return len(value.data)


def written_beyond(n_bytes: int) -> None:
    """Ask for a page, and write more to its file."""
    import gc
    import os

    from dagnb.storage.broker import BrokeredFiles

    (own,) = [item for item in gc.get_objects() if isinstance(item, BrokeredFiles)]
    fd = own.create(f"7-{os.urandom(4).hex()}", 4096, is_copy=False)
    for begin in range(0, n_bytes, 1 << 20):
        os.pwrite(fd, bytes(1 << 20), begin)


def prying(run: str, names: list[str], n_bytes: int) -> tuple[list[int], list[str]]:
    """Ask for files of this run and of another one by its own secret and by others.

    Returns the broker's answers, and the folders of segments in sight.
    """
    import gc
    import socket
    from dataclasses import replace
    from pathlib import Path

    from dagnb.storage.broker import BrokeredFiles, Request

    (own,) = [item for item in gc.get_objects() if isinstance(item, BrokeredFiles)]
    usual = Request(run=own._run, place=own._place, secret=own._secret, name="7-x")
    asked = [
        replace(usual, run=run, name=name, secret=secret)
        for name in names
        for secret in (own._secret, "", "0" * 64)
    ]
    asked += [replace(usual, name=name) for name in ("../" + run + "/" + names[0], "room", "..")]
    asked += [replace(usual, place="elsewhere"), replace(usual, n_bytes=n_bytes), usual]

    answers = []
    for request in asked:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as line:
            line.connect(own._socket)
            line.send(request.pack())
            answers.append(int.from_bytes(line.recv(64), "little", signed=True))
    return answers, [str(path) for path in Path("/dev/shm").glob("*")]
