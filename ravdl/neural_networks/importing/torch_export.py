"""A PyTorch module as an ONNX model in training form, by PyTorch's own exporters. Nothing here is needed without PyTorch.

The current exporter (`dynamo`, which needs the package onnxscript) is asked first. Where it is missing or fails, the older one,
which traces one run of the module, is asked; where that run took a branch that depends on values, its trace is refused,
because it would be another model for other values.
"""

from __future__ import annotations

import inspect
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib.util import find_spec
from typing import Any

import numpy as np
import onnx

from ravdl.neural_networks.torch_state import imported_torch
from ravop.errors import ArgumentError, InvalidModelError, RavenError, UnsupportedOnnxError

EXPORTERS = ("auto", "dynamo", "legacy")
OPSET = 20
_SHOWN = 600
"""Characters of an exporter's message that an error tells."""
_TOO_LARGE = 2**31 - 1
_QUIET = ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")


def exported(module: Any, example_inputs: Any, exporter: str = "auto") -> onnx.ModelProto:
    """The module's ONNX model for any batch size, with its parameters' names. The module stays as it was.

    Raises `ArgumentError` for what is no module, for inputs that it does not take, and outputs that are no tensors;
    `UnsupportedOnnxError` for a module that PyTorch cannot export, with its reason.
    """
    torch = imported_torch()
    if not isinstance(module, torch.nn.Module):
        raise ArgumentError(
            "this is no PyTorch module", expected="a torch.nn.Module", received=type(module).__name__
        )
    if exporter not in EXPORTERS:
        raise ArgumentError("unknown exporter", expected=", ".join(EXPORTERS), received=repr(exporter))
    size = sum(each.numel() * each.element_size() for each in module.state_dict().values())
    if size > _TOO_LARGE:
        raise InvalidModelError(
            "the module is too large for one ONNX file", expected=f"at most {_TOO_LARGE:,} bytes of weights",
            received=f"{size:,}",
            hint="train it in parts, or with weights of half the precision",
        )  # fmt: skip
    names, inputs = _inputs(torch, module, example_inputs)
    with _as_it_was(torch, module):
        outputs = _run(torch, module, inputs)
        ways = {"dynamo": _by_dynamo, "legacy": _by_trace}
        asked = (
            [exporter]
            if exporter != "auto"
            else ["dynamo", "legacy"]
            if find_spec("onnxscript")
            else ["legacy"]
        )
        reasons: list[str] = []
        for way in asked:
            try:
                return ways[way](torch, module, inputs, names, outputs, bool(reasons))
            except RavenError:
                raise
            except Exception as error:  # noqa: BLE001 - an exporter may raise anything; its reason is told
                reasons.append(f"{way}: {_shortened(error)}")
    raise UnsupportedOnnxError(
        f"PyTorch cannot export {type(module).__name__}", expected="a module whose computation does not depend on values",
        received="; ".join(reasons),
        hint="use torch.where instead of if, and tensors' shapes instead of their values"
        + ("" if find_spec("onnxscript") else '; the newer exporter may do it: pip install "ravenverse[torch]"'),
    )  # fmt: skip


# ── inputs and outputs ────────────────────────────────────────────────────────────────────────────
def _inputs(torch: Any, module: Any, given: Any) -> tuple[list[str], tuple[Any, ...]]:
    """Names and tensors; a batch of one is doubled, because exporters take a size of 1 for a constant."""
    positional, by_name = ((), dict(given)) if isinstance(given, Mapping) else (_listed(given), {})
    try:
        bound = inspect.signature(module.forward).bind(*positional, **by_name)
    except TypeError as error:
        raise ArgumentError(
            "the example inputs are not those of the module's forward",
            expected=f"{type(module).__name__}.forward{inspect.signature(module.forward)}",
            received=str(error),
        ) from error
    names, tensors = [], []
    for name, value in bound.arguments.items():
        several = value if isinstance(value, tuple) else (value,)
        for number, each in enumerate(several):
            names.append(f"{name}_{number}" if isinstance(value, tuple) else name)
            tensors.append(_tensor(torch, name, each))
    if bound.kwargs:
        raise ArgumentError(
            "forward has arguments by name only", expected="positional ones", received=", ".join(bound.kwargs)
        )
    counts = {int(each.shape[0]) for each in tensors}
    if len(counts) != 1 or 0 in counts:
        raise ArgumentError(
            "the example inputs differ in their first axis, which is the batch", expected="as many samples in each, at least one",
            received=", ".join(f"{name} {list(each.shape)}" for name, each in zip(names, tensors, strict=True)) or "no inputs",
        )  # fmt: skip
    if counts == {1}:
        tensors = [torch.cat([each, each]) for each in tensors]
    return names, tuple(tensors)


def _listed(given: Any) -> tuple[Any, ...]:
    return tuple(given) if isinstance(given, tuple | list) else (given,)


