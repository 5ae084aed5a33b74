"""Values that attributes of operators may have, as ONNX's documentation of the operators says.

ONNX's checker and its shape inference look at few of them: what is none of these fails when it is computed, on another
machine. `ravop.graph.structure` asks for graphs that travel, `ravop.importing` for models; `unfit`, for what depends on the
sizes of inputs, is asked wherever a node is made. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

MAX_RANK = 32
"""Axes of a tensor; an axis beyond is none, and ONNX's inference would cut its number to 32 bits."""
POSITIVE = frozenset(
    {"blocksize", "dilations", "group", "hidden_size", "kernel_shape", "num_groups", "num_outputs"}
    | {"num_scan_inputs", "output_height", "output_width", "strides"}
)
"""Attributes that count or are a divisor: 1 or more."""
_AXES = frozenset({"axes", "axis", "batch_axis", "batch_dims", "perm", "time_axis"}) | frozenset(
    {"scan_input_axes", "scan_output_axes"}
)

_PADS = "NOTSET SAME_UPPER SAME_LOWER VALID"
_WINDOWS = ("AveragePool", "Conv", "ConvInteger", "ConvTranspose", "LpPool", "MaxPool", "QLinearConv")
_DIRECTIONS = "forward reverse bidirectional"
_SCATTERED = "none add mul max min"
_LOSSES = "none sum mean"
_ROUNDED = "up down nearest"
_CHOICES: dict[tuple[str, str], str] = {
    **{(of, "auto_pad"): _PADS for of in _WINDOWS},
    **{(of, "direction"): _DIRECTIONS for of in ("GRU", "LSTM", "RNN")},
    **{(of, "reduction"): _SCATTERED for of in ("ScatterElements", "ScatterND")},
    **{(of, "reduction"): _LOSSES for of in ("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss")},
    **{(of, "round_mode"): _ROUNDED for of in ("Cast", "CastLike")},
    ("BitShift", "direction"): "LEFT RIGHT",
    ("CausalConvWithState", "activation"): "silu swish none",
    ("DepthToSpace", "mode"): "DCR CRD",
    ("Gelu", "approximate"): "none tanh",
    ("GridSample", "mode"): "linear nearest cubic",
    ("GridSample", "padding_mode"): "zeros border reflection",
    ("LinearAttention", "update_rule"): "linear gated delta gated_delta",
    ("Pad", "mode"): "constant reflect edge wrap",
    ("Resize", "coordinate_transformation_mode"): "half_pixel half_pixel_symmetric pytorch_half_pixel align_corners asymmetric "
                                                  "tf_crop_and_resize",
    ("Resize", "keep_aspect_ratio_policy"): "stretch not_larger not_smaller",
    ("Resize", "mode"): "nearest linear cubic",
    ("Resize", "nearest_mode"): "round_prefer_floor round_prefer_ceil floor ceil",
    ("RoiAlign", "coordinate_transformation_mode"): "half_pixel output_half_pixel",
    ("RoiAlign", "mode"): "avg max",
    ("SpaceToDepth", "mode"): "DCR CRD",
    ("TensorScatter", "mode"): "linear circular",
    ("Upsample", "mode"): "nearest linear",
}  # fmt: skip
_EARLIER: dict[tuple[str, str], tuple[int, str]] = {
    ("GridSample", "mode"): (20, "bilinear nearest bicubic"),
    ("Resize", "coordinate_transformation_mode"): (13, "half_pixel pytorch_half_pixel align_corners asymmetric "
                                                       "tf_crop_and_resize tf_half_pixel_for_nn"),
}  # fmt: skip
"""What they were before this version of the operators."""
_FUNCTIONS = "Relu Tanh Sigmoid Affine LeakyRelu ThresholdedRelu ScaledTanh HardSigmoid Elu Softsign Softplus"
_KNOWN = frozenset(name.lower() for name in _FUNCTIONS.split())
_GATES = {"GRU": 2, "LSTM": 3, "RNN": 1}
"""Activations of a recurrent operator for each direction; they are known by name in any case."""


_NUMBERS: dict[tuple[str, str], tuple[int, int | None]] = {
    ("LRN", "size"): (1, None),
    ("LpNormalization", "p"): (1, 2),
    ("LpPool", "p"): (1, None),
    ("MaxPool", "storage_order"): (0, 1),
    **{("*", name): (1, None) for name in POSITIVE},
    **{("*", name): (-MAX_RANK, MAX_RANK) for name in _AXES},
}
"""The least and the greatest number, by operator or for all of them."""


