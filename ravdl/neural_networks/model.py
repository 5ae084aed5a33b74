"""`NeuralNetwork`: a model, and what one does with it: train, predict, measure, save, export."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import ravop as R
from ravdl.neural_networks import history
from ravdl.neural_networks.architecture import Architecture, checked
from ravdl.neural_networks.callbacks import Callback, Steering
from ravdl.neural_networks.checks import checked_inputs, checked_pair, checked_samples, checked_size
from ravdl.neural_networks.data import Samples
from ravdl.neural_networks.forward import predict
from ravdl.neural_networks.heads import Heads
from ravdl.neural_networks.history import History
from ravdl.neural_networks.layers.arguments import flag, positive
from ravdl.neural_networks.loop import evaluation, infer
from ravdl.neural_networks.loss import Loss
from ravdl.neural_networks.network import Network
from ravdl.neural_networks.onnx_export import export
from ravdl.neural_networks.optimizers import Optimizer
from ravdl.neural_networks.packing import packs
from ravdl.neural_networks.reading import network_from
from ravdl.neural_networks.saving import write_model
from ravdl.neural_networks.signatures import known_arguments
from ravdl.neural_networks.training import Measures, Recipe, State
from ravdl.neural_networks.weights import Fetch
from ravdl.strategies.kinds import AUTO, Strategy, checked_strategy
from ravdl.strategies.run import Finished, Start, decided, prepared
from ravop.errors import ArgumentError, RavenError
from ravop.graph import Op
from ravop.graph.graph import Graph, current_graph
from ravop.graph.source import located
from ravop.protocol.tensors import Array

_NOT_KEPT = "fit: trained weights are not kept after this graph; fit(..., save_model=True) keeps them"


class NeuralNetwork(Architecture):
    """A model: layers in a row (`add`), or any graph of layers between inputs and outputs (the functional form).

    Nothing is computed here: `fit`, `predict` and their like add ops to the current graph (`ravop.Graph`).
    Within one graph, each uses the weights as the calls before it left them. In another graph, or another
    process after pickling, trained weights are fetched from the coordinator when they are needed first.

    A pickled model keeps its layers, optimizer, loss, known weights, and which graph keeps the trained ones.

    Args:
        optimizer: `Adam(...)`, `SGD(...)` or another of `optimizers`.
        loss: a class or object of `loss_functions`, or a function `loss(y_true, y_pred)` of ops; for several outputs one
            for all, a list, or a dict by the outputs' names.
        validation_data: (X, y), measured after each epoch; `fit` may name other.
        metrics: names in `metrics.METRICS`, objects, or functions `metric(y_true, y_pred)`; by default accuracy, where the
            loss is one of classes. For several outputs also a dict of lists by the outputs' names.
        seed: of initial weights, dropout and shuffling.
        inputs, outputs: symbols between which the model lies: one, or a list (`outputs` also a dict by name).
        loss_weights: of several outputs, what the sum of their losses counts them by: a list, or a dict by name.
    """

    @known_arguments
    def __init__(
        self,
        optimizer: Optimizer,
        loss: Any,
        validation_data: tuple[Any, Any] | None = None,
        *,
        metrics: Any = None,
        seed: int = 0,
        inputs: Any = None,
        outputs: Any = None,
        loss_weights: Any = None,
    ) -> None:
        super().__init__(seed)
        self.optimizer = checked(optimizer, Optimizer, "optimizer", "Adam()")
        self.heads = Heads(loss, metrics, loss_weights)
        self.validation_data = (
            None if validation_data is None else checked_pair(validation_data, "validation_data")
        )
        if inputs is not None or outputs is not None:
            self.network, brought = network_from(inputs, outputs)
            self.heads.of(self.network)
            for layer in self.network.layers:
                self._start(layer)
            self._weights.values |= brought

    @property
    def loss(self) -> Loss:
        """Of the model's output; of the first one, where there are several."""
        return self.heads.loss

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of what is measured beside the loss."""
        heads = self.heads.of(self.network) if self.network.calls else self.heads.of(None)
        return tuple(head.prefix + metric.name for head in heads for metric in head.metrics)

    # ── training ──────────────────────────────────────────────────────────────────────────────────
    @known_arguments
    def fit(
        self,
        X: Any,
        y: Any,
        n_epochs: int,
        batch_size: int,
        save_model: bool = False,
        validation_data: tuple[Any, Any] | None = None,
        shuffle: bool = False,
        callbacks: Sequence[Callback] = (),
        strategy: Strategy | str = AUTO,
        sample_weight: Any = None,
        class_weight: Mapping[int, float] | None = None,
    ) -> History:
        """Add the training run to the current graph, as one loop whose size does not depend on `n_epochs`.

        Each batch's loss can be fetched as `training_loss_epoch_{e}_batch_{b}` as soon as it is computed,
        each epoch's means as `training_loss_epoch_{e}` and `val_loss_epoch_{e}`; all counted from 1, metrics
        likewise. The second run in one graph has names that begin with `fit_2_`. A second fit goes on where
        the first ended: weights, the optimizer's memory and step count, dropout's masks.

        Args:
            X: (samples, *input_shape); floats become float32. For several inputs a tuple, list or dict by name.
            y: targets, see the loss; for several outputs a tuple, list or dict by name.
            n_epochs: how often all samples are used.
            batch_size: samples in a step; the samples left over are one smaller step more at the end of each
                epoch.
            save_model: keep the trained weights (`Dense_1_W`, …) and the optimizer's memory at the
                coordinator, for `fetch_weights`, export, and training on in another graph.
            validation_data: (X, y), measured in inference mode after each epoch.
            shuffle: another random order of the samples in each epoch.
            callbacks: `EarlyStopping()`, `ReduceLROnPlateau()`, `CSVLogger(path)` and others of `callbacks`.
            strategy: how the work is spread over machines, see `ravdl.strategies`: `"auto"`, `Sequential()`,
                `DataParallel(shards=2)`, `LocalSGD(workers=2, sync_every=100)`.
            sample_weight: (samples,), what each counts in the loss, or (samples, time) for each step of a series, such as 0
                for padding; metrics count all alike. The loss is still divided by the number of samples (and steps).
            class_weight: the same by the class of each sample, {label: weight}; 1 for classes that are not named.
        Returns:
            what is measured, fetched when it is read.
        Raises:
            ArgumentError, ShapeError, DTypeError: data that does not fit the model, the strategy, or each other.
        """
        held_out = validation_data if validation_data is not None else self.validation_data
        try:
            save_model, shuffle = flag(save_model, "save_model"), flag(shuffle, "shuffle")
            epochs, asked = positive(n_epochs, "n_epochs"), checked_strategy(strategy)
            samples = self._samples(X, y, sample_weight, class_weight)
            steering = self._steering(callbacks, epochs)
            prefix, done = self._define(samples, epochs, batch_size, shuffle, held_out, asked, steering)
            graph = current_graph()
            keys = history.persist(graph, done.trained, prefix)
            self._weights.moved(done.tensors, save_model, prefix)
            kept = self._keep(graph, steering, done.trained.memories, prefix)
            if not save_model and not kept:
                graph.note(_NOT_KEPT)
        except RavenError as error:
            raise located(error, "fit") from None
        found = History(graph.id, prefix, keys, epochs, done.full_batches, done.last_batch, callbacks)
        found.may_stop = done.trained.ran is not None
        for callback in callbacks:
            callback.on_train_begin(self, found)
        return found

    def _define(
        self,
        samples: Samples,
        n_epochs: int,
        batch_size: int,
        shuffle: bool,
        held_out: tuple[Any, Any] | None,
        asked: Strategy | None,
        steering: tuple[Steering, ...],
    ) -> tuple[str, Finished]:
        """What its names begin with, and the run's loops."""
        graph, recipe = current_graph(), self._recipe()
        size = checked_size(samples, batch_size)
        prefix = history.prefix_in(graph)
        strategy, note = decided(asked, recipe, samples, size)
        run = prepared(strategy, recipe, samples, size, shuffle)
        if note:
            graph.note(f"{prefix.rstrip('_') or 'fit'}: {note}")
        state, frozen = self._state(graph, recipe)
        validate: Callable[[dict[str, Op]], Measures] | None = None
        if held_out is not None:
            held = self._samples(*checked_pair(held_out, "validation_data"))
            measure = evaluation(recipe.measure, held)
            validate = lambda weights: measure(weights | frozen)  # noqa: E731
        return prefix, run(Start(state, frozen, self._weights.op, n_epochs, validate, steering))

    def _steering(self, callbacks: Sequence[Callback], n_epochs: int) -> tuple[Steering, ...]:
        """The callbacks that are part of the run, ready for it."""
        if not isinstance(callbacks, list | tuple):
            raise ArgumentError(
                "callbacks are a list", expected="[EarlyStopping()]", received=repr(callbacks)
            )
        for each in callbacks:
            checked(each, Callback, "callback", "EarlyStopping()")
        found = tuple(each for each in callbacks if isinstance(each, Steering))
        for number, each in enumerate(found, 1):
            each.place = f"callback_{number}."
            each.prepare(self.optimizer, n_epochs)
        return found

    def _keep(self, graph: Graph, steering: Sequence[Steering], memories: Sequence[Any], prefix: str) -> bool:
        """Persist what callbacks keep. → whether there is anything."""
        found = False
        weights = {name: self._weights.known(name) for name in self.weight_names}
        for each, memory in zip(steering, memories, strict=True):
            for name, op in each.kept(memory, weights).items():
                graph.persist(op, prefix + each.place + name, inner=True)
                found = True
        return found

    def train_on_batch(
        self, X: Any, y: Any, sample_weight: Any = None, class_weight: Mapping[int, float] | None = None
    ) -> Op:
        """One training step on these samples, see `fit`. → the loss, a scalar op."""
        graph, recipe = current_graph(), self._recipe()
        samples = self._samples(X, y, sample_weight, class_weight)
        state, frozen = self._state(graph, recipe)
        state, measured = recipe.step(state, frozen, samples.slice(0, samples.count))
        self._weights.moved(recipe.tensors(state), False, "")
        return measured["loss"]

    # ── inference ─────────────────────────────────────────────────────────────────────────────────
    def predict(self, X: Any) -> Any:
        """The model's output for X, in inference mode. → op of shape (samples, *output_shape); a tuple of ops where the
        model has several outputs.

        Raises `ShapeError`, `ArgumentError`, `DTypeError` for data that does not fit the model.
        """
        weights, network = self._all_weights(current_graph()), self._built()
        xs = tuple(R.t(x) for x in checked_inputs(X, network))
        found = infer(lambda parts: tuple(p.value for p in predict(network, weights, parts)), xs)
        return found[0] if len(found) == 1 else found

    def test_on_batch(self, X: Any, y: Any) -> Op:
        """The loss over these samples in inference mode, a scalar op."""
        return self.evaluate(X, y)["loss"]

    def evaluate(self, X: Any, y: Any, sample_weight: Any = None) -> Measures:
        """Loss and metrics over all samples in inference mode. → scalar ops by name, to be persisted as
        wanted.
        """
        weights, recipe = self._all_weights(current_graph()), self._recipe()
        return evaluation(recipe.measure, self._samples(X, y, sample_weight))(weights)

    def get_onnx_model(self, name: str, fetch: Fetch | None = None) -> Path:
        """Write the model for inference, with the newest weights, to `name` + `.onnx` in ONNX's format. → its path.

        Args:
            name: a path, with or without `.onnx`.
            fetch: as for `fetch_weights`, which is called first.
        Raises:
            GraphStateError, NotComputedError: as `fetch_weights`.
        """
        path = Path(name if name.endswith(".onnx") else f"{name}.onnx")
        weights = dict(zip(self.weight_names, self.fetch_weights(fetch), strict=True))
        export(self._built(), weights, path)
        return path

    def save(self, path: str | PathLike[str], fetch: Fetch | None = None) -> Path:
        """Write the whole model to one file: layers, newest weights, losses, metrics, the optimizer with its memory and step
        count, and the seed; training goes on from it as if it had not been interrupted. `load_model` reads it. → its path.

        Functions (of `Lambda`, losses, metrics) are saved by their names. Validation data and callbacks are not saved.

        Args:
            fetch: as for `fetch_weights`, which is called first.
        Raises:
            ArgumentError: something without a `config()`, or two functions of one name.
            GraphStateError, NotComputedError: as `fetch_weights`.
        """
        self.fetch_weights(fetch)
        return self.write(path, self._weights.values)

    def write(self, path: str | PathLike[str], values: Mapping[str, Array]) -> Path:
        """`save` with these tensors for the model's own. → its path."""
        training = {"optimizer": self.optimizer, **self.heads.arguments(), "seed": self.seed}
        return write_model(path, self._built(), training, values)

    @classmethod
    def restored(
        cls, network: Network, training: Mapping[str, Any], values: Mapping[str, Array]
    ) -> NeuralNetwork:
        """The model that `save` wrote, of what `saving.read_model` read."""
        model = cls(**training)
        model.heads.of(network)
        model.network = network
        model._weights.values = dict(values)
        return model

    # ── inside ────────────────────────────────────────────────────────────────────────────────────
    def _recipe(self) -> Recipe:
        network = self._built()
        heads = self.heads.of(network)
        for at, head in enumerate(heads):
            head.loss.check_model(network.output_shapes[at], network.activation(at))
            if network.gives_logits(at):
                head.loss.check_logits()
        shapes = {name: spec.shape for name, spec in network.moving().items() if spec.trainable}
        return Recipe(network, heads, self.optimizer, self.seed, packs(shapes, self.optimizer.group))

    def _samples(
        self, X: Any, y: Any, sample_weight: Any = None, class_weight: Mapping[int, float] | None = None
    ) -> Samples:
        network = self._built()
        return checked_samples(X, y, network, self.heads.of(network), sample_weight, class_weight)

    def _state(self, graph: Graph, recipe: Recipe) -> tuple[State, dict[str, Op]]:
        """What training moves, and the weights that it does not."""
        weights, moved = self._all_weights(graph), self.network.moving()
        state = recipe.state({name: weights[name] for name in moved}, self._weights.op)
        return state, {name: op for name, op in weights.items() if name not in moved}
