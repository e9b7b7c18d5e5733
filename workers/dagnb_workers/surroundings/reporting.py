"""The client's settings of messages: levels and handlers of loggers, filters of warnings."""

from __future__ import annotations

import io
import logging
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from dagnb.graph.context import is_inside


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
