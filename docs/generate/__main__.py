"""Write the generated pages into `docs/`: `python -m docs.generate`, or with names only those, such as `ops.md`."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

PAGES = {
    "ops.md": "ops",
    "gradients.md": "gradients",
    "onnx.md": "backend",
    "layers.md": "layers",
    "training.md": "training",
}
"""Page → the module beside this one that makes it."""

FOLDER = Path(__file__).resolve().parents[1]


def made() -> list[str]:
    """The pages whose module is there."""
    return [name for name, module in PAGES.items() if importlib.util.find_spec(f"docs.generate.{module}")]


def text_of(name: str) -> str:
    """The page as it should be."""
    page: str = importlib.import_module(f"docs.generate.{PAGES[name]}").page()
    return page.rstrip() + "\n"


def main(names: list[str]) -> None:
    for name in names or made():
        (FOLDER / name).write_text(text_of(name), encoding="utf-8")
        print(f"wrote docs/{name}")


if __name__ == "__main__":
    main(sys.argv[1:])
