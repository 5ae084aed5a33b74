"""Leaves out of a model what none of its outputs needs, which engines would compute all the same.

Gradients leave such nodes behind: what a rule made and another way to write the sum did not need.
"""

from __future__ import annotations

from onnx import GraphProto


def prune(graph: GraphProto) -> bool:
    """Remove the nodes of `graph`, and of the bodies in it, that lead to no output. → whether there were any."""
    changed = False
    needed = {output.name for output in graph.output}
    kept = []
    for node in reversed(graph.node):  # producers come before consumers
        if needed.isdisjoint(name for name in node.output if name):
            changed = True
            continue
        kept.append(node)
        needed.update(node.input)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                changed = prune(attribute.g) or changed
                needed |= _read(attribute.g)
    if len(kept) < len(graph.node):
        nodes = [type(node).FromString(node.SerializeToString()) for node in reversed(kept)]
        del graph.node[:]
        graph.node.extend(nodes)
    return changed


def _read(body: GraphProto) -> set[str]:
    """All names that a body and those in it read: its own are among them, which does no harm."""
    names = {output.name for output in body.output}
    for node in body.node:
        names.update(node.input)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                names |= _read(attribute.g)
    return names
