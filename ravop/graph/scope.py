"""A scope: one ONNX graph being traced, the main one or the body of a loop or function."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import onnx_ir as ir

from ravop.graph.infer import OPSET

if TYPE_CHECKING:
    from ravop.graph.op import Op


class Scope:
    """`parent` is the scope around it, `function` the function's scope that it is or lies in, if any.

    `iteration` tells one run of this scope from another; `make_counter` makes it, and is given by whoever owns the scope
    (`ravop.graph.control`). Random operators draw their keys from it.
    """

    def __init__(self, name: str, parent: Scope | None, is_function: bool = False) -> None:
        self.ir = ir.Graph((), (), nodes=(), opset_imports={"": OPSET}, name=name)
        self.parent = parent
        self.is_function = is_function
        self.function: Scope | None = self if is_function else parent.function if parent else None
        self.captured: dict[Op, Op] = {}
        """A function's: outer ops that it reads, and the arguments they come in as."""
        self.make_counter: Callable[[], Op] | None = None
        self._counter: Op | None = None
        self.key: Op | None = None
        """The key that random ops of this scope share, see `ravop.graph.keys`."""
        self.constants: dict[tuple[int, tuple[int, ...], bytes] | tuple[int, ...], Op] = {}
        """Constants made so far, by dtype, shape and bytes; vectors of int64 by their numbers as well."""

    @property
    def iteration(self) -> Op | None:
        """The counter of this scope (in a loop an int64 scalar, in a function the key of the call), made
        on first use; None in the main graph.
        """
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
