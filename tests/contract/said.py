"""docs/contract.md: the sentences before the table, each with what checks it, then the table of the
rows.

python -m tests.contract.said    writes the page
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.contract.rows import GROUPS, LAUNCHERS, PAGE, Row

_WIDTH = 120


@dataclass(frozen=True)
class Said:
    """A sentence of the page, and the rows and tests that check it."""

    sentence: str
    checked_by: tuple[str, ...]


PLACEMENT = "test_placement_shows_in_nothing"

SECTIONS: dict[str, tuple[Said, ...]] = {
    "Arguments": (
        Said(
            "Arguments mean what they meant when the task was called: a list or dictionary that you change afterwards, "
            "before the run, is not seen changed by the task. Large arrays are not copied at the call: a run refuses "
            "one that was written to since, with an `ArgumentChangedError` that names it.",
            (
                "arguments before the run",
                "test_a_change_of_a_large_array_is_noticed_wherever_it_is",
            ),
        ),
        Said(
            "Nodes may stand in any value that can be pickled, and a task finds values in their places.",
            ("test_a_value_takes_the_place_of_its_node_in_every_kind_of_container",),
        ),
        Said(
            "Each task gets copies: what it changes in its arguments is seen neither by the client, nor by another "
            "task that reads the same value, nor by its own next attempt.",
            ("sharing between tasks", "retries", PLACEMENT),
        ),
        Said(
            "Within one call identity is kept: a list given twice is one list in the task. An object that is an "
            "argument and a global as well becomes two.",
            (
                *("sharing within a call", PLACEMENT),
                "test_an_object_that_is_an_argument_and_a_global_as_well_becomes_two",
            ),
        ),
        Said(
            "Functions are taken when the run starts: the globals, defaults and classes that they use are read then, "
            "not at the call.",
            ("test_globals_of_a_task_are_taken_when_the_run_starts",),
        ),
    ),
    "Surroundings": (
        Said(
            "Inline tasks run in threads of the client's process, so they have its surroundings; only its context "
            "variables are not theirs, and what a task changes of it stays changed.",
            ("folder", "environment", "main thread", "context variables", "folder of the next"),
        ),
        Said(
            "Tasks in processes on this machine find what the client has at the moment of the run: folders on "
            "`sys.path`, current folder, environment, time zone, umask, limits, `sys.argv`, log level, and the options "
            "that Python was started with.",
            (
                *(
                    "sys.path",
                    "folder",
                    "environment",
                    "time zone",
                    "umask",
                    "limits",
                    "argv",
                    "log level",
                ),
                *("hash seed", "warning options", "X options", "optimised"),
            ),
        ),
        Said("What the client can import, they import, from the same file.", ("imports", "shadow")),
        Said(
            "Settings that the notebook made in libraries or in context variables (options of pandas, the precision of "
            "`decimal`, the error state of numpy) are not handed over: make them in the task, or in a module that it "
            "imports.",
            ("settings of libraries", "context variables"),
        ),
        Said(
            "A function finds the names of the notebook that stand in its code and in that of the functions it uses; "
            "names that only stand in texts (`eval`, `df.query('a > @name')`, a pickle of a class of the notebook) it "
            "does not.",
            ("test_a_task_has_the_names_of_the_notebook_that_stand_in_its_code_alone",),
        ),
        Said(
            "Tasks in containers find a machine of their own: your modules travel there as copies, while folders, "
            "environment variables, network and rights are what you grant with `Docker(...)`.",
            (
                *("imports", "folder", "environment", "network", "user", "temporary folder"),
                "test_a_folder_is_read_only_unless_it_was_granted_for_writing",
                "test_variables_are_set_as_told",
                "test_a_network_is_there_for_the_task_that_was_granted_one_and_for_no_other",
            ),
        ),
        Said(
            "A plain function may start an event loop or a program as it may in the notebook, and on processes and in "
            "containers a pool of forked processes, too.",
            ("running loop", "subprocess", "fork"),
        ),
    ),
    "Isolation": (
        Said(
            "What one task changes of its process is not met by the next task on that worker: folder, "
            "environment, umask, `sys.path`, signal handlers, standard streams, numeric state, context variables. What "
            "importing a module changes stays, as the module does, and so do settings, seeds and caches of "
            "libraries, limits and the affinity to CPUs. Inline only what a thread has of its own is put back.",
            (
                *(
                    "folder of the next",
                    "environment of the next",
                    "umask of the next",
                    "sys.path of the next",
                ),
                *("signal handlers of the next", "stdout of the next", "numeric state of the next"),
                "context variables of the next",
            ),
        ),
        Said(
            "Globals of the notebook are the exception: a worker has a copy with each function, which later calls of "
            "that function there find as it was left, so do not count on either.",
            ("globals",),
        ),
        Said(
            "A task that raises, calls `sys.exit` or exceeds its time limit fails alone, and tells its own class, "
            "message, causes and lines; inline, time limits are not enforced.",
            ("exceptions", "sys.exit", "time limit", PLACEMENT),
        ),
        Said(
            "Threads that a task left are reported in its output; processes that it left are ended with the run, except "
            "inline.",
            ("children", "test_threads_that_a_task_left_are_told_in_its_output_once"),
        ),
    ),
    "What travels": (
        Said(
            "Functions, classes and values of the notebook travel by value, all else by the name it is imported by; "
            "results come back as copies, equal on every launcher.",
            ("name", "nested", PLACEMENT),
        ),
        Said(
            "An argument that cannot be pickled is refused at the call, a function when it is run, with an "
            "`UnserialisableError` that names the part by its path; so is an open file.",
            (
                "open file",
                "test_an_argument_that_cannot_be_pickled_is_refused_before_anything_runs",
            ),
        ),
        Said(
            "A result that cannot be pickled is the failure of its own task (`UnserialisableError`), and no reader "
            "runs.",
            (
                "unpicklable",
                "test_a_value_that_cannot_be_pickled_is_the_failure_of_who_gave_it_and_no_reader_runs",
            ),
        ),
        Said(
            "A result that cannot be unpickled is the failure of each task that reads it, reported with both names; in the "
            "client it is a `ValueUnreadableError`, which keeps the bytes.",
            (
                *("unreadable by a task", "unreadable by the client"),
                "test_a_value_that_cannot_be_unpickled_is_the_failure_of_whoever_reads_it",
                "test_the_bytes_are_offered_and_can_be_read_once_the_class_is_cured",
            ),
        ),
    ),
}
SAID = tuple(said for section in SECTIONS.values() for said in section)

_INTRODUCTION = """\
# What a task may rely on

