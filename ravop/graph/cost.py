"""What nodes cost: floating-point operations, bytes, the engine's own time, and the memory of a subgraph.

Estimates from static shapes alone; an unknown dimension counts as 1. Bodies of loops count once per iteration, calls of
model-local functions as the function's nodes (`function_costs` first). The figures of the reference machine are
measured with ONNX Runtime on one thread. Nothing here looks at data or decides anything: the planner does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import onnx_ir as ir

NODE_SECONDS = 3e-6
"""What the engine spends on a node besides its arithmetic."""
MEMORY_BANDWIDTH = 10e9
"""Bytes per second that element-wise operators read and write."""


class NodeCost(NamedTuple):
    """`overhead` is the time in seconds that does not depend on FLOPs: the engine's per-node time and memory traffic."""

    flops: float
    bytes_in: int
    bytes_out: int
    overhead: float

    def seconds(self, gflops: float) -> float:
        """Estimated time on a machine of this speed."""
        return self.flops / (gflops * 1e9) + self.overhead


class FunctionCost(NamedTuple):
    """One call of a model-local function."""

    flops: float
    overhead: float
    peak_memory: int


Functions = Mapping[ir.OperatorIdentifier, FunctionCost]
_NO_FUNCTIONS: Functions = {}


# ── sizes ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def dims(value: ir.Value | None) -> tuple[int, ...]:
    """The value's dimensions, 1 for each unknown one."""
    if value is None or value.shape is None:
        return ()
    return tuple(dim if isinstance(dim, int) else 1 for dim in value.shape.dims)


def elements(value: ir.Value | None) -> int:
    return math.prod(dims(value))


def nbytes(value: ir.Value | None) -> int:
    """Bytes of the value in memory; 0 for a missing optional one."""
    if value is None:
        return 0
    return math.ceil(elements(value) * value.dtype.itemsize) if value.dtype is not None else elements(value)


# ── floating-point operations ────────────────────────────────────────────────────────────────────────────────────────
def _input(node: ir.Node, index: int) -> ir.Value | None:
    return node.inputs[index] if index < len(node.inputs) else None


def _last_dim(value: ir.Value | None) -> int:
    return dims(value)[-1] if dims(value) else 1


def _matmul(node: ir.Node) -> float:
    return 2.0 * elements(node.outputs[0]) * _last_dim(_input(node, 0))


def _gemm(node: ir.Node) -> float:
    transposed = node.attributes.get("transA")
    a = dims(_input(node, 0)) or (1,)
    inner = a[0] if transposed is not None and transposed.as_int() else a[-1]
    return 2.0 * elements(node.outputs[0]) * inner


def _per_filter(node: ir.Node) -> float:
    """Multiply-adds that one position of the filter costs, in FLOPs."""
    weights = _input(node, 1)
    return 2.0 * elements(weights) / max(1, (dims(weights) or (1,))[0])


def _conv(node: ir.Node) -> float:
    return elements(node.outputs[0]) * _per_filter(node)


def _conv_transpose(node: ir.Node) -> float:
    return elements(_input(node, 0)) * _per_filter(node)


def _pool(node: ir.Node) -> float:
    kernel = node.attributes.get("kernel_shape")
    return float(elements(node.outputs[0]) * (math.prod(kernel.as_ints()) if kernel is not None else 1))


def _einsum(node: ir.Node) -> float:
    """Twice the product of all distinct index sizes; an ellipsis counts as one index of the output's size."""
    terms = node.attributes["equation"].as_string().replace(" ", "").split("->")[0].split(",")
    sizes: dict[str, int] = {}
    for term, value in zip(terms, node.inputs, strict=False):
        letters, shape = term.replace("...", ""), dims(value)
        sizes |= dict(zip(letters, shape[len(shape) - len(letters) :], strict=False))
        if "..." in term:
            sizes["..."] = max(sizes.get("...", 1), math.prod(shape[: len(shape) - len(letters)]))
    return 2.0 * math.prod(sizes.values())


def _recurrent(gates: int) -> Callable[[ir.Node], float]:
    def flops(node: ir.Node) -> float:
        sequence, batch, features = (*dims(_input(node, 0)), 1, 1, 1)[:3]
        directions, rows = (*dims(_input(node, 2)), 1, 1)[:2]
        hidden = rows // gates
        return 2.0 * sequence * batch * directions * gates * hidden * (features + hidden)

    return flops


