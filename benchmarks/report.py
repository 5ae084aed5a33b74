"""Rows of figures, and how they are shown and kept."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"


@dataclass(frozen=True)
class Row:
    """One figure: `value` as text with its unit, the `goal` it is held against, and what it was compared with."""

    what: str
    value: str
    goal: str = "report"
    note: str = ""


def paired(
    first: Callable[[], float], second: Callable[[], float], rounds: int
) -> tuple[list[float], list[float]]:
    """Both measured in turn, A B A B …, so that a machine that drifts does so for both. Each call gives seconds."""
    a, b = [], []
    for _ in range(rounds):
        a.append(first())
        b.append(second())
    return a, b


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> tuple[float, float, float]:
    """(lowest, median, highest) of the pairwise ratios."""
    ratios = sorted(n / d for n, d in zip(numerators, denominators, strict=True))
    return ratios[0], statistics.median(ratios), ratios[-1]


def table(rows: Iterable[Row]) -> str:
    """The rows as a Markdown table."""
    lines = ["| what | measured | goal | note |", "|---|---|---|---|"]
    lines += [f"| {row.what} | {row.value} | {row.goal} | {row.note} |" for row in rows]
    return "\n".join(lines)


def machine() -> str:
    """What the figures were measured on, in a line."""
    packages = ("onnxruntime", "onnx", "onnx-ir", "numpy", "torch", "distributed", "ray")
    found = ", ".join(f"{name} {_version(name)}" for name in packages if _version(name))
    return f"{_processor()}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}; {found}"


def write(sections: dict[str, list[Row]], page: Path = PAGE) -> None:
    """Put the sections between the marks of the page on benchmarks; sections not measured now are kept as they are."""
    text = page.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN, 1)
    old, tail = rest.split(END, 1)
    kept = {
        block.split("\n", 1)[0].strip(): block.split("\n", 1)[1].strip() for block in old.split("### ")[1:]
    }
    kept |= {title: f"{table(rows)}\n\nMeasured on {machine()}." for title, rows in sections.items()}
    body = "\n\n".join(f"### {title}\n\n{block}" for title, block in kept.items())
    page.write_text(f"{head}{BEGIN}\n\n{body}\n\n{END}{tail}", encoding="utf-8")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
