"""The keys of a run in Redis: type, writer, content, lifetime.

All keys of a run share one hash tag, so one cluster slot.

| key      | type   | written by        | content |
|----------|--------|-------------------|---------|
| `m`      | hash   | submit, every step | state, times, counters, meta, sinks; queues, see below |
| `s`      | string | every step        | one byte a task: its state |
| `e`      | string | complete, lost    | bitmap, one bit an edge to a task with several inputs |
| `n`      | hash   | `records`         | packed Records in blocks, see scripts/values.lua |
| `r`      | hash   | complete          | position of a sink -> letter `z`, then its Address |
| `a`      | hash   | fail, dead, reap  | position -> "exceptions,crashes,losses" |
| `y`      | string | readying steps    | 8 bytes a task: moment when ready, big-endian double |
| `q:<i>`  | zset   | readying steps    | ready tasks of queue i by priority |
| `f:<i>`  | zset   | release           | free members of queue i |
| `d`      | zset   | fail              | backing-off tasks by the moment they are due |
| `inv`    | zset   | route             | invoked members "queue/member" by urgency; `inv:<kind>` |
| `w`      | hash   | route, adopt      | member -> nonce |
| `l`      | zset   | register, heartbeat | instance -> end of lease |
| `k`      | hash   | register          | instance -> its kind, while leased; '' is left out |
| `h`      | hash   | adopt, release    | instance -> "queue/member name" of its worker |
| `x`      | hash   | pull, complete    | instance -> running tasks, comma-separated |
| `err`    | hash   | fail, dead, reap  | "position:attempt" -> JSON |
| `ev`     | stream | every step        | events of one step each, about the last 20,000 |
| `sp`     | list   | complete, record  | chunks of spans, see dagnb.trace.chunk |
| `log`    | hash   | complete, fail    | position -> its output, shortened |
| `v`, `z` | hash   | complete, put     | "position:token" -> small result; `z` those of sinks |
| `v`      | hash   | complete          | position of others -> Address; a tiny result behind it |
| `b:...`  | string | plain SET         | chunk `b:<position>:<token>:<i>` of a large result |
| `big`    | set    | complete          | "position:token:n_chunks" of large ones, till the end |
| `bigz`   | set    | complete          | the same for sinks, which stay |
| `spawn`  | list   | route, end        | hints: names of invoked workers, "stop"; `spawn:<kind>` |
| `use`    | set    | `use`             | hashes of the content that the run uses |
| `need`   | list   | route, end        | one element: launchers by kind should ask `demand` |

`m` holds `deadline_at` of a run that has one, and `start_by` until an instance takes part. Of queue
i it holds `q<i>` name, `c<i>` cap, `k<i>` kind if it has one, `i<i>` invoked, `a<i>` active, `h<i>`
highest member. `inv` and `spawn` are those of kind ''; every other kind has its own. `kinds` in
`m`: those of queues but '', packed; it is there as soon as a queue or an instance has one. At the
end of the run `k` is deleted. `end` is a channel: a message when the run is over.

Beside the runs there are `dagnb:runs` (zset: run by the moment until which it surely lives) and
content that runs share, listed in the set `dagnb:contents`. `dagnb:p:{<hash>}` (hash) holds pieces
of it by number, and `n`, its size, as soon as it is whole. `dagnb:p:{<hash>}:u` (zset) holds its
users: runs by the moment until which they surely use it. Both live as long as the user that lives
longest: heartbeats that renew the keys of a run renew them. Each content has a cluster slot of its
own, so it is reached by other calls than the run.

A key is made with its time to live in the same step; heartbeats renew them all. Redis deletes an
empty collection, and its time to live with it. So some hashes keep a field '', and the others get
their time to live with every write.
"""

from __future__ import annotations


def run_prefix(namespace: str, run: str) -> str:
    """Returns the beginning of every key of a run."""
    return f"{namespace}:{{{run}}}:"


def content_key(namespace: str, content_hash: str) -> str:
    """Returns the key of shared content."""
    return f"{namespace}:p:{{{content_hash}}}"


def index_key(namespace: str) -> str:
    """Returns the key of the list of runs."""
    return f"{namespace}:runs"


def contents_key(namespace: str) -> str:
    """Returns the key of the list of shared contents."""
    return f"{namespace}:contents"


def chunk_key(prefix: str, task: int, token: str, chunk: int) -> str:
    """Returns the key of one chunk of a large result."""
    return f"{prefix}b:{task}:{token}:{chunk}"


def hint_name(kind: str) -> str:
    """Returns the name of the list of hints for instances of a kind."""
    return f"spawn:{kind}" if kind else "spawn"


def small_field(task: int, token: str) -> str:
    """Returns the field of a small result in `v` or `z`."""
    return f"{task}:{token}"
