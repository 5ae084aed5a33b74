"""`Session`: one ONNX model, loaded once, run often, by ONNX Runtime or by ONNX's reference evaluator.

Where ONNX Runtime has no kernel for a node and its dtypes, a wider dtype lends its own; where none can, the reference
evaluator computes the whole model instead, slowly.
Models are trusted here: whoever takes one from elsewhere checks it first (`ravop.graph.check`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime as ort
from onnx.reference import ReferenceEvaluator
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from ravop.engine.boundary import boundary, widen
from ravop.engine.flaws import flawed
from ravop.engine.lending import lend
from ravop.engine.pruning import prune
from ravop.errors import ComputeError, OutOfMemoryError
from ravop.graph.serde import parse
from ravop.protocol.tensors import Array

EngineName = Literal["onnxruntime", "reference"]
ENGINES: tuple[EngineName, ...] = ("onnxruntime", "reference")

_FATAL_ONLY = 4
_ENGINE_FAULTS: tuple[type[Exception], ...] = (
    ort_errors.EPFail, ort_errors.EngineError, ort_errors.Fail, ort_errors.InvalidArgument, ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf, ort_errors.NoModel, ort_errors.NotImplemented, ort_errors.RuntimeException,
    ort_errors.ModelLoadCanceled, ort_errors.ModelRequiresCompilation,
    # What the bindings and the reference evaluator (NumPy underneath) raise for inputs that do not fit.
    RuntimeError, ValueError, TypeError, IndexError, KeyError, ArithmeticError, NotImplementedError, MemoryError,
)  # fmt: skip
_MEMORY_MESSAGE = re.compile(
    r"bad_alloc|allocate memory|out of memory|bad allocation|unable to allocate", re.IGNORECASE
)
_NO_KERNEL = re.compile(r"Could not find an implementation for (?P<operator>\w+)\S*")
_NODE_NAME = re.compile(r"Name:'([^']+)'")
_MAX_MESSAGE = 2_000

_Run = Callable[[Mapping[str, Array]], Any]
_Loaded = tuple[list[str], list[str], _Run]


class Session:
    """A loaded model. `inputs` and `outputs` are the names of what `run` takes and gives.

    `engine` is the one that computes it, and `fallback` why it is not the one that was asked for, where that is so. `lent`
    names operators that are computed in a wider dtype where the model's has no kernel, which nobody can tell by the results.

    Args:
        model: bytes of an ONNX model.
        threads: threads inside one operator; operators themselves run one after another.
        engine: `"onnxruntime"`, or `"reference"` for ONNX's own evaluator (slow; the oracle of tests and audits).

    Raises `ComputeError` where the engine cannot load the model, `InvalidModelError` for bytes that are no model.
    """

    def __init__(self, model: bytes, threads: int = 1, engine: EngineName = "onnxruntime") -> None:
        self._model = model
        self.engine: EngineName = engine
        self.fallback = ""
        self.lent = frozenset[str]()
        proto = parse(model)
        try:
            self.inputs, self.outputs, self._run = self._loaded(proto, threads)
        except _ENGINE_FAULTS as error:
            raise self._typed(error, "the engine cannot load this model") from error

    def _loaded(self, proto: onnx.ModelProto, threads: int) -> _Loaded:
        choices: dict[str, int] = {}
        loaded: onnx.ModelProto | None = proto
        while loaded is not None:
            try:
                found = _LOADERS[self.engine](loaded, self._model if loaded is proto else b"", threads)
            except ort_errors.NotImplemented as error:
                lacking = _NO_KERNEL.search(str(error))
                self.fallback = lacking[0] if lacking else str(error)[:_MAX_MESSAGE]
                loaded = lend(proto, choices, lacking["operator"]) if lacking else None
            else:
                self.fallback, self.lent = "", frozenset(choices)
                return found
        self.engine = "reference"
        return _LOADERS[self.engine](proto, self._model, threads)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The model's outputs by name.

        Raises `ComputeError` (`problem.op` is the failing node's name where the engine tells it) for missing inputs,
        inputs that do not fit and operators that fail; `OutOfMemoryError` where memory does not suffice.
        """
        missing = [name for name in self.inputs if name not in inputs]
        if missing:
            raise ComputeError(
                "the model needs more inputs", expected=", ".join(self.inputs), received=", ".join(inputs)
            )
        try:
            values = self._run({name: inputs[name] for name in self.inputs})
        except _ENGINE_FAULTS as error:
            raise self._typed(error, "the engine failed") from error
        return {name: np.asarray(value) for name, value in zip(self.outputs, values, strict=True)}

    def _typed(self, error: Exception, message: str) -> ComputeError:
        text = str(error)[:_MAX_MESSAGE]
        if isinstance(error, MemoryError) or _MEMORY_MESSAGE.search(text):
            return OutOfMemoryError(
                "the subgraph needs more memory than there is",
                received=text,
                op=self._node_in(text),
                hint="use smaller batches, or a provider with more memory",
            )
        return ComputeError(message, received=f"{type(error).__name__}: {text}", op=self._node_in(text))

    def _node_in(self, text: str) -> str:
        """The stored node that an engine's message speaks of: engines add to the names of nodes they fuse."""
        told = _NODE_NAME.findall(text)
        if not told:
            return ""
        innermost: str = told[-1]
        names = {node.name for graph in _graphs(parse(self._model)) for node in graph.node}
        return (
            innermost
            if innermost in names
            else max((n for n in names if n in innermost), key=len, default=innermost)
        )


