"""A class or function in words: its signature, and its docstring with its sections as lists."""

from __future__ import annotations

import dataclasses
import inspect
import re
import textwrap
from collections.abc import Callable
from typing import Any


def entry(thing: Callable[..., Any], level: int = 3, name: str = "") -> str:
    """Heading, signature and description of a class or a function."""
    name = name or thing.__name__
    return f"{'#' * level} {name}\n\n`{name}{signature(thing)}`\n\n{text(inspect.getdoc(thing) or '')}\n"


def signature(thing: Callable[..., Any]) -> str:
    """Arguments with their defaults, without types."""
    given = [each for each in inspect.signature(thing).parameters.values() if each.name != "self"]
    made = {f.name: f.default_factory for f in dataclasses.fields(thing)} if _is_data(thing) else {}  # type: ignore[arg-type]
    bare = []
    for each in given:
        factory = made.get(each.name, dataclasses.MISSING)
        default = each.default if factory is dataclasses.MISSING else factory()
        bare.append(each.replace(annotation=inspect.Parameter.empty, default=default))
    return str(inspect.Signature(bare))


def text(doc: str) -> str:
    """The docstring, with its arguments and errors as lists."""
    return "\n\n".join(part for paragraph in doc.split("\n\n") for part in _sections(paragraph))


def arguments(given: str) -> str:
    """`name: what it is`, one after another, as a list."""
    lines: list[str] = []
    for line in given.splitlines():
        found = re.match(r"([a-zA-Z_0-9, ]+): (.*)", line)
        if found and not line.startswith(" "):
            names = ", ".join(f"`{name.strip()}`" for name in found[1].split(","))
            lines.append(f"- {names}: {found[2]}")
        else:
            lines.append("  " + line.strip())
    return "\n".join(lines)


def _sections(paragraph: str) -> list[str]:
    """A paragraph in which sections may follow each other without an empty line."""
    head, *rest = re.split(r"^(Args|Attributes|Returns|Raises):\n", paragraph, flags=re.MULTILINE)
    parts = [head.rstrip()] if head.strip() else []
    for title, body in zip(rest[::2], rest[1::2], strict=True):
        body = textwrap.dedent(body).rstrip()
        told = {"Args": "", "Attributes": "", "Returns": "Returns ", "Raises": "Raises:\n\n"}[title]
        parts.append(told + (body if title == "Returns" else arguments(body)))
    return parts


def _is_data(thing: object) -> bool:
    return isinstance(thing, type) and dataclasses.is_dataclass(thing)
