"""What `-h`, `%%dag?` and `%dag?` show."""

from __future__ import annotations

from dagnb_kernel_ext.flags import FLAGS

SUBCOMMANDS = {
    "run": "run NAME: run a node, or the last %%dag cell of that name once more; gives the value",
    "runs": "runs: the runs in the store, newest first",
    "status": "status [RUN]: how many tasks are in which state",
    "errors": "errors [RUN]: every failed attempt, with the lines of code",
    "log": "log TASK [RUN]: what a task printed in its last attempt",
    "why": "why TASK [RUN]: what a task is waiting for",
    "cancel": "cancel [RUN]: end a run and its workers",
    "attach": "attach [RUN]: the run as an object, with its live view; after a restart, without RUN: what is running",
    "forget": "forget RUN: delete everything the store holds of a run",
    "workers": "workers: the processes and containers where tasks run now, or could start at once",
    "predict": "predict FUNCTION [BYTES]: how long it is expected to run, how large its result is, and the evidence",
    "config": "config: the settings and variables in force, and where each value comes from",
    "doctor": "doctor: what is installed, what is missing, and what to do about it",
}
"""subcommand of `%dag` -> how it is written and what it does"""

_NEEDS_VALUE = {
    "--planner": " NAME",
    "--workers": " NAME",
    "--percentile": " P",
    "--metrics": " WHEN",
    "--timeout": " SECONDS",
}


def _rows(rows: dict[str, str]) -> str:
    wide = max(map(len, rows))
    return "\n".join(f"    {left:<{wide}}  {right}" for left, right in rows.items())


TEXT = f"""%%dag NAME [flags]: run this cell as a DAG and bind the result to NAME.

Every function at the top of the cell becomes a task, with @task or without (generators and classes stay what they
are). The last line is what is run: a call of a task, or a list, dict or other structure of such calls, which gives
the same structure of values. The rest is ordinary Python, `await` included, and its names stay in the notebook.

    %%dag total --planner heft
    def count(text): return len(text.split())
    def merge(counts): return sum(counts)
    merge([count(text) for text in texts])

Flags:
{_rows({flag + _NEEDS_VALUE.get(flag, ""): told for flag, told in FLAGS.items()})}

Interrupting the kernel while it waits cancels the run. Restarting or shutting down the kernel does not.

%dag SUBCOMMAND; RUN is a variable that holds a run, a run's name, its id, the beginning of that, or `last` for the
newest of all; left out, it is the latest run of this notebook. TASK is a name such as merge-0, or merge where that is
called once:
{_rows(dict(told.split(": ", 1) for told in SUBCOMMANDS.values()))}"""