class Wrong(NamedTuple):
    """What is wrong with an attribute, as errors tell it."""

    message: str
    expected: str
    received: str


def wrong_attribute(op_type: str, attributes: Mapping[str, Any], version: int) -> Wrong | None:
    """The first attribute of a standard operator, in this version of them, with a value that it cannot have; None if all can.

    Strings may be bytes; attributes of other kinds than the operator's are left to ONNX's checker.
    """
    for name, value in attributes.items():
        expected = _expected(op_type, name, value, attributes, version)
        if expected:
            return Wrong(
                f"{op_type} cannot have this {name}", expected, repr(_text(value))[:200].replace("'", "")
            )
    return None


def _expected(op_type: str, name: str, value: Any, attributes: Mapping[str, Any], version: int) -> str:
    """What was expected; empty for a value that the attribute may have."""
    bounds = _NUMBERS.get((op_type, name)) or _NUMBERS.get(("*", name))
    if bounds is not None:
        low, high = bounds
        numbers = value if isinstance(value, list | tuple) else [value]
        fits = all(not isinstance(n, int) or (low <= n and (high is None or n <= high)) for n in numbers)
        return "" if fits else f"{low} or more" if high is None else f"{low} to {high}"
    if name == "activations" and op_type in _GATES:
        return _activations(op_type, value, attributes)
    before, earlier = _EARLIER.get((op_type, name), (0, ""))
    allowed = earlier if version < before else _CHOICES.get((op_type, name), "")
    fits = not allowed or not isinstance(value, str | bytes) or _text(value) in allowed.split()
    return "" if fits else ", ".join(allowed.split())


def unfit(op_type: str, shapes: Sequence[Sequence[object] | None], attributes: Mapping[str, Any]) -> str:
    """What sizes of the inputs contradict an attribute, where ONNX's inference does not look; empty where none does.

    Dimensions that are no numbers are unknown and fit.
    """
    check = _FITS.get(op_type)
    return "" if check is None else check(shapes, attributes)


def _size(shapes: Sequence[Sequence[object] | None], which: int, axis: int) -> int | None:
    shape = shapes[which] if which < len(shapes) else None
    found = shape[axis] if shape is not None and axis < len(shape) else None
    return found if isinstance(found, int) else None


def _channels(shapes: Sequence[Sequence[object] | None], attributes: Mapping[str, Any]) -> str:
    groups = attributes.get("group", 1)
    given, taken, filters = _size(shapes, 0, 1), _size(shapes, 1, 1), _size(shapes, 1, 0)
    if given is not None and taken is not None and given != taken * groups:
        return f"{given} channels, and filters for {taken} in each of {groups} groups"
    return f"{filters} filters in {groups} groups" if filters is not None and filters % groups else ""


def _axis(shapes: Sequence[Sequence[object] | None], attributes: Mapping[str, Any]) -> str:
    shape, axis = shapes[0] if shapes else None, attributes.get("axis", -1)
    return "" if shape is None or -len(shape) <= axis < len(shape) else f"axis {axis} of {len(shape)} axes"


def _hidden(gates: int) -> Callable[[Sequence[Sequence[object] | None], Mapping[str, Any]], str]:
    def check(shapes: Sequence[Sequence[object] | None], attributes: Mapping[str, Any]) -> str:
        hidden = attributes.get("hidden_size")
        for which, asked in ((1, "W"), (2, "R")):
            rows = _size(shapes, which, 1)
            if hidden is not None and rows is not None and rows != gates * hidden:
                return f"{rows} rows in {asked}, and not {gates * hidden} for hidden_size={hidden}"
        return ""

    return check


_FITS = {
    "Conv": _channels, "GRU": _hidden(3), "LSTM": _hidden(4), "LayerNormalization": _axis, "LpNormalization": _axis,
    "RNN": _hidden(1),
}  # fmt: skip


def _activations(op_type: str, value: Any, attributes: Mapping[str, Any]) -> str:
    names = list(value) if isinstance(value, list | tuple) else []
    both = _text(attributes.get("direction", "")) == "bidirectional"
    count = _GATES[op_type] * (2 if both else 1)
    if len(names) not in (0, count):
        return f"{count} activations"
    known = all(not isinstance(n, str | bytes) or str(_text(n)).lower() in _KNOWN for n in names)
    return "" if known else ", ".join(_FUNCTIONS.split())


def _text(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_text(each) for each in value]
    return value.decode(errors="replace") if isinstance(value, bytes) else value
