"""What units are called for people, from the names of their nodes: `layer/sub-layer/Operator_17`."""

from __future__ import annotations

import re
from collections.abc import Sequence

import onnx_ir as ir

from ravop.graph.cost import scan_length

_NUMBER = re.compile(r"_\d+$")
MAX_NAMES = 3


def label_nodes(names: Sequence[str]) -> str:
    """`Dense_1, Dense_2 (14 ops)` for nodes of these names; the kinds of operators where no layer is named."""
    if not names:
        return "values passed on"
    layers = list(dict.fromkeys(layer for name in names if (layer := name.rpartition("/")[0])))
    kinds = list(dict.fromkeys(_NUMBER.sub("", name) for name in names))
    told = layers or kinds
    shown = ", ".join(told if len(told) <= MAX_NAMES else [*told[: MAX_NAMES - 1], "…", told[-1]])
    return shown if len(names) == 1 else f"{shown} ({len(names)} ops)"


def label_loop(node: ir.Node) -> str:
    """`training/loop of 200`."""
    layer = (node.name or "").rpartition("/")[0]
    return f"{layer + '/' if layer else ''}loop of {scan_length(node)}"
