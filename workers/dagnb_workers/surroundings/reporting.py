"""The client's settings of messages: levels and handlers of its loggers, filters of its warnings."""

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
    """A handler that prints: where to, from which level on, and in which form."""

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
    def of(cls, told: Mapping[str, Any]) -> LoggerSettings:
        """What dataclasses.asdict gave, read from JSON."""
        return cls(**{**told, "printing": tuple(Printing(**each) for each in told["printing"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Warning filters, the first one first: (action, message, module and name of the category, module, line)."""

    lines: tuple[tuple[str, str, str, str, str, int], ...]

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Filters:
        """What dataclasses.asdict gave, read from JSON."""
        return cls(lines=tuple(tuple(line) for line in told["lines"]))


def of_loggers() -> tuple[LoggerSettings, ...]:
    """The loggers of this process of which anything was set."""
    known = dict(logging.root.manager.loggerDict)
    found = [_settings("")]
    for name in sorted(name for name, kept in known.items() if isinstance(kept, logging.Logger)):
        settings = _settings(name)
        if settings != LoggerSettings(name=name, level=logging.NOTSET):
            found.append(settings)
    return tuple(found)


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
    """Returns whether it writes to a terminal or a notebook, rather than to a file of its own, or into memory."""
    if not isinstance(handler, logging.StreamHandler) or isinstance(handler, logging.FileHandler):
        return False
    return not isinstance(handler.stream, io.StringIO)


def _printing(handler: logging.StreamHandler[Any]) -> Printing:
    is_stdout = handler.stream is not None and handler.stream in (sys.stdout, sys.__stdout__)
    formatter = handler.formatter
    if type(formatter) is not logging.Formatter:  # a class of the user's, or none
        return Printing(is_stdout=is_stdout, level=handler.level)
    styles = {logging.StrFormatStyle: "{", logging.StringTemplateStyle: "$"}
    return Printing(
        is_stdout=is_stdout,
        level=handler.level,
        form=formatter._fmt,
        date_form=formatter.datefmt,
        style=styles.get(type(formatter._style), "%"),
    )


def set_loggers(settings: Sequence[LoggerSettings]) -> None:
    """Set them here as they were set there. Their handlers print to the streams of this process, for tasks only."""
    for told in settings:
        logger = logging.getLogger(told.name or None)
        logger.setLevel(told.level)
        logger.propagate, logger.disabled = told.propagate, told.disabled
        for printing in told.printing:
            logger.addHandler(_handler(printing))


def _handler(printing: Printing) -> logging.Handler:
    handler = logging.StreamHandler(sys.stdout if printing.is_stdout else sys.stderr)
    handler.setLevel(printing.level)
    if printing.form is not None or printing.date_form is not None:
        handler.setFormatter(logging.Formatter(printing.form, printing.date_form, printing.style))  # type: ignore[arg-type]  # one of three
    handler.addFilter(_is_of_a_task)
    return handler


def _is_of_a_task(record: logging.LogRecord) -> bool:
    """Returns whether a task runs, or it is a warning.

    What a worker's own machinery says else is none of the user's output.
    """
    return is_inside() or record.levelno >= logging.WARNING


def of_warnings() -> Filters:
    """The filters of this process."""
    lines: list[tuple[str, str, str, str, str, int]] = []
    for action, message, category, module, line in warnings.filters:
        if isinstance(category, type):
            texts = [
                str(getattr(pattern, "pattern", pattern) or "") for pattern in (message, module)
            ]
            lines.append(
                (action, texts[0], category.__module__, category.__qualname__, texts[1], line)
            )
    return Filters(lines=tuple(lines))


def set_warnings(filters: Filters) -> None:
    """Have these filters only, but for those whose category is of a module that is not loaded: loading may be slow."""
    warnings.resetwarnings()
    for action, message, place, name, module, line in filters.lines:
        category = getattr(sys.modules.get(place), name, None)
        if isinstance(category, type) and issubclass(category, Warning):
            warnings.filterwarnings(action, message, category, module, line, append=True)  # type: ignore[arg-type]  # an action that was one there
