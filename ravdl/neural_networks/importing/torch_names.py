"""The names of a PyTorch module's parameters and buffers, and which of them an exported model has: ties are kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from ravop.importing import OnnxModel
from ravop.protocol.tensors import Array


@dataclass(frozen=True)
class Tensors:
    """A module's state: each tensor once, with all of its names."""

    names: dict[str, tuple[str, ...]]
    """By the first of them, in the order of `state_dict()`."""
    values: dict[str, Array]
    """By every name."""
    trained: frozenset[str]
    """First names of the parameters that require gradients."""
    held: frozenset[str]
    """First names of the parameters that do not."""
    hidden: dict[str, Array]
    """Buffers that are not in `state_dict()`."""


def tensors_of(module: Any) -> Tensors:
    """Of a `torch.nn.Module`."""
    state = module.state_dict(keep_vars=True)
    firsts: dict[int, str] = {}
    names: dict[str, list[str]] = {}
    for name, tensor in state.items():
        names.setdefault(firsts.setdefault(id(tensor), name), []).append(name)
    parameters = {id(each): each.requires_grad for each in module.parameters()}
    known = {first: parameters.get(number) for number, first in firsts.items()}
    hidden = {name: each for name, each in module.named_buffers(remove_duplicate=False) if name not in state}
    return Tensors(
        {first: tuple(others) for first, others in names.items()},
        {name: _array(each) for name, each in state.items()},
        frozenset(first for first, needs in known.items() if needs),
        frozenset(first for first, needs in known.items() if needs is False),
        {name: _array(each) for name, each in hidden.items()},
    )


def _array(tensor: Any) -> Array:
    tensor = tensor.detach().cpu()
    kind = str(tensor.dtype).removeprefix("torch.")
    found: Array = np.array(tensor.float().numpy() if kind == "bfloat16" else tensor.numpy())
    return found


def with_ties(proto: onnx.ModelProto, tensors: Tensors) -> onnx.ModelProto:
    """The model with one initializer, under its first name, for each tensor of the module, however often it was exported."""
    first = {name: main for main, names in tensors.names.items() for name in names if name != main}
    kept = {each.name for each in proto.graph.initializer}
    if not first.keys() & kept:
        return proto
    for tensor in list(proto.graph.initializer):
        main = first.get(tensor.name)
        if main is not None and main in kept:
            proto.graph.initializer.remove(tensor)
        elif main is not None:
            tensor.name = main
            kept.add(main)
    _rename(proto.graph, first)
    return proto


def _rename(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = names.get(name, name)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rename(attribute.g, names)


def never_trained(model: OnnxModel, tensors: Tensors) -> list[str]:
    """Parameters of the model that are no parameters of the module: buffers, and numbers that the exporter made."""
    own = tensors.trained | tensors.held
    return [name for name in model.parameters if name not in own and name not in model.statistics]
