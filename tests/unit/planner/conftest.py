"""Helpers to plan graphs and to carry the plans out. `interpret` is imported by path: test folders are no packages."""

import importlib.util
from pathlib import Path

import numpy as np
import onnx
import pytest

from ravop.graph.check import check_model
from ravop.graph.manifest import Binding, Manifest
from ravop.graph.serde import to_bytes
from ravsock.core.fleet import Fleet, ProviderSpeed
from ravsock.core.plan import decode_plan, encode_plan
from ravsock.core.planner import plan_graph
from ravsock.core.program import Program

FLEET = Fleet((ProviderSpeed(20.0, 8 * 1024**3, 1), ProviderSpeed(20.0, 8 * 1024**3, 1)))


def _load(name):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


interpret = _load("interpret")


def plan_bytes(data, unit_seconds=1.0, fleet=FLEET, persisted=()):
    """The plan of a model, having passed all that every plan must: it runs, it survives encoding, its models are valid."""
    model = check_model(data)
    bindings = tuple(Binding(input=value.name, sha="0" * 64, size=1) for value in model.graph.inputs)
    manifest = Manifest(
        graph_id="g", name="g", rules={"unit_seconds": unit_seconds}, bindings=bindings, persisted=persisted
    )
    before = to_bytes(model)
    planned = plan_graph(model, manifest, fleet)
    assert to_bytes(model) == before, "the planner changed the model"
    assert decode_plan(encode_plan(planned.plan)) == planned.plan
    Program(planned.plan)
    assert set(planned.models) == set(Program(planned.plan).models())
    for shipped in planned.models.values():
        onnx.checker.check_model(onnx.load_from_string(shipped), full_check=True)
        check_model(shipped)
    return planned


def run_both(data, inputs, planned, draw):
    """(outputs of the whole model in one session, outputs of the plan), both by name."""
    session = interpret.open_session(data)
    names = [output.name for output in session.get_outputs()]
    known = {i.name for i in session.get_inputs()}
    whole = session.run(names, {name: array for name, array in inputs.items() if name in known})
    interpreter = interpret.Interpreter(planned.models, draw)
    return dict(zip(names, whole, strict=True)), interpreter.graph(planned.plan, inputs)


@pytest.fixture
def check_plan():
    """`check_plan(data, inputs, unit_seconds)`: the plan gives what the model gives in one session. → the planned."""

    def check(data, inputs, unit_seconds=1.0, draw=None, rtol=1e-5, fleet=FLEET):
        random = np.random.default_rng(0)
        draw = draw or (lambda low, high: int(random.integers(low, high, endpoint=True)))
        planned = plan_bytes(data, unit_seconds, fleet)
        whole, pieces = run_both(data, inputs, planned, draw)
        assert whole.keys() == pieces.keys()
        for name, expected in whole.items():
            np.testing.assert_allclose(pieces[name], expected, rtol=rtol, atol=1e-6, err_msg=name)
        return planned

    return check


@pytest.fixture
def plan():
    return plan_bytes


@pytest.fixture
def carry_out():
    """`carry_out(planned, inputs)`: the outputs of a plan."""
    return lambda planned, inputs: interpret.Interpreter(planned.models, lambda low, high: high).graph(
        planned.plan, inputs
    )
