"""Dtype and shape of an operator's outputs, from ONNX's own inference, remembered.

The same operator on inputs of the same types gives the same output types, so each distinct case is asked of ONNX once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import defs, shape_inference

from ravop.errors import DTypeError, InvalidModelError, ShapeError
from ravop.graph.choices import unfit
from ravop.graph.dtypes import DType, from_elem_type, to_ir
from ravop.graph.equations import is_equation
from ravop.protocol.tensors import Array

Dim = int | str | None
"""A dimension: known, named (such as the batch of an inference model) or unknown."""
Shape = tuple[Dim, ...]
MAX_DIM = 2**40
"""Bound of dimensions and integer attributes: far beyond memory, far from overflow."""

OPSET = 21
"""The version of the standard domain that graphs are written in, unless they hold dtypes that only a later one has."""
LATER = {"float4_e2m1fn": 23, "float8_e8m0fnu": 24, "int2": 25, "uint2": 25}
"""The first opset with these dtypes. Up to there, operators of `OPSET` gained dtypes but kept their meaning."""
NEWEST_OPSET = max(LATER.values())


def opset_for(dtypes: Iterable[DType]) -> int:
    """The opset to write a graph of these dtypes in."""
    return max((LATER.get(dtype.name, OPSET) for dtype in dtypes), default=OPSET)


class TensorType:
    """What is known of a tensor before it is computed. `data` is the value of a small integer constant, or None.

    `key` is a plain tuple that is equal for equal types.
    """

    __slots__ = ("data", "dtype", "key", "shape")

    def __init__(self, dtype: DType, shape: Shape, data: Array | None = None) -> None:
        self.dtype = dtype
        self.shape = shape
        self.data = data
        self.key = (dtype.num, shape, None if data is None else data.tobytes())


_DATA_LIMIT = 256
"""Elements of an integer constant that shape inference looks at."""


def constant_type(array: Array) -> TensorType:
    """The type of a constant, with its value where that may decide the shape of something."""
    return TensorType(
        array.dtype, array.shape, array if array.dtype.kind in "iu" and array.size <= _DATA_LIMIT else None
    )


_memory: dict[tuple[Any, ...], tuple[TensorType, ...]] = {}


def infer(
    op_type: str,
    inputs: Sequence[TensorType | None],
    attributes: Mapping[str, Any],
    declared: tuple[TensorType | None, ...] | None = None,
) -> tuple[TensorType, ...]:
    """The type of every output of a standard operator.

    `declared` is one entry for each output that is wanted, where that is not the operator's usual number of them: its type
    as far as a model tells it, which counts where ONNX cannot infer dtype or rank.
    Raises `DTypeError` or `ShapeError` (without the user's line: the caller knows it) where the inputs do not fit, and
    `InvalidModelError` for an operator the opset does not have.
    """
    key = (
        op_type,
        tuple([None if i is None else i.key for i in inputs]),
        tuple([(name, _hashable(attributes[name])) for name in sorted(attributes)]) if attributes else (),
        None if declared is None else tuple([None if d is None else d.key for d in declared]),
    )
    found = _memory.get(key)
    if found is None:
        found = _memory[key] = _ask_onnx(op_type, inputs, attributes, declared)
    return found


def _hashable(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.dtype.num, value.shape, value.tobytes()
    return tuple(value) if isinstance(value, list | tuple) else (type(value), value)


def _ask_onnx(
    op_type: str,
    inputs: Sequence[TensorType | None],
    attributes: Mapping[str, Any],
    declared: tuple[TensorType | None, ...] | None,
) -> tuple[TensorType, ...]:
    opset = opset_for(_dtypes_of(inputs, attributes))
    try:
        defs.get_schema(op_type, OPSET, "")
        schema = defs.get_schema(op_type, opset, "")
    except defs.SchemaError as error:
        raise InvalidModelError(
            f"ONNX has no operator {op_type}", expected=f"an operator of opset {OPSET}"
        ) from error
    if op_type == "Einsum" and not is_equation(str(attributes.get("equation", "?"))):
        raise ShapeError("this is no equation of Einsum", expected="letters, ... and ->, as in 'ij,jk->ik'",
                         received=repr(attributes.get("equation")))  # fmt: skip
    contradiction = unfit(op_type, [None if i is None else i.shape for i in inputs], attributes)
    if contradiction:
        raise ShapeError(f"{op_type} cannot take these inputs", expected="shapes that fit its attributes", received=contradiction,
                         hint="check the shapes of the operands")  # fmt: skip
    names = [f"i{n}" if i is not None else "" for n, i in enumerate(inputs)]
    _check_types(schema, inputs)
    protos = {
        name: value if not isinstance(value, np.ndarray) else onnx.numpy_helper.from_array(value)
        for name, value in attributes.items()
    }
    if declared is None:
        declared = (None,) * _output_count(schema, op_type, inputs, attributes)
    count = len(declared)
    node = onnx.helper.make_node(op_type, names, [f"o{n}" for n in range(count)], **protos)
    types = {
        name: onnx.helper.make_tensor_type_proto(int(to_ir(i.dtype)), list(i.shape))
        for name, i in zip(names, inputs, strict=True)
        if i is not None
    }
    data = {
        name: onnx.numpy_helper.from_array(i.data)
        for name, i in zip(names, inputs, strict=True)
        if i is not None and i.data is not None
    }
    try:
        outputs = shape_inference.infer_node_outputs(
            schema, node, types, data, opset_imports=[onnx.helper.make_opsetid("", opset)]
        )
    except (shape_inference.InferenceError, RuntimeError, onnx.checker.ValidationError) as error:
        raise ShapeError(
            f"{op_type} cannot take these inputs: {_reason(str(error))}",
            expected=_expected(schema),
            received=", ".join("nothing" if i is None else f"{i.dtype}{list(i.shape)}" for i in inputs),
            hint="check the shapes of the operands",
        ) from error
    return tuple(_type(outputs.get(f"o{n}"), known) for n, known in enumerate(declared))


def _dtypes_of(inputs: Sequence[TensorType | None], attributes: Mapping[str, Any]) -> Iterator[DType]:
    yield from (i.dtype for i in inputs if i is not None)
    for name, value in attributes.items():
        if isinstance(value, np.ndarray):
            yield value.dtype
        elif name in _DTYPE_ATTRIBUTES and value:
            yield from_elem_type(value)


_DTYPE_ATTRIBUTES = frozenset({"dtype", "output_dtype", "softmax_precision", "stash_type", "to"})


def _check_types(schema: defs.OpSchema, inputs: Sequence[TensorType | None]) -> None:
    constraints = {c.type_param_str: set(c.allowed_type_strs) for c in schema.type_constraints}
    bound: dict[str, DType] = {}
    formal = list(schema.inputs)
    for position, given in enumerate(inputs):
        if given is None:
            continue
        if position >= len(formal) and (
            not formal or formal[-1].option != defs.OpSchema.FormalParameterOption.Variadic
        ):
            raise ShapeError(
                f"{schema.name} takes at most {len(formal)} inputs", received=f"{len(inputs)} inputs"
            )
        parameter = formal[min(position, len(formal) - 1)]
        allowed = constraints.get(parameter.type_str, {parameter.type_str})
        text = f"tensor({onnx.helper.tensor_dtype_to_string(int(to_ir(given.dtype))).removeprefix('TensorProto.').lower()})"
        if text not in allowed:
            raise DTypeError(
                f"{schema.name} does not take {given.dtype} as {parameter.name!r}",
                expected=", ".join(sorted(a.removeprefix("tensor(").removesuffix(")") for a in allowed)),
                received=given.dtype,
                hint="convert it with .astype(...)",
            )
        if parameter.type_str in constraints and parameter.is_homogeneous:
            first = bound.setdefault(parameter.type_str, given.dtype)
            if first != given.dtype:
                raise DTypeError(
                    f"{schema.name} needs operands of one dtype",
                    expected=first,
                    received=given.dtype,
                    hint="convert one of them with .astype(...)",
                )


def _output_count(
    schema: defs.OpSchema, op_type: str, inputs: Sequence[TensorType | None], attributes: Mapping[str, Any]
) -> int:
    if op_type == "Split":
        sizes = inputs[1].data if len(inputs) > 1 and inputs[1] is not None else None
        return int(attributes["num_outputs"]) if sizes is None else sizes.size
    if op_type == "BatchNormalization":
        return 3 if attributes.get("training_mode") else 1
    if op_type in {"Dropout", "MaxPool"}:
        return 1
    return max(1, schema.min_output) if schema.min_output == schema.max_output else schema.min_output


def _type(proto: onnx.TypeProto | None, declared: TensorType | None) -> TensorType:
    if declared is not None and (proto is None or not proto.tensor_type.HasField("shape")):
        return declared
    if proto is None or not proto.HasField("tensor_type"):
        raise ShapeError(
            "the type of an output cannot be inferred", hint="name the operator in a report, please"
        )
    tensor = proto.tensor_type
    dtype = from_elem_type(tensor.elem_type)
    if not tensor.HasField("shape"):
        raise ShapeError(
            "the rank of an output cannot be inferred", hint="use constants where the operator takes sizes"
        )
    dims: Iterator[Dim] = (
        dim.dim_value if dim.HasField("dim_value") else (dim.dim_param or None) for dim in tensor.shape.dim
    )
    shape = tuple(dims)
    if any(isinstance(dim, int) and not 0 <= dim <= MAX_DIM for dim in shape):
        raise ShapeError(
            "an output would have a size that no tensor can have", expected=f"0 to 2**{MAX_DIM.bit_length() - 1} along each axis",
            received=list(shape), hint="check the sizes, scales and pads that the operator is given",
        )  # fmt: skip
    return TensorType(dtype, shape)


_FITTING = {
    "Concat": "shapes that differ in the axis of joining alone",
    "Einsum": "axes as the equation names them",
    "Gemm": "as many columns in the first matrix as rows in the second",
    "MatMul": "as many columns in the first matrix as rows in the second",
}
"""What fits the operators whose documentation does not say it in a word."""


def _expected(schema: defs.OpSchema) -> str:
    broadcasts = "broadcasting" in (schema.doc or "")
    general = (
        "shapes that broadcast: from the last axis on equal, or 1"
        if broadcasts
        else "shapes that fit together"
    )
    return _FITTING.get(schema.name, general)


def _reason(text: str) -> str:
    """ONNX's message without its prefix: `[ShapeInferenceError] (op_type:…, …): reason`."""
    return (
        text.rsplit("): ", 1)[-1]
        .removeprefix("[ShapeInferenceError] ")
        .removeprefix("[TypeInferenceError] ")
        .strip()
    )
