"""The operator catalogue: one module per family; each operator is a few lines of ONNX.

To add one: write a function decorated `@operator` in its family's module and name it in that module's `__all__`.
Pure: operators only add nodes to the graph of their operands.
"""

from typing import TYPE_CHECKING

from ravop.ops.activation import *  # noqa: F403
from ravop.ops.arithmetic import *  # noqa: F403
from ravop.ops.axes import *  # noqa: F403
from ravop.ops.bitwise import *  # noqa: F403
from ravop.ops.clipped import *  # noqa: F403
from ravop.ops.compare import *  # noqa: F403
from ravop.ops.constants import *  # noqa: F403
from ravop.ops.counting import *  # noqa: F403
from ravop.ops.create import *  # noqa: F403
from ravop.ops.division import *  # noqa: F403
from ravop.ops.elementary import *  # noqa: F403
from ravop.ops.federated import *  # noqa: F403
from ravop.ops.indexing import *  # noqa: F403
from ravop.ops.joining import *  # noqa: F403
from ravop.ops.learning import *  # noqa: F403
from ravop.ops.linalg import *  # noqa: F403
from ravop.ops.lists import *  # noqa: F403
from ravop.ops.logic import *  # noqa: F403
from ravop.ops.losses import *  # noqa: F403
from ravop.ops.nn import *  # noqa: F403
from ravop.ops.padding import *  # noqa: F403
from ravop.ops.randomness import *  # noqa: F403
from ravop.ops.ranges import *  # noqa: F403
from ravop.ops.reduction import *  # noqa: F403
from ravop.ops.selection import *  # noqa: F403
from ravop.ops.series import *  # noqa: F403
from ravop.ops.shaping import *  # noqa: F403
from ravop.ops.sorting import *  # noqa: F403
from ravop.ops.statistics import *  # noqa: F403
from ravop.ops.trigonometry import *  # noqa: F403
from ravop.ops.windows import *  # noqa: F403
from ravop.ops.without_nan import *  # noqa: F403

if not TYPE_CHECKING:  # a type checker takes what the stars bring
    __all__ = [name for name, value in list(globals().items()) if callable(value)]