def _graphs(model: Any) -> list[Any]:
    """The main graph, the functions and all bodies of `model`."""
    found = [model.graph, *model.functions]
    for graph in found:  # grows while it is walked
        found += [
            attribute.g for node in graph.node for attribute in node.attribute if attribute.HasField("g")
        ]
    return found


def _load_onnxruntime(model: onnx.ModelProto, data: bytes, threads: int) -> _Loaded:
    """`data`: the model's bytes, empty where they are not known."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = _FATAL_ONLY  # failures come back as exceptions, with the same text
    # A volunteer's machine is idle between operators and tasks, instead of burning a core to be a little faster.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if prune(model.graph):
        data = b""
    unwanted = flawed(_graphs(model))
    if _trains_convolutions(model):
        unwanted.append("NchwcTransformer")
    narrow = boundary(model)
    if narrow or not data:
        data = widen(model, narrow).SerializeToString()
    session = ort.InferenceSession(
        data, options, providers=["CPUExecutionProvider"], disabled_optimizers=unwanted
    )
    inputs = [i.name for i in session.get_inputs()]
    outputs = [output.name for output in session.get_outputs()]

    def run(given: Mapping[str, Array]) -> list[Array]:
        return session.run(outputs, dict(given))  # type: ignore[no-any-return]

    def run_narrow(given: Mapping[str, Array]) -> list[Array]:
        values = run(narrow.widened(given))
        return [narrow.narrowed(name, value) for name, value in zip(outputs, values, strict=True)]

    return inputs, outputs, run_narrow if narrow else run


def _trains_convolutions(model: onnx.ModelProto) -> bool:
    """Whether the filters of a convolution are computed.

    The engine's blocked image layout needs constant filters. Without, only the pooling around convolutions would go
    over to it, and a training step spends a tenth of its time on changing the layout to and fro.
    """
    graphs = _graphs(model)
    constants = {tensor.name for graph in graphs for tensor in getattr(graph, "initializer", ())}
    return any(
        node.op_type == "Conv" and node.input[1] not in constants for graph in graphs for node in graph.node
    )


def _load_reference(model: onnx.ModelProto, data: bytes, threads: int) -> _Loaded:
    evaluator = ReferenceEvaluator(model)

    def run(given: Mapping[str, Array]) -> Any:
        with np.errstate(all="ignore"):  # infinities and NaN are values like others
            return evaluator.run(None, dict(given))

    return list(evaluator.input_names), list(evaluator.output_names), run


_LOADERS: dict[EngineName, Callable[[onnx.ModelProto, bytes, int], _Loaded]] = {
    "onnxruntime": _load_onnxruntime,
    "reference": _load_reference,
}
