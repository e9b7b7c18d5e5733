"""Every key of a run in Redis: its type, writer, reader, lifetime. All share one hash tag, so one cluster slot.

| key       | type   | written by             | content |
|-----------|--------|------------------------|---------|
| `m`       | hash   | submit, every step     | state, times, serial, counters, meta, sinks; queues, see below |
| `s`       | string | every step             | one byte a task: its state |
| `e`       | string | complete, lost         | bitmap, one bit an edge to a task with several inputs |
| `n`       | hash   | records, before submit | position -> packed Record |
| `r`       | hash   | complete               | position -> `v` or `z` (where a small value lies), then its Address |
| `a`       | hash   | fail, dead, reap       | position -> "exceptions,crashes,losses" |
| `y`       | string | whoever makes it ready | eight bytes a task: moment it became ready, big-endian double |
| `q:<i>`   | zset   | whoever makes it ready | ready tasks of queue i by priority |
| `f:<i>`   | zset   | release                | free members of queue i |
| `d`       | zset   | fail                   | backing-off tasks by the moment they are due |
| `inv`     | zset   | route                  | invoked members "queue/member" by urgency; `inv:<kind>` |
| `w`       | hash   | route, adopt           | member -> nonce |
| `l`       | zset   | register, heartbeat    | instance -> end of lease |
| `k`       | hash   | register               | instance -> its kind, as long as it has a lease; '' is left out |
| `h`       | hash   | adopt, release         | instance -> "queue/member name" of its worker |
| `x`       | hash   | pull, complete         | instance -> running tasks, comma-separated |
| `err`     | hash   | fail, dead, reap       | "position:attempt" -> JSON |
| `ev`      | stream | every step             | events of one step each, about the last 20,000 |
| `sp`      | list   | complete, record       | chunks of spans |
| `log`     | hash   | complete, fail         | position -> what it printed, shortened |
| `v`, `z`  | hash   | complete, put          | "position:token" -> small result; `z` those of sinks |
| `b:...`   | string | plain SET              | chunk `b:<position>:<token>:<i>` of a large result |
| `big`     | set    | complete               | "position:token:n_chunks" of large results, unlinked at the end |
| `bigz`    | set    | complete               | the same for sinks, which stay |
| `spawn`   | list   | route, end             | hints: names of invoked workers, "stop"; `spawn:<kind>` |
| `use`     | set    | use, before submit     | hashes of the content that the run uses |
| `need`    | list   | route, end             | one element: who starts instances of kinds should look |

`m` holds `deadline_at` of a run that has one, and `start_by` until somebody takes part. Of queue i it holds `q<i>`
name, `c<i>` cap, `k<i>` kind if it has one, `i<i>` invoked, `a<i>` active, `h<i>` highest member. Of kind ''
are `inv` and `spawn`; every other kind has its own. `kinds` in `m`: those of queues but '', packed; it is there as soon
as a queue or an instance has one. At the end of the run `k` is deleted.
`end` is a channel: a message when the run is over. Beside the runs: `dagnb:runs` (zset, run by the moment until which
it surely lives) and content shared by runs. `dagnb:p:<hash>` (hash) holds pieces of it by number, and `n`, how many
bytes they are, as soon as it is whole. `dagnb:u:<hash>` (zset) holds the runs that use it, by the moment until which
they surely do. Both live as long as the run among these that lives longest: what renews the keys of a run renews them.
A key is made with its time to live in the same step, heartbeats refresh them all. Redis deletes an empty collection
and its time to live with it: so some hashes keep a field '', the others get their time to live with every write.
"""

from __future__ import annotations


def run_prefix(namespace: str, run: str) -> str:
    """What every key of a run begins with."""
    return f"{namespace}:{{{run}}}:"


def content_key(namespace: str, content_hash: str) -> str:
    """Where shared content lies."""
    return f"{namespace}:p:{content_hash}"


def index_key(namespace: str) -> str:
    """The list of runs."""
    return f"{namespace}:runs"


def chunk_key(prefix: str, task: int, token: str, chunk: int) -> str:
    """Where one chunk of a large result lies."""
    return f"{prefix}b:{task}:{token}:{chunk}"


def hint_name(kind: str) -> str:
    """The list where hints for instances of a kind lie."""
    return f"spawn:{kind}" if kind else "spawn"


def small_field(task: int, token: str) -> str:
    """The field of a small result in `v` or `z`."""
    return f"{task}:{token}"
