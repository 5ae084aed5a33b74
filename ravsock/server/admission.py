"""What a requester sends to be activated: is it a graph that can be planned and run? Pure.

`ravop.graph.check` has looked at the model by itself, and the planner looks whether all inputs are bound and all
persisted values given; here is the rest of what a manifest may get wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import onnx_ir as ir

from ravop.errors import ArgumentError, DuplicateNameError, InvalidModelError, MessageError
from ravop.graph.manifest import Manifest

APPROACHES = ("distributed", "federated")


def check_manifest(graph_id: str, model: ir.Model, manifest: Manifest) -> None:
    """Raises `MessageError`, `ArgumentError`, `InvalidModelError` or `DuplicateNameError` where the two do
    not fit.
    """
    if manifest.graph_id != graph_id:
        raise MessageError("the manifest is of another graph", expected=graph_id, received=manifest.graph_id)
    if manifest.approach not in APPROACHES:
        raise ArgumentError("unknown approach", expected=" or ".join(APPROACHES), received=manifest.approach)
    inputs = {value.name for value in model.graph.inputs}
    bound = Counter(binding.input for binding in manifest.bindings)
    if strange := [name for name, count in bound.items() if count > 1 or name not in inputs]:
        raise InvalidModelError(
            "bindings that are no inputs of the model, or twice",
            expected="each once",
            received=_some(strange),
        )
    outputs = {value.name for value in model.graph.outputs}
    if unknown := [value for value in manifest.metrics.values() if value not in outputs]:
        raise InvalidModelError(
            "metrics that the model does not give", expected="outputs of the model", received=_some(unknown)
        )
    twice = [name for name, count in Counter(p.name for p in manifest.persisted).items() if count > 1]
    if twice:
        raise DuplicateNameError(
            "a name is persisted twice", expected="each name once", received=_some(twice)
        )
    for persisted in manifest.persisted:
        if persisted.name.count("{}") != persisted.axes or len(persisted.first) != persisted.axes:
            raise MessageError(
                "the name of a series needs one {} for each axis",
                expected=persisted.axes,
                received=persisted.name,
            )


def _some(names: Iterable[str]) -> str:
    """The first few, for an error."""
    listed = list(names)
    return ", ".join(listed[:5]) + (f" and {len(listed) - 5} more" if len(listed) > 5 else "") or "none"
