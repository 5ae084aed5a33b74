"""Small weights are moved together: an optimizer's dozen element-wise operators cost about a microsecond
each, however few elements they work on, and a layer's bias is not worth twelve of them. Large weights stay
alone, uncopied.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass

import numpy as np

import ravop as R
from ravdl.neural_networks.layers.arguments import Shape
from ravop.graph import Op

SMALL = 65_536
"""Elements up to which a copy costs less than the operators that it saves."""


@dataclass(frozen=True)
class Pack:
    """Weights whose elements lie one after another in one vector; a single weight keeps its shape."""

    shapes: dict[str, Shape]

    @property
    def key(self) -> str:
        """The first weight's name, which stands for the pack."""
        return next(iter(self.shapes))

    @property
    def shape(self) -> Shape:
        """Of the weights as one."""
        first = self.shapes[self.key]
        return first if len(self.shapes) == 1 else (sum(map(math.prod, self.shapes.values())),)

    def join(self, tensors: Mapping[str, Op]) -> Op:
        """The tensors of these names as one."""
        if len(self.shapes) == 1:
            return tensors[self.key]
        return R.concat([R.reshape(tensors[name], (-1,)) for name in self.shapes], axis=0)

    def part(self, packed: Op) -> dict[str, Op]:
        """What `join` joined."""
        if len(self.shapes) == 1:
            return {self.key: packed}
        sizes = [math.prod(shape) for shape in self.shapes.values()]
        pieces = packed.graph.apply("Split", [packed, packed.graph.constant(np.array(sizes))], {"axis": 0})
        return {
            name: R.reshape(piece, shape)
            for (name, shape), piece in zip(self.shapes.items(), pieces, strict=True)
        }


def packs(
    shapes: Mapping[str, Shape], group: Callable[[Shape], Hashable | None] = lambda shape: ()
) -> tuple[Pack, ...]:
    """All small weights of one group in one pack, each large one, and each without a group, in a pack of its own."""
    found: dict[Hashable, dict[str, Shape]] = {}
    for name, shape in shapes.items():
        of = group(shape) if math.prod(shape) <= SMALL else None
        found.setdefault(name if of is None else (of,), {})[name] = shape
    return tuple(map(Pack, found.values()))
