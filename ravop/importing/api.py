"""What users call: `import_onnx` writes a model into the graph being defined, `parameters` gives what can be trained."""

from __future__ import annotations

from typing import Any

from ravop.errors import RavenError
from ravop.graph.graph import Graph, current_graph, graph_of
from ravop.graph.op import Op
from ravop.graph.source import located
from ravop.importing.binding import as_input, ordered
from ravop.importing.model import OnnxModel, read_model
from ravop.importing.reading import Source


def import_onnx(model: Source | OnnxModel, /, *inputs: Any, **named_inputs: Any) -> Any:
    """Put the nodes of an ONNX model into the graph. → its output, or a tuple of several.

    The model's floating initializers become ops that can be trained, found by name in `ravop.parameters()`; integers and
    settings stay constants. Named dimensions are bound by the inputs. Operators of opsets 7 and up come as those of opset 21,
    newer ones written out as ONNX defines them. BatchNormalization and Dropout do what the file says; random operators
    draw from the graph's seed. A model that is used often is read once: `ravop.importing.read_model`.

    Args:
        model: a path, bytes, a model of `onnx` or `onnx_ir`, or what `read_model` gave.
        inputs, named_inputs: ops or arrays, by position or by name; lists of them for sequences.
    Returns:
        ops; a list of ops for an output that is a sequence, None for an optional without a value.
    Raises:
        InvalidModelError: no sound model; the message says what is wrong.
        UnsupportedOnnxError: nodes that cannot be imported, all of them by name.
        ArgumentError, DTypeError, ShapeError: inputs that are not the model's.
    """
    try:
        found = model if isinstance(model, OnnxModel) else read_model(model)
        values = ordered(found.inputs, inputs, named_inputs)
        graph = graph_of(*values)
        given = [as_input(graph, port, value) for port, value in zip(found.inputs, values, strict=True)]
        variables = {name: graph.variable(array, array.dtype) for name, array in found.parameters.items()}
        outputs = found.imported(given, variables)
        for name, op in variables.items():
            graph.parameters[_free(graph, name)] = op
    except RavenError as error:
        raise located(error, "import_onnx") from None
    return outputs[0] if len(outputs) == 1 else outputs


def parameters(graph: Graph | None = None) -> dict[str, Op]:
    """The parameters of the models imported into the graph (the current one), by their names in the file.

    A name that was in use already got a number: `name_2`. Raises `NoGraphError` without a graph.
    """
    return dict((graph or current_graph()).parameters)


def _free(graph: Graph, name: str) -> str:
    number, free = 2, name
    while free in graph.parameters:
        free = f"{name}_{number}"
        number += 1
    return free
