"""The surroundings of tasks: the client's path, folder, environment, limits, logging and so on.

    client       of_this_process, at the launch of a run -> to_dict -> JSON of the invocation
    supervisor   of -> enter_environment, once a run; workers inherit the environment
    worker       of -> enter, before any user code is unpickled or imported

An interpreter reads some settings only at its start: see `PythonStart` in hosting/interpreter.py.
"""

from __future__ import annotations

import contextlib
import io
import locale
import logging
import os
import resource
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, TypeGuard

from dagnb.graph.brief import brief
from dagnb.graph.context import is_inside
from dagnb.sources import Place
from dagnb_workers.surroundings import findable
from dagnb_workers.surroundings.aspects import current_folder, current_umask


@dataclass(frozen=True, slots=True, kw_only=True)
class Printing:
    """A handler that prints to stdout or stderr: its level, format, format of dates, style."""

    is_stdout: bool
    level: int
    form: str | None = None
    date_form: str | None = None
    style: str = "%"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggerSettings:
    """Settings of one logger; '' is the root."""

    name: str
    level: int
    propagate: bool = True
    disabled: bool = False
    printing: tuple[Printing, ...] = ()

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> LoggerSettings:
        """Returns the settings that dataclasses.asdict gave, read from JSON."""
        return cls(**{**data, "printing": tuple(Printing(**each) for each in data["printing"])})


FilterLine = tuple[str, str, str, str, str, int]
"""action, message, module and name of the category, module, line"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Warning filters, the first one first."""

    lines: tuple[FilterLine, ...]

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Filters:
        """Returns the filters that dataclasses.asdict gave, read from JSON."""
        return cls(lines=tuple(map(tuple, data["lines"])))


# ---- loggers ----


def of_loggers() -> tuple[LoggerSettings, ...]:
    """Returns the settings of the root logger and of all loggers that differ from a new one."""
    loggers = [_settings("")]
    # The dictionary also holds placeholders for names that only have loggers below them.
    for name, logger in sorted(dict(logging.root.manager.loggerDict).items()):
        if not isinstance(logger, logging.Logger):
            continue
        settings = _settings(name)
        if settings != LoggerSettings(name=name, level=logging.NOTSET):
            loggers.append(settings)
    return tuple(loggers)


def _settings(name: str) -> LoggerSettings:
    logger = logging.getLogger(name or None)
    return LoggerSettings(
        name=name,
        level=logger.level,
        propagate=logger.propagate,
        disabled=logger.disabled,
        printing=tuple(_printing(handler) for handler in logger.handlers if _is_printing(handler)),
    )


def _is_printing(handler: logging.Handler) -> TypeGuard[logging.StreamHandler[Any]]:
    """Returns whether a handler writes to a terminal or a notebook, not to a file or memory."""
    if not isinstance(handler, logging.StreamHandler) or isinstance(handler, logging.FileHandler):
        return False
    return not isinstance(handler.stream, io.StringIO)


def _printing(handler: logging.StreamHandler[Any]) -> Printing:
    is_stdout = handler.stream is not None and handler.stream in (sys.stdout, sys.__stdout__)
    formatter = handler.formatter
    if type(formatter) is not logging.Formatter:  # None, or of a user's class
        return Printing(is_stdout=is_stdout, level=handler.level)
    styles = {logging.StrFormatStyle: "{", logging.StringTemplateStyle: "$"}
    return Printing(
        is_stdout=is_stdout,
        level=handler.level,
        form=formatter._fmt,
        date_form=formatter.datefmt,
        style=styles.get(type(formatter._style), "%"),
    )


def set_loggers(loggers: Sequence[LoggerSettings]) -> None:
    """Set the loggers of this process like the client's.

    Their handlers print to the streams of this process: records of tasks, and all warnings.
    """
    for settings in loggers:
        logger = logging.getLogger(settings.name or None)
        logger.setLevel(settings.level)
        logger.propagate, logger.disabled = settings.propagate, settings.disabled
        for printing in settings.printing:
            logger.addHandler(_handler(printing))


