"""A scope: one ONNX graph being traced, the main one or the body of a loop or function."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import onnx_ir as ir

from ravop.graph.infer import OPSET

if TYPE_CHECKING:
    from ravop.graph.op import Op


class Scope:
    """`parent` is the scope around it, `open` whether ops may still be added and used.

    `iteration` tells one run of this scope from another; `make_counter` makes it, and is given by whoever owns the scope
    (`ravop.graph.control`). Random operators draw their keys from it.
    """

    def __init__(self, name: str, parent: Scope | None) -> None:
        self.ir = ir.Graph((), (), nodes=(), opset_imports={"": OPSET}, name=name)
        self.parent = parent
        self.open = True
        self.is_loop = False
        self.is_function = False
        self.make_counter: Callable[[], Op] | None = None
        self._counter: Op | None = None
        self.constants: dict[tuple[str, tuple[int, ...], bytes], Op] = {}

    @property
    def iteration(self) -> Op | None:
        """The counter of this scope (int64 scalar in a loop, uint32 scalar in a function), made on first use; None in the main graph."""
        if self._counter is None and self.make_counter is not None:
            self._counter = self.make_counter()
        return self._counter

    @property
    def counted(self) -> bool:
        """Whether `iteration` was used."""
        return self._counter is not None

    def encloses(self, other: Scope) -> bool:
        """Whether `other` is this scope or lies inside it."""
        scope: Scope | None = other
        while scope is not None:
            if scope is self:
                return True
            scope = scope.parent
        return False
