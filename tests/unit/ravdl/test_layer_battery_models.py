"""Every layer in a model of its own: exported to ONNX and run by ONNX Runtime, and trained as PyTorch trains it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime
import torch
from all_layer_cases import CASES
from layer_cases import Case, weights_of
from test_layer_battery import BATCH, cotangent, generator

import ravop as R
from ravdl.neural_networks import Input, NeuralNetwork
from ravdl.neural_networks.onnx_export import trace
from ravdl.neural_networks.optimizers import Adam
from ravop.graph.serde import to_bytes


def network(case: Case, arrays: Mapping[str, np.ndarray]) -> NeuralNetwork:
    """The layer alone between inputs and outputs, with these weights, trained by the sum of outputs times cotangents."""
    dtype = "int64" if case.integers else "float32"
    symbols = [Input(shape, dtype, name=f"x{n}") for n, shape in enumerate(case.inputs)]
    outputs = case.make()(symbols)
    loss = lambda y_true, y_pred: R.sum(y_true * y_pred)  # noqa: E731
    model = NeuralNetwork(Adam(0.01), loss, inputs=symbols, outputs=outputs, metrics=[])
    model.set_weights(list(arrays.values()))
    return model


def made(name: str, case: Case) -> tuple[NeuralNetwork, list[np.ndarray], dict[str, np.ndarray]]:
    rng = generator(name)
    inputs, arrays = case.arrays(rng, BATCH), weights_of(case.build("L"), rng)
    return network(case, arrays), inputs, arrays


def test_exported_models_give_in_onnx_runtime_what_predict_gives(graph: R.Graph) -> None:
    for name, case in CASES.items():
        model, inputs, _ = made(name, case)
        predicted = model.predict(alone(inputs))
        for n, op in enumerate(predicted if isinstance(predicted, tuple) else (predicted,)):
            op.persist_op(f"{name} {n}")
    results = R.run_local()
    for name, case in CASES.items():
        model, inputs, arrays = made(name, case)
        weights = dict(zip(model.weight_names, arrays.values(), strict=True))
        session = onnxruntime.InferenceSession(to_bytes(trace(model.network, weights)), options())
        for part in (slice(None), slice(1, 2)):
            found = session.run(None, {f"x{n}": value[part] for n, value in enumerate(inputs)})
            for n, value in enumerate(found):
                np.testing.assert_allclose(
                    value, results[f"{name} {n}"][part], err_msg=name, rtol=1e-5, atol=1e-6
                )


def test_exported_models_come_back_with_their_gradients(graph: R.Graph) -> None:
    """What `R.import_onnx` makes of the file: outputs, and what flows back to inputs and weights."""
    counts = {}
    for name, case in CASES.items():
        model, inputs, arrays = made(name, case)
        weights = dict(zip(model.weight_names, arrays.values(), strict=True))
        xs = [R.t(value) for value in inputs]
        trained = [
            f"{model.layers[0].name}_{spec.name}" for spec in model.layers[0].weights() if spec.trainable
        ]
        before = set(R.parameters())
        found = R.import_onnx(to_bytes(trace(model.network, weights)), *xs)
        given = {key: op for key, op in R.parameters().items() if key not in before}
        assert len(given) == len(arrays), name
        own = {key: R.t(value) for key, value in weights.items()}
        layer = model.layers[0]
        twin = layer.call_all(xs, {spec.name: own[layer.weight_name(spec)] for spec in layer.weights()})
        pairs = []
        for outputs, leaves in (
            (found if isinstance(found, tuple) else (found,), list(given.values())),
            (twin, list(own.values())),
        ):
            loss = sum(R.sum(y * cotangent(case, n)) for n, y in enumerate(outputs))
            leaves = [op for key, op in zip(weights, leaves, strict=True) if key in trained]
            leaves += xs[: case.moving]
            pairs.append([*outputs, *(R.grad(loss, leaves) if leaves else [])])
        counts[name] = len(pairs[0])
        for n, (mine, other) in enumerate(zip(*pairs, strict=True)):
            mine.persist_op(f"{name} {n} imported")
            other.persist_op(f"{name} {n} own")
    results = R.run_local()
    for name, count in counts.items():
        for n in range(count):
            imported, own = results[f"{name} {n} imported"], results[f"{name} {n} own"]
            np.testing.assert_allclose(imported, own, err_msg=f"{name} {n}", rtol=1e-4, atol=1e-5)


def alone(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else tuple(values)


def test_training_steps_are_pytorchs(graph: R.Graph) -> None:
    """Losses of two steps and, after them, in inference, where moved statistics count."""
    names = [name for name, case in CASES.items() if case.idle and case.build("L").weights()]
    for name in names:
        model, inputs, _ = made(name, CASES[name])
        X, y = alone(inputs), alone([cotangent(CASES[name], n) for n in range(len(CASES[name].outputs))])
        for step in range(2):
            model.train_on_batch(X, y).persist_op(f"{name} {step}")
        model.test_on_batch(X, y).persist_op(f"{name} 2")
    results = R.run_local()
    for name in names:
        found = [results[f"{name} {step}"] for step in range(3)]
        np.testing.assert_allclose(
            found, trained_by_torch(name, CASES[name]), rtol=2e-4, atol=2e-4, err_msg=name
        )


def trained_by_torch(name: str, case: Case) -> list[float]:
    _, inputs, arrays = made(name, case)
    trainable = [spec.name for spec in case.build("L").weights() if spec.trainable]
    weights = {key: torch.tensor(value, requires_grad=key in trainable) for key, value in arrays.items()}
    optimizer = torch.optim.Adam([weights[key] for key in trainable], 0.01)
    losses = []
    for step in range(3):
        given = case.torch(*map(torch.tensor, inputs), weights, step < 2)
        outputs = given if isinstance(given, tuple) else (given,)
        loss = sum((y * torch.tensor(cotangent(case, n))).sum() for n, y in enumerate(outputs))
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return losses


def options() -> Any:
    made = onnxruntime.SessionOptions()
    made.log_severity_level, made.intra_op_num_threads = 3, 1
    return made
