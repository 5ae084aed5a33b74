"""Log lines of coordinator and provider: as text for people, or as JSON, one object a line, for machines.

Both say what a line is about: `graph`, `task`, `attempt` and `provider`, given with the line (`extra=`) or by the block
that it is logged in (`about`).
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

FORMATS = ("text", "json")
FIELDS = ("graph", "task", "attempt", "provider")
"""What a line may be about. `task` is the task's number."""

_about: ContextVar[Mapping[str, Any]] = ContextVar("about", default={})  # noqa: B039 — a mapping that nobody changes
_always: dict[str, str] = {}


@contextlib.contextmanager
def about(**fields: str | int) -> Iterator[None]:
    """Whatever is logged in this block, and in what it starts, is about these."""
    before = _about.set({**_about.get(), **fields})
    try:
        yield
    finally:
        _about.reset(before)


def always(**fields: str) -> None:
    """All that this program logs is about these. Lines of text do not repeat it."""
    _always.update(fields)


class Context(logging.Filter):
    """Notes at a record what it is about: on a handler, which is called where the line is logged."""

    def filter(self, record: logging.LogRecord) -> bool:
        for name, value in _about.get().items():
            record.__dict__.setdefault(name, value)
        return True


class Text(logging.Formatter):
    """For people; what the message does not name itself stands behind it."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 — the library's name
        line, named = super().formatMessage(record), _fields(record)
        more = [f"{name}={value}" for name, value in named.items() if not _says(record.message, name, value)]
        return f"{line} [{' '.join(more)}]" if more else line


class Json(logging.Formatter):
    """`time`, `level`, `logger`, `message`; what the line is about; and `error`, the traceback, where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_always,
            **_fields(record),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name in FIELDS if (value := record.__dict__.get(name)) is not None}


def _says(message: str, name: str, value: Any) -> bool:
    return (value if isinstance(value, str) else f"{name} {value}") in message


def formatted(handler: logging.Handler, kind: str, text: str) -> logging.Handler:
    """The handler, such that it writes `kind`, one of `FORMATS`; `text`: how a line of text looks."""
    handler.addFilter(Context())
    handler.setFormatter(Json() if kind == "json" else Text(text))
    return handler
