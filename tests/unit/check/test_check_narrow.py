"""Tensors of narrow dtypes in models from elsewhere: packed as ONNX packs them, or refused."""

import ml_dtypes
import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from ravop.errors import InvalidModelError
from ravop.graph.check import check_model
from ravop.protocol.tensors import NARROW


def model(tensor: TensorProto, opset: int = 25) -> ModelProto:
    """A model that gives the tensor."""
    graph = helper.make_graph(
        [helper.make_node("Identity", ["t"], ["y"], name="n")],
        "g",
        [],
        [helper.make_tensor_value_info("y", tensor.data_type, list(tensor.dims))],
        [tensor],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=13)


@pytest.mark.parametrize("name", NARROW)
@pytest.mark.parametrize("count", [0, 1, 4, 5])
def test_packed_tensors_of_any_length_are_accepted(name: str, count: int) -> None:
    tensor = numpy_helper.from_array(np.ones(count, NARROW[name]), "t")
    check_model(model(tensor).SerializeToString())
    tensor.raw_data += b"\0"
    with pytest.raises(InvalidModelError, match="do not match"):
        check_model(model(tensor).SerializeToString())


def test_numbers_in_the_field_of_integers_are_counted() -> None:
    packed = helper.make_tensor("t", TensorProto.INT4, [5], [1, -2, 3, 4, 5])
    check_model(model(packed).SerializeToString())
    packed.dims[0] = 7
    with pytest.raises(InvalidModelError, match="do not match"):
        check_model(model(packed).SerializeToString())
    wide = helper.make_tensor("t", TensorProto.BFLOAT16, [3], np.ones(3, ml_dtypes.bfloat16))
    check_model(model(wide).SerializeToString())


def test_a_dtype_that_the_opset_does_not_have_is_refused() -> None:
    tensor = numpy_helper.from_array(np.ones(3, NARROW["int2"]), "t")
    with pytest.raises(InvalidModelError):
        check_model(model(tensor, opset=21).SerializeToString())


def test_later_opsets_bring_dtypes_and_no_operators() -> None:
    graph = helper.make_graph(
        [helper.make_node("Swish", ["x"], ["y"], name="n")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 25)], ir_version=13)
    with pytest.raises(InvalidModelError, match="no such operator"):
        check_model(made.SerializeToString())