Where a task runs shows in nothing that it computes: inline, in a process of this machine or in a container, a program
comes to the same results and the same errors as plain Python would, one call after the other. What it sees of its
surroundings is in the table below. The tests look at every cell of it on the real launcher, and write this page
(`python -m tests.contract.said`)."""


def page() -> str:
    """The whole text."""
    parts = [_INTRODUCTION]
    for title, sentences in SECTIONS.items():
        parts.append(f"## {title}\n\n" + _wrapped(" ".join(said.sentence for said in sentences)))
    parts.append("## The table")
    for title, rows in GROUPS.items():
        lines = [
            f"| {title} | {' | '.join(LAUNCHERS)} | why they differ |",
            "|---|---|---|---|---|",
        ]
        lines += [_line(row) for row in rows]
        parts.append("\n".join(lines))
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _line(row: Row) -> str:
    told = [row.cell(launcher).text for launcher in LAUNCHERS]
    return f"| {row.topic} | {' | '.join(told)} | {row.reason} |".replace("|  |", "| |")


def _wrapped(text: str) -> str:
    """Lines of the width of the other documents. Not by textwrap, which would break code in
    backticks.
    """
    lines = [""]
    for word in _words(text):
        if len(lines[-1]) + len(word) >= _WIDTH:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return "\n".join(lines)


def _words(text: str) -> list[str]:
    found: list[str] = []
    for word in text.split():
        if found and found[-1].count("`") % 2:
            found[-1] += f" {word}"
        else:
            found.append(word)
    return found


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