def _per_output(weight: float) -> Callable[[ir.Node], float]:
    return lambda node: weight * elements(node.outputs[0])


def _per_input(weight: float) -> Callable[[ir.Node], float]:
    return lambda node: weight * elements(_input(node, 0))


_MOVES = (
    "Cast Concat ConstantOfShape Constant DepthToSpace Expand EyeLike Flatten Gather GatherElements GatherND Identity "
    "Pad Reshape Scatter Shape Size Slice SpaceToDepth Split Squeeze Tile Transpose Trilu Unsqueeze Where"
)
_REDUCTIONS = (
    "ArgMax ArgMin CumSum GlobalAveragePool GlobalMaxPool ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax "
    "ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare"
)
_TRANSCENDENTAL = "Acos Asin Atan Cos Elu Erf Exp Gelu Log Mish Pow Selu Sigmoid Sin Softplus Tan Tanh"
_NORMALISED = "BatchNormalization GroupNormalization InstanceNormalization LayerNormalization LpNormalization"
_NORMALISATIONS = f"{_NORMALISED} LogSoftmax Softmax"

FLOPS: dict[str, Callable[[ir.Node], float]] = {
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Einsum": _einsum,
    "RNN": _recurrent(1),
    "GRU": _recurrent(3),
    "LSTM": _recurrent(4),
    **dict.fromkeys(("TopK", "Unique"), _per_input(20.0)),
    **dict.fromkeys(("AveragePool", "LpPool", "MaxPool"), _pool),
    **dict.fromkeys(_MOVES.split(), _per_output(0.0)),
    **dict.fromkeys(_REDUCTIONS.split(), _per_input(1.0)),
    **dict.fromkeys(_TRANSCENDENTAL.split(), _per_output(8.0)),
    **dict.fromkeys(_NORMALISATIONS.split(), _per_input(8.0)),
}
"""FLOPs of an operator; one per output element for those not listed."""
_ELEMENTWISE = _per_output(1.0)

_VIEWS = frozenset({"Flatten", "Identity", "Reshape", "Shape", "Size", "Squeeze", "Unsqueeze"})
"""The engine moves no data for these."""
_PICKERS = frozenset({"ConstantOfShape", "Constant", "Gather", "GatherElements", "GatherND", "Slice"})
"""These read no more than they give."""


def _traffic(node: ir.Node, bytes_in: int, bytes_out: int) -> int:
    if node.op_type in _VIEWS:
        return 0
    return 2 * bytes_out if node.op_type in _PICKERS else bytes_in + bytes_out


# ── nodes and graphs ─────────────────────────────────────────────────────────────────────────────────────────────────
def node_cost(node: ir.Node, functions: Functions = _NO_FUNCTIONS) -> NodeCost:
    """The cost of running the node once, its bodies included."""
    bytes_in = sum(nbytes(value) for value in dict.fromkeys(node.inputs) if value is not None)
    bytes_out = sum(map(nbytes, node.outputs))
    called = functions.get(node.op_identifier())
    if called is not None:
        return NodeCost(called.flops, bytes_in, bytes_out, called.overhead)
    bodies = [graph_cost(body, functions) for body in bodies_of(node)]
    if bodies:
        dearest = max(bodies, key=lambda cost: (cost.flops, cost.overhead))
        trips = trip_count(node)
        return NodeCost(
            trips * dearest.flops,
            bytes_in,
            bytes_out,
            NODE_SECONDS + trips * (NODE_SECONDS + dearest.overhead),
        )
    flops = FLOPS.get(node.op_type, _ELEMENTWISE)(node)
    return NodeCost(
        flops, bytes_in, bytes_out, NODE_SECONDS + _traffic(node, bytes_in, bytes_out) / MEMORY_BANDWIDTH
    )


def graph_cost(graph: ir.Graph | Iterable[ir.Node], functions: Functions = _NO_FUNCTIONS) -> NodeCost:
    """The sum over the nodes. `bytes_in` and `bytes_out` are summed too: all that flows, not what crosses the border."""
    costs = [node_cost(node, functions) for node in graph]
    return NodeCost(
        sum(c.flops for c in costs),
        sum(c.bytes_in for c in costs),
        sum(c.bytes_out for c in costs),
        sum(c.overhead for c in costs),
    )


