"""A scope: one ONNX graph being traced, the main one or the body of a loop or function."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from ravop.graph.infer import OPSET

if TYPE_CHECKING:
    from ravop.graph.op import Op


class Scope:
    """`parent` is the scope around it, `open` whether ops may still be added and used.

    `iteration` is, in a loop's body, an int64 scalar op counting the iterations from 0, made on first use by the
    loop that owns the scope (`ravop.graph.control`); random operators draw their keys from it.
    """

    def __init__(self, name: str, parent: Scope | None) -> None:
        self.ir = ir.Graph((), (), nodes=(), opset_imports={"": OPSET}, name=name)
        self.parent = parent
        self.open = True
        self.is_loop = False
        self.iteration: Op | None = None
        self.constants: dict[tuple[str, tuple[int, ...], bytes], Op] = {}

    def encloses(self, other: Scope) -> bool:
        """Whether `other` is this scope or lies inside it."""
        scope: Scope | None = other
        while scope is not None:
            if scope is self:
                return True
            scope = scope.parent
        return False
