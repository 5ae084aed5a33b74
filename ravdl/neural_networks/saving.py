"""`model.save(path)` and `load_model(path)`: a model in one file, to train on or to predict with.

The file is a zip archive without compression: `model.json` (layers and how they are connected, losses, metrics, optimizer,
seed), `tensors/N.npy` (weights, the optimizer's memory, the step count) and `blobs/N.bin` (bytes that layers keep). No code is
in it and none is run: classes are looked up by name, functions have to be given by whoever loads it.
"""

from __future__ import annotations

import errno
import os
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from ravdl.neural_networks.layers.layer import Layer
from ravdl.neural_networks.network import Call, Network, Origin, Port
from ravdl.neural_networks.serialization import Reader, Registry, Writer
from ravdl.neural_networks.symbols import proper_name
from ravdl.neural_networks.weights import KEPT
from ravop.errors import InvalidModelError, MessageError, RavenError
from ravop.protocol.tensors import Array, decode_tensor, encode_tensor

MANIFEST = "model.json"
MAX_MANIFEST = 64 * 1024 * 1024
MAX_CALLS = 100_000
"""Layers at places, tensors, blobs: more of each is no model."""
MAX_NAME = 500
_DAMAGE = (zipfile.BadZipFile, msgspec.DecodeError, RecursionError, NotImplementedError, EOFError, ValueError)
"""What reading a damaged archive raises."""
_DATE = (1980, 1, 1, 0, 0, 0)
"""So that equal models are equal files."""
_DTYPES = ("float32", "int64", "bool")


