"""The planner: splits a graph into the units that are shipped. Pure.

`items` reads a scope, `cluster` groups its items, `units` makes subgraphs and loops of the groups, `build` and `chunk`
write their models; several providers share a loop's iterations by `gangs`, or by `ranges` where these are independent;
`schedule` and `summary` say what to expect. Callers use `plan_graph` alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import msgspec
import onnx_ir as ir

from ravop.errors import ArgumentError, InvalidModelError
from ravop.graph.manifest import Manifest
from ravsock.core.fleet import Fleet
from ravsock.core.plan import GraphPlan, Loop, Plan
from ravsock.core.planner.context import Context
from ravsock.core.planner.summary import summarise
from ravsock.core.planner.units import plan_scope

__all__ = ["UNIT_SECONDS", "Planned", "plan_graph"]

UNIT_SECONDS = 1.0
"""What a unit should be worth, unless the manifest's rule `unit_seconds` says otherwise."""


class Planned(msgspec.Struct, frozen=True):
    """A plan, and the models it ships: hash → bytes."""

    plan: GraphPlan
    models: dict[str, bytes]


def plan_graph(model: ir.Model, manifest: Manifest, fleet: Fleet) -> Planned:
    """Split a checked model (see `ravop.graph.check`) for this fleet. The model is not changed.

    Raises `InvalidModelError` where the manifest does not belong to the model: an input without a binding, a persisted
    value that is no output.
    """
    _check_manifest(model.graph, manifest)
    context = Context(model, fleet.typical_gflops, _unit_seconds(manifest), fleet.typical_line)
    main, _ = plan_scope(model.graph, model.graph.outputs, context, is_main=True)
    flops = sum(unit.cost.flops * (unit.length if isinstance(unit, Loop) else 1) for unit in main.units)
    steps = sum(unit.length * unit.steps for unit in main.units if isinstance(unit, Loop)) or len(main.units)
    summary = summarise(main, flops, steps, fleet)
    inputs = tuple(value.name or "" for value in model.graph.inputs)
    plan = GraphPlan(main=main, inputs=inputs, flops=flops, steps=steps, summary=summary)
    return Planned(plan, {sha: context.models[sha] for sha in _shipped(main)})


def _unit_seconds(manifest: Manifest) -> float:
    asked = manifest.rules.get("unit_seconds", UNIT_SECONDS)
    if isinstance(asked, bool | str) or not 0 <= asked < math.inf:
        raise ArgumentError(
            "the rule unit_seconds is not a time", expected="seconds, 0 or more", received=repr(asked)
        )
    return float(asked)


def _shipped(plan: Plan) -> Iterator[str]:
    for unit in plan.units:
        if not isinstance(unit, Loop):
            yield unit.model
        elif unit.chunk is not None:
            yield unit.chunk.model
            for gang in unit.gangs:
                yield from gang.nodes
        elif unit.body is not None:
            yield from _shipped(unit.body)


def _check_manifest(graph: ir.Graph, manifest: Manifest) -> None:
    bound = {binding.input for binding in manifest.bindings}
    unbound = [value.name or "" for value in graph.inputs if value.name not in bound]
    if unbound:
        raise InvalidModelError(
            "inputs of the graph have no value",
            expected="a binding for each",
            received=", ".join(unbound[:10]),
        )
    outputs = {value.name for value in graph.outputs}
    strange = [persisted.name for persisted in manifest.persisted if persisted.value not in outputs]
    if strange:
        raise InvalidModelError(
            "persisted names stand for no output of the graph", received=", ".join(strange[:10])
        )
