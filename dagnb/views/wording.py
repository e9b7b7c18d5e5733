"""Wording of amounts and lists, such as "250 ms", "1.5 kB" or "3 tasks"."""

from __future__ import annotations

from collections.abc import Sequence

from dagnb.graph.brief import number
from dagnb.graph.resources import Resources
from dagnb.units import moment_text as moment_text  # noqa: PLC0414  # wording of moments, too
from dagnb.worker_label import label_text

# In views `number` is a coordinate.
counted = number


def resources_text(resources: Resources) -> str:
    """CPUs, memory and packages in words; 'default' when the launcher chooses.

    >>> resources_text(Resources(memory_mb=512)), resources_text(Resources())
    ('512 MB', 'default')
    """
    return label_text(resources.label()) or "default"


def listed(names: Sequence[str], limit: int) -> str:
    """The first names, and how many more there are.

    >>> listed(["a", "b", "c"], 2), listed(["a"], 2)
    ('a, b and 1 more', 'a')
    """
    shown = ", ".join(names[:limit])
    if len(names) <= limit:
        return shown
    return f"{shown} and {len(names) - limit:,} more"


def seconds_text(seconds: float) -> str:
    """A duration in the unit that fits.

    >>> [seconds_text(s) for s in (0, 0.00042, 0.25, 4.2, 75, 7500)]
    ['0 s', '0.42 ms', '250 ms', '4.2 s', '1 min 15 s', '2 h 5 min']
    """
    if seconds < 0:
        return f"-{seconds_text(-seconds)}"
    if seconds < 1:
        # Below a microsecond there is only noise of the clock.
        return f"{seconds * 1e3:.3g} ms" if round(seconds, 6) else "0 s"
    if seconds < 59.95:  # from here on three digits would round to '60 s'
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return _in_two_units(minutes, "min", rest, "s")
    hours, minutes = divmod(minutes, 60)
    return _in_two_units(hours, "h", minutes, "min")


def _in_two_units(large: int, unit: str, small: int, small_unit: str) -> str:
    return f"{large} {unit} {small} {small_unit}" if small else f"{large} {unit}"


def window_text(begin_s: float, end_s: float) -> str:
    """From one moment to another, in the unit of the later.

    >>> [window_text(*w) for w in ((0.1, 0.93), (0.93, 1.294), (30.0, 75.0))]
    ['100 to 930 ms', '0.93 to 1.29 s', '30 s to 1 min 15 s']
    """
    if end_s < 1:
        return f"{begin_s * 1e3:.3g} to {end_s * 1e3:.3g} ms"
    if end_s < 59.95:
        return f"{begin_s:.3g} to {end_s:.3g} s"
    return f"{seconds_text(begin_s)} to {seconds_text(end_s)}"


def difference_text(seconds: float) -> str:
    """A difference of durations, with its sign.

    >>> difference_text(0.25), difference_text(-1.5)
    ('+250 ms', '-1.5 s')
    """
    if seconds < 0:
        return seconds_text(seconds)  # with its minus
    return f"+{seconds_text(seconds)}"


def bytes_text(n_bytes: int) -> str:
    """A size in decimal units.

    >>> [bytes_text(n) for n in (0, 999, 1500, 20_000_000)]
    ['0 B', '999 B', '1.5 kB', '20 MB']
    """
    size = float(n_bytes)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 999.5:  # 999.5 with three digits is '1e+03'
            return f"{size:.3g} {unit}"
        size /= 1e3
    return f"{size:,.0f} PB"


def held_text(gb_s: float) -> str:
    """Memory held over time, in gigabytes times seconds.

    >>> [held_text(n) for n in (0.0312, 57.4, 15_300)]
    ['0.0312 GB·s', '57.4 GB·s', '15,300 GB·s']
    """
    return f"{gb_s:,.0f} GB·s" if gb_s >= 999.5 else f"{gb_s:.3g} GB·s"
