"""Arguments that are not there, refused with those that are: names of Keras and PyTorch are told their counterparts.

Whoever wraps a function here keeps its signature and docstring.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable
from typing import Any

from ravop.errors import ArgumentError
from ravop.graph.source import located

F = typing.TypeVar("F", bound=Callable[..., Any])

COUNTERPARTS: dict[str, tuple[str, ...]] = {
    "units": ("n_units",),
    "out_features": ("n_units",),
    "hidden_size": ("n_units",),
    "in_features": ("input_shape",),
    "in_channels": ("input_shape",),
    "input_dim": ("n_tokens", "input_shape"),
    "num_embeddings": ("n_tokens",),
    "output_dim": ("n_units",),
    "embedding_dim": ("n_units",),
    "num_heads": ("n_heads",),
    "filters": ("n_filters",),
    "out_channels": ("n_filters",),
    "kernel_size": ("filter_shape", "pool_shape"),
    "strides": ("stride",),
    "pool_size": ("pool_shape",),
    "dilation_rate": ("dilation",),
    "rate": ("p",),
    "eps": ("epsilon",),
    "bias": ("use_bias",),
    "kernel_initializer": ("initializer",),
    "kernel_regularizer": ("regularizer",),
    "epochs": ("n_epochs",),
    "x": ("X",),
    "lr": ("learning_rate",),
    "betas": ("b1, b2",),
    "beta_1": ("b1",),
    "beta_2": ("b2",),
    "alpha": ("rho",),
    "clipvalue": ("clip_value",),
    "clipnorm": ("clip_norm",),
    "global_clipnorm": ("global_clip_norm",),
    "model_path": ("model_file_path",),
}
"""What other libraries call an argument, and what it may be called here: the first that the function has is told."""


def known_arguments(function: F) -> F:
    """The function, which raises `ArgumentError` instead of `TypeError` for arguments that it does not take.

    A method's error names its object's class where the method is `__init__`, else the method.
    """

    @functools.wraps(function)
    def checked(self: Any, *args: Any, **kwargs: Any) -> Any:
        name = type(self).__name__ if function.__name__ == "__init__" else function.__name__
        signature = inspect.signature(function)
        known = _names(function)
        try:
            signature.bind(self, *args, **kwargs)
            reason = ""
        except TypeError as error:
            reason = str(error)
        unknown = [] if known is None else [each for each in kwargs if each not in known]
        if unknown or (reason and known is not None):
            raise located(_refused(name, known or {}, unknown, reason), name) from None
        return function(self, *args, **kwargs)

    return typing.cast("F", checked)


def _refused(name: str, known: dict[str, bool], unknown: list[str], reason: str) -> ArgumentError:
    listed = ", ".join(each if required else f"{each}=…" for each, required in known.items())
    hints = []
    for each in unknown:
        here = [
            other for other in COUNTERPARTS.get(each, ()) if all(one in known for one in other.split(", "))
        ]
        hints += [f"{each} is called {here[0]} here"] if here else []
    return ArgumentError(
        f"{name} has no argument {unknown[0]!r}" if unknown else f"{name}: {reason}",
        expected=f"{name}({listed})",
        received=", ".join(unknown) if unknown else reason,
        hint="; ".join(hints),
    )


@functools.cache
def _names(function: Callable[..., Any]) -> dict[str, bool] | None:
    """The arguments by name, and whether they must be given; None where any name is taken."""
    found: dict[str, bool] = {}
    for each in list(inspect.signature(function).parameters.values())[1:]:
        if each.kind is inspect.Parameter.VAR_KEYWORD:
            options = _options(function, each.name)
            if options is None:
                return None
            found |= dict.fromkeys(options, False)
        elif each.kind is not inspect.Parameter.VAR_POSITIONAL:
            found[each.name] = each.default is inspect.Parameter.empty
    return found


def _options(function: Callable[..., Any], name: str) -> list[str] | None:
    """Names of `**options: Unpack[…]`; None where they are not told so."""
    try:
        hint = typing.get_type_hints(function).get(name)
    except (NameError, TypeError):  # annotations of a script, or for type checkers alone
        return None
    if typing.get_origin(hint) is not typing.Unpack:
        return None
    (options,) = typing.get_args(hint)
    return list(typing.get_type_hints(options))


class Checked:
    """Base of classes whose constructors are `known_arguments`."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__init__" in vars(cls):
            setattr(cls, "__init__", known_arguments(vars(cls)["__init__"]))  # noqa: B010 - typed so
