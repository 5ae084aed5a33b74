"""Layers, losses, optimizers and their like as JSON values, and back: by class name and `config()`.

Whatever is saved has `config() -> dict`, the arguments of its constructor, and stands by its class name in a registry, a
dict from names to classes that the reader gives. Nothing else is ever called: there is no code in what is read.

An argument may be None, a truth value, a number, text, bytes, a tuple, list or dict of arguments, a small array, another such
object, or a function, of which the name is kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ravop.errors import ArgumentError, InvalidModelError, RavenError

Registry = Mapping[str, Callable[..., Any]]
"""From names to the classes and functions that may be made by them."""

MAX_ARRAY = 65_536
"""Elements of an array within a config."""
MAX_DEPTH = 32


class Writer:
    """Makes JSON values. `blobs` collects what are bytes, which JSON has not; a value names them by their number."""

    def __init__(self) -> None:
        self.blobs: list[bytes] = []
        self._functions: dict[str, Any] = {}

    def to_config(self, value: Any) -> Any:
        """Raises `ArgumentError` for a value that cannot be written."""
        for kinds, write in _WRITERS:
            if isinstance(value, kinds):
                return write(self, value)
        if hasattr(value, "config") and not isinstance(value, type):
            config = {name: self.to_config(each) for name, each in value.config().items()}
            return {"object": type(value).__name__, "config": config}
        if callable(value):
            return {"function": self._named(value)}
        raise ArgumentError(
            "this cannot be saved",
            expected="numbers, text, tuples, lists, dicts, functions, or objects with config()",
            received=repr(value),
        )

    def _named(self, function: Any) -> str:
        name = str(getattr(function, "__name__", type(function).__name__))
        if self._functions.setdefault(name, function) is not function:
            raise ArgumentError(
                "two functions of this model have one name",
                expected="a name for each, by which they are given to load_model",
                received=name,
                hint="define them with def and different names",
            )
        return name

    def _float(self, value: float) -> Any:
        return float(value) if math.isfinite(value) else {"float": repr(float(value))}

    def _bytes(self, value: bytes) -> Any:
        self.blobs.append(bytes(value))
        return {"bytes": len(self.blobs) - 1}

    def _array(self, value: np.ndarray[Any, Any]) -> Any:
        if value.size > MAX_ARRAY or value.dtype.kind not in "biuf":
            raise ArgumentError(
                "this array cannot be saved within a config",
                expected=f"numbers, at most {MAX_ARRAY} of them",
                received=f"{value.dtype}{list(value.shape)}",
            )
        flat = [self._float(each) if value.dtype.kind == "f" else each for each in value.ravel().tolist()]
        return {"array": flat, "dtype": value.dtype.name, "shape": list(value.shape)}


_WRITERS: tuple[tuple[Any, Callable[[Writer, Any], Any]], ...] = (
    ((type(None), bool, str), lambda writer, value: value),
    (np.bool_, lambda writer, value: bool(value)),
    ((int, np.integer), lambda writer, value: int(value)),
    ((float, np.floating), Writer._float),
    (bytes, Writer._bytes),
    (tuple, lambda writer, value: {"tuple": [writer.to_config(each) for each in value]}),
    (list, lambda writer, value: [writer.to_config(each) for each in value]),
    (Mapping, lambda writer, value: {"dict": {str(k): writer.to_config(each) for k, each in value.items()}}),
    (np.ndarray, Writer._array),
)


def to_config(value: Any) -> Any:
    """A value without bytes as JSON values. Raises `ArgumentError`."""
    return Writer().to_config(value)


class Reader:
    """Makes values of what a `Writer` wrote, with the classes and functions of `registry`; `custom` comes first."""

    def __init__(
        self, registry: Registry, custom: Registry | None = None, blobs: list[bytes] | None = None
    ) -> None:
        self._registry = registry
        self._custom = dict(custom or {})
        self._blobs = blobs or []

    def from_config(self, data: Any, depth: int = 0) -> Any:
        """Raises `ArgumentError` for a name that is not known, `InvalidModelError` for what no writer wrote."""
        if depth > MAX_DEPTH:
            raise _invalid("it is nested too deeply", f"more than {MAX_DEPTH} levels")
        if data is None or isinstance(data, bool | int | float | str):
            return data
        if isinstance(data, list):
            return [self.from_config(each, depth + 1) for each in data]
        if not isinstance(data, dict):
            raise _invalid("a value is of no known form", type(data).__name__)
        read = _READERS.get(tuple(sorted(data)))
        if read is None:
            raise _invalid("a value is of no known form", ", ".join(map(repr, data)))
        return read(self, data, depth + 1)

    def _object(self, data: dict[str, Any], depth: int) -> Any:
        name, config = data["object"], data["config"]
        if not isinstance(name, str) or not isinstance(config, dict):
            raise _invalid("an object needs a name and a config", repr(name))
        kind = self._custom.get(name) or self._registry.get(name)
        if kind is None:
            raise _unknown("class", name, self._registry)
        arguments = {key: self.from_config(value, depth) for key, value in config.items()}
        try:
            return kind(**arguments)
        except RavenError as error:
            raise _invalid(f"{name} cannot be made", error.problem.message) from error
        except (TypeError, ValueError, OverflowError) as error:
            raise _invalid(f"{name} cannot be made", str(error)) from error

    def _function(self, data: dict[str, Any], depth: int) -> Any:
        name = data["function"]
        found = self._custom.get(name) if isinstance(name, str) else None
        if found is None:
            raise _unknown("function", name, self._custom)
        return found

    def _float(self, data: dict[str, Any], depth: int) -> Any:
        if data["float"] not in ("nan", "inf", "-inf"):
            raise _invalid("this is no number", repr(data["float"]))
        return float(data["float"])

    def _blob(self, data: dict[str, Any], depth: int) -> Any:
        at = data["bytes"]
        if not isinstance(at, int) or isinstance(at, bool) or not 0 <= at < len(self._blobs):
            raise _invalid("bytes are named that are not there", repr(at))
        return self._blobs[at]

    def _sequence(self, data: dict[str, Any], depth: int) -> Any:
        return tuple(self._children(data["tuple"], list, depth))

    def _mapping(self, data: dict[str, Any], depth: int) -> Any:
        values = self._children(data["dict"], dict, depth)
        return dict(zip(data["dict"], values, strict=True))

    def _children(self, inner: Any, kind: type[Any], depth: int) -> list[Any]:
        if not isinstance(inner, kind):
            raise _invalid("a value is of no known form", type(inner).__name__)
        values = inner.values() if isinstance(inner, dict) else inner
        return [self.from_config(each, depth) for each in values]

    def _array(self, data: dict[str, Any], depth: int) -> Any:
        flat, shape, name = data["array"], data["shape"], data["dtype"]
        if not isinstance(flat, list) or len(flat) > MAX_ARRAY or not isinstance(name, str):
            raise _invalid("an array is of no known form", repr(name))
        try:
            dtype = np.dtype(name)
            if dtype.kind not in "biuf":
                raise ValueError(name)
            return np.array([self.from_config(each, depth) for each in flat], dtype).reshape(shape)
        except (TypeError, ValueError, OverflowError) as error:
            raise _invalid("an array is of no known form", str(error)) from error


_READERS: dict[tuple[str, ...], Callable[[Reader, dict[str, Any], int], Any]] = {
    ("config", "object"): Reader._object,
    ("function",): Reader._function,
    ("float",): Reader._float,
    ("bytes",): Reader._blob,
    ("tuple",): Reader._sequence,
    ("dict",): Reader._mapping,
    ("array", "dtype", "shape"): Reader._array,
}


def from_config(data: Any, registry: Registry, custom: Registry | None = None) -> Any:
    """What `to_config` wrote. Raises as `Reader.from_config`."""
    return Reader(registry, custom).from_config(data)


def _invalid(message: str, received: str) -> InvalidModelError:
    return InvalidModelError(
        f"a saved model cannot be read: {message}",
        expected="a file that model.save wrote",
        received=received[:200],
    )


def _unknown(what: str, name: object, known: Registry) -> ArgumentError:
    return ArgumentError(
        f"the saved model uses a {what} that is not known here",
        expected=", ".join(sorted(known)) or f"its {what}s in custom_objects",
        received=str(name)[:200],
        hint=f"load_model(path, custom_objects={{{str(name)[:200]!r}: …}})",
    )
