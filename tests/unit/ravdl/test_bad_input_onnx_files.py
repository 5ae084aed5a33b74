"""ONNX files from strangers: what is damaged, lies about itself, or would read other files is refused by name."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import ravop as R
from ravdl.neural_networks import NeuralNetwork
from ravdl.neural_networks.importing.conversion import MAX_LAYERS
from ravdl.neural_networks.load_onnx_model import load_onnx
from ravdl.neural_networks.loss_functions import SquareLoss
from ravdl.neural_networks.optimizers import Adam
from ravop.errors import ArgumentError, InvalidModelError, RavenError, ShapeError, UnsupportedOnnxError
from ravop.importing import read_model

WEIGHTS = np.arange(18, dtype=np.float32).reshape(6, 3)
X = np.eye(6, dtype=np.float32)


def model(
    weight: TensorProto | None, opset: int = 17, op_type: str = "Gemm", **options: Any
) -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node(op_type, ["x", "w"], ["y"], name="the_node", **options)], "model",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])], [weight] if weight is not None else [],
    )  # fmt: skip
    domains = {options.get("domain", ""): 1} | {"": opset}
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid(*pair) for pair in domains.items()], ir_version=8
    )


def outside(location: str, **more: int) -> TensorProto:
    tensor = TensorProto(
        name="w", data_type=TensorProto.FLOAT, dims=[6, 3], data_location=TensorProto.EXTERNAL
    )
    for key, value in {"location": location, **more}.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def load(path: Path) -> NeuralNetwork:
    return load_onnx(model_file_path=path, optimizer=Adam(), loss=SquareLoss)


INSIDE = numpy_helper.from_array(WEIGHTS, "w")
LIE = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[6, 3], raw_data=b"1234")
REFUSED: dict[str, tuple[onnx.ModelProto, type[RavenError], str]] = {
    "another folder": (model(outside("../secret.bin")), InvalidModelError, "outside"),
    "a file of the system": (model(outside("/etc/passwd")), InvalidModelError, "absolute"),
    "no such weights": (model(outside("none.bin")), InvalidModelError, "none.bin"),
    "weights cut short": (model(outside("short.bin")), InvalidModelError, "'w'"),
    "weights beyond the end": (model(outside("short.bin", offset=10**9)), InvalidModelError, "'w'"),
    "bytes that do not fit": (model(LIE), InvalidModelError, "'w'"),
    "a foreign domain": (model(INSIDE, op_type="FusedGemm", domain="com.microsoft"), UnsupportedOnnxError, "the_node"),
    "operators of the future": (model(INSIDE, opset=99), UnsupportedOnnxError, "99"),
    "weights of another shape": (model(numpy_helper.from_array(WEIGHTS[:5], "w")), ShapeError, "[5, 3]"),
    "no weights": (model(None), InvalidModelError, "the_node"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_file_that_is_not_to_be_trusted(case: str, tmp_path: Path) -> None:
    found, kind, words = REFUSED[case]
    (tmp_path / "secret.bin").write_bytes(WEIGHTS.tobytes())
    folder = tmp_path / "downloads"
    folder.mkdir()
    (folder / "short.bin").write_bytes(WEIGHTS.tobytes()[:-4])
    (folder / "m.onnx").write_bytes(found.SerializeToString())
    with pytest.raises(kind) as caught:
        load(folder / "m.onnx")
    assert words in str(caught.value)
    assert caught.value.problem.expected
    assert caught.value.problem.received


@pytest.mark.parametrize("data", [b"", b"\x00", b"PK\x03\x04 a zip", b"\xff" * 64])
def test_bytes_that_hold_no_model(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(data)
    with pytest.raises(InvalidModelError):
        load(tmp_path / "m.onnx")


def test_a_link_leads_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(WEIGHTS.tobytes())
    folder = tmp_path / "downloads"
    folder.mkdir()
    try:
        (folder / "w.bin").symlink_to(tmp_path / "secret.bin")
    except OSError:
        pytest.skip("this system makes no links")
    (folder / "m.onnx").write_bytes(model(outside("w.bin")).SerializeToString())
    with pytest.raises(InvalidModelError):
        load(folder / "m.onnx")


def test_weights_in_a_file_beside_it_are_read_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As PyTorch's exporter writes large models; the path may be relative to another working directory."""
    folder = tmp_path / "models"
    folder.mkdir()
    onnx.save_model(
        model(INSIDE), folder / "m.onnx", save_as_external_data=True, location="m.onnx.data", size_threshold=0
    )
    assert (folder / "m.onnx.data").stat().st_size >= WEIGHTS.nbytes
    monkeypatch.chdir(tmp_path)
    loaded = load(Path("models") / "m.onnx")
    R.Graph()
    loaded.predict(X).persist_op("y")
    np.testing.assert_allclose(R.run_local()["y"], WEIGHTS, rtol=1e-6)