def _handler(printing: Printing) -> logging.Handler:
    handler = logging.StreamHandler(sys.stdout if printing.is_stdout else sys.stderr)
    handler.setLevel(printing.level)
    if printing.form is not None or printing.date_form is not None:
        # The style is valid, because the client's formatter had it.
        handler.setFormatter(
            logging.Formatter(printing.form, printing.date_form, printing.style)  # type: ignore[arg-type]
        )
    handler.addFilter(_is_of_a_task)
    return handler


def _is_of_a_task(record: logging.LogRecord) -> bool:
    """Returns whether a record belongs to the output of a task: a task runs, or it is a warning.

    All other records are of dagnb itself and the libraries it uses.
    """
    return is_inside() or record.levelno >= logging.WARNING


# ---- warnings ----


def of_warnings() -> Filters:
    """Returns the filters of this process."""
    lines: list[FilterLine] = []
    for action, message, category, module, line in warnings.filters:
        if isinstance(category, type):
            lines.append(
                (
                    action,
                    _pattern(message),
                    category.__module__,
                    category.__qualname__,
                    _pattern(module),
                    line,
                )
            )
    return Filters(lines=tuple(lines))


def _pattern(pattern: object) -> str:
    """Returns the text of a compiled pattern, or the text itself; '' for None."""
    return str(getattr(pattern, "pattern", pattern) or "")


def set_warnings(filters: Filters) -> None:
    """Replace the warning filters of this process by these.

    A filter is left out if the module of its category is not loaded: loading it could be slow.
    """
    warnings.resetwarnings()
    for action, message, category_module, name, module, line in filters.lines:
        category = getattr(sys.modules.get(category_module), name, None)
        if isinstance(category, type) and issubclass(category, Warning):
            # The action is valid, because the client had it.
            warnings.filterwarnings(action, message, category, module, line, append=True)  # type: ignore[arg-type]


_TIME_ZONE = "TZ"

