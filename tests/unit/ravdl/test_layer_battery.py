"""Every layer through one battery: shapes, dtype, values and gradients against PyTorch; copies by configuration and
pickle; and that no layer is missed.

All cases share one graph for each check, because a run costs more than its arithmetic.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from all_layer_cases import CASES
from layer_cases import Case, weights_of

import ravop as R
from ravdl.neural_networks.activations import ACTIVATIONS
from ravdl.neural_networks.initializers import generator_for
from ravdl.neural_networks.layers import LAYERS, Layer, Moment, layer_from
from ravdl.neural_networks.serialization import from_config, to_config
from ravop.graph import Op

BATCH = 4


def generator(name: str) -> np.random.Generator:
    return generator_for(5, name)


def test_the_battery_misses_no_layer_and_no_activation() -> None:
    assert {type(case.make()).__name__ for case in CASES.values()} == set(LAYERS)
    assert {f"activation {name}" for name in ACTIVATIONS} <= set(CASES)


def run(
    layer: Layer, xs: Sequence[Op], weights: Mapping[str, Op], training: bool
) -> tuple[tuple[Op, ...], Any]:
    if not training:
        return layer.call_all(xs, weights), {}
    return layer.train_all(xs, weights, Moment(3, R.t(np.array(2))))


@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
def test_values_and_gradients_are_pytorchs(training: bool, graph: R.Graph) -> None:
    names = [name for name, case in CASES.items() if case.idle or not training]
    for name in names:
        define(name, CASES[name], training)
    results = R.run_local()
    for name in names:
        compare(name, CASES[name], training, results)


def define(name: str, case: Case, training: bool) -> None:
    layer = case.build("L")
    assert list(layer.output_shapes) == case.outputs, name
    rng = generator(name)
    inputs, arrays = case.arrays(rng, BATCH), weights_of(layer, rng)
    weights = {key: R.t(value) for key, value in arrays.items()}
    xs = [R.t(value) for value in inputs]
    outputs, moved = run(layer, xs, weights, training)
    given = [(op.shape, op.dtype) for op in outputs]
    assert given == [((BATCH, *shape), np.float32) for shape in case.outputs], name
    wanted = list(xs[: case.moving])
    wanted += [weights[spec.name] for spec in layer.weights() if spec.trainable]
    loss = sum(R.sum(y * cotangent(case, n)) for n, y in enumerate(outputs))
    for kind, ops in (("output", outputs), ("gradient", R.grad(loss, wanted) if wanted else [])):
        for n, op in enumerate(ops):
            op.persist_op(f"{name} {kind} {n}")
    for key, op in moved.items():
        op.persist_op(f"{name} moved {key}")


def cotangent(case: Case, n: int) -> np.ndarray:
    return generator(f"cotangent {n}").standard_normal((BATCH, *case.outputs[n])).astype(np.float32)


def compare(name: str, case: Case, training: bool, results: Mapping[str, Any]) -> None:
    layer = case.build("L")
    rng = generator(name)
    inputs, arrays = case.arrays(rng, BATCH), weights_of(layer, rng)
    trainable = [spec.name for spec in layer.weights() if spec.trainable]
    weights = {key: torch.tensor(value, requires_grad=key in trainable) for key, value in arrays.items()}
    xs = [torch.tensor(value, requires_grad=n < case.moving) for n, value in enumerate(inputs)]
    given = case.torch(*xs, weights, training)
    outputs = given if isinstance(given, tuple) else (given,)
    sum((y * torch.tensor(cotangent(case, n))).sum() for n, y in enumerate(outputs)).backward()
    for n, y in enumerate(outputs):
        np.testing.assert_allclose(
            results[f"{name} output {n}"], y.detach().numpy(), err_msg=f"{name}: output {n}", **case.close
        )
    leaves = [x for x in xs if x.requires_grad] + [weights[key] for key in trainable]
    for n, leaf in enumerate(leaves):
        expected = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
        found = results[f"{name} gradient {n}"]
        np.testing.assert_allclose(found, expected.numpy(), err_msg=f"{name}: gradient {n}", **case.close)
    for key in set(arrays) - set(trainable) if training else ():
        np.testing.assert_allclose(
            results[f"{name} moved {key}"], weights[key].numpy(), err_msg=f"{name}: {key}", **case.close
        )


def test_configuration_and_pickle_make_the_same_layer(graph: R.Graph) -> None:
    """The configuration goes through JSON; the three layers draw the same numbers in training, too."""
    counts = {}
    for name, case in CASES.items():
        layer = case.build("L")
        text = json.dumps(to_config(case.make()))
        twin = from_config(json.loads(text), LAYERS)
        twin.build("L", case.inputs)
        assert json.dumps(to_config(twin)) == text, name
        rng = generator(name)
        xs = [R.t(value) for value in case.arrays(rng, BATCH)]
        weights = {key: R.t(value) for key, value in weights_of(layer, rng).items()}
        for number, each in enumerate((layer, twin, pickle.loads(pickle.dumps(layer)))):
            assert [(s.name, s.shape, s.trainable) for s in each.weights()] == [
                (s.name, s.shape, s.trainable) for s in layer.weights()
            ], name
            outputs, _ = run(each, xs, weights, True)
            counts[name] = len(outputs)
            for n, op in enumerate(outputs):
                op.persist_op(f"{name} {n} {number}")
    results = R.run_local()
    for name, count in counts.items():
        for n in range(count):
            for number in (1, 2):
                np.testing.assert_array_equal(
                    results[f"{name} {n} 0"], results[f"{name} {n} {number}"], err_msg=name
                )


def test_a_batch_in_shards_gives_what_the_whole_batch_gives(graph: R.Graph) -> None:
    """In training, where layers draw and mix examples; by the way of `mixes_examples` that each layer claims."""
    cuts = ((0, 3), (3, BATCH))
    counts = {}
    for name, case in CASES.items():
        layer = case.build("L")
        rng = generator(name)
        inputs, arrays = case.arrays(rng, BATCH), weights_of(layer, rng)
        step = R.t(np.array(2))
        weights = [{key: R.t(value) for key, value in arrays.items()} for _ in range(3)]
        shards = [[R.t(value[start:stop]) for value in inputs] for start, stop in cuts]
        moments = [Moment(3, step, start, BATCH) for start, _ in cuts]
        whole, moved = layer.train_all([R.t(value) for value in inputs], weights[2], Moment(3, step))
        if layer.mixes_examples:
            ys, updates = layer.train_shards([xs[0] for xs in shards], weights[:2], moments)
            parts = [ys]
        else:
            found = [layer.train_all(*given)[0] for given in zip(shards, weights[:2], moments, strict=True)]
            parts, updates = [list(each) for each in zip(*found, strict=True)], {}
        pairs = [(y, R.concat(shares, axis=0)) for y, shares in zip(whole, parts, strict=True)]
        pairs += [(moved[key], updates[key]) for key in moved]
        counts[name] = len(pairs)
        for n, (one, other) in enumerate(pairs):
            one.persist_op(f"{name} {n} whole")
            other.persist_op(f"{name} {n} shards")
    results = R.run_local()
    for name, count in counts.items():
        for n in range(count):
            whole, shards = results[f"{name} {n} whole"], results[f"{name} {n} shards"]
            np.testing.assert_allclose(shards, whole, err_msg=name, rtol=1e-5, atol=1e-5)


def test_weights_start_alike_after_configuration() -> None:
    for name, case in CASES.items():
        layer, twin = case.build("L"), layer_from(type(case.make()).__name__, case.make().config())
        twin.build("L", case.inputs)
        for a, b in zip(layer.weights(), twin.weights(), strict=True):
            first, second = (spec.initializer(spec.shape, generator(spec.name)) for spec in (a, b))
            assert (first.dtype, first.shape) == (np.float32, a.shape), name
            np.testing.assert_array_equal(first, second, err_msg=name)
