"""Manifests that do not fit their model."""

from dataclasses import dataclass
from typing import Any

import msgspec
import onnx_ir as ir
import pytest

from ravop.errors import ArgumentError, DuplicateNameError, InvalidModelError, MessageError, RavenError
from ravop.graph.manifest import Binding, Manifest, Persisted
from ravsock.server.admission import check_manifest

SHA = "0" * 64
GOOD = Manifest(
    graph_id="g",
    name="graph",
    bindings=(Binding(input="x", sha=SHA, size=1),),
    persisted=(Persisted(name="y_{}", value="y", axes=1, first=(1,)),),
    metrics={"loss": "y"},
)


def model() -> ir.Model:
    return ir.from_onnx_text(
        '<ir_version: 10, opset_import: ["": 21]> g (float[2] x) => (float[2] y) { y = Neg(x) }'
    )


@dataclass(frozen=True)
class Wrong:
    change: dict[str, Any]
    error: type[RavenError]


WRONG = {
    "another graph": Wrong({"graph_id": "other"}, MessageError),
    "unknown approach": Wrong({"approach": "magic"}, ArgumentError),
    "bound twice": Wrong({"bindings": GOOD.bindings * 2}, InvalidModelError),
    "bound, no input": Wrong(
        {"bindings": (*GOOD.bindings, Binding(input="z", sha=SHA, size=1))}, InvalidModelError
    ),
    "metric, no output": Wrong({"metrics": {"loss": "z"}}, InvalidModelError),
    "name twice": Wrong({"persisted": GOOD.persisted * 2}, DuplicateNameError),
    "series without place": Wrong(
        {"persisted": (Persisted(name="y", value="y", axes=1, first=(1,)),)}, MessageError
    ),
    "series without first": Wrong({"persisted": (Persisted(name="y_{}", value="y", axes=1),)}, MessageError),
}


def test_one_that_fits() -> None:
    check_manifest("g", model(), GOOD)


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_ones_that_do_not_fit(wrong: Wrong) -> None:
    with pytest.raises(wrong.error):
        check_manifest("g", model(), msgspec.structs.replace(GOOD, **wrong.change))
