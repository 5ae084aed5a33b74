"""From symbols to a network: `network_from`, for models in the functional form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ravdl.neural_networks.layers.layer import Layer
from ravdl.neural_networks.nested import Nested
from ravdl.neural_networks.network import Network, Port
from ravdl.neural_networks.symbols import Symbol, SymbolCall, proper_name
from ravop.errors import ArgumentError, RavenError
from ravop.graph.source import located
from ravop.protocol.tensors import Array


def network_from(inputs: object, outputs: object) -> tuple[Network, dict[str, Array]]:
    """The network between these symbols, each a single one, a list, or (outputs) a dict of them by name; and the weights that
    models within it bring, by their names.

    Layers are named in the order in which they were called. Raises `ArgumentError` for an output that needs an input
    which is not listed, an input without use, or a layer of another model.
    """
    try:
        return _network_from(inputs, outputs)
    except RavenError as error:
        raise located(error, "NeuralNetwork") from None


def _network_from(inputs: object, outputs: object) -> tuple[Network, dict[str, Array]]:
    sources, _ = _listed(inputs, "inputs")
    wanted, names = _listed(outputs, "outputs")
    for symbol in sources:
        if symbol.call is not None:
            raise ArgumentError(
                "a model's inputs are made by Input", expected="Input(shape)", received=repr(symbol)
            )
    calls = _calls(wanted)
    _check_ends(sources, calls, wanted)
    _check_free(calls)
    build = _Build(sources)
    for call in calls:
        build.call(call)
    return replace(build.network, outputs=tuple(map(build.number, wanted)), names=names), build.values


class _Build:
    """A network that grows by the calls of symbols."""

    def __init__(self, sources: Sequence[Symbol]) -> None:
        numbers = range(1, len(sources) + 1)
        names = [
            s.name or (f"input_{n}" if len(sources) > 1 else "input")
            for s, n in zip(sources, numbers, strict=True)
        ]
        if len(set(names)) != len(names):
            raise ArgumentError("two inputs have one name", expected="a name each", received=", ".join(names))
        self.network = Network(tuple(Port(n, s.shape, s.dtype) for n, s in zip(names, sources, strict=True)))
        self.values: dict[str, Array] = {}
        self._inputs = {id(symbol): number for number, symbol in enumerate(sources)}
        self._made: dict[int, tuple[int, ...]] = {}
        self._copies: dict[int, dict[Layer, Layer]] = {}

    def number(self, symbol: Symbol) -> int:
        """Of the symbol's value."""
        return self._inputs[id(symbol)] if symbol.call is None else self._made[id(symbol.call)][symbol.index]

    def call(self, call: SymbolCall) -> None:
        inputs = tuple(map(self.number, call.inputs))
        if isinstance(call.layer, Nested):
            self._made[id(call)] = self._all_of(call.layer, inputs)
            return
        if not call.layer.name:
            call.layer.name = self.network.next_name(call.layer)
        self.network = self.network.called(call.layer, inputs)
        self._made[id(call)] = self.network.calls[-1].outputs

    def _all_of(self, nested: Nested, inputs: tuple[int, ...]) -> tuple[int, ...]:
        """Call all layers of a model. → the numbers of its outputs."""
        if id(nested) not in self._copies:
            name = f"Model_{1 + len(self._copies)}"
            self._copies[id(nested)] = nested.copies(name)
            self.values |= {f"{name}_{key}": value for key, value in nested.values.items()}
        at = list(inputs)
        for call in nested.network.calls:
            layer = self._copies[id(nested)][call.layer]
            self.network = self.network.called(layer, tuple(at[value] for value in call.inputs))
            at += self.network.calls[-1].outputs
        return tuple(at[value] for value in nested.network.outputs)


def _calls(wanted: Sequence[Symbol]) -> list[SymbolCall]:
    """All that the outputs come from, in the order in which it was called."""
    found: dict[int, SymbolCall] = {}
    todo = [symbol.call for symbol in wanted]
    while todo:
        call = todo.pop()
        if call is not None and id(call) not in found:
            found[id(call)] = call
            todo += [symbol.call for symbol in call.inputs]
    return sorted(found.values(), key=lambda call: call.serial)


def _check_ends(sources: Sequence[Symbol], calls: Sequence[SymbolCall], wanted: Sequence[Symbol]) -> None:
    used = {id(symbol) for call in calls for symbol in call.inputs} | {id(symbol) for symbol in wanted}
    given = {id(symbol) for symbol in sources}
    needed = [s for s in [*(s for call in calls for s in call.inputs), *wanted] if s.call is None]
    for symbol in needed:
        if id(symbol) not in given:
            raise ArgumentError(
                "an output needs an input that the model does not have",
                expected="all of them in inputs=[…]",
                received=repr(symbol),
            )
    if len(given) != len(sources):
        raise ArgumentError(
            "an input is there twice", expected="each input once", received=repr(list(sources))
        )
    for symbol in sources:
        if id(symbol) not in used:
            raise ArgumentError(
                "an input has no use",
                expected="inputs that the outputs come from",
                received=repr(symbol),
                hint="leave it out of inputs=[…]",
            )


def _check_free(calls: Sequence[SymbolCall]) -> None:
    for call in calls:
        if isinstance(call.layer, Layer) and call.layer.name:
            raise ArgumentError(
                f"{call.layer.name} is in another model already",
                expected="layers of their own for each model",
                received=repr(call.layer),
                hint="call that model on a symbol to use it within another one",
            )


def _listed(value: object, what: str) -> tuple[tuple[Symbol, ...], tuple[str, ...]]:
    names: tuple[str, ...] = ()
    if isinstance(value, Mapping):
        names, value = tuple(proper_name(name, "an output") for name in value), list(value.values())
    found = tuple(value) if isinstance(value, list | tuple) else (value,)
    if not found or not all(isinstance(symbol, Symbol) for symbol in found):
        raise ArgumentError(
            f"{what} must be symbols",
            expected="Input(shape), what layers gave for it, or a list of these",
            received=repr(value),
        )
    return found, names