class PortData(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    shape: list[int]
    dtype: str


class LayerData(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    trainable: bool
    config: Any
    """As `Writer.to_config` writes it."""
    frozen: list[str] = []


class CallData(msgspec.Struct, forbid_unknown_fields=True):
    layer: int
    inputs: list[int]


class NetworkData(msgspec.Struct, forbid_unknown_fields=True):
    inputs: list[PortData]
    layers: list[LayerData]
    calls: list[CallData]
    outputs: list[int]
    names: list[str]
    origins: list[tuple[str, str, bool]] = []
    kept: Any = None
    """A dict of tensors as bytes, as `Writer.to_config` writes it."""


class Manifest(msgspec.Struct, forbid_unknown_fields=True):
    format: Literal[1]
    network: NetworkData
    training: Any
    """The constructor's arguments of the model, as `Writer.to_config` writes a dict of them."""
    tensors: list[str]
    """Names, in the order of the files."""
    blobs: int


# ── writing ───────────────────────────────────────────────────────────────────────────────────────
def write_model(
    path: str | PathLike[str], network: Network, training: Mapping[str, Any], values: Mapping[str, Array]
) -> Path:
    """Write the file, whole or not at all. → its path. Raises `ArgumentError` for what cannot be saved, `OSError`."""
    target = Path(path)
    writer = Writer()
    manifest = Manifest(1, _network_data(network, writer), writer.to_config(dict(training)), list(values), 0)
    manifest.blobs = len(writer.blobs)
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with zipfile.ZipFile(draft, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr(zipfile.ZipInfo(MANIFEST, _DATE), msgspec.json.encode(manifest))
            for number, value in enumerate(values.values()):
                archive.writestr(zipfile.ZipInfo(f"tensors/{number}.npy", _DATE), encode_tensor(value))
            for number, data in enumerate(writer.blobs):
                archive.writestr(zipfile.ZipInfo(f"blobs/{number}.bin", _DATE), data)
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
    return target


def _network_data(network: Network, writer: Writer) -> NetworkData:
    layers = list(network.layers)
    return NetworkData(
        [PortData(port.name, list(port.shape), port.dtype.name) for port in network.inputs],
        [
            LayerData(layer.name, layer.trainable, writer.to_config(layer), sorted(layer.frozen))
            for layer in layers
        ],
        [CallData(layers.index(call.layer), list(call.inputs)) for call in network.calls],
        list(network.outputs),
        list(network.names),
        [(each.name, each.weight, each.transposed) for each in network.origins],
        writer.to_config({name: encode_tensor(array) for name, array in network.kept.items()}),
    )


# ── reading ───────────────────────────────────────────────────────────────────────────────────────
def read_model(
    path: str | PathLike[str], registry: Registry, custom: Registry | None
) -> tuple[Network, dict[str, Any], dict[str, Array]]:
    """The network, the model's arguments, and its tensors by name.

    Raises `InvalidModelError` for a file that is none, `ArgumentError` for classes and functions that are not known, `OSError`.
    """
    with open(path, "rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        try:
            with zipfile.ZipFile(stream) as archive:
                return _read(archive, size, registry, custom)
        except MessageError as error:
            raise _invalid(str(error)) from error
        except RavenError:
            raise
        except _DAMAGE as error:
            raise _invalid(str(error) or type(error).__name__) from error
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            raise _invalid("its parts begin before the file") from error


def _read(
    archive: zipfile.ZipFile, size: int, registry: Registry, custom: Registry | None
) -> tuple[Network, dict[str, Any], dict[str, Array]]:
    entries = {info.filename: info for info in archive.infolist()}
    if MANIFEST not in entries or len(entries) != len(archive.infolist()):
        raise _invalid(f"{MANIFEST} is missing, or a name is there twice")
    for info in entries.values():
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            raise _invalid(f"{info.filename[:100]} is compressed")
        if info.flag_bits & 1:
            raise _invalid(f"{info.filename[:100]} is encrypted")
    if sum(info.file_size for info in entries.values()) > size or entries[MANIFEST].file_size > MAX_MANIFEST:
        raise _invalid("its parts are larger than the file")
    manifest = msgspec.json.decode(archive.read(MANIFEST), type=Manifest)
    names = [f"tensors/{n}.npy" for n in range(len(manifest.tensors))]
    if not 0 <= manifest.blobs <= MAX_CALLS or len(names) > MAX_CALLS * 8:
        raise _invalid("it has too many parts")
    blobs = [f"blobs/{n}.bin" for n in range(manifest.blobs)]
    if set(entries) != {MANIFEST, *names, *blobs} or len(set(manifest.tensors)) != len(names):
        raise _invalid("its parts are not those that model.json names")
    reader = Reader(registry, custom, [archive.read(name) for name in blobs])
    network = _network(manifest.network, reader)
    training = reader.from_config(manifest.training)
    if not isinstance(training, dict):
        raise _invalid("how it is trained is missing")
    values = {
        name: decode_tensor(archive.read(file)).copy()
        for name, file in zip(manifest.tensors, names, strict=True)
    }
    _check_values(network, values)
    return network, training, values


def _network(data: NetworkData, reader: Reader) -> Network:
    if max(len(data.calls), len(data.layers), len(data.inputs)) > MAX_CALLS:
        raise _invalid("the network is too large")
    ports = tuple(_port(port) for port in data.inputs)
    layers = [_layer(each, reader) for each in data.layers]
    names = [layer.name for layer in layers]
    proper = all(name.isprintable() and 0 < len(name) <= MAX_NAME for name in names)
    if len(set(names)) != len(names) or not proper or not data.calls:
        raise _invalid("its layers need a name each")
    shapes = [port.shape for port in ports]
    calls: list[Call] = []
    seen = [0] * len(layers)
    for each in data.calls:
        if not 0 <= each.layer < len(layers) or not all(0 <= value < len(shapes) for value in each.inputs):
            raise _invalid("a call takes what is not there")
        layer = layers[each.layer]
        try:
            found = layer.take([shapes[value] for value in each.inputs])
        except (RavenError, TypeError, ValueError, OverflowError) as error:
            raise _invalid(f"{layer.name}: {error}") from error
        calls.append(
            Call(
                layer,
                tuple(each.inputs),
                tuple(range(len(shapes), len(shapes) + len(found))),
                seen[each.layer],
            )
        )
        seen[each.layer] += 1
        shapes += found
    try:
        for name in [*data.names, *(port.name for port in ports)]:
            proper_name(name, "an input or output")
    except RavenError as error:
        raise _invalid(str(error)) from error
    known = all(0 <= value < len(shapes) for value in data.outputs)
    if not known or not data.outputs or 0 in seen or len(data.names) not in (0, len(data.outputs)):
        raise _invalid("its outputs are not there, or a layer has no place")
    made = Network(ports, tuple(calls), tuple(data.outputs), tuple(data.names))
    return replace(made, origins=_origins(data, made), kept=_kept(data, reader))


def _origins(data: NetworkData, network: Network) -> tuple[Origin, ...]:
    weights = network.weights()
    if not all(weight in weights for _, weight, _ in data.origins):
        raise _invalid("an origin is told of a weight that is not there")
    return tuple(Origin(*each) for each in data.origins)


def _kept(data: NetworkData, reader: Reader) -> dict[str, Array]:
    found = {} if data.kept is None else reader.from_config(data.kept)
    if not isinstance(found, dict) or not all(isinstance(each, bytes) for each in found.values()):
        raise _invalid("what it kept of the model that was imported is of no known form")
    return {name: decode_tensor(each).copy() for name, each in found.items()}


def _port(data: PortData) -> Port:
    if data.dtype not in _DTYPES or any(size < 1 for size in data.shape):
        raise _invalid(f"the input {data.name[:100]} is of no known form")
    return Port(data.name, tuple(data.shape), np.dtype(data.dtype))


def _layer(data: LayerData, reader: Reader) -> Layer:
    layer = reader.from_config(data.config)
    if not isinstance(layer, Layer):
        raise _invalid(f"{data.name[:100]} is no layer")
    layer.name, layer.trainable, layer.frozen = data.name, data.trainable, frozenset(data.frozen)
    return layer


def _check_values(network: Network, values: Mapping[str, Array]) -> None:
    """Raises `InvalidModelError` for tensors that do not belong to the network's weights."""
    specs = network.weights()
    for name, spec in specs.items():
        found = values.get(name)
        if found is None or found.shape != spec.shape:
            there = "nothing" if found is None else str(found.shape)
            raise _invalid(f"the weight {name} has the shape {spec.shape}, and {there} is there")
    for name in values:
        if name not in specs and name != "training_step" and not _remembered(name, specs):
            raise _invalid(f"a tensor belongs to no weight: {name[:100]}")


def _remembered(name: str, weights: Mapping[str, Any]) -> bool:
    """Whether this is a name of what an optimizer or a strategy remembers of a weight."""
    own = (
        name.removeprefix(KEPT).split(".", 1)[-1]
        if name.startswith(f"{KEPT}worker_")
        else name.removeprefix(KEPT)
    )
    return own.rpartition("_")[0] in weights


def _invalid(message: str) -> InvalidModelError:
    return InvalidModelError(
        "this is no saved model", expected="a file that model.save wrote", received=message[:300]
    )
