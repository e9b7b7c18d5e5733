"""The floor: what bare Redis and two processes can do. A limit, not a design, and never changed with dagnb.

One script call stores results, counts downstream tasks down, queues those that became ready, and
returns the next ones. No leases, no failures, no signatures, nothing kept after the run. Arrays
are files in /dev/shm, mapped by their readers, read-only.

    Floor(batch=1)     one task a round trip
    Floor(batch=128)   about 1 ms of work a round trip, counts of a batch summed before they are sent
"""

from __future__ import annotations

import hashlib
import mmap
import multiprocessing
import os
import pickle
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import cloudpickle
import redis

from benchmarks.peers.system import Given, Graph, Ref, edges, filled

SCRIPT = """
local counts, results, ready, done = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local want, workers = tonumber(ARGV[1]), tonumber(ARGV[2])
local new, at = {}, 4
for _ = 1, tonumber(ARGV[3]) do new[#new + 1] = ARGV[at]; at = at + 1 end
local n_counted = tonumber(ARGV[at]); at = at + 1
for _ = 1, n_counted do
  if redis.call('HINCRBY', counts, ARGV[at], -tonumber(ARGV[at + 1])) == 0 then new[#new + 1] = ARGV[at] end
  at = at + 2
end
local sink = ARGV[at]; at = at + 1
for from = at, #ARGV, 4000 do
  redis.call('HSET', results, unpack(ARGV, from, math.min(#ARGV, from + 3999)))
end
if sink ~= '' then
  redis.call('RPUSH', done, sink)
  for _ = 1, workers do redis.call('RPUSH', ready, 'END') end
  return {}
end
local waiting = redis.call('LLEN', ready)
local take = math.min(want, math.max(1, math.ceil((#new + waiting) / workers)))
local out, left = {}, #new
while left > 0 and #out < take do out[#out + 1] = new[left]; left = left - 1 end
for from = 1, left, 4000 do redis.call('RPUSH', ready, unpack(new, from, math.min(left, from + 3999))) end
if #out < take and waiting > 0 then
  local more = redis.call('LPOP', ready, take - #out)
  if more then for _, task in ipairs(more) do out[#out + 1] = task end end
end
return out
"""
SHA = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()
WORKERS = 2
BATCH_S = 1e-3
SEGMENTS = Path("/dev/shm")
MAPPED_BYTES = 65_536
SLICE = 5_000
"""items of one command at most"""


class Floor:
    """A server of its own on a socket, and two worker processes of a fork server."""

    def __init__(self, *, batch: int) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="floor"))
        path = str(self._folder / "redis.sock")
        options = ["--port", "0", "--unixsocket", path, "--save", "", "--appendonly", "no"]
        program = shutil.which("redis-server") or "redis-server"
        self._server = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
        self._redis = redis.Redis(unix_socket_path=path, socket_timeout=None)
        _await(self._redis)
        self._redis.script_load(SCRIPT)

        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__, "numpy"])
        self._workers = []
        for index in range(WORKERS):
            process = context.Process(
                target=work, args=(path, index, batch, self._folder.name), daemon=True
            )
            process.start()
            self._workers.append(process)
        for _ in range(WORKERS):
            self._redis.blpop(["up"])

    def run(self, graph: Graph) -> Any:
        """Returns the value of the last call."""
        run = os.urandom(6).hex()
        functions: dict[Any, int] = {}
        upstream, downstream = edges(graph)
        n_upstream = [len(calls) for calls in upstream]
        packed = []
        for function, arguments in graph.calls:
            kept = tuple(self._kept(run, argument) for argument in arguments)
            packed.append((functions.setdefault(function, len(functions)), kept))
        pickled = [cloudpickle.dumps(function) for function in functions]
        program = pickle.dumps((pickled, packed, downstream, n_upstream), 5)

        pipe = self._redis.pipeline(transaction=False)
        pipe.set(f"program:{run}", program)
        several = [(task, n) for task, n in enumerate(n_upstream) if n > 1]
        for begin in range(0, len(several), SLICE):
            pipe.hset(f"counts:{run}", mapping=dict(several[begin : begin + SLICE]))
        sources = [task for task, n in enumerate(n_upstream) if n == 0]
        for begin in range(0, len(sources), SLICE):
            pipe.rpush(f"ready:{run}", *sources[begin : begin + SLICE])
        for index in range(WORKERS):
            pipe.rpush(f"wake{index}", run)
        pipe.execute()

        value = loaded(self._redis.blpop([f"done:{run}"])[1])  # type: ignore[index]  # without a limit it returns a pair
        self._redis.unlink(f"program:{run}", f"counts:{run}", f"results:{run}")
        return value

    def _kept(self, run: str, argument: Any) -> Any:
        """Returns the argument; the place of its array instead of a large value of the client's."""
        if type(argument) is not Given:
            return argument
        name = f"{self._folder.name}-{run}-client-{id(argument.value)}"
        is_there = (SEGMENTS / name).exists()
        return Given(place(argument.value, name) if is_there else stored(argument.value, name))

    def tidy(self) -> None:
        """Remove the arrays of runs."""
        for segment in SEGMENTS.glob(f"{self._folder.name}-*"):
            segment.unlink()

    def roots(self) -> dict[str, int]:
        """Returns the server, which is below the client as the workers are."""
        return {"store": self._server.pid}

    def close(self) -> None:
        """End workers and server."""
        for index in range(WORKERS):
            self._redis.rpush(f"wake{index}", "quit")
        for process in self._workers:
            process.join(10)
        self._redis.close()
        self._server.terminate()
        self._server.wait()
        self.tidy()
        shutil.rmtree(self._folder)


