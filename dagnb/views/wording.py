"""How amounts are said to people: the only place that writes milliseconds or megabytes."""

from __future__ import annotations

import re

from dagnb.units import moment_text as moment_text  # noqa: PLC0414  # how a moment is said, too


def seconds_text(seconds: float) -> str:
    """A duration in the unit that fits.

    >>> [seconds_text(s) for s in (0, 0.00042, 0.25, 4.2, 75, 7500)]
    ['0 s', '0.42 ms', '250 ms', '4.2 s', '1 min 15 s', '2 h 5 min']
    """
    if seconds < 0:
        return f"-{seconds_text(-seconds)}"
    if seconds < 1:
        return f"{seconds * 1e3:.3g} ms" if round(seconds, 6) else "0 s"
    if seconds < 59.95:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


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


def bytes_text(n_bytes: int) -> str:
    """A size in decimal units.

    >>> [bytes_text(n) for n in (0, 999, 1500, 20_000_000)]
    ['0 B', '999 B', '1.5 kB', '20 MB']
    """
    size = float(n_bytes)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1e3
    return f"{size:,.0f} PB"


def held_text(gb_s: float) -> str:
    """Memory held over time.

    >>> [held_text(n) for n in (0.0312, 57.4, 15_300)]
    ['0.0312 GB·s', '57.4 GB·s', '15,300 GB·s']
    """
    return f"{gb_s:,.0f} GB·s" if gb_s >= 999.5 else f"{gb_s:.3g} GB·s"


def counted(n: int, thing: str) -> str:
    """A number of things.

    >>> counted(1, "task"), counted(12000, "copy"), counted(2, "key")
    ('1 task', '12,000 copies', '2 keys')
    """
    plural = f"{thing[:-1]}ies" if thing.endswith("y") and thing[-2] not in "aeou" else f"{thing}s"
    return f"{n:,} {thing if n == 1 else plural}"


def worker_label(name: str) -> str:
    """Returns the name of a worker for people.

    >>> [worker_label(name) for name in ("~/1", "~200mb/12", "~2cpu-200mb/1", "trainer")]
    ['worker 1', 'worker 12 (200 MB)', 'worker 1 (2 CPU, 200 MB)', 'trainer']
    """
    if not name.startswith("~"):
        return name
    resources, _, number = name[1:].rpartition("/")
    label = f"worker {number}"
    if resources:
        parts = [_UNIT.sub(r"\1 \2", part) for part in resources.split("-")]
        label += f" ({', '.join(parts).replace('mb', 'MB').replace('cpu', 'CPU')})"
    return label


_UNIT = re.compile(r"^([\d.]+)(cpu|mb)$")
