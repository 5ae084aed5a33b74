"""What units are called for people, from the names of their nodes: `layer/sub-layer/Operator_17`."""

from __future__ import annotations

import re
from collections.abc import Sequence

import onnx_ir as ir

from ravop.graph.cost import scan_length

_NUMBER = re.compile(r"_\d+$")
MAX_NAMES = 3


def label_nodes(nodes: Sequence[ir.Node]) -> str:
    """`Dense_1, Dense_2 (14 ops)`; the kinds of operators where no layer is named."""
    if not nodes:
        return "values passed on"
    layers = list(dict.fromkeys(layer for node in nodes if (layer := _layer(node))))
    kinds = list(dict.fromkeys(_kind(node) for node in nodes))
    names = layers or kinds
    shown = ", ".join(names if len(names) <= MAX_NAMES else [*names[: MAX_NAMES - 1], "…", names[-1]])
    return shown if len(nodes) == 1 else f"{shown} ({len(nodes)} ops)"


def label_loop(node: ir.Node) -> str:
    """`training/loop of 200`."""
    layer = _layer(node)
    return f"{layer + '/' if layer else ''}loop of {scan_length(node)}"


def _layer(node: ir.Node) -> str:
    return (node.name or "").rpartition("/")[0]


def _kind(node: ir.Node) -> str:
    return _NUMBER.sub("", (node.name or "").rpartition("/")[2]) or node.op_type
