"""The operator catalogue: one module per family; each operator is a few lines of ONNX.

To add one: write a function decorated `@operator` in its family's module and name it in that module's `__all__`.
Pure: operators only add nodes to the graph of their operands.
"""

from ravop.ops import (
    activation,
    arithmetic,
    compare,
    create,
    elementary,
    indexing,
    linalg,
    lists,
    randomness,
    reduction,
    selection,
    shaping,
    statistics,
    windows,
)
from ravop.ops.activation import *  # noqa: F403
from ravop.ops.arithmetic import *  # noqa: F403
from ravop.ops.compare import *  # noqa: F403
from ravop.ops.create import *  # noqa: F403
from ravop.ops.elementary import *  # noqa: F403
from ravop.ops.indexing import *  # noqa: F403
from ravop.ops.linalg import *  # noqa: F403
from ravop.ops.lists import *  # noqa: F403
from ravop.ops.randomness import *  # noqa: F403
from ravop.ops.reduction import *  # noqa: F403
from ravop.ops.selection import *  # noqa: F403
from ravop.ops.shaping import *  # noqa: F403
from ravop.ops.statistics import *  # noqa: F403
from ravop.ops.windows import *  # noqa: F403

__all__: list[str] = []
__all__ += activation.__all__
__all__ += arithmetic.__all__
__all__ += compare.__all__
__all__ += create.__all__
__all__ += elementary.__all__
__all__ += indexing.__all__
__all__ += linalg.__all__
__all__ += lists.__all__
__all__ += randomness.__all__
__all__ += reduction.__all__
__all__ += selection.__all__
__all__ += shaping.__all__
__all__ += statistics.__all__
__all__ += windows.__all__