THREAD_SETTINGS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
"""Variables that numeric libraries read once, when they are imported."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """The surroundings of one client. A field that is None or empty leaves the worker's own.

    path: sys.path, see `findable.path_of_this_process`.
    places: files of modules that this path would not give, see `findable.places`.
    finders: see `findable.finders`.
    folder: the current one.
    environment: all variables, or only some where `is_whole` is False.
    limits: soft limits of resources by name; None for no limit.
    """

    path: tuple[str, ...] | None = None
    places: Mapping[str, Place] = field(default_factory=dict)
    finders: tuple[str, ...] = ()
    folder: str = ""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    is_whole: bool = True
    umask: int | None = None
    limits: Mapping[str, int | None] = field(default_factory=dict)
    argv: tuple[str, ...] = ()
    loggers: tuple[LoggerSettings, ...] = ()
    warnings: Filters | None = None
    warn_options: tuple[str, ...] = ()
    recursion_limit: int = 0
    int_digits: int | None = None
    locale: str = ""

    __repr__ = brief

    @classmethod
    def of_this_process(cls) -> Surroundings:
        """Returns the present surroundings of this process."""
        return cls(
            path=findable.path_of_this_process(),
            places=findable.places(),
            finders=findable.finders(),
            folder=current_folder(),
            environment=dict(os.environ),
            umask=current_umask(),
            limits=_limits(),
            argv=tuple(map(str, getattr(sys, "argv", ()))),
            loggers=of_loggers(),
            warnings=of_warnings(),
            warn_options=tuple(sys.warnoptions),
            recursion_limit=sys.getrecursionlimit(),
            int_digits=sys.get_int_max_str_digits(),
            locale=locale.setlocale(locale.LC_ALL),
        )

    def portable(self) -> Surroundings:
        """Returns only the fields that mean the same on another file system and machine."""
        zone = {name: value for name, value in self.environment.items() if name == _TIME_ZONE}
        return replace(
            self,
            path=None,
            places={},
            finders=(),
            folder="",
            environment=zone,
            is_whole=False,
            limits={},
            locale="",
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as JSON has them."""
        return asdict(self)

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Surroundings:
        """Returns the surroundings that to_dict gave, read from JSON, which has lists for tuples.

        Fields of other versions of dagnb that this version does not know are left out.
        """
        known = {item.name for item in fields(cls)}
        values = {name: value for name, value in data.items() if name in known}
        for name in ("path", "finders", "argv", "warn_options"):
            if values.get(name) is not None:
                values[name] = tuple(values[name])

        places = {}
        for name, (file, folders) in data.get("places", {}).items():
            places[name] = (file, None if folders is None else tuple(folders))
        values["places"] = places

        values["loggers"] = tuple(LoggerSettings.of(each) for each in data.get("loggers", ()))
        if data.get("warnings") is not None:
            values["warnings"] = Filters.of(data["warnings"])

        # A launcher that sends no surroundings does not mean an empty environment.
        if not data:
            values["is_whole"] = False
        return cls(**values)

    def enter_environment(self, cpus: float | None = None) -> None:
        """Set environment variables and time zone of this process.

        The supervisor of a run calls it once, and its workers inherit both. cpus: of each worker,
        which is also how many threads numeric libraries use unless the client's variables say it.
        """
        if self.is_whole:
            os.environ.clear()
            os.environ.update(self.environment)
        else:
            for name, value in self.environment.items():
                os.environ.setdefault(name, value)
        if cpus is not None:
            for name in THREAD_SETTINGS:
                os.environ.setdefault(name, str(max(1, int(cpus))))
        time.tzset()

    def enter(self) -> None:
        """Set everything else; a worker calls it."""
        # The folder comes before the path, whose entries may be relative to it.
        if self.folder:
            # The folder may be gone, or of another machine: then relative paths fail in the task.
            with contextlib.suppress(OSError):
                os.chdir(self.folder)

        if self.path is not None:
            findable.set_path(self.path, self.places)
            findable.add_finders(self.finders)
        if self.argv:
            sys.argv[:] = self.argv
        if self.umask is not None:
            os.umask(self.umask)

        _set_limits(self.limits)
        if self.locale:
            with contextlib.suppress(locale.Error):
                locale.setlocale(locale.LC_ALL, self.locale)
        if self.int_digits is not None:
            sys.set_int_max_str_digits(self.int_digits)
        if self.recursion_limit:
            with contextlib.suppress(RecursionError):  # the present stack is deeper than the limit
                sys.setrecursionlimit(self.recursion_limit)

        set_loggers(self.loggers)
        if self.warnings is not None:
            sys.warnoptions[:] = self.warn_options
            set_warnings(self.warnings)


def _limits() -> dict[str, int | None]:
    limits: dict[str, int | None] = {}
    for name in dir(resource):
        # The limit of core dumps is left out: a crashed task must not write its memory to a file.
        if name.startswith("RLIMIT_") and name != "RLIMIT_CORE":
            soft, _ = resource.getrlimit(getattr(resource, name))
            limits[name] = None if soft == resource.RLIM_INFINITY else soft
    return limits


def _set_limits(limits: Mapping[str, int | None]) -> None:
    """Set each soft limit, as far as the hard one allows."""
    for name, limit in limits.items():
        number = getattr(resource, name, None)
        if number is None:  # a resource of another system
            continue

        soft, hard = resource.getrlimit(number)
        new_soft = hard if limit is None else limit
        if hard != resource.RLIM_INFINITY:
            new_soft = min(new_soft, hard)
        if new_soft != soft:
            with contextlib.suppress(OSError, ValueError):  # the limit is below what is in use
                resource.setrlimit(number, (new_soft, hard))
