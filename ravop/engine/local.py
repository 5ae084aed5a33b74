"""A whole graph at once, loops included: computed here in one session, or written to an ONNX file.

What a graph gives here is what it gives when it is split over providers, within float tolerance.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx
import onnx_ir as ir

from ravop.engine.session import EngineName, Session
from ravop.errors import ArgumentError, ComputeError, GraphStateError, InvalidModelError
from ravop.graph.graph import Graph, current_graph
from ravop.graph.results import Results
from ravop.graph.serde import from_bytes, to_bytes
from ravop.graph.source import describe

MAX_FILE = 2**31 - 1
"""Bytes of an ONNX file: protobuf's limit."""


def run_local(graph: Graph | None = None, threads: int = 1, engine: EngineName = "onnxruntime") -> Results:
    """Compute all that the graph (the current one) persists, in this process. → values by persisted name.

    Raises `GraphStateError` for a graph that persists nothing or has inputs without values, `NoGraphError` without a graph,
    `ComputeError` where an operator fails: its problem names the op and the user's line.
    """
    graph = graph or current_graph()
    unbound = [value.name for value in graph.main.ir.inputs if value.name not in graph.inputs]
    if unbound:
        raise GraphStateError("the graph has inputs without values", received=", ".join(map(str, unbound)))
    try:
        values = Session(to_bytes(graph.model()), threads, engine).run(graph.inputs)
    except ComputeError as error:
        raise _with_source(error, graph) from error
    return Results(tuple(graph.persisted.values()), values)


def _with_source(error: ComputeError, graph: Graph) -> ComputeError:
    """The error with the user's line that made the failing node."""
    number = graph.node_lines.get(error.problem.op)
    if number is None:
        return error
    p = error.problem
    return type(error)(
        p.message,
        expected=p.expected,
        received=p.received,
        hint=p.hint,
        op=p.op,
        source=describe(list(graph.lines)[number]),
    )


def export_onnx(path: str | Path, graph: Graph | None = None) -> Path:
    """Write the graph (the current one) as one ONNX file that computes what it persists. → the path.

    Bound inputs become initializers; outputs have their persisted names. The file is checked by `onnx.checker`.
    Raises `GraphStateError` for a graph that persists nothing, `ArgumentError` for one larger than ONNX files can be.
    """
    graph = graph or current_graph()
    held = sum(array.nbytes for array in graph.inputs.values())
    if held > MAX_FILE:
        raise ArgumentError(
            "the graph is too large for an ONNX file",
            expected=f"at most {MAX_FILE:,} bytes",
            received=f"{held:,} bytes of data",
            hint="export the trained model, without the data it was trained on",
        )
    data = to_bytes(_self_contained(graph))
    try:
        onnx.checker.check_model(data, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise InvalidModelError(
            "the exported model does not pass ONNX's checker", received=str(error)
        ) from error
    path = Path(path)
    path.write_bytes(data)
    return path


def _self_contained(graph: Graph) -> ir.Model:
    model = from_bytes(to_bytes(graph.model()))
    for value in [value for value in model.graph.inputs if value.name in graph.inputs]:
        model.graph.inputs.remove(value)
        value.const_value = ir.Tensor(graph.inputs[str(value.name)], name=value.name)
        model.graph.register_initializer(value)
    _name_outputs(graph, model)
    return model


def _name_outputs(graph: Graph, model: ir.Model) -> None:
    """Give outputs their persisted names, each an output of its own; other values make way."""
    by_name = {str(value.name): value for value in model.graph.outputs}
    for value in _values(model):
        if value.name in graph.persisted:
            value.name = f"{value.name}_value"
    model.graph.outputs.clear()
    for entry in graph.persisted.values():
        value = by_name[entry.value]
        if value.name in graph.persisted:  # it is persisted under another name already
            copy = ir.Node("", "Identity", [value], name=f"Identity_{entry.name}")
            copy.outputs[0].type, copy.outputs[0].shape = value.type, value.shape
            model.graph.append(copy)
            value = copy.outputs[0]
        value.name = entry.name
        model.graph.outputs.append(value)


def _values(model: ir.Model) -> Iterator[ir.Value]:
    """Every value of the main graph and of the bodies in it."""
    for graph in (model.graph, *model.graph.subgraphs()):
        yield from (*graph.inputs, *graph.initializers.values())
        for node in graph:
            yield from node.outputs
