"""The text that `%%dag -h`, `%%dag?` and `%dag?` show."""

from __future__ import annotations

from collections.abc import Mapping

from dagnb_kernel_ext.flags import FLAGS, Usage

SUBCOMMANDS = {
    "run": Usage("NAME", "run a node, or the last %%dag cell of that name again; gives the value"),
    "runs": Usage("", "list the runs in the store, newest first"),
    "status": Usage("[RUN]", "how many tasks are in which state"),
    "errors": Usage("[RUN]", "every failed attempt, with the lines of code"),
    "log": Usage("TASK [RUN]", "what a task printed in its last attempt"),
    "why": Usage("TASK [RUN]", "why a task has not run yet, or what became of it"),
    "cancel": Usage("[RUN]", "end a run and its workers"),
    "attach": Usage(
        "[RUN]", "show a run and give it as an object; without RUN after a restart: what is running"
    ),
    "forget": Usage("RUN", "delete everything the store holds of a run"),
    "workers": Usage("", "the processes and containers where tasks run, or could start at once"),
    "predict": Usage(
        "FUNCTION [BYTES]", "expected duration and output size of a function, with the evidence"
    ),
    "config": Usage("", "the settings and variables in force, and where each value comes from"),
    "doctor": Usage("", "what is installed, what is missing, and what to do about it"),
}
"""subcommand of `%dag` -> its arguments and its meaning"""


def _rows(usages: Mapping[str, Usage]) -> str:
    lefts = [f"{name} {usage.arguments}".rstrip() for name, usage in usages.items()]
    wide = max(map(len, lefts))
    lines = []
    for left, usage in zip(lefts, usages.values(), strict=True):
        lines.append(f"    {left:<{wide}}  {usage.meaning}")
    return "\n".join(lines)


TEXT = f"""%%dag NAME [flags]: run this cell as a DAG and bind the result to NAME.

Every function at the top of the cell becomes a task, with or without @task; generators and classes
do not. A call of a task does not run it: it makes a node of the DAG. The last line says what to
run: a call of a task, or a list, dict or other structure of calls. NAME gets the value, or the same
structure of values. Everything else is ordinary Python, `await` included, and its names stay in the
notebook.

    %%dag total --planner heft
    def count(text): return len(text.split())
    def merge(counts): return sum(counts)
    merge([count(text) for text in texts])

Flags:
{_rows(FLAGS)}

Interrupting the kernel while it waits cancels the run. Restarting or shutting it down does not.

%dag SUBCOMMAND: look at runs, or change them.

{_rows(SUBCOMMANDS)}

RUN is a variable that holds a run, the name of a run, its id or the beginning of that, or `last`
for the newest run of all. Left out, it is the latest run of this notebook.
TASK is the name of a task, such as merge-0; merge is enough where it is called once."""
