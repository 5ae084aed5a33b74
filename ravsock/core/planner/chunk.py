"""The model of a chunked loop: one for all chunk lengths.

Besides the carries, the sliced values and the captured ones, it takes `START` and `STOP`: it cuts this range out of the
sliced values and runs the loop over it. What it stacks has as many elements as the range.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import onnx_ir as ir

from ravop.graph.cost import bodies_of
from ravsock.core.plan import START, STOP, Carry
from ravsock.core.planner.build import ModelBuilder, copy_shape


def build_chunk(
    builder: ModelBuilder,
    node: ir.Node,
    carries: Sequence[Carry],
    positions: Sequence[int],
    given: Collection[ir.Value],
) -> None:
    """Fill `builder` with the chunk model of the `Scan` node that gives the stacked outputs at `positions`.

    `given`: values that come from outside even where they are constants."""
    (body,) = bodies_of(node)
    count = len(carries)
    origin = node.name or ""
    bounds = [builder.input(name, ir.DataType.INT64, ir.Shape([1])) for name in (START, STOP)]
    inputs = [
        builder.port(value, carry.init)
        for value, carry in zip(node.inputs, carries, strict=False)
        if value is not None
    ]
    for value in dict.fromkeys(node.inputs[count:]):
        if value is not None and value in given:
            builder.take(value)
    axis = builder.constant(np.zeros(1, np.int64))
    for value in node.inputs[count:]:
        if value is not None:
            cut = builder.add("Slice", [builder.resolve(value), *bounds, axis], origin).outputs[0]
            cut.type, cut.shape = value.type, any_length(value.shape)
            inputs.append(cut)
    outputs = [body.outputs[position] for position in (*range(count), *positions)]
    attributes = [
        ir.AttrGraph("body", builder.body(body, outputs)),
        ir.AttrInt64("num_scan_inputs", len(node.inputs) - count),
    ]
    scan = builder.add("Scan", inputs, origin, len(outputs), attributes=attributes)
    for value, position in zip(scan.outputs, (*range(count), *positions), strict=True):
        original = node.outputs[position]
        value.type = original.type
        value.shape = copy_shape(original.shape) if position < count else any_length(original.shape)
    for value, carry in zip(scan.outputs, carries, strict=False):
        builder.output(value, carry.final)
    for value, position in zip(scan.outputs[count:], positions, strict=True):
        builder.output(value, node.outputs[position].name or "")


def any_length(shape: ir.Shape | None) -> ir.Shape | None:
    return None if shape is None else ir.Shape([None, *shape.dims[1:]])