def _await(client: redis.Redis) -> None:
    """Returns when the server answers. Raises redis.ConnectionError after 10 s."""
    until = time.monotonic() + 10
    while True:
        try:
            client.ping()
        except redis.ConnectionError:
            if time.monotonic() > until:
                raise
            time.sleep(0.002)
        else:
            return


# ---- the worker ----


def work(path: str, index: int, batch: int, prefix: str) -> None:
    """Work for one run after the other, until the word 'quit' comes."""
    server = redis.Redis(unix_socket_path=path, socket_timeout=None)
    server.rpush("up", "1")
    while True:
        run = server.blpop([f"wake{index}"])[1].decode()  # type: ignore[index]  # as above
        if run == "quit":
            return
        program = server.get(f"program:{run}")
        if program is not None:  # None: the other worker has finished the run already
            _work_for(server, run, pickle.loads(program), batch, prefix)  # type: ignore[arg-type]  # bytes, of a client that does not wait


def _work_for(server: Any, run: str, program: Any, batch: int, prefix: str) -> None:
    """Run tasks until the last one of the run, which this worker or the other one commits."""
    pickled, calls, downstream, n_upstream = program
    functions = [pickle.loads(function) for function in pickled]
    keys = [f"{name}:{run}" for name in ("counts", "results", "ready", "done")]
    _, results, ready, _ = keys
    values: dict[int, Any] = {}
    mean_s, todo = 2e-4, _taken(server.lpop(ready))
    while todo is not None:
        if not todo:
            todo = _taken(server.blpop([ready])[1])
            continue
        _fetch(server, results, [calls[task] for task in todo], values)

        begin_s, ended = time.perf_counter(), b""
        outputs: list[Any] = []
        for task in todo:
            function, arguments = calls[task]
            value = functions[function](*filled(arguments, values, loaded))
            values[task] = value
            output = stored(value, f"{prefix}-{run}-{task}")
            outputs += (task, output)
            if task == len(calls) - 1:
                ended = output
        pushed, counts = _passed_on(todo, downstream, n_upstream)

        mean_s = 0.7 * mean_s + 0.3 * (time.perf_counter() - begin_s) / len(todo)
        want = max(1, min(batch, int(BATCH_S / mean_s)))
        change = (len(pushed), *pushed, len(counts) // 2, *counts)
        answer = server.evalsha(SHA, 4, *keys, want, WORKERS, *change, ended, *outputs)
        todo = [int(task) for task in answer]
        if ended:
            server.blpop([ready])  # this worker's own END
            return


def _passed_on(
    tasks: list[int], downstream: list[list[int]], n_upstream: list[int]
) -> tuple[list[int], list[int]]:
    """Returns the tasks that are ready now, and task, n, task, n, ...: n upstream tasks are done."""
    pushed = []
    counted: Counter[int] = Counter()
    for task in tasks:
        for reader in downstream[task]:
            if n_upstream[reader] == 1:
                pushed.append(reader)
            else:
                counted[reader] += 1
    counts: list[int] = []
    for pair in counted.items():
        counts += pair
    return pushed, counts


def _taken(word: bytes | None) -> list[int] | None:
    """Returns the task of a queue's item; None at the end of the run."""
    if word == b"END":
        return None
    return [] if word is None else [int(word)]


def _fetch(server: Any, results: str, calls: list[Any], values: dict[int, Any]) -> None:
    """Add the values that these calls read and that this worker does not have."""
    missing = set()
    for _, arguments in calls:
        for argument in arguments:
            if type(argument) is Ref and argument.call not in values:
                missing.add(argument.call)
    if missing:
        wanted = list(missing)
        for task, output in zip(wanted, server.hmget(results, wanted), strict=True):
            values[task] = loaded(output)


def stored(value: Any, name: str) -> bytes:
    """Returns the bytes of a value: its pickle, or the place of a large array."""
    if getattr(value, "nbytes", 0) <= MAPPED_BYTES:
        return pickle.dumps(value, 5)
    (SEGMENTS / name).write_bytes(memoryview(value).cast("B"))
    return place(value, name)


def place(value: Any, name: str) -> bytes:
    """Returns the place of an array that is in a segment of this name."""
    return b"@" + pickle.dumps((str(SEGMENTS / name), value.dtype.str, value.shape))


def loaded(output: bytes) -> Any:
    """Returns the value; a large array is mapped."""
    if output[:1] != b"@":
        return pickle.loads(output)
    import numpy as np  # noqa: PLC0415  # most runs have no arrays

    path, kind, shape = pickle.loads(output[1:])
    with open(path, "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    return np.frombuffer(mapped, kind).reshape(shape)
