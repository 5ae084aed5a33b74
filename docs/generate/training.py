"""`docs/training.md`: what a network is made of beside its layers, and what one does with it."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from docs.generate.describe import arguments, entry, signature, text
from ravdl import strategies
from ravdl.neural_networks import Input, NeuralNetwork, callbacks, from_torch, load_model, load_onnx
from ravdl.neural_networks.callbacks import Callback
from ravdl.neural_networks.history import History
from ravdl.neural_networks.initializers import INITIALIZER_CLASSES, INITIALIZERS
from ravdl.neural_networks.loss_functions import LOSSES
from ravdl.neural_networks.metrics import FUNCTIONS, METRIC_CLASSES, METRICS
from ravdl.neural_networks.optimizers import OPTIMIZERS, Options
from ravdl.neural_networks.regularizers import REGULARIZERS
from ravdl.neural_networks.schedules import SCHEDULES

HEAD = """\
# Models and training

Made by `python -m docs.generate` from the classes' own descriptions: do not edit.

What a network is made of beside its [layers](layers.md), and what one does with it. How it goes together is told in the
[quickstart](quickstart-requesters.md#networks). All classes take their arguments by these names.
"""

FOR_LIBRARIES = {"restored", "write"}
"""Methods of a model that its own parts call."""

STRATEGIES = ("Sequential", "DataParallel", "LocalSGD", "Nesterov", "Average")


def page() -> str:
    """The text of the page."""
    return "\n".join([HEAD, *_models(), *_measures(), *_course(), *_starts()])


def _models() -> Iterable[str]:
    yield "## Models\n\n`from ravdl.neural_networks import NeuralNetwork, Input, load_onnx, from_torch, load_model`\n"
    yield entry(NeuralNetwork)
    yield from _members(NeuralNetwork, "model")
    yield from (entry(function) for function in (Input, load_onnx, from_torch, load_model))
    yield f"### History\n\nWhat `fit` returns.\n\n{text(inspect.getdoc(History) or '')}\n"
    yield from _members(History, "history")


def _measures() -> Iterable[str]:
    yield "## Losses\n\n`from ravdl.neural_networks.loss_functions import …`: `loss=` of a model; a class, or an object of it.\n"
    yield from map(entry, LOSSES.values())
    yield f"## Metrics\n\n`metrics=` of a model. {_told(METRIC_CLASSES['Precision'])}\n"
    yield "By name:\n"
    yield "\n".join(f'- `"{name}"`: {_brief(_metric(name))}' for name in METRICS) + "\n"
    yield "With arguments, `from ravdl.neural_networks.metrics import …`:\n"
    yield from (entry(kind) for name, kind in METRIC_CLASSES.items() if name != "NamedMetric")


def _course() -> Iterable[str]:
    yield "## Optimizers\n\n`from ravdl.neural_networks.optimizers import …`. All take `**options`:\n"
    yield arguments((inspect.getdoc(Options) or "").partition("\n\n")[2]) + "\n"
    yield from map(entry, OPTIMIZERS.values())
    yield f"## Schedules\n\n`from ravdl.neural_networks.schedules import …`. {_told(SCHEDULES['OneCycle'])}\n"
    yield from map(entry, SCHEDULES.values())
    yield f"## Callbacks\n\n`from ravdl.neural_networks.callbacks import …`. {_told(callbacks)}\n"
    found = [getattr(callbacks, name) for name in callbacks.__all__]
    known = [each for each in found if issubclass(each, Callback) and each.__name__ != "Steering"]
    yield entry(Callback)
    yield from _members(Callback, "callback")
    yield from map(entry, (each for each in known if each is not Callback))
    yield f"## Strategies\n\n`from ravdl.strategies import …`. {_told(strategies)}\n"
    yield from (entry(getattr(strategies, name)) for name in STRATEGIES)


def _starts() -> Iterable[str]:
    yield "## Initializers\n\nHow weights start: a layer's `initializer=`. By name:\n"
    yield "\n".join(f'- `"{name}"`: `{made}`' for name, made in INITIALIZERS.items()) + "\n"
    yield "With arguments, `from ravdl.neural_networks.initializers import …`:\n"
    yield from map(entry, INITIALIZER_CLASSES.values())
    yield f"## Regularizers\n\n`from ravdl.neural_networks.regularizers import …`. {_told(REGULARIZERS['L2'])}\n"
    yield from map(entry, REGULARIZERS.values())


def _members(kind: type, name: str) -> Iterable[str]:
    """Public properties, then methods, those of base classes first."""
    found = {key: value for base in reversed(kind.__mro__) for key, value in vars(base).items()}
    public = {key: value for key, value in found.items() if key[0] != "_" and key not in FOR_LIBRARIES}
    values = {key: value for key, value in public.items() if isinstance(value, property) and value.__doc__}
    if values:
        yield "To be read:\n"
        yield "\n".join(f"- `{name}.{key}`: {_brief(value)}" for key, value in values.items()) + "\n"
    yield from (
        f"#### {name}.{key}\n\n`{key}{signature(value)}`\n\n{text(inspect.getdoc(value) or '')}\n"
        for key, value in public.items()
        if inspect.isfunction(value)
    )


def _metric(name: str) -> Callable[..., Any]:
    """What describes the metric of this name."""
    made: Any = METRICS[name]
    return FUNCTIONS[name] if isinstance(made, partial) else made


def _told(thing: Any) -> str:
    """What the description of a module, or of the module of a class, says after its first line."""
    module = thing if inspect.ismodule(thing) else sys.modules[thing.__module__]
    return (inspect.getdoc(module) or "").partition("\n\n")[2]


def _brief(thing: object) -> str:
    """The first paragraph of a description, in one line."""
    return " ".join((inspect.getdoc(thing) or "").partition("\n\n")[0].split())