def _tensor(torch: Any, name: str, value: Any) -> Any:
    numbers = isinstance(value, np.ndarray) and value.dtype.kind in "biuf"
    found = torch.from_numpy(value) if numbers else value
    if not isinstance(found, torch.Tensor) or not found.ndim:
        raise ArgumentError(
            f"the example for {name!r} is no tensor with a batch axis", expected="tensors or NumPy arrays of (batch, …)",
            received="a scalar" if isinstance(found, torch.Tensor) else type(value).__name__,
            hint="wrap the module in one whose forward takes tensors only",
        )  # fmt: skip
    return found.detach()


def _run(torch: Any, module: Any, inputs: tuple[Any, ...]) -> int:
    """How many tensors the module gives."""
    try:
        with torch.no_grad():
            found = module(*inputs)
    except Exception as error:
        raise ArgumentError(
            "the module fails on the example inputs", expected="inputs that it takes",
            received=f"{', '.join(str(list(each.shape)) for each in inputs)}: {_shortened(error)}",
        ) from error  # fmt: skip
    outputs = list(found.values()) if isinstance(found, dict) else list(_listed(found))
    for each in outputs:
        if not isinstance(each, torch.Tensor):
            raise ArgumentError(
                "the module gives something else than tensors", expected="a tensor, or a tuple of tensors",
                received=type(each).__name__, hint="wrap it in a module whose forward gives tensors only",
            )  # fmt: skip
        if not each.ndim or each.shape[0] != inputs[0].shape[0]:
            raise ArgumentError(
                "the first axis of an output is not the batch", expected=f"({inputs[0].shape[0]}, …)", received=tuple(each.shape),
                hint="losses belong outside of the module; wrap it in one that gives what is to be learned only",
            )  # fmt: skip
    return len(outputs)


# ── exporters ─────────────────────────────────────────────────────────────────────────────────────
def _by_dynamo(
    torch: Any, module: Any, inputs: tuple[Any, ...], names: list[str], outputs: int, second: bool
) -> onnx.ModelProto:
    dynamic = tuple({0: torch.export.Dim.DYNAMIC} for _ in inputs)
    with _quiet(torch):
        program = torch.onnx.export(
            module, inputs, dynamo=True, optimize=False, verbose=False, opset_version=OPSET, input_names=names,
            output_names=_output_names(outputs), dynamic_shapes=dynamic,
        )  # fmt: skip
    return program.model_proto  # type: ignore[no-any-return]


def _by_trace(
    torch: Any, module: Any, inputs: tuple[Any, ...], names: list[str], outputs: int, second: bool
) -> onnx.ModelProto:
    """`second`: after the other exporter failed, so that a branch that the trace took is taken for the reason."""
    given = _output_names(outputs)
    dynamic = {name: {0: "batch"} for name in (*names, *given)}
    buffer = io.BytesIO()
    with _quiet(torch) as told:
        torch.onnx.export(
            module, inputs, buffer, dynamo=False, training=torch.onnx.TrainingMode.TRAINING, do_constant_folding=False,
            opset_version=OPSET, input_names=names, output_names=given, dynamic_axes=dynamic,
        )  # fmt: skip
    branches = [str(each.message) for each in told if "to a Python boolean" in str(each.message)]
    if branches and (second or not find_spec("onnxscript")):
        raise ValueError(branches[0])
    return onnx.load_from_string(buffer.getvalue())


def _output_names(count: int) -> list[str]:
    return ["output"] if count == 1 else [f"output_{number}" for number in range(1, count + 1)]


@contextmanager
def _quiet(torch: Any) -> Iterator[list[warnings.WarningMessage]]:
    """Without the exporters' warnings, which are about themselves, and the graphs that they print when they fail; what they
    fail of is raised.
    """
    levels = {name: logging.getLogger(name).level for name in _QUIET}
    dump = getattr(torch._C, "_jit_onnx_log", None)  # writes past Python's streams, whatever its switch says
    unseen = io.StringIO()
    with (
        warnings.catch_warnings(record=True) as told,
        redirect_stdout(unseen),
        redirect_stderr(unseen),
    ):
        warnings.simplefilter("always")
        for name in _QUIET:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        if dump is not None:
            torch._C._jit_onnx_log = lambda *_: None
        try:
            yield told
        finally:
            if dump is not None:
                torch._C._jit_onnx_log = dump
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)


@contextmanager
def _as_it_was(torch: Any, module: Any) -> Iterator[None]:
    """Training mode within; after it each part's own mode, and the buffers and random state from before."""
    modes = {each: each.training for each in module.modules()}
    buffers = [(each, each.detach().clone()) for each in module.buffers()]
    with torch.random.fork_rng():
        try:
            module.train()
            yield
        finally:
            for each, mode in modes.items():
                each.training = mode
            with torch.no_grad():
                for buffer, before in buffers:
                    buffer.copy_(before)


def _shortened(error: BaseException) -> str:
    """The first lines of the innermost reason, without advice on how to debug the exporter."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:_SHOWN]}{'…' if len(text) > _SHOWN else ''}"
