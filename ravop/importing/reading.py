"""A file, bytes or a model in memory → a checked ONNX model and the arrays in it. The only module here that reads files.

A model may come from anybody: its size is bounded, tensors in other files are read from beside a local model only,
and what ONNX's native code would stumble over is refused before it is called (`ravop.importing.vet`).
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import onnx
import onnx_ir as ir
from onnx import checker, external_data_helper

from ravop.errors import ArgumentError, InvalidModelError, RavenError
from ravop.graph.serde import parse
from ravop.importing.vet import Contents, vetted

Source = str | os.PathLike[str] | bytes | onnx.ModelProto | ir.Model
"""What a model is read from: a path, the bytes of a file, or a model of `onnx` or `onnx_ir`."""

_MALFORMED = (AttributeError, LookupError, MemoryError, OverflowError, TypeError, UnicodeError, ValueError)
"""What Python and protobuf raise for a message that is not built as ONNX says, such as for names that are no UTF-8."""
MAX_BYTES = 2**31 - 1
"""Of an ONNX file: protobuf's limit. Weights in files beside it may be larger."""


def read(source: Source) -> Contents:
    """Raises `InvalidModelError` for what is no sound ONNX model, `UnsupportedOnnxError` for one that cannot be imported
    (all nodes that cannot be are named), `ArgumentError` for another kind of source.
    """
    proto = load_proto(source)
    try:
        return _checked(proto)
    except RavenError:
        raise
    except _MALFORMED as error:
        raise invalid("this model is malformed", f"{type(error).__name__}: {error}"[:500]) from error


def _checked(proto: onnx.ModelProto) -> Contents:
    contents = vetted(proto)
    graph = contents.model.graph
    open_ranks = [info.type.tensor_type for info in (*graph.input, *graph.output) if _without_shape(info)]
    for kind in open_ranks:  # the checker asks for one, exporters leave it out, and nothing here needs it
        kind.shape.SetInParent()
    try:
        checker.check_model(contents.model)
    except (checker.ValidationError, ValueError) as error:
        raise invalid("ONNX refuses this model", str(error).strip()) from error
    for kind in open_ranks:
        kind.ClearField("shape")
    return contents


def _without_shape(info: onnx.ValueInfoProto) -> bool:
    return info.type.HasField("tensor_type") and not info.type.tensor_type.HasField("shape")


def load_proto(source: Source) -> onnx.ModelProto:
    """The model as it is, unchecked, with the weights of files beside it. Raises `InvalidModelError`, `ArgumentError`."""
    match source:
        case onnx.ModelProto():
            return source
        case ir.Model():
            return ir.to_proto(source)
        case bytes():
            _bounded(len(source))
            return parse(source)
        case str() | os.PathLike():
            return _file(Path(source))
    raise ArgumentError("this is no ONNX model", expected="a path, bytes, or a model of onnx or onnx_ir",
                        received=type(source).__name__)  # fmt: skip


def _file(path: Path) -> onnx.ModelProto:
    """The model with its weights, also those in files beside it, and only those."""
    try:
        found = path.stat()
        regular = stat.S_ISREG(found.st_mode)  # of a pipe or a device the end may never come
        data = path.read_bytes() if regular and found.st_size <= MAX_BYTES else b""
    except (OSError, ValueError) as error:
        raise invalid(f"{path.name} cannot be read", str(error)) from error
    _bounded(found.st_size)
    if not regular:
        raise invalid(f"{path.name} cannot be read", "no regular file")
    proto = parse(data)
    try:
        external_data_helper.load_external_data_for_model(proto, str(path.parent.resolve()))
    except (checker.ValidationError, OSError, RuntimeError, ValueError) as error:
        raise invalid(
            f"{path.name} keeps weights in a file that cannot be read", str(error).strip()
        ) from error
    return proto


def _bounded(size: int) -> None:
    if size > MAX_BYTES:
        raise InvalidModelError(
            "the model is too large for one file", expected=f"at most {MAX_BYTES:,} bytes", received=f"{size:,} bytes",
            hint="save its weights as external data, in a file beside the model",
        )  # fmt: skip


def invalid(message: str, received: str) -> InvalidModelError:
    return InvalidModelError(
        message,
        expected="an ONNX model, with its weights inside or in files beside it",
        received=received,
        hint="export it again; keep the files of its weights in its folder",
    )