def function_costs(model: ir.Model) -> dict[ir.OperatorIdentifier, FunctionCost]:
    """The cost of a call of each of the model's functions, which call each other without recursion."""
    done: dict[ir.OperatorIdentifier, FunctionCost] = {}
    pending = list(model.functions)
    while pending:
        identifier = pending[-1]
        function = model.functions[identifier]
        missing = [] if identifier in done else sorted(_calls(function.graph, model.functions) - done.keys())
        if missing:
            pending += missing
            continue
        pending.pop()
        if identifier not in done:
            cost = graph_cost(function.graph, done)
            done[identifier] = FunctionCost(cost.flops, cost.overhead, graph_peak(function.graph, done))
    return done


def _calls(graph: ir.Graph, functions: Collection[ir.OperatorIdentifier]) -> set[ir.OperatorIdentifier]:
    return {node.op_identifier() for node in graph.all_nodes()} & set(functions)


def bodies_of(node: ir.Node) -> list[ir.Graph]:
    """The graphs inside the node: a loop's body, the branches of an `If`."""
    return [a.as_graph() for a in node.attributes.values() if a.type == ir.AttributeType.GRAPH]


def trip_count(node: ir.Node) -> int:
    """How often the node's body runs, 1 where only the run can tell."""
    if node.op_type == "Scan":
        return scan_length(node) or 0
    if node.op_type == "Loop":
        limit = _input(node, 0)
        if limit is not None and limit.const_value is not None:
            return max(0, int(limit.const_value.numpy().reshape(-1)[0]))
    return 1


def scan_length(node: ir.Node) -> int | None:
    """Iterations of a `Scan`; None where only the run can tell."""
    count = node.attributes["num_scan_inputs"].as_int()
    axes = node.attributes.get("scan_input_axes")
    axis = axes.as_ints()[0] if axes is not None and axes.as_ints() else 0
    value = node.inputs[len(node.inputs) - count]
    if value is None or value.shape is None or not -len(value.shape) <= axis < len(value.shape):
        return None
    length = value.shape[axis]
    return length if isinstance(length, int) else None


# ── memory ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def graph_peak(graph: ir.Graph, functions: Functions = _NO_FUNCTIONS) -> int:
    """Peak memory in bytes of running the graph, its inputs and initializers included."""
    resident = dict.fromkeys((*graph.inputs, *graph.initializers.values()))
    return peak_memory(list(graph), resident, set(graph.outputs), functions)


def peak_memory(
    nodes: Sequence[ir.Node],
    resident: Iterable[ir.Value],
    keep: Collection[ir.Value],
    functions: Functions = _NO_FUNCTIONS,
) -> int:
    """Peak bytes of running `nodes` one after another: `resident` values stay throughout, a result from its node to its
    last use, or to the end when it is in `keep`."""
    base = sum(map(nbytes, resident))
    last: dict[ir.Value, int] = {}
    for index, node in enumerate(nodes):
        for value in read_by(node):
            last[value] = index
    dying: dict[int, list[ir.Value]] = {}
    for value, index in last.items():
        dying.setdefault(index, []).append(value)
    alive: dict[ir.Value, int] = {}
    current = peak = base
    for index, node in enumerate(nodes):
        unread = 0
        for value in node.outputs:
            if value in last or value in keep:
                alive[value] = nbytes(value)
                current += alive[value]
            elif value.name:  # made all the same, and let go at once
                unread += nbytes(value)
        peak = max(peak, current + unread + _inner_peak(node, functions))
        for value in dying.get(index, ()):
            if value not in keep:
                current -= alive.pop(value, 0)
    return peak


def _inner_peak(node: ir.Node, functions: Functions) -> int:
    called = functions.get(node.op_identifier())
    if called is not None:
        return called.peak_memory
    return max((graph_peak(body, functions) for body in bodies_of(node)), default=0)


def read_by(node: ir.Node) -> dict[ir.Value, None]:
    """Values that the node reads, those its bodies capture from outside included; in order, without repetitions."""
    found: dict[ir.Value, None] = dict.fromkeys(value for value in node.inputs if value is not None)
    for body in bodies_of(node):
        inside: set[ir.Value] = {*body.inputs, *body.initializers.values()}
        for child in body:
            found |= dict.fromkeys(value for value in read_by(child) if value not in inside)
            inside.update(child.outputs)
        found |= dict.fromkeys(value for value in body.outputs if value not in inside)
    return found