def test_nan_in_weights_is_data(tmp_path: Path) -> None:
    weights = WEIGHTS.copy()
    weights[0, 0], weights[1, 1] = np.nan, np.inf
    (tmp_path / "m.onnx").write_bytes(model(numpy_helper.from_array(weights, "w")).SerializeToString())
    np.testing.assert_array_equal(load(tmp_path / "m.onnx").get_weights()[0], weights)


BOMBS = {
    "a pad": "p = Constant <value_ints = [1099511627700, 0]> ()  v = Constant <value_floats = [1.0, 2.0]> ()  a = Pad (v, p)"
    "  s = Constant <value_ints = [0]> ()  e = Constant <value_ints = [1]> ()  b = Slice (a, s, e)  y = Mul (x, b)",
    "weights": "p = Constant <value_ints = [6, 1099511627700]> ()  w = ConstantOfShape (p)"
    "  s = Constant <value_ints = [0]> ()  e = Constant <value_ints = [3]> ()  a = Constant <value_ints = [1]> ()"
    "  m = MatMul (x, w)  y = Slice (m, s, e, a)",
    "a product of small numbers": "b = Constant <value_ints = [100000]> ()  p = Mul (b, b)  r = ConstantOfShape (p)"
    "  s = Constant <value_ints = [0]> ()  e = Constant <value_ints = [1]> ()  t = Slice (r, s, e)  y = Add (x, t)",
}  # fmt: skip


@pytest.mark.parametrize("case", BOMBS)
def test_what_would_fill_the_memory_is_not_computed(
    case: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = f'<ir_version: 8, opset_import: ["" : 17]> m (float[N, 6] x) => (float[] y) {{ {BOMBS[case]} }}'
    path = tmp_path / "bomb.onnx"
    path.write_bytes(onnx.parser.parse_model(text).SerializeToString())
    assert load(path).network.output_shapes == ((3 if case == "weights" else 6,),)
    assert not caplog.records


@pytest.mark.parametrize("path", [None, 3, b"model", "a\x00b"])
def test_what_is_no_path_is_refused(path: Any) -> None:
    with pytest.raises(ArgumentError, match="no path"):
        load(path)


def test_negative_sizes_are_refused(tmp_path: Path) -> None:
    made = model(INSIDE)
    made.graph.initializer[0].dims[:] = [-6, -3]
    path = tmp_path / "malformed.onnx"
    path.write_bytes(made.SerializeToString())
    with pytest.raises(InvalidModelError):
        load(path)


def test_nodes_in_any_order_become_layers(tmp_path: Path) -> None:
    text = "h = MatMul (x, w)  y = Relu (h)"
    made = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> m (float[N, 6] x) => (float[N, 3] y) {{ {text} }}'
    )
    made.graph.initializer.append(INSIDE)
    made.graph.node.reverse()
    path = tmp_path / "reversed.onnx"
    path.write_bytes(made.SerializeToString())
    assert [type(call.layer).__name__ for call in load(path).network.calls] == ["Dense", "Activation"]


def test_a_file_beyond_what_protobuf_holds_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is sparse: it takes no space, and reading it would take 2 GiB of memory."""
    path = tmp_path / "huge.onnx"
    with path.open("wb") as file:
        file.truncate(2**31)
    monkeypatch.setattr(Path, "read_bytes", lambda _: pytest.fail("it was read"))
    for read in (load, read_model):
        with pytest.raises(InvalidModelError, match="too large") as caught:
            read(path)
        assert "2,147,483,648" in caught.value.problem.received


def test_a_long_row_of_nodes_does_not_become_as_many_layers(tmp_path: Path) -> None:
    names = ["x", *(f"v{number}" for number in range(2 * MAX_LAYERS - 1)), "y"]
    made = model(None)
    del made.graph.node[:]
    made.graph.node.extend(helper.make_node("Relu", [a], [b]) for a, b in pairwise(names))
    made.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 6
    path = tmp_path / "long.onnx"
    path.write_bytes(made.SerializeToString())
    kinds = [type(call.layer).__name__ for call in load(path).network.calls]
    assert kinds == ["Onnx", *["Activation"] * MAX_LAYERS]
