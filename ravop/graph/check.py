"""The one gate for ONNX models from elsewhere: what passes `check_model` may be planned and run.

Pure and safe to call on any bytes: refuses with `InvalidModelError`, never crashes, bounded in time and memory by
`Limits`. Coordinators call it on what requesters send, providers on what coordinators send.
"""

from __future__ import annotations

import onnx
import onnx_ir as ir
from google.protobuf.message import EncodeError
from onnx import checker, inliner, shape_inference

from ravop.errors import InvalidModelError
from ravop.graph.cost import graph_peak
from ravop.graph.dtypes import from_ir
from ravop.graph.limits import Limits, refuse
from ravop.graph.ranks import bound_ranks
from ravop.graph.serde import parse
from ravop.graph.structure import vet

__all__ = ["Limits", "check_model"]

_DEFAULT = Limits()


def check_model(data: bytes, limits: Limits = _DEFAULT) -> ir.Model:
    """The model in `data`, every value with its dtype and rank inferred. Raises `InvalidModelError`.

    Accepted are standard operators of the supported opsets and functions that the model itself defines; dense
    tensors of numbers inside the model; names used once; estimated memory within `limits`.
    """
    if len(data) > limits.bytes:
        raise refuse("the model is too large", expected=f"at most {limits.bytes:,} bytes", received=f"{len(data):,} bytes",
                     hint="tensors above 64 KiB belong into graph inputs")  # fmt: skip
    proto = parse(data)
    try:
        vet(proto, limits)
        checker.check_model(proto)
        bound_ranks(proto, limits.rank)
        typed = _inferred(proto)
        model = ir.from_proto(typed)
        _check_values(model, limits)
        _type_arguments(model)
        flat = ir.from_proto(_inferred(inliner.inline_local_functions(proto))) if proto.functions else model
    except InvalidModelError:
        raise
    except (checker.ValidationError, shape_inference.InferenceError, EncodeError, RuntimeError, ValueError, TypeError,
            KeyError, IndexError, OverflowError, MemoryError) as error:  # fmt: skip
        raise refuse("ONNX refuses this model", received=_reason(error)) from error
    peak = graph_peak(flat.graph)
    if peak > limits.memory:
        raise refuse(
            "the model needs too much memory",
            expected=f"at most {limits.memory:,} bytes at once",
            received=f"about {peak:,} bytes",
        )
    return model


def _inferred(proto: onnx.ModelProto) -> onnx.ModelProto:
    return shape_inference.infer_shapes(proto, check_type=True, strict_mode=True)


def _check_values(model: ir.Model, limits: Limits) -> None:
    """Every value of the main graph and its bodies must have a known dtype and rank."""
    for value in model.graph.inputs:
        _check_value(value, limits)
    for node in model.graph.all_nodes():
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.GRAPH:
                for value in attribute.as_graph().inputs:
                    _check_value(value, limits)
        for value in node.outputs:
            if value.name:
                _check_value(value, limits)


def _type_arguments(model: ir.Model) -> None:
    """Give the arguments of each function, which ONNX leaves untyped, the types of its first call."""
    pending, seen = [model.graph], set()
    while pending:
        for node in pending.pop().all_nodes():
            function = model.functions.get(node.op_identifier())
            if function is None or function.identifier() in seen:
                continue
            seen.add(function.identifier())
            pending.append(function.graph)
            for argument, value in zip(function.inputs, node.inputs, strict=False):
                if argument.type is None and value is not None:
                    argument.type, argument.shape = value.type, value.shape


def _check_value(value: ir.Value, limits: Limits) -> None:
    producer = value.producer()
    label = (producer.name or producer.op_type) if producer is not None else f"input {value.name}"
    if value.dtype is None or value.shape is None:
        raise refuse("the type or rank of a value cannot be known before the run", received=f"{value.name!r}", op=label,
                     hint="use constants where operators take shapes")  # fmt: skip
    if len(value.shape) > limits.rank:
        raise refuse(
            "a tensor of too many dimensions",
            expected=f"at most {limits.rank}",
            received=len(value.shape),
            op=label,
        )
    from_ir(value.dtype)


def _reason(error: BaseException) -> str:
    return str(error).strip()[:2_000] or type(error).__name__
